"""Caption image pairs with a trained model, from Python:

from tools.engine.predictor import Predictor
predictor = Predictor.load("runs/second_cc/best.pt")
answer = predictor.caption("before.png", "after.png")
print(answer.text, answer.log_prob, answer.changed)
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from configs import Config
from data.errors import UserError
from data.images import ImageLike, resize_map, stack_views
from data.maps.files import read_views
from data.maps.settings import SECOND_MAPS, MapSettings
from data.no_change import sentences_in_use
from data.sources import NO_CHANGE_SENTENCES
from data.vocabulary import Vocabulary
from models.captioner import Captioner
from models.change_detector import ChangeDetector
from models.precision import autocast
from tools.engine.change import encode_sentences
from tools.engine.checkpoint import Content, load_checkpoint, open_detector, stored_config
from tools.engine.decoding import CaptionDecoding, DecodedPair
from tools.engine.device import pick_device
from tools.engine.ensemble import joined_content, load_members, restore_members


@dataclass(frozen=True)
class Caption:
    """A sentence and its log-probability."""

    text: str
    log_prob: float


@dataclass(frozen=True)
class Answer:
    """The captions of a pair.

    answers: the captions, the most likely first. views: the model's input, (4, 3, H, W) uint8; maps that were
    not given are void, or those of the detector. changed: whether the best caption reports a change, that is,
    is not a no-change sentence. change_probability: of a change (tools/engine/change.py); None if the
    model can give no no-change sentence.
    """

    answers: tuple[Caption, ...]
    views: np.ndarray
    changed: bool
    change_probability: float | None = None

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
    """The attention of each word of a caption, T words, the last of them `<end>`.

    rgb, sem: attention over the grids of the images and the maps, (T, h, w). gates: weights of images, maps
    and previous words, (T, 3).
    """

    words: list[str]
    rgb: np.ndarray
    sem: np.ndarray
    gates: np.ndarray


@dataclass(frozen=True)
class Predictor:
    """A captioning model with its vocabulary and settings; `load` reads one from a checkpoint.

    image_size: (H, W) of the training images. maps: how maps are read, as those of the training data.
    detector: finds the maps of pairs that have none. no_change: the sentences that mean "nothing has
    changed". metres_per_pixel: ground resolution of the training images, None if unknown. change_temperature:
    calibrates the probability of a change, None: it is not calibrated.
    """

    model: Captioner
    vocabulary: Vocabulary
    config: Config
    image_size: tuple[int, int]
    maps: MapSettings = SECOND_MAPS
    detector: ChangeDetector | None = None
    no_change: tuple[str, ...] = NO_CHANGE_SENTENCES
    metres_per_pixel: float | None = None
    change_temperature: float | None = None

    @classmethod
    def load(
        cls,
        checkpoint: str | Path | Sequence[str | Path],
        detector: str | Path | None = None,
        device: str = "auto",
    ) -> "Predictor":
        """The model of a best.pt or last.pt, or the ensemble of several.

        detector: a change detector's checkpoint. device: "auto" (a GPU if there is one), "cpu" or "cuda:N".
        UserError if a checkpoint or the device cannot be used.
        """
        first, *others = [checkpoint] if isinstance(checkpoint, str | Path) else checkpoint
        content = load_checkpoint(first)
        config = stored_config(content)
        config = replace(config, decode=replace(config.decode, device=device))
        return cls.restore(content, config, detector, others)

    @classmethod
    def restore(
        cls,
        content: Content,
        config: Config,
        detector: str | Path | None = None,
        others: Sequence[str | Path] = (),
    ) -> "Predictor":
        """The model of a loaded checkpoint, with settings that may differ from the checkpoint's.

        others: checkpoints that form an ensemble with it.
        """
        members = load_members(content, others)
        model, vocabulary = restore_members(members)
        content = joined_content(members)
        device = pick_device(config.decode.device)
        size = tuple(content["image_size"])
        maps = replace(MapSettings.stored(content), trained=True)
        map_finder = open_detector(Path(detector), size, maps.palette, device) if detector else None
        of_older = () if content.get("no_change") else NO_CHANGE_SENTENCES
        no_change = sentences_in_use(config.data.no_change, content, of_older)
        return cls(
            model.to(device),
            vocabulary,
            config,
            size,
            maps=maps,
            detector=map_finder,
            no_change=no_change,
            metres_per_pixel=content.get("metres_per_pixel"),
            change_temperature=content.get("change_temperature"),
        )

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
            read = [self.read(*pair) for pair in batch]
            self.find_maps([views for views, pair in zip(read, batch, strict=True) if not any_map(pair)])
            yield from self.caption_views(np.stack([self.fit(views) for views in read]), answers)

    def read(
        self,
        before: ImageLike,
        after: ImageLike,
        map_before: ImageLike | None = None,
        map_after: ImageLike | None = None,
    ) -> list[np.ndarray]:
        """The four views of a pair, (H, W, 3) uint8 each; absent maps are void."""
        return read_views((before, after, map_before, map_after), settings=self.maps)

    def fit(self, views: list[np.ndarray]) -> np.ndarray:
        """Views resized to the model's input: (4, 3, *image_size) uint8."""
        return stack_views(views, self.image_size)

    def find_maps(self, pairs: Sequence[list[np.ndarray]]) -> None:
        """Replace both maps of each pair by those that the detector finds, as large as the images."""
        if not self.detector or not pairs:
            return
        views = torch.from_numpy(np.stack([self.fit(pair) for pair in pairs]))
        with autocast(self.detector.device, self.config.decode.precision):
            detected = self.detector.detect(views.to(self.detector.device))
        for pair, maps in zip(pairs, detected.permute(0, 1, 3, 4, 2).numpy(), strict=True):
            pair[2:] = [resize_map(colours, pair[0].shape[:2]) for colours in maps]

    def caption_views(self, views: np.ndarray, answers: int = 1) -> list[Answer]:
        """Caption views (B, 4, 3, *image_size) uint8."""
        beams = self.config.decode.beam_size
        if answers > beams:
            raise UserError(f"{answers} answers need as many beams: raise decode.beam_size, now {beams}")
        decoded = self.decoding.decode({"views": torch.from_numpy(views).to(self.model.device)}, answers)
        return [self._answer(pair, its) for pair, its in zip(decoded, views, strict=True)]

    @cached_property
    def decoding(self) -> CaptionDecoding:
        """How captions are decoded."""
        return CaptionDecoding(
            self.model, self.vocabulary, self.no_change, self.config.decode, self.change_temperature
        )

    def _answer(self, pair: DecodedPair, views: np.ndarray) -> Answer:
        captions = [Caption(self.vocabulary.decode(each.tokens), each.log_prob) for each in pair.captions]
        changed = captions[0].text not in self.no_change
        return Answer(tuple(captions), views, changed, pair.change_probability)

    @torch.inference_mode()
    def score(
        self,
        before: ImageLike,
        after: ImageLike,
        sentences: Sequence[str],
        map_before: ImageLike | None = None,
        map_after: ImageLike | None = None,
    ) -> list[float]:
        """The log-probability of each sentence as the caption of a pair, `<end>` included.

        Words are separated by spaces. For a caption of the model it is the caption's `log_prob`. UserError
        names words that the model does not know. The images are as in `caption`.
        """
        tokens = encode_sentences(sentences, self.vocabulary, self.model.settings.max_length)
        views = self.read(before, after, map_before, map_after)
        if not any_map((before, after, map_before, map_after)):
            self.find_maps([views])
        if not sentences:
            return []
        batch = torch.from_numpy(self.fit(views)).unsqueeze(0).to(self.model.device)
        return self.decoding.score({"views": batch}, tokens)[0].tolist()

    def explain(self, views: np.ndarray, caption: str) -> CaptionAttention:
        """The attention and the gates of each word of a caption; views (4, 3, *image_size) uint8.

        UserError for a model without attention over images and maps and gates of both and the words.
        """
        return explain_caption(self.model, self.vocabulary, views, caption)


def any_map(pair: Sequence[ImageLike | None]) -> bool:
    """Whether a pair of two to four images has a map."""
    return any(view is not None for view in pair[2:])


@torch.inference_mode()
def explain_caption(
    model: Captioner, vocabulary: Vocabulary, views: np.ndarray, caption: str
) -> CaptionAttention:
    """As `Predictor.explain`."""
    words = caption.split()
    tokens = vocabulary.encode(words, len(words))
    tokens = tokens[: model.settings.max_length + 2]  # the longest caption has no room for <end>
    batch = torch.from_numpy(views).to(model.device).unsqueeze(0)
    attention = model.explain(batch, torch.tensor([[tokens[:-1]]], device=model.device))
    if attention is None or list(attention.gates) != ["rgb", "sem", "word"]:
        gates = " and ".join(attention.gates if attention else []) or "none"
        raise UserError(
            f"--attention draws the gates of images, maps and words: this model has {gates}, "
            "leave --attention out"
        )
    grids = {name: grid[0, 0] for name, grid in attention.grids.items()}
    side = round(grids["rgb"].shape[-1] ** 0.5)
    rgb, sem = (grids[name].unflatten(-1, (side, side)).cpu().numpy() for name in ("rgb", "sem"))
    gates = torch.stack([gate[0, 0] for gate in attention.gates.values()], dim=-1)
    return CaptionAttention([vocabulary.words[token] for token in tokens[1:]], rgb, sem, gates.cpu().numpy())
