"""Caption image pairs with a trained model, from Python:

from tools.engine.predictor import Predictor
predictor = Predictor.load("runs/second_cc/best.pt")
answer = predictor.caption("before.png", "after.png")
print(answer.text, answer.log_prob)
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from configs import Config
from data.errors import UserError
from data.images import ImageLike, read_views, resize_map, stack_views
from data.vocabulary import Vocabulary
from models.captioner import Captioner
from models.change_detector import ChangeDetector
from models.precision import autocast
from tools.engine.checkpoint import load_checkpoint, open_detector, restore_model, stored_config
from tools.engine.device import pick_device


@dataclass(frozen=True)
class Caption:
    """A sentence and its log-probability."""

    text: str
    log_prob: float


@dataclass(frozen=True)
class Answer:
    """What a model says of a pair.

    answers: its captions, the best first. views: the four views that it saw, (4, 3, H, W) uint8; maps that
    were not given are void, or those that the detector found.
    """

    answers: tuple[Caption, ...]
    views: np.ndarray

    @property
    def text(self) -> str:
        return self.answers[0].text

    @property
    def log_prob(self) -> float:
        return self.answers[0].log_prob

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class CaptionAttention:
    """What each word of a caption was chosen from, `<end>` the last: T words.

    rgb, sem: attention over the grids of the images and the maps, (T, h, w). gates: how much images, maps and
    the previous words count, (T, 3).
    """

    words: list[str]
    rgb: np.ndarray
    sem: np.ndarray
    gates: np.ndarray


@dataclass(frozen=True)
class Predictor:
    """A captioning model with all that it needs to caption pairs: `load` makes one from a checkpoint.

    image_size: (H, W) that the model was trained on. mask_class: the class that maps of 0 and 255 show.
    detector: finds the maps of pairs that have none.
    """

    model: Captioner
    vocabulary: Vocabulary
    config: Config
    image_size: tuple[int, int]
    mask_class: str | None = None
    detector: ChangeDetector | None = None

    @classmethod
    def load(
        cls, checkpoint: str | Path, detector: str | Path | None = None, device: str = "auto"
    ) -> "Predictor":
        """The model of a best.pt or last.pt; UserError where a checkpoint or the device cannot be used.

        detector: a change detector's checkpoint. device: "auto" (a GPU if there is one), "cpu" or "cuda:N".
        """
        content = load_checkpoint(checkpoint)
        config = stored_config(content)
        return cls.restore(content, replace(config, decode=replace(config.decode, device=device)), detector)

    @classmethod
    def restore(
        cls, content: dict[str, Any], config: Config, detector: str | Path | None = None
    ) -> "Predictor":
        """The model of a loaded checkpoint, with settings that may differ from the checkpoint's."""
        model, vocabulary = restore_model(content)
        device = pick_device(config.decode.device)
        size = tuple(content["image_size"])
        found = open_detector(Path(detector), size, device) if detector else None
        return cls(model.to(device), vocabulary, config, size, content.get("mask_class"), found)

    def caption(
        self,
        before: ImageLike,
        after: ImageLike,
        map_before: ImageLike | None = None,
        map_after: ImageLike | None = None,
        answers: int = 1,
    ) -> Answer:
        """Caption one pair of files, arrays (H, W, 3) uint8 or PIL images; maps have the palette's colours.

        Images of another size than `image_size` are resized. answers: how many captions, at most the beams.
        """
        return next(self.caption_many([(before, after, map_before, map_after)], answers=answers))

    def caption_many(
        self, pairs: Iterable[Sequence[ImageLike | None]], *, answers: int = 1, batch_size: int | None = None
    ) -> Iterator[Answer]:
        """Caption pairs of two to four images each, as in `caption`, a batch at a time and in order."""
        pairs = iter(pairs)
        while batch := list(islice(pairs, batch_size or self.config.decode.batch_size)):
            views = [self.read(*pair) for pair in batch]
            self.find_maps([own for own, pair in zip(views, batch, strict=True) if not any_map(pair)])
            yield from self.caption_views(np.stack([self.fit(own) for own in views]), answers)

    def read(
        self,
        before: ImageLike,
        after: ImageLike,
        map_before: ImageLike | None = None,
        map_after: ImageLike | None = None,
    ) -> list[np.ndarray]:
        """The four views of a pair, (H, W, 3) uint8 each; absent maps are void."""
        return read_views((before, after, map_before, map_after), mask_class=self.mask_class)

    def fit(self, views: list[np.ndarray]) -> np.ndarray:
        """Views as the model takes them: (4, 3, *image_size) uint8."""
        return stack_views(views, self.image_size)

    def find_maps(self, pairs: Sequence[list[np.ndarray]]) -> None:
        """Replace both maps of each pair by those that the detector finds, as large as the images."""
        if not self.detector or not pairs:
            return
        views = torch.from_numpy(np.stack([self.fit(pair) for pair in pairs]))
        with autocast(self.detector.device, self.config.decode.precision):
            found = self.detector.detect(views.to(self.detector.device))
        for pair, maps in zip(pairs, found.permute(0, 1, 3, 4, 2).numpy(), strict=True):
            pair[2:] = [resize_map(each, pair[0].shape[:2]) for each in maps]

    def caption_views(self, views: np.ndarray, answers: int = 1) -> list[Answer]:
        """Caption views (B, 4, 3, *image_size) uint8."""
        beams = self.config.decode.beam_size
        if answers > beams:
            raise UserError(f"{answers} answers need as many beams: raise decode.beam_size, now {beams}")
        with autocast(self.model.device, self.config.decode.precision):
            ranked = self.model.caption(
                torch.from_numpy(views).to(self.model.device),
                start=self.vocabulary.start,
                end=self.vocabulary.end,
                beam_size=beams,
                best=answers,
            )
        captions = [
            tuple(Caption(self.vocabulary.decode(h.tokens), h.log_prob) for h in own) for own in ranked
        ]
        return [Answer(own, each) for own, each in zip(captions, views, strict=True)]

    def explain(self, views: np.ndarray, caption: str) -> CaptionAttention:
        """What each word of a caption of views (4, 3, *image_size) uint8 was chosen from.

        UserError for a model that does not weigh images, maps and words by gates.
        """
        return explain_caption(self.model, self.vocabulary, views, caption)


def any_map(pair: Sequence[ImageLike | None]) -> bool:
    """Whether a pair of two to four images has a map."""
    return any(each is not None for each in pair[2:])


@torch.inference_mode()
def explain_caption(
    model: Captioner, vocabulary: Vocabulary, views: np.ndarray, caption: str
) -> CaptionAttention:
    """As `Predictor.explain`."""
    words = caption.split()
    tokens = vocabulary.encode(words, len(words))
    tokens = tokens[: model.settings.max_length + 2]  # the longest caption has no room for <end>
    batch = torch.from_numpy(views).to(model.device).unsqueeze(0)
    seen = model.explain(batch, torch.tensor([[tokens[:-1]]], device=model.device))
    if seen is None or list(seen.gates) != ["rgb", "sem", "word"]:
        gates = " and ".join(seen.gates if seen else []) or "none"
        raise UserError(
            f"--attention draws the gates of images, maps and words: this model has {gates}, "
            "leave --attention out"
        )
    grids = {name: grid[0, 0] for name, grid in seen.grids.items()}
    side = round(grids["rgb"].shape[-1] ** 0.5)
    rgb, sem = (grids[name].unflatten(-1, (side, side)).cpu().numpy() for name in ("rgb", "sem"))
    gates = torch.stack([gate[0, 0] for gate in seen.gates.values()], dim=-1)
    return CaptionAttention([vocabulary.words[token] for token in tokens[1:]], rgb, sem, gates.cpu().numpy())
