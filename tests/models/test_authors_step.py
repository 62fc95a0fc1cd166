"""A training step with the authors' settings gives the gradients and BatchNorm statistics of their code."""

import json
from dataclasses import replace

import pytest
import torch

from configs import Config
from configs.command_line import load
from models.authors.checkpoint import authors_name
from tests.conftest import CONFIGS
from tests.helpers import authors_modules, naive
from tools import import_authors
from tools.engine.captioning_task import CaptionLoss
from tools.engine.checkpoint import load_checkpoint, restore_model
from tools.engine.distributed import Processes
from tools.engine.optimiser import make_optimiser
from tools.engine.training_steps import Progress, TrainingSteps

WORDS = ["<pad>", *(f"w{i}" for i in range(16)), "<unk>", "<start>", "<end>"]
PAD, START, END = 0, 18, 19
FROZEN = ("net.0.", "net.1.", "net.4.")  # conv1, bn1, layer1


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """An imported checkpoint's content, and the authors' parameters by name."""
    folder, modules = tmp_path_factory.mktemp("step"), authors_modules.build(len(WORDS))
    reference = authors_modules.save(authors_modules.checkpoint(modules), folder / "theirs.pth.tar")
    (folder / "words.json").write_text(json.dumps({word: index for index, word in enumerate(WORDS)}))
    argv = [str(reference), "--word_map", str(folder / "words.json"), "--output", str(folder / "ours.pt")]
    import_authors.main(argv)
    return load_checkpoint(folder / "ours.pt"), authors_modules.tensors_of(modules)


@pytest.fixture(scope="module")
def batch():
    """Four pairs with a caption each, of different lengths."""
    tokens = torch.randint(1, START, (4, 1, 9), generator=torch.Generator().manual_seed(2))
    tokens[..., 0] = START
    for caption, length in enumerate((8, 5, 3, 6)):
        tokens[caption, :, length] = END
        tokens[caption, :, length + 1 :] = PAD
    return {"views": authors_modules.pictures(4, seed=3), "tokens": tokens, "index": torch.arange(4)}


def our_step(content, batch, clip_value):
    """The model after train.py's step, its gradients and the loss, with dropout 0 and in float64."""
    for name in ("dropout", "embedding_dropout"):
        content["config"]["model"][name] = 0.0
    config = Config.from_dict(content["config"]).train
    config = replace(config, clip_value=clip_value)
    model = restore_model(content, fold=False)[0].double().train()
    progress, processes = Progress(), Processes.join(torch.device("cpu"))
    optimiser = make_optimiser(model, config)
    loss = CaptionLoss(PAD, "float32")
    TrainingSteps(model, loss, optimiser, config, progress, processes).take_and_wait(batch)
    return model, progress.loss / progress.count


def naive_step(tensors, batch):
    """The parameters with their gradients, statistics after the step, and the loss."""
    parameters = {name: t.double() if t.is_floating_point() else t.clone() for name, t in tensors.items()}
    for name, tensor in parameters.items():
        if tensor.is_floating_point() and "running" not in name and not any(part in name for part in FROZEN):
            tensor.requires_grad_()
    loss = naive.loss(parameters, batch["views"], batch["tokens"][:, 0], heads=2, pad=PAD)
    loss.backward()
    return parameters, loss.item()


def without_zero_gradients(name, gradient):
    """Gradients without those that are exactly 0: biases of keys and of convolutions before BatchNorm."""
    if name.endswith("in_proj_bias"):
        query, _, value = gradient.chunk(3)
        return torch.cat([query, value])
    if name.endswith(("left.0.bias", "left.3.bias", "left.6.bias")):
        return gradient[:0]
    return gradient


@pytest.mark.parametrize("clip_value", [0.0, 1e-3])
def test_gradients_of_a_step(checkpoint, batch, clip_value):
    content, tensors = checkpoint
    model, loss = our_step(content, batch, clip_value)
    expected, expected_loss = naive_step(tensors, batch)
    assert loss == pytest.approx(expected_loss, rel=1e-6)
    compared = clamped = 0
    for name, parameter in model.named_parameters():
        reference = authors_name(name)
        gradient = expected[reference].grad
        assert (parameter.grad is None) == (gradient is None), name
        if gradient is not None:
            scale = gradient.abs().max()
            if clip_value and not reference.startswith("encoder_feat"):
                clamped += int((gradient.abs() > clip_value).sum())
                gradient = gradient.clamp(-clip_value, clip_value)
            ours, right = (without_zero_gradients(reference, g) for g in (parameter.grad, gradient))
            torch.testing.assert_close(ours, right, rtol=1e-5, atol=1e-6 * scale, msg=name)
            compared += right.numel()
    assert compared > 1_000_000
    assert bool(clamped) == bool(clip_value)


def test_statistics_after_a_step(checkpoint, batch):
    content, tensors = checkpoint
    model, _ = our_step(content, batch, 0.0)
    expected, _ = naive_step(tensors, batch)
    statistics = {authors_name(n): b for n, b in model.named_buffers() if "running_" in n}
    assert statistics.keys() == {name for name in expected if "running_" in name}
    for name, ours in statistics.items():
        torch.testing.assert_close(ours, expected[name], rtol=1e-5, atol=1e-8, msg=name)


def test_authors_training_recipe():
    recipe = load(CONFIGS / "second_cc_authors.yaml")
    assert (recipe.train.clip_value, recipe.train.clip_fusion, recipe.train.learning_rate) == (
        5.0,
        False,
        5e-5,
    )
    assert (recipe.model.trunk_batchnorm, recipe.model.trained_from) == ("live", "layer2")
    assert (recipe.train.captions_per_step, recipe.train.batch_size) == ("one", 28)
