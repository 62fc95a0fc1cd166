"""Caption image pairs with a trained model.

python caption.py before.png after.png map_before.png map_after.png
python caption.py before.png after.png                                without maps: both are void
python caption.py before.png after.png mask.png --mask_class building with a 0/255 mask of new buildings
python caption.py before.png after.png --detector detector.pt         with maps from a change detector
python caption.py before.png after.png --checkpoint a.pt b.pt c.pt    with an ensemble of three models
python caption.py before.png after.png --answers 4 --json             several captions with log-probabilities
python caption.py before.png after.png --picture caption.png          draw images, maps and caption
python caption.py before.png after.png --attention words.png          draw the attention of each word
python caption.py before/ after/ --output captions.csv                all names that both folders hold
python caption.py before/ after/ maps_before/ maps_after/             the same with maps
python caption.py --pairs pairs.csv --output captions.csv             columns img_A, img_B, seg_A, seg_B
python caption.py --pairs pairs.csv --columns img_A=old,img_B=new     a table with other names

Without --checkpoint the newest runs/*/best.pt is used. Captions go to standard output, remarks to standard
error. For many pairs, rows are written as they are ready and a summary follows. The column `changed` says
whether the caption reports a change, `change_probability` how probable a change is for the model. If a pair
cannot be read, its row gets a message in the column `error`, the other pairs are captioned, and the exit code
is 1. --decode.change_threshold P describes a change only from this probability on.
"""

from tools.engine import cli  # first: it sets how OpenMP's threads wait, before torch starts them

# isort: split
import os
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jsonargparse.typing import PositiveFloat, PositiveInt

from configs import Config
from configs.command_line import CommandLine
from data.atomic_write import check_writable
from data.errors import UserError
from data.maps.settings import MapSettings
from data.pair_files import PairFiles, pairs_of_arguments, read_files, remark_on_maps
from data.pair_table import parse_columns, read_pairs_file
from tools.engine.caption_output import Row, open_table, print_row
from tools.engine.caption_pairs import Tally, caption_files, caption_pairs, check_missing_maps, map_files
from tools.engine.checkpoint import load_checkpoint, read_over_checkpoint, stored_config
from tools.engine.decoding import calibration_remark
from tools.engine.ensemble import split_checkpoints
from tools.engine.predictor import Answer, Predictor
from tools.engine.progress_bar import progress_bar
from tools.engine.resolution import resolution_remark


def main(argv: list[str] | None = None) -> None:
    config, options, content = read_over_checkpoint(make_parser(), argv, default=newest_captioner)
    options.checkpoint, images = split_checkpoints(options.checkpoint)
    options.images = [*images, *options.images]
    if not content:
        raise FileNotFoundError(
            "runs/*/best.pt not found: train a model with train.py, or give one with --checkpoint FILE"
        )
    if not options.checkpoint:
        print(f"checkpoint {content['path']}", file=sys.stderr)
    pairs = find_pairs(options)
    check_options(options, config, pairs)
    predictor = Predictor.restore(content, config, options.detector, options.checkpoint[1:])
    for remark in calibration_remark(predictor.decoding):
        print(remark, file=sys.stderr)
    training = stored_config(content).data
    remark_on_maps(pairs, predictor.model.views, training, detected=bool(options.detector))
    if options.metres_per_pixel:
        images = [pair.path("img_A") for pair in pairs]
        if remark := resolution_remark(predictor, options.metres_per_pixel, images):
            print(remark, file=sys.stderr)
    maps = predictor.maps
    if options.mask_class:
        maps = replace(maps, mask_class=options.mask_class, map_indices=False)
    if is_many(options):
        caption_many(predictor, pairs, options, maps)
    else:
        caption_one(predictor, pairs[0], options, maps)


def make_parser() -> CommandLine:
    parser = CommandLine(__doc__, "decode")
    parser.add_argument(
        "images", nargs="*", metavar="IMG_A IMG_B [[SEG_A] SEG_B]", help="files of a pair, or folders"
    )
    parser.add_argument(
        "--pairs",
        type=Path | None,
        help="CSV, TSV, JSON or JSON Lines with columns img_A, img_B and optional seg_A, seg_B",
    )
    parser.add_argument(
        "--columns", type=str | None, help="names of the columns of --pairs, as img_A=before,img_B=after"
    )
    parser.add_argument(
        "--checkpoint",
        type=str,
        nargs="+",
        default=[],
        metavar="FILE",
        help="best.pt of a run; default: the newest runs/*/best.pt; several (*.pt) form an ensemble",
    )
    parser.add_argument(
        "--detector", type=Path | None, help="best.pt of a change detector, which predicts missing maps"
    )
    parser.add_argument("--maps_to", type=Path | None, help="folder for the maps predicted by --detector")
    parser.add_argument(
        "--answers", type=PositiveInt, default=1, help="captions per pair, at most the beam size"
    )
    parser.add_argument("--json", action="store_true", help="captions with log-probabilities as JSON")
    parser.add_argument(
        "--output", type=Path | None, help="file for the captions of many pairs (.csv or .json)"
    )
    parser.add_argument("--picture", type=Path | None, help="image file for the pair and its caption")
    parser.add_argument("--attention", type=Path | None, help="image file for the attention of each word")
    parser.add_argument(
        "--mask_class",
        type=str | None,
        help="class of maps of 0 and 255; default: that of the checkpoint's training data",
    )
    parser.add_argument(
        "--metres_per_pixel",
        type=PositiveFloat | None,
        help="ground sampling distance of the images, which is compared with that of the training data",
    )
    return parser


def find_pairs(options: Any) -> list[PairFiles]:
    """The pairs that the command line names."""
    if options.pairs and options.images:
        raise UserError(
            f"--pairs is given beside {options.images[0]}: leave out the images or --pairs {options.pairs}"
        )
    if options.columns and not options.pairs:
        raise UserError("--columns names the columns of a table: add --pairs FILE")
    if options.pairs:
        columns = parse_columns(options.columns) if options.columns else {}
        return read_pairs_file(options.pairs, columns)
    return pairs_of_arguments(options.images)


def is_many(options: Any) -> bool:
    """Whether the pairs come from a table or from folders, so that a table is written."""
    return bool(options.pairs) or Path(options.images[0]).is_dir()


def caption_one(predictor: Predictor, pair: PairFiles, options: Any, maps: MapSettings) -> None:
    """Print and draw the captions of a pair."""
    views = read_files(pair, maps)
    if views[0].shape[:2] != predictor.image_size:
        old, new = ("{} x {}".format(*size) for size in (views[0].shape[:2], predictor.image_size))
        print(f"{pair.path('img_A')}: resized from {old} to {new}", file=sys.stderr)
    (answer,) = caption_files(predictor, [(pair, views)], options.answers, options.maps_to)
    if options.maps_to:
        for path in map_files(options.maps_to, pair):
            print(f"map in {path}", file=sys.stderr)
    print_row(Row.of_answer(pair, answer), options.json)
    draw(options, views, predictor, answer)


def caption_many(predictor: Predictor, pairs: Sequence[PairFiles], options: Any, maps: MapSettings) -> None:
    """Write a row for each pair, in order, batch by batch. Exits with code 1 if pairs could not be read."""
    as_json = options.json or bool(options.output and options.output.suffix == ".json")
    tally = Tally()
    batches = caption_pairs(
        predictor, pairs, tally, answers=options.answers, maps=maps, maps_to=options.maps_to
    )
    show_bar = bool(options.output) or not sys.stdout.isatty()  # else it would mix with the rows
    with (
        open_table(options.output, as_json, options.answers, list(pairs[0].extra)) as table,
        closing(batches),
        progress_bar(total=len(pairs), unit="pair", shown=show_bar) as bar,
    ):
        for rows in batches:
            for row in rows:
                table.write(row)
            table.flush()
            bar.update(len(rows))
    places = {"captions": options.output, "maps": options.maps_to}
    written = [f", {what} in {path}" for what, path in places.items() if path]
    print(tally.summary() + "".join(written), file=sys.stderr)
    if tally.errors:
        sys.exit(1)


def newest_captioner() -> dict[str, Any]:
    """The content of the newest runs/*/best.pt that holds a captioning model; {} if there is none."""
    for path in sorted(Path("runs").glob("*/best.pt"), key=lambda path: path.stat().st_mtime, reverse=True):
        content = load_checkpoint(path)
        if stored_config(content).model.task == "captioning":
            return content
    return {}


def check_options(options: Any, config: Config, pairs: Sequence[PairFiles]) -> None:
    """Raise UserError on options that contradict each other or files that cannot be written."""
    if options.answers > config.decode.beam_size:
        raise UserError(
            f"--answers {options.answers} needs as many beams: raise --decode.beam_size, "
            f"now {config.decode.beam_size}"
        )
    many = is_many(options)
    if many and (options.picture or options.attention):
        raise UserError("--picture and --attention draw one pair: give its images alone")
    if options.output and not many:
        raise UserError(
            "--output takes the captions of --pairs or of folders: one pair's caption goes to standard output"
        )
    if options.output:
        check_table_name(options.output)
    if options.maps_to and not options.detector:
        raise UserError("--maps_to saves the maps of a change detector: add --detector FILE")
    if options.detector:
        check_missing_maps(pairs, options.maps_to)
    for name in ("output", "picture", "attention"):
        if path := getattr(options, name):
            check_output(path, f"--{name}", [Path(file) for file in (*options.images, options.pairs) if file])
    if options.picture and options.picture == options.attention:
        raise UserError(f"--picture and --attention are both {options.picture}: choose two files")


def check_table_name(output: Path) -> None:
    """Raise UserError if the table of captions cannot have this name."""
    if output.is_dir():
        raise UserError(f"--output {output} is a folder: name a file, such as {output}/captions.csv")
    if output.suffix not in (".csv", ".json") and not is_device(output):
        raise UserError(f"--output {output} must end with .csv or .json: choose another name")


def is_device(path: Path) -> bool:
    """Whether a path is a pipe or a device, such as /dev/stdout."""
    return path.exists() and not path.is_file() and not path.is_dir()


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


def draw(options: Any, files: list[np.ndarray], predictor: Predictor, answer: Answer) -> None:
    """Draw the requested pictures; they show the four images (H, W, 3) uint8 in the size of their files."""
    if not (options.picture or options.attention):
        return
    from tools.report.drawing import draw_attention, draw_pair  # importing matplotlib takes a second

    views = np.stack(files).transpose(0, 3, 1, 2)
    if options.picture:
        draw_pair(options.picture, views, answer.text, predictor.maps.palette)
        print(f"picture in {options.picture}", file=sys.stderr)
    if options.attention:
        explained = predictor.explain(answer.views, answer.text)
        draw_attention(
            options.attention, views, explained.words, explained.rgb, explained.sem, explained.gates
        )
        print(f"attention in {options.attention}", file=sys.stderr)


if __name__ == "__main__":
    cli.run(main)
