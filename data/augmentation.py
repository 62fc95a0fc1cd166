"""Training samples that differ from epoch to epoch: turned pairs and perturbed dates."""

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

STRUCK_SHARE = 0.5  # of the samples: those with a perturbation


@dataclass(frozen=True)
class Augmentation:
    """Does to samples what `data.augment` names; seed, epoch and sample alone decide what happens to one.

    names: of PERTURBATIONS, and FLIPS. vocabulary: of the captions. classes: that the maps have at each date.
    """

    names: Sequence[str]
    seed: int
    vocabulary: Vocabulary
    classes: MapClasses

    def __call__(
        self, views: PackedViews, tokens: np.ndarray, epoch: int, sample: int
    ) -> tuple[PackedViews, np.ndarray]:
        """Views and the ids (K, T) of their captions, K 0 for none -> the same, augmented.

        First one of the eight turns, each as likely; then, in half of the samples, one perturbation of a
        severity, each as likely.
        """
        rng = np.random.default_rng((self.seed, epoch, sample))
        if FLIPS in self.names:
            views, tokens = self._turned(views, tokens, Turn(bool(rng.integers(2)), int(rng.integers(4))))
        perturbations = [name for name in self.names if name != FLIPS]
        if perturbations and rng.random() < STRUCK_SHARE:
            name, severity = rng.choice(perturbations), int(rng.choice(SEVERITIES))
            views = self._perturbed(views, name, severity, int(rng.integers(2**63)))
        return views, tokens

    def _perturbed(self, views: PackedViews, name: str, severity: int, seed: int) -> PackedViews:
        """The maps are unpacked only for a perturbation that uses them."""
        if uses_maps(name):
            altered = perturb(views.unpacked(), name, severity, seed=seed, classes=self.classes)
            return PackedViews(altered[:2], altered[2:])
        images = perturb(views.images, name, severity, seed=seed, classes=self.classes)
        return views._replace(images=images)

    def _turned(self, views: PackedViews, tokens: np.ndarray, turn: Turn) -> tuple[PackedViews, np.ndarray]:
        """Views and captions turned.

        Both stay as they are where a caption cannot be said in the vocabulary's words or gets too long, and
        where a quarter turn would change the images' shape.
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
