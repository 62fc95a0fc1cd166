"""What the authors' released code does with a model, step by step: the oracle of decoding and the benchmark's
yardstick.

Our parts are called plainly here: one pair at a time, a trunk call for each view, in torch's default memory
format; every decoding step reads every beam again, filled up to the longest caption, with cross-attention
keys and values of its own; plain Adam. precision: "float32", or "tf32", which is what the authors' torch 1.10
computed on GPUs that can. It is set by each call, for what ran before may have left another one.
"""

from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from models.beam_search import Hypothesis
from models.mmodalcc import MModalCC
from models.precision import autocast


def authors_copy(model: MModalCC) -> MModalCC:
    """A copy of the model in torch's default memory format."""
    return deepcopy(model).to(memory_format=torch.contiguous_format)


def authors_memory(model: MModalCC, views: Tensor) -> Tensor:
    """A trunk call for each view: views (B, 4, 3, H, W) uint8 -> memory (B, M, N, 2D)."""
    images = (views.float() / 255 - model.mean) / model.std
    features = []
    for encoder, dates in model.encoders():
        views = images[:, dates].unbind(1)
        features.append(
            torch.stack([encoder.pool(encoder.trunk(view.contiguous())) for view in views], dim=1)
        )
    return model.fusion(*features)


@torch.no_grad()
def authors_captions(
    model: MModalCC,
    views: Tensor,
    *,
    start: int,
    end: int,
    beam_size: int,
    precision: str = "float32",
) -> list[Hypothesis]:
    """Beam search over one pair, views (4, 3, H, W) uint8 -> its finished captions, the best first, then its
    unfinished ones.

    No early stop: the search goes on until every beam has finished or the longest caption is reached.
    """
    with autocast(views.device, precision):
        return _search(model, views, start, end, beam_size)


def _search(model: MModalCC, views: Tensor, start: int, end: int, beam_size: int) -> list[Hypothesis]:
    memory = authors_memory(model, views.unsqueeze(0))
    words = torch.full((1, 1), start, device=views.device)  # (beams, steps so far)
    scores = torch.zeros(1, device=views.device)
    finished: list[Hypothesis] = []
    longest = model.settings.max_length + 1
    for step in range(longest):
        filled = F.pad(words, (0, longest - words.shape[1]))  # later words move no earlier logits
        logits = model.decoder(filled.unsqueeze(1), memory.repeat(len(words), 1, 1, 1))[:, 0, step]
        candidates = scores.unsqueeze(1) + logits.log_softmax(dim=-1)  # (beams, V)
        vocabulary = candidates.shape[1]
        scores, places = candidates.flatten().topk(min(beam_size, vocabulary) - len(finished))
        words = torch.cat([words[places // vocabulary], (places % vocabulary).unsqueeze(1)], dim=1)
        ended = words[:, -1] == end
        finished += hypotheses(words[ended, 1:-1], scores[ended], finished=True)
        words, scores = words[~ended], scores[~ended]
        if len(words) == 0:
            break
    unfinished = hypotheses(words[:, 1:], scores, finished=False)  # topk gave the best first
    return sorted(finished, key=lambda hypothesis: -hypothesis.log_prob) + unfinished


def hypotheses(words: Tensor, scores: Tensor, *, finished: bool) -> list[Hypothesis]:
    """One for each row of words (beams, T) and scores (beams)."""
    return [Hypothesis(w, s, finished) for w, s in zip(words.tolist(), scores.tolist(), strict=True)]


def authors_optimiser(model: MModalCC, learning_rate: float) -> Optimizer:
    """Plain Adam over every parameter that learns."""
    return torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=learning_rate)


def authors_step(
    model: MModalCC,
    views: Tensor,
    tokens: Tensor,
    optimiser: Optimizer,
    *,
    pad: int,
    clip: float,
    precision: str = "float32",
) -> float:
    """One training step: views (B, 4, 3, H, W) uint8, tokens (B, T) -> the loss (nats a word)."""
    with autocast(views.device, precision):  # TF32 stays on for the backward pass
        logits = model.decoder(tokens[:, None, :-1], authors_memory(model, views))
    loss = F.cross_entropy(logits.flatten(0, -2), tokens[:, 1:].flatten(), ignore_index=pad)
    optimiser.zero_grad()
    loss.backward()
    for part in (*(encoder for encoder, _ in model.encoders()), model.decoder):
        nn.utils.clip_grad_value_(part.parameters(), clip)
    optimiser.step()
    return loss.item()
