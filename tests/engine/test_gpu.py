"""Results on a GPU equal those on the CPU. `make test-gpu` runs the cases that need a GPU.

Tests compare a device with the CPU, or check a property on both. Without a GPU they compare the CPU with
itself, which tests their code.
"""

import os

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # before cuBLAS starts: it then repeats itself

# isort: split
import subprocess
import sys

import pytest
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

import caption
import train
from configs import TrainConfig
from data.dataset import collate
from models.precision import autocast, make_scaler
from models.shared_batchnorm import share_batchnorm
from tests.conftest import CONFIGS, DEVICES
from tests.helpers.one_step import CASES
from tests.helpers.tiny import (
    END,
    PAD,
    START,
    random_tokens,
    random_views,
    save_tiny_detector,
    tiny_model,
    tiny_settings,
)
from tests.helpers.waiting import waits
from tools import robustness
from tools.engine.captioning_task import CaptionLoss
from tools.engine.checkpoint import load_checkpoint
from tools.engine.compiling import compile_fixed
from tools.engine.detection_task import DetectionLoss
from tools.engine.device import pick_device
from tools.engine.distributed import Processes
from tools.engine.optimiser import make_optimiser
from tools.engine.training_steps import Progress, TrainingSteps

ROOT = CONFIGS.parent
CPU = torch.device("cpu")
on_each_device = pytest.mark.parametrize("device", DEVICES, indirect=True)


@pytest.fixture
def device(request) -> torch.device:
    """The device of a test; restores the settings of torch."""
    cuda, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = cuda.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, torch.are_deterministic_algorithms_enabled()
    yield pick_device(request.param)
    cuda.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, deterministic = before
    torch.use_deterministic_algorithms(deterministic)


def batch_of(pairs: int, device: torch.device) -> dict[str, torch.Tensor]:
    """A batch on the CPU as a loader returns it, in pinned memory for a GPU."""
    views, tokens = random_views(pairs), random_tokens(pairs, 1, 6)
    views[0, 2:] = 0
    samples = zip(views, tokens, strict=True)
    batch = collate([{"views": v, "tokens": t, "index": torch.tensor(i)} for i, (v, t) in enumerate(samples)])
    return {name: values.pin_memory() if device.type == "cuda" else values for name, values in batch.items()}


def steps_on(device: torch.device, precision: str = "float32", **changes) -> TrainingSteps:
    """Training steps of a tiny captioning model or, by name="change_detector", a detector."""
    model = tiny_model(**changes).to(device).train()
    config = TrainConfig(learning_rate=1e-3)
    detector = changes.get("name") == "change_detector"
    loss = DetectionLoss(precision) if detector else CaptionLoss(PAD, precision)
    scaler = make_scaler(precision, device)
    optimiser = make_optimiser(model, config)
    return TrainingSteps(model, loss, optimiser, config, Progress(), Processes(), scaler=scaler)


def take(steps: TrainingSteps, batch: dict[str, torch.Tensor], count: int) -> None:
    for _ in range(count):
        steps.agree(batch)
        steps.take(batch)


def mean_loss(steps: TrainingSteps, batch: dict[str, torch.Tensor]) -> float:
    """The loss of the next step."""
    before = steps.progress.loss
    steps.take_and_wait(batch)
    return (steps.progress.loss - before) / steps.count


@on_each_device
@torch.inference_mode()
def test_logits_in_float32(device):
    model, views, tokens = tiny_model().eval(), random_views(4), random_tokens(4, 7)
    expected = model(views, tokens)
    with autocast(device, "float32"):
        logits = model.to(device)(views.to(device), tokens.to(device))
    torch.testing.assert_close(logits.cpu(), expected, rtol=0, atol=1e-3)


@on_each_device
def test_captions_of_100_pairs_in_float32(device):
    model, views = tiny_model().eval(), random_views(100)
    special = {"start": START, "end": END, "beam_size": 4}
    expected = [ranked[0] for ranked in model.caption(views, **special)]
    with autocast(device, "float32"):
        answers = [ranked[0] for ranked in model.to(device).caption(views.to(device), **special)]
    assert [answer.tokens for answer in answers] == [answer.tokens for answer in expected]
    expected_scores = [answer.log_prob for answer in expected]
    assert [answer.log_prob for answer in answers] == pytest.approx(expected_scores, abs=1e-3)


@on_each_device
@pytest.mark.parametrize("precision", ["float32", "tf32", "bf16", "fp16"])
def test_training_in_each_precision(device, precision):
    """The first loss is the CPU's to the precision's digits, the loss falls, and weights stay finite."""
    steps, batch = steps_on(device, precision), batch_of(4, device)
    expected = mean_loss(steps_on(CPU), batch)
    first = mean_loss(steps, batch)
    assert first == pytest.approx(expected, rel=1e-3 if "32" in precision else 0.03)
    take(steps, batch, 12)
    steps.finish()
    assert mean_loss(steps, batch) < 0.9 * first
    assert all(parameter.isfinite().all() for parameter in steps.model.parameters())
    assert steps.scaler.is_enabled() == (precision == "fp16" and device.type == "cuda")


@on_each_device
@pytest.mark.parametrize("name", ["mmodalcc", "change_detector"])
def test_step_synchronises_at_most_once(device, name):
    settings = {"name": name, "width": 16}
    steps, batch = steps_on(device, **settings), batch_of(3, device)
    take(steps, batch, 3)  # the first ones make the optimiser's state
    assert waits(lambda: take(steps, batch, 4), device) <= 4


@pytest.mark.gpu
def test_gpu_synchronisations_are_counted():
    assert waits(lambda: torch.ones(3, device="cuda").sum().item(), torch.device("cuda")) == 1


@on_each_device
def test_a_step_that_is_not_finite_changes_no_weight(device):
    steps, batch = steps_on(device), batch_of(2, device)
    take(steps, batch, 1)
    with torch.no_grad():
        steps.model.decoder.output.bias[0] = torch.nan
    before = {name: value.clone() for name, value in steps.model.named_parameters()}
    take(steps, batch, 1)
    for name, value in steps.model.named_parameters():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0, equal_nan=True, msg=name)
    with pytest.raises(ValueError, match="step 2 of epoch 1 has loss nan"):
        steps.finish()


@pytest.mark.gpu
def test_compiled_parts_give_the_same_loss():
    device = pick_device("cuda")
    batch, plain, compiled = batch_of(3, device), steps_on(device), steps_on(device)
    compile_fixed(compiled.model)
    assert mean_loss(compiled, batch) == pytest.approx(mean_loss(plain, batch), rel=1e-3)


@on_each_device
def test_shared_batchnorm_and_ddp_of_one_process(device):
    """NCCL on a GPU, gloo on a CPU: with one process the gradients and statistics are the plain ones."""
    views, tokens, results = random_views(3), random_tokens(3, 6), []
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    try:
        for shared in (False, True):
            model = wrapped = tiny_model(trunk_batchnorm="live").to(device).train()
            if shared:
                share_batchnorm(model)
                wrapped = DistributedDataParallel(model, forward_sync_buffers=False)
            with autocast(device, "float32"):
                wrapped(views.to(device), tokens.to(device)).square().mean().backward()
            gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
            results.append((gradients, dict(model.named_buffers())))
    finally:
        dist.destroy_process_group()
    (gradients, buffers), (gradients2, buffers2) = results
    assert gradients.keys() == gradients2.keys()
    for name, gradient in gradients.items():
        assert (gradients2[name] - gradient).norm() <= 5e-3 * gradient.norm() + 1e-4, name
    for name, value in buffers.items():
        torch.testing.assert_close(buffers2[name], value, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.gpu
@pytest.mark.slow
def test_two_gpus_take_the_steps_of_one_cpu(demo_input, tmp_path):
    if torch.cuda.device_count() < 2:
        pytest.skip("two GPUs are needed")
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    results = []
    for launcher, name in (([], "cpu"), (torchrun, "cuda")):
        script = ["tests/helpers/one_step.py", tmp_path / name, demo_input, name]
        subprocess.run(
            [sys.executable, *launcher, *map(str, script)],
            cwd=ROOT,
            check=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        results.append(torch.load(tmp_path / name, weights_only=True))
    for case in CASES:
        cpu, cuda = (result[case] for result in results)
        assert cuda["loss"] == pytest.approx(cpu["loss"], rel=1e-5)
        assert not cuda["unequal"]
        for name, gradient in cpu["gradients"].items():
            assert (cuda["gradients"][name] - gradient).norm() <= 1e-4 * gradient.norm() + 1e-7, name


@on_each_device
@pytest.mark.slow
@pytest.mark.parametrize("precision", ["tf32", "fp16"])
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(device, precision, demo_input, tmp_path):
    """A trunk that does not learn: the backward pass of its pooling has no deterministic form on a GPU."""
    torch.use_deterministic_algorithms(True)
    settings = {"train.device": device.type, "decode.device": device.type, "train.precision": precision}
    settings |= {"model.trained_from": "nothing", "train.schedule": "plateau"}

    def run(name: str, epochs: int, *more: str) -> dict:
        options = tiny_settings(demo_input, **settings, **{"train.epochs": epochs})
        base = ["--config", str(CONFIGS / "second_cc.yaml"), *options]
        train.main([*base, "--run_dir", str(tmp_path / name), *more])
        return load_checkpoint(tmp_path / name / "last.pt", training=True)

    whole = run("whole", 2)
    run("cut", 1)
    cut = run("cut", 2, "--resume")
    assert cut["training"]["progress"] == whole["training"]["progress"]
    assert cut["training"]["scaler"] == whole["training"]["scaler"]
    for name, value in whole["model"].items():
        assert torch.equal(value, cut["model"][name]), name


@on_each_device
def test_caption_py(device, tiny_run, demo_input, capsys):
    test = demo_input.parent / "dataset" / "test"
    name = min(path.name for path in (test / "rgb" / "A").iterdir())
    pair = [str(test / view / name) for view in ("rgb/A", "rgb/B", "sem/A", "sem/B")]
    message = []
    for index in ("cpu", device.type):
        caption.main([*pair, "--checkpoint", str(tiny_run / "best.pt"), "--decode.device", index])
        message.append(capsys.readouterr().out)
    assert message[0].endswith("\n")
    assert message[1] == message[0]


@on_each_device
def test_the_detector_learns_and_finds_the_cpus_maps(device):
    steps, batch = steps_on(device, name="change_detector", width=16), batch_of(4, device)
    first = mean_loss(steps, batch)
    take(steps, batch, 8)
    steps.finish()
    assert mean_loss(steps, batch) < first
    model, views = steps.model.eval(), batch["views"]
    with autocast(device, "float32"):
        maps = model.detect(views.to(device))
    assert (maps == model.cpu().detect(views)).float().mean() > 0.99


@on_each_device
@pytest.mark.slow
def test_robustness_with_and_without_a_detector(device, tiny_run, demo_input, tmp_path):
    save_tiny_detector(tmp_path / "detector.pt", demo_input)
    base = ["--checkpoint", str(tiny_run / "best.pt"), "--severities", "3", "--decode.device", device.type]
    base += ["--data.dir", str(demo_input), "--data.workers", "0", "--perturbations", "noise", "registration"]
    for name, more in (("given", []), ("detected", ["--detector", str(tmp_path / "detector.pt")])):
        robustness.main([*base, *more, "--output", str(tmp_path / name)])
        assert (tmp_path / name / "robustness.json").stat().st_size > 0
