"""Fact scores: whether a caption says the right class and the right direction of change.

BLEU, METEOR, ROUGE-L and CIDEr compare words: a caption with "built" and "removed" exchanged keeps most of
its score. Here a caption is read as facts, (class, appears or disappears), by the word lists in
configs/facts/, and its facts are compared with those of the references. No model and no Java is needed.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tools.scoring.fact_reader import OPPOSITE, Fact, FactReader
from tools.scoring.metric import Metric, Segment, rows_of_distinct


@dataclass(frozen=True)
class CheckedFacts:
    """What the references say of a caption's facts, see `Facts`.

    right: each stated fact -> whether it is right. needed, found: the (class, change) that count for recall.
    """

    right: dict[Fact, bool]
    needed: Collection[tuple[str, str]]
    found: Collection[tuple[str, str]]
    contradicts: bool
    wrong_number: bool
    wrong_place: bool


class Facts(Metric):
    """Precision, recall and F1 of the facts of a corpus, and the shares of captions with a failure.

    Precision: the share of the stated facts that are right, that is, a reference of the pair states them.
    Recall: the share of the facts that at least two references state (where there are none, of all their
    facts) that the caption states rightly. A fact is wrong, too, if its number or place is: references give
    it one, and none gives the same. A general class such as vegetation agrees with those that it includes.
    F0.5 weights precision more than F1 does: people leave out facts, and state wrong ones rarely.

    Contradiction: the share of captions with a fact whose opposite is stated by every reference that names
    the class, or that decide on "no change" against all references.
    """

    name = "facts"
    titles: ClassVar = {
        "fact_f1": "fact F1",
        "fact_f05": "fact F0.5",
        "fact_precision": "fact precision",
        "fact_recall": "fact recall",
        "fact_contradiction": "contradiction",
        "fact_none": "no fact",
        "fact_number": "wrong number",
        "fact_place": "wrong place",
    }
    optional = True

    def __init__(self, reader: FactReader | None = None) -> None:
        self.reader = reader or FactReader()

    def rows(self, segments: Sequence[Segment]) -> np.ndarray:
        """(n, 8): facts stated, and of these right; facts needed, and of these found; then 1 for a caption
        that contradicts, has no fact, has a wrong number, has a wrong place."""
        return rows_of_distinct(self._row, segments)

    @classmethod
    def scores(cls, sums: np.ndarray, pairs: int | np.ndarray) -> dict[str, np.ndarray]:
        stated, right, needed, found, *failures = np.moveaxis(sums, -1, 0)
        precision = _share(right, stated, np.where(needed > 0, 0.0, 1.0))
        recall = _share(found, needed, 1.0)
        means = [_f_measure(precision, recall, beta) for beta in (1, 0.5)]
        shares = [failure / pairs for failure in failures]
        return dict(zip(cls.titles, (*means, precision, recall, *shares), strict=True))

    def coverage(self, captions: Collection[str]) -> float:
        """The share of captions in which a fact is read; 0 without captions."""
        return sum(bool(self.reader.facts(caption)) for caption in captions) / max(len(captions), 1)

    def check(self, segment: Segment) -> CheckedFacts:
        """The facts of a caption, each right or wrong by the references."""
        caption, references = segment
        facts = self.reader.facts(caption)
        of_references = [self.reader.facts(reference) for reference in references]
        stated = Counter(key for facts_of_one in of_references for key in self._agreeing(facts_of_one))
        supported = [fact for fact in facts if stated[fact.label, fact.change]]
        wrong = {fact: self._wrong_details(fact, of_references) for fact in supported}
        right = {fact: fact in wrong and not any(wrong[fact]) for fact in facts}
        needed = self._needed(of_references, stated)
        return CheckedFacts(
            right=right,
            needed=needed,
            found=needed & self._agreeing([fact for fact in facts if right[fact]]),
            contradicts=self._opposed(facts, stated) or self._wrong_decision(caption, references),
            wrong_number=any(number for number, _ in wrong.values()),
            wrong_place=any(place for _, place in wrong.values()),
        )

    def _row(self, segment: Segment) -> list[float]:
        checked = self.check(segment)
        counts = [len(checked.right), sum(checked.right.values()), len(checked.needed), len(checked.found)]
        return [*counts, checked.contradicts, not checked.right, checked.wrong_number, checked.wrong_place]

    def _agreeing(self, facts: Sequence[Fact]) -> set[tuple[str, str]]:
        """The (class, change) that the facts state, with those of agreeing classes."""
        agreeing = self.reader.words.agreeing
        return {(label, fact.change) for fact in facts for label in agreeing[fact.label]}

    @staticmethod
    def _needed(of_references: Sequence[Sequence[Fact]], stated: Counter) -> set[tuple[str, str]]:
        """The facts that two references state, else all that one states."""
        named = {(fact.label, fact.change) for facts in of_references for fact in facts}
        return {key for key in named if stated[key] >= 2} or named

    @staticmethod
    def _opposed(facts: Sequence[Fact], stated: Counter) -> bool:
        """Whether the references state only the opposite of a fact."""
        return any(
            not stated[fact.label, fact.change] and stated[fact.label, OPPOSITE[fact.change]] > 0
            for fact in facts
        )

    def _wrong_decision(self, caption: str, references: Sequence[str]) -> bool:
        """Whether the caption says "no change" and every reference a change, or the other way round."""
        if self.reader.facts(caption):
            return all(self.reader.says_unchanged(reference) for reference in references)
        changes = all(self.reader.facts(reference) for reference in references)
        return changes and self.reader.says_unchanged(caption)

    def _wrong_details(self, fact: Fact, of_references: Sequence[Sequence[Fact]]) -> tuple[bool, bool]:
        """Whether a fact has a number, a place that no reference gives it though some give one.

        Places agree if they share a word: "top left" and "left".
        """
        classes = self.reader.words.agreeing[fact.label]
        same = [
            other
            for facts in of_references
            for other in facts
            if other.change == fact.change and other.label in classes
        ]
        numbers = {other.number for other in same if other.number is not None}
        places = {word for other in same if other.place for word in other.place.split()}
        wrong_number = fact.number is not None and bool(numbers) and fact.number not in numbers
        wrong_place = bool(fact.place and places) and places.isdisjoint(fact.place.split())
        return wrong_number, wrong_place


def _f_measure(precision: np.ndarray, recall: np.ndarray, beta: float) -> np.ndarray:
    """The weighted harmonic mean of van Rijsbergen (1979)."""
    return _share((1 + beta**2) * precision * recall, beta**2 * precision + recall, 0.0)


def _share(part: np.ndarray, whole: np.ndarray, empty: float | np.ndarray) -> np.ndarray:
    """part / whole, `empty` where the whole is 0."""
    result = np.array(np.broadcast_to(empty, np.shape(whole)), float)
    return np.divide(part, whole, out=result, where=whole != 0)
