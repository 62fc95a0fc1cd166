"""The probability that a pair has changed, from a captioning model.

Teacher forcing gives the model's probability of each no-change sentence. Their sum is the probability of no
change, the rest that of a change. Its log-odds are divided by a temperature, which is fitted on the
validation pairs (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017).
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from data.errors import UserError
from data.vocabulary import Vocabulary

ROUNDING = 1e-6  # of the sum of probabilities in float32
LARGEST = 5.0  # absolute logarithm of a temperature


def encode_sentences(sentences: Sequence[str], vocabulary: Vocabulary, max_length: int) -> Tensor:
    """The tokens (K, T) of sentences, `<start>` and `<end>` included.

    UserError names the words that the vocabulary lacks, and a sentence with more than `max_length` words.
    """
    words_of = [sentence.split() for sentence in sentences]
    if unknown := dict.fromkeys(word for words in words_of for word in words if word not in vocabulary):
        raise UserError(
            f"a sentence must have words that the model knows, unknown: {', '.join(unknown)}: use words of "
            "the checkpoint's vocabulary"
        )
    longest = max(map(len, words_of), default=0)
    if longest > max_length:
        raise UserError(
            f"a sentence must have at most {max_length} words, as the model's captions, got {longest}: "
            "shorten it"
        )
    tokens = [vocabulary.encode(words, longest) for words in words_of]
    return torch.tensor(tokens, dtype=torch.long).reshape(len(sentences), longest + 2)


def can_be_said(sentence: str, vocabulary: Vocabulary, max_length: int) -> bool:
    """Whether a model can give a sentence: known words, joined by single spaces, and at most max_length."""
    words = sentence.split()
    known = all(word in vocabulary for word in words)
    return known and len(words) <= max_length and sentence == " ".join(words)


def change_log_odds(log_probs: Tensor) -> list[float]:
    """The log-odds of a change for each pair; log_probs (P, K): of the K no-change sentences."""
    unchanged = log_probs.double().logsumexp(dim=-1)
    changed = (1 - unchanged.exp()).clamp(min=ROUNDING).log()
    return (changed - unchanged).tolist()


def change_probability(log_odds: float, temperature: float | None) -> float:
    """The probability of a change; without a temperature it is not calibrated."""
    return (1 + math.tanh(log_odds / (temperature or 1.0) / 2)) / 2  # the logistic function


def fit_temperature(log_odds: Sequence[float], changed: Sequence[bool]) -> float | None:
    """The most probable temperature given some pairs; None without changed or without unchanged pairs.

    It minimises the sum of the pairs' cross-entropies and (log temperature)^2 / 2, a prior that keeps it near
    1 where the pairs tell little, as where the log-odds separate them without a mistake.
    """
    from scipy.optimize import minimize_scalar  # only here, as captioning starts faster without it

    signs = np.where(np.asarray(changed, bool), 1.0, -1.0)
    if not len(signs) or abs(signs.sum()) == len(signs):
        return None
    margins = signs * np.asarray(log_odds, float)

    def cost(log_temperature: float) -> float:
        return log_temperature**2 / 2 + float(np.logaddexp(0, -margins * np.exp(-log_temperature)).sum())

    fitted = minimize_scalar(cost, bounds=(-LARGEST, LARGEST), method="bounded", options={"xatol": 1e-8})
    return float(np.exp(fitted.x))
