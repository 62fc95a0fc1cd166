"""Caption image pairs with a trained model.

python caption.py before.png after.png map_before.png map_after.png
python caption.py before.png after.png                                without maps: both are void
python caption.py before.png after.png mask.png --mask_class building with a 0/255 mask of new buildings
python caption.py before.png after.png --detector detector.pt         with maps from a change detector
python caption.py before.png after.png --answers 4 --json             several captions with log-probabilities
python caption.py before.png after.png --picture caption.png          draw images, maps and caption
python caption.py before.png after.png --attention words.png          draw the attention of each word
python caption.py --pairs pairs.csv --output captions.csv             columns img_A, img_B, seg_A, seg_B

Without --checkpoint the newest runs/*/best.pt is used. Captions go to standard output, remarks to standard
error. --pairs writes rows as they are ready. If a pair cannot be read, its row gets a message in the column
`error`, the other pairs are captioned, and the exit code is 1.
"""

from tools.engine import cli  # first: it sets how OpenMP's threads wait, before torch starts them

# isort: split
import csv
import json
import os
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from jsonargparse.typing import PositiveInt
from PIL import Image

from configs import Config
from configs.command_line import CommandLine
from data.atomic_write import DISK_IS_FULL, atomic_write, cannot_write, check_writable
from data.errors import UserError
from data.pair_table import (
    COLUMNS,
    Entry,
    pair_of_files,
    print_remark,
    read_files,
    read_pairs_file,
    remark_on_maps,
)
from data.palette import MASK_CLASSES
from data.workers import in_order
from tools.engine.checkpoint import load_checkpoint, read_over_checkpoint, stored_config
from tools.engine.predictor import Answer, Predictor

READERS = min(4, os.cpu_count() or 1)  # threads that decode the images of the next batch


@dataclass(frozen=True)
class ScoredCaption:
    """A caption and its log-probability."""

    caption: str | None = None
    log_prob: float | None = None


@dataclass(frozen=True)
class Row:
    """A row of the output: the files of a pair with its captions, best first, or with an error."""

    entry: Entry
    captions: Sequence[ScoredCaption] = (ScoredCaption(),)
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The columns; `answers` is present only if there are several captions."""
        files = {column: str(path) if path else "" for column, path in self.entry.items()}
        columns = {**files, **asdict(self.captions[0]), "error": self.error}
        if len(self.captions) > 1:
            columns["answers"] = [asdict(caption) for caption in self.captions]
        return columns


def main(argv: list[str] | None = None) -> None:
    config, options, content = read_over_checkpoint(make_parser(), argv, default=newest_captioner)
    if not content:
        raise FileNotFoundError(
            "runs/*/best.pt not found: train a model with train.py, or give one with --checkpoint FILE"
        )
    if not options.checkpoint:
        print(f"checkpoint {content['path']}", file=sys.stderr)
    entries = read_pairs_file(options.pairs) if options.pairs else [pair_of_files(options.images)]
    check_options(options, config, entries)
    predictor = Predictor.restore(content, config, options.detector)
    remark_on_maps(entries, predictor.model.views, "detected" if options.detector else "void")
    mask_class = options.mask_class or predictor.mask_class
    if options.pairs:
        caption_table(predictor, entries, options, mask_class)
        return
    files = [read_files(entries[0], mask_class)]
    (answer,) = caption_files(predictor, entries, files, options)
    print_answers(describe(entries[0], answer), options.json)
    draw(options, files[0], predictor, answer)


def make_parser() -> CommandLine:
    parser = CommandLine(__doc__, "decode")
    parser.add_argument("images", nargs="*", metavar="IMG_A IMG_B [[SEG_A] SEG_B]", help="files of a pair")
    parser.add_argument(
        "--pairs",
        type=Path | None,
        help="CSV or JSON with columns img_A, img_B and optional seg_A, seg_B",
    )
    parser.add_argument(
        "--checkpoint", type=Path | None, help="best.pt of a run; default: the newest runs/*/best.pt"
    )
    parser.add_argument(
        "--detector", type=Path | None, help="best.pt of a change detector, which predicts missing maps"
    )
    parser.add_argument("--maps_to", type=Path | None, help="folder for the maps predicted by --detector")
    parser.add_argument(
        "--answers", type=PositiveInt, default=1, help="captions per pair, at most the beam size"
    )
    parser.add_argument("--json", action="store_true", help="captions with log-probabilities as JSON")
    parser.add_argument("--output", type=Path | None, help="file for the captions of --pairs (.csv or .json)")
    parser.add_argument("--picture", type=Path | None, help="image file for the pair and its caption")
    parser.add_argument("--attention", type=Path | None, help="image file for the attention of each word")
    parser.add_argument(
        "--mask_class",
        type=Literal[MASK_CLASSES] | None,
        help="class of maps of 0 and 255; default: that of the checkpoint's training data",
    )
    return parser


def caption_files(
    predictor: Predictor, entries: Sequence[Entry], files: Sequence[list[np.ndarray]], options: Any
) -> list[Answer]:
    """Caption pairs, given as four views (H, W, 3) uint8 each.

    Missing maps in `files` are replaced by those of the detector, and saved if --maps_to is given.
    """
    if predictor.detector:
        missing = [index for index, entry in enumerate(entries) if entry["seg_B"] is None]
        predictor.find_maps([files[index] for index in missing])
        if options.maps_to:
            for index in missing:
                save_maps(options.maps_to, entries[index], files[index][2:])
    for entry, views in zip(entries, files, strict=True):
        height, width = views[0].shape[:2]
        if (height, width) != predictor.image_size:
            size = "{} x {}".format(*predictor.image_size)
            print_remark(f"{entry['img_A']}: resized from {height} x {width} to {size}")
    views = np.stack([predictor.fit(each) for each in files])
    return predictor.caption_views(views, options.answers)


def caption_table(predictor: Predictor, entries: list[Entry], options: Any, mask_class: str | None) -> None:
    """Write a row for each pair, in order, batch by batch. Exits with code 1 if pairs could not be read.

    Threads read the files of the next batch while the model captions the current one.
    """
    failed = 0
    read_entry = partial(read_or_error, mask_class=mask_class)
    batches = read_ahead(entries, read_entry, predictor.config.decode.batch_size)
    with open_table(options) as table, closing(batches):
        for batch, contents in batches:
            readable = [index for index, views in enumerate(contents) if isinstance(views, list)]
            answers = {}
            if readable:
                good_entries = [batch[index] for index in readable]
                good_files = [contents[index] for index in readable]
                captioned = caption_files(predictor, good_entries, good_files, options)
                answers = dict(zip(readable, captioned, strict=True))
            for index, entry in enumerate(batch):
                if index in answers:
                    table.write(describe(entry, answers[index]))
                else:
                    table.write(Row(entry, error=contents[index]))
            table.flush()
            failed += len(batch) - len(readable)
    if options.output:
        print(f"captions: {len(entries) - failed}, in {options.output}", file=sys.stderr)
    if failed:
        print(f"{failed} of {len(entries)} pairs could not be read: see the column error", file=sys.stderr)
        sys.exit(1)


def read_ahead(
    entries: list[Entry], read: Callable[[Entry], Any], batch_size: int
) -> Iterator[tuple[list[Entry], list]]:
    """Batches of pairs, in order, with the results of `read`; threads read one batch ahead."""
    with ThreadPoolExecutor(READERS) as pool:
        files = in_order(pool, read, entries, ahead=batch_size + 1)
        for first in range(0, len(entries), batch_size):
            batch = entries[first : first + batch_size]
            yield batch, list(islice(files, len(batch)))


def read_or_error(entry: Entry, mask_class: str | None) -> list[np.ndarray] | str:
    """The four views of a pair, or the message why they cannot be read."""
    try:
        return read_files(entry, mask_class)
    except (UserError, OSError) as error:
        return " ".join(str(error).split())


def newest_captioner() -> dict[str, Any]:
    """The content of the newest runs/*/best.pt that holds a captioning model; {} if there is none."""
    for path in sorted(Path("runs").glob("*/best.pt"), key=lambda path: path.stat().st_mtime, reverse=True):
        content = load_checkpoint(path)
        if stored_config(content).model.task == "captioning":
            return content
    return {}


def check_options(options: Any, config: Config, entries: Sequence[Entry]) -> None:
    """Raise UserError on options that contradict each other or files that cannot be written."""
    if options.answers > config.decode.beam_size:
        raise UserError(
            f"--answers {options.answers} needs as many beams: raise --decode.beam_size, "
            f"now {config.decode.beam_size}"
        )
    if options.pairs and (options.picture or options.attention):
        raise UserError("--picture and --attention draw one pair: give its images instead of --pairs")
    if options.output and not options.pairs:
        raise UserError("--output takes the captions of --pairs: one pair's caption goes to standard output")
    if options.output and options.output.suffix not in (".csv", ".json") and not is_device(options.output):
        raise UserError(f"--output {options.output} must end with .csv or .json: choose another name")
    if options.maps_to and not options.detector:
        raise UserError("--maps_to saves the maps of a change detector: add --detector FILE")
    if options.detector:
        check_missing_maps(entries, options.maps_to)
    for name in ("output", "picture", "attention"):
        if path := getattr(options, name):
            check_output(path, f"--{name}", [Path(file) for file in (*options.images, options.pairs) if file])
    if options.picture and options.picture == options.attention:
        raise UserError(f"--picture and --attention are both {options.picture}: choose two files")


def is_device(path: Path) -> bool:
    """Whether a path is a pipe or a device, such as /dev/stdout."""
    return path.exists() and not path.is_file() and not path.is_dir()


def check_missing_maps(entries: Sequence[Entry], maps_to: Path | None) -> None:
    """Raise UserError if no map is missing, or if the maps of two pairs would have the same file name."""
    missing = [entry for entry in entries if entry["seg_B"] is None]
    if not missing:
        raise UserError("--detector predicts missing maps, but all are given: leave it out, or the maps")
    if not maps_to:
        return
    check_writable(maps_to, "--maps_to", folder=True)
    names = Counter(map_files(maps_to, entry)[0] for entry in missing)
    for before, count in names.items():
        if count > 1:
            raise UserError(
                f"--maps_to needs images of different names, {count} would give {before}: rename the images"
            )


def map_files(folder: Path, entry: Entry) -> tuple[Path, Path]:
    """The files for the two maps of a pair: A/<name of img_A>.png and B/<name of img_B>.png."""
    before, after = (folder / date / f"{entry[f'img_{date}'].stem}.png" for date in "AB")
    return before, after


def save_maps(folder: Path, entry: Entry, maps: Sequence[np.ndarray]) -> None:
    """Save the two maps of a pair as PNG files."""
    for path, colours in zip(map_files(folder, entry), maps, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as partial:
            Image.fromarray(colours).save(partial, "PNG")
        print(f"map in {path}", file=sys.stderr)


def check_output(path: Path, option: str, inputs: list[Path]) -> None:
    """Raise UserError or OSError if an output cannot be written, is an input, or has an unknown suffix."""
    check_writable(path, option)
    if any(os.path.exists(path) and os.path.exists(file) and path.samefile(file) for file in inputs):
        raise UserError(f"{option} {path} is an input file: choose another file")
    if option != "--output":
        from tools.report.drawing import FORMATS  # importing matplotlib takes a second

        if path.suffix[1:].lower() not in ("", *FORMATS):
            suffixes = ", ".join(f".{name}" for name in sorted(FORMATS))
            raise UserError(f"{option} {path} must end with one of {suffixes}: choose another name")


def describe(entry: Entry, answer: Answer) -> Row:
    """The row of a captioned pair."""
    captions = [ScoredCaption(each.text, each.log_prob) for each in answer.answers]
    return Row(entry, captions)


def draw(options: Any, files: list[np.ndarray], predictor: Predictor, answer: Answer) -> None:
    """Draw the requested pictures; they show the four images (H, W, 3) uint8 in the size of their files."""
    if not (options.picture or options.attention):
        return
    from tools.report.drawing import draw_attention, draw_pair  # importing matplotlib takes a second

    views = np.stack(files).transpose(0, 3, 1, 2)
    if options.picture:
        draw_pair(options.picture, views, answer.text)
        print(f"picture in {options.picture}", file=sys.stderr)
    if options.attention:
        explained = predictor.explain(answer.views, answer.text)
        draw_attention(
            options.attention, views, explained.words, explained.rgb, explained.sem, explained.gates
        )
        print(f"attention in {options.attention}", file=sys.stderr)


def print_answers(row: Row, as_json: bool) -> None:
    """Print one caption per line, or the row as JSON."""
    if as_json:
        content = row.to_dict()
        del content["error"]
        print(json.dumps(content, indent=1))
    elif len(row.captions) == 1:
        print(row.captions[0].caption)
    else:
        for answer in row.captions:
            print(f"{answer.caption}\t{answer.log_prob:.3f}")


class Table:
    """Writes rows one by one, as CSV or as a JSON list."""

    def __init__(self, file: IO[str], as_json: bool) -> None:
        self.file, self.rows, self.csv = file, 0, None
        if not as_json:
            columns = [*COLUMNS, "caption", "log_prob", "error"]
            self.csv = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
            self.csv.writeheader()

    def write(self, row: Row) -> None:
        if self.csv:
            self.csv.writerow(row.to_dict())
        else:
            start = ",\n" if self.rows else "[\n"
            self.file.write(start + textwrap.indent(json.dumps(row.to_dict(), indent=1), " "))
        self.rows += 1

    def flush(self) -> None:
        self.file.flush()

    def close(self) -> None:
        """Close the JSON list, which may be empty."""
        if not self.csv:
            self.file.write("\n]\n" if self.rows else "[]\n")
        self.flush()


@contextmanager
def open_table(options: Any) -> Iterator[Table]:
    """Open the table of --pairs, in --output or on standard output. OSError on a full disk.

    Rows that were written are kept if the script ends early.
    """
    as_json = options.json or bool(options.output and options.output.suffix == ".json")
    if not options.output:
        table = Table(sys.stdout, as_json)
        try:
            yield table
        finally:
            table.close()
        return
    options.output.parent.mkdir(parents=True, exist_ok=True)
    try:
        with options.output.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
            table = Table(file, as_json)
            try:
                yield table
            finally:
                table.close()
    except OSError as error:
        if error.errno in DISK_IS_FULL:
            raise cannot_write(options.output, error.strerror) from error
        raise


if __name__ == "__main__":
    cli.run(main)
