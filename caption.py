"""Caption image pairs with a trained model.

python caption.py before.png after.png map_before.png map_after.png
python caption.py before.png after.png                                without maps: both are void
python caption.py before.png after.png mask.png --mask_class building a 0/255 mask of what appeared
python caption.py before.png after.png --detector detector.pt         without maps: found by a change detector
python caption.py before.png after.png --answers 4 --json             several, with log-probabilities
python caption.py before.png after.png --picture caption.png          pair, maps and caption drawn
python caption.py before.png after.png --attention words.png          what each word was chosen from
python caption.py --pairs pairs.csv --output captions.csv             columns img_A, img_B, seg_A, seg_B

Without --checkpoint the newest runs/*/best.pt answers. Captions go to standard output, remarks to standard
error. --pairs writes rows as they are ready. A pair that cannot be read gets its error in the column `error`;
the others are captioned, and the exit code is 1.
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

READERS = min(4, os.cpu_count() or 1)  # threads that decode images ahead
Row = dict[str, Any]  # of the output: the pair's files, its caption and log-probability, or its error


def main(argv: list[str] | None = None) -> None:
    config, options, content = read_over_checkpoint(make_parser(), argv, default=newest_captioner)
    if not content:
        raise FileNotFoundError(
            "no runs/*/best.pt here: train a model with train.py, or name one with --checkpoint FILE"
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
    parser.add_argument("images", nargs="*", metavar="IMG_A IMG_B [[SEG_A] SEG_B]", help="one pair's files")
    parser.add_argument(
        "--pairs", type=Path | None, help="CSV or JSON with columns img_A, img_B and, if any, seg_A, seg_B"
    )
    parser.add_argument(
        "--checkpoint", type=Path | None, help="best.pt of a run; default: the newest runs/*/best.pt"
    )
    parser.add_argument("--detector", type=Path | None, help="a change detector's best.pt finds absent maps")
    parser.add_argument("--maps_to", type=Path | None, help="folder for the maps that --detector finds")
    parser.add_argument(
        "--answers", type=PositiveInt, default=1, help="how many captions of a pair, at most the beams"
    )
    parser.add_argument("--json", action="store_true", help="captions with log-probabilities as JSON")
    parser.add_argument("--output", type=Path | None, help="file for the captions of --pairs (.csv or .json)")
    parser.add_argument("--picture", type=Path | None, help="draw the pair and its caption into this file")
    parser.add_argument(
        "--attention", type=Path | None, help="draw what each word of the caption looked at into this file"
    )
    parser.add_argument(
        "--mask_class",
        type=Literal[MASK_CLASSES] | None,
        help="the class that maps of 0 and 255 show; default: that of the checkpoint's training data",
    )
    return parser


def caption_files(
    predictor: Predictor, entries: Sequence[Entry], files: Sequence[list[np.ndarray]], options: Any
) -> list[Answer]:
    """Caption pairs that were read, four views (H, W, 3) uint8 each; maps that a detector finds replace the
    absent ones in `files`, and are saved where --maps_to asks for it."""
    if predictor.detector:
        absent = [n for n, entry in enumerate(entries) if entry["seg_B"] is None]
        predictor.find_maps([files[n] for n in absent])
        if options.maps_to:
            for n in absent:
                save_maps(options.maps_to, entries[n], files[n][2:])
    for entry, views in zip(entries, files, strict=True):
        height, width = views[0].shape[:2]
        if (height, width) != predictor.image_size:
            size = "{} x {}".format(*predictor.image_size)
            print_remark(f"{entry['img_A']}: resized from {height} x {width} to {size}")
    views = np.stack([predictor.fit(each) for each in files])
    return predictor.caption_views(views, options.answers)


def caption_table(predictor: Predictor, entries: list[Entry], options: Any, mask_class: str | None) -> None:
    """Write a row for each pair, in order, a batch at a time. Exit code 1 if pairs could not be read.

    Threads read the files of the next batch while the model captions this one.
    """
    failed = 0
    read_entry = partial(read_or_error, mask_class=mask_class)
    batches = read_ahead(entries, read_entry, predictor.config.decode.batch_size)
    with open_table(options) as table, closing(batches):
        for batch, read in batches:
            good = [number for number, views in enumerate(read) if isinstance(views, list)]
            answers = {}
            if good:
                captioned = caption_files(
                    predictor, [batch[n] for n in good], [read[n] for n in good], options
                )
                answers = dict(zip(good, captioned, strict=True))
            for number, entry in enumerate(batch):
                answer = answers.get(number)
                table.write(describe(entry, answer) if answer else without_caption(entry, read[number]))
            table.flush()
            failed += len(batch) - len(good)
    if options.output:
        print(f"captions: {len(entries) - failed}, in {options.output}", file=sys.stderr)
    if failed:
        print(f"{failed} of {len(entries)} pairs could not be read: see the column error", file=sys.stderr)
        sys.exit(1)


def read_ahead(
    entries: list[Entry], read: Callable[[Entry], Any], batch_size: int
) -> Iterator[tuple[list[Entry], list]]:
    """Batches of pairs, in order, and what `read` makes of each pair; threads read one batch ahead."""
    with ThreadPoolExecutor(READERS) as pool:
        files = in_order(pool, read, entries, ahead=batch_size + 1)
        for first in range(0, len(entries), batch_size):
            chosen = entries[first : first + batch_size]
            yield chosen, list(islice(files, len(chosen)))


def read_or_error(entry: Entry, mask_class: str | None) -> list[np.ndarray] | str:
    """The four views of a pair, or why they cannot be read."""
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
        raise UserError("--maps_to takes the maps that a change detector finds: add --detector FILE")
    if options.detector:
        check_absent_maps(entries, options.maps_to)
    for name in ("output", "picture", "attention"):
        if path := getattr(options, name):
            check_output(path, f"--{name}", [Path(file) for file in (*options.images, options.pairs) if file])
    if options.picture and options.picture == options.attention:
        raise UserError(f"--picture and --attention are both {options.picture}: choose two files")


def is_device(path: Path) -> bool:
    """Whether a path is a pipe or a device, such as /dev/stdout."""
    return path.exists() and not path.is_file() and not path.is_dir()


def check_absent_maps(entries: Sequence[Entry], maps_to: Path | None) -> None:
    """UserError where a detector has no map to find, or where two pairs' maps would be one file."""
    absent = [entry for entry in entries if entry["seg_B"] is None]
    if not absent:
        raise UserError("--detector finds absent maps, here all are given: leave it out, or the maps")
    if not maps_to:
        return
    check_writable(maps_to, "--maps_to", folder=True)
    names = Counter(map_files(maps_to, entry)[0] for entry in absent)
    for before, count in names.items():
        if count > 1:
            raise UserError(
                f"--maps_to needs pairs of different names, {count} would be {before}: rename the images"
            )


def map_files(folder: Path, entry: Entry) -> tuple[Path, Path]:
    """Where the two maps of a pair are saved: A/<name of img_A>.png and B/<name of img_B>.png."""
    before, after = (folder / date / f"{entry[f'img_{date}'].stem}.png" for date in "AB")
    return before, after


def save_maps(folder: Path, entry: Entry, maps: Sequence[np.ndarray]) -> None:
    for path, colours in zip(map_files(folder, entry), maps, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as partial:
            Image.fromarray(colours).save(partial, "PNG")
        print(f"map in {path}", file=sys.stderr)


def check_output(path: Path, option: str, read: list[Path]) -> None:
    """Raise UserError or OSError where a file cannot be written, has a suffix that no picture has, or is one
    of those that are read."""
    check_writable(path, option)
    if any(os.path.exists(path) and os.path.exists(file) and path.samefile(file) for file in read):
        raise UserError(f"{option} {path} is a file that is read: choose another file")
    if option != "--output":
        from tools.report.drawing import FORMATS  # matplotlib takes a second

        if path.suffix[1:].lower() not in ("", *FORMATS):
            endings = ", ".join(f".{name}" for name in sorted(FORMATS))
            raise UserError(f"{option} {path} must end with one of {endings}: choose another name")


def describe(entry: Entry, answer: Answer) -> Row:
    """A row of the output: the pair's files, its best caption, and all answers where several were asked
    for."""
    captions = [{"caption": each.text, "log_prob": each.log_prob} for each in answer.answers]
    row = without_caption(entry, None) | captions[0]
    return row | ({"answers": captions} if len(captions) > 1 else {})


def without_caption(entry: Entry, error: str | None) -> Row:
    """A row of the output for a pair without a caption: its files, and why it has none."""
    files = {column: str(path) if path else "" for column, path in entry.items()}
    return {**files, "caption": None, "log_prob": None, "error": error}


def draw(options: Any, files: list[np.ndarray], predictor: Predictor, answer: Answer) -> None:
    """The pictures asked for; they show the four images (H, W, 3) uint8 as large as in their files."""
    if not (options.picture or options.attention):
        return
    from tools.report.drawing import draw_attention, draw_pair  # matplotlib takes a second

    shown = np.stack(files).transpose(0, 3, 1, 2)
    if options.picture:
        draw_pair(options.picture, shown, answer.text)
        print(f"picture in {options.picture}", file=sys.stderr)
    if options.attention:
        seen = predictor.explain(answer.views, answer.text)
        draw_attention(options.attention, shown, seen.words, seen.rgb, seen.sem, seen.gates)
        print(f"attention in {options.attention}", file=sys.stderr)


def print_answers(row: Row, as_json: bool) -> None:
    """One sentence a line for people, or JSON for scripts."""
    answers = row.get("answers", [row])
    if as_json:
        print(json.dumps({name: value for name, value in row.items() if name != "error"}, indent=1))
    elif len(answers) == 1:
        print(answers[0]["caption"])
    else:
        print("\n".join(f"{answer['caption']}\t{answer['log_prob']:.3f}" for answer in answers))


class Table:
    """Rows of captions as CSV, or as a JSON list, written one by one."""

    def __init__(self, file: IO[str], as_json: bool) -> None:
        self.file, self.rows, self.csv = file, 0, None
        if not as_json:
            columns = [*COLUMNS, "caption", "log_prob", "error"]
            self.csv = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
            self.csv.writeheader()

    def write(self, row: Row) -> None:
        if self.csv:
            self.csv.writerow(row)
        else:
            start = ",\n" if self.rows else "[\n"
            self.file.write(start + textwrap.indent(json.dumps(row, indent=1), " "))
        self.rows += 1

    def flush(self) -> None:
        self.file.flush()

    def close(self) -> None:
        """End the list, which may lack rows."""
        if not self.csv:
            self.file.write("\n]\n" if self.rows else "[]\n")
        self.flush()


@contextmanager
def open_table(options: Any) -> Iterator[Table]:
    """The table of --pairs, in --output or on standard output. What was written stays if the script ends
    early; OSError on a full disk."""
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
