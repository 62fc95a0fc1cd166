"""Show a run in one HTML file: scores beside their floor, learning curves, and every pair, worst first.

    python tools/make_report.py runs/second_cc
    python tools/make_report.py runs/second_cc --split val --output val.html
    python tools/make_report.py runs/second_cc --eval runs/second_cc/test_void_maps --data.maps void
    python tools/make_report.py runs/second_cc --pairs 500        the 500 worst pairs of a large split
    python tools/make_report.py runs/second_cc --attention 50     with the attention of the 50 worst pairs

Reads the run folder of train.py, the scores.json and captions.json of eval.py, and the images. The HTML file
needs no other file and no network. Its address holds the filter: report.html#words=road
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.engine import cli  # first: it sets how OpenMP's threads wait, before torch starts them

# isort: split
import numpy as np
from jsonargparse import Namespace
from jsonargparse.typing import NonNegativeInt, PositiveInt

from configs.command_line import CommandLine, read_yaml
from data.atomic_write import atomic_write, check_writable
from data.errors import UserError
from data.settings import DataConfig
from data.sources import NO_CHANGE_SENTENCES
from data.splits import SplitViews, open_split
from tools.engine.progress_bar import progress_bar
from tools.engine.provenance import data_fingerprints, differences, recorded, sha256_of
from tools.report.page import (
    Word,
    attended_words,
    encode_views,
    human_tables,
    learning_curves,
    legend,
    render,
    score_tables,
)
from tools.scoring.results import CaptionEntry, CaptionScores, read_captions, read_log, read_scores
from tools.scoring.table import missing_lines

Location = tuple[SplitViews, int]  # a split, and the row of a pair in its file


class Pair(CaptionEntry):
    """A pair of the report. mean: of its scores, or None. right: whether its change decision is correct."""

    mean: float | None
    right: bool
    words: list[Word]


def main(argv: list[str] | None = None) -> None:
    data, options = read_command(argv)
    folder = options.eval or options.run / "_".join(options.split)
    output = options.output or folder / "report.html"
    check_writable(output, "--output")
    scores, entries = read_scores(folder / "scores.json"), read_captions(folder / "captions.json")
    check_belongs(scores, folder / "scores.json", data, options)
    no_change = scores.get("no_change", data.no_change or NO_CHANGE_SENTENCES)  # earlier versions lack it
    pairs = [make_pair(entry, no_change) for entry in entries]
    pairs.sort(key=lambda pair: (pair["mean"] is None, pair["mean"]))
    distinct, total = len({pair["caption"] for pair in pairs}), len(pairs)
    pairs = pairs[: options.pairs]
    locations = find_pairs(pairs, options.split, data)
    if options.attention:
        add_attention(options.run / "best.pt", pairs[: options.attention], locations)

    output.parent.mkdir(parents=True, exist_ok=True)
    page = render(
        classes=legend(locations[0][0].reader.maps.palette),
        name=f"{options.run.resolve().name}, {folder.name}",
        total=total,
        distinct=distinct,
        pairs=pairs,
        images=encoded_images(locations),
        tables=list(score_tables(scores)),
        human=list(human_tables(scores)),
        scores=scores,
        missing=missing_lines(scores),
        curves=learning_curves(read_log(options.run / "log.jsonl", "train anew")),
        settings=(options.run / "config.yaml").read_text(encoding="utf-8"),
    )
    with atomic_write(output) as partial, partial.open("w", encoding="utf-8") as file:
        page.dump(file)
    number = f"{total}" if len(pairs) == total else f"the {len(pairs)} worst of {total}"
    print(f"{number} pairs in {output}, {output.stat().st_size / 1e6:.1f} MB")


def read_command(argv: list[str] | None) -> tuple[DataConfig, Namespace]:
    """The `data` settings of the run, which the command line overrides, and the options."""
    parser = CommandLine(__doc__, "data")
    parser.add_argument("run", type=Path, help="run folder of train.py")
    parser.add_argument("--split", nargs="+", default=["test"], choices=("train", "val", "test"))
    parser.add_argument("--eval", type=Path | None, help="folder of eval.py; default: RUN/test")
    parser.add_argument("--pairs", type=PositiveInt | None, help="number of worst pairs; default: all")
    parser.add_argument(
        "--attention", type=NonNegativeInt, default=0, help="number of worst pairs with attention"
    )
    parser.add_argument("--output", type=Path | None, help="default: report.html in the folder of eval.py")
    settings = parser.read_section(argv, {})[1].run / "config.yaml"
    if not settings.is_file():
        raise FileNotFoundError(f"{settings} not found: name the run folder of a train.py run")
    return parser.read_section(argv, read_yaml(settings))


def check_belongs(scores: CaptionScores, path: Path, data: DataConfig, options: Namespace) -> None:
    """UserError if the scores belong to another checkpoint than the run's, or to other pairs or maps."""
    if not (record := recorded(scores, path)):
        return
    if "captions" in record:
        raise UserError(
            f"{path} holds the scores of captions that were given ({record['captions']}), not of a model of "
            f"{options.run}: name a folder of eval.py with --eval"
        )
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


def make_pair(entry: CaptionEntry, no_change: Sequence[str]) -> Pair:
    """Add the mean score, whether the change decision is correct, and the words to an entry.

    A word that names the class of several facts is marked as wrong if one of them is.
    """
    known = set()
    for reference in entry["references"]:
        known.update(reference.split())
    scores = [score for score in entry["scores"].values() if score is not None]
    words: list[Word] = [{"text": word, "known": word in known} for word in entry["caption"].split()]
    facts = entry.get("facts", [])  # earlier versions lack them
    for fact in sorted(facts, key=lambda fact: not fact["right"]):
        for index in fact["words"]:
            words[index]["fact"] = "right" if fact["right"] else "wrong"
    return {
        **entry,
        "mean": fmean(scores) if scores else None,
        "right": (entry["caption"] not in no_change) == entry["changed"],
        "words": words,
    }


def find_pairs(pairs: list[Pair], splits: list[str], data: DataConfig) -> list[Location]:
    """The location of each pair's views, with the maps that the model saw.

    Name and references identify a pair. UserError if the splits hold no such pair.
    """
    locations = {}
    for split in splits:
        reader, rows = open_split(split, data)
        views = SplitViews(reader, data.maps)
        for row in rows:
            locations[reader.filenames[row], *reader.references[row]] = views, row
    chosen = []
    for pair in pairs:
        key = (pair["filename"], *pair["references"])
        if key not in locations:
            raise UserError(
                f"the pairs that eval.py captioned must be in {data.dir}, {' or '.join(splits)}: "
                f"{pair['filename']} is not, see --data.dir and --split"
            )
        chosen.append(locations[key])
    return chosen


def views_of(location: Location) -> np.ndarray:
    """The views of a pair, (4, 3, H, W) uint8."""
    split, row = location
    return split.packed(row).unpacked()


def encoded_images(locations: Sequence[Location]) -> Iterator[list[str]]:
    """The four images of each pair as data URIs; each pair is read when the page is written."""
    for location in progress_bar(locations, "images", unit="pair"):
        yield list(encode_views(views_of(location)))


def add_attention(checkpoint: Path, pairs: Sequence[Pair], locations: Sequence[Location]) -> None:
    """Replace the words of each pair by words with their attention."""
    from tools.engine.predictor import Predictor  # imports torch, 500 MB that other reports do not need

    predictor = Predictor.load(checkpoint, device="cpu")
    for pair, location in zip(pairs, locations, strict=False):
        attention = predictor.explain(views_of(location), pair["caption"])
        pair["words"] = attended_words(pair["words"], attention)


if __name__ == "__main__":
    cli.run(main)
