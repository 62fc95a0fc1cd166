"""What is probably wrong with a dataset, and what to do; tools/create_input_files.py prints it last."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from data.data_warning import DataWarning
from data.dataset_facts import (
    MAP_COLOURS,
    ImageFacts,
    UnknownColours,
    list_sizes,
    shared_images,
    shared_sources,
    stray_copies,
)
from data.maps.settings import SECOND_MAPS, MapSettings
from data.no_change import NOISE, count_no_change, no_change_of, sentences_of
from data.sources import NO_CHANGE_SENTENCES, SPLITS, Pair, mostly_no_change
from data.tiles import has_maps

FEW_PAIRS = {"train": 100, "val": 20, "test": 20}


def warn_of_splits(pairs: Sequence[Pair]) -> Iterator[DataWarning]:
    """Warn of splits without pairs, and of training pairs that are all alike."""
    originals = Counter(pair.split for pair in pairs if not pair.augmented)
    if empty := [split for split in SPLITS if not originals[split]]:
        yield DataWarning(
            f"splits without pairs: {', '.join(empty)}",
            "training needs train and val (--val_share 0.1 takes val from train), evaluation test: set "
            "`split` of some pairs to them",
        )
    flags = {pair.changed for pair in pairs if pair.split == "train"}
    if len(flags) == 1:
        alike, other = ("changed", "unchanged") if flags == {True} else ("unchanged", "changed")
        yield DataWarning(
            f"train: all pairs are {alike}",
            f"check `changeflag`, or add {other} pairs, or the model describes every pair as {alike}",
        )


def remark_on_amounts(pairs: Sequence[Pair]) -> Iterator[str]:
    """A line about splits with few pairs."""
    originals = Counter(pair.split for pair in pairs if not pair.augmented)
    few = [f"{split} {originals[split]}" for split in SPLITS if 0 < originals[split] < FEW_PAIRS[split]]
    if few:
        yield (
            f"few pairs: {', '.join(few)}: start from a trained model with train.start_from, and do not rely "
            'on small differences of scores (docs/data.md, "From a trained model to your data")'
        )


def remark_on_sizes(facts: Sequence[ImageFacts], image_size: int) -> Iterator[str]:
    """A line about images that are resized without a change of the aspect ratio."""
    if warning := _resized([fact.size for fact in facts if fact.size[0] == fact.size[1]], image_size):
        yield warning.line(with_examples=False)


def warn_of_sizes(facts: Sequence[ImageFacts], image_size: int) -> Iterator[DataWarning]:
    """Warn of images whose aspect ratio changes."""
    if warning := _resized([fact.size for fact in facts if fact.size[0] != fact.size[1]], image_size):
        yield replace(warning, problem=f"{warning.problem}, which changes their aspect ratio")


def _resized(all_sizes: Sequence[tuple[int, int]], image_size: int) -> DataWarning | None:
    """What to say about the images of other sizes than the input's."""
    sizes = Counter(size for size in all_sizes if size != (image_size, image_size))
    if not sizes:
        return None
    if any(min(size) >= image_size for size in sizes):
        remedy = "--tile cuts larger pairs into tiles instead of shrinking them, "
    else:
        remedy = "they are smaller than the input: "
    return DataWarning(
        f"pairs resized to {image_size} x {image_size}: {sizes.total()}; rows x columns (pairs): "
        f"{list_sizes(sizes)}",
        f"{remedy}--image_size sets another input size",
    )


def warn_of_tiles(pairs: Sequence[Pair], tiles: Sequence[Sequence[Pair]]) -> Iterator[DataWarning]:
    """Warn of what tiles cannot know. tiles: the pairs that each pair was cut into, or the pair itself."""
    cut = [(pair, parts) for pair, parts in zip(pairs, tiles, strict=True) if parts != [pair]]
    if not cut:
        return
    yield DataWarning(
        f"pairs cut into tiles: {len(cut)}, into {sum(len(parts) for _, parts in cut)}",
        "each tile has all captions of its pair, which may describe other tiles: caption the tiles "
        "themselves for reliable training and scores",
    )
    changed = [(pair, parts) for pair, parts in cut if pair.changed]
    void = [tile.filename for _, parts in changed for tile in parts if not tile.changed]
    if void:
        yield DataWarning(
            f"tiles that count as unchanged because both maps are void, in changed pairs: {len(void)}",
            "their captions describe changes of other tiles: replace them by a no-change sentence",
            void,
        )
    unknown = [tile.filename for pair, parts in changed if not has_maps(pair) for tile in parts]
    if unknown:
        yield DataWarning(
            f"tiles of changed pairs without maps, which all count as changed: {len(unknown)}",
            "give maps, or flag and caption the tiles themselves",
            unknown,
        )


def warn_of_flags(pairs: Sequence[Pair]) -> Iterator[DataWarning]:
    """Warn of missing change flags, and of flags that contradict the captions."""
    yield from _warn_of_unflagged([pair for pair in pairs if not pair.flagged])
    flagged = [pair for pair in pairs if pair.flagged]
    counts, sentences = count_no_change(pairs), no_change_of(pairs)
    for split in SPLITS:
        unchanged = [pair for pair in flagged if pair.split == split and not pair.changed]
        other = [pair.filename for pair in unchanged if counts.keys().isdisjoint(sentences_of(pair))]
        if len(other) > NOISE * len(unchanged):
            yield DataWarning(
                f"{split}: unchanged pairs without any no-change sentence among their captions: "
                f"{len(other)} of {len(unchanged)}",
                "correct `changeflag` or the captions, or name the sentences with data.no_change",
                other,
            )
    changed = [pair for pair in flagged if pair.changed]
    contradicted = [name(pair) for pair in changed if _says_unchanged(pair, sentences)]
    if contradicted:
        yield DataWarning(
            f"changed pairs whose captions say that nothing has changed: {len(contradicted)}",
            "correct `changeflag` or the captions",
            contradicted,
        )


def _warn_of_unflagged(pairs: Sequence[Pair]) -> Iterator[DataWarning]:
    """Warn of pairs without a `changeflag`, whose captions decide whether they count as changed."""
    if not pairs:
        return
    unchanged = sum(not pair.changed for pair in pairs)
    effect = f"{unchanged} of them count as unchanged" if unchanged else "they all count as changed"
    yield DataWarning(
        f"pairs without `changeflag`: {len(pairs)}, {effect}: without `changeflag`, a pair is unchanged "
        f"only if most of its captions are among {len(NO_CHANGE_SENTENCES)} known sentences, such as "
        f"'{NO_CHANGE_SENTENCES[0]}'",
        "give each entry a `changeflag`, 0 (unchanged) or 1 (changed)",
    )


def warn_of_maps(
    pairs: Sequence[Pair],
    facts: Sequence[ImageFacts],
    colours: UnknownColours,
    settings: MapSettings = SECOND_MAPS,
) -> Iterator[DataWarning]:
    """Warn of unknown colours, and of maps that contradict the change flags."""
    yield from _warn_of_colours(colours, settings)
    both = list(zip(pairs, facts, strict=True))
    if nameless := [name(pair) for pair, fact in both if any(fact.unknown_only)]:
        yield DataWarning(
            f"pairs with a map in none of the classes' colours: {len(nameless)}",
            settings.colour_remedy(colours.listed()),
            nameless,
        )
    if void := [name(pair) for pair, fact in both if pair.changed and has_maps(pair) and all(fact.void)]:
        yield DataWarning(
            f"changed pairs whose maps are both void: {len(void)}", "correct `changeflag` or the maps", void
        )
    if drawn := [name(pair) for pair, fact in both if not pair.changed and not all(fact.void)]:
        yield DataWarning(
            f"unchanged pairs whose maps are not void: {len(drawn)}",
            "correct `changeflag`, or void the maps outside the changed areas (docs/data.md)",
            drawn,
        )


def _warn_of_colours(colours: UnknownColours, settings: MapSettings) -> Iterator[DataWarning]:
    if not colours.pixels:
        return
    listed = [
        f"{colour} files: {colours.files[colour]}, pixels: {count}"
        for colour, count in colours.pixels.most_common()
    ]
    remedy = settings.colour_remedy(colours.listed())
    remedy = f"the change detector and map noise take them for void: {remedy}"
    number = str(len(listed))
    if not colours.complete:
        number = f"at least {number}, in some maps {MAP_COLOURS} or more"
        remedy = (
            "save maps as PNG and resize them with nearest-neighbour interpolation; JPEG and smooth resizing "
            "mix colours"
        )
    yield DataWarning(f"map colours outside the palette: {number}", remedy, listed)


def warn_of_images(pairs: Sequence[Pair], facts: Sequence[ImageFacts]) -> Iterator[DataWarning]:
    """Warn of copied images and of overlap between the splits."""
    copies = [
        name(pair)
        for pair, fact in zip(pairs, facts, strict=True)
        if pair.changed and len(set(fact.digests)) == 1
    ]
    if copies:
        yield DataWarning(
            f"changed pairs whose two images are identical: {len(copies)}", "replace the copy", copies
        )
    overlaps = {
        "identical images in two splits": shared_images(pairs, facts),
        "source images with tiles in two splits": shared_sources(pairs),
        "augmented copies of another split's pair": stray_copies(pairs),
    }
    for problem, found in overlaps.items():
        if found:
            yield DataWarning(
                f"{problem}: {len(found)}", "scores are too high: move them into one split", found
            )


def warn_of_captions(
    pairs: Sequence[Pair], left_out: Sequence[Pair], captions_per_image: int, max_length: int
) -> Iterator[DataWarning]:
    """Warn of captions that are not encoded, and of pairs left out because all theirs are too long."""
    if left_out:
        yield DataWarning(
            f"pairs left out because all their captions have more than {max_length} words: {len(left_out)}",
            "raise --max_length",
            [name(pair) for pair in left_out],
        )
    fitting = [_fitting(pair, max_length) for pair in pairs]
    long = [name(pair) for pair, count in zip(pairs, fitting, strict=True) if count < len(pair.captions)]
    if long:
        yield DataWarning(
            f"captions of more than {max_length} words, which are not encoded: "
            f"{sum(len(pair.captions) for pair in pairs) - sum(fitting)}",
            "raise --max_length",
            long,
        )
    if more := sum(max(0, count - captions_per_image) for count in fitting):
        yield DataWarning(
            f"captions beyond the first {captions_per_image} of a pair, which are not encoded: {more}",
            f"give --captions_per_image {max(fitting)}",
        )
    if 0 < max(fitting, default=0) < captions_per_image:
        yield DataWarning(
            f"all pairs have fewer than {captions_per_image} captions, so captions are repeated",
            f"give --captions_per_image {max(fitting)}",
        )
    if wordless := [name(pair) for pair in pairs if pair.wordless]:
        yield DataWarning(
            f"sentences without words, which are dropped: {sum(pair.wordless for pair in pairs)}",
            "write captions for them or delete them",
            wordless,
        )


def _says_unchanged(pair: Pair, no_change: Sequence[str]) -> bool:
    """Whether more than half of a pair's captions are no-change sentences."""
    return mostly_no_change([" ".join(words) for words in pair.captions], no_change)


def _fitting(pair: Pair, max_length: int) -> int:
    """The number of captions of at most `max_length` words."""
    return sum(len(words) <= max_length for words in pair.captions)


def name(pair: Pair) -> str:
    """A pair in a list of examples: "train 0001.png"."""
    return f"{pair.split} {pair.filename}"
