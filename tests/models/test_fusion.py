"""Fusion: the wiring of the paper and of the authors' code, checked against the equations written out."""

import pytest
import torch
import torch.nn.functional as F

from models.attention import Attention
from models.fusion import CrossAttention, Fusion

WIDTH, GRID, CHANNELS = 16, 3, 8
FEATURES = torch.randn(
    2, 2, 2, CHANNELS, GRID, GRID, generator=torch.Generator().manual_seed(0)
)  # B, modality, date
RGB, SEM = FEATURES[:, 0], FEATURES[:, 1]


def fusion(layers="chained", sharing="separate", fusion_layers=2) -> Fusion:
    torch.manual_seed(0)
    return Fusion(
        modalities=("rgb", "sem"), channels=CHANNELS, grid=GRID, width=WIDTH, heads=2, feedforward=32,
        fusion_layers=fusion_layers, layers=layers, sharing=sharing, cmca=True, udca=True,
        block_batchnorm="live", dropout=0.0,
    ).eval()  # fmt: skip


def test_attention_equals_torchs():
    ours = Attention(WIDTH, 2, 0.0)
    reference = torch.nn.MultiheadAttention(WIDTH, 2, batch_first=True)
    reference.in_proj_weight.data, reference.in_proj_bias.data = (
        ours.in_proj.weight.data,
        ours.in_proj.bias.data.normal_(),
    )
    reference.out_proj.load_state_dict(ours.out_proj.state_dict())
    query, memory = torch.randn(2, 5, WIDTH), torch.randn(2, 7, WIDTH)
    torch.testing.assert_close(ours(query, memory), reference(query, memory, memory)[0])


def naive_cross_attention(ca: CrossAttention, query, key_value):
    h = F.layer_norm(
        query + ca.attention(query, key_value), (WIDTH,), ca.attention_norm.weight, ca.attention_norm.bias
    )
    inner = F.relu(F.linear(h, ca.feedforward[0].weight, ca.feedforward[0].bias))
    out = h + F.linear(inner, ca.feedforward[3].weight, ca.feedforward[3].bias)
    return F.layer_norm(out, (WIDTH,), ca.feedforward_norm.weight, ca.feedforward_norm.bias)


def naive_block(block, u):
    out = F.relu(u + block.conv(u)).permute(0, 2, 3, 1)
    return F.layer_norm(out, out.shape[-1:], block.norm.weight, block.norm.bias).permute(0, 3, 1, 2)


def naive_tokens(model, project, features):
    """Tokens of one date, (B, C, h, w) -> (B, N, D), computed position by position."""
    x = project(features)
    for i in range(GRID):
        for j in range(GRID):
            x[:, :, i, j] += torch.cat([model.columns[j], model.rows[i]])
    return x.flatten(2).transpose(1, 2)


@torch.no_grad()
@pytest.mark.parametrize("layers", ["chained", "parallel"])
@pytest.mark.parametrize("sharing", ["separate", "shared"])
def test_fusion_equals_the_equations(layers, sharing):
    model = fusion(layers, sharing)
    first = [
        naive_tokens(model, model.project_rgb, RGB[:, 0]),
        naive_tokens(model, model.project_rgb, RGB[:, 1]),
    ]
    first += [
        naive_tokens(model, model.project_sem, SEM[:, 0]),
        naive_tokens(model, model.project_sem, SEM[:, 1]),
    ]
    f, fused = first, [0, 0]
    for layer, rgb_block, sem_block in zip(model.enhance, model.blocks_rgb, model.blocks_sem, strict=True):
        f1, f2, f3, f4 = f if layers == "chained" else first
        r1, r2 = (naive_cross_attention(layer.rgb_from_sem, a, b) for a, b in ((f1, f3), (f2, f4)))
        r3, r4 = (naive_cross_attention(layer.sem_from_rgb, a, b) for a, b in ((f3, f1), (f4, f2)))
        f = [naive_cross_attention(layer.rgb_from_difference, r, f2 - f1) for r in (r1, r2)]
        f += [naive_cross_attention(layer.sem_from_difference, r, f4 - f3) for r in (r3, r4)]
        for stream, block in ((0, rgb_block), (1, sem_block)):
            z = torch.cat(f[2 * stream : 2 * stream + 2], dim=-1)  # (B, N, 2D)
            fused[stream] = naive_block(block, fused[stream] + z.transpose(1, 2).unflatten(-1, (GRID, GRID)))
    expected = torch.stack([x.flatten(2).transpose(1, 2) for x in fused], dim=1)
    assert expected.shape == (2, 2, GRID * GRID, 2 * WIDTH)
    torch.testing.assert_close(model(RGB, SEM), expected, rtol=1e-4, atol=1e-5)


def test_shared_weights_exist_once():
    def size(module: torch.nn.Module) -> int:
        return sum(p.numel() for p in module.parameters())

    separate, shared = size(fusion(sharing="separate")), size(fusion(sharing="shared"))
    one_layer = fusion(fusion_layers=1)
    attention, block = size(one_layer.enhance) // 4, size(one_layer.blocks_rgb)
    assert separate - shared == 2 * (3 * attention + block)


def test_initial_values_are_xavier_uniform():
    model = fusion()
    packed = model.enhance[0].rgb_from_sem.attention.in_proj.weight  # (3D, D) as one matrix
    bound = (6 / (3 * WIDTH + WIDTH)) ** 0.5
    assert packed.abs().max() <= bound
    assert packed.abs().max() > 0.9 * bound
    assert model.columns.abs().max() <= (6 / (GRID + WIDTH // 2)) ** 0.5
