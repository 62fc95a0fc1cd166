"""Predict the maps of all pairs with a trained change detector, for models that use data.maps detected.

    python tools/detect_maps.py --checkpoint runs/change_detector/best.pt
    python tools/detect_maps.py --checkpoint runs/change_detector/best.pt --data.dir DIR --split val test
    python eval.py --checkpoint runs/second_cc/best.pt --data.maps detected

Writes <split>.detected.hdf5 beside each split's file (data/detected_maps.py), replacing an older one.
"""

import hashlib
import shlex
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.engine import cli  # first: it sets how OpenMP's threads wait, before torch starts them

# isort: split
import numpy as np

from configs import Config
from configs.command_line import CommandLine
from data.dataset import ChangeCaptions
from data.detected_maps import write_maps
from data.maps.settings import MapSettings
from data.splits import Reader, check_maps, check_size, open_reader
from models.change_detector import ChangeDetector
from tools.engine.checkpoint import read_over_checkpoint, restore_detector
from tools.engine.detecting import detected_maps
from tools.engine.device import pick_device
from tools.engine.folder_lock import locked


def main(argv: list[str] | None = None) -> None:
    parser = CommandLine(__doc__, "data", "decode")
    parser.add_argument("--checkpoint", type=Path, required=True, help="best.pt of a change detector's run")
    parser.add_argument(
        "--split", nargs="+", default=["train", "val", "test"], choices=("train", "val", "test")
    )
    config, options, content = read_over_checkpoint(parser, argv)
    detector = restore_detector(content).to(pick_device(config.decode.device))
    with options.checkpoint.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    attributes = {
        "detector": digest,
        "command": shlex.join(["detect_maps.py", *(sys.argv[1:] if argv is None else argv)]),
    }
    with locked(Path(config.data.dir), "wait until it has ended"):
        for split in options.split:
            reader = open_reader(split, config.data)
            check_size(reader, content["image_size"])
            check_maps(reader, MapSettings.stored(content))
            print(write_split_maps(reader, detector, config, attributes))


def write_split_maps(
    reader: Reader, detector: ChangeDetector, config: Config, attributes: dict[str, str]
) -> str:
    """Write the maps of a split; returns a line about the file."""
    samples = ChangeCaptions(reader, rows=range(len(reader)), captions="none")
    tally: Counter[str] = Counter()
    path = write_maps(
        reader.path,
        counted(detected_maps(detector, samples, config), tally),
        shape=(len(reader), *reader.image_size),
        attributes={"fingerprint": reader.fingerprint, **attributes},
    )
    return (
        f"wrote {path}: pairs: {len(reader)}, changed pixels: {tally['changed'] / tally['pixels']:.2%}, "
        f"{path.stat().st_size / 1e6:.1f} MB"
    )


def counted(maps: Iterable[np.ndarray], tally: Counter[str]) -> Iterator[np.ndarray]:
    """Yield the batches of maps unchanged; `tally` counts their pixels and the changed ones."""
    for batch in maps:
        changed = batch.any(axis=(1, 2))  # (B, H, W): at least one date's map has a class
        tally.update(pixels=changed.size, changed=int(changed.sum()))
        yield batch


if __name__ == "__main__":
    cli.run(main)
