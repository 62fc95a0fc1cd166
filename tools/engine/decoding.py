"""Decode the captions of a batch together with the probability of a change, which may decide the caption."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from configs import DecodeConfig
from data.errors import UserError
from data.vocabulary import Vocabulary
from models.beam_search import Hypothesis
from models.captioner import Captioner
from models.precision import autocast
from tools.engine.change import can_be_said, change_log_odds, change_probability, encode_sentences


@dataclass(frozen=True)
class DecodedPair:
    """The captions of a pair, the chosen one first, then the most likely.

    change_log_odds, change_probability: of a change, before and after calibration (tools/engine/change.py);
    None if the model can give no no-change sentence.
    """

    captions: list[Hypothesis]
    change_log_odds: float | None
    change_probability: float | None

    def calibrated(self, temperature: float | None) -> "DecodedPair":
        """The pair with the probability by another temperature."""
        if self.change_log_odds is None:
            return self
        return replace(self, change_probability=change_probability(self.change_log_odds, temperature))


@dataclass(frozen=True)
class CaptionDecoding:
    """How a model's captions are decoded.

    no_change: the sentences that mean "no change". temperature: as in `change_probability`. If the
    probability of a change is below `settings.change_threshold`, the most likely no-change sentence is the
    caption of a pair, else the most likely caption that describes a change; None: the most likely caption.
    UserError for a threshold without a no-change sentence that the model can give.
    """

    model: Captioner
    vocabulary: Vocabulary
    no_change: tuple[str, ...]
    settings: DecodeConfig
    temperature: float | None = None

    def __post_init__(self) -> None:
        if self.settings.change_threshold is not None and not self.sentences:
            raise UserError(
                f"decode.change_threshold {self.settings.change_threshold} needs a no-change sentence that "
                "the model can give: leave it out, or name such sentences with --data.no_change of eval.py"
            )

    @cached_property
    def sentences(self) -> tuple[str, ...]:
        """The no-change sentences that the model can give, each once."""
        longest, distinct = self.model.settings.max_length, dict.fromkeys(self.no_change)
        return tuple(text for text in distinct if can_be_said(text, self.vocabulary, longest))

    @cached_property
    def _tokens(self) -> Tensor:
        return encode_sentences(self.sentences, self.vocabulary, self.model.settings.max_length)

    @torch.inference_mode()
    def score(self, inputs: Mapping[str, Tensor | None], tokens: Tensor) -> Tensor:
        """The log-probabilities of sentences for each pair of a batch: tokens (K, T) -> (P, K).

        inputs: as in `decode`. tokens: of `encode_sentences`.
        """
        with autocast(self.model.device, self.settings.precision):
            memory = self.model.memory(**inputs)
        return self.model.sentence_log_probs(memory, tokens.to(self.model.device), self.vocabulary.pad)

    @torch.inference_mode()
    def decode(self, inputs: Mapping[str, Tensor | None], best: int = 1) -> list[DecodedPair]:
        """The `best` captions of each pair of a batch. inputs: the arguments of `Captioner.memory`."""
        with autocast(self.model.device, self.settings.precision):
            memory = self.model.memory(**inputs)
        threshold, beams = self.settings.change_threshold, self.settings.beam_size
        captions = self._search(memory, beams, best if threshold is None else beams)
        if not self.sentences:
            return [DecodedPair(ranked, None, None) for ranked in captions]
        tokens = self._tokens.to(self.model.device)
        log_probs = self.model.sentence_log_probs(memory, tokens, self.vocabulary.pad)
        log_odds = change_log_odds(log_probs)
        probabilities = [change_probability(value, self.temperature) for value in log_odds]
        if threshold is not None:
            changes = [probability >= threshold for probability in probabilities]
            captions = self._decided(memory, captions, changes, log_probs)
        pairs = zip(captions, log_odds, probabilities, strict=True)
        return [DecodedPair(ranked[:best], *change) for ranked, *change in pairs]

    def _search(self, memory: Tensor, beam_size: int, best: int) -> list[list[Hypothesis]]:
        special = {"start": self.vocabulary.start, "end": self.vocabulary.end}
        return self.model.search(memory, beam_size=beam_size, best=best, **special)

    def _decided(
        self, memory: Tensor, captions: list[list[Hypothesis]], changes: list[bool], log_probs: Tensor
    ) -> list[list[Hypothesis]]:
        """The captions of each pair, with the one that `changes` asks for in front.

        If all beams of a pair end in no-change sentences, it is searched again with a beam more for each of
        these sentences, so that at least one ends in another caption.
        """
        chosen = []
        for ranked, changed, log_probs_of_pair in zip(captions, changes, log_probs, strict=True):
            best_unchanged = self._best_unchanged(log_probs_of_pair)
            chosen.append(self._best_change(ranked) if changed else best_unchanged)
        if missing := [row for row, caption in enumerate(chosen) if caption is None]:
            beams = self.settings.beam_size + len(self.no_change)
            for row, ranked in zip(missing, self._search(memory[missing], beams, beams), strict=True):
                chosen[row] = self._best_change(ranked) or ranked[0]
        ordered = []
        for first, ranked in zip(chosen, captions, strict=True):
            ordered.append([first, *(caption for caption in ranked if caption.tokens != first.tokens)])
        return ordered

    def _best_unchanged(self, log_probs: Tensor) -> Hypothesis:
        """The most likely no-change sentence; log_probs (K): of all."""
        index = int(log_probs.argmax())
        words = self.sentences[index].split()
        tokens = self.vocabulary.encode(words, len(words))[1:-1]
        return Hypothesis(tokens, log_probs[index].item(), finished=True)

    def _best_change(self, ranked: list[Hypothesis]) -> Hypothesis | None:
        """The first caption that is not a no-change sentence."""
        for caption in ranked:
            if self.vocabulary.decode(caption.tokens) not in self.no_change:
                return caption
        return None


def calibration_remark(decoding: CaptionDecoding) -> list[str]:
    """A line if the probabilities of change are not calibrated, or if there are none."""
    if not decoding.sentences:
        return [
            "no probabilities of change: the model can give none of the no-change sentences of its checkpoint"
        ]
    if decoding.temperature is None:
        return [
            "the probabilities of change are not calibrated, as the checkpoint has no temperature: "
            "tools/calibrate.py fits one to a single checkpoint"
        ]
    return []
