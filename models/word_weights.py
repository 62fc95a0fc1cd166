"""Carry the weights of words from one vocabulary to another, in any model."""

from collections.abc import Mapping

import torch
from torch import Tensor

from data.vocabulary import Vocabulary
from models import build_model
from models.trunks import TrunkSettings


def word_dimensions(settings: TrunkSettings) -> dict[str, int]:
    """The weights with an entry for each word: name in the state dict -> the dimension that counts words.

    The shapes of a model for two vocabulary sizes are compared, so that this works for every model.
    """
    with torch.device("meta"):
        smaller, larger = (build_model(settings, size, pretrained=False).state_dict() for size in (8, 9))
    dimensions = {}
    for name, weight in smaller.items():
        sizes = zip(weight.shape, larger[name].shape, strict=True)
        for dimension, (size, other) in enumerate(sizes):
            if size != other:
                dimensions[name] = dimension
    return dimensions


def with_words(
    weights: Mapping[str, Tensor],
    words: Vocabulary,
    fresh: Mapping[str, Tensor],
    fresh_words: Vocabulary,
    dimensions: Mapping[str, int],
) -> dict[str, Tensor]:
    """The state dict `weights` of a model for `words`, made to fit `fresh_words`.

    Common words keep their weights; those of new words are taken from the state dict `fresh`. dimensions: see
    `word_dimensions`.
    """
    ids = words.to_word_map()
    common = [(index, ids[word]) for index, word in enumerate(fresh_words.words) if word in ids]
    new_rows, old_rows = torch.tensor(common).unbind(1)
    fitting = dict(weights)
    for name, dimension in dimensions.items():
        kept = weights[name].index_select(dimension, old_rows)
        fitting[name] = fresh[name].cpu().index_copy(dimension, new_rows, kept)
    return fitting
