"""The HTML page of tools/make_report.py: tables, curves, encoded images and attention, and the template."""

import base64
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

import jinja2
import numpy as np
from jinja2.environment import TemplateStream
from PIL import Image

from data.images import stack_views
from data.palette import VOID, Colour, Palette
from tools.report.drawing import TITLES, curve_svg
from tools.scoring.metrics import AVERAGED, FACT_TITLES, METRIC_TITLES, OPTIONAL_TITLES
from tools.scoring.results import PARTS, CaptionScores, EpochLine, Interval, PartScores
from tools.scoring.table import FACT_COLUMNS, HUMAN_COLUMNS, ROWS

if TYPE_CHECKING:  # a report without attention does not import torch
    from tools.engine.predictor import CaptionAttention

SIDE = 256  # maximum side length in pixels of an image in the report
QUALITY = 60  # of WebP: about 13 kB for an aerial image of 256 x 256
REPORTED = METRIC_TITLES | OPTIONAL_TITLES | {name: FACT_TITLES[name] for name in FACT_COLUMNS}
COLUMN_TITLES = {
    "human": "persons",
    "ours": "this run",
    "floor": "floor",
    "floor_oracle": "oracle",
    "margin": "above floor",
    "released": "authors",
}


class Word(TypedDict):
    """A word of a caption.

    known: it occurs in a reference. fact: "right" or "wrong", if it names the class of a fact. rgb, sem:
    base64 of its attention grids.
    """

    text: str
    known: bool
    fact: NotRequired[str]
    rgb: NotRequired[str]
    sem: NotRequired[str]
    gates: NotRequired[Sequence[float]]


class ScoreTable(TypedDict):
    """The scores of a part. rows: metric -> column -> score. largest: the upper end of the bars."""

    part: str
    pairs: int
    rows: dict[str, dict[str, Interval | None]]
    largest: float
    floor: str | None
    floor_oracle: str | None


def score_tables(scores: CaptionScores) -> Iterator[ScoreTable]:
    """The table of each part that has pairs."""
    for part in PARTS:
        columns = {}
        for column in ROWS:
            if scores_of_part := (scores.get(column) or {}).get(part):
                columns[column] = scores_of_part
        if columns:
            pairs = next(iter(columns.values()))["pairs"]
            yield score_table(part, pairs, columns)


def human_tables(scores: CaptionScores) -> Iterator[ScoreTable]:
    """The comparison with persons of each part that has one."""
    for part, compared in (scores.get("human") or {}).items():
        if compared and compared["columns"]:
            yield score_table(part, compared["pairs"], compared["columns"], HUMAN_COLUMNS)


def score_table(
    part: str, pairs: int, columns: Mapping[str, PartScores], metrics: Iterable[str] = REPORTED
) -> ScoreTable:
    """The table of a part from its scores by column, with a row for each of `metrics`."""
    rows, upper_ends = {}, [0]
    for metric in metrics:
        if metric in METRIC_TITLES or any(scores.get(metric) for scores in columns.values()):
            rows[metric] = {column: scores.get(metric) for column, scores in columns.items()}
        for column, scores in columns.items():
            if column != "margin" and scores.get(metric):
                upper_ends.append(scores[metric]["high"])
    return {
        "part": part,
        "pairs": pairs,
        "rows": rows,
        "largest": max(upper_ends) or 1,
        "floor": columns.get("floor", {}).get("caption"),
        "floor_oracle": columns.get("floor_oracle", {}).get("caption"),
    }


def encode_views(views: np.ndarray) -> Iterator[str]:
    """Data URIs of views (4, 3, H, W) uint8. Maps are encoded without loss, as their colours are labels."""
    size = min(SIDE, views.shape[2]), min(SIDE, views.shape[3])
    resized = stack_views(list(views.transpose(0, 2, 3, 1)), size).transpose(0, 2, 3, 1)
    for index, view in enumerate(resized):
        file = io.BytesIO()
        Image.fromarray(view).save(file, "webp", quality=QUALITY, lossless=index >= 2)
        yield "data:image/webp;base64," + _encode(file.getvalue())


def attended_words(words: Sequence[Word], attention: "CaptionAttention") -> list[Word]:
    """The words of a caption and `<end>`, each with both attention grids and the three gates.

    A grid has one byte per cell, 255 for the largest weight of any word of the caption.
    """
    rgb, sem = _as_bytes(attention.rgb), _as_bytes(attention.sem)
    unknown = {word["text"] for word in words if not word["known"]}
    attended = []
    for index, text in enumerate(attention.words):
        word = {"text": text, "known": text not in unknown, "gates": attention.gates[index]}
        if index < len(words) and "fact" in words[index]:
            word["fact"] = words[index]["fact"]
        attended.append({**word, "rgb": _encode(rgb[index]), "sem": _encode(sem[index])})
    return attended


def _as_bytes(grids: np.ndarray) -> np.ndarray:
    """Weights (T, h, w) as uint8, 255 for the largest."""
    return (255 * grids / grids.max()).round().astype(np.uint8)


def _encode(content: bytes | np.ndarray) -> str:
    return base64.b64encode(content).decode()


def learning_curves(lines: Sequence[EpochLine]) -> list[str]:
    """SVGs of training loss, validation scores and number of distinct captions over the epochs."""
    if not lines:
        return []
    epochs = [line["epoch"] for line in lines]
    best = max(line["epoch"] for line in lines if line["best"])
    scores = {}
    for metric in ("s_m", *AVERAGED):
        if metric in lines[-1]["val"]:
            scores[REPORTED[metric]] = [line["val"].get(metric) for line in lines]
    for floor, title in (("floor", "S*m of the floor"), ("floor_oracle", "S*m of the oracle")):
        if floor in lines[-1]:
            scores[title] = [line.get(floor, {}).get("s_m") for line in lines]
    curves = {
        "training loss": {"": [line["loss"] for line in lines]},
        "validation scores": scores,
        "distinct validation captions": {"": [line["distinct_captions"] for line in lines]},
    }
    return [curve_svg(title, epochs, series, best) for title, series in curves.items()]


def legend(palette: Palette) -> list[tuple[str, Colour]]:
    """The classes, void first, with their colours in the maps."""
    return list(zip(palette.labels, (VOID, *palette.prepared), strict=True))


def render(**content: Any) -> TemplateStream:
    """The page as a stream. All text from the data is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    content["has_facts"] = any("facts" in pair for pair in content["pairs"])
    names = {"metrics": REPORTED, "columns": COLUMN_TITLES, "parts": PARTS, "views": TITLES}
    page = environment.get_template("template.html").stream(**content, **names)
    page.enable_buffering(size=100)
    return page
