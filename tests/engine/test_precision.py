"""The precision of a device, of the decoder, and of the authors' procedure."""

import warnings

import pytest
import torch

from configs import TrainConfig
from models.precision import (
    autocast,
    has_bf16_units,
    make_scaler,
    plain_float32,
    precision_line,
    replacement,
    tune_convolutions,
    usable_precision,
)
from tests.helpers.tiny import END, PAD, START, random_tokens, random_views, tiny_model
from tools.engine.distributed import Processes
from tools.engine.optimiser import make_optimiser
from tools.engine.run_state import restore, training_state
from tools.engine.training_steps import Progress
from tools.studies.authors_procedure import authors_captions, authors_optimiser, authors_step
from tools.studies.benchmark_model import PRECISIONS, counterpart, precisions

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def tf32() -> tuple[bool, bool]:
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


def quiet_autocast(precision: str) -> torch.autocast:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's remark where there is no GPU
        return autocast(CUDA, precision)


@pytest.fixture
def tf32_on():
    """TF32 as an earlier piece of work may leave it; as it was afterwards."""
    before = tf32()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@pytest.mark.parametrize(
    ("requested", "kind", "bf16", "usable"),
    [
        ("bf16", "cuda", True, "bf16"),
        ("bf16", "cuda", False, "fp16"),
        ("fp16", "cuda", True, "fp16"),
        ("tf32", "cuda", False, "tf32"),
        ("float32", "cuda", True, "float32"),
        ("bf16", "cpu", True, "bf16"),
        ("bf16", "cpu", False, "float32"),
        ("fp16", "cpu", True, "float32"),
        ("tf32", "cpu", True, "float32"),
    ],
)
def test_unsupported_precision_is_replaced(requested, kind, bf16, usable):
    assert replacement(requested, kind, bf16=bf16) == usable


def test_bf16_runs_only_where_the_cpu_has_bf16_units():
    assert usable_precision("float32", CPU) == "float32"
    assert usable_precision("bf16", CPU) == ("bf16" if has_bf16_units(CPU) else "float32")
    with autocast(CPU, "bf16"):
        assert torch.is_autocast_enabled("cpu") == has_bf16_units(CPU)


def test_precision_is_printed_in_one_line():
    assert precision_line("float32", CPU) == "precision float32"
    assert precision_line("fp16", CPU) == "precision float32 (fp16 is not fast on this cpu)"


def test_only_fp16_scales_losses():
    assert not make_scaler("bf16", CPU).is_enabled()
    assert not make_scaler("fp16", CPU).is_enabled()  # a CPU computes float32 instead


def test_precision_sets_whether_a_gpu_uses_tf32(tf32_on):
    for precision, rounded in (("float32", False), ("tf32", True), ("fp16", True), ("float32", False)):
        quiet_autocast(precision)
        assert tf32() == (rounded, rounded)


def test_plain_float32_within_autocast(tf32_on):
    with torch.autocast("cpu", torch.bfloat16):
        with plain_float32(CPU):
            assert tf32() == (False, False)
            assert not torch.is_autocast_enabled("cpu")
        assert tf32() == (True, True)
        assert torch.is_autocast_enabled("cpu")


def test_beam_search_does_not_use_tf32(tf32_on):
    """Words are chosen in float32, whatever precision the images are encoded in."""
    model, seen = tiny_model().eval(), []
    model.decoder.output.register_forward_pre_hook(lambda *_: seen.append(tf32()))
    model.fusion.register_forward_pre_hook(lambda *_: seen.append(tf32()))
    model.caption(random_views(1), start=START, end=END, beam_size=2)
    assert seen[0] == (True, True)
    assert set(seen[1:]) == {(False, False)}


def test_the_authors_procedure_sets_its_own_precision():
    """Autocast that is on around it, as a piece of work before it may leave TF32 on, does not reach it."""
    model, seen = tiny_model().train(), []
    model.decoder.output.register_forward_pre_hook(lambda *_: seen.append(torch.is_autocast_enabled("cpu")))
    optimiser = authors_optimiser(model, 1e-3)
    with torch.autocast("cpu", torch.bfloat16):
        authors_captions(model, random_views(1)[0], start=START, end=END, beam_size=1, precision="tf32")
        authors_step(model, random_views(2), random_tokens(2, 5), optimiser, pad=PAD, clip=5.0)
    assert set(seen) == {False}


def test_work_is_compared_with_the_authors_procedure_in_the_same_precision():
    works = {"released": None, "released, tf32": None}
    counterparts = {name: counterpart(name, works) for name in PRECISIONS}
    assert counterparts == {"float32": "released", "tf32": "released, tf32", "bf16": "released, tf32"}
    assert counterpart("bf16", {"released": None}) == "released"
    assert "tf32" not in precisions(CPU)


def test_convolutions_are_tuned_on_gpus_unless_deterministic():
    before = torch.backends.cudnn.benchmark
    try:
        for device, deterministic, tuned in ((CPU, False, False), (CUDA, True, False), (CUDA, False, True)):
            torch.backends.cudnn.benchmark = False
            torch.use_deterministic_algorithms(deterministic)
            tune_convolutions(device)
            assert torch.backends.cudnn.benchmark == tuned
    finally:
        torch.backends.cudnn.benchmark = before
        torch.use_deterministic_algorithms(False)


def test_loss_scale_is_resumed():
    model, processes, scaler = tiny_model(), Processes(), torch.amp.GradScaler("cpu", init_scale=8.0)
    optimiser = make_optimiser(model, TrainConfig())
    scaler.scale(torch.zeros(()))  # makes the scale
    scaler.update(2.0)
    state = training_state(optimiser, scaler, Progress(skipped=2), processes)
    resumed = torch.amp.GradScaler("cpu")
    content = {"model": model.state_dict(), "training": state}
    progress = restore(content, model, optimiser, resumed, processes)
    assert resumed.state_dict() == scaler.state_dict()
    assert progress == Progress(skipped=2)


def test_run_without_a_loss_scale_is_resumed():
    """An older checkpoint, or one of another precision."""
    model, processes, scaler = tiny_model(), Processes(), torch.amp.GradScaler(enabled=False)
    optimiser = make_optimiser(model, TrainConfig())
    state = training_state(optimiser, scaler, Progress(), processes)
    assert state["scaler"] == {}
    resumed = torch.amp.GradScaler("cpu")
    restore({"model": model.state_dict(), "training": state}, model, optimiser, resumed, processes)
    assert resumed.get_scale() == 2**16
