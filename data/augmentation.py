"""Data augmentation: turned pairs and perturbed images or maps, drawn anew in every epoch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data.directions import Turn, turn_caption, turn_views
from data.packed_maps import PackedViews
from data.palette import MapClasses
from data.perturbations import SEVERITIES
from data.perturbations.apply import perturb, uses_maps
from data.settings import FLIPS
from data.vocabulary import Vocabulary

PERTURBED_SHARE = 0.5  # fraction of the samples that get a perturbation


@dataclass(frozen=True)
class Augmentation:
    """Applies the augmentations in `data.augment`; the result depends only on seed, epoch and sample.

    names: keys of PERTURBATIONS, and FLIPS. vocabulary: of the captions. classes: the classes that the maps
    have at each date.
    """

    names: Sequence[str]
    seed: int
    vocabulary: Vocabulary
    classes: MapClasses

    def __call__(
        self, views: PackedViews, tokens: np.ndarray, epoch: int, sample: int
    ) -> tuple[PackedViews, np.ndarray]:
        """Augment views and their captions, ids (K, T); K may be 0.

        Applies one of the eight turns, drawn uniformly; then, with probability PERTURBED_SHARE, one
        perturbation at one severity, both drawn uniformly.
        """
        rng = np.random.default_rng((self.seed, epoch, sample))
        if FLIPS in self.names:
            views, tokens = self._turned(views, tokens, Turn(bool(rng.integers(2)), int(rng.integers(4))))
        perturbations = [name for name in self.names if name != FLIPS]
        if perturbations and rng.random() < PERTURBED_SHARE:
            name, severity = rng.choice(perturbations), int(rng.choice(SEVERITIES))
            views = self._perturbed(views, name, severity, int(rng.integers(2**63)))
        return views, tokens

    def _perturbed(self, views: PackedViews, name: str, severity: int, seed: int) -> PackedViews:
        """Perturb a pair; the maps are unpacked only if the perturbation uses them."""
        if uses_maps(name):
            altered = perturb(views.unpacked(), name, severity, seed=seed, classes=self.classes)
            return PackedViews(altered[:2], altered[2:])
        images = perturb(views.images, name, severity, seed=seed, classes=self.classes)
        return views._replace(images=images)

    def _turned(self, views: PackedViews, tokens: np.ndarray, turn: Turn) -> tuple[PackedViews, np.ndarray]:
        """Turn views and captions.

        Both are returned unchanged if a turned caption has an unknown word or gets too long, or if a quarter
        turn would change the shape of the images.
        """
        captions = [turn_caption(self.vocabulary.decode(ids), turn, self._known) for ids in tokens]
        longest = tokens.shape[-1] - 2
        if any(caption is None or len(caption.split()) > longest for caption in captions):
            return views, tokens
        height, width = views.images.shape[-2:]
        if turn.quarters % 2 and height != width:
            return views, tokens
        encoded = [self.vocabulary.encode(caption.split(), longest) for caption in captions]
        turned = PackedViews(*(turn_views(part, turn) for part in views))
        return turned, np.array(encoded, dtype=tokens.dtype).reshape(tokens.shape)

    def _known(self, word: str) -> bool:
        return word in self.vocabulary
