"""What train.py reads: the samples of a split, and the steps that they are divided into."""

from configs import Config
from data.augmentation import Augmentation
from data.dataset import ChangeCaptions
from data.errors import UserError
from data.sampler import StepSampler
from data.splits import map_classes_of, open_split


def open_samples(split: str, config: Config) -> ChangeCaptions:
    """What train.py reads: pairs; for train samples, as `train.captions_per_step` and `data.augment` say; a
    change detector's are pairs."""
    reader, rows = open_split(split, config.data)
    maps = config.data.maps
    if split != "train":
        return ChangeCaptions(reader, rows=rows, captions="none", maps=maps)
    names = config.data.augment
    captions = config.train.captions_per_step if config.model.task == "captioning" else "none"
    augment = None
    if names:
        augment = Augmentation(names, config.train.seed, reader.vocabulary, map_classes_of(reader, names))
    return ChangeCaptions(reader, rows=rows, captions=captions, maps=maps, augment=augment)


def step_sampler(samples: ChangeCaptions, config: Config, *, rank: int, count: int) -> StepSampler:
    """Shuffled steps; `train.batch_size` counts captions, so a step of all captions takes fewer pairs.

    A change detector's counts pairs.
    """
    size = config.train.batch_size
    if samples.captions != "none":
        longest = samples.reader.tokens.shape[-1] - 2
        if longest > config.model.max_length:
            raise UserError(
                f"model.max_length is {config.model.max_length}, "
                f"{samples.reader.path} has room for {longest} words"
            )
    if samples.captions == "all":
        per_pair = samples.captions_per_pair
        if size < per_pair:
            raise UserError(f"train.batch_size counts captions, at least one pair's {per_pair}: got {size}")
        size //= per_pair
    if count > size:
        raise UserError(
            f"{count} processes need a sample each at every step, train.batch_size {config.train.batch_size} "
            f"gives {size}: raise it, or start fewer processes"
        )
    return StepSampler(len(samples), size, seed=config.train.seed, rank=rank, count=count)
