"""Captions of the demo's truth agree with its maps, and every injected error is named."""

from dataclasses import replace

import numpy as np
import pytest

from data.palette import SECOND
from data.synthetic import paint_scene
from data.synthetic.captions import Change, describe
from tools.scoring.map_facts import LEAST_AREA, CheckedCaption, MapFacts, map_scores, transitions

NAMES = list(SECOND.labels)
VOID, GRASS, GROUND, TREE, WATER, BUILDING, PLAYGROUND = range(len(SECOND.labels))
ALL = (tuple(range(1, len(SECOND.labels))),) * 2
SCENES = 12
CLASS_OF_USE = {"meadow": GRASS, "bareland": GROUND, "lake": WATER, "forest": TREE, "parking": GROUND}
CLASS_OF_USE |= {"residential": BUILDING, "hall": BUILDING, "playground": PLAYGROUND}


@pytest.fixture(scope="module")
def scenes() -> list[tuple[list[Change], np.ndarray]]:
    """The changes of some scenes of the demo, with their transitions."""
    drawn = []
    for seed in range(SCENES):
        before, after, changes = paint_scene(True, np.random.default_rng(seed))
        drawn.append((changes, transitions(before.classes, after.classes)))
    return drawn


@pytest.fixture(scope="module")
def checker() -> MapFacts:
    return MapFacts(ALL)


def captions(changes: list[Change]) -> list[str]:
    return describe(changes, np.random.default_rng(7))


def check_all(checker: MapFacts, scenes: list, change_captions) -> list[CheckedCaption]:
    return [
        checker.check(caption, areas) for changes, areas in scenes for caption in change_captions(changes)
    ]


def test_captions_of_the_truth_have_precision_and_recall_100(checker, scenes):
    scores = map_scores(check_all(checker, scenes, captions))
    assert scores["captions"] == 5 * SCENES
    assert (scores["precision"], scores["recall"], scores["unchecked"]) == (100, 100, 0)
    for name in ("precision_by_class", "recall_of_gains", "recall_of_losses"):
        assert set(scores[name].values()) == {100.0}
    assert {"building", "tree", "bareland"} <= scores["precision_by_class"].keys()


def test_a_reversed_change_is_named(checker, scenes):
    def turned(changes: list[Change]) -> list[str]:
        return captions([replace(change, before=change.after, after=change.before) for change in changes])

    for changes, areas in scenes:
        for caption in turned(changes):
            checked = checker.check(caption, areas)
            wrong = [error for error in checked.errors if error.endswith("which the maps do not show")]
            assert len(wrong) == list(checked.right.values()).count(False)
            if len(changes) == 1:  # of two changes, one may bring what the other removes
                assert not any(checked.right.values())
                assert any(error.endswith("is not mentioned") for error in checked.errors)
            assert wrong


def test_an_exchanged_class_is_named(checker, scenes):
    for changes, areas in scenes:
        gained = areas.sum(0)
        other = "lake" if gained[WATER] == 0 else "playground"
        for caption in captions([replace(changes[0], after=other), *changes[1:]]):
            errors = checker.check(caption, areas).errors
            label = "water" if other == "lake" else other
            assert any(error.startswith(f"{label} appears") for error in errors), caption


def test_an_invented_change_is_named(checker, scenes):
    for changes, areas in scenes:
        lost = areas.sum(1)
        before, label = ("lake", "water") if lost[WATER] == 0 else ("playground", "playground")
        for caption in captions([*changes, Change(before, "meadow", "top", None)]):
            errors = checker.check(caption, areas).errors
            assert f"{label} disappears, which the maps do not show" in errors, caption


def test_an_omitted_change_is_named(checker, scenes):
    for changes, areas in scenes:
        checked = checker.check("there is no difference", areas)
        assert len(checked.errors) == np.count_nonzero(areas >= LEAST_AREA)
        assert checked.explained_gain.sum() == 0
        for change in changes:
            name = NAMES[CLASS_OF_USE[change.before]]
            assert any(f"the change from {name} to" in error for error in checked.errors)


def test_areas_by_hand():
    before = np.array([[GRASS, GRASS, TREE, VOID]], np.uint8)
    after = np.array([[BUILDING, GRASS, BUILDING, VOID]], np.uint8)
    areas = transitions(before, after)
    assert areas[GRASS, BUILDING] == areas[TREE, BUILDING] == 0.25
    assert areas.sum() == 0.5


def test_scores_by_hand(checker):
    areas = np.zeros((7, 7))
    areas[TREE, BUILDING], areas[GRASS, GROUND] = 0.3, 0.1
    half = checker.check("trees are removed and a lake appears", areas)
    assert [(fact.label, right) for fact, right in half.right.items()] == [("tree", True), ("water", False)]
    assert half.errors == (
        "water appears, which the maps do not show",
        f"the change from low vegetation to {NAMES[GROUND]} (10.0 % of the image) is not mentioned",
    )
    whole = checker.check("houses replace trees and a road is built on the grass", areas)
    assert whole.errors == ()
    scores = map_scores([half, whole])
    assert scores["precision"] == pytest.approx(100 * 5 / 6)
    assert scores["recall"] == pytest.approx(100 * (0.3 + 0.4) / 0.8)
    assert scores["precision_by_class"] == {
        "building": 100, "grass": 100, "road": 100, "tree": 100, "water": 0
    }  # fmt: skip
    assert scores["recall_of_gains"] == pytest.approx({"building": 100, NAMES[GROUND]: 50})
    assert scores["recall_of_losses"] == pytest.approx({"tree": 100, NAMES[GRASS]: 50})


def test_a_wrong_replacement_is_named_though_both_classes_change(checker):
    areas = np.zeros((7, 7))
    areas[TREE, BUILDING] = areas[GRASS, WATER] = 0.2
    checked = checker.check("the trees are replaced by a lake and houses are built on the grass", areas)
    assert checked.errors[0] == "water appears in place of tree, which the maps do not show"


def test_drawing_noise_is_no_change(checker):
    areas = np.zeros((7, 7))
    areas[TREE, BUILDING] = LEAST_AREA / 2
    checked = checker.check("houses are built", areas)
    assert list(checked.right.values()) == [False]
    assert checker.check("there is no difference", areas).errors == ()


def test_maps_of_the_second_date_check_what_they_can_show():
    levir = MapFacts(((), (GROUND, BUILDING)))
    areas = np.zeros((7, 7))
    areas[VOID, BUILDING] = 0.2
    checked = levir.check("trees are removed and a house and a lake are built", areas)
    assert [(fact.label, right) for fact, right in checked.right.items()] == [("building", True)]
    assert [fact.label for fact in checked.unchecked] == ["tree", "water"]
    assert levir.check("houses replace the trees", areas).errors == ()
    assert levir.check("roads are built", areas).errors[0] == "road appears, which the maps do not show"


def test_nothing_stated_and_nothing_changed_has_no_value(checker):
    scores = map_scores([checker.check("no change has occurred", np.zeros((7, 7)))])
    assert scores["precision"] is None
    assert scores["recall"] is None
