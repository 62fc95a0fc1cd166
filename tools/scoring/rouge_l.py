"""ROUGE-L (Lin, 2004) as pycocoevalcap 1.2 computes it."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from pycocoevalcap.rouge.rouge import Rouge

from tools.scoring.metric import Metric, Segment, rows_of_distinct


class RougeL(Metric):
    """ROUGE-L with beta 1.2, the mean over pairs."""

    name = "rouge_l"
    titles: ClassVar = {"rouge_l": "ROUGE-L"}
    averaged = ("rouge_l",)

    def rows(self, segments: Sequence[Segment]) -> np.ndarray:
        """(n, 1) ROUGE-L (0..1) of each pair."""
        rouge = Rouge()
        return rows_of_distinct(lambda segment: [rouge.calc_score([segment[0]], segment[1])], segments)
