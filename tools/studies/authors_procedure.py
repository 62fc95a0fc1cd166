"""The decoding and training procedure of the authors' code, used as test oracle and benchmark baseline.

It calls the parts of our models as the authors' code does: one pair at a time, one trunk call per view, the
default memory format; each decoding step recomputes all tokens of all beams, padded to the maximum length,
and the keys and values of cross-attention; plain Adam. precision: "float32", or "tf32", which the authors'
torch 1.10 used on GPUs that support it. Each call sets it, as earlier code may have changed it.
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
    """Encode with one trunk call per view: views (B, 4, 3, H, W) uint8 -> memory (B, M, N, 2D)."""
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
    model: MModalCC, views: Tensor, *, start: int, end: int, beam_size: int, precision: str = "float32"
) -> list[Hypothesis]:
    """Beam search for a pair, views (4, 3, H, W) uint8: finished captions, best first, then unfinished ones.

    There is no early stop: the search ends when all beams have finished or the maximum length is reached.
    """
    with autocast(views.device, precision):
        return _search(model, views, start, end, beam_size)


def _search(model: MModalCC, views: Tensor, start: int, end: int, beam_size: int) -> list[Hypothesis]:
    memory = authors_memory(model, views.unsqueeze(0))
    tokens = torch.full((1, 1), start, device=views.device)  # (beams, steps so far)
    scores = torch.zeros(1, device=views.device)
    finished: list[Hypothesis] = []
    longest = model.settings.max_length + 1
    for step in range(longest):
        padded = F.pad(tokens, (0, longest - tokens.shape[1]))  # later tokens do not affect earlier logits
        logits = model.decoder(padded.unsqueeze(1), memory.repeat(len(tokens), 1, 1, 1))[:, 0, step]
        candidates = scores.unsqueeze(1) + logits.log_softmax(dim=-1)  # (beams, V)
        vocabulary = candidates.shape[1]
        scores, indices = candidates.flatten().topk(min(beam_size, vocabulary) - len(finished))
        tokens = torch.cat([tokens[indices // vocabulary], (indices % vocabulary).unsqueeze(1)], dim=1)
        ended = tokens[:, -1] == end
        finished += hypotheses(tokens[ended, 1:-1], scores[ended], finished=True)
        tokens, scores = tokens[~ended], scores[~ended]
        if len(tokens) == 0:
            break
    unfinished = hypotheses(tokens[:, 1:], scores, finished=False)  # topk returns the best first
    return sorted(finished, key=lambda hypothesis: -hypothesis.log_prob) + unfinished


def hypotheses(tokens: Tensor, scores: Tensor, *, finished: bool) -> list[Hypothesis]:
    """A hypothesis for each row of tokens (beams, T) and scores (beams)."""
    rows = zip(tokens.tolist(), scores.tolist(), strict=True)
    return [Hypothesis(row, score, finished) for row, score in rows]


def authors_optimiser(model: MModalCC, learning_rate: float) -> Optimizer:
    """Plain Adam over all trainable parameters."""
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
    """One training step: views (B, 4, 3, H, W) uint8, tokens (B, T) -> the loss in nats per token."""
    with autocast(views.device, precision):  # TF32 stays enabled for the backward pass
        logits = model.decoder(tokens[:, None, :-1], authors_memory(model, views))
    loss = F.cross_entropy(logits.flatten(0, -2), tokens[:, 1:].flatten(), ignore_index=pad)
    optimiser.zero_grad()
    loss.backward()
    for part in (*(encoder for encoder, _ in model.encoders()), model.decoder):
        nn.utils.clip_grad_value_(part.parameters(), clip)
    optimiser.step()
    return loss.item()
