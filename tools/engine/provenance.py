"""The record of an evaluation (`Evaluation`): what scores.json belongs to; other commands check it."""

import hashlib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from configs import Config, flat
from data.errors import UserError
from data.json_file import read_json
from data.settings import ENGLISH_FACTS, NO_FACTS, DataConfig
from data.splits import SplitViews, open_split
from tools.scoring.results import Evaluation

SETTINGS = (  # the settings that captions and their scores depend on
    "data.maps", "data.augmented_splits", "data.annotations", "data.no_change", "data.facts",
    "decode.beam_size", "decode.precision", "decode.change_threshold",
)  # fmt: skip
# settings that records of earlier versions lack -> their values then
ADDED = {"data.facts": ENGLISH_FACTS, "decode.change_threshold": None}
COMPARED = {"sha256": "checkpoint", "data": "data set", "splits": "choice of splits", "control": "control"}


def describe_evaluation(
    checkpoints: Sequence[Path], config: Config, splits: Sequence[str], *, shuffled: bool = False
) -> Evaluation:
    """The record of an evaluation of a checkpoint, or of an ensemble of several, on `splits` of `data.dir`.

    Errors as in `open_split`.
    """
    return {
        **_described_checkpoints(checkpoints),
        **_described_data(config.data, splits),
        "seen_in_training": seen_in_training(splits),
        "settings": settings_of(config),
        "control": "shuffle_images" if shuffled else None,
        "commit": commit(),
    }


def describe_captions(captions: Path, config: Config, splits: Sequence[str]) -> Evaluation:
    """The record of an evaluation of a file of captions; errors as in `open_split`."""
    settings = settings_of(config)
    return {
        "captions": captions.name,
        "sha256": sha256_of(captions),
        **_described_data(config.data, splits),
        "settings": {name: value for name, value in settings.items() if name.startswith("data.")},
        "control": None,
        "commit": commit(),
    }


def _described_checkpoints(checkpoints: Sequence[Path]) -> dict[str, Any]:
    """The hash of an ensemble is that of its members' sorted hashes, as their order does not matter."""
    name, hashes = checkpoints[0].name, [sha256_of(path) for path in checkpoints]
    if len(hashes) == 1:
        return {"checkpoint": name, "sha256": hashes[0]}
    members = [
        {"checkpoint": str(path), "sha256": sha} for path, sha in zip(checkpoints, hashes, strict=True)
    ]
    joined = hashlib.sha256(" ".join(sorted(hashes)).encode()).hexdigest()
    return {"checkpoint": name, "sha256": joined, "members": members}


def refuse_other_data(path: Path, evaluation: Evaluation) -> None:
    """UserError if a scores.json of the same checkpoint on other data would be replaced."""
    if not path.is_file():
        return
    scores = read_json(path, "delete it, or name another folder with --output")
    old = scores.get("evaluation") if isinstance(scores, dict) else None
    if old and old.get("sha256") == evaluation["sha256"] and old.get("data") != evaluation["data"]:
        raise UserError(
            f"{path} holds the scores on other data ({old.get('data_dir')}): name another folder with "
            "--output, or delete it"
        )


def _described_data(data: DataConfig, splits: Sequence[str]) -> dict[str, Any]:
    return {"data_dir": data.dir, "data": data_fingerprints(data, splits), "splits": list(splits)}


def seen_in_training(splits: Sequence[str]) -> list[str]:
    """The splits that trained the model or chose its checkpoint; prints a warning if there are any."""
    seen = [split for split in splits if split != "test"]
    if seen:
        print(
            f"WARNING: {' and '.join(seen)} trained this model or chose its checkpoint, so these scores are "
            "optimistic: report those of --split test",
            file=sys.stderr,
        )
    return seen


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def data_fingerprints(data: DataConfig, splits: Sequence[str]) -> dict[str, str]:
    """File -> fingerprint of the splits, and of their detected maps if `data.maps` uses them."""
    fingerprints = {}
    for split in splits:
        reader, _ = open_split(split, data)
        fingerprints |= SplitViews(reader, data.maps).fingerprints
    return fingerprints


def commit() -> str | None:
    """The commit of this code, with "-dirty" if it was changed; None without git or outside a repository."""
    describe = ["git", "describe", "--always", "--dirty"]
    try:
        process = subprocess.run(describe, capture_output=True, text=True, cwd=Path(__file__).parent)
    except OSError:
        return None
    return process.stdout.strip() or None


def settings_of(config: Config) -> dict[str, Any]:
    values = flat(config.to_dict())
    return {name: values[name] for name in SETTINGS}


def recorded(scores: Mapping[str, Any], path: Path) -> Evaluation | None:
    """`evaluation` of scores.json; None, with a remark, if an earlier version wrote the file without it."""
    if isinstance(record := scores.get("evaluation"), dict):
        return record
    remark = "an earlier version wrote it, its checkpoint, data and settings cannot be checked"
    print(f"{path}: {remark}", file=sys.stderr)
    return None


def differences(record: Evaluation, expected: Mapping[str, Any]) -> list[str]:
    """A phrase for each difference of a record from `expected`, which may lack keys."""
    phrases = []
    for key, title in COMPARED.items():
        if key in expected and record.get(key) != expected[key]:
            scored = record.get("checkpoint", record.get("captions"))
            details = {"sha256": scored, "data": record.get("data_dir")}
            phrases.append(f"another {title} ({details.get(key, record.get(key))})")
    settings = ADDED | (record.get("settings") or {})
    for name, value in expected.get("settings", {}).items():
        if settings.get(name) != value:
            phrases.append(f"{name} {settings.get(name)} instead of {value}")
    return phrases


def folder_name(splits: Sequence[str], config: Config, shuffled: bool, standard: Config) -> str:
    """The name of the folder of an evaluation: the splits, then the settings that are not standard.

    standard: the settings of the checkpoint. The standard of data.maps is "given" for every checkpoint.
    """
    settings, defaults = settings_of(config), {**settings_of(standard), "data.maps": "given"}
    parts = list(splits)
    for name in SETTINGS:
        if settings[name] != defaults[name]:
            parts.append(_part(name, settings[name]))
    return "_".join(parts + ["shuffled"] * shuffled)


def _part(name: str, value: Any) -> str:
    """A setting as part of a folder name: "void_maps", "beam_size_1"; texts by the start of their hash."""
    last = name.rpartition(".")[2]
    if name == "data.maps":
        return f"{value}_maps"
    is_file = name == "data.facts" and value not in (ENGLISH_FACTS, NO_FACTS)
    if is_file or (name in ("data.no_change", "data.annotations") and value is not None):
        value = hashlib.sha256(str(value).encode()).hexdigest()[:8]
    if isinstance(value, list):
        value = "_".join(value)
    return f"{last}_{'none' if value in (None, '') else value}"
