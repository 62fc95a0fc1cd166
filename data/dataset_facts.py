"""Statistics and warnings about a dataset, printed by tools/create_input_files.py.

They cover sizes, captions, words, map colours, and overlap between the splits.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from data.no_change import NOISE, count_no_change, sentences_of
from data.palette import Colour, has_class, unknown_colours
from data.sources import NO_CHANGE_SENTENCES, SPLITS, Pair, original_name
from data.vocabulary import Vocabulary

FIRST_FEW = 5
MAP_COLOURS = 32  # maximum number of unknown colours that are counted per map
KEPT_COLOURS = 1024  # about how many unknown colours are kept for all maps
LISTED = 10  # maximum number of no-change sentences that are printed


@dataclass(frozen=True)
class ImageFacts:
    """Facts about one pair's images before they are resized; one value per date."""

    digests: tuple[str, str]  # SHA-1 of the pixels
    unknown: tuple[dict[Colour, int], dict[Colour, int]]  # pixel counts of the most common unknown colours
    void: tuple[bool, bool]  # whether the map is void
    unknown_only: tuple[bool, bool]  # whether the map has unknown colours only


class UnknownColours:
    """Counts the map colours that are not in the palette, in bounded memory."""

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

    def describe(self) -> Iterator[str]:
        """A line with the most common colours, and a warning if there are many."""
        colours = [
            f"{colour} files: {self.files[colour]}, pixels: {count}"
            for colour, count in self.pixels.most_common()
        ]
        if self.complete:
            yield _listed("map colours outside the palette", colours)
            return
        yield _listed("map colours outside the palette, at least", colours)
        yield (
            f"WARNING: some maps have {MAP_COLOURS} or more colours outside the palette: save maps as PNG "
            "and resize them with nearest-neighbour interpolation; JPEG and smooth resizing mix colours"
        )


def image_facts(views: Sequence[np.ndarray]) -> ImageFacts:
    """The facts of four views (H, W, 3) uint8 in the order of VIEWS."""
    before, after = (hashlib.sha1(repr(view.shape).encode() + view.tobytes()) for view in views[:2])
    return ImageFacts(
        digests=(before.hexdigest(), after.hexdigest()),
        unknown=(unknown_colours(views[2], MAP_COLOURS), unknown_colours(views[3], MAP_COLOURS)),
        void=(not views[2].any(), not views[3].any()),
        unknown_only=tuple(bool(view.any()) and not has_class(view) for view in views[2:]),
    )


def describe_pairs(pairs: Sequence[Pair]) -> Iterator[str]:
    """Lines with the size of each split, then a line about the captions."""
    for split in SPLITS:
        rows = [pair for pair in pairs if pair.split == split]
        changed = sum(pair.changed for pair in rows)
        yield (
            f"{split}: pairs: {len(rows)}, augmented: {sum(pair.augmented for pair in rows)}, "
            f"changed: {changed}, unchanged: {len(rows) - changed}"
        )
        void = sum(pair.views[3] is None and pair.label is None for pair in rows)
        if void:
            yield f"{split}: pairs without maps (both maps are void): {void}"
            if any(pair.views[3] or pair.label for pair in pairs):
                yield f"WARNING: other pairs have maps: {split}/sem or images/{split}/label not found"
        second_only = sum(pair.views[2] is None and pair.views[3] is not None for pair in rows)
        if second_only:
            yield f"{split}: pairs with a map of the second date only (the first is void): {second_only}"
    per_pair = Counter(len(pair.captions) for pair in pairs)
    counts = ", ".join(f"{count} ({per_pair[count]})" for count in sorted(per_pair))
    yield (
        f"captions per pair (number of pairs): {counts}; "
        f"sentences without words, which are dropped: {sum(pair.wordless for pair in pairs)}"
    )


def describe_no_change(pairs: Sequence[Pair]) -> Iterator[str]:
    """Lines about the no-change sentences, with their counts, and about pairs without a `changeflag`."""
    counts = count_no_change(pairs)
    listed = [f'"{sentence}" {count}' for sentence, count in list(counts.items())[:LISTED]]
    if len(counts) > LISTED:
        listed.append(f"and {len(counts) - LISTED} more")
    yield f"no-change sentences (number of unchanged pairs): {'; '.join(listed) or 'none'}"
    for split in SPLITS:
        unchanged = [pair for pair in pairs if pair.split == split and pair.flagged and not pair.changed]
        other = sum(counts.keys().isdisjoint(sentences_of(pair)) for pair in unchanged)
        if other > NOISE * len(unchanged):
            yield (
                f"WARNING: {split}: unchanged pairs without any of these sentences among their captions: "
                f"{other} of {len(unchanged)}, see data.no_change"
            )
    without = [pair for pair in pairs if not pair.flagged]
    if without:
        yield from _describe_unflagged(without)


def _describe_unflagged(pairs: Sequence[Pair]) -> Iterator[str]:
    """Warnings about pairs without a `changeflag`, whose captions decide whether they count as changed."""
    unchanged = sum(not pair.changed for pair in pairs)
    yield (
        f"WARNING: pairs without `changeflag`: {len(pairs)}, {unchanged} of them count as unchanged because "
        f'most of their captions are among "{NO_CHANGE_SENTENCES[0]}" and {len(NO_CHANGE_SENTENCES) - 1} '
        "other sentences of SECOND-CC and LEVIR-CC; give each entry of the JSON a `changeflag`, "
        "0 (unchanged) or 1 (changed)"
    )
    if not unchanged:
        yield "WARNING: no pair without `changeflag` has such captions: they all count as changed"


def describe_left_out(pairs: Sequence[Pair], max_length: int) -> Iterator[str]:
    """A line that lists the pairs left out because all their captions exceed `max_length` words."""
    names = [f"{pair.split} {pair.filename}" for pair in pairs]
    yield _listed(f"pairs left out because all their captions have more than {max_length} words", names)


def describe_words(
    pairs: Sequence[Pair], vocabulary: Vocabulary, max_length: int, splits: str = "train"
) -> Iterator[str]:
    """Lines with the vocabulary size, the unknown words, and the captions longer than `max_length` words.

    `splits`: the splits whose words were counted, "train" or "all".
    """
    counted = "all splits" if splits == "all" else splits
    yield f"vocabulary: {len(vocabulary)} entries including the four special tokens, built from {counted}"
    if splits == "train" and not any(pair.split == "train" for pair in pairs):
        yield "vocabulary: no words, as there is no train split; only existing checkpoints can be evaluated"
    for split in SPLITS:
        words = [word for pair in pairs if pair.split == split for words in pair.captions for word in words]
        if words:
            unknown = sum(word not in vocabulary for word in words)
            yield f"{split}: words: {len(words)}, unknown: {unknown} ({unknown / len(words):.2%})"
    long = sum(len(words) > max_length for pair in pairs for words in pair.captions)
    yield f"captions of more than {max_length} words, which are not encoded: {long}"


def describe_images(
    pairs: Sequence[Pair], facts: Sequence[ImageFacts], colours: UnknownColours
) -> Iterator[str]:
    """Lines about the maps, and about images that occur in two splits; `facts` in the order of `pairs`."""
    yield from colours.describe()
    changed = [fact for pair, fact in zip(pairs, facts, strict=True) if pair.changed]
    void = sum(all(fact.void) for fact in changed)
    yield f"changed pairs whose maps are both void: {void} of {len(changed)}"
    unknown_only = [
        f"{pair.split} {pair.filename}"
        for pair, fact in zip(pairs, facts, strict=True)
        if any(fact.unknown_only)
    ]
    if unknown_only:
        yield _listed(
            "WARNING: pairs with a map in none of the classes' colours (docs/data.md)", unknown_only
        )
    yield _listed("identical images in two splits", shared_images(pairs, facts))


def describe_names(pairs: Sequence[Pair]) -> Iterator[str]:
    """Lines about source images shared between splits, as far as `source` and the file names are known."""
    line = _listed("source images with tiles in two splits", shared_sources(pairs))
    unknown = sum(pair.source is None for pair in pairs)
    if unknown:
        line += f"; pairs of unknown source: {unknown}"
    yield line
    yield _listed("augmented copies of another split's pair", stray_copies(pairs))


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


def _listed(title: str, items: Iterable[str]) -> str:
    """The number of items under a title, with the first few: "title: 2 (a; b)"."""
    items = list(items)
    line = f"{title}: {len(items)}"
    if not items:
        return line
    few = "; ".join(items[:FIRST_FEW])
    if len(items) > FIRST_FEW:
        few += "; ..."
    return f"{line} ({few})"
