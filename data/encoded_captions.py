"""Encode the captions of pairs as token ids."""

from collections.abc import Sequence
from itertools import cycle, islice

from data.errors import UserError
from data.sources import SPLITS, Pair
from data.vocabulary import Vocabulary


def arrange(pairs: Sequence[Pair], max_length: int, leave_out: bool) -> tuple[list[Pair], list[Pair]]:
    """The pairs to write, ordered by split, and the pairs left out.

    leave_out: leave out pairs whose captions are all too long, as the authors' script does. `encode` raises
    an error for such a pair.
    """
    pairs = sorted(pairs, key=lambda pair: SPLITS.index(pair.split))
    if not leave_out:
        return pairs, []
    kept, left_out = [], []
    for pair in pairs:
        shortest = min(len(words) for words in pair.captions)
        (kept if shortest <= max_length else left_out).append(pair)
    return kept or pairs, left_out


def encode(
    pair: Pair, vocabulary: Vocabulary, count: int, max_length: int
) -> tuple[list[list[int]], list[int]]:
    """Ids (count, max_length + 2) and lengths (count) of the first captions that are short enough.

    Captions are repeated if there are fewer than `count`. UserError if all have more than `max_length` words.
    """
    fitting = [words for words in pair.captions if len(words) <= max_length]
    if not fitting:
        shortest = min(len(words) for words in pair.captions)
        raise UserError(
            f"{pair.split} {pair.filename}: a pair needs a caption of at most {max_length} words, "
            f"the shortest has {shortest}: raise --max_length"
        )
    chosen = list(islice(cycle(fitting[:count]), count))
    return [vocabulary.encode(words, max_length) for words in chosen], [len(words) + 2 for words in chosen]


def repeated(captions: Sequence[tuple], cut_pairs: Sequence[Sequence[Pair]]) -> list[tuple]:
    """The captions of each pair once for each of its tiles."""
    return [own for own, tiles in zip(captions, cut_pairs, strict=True) for _ in tiles]
