"""Facts against maps: whether the true maps of both dates show what a caption says.

References are what people noticed; maps are what is there. Where true maps exist, each stated fact is looked
up in the pair's transitions: the area of every (class before, class after).
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from data.palette import SECOND, MapClasses
from tools.scoring.fact_reader import Fact, FactReader

LEAST_AREA = 0.0005  # of the image: 33 of 256 x 256 pixels, a small house; a smaller transition is noise
NAMES = SECOND.labels
BEFORE, AFTER = 0, 1


@dataclass(frozen=True)
class CheckedCaption:
    """What the maps say of a caption.

    right: each fact that the maps can show -> whether they do. unchecked: the other facts. gained, lost:
    (classes,) changed area by the class after and before, as a share of the image; explained_gain,
    explained_loss: the part of it where a fact says that the class after appears or the class before
    disappears. errors: each wrong fact and each unexplained transition, in words.
    """

    right: dict[Fact, bool]
    unchecked: tuple[Fact, ...]
    gained: np.ndarray
    lost: np.ndarray
    explained_gain: np.ndarray
    explained_loss: np.ndarray
    errors: tuple[str, ...]


def transitions(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """(classes, classes) share of the image that was class i and is class j; 0 where i is j.

    before, after: class indices (H, W) of data/palette.py.
    """
    pairs = before.astype(np.int64) * len(NAMES) + after
    areas = np.bincount(pairs.ravel(), minlength=len(NAMES) ** 2).reshape(len(NAMES), -1) / before.size
    np.fill_diagonal(areas, 0)
    return areas


class MapFacts:
    """Checks captions against transitions.

    known: the class indices that the data set's maps have at each date (`classes_by_date`). A fact about
    another class is not checked: LEVIR-MCI's maps show only buildings and roads, at the second date.
    """

    def __init__(self, known: MapClasses, reader: FactReader | None = None) -> None:
        self.known, self.reader = known, reader or FactReader()
        self.indices = {}
        for label, described in self.reader.words.classes.items():
            self.indices[label] = [NAMES.index(name) for name in described.map_classes]

    def check(self, caption: str, areas: np.ndarray) -> CheckedCaption:
        """Check a caption against the transitions (classes, classes) of its pair."""
        areas = np.where(areas >= LEAST_AREA, areas, 0)
        facts = self.reader.facts(caption)
        right = {fact: self._is_right(fact, areas) for fact in facts if self._can_be_checked(fact)}
        explained = np.zeros(areas.shape, bool)
        for fact in facts:
            date = AFTER if fact.change == "appears" else BEFORE
            np.moveaxis(explained, date, 0)[self.indices[fact.label]] = True
        unexplained = np.where(explained, 0, areas)
        return CheckedCaption(
            right=right,
            unchecked=tuple(fact for fact in facts if fact not in right),
            gained=areas.sum(axis=0),
            lost=areas.sum(axis=1),
            explained_gain=(areas - unexplained).sum(axis=0),
            explained_loss=(areas - unexplained).sum(axis=1),
            errors=(*_wrong_facts(right), *_omissions(unexplained)),
        )

    def _can_be_checked(self, fact: Fact) -> bool:
        known = self.known[AFTER if fact.change == "appears" else BEFORE]
        return not set(self.indices[fact.label]).isdisjoint(known)

    def _is_right(self, fact: Fact, areas: np.ndarray) -> bool:
        """Whether there is a transition that a fact is about, from the class that it replaces if said."""
        classes = self.indices[fact.label]
        others = [index for index in range(len(NAMES)) if index not in classes]
        if fact.change == "disappears":
            return bool(areas[np.ix_(classes, others)].any())
        replaced = {index for label in fact.replaces for index in self.indices[label]} & set(
            self.known[BEFORE]
        )
        return bool(areas[np.ix_(sorted(replaced) or others, classes)].any())


def _wrong_facts(right: dict[Fact, bool]) -> Iterator[str]:
    for fact, is_right in right.items():
        if not is_right:
            replaced = f" in place of {' and '.join(fact.replaces)}" if fact.replaces else ""
            yield f"{fact.label} {fact.change}{replaced}, which the maps do not show"


def _omissions(unexplained: np.ndarray) -> Iterator[str]:
    """The transitions (classes, classes) that no fact explains, the largest first."""
    for place in np.argsort(-unexplained, axis=None, kind="stable"):
        before, after = np.unravel_index(place, unexplained.shape)
        if not unexplained[before, after]:
            return
        share = f"{100 * unexplained[before, after]:.1f} % of the image"
        yield f"the change from {NAMES[before]} to {NAMES[after]} ({share}) is not mentioned"


def map_scores(checked: Iterable[CheckedCaption]) -> dict:
    """Precision and recall of a corpus, in per cent, None where nothing was stated or has changed.

    precision: of the checked facts, the share that the maps show, also by the class of the word lists.
    recall: of the changed area, the share that a fact explains, also by the map class that is gained or lost.
    unchecked: the number of facts about classes that the maps do not have.
    """
    checked = list(checked)
    flags = defaultdict(list)
    for caption in checked:
        for fact, is_right in caption.right.items():
            flags[fact.label].append(is_right)
    area = np.sum([[one.gained, one.lost] for one in checked], axis=0)
    explained = np.sum([[one.explained_gain, one.explained_loss] for one in checked], axis=0)
    return {
        "captions": len(checked),
        "precision": _percentage(sum(map(sum, flags.values())), sum(map(len, flags.values()))),
        "recall": _percentage(explained[0].sum(), area[0].sum()),
        "precision_by_class": {
            label: _percentage(sum(own), len(own)) for label, own in sorted(flags.items())
        },
        "recall_of_gains": _by_class(explained[0], area[0]),
        "recall_of_losses": _by_class(explained[1], area[1]),
        "unchecked": sum(len(one.unchecked) for one in checked),
    }


def _by_class(part: Sequence[float], whole: Sequence[float]) -> dict[str, float]:
    """Per cent by the name of each map class that has changed."""
    named = zip(NAMES, part, whole, strict=True)
    return {name: _percentage(own_part, own_whole) for name, own_part, own_whole in named if own_whole > 0}


def _percentage(part: float, whole: float) -> float | None:
    return 100 * float(part) / float(whole) if whole else None
