"""The command line of tools/create_input_files.py."""

import argparse
import os

from data.errors import UserError
from data.input_folder import FORMATS

LEAST = {"min_word_freq": 0, "captions_per_image": 1, "max_length": 1, "image_size": 1, "workers": 1}


def parse(argv: list[str] | None, description: str) -> argparse.Namespace:
    """Parse the command line. UserError if a number is out of range."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    _add_files(parser)
    _add_captions(parser)
    _add_images(parser)
    args = parser.parse_args(argv)
    args.vocabulary_splits = args.vocabulary_splits or ("all" if args.format == "released" else "train")
    check_numbers(args)
    return args


def _add_files(parser: argparse.ArgumentParser) -> None:
    """Options of the files that are read and written."""
    parser.add_argument(
        "--dataset_dir",
        default="SECOND_CC_dataset",
        help="folder of the data set, or its captions file; default: %(default)s",
    )
    parser.add_argument("--output_dir", default="createdFileBlackAUG", help="default: %(default)s")
    parser.add_argument(
        "--format",
        default="ours",
        choices=FORMATS,
        help="file format, default: %(default)s; `released`, the authors' format, stores no file names, "
        "flags and original sentences",
    )
    parser.add_argument(
        "--val_share",
        type=float,
        help="share of the training pairs that becomes val, for data sets without val pairs",
    )
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count(), help="processes; default: one per core"
    )
    parser.add_argument("--strict", action="store_true", help="write nothing if there are warnings")
    parser.add_argument("--force", action="store_true", help="replace the input files in --output_dir")


def _add_captions(parser: argparse.ArgumentParser) -> None:
    """Options of the vocabulary and of encoded captions."""
    parser.add_argument(
        "--min_word_freq",
        type=int,
        default=5,
        metavar="N",
        help="keep words that occur MORE than N times, default: %(default)s",
    )
    parser.add_argument(
        "--vocabulary",
        metavar="FILE",
        help="checkpoint or vocabulary.json whose words are used; --min_word_freq is then ignored",
    )
    parser.add_argument(
        "--vocabulary_splits",
        choices=("train", "all"),
        help="splits whose words are counted; default: train, with --format released all",
    )
    parser.add_argument(
        "--captions_per_image", type=int, default=5, help="encoded captions per pair, default: %(default)s"
    )
    parser.add_argument(
        "--max_length", type=int, default=50, help="maximum words per encoded caption, default: %(default)s"
    )


def _add_images(parser: argparse.ArgumentParser) -> None:
    """Options of images and maps."""
    parser.add_argument("--image_size", type=int, default=256, help="height and width, default: %(default)s")
    parser.add_argument(
        "--tile",
        action="store_true",
        help="cut larger pairs into tiles of --image_size instead of shrinking them; captions are repeated",
    )
    parser.add_argument(
        "--metres_per_pixel",
        type=float,
        help="ground sampling distance of the images; caption.py compares it with that of new images",
    )
    parser.add_argument(
        "--mask_class",
        help="class of masks (0 and 255, or 0 and 1) at the second date; default: refuse masks",
    )
    parser.add_argument(
        "--mask_unchanged",
        action="store_true",
        help="make land-cover maps void where both dates have the same class",
    )


def check_numbers(args: argparse.Namespace) -> None:
    """Raise UserError if a number is out of range."""
    for name, least in LEAST.items():
        if getattr(args, name) < least:
            raise UserError(f"--{name} must be at least {least}, got {getattr(args, name)}")
    if args.metres_per_pixel is not None and not 0 < args.metres_per_pixel < float("inf"):
        raise UserError(f"--metres_per_pixel must be positive, got {args.metres_per_pixel}: give metres")
    if args.metres_per_pixel is not None and args.format == "released":
        raise UserError("--metres_per_pixel is not stored by --format released: leave out one of the two")
    if args.val_share is not None and not 0 < args.val_share < 1:
        raise UserError(f"--val_share must be between 0 and 1, got {args.val_share}")
    if args.val_share is not None and args.format == "released":
        raise UserError("--val_share needs --format ours: the authors' files keep the splits of the JSON")
