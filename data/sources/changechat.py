"""The JSON lists of ChangeChat-105k, and of its caption test.

    {"id", "image": [before, after], "changeflag", "conversations": [{"from", "value"}]}
    {"image_A", "image_B", "captions": [...], "changeflag"}

A conversation gives a caption if its first question asks to describe the changes; the others count roads and
buildings, locate changes, and so on, and are not used. A pair's split is `split`, else it follows from the
name of the captions file or from a folder of its paths (`train/A/train_000001.png`).
"""

import re
from reprlib import repr as shortened
from typing import Any

from data.errors import UserError
from data.sources.entries import Entry
from data.sources.listed_pairs import Row, grouped, has_keys, split_in_path
from data.sources.pair import Warnings

TITLE = "ChangeChat's JSON"
OTHER_QUESTIONS = (
    "conversations whose first question does not ask to describe the changes, which are not used",
    "check that they are no captions",
)
ASKS_TO_DESCRIBE = re.compile(r"\b(describe|description|caption)", re.IGNORECASE)


def recognises(content: Any) -> bool:
    """Whether a file has one of the two forms."""
    conversations = has_keys(content, "image", "conversations")
    return conversations or has_keys(content, "image_A", "image_B", "captions")


def entries(content: list[dict], split: str | None, warnings: Warnings) -> list[Entry]:
    """An entry for each pair that has captions. split: of the pairs that name none."""
    rows = []
    for number, item in enumerate(content):
        place = f"[{number}]"
        if "conversations" in item:
            captions = _described(place, item["conversations"], warnings)
            images = _two_images(place, item.get("image"))
        else:
            captions = _list_of_captions(place, item.get("captions"))
            images = item.get("image_A"), item.get("image_B")
        if captions is not None:
            named = item.get("split") or split or split_in_path(images[0])
            rows.append(Row(place, (*images, None, None), captions, named, item.get("changeflag")))
    if not rows:
        raise UserError(
            "at least one first question must ask to describe the changes, none does: give captions"
        )
    return grouped(rows)


def _two_images(place: str, images: Any) -> tuple[Any, Any]:
    if not isinstance(images, list) or len(images) != 2:
        raise UserError(f"{place}: `image` must list the paths of two images, got {shortened(images)}")
    return tuple(images)


def _list_of_captions(place: str, captions: Any) -> list:
    if not isinstance(captions, list):
        raise UserError(f"{place}: `captions` must be a list of sentences, got {shortened(captions)}")
    return captions


def _described(place: str, turns: Any, warnings: Warnings) -> list[str] | None:
    """The answer to the first question if that asks to describe the changes, else None."""
    try:
        question, answer = turns[0]["value"], turns[1]["value"]
    except (TypeError, KeyError, IndexError):
        question = answer = None
    if not isinstance(question, str) or not isinstance(answer, str):
        raise UserError(
            f"{place}: `conversations` must begin with a question and its answer, each with `from` and "
            f"`value`, got {shortened(turns)}"
        )
    if ASKS_TO_DESCRIBE.search(question):
        return [answer]
    warnings.add(OTHER_QUESTIONS, f"{place} {question.replace('<image>', '').strip()}")
    return None
