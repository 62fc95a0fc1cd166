"""The model MModalCC: shapes, gradients, invariances, and decoding compared with teacher forcing."""

import pytest
import torch
import torch.nn.functional as F

from models import build_model
from tests.helpers.tiny import (
    AUTHORS,
    END,
    PAD,
    START,
    VOCABULARY_SIZE,
    random_tokens,
    random_views,
    tiny_config,
    tiny_model,
)

VARIANTS = pytest.mark.parametrize("variant", [{}, AUTHORS], ids=["paper", "authors"])


@VARIANTS
def test_shapes(variant):
    model, views = tiny_model(**variant), random_views(3)
    assert model.encode(views).shape == (3, 2, 9, 32)
    assert model(views, random_tokens(3, 6)).shape == (3, 6, VOCABULARY_SIZE)
    assert model(views, random_tokens(3, 5, 6)).shape == (3, 5, 6, VOCABULARY_SIZE)


@pytest.mark.parametrize(("trunk", "grid", "width", "heads"), [("resnet34", 2, 24, 4), ("resnet50", 5, 8, 2)])
def test_any_trunk_grid_and_width(trunk, grid, width, heads):
    model = tiny_model(trunk=trunk, grid=grid, width=width, heads=heads)
    assert model.encode(random_views(1)).shape == (1, 2, grid * grid, 2 * width)


@VARIANTS
def test_every_parameter_gets_a_gradient(variant):
    model = tiny_model(**variant).train()
    model(random_views(3), random_tokens(3, 2, 6)).square().sum().backward()
    silent = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not silent


@VARIANTS
def test_captions_of_a_pair_together_equal_one_by_one(variant):
    model, views, tokens = tiny_model(**variant).eval(), random_views(2), random_tokens(2, 3, 6)
    alone = torch.stack([model(views, tokens[:, k]) for k in range(3)], dim=1)
    torch.testing.assert_close(model(views, tokens), alone, rtol=1e-4, atol=1e-5)


def test_padding_does_not_change_the_loss():
    model, views, tokens = tiny_model().eval(), random_views(2), random_tokens(2, 7)
    tokens[0, 5:] = PAD

    def loss(tokens):
        logits = model(views, tokens[:, :-1])
        return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), ignore_index=PAD)

    padded = F.pad(tokens, (0, 2), value=PAD)
    torch.testing.assert_close(loss(tokens), loss(padded))


@torch.no_grad()
@VARIANTS
def test_both_dates_and_all_views_matter(variant):
    model, views = tiny_model(**variant).eval(), random_views(1)
    memory = model.encode(views)
    for view in range(4):
        other = views.clone()
        other[:, view] = 255 - other[:, view]
        assert not torch.allclose(model.encode(other), memory, atol=1e-4), view


@torch.no_grad()
def test_normalisation():
    views = random_views(1)
    plain, imagenet = tiny_model(normalisation="none").eval(), tiny_model().eval()
    x = views.float() / 255
    torch.testing.assert_close(plain.features(views)[:, :2], plain.encoder_rgb(x[:, :2]))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    y = (x - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    torch.testing.assert_close(imagenet.features(views)[:, 2:], imagenet.encoder_sem(y[:, 2:]))


@torch.no_grad()
@VARIANTS
@pytest.mark.parametrize("beam_size", [1, 3])
def test_a_captions_score_is_its_teacher_forced_log_probability(variant, beam_size):
    model, views = tiny_model(**variant).eval(), random_views(4)
    for pair, answers in enumerate(
        model.caption(views, start=START, end=END, beam_size=beam_size, best=beam_size)
    ):
        for answer in answers:
            target = answer.tokens + [END] * answer.finished
            log_probs = model(views[pair : pair + 1], torch.tensor([[START, *target[:-1]]])).log_softmax(-1)[
                0
            ]
            expected = log_probs[torch.arange(len(target)), target].sum().item()
            assert answer.log_prob == pytest.approx(expected, abs=1e-3)


def test_precomputed_features_give_the_same_memory():
    model, views = tiny_model().eval(), random_views(2)
    torch.testing.assert_close(model.fuse(model.features(views)), model.encode(views))


def test_random_trunks_differ_and_pretrained_trunks_are_equal(tmp_path):
    torch.save(tiny_model().encoder_rgb.trunk.state_dict(), tmp_path / "trunk.pt")
    model = build_model(tiny_config(weights=str(tmp_path / "trunk.pt")), VOCABULARY_SIZE)
    for rgb, sem in zip(model.encoder_rgb.parameters(), model.encoder_sem.parameters(), strict=True):
        torch.testing.assert_close(rgb, sem)
    assert not torch.equal(
        tiny_model().encoder_rgb.trunk.conv1.weight, tiny_model().encoder_sem.trunk.conv1.weight
    )


@pytest.mark.slow
def test_model_overfits_a_tiny_set_of_captions():
    model, views, tokens = tiny_model().train(), random_views(4), random_tokens(4, 6)
    tokens[:, 0], tokens[:, -1] = START, END
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(150):
        loss = F.cross_entropy(model(views, tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    answers = model.eval().caption(views, start=START, end=END, beam_size=2)
    assert [actual[0].tokens for actual in answers] == tokens[:, 1:-1].tolist()
