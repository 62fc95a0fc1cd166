"""BLEU-4, ROUGE-L and CIDEr of many constant captions at once, from n-gram counts and common subsequences."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from pycocoevalcap.cider.cider_scorer import precook
from rapidfuzz.distance import LCSseq
from rapidfuzz.process import cdist

from tools.scoring.bleu import bleu_score

ORDERS = 4  # n-grams of 1 to 4 words
SIGMA = 6.0  # of CIDEr: the width of the Gaussian over the difference in length
BETA = 1.2  # of ROUGE-L
BLOCK = 1024  # candidates whose common subsequences are computed together, to limit memory
REFERENCES_AT_ONCE = 1024

References = tuple[str, ...]
Part = Mapping[References, int]  # references -> number of pairs that have them


def constant_scores(parts: Sequence[Part], candidates: Sequence[str]) -> list[dict[str, np.ndarray]]:
    """bleu_4, rouge_l and, where it has a value, cider of each candidate as the caption of every pair.

    One dict for each part, (candidates,) each, times 100; equal to those of metrics.py except for rounding.
    """
    sets, texts, set_texts = {}, {}, []
    for references in chain.from_iterable(parts):
        if references not in sets:
            sets[references] = len(sets)
            set_texts.append([texts.setdefault(text, len(texts)) for text in references])
    counts = np.zeros((len(parts), len(sets)))
    for row, part in zip(counts, parts, strict=True):
        row[[sets[references] for references in part]] = list(part.values())
    grams: dict[tuple[str, ...], int] = {}
    of_texts, of_candidates = _ngrams(list(texts), grams), _ngrams(candidates, grams)
    most = _largest_counts(of_texts, set_texts)
    rouge = _rouge_l(candidates, list(texts), set_texts, counts)
    scores = []
    for weights, rouge_of_part in zip(counts, rouge, strict=True):
        of_part = {
            "bleu_4": 100 * _bleu_4(of_candidates, of_texts.words, set_texts, most, weights),
            "rouge_l": 100 * rouge_of_part,
        }
        pairs = weights.sum()
        containing = np.bincount(most.gram, weights[most.text], minlength=len(grams))  # pairs with an n-gram
        if ((containing > 0) & (containing < pairs)).any():
            idf = np.log(pairs) - np.log(np.maximum(containing, 1))
            of_part["cider"] = 100 * _cider(of_candidates, of_texts, idf, _shares(set_texts, weights))
        scores.append(of_part)
    return scores


def _shares(set_texts: Sequence[Sequence[int]], weights: np.ndarray) -> np.ndarray:
    """(texts,) the weight of each text in the mean over pairs and over the references of each pair."""
    shares = np.zeros(1 + max(max(texts) for texts in set_texts))
    for texts, weight in zip(set_texts, weights, strict=True):
        np.add.at(shares, texts, weight / len(texts) / weights.sum())
    return shares


@dataclass(frozen=True)
class _Ngrams:
    """Entry i: n-gram gram[i], of order[i] words, occurs count[i] times in text[i].

    words (texts,): the number of words of each text.
    """

    text: np.ndarray
    gram: np.ndarray
    count: np.ndarray
    order: np.ndarray
    words: np.ndarray

    def bigrams(self) -> np.ndarray:
        """(texts,) the length of a text as the CIDEr of pycocoevalcap counts it."""
        return np.maximum(self.words - 1, 0)


def _ngrams(texts: Sequence[str], grams: dict[tuple[str, ...], int]) -> _Ngrams:
    """The n-grams of texts; `grams` numbers them, new ones are added."""
    rows = []
    for number, text in enumerate(texts):
        for gram, count in precook(text, ORDERS).items():
            rows.append((number, grams.setdefault(gram, len(grams)), count, len(gram)))
    columns = np.array(rows, np.int64).reshape(-1, 4).T
    return _Ngrams(*columns, words=np.array([len(text.split()) for text in texts]))


def _largest_counts(of_texts: _Ngrams, set_texts: Sequence[Sequence[int]]) -> _Ngrams:
    """For each set of texts the n-grams of all, each with its largest count in one text."""
    first = np.searchsorted(of_texts.text, np.arange(len(of_texts.words) + 1))
    owners, entries = [], []
    for owner, texts in enumerate(set_texts):
        for text in texts:
            entries.append(np.arange(first[text], first[text + 1]))
            owners.append(np.full(len(entries[-1]), owner))
    owner, entry = np.concatenate(owners), np.concatenate(entries)
    order = np.lexsort((-of_texts.count[entry], of_texts.gram[entry], owner))
    owner, entry = owner[order], entry[order]
    gram = of_texts.gram[entry]
    new = np.ones(len(entry), bool)
    new[1:] = (owner[1:] != owner[:-1]) | (gram[1:] != gram[:-1])
    return _Ngrams(
        owner[new], gram[new], of_texts.count[entry[new]], of_texts.order[entry[new]], of_texts.words
    )


def _bleu_4(
    candidates: _Ngrams,
    words: np.ndarray,
    set_texts: Sequence[Sequence[int]],
    most: _Ngrams,
    weights: np.ndarray,
) -> np.ndarray:
    """BLEU-4 (0..1) of each candidate.

    words (texts,): their numbers of words. set_texts: the texts of each set of references. most: the n-grams
    of each set with their largest counts. weights (sets,): number of pairs with that set.
    """
    pairs = weights.sum()
    sums = np.zeros((len(candidates.words), 10))  # the rows of tools/scoring/bleu.py
    sums[:, 0] = pairs * candidates.words
    sums[:, 1] = _closest_lengths(candidates.words, words, set_texts, weights)
    for order in range(1, ORDERS + 1):
        sums[:, 1 + order] = pairs * np.maximum(candidates.words - order + 1, 0)
    matched = np.zeros(len(candidates.gram))  # over all pairs, of each n-gram of a candidate
    size = 1 + max(candidates.gram.max(initial=0), most.gram.max(initial=0))
    for count in range(1, int(candidates.count.max(initial=0)) + 1):
        enough = most.count >= count
        with_count = np.bincount(most.gram[enough], weights[most.text[enough]], minlength=size)
        matched += np.where(candidates.count >= count, with_count[candidates.gram], 0)
    for order in range(1, ORDERS + 1):
        chosen = candidates.order == order
        sums[:, 5 + order] = np.bincount(
            candidates.text[chosen], matched[chosen], minlength=len(candidates.words)
        )
    return bleu_score(sums)[3]


def _closest_lengths(
    lengths: np.ndarray, words: np.ndarray, set_texts: Sequence[Sequence[int]], weights: np.ndarray
) -> np.ndarray:
    """(candidates,) the sum over all pairs of the reference length that is closest to the candidate's."""
    of_sets = Counter()
    for texts, weight in zip(set_texts, weights, strict=True):
        of_sets[tuple(np.unique(words[texts]).tolist())] += weight
    different, inverse = np.unique(lengths, return_inverse=True)
    closest = np.zeros(len(different))
    for options, weight in of_sets.items():  # argmin takes the shorter of two equally close lengths
        distances = np.abs(np.subtract.outer(different, options))
        closest += weight * np.array(options)[distances.argmin(axis=1)]
    return closest[inverse]


def _cider(candidates: _Ngrams, texts: _Ngrams, idf: np.ndarray, text_shares: np.ndarray) -> np.ndarray:
    """CIDEr (0..10) of each candidate. idf: of each n-gram. text_shares: weights of the texts."""
    candidate_norms, text_norms = _inverse_norms(candidates, idf), _inverse_norms(texts, idf)
    shares = text_shares[texts.text] * text_norms[texts.text, texts.order - 1] * idf[texts.gram] ** 2
    lengths, text_lengths = candidates.bigrams(), texts.bigrams()
    similarity = np.zeros(len(lengths))
    groups = np.unique(np.stack([candidates.count, lengths[candidates.text]]), axis=1).T
    for count, length in groups.tolist():
        penalty = np.exp(-((length - text_lengths) ** 2) / (2 * SIGMA**2))
        values = shares * np.minimum(count, texts.count) * texts.count * penalty[texts.text]
        products = np.bincount(texts.gram, values, minlength=len(idf))  # for one occurrence in a candidate
        chosen = (candidates.count == count) & (lengths[candidates.text] == length)
        text, order = candidates.text[chosen], candidates.order[chosen]
        similar = products[candidates.gram[chosen]] * candidate_norms[text, order - 1]
        similarity += np.bincount(text, similar, minlength=len(similarity))
    return 10 * similarity / ORDERS


def _inverse_norms(ngrams: _Ngrams, idf: np.ndarray) -> np.ndarray:
    """(texts, ORDERS): 1 / the norm of a text's weighted n-grams of each order; 1 where the norm is 0."""
    squares = np.zeros((len(ngrams.words), ORDERS))
    np.add.at(squares, (ngrams.text, ngrams.order - 1), (ngrams.count * idf[ngrams.gram]) ** 2)
    return 1 / np.sqrt(np.where(squares == 0, 1, squares))


def _rouge_l(
    candidates: Sequence[str], texts: Sequence[str], set_texts: Sequence[Sequence[int]], counts: np.ndarray
) -> np.ndarray:
    """(parts, candidates) ROUGE-L (0..1): mean F-measure of the largest precision and recall of a pair.

    counts (parts, sets): the number of pairs of each part whose references are set_texts[set].
    """
    characters: dict[str, str] = {}
    encoded_texts, encoded = (
        _one_character_words(texts, characters),
        _one_character_words(candidates, characters),
    )
    words = np.array([len(text) for text in encoded_texts], np.float32)[:, None]
    longest = max(len(members) for members in set_texts)
    members = np.array([[*row, *row[:1] * (longest - len(row))] for row in set_texts])  # (sets, longest)
    step = max(1, REFERENCES_AT_ONCE // longest)
    blocks = []
    for first in range(0, len(candidates), BLOCK):
        block = encoded[first : first + BLOCK]
        common = cdist(encoded_texts, block, scorer=LCSseq.similarity, dtype=np.uint16)  # (texts, block)
        sizes = np.array([len(candidate) for candidate in block])
        total = np.zeros((len(counts), len(block)))
        for start in range(0, len(members), step):
            some = members[start : start + step]
            precision = common[some].max(axis=1) / sizes
            recall = (common[some] / words[some]).max(axis=1).astype(float)
            denominator = recall + BETA**2 * precision
            measure = (1 + BETA**2) * precision * recall / np.where(denominator == 0, 1, denominator)
            total += counts[:, start : start + step] @ measure
        blocks.append(total / counts.sum(axis=1, keepdims=True))
    return np.concatenate(blocks, axis=1)


def _one_character_words(texts: Sequence[str], characters: dict[str, str]) -> list[str]:
    """Texts with one character for each word; `characters` assigns them, new ones are added."""
    encoded = []
    for text in texts:
        words = text.split(" ")
        encoded.append("".join([characters.setdefault(word, chr(1 + len(characters))) for word in words]))
    return encoded
