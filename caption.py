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
import math
import os
import sys
import textwrap
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import torch
from jsonargparse.typing import PositiveInt

from configs import CommandLine, Config, early_option
from data.atomic_write import DISK_IS_FULL, cannot_write, check_writable
from data.images import stack_views
from data.pair_table import COLUMNS, Entry, one_pair, read_files, read_pairs_file, tell, tell_maps
from data.palette import MASK_CLASSES
from data.vocabulary import Vocabulary
from models import pick_device
from models.mmodalcc import MModalCC
from models.precision import autocast
from tools.engine.checkpoint import load_checkpoint, model_name, restore_model
from tools.engine.map_finder import MapFinder
from tools.wording import number_of
from tools.workers import in_order

READERS = min(4, os.cpu_count() or 1)  # threads that decode images ahead
Row = dict[str, Any]  # of the output: the pair's files, its caption and log-probability, or its error


def main(argv: list[str] | None = None) -> None:
    named = early_option(argv, "--checkpoint")
    checkpoint, content = (named, load_checkpoint(named)) if named else newest_captioner()
    config, options = make_parser().read(argv, content.get("config"))
    if not checkpoint:
        raise FileNotFoundError(
            "no runs/*/best.pt here: train a model with train.py, or name one with --checkpoint FILE"
        )
    if not options.checkpoint:
        print(f"checkpoint {checkpoint}", file=sys.stderr)
    entries = read_pairs_file(options.pairs) if options.pairs else [one_pair(options.images)]
    check_options(options, config)
    tell_maps(entries, config.model.modalities, "detected" if options.detector else "void")

    model, vocabulary = restore_model(content)
    model.to(pick_device(config.decode.device))
    size = tuple(content["image_size"])
    mask_class = options.mask_class or content.get("mask_class")
    finder = MapFinder(options.detector, options.maps_to, entries, size, config) if options.detector else None

    def answer(chosen: list[Entry], files: list[list[np.ndarray]]) -> tuple[list[Row], np.ndarray]:
        """A row of the output for each pair, and the views (B, 4, 3, H, W) that the model saw; maps that are
        found replace the absent ones in `files`."""
        if finder:
            finder.complete(chosen, files)
        batch = np.stack([fit(entry, views, size) for entry, views in zip(chosen, files, strict=True)])
        found = caption_pairs(model, batch, vocabulary, config, options.answers)
        return [describe(entry, own) for entry, own in zip(chosen, found, strict=True)], batch

    if options.pairs:
        caption_table(entries, answer, options, config.decode.batch_size, mask_class)
        return
    files = [read_files(entries[0], mask_class)]
    (row,), batch = answer(entries, files)
    print_answers(row, options.json)
    draw(options, files[0], model, batch[0], row["caption"], vocabulary)


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


def caption_table(
    entries: list[Entry],
    answer: Callable[[list[Entry], list[list[np.ndarray]]], tuple[list[Row], np.ndarray]],
    options: Any,
    batch_size: int,
    mask_class: str | None,
) -> None:
    """Write a row for each pair, in order, a batch at a time. Exit code 1 if pairs could not be read.

    Threads read the files of the next batch while the model captions this one.
    """
    failed = 0
    batches = read_ahead(entries, partial(read_or_error, mask_class=mask_class), batch_size)
    with open_table(options) as table, closing(batches):
        for chosen, read in batches:
            good = [number for number, views in enumerate(read) if isinstance(views, list)]
            rows, _ = answer([chosen[n] for n in good], [read[n] for n in good]) if good else ([], None)
            captioned = dict(zip(good, rows, strict=True))
            for number, entry in enumerate(chosen):
                table.write(captioned.get(number) or without_caption(entry, read[number]))
            table.flush()
            failed += len(chosen) - len(good)
    if options.output:
        print(f"{number_of(len(entries) - failed, 'caption')} in {options.output}", file=sys.stderr)
    if failed:
        said = f"{failed} of {number_of(len(entries), 'pair')} could not be read: see the column error"
        print(said, file=sys.stderr)
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
    except (ValueError, OSError) as error:
        return " ".join(str(error).split())


def newest_captioner() -> tuple[Path | None, dict[str, Any]]:
    """The best.pt of a captioning model that was written last under runs/, and its content."""
    for path in sorted(Path("runs").glob("*/best.pt"), key=lambda path: path.stat().st_mtime, reverse=True):
        content = load_checkpoint(path)
        if model_name(content) == "mmodalcc":
            return path, content
    return None, {}


def check_options(options: Any, config: Config) -> None:
    if options.answers > config.decode.beam_size:
        raise ValueError(
            f"--answers {options.answers} needs as many beams: raise --decode.beam_size, "
            f"now {config.decode.beam_size}"
        )
    if options.pairs and (options.picture or options.attention):
        raise ValueError("--picture and --attention draw one pair: give its images instead of --pairs")
    if options.output and not options.pairs:
        raise ValueError("--output takes the captions of --pairs: one pair's caption goes to standard output")
    if options.maps_to and not options.detector:
        raise ValueError("--maps_to takes the maps that a change detector finds: add --detector FILE")
    if options.maps_to:
        check_writable(options.maps_to, "--maps_to", folder=True)
    for name in ("output", "picture", "attention"):
        if path := getattr(options, name):
            check_output(path, f"--{name}", [Path(file) for file in (*options.images, options.pairs) if file])
    if options.picture and options.picture == options.attention:
        raise ValueError(f"--picture and --attention are both {options.picture}: choose two files")


def check_output(path: Path, option: str, read: list[Path]) -> None:
    """Raise ValueError or OSError where a file cannot be written, has a suffix that no picture has, or is one
    of those that are read."""
    check_writable(path, option)
    if any(os.path.exists(path) and os.path.exists(file) and path.samefile(file) for file in read):
        raise ValueError(f"{option} {path} is a file that is read: choose another file")
    if option != "--output":
        from tools.report.drawing import FORMATS  # matplotlib takes a second

        if path.suffix[1:].lower() not in ("", *FORMATS):
            endings = ", ".join(f".{name}" for name in sorted(FORMATS))
            raise ValueError(f"{option} {path} must end with one of {endings}: choose another name")


def fit(entry: Entry, views: list[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """The four views of a pair, (4, 3, H, W) uint8, in the size that the model was trained on."""
    height, width = views[0].shape[:2]
    if (height, width) != size:
        tell(f"{entry['img_A']}: resized from {height} x {width} to {size[0]} x {size[1]}")
    return stack_views(views, size)


def caption_pairs(
    model: MModalCC, views: np.ndarray, vocabulary: Vocabulary, config: Config, answers: int
) -> list[list[dict[str, Any]]]:
    """views (B, 4, 3, H, W) uint8 -> for each pair its answers, the best first."""
    device = model.mean.device
    with autocast(device, config.decode.precision):
        found = model.caption(
            torch.from_numpy(views).to(device),
            start=vocabulary.start,
            end=vocabulary.end,
            beam_size=config.decode.beam_size,
            best=answers,
        )
    return [
        [{"caption": vocabulary.decode(h.tokens), "log_prob": h.log_prob} for h in pair] for pair in found
    ]


def describe(entry: Entry, found: list[dict[str, Any]]) -> Row:
    """A row of the output: the pair's files, its best caption, and all answers where several were asked
    for."""
    row = without_caption(entry, None) | found[0]
    return row | ({"answers": found} if len(found) > 1 else {})


def without_caption(entry: Entry, error: str | None) -> Row:
    """A row of the output for a pair without a caption: its files, and why it has none."""
    files = {column: str(path) if path else "" for column, path in entry.items()}
    return {**files, "caption": None, "log_prob": None, "error": error}


def draw(
    options: Any,
    files: list[np.ndarray],
    model: MModalCC,
    views: np.ndarray,
    caption: str,
    vocabulary: Vocabulary,
) -> None:
    """The pictures asked for; they show the four images (H, W, 3) uint8 as large as in their files."""
    if not (options.picture or options.attention):
        return
    from tools.report.drawing import (  # matplotlib takes a second, and only this needs it
        draw_attention,
        draw_pair,
    )

    shown = np.stack(files).transpose(0, 3, 1, 2)
    if options.picture:
        draw_pair(options.picture, shown, caption)
        print(f"picture in {options.picture}", file=sys.stderr)
    if options.attention:
        draw_attention(options.attention, shown, *attention_of(model, views, caption, vocabulary))
        print(f"attention in {options.attention}", file=sys.stderr)


def attention_of(
    model: MModalCC, views: np.ndarray, caption: str, vocabulary: Vocabulary
) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray]:
    """What MGCA did to choose each word of a caption, given the pair's views (4, 3, H, W) uint8.

    Returns the words, `<end>` the last; the attention over the RGB and over the map grid, (T, h, w) each; the
    RGB, map and word gates (T, 3). ValueError where the model lacks a modality or MGCA.
    """
    words, device = caption.split(), model.mean.device
    tokens = vocabulary.encode(words, len(words))
    tokens = tokens[: len(model.decoder.positions) + 1]  # the longest caption has no room for <end>
    seen = model.attention(
        torch.from_numpy(views).to(device).unsqueeze(0), torch.tensor([[tokens[:-1]]], device=device)
    )
    if list(seen.gates) != ["rgb", "sem", "word"]:
        raise ValueError(
            "--attention draws the gates of images, maps and word: this model has "
            f"{' and '.join(seen.gates) or 'none'}, leave --attention out"
        )
    side = math.isqrt(seen.grids["rgb"].shape[-1])
    rgb, sem = (grid[0, 0].unflatten(-1, (side, side)).cpu().numpy() for grid in seen.grids.values())
    gates = torch.stack([gate[0, 0] for gate in seen.gates.values()], dim=-1)
    return [vocabulary.words[token] for token in tokens[1:]], rgb, sem, gates.cpu().numpy()


def print_answers(row: Row, as_json: bool) -> None:
    """One sentence a line for people, or JSON for scripts."""
    found = row.get("answers", [row])
    if as_json:
        print(json.dumps({name: value for name, value in row.items() if name != "error"}, indent=1))
    elif len(found) == 1:
        print(found[0]["caption"])
    else:
        print("\n".join(f"{answer['caption']}\t{answer['log_prob']:.3f}" for answer in found))


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
