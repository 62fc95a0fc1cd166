"""What a dataset is like and where its splits leak into each other: the facts that preparation prints."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from data.no_change import NOISE, count_no_change, sentences_of
from data.palette import Colour, has_class, unknown_colours
from data.sources import NO_CHANGE_SENTENCES, SPLITS, Pair, original_name
from data.vocabulary import Vocabulary
from data.wording import number_of

FIRST_FEW = 5
MAP_COLOURS = 32  # of a map's foreign colours so many are counted, ...
KEPT_COLOURS = 1024  # ... and of all maps' about so many
LISTED = 10  # no-change sentences that are printed, at most


@dataclass(frozen=True)
class ImageFacts:
    """What is worth knowing about one pair's images before they are resized."""

    digests: tuple[str, str]  # of the pixels, before and after
    unknown: tuple[dict[Colour, int], dict[Colour, int]]  # pixels of each map's commonest foreign colours
    void: tuple[bool, bool]  # whether each map is void
    strange: tuple[bool, bool]  # whether each map has foreign colours alone


class ForeignColours:
    """The colours of many maps that are not in the palette, in bounded memory."""

    def __init__(self) -> None:
        self.pixels, self.files, self.complete = Counter(), Counter(), True

    def add(self, colours: dict[Colour, int]) -> None:
        """Count the colours of one map, at most MAP_COLOURS of them."""
        self.pixels.update(colours)
        self.files.update(colours.keys())
        self.complete &= len(colours) < MAP_COLOURS
        if len(self.pixels) > 4 * KEPT_COLOURS:
            self.pixels = Counter(dict(self.pixels.most_common(KEPT_COLOURS)))
            self.files = Counter({colour: self.files[colour] for colour in self.pixels})

    def describe(self) -> Iterator[str]:
        """A line with the commonest colours, and what to do where they are many."""
        colours = [
            f"{colour} in {number_of(n, 'pixel')} of {number_of(self.files[colour], 'file')}"
            for colour, n in self.pixels.most_common()
        ]
        yield _listed(f"map colours outside the palette{'' if self.complete else ', at least'}", colours)
        if not self.complete:
            yield (
                f"WARNING: some maps have {MAP_COLOURS} or more colours outside the palette: save maps as "
                "PNG and resize them by the nearest pixel; JPEG and smooth resizing mix colours"
            )


def image_facts(views: Sequence[np.ndarray]) -> ImageFacts:
    """The facts of four views (H, W, 3) uint8 in the order of VIEWS."""
    before, after = (hashlib.sha1(repr(view.shape).encode() + view.tobytes()) for view in views[:2])
    return ImageFacts(
        digests=(before.hexdigest(), after.hexdigest()),
        unknown=(unknown_colours(views[2], MAP_COLOURS), unknown_colours(views[3], MAP_COLOURS)),
        void=(not views[2].any(), not views[3].any()),
        strange=tuple(bool(view.any()) and not has_class(view) for view in views[2:]),
    )


def describe_pairs(pairs: Sequence[Pair]) -> Iterator[str]:
    """A line per split, then the captions."""
    for split in SPLITS:
        rows = [pair for pair in pairs if pair.split == split]
        changed = sum(pair.changed for pair in rows)
        yield (
            f"{split}: {number_of(len(rows), 'pair')} ({sum(pair.augmented for pair in rows)} augmented), "
            f"{changed} changed, {len(rows) - changed} unchanged"
        )
        void = sum(pair.views[3] is None and pair.label is None for pair in rows)
        if void:
            yield f"{split}: {number_of(void, 'pair')} without maps, both maps are void"
            if any(pair.views[3] or pair.label for pair in pairs):
                yield f"WARNING: other pairs have maps: {split}/sem or images/{split}/label not found"
        alone = sum(pair.views[2] is None and pair.views[3] is not None for pair in rows)
        if alone:
            yield f"{split}: {number_of(alone, 'pair')} with the second date's map alone, the first is void"
    per_pair = Counter(len(pair.captions) for pair in pairs)
    counts = ", ".join(f"{count} in {number_of(per_pair[count], 'pair')}" for count in sorted(per_pair))
    yield f"captions per pair: {counts}; sentences without words dropped: {sum(p.wordless for p in pairs)}"


def describe_no_change(pairs: Sequence[Pair]) -> Iterator[str]:
    """Lines for preparation: the no-change sentences with their counts, and pairs without a `changeflag`."""
    found = count_no_change(pairs)
    listed = "; ".join(f'"{sentence}" {count}' for sentence, count in list(found.items())[:LISTED])
    more = f"; and {len(found) - LISTED} more" if len(found) > LISTED else ""
    yield f"no-change sentences (number of unchanged pairs): {f'{listed}{more}' if found else 'none'}"
    for split in SPLITS:
        unchanged = [pair for pair in pairs if pair.split == split and pair.flagged and not pair.changed]
        other = sum(found.keys().isdisjoint(sentences_of(pair)) for pair in unchanged)
        if other > NOISE * len(unchanged):
            yield (
                f"WARNING: {split}: {other} of {number_of(len(unchanged), 'unchanged pair')} have none of "
                "these sentences among their captions: see data.no_change"
            )
    without = [pair for pair in pairs if not pair.flagged]
    if without:
        unchanged = sum(not pair.changed for pair in without)
        yield (
            f"WARNING: {number_of(len(without), 'pair')} without `changeflag`: the data do not say whether "
            f"they changed: {unchanged} count as unchanged, because most of their captions are among "
            f'"{NO_CHANGE_SENTENCES[0]}" and {len(NO_CHANGE_SENTENCES) - 1} other sentences of SECOND-CC and '
            "LEVIR-CC; give each entry of the JSON a `changeflag`, 0 (unchanged) or 1 (changed)"
        )
        if not unchanged:
            yield "WARNING: none of the pairs without `changeflag` is found unchanged: all count as changed"


def describe_left_out(pairs: Sequence[Pair], max_length: int) -> Iterator[str]:
    """The pairs that a format leaves out because they have no caption of at most `max_length` words."""
    names = [f"{pair.split} {pair.filename}" for pair in pairs]
    yield _listed(f"pairs left out, all their captions have more than {max_length} words", names)


def describe_words(
    pairs: Sequence[Pair], vocabulary: Vocabulary, max_length: int, splits: str = "train"
) -> Iterator[str]:
    """The size of the vocabulary, the words it does not know, and captions longer than `max_length` words.

    `splits`: those whose words were counted, train or all.
    """
    counted = "all splits" if splits == "all" else splits
    yield f"vocabulary: {len(vocabulary)} entries, the four special tokens among them, counted over {counted}"
    if splits == "train" and not any(pair.split == "train" for pair in pairs):
        yield "vocabulary: no train split, so no words: good for evaluating a finished checkpoint only"
    for split in SPLITS:
        words = [word for pair in pairs if pair.split == split for words in pair.captions for word in words]
        if words:
            unknown = sum(word not in vocabulary for word in words)
            yield f"{split}: {len(words)} words, {unknown} of them unknown ({unknown / len(words):.2%})"
    long = sum(len(words) > max_length for pair in pairs for words in pair.captions)
    yield f"captions of more than {max_length} words, which are not encoded: {long}"


def describe_images(
    pairs: Sequence[Pair], facts: Sequence[ImageFacts], colours: ForeignColours
) -> Iterator[str]:
    """What the maps hold, and images that stand in two splits; `facts` in the order of `pairs`."""
    yield from colours.describe()
    changed = [fact for pair, fact in zip(pairs, facts, strict=True) if pair.changed]
    void = sum(all(fact.void) for fact in changed)
    yield f"changed pairs whose maps are both void: {void} of {len(changed)}"
    strange = [
        f"{pair.split} {pair.filename}" for pair, fact in zip(pairs, facts, strict=True) if any(fact.strange)
    ]
    if strange:
        yield _listed("WARNING: pairs with a map in none of the classes' colours (README.md)", strange)
    yield _listed("identical images in two splits", shared_images(pairs, facts))


def describe_names(pairs: Sequence[Pair]) -> Iterator[str]:
    """Whether splits share a source image, as far as the JSON's `source` and the file names tell."""
    unknown = sum(pair.source is None for pair in pairs)
    line = _listed("source images with tiles in two splits", shared_sources(pairs))
    yield line + (f"; names tell nothing for {number_of(unknown, 'pair')}" if unknown else "")
    yield _listed("augmented copies of another split's pair", stray_copies(pairs))


def shared_images(pairs: Sequence[Pair], facts: Sequence[ImageFacts]) -> list[str]:
    """The images whose pixels stand in more than one split, each as "train a.png and test b.png"."""
    places = defaultdict(dict)  # digest -> split -> first name there
    for pair, fact in zip(pairs, facts, strict=True):
        for digest in fact.digests:
            places[digest].setdefault(pair.split, pair.filename)
    return [_places(names) for names in places.values() if len(names) > 1]


def shared_sources(pairs: Sequence[Pair]) -> list[str]:
    """The source images that have tiles in more than one split, where the source is known."""
    places = defaultdict(dict)  # source -> split -> first name there
    for pair in pairs:
        if pair.source:
            places[pair.source].setdefault(pair.split, pair.filename)
    return [_places(names) for names in places.values() if len(names) > 1]


def stray_copies(pairs: Sequence[Pair]) -> list[str]:
    """The augmented copies whose original stands in another split and not in their own."""
    homes = defaultdict(set)  # stem -> splits of the original
    for pair in pairs:
        if not pair.augmented:
            homes[original_name(pair.filename)].add(pair.split)
    copies = [(pair, homes.get(original_name(pair.filename), set())) for pair in pairs if pair.augmented]
    return [f"{pair.split} {pair.filename}" for pair, splits in copies if splits and pair.split not in splits]


def _places(names: dict[str, str]) -> str:
    return " and ".join(f"{split} {name}" for split, name in names.items())


def _listed(what: str, items: Iterable[str]) -> str:
    """`what`: how many, and the first few."""
    items = list(items)
    few = "; ".join(items[:FIRST_FEW]) + ("; ..." if len(items) > FIRST_FEW else "")
    return f"{what}: {len(items)}" + (f" ({few})" if items else "")
