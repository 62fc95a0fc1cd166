"""The captions JSON of COCO.

    {"images": [{"id", "file_name"}], "annotations": [{"image_id", "caption"}]}

`file_name` is the name of a pair's images in the folders of both dates. `images` may have `split`,
`filepath`, `changeflag` and `source`; without `split`, the name of the captions file gives it
(`captions_train.json`).
"""

from collections import defaultdict
from reprlib import repr as shortened
from typing import Any

from data.errors import UserError
from data.sources.entries import Entry
from data.sources.pair import Warnings

TITLE = "COCO's captions JSON"


def recognises(content: Any) -> bool:
    """Whether a file has this form: an object with `images` and `annotations`."""
    return isinstance(content, dict) and bool(content.get("images")) and "annotations" in content


def entries(content: dict, split: str | None, warnings: Warnings) -> list[Entry]:
    """An entry for each of `images`. split: of the images that name none."""
    images, captions = content["images"], _captions(content["annotations"])
    if not isinstance(images, list) or not all(isinstance(image, dict) and "id" in image for image in images):
        raise UserError("COCO's `images` must be a list of objects with `id` and `file_name`")
    unknown = captions.keys() - {str(image["id"]) for image in images}
    if unknown:
        raise UserError(
            f"each `image_id` of `annotations` must be an `id` of `images`; {len(unknown)} are not, such as "
            f"{shortened(sorted(unknown)[0])}: use annotations and images that belong together"
        )
    if split is None and any(image.get("split") is None for image in images):
        raise UserError(
            "COCO's captions JSON names no split: give each of `images` a `split` (train, val or test), or "
            "write one file per split, such as captions_train.json"
        )
    return [_entry(number, image, captions, split) for number, image in enumerate(images)]


def _captions(annotations: Any) -> dict[str, list[str]]:
    """The captions by image, whose ids may be numbers or text."""
    if not isinstance(annotations, list) or not all(isinstance(each, dict) for each in annotations):
        raise UserError("COCO's `annotations` must be a list of objects with `image_id` and `caption`")
    captions = defaultdict(list)
    for number, annotation in enumerate(annotations):
        if "image_id" not in annotation or "caption" not in annotation:
            raise UserError(
                f"annotations[{number}] must have `image_id` and `caption`, got {sorted(annotation)[:5]}: "
                "use the captions file of COCO, not its instances or key points"
            )
        captions[str(annotation["image_id"])].append(annotation["caption"])
    return captions


def _entry(number: int, image: dict, captions: dict[str, list[str]], split: str | None) -> Entry:
    fields = {key: image.get(key) for key in ("filepath", "changeflag", "source")}
    fields["filename"] = image.get("file_name")
    fields["split"] = image.get("split") or split
    fields["sentences"] = [{"raw": caption} for caption in captions.get(str(image["id"]), [])]
    return Entry(f"images[{number}] ({shortened(image.get('file_name'))})", fields)
