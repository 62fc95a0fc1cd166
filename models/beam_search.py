"""Batched beam search by the authors' rule: the sum of log-probabilities without length normalisation.

It uses three methods of a decoder: `start(memory) -> state`, `step(tokens, state) -> (log_probs, state)` and
`state.reorder(indices)`.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class State(Protocol):
    def reorder(self, indices: Tensor) -> "State":
        """The state of the beams with flat indices (P', K'); each row holds beams of one pair."""


class StepDecoder(Protocol):
    def start(self, memory: Tensor) -> State:
        """memory (P, ...) -> state of P pairs with one beam each."""

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """tokens (P, K) -> log-probabilities of the next word (P, K, V), state."""


@dataclass(frozen=True)
class Hypothesis:
    """A caption as ids without `<start>` and the final `<end>`, its log-probability, and whether it ended
    with `<end>`."""

    tokens: list[int]
    log_prob: float
    finished: bool


@torch.inference_mode()
def beam_search(
    decoder: StepDecoder,
    memory: Tensor,
    *,
    start: int,
    end: int,
    beam_size: int,
    max_steps: int,
    best: int = 1,
) -> list[list[Hypothesis]]:
    """The `best` captions of every pair, most likely first; unfinished ones follow if too few have finished.

    Each step keeps the best k of (alive beams x V), k = beam_size minus the number of finished captions;
    those that end with `<end>` are moved to the finished ones. A pair leaves the batch when no alive beam can
    still enter its result, at the latest after max_steps.
    Ties: the caption that finished first, then the lower beam. memory has a row per pair; beam_size is capped
    at V.
    """
    finished: list[list[Hypothesis]] = [[] for _ in memory]
    unfinished: list[list[Hypothesis]] = [[] for _ in memory]
    pairs = list(range(len(memory)))  # the pair of each row of the batch
    state = decoder.start(memory)
    tokens = torch.full((len(pairs), 1), start, device=memory.device)
    scores = torch.zeros(len(pairs), 1, device=memory.device)
    words = tokens[:, :, None][..., :0]  # (P, K, steps so far)
    while pairs and words.shape[-1] < max_steps:
        log_probs, state = decoder.step(tokens, state)
        beams, vocabulary = log_probs.shape[1:]
        candidates = (scores.unsqueeze(-1) + log_probs).flatten(1)  # (P, K * V)
        scores, indices = candidates.topk(min(beam_size, vocabulary), dim=-1)  # best first
        parents, tokens = indices // vocabulary, indices % vocabulary
        words = torch.cat([words.take_along_dim(parents.unsqueeze(-1), dim=1), tokens.unsqueeze(-1)], dim=-1)
        scores = _set_aside(scores, tokens == end, words, [finished[pair] for pair in pairs])
        leading = scores.amax(dim=-1).tolist()
        rows = [row for row, pair in enumerate(pairs) if _undecided(finished[pair], leading[row], best)]
        pairs = [pairs[row] for row in rows]
        going = torch.tensor(rows, dtype=torch.long, device=memory.device)
        state = state.reorder(going.unsqueeze(-1) * beams + parents[going])
        tokens, scores, words = tokens[going], scores[going], words[going]
    for pair, row_scores, row_words in zip(pairs, scores.tolist(), words.tolist(), strict=True):
        alive = [(s, w) for s, w in zip(row_scores, row_words, strict=True) if s > -torch.inf]
        unfinished[pair] = [Hypothesis(w, s, finished=False) for s, w in alive]
    return [(_ranked(done) + alive)[:best] for done, alive in zip(finished, unfinished, strict=True)]


def _set_aside(scores: Tensor, ended: Tensor, words: Tensor, finished: list[list[Hypothesis]]) -> Tensor:
    """Move candidates that ended with `<end>` to `finished`; the others' scores (P, K), -inf if not alive.

    Candidates are sorted, best first; a pair takes only as many as it has unfinished beams.
    """
    ranks = torch.arange(scores.shape[1], device=scores.device)
    room = scores.shape[1] - torch.tensor([len(captions) for captions in finished], device=scores.device)
    taken = ranks < room.unsqueeze(-1)
    for row, beam in (taken & ended).nonzero().tolist():
        finished[row].append(
            Hypothesis(words[row, beam, :-1].tolist(), scores[row, beam].item(), finished=True)
        )
    return scores.masked_fill(~taken | ended, -torch.inf)


def _undecided(finished: list[Hypothesis], leading: float, best: int) -> bool:
    """Whether an alive beam can still enter the result: scores only decrease, and of equal ones the earlier
    ranks first."""
    if len(finished) < best:
        return leading > -torch.inf
    return leading > _ranked(finished)[best - 1].log_prob


def _ranked(finished: list[Hypothesis]) -> list[Hypothesis]:
    """Sorted by score; equal scores keep the order in which they finished."""
    return sorted(finished, key=lambda hypothesis: -hypothesis.log_prob)
