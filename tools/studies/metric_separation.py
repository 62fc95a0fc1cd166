"""How well metrics separate persons' captions from captions with an error, and rank whole systems."""

import random
import time
from collections.abc import Mapping, Sequence

import numpy as np

from data.errors import UserError
from tools.scoring.baselines import best_constants
from tools.scoring.bootstrap import interval, resampling_counts
from tools.scoring.fact_reader import FactReader
from tools.scoring.facts import Facts
from tools.scoring.meteor import Meteor
from tools.scoring.metric import Metric, Segment
from tools.scoring.metrics import AVERAGED, FACT_TITLES, METRIC_TITLES, measure, scores_from_sums
from tools.scoring.own_pair import OwnPair
from tools.studies.caption_errors import ERRORS, Captioned, ErrorMaker

WORD_SCORES = AVERAGED
FACT_SCORES = (*Facts.titles, "own_pair")
LOWER_IS_BETTER = {"fact_contradiction", "fact_none", "fact_number", "fact_place"}
TITLES = {name: (METRIC_TITLES | FACT_TITLES)[name] for name in (*WORD_SCORES, *FACT_SCORES)}
ALL_ERRORS = "all errors"
HUMAN, CONSTANT = "a person", "best constant"
SYSTEM_ERRORS = ("direction reversed", "other pair's caption", '"no change"')  # that make whole systems


def choose_captions(references: Sequence[Sequence[str]], seed: int) -> list[Captioned]:
    """For each pair one caption, drawn at random, with the others as its references.

    Pairs with a single caption are left out.
    """
    draw, chosen = random.Random(seed), []
    for captions in references:
        if len(captions) > 1:
            place = draw.randrange(len(captions))
            chosen.append(Captioned(captions[place], (*captions[:place], *captions[place + 1 :])))
    return chosen


class MetricComparison:
    """Scores the captions of a data set and their erroneous versions with every metric.

    pairs: (n) persons' captions with their references. errors: kind -> the n erroneous captions, None where
    there is none. seconds: the time that each metric took so far, by name.
    """

    def __init__(self, pairs: Sequence[Captioned], maker: ErrorMaker, meteor: Meteor, resamples: int) -> None:
        self.pairs, self.meteor = pairs, meteor
        self.metrics = {"facts": Facts(FactReader(maker.words)), "own_pair": OwnPair()}
        self.errors = {kind: maker.captions(kind) for kind in ERRORS}
        self.counts = resampling_counts(len(pairs), resamples, seed=0)
        self.seconds = {"meteor": 0.0, **dict.fromkeys(self.metrics, 0.0)}
        self.captions_timed = 0
        self._rows: dict[tuple[str, ...], dict[str, np.ndarray]] = {}

    def separation(self) -> dict[str, dict]:
        """Error -> {"n": captions, "auc": {score: interval}, "preferred": {score: interval}}.

        auc: the probability that a random person's caption scores better than a random erroneous one, ties
        count half. preferred: the share of erroneous captions that score worse than the person's caption of
        the same pair. An error compares the pairs in which it could be made; the last entry, ALL_ERRORS,
        compares all pairs with the erroneous captions of every kind.
        """
        human = self._pair_scores([pair.caption for pair in self.pairs])
        everyone = np.arange(len(self.pairs))
        result, members, erroneous = {}, [], []
        for kind, captions in self.errors.items():
            made = np.flatnonzero([caption is not None for caption in captions])
            if not len(made):
                result[kind] = {"n": 0, "reason": "no caption has words for this error"}
                continue
            scores = self._pair_scores(self._filled(captions))
            members.append(made)
            erroneous.append({score: values[made] for score, values in scores.items()})
            result[kind] = self._compare(human, made, erroneous[-1], made)
        pooled = {}
        for score in TITLES:
            pooled[score] = np.concatenate([scores[score] for scores in erroneous])
        result[ALL_ERRORS] = self._compare(human, everyone, pooled, np.concatenate(members))
        return result

    def _compare(
        self,
        human: Mapping[str, np.ndarray],
        persons: np.ndarray,
        erroneous: Mapping[str, np.ndarray],
        members: np.ndarray,
    ) -> dict:
        """An entry of `separation`: the captions of the pairs `persons` against erroneous ones.

        human: score -> (n,) of all persons' captions. erroneous: score -> (m,) of the erroneous captions,
        which belong to the pairs `members` (m,).
        """
        entry = {"n": len(members), "auc": {}, "preferred": {}}
        of_persons, of_errors = self.counts[:, persons], self.counts[:, members]
        for score in TITLES:
            better = _better(human[score][persons][:, None], erroneous[score])
            wins = np.einsum("rm,rm->r", of_persons.astype(np.float32) @ better, of_errors)
            own_wins = of_errors @ _better(human[score][members], erroneous[score])
            entry["auc"][score] = interval(_share(wins, of_persons.sum(1) * of_errors.sum(1)))
            entry["preferred"][score] = interval(_share(own_wins, of_errors.sum(1)))
        return entry

    def systems(self) -> dict[str, dict]:
        """System -> its caption if it is a constant, and its corpus scores as intervals."""
        references = [pair.references for pair in self.pairs]
        candidates = list(dict.fromkeys(pair.caption for pair in self.pairs))
        constant = best_constants({"changed": references}, candidates, self.meteor)["changed"]
        said = {HUMAN: [pair.caption for pair in self.pairs], CONSTANT: [constant] * len(self.pairs)}
        said |= {kind: self._filled(self.errors[kind]) for kind in self.errors if kind in SYSTEM_ERRORS}
        result = {}
        for name, captions in said.items():
            scores = self._corpus_scores(captions)
            result[name] = {"caption": constant} if name == CONSTANT else {}
            result[name]["scores"] = {score: interval(scores[score]) for score in (*TITLES, "s_m")}
        return result

    def _filled(self, captions: Sequence[str | None]) -> list[str]:
        """The erroneous captions, with the person's where no error could be made."""
        return [
            pair.caption if caption is None else caption
            for pair, caption in zip(self.pairs, captions, strict=True)
        ]

    def _measure(self, captions: Sequence[str]) -> dict[str, np.ndarray]:
        """Metric -> its rows (n, numbers). Each list of captions is measured once."""
        key = tuple(captions)
        if key not in self._rows:
            segments: list[Segment] = [
                (caption, pair.references) for caption, pair in zip(captions, self.pairs, strict=True)
            ]
            self._timed("meteor", self.meteor, segments)
            measured = measure(segments, self.meteor)
            if measured.left_out:
                why = " and ".join(f"{name}: {reason}" for name, reason in measured.left_out.items())
                raise UserError(
                    f"metrics can be compared only where all have a value ({why}): give more pairs"
                )
            self._rows[key] = measured.rows | {
                name: self._timed(name, metric, segments) for name, metric in self.metrics.items()
            }
            self.captions_timed += len(segments)
        return self._rows[key]

    def _timed(self, name: str, metric: Metric, segments: Sequence[Segment]) -> np.ndarray:
        start = time.perf_counter()
        rows = metric.rows(segments)
        self.seconds[name] += time.perf_counter() - start
        return rows

    def _pair_scores(self, captions: Sequence[str]) -> dict[str, np.ndarray]:
        """Score -> (n,) of each caption alone, higher is better."""
        scores = self._scores(self._measure(captions), 1)
        return {score: -values if score in LOWER_IS_BETTER else values for score, values in scores.items()}

    def _corpus_scores(self, captions: Sequence[str]) -> dict[str, np.ndarray]:
        """Score -> (1 + resamples,) of the corpus and its resamples."""
        sums = {name: self.counts @ rows for name, rows in self._measure(captions).items()}
        scores = self._scores(sums, self.counts.sum(-1))
        return scores | {"s_m": np.mean([scores[score] for score in AVERAGED], axis=0)}

    def _scores(self, sums: Mapping[str, np.ndarray], pairs: int | np.ndarray) -> dict[str, np.ndarray]:
        scores = scores_from_sums(sums, pairs)
        return {score: scores[score] for score in TITLES}


def _better(human: np.ndarray, erroneous: np.ndarray) -> np.ndarray:
    """1 where a person's score is higher, 0.5 where both are equal but for rounding."""
    difference = human - erroneous
    return np.where(np.abs(difference) < 1e-9, 0.5, difference > 0).astype(np.float32)


def _share(wins: np.ndarray, comparisons: np.ndarray) -> np.ndarray:
    """wins / comparisons, NaN in resamples without a comparison."""
    return np.divide(wins, comparisons, out=np.full(len(wins), np.nan), where=comparisons > 0)
