"""Folders of images without captions: say what they are and what is missing for captioning."""

from itertools import product
from pathlib import Path

from data.errors import UserError
from data.sources.image_files import LAYOUTS, ImageFiles
from data.sources.pair import SPLITS, Warnings

KNOWN_SETS = {"A": "LEVIR-CD", "im1": "SECOND"}  # by the folder of the first date
CAPTIONS_ENDINGS = (".json", ".jsonl", ".csv")


def without_captions(root: Path) -> Exception:
    """The error for a folder without a captions file: it names the layout of the images, if they have one."""
    images = ImageFiles(root, Warnings())
    bases = ("", "images", *SPLITS, *(f"images/{split}" for split in SPLITS))
    for base, layout in product(bases, LAYOUTS):
        if images.folder(base, layout.before) and images.folder(base, layout.after):
            folders = f"{layout.before} and {layout.after}" + (f" in {base}" if base else "")
            like = f", as {KNOWN_SETS[layout.before]} has" if layout.before in KNOWN_SETS else ""
            return UserError(
                f"{root} holds image pairs ({folders}{like}) but no captions file: write "
                f"{root / 'captions.json'} or {root / 'captions.csv'} as docs/data.md shows; to caption the "
                "pairs with a trained model, use caption.py --pairs"
            )
    below = sorted(path for path in root.glob("*/*") if path.suffix.lower() in CAPTIONS_ENDINGS)
    remedy = (
        f"there is {below[0]}: --dataset_dir {below[0].parent}" if below else "docs/data.md shows the form"
    )
    names = ", ".join(sorted(path.name for path in root.glob("*"))[:5]) or "nothing"
    return FileNotFoundError(
        f"{root} holds no *.json, *.jsonl or *.csv with captions, but {names}: the captions belong in "
        f"{root / 'captions.json'}, {remedy}"
    )
