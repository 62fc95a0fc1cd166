"""The folder of one training run, which explains itself: config.yaml, log.jsonl, TensorBoard events,
captions, checkpoints."""

import json
from pathlib import Path
from typing import Any

import yaml
from torch.utils.tensorboard import SummaryWriter

from configs import Config
from models.checkpoint import load_checkpoint, save_checkpoint

MAY_CHANGE = {"train.epochs", "train.early_stop", "train.device", "decode.device", "data.workers", "data.dir"}


class RunFolder:
    """Opens a new run, or with resume=True the one that the folder holds.

    resumed: the content of last.pt, None for a run from the beginning. Raises ValueError where the folder
    holds a run and resume is False, or where the configuration differs from the resumed run's in more than
    what may change.
    """

    def __init__(self, path: Path, config: Config, *, resume: bool) -> None:
        self.path, self.last, self.best = path, path / "last.pt", path / "best.pt"
        if not resume and (path / "config.yaml").exists():
            raise ValueError(
                f"{path} holds a run: go on with --resume, or choose another folder with --run_dir"
            )
        self.resumed = self._read_last(config) if resume else None
        path.mkdir(parents=True, exist_ok=True)
        (path / "config.yaml").write_text(yaml.safe_dump(config.to_dict(), sort_keys=False))
        epoch = self.resumed["epoch"] if self.resumed else 0
        self._cut_log(epoch)
        self.events = SummaryWriter(path, purge_step=epoch + 1)

    def _read_last(self, config: Config) -> dict[str, Any] | None:
        if not self.last.exists():
            return None
        content = load_checkpoint(self.last)
        old, new = flat(content["config"]), flat(config.to_dict())
        changed = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
        free = MAY_CHANGE - ({"train.epochs"} if new["train.schedule"] == "one_cycle" else set())
        refused = [f"{key} ({old.get(key)} -> {new.get(key)})" for key in changed if key not in free]
        if refused:
            raise ValueError(
                f"{self.path} was trained with other settings, {', '.join(refused)}: "
                "resume with the same, or start anew in another --run_dir"
            )
        return content

    def _cut_log(self, epoch: int) -> None:
        """Keep the log's lines up to the epoch from which the run goes on."""
        log = self.path / "log.jsonl"
        lines = log.read_text().splitlines() if log.exists() else []
        log.write_text("".join(f"{line}\n" for line in lines if json.loads(line)["epoch"] <= epoch))

    def write_epoch(self, line: dict[str, Any], captions: list[dict[str, Any]]) -> None:
        """One epoch's line in the log and in TensorBoard, and the validation captions."""
        with (self.path / "log.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")
        (self.path / "val_captions.json").write_text(json.dumps(captions, indent=1, ensure_ascii=False))
        for key, value in flat(line).items():
            if isinstance(value, (int, float)) and key != "epoch":
                self.events.add_scalar(key.replace(".", "/"), value, line["epoch"])
        for caption in captions[:: max(1, len(captions) // 8)][:8]:
            self.events.add_text(f"val/{caption['filename']}", caption["caption"], line["epoch"])
        self.events.flush()

    def save(self, content: dict[str, Any], training: dict[str, Any], *, best: bool) -> None:
        """last.pt, with what --resume needs besides (`training`); best.pt where this epoch is the best
        one."""
        if best:
            save_checkpoint(self.best, content)
        save_checkpoint(self.last, {**content, "training": training})


def flat(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}."""
    out: dict[str, Any] = {}
    for key, value in nested.items():
        out |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return out
