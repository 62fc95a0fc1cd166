"""The parts of tools/benchmark.py that time the model: evaluation and training steps, beside the authors'
procedure and the trunks alone."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from configs import Config
from data.dataset import Batch, ChangeCaptions, make_loader, views_of
from models.beam_search import Hypothesis
from models.fuse_batchnorm import fold_batchnorm
from models.mmodalcc import MModalCC
from models.precision import autocast, usable_precision
from tools.engine.captioning import predict
from tools.engine.captioning_task import CaptionLoss
from tools.engine.decoding import CaptionDecoding
from tools.engine.device import pick_device
from tools.engine.distributed import Processes
from tools.engine.optimiser import make_optimiser
from tools.engine.training_steps import Progress, TrainingSteps
from tools.studies.authors_procedure import authors_captions, authors_copy, authors_optimiser, authors_step
from tools.studies.benchmark_subject import Subject
from tools.studies.stopwatch import Row, Work, count_operations, time_side_by_side

PRECISIONS = ("float32", "tf32", "bf16")
CAPTIONS_PER_PAIR = 5

Result = tuple[list[Row], dict[str, float]]  # the rows of a part, and its other measurements


def evaluation(subject: Subject, repeats: int) -> Result:
    """Time captioning of the samples: reading, encoding, beam search."""
    model, config, vocabulary = deepcopy(subject.model), subject.config, subject.vocabulary
    fold_batchnorm(model)
    device, count = model.device, len(subject.samples)
    loader = make_loader(subject.samples, config.data, batch_size=config.decode.batch_size)
    batches = [views_of(batch, device) for batch in loader]
    plain = authors_copy(subject.model)

    def authors(precision: str) -> list[Hypothesis]:
        special = {"start": vocabulary.start, "end": vocabulary.end, "beam_size": config.decode.beam_size}
        pairs = (subject.samples[i]["views"].to(device) for i in range(count))
        return [authors_captions(plain, views, **special, precision=precision)[0] for views in pairs]

    works = authors_works(authors, count, device)
    for precision in precisions(device):
        settings = replace(config, decode=replace(config.decode, precision=precision))
        decoding = CaptionDecoding(model, vocabulary, (), settings.decode)
        ours = partial(best_captions, decoding, subject.samples, settings)
        trunks = partial(encode_alone, model, batches, precision)
        works[f"trunks alone, {precision}"] = Work(trunks, count, precision)
        works[precision] = Work(
            ours, count, precision, counterpart(precision, works), f"trunks alone, {precision}"
        )
    rows, captions = time_side_by_side(works, repeats, device)
    expected = captions["released"]
    others = {"words in a caption": sum(len(caption.tokens) for caption in expected) / count}
    for precision in precisions(device):
        answers = list(zip(captions[precision], expected, strict=True))
        same = sum(same_answer(ours, theirs) for ours, theirs in answers)
        same_words = sum(ours.tokens == theirs.tokens for ours, theirs in answers)
        others[f"share of captions that equal the released ones, {precision}"] = same / count
        others[f"captions among them with other words that are as likely to 1e-5, {precision}"] = (
            same - same_words
        )
    return rows, others


def best_captions(decoding: CaptionDecoding, samples: ChangeCaptions, config: Config) -> list[Hypothesis]:
    """The best caption of each pair, in order."""
    return [pair.captions[0] for pair in predict(decoding, samples, config, Processes())]


def precisions(device: torch.device) -> list[str]:
    """The PRECISIONS that the device supports in hardware."""
    return [precision for precision in PRECISIONS if usable_precision(precision, device) == precision]


def authors_works(call: Callable[[str], Any], units: int, device: torch.device) -> dict[str, Work]:
    """The authors' procedure in float32, and on GPUs also in TF32, the default of the authors' torch."""
    works = {"released": Work(partial(call, "float32"), units)}
    if "tf32" in precisions(device):
        works["released, tf32"] = Work(partial(call, "tf32"), units, "tf32")
    return works


def counterpart(precision: str, works: dict[str, Work]) -> str:
    """The authors' work to compare ours with: the fastest whose precision is at least as high."""
    tf32 = "released, tf32"
    return tf32 if precision != "float32" and tf32 in works else "released"


@torch.inference_mode()
def encode_alone(model: MModalCC, batches: list[Tensor], precision: str) -> None:
    """Both trunks on all four views, including void maps."""
    with autocast(model.device, precision):
        for views in batches:
            images = model.normalised(views)
            for encoder, dates in model.encoders():
                encoder.trunk(images[:, dates].flatten(0, 1).contiguous(memory_format=torch.channels_last))


def same_answer(ours: Hypothesis, expected: Hypothesis) -> bool:
    """Whether the words are the same, or equally likely up to 1e-5."""
    return ours.tokens == expected.tokens or abs(ours.log_prob - expected.log_prob) < 1e-5


def training(subject: Subject, repeats: int) -> Result:
    """Time a training step on random pairs, per caption: one caption per pair, or all captions per pair."""
    config, pad = subject.config.train, subject.vocabulary.pad
    device, captions = pick_device(config.device), config.batch_size
    single = subject.random_batch(captions, 1, device)
    every = subject.random_batch(max(1, captions // CAPTIONS_PER_PAIR), CAPTIONS_PER_PAIR, device)
    plain, ours = (copy.to(device).train() for copy in (authors_copy(subject.model), deepcopy(subject.model)))
    plain_adam, adam = authors_optimiser(plain, config.learning_rate), make_optimiser(ours, config)

    def authors(precision: str) -> None:
        authors_step(
            plain,
            single["views"],
            single["tokens"][:, 0],
            plain_adam,
            pad=pad,
            clip=config.clip_value,
            precision=precision,
        )

    def step(batch: Batch, precision: str) -> None:
        loss = CaptionLoss(pad, precision)
        TrainingSteps(ours, loss, adam, config, Progress(), Processes()).take_and_wait(batch)

    works = authors_works(authors, captions, device)
    for precision in precisions(device):
        trunks = f"trunks alone, {precision}"
        works[trunks] = Work(partial(trunk_step, ours, single["views"], precision), captions, precision)
        theirs = counterpart(precision, works)
        works[precision] = Work(partial(step, single, precision), captions, precision, theirs, trunks)
        works[f"all captions of a pair, {precision}"] = Work(
            partial(step, every, precision), every["tokens"].shape[:2].numel(), precision, theirs
        )
    rows, _ = time_side_by_side(works, repeats, device)
    seconds = {row.name: row.seconds for row in rows}
    others = {f"seconds of a released step of {captions}": seconds["released"] * captions}
    operations = count_operations(partial(step, single, "float32"))
    others["GFLOP of a step for a caption of a pair without plain views"] = operations / captions / 1e9
    for precision in precisions(device):
        share = seconds[f"all captions of a pair, {precision}"] / seconds[precision]
        others[f"epoch with captions_per_step all, share of one's, {precision}"] = share
    return rows, others


def trunk_step(model: MModalCC, views: Tensor, precision: str) -> None:
    """The forward pass of both trunks, and the backward pass of their trainable layers."""
    with autocast(views.device, precision):
        features = model.features(views)
    if features.requires_grad:
        features.float().mean().backward()
    model.zero_grad(set_to_none=True)
