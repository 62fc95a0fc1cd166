"""What train.py's loop needs to know of captioning: the loss of a batch, and how an epoch is judged."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from configs import Config
from data.dataset import Batch, ChangeCaptions, augmented_remark
from data.errors import UserError
from models.captioner import Captioner, inputs_of
from models.precision import autocast
from tools.engine.captioning import predict, to_captions
from tools.engine.distributed import Agree, Processes
from tools.engine.run_folder import shown
from tools.scoring import floor_and_oracle
from tools.scoring.baselines import TrainingCaptions, best_constants, training_captions
from tools.scoring.meteor import Meteor
from tools.scoring.metric import Segment
from tools.scoring.metrics import Measured, measure


@dataclass(frozen=True)
class CaptionLoss:
    """Cross-entropy over the next word, summed over the real target words (`<end>` included).

    pad: the token that fills up. precision: of the forward pass, see models.precision.
    """

    pad: int
    precision: str

    def count(self, batch: Batch) -> int:
        """The real target words of a batch, which the loss is to be the mean over."""
        return (batch["tokens"][..., 1:] != self.pad).sum().item()

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """tokens (B, K, T), padded to the longest caption of all; pairs as views or features."""
        tokens = batch["tokens"]
        device = next(model.parameters()).device
        longest = max(2, int((tokens != self.pad).sum(-1).max()))
        tokens = tokens[..., :longest].to(device, non_blocking=True)
        with autocast(device, self.precision):
            logits = model(tokens=tokens[..., :-1], **inputs_of(batch, device))  # (B, K, T, V)
        targets = tokens[..., 1:].flatten()
        return F.cross_entropy(logits.float().flatten(0, -2), targets, ignore_index=self.pad, reduction="sum")


class CaptioningTask:
    """Captions of the validation pairs each epoch (beam 1), their scores, and the floors beside them.

    Used as a context: METEOR's Java runs from its beginning to its end, in the process that scores. Entering
    it chooses the floors from the training captions (tools/scoring/baselines.py): 40 s of one core for
    LEVIR-CC's 6,815 training pairs.
    """

    def __init__(
        self, config: Config, samples: ChangeCaptions, val_samples: ChangeCaptions, processes: Processes
    ) -> None:
        self.config, self.samples, self.val_samples = config, samples, val_samples
        self.processes, self.vocabulary = processes, samples.reader.vocabulary
        self.loss = CaptionLoss(self.vocabulary.pad, config.train.precision)
        self.training: TrainingCaptions | None = None
        self.floors: dict[str, dict[str, float]] = {}
        setting = config.data.no_change
        self.no_change = samples.reader.no_change if setting is None else tuple(setting)

    def __enter__(self) -> "CaptioningTask":
        self.meteor = Meteor() if self.processes.writes else None
        try:
            with self.processes.together():
                if self.meteor:
                    self.training = training_captions(self.samples.reader, self.samples.rows, self.meteor)
                    self.floors = self._floors()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        if self.meteor:
            self.meteor.close()

    def content(self) -> dict[str, Any]:
        """What a checkpoint carries besides the model: eval.py and caption.py need nothing else."""
        training = self.training
        return {
            "vocabulary": list(self.vocabulary.words),
            "train_captions": list(training.captions) if training else [],
            "train_constants": dict(training.best) if training else {},
            "no_change": list(self.no_change),
            "mask_class": self.samples.reader.mask_class,
            "image_size": list(self.samples.reader.image_size),
        }

    def validate(self, model: Captioner, agree: Agree) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """An epoch's line for the log, the same in every process, and the validation captions.

        The line has the scores ("val"), those of the best constant captions of training ("floor") and of the
        validation pairs ("floor_oracle"), the number of different captions, and the mean of MGCA's gates.
        agree: called between batches and while METEOR is awaited.
        """
        hypotheses = predict(
            model,
            self.val_samples,
            self.vocabulary,
            self.config,
            self.processes,
            self.meteor,
            beam_size=1,
            agree=agree,
        )
        captions = to_captions(hypotheses, self.val_samples, self.vocabulary)

        def judge() -> dict[str, Any]:
            self.meteor.while_waiting = agree
            try:
                return score()
            finally:  # other processes answer `agree` only here
                self.meteor.while_waiting = None

        def score() -> dict[str, Any]:
            segments = [(c["caption"], tuple(c["references"])) for c in captions]
            line = {"val": self._scores(segments), **self.floors}
            line["distinct_captions"] = len({c["caption"] for c in captions})
            if gates := self.gates(model, [hypothesis.tokens for hypothesis in hypotheses]):
                line["gates"] = gates
            return line

        return self.processes.gather(self.processes.in_first(judge, agree))[0], captions

    def _scores(self, segments: list[Segment]) -> dict[str, float]:
        return self._checked(measure(segments, self.meteor), len(segments))

    def _floors(self) -> dict[str, dict[str, float]]:
        """The scores of both floors on the validation pairs."""
        reader = self.val_samples.reader
        references = [tuple(reader.references[row]) for row in self.val_samples.rows]
        floor, captions = self.training.best_of("all"), self.training.captions
        oracle = best_constants({"all": references}, captions, self.meteor)["all"]
        segments = [(floor, own) for own in references]
        _, measured = floor_and_oracle(segments, floor, oracle, captions, self.meteor)
        scores = [self._checked(constant, len(segments)) for constant in measured]
        return dict(zip(("floor", "floor_oracle"), scores, strict=True))

    def _checked(self, measured: Measured, pairs: int) -> dict[str, float]:
        """Corpus scores; UserError where the one that decides is missing."""
        scores = as_numbers(measured.scores(np.ones(pairs)))
        name = self.config.train.select_on
        if name not in scores:
            raise UserError(
                f"train.select_on {name} has no value on the validation pairs "
                f"({measured.reasons().get(name)}): choose another metric"
            )
        return scores

    @torch.inference_mode()
    def gates(self, model: Captioner, captions: list[list[int]]) -> dict[str, float]:
        """Means of MGCA's gates over the words of the shown pairs: what RGB, maps and word each give.

        captions: the tokens of every validation pair's caption.
        """
        chosen = shown(range(len(captions)))
        rows = [self.val_samples.rows[pair] for pair in chosen]
        views = torch.stack([self.val_samples.views_at(row) for row in rows]).to(model.device)
        longest = max(len(captions[pair]) for pair in chosen)
        tokens = torch.full((len(chosen), 1, longest + 1), self.vocabulary.pad)
        tokens[..., 0] = self.vocabulary.start
        for row, pair in enumerate(chosen):
            tokens[row, 0, 1 : 1 + len(captions[pair])] = torch.tensor(captions[pair])
        tokens = tokens[..., : model.settings.max_length + 1].to(views.device)
        with autocast(views.device, self.config.decode.precision):
            seen = model.explain(views, tokens)
        said = tokens != self.vocabulary.pad
        gates = seen.gates if seen else {}
        return {name: gate[said].float().mean().item() for name, gate in gates.items()}

    def remarks(self) -> list[str]:
        """What is unusual about the validation pairs."""
        lines = augmented_remark(self.val_samples)
        references = self.samples.reader.references
        if self.no_change and not any(sentence in own for own in references for sentence in self.no_change):
            remedy = (
                "prepare the data again, which finds those of the data"
                if self.config.data.no_change is None
                else "leave data.no_change out for those of the data"
            )
            lines.append(
                f"WARNING: none of {len(self.no_change)} no-change sentences is a training caption, so every "
                f"caption counts as telling of a change: {remedy}"
            )
        if not self.val_samples.reader.has_human_words:
            lines.append(
                "validation scores against the stored captions: no human words without data.annotations"
            )
        return lines


def as_numbers(scores: dict[str, np.ndarray]) -> dict[str, float]:
    return {name: float(value) for name, value in scores.items()}
