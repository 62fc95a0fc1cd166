"""Measure how well metrics tell a person's caption from one with an error, on any data set's captions.

    python tools/benchmark_metrics.py createdFileBlackAUG --split test
    python tools/benchmark_metrics.py LevirCCcaptions.json --split val --output val_metrics.json

Takes a folder of input files, or annotations as JSON (also .gz) in the form of docs/data.md. One caption of
each changed pair is drawn; the others are its references. Controlled errors are made in it (direction, class,
place, number, omission, invention, "no change", another pair's caption, shuffled words), and every metric
scores all of them. Prints three tables and writes a JSON file:

auc        the probability that a random person's caption scores better than a random erroneous one
preferred  how often the person's caption scores better than the erroneous one of the same pair
systems    the scores of captions by a person, of the best constant caption, and of systems with errors

50 % is chance in the first two; ties count half. Intervals are bootstrap intervals over pairs.
"""

import argparse
import gzip
import json
import sys
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.engine import cli  # first: it sets how OpenMP's threads wait, before torch starts them

# isort: split
from data.atomic_write import check_writable, write_text
from data.errors import UserError
from data.hdf5 import references_of
from data.no_change import no_change_of
from data.settings import DataConfig
from data.sources import NO_CHANGE_SENTENCES, SPLITS, parse_pairs
from data.splits import open_split
from tools.scoring.fact_words import ENGLISH, read_fact_words
from tools.scoring.meteor import Meteor
from tools.scoring.table import aligned
from tools.studies.caption_errors import ErrorMaker
from tools.studies.metric_separation import LOWER_IS_BETTER, TITLES, MetricComparison, choose_captions

LEAST_PAIRS = 2


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("captions", type=Path, help="folder of input files, or annotations (.json, .gz)")
    parser.add_argument("--split", choices=SPLITS, default="test")
    parser.add_argument("--words", type=Path, default=ENGLISH, help="word lists of facts, a YAML file")
    parser.add_argument("--seed", type=int, default=0, help="of the captions and errors that are drawn")
    parser.add_argument("--resamples", type=int, default=1000, help="of the bootstrap")
    parser.add_argument("--output", type=Path, default=Path("metrics.json"))
    options = parser.parse_args(argv)
    check_writable(options.output, "--output")
    if options.resamples < 1:
        raise UserError(f"--resamples must be 1 or more, got {options.resamples}: leave it out for 1000")

    words = read_fact_words(options.words)
    references, no_change = read_references(options.captions, options.split)
    pairs = choose_captions(references, options.seed)
    if len(pairs) < LEAST_PAIRS:
        raise UserError(
            f"{options.captions} must have {LEAST_PAIRS} changed pairs with two captions in {options.split}, "
            f"got {len(pairs)}: choose another --split"
        )
    maker = ErrorMaker(pairs, words, no_change or NO_CHANGE_SENTENCES, options.seed)
    with Meteor() as meteor:
        comparison = MetricComparison(pairs, maker, meteor, options.resamples)
        report = {
            "captions": options.captions.name,
            "split": options.split,
            "seed": options.seed,
            "resamples": options.resamples,
            "pairs": len(pairs),
            "errors": comparison.separation(),
            "systems": comparison.systems(),
            "seconds": comparison.seconds,
            "captions_timed": comparison.captions_timed,
        }
    print(format_report(report))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    write_text(options.output, json.dumps(report, indent=1) + "\n")
    print(f"\nwrote {options.output}")


def read_references(path: Path, split: str) -> tuple[list[tuple[str, ...]], tuple[str, ...]]:
    """The captions of each changed pair of a split, and the data set's no-change sentences.

    path: a folder of input files, or annotations. Augmented copies are left out. Raises FileNotFoundError
    if `path` is missing, UserError if it is invalid.
    """
    if path.is_dir():
        reader, rows = open_split(split, DataConfig(dir=str(path), augmented_splits=[]))
        changed = [tuple(reader.references[row]) for row in rows if reader.changed[row]]
        return changed, tuple(reader.no_change)
    if path.suffix == ".gz":
        with tempfile.TemporaryDirectory() as scratch:
            plain = Path(scratch) / path.stem
            plain.write_bytes(_decompressed(path))
            pairs = parse_pairs(path.parent, plain)
    else:
        pairs = parse_pairs(path.parent, path)
    chosen = [pair for pair in pairs if pair.split == split and pair.changed and not pair.augmented]
    return [tuple(texts) for texts in references_of(chosen)], no_change_of(pairs)


def _decompressed(path: Path) -> bytes:
    try:
        return gzip.decompress(path.read_bytes())
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{path} is not a complete gzip file ({error}): compress it again") from None


def format_report(report: Mapping) -> str:
    """The three tables of a report, times and what they cover."""
    errors = report["errors"]
    lines = [
        f"{report['pairs']} changed pairs of {report['captions']}, {report['split']}; AUC in %",
        _error_table(errors, "auc"),
        "the person's caption preferred to the erroneous one of the same pair, %",
        _error_table(errors, "preferred"),
        "scores of systems",
        _system_table(report["systems"]),
        *(f"{kind}: {own['reason']}" for kind, own in errors.items() if "reason" in own),
        f'best constant: "{report["systems"]["best constant"]["caption"]}"',
        f"lower is better: {', '.join(TITLES[score] for score in TITLES if score in LOWER_IS_BETTER)}",
        f"seconds for {report['captions_timed']} captions: "
        + ", ".join(f"{name} {seconds:.1f}" for name, seconds in report["seconds"].items()),
    ]
    return "\n\n".join(lines)


def _error_table(errors: Mapping[str, Mapping], measure: str) -> str:
    rows: list[Sequence[str]] = [["", "n", *TITLES.values()]]
    for kind, own in errors.items():
        if measure in own:
            values = [f"{100 * own[measure][score]['value']:.1f}" for score in TITLES]
            rows.append([kind, str(own["n"]), *values])
    return aligned(rows)


def _system_table(systems: Mapping[str, Mapping]) -> str:
    rows: list[Sequence[str]] = [["", *TITLES.values(), "S*m"]]
    for name, own in systems.items():
        rows.append([name, *(f"{own['scores'][score]['value']:.1f}" for score in (*TITLES, "s_m"))])
    return aligned(rows)


if __name__ == "__main__":
    cli.run(main)
