"""The registry of caption metrics, and the scores of a corpus by all of them.

REGISTRY has the metrics that compare words, FACT_METRICS those that look at facts (docs/metrics.md). Every
metric gives numbers for each pair that can be summed over any sample of the pairs. The scores of words equal
those of pycocoevalcap 1.2, on the words as they are: there is no tokeniser. Scores are times 100.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tools.scoring.bleu import Bleu
from tools.scoring.cider import Cider
from tools.scoring.facts import Facts
from tools.scoring.meteor import Meteor
from tools.scoring.metric import Metric, Segment
from tools.scoring.own_pair import OwnPair
from tools.scoring.rouge_l import RougeL
from tools.scoring.spice import Spice

REGISTRY: tuple[type[Metric], ...] = (Bleu, Meteor, RougeL, Cider, Spice)  # in the order of the tables
FACT_METRICS: tuple[type[Metric], ...] = (Facts, OwnPair)

METRIC_TITLES: dict[str, str] = {}  # score -> title; S*m is the mean of AVERAGED
OPTIONAL_TITLES: dict[str, str] = {}  # the scores of optional metrics, and the mean of S*m's scores with each
AVERAGED: tuple[str, ...] = ()
for _metric in REGISTRY:
    if _metric.optional:
        OPTIONAL_TITLES |= _metric.titles
        OPTIONAL_TITLES |= {f"s_m_{name}": f"S*m with {title}" for name, title in _metric.titles.items()}
    else:
        METRIC_TITLES |= _metric.titles
        AVERAGED += _metric.averaged
METRICS = tuple(METRIC_TITLES)
FACT_TITLES = {**Facts.titles, **OwnPair.titles}
METRIC_TITLES["s_m"] = "S*m"

Rows = dict[str, np.ndarray]  # name of a metric -> the numbers of each pair (pairs, numbers)
Scores = dict[str, np.ndarray]  # name of a score, s_m or s_m_<optional score> -> one score per corpus (...)


@dataclass(frozen=True)
class Measured:
    """The rows of a corpus, and the reasons why scores have no value.

    missing: scores whose metric failed. left_out: scores without a value for these references; S*m is the
    mean of the others.
    """

    rows: Rows
    missing: dict[str, str]
    left_out: dict[str, str]

    def averaged(self) -> tuple[str, ...]:
        """The scores that S*m averages."""
        return tuple(name for name in AVERAGED if name not in self.left_out)

    def scores(self, counts: np.ndarray, averaged: Sequence[str] | None = None) -> Scores:
        """Scores of the corpora with pair i counts[..., i] times: counts (..., pairs) -> (...) each.

        np.ones(pairs) gives the corpus itself. S*m, the mean of `averaged` (default: `self.averaged()`), has
        a value if all of them have; s_m_spice is the mean with SPICE. Resampled scores are exact, except
        CIDEr, which keeps the inverse document frequencies of the corpus itself.
        """
        sums = {name: counts @ rows for name, rows in self.rows.items()}
        scores = scores_from_sums(sums, pairs=counts.sum(-1))
        averaged = self.averaged() if averaged is None else averaged
        if any(name not in scores for name in averaged):
            return scores
        optional = [name for name in scores if name in OPTIONAL_TITLES]
        scores["s_m"] = np.mean([scores[name] for name in averaged], axis=0)
        for extra in optional:
            scores[f"s_m_{extra}"] = np.mean([scores[name] for name in (*averaged, extra)], axis=0)
        return scores

    def reasons(self, averaged: Sequence[str] | None = None) -> dict[str, str]:
        """Name of a score without a value -> the reason."""
        reasons = self.left_out | self.missing
        needed = self.averaged() if averaged is None else averaged
        if absent := [name for name in needed if name in reasons]:
            reasons["s_m"] = f"not without {' and '.join(absent)}"
        return reasons


def optional_metrics() -> list[Metric]:
    """New objects of the optional metrics."""
    return [metric() for metric in REGISTRY if metric.optional]


def measure(
    segments: Sequence[Segment],
    meteor: Meteor,
    *,
    meteor_segments: Sequence[Segment] | None = None,
    optional: Sequence[Metric] = (),
) -> Measured:
    """Run every metric on the segments (METEOR on `meteor_segments`), and the given `optional` ones.

    A metric that fails is missing; one without a value for these references is left out.
    """
    references = [texts for _, texts in segments]
    rows, missing, left_out = {}, {}, {}
    for metric in [*_standard_metrics(meteor), *optional]:
        if reason := metric.reason_to_leave_out(references):
            left_out |= dict.fromkeys(metric.titles, reason)
            continue
        try:
            given = meteor_segments if metric is meteor and meteor_segments else segments
            rows[metric.name] = metric.rows(given)
        except Exception as error:  # keep the results of the other metrics
            missing |= dict.fromkeys(metric.titles, f"{type(error).__name__}: {error}")
    return Measured(rows, missing, left_out)


def _standard_metrics(meteor: Meteor) -> list[Metric]:
    """The metrics of every report. METEOR is last, as Java works while the others are computed."""
    others = [metric() for metric in REGISTRY if not metric.optional and metric is not Meteor]
    return [*others, meteor]


def scores_from_sums(sums: Rows, pairs: int | np.ndarray = 1) -> Scores:
    """Scores of corpora of `pairs` pairs whose rows sum to sums[metric] (..., numbers) -> (...) each.

    A single row is a corpus of one pair: it gives the score of that pair.
    """
    scores = {}
    for metric in (*REGISTRY, *FACT_METRICS):
        if metric.name in sums:
            for name, score in metric.scores(sums[metric.name], pairs).items():
                scores[name] = 100 * score
    return scores
