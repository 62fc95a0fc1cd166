"""The Siamese trunk: trained and frozen layers, and loading of weights."""

import pytest
import torch
import torchvision

from data.views import SEVERAL
from models.encoder import Encoder
from models.shared_batchnorm import SharedBatchNorm2d, share_batchnorm
from models.trunks import TrunkSettings, distinct, load_trunk, trunk_weights


def encoder(trunk="resnet18", trained_from="layer2", batchnorm="frozen", grid=3) -> Encoder:
    torch.manual_seed(0)
    settings = TrunkSettings(trunk=trunk, trained_from=trained_from, trunk_batchnorm=batchnorm)
    return Encoder(settings, grid=grid)


DATES = torch.rand(2, 2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("trunk", "channels"), [("resnet18", 256), ("resnet50", 1024)])
def test_shapes(trunk, channels):
    siamese = encoder(trunk)
    assert siamese.channels == channels
    assert siamese(DATES).shape == (2, 2, channels, 3, 3)


def test_the_two_dates_are_treated_alike():
    siamese = encoder().eval()
    torch.testing.assert_close(siamese(DATES.flip(1)), siamese(DATES).flip(1))


def test_plain_images_of_one_colour_are_encoded_once():
    codes = torch.tensor([[SEVERAL, 0x102030], [0, 0x102031], [0x102030, SEVERAL], [0, 0]])
    kept, positions = distinct(codes)
    assert kept.tolist() == [0, 1, 2, 3, 5]
    assert positions.tolist() == [0, 1, 2, 3, 1, 4, 2, 2]


@pytest.mark.parametrize("training", [True, False])
def test_void_maps_are_encoded_once(training):
    siamese, twin = (encoder(trained_from="conv1").train(training) for _ in range(2))
    dates, plain = DATES.clone(), torch.tensor([[0x404040, 0x404040], [0x404040, SEVERAL]])
    dates[0], dates[1, 0] = 0.25, 0.25
    seen = []
    siamese.trunk.conv1.register_forward_hook(lambda module, args, output: seen.append(len(output)))
    features = siamese(dates, plain)
    assert seen == [2]
    each = [twin.pool(twin.trunk(date)) for date in dates.flatten(0, 1).split(1)]
    torch.testing.assert_close(features.flatten(0, 1), torch.cat(each), rtol=1e-4, atol=1e-5)
    weights = torch.randn_like(features)  # the gradients of equal places add up
    (features * weights).sum().backward()
    (torch.cat(each) * weights.flatten(0, 1)).sum().backward()
    torch.testing.assert_close(
        siamese.trunk.conv1.weight.grad, twin.trunk.conv1.weight.grad, rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("trained_from", ["conv1", "layer1", "layer2", "layer3", "nothing"])
def test_only_trained_stages_get_gradients(trained_from):
    siamese = encoder(trained_from=trained_from, batchnorm="live")
    features = siamese(DATES)
    if trained_from == "nothing":
        assert not features.requires_grad
        return
    features.square().sum().backward()
    stages = ["conv1", "bn1", "layer1", "layer2", "layer3"]
    learning = set(stages[stages.index(trained_from) :])
    for name, parameter in siamese.trunk.named_parameters():
        assert (parameter.grad is not None) == (name.split(".")[0] in learning), name


def test_frozen_batchnorm_keeps_statistics_and_scales_in_training():
    siamese = encoder().train()
    before = {name: value.clone() for name, value in siamese.state_dict().items()}
    siamese(DATES).sum().backward()
    for name, value in siamese.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    assert not any("bn" in name and p.requires_grad for name, p in siamese.named_parameters())


def test_frozen_batchnorm_stays_frozen_with_several_processes():
    siamese = encoder()
    names = list(siamese.state_dict())
    share_batchnorm(siamese)
    assert list(siamese.state_dict()) == names
    norms = [module for module in siamese.train().modules() if isinstance(module, SharedBatchNorm2d)]
    assert len(norms) == 15
    assert not any(norm.training for norm in norms)


def test_live_batchnorm_normalises_each_date_separately_t0_first():
    siamese, twin = encoder(batchnorm="live").train(), encoder(batchnorm="live").train()
    together = siamese(DATES)
    separate = torch.stack([twin.pool(twin.trunk(DATES[:, date])) for date in (0, 1)], dim=1)
    torch.testing.assert_close(together, separate, rtol=1e-4, atol=1e-4)
    for name, value in siamese.state_dict().items():
        torch.testing.assert_close(value, twin.state_dict()[name], msg=name)
    assert siamese.trunk.bn1.num_batches_tracked == 2


def test_evaluation_takes_both_dates_in_one_call_with_the_same_result():
    siamese = encoder(batchnorm="live").train()
    siamese(DATES)
    siamese.eval()
    separate = torch.stack([siamese.pool(siamese.trunk(DATES[:, date])) for date in (0, 1)], dim=1)
    torch.testing.assert_close(siamese(DATES), separate)


@pytest.mark.parametrize("whole", [True, False], ids=["whole network", "without layer4 and fc"])
def test_local_weights_in_half_precision(tmp_path, whole):
    state = torchvision.models.resnet18(weights=None).state_dict()
    kept = {
        k: v.half() if v.dim() == 4 else v
        for k, v in state.items()
        if whole or not k.startswith(("layer4", "fc"))
    }
    torch.save(kept, tmp_path / "trunk.pt")
    siamese = encoder()
    load_trunk(siamese.trunk, trunk_weights("resnet18", str(tmp_path / "trunk.pt")), "trunk.pt")
    for name, value in siamese.trunk.state_dict().items():
        torch.testing.assert_close(value, kept[name].to(value.dtype), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("trunk", "message"),
    [
        ("resnet34", "has the unknown weight layer1.2.bn1.bias"),
        ("resnet50", "has the unknown weight layer1.0.bn3.bias"),
    ],
)
def test_weights_of_another_depth_are_refused(trunk, message):
    with pytest.raises(ValueError, match=f"other.pt {message}.*model.trunk must name its network"):
        load_trunk(encoder("resnet18").trunk, torchvision.models.get_model(trunk).state_dict(), "other.pt")
    with pytest.raises(ValueError, match="lacks .*model.trunk"):
        load_trunk(encoder(trunk).trunk, torchvision.models.resnet18().state_dict(), "other.pt")


def test_weights_that_are_not_there():
    with pytest.raises(
        FileNotFoundError, match="nowhere.pt not found: give a state-dict file, imagenet or none"
    ):
        trunk_weights("resnet18", "nowhere.pt")
