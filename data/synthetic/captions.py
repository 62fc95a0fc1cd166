"""The captions of the synthetic dataset: five sentences per pair.

As in real datasets, the five captions describe the same change (what is new, what it replaced, where) and
share most of their words, so that a good caption scores well against the others.
"""

from dataclasses import dataclass

import numpy as np

from data.synthetic.areas import BUILT_USES

CAPTIONS_PER_PAIR = 5
USUAL_SHARE, BESIDE_SHARE = 0.7, 0.6  # probability of the usual name, and of naming the neighbour


@dataclass(frozen=True)
class Noun:
    """A name for a land use, with its article if it has one: "a lake", "trees"."""

    text: str
    plural: bool = False

    @property
    def known(self) -> str:
        """The name with the definite article: "the lake", "the trees"."""
        return f"the {self.text.removeprefix('a ').removeprefix('some ')}"


NOUNS: dict[str, tuple[Noun, Noun]] = {  # the usual name and a synonym
    "meadow": (Noun("grassland"), Noun("low vegetation")),
    "bareland": (Noun("bareland"), Noun("bare ground")),
    "lake": (Noun("a lake"), Noun("a pond")),
    "forest": (Noun("trees", plural=True), Noun("a forest")),
    "residential": (Noun("a residential area"), Noun("some houses", plural=True)),
    "hall": (Noun("a large building"), Noun("a factory")),
    "playground": (Noun("a playground"), Noun("a sports field")),
    "parking": (Noun("a parking lot"), Noun("a parking area")),
}
PLACES: dict[str, tuple[str, str]] = {
    "top left": ("in the top left corner", "in the upper left corner"),
    "top": ("at the top", "in the upper part"),
    "top right": ("in the top right corner", "in the upper right corner"),
    "left": ("on the left side", "on the left"),
    "middle": ("in the middle", "in the center"),
    "right": ("on the right side", "on the right"),
    "bottom left": ("in the bottom left corner", "in the lower left corner"),
    "bottom": ("at the bottom", "in the lower part"),
    "bottom right": ("in the bottom right corner", "in the lower right corner"),
}
NEIGHBOURS = {"road": "near the road", "river": "beside the river"}
VERBS = {  # singular, plural
    "is": ("is", "are"),
    "was": ("was", "were"),
    "has": ("has", "have"),
    "appears": ("appears", "appear"),
    "disappears": ("disappears", "disappear"),
}
BUILT_TEMPLATES = (
    "{new} {new_is} built {on} {old} {place}",
    "{new} {new_has} been built {on} {old} {place}",
    "{new} {new_appears} {on} {old} {place}",
    "{old} {place} {old_is} replaced by {new}",
    "{old} {place} {old_has} been replaced by {new}",
    "{old} {place} {old_disappears} and {new} {new_is} built",
)
NATURAL_TEMPLATES = (
    "{old} {place} {old_is} replaced by {new}",
    "{old} {place} {old_has} been replaced by {new}",
    "{old} {place} {old_has} turned into {new}",
    "{old} {place} {old_is} removed and {new} {new_appears}",
    "{old} {place} {old_disappears} and {new} {new_appears}",
    "{new} {new_appears} where {old} {place} {old_was}",
)


@dataclass(frozen=True)
class Change:
    """The change of an area: two keys of NOUNS, a key of PLACES, and a key of NEIGHBOURS or None."""

    before: str
    after: str
    place: str
    beside: str | None


def place_name(mask: np.ndarray) -> str:
    """The key of PLACES for the centroid of a mask (H, W), by thirds of the image."""
    rows, columns = np.nonzero(mask)
    row = ("top", "", "bottom")[int(3 * rows.mean() / mask.shape[0])]
    column = ("left", "", "right")[int(3 * columns.mean() / mask.shape[1])]
    return f"{row} {column}".strip() or "middle"


def clause(change: Change, template: str, rng: np.random.Generator) -> str:
    """Fill in a template; each name is the usual one or, less often, the synonym."""

    def either(names: tuple) -> Noun | str:
        return names[int(rng.random() >= USUAL_SHARE)]

    old, new = either(NOUNS[change.before]), either(NOUNS[change.after])
    words = {"old": old.known, "new": new.text, "place": either(PLACES[change.place])}
    if change.beside and rng.random() < BESIDE_SHARE:
        words["place"] += f" {NEIGHBOURS[change.beside]}"
    words["on"] = "in place of" if change.before == "forest" else "on"
    for name, forms in VERBS.items():
        words |= {f"old_{name}": forms[old.plural], f"new_{name}": forms[new.plural]}
    return template.format(**words)


def describe(changes: list[Change], rng: np.random.Generator) -> list[str]:
    """Five captions of the same changes from different templates, in lower case without a full stop."""
    columns = []
    for change in changes:
        templates = BUILT_TEMPLATES if change.after in BUILT_USES else NATURAL_TEMPLATES
        chosen = rng.permutation(len(templates))[:CAPTIONS_PER_PAIR]
        columns.append([clause(change, templates[number], rng) for number in chosen])
    return [" and ".join(clauses) for clauses in zip(*columns, strict=True)]
