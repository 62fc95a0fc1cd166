"""Facts of an evaluation against the given maps."""

from types import SimpleNamespace

import numpy as np
import pytest

from data.palette import SECOND
from tools.engine.true_maps import OTHER_CLASSES, VOID_MAPS, add_map_scores

BUILDING, TREE = SECOND.labels.index("building"), SECOND.labels.index("tree")


def pair(before: int, after: int, palette=SECOND) -> tuple[SimpleNamespace, int]:
    """A pair whose maps have one class at each date."""
    maps = SECOND.paint(np.array([before, after])[:, None, None].repeat(8, 1).repeat(8, 2))
    views = np.concatenate([np.zeros_like(maps), maps])
    return SimpleNamespace(maps=SimpleNamespace(palette=palette), views=lambda row: views), 0


def entry(caption: str, reference: str, changed: bool = True) -> dict:
    return {"caption": caption, "references": [reference], "changed": changed}


ENTRIES = [
    entry("a house replaces trees", "a house is built"),
    entry("a house is built", "trees are removed"),
    entry("no change", "nothing has changed", changed=False),
]


def scores_of(pairs: list, setting: str = "english") -> dict:
    floor = {"changed": {"caption": "trees appear"}, "all": {"caption": "no change"}}
    scores = {"floor": floor, "reasons": {}}
    add_map_scores(scores, ENTRIES, pairs, setting)
    return scores


def test_persons_model_and_floor_are_checked_against_the_maps():
    scores = scores_of([pair(TREE, BUILDING), pair(BUILDING, TREE), pair(0, 0)])
    assert scores["reasons"] == {}
    changed = scores["maps"]["changed"]
    assert changed["ours"]["precision"] == pytest.approx(100 * 2 / 3)  # the second pair has no new house
    assert changed["human"]["precision"] == 50
    assert changed["floor"]["precision"] == 50  # trees appear in the second pair only
    assert scores["maps"]["all"]["floor"]["precision"] is None
    assert [scores["maps"][part]["ours"]["captions"] for part in ("all", "changed")] == [3, 2]


def test_without_maps_or_facts_the_reason_is_given():
    void = scores_of([pair(0, 0)] * 3)
    assert (void["maps"], void["reasons"]) == (None, {"maps": VOID_MAPS})
    other = SECOND.__class__((*SECOND.names[:-1], "harbour"), SECOND.colours)
    assert scores_of([pair(TREE, BUILDING, other)] * 3)["reasons"] == {"maps": OTHER_CLASSES}
    none = scores_of([pair(TREE, BUILDING)] * 3, "none")
    assert "data.facts is none" in none["reasons"]["maps"]
