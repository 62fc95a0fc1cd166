"""Training samples that differ from epoch to epoch: turned pairs and perturbed dates."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data.directions import Turn, turn_caption, turn_views
from data.palette import MapClasses
from data.perturbations import SEVERITIES, perturb
from data.vocabulary import Vocabulary

FLIPS = "flips"
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
        self, views: np.ndarray, tokens: np.ndarray, epoch: int, sample: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Views (4, 3, H, W) uint8 and the ids (K, T) of their captions, K 0 for none -> the same, augmented.

        First one of the eight turns, each as likely; then, in half of the samples, one perturbation of a
        severity, each as likely.
        """
        rng = np.random.default_rng((self.seed, epoch, sample))
        if FLIPS in self.names:
            views, tokens = self._turned(views, tokens, Turn(bool(rng.integers(2)), int(rng.integers(4))))
        perturbations = [name for name in self.names if name != FLIPS]
        if perturbations and rng.random() < STRUCK_SHARE:
            name, severity = rng.choice(perturbations), int(rng.choice(SEVERITIES))
            views = perturb(views, name, severity, seed=int(rng.integers(2**63)), classes=self.classes)
        return views, tokens

    def _turned(self, views: np.ndarray, tokens: np.ndarray, turn: Turn) -> tuple[np.ndarray, np.ndarray]:
        """Views and captions turned.

        Both stay as they are where a caption cannot be said in the vocabulary's words or gets too long, and
        where a quarter turn would change the images' shape.
        """
        captions = [turn_caption(self.vocabulary.decode(ids), turn, self._known) for ids in tokens]
        longest = tokens.shape[-1] - 2
        if any(caption is None or len(caption.split()) > longest for caption in captions):
            return views, tokens
        turned = turn_views(views, turn)
        if turned.shape != views.shape:
            return views, tokens
        encoded = [self.vocabulary.encode(caption.split(), longest) for caption in captions]
        return turned, np.array(encoded, dtype=tokens.dtype).reshape(tokens.shape)

    def _known(self, word: str) -> bool:
        return word in self.vocabulary
