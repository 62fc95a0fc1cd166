"""Render a synthetic change-captioning set in SECOND-CC's layout.

    python tools/make_demo_dataset.py --output DIR --pairs 600 --seed 1

The same seed and number of pairs give the same files. The splits are 70 % train, 10 % val, 20 % test.
"""

import argparse
import json
import os
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.engine import cli  # first: it sets how OpenMP's threads wait, before torch starts them

# isort: split
from data.atomic_write import check_writable
from data.errors import UserError
from data.synthetic import SyntheticPair, make_pair
from tools.engine.progress_bar import progress_bar

ANNOTATIONS = "SECOND-CC-AUG.json"
MINIMUM_PAIRS = 10  # with fewer pairs a split would be empty


def split_of(index: int, pairs: int) -> str:
    """train for the first 70 % of the pairs, val for the next 10 %, test for the rest."""
    if index < round(0.7 * pairs):
        return "train"
    return "val" if index < round(0.8 * pairs) else "test"


def annotation(pair: SyntheticPair, index: int, split: str) -> dict:
    """The pair's entry in the JSON's `images`."""
    sentences = [
        {"raw": f"{text} .", "tokens": text.split(), "sentid": sentid}
        for sentid, text in enumerate(pair.sentences, start=index * len(pair.sentences))
    ]
    return {
        "filename": f"{index:05d}.png",
        "filepath": split,
        "split": split,
        "imgid": index,
        "changeflag": int(bool(pair.changes)),
        "sentences": sentences,
    }


def write_pair(folder: Path, pairs: int, seed: int, index: int) -> dict:
    """Render a pair, save its four images in `folder`, and return its annotation."""
    pair = make_pair(seed, index)
    entry = annotation(pair, index, split_of(index, pairs))
    images = {"rgb/A": pair.rgb_a, "rgb/B": pair.rgb_b, "sem/A": pair.sem_a, "sem/B": pair.sem_b}
    for subfolder, image in images.items():
        path = folder / entry["filepath"] / subfolder / entry["filename"]
        Image.fromarray(image).save(path, compress_level=1)
    return entry


def write_dataset(output: Path, pairs: int, seed: int, workers: int) -> None:
    """Write the dataset beside `output` and rename it when complete.

    The files do not depend on the number of processes. Raises UserError on fewer than ten pairs or a negative
    seed, FileExistsError if `output` exists.
    """
    if pairs < MINIMUM_PAIRS:
        raise UserError(f"--pairs must be at least {MINIMUM_PAIRS}, got {pairs}: ask for more")
    if seed < 0:
        raise UserError(f"--seed must be 0 or more, got {seed}: choose another")
    if output.exists():
        raise FileExistsError(f"--output must be a new folder, {output} exists: delete it or choose another")
    check_writable(output, "--output", folder=True)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f"{output.name}.") as scratch:
        folder = Path(scratch) / "dataset"
        for split in ("train", "val", "test"):
            for subfolder in ("rgb/A", "rgb/B", "sem/A", "sem/B"):
                (folder / split / subfolder).mkdir(parents=True)
        with ProcessPoolExecutor(workers) as pool:
            work = pool.map(partial(write_pair, folder, pairs, seed), range(pairs), chunksize=8)
            images = list(progress_bar(work, "rendering", total=pairs, unit="pair"))
        (folder / ANNOTATIONS).write_text(json.dumps({"images": images}, indent=1))
        folder.rename(output)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help="new folder for the dataset")
    parser.add_argument("--pairs", type=int, required=True, help="number of pairs in all splits together")
    parser.add_argument("--seed", type=int, required=True, help="random seed of the scenes")
    options = parser.parse_args(argv)
    write_dataset(options.output, options.pairs, options.seed, os.cpu_count() or 1)
    print(f"wrote {options.output}: pairs: {options.pairs}")


if __name__ == "__main__":
    cli.run(main)
