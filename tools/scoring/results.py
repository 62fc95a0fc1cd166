"""The files that a run and its evaluation leave: the types of their content, and how it is read and written.

scores.json     `CaptionScores` of a captioning model, `DetectionScores` of a change detector
captions.json   a list of `CaptionEntry`
log.jsonl       an `EpochLine` per line
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NotRequired, TypedDict

from data.atomic_write import write_text
from data.errors import UserError
from data.json_file import read_json, read_json_lines

PARTS = ("all", "changed", "unchanged")


class Interval(TypedDict):
    """A score with its bootstrap interval over source images."""

    value: float
    low: float
    high: float


class Rate(Interval):
    """A share of n pairs in per cent, with its exact binomial interval."""

    n: int


class PartScores(TypedDict):
    """One column's scores on one part of the pairs.

    Besides the keys below, each metric has an entry ("bleu_1", ..., "cider", "s_m"): an `Interval`, or None
    if the metric has no value. "ours" and "released" also have the optional metrics: "spice", and
    "s_m_spice", the mean with it. "ours", "floor", "floor_oracle" and "margin" also have the fact scores
    ("fact_f1", ..., "own_pair"), except on unchanged pairs, whose references state no facts.

    pairs: their number. reasons: metric -> why it has no value. caption: the constant caption of a floor.
    ours_above: in "floor_oracle", S*m of "ours" minus S*m of the oracle.
    """

    pairs: int
    reasons: dict[str, str]
    caption: NotRequired[str]
    ours_above: NotRequired[Interval | None]


Column = dict[str, PartScores | None]  # by part; None for a part without pairs
Rates = dict[str, Rate | None]  # by part; None for a part without pairs


class HumanScores(TypedDict):
    """The comparison with persons on one part of the pairs, see tools/scoring/human.py.

    pairs: their number. left_out: of further pairs with a single caption. comparisons: captions that were
    scored. columns: "human", "ours" and "floor"; {} where no pair is left, for the `reason`.
    """

    pairs: int
    left_out: int
    comparisons: int
    columns: dict[str, dict[str, Interval | dict[str, str]]]
    reason: NotRequired[str]


class Evaluation(TypedDict):
    """What scores belong to.

    checkpoint: its file name; or captions: that of a file of captions. sha256: of that file. members: of an
    ensemble, "checkpoint" (its path) and "sha256" of each; `checkpoint` is then the first one's name, sha256
    that of all members' hashes. data: file -> fingerprint of its content. seen_in_training: those of the
    splits that trained the model or chose its checkpoint; only with a checkpoint. settings: the settings that
    captions and their scores depend on. control: "shuffle_images" or None. commit: of this code.
    """

    checkpoint: NotRequired[str]
    captions: NotRequired[str]
    sha256: str
    members: NotRequired[list[dict[str, str]]]
    data_dir: str
    data: dict[str, str]
    splits: list[str]
    seen_in_training: NotRequired[list[str]]
    settings: dict[str, object]
    control: str | None
    commit: str | None


class ReliabilityBin(TypedDict):
    """The pairs whose probability of a change lies in [low, high).

    pairs: their number. mean: of their probabilities. changed: the share of them that has changed.
    """

    low: float
    high: float
    pairs: int
    mean: float
    changed: Rate


class ChangeScores(TypedDict):
    """How well the probability of a change agrees with the pairs (tools/scoring/change_scores.py).

    auroc: None without changed or without unchanged pairs. brier_of_rate: the Brier score of a constant
    probability, the share of changed pairs. calibrated: whether the checkpoint has a temperature.
    """

    pairs: int
    auroc: Interval | None
    brier: Interval
    brier_of_rate: Interval
    reliability: list[ReliabilityBin]
    calibrated: bool


class CaptionScores(TypedDict):
    """The scores of captions beside their floors (see tools/scoring/__init__.py).

    A column that cannot be computed is None, for the reason in `reasons`. released: by the authors'
    procedure; its reason says how many unchanged pairs that counts as changed.
    human: persons beside model and floor, by part. maps: part -> column -> how far the given maps
    show what the captions say (`map_scores` of tools/scoring/map_facts.py). training_captions: the candidates
    of the floors, "number" and "source". change: of the probability of a change, if every caption has one.
    decision: predictor of change -> its accuracy. garbled: the share of garbled captions. bootstrap:
    "resamples", "seed", "percent" and "sources".
    """

    ours: Column | None
    floor: Column | None
    floor_oracle: Column | None
    margin: Column | None
    released: Column | None
    human: NotRequired[dict[str, HumanScores | None] | None]
    maps: NotRequired[dict[str, dict[str, dict]] | None]
    reasons: dict[str, str]
    training_captions: dict[str, int | str] | None
    change: NotRequired[ChangeScores]
    decision: dict[str, Rates]
    garbled: Rates | None
    no_change: list[str]
    bootstrap: dict[str, int]
    evaluation: NotRequired[Evaluation]


class DetectionScores(TypedDict):
    """The measures of tools/scoring/detection.py in per cent, and the confusion matrix of `classes`."""

    ours: dict[str, float]
    floor: dict[str, float]
    classes: list[str]
    confusion: list[list[int]]
    evaluation: Evaluation


class FactEntry(TypedDict):
    """A fact of a caption (tools/scoring/fact_reader.py); words: the indices of those that name `label`."""

    label: str
    change: str
    number: int | None
    place: str | None
    right: bool
    words: list[int]


class CaptionEntry(TypedDict):
    """A captioned pair. log_prob: only of a model's caption. change_probability: of a change, by the model
    (tools/engine/change.py); absent if it can give no no-change sentence. scores: bleu_4, meteor, rouge_l and
    cider of it.

    references_are: what the references are if they are not the human captions. facts: those that the caption
    states. contradicts: whether it contradicts the references. own_pair: the percentile of the pair among the
    changed pairs, ranked by similarity to the caption.
    """

    filename: str
    caption: str
    log_prob: NotRequired[float]
    change_probability: NotRequired[float]
    references: list[str]
    changed: bool
    references_are: NotRequired[str]
    scores: NotRequired[dict[str, float | None]]
    facts: NotRequired[list[FactEntry]]
    contradicts: NotRequired[bool]
    own_pair: NotRequired[float]


class Validation(TypedDict):
    """Scores on the validation pairs, those of the floors, and of captions the means of the model's gates and
    the temperature of the probability of change (tools/engine/change.py)."""

    val: dict[str, float]
    floor: dict[str, float]
    floor_oracle: NotRequired[dict[str, float]]
    distinct_captions: NotRequired[int]
    gates: NotRequired[dict[str, float]]
    change_temperature: NotRequired[float]


class EpochLine(Validation):
    """An epoch of a training run; learning_rate: by part of the model. best: the best epoch so far."""

    epoch: int
    loss: float
    learning_rate: dict[str, float]
    best: bool
    seconds: float


# What a report needs; files of every version have it.
_SCORES_KEYS = ("decision", "reasons", "bootstrap", "ours", "floor", "margin", "released")
_CAPTION_KEYS = ("filename", "caption", "references", "changed", "scores")


def write_scores(path: Path, scores: CaptionScores | DetectionScores) -> None:
    write_text(path, json.dumps(scores, indent=1))


def write_captions(path: Path, entries: Sequence[CaptionEntry]) -> None:
    write_text(path, json.dumps(entries, indent=1, ensure_ascii=False))


def read_scores(path: Path) -> CaptionScores:
    """Raises FileNotFoundError, or UserError if the file does not hold the scores of a captioning model."""
    return _check_keys(_read(path), path, _SCORES_KEYS)


def read_captions(path: Path) -> list[CaptionEntry]:
    """Raises FileNotFoundError, or UserError if an entry lacks a key."""
    return _check_keys(_read(path), path, _CAPTION_KEYS)


def read_log(path: Path, remedy: str) -> list[EpochLine]:
    """The lines of log.jsonl, [] without the file; errors as in `read_json_lines`."""
    return read_json_lines(path, remedy) if path.is_file() else []


def _read(path: Path) -> object:
    return read_json(path, "run eval.py, or name its folder with --eval DIR")


def _check_keys(content: object, path: Path, keys: Sequence[str]) -> object:
    """Return `content`, an object or a list of objects; UserError names the first key that one lacks."""
    objects = content if isinstance(content, list) else [content]
    for key in keys:
        if not objects or not all(isinstance(item, dict) and key in item for item in objects):
            raise UserError(
                f"{path} must have {key!r}, as eval.py writes it for a captioning model: run eval.py again"
            )
    return content
