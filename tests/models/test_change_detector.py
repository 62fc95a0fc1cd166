"""The change detector: its inputs, loss and training, its settings and checkpoints."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import train
from configs import Config, TrainConfig
from data.palette import SECOND, WHITE, Palette
from data.sampler import SPARE
from data.settings import DataConfig
from models import build_model
from models.change_detector import BALANCE, ChangeDetector, Detection, detection_loss
from tests.conftest import CONFIGS
from tests.helpers.tiny import random_views, tiny_config, tiny_model
from tools.engine.checkpoint import (
    load_checkpoint,
    restore_detector,
    restore_model,
    save_checkpoint,
    start_from,
)
from tools.engine.detection_task import DetectionLoss, given_classes
from tools.engine.distributed import Processes
from tools.engine.optimiser import make_optimiser
from tools.engine.training_steps import Progress, TrainingSteps
from tools.scoring.detection import TITLES

BUILDING, GRASS = 5, 1


def tiny_detector(**changes) -> ChangeDetector:
    return tiny_model(**{"name": "change_detector", "width": 8, "trunk_batchnorm": "live", **changes})


def painted_pairs() -> torch.Tensor:
    """Four pairs (4, 4, 3, 32, 32) uint8 on noise; in three a building (red) replaces grass (green).

    The maps of the second have the brightened colours.
    """
    noise = torch.Generator().manual_seed(0)
    images = torch.randint(90, 160, (4, 2, 3, 32, 32), generator=noise)
    truth = torch.zeros(4, 2, 32, 32, dtype=torch.long)
    for pair, corner in enumerate((0, 8, 16)):
        area = (pair, slice(None), slice(corner, corner + 16), slice(corner, corner + 16))
        truth[area] = torch.tensor([GRASS, BUILDING]).view(2, 1, 1)
    images[:, :, 0][truth == BUILDING] = 255
    images[:, :, 1][truth == GRASS] = 255
    maps = torch.from_numpy(SECOND.paint(truth.numpy())).int()
    maps[1] += 80 * maps[1].any(1, keepdim=True)
    return torch.cat([images, maps.clamp(max=255)], dim=1).byte()


@pytest.mark.parametrize("size", [(32, 32), (37, 50)])
def test_logits_are_as_large_as_the_images(size):
    actual = tiny_detector()(torch.zeros(2, 4, 3, *size, dtype=torch.uint8))
    assert actual.change.shape == (2, *size)
    assert actual.classes.shape == (2, 2, 7, *size)


def test_detector_depends_only_on_the_images():
    model, views = tiny_detector().eval(), random_views(2)
    void = views.clone()
    void[:, 2:] = 0
    for other in (void, views[:, :2]):
        assert torch.equal(model(other).change, model(views).change)


def test_swapping_dates_swaps_classes():
    model, views = tiny_detector().eval(), random_views(2)
    torch.testing.assert_close(model(views[:, [1, 0]]).classes, model(views).classes.flip(1))


@pytest.mark.parametrize(
    "settings", [{}, {"trained_from": "layer2", "trunk_batchnorm": "frozen"}], ids=["live", "frozen"]
)
def test_every_trained_parameter_gets_a_gradient(settings):
    model = tiny_detector(**settings).train()
    views = painted_pairs()
    DetectionLoss("float32")(model, {"views": views, "index": torch.arange(4)}).backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    assert all(p.grad.any() for p in model.parameters() if p.requires_grad)


def test_loss_of_uniform_predictions():
    """All logits 0: log 2 of change, log 7 of classes, and the same classes at both dates."""
    truth = torch.zeros(2, 2, 4, 4, dtype=torch.long)
    truth[0, 1, 0] = BUILDING  # a quarter of the first pair; the first date's map is void, as LEVIR-MCI's
    actual = Detection(torch.zeros(2, 4, 4), torch.zeros(2, 2, 7, 4, 4))
    changed, unchanged = detection_loss(actual, truth).tolist()
    assert changed == pytest.approx(math.log(2) + math.log(7) + 1 / 4)
    assert unchanged == pytest.approx((1 - BALANCE) * math.log(2), abs=1e-6)


def test_loss_of_perfect_predictions():
    truth = torch.zeros(1, 2, 4, 4, dtype=torch.long)
    truth[0, :, 0] = torch.tensor([[GRASS], [BUILDING]])
    classes = 50 * torch.nn.functional.one_hot(truth, 7).permute(0, 1, 4, 2, 3).float()
    actual = Detection(50 * (truth[:, 0] > 0).float() - 25, classes)
    assert detection_loss(actual, truth).item() == pytest.approx(0, abs=1e-5)


def test_detector_overfits_four_pairs():
    model, views = tiny_detector().train(), painted_pairs()
    settings = TrainConfig(learning_rate=3e-3)
    optimiser, loss = make_optimiser(model, settings), DetectionLoss("float32")
    steps = TrainingSteps(model, loss, optimiser, settings, Progress(), Processes())
    for _ in range(60):
        batch = {"views": views, "index": torch.arange(4)}
        steps.take_and_wait(batch)
    maps = model.eval().detect(views)
    assert maps.dtype == torch.uint8
    given = torch.from_numpy(SECOND.paint(SECOND.map_classes(views[:, 2:].numpy())))
    assert (maps == given).all(2).float().mean() > 0.97
    assert set(map(tuple, maps.movedim(2, -1).reshape(-1, 3).tolist())) == {
        (0, 0, 0), SECOND.colours[GRASS - 1], SECOND.colours[BUILDING - 1],
    }  # fmt: skip


def test_maps_are_black_without_change():
    model, views = tiny_detector().eval(), random_views(2)
    last = model.decoder.change_head[-1]
    with torch.no_grad():
        last.bias -= model(views).change.median()  # half of the pixels
    unchanged = model(views).change <= 0
    maps = model.detect(views).movedim(2, -1)  # (B, 2, H, W, 3)
    assert 0 < unchanged.float().mean() < 1
    assert not maps[unchanged.unsqueeze(1).expand(-1, 2, -1, -1)].any()
    palette = {(0, 0, 0), *SECOND.colours}
    assert set(map(tuple, maps.reshape(-1, 3).tolist())) <= palette


def test_divided_batch_has_the_same_loss_and_spare_pairs_do_not_count():
    model, views, loss = tiny_detector().eval(), painted_pairs(), DetectionLoss("float32")
    whole = {"views": views, "index": torch.arange(4)}
    parts = [
        {"views": views[:1], "index": torch.arange(1)},
        {"views": views[1:], "index": torch.arange(1, 4)},
    ]
    spare = {"views": views[:1], "index": torch.tensor([SPARE])}
    assert loss.count(whole) == 4 == sum(map(loss.count, parts)) + loss.count(spare)
    total = sum(loss(model, part) for part in [*parts, spare])
    torch.testing.assert_close(total, loss(model, whole))


def test_a_run_of_train_py(demo_input, tmp_path):
    settings = {
        "data.dir": demo_input,
        "data.workers": 0,
        "model.width": 8,
        "train.epochs": 1,
        "train.accumulate": 2,
        "train.device": "cpu",
        "decode.device": "cpu",
    }
    argv = [word for key, value in settings.items() for word in (f"--{key}", str(value))]
    train.main(["--config", str(CONFIGS / "demo_detector.yaml"), *argv, "--run_dir", str(tmp_path)])
    line = json.loads((tmp_path / "log.jsonl").read_text())
    assert line["val"].keys() == line["floor"].keys() == TITLES.keys()
    assert math.isfinite(line["loss"])
    content = load_checkpoint(tmp_path / "best.pt")
    assert content["image_size"] == [32, 32]
    assert content["scores"] == line["val"]
    restore_detector(content)


def detector_content() -> dict:
    model = tiny_detector()
    config = Config(
        model=tiny_config(name="change_detector", width=8, weights="/gone/trunk.pt"),
        train=TrainConfig(select_on="sek"),
    )
    return {"model": model.state_dict(), "config": config.to_dict(), "image_size": [32, 32]}


def test_checkpoint_is_restored_and_models_of_the_other_task_are_refused(tmp_path):
    content = detector_content()
    save_checkpoint(tmp_path / "best.pt", content)
    restored = restore_detector(load_checkpoint(tmp_path / "best.pt"))
    assert not restored.training
    views = random_views(1)
    torch.testing.assert_close(restored(views), tiny_detector().eval()(views), rtol=1e-4, atol=1e-4)
    with pytest.raises(
        ValueError, match="a captioning model is needed, .* holds change_detector, which detects"
    ):
        restore_model(content)
    captioner = {"config": Config().to_dict()}
    with pytest.raises(ValueError, match="a change detector is needed, .* holds mmodalcc: train one"):
        restore_detector(captioner)


def test_training_can_start_from_a_detector(tmp_path):
    save_checkpoint(tmp_path / "best.pt", detector_content())
    model, words = tiny_detector(), SimpleNamespace(words=())
    with torch.no_grad():
        model.decoder.change_head[-1].bias += 1
    start_from(tmp_path / "best.pt", model, tiny_config(name="change_detector", width=8), words)
    torch.testing.assert_close(model.state_dict(), tiny_detector().state_dict())
    with pytest.raises(ValueError, match="holds change_detector, not mmodalcc: use the same"):
        start_from(tmp_path / "best.pt", model, tiny_config(width=8), words)


def test_training_starts_from_a_detector_of_other_classes(tmp_path):
    save_checkpoint(tmp_path / "best.pt", detector_content())
    palette = Palette(("field", "building", "water"), ((1, 2, 3), (128, 0, 0), (0, 0, 255)))
    settings = tiny_config(name="change_detector", width=8)
    model = build_model(settings, 0, palette=palette)
    fresh = {name: weight.clone() for name, weight in model.state_dict().items()}
    (line,) = start_from(tmp_path / "best.pt", model, settings, SimpleNamespace(words=()), palette)
    assert line == (
        f"train.start_from {tmp_path / 'best.pt'}: classes of the maps that are also classes of the "
        "checkpoint: 2 of 3, which keep their outputs, the others begin with random weights"
    )
    started, kept = model.state_dict(), tiny_detector().state_dict()
    for part in ("weight", "bias"):
        name = f"{ChangeDetector.OUTPUT}.{part}"
        assert torch.equal(started[name][[0, 2, 3]], kept[name][[0, BUILDING, 4]])
        assert torch.equal(started[name][1], fresh[name][1])
    others = [name for name in kept if not name.startswith(ChangeDetector.OUTPUT)]
    assert all(torch.equal(started[name], kept[name]) for name in others)


def test_detector_has_an_output_for_each_class_and_paints_in_its_palette():
    palette = Palette(tuple(f"c{index}" for index in range(20)), tuple((index, 7, 9) for index in range(20)))
    model = build_model(tiny_config(name="change_detector", width=8), 0, palette=palette).eval()
    views = random_views(1)
    assert model(views).classes.shape[2] == 21
    with torch.no_grad():
        model.decoder.change_head[-1].bias += 100
    maps = model.detect(views)
    assert {tuple(pixel) for pixel in maps[0, 0].flatten(1).T.tolist()} <= {(0, 0, 0), *palette.colours}
    truth = torch.arange(21).repeat(2, 1).reshape(1, 2, 1, 21)
    painted = torch.from_numpy(palette.paint(truth.numpy()))
    assert torch.equal(given_classes(torch.cat([painted, painted], dim=1), palette), truth)


@pytest.mark.parametrize("name", ["change_detector", "demo_detector"])
@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"train.select_on": "s_m"}, "one of miou, sek, f_scd where .* change_detector: got s_m"),
        ({"model.name": "mmodalcc"}, "one of bleu_4, cider, s_m, fact_f1, .* where .* mmodalcc: got sek"),
        ({"data.maps": "void"}, "learns given maps: .* got void"),
        ({"model.trained_from": "nothing", "model.trunk_batchnorm": "frozen", "train.keep_features": "true",
          "data.augment": "[]"},
         "train.keep_features must be false for a change detector"),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit(name, option, message):
    argv = [word for key, value in option.items() for word in (f"--{key}", value)]
    with pytest.raises(ValueError, match=message):
        train.read_command(["--config", str(CONFIGS / f"{name}.yaml"), *argv])


def test_target_classes_are_those_of_the_palette():
    views = torch.randint(0, 256, (2, 4, 3, 8, 8), generator=torch.Generator().manual_seed(0)).byte()
    colours = torch.tensor([WHITE, WHITE, *SECOND.colours, *SECOND.brightened], dtype=torch.uint8)
    views[:, 2:, :, :2, :7] = colours.T.reshape(3, 2, 7)
    assert given_classes(views)[0, 0, :2, :7].unique().tolist() == list(range(7))
    np.testing.assert_array_equal(given_classes(views), SECOND.map_classes(views[:, 2:].numpy()))


def test_map_noise_is_refused_for_the_detector():
    data = DataConfig(augment=["flips", "noise", "map_invented"])
    data.check_training("captioning")
    with pytest.raises(ValueError, match=r"change detector.*leave out map_invented$"):
        data.check_training("detection")
    DataConfig(augment=["flips", "noise"]).check_training("detection")
