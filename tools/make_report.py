"""Show a run in one HTML file: scores beside their floor, learning curves, and every pair, the worst first.

    python tools/make_report.py runs/second_cc
    python tools/make_report.py runs/second_cc --split val --output val.html
    python tools/make_report.py runs/second_cc --eval runs/second_cc/test_void_maps --data.maps void
    python tools/make_report.py runs/second_cc --pairs 500        the 500 worst of a large split
    python tools/make_report.py runs/second_cc --attention 50     50 worst pairs: what each word looked at

Reads the run folder of train.py, the scores.json and captions.json that eval.py left in it, and the images.
The file needs no other file and no network. The filter stands in its address: report.html#words=road
"""

import base64
import io
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.engine import cli  # first: it sets how OpenMP's threads wait, before torch starts them

# isort: split
import jinja2
import numpy as np
from jinja2.environment import TemplateStream
from jsonargparse.typing import NonNegativeInt, PositiveInt
from PIL import Image

from configs.command_line import CommandLine, read_yaml
from data.atomic_write import atomic_write, check_writable
from data.errors import UserError
from data.images import stack_views
from data.json_file import read_json, read_json_lines
from data.palette import CLASSES
from data.settings import DataConfig
from data.sources import NO_CHANGE_SENTENCES
from data.splits import SplitViews, open_split
from tools.engine.progress_bar import progress_bar
from tools.engine.provenance import data_fingerprints, differences, recorded, sha256_of
from tools.report.drawing import TITLES, curve_svg
from tools.scoring import PARTS
from tools.scoring.metrics import AVERAGED, METRIC_TITLES, OPTIONAL_TITLES
from tools.scoring.table import missing_lines

if TYPE_CHECKING:  # a report without --attention does not import torch
    from tools.engine.predictor import CaptionAttention

SIDE = 256  # pixels, at most, of an image in the report
QUALITY = 60  # of WebP: about 13 kB an aerial image of 256 x 256

REPORTED = METRIC_TITLES | OPTIONAL_TITLES
COLUMN_TITLES = {
    "ours": "this run",
    "floor": "floor",
    "floor_oracle": "oracle",
    "margin": "above floor",
    "released": "released",
}
NEEDED = (
    "decision",
    "reasons",
    "bootstrap",
    "ours",
    "floor",
    "margin",
    "released",
)  # of any version of eval.py

Location = tuple[SplitViews, int]  # a split, and a pair's row in its file
Pair = dict[str, Any]  # an entry of captions.json and what the gallery shows besides


def main(argv: list[str] | None = None) -> None:
    data, options = read_command(argv)
    folder = options.eval or options.run / "_".join(options.split)
    output = options.output or folder / "report.html"
    check_writable(output, "--output")
    scores = read_results(folder / "scores.json", *NEEDED)
    entries = read_results(folder / "captions.json", "filename", "caption", "references", "changed", "scores")
    check_belongs(scores, folder / "scores.json", data, options)
    no_change = scores.get("no_change", data.no_change or NO_CHANGE_SENTENCES)  # older ones lack it
    pairs = [judge(entry, no_change) for entry in entries]
    pairs.sort(key=lambda pair: (pair["mean"] is None, pair["mean"]))
    distinct, number = len({pair["caption"] for pair in pairs}), len(pairs)
    pairs = pairs[: options.pairs]
    locations = find_pairs(pairs, options.split, data)
    if options.attention:
        add_attention(options.run / "best.pt", pairs[: options.attention], locations)

    output.parent.mkdir(parents=True, exist_ok=True)
    page = render(
        name=f"{options.run.resolve().name}, {folder.name}",
        total=number,
        distinct=distinct,
        pairs=pairs,
        images=encoded_images(locations),
        tables=list(score_tables(scores)),
        scores=scores,
        missing=missing_lines(scores),
        curves=learning_curves(options.run / "log.jsonl"),
        settings=(options.run / "config.yaml").read_text(encoding="utf-8"),
    )
    with atomic_write(output) as partial, partial.open("w", encoding="utf-8") as file:
        page.dump(file)
    shown = f"{len(pairs)}" if len(pairs) == number else f"the {len(pairs)} worst of {number}"
    print(f"{shown} pairs in {output}, {output.stat().st_size / 1e6:.1f} MB")


def read_command(argv: list[str] | None) -> tuple[DataConfig, Any]:
    """The run's `data` settings with the command line's over them, and the options."""
    parser = CommandLine(__doc__, "data")
    parser.add_argument("run", type=Path, help="run folder of train.py")
    parser.add_argument("--split", nargs="+", default=["test"], choices=("train", "val", "test"))
    parser.add_argument("--eval", type=Path | None, help="folder of eval.py; default: RUN/test")
    parser.add_argument("--pairs", type=PositiveInt | None, help="show so many of the worst; default: all")
    parser.add_argument("--attention", type=NonNegativeInt, default=0, help="for so many of the worst pairs")
    parser.add_argument("--output", type=Path | None, help="default: report.html in the folder of eval.py")
    settings = parser.read_section(argv, {})[1].run / "config.yaml"
    if not settings.is_file():
        raise FileNotFoundError(f"{settings} not found: name the run folder of a train.py run")
    return parser.read_section(argv, read_yaml(settings))


def read_results(path: Path, *keys: str) -> Any:
    """What eval.py wrote: an object with `keys`, or a list of them."""
    content = read_json(path, "run eval.py, or name its folder with --eval DIR")
    objects = content if isinstance(content, list) else [content]
    for key in keys:
        if not objects or not all(isinstance(item, dict) and key in item for item in objects):
            raise UserError(
                f"{path} must have {key!r}, as eval.py writes it for a captioning model: run eval.py again"
            )
    return content


def check_belongs(scores: dict[str, Any], path: Path, data: DataConfig, options: Any) -> None:
    """UserError where the scores are not those of the run's checkpoint, or of other pairs or maps than the
    report would show."""
    if not (record := recorded(scores, path)):
        return
    expected = {
        "data": data_fingerprints(data, options.split),
        "splits": options.split,
        "settings": {"data.maps": data.maps},
    }
    checkpoint = options.run / Path(str(record.get("checkpoint"))).name
    if checkpoint.is_file():
        expected["sha256"] = sha256_of(checkpoint)
    if other := differences(record, expected):
        raise UserError(
            f"{path} does not belong to {options.run}, it has {', '.join(other)}: run eval.py again, or name "
            "what it was made with (--eval, --split, --data.dir, --data.maps)"
        )


def judge(entry: dict[str, Any], no_change: Sequence[str]) -> Pair:
    """An entry of captions.json with its mean score, whether its decision is right, and its words."""
    known = {word for reference in entry["references"] for word in reference.split()}
    scores = [score for score in entry["scores"].values() if score is not None]
    return {
        **entry,
        "mean": fmean(scores) if scores else None,
        "right": (entry["caption"] not in no_change) == entry["changed"],
        "words": [{"text": word, "known": word in known} for word in entry["caption"].split()],
    }


def score_tables(scores: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The table of each part that has pairs: number of pairs, a row for each metric, the largest score."""
    for part in PARTS:
        columns = {}
        for column in COLUMN_TITLES:
            if scores_of_part := (scores.get(column) or {}).get(part):
                columns[column] = scores_of_part
        if columns:
            yield score_table(part, columns)


def score_table(part: str, columns: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A part's table from its scores by column."""
    first = next(iter(columns.values()))
    rows, shown = {}, []
    for metric in REPORTED:
        if metric not in OPTIONAL_TITLES or first.get(metric):
            rows[metric] = {column: scores.get(metric) for column, scores in columns.items()}
        shown += [
            scores[metric]["high"]
            for name, scores in columns.items()
            if name != "margin" and scores.get(metric)
        ]
    return {
        "part": part,
        "pairs": first["pairs"],
        "rows": rows,
        "largest": max(shown) or 1,
        "floor": columns["floor"]["caption"] if "floor" in columns else None,
        "floor_oracle": columns["floor_oracle"]["caption"] if "floor_oracle" in columns else None,
    }


def find_pairs(pairs: list[Pair], splits: list[str], data: DataConfig) -> list[Location]:
    """Where the views of each pair are, as the model saw them.

    A pair is known by its name and its references. UserError where the splits hold no such pair.
    """
    locations = {}
    for split in splits:
        reader, rows = open_split(split, data)
        views = SplitViews(reader, data.maps)
        for row in rows:
            locations[reader.filenames[row], *reader.references[row]] = views, row
    chosen = [locations.get((pair["filename"], *pair["references"])) for pair in pairs]
    if None in chosen:
        raise UserError(
            f"the pairs that eval.py captioned must be in {data.dir}, {' or '.join(splits)}: "
            f"{pairs[chosen.index(None)]['filename']} is not, see --data.dir and --split"
        )
    return chosen


def views_of(location: Location) -> np.ndarray:
    """The views of a pair, (4, 3, H, W) uint8."""
    split, row = location
    return split.packed(row).unpacked()


def encoded_images(locations: Sequence[Location]) -> Iterator[list[str]]:
    """The four images of each pair as data URIs, read and encoded when they are written."""
    for location in progress_bar(locations, "images", unit="pair"):
        yield list(encode_views(views_of(location)))


def encode_views(views: np.ndarray) -> Iterator[str]:
    """Data URIs of views (4, 3, H, W) uint8; maps without loss, for their colours have a meaning."""
    size = min(SIDE, views.shape[2]), min(SIDE, views.shape[3])
    for i, view in enumerate(stack_views(list(views.transpose(0, 2, 3, 1)), size).transpose(0, 2, 3, 1)):
        file = io.BytesIO()
        Image.fromarray(view).save(file, "webp", quality=QUALITY, lossless=i >= 2)
        yield "data:image/webp;base64," + encode(file.getvalue())


def encode(content: bytes | np.ndarray) -> str:
    return base64.b64encode(content).decode()


def add_attention(checkpoint: Path, pairs: Sequence[Pair], locations: Sequence[Location]) -> None:
    """Replace the words of each pair by words with the attention that chose them."""
    from tools.engine.predictor import Predictor  # with torch: 500 MB that other reports do without

    predictor = Predictor.load(checkpoint, device="cpu")
    for pair, location in zip(pairs, locations, strict=False):
        pair["words"] = attended_words(pair, predictor.explain(views_of(location), pair["caption"]))


def attended_words(pair: Pair, attention: "CaptionAttention") -> list[dict[str, Any]]:
    """The words of a pair, `<end>` the last, each with both attention grids and the three gates.

    A grid is one byte a cell, 255 for the largest weight of any word of the caption.
    """
    rgb, sem = as_bytes(attention.rgb), as_bytes(attention.sem)
    unknown = {word["text"] for word in pair["words"] if not word["known"]}
    return [
        {
            "text": word,
            "known": word not in unknown,
            "rgb": encode(of_rgb),
            "sem": encode(of_sem),
            "gates": row,
        }
        for word, of_rgb, of_sem, row in zip(attention.words, rgb, sem, attention.gates, strict=True)
    ]


def as_bytes(grids: np.ndarray) -> np.ndarray:
    """Weights (T, h, w) as uint8, 255 for the largest."""
    return (255 * grids / grids.max()).round().astype(np.uint8)


def learning_curves(log: Path) -> list[str]:
    """SVGs of what log.jsonl says of each epoch: loss, validation scores, different captions."""
    lines = read_json_lines(log, "train anew") if log.is_file() else []
    if not lines:
        return []
    shown = [metric for metric in ("s_m", *AVERAGED) if metric in lines[-1]["val"]]
    epochs = [line["epoch"] for line in lines]
    best = max(line["epoch"] for line in lines if line["best"])
    scores = {REPORTED[metric]: [line["val"].get(metric) for line in lines] for metric in shown}
    scores["S*m of the floor"] = [line["floor"].get("s_m") for line in lines]
    if "floor_oracle" in lines[-1]:
        scores["S*m of the oracle"] = [line.get("floor_oracle", {}).get("s_m") for line in lines]
    curves = {
        "training loss": {"": [line["loss"] for line in lines]},
        "validation scores": scores,
        "different validation captions": {"": [line["distinct_captions"] for line in lines]},
    }
    return [curve_svg(title, epochs, series, best) for title, series in curves.items()]


def render(**content: Any) -> TemplateStream:
    """The page, piece by piece; whatever comes from the data is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    names = {"metrics": REPORTED, "columns": COLUMN_TITLES, "parts": PARTS, "views": TITLES}
    page = environment.get_template("template.html").stream(**content, **names, classes=CLASSES)
    page.enable_buffering(size=100)
    return page


if __name__ == "__main__":
    cli.run(main)
