"""The JSON lines of RSCC: {"pre_image", "post_image", "change_caption"}, one caption a pair.

A pair's split is `split` if its line has it, else it follows from the name of the captions file or from a
folder of its paths. The pairs of RSCC have none of these: they count as train, which is warned of.
"""

from typing import Any

from data.sources.entries import Entry
from data.sources.listed_pairs import Row, grouped, has_keys, split_in_path
from data.sources.pair import Warnings

TITLE = "RSCC's JSON lines"
NO_SPLIT = ("pairs without `split`, which count as train", "give `split`, or one captions file per split")


def recognises(content: Any) -> bool:
    """Whether a file has this form: objects with `pre_image`, `post_image` and `change_caption`."""
    return has_keys(content, "pre_image", "post_image", "change_caption")


def entries(content: list[dict], split: str | None, warnings: Warnings) -> list[Entry]:
    """An entry for each pair. split: of the pairs that name none."""
    return grouped([_row(number, item, split, warnings) for number, item in enumerate(content)])


def _row(number: int, item: dict, split: str | None, warnings: Warnings) -> Row:
    before, after, caption = (item.get(key) for key in ("pre_image", "post_image", "change_caption"))
    split = item.get("split") or split or split_in_path(before)
    if split is None:
        warnings.add(NO_SPLIT, str(before))
    return Row(
        place=f"[{number}]",
        files=(before, after, None, None),
        captions=[caption] if caption else [],
        split=split or "train",
        changeflag=item.get("changeflag"),
        source=item.get("source"),
    )
