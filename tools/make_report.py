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
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.engine import cli  # first: it sets how OpenMP's threads wait, before torch starts them

# isort: split
import jinja2
import numpy as np
from jinja2.environment import TemplateStream
from jsonargparse.typing import NonNegativeInt, PositiveInt
from PIL import Image

from configs import Config
from configs.command_line import CommandLine, load
from data.atomic_write import atomic_write, check_writable
from data.dataset import ChangeCaptions, open_split
from data.errors import UserError
from data.images import stack_views
from data.json_file import read_json, read_json_lines
from data.palette import CLASSES
from data.settings import DataConfig
from data.sources import NO_CHANGE_SENTENCES
from data.vocabulary import Vocabulary
from models.captioner import Captioner
from tools.engine.checkpoint import load_checkpoint, restore_model
from tools.engine.predictor import explain_caption
from tools.engine.progress_bar import progress_bar
from tools.engine.provenance import data_fingerprints, differences, recorded, sha256_of
from tools.report.drawing import TITLES, curve_svg
from tools.scoring import PARTS
from tools.scoring.metrics import AVERAGED, METRIC_TITLES, OPTIONAL_TITLES
from tools.scoring.table import missing_lines

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

Place = tuple[ChangeCaptions, int]  # samples, and a pair's number there
Pair = dict[str, Any]  # an entry of captions.json and what the gallery shows besides


def main(argv: list[str] | None = None) -> None:
    config, options = read_command(argv)
    folder = options.eval or options.run / "_".join(options.split)
    output = options.output or folder / "report.html"
    check_writable(output, "--output")
    scores = read_results(folder / "scores.json", *NEEDED)
    entries = read_results(folder / "captions.json", "filename", "caption", "references", "changed", "scores")
    check_belongs(scores, folder / "scores.json", config, options)
    no_change = scores.get("no_change", config.data.no_change or NO_CHANGE_SENTENCES)  # older ones lack it
    pairs = [judge(entry, no_change) for entry in entries]
    pairs.sort(key=lambda pair: (pair["mean"] is None, pair["mean"]))
    distinct, number = len({pair["caption"] for pair in pairs}), len(pairs)
    pairs = pairs[: options.pairs]
    model = restore_model(load_checkpoint(options.run / "best.pt")) if options.attention else ()
    places = find_pairs(pairs, options.split, config.data)
    for pair, place in zip(pairs[: options.attention], places, strict=False):
        pair["words"] = looked_at(*model, pair, views_of(place))

    output.parent.mkdir(parents=True, exist_ok=True)
    page = render(
        name=f"{options.run.resolve().name}, {folder.name}",
        total=number,
        distinct=distinct,
        pairs=pairs,
        images=encoded_images(places),
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


def read_command(argv: list[str] | None) -> tuple[Config, Any]:
    """The options, and the run's own settings with the `--data` options over them."""
    parser = CommandLine(__doc__, "data")
    parser.add_argument("run", type=Path, help="run folder of train.py")
    parser.add_argument("--split", nargs="+", default=["test"], choices=("train", "val", "test"))
    parser.add_argument("--eval", type=Path | None, help="folder of eval.py; default: RUN/test")
    parser.add_argument("--pairs", type=PositiveInt | None, help="show so many of the worst; default: all")
    parser.add_argument("--attention", type=NonNegativeInt, default=0, help="for so many of the worst pairs")
    parser.add_argument("--output", type=Path | None, help="default: report.html in the folder of eval.py")
    settings = parser.read(argv)[1].run / "config.yaml"
    if not settings.is_file():
        raise FileNotFoundError(f"{settings} not found: name the run folder of a train.py run")
    return parser.read(argv, load(settings).to_dict())


def read_results(path: Path, *keys: str) -> Any:
    """What eval.py wrote: an object with `keys`, or a list of them."""
    content = read_json(path, "run eval.py, or name its folder with --eval DIR")
    objects = content if isinstance(content, list) else [content]
    for key in keys:
        if not objects or not all(isinstance(found, dict) and key in found for found in objects):
            raise UserError(
                f"{path} must have {key!r}, as eval.py writes it for a captioning model: run eval.py again"
            )
    return content


def check_belongs(scores: dict[str, Any], path: Path, config: Config, options: Any) -> None:
    """UserError where the scores are not those of the run's checkpoint, or of other pairs or maps than the
    report would show."""
    if not (record := recorded(scores, path)):
        return
    expected = {
        "data": data_fingerprints(config, options.split),
        "splits": options.split,
        "settings": {"data.maps": config.data.maps},
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
    found = [score for score in entry["scores"].values() if score is not None]
    return {
        **entry,
        "mean": fmean(found) if found else None,
        "right": (entry["caption"] not in no_change) == entry["changed"],
        "words": [{"text": word, "known": word in known} for word in entry["caption"].split()],
    }


def score_tables(scores: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """For each part that has pairs: its number of pairs, a row for each metric, the largest score of all."""
    for part in PARTS:
        columns = {column: scores.get(column) or {} for column in COLUMN_TITLES}
        found = {column: parts[part] for column, parts in columns.items() if parts.get(part)}
        if found:
            first, *_ = found.values()
            shown = [found[column] for column in found if column != "margin"]
            yield {
                "part": part,
                "pairs": first["pairs"],
                "rows": {
                    m: {c: found[c].get(m) for c in found}
                    for m in REPORTED
                    if m not in OPTIONAL_TITLES or first.get(m)
                },
                "largest": max(s[m]["high"] for s in shown for m in REPORTED if s.get(m)) or 1,
                "floor": found["floor"]["caption"] if "floor" in found else None,
                "floor_oracle": found["floor_oracle"]["caption"] if "floor_oracle" in found else None,
            }


def find_pairs(pairs: list[Pair], splits: list[str], data: DataConfig) -> list[Place]:
    """Where the views of each pair are, as the model saw them.

    A pair is known by its name and its references. UserError where the splits hold no such pair.
    """
    places = {}
    for split in splits:
        reader, rows = open_split(split, data)
        samples = ChangeCaptions(reader, rows=rows, captions="none", maps=data.maps)
        for sample, row in enumerate(rows):
            places[reader.filenames[row], *reader.references[row]] = samples, sample
    found = [places.get((pair["filename"], *pair["references"])) for pair in pairs]
    if None in found:
        raise UserError(
            f"the pairs that eval.py captioned must be in {data.dir}, {' or '.join(splits)}: "
            f"{pairs[found.index(None)]['filename']} is not, see --data.dir and --split"
        )
    return found


def views_of(place: Place) -> np.ndarray:
    """The views of a pair, (4, 3, H, W) uint8."""
    samples, sample = place
    return samples[sample]["views"].numpy()


def encoded_images(places: Sequence[Place]) -> Iterator[list[str]]:
    """The four images of each pair as data URIs, read and encoded when they are written."""
    for place in progress_bar(places, "images", unit="pair"):
        yield list(encode_views(views_of(place)))


def encode_views(views: np.ndarray) -> Iterator[str]:
    """Data URIs of views (4, 3, H, W) uint8; maps without loss, for their colours have a meaning."""
    size = min(SIDE, views.shape[2]), min(SIDE, views.shape[3])
    for i, view in enumerate(stack_views(list(views.transpose(0, 2, 3, 1)), size).transpose(0, 2, 3, 1)):
        file = io.BytesIO()
        Image.fromarray(view).save(file, "webp", quality=QUALITY, lossless=i >= 2)
        yield "data:image/webp;base64," + encode(file.getvalue())


def encode(content: bytes | np.ndarray) -> str:
    return base64.b64encode(content).decode()


def looked_at(
    model: Captioner, vocabulary: Vocabulary, pair: Pair, views: np.ndarray
) -> list[dict[str, Any]]:
    """The words of a pair, `<end>` the last, each with both attention grids and the three gates.

    A grid is one byte a cell, 255 for the largest weight of any word of the caption.
    """
    seen = explain_caption(model, vocabulary, views, pair["caption"])
    grids = [(255 * grid / grid.max()).round().astype(np.uint8) for grid in (seen.rgb, seen.sem)]
    strange = {word["text"] for word in pair["words"] if not word["known"]}
    return [
        {
            "text": word,
            "known": word not in strange,
            "rgb": encode(of_rgb),
            "sem": encode(of_sem),
            "gates": row,
        }
        for word, of_rgb, of_sem, row in zip(seen.words, *grids, seen.gates, strict=True)
    ]


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
