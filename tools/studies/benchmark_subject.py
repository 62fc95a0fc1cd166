"""The model and data of the benchmark: a trained model on a split, or random weights on random pairs."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from jsonargparse import Namespace
from torch import Tensor
from torch.utils.data import Dataset

from configs import Config
from data.dataset import Batch, ChangeCaptions
from data.errors import UserError
from data.maps.settings import MapSettings
from data.palette import SECOND
from data.splits import check_maps, check_size, open_split
from data.vocabulary import Vocabulary
from models import build_model
from models.captioner import Captioner
from tools.engine.checkpoint import Content, restore_model, save_checkpoint, stored_config
from tools.engine.device import pick_device

WORDS, VOCABULARY_SIZE, IMAGE_SIZE = 8, 500, (256, 256)  # without a checkpoint


@dataclass(frozen=True)
class Subject:
    """A model with its data. samples: of views (4, 3, H, W) uint8; scratch: a temporary folder."""

    model: Captioner
    vocabulary: Vocabulary
    config: Config
    samples: Dataset
    image_size: tuple[int, int]
    checkpoint: Path
    scratch: Path

    def random_batch(self, pairs: int, captions: int, device: torch.device) -> Batch:
        """Random pairs with random captions of eight words: views and tokens (pairs, captions, 10)."""
        batch = {
            "index": torch.arange(pairs),
            "views": random_views(pairs, self.image_size),
            "tokens": random_captions(pairs, captions, self.vocabulary),
        }
        return {name: tensor.to(device) for name, tensor in batch.items()}


def make_subject(content: Content, config: Config, options: Namespace, scratch: Path) -> Subject:
    """Load or create the model and its data.

    content: a loaded checkpoint, or {} for random weights. UserError if `config` has other model settings.
    """
    if content and config.model != stored_config(content).model:
        raise UserError("a checkpoint contains its model settings: leave out --config and --model.*")
    torch.manual_seed(0)
    checkpoint = options.checkpoint or scratch / "random.pt"
    if not content:
        content = random_content(config)
        save_checkpoint(checkpoint, content)
    model, vocabulary = restore_model(content, fold=False)
    size = tuple(content["image_size"])
    if options.split:
        reader, rows = open_split(options.split, config.data)
        check_size(reader, content["image_size"])
        check_maps(reader, MapSettings.stored(content), config.data.maps, model.views)
        pairs = rows[: options.pairs]
        samples = ChangeCaptions(reader, rows=pairs, captions="none", maps=config.data.maps)
    else:
        samples = [{"views": views} for views in random_views(options.pairs, size)]
        config = replace(config, data=replace(config.data, workers=0))  # the samples are in memory
    model.to(pick_device(config.decode.device))
    return Subject(model, vocabulary, config, samples, size, checkpoint, scratch)


def random_content(config: Config) -> Content:
    """A checkpoint with random weights whose decoder ends captions after eight words."""
    vocabulary = Vocabulary.build(([f"word{i}"] for i in range(VOCABULARY_SIZE)), 0)
    model = build_model(config.model, len(vocabulary), pretrained=False).eval()
    teach_length(model, vocabulary)
    words, state = list(vocabulary.words), model.state_dict()
    return {"model": state, "config": config.to_dict(), "vocabulary": words, "image_size": list(IMAGE_SIZE)}


def teach_length(model: Captioner, vocabulary: Vocabulary, pairs: int = 4) -> None:
    """Train the decoder for a few steps, so that it ends captions after eight words."""
    tokens = random_captions(pairs, 1, vocabulary)
    with torch.no_grad():
        memory = model.encode(random_views(pairs, IMAGE_SIZE))
    optimiser = torch.optim.Adam(model.decoder.parameters(), lr=0.3 / memory.shape[-1])
    for _ in range(100):
        logits = model.decoder(tokens[..., :-1], memory)
        loss = F.cross_entropy(logits.flatten(0, -2), tokens[..., 1:].flatten())
        if loss < 0.2:
            break
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def random_views(pairs: int, size: tuple[int, int]) -> Tensor:
    """Images of uniform noise and maps of random classes, (pairs, 4, 3, *size) uint8."""
    images = torch.randint(0, 256, (pairs, 2, 3, *size), dtype=torch.uint8)
    classes = torch.randint(0, 1 + len(SECOND.names), (pairs, 2, *size))
    return torch.cat([images, torch.from_numpy(SECOND.paint(classes.numpy()))], dim=1)


def random_captions(pairs: int, captions: int, vocabulary: Vocabulary) -> Tensor:
    """Captions of eight random words between `<start>` and `<end>`: (pairs, captions, 10)."""
    words = torch.randint(1, vocabulary.unk, (pairs, captions, WORDS))
    return F.pad(F.pad(words, (1, 0), value=vocabulary.start), (0, 1), value=vocabulary.end)
