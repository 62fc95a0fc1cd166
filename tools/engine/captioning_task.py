"""The captioning task of train.py: the loss of a batch and the validation of an epoch."""

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from configs import SELECTED_BY, Config
from data.dataset import Batch, ChangeCaptions, augmented_remark
from data.errors import UserError
from models.captioner import Captioner, inputs_of
from models.precision import autocast
from tools.engine.captioning import predict, temperature_of, to_captions
from tools.engine.checkpoint import Content
from tools.engine.decoding import CaptionDecoding
from tools.engine.distributed import Agree, Processes
from tools.engine.run_folder import sample_of
from tools.scoring.baselines import TrainingCaptions, best_constants, floor_and_oracle, training_captions
from tools.scoring.fact_scores import fact_metrics, measurable_facts
from tools.scoring.meteor import Meteor
from tools.scoring.metrics import METRICS, Measured, measure
from tools.scoring.results import CaptionEntry, Validation

LOGGED = {*METRICS, *SELECTED_BY["captioning"]}


@dataclass(frozen=True)
class CaptionLoss:
    """Cross-entropy of the next word, summed over the target words without padding (`<end>` included).

    pad: the padding token. precision: of the forward pass, see models.precision.
    """

    pad: int
    precision: str

    def count(self, batch: Batch) -> int:
        """The number of target words of a batch without padding; the loss is the mean over them."""
        return (batch["tokens"][..., 1:] != self.pad).sum().item()

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """The summed loss of a batch with tokens (B, K, T) and the views or the features of the pairs."""
        tokens = batch["tokens"]
        device = next(model.parameters()).device
        longest = max(2, int((tokens != self.pad).sum(-1).max()))
        tokens = tokens[..., :longest].to(device, non_blocking=True)
        with autocast(device, self.precision):
            logits = model(tokens=tokens[..., :-1], **inputs_of(batch, device))  # (B, K, T, V)
        targets = tokens[..., 1:].flatten()
        return F.cross_entropy(logits.float().flatten(0, -2), targets, ignore_index=self.pad, reduction="sum")


class CaptioningTask:
    """Captions the validation pairs after each epoch (beam size 1) and scores them beside the floors.

    A context manager: METEOR's Java runs within the context, in the process that scores. On entry the floors
    are chosen from the training captions (tools/scoring/baselines.py), which takes 40 s of one core for the
    6,815 training pairs of LEVIR-CC.
    """

    def __init__(
        self, config: Config, samples: ChangeCaptions, val_samples: ChangeCaptions, processes: Processes
    ) -> None:
        self.config, self.samples, self.val_samples = config, samples, val_samples
        self.processes, self.vocabulary = processes, samples.reader.vocabulary
        self.loss = CaptionLoss(self.vocabulary.pad, config.train.precision)
        self.training: TrainingCaptions | None = None
        self.floors: dict[str, dict[str, float]] = {}
        reader = val_samples.reader
        changed = [reader.references[row] for row in val_samples.rows if reader.changed[row]]
        self.facts, self.no_facts = measurable_facts(config.data.facts, changed)
        setting = config.data.no_change
        self.no_change = samples.reader.no_change if setting is None else tuple(setting)
        self.temperature: float | None = None

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

    def content(self) -> Content:
        """The parts of a checkpoint, besides the model, that eval.py and caption.py need."""
        training = self.training
        return {
            "vocabulary": list(self.vocabulary.words),
            "train_captions": list(training.captions) if training else [],
            "train_constants": dict(training.best) if training else {},
            "no_change": list(self.no_change),
            "change_temperature": self.temperature,
            **self.samples.reader.maps.to_dict(),
            "metres_per_pixel": self.samples.reader.metres_per_pixel,
            "image_size": list(self.samples.reader.image_size),
        }

    def validate(self, model: Captioner, agree: Agree) -> tuple[Validation, list[CaptionEntry]]:
        """The scores of an epoch, the same in every process, and the validation captions.

        agree: called between batches and while METEOR computes.
        """
        settings = replace(self.config.decode, beam_size=1, change_threshold=None)
        decoding = CaptionDecoding(model, self.vocabulary, self.no_change, settings)
        decoded = predict(decoding, self.val_samples, self.config, self.processes, self.meteor, agree)
        self.temperature = temperature_of(decoded, self.val_samples)
        for index, pair in enumerate(decoded):
            decoded[index] = pair.calibrated(self.temperature)
        captions = to_captions(decoded, self.val_samples, self.vocabulary)

        def score() -> Validation:
            self.meteor.while_waiting = agree
            try:
                segments = [(entry["caption"], tuple(entry["references"])) for entry in captions]
                measured = measure(segments, self.meteor, optional=fact_metrics(self.facts))
                scores = self._corpus_scores(measured, len(segments))
            finally:  # only here do other processes answer `agree`
                self.meteor.while_waiting = None
            line = {"val": scores, **self.floors}
            line["distinct_captions"] = len({entry["caption"] for entry in captions})
            if self.temperature is not None:
                line["change_temperature"] = self.temperature
            if gates := self.gates(model, [pair.captions[0].tokens for pair in decoded]):
                line["gates"] = gates
            return line

        return self.processes.gather(self.processes.in_first(score, agree))[0], captions

    def _floors(self) -> dict[str, dict[str, float]]:
        """The scores of both floors on the validation pairs."""
        reader = self.val_samples.reader
        references = [tuple(reader.references[row]) for row in self.val_samples.rows]
        floor, captions = self.training.best_of("all"), self.training.captions
        oracle = best_constants({"all": references}, captions, self.meteor)["all"]
        segments = [(floor, texts) for texts in references]
        facts = fact_metrics(self.facts)
        constants = floor_and_oracle(segments, floor, oracle, captions, self.meteor, facts)
        scores = [self._corpus_scores(constant.measured, len(segments)) for constant in constants]
        return dict(zip(("floor", "floor_oracle"), scores, strict=True))

    def _corpus_scores(self, measured: Measured, pairs: int) -> dict[str, float]:
        """The logged scores of a corpus. UserError if `train.select_on` has no value."""
        scores = {name: float(value) for name, value in measured.scores(np.ones(pairs)).items()}
        name = self.config.train.select_on
        if name not in scores:
            raise UserError(
                f"train.select_on {name} has no value on the validation pairs "
                f"({measured.reasons().get(name, self.no_facts)}): choose another metric"
            )
        return {name: score for name, score in scores.items() if name in LOGGED}

    @torch.inference_mode()
    def gates(self, model: Captioner, captions: list[list[int]]) -> dict[str, float]:
        """Means of the model's gates over the words of a sample of the pairs; {} for a model without gates.

        captions: the tokens of the caption of every validation pair.
        """
        chosen = sample_of(list(zip(self.val_samples.rows, captions, strict=True)))
        views = torch.stack([self.val_samples.views_at(row) for row, _ in chosen]).to(model.device)
        texts = [torch.tensor([self.vocabulary.start, *caption]) for _, caption in chosen]
        tokens = pad_sequence(texts, batch_first=True, padding_value=self.vocabulary.pad).unsqueeze(1)
        tokens = tokens[..., : model.settings.max_length + 1].to(views.device)
        with autocast(views.device, self.config.decode.precision):
            explanation = model.explain(views, tokens)
        words = tokens != self.vocabulary.pad
        gates = explanation.gates if explanation else {}
        return {name: gate[words].float().mean().item() for name, gate in gates.items()}

    def remarks(self) -> list[str]:
        """Warnings about the no-change sentences and the validation pairs."""
        lines = augmented_remark(self.val_samples)
        training_texts = set().union(*self.samples.reader.references)
        if self.no_change and training_texts.isdisjoint(self.no_change):
            remedy = (
                "prepare the data again, which finds those of the data"
                if self.config.data.no_change is None
                else "leave data.no_change out for those of the data"
            )
            lines.append(
                f"WARNING: none of {len(self.no_change)} no-change sentences is a training caption, so every "
                f"caption counts as describing a change: {remedy}"
            )
        if not self.val_samples.reader.has_human_words:
            lines.append(
                "validation scores against the stored captions: no human words without data.annotations"
            )
        return lines
