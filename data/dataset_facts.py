"""Statistics about a dataset, printed by tools/create_input_files.py.

They cover sizes, captions, words, maps, and overlap between the splits. What needs attention is among the
warnings (data/dataset_warnings.py).
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from data.maps.files import NO_MAPS, MapFacts
from data.no_change import count_no_change
from data.palette import SECOND, Colour, Palette, has_class, same_class, unknown_colours
from data.sources import SPLITS, Pair, original_name
from data.vocabulary import Vocabulary

MAP_COLOURS = 32  # maximum number of unknown colours that are counted per map
KEPT_COLOURS = 1024  # about how many unknown colours are kept for all maps
LISTED = 10  # maximum number of no-change sentences that are printed


@dataclass(frozen=True)
class ImageFacts:
    """Facts about one pair's images before they are resized; one value per date."""

    size: tuple[int, int]  # height, width
    digests: tuple[str, str]  # SHA-1 of the pixels
    unknown: tuple[dict[Colour, int], dict[Colour, int]]  # pixel counts of the most common unknown colours
    void: tuple[bool, bool]  # whether the map is void
    unknown_only: tuple[bool, bool]  # whether the map has unknown colours only
    maps: tuple[MapFacts, MapFacts] = NO_MAPS  # how the maps were read
    same_class: float = 0.0  # fraction of the pixels whose class is the same at both dates


class UnknownColours:
    """Counts the map colours that are not in the palette, in bounded memory.

    complete: whether no map had more colours than are counted per map.
    """

    def __init__(self) -> None:
        self.pixels, self.files, self.complete = Counter(), Counter(), True

    def add(self, colours: dict[Colour, int]) -> None:
        """Add the unknown colours of one map, at most MAP_COLOURS of them, with their pixel counts."""
        self.pixels.update(colours)
        self.files.update(colours.keys())
        self.complete &= len(colours) < MAP_COLOURS
        if len(self.pixels) > 4 * KEPT_COLOURS:
            self.pixels = Counter(dict(self.pixels.most_common(KEPT_COLOURS)))
            self.files = Counter({colour: self.files[colour] for colour in self.pixels})

    def listed(self) -> list[Colour]:
        """The colours, the most common first."""
        return [colour for colour, _ in self.pixels.most_common()]


def image_facts(
    views: Sequence[np.ndarray], palette: Palette = SECOND, maps: tuple[MapFacts, MapFacts] = NO_MAPS
) -> ImageFacts:
    """The facts of four views (H, W, 3) uint8 in the order of VIEWS; maps: how the maps were read."""
    before, after = (hashlib.sha1(repr(view.shape).encode() + view.tobytes()) for view in views[:2])
    return ImageFacts(
        size=views[0].shape[:2],
        digests=(before.hexdigest(), after.hexdigest()),
        unknown=tuple(unknown_colours(view, palette, MAP_COLOURS) for view in views[2:]),
        void=(not views[2].any(), not views[3].any()),
        unknown_only=tuple(bool(view.any()) and not has_class(view, palette) for view in views[2:]),
        maps=maps,
        same_class=float(same_class(views[2], views[3], palette).mean()),
    )


def describe_pairs(pairs: Sequence[Pair]) -> Iterator[str]:
    """Lines with the size of each split, then a line about the captions."""
    for split in SPLITS:
        rows = [pair for pair in pairs if pair.split == split]
        changed = sum(pair.changed for pair in rows)
        yield (
            f"{split}: {len(rows)} pairs ({sum(pair.augmented for pair in rows)} augmented), "
            f"{changed} changed, {len(rows) - changed} unchanged"
        )
        void = sum(pair.views[3] is None and pair.label is None for pair in rows)
        if void:
            yield f"{split}: pairs without maps (both maps are void): {void}"
        second_only = sum(pair.views[2] is None and pair.views[3] is not None for pair in rows)
        if second_only:
            yield f"{split}: pairs with a map of the second date only (the first is void): {second_only}"
    per_pair = Counter(len(pair.captions) for pair in pairs)
    counts = ", ".join(f"{count} ({per_pair[count]})" for count in sorted(per_pair))
    yield f"captions per pair (number of pairs): {counts}"


def describe_no_change(pairs: Sequence[Pair]) -> Iterator[str]:
    """A line with the no-change sentences and their counts."""
    counts = count_no_change(pairs)
    listed = [f'"{sentence}" {count}' for sentence, count in list(counts.items())[:LISTED]]
    if len(counts) > LISTED:
        listed.append(f"and {len(counts) - LISTED} more")
    yield f"no-change sentences (number of unchanged pairs): {'; '.join(listed) or 'none'}"


def describe_words(pairs: Sequence[Pair], vocabulary: Vocabulary, origin: str) -> Iterator[str]:
    """Lines with the vocabulary size and the unknown words. origin: what the vocabulary was built from."""
    yield f"vocabulary: {len(vocabulary)} entries including the four special tokens, built from {origin}"
    for split in SPLITS:
        words = word_counts(pairs, split)
        if words:
            unknown = unknown_words(words, vocabulary)
            yield f"{split}: words: {words.total()}, unknown: {unknown} ({unknown / words.total():.2%})"


def word_counts(pairs: Sequence[Pair], split: str) -> Counter[str]:
    """The words of a split's captions."""
    return Counter(word for pair in pairs if pair.split == split for words in pair.captions for word in words)


def unknown_words(words: Counter[str], vocabulary: Vocabulary) -> int:
    """How many of the words are unknown, repeated ones counted each time."""
    return sum(count for word, count in words.items() if word not in vocabulary)


def describe_images(pairs: Sequence[Pair], facts: Sequence[ImageFacts]) -> Iterator[str]:
    """Lines about sizes, maps, and overlap between the splits; `facts` in the order of `pairs`."""
    sizes = Counter(fact.size for fact in facts)
    yield f"image sizes, rows x columns (number of pairs): {list_sizes(sizes)}"
    changed = [fact for pair, fact in zip(pairs, facts, strict=True) if pair.changed]
    void = sum(all(fact.void) for fact in changed)
    yield f"changed pairs whose maps are both void: {void} of {len(changed)}"
    yield (
        f"in two splits: identical images: {len(shared_images(pairs, facts))}, source images: "
        f"{len(shared_sources(pairs))}, augmented copies of a pair: {len(stray_copies(pairs))}; "
        f"pairs of unknown source: {sum(pair.source is None for pair in pairs)}"
    )


def list_sizes(sizes: Counter[tuple[int, int]]) -> str:
    """The most common sizes with their counts: "256 x 256 (8), 512 x 1024 (2)"."""
    few = [f"{height} x {width} ({count})" for (height, width), count in sizes.most_common(3)]
    return ", ".join(few if len(sizes) <= 3 else [*few, f"and {len(sizes) - 3} more sizes"])


def shared_images(pairs: Sequence[Pair], facts: Sequence[ImageFacts]) -> list[str]:
    """The images that occur in more than one split, each as "train a.png and test b.png"."""
    by_digest = defaultdict(dict)  # digest -> split -> first file name in that split
    for pair, fact in zip(pairs, facts, strict=True):
        for digest in fact.digests:
            by_digest[digest].setdefault(pair.split, pair.filename)
    return [_joined(names) for names in by_digest.values() if len(names) > 1]


def shared_sources(pairs: Sequence[Pair]) -> list[str]:
    """The source images that have tiles in more than one split, where the source is known."""
    by_source = defaultdict(dict)  # source -> split -> first file name in that split
    for pair in pairs:
        if pair.source:
            by_source[pair.source].setdefault(pair.split, pair.filename)
    return [_joined(names) for names in by_source.values() if len(names) > 1]


def stray_copies(pairs: Sequence[Pair]) -> list[str]:
    """The augmented copies whose original is in another split but not in their own."""
    original_splits = defaultdict(set)  # name of the original -> its splits
    for pair in pairs:
        if not pair.augmented:
            original_splits[original_name(pair.filename)].add(pair.split)
    stray = []
    for pair in pairs:
        splits = original_splits.get(original_name(pair.filename), set())
        if pair.augmented and splits and pair.split not in splits:
            stray.append(f"{pair.split} {pair.filename}")
    return stray


def _joined(names: dict[str, str]) -> str:
    """{"train": "a.png", "test": "b.png"} -> "train a.png and test b.png"."""
    return " and ".join(f"{split} {name}" for split, name in names.items())
