"""The samples of train.py and their division into training steps."""

from configs import Config
from data.augmentation import Augmentation
from data.dataset import ChangeCaptions
from data.errors import UserError
from data.sampler import StepSampler
from data.splits import map_classes_of, open_split


def open_samples(split: str, config: Config) -> ChangeCaptions:
    """The samples of a split for train.py.

    The train split is sampled as set by `train.captions_per_step` and `data.augment`. The samples of other
    splits, and all samples of a change detector, are pairs without captions.
    """
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
    """The sampler of shuffled training steps.

    `train.batch_size` counts captions, so a step with all captions of each pair has fewer pairs. For a change
    detector it counts pairs.
    """
    size = config.train.batch_size
    if samples.captions != "none":
        longest = samples.reader.tokens.shape[-1] - 2
        if longest > config.model.max_length:
            raise UserError(
                f"model.max_length must be at least {longest}, the caption length of {samples.reader.path}, "
                f"got {config.model.max_length}: raise it"
            )
    if samples.captions == "all":
        per_pair = samples.captions_per_pair
        if size < per_pair:
            raise UserError(
                f"train.batch_size counts captions and must be at least {per_pair}, those of one pair, "
                f"got {size}: raise it"
            )
        size //= per_pair
    if count > size:
        raise UserError(
            f"each of the {count} processes needs a sample at every step, but train.batch_size "
            f"{config.train.batch_size} gives {size}: raise it, or start fewer processes"
        )
    return StepSampler(len(samples), size, seed=config.train.seed, rank=rank, count=count)
