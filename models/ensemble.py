"""Several captioning models that decode one caption together.

At each step the log-probability of a word is the mean of the members' log-probabilities. Each member encodes
the pair and reads its own memory, so members may be different models.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from data.hdf5 import VIEWS
from models.beam_search import State, StepDecoder
from models.captioner import CaptionDecoder, Captioner


@dataclass(frozen=True)
class Memories:
    """The memory of each member, as beam search uses a memory: its rows are pairs."""

    members: tuple[Tensor, ...]

    def __len__(self) -> int:
        return len(self.members[0])

    def __getitem__(self, rows: int | list[int]) -> "Memories":
        return Memories(tuple(memory[rows] for memory in self.members))

    @property
    def device(self) -> torch.device:
        return self.members[0].device

    def to(self, dtype: torch.dtype) -> "Memories":
        return Memories(tuple(memory.to(dtype) for memory in self.members))


@dataclass(frozen=True)
class States:
    """The state of each member's decoder."""

    members: tuple[State, ...]

    def reorder(self, indices: Tensor) -> "States":
        return States(tuple(state.reorder(indices) for state in self.members))


class EnsembleDecoder(CaptionDecoder):
    """Means of the members' log-probabilities; they are not normalised, so those of all words sum to at most
    1. decoders: of the members; their parameters belong to the members."""

    def __init__(self, decoders: Sequence[StepDecoder]) -> None:
        super().__init__()
        self.decoders = tuple(decoders)  # a tuple, so that no module is registered twice

    def start(self, memory: Memories) -> States:
        parts = zip(self.decoders, memory.members, strict=True)
        return States(tuple(decoder.start(part) for decoder, part in parts))

    def step(self, tokens: Tensor, state: States) -> tuple[Tensor, States]:
        log_probs, states = [], []
        for decoder, member in zip(self.decoders, state.members, strict=True):
            log_probs_of_member, new_state = decoder.step(tokens, member)
            log_probs.append(log_probs_of_member)
            states.append(new_state)
        return torch.stack(log_probs).mean(dim=0), States(tuple(states))

    def log_probs(self, tokens: Tensor, memory: Memories) -> Tensor:
        parts = zip(self.decoders, memory.members, strict=True)
        return torch.stack([decoder.log_probs(tokens, part) for decoder, part in parts]).mean(dim=0)


class Ensemble(Captioner):
    """Trained models of one vocabulary as one model, for decoding. Captions are as long as the member with
    the shortest `max_length` allows."""

    def __init__(self, members: Sequence[Captioner]) -> None:
        super().__init__(min((member.settings for member in members), key=lambda each: each.max_length))
        self.members = nn.ModuleList(members)
        used = set().union(*(member.views for member in members))
        self.views = tuple(view for view in VIEWS if view in used)
        self.decoder = EnsembleDecoder([member.decoder for member in members])

    def encode(self, views: Tensor, plain: Tensor | None = None) -> Memories:
        return Memories(tuple(member.encode(views, plain) for member in self.members))
