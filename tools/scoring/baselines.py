"""The best constant caption: the one that scores best when it is the caption of every pair.

BLEU-4, ROUGE-L and CIDEr of all candidates are computed at once, from n-gram counts and bit-parallel
longest common subsequences (`constant_scores`). METEOR needs a request for each candidate and pair, so it
decides only among the candidates that can still win (`best_constants`).
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from pycocoevalcap.cider.cider_scorer import precook

from data.splits import Reader
from tools.scoring.bleu import bleu_score
from tools.scoring.meteor import Meteor, MeteorError, meteor_score

ORDERS = 4  # n-grams of 1 to 4 words
SIGMA = 6.0  # CIDEr's: of the Gaussian over the difference in length
BETA = 1.2  # ROUGE-L's
BLOCK = 1024  # candidates whose longest common subsequences are found together
REFERENCES_AT_ONCE = 1024

SEGMENTS = 10_000  # captions that METEOR scores, at most, to compare all candidates: 8 s of an idle core
SHORTLIST = 64  # otherwise: candidates that METEOR compares, at least, on a sample of the pairs
FINALISTS = 4  # and of these on all pairs

References = tuple[str, ...]
Item = TypeVar("Item")
Part = Mapping[References, int]  # references -> number of pairs that have them


@dataclass(frozen=True)
class TrainingCaptions:
    """All distinct captions of a training split, and the best constant of each part of it.

    best: part ("all", "changed", "unchanged") -> caption; lacks a part without pairs. source: where they are
    from.
    """

    captions: Sequence[str]
    best: Mapping[str, str]
    source: str

    def best_of(self, part: str) -> str:
        """The floor's caption; that of all pairs where training has no pairs of the part."""
        return self.best.get(part, self.best["all"])


def training_captions(reader: Reader, rows: Sequence[int], meteor: Meteor) -> TrainingCaptions:
    """What the floors are chosen from: the captions of the training pairs in use."""
    references = [tuple(reader.references[row]) for row in rows]
    captions = list(dict.fromkeys(caption for own in references for caption in own))
    parts = split_parts(references, [bool(reader.changed[row]) for row in rows])
    return TrainingCaptions(captions, best_constants(parts, captions, meteor), str(reader.path))


def split_parts(items: Sequence[Item], changed: Sequence[bool]) -> dict[str, list[Item]]:
    """The items of each part: all, changed, unchanged."""
    flagged = list(zip(items, changed, strict=True))
    return {
        "all": list(items),
        "changed": [item for item, flag in flagged if flag],
        "unchanged": [item for item, flag in flagged if not flag],
    }


def best_constants(
    parts: Mapping[str, Sequence[References]],
    candidates: Sequence[str],
    meteor: Meteor,
    segments: int = SEGMENTS,
) -> dict[str, str]:
    """Part -> the candidate with the best S*m as the caption of every pair of the part, the first of several.

    parts: the references of each pair; a part without pairs is left out. Without METEOR the other metrics
    decide.

    A candidate cannot win if its other metrics fall behind the best by more than a perfect METEOR. If METEOR
    can score all that remain with at most `segments` requests, the result is exact. Otherwise it scores the
    SHORTLIST that is best by the other metrics on evenly spaced pairs, and the FINALISTS of these on all.
    On LEVIR-CC's changed test pairs, METEOR of the 1,000 best candidates lies below 28, the winner's is 25,
    and the other metrics of the 64th add up to 16 less than the winner's.
    """
    counted = {part: Counter(references) for part, references in parts.items() if references}
    if not candidates or not counted:
        return {}
    scores = constant_scores(list(counted.values()), candidates)
    return {
        part: candidates[_winner(own, candidates, sum(scores_of_part.values()), meteor, segments)]
        for (part, own), scores_of_part in zip(counted.items(), scores, strict=True)
    }


def _winner(part: Part, candidates: Sequence[str], fast: np.ndarray, meteor: Meteor, segments: int) -> int:
    """The place of the best candidate; fast (candidates,): the sum of its metrics but METEOR."""
    order = np.argsort(-fast, kind="stable")
    try:
        best = fast[order[0]] + _meteor(part, candidates[order[0]], meteor)
        order = order[fast[order] + 100 >= best]
        if len(order) > segments // len(part):
            order = order[: max(segments // len(part), SHORTLIST)]
            step = math.ceil(len(part) * len(order) / segments)
            sample = dict(list(part.items())[::step])
            totals = np.array([fast[place] + _meteor(sample, candidates[place], meteor) for place in order])
            finalists = order[np.argsort(-totals, kind="stable")[:FINALISTS]]
            order = np.union1d(order[:1], finalists)  # the best without METEOR is always compared
        order = np.sort(order)
        totals = np.array([fast[place] + _meteor(part, candidates[place], meteor) for place in order])
    except MeteorError:
        order, totals = np.arange(len(fast)), fast
    return int(order[totals >= totals.max() - 1e-9][0])  # smaller differences are rounding errors


def _meteor(part: Part, caption: str, meteor: Meteor) -> float:
    """METEOR of a caption for every pair of the part."""
    rows = meteor.rows([(caption, references) for references in part])
    return 100 * meteor_score(np.array(list(part.values())) @ rows)


def constant_scores(parts: Sequence[Part], candidates: Sequence[str]) -> list[dict[str, np.ndarray]]:
    """bleu_4, rouge_l and, where it has a value, cider of each candidate as the caption of every pair.

    One dict for each part, (candidates,) each, times 100, equal to what metrics.py finds but for rounding.
    """
    sets = list(dict.fromkeys(references for part in parts for references in part))
    counts = np.array([[part.get(references, 0) for references in sets] for part in parts], float)
    texts = list(dict.fromkeys(text for references in sets for text in references))
    place = {text: number for number, text in enumerate(texts)}
    own_texts = [[place[text] for text in references] for references in sets]
    grams: dict[tuple[str, ...], int] = {}
    of_texts, of_candidates = _ngrams(texts, grams), _ngrams(candidates, grams)
    most = _largest_counts(of_texts, own_texts)
    rouge = _rouge_l(candidates, texts, own_texts, counts)
    found = []
    for row, weights in enumerate(counts):
        pairs = weights.sum()
        scores = {"bleu_4": _bleu_4(of_candidates, of_texts.words, own_texts, most, weights)}
        scores["rouge_l"] = rouge[row]
        containing = np.bincount(most.gram, weights[most.text], minlength=len(grams))  # pairs with an n-gram
        if ((containing > 0) & (containing < pairs)).any():
            idf = np.log(pairs) - np.log(np.maximum(containing, 1))
            shares = np.zeros(len(texts))  # of a text in the mean over pairs and over their references
            for own, weight in zip(own_texts, weights, strict=True):
                np.add.at(shares, own, weight / len(own) / pairs)
            scores["cider"] = _cider(of_candidates, of_texts, idf, shares)
        found.append({metric: 100 * values for metric, values in scores.items()})
    return found


@dataclass(frozen=True)
class _Ngrams:
    """Entry i: n-gram gram[i] occurs count[i] times in text[i]. words (texts,): their numbers of words."""

    text: np.ndarray
    gram: np.ndarray
    count: np.ndarray
    order: np.ndarray
    words: np.ndarray

    def bigrams(self) -> np.ndarray:
        """(texts,) what pycocoevalcap's CIDEr takes for the length of a text."""
        return np.maximum(self.words - 1, 0)


def _ngrams(texts: Sequence[str], grams: dict[tuple[str, ...], int]) -> _Ngrams:
    """The n-grams of texts; `grams` numbers them, new ones are added."""
    rows = []
    for number, text in enumerate(texts):
        for gram, count in precook(text, ORDERS).items():
            rows.append((number, grams.setdefault(gram, len(grams)), count, len(gram)))
    columns = np.array(rows, np.int64).reshape(-1, 4).T
    return _Ngrams(*columns, words=np.array([len(text.split()) for text in texts]))


def _largest_counts(of_texts: _Ngrams, own_texts: Sequence[Sequence[int]]) -> _Ngrams:
    """For each list of texts the n-grams of all, each with its largest count in one text."""
    first = np.searchsorted(of_texts.text, np.arange(len(of_texts.words) + 1))
    owners, entries = [], []
    for owner, own in enumerate(own_texts):
        for text in own:
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
    own_texts: Sequence[Sequence[int]],
    most: _Ngrams,
    counts: np.ndarray,
) -> np.ndarray:
    """BLEU-4 (0..1) of each candidate.

    words: of each text. own_texts: the texts of each set of references, most: the largest counts of its
    n-grams, counts: the pairs that have it.
    """
    pairs = counts.sum()
    sums = np.zeros((len(candidates.words), 10))
    sums[:, 0] = pairs * candidates.words
    lengths = Counter()
    for own, count in zip(own_texts, counts, strict=True):
        lengths[tuple(sorted({int(words[text]) for text in own}))] += count
    closest = {
        length: sum(n * min(own, key=lambda w: (abs(w - length), w)) for own, n in lengths.items())
        for length in set(candidates.words.tolist())
    }
    sums[:, 1] = [closest[length] for length in candidates.words.tolist()]
    for order in range(1, ORDERS + 1):
        sums[:, 1 + order] = pairs * np.maximum(candidates.words - order + 1, 0)
    matched = np.zeros(len(candidates.gram))  # over all pairs, of each n-gram of a candidate
    size = 1 + max(candidates.gram.max(initial=0), most.gram.max(initial=0))
    for count in range(1, int(candidates.count.max(initial=0)) + 1):
        enough = most.count >= count
        with_so_many = np.bincount(most.gram[enough], counts[most.text[enough]], minlength=size)
        matched += np.where(candidates.count >= count, with_so_many[candidates.gram], 0)
    for order in range(1, ORDERS + 1):
        chosen = candidates.order == order
        sums[:, 5 + order] = np.bincount(
            candidates.text[chosen], matched[chosen], minlength=len(candidates.words)
        )
    return bleu_score(sums)[3]


def _cider(candidates: _Ngrams, texts: _Ngrams, idf: np.ndarray, text_shares: np.ndarray) -> np.ndarray:
    """CIDEr (0..10) of each candidate. idf: of each n-gram. text_shares: weights of the texts."""
    inverse_norms = [_inverse_norms(own, idf) for own in (candidates, texts)]
    shares = text_shares[texts.text] * inverse_norms[1][texts.text, texts.order - 1] * idf[texts.gram] ** 2
    lengths, text_lengths = candidates.bigrams(), texts.bigrams()
    found = np.zeros(len(lengths))
    groups = np.unique(np.stack([candidates.count, lengths[candidates.text]]), axis=1).T
    for count, length in groups.tolist():
        alike = np.exp(-((length - text_lengths) ** 2) / (2 * SIGMA**2))
        values = shares * np.minimum(count, texts.count) * texts.count * alike[texts.text]
        products = np.bincount(texts.gram, values, minlength=len(idf))  # with one occurrence in a candidate
        chosen = (candidates.count == count) & (lengths[candidates.text] == length)
        text, order = candidates.text[chosen], candidates.order[chosen]
        similar = products[candidates.gram[chosen]] * inverse_norms[0][text, order - 1]
        found += np.bincount(text, similar, minlength=len(found))
    return 10 * found / ORDERS


def _inverse_norms(own: _Ngrams, idf: np.ndarray) -> np.ndarray:
    """(texts, ORDERS): 1 over the length of the vector of weighted n-grams of each order; 1 where it is 0."""
    squares = np.zeros((len(own.words), ORDERS))
    np.add.at(squares, (own.text, own.order - 1), (own.count * idf[own.gram]) ** 2)
    return 1 / np.sqrt(np.where(squares == 0, 1, squares))


def _rouge_l(
    candidates: Sequence[str],
    texts: Sequence[str],
    own_texts: Sequence[Sequence[int]],
    counts: np.ndarray,
) -> np.ndarray:
    """(parts, candidates) ROUGE-L (0..1): mean F-measure of the largest precision and recall of a pair.

    counts (parts, sets): the pairs of each part whose references are own_texts[set].
    """
    words = np.array([len(text.split(" ")) for text in texts], np.float32)[:, None]
    longest = max(len(own) for own in own_texts)
    own = np.array([[*texts_of, *texts_of[:1] * (longest - len(texts_of))] for texts_of in own_texts])
    step = max(1, REFERENCES_AT_ONCE // longest)
    found = []
    for first in range(0, len(candidates), BLOCK):
        block = [candidate.split(" ") for candidate in candidates[first : first + BLOCK]]
        common = _common_subsequences(block, texts)  # (texts, block)
        sizes = np.array([len(candidate) for candidate in block])
        total = np.zeros((len(counts), len(block)))
        for start in range(0, len(own), step):
            some = own[start : start + step]  # (sets, longest)
            precision = common[some].max(axis=1) / sizes
            recall = (common[some] / words[some]).max(axis=1).astype(float)
            down = recall + BETA**2 * precision
            measure = (1 + BETA**2) * precision * recall / np.where(down == 0, 1, down)
            total += counts[:, start : start + step] @ measure
        found.append(total / counts.sum(axis=1, keepdims=True))
    return np.concatenate(found, axis=1)


def _common_subsequences(block: Sequence[Sequence[str]], texts: Sequence[str]) -> np.ndarray:
    """(texts, block) uint16: words of the longest common subsequence of each text and each candidate.

    Bit-parallel (Crochemore et al., 2001): the state of a candidate has one bit for each of its words, all 1
    at first; each 0 adds one word to the common subsequence with the part of the text that was read. Texts in
    alphabetical order share the states of their common beginnings.
    """
    limbs = 1 + (max(len(candidate) for candidate in block) - 1) // 64
    masks: dict[str, np.ndarray] = {}  # word -> where it stands in each candidate (limbs, block)
    for column, candidate in enumerate(block):
        for bit, word in enumerate(candidate):
            mask = masks.setdefault(word, np.zeros((limbs, len(block)), np.uint64))
            mask[bit // 64, column] |= np.uint64(1) << np.uint64(bit % 64)
    common = np.zeros((len(texts), len(block)), np.uint16)
    states = [np.full((limbs, len(block)), ~np.uint64(0))]
    before: list[str] = []
    for number in sorted(range(len(texts)), key=lambda number: texts[number].split(" ")):
        words = texts[number].split(" ")
        shared = sum(1 for _ in _while_equal(words, before))
        del states[shared + 1 :]
        for word in words[shared:]:
            mask = masks.get(word)
            states.append(states[-1] if mask is None else _after(states[-1], mask))
        common[number] = np.bitwise_count(~states[-1]).sum(axis=0)
        before = words
    return common


def _while_equal(one: Sequence[str], other: Sequence[str]) -> Iterator[str]:
    for left, right in zip(one, other, strict=False):
        if left != right:
            return
        yield left


def _after(state: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The state (limbs, block) after a word that stands where `mask` has ones."""
    matching = state & mask
    total = state + matching
    if len(state) > 1:  # the sum is that of one long number: carry over from limb to limb
        for limb in range(1, len(state)):
            carry = (total[limb - 1] < state[limb - 1]).astype(np.uint64)
            carry |= (total[limb - 1] == state[limb - 1]) & (matching[limb - 1] != 0)
            total[limb] = state[limb] + matching[limb] + carry
    return total | (state & ~mask)
