"""The JSON of LEVIR-CC, which SECOND-CC, LEVIR-MCI, WHU-CDC, Dubai-CC and Forest-Change use as well.

{"images": [{"filename", "split", "filepath", "changeflag", "sentences": [{"raw", "tokens"}]}]}
"""

from typing import Any

from data.sources.entries import Entry
from data.sources.pair import Warnings, split_of

TITLE = "LEVIR-CC's JSON"


def recognises(content: Any) -> bool:
    """Whether a file has this form: an object with a non-empty list `images`."""
    images = content.get("images") if isinstance(content, dict) else None
    return isinstance(images, list) and bool(images)


def entries(content: dict, split: str | None, warnings: Warnings) -> list[Entry]:
    """The entries of `images`. split: of the entries that name none."""
    return [_entry(number, image, split) for number, image in enumerate(content["images"])]


def _entry(number: int, image: Any, split: str | None) -> Entry:
    """An entry of `images`; without `split`, its split is the one that `filepath` names, else `split`."""
    if not isinstance(image, dict):
        return Entry(f"images[{number}]", image)
    folder, filename = image.get("filepath"), image.get("filename")
    if image.get("split") is None:
        named = split_of(folder) if isinstance(folder, str) else None
        image = {**image, "split": named or split}
    name = f" ({filename:.100})" if isinstance(filename, str) else ""
    return Entry(f"images[{number}]{name}", image)
