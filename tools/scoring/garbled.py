"""Garbled captions, as a broken decoder writes them.

They count as describing a change, so a broken decoder misses few changes: reports give the share of garbled
captions beside the accuracy of the change decision.
"""

from collections.abc import Collection, Sequence
from itertools import pairwise


def find_garbled(
    captions: Sequence[str], no_change: Sequence[str], training_captions: Sequence[str]
) -> list[bool]:
    """For each caption whether it is garbled: neither a no-change sentence nor like the training captions."""
    known = set()
    for caption in training_captions:
        known.update(_word_pairs(caption))
    return [caption not in no_change and is_garbled(caption, known) for caption in captions]


def is_garbled(caption: str, known: Collection[tuple[str, str]]) -> bool:
    """Whether a caption is empty or at least half of its pairs of adjacent words are not in `known`.

    known: the pairs of adjacent words of the training captions. The beginning and the end of a caption count
    as words.
    """
    pairs = _word_pairs(caption)
    return not caption.split() or 2 * sum(pair not in known for pair in pairs) >= len(pairs)


def _word_pairs(caption: str) -> list[tuple[str, str]]:
    return list(pairwise(["<start>", *caption.split(), "<end>"]))
