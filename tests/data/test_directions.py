"""Turned pairs and the direction words of their captions."""

import gzip
import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.directions import Turn, turn_caption, turn_views
from data.synthetic.captions import PLACES

MIRROR, UPSIDE_DOWN = Turn(True, 0), Turn(True, 2)
QUARTER, HALF = Turn(False, 1), Turn(False, 2)
TURNS = [Turn(mirrored, quarters) for mirrored in (False, True) for quarters in range(4)]
STYLES = {"top": "at the top", "bottom": "at the bottom", "left": "on the left", "right": "on the right side"}
COMPOUNDS = ["upper left", "lower-right", "bottom left", "topright", "left bottom", "north-east", "southwest"]


def anything(word: str) -> bool:
    return True


def turned(caption: str, turn: Turn, known=anything) -> str | None:
    return turn_caption(caption, turn, known)


@pytest.mark.parametrize(
    ("caption", "turn", "expected"),
    [
        ("a house on the left", MIRROR, "a house on the right"),
        ("a house on the left", UPSIDE_DOWN, "a house on the left"),
        ("a house on the left", QUARTER, "a house at the top"),
        ("a house at the top", QUARTER, "a house on the right"),
        ("trees on the left side are gone", QUARTER, "trees in the upper part are gone"),
        ("trees in the lower part", QUARTER, "trees on the left side"),
        ("in the upper left corner", QUARTER, "in the upper right corner"),
        ("in the upper right corner", QUARTER, "in the lower right corner"),
        ("at the left bottom corner", QUARTER, "at the left top corner"),
        ("on the top left", QUARTER, "on the top right"),
        ("top left and bottom right", UPSIDE_DOWN, "bottom left and top right"),
        ("the lower-left", HALF, "the upper-right"),
        ("a topleft corner", MIRROR, "a topright corner"),
        ("the northeastern part", QUARTER, "the southeastern part"),
        ("north and east", Turn(False, 3), "west and north"),
        ("the leftmost and southern house", HALF, "the rightmost and northern house"),
        ("the road above", UPSIDE_DOWN, "the road below"),
        ("two vertical roads", HALF, "two vertical roads"),
        ("built on top of the scene", HALF, "built on bottom of the scene"),
        ("on the left side of the road", QUARTER, "on the top side of the road"),
        ("right next to the road on the right", MIRROR, "right next to the road on the left"),
        ("at a right angle", MIRROR, "at a right angle"),
        ("built on top of the grass", UPSIDE_DOWN, "built on top of the grass"),
        ("some bright stops are left", MIRROR, "some bright stops are left"),
        ("on the right near a road", MIRROR, "on the left near a road"),
        ("many cars have left the parking lot", MIRROR, "many cars have left the parking lot"),
        ("many cars left the lot on the left", MIRROR, "many cars left the lot on the right"),
        ("with an open space left", HALF, "with an open space left"),
        ("trees are gone and left an open space", MIRROR, "trees are gone and left an open space"),
        ("on the left the road is wider", MIRROR, "on the right the road is wider"),
        ("in the upper left a house appears", MIRROR, "in the upper right a house appears"),
        ("a house left of the road", MIRROR, "a house right of the road"),
        ("in the higher left corner", HALF, "in the lower right corner"),
        ("in the higher left corner", QUARTER, "in the higher right corner"),
        ("in the higher area", HALF, "in the lower area"),
        ("a higher building appears", HALF, "a higher building appears"),
        ("a house at top of the scene", QUARTER, "a house on the right of the scene"),
        ("houses on top of the scene", Turn(False, 3), "houses on the left of the scene"),
        ("a house on top", QUARTER, "a house on the right"),
    ],
)
def test_direction_words_are_turned(caption, turn, expected):
    assert turned(caption, turn) == expected


@pytest.mark.parametrize("caption", ["the road above", "two vertical roads", "a horizontal road"])
def test_caption_without_a_turned_word_is_none(caption):
    assert turned(caption, QUARTER) is None
    assert turned(caption, MIRROR) == caption


def test_known_synonyms_are_used():
    words = {"upper", "lower", "left", "right", "lower-left"}
    assert turned("on the left", QUARTER, words.__contains__) == "on the upper"
    assert turned("the lower-left", UPSIDE_DOWN, words.__contains__) == "the upper left"
    assert turned("the top", HALF, words.__contains__) == "the lower"
    assert turned("the left", QUARTER, {"left", "right"}.__contains__) is None


def described(words: list[str]) -> str:
    return " and ".join(f"a house {STYLES.get(word, f'in the {word} corner')}" for word in words)


@given(st.lists(st.sampled_from([*STYLES, *COMPOUNDS]), max_size=4), st.sampled_from(TURNS))
def test_turns_undo_each_other(words, turn):
    caption = described(words)
    around = caption
    for _ in range(4):
        around = turned(around, QUARTER)
    assert around == caption
    assert turned(turned(caption, MIRROR), MIRROR) == caption
    both = turned(turned(caption, Turn(turn.mirrored, 0)), Turn(False, turn.quarters % 2))
    assert both == turned(caption, Turn(turn.mirrored, turn.quarters % 2))


@pytest.mark.parametrize("turn", TURNS)
def test_images_and_words_turn_alike(turn):
    """A turned mark is at the position that the turned words name."""
    spots = {"top": (0, 1), "right": (1, 2), "bottom": (2, 1), "left": (1, 0), "top left": (0, 0)}
    spots |= {"top right": (0, 2), "bottom left": (2, 0), "bottom right": (2, 2)}
    message = {sentence: spots[index] for index in spots for sentence in PLACES[index]}
    for sentence, spot in message.items():
        views = np.zeros((4, 3, 3, 3), dtype=np.uint8)
        views[:, :, *spot] = 255
        row, column = np.argwhere(turn_views(views, turn)[0, 0])[0].tolist()
        assert message[turned(sentence, turn)] == (row, column)


@pytest.mark.real
def test_real_captions(real_data):
    """Nearly all captions can be turned, and turning them back gives the original."""
    images = json.loads(gzip.decompress((real_data / "levir_cc_captions.json.gz").read_bytes()))["images"]
    captions = [" ".join(sentence["tokens"]) for image in images[::5] for sentence in image["sentences"]]
    known = {word for caption in captions for word in caption.split(" ")}.__contains__
    directed = sorted({caption for caption in captions if turned(caption, HALF) != caption})
    assert len(directed) > 1000
    for turn in TURNS:
        message = [turned(caption, turn, known) for caption in directed]
        assert sum(caption is None for caption in message) < 0.1 * len(directed)
    for turn in (MIRROR, UPSIDE_DOWN, HALF):
        for caption in directed:
            there = turned(caption, turn)
            if there is not None:
                again = turned(there, turn).replace("higher", "upper")  # the two mean the same
                assert again == caption.replace("higher", "upper")


VERB = re.compile(r"\b(?:has|have|had|space) left\b|\bscene left an\b")
WITHOUT_ARTICLE = re.compile(r"\b(?:at|on) (?:left|right)\b")


@pytest.mark.real
def test_no_real_caption_gets_a_wrong_direction(real_data):
    """All 50,385 captions: the verb "leave" is kept, "higher" is a direction, "at left of" does not occur."""
    images = json.loads(gzip.decompress((real_data / "levir_cc_captions.json.gz").read_bytes()))["images"]
    captions = [" ".join(sentence["tokens"]) for image in images for sentence in image["sentences"]]
    known = {word for caption in captions for word in caption.split(" ")}.__contains__
    assert len(captions) == 50_385
    assert sum(bool(VERB.search(caption)) for caption in captions) == 9
    for caption in sorted(set(captions)):
        for turn in TURNS[1:]:
            message = turned(caption, turn, known) or ""
            assert not message or VERB.findall(message) == VERB.findall(caption)
            assert WITHOUT_ARTICLE.search(caption) or not WITHOUT_ARTICLE.search(message)
        if "higher left" in caption or "higher right" in caption:
            message = turned(caption, HALF, known)
            assert message.count("lower right") >= caption.count("higher left")
            assert message.count("lower left") >= caption.count("higher right")
