"""Trunks of timm, and ResNets up to layer4: strides, weights, what is trained, and errors with a remedy."""

import sys

import pytest
import timm
import torch
import torchvision

from data.errors import UserError
from models import build_model
from models.trunks import TimmTrunk, TrunkSettings, load_trunk, make_trunk, trunk_weights
from tests.helpers.tiny import VOCABULARY_SIZE, random_tokens, random_views, tiny_config, tiny_model

IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
TIMM = {"trunk": "timm:test_resnet", "trained_from": "conv1", "weights": "none"}


def trunk(**settings):
    torch.manual_seed(0)
    return make_trunk(TrunkSettings(**{"trunk": "resnet18", **settings}))


@torch.no_grad()
@pytest.mark.parametrize("name", ["resnet18", "timm:test_resnet", "timm:test_convnext"])
@pytest.mark.parametrize(("last_layer", "sides"), [("layer3", [16, 8, 4]), ("layer4", [16, 8, 4, 2])])
def test_stages_have_strides_4_to_16_or_32(name, last_layer, sides):
    encoder = trunk(trunk=name, trained_from="conv1", last_layer=last_layer).eval()
    stages = encoder.stages(IMAGES)
    assert [stage.shape[-1] for stage in stages] == sides
    assert [stage.shape[1] for stage in stages] == list(encoder.channels)
    torch.testing.assert_close(encoder(IMAGES), stages[-1])


@torch.no_grad()
def test_layer4_gets_its_weights(tmp_path):
    resnet = torchvision.models.resnet18(weights=None).eval()
    torch.save(resnet.state_dict(), tmp_path / "resnet.pt")
    encoder = trunk(last_layer="layer4", trained_from="layer4").eval()
    encoder.load_pretrained(str(tmp_path / "resnet.pt"))
    pooled = encoder(IMAGES).mean((2, 3))
    torch.testing.assert_close(resnet.fc(pooled), resnet(IMAGES), rtol=1e-4, atol=1e-4)
    learning = {name.partition(".")[0] for name, p in encoder.named_parameters() if p.requires_grad}
    assert learning == {"layer4"}


@torch.no_grad()
def test_vit_gives_the_tokens_of_torchvision(tmp_path):
    torch.manual_seed(0)
    whole = torchvision.models.vit_b_32(weights=None).eval()
    torch.nn.init.normal_(whole.heads.head.weight)
    torch.save(whole.state_dict(), tmp_path / "vit.pt")
    encoder = trunk(trunk="vit_b_32", last_layer="layer4", trained_from="nothing").eval()
    encoder.load_pretrained(str(tmp_path / "vit.pt"))
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    images = torch.nn.functional.interpolate(IMAGES, size=(224, 224), mode="bilinear")
    seen = []
    whole.encoder.register_forward_hook(lambda module, inputs, tokens: seen.append(tokens))
    whole(images)
    expected = seen[0][:, 1:].transpose(1, 2).reshape(2, 768, 7, 7)
    torch.testing.assert_close(encoder(IMAGES), expected, rtol=1e-4, atol=1e-5)
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), tmp_path / "resnet.pt")
    with pytest.raises(UserError, match=r"resnet.pt lacks .*: model.trunk must name its network"):
        encoder.load_pretrained(str(tmp_path / "resnet.pt"))


@torch.no_grad()
def test_a_trunk_of_two_images_repeats_the_filters_of_one(tmp_path):
    resnet = torchvision.models.resnet18(weights=None)
    torch.save(resnet.state_dict(), tmp_path / "resnet.pt")
    encoder = make_trunk(TrunkSettings(trunk="resnet18"), input_channels=6)
    encoder.load_pretrained(str(tmp_path / "resnet.pt"))
    torch.testing.assert_close(
        encoder.conv1(torch.cat([IMAGES, IMAGES.flip(0)], dim=1)),
        resnet.conv1(IMAGES) + resnet.conv1(IMAGES.flip(0)),
        rtol=1e-4,
        atol=1e-5,
    )
    torch.save(encoder.state_dict(), tmp_path / "pair.pt")  # weights of six channels are taken as they are
    other = make_trunk(TrunkSettings(trunk="resnet18"), input_channels=6)
    other.load_pretrained(str(tmp_path / "pair.pt"))
    assert torch.equal(other.conv1.weight, encoder.conv1.weight)
    with pytest.raises(UserError, match="pair.pt has conv1.weight .*: model.trunk must name its network"):
        trunk().load_pretrained(str(tmp_path / "pair.pt"))


def test_layer4_must_be_in_the_file(tmp_path):
    state = torchvision.models.resnet18(weights=None).state_dict()
    kept = {name: value for name, value in state.items() if not name.startswith(("layer4", "fc"))}
    torch.save(kept, tmp_path / "short.pt")
    load_trunk(trunk(), trunk_weights("resnet18", str(tmp_path / "short.pt")), "short.pt")
    with pytest.raises(UserError, match="lacks layer4.0.bn1.bias .*model.trunk must name its network"):
        trunk(last_layer="layer4").load_pretrained(str(tmp_path / "short.pt"))


def test_timm_trunk_is_trained_or_frozen():
    assert any(p.requires_grad for p in trunk(**TIMM).parameters())
    assert not any(p.requires_grad for p in trunk(**{**TIMM, "trained_from": "nothing"}).parameters())
    frozen = trunk(**TIMM).train()
    before = {name: value.clone() for name, value in frozen.named_buffers()}
    frozen(IMAGES)
    for name, value in frozen.named_buffers():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    live = trunk(**TIMM, trunk_batchnorm="live").train()
    live(IMAGES)
    assert any(not torch.equal(value, before[name]) for name, value in live.named_buffers())


@torch.no_grad()
def test_weights_of_a_timm_model_from_a_file(tmp_path):
    whole = timm.create_model("test_convnext").eval()
    torch.save(whole.state_dict(), tmp_path / "convnext.pt")
    encoder = trunk(**{**TIMM, "trunk": "timm:test_convnext"}, last_layer="layer4").eval()
    encoder.load_pretrained(str(tmp_path / "convnext.pt"))
    torch.testing.assert_close(encoder(IMAGES), whole.forward_features(IMAGES), rtol=1e-4, atol=1e-4)
    with pytest.raises(UserError, match=r"does not fit .*give the state dict of timm.create_model"):
        trunk(**TIMM).load_pretrained(str(tmp_path / "convnext.pt"))
    with pytest.raises(FileNotFoundError, match="nowhere.pt not found: give a state-dict file"):
        trunk(**TIMM).load_pretrained("nowhere.pt")
    (tmp_path / "text.pt").write_text("text")
    with pytest.raises(UserError, match="text.pt is not a state-dict file: give one, imagenet or none"):
        trunk(**TIMM).load_pretrained(str(tmp_path / "text.pt"))


@pytest.mark.parametrize(
    "settings", [TIMM, {"trunk": "resnet18", "last_layer": "layer4"}], ids=["timm", "layer4"]
)
def test_models_work_on_other_trunks(settings):
    model = tiny_model(**settings).train()
    model(random_views(2), random_tokens(2, 5)).square().sum().backward()
    assert not [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    detector = build_model(tiny_config("change_detector", width=8, **settings), VOCABULARY_SIZE)
    assert detector.eval().detect(random_views(1)).shape == (1, 2, 3, 64, 64)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"trunk": "vgg"}, "model.trunk must be one of resnet18, .* or timm:NAME: got vgg"),
        ({"trunk": "vit_b_32"}, "model.last_layer must be layer4 for vit_b_32, .* got layer3"),
        ({"trunk": "vit_b_32", "last_layer": "layer4"}, "must be conv1 .* nothing for vit_b_32: got layer2"),
        ({**TIMM, "trained_from": "layer2"}, "must be conv1 .* or nothing for a timm trunk: got layer2"),
        ({"trained_from": "layer4"}, "got layer4 where .* layer3: give --model.last_layer layer4"),
        ({**TIMM, "trunk": "timm:no_such_model"}, r"\(Unknown model .*\): name a timm model"),
        (
            {**TIMM, "trunk": "timm:vit_small_patch32_224"},
            "must have a feature map of stride 4 to 16, .* 32: give model.last_layer layer4",
        ),
    ],
)
def test_settings_that_name_no_trunk(settings, message):
    with pytest.raises(UserError, match=message) as caught:
        trunk(**settings)
    assert "\n" not in str(caught.value)


def test_without_timm_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)  # as if it were not installed
    with pytest.raises(UserError, match="model.trunk timm:test_resnet needs timm: run pip install timm"):
        trunk(**TIMM)
    assert not isinstance(trunk(), TimmTrunk)
