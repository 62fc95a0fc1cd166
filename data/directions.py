"""Mirrors and quarter turns of a pair, with the direction words of its captions rewritten.

Directions are numbered clockwise: 0 top, 1 right, 2 bottom, 3 left.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

# Words for top, right, bottom, left in a row are a style; None where a style has no word. Styles in one tuple
# mean the same. "vertical", "horizontal" and "under" are turned only as far as they stay true: people write
# "vertical roads" for crossing ones too.
MEANINGS = (
    (
        ("top", "right", "bottom", "left"),
        ("upper", "right", "lower", "left"),
        ("higher", "right", "lower", "left"),
    ),
    (("north", "east", "south", "west"),),
    (("above", None, "below", None),),
    (("vertical", None, "vertical", None), ("vertically", None, "vertically", None)),
    (("horizontal", None, "horizontal", None), ("horizontally", None, "horizontally", None)),
    ((None, None, "under", None), (None, None, "underneath", None)),
)
# Behind these words "left" is a direction, whatever follows it.
PLACING = ("the", "its", "upper", "lower", "higher", "top", "bottom", "middle")
NOT_PLACED = "".join(f"(?<!{word} )" for word in PLACING)
NO_DIRECTION = (
    r"right[ -]angle\w*|on top of(?! the (?:scene|image|picture))|under construction"
    r"|(?:is|are|was|were|be|been|being|ha[sd]|have|having|spaces?|nothing) left(?! of)"  # the verb "leave"
    rf"|{NOT_PLACED}left (?:an?|the|only|some|nothing|behind)"
    r"|higher(?! (?:left|right|middle|part|area|corner|side|half|edge|section))"  # a comparison
    r"|(?<!the )(?<!and )(?<!middle )right (?:next|beside|behind|before|after|along)"
)
SUFFIXES = r"ern|most|ernmost|ward|wards|-hand"
# After a quarter turn "on the left" has become "on the top": what people write instead.
WORDINGS = (
    (r"\bon the top side\b(?! of)", "in the upper part"),
    (r"\bon the bottom side\b(?! of)", "in the lower part"),
    (r"\bin the (left|right) part\b", r"on the \1 side"),
    (r"\bon the (top|bottom)\b(?! side|[ -](left|right))", r"at the \1"),
    (r"\b(?:at|on) (left|right)\b(?![ -](top|bottom|upper|lower))", r"on the \1"),
    (r"\bat the (left|right)\b(?![ -](top|bottom|upper|lower))", r"on the \1"),
)
UNSAYABLE = "<unsayable>"  # stands in no vocabulary


class Turn(NamedTuple):
    """One of the eight ways to lay a square: mirrored left to right or not, then turned clockwise."""

    mirrored: bool
    quarters: int

    def direction(self, old: int) -> int:
        """Where a direction comes to lie."""
        return ((-old if self.mirrored else old) + self.quarters) % 4


def turn_views(views: np.ndarray, turn: Turn) -> np.ndarray:
    """Views (..., H, W) turned; W and H change places where the quarters are odd."""
    mirrored = views[..., ::-1] if turn.mirrored else views
    return np.ascontiguousarray(np.rot90(mirrored, -turn.quarters, axes=(-2, -1)))


def turn_caption(caption: str, turn: Turn, known: Callable[[str], bool]) -> str | None:
    """A caption, words joined by blanks, as it reads for the turned pair.

    Of synonyms the first whose words are `known` is taken; None where there is none.
    """
    turned = caption
    for pattern, styles in PATTERNS:
        turned = pattern.sub(lambda found, styles=styles: _turned(found, styles, turn, known), turned)
    if turn.quarters % 2:
        turned = _reworded(turned, known)
    return None if UNSAYABLE in turned else turned


def _pattern(styles: tuple) -> re.Pattern:
    """A direction word of these styles, or two of them as in "upper left", "lower-right", "northeast"."""
    word = "|".join(sorted({word for style in styles for word in style if word}, key=len, reverse=True))
    pair = rf"(?P<first>{word})(?:(?P<joint>[ -]?)(?P<second>{word}))?"
    return re.compile(rf"\b(?:{NO_DIRECTION})\b|(?<![\w-]){pair}(?P<suffix>{SUFFIXES})?(?![\w-])")


PATTERNS = [(_pattern(styles), styles) for styles in MEANINGS]


def _turned(found: re.Match, styles: tuple, turn: Turn, known: Callable[[str], bool]) -> str:
    """What takes the place of a match: the first wording whose words are known.

    Two words change places with their axes, so that "upper left" becomes "upper right", not "right upper".
    """
    words = [word for word in (found["first"], found["second"]) if word]
    if not words:
        return found[0]
    own_first = sorted(styles, key=lambda style: not set(words) <= set(style))
    places = [next(style.index(word) for style in styles if word in style) for word in words]
    places = [turn.direction(place) for place in places][:: -1 if turn.quarters % 2 else 1]
    for style in own_first:
        for joint in dict.fromkeys((found["joint"] or "", " ")):
            new = [style[place] or UNSAYABLE for place in places]
            wording = joint.join(new) + (found["suffix"] or "")
            if wording == found[0] or all(known(word) for word in wording.split(" ")):
                return wording
    return UNSAYABLE


def _reworded(caption: str, known: Callable[[str], bool]) -> str:
    """The customary wordings, where their words are known."""
    for pattern, wording in WORDINGS:
        changed = re.sub(pattern, wording, caption)
        if all(known(word) for word in set(changed.split(" ")) - set(caption.split(" "))):
            caption = changed
    return caption
