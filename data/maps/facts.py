"""What to say about the maps of a data set (tools/create_input_files.py) and of a pair (caption.py)."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from data.data_warning import DataWarning
from data.dataset_facts import ImageFacts, UnknownColours
from data.maps.colours import NEAR, UNCLEAR_SHARE
from data.maps.files import MapFacts, PairViews
from data.maps.grey import INDICES
from data.maps.pixels import LOSSY
from data.maps.settings import MapSettings
from data.palette import same_class
from data.sources import Pair

SAME_SHARE = 0.1  # of the pixels: in maps of changed areas no pixel has the same class at both dates


def describe_palette(settings: MapSettings) -> Iterator[str]:
    """Lines with the classes, and with what was decided about the maps of the whole data set."""
    palette = settings.palette
    void = ", ".join(map(str, palette.void)) or "none but transparent pixels"
    file = settings.palette_file
    yield f"palette: {file or 'SECOND, as there is no palette.yaml'}: {palette.describe()}; void: {void}"
    for colour, prepared in zip(palette.colours, palette.prepared, strict=True):
        if colour != prepared:
            yield f"palette: the input files have {prepared} for {colour}, because black is void there"
    if settings.map_indices:
        classes = ", ".join(f"{index} {name}" for index, name in enumerate(palette.names, 1))
        yield f"greyscale maps hold class indices: 0 and 255 void, {classes}"
    if settings.mask_class:
        yield f"masks show the class {settings.mask_class}"
    if settings.mask_unchanged:
        yield "maps are void where both dates have the same class: --mask_unchanged"


def describe_maps(facts: Sequence[ImageFacts]) -> Iterator[str]:
    """Lines with the kinds of maps, and with colours that are not exactly those of a class."""
    maps = _maps(facts)
    if maps:
        kinds = Counter(each.kind for each in maps)
        yield f"maps by kind: {', '.join(f'{kind}: {count}' for kind, count in kinds.most_common())}"
    mixed = [each for each in maps if each.near or (each.unclear and not each.foreign)]
    if mixed:
        near = sum(each.near for each in mixed) / len(mixed)
        unclear = sum(each.unclear for each in mixed) / len(mixed)
        yield (
            f"maps with other colours than the palette's: {len(mixed)}; of their pixels {near:.2%} count as "
            f"the class with the closest colour (distance at most {NEAR}), {unclear:.2%} are unclear: they "
            "keep their colours and are no class"
        )
    translucent = [each.translucent for each in maps if each.translucent]
    if translucent:
        yield (
            f"maps with partly transparent pixels, which keep their colours: {len(translucent)} "
            f"({sum(translucent) / len(translucent):.1%} of their pixels)"
        )


def warn_of_map_files(
    pairs: Sequence[Pair], facts: Sequence[ImageFacts], colours: UnknownColours, settings: MapSettings
) -> Iterator[DataWarning]:
    """Warn of maps that were read with a loss or that are probably wrong; `facts` in the order of `pairs`.

    Maps without any class are left to `data.dataset_warnings.warn_of_maps`.
    """
    maps = _maps(facts)
    lossy = sum(_is_lossy(each) for each in maps)
    if lossy:
        yield DataWarning(
            f"{lossy} of {len(maps)} maps are JPEG, WebP or JPEG 2000, which change colours",
            "save maps as PNG, which is lossless",
        )
    indices = _names(pairs, facts, lambda fact: any(each.kind == INDICES for each in fact.maps))
    if indices and any(each.kind != INDICES for each in maps):
        yield DataWarning(
            f"pairs with maps of class indices, while other maps are colours or masks: {len(indices)}",
            "check these files, and save all maps in one way",
            indices,
        )
    foreign = _names(pairs, facts, lambda fact: _is_foreign(fact) and not any(fact.unknown_only))
    if foreign:
        yield DataWarning(
            f"pairs with a map of which more than {UNCLEAR_SHARE:.0%} has colours of no class, a photo or a "
            f"map in other colours, kept as it is: {len(foreign)}",
            f"check the files, or {settings.colour_remedy(colours.listed())}",
            foreign,
        )
    same = _names(pairs, facts, lambda fact: fact.same_class > SAME_SHARE and not _is_foreign(fact))
    if same:
        yield DataWarning(
            f"pairs whose maps show the same class at both dates in more than {SAME_SHARE:.0%} of the "
            f"pixels, as land-cover maps do: {len(same)}",
            "models expect classes in the changed area only, --mask_unchanged makes the rest void",
            same,
        )


def remarks_on_maps(pair: PairViews, files: Sequence[Path | None], settings: MapSettings) -> Iterator[str]:
    """Lines about the maps of a pair to caption that were not read exactly as they are, or may be wrong.

    files: of the two maps. settings: how they were read.
    """
    for file, facts in zip(files, pair.maps, strict=True):
        yield from (f"{file}: {line}" for line in _remarks_on_map(facts, settings))
    same = same_class(*pair.views[2:], settings.palette).mean()
    if same > SAME_SHARE and not any(facts.foreign for facts in pair.maps):
        yield (
            f"{files[1]}: both maps show the same class in {same:.0%} of the pixels, but the model was "
            "trained on maps of the changed areas: make the maps void where nothing has changed"
        )


def _remarks_on_map(facts: MapFacts, settings: MapSettings) -> Iterator[str]:
    remedy = settings.colour_remedy()
    if facts.unclear:
        order = "the order is IMG_A IMG_B SEG_A SEG_B, " if facts.foreign else ""
        percent = max(round(100 * facts.unclear), 1)
        yield f"{percent}% of its pixels have a colour of no class: {order}{remedy}"
    if facts.near:
        yield (
            f"{facts.near:.1%} of its pixels are only close to a class's colour (distance at most {NEAR}) "
            f"and count as that class: {'save maps as PNG' if _is_lossy(facts) else remedy}"
        )
    if facts.kind == INDICES:
        yield "greyscale, read as class indices"
    if facts.translucent:
        yield f"{facts.translucent:.1%} of its pixels are partly transparent and keep their colours"


def _maps(facts: Sequence[ImageFacts]) -> list[MapFacts]:
    """The facts about the maps that were given."""
    return [each for fact in facts for each in fact.maps if each.kind]


def _is_lossy(facts: MapFacts) -> bool:
    return facts.kind.split()[0] in LOSSY


def _is_foreign(fact: ImageFacts) -> bool:
    return any(each.foreign for each in fact.maps)


def _names(
    pairs: Sequence[Pair], facts: Sequence[ImageFacts], chosen: Callable[[ImageFacts], bool]
) -> list[str]:
    """The names of the pairs whose facts are `chosen`."""
    return [f"{pair.split} {pair.filename}" for pair, fact in zip(pairs, facts, strict=True) if chosen(fact)]
