"""Mirror images and quarter turns of a pair, with the direction words of its captions rewritten.

Example: a quarter turn clockwise moves what was at the top to the right. `turn_caption` turns

    "a house is built on the left side, north of the road"
    "a house is built in the upper part, east of the road"

in three steps. Each direction word is looked up in MEANINGS, which gives its direction (left: 3, north: 0).
`Turn.direction` turns the direction (3 -> 0, 0 -> 1), and the same row of MEANINGS gives the new word (top,
east). PHRASES replaces what nobody writes: "on the top side" becomes "in the upper part".

Directions are numbered clockwise: 0 top, 1 right, 2 bottom, 3 left.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

# Each row holds the words for top, right, bottom, left; None where it has no word. Rows in one tuple are
# synonyms. "vertical", "horizontal" and "under" can be turned only in some ways: "vertical roads" may also
# mean crossing roads.
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
# After these words "left" is a direction, whatever follows it.
DIRECTION_FOLLOWS = ("the", "its", "upper", "lower", "higher", "top", "bottom", "middle")
NOT_AFTER_THESE = "".join(f"(?<!{word} )" for word in DIRECTION_FOLLOWS)
NO_DIRECTION = (
    r"right[ -]angle\w*|on top of(?! the (?:scene|image|picture))|under construction"
    r"|(?:is|are|was|were|be|been|being|ha[sd]|have|having|spaces?|nothing) left(?! of)"  # the verb "leave"
    rf"|{NOT_AFTER_THESE}left (?:an?|the|only|some|nothing|behind)"
    r"|higher(?! (?:left|right|middle|part|area|corner|side|half|edge|section))"  # a comparison
    r"|(?<!the )(?<!and )(?<!middle )right (?:next|beside|behind|before|after|along)"
)
SUFFIXES = r"ern|most|ernmost|ward|wards|-hand"
# Phrases that a quarter turn produces but nobody writes, such as "on the top", and their replacements.
PHRASES = (
    (r"\bon the top side\b(?! of)", "in the upper part"),
    (r"\bon the bottom side\b(?! of)", "in the lower part"),
    (r"\bin the (left|right) part\b", r"on the \1 side"),
    (r"\bon the (top|bottom)\b(?! side|[ -](left|right))", r"at the \1"),
    (r"\b(?:at|on) (left|right)\b(?![ -](top|bottom|upper|lower))", r"on the \1"),
    (r"\bat the (left|right)\b(?![ -](top|bottom|upper|lower))", r"on the \1"),
)
NO_WORD = "<no word>"  # marks a direction without a known word; not in any vocabulary


class Turn(NamedTuple):
    """One of the eight symmetries of a square: an optional left-right mirroring, then clockwise quarters."""

    mirrored: bool
    quarters: int

    def direction(self, old: int) -> int:
        """The direction that `old` becomes after the turn."""
        mirrored = -old if self.mirrored else old
        return (mirrored + self.quarters) % 4


def turn_views(views: np.ndarray, turn: Turn) -> np.ndarray:
    """Turn views (..., H, W); an odd number of quarters swaps H and W."""
    mirrored = views[..., ::-1] if turn.mirrored else views
    return np.ascontiguousarray(np.rot90(mirrored, -turn.quarters, axes=(-2, -1)))


def turn_caption(caption: str, turn: Turn, known: Callable[[str], bool]) -> str | None:
    """The caption, words joined by spaces, that describes the turned pair.

    Among synonyms, the first whose words are all `known` is used. None if there is none.
    """
    turned = caption
    for pattern, rows in PATTERNS:

        def replacement(match: re.Match, rows: tuple = rows) -> str:
            return _turned_words(match, rows, turn, known)

        turned = pattern.sub(replacement, turned)
    if turn.quarters % 2:
        turned = _usual_phrases(turned, known)
    return None if NO_WORD in turned else turned


def _pattern(rows: tuple) -> re.Pattern:
    """Matches a direction word of these rows, or two as in "upper left", "lower-right", "northeast"."""
    words = {word for row in rows for word in row if word}
    word = "|".join(sorted(words, key=len, reverse=True))
    pair = rf"(?P<first>{word})(?:(?P<joint>[ -]?)(?P<second>{word}))?"
    return re.compile(rf"\b(?:{NO_DIRECTION})\b|(?<![\w-]){pair}(?P<suffix>{SUFFIXES})?(?![\w-])")


PATTERNS = [(_pattern(rows), rows) for rows in MEANINGS]


def _turned_words(match: re.Match, rows: tuple, turn: Turn, known: Callable[[str], bool]) -> str:
    """The words that replace a match: the first candidate whose words are all known, else NO_WORD.

    A quarter turn reverses the order of two words, so that "upper left" becomes "upper right" and not
    "right upper".
    """
    words = [word for word in (match["first"], match["second"]) if word]
    if not words:  # NO_DIRECTION
        return match[0]
    directions = [turn.direction(_direction_of(word, rows)) for word in words]
    if turn.quarters % 2:
        directions.reverse()
    same_row_first = sorted(rows, key=lambda row: not set(words) <= set(row))
    joints = dict.fromkeys((match["joint"] or "", " "))
    for row in same_row_first:
        new_words = [row[direction] or NO_WORD for direction in directions]
        for joint in joints:
            candidate = joint.join(new_words) + (match["suffix"] or "")
            if candidate == match[0] or all(known(word) for word in candidate.split(" ")):
                return candidate
    return NO_WORD


def _direction_of(word: str, rows: tuple) -> int:
    return next(row.index(word) for row in rows if word in row)


def _usual_phrases(caption: str, known: Callable[[str], bool]) -> str:
    """Apply the PHRASES whose new words are known."""
    for pattern, phrase in PHRASES:
        changed = re.sub(pattern, phrase, caption)
        new_words = set(changed.split(" ")) - set(caption.split(" "))
        if all(known(word) for word in new_words):
            caption = changed
    return caption
