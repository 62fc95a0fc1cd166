"""A naive implementation of the authors' model, as functions of its parameters.

Names are `owner.parameter` as in the authors' checkpoints. It shares no code with models/; the equations are
computed without batching, caching or fusing. Any float type; in training BatchNorm is live.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

Parameters = dict[str, Tensor]


def part(parameters: Parameters, prefix: str) -> Parameters:
    """The parameters below `prefix`, without it."""
    return {
        name[len(prefix) + 1 :]: value for name, value in parameters.items() if name.startswith(prefix + ".")
    }


def batch_norm(p: Parameters, name: str, x: Tensor, training: bool) -> Tensor:
    """BatchNorm; in training with the statistics of the batch and momentum 0.1."""
    mean, var = p[f"{name}.running_mean"], p[f"{name}.running_var"]
    if training:
        pixels = x.numel() / x.shape[1]
        own_mean, own_var = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
        mean.copy_(0.9 * mean + 0.1 * own_mean.detach())
        var.copy_(0.9 * var + 0.1 * own_var.detach() * pixels / (pixels - 1))
        mean, var = own_mean, own_var
    scale = p[f"{name}.weight"] / (var + 1e-5).sqrt()
    return (x - mean.view(-1, 1, 1)) * scale.view(-1, 1, 1) + p[f"{name}.bias"].view(-1, 1, 1)


def residual(p: Parameters, x: Tensor, stride: int, training: bool) -> Tensor:
    """A ResNet block of two 3 x 3 convolutions, or a bottleneck with the stride in its 3 x 3 convolution."""
    bottleneck = "conv3.weight" in p
    strides = (1, stride, 1) if bottleneck else (stride, 1)
    out = x
    for i, step in enumerate(strides, start=1):
        weight = p[f"conv{i}.weight"]
        out = F.conv2d(out, weight, stride=step, padding=weight.shape[-1] // 2)
        out = batch_norm(p, f"bn{i}", out, training)
        if i < len(strides):
            out = F.relu(out)
    if "downsample.0.weight" in p:
        x = F.conv2d(x, p["downsample.0.weight"], stride=stride)
        x = batch_norm(p, "downsample.1", x, training)
    return F.relu(out + x)


def trunk(p: Parameters, images: Tensor, grid: int, training: bool) -> Tensor:
    """One date of one modality: (B, 3, H, W) -> (B, C, grid, grid)."""
    x = F.conv2d(images, p["net.0.weight"], stride=2, padding=3)
    x = F.max_pool2d(F.relu(batch_norm(p, "net.1", x, training)), 3, stride=2, padding=1)
    for stage in (4, 5, 6):
        block = 0
        while any(name.startswith(f"net.{stage}.{block}.") for name in p):
            stride = 2 if stage > 4 and block == 0 else 1
            x = residual(part(p, f"net.{stage}.{block}"), x, stride, training)
            block += 1
    return F.adaptive_avg_pool2d(x, grid)


def linear(p: Parameters, name: str, x: Tensor) -> Tensor:
    return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]


def layer_norm(p: Parameters, name: str, x: Tensor) -> Tensor:
    mean, var = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, unbiased=False)
    return (x - mean) / (var + 1e-5).sqrt() * p[f"{name}.weight"] + p[f"{name}.bias"]


def attention(
    p: Parameters, name: str, query: Tensor, key_value: Tensor, heads: int, causal: bool = False
) -> Tensor:
    """query (B, T, D), key_value (B, S, D) -> (B, T, D), head by head."""
    width = query.shape[-1]
    weight, bias = p[f"{name}.in_proj_weight"], p[f"{name}.in_proj_bias"]
    q, k, v = (
        x @ weight[i * width : (i + 1) * width].T + bias[i * width : (i + 1) * width]
        for i, x in enumerate((query, key_value, key_value))
    )
    actual, size = [], width // heads
    for head in range(heads):
        columns = slice(head * size, (head + 1) * size)
        scores = q[..., columns] @ k[..., columns].transpose(1, 2) / math.sqrt(size)
        if causal:
            scores = scores + torch.full_like(scores, -torch.inf).triu(1)
        actual.append(scores.softmax(-1) @ v[..., columns])
    return linear(p, f"{name}.out_proj", torch.cat(actual, -1))


def cross_attention(p: Parameters, query: Tensor, key_value: Tensor, heads: int) -> Tensor:
    """CA(query; key_value) of one fusion layer."""
    h = layer_norm(p, "norm3", query + attention(p, "attention2", query, key_value, heads))
    return layer_norm(p, "norm4", h + linear(p, "linear4", F.relu(linear(p, "linear3", h))))


def enhance(p: Parameters, f: list[Tensor], heads: int) -> list[Tensor]:
    """One layer, f1..f4 -> f1'..f4': each date with its other modality, then with its own difference."""
    f1, f2, f3, f4 = f
    r1, r2 = cross_attention(p, f1, f3, heads), cross_attention(p, f2, f4, heads)
    r3, r4 = cross_attention(p, f3, f1, heads), cross_attention(p, f4, f2, heads)
    return [
        cross_attention(p, r1, f2 - f1, heads),
        cross_attention(p, r2, f2 - f1, heads),
        cross_attention(p, r3, f4 - f3, heads),
        cross_attention(p, r4, f4 - f3, heads),
    ]


def tokens_of(p: Parameters, name: str, x: Tensor) -> Tensor:
    """Projected features with positions of a view: (B, C, h, w) -> (B, N, D)."""
    x = F.conv2d(x, p[f"{name}.weight"], p[f"{name}.bias"])
    cells = []
    for row in range(x.shape[2]):
        for column in range(x.shape[3]):
            position = torch.cat([p["w_embedding.weight"][column], p["h_embedding.weight"][row]])
            cells.append(x[:, :, row, column] + position)
    return torch.stack(cells, 1)


def fuse(p: Parameters, layers: list[Tensor], training: bool) -> Tensor:
    """z of each layer (B, 2D, h, w) -> X (B, N, 2D)."""
    out = torch.zeros_like(layers[0])
    for layer, z in enumerate(layers):
        u = out + z
        conv = u
        for conv_at, norm_at, padding in ((0, 1, 0), (3, 4, 1), (6, 7, 0)):
            name = f"resblock.{layer}.left"
            conv = F.conv2d(conv, p[f"{name}.{conv_at}.weight"], p[f"{name}.{conv_at}.bias"], padding=padding)
            conv = batch_norm(p, f"{name}.{norm_at}", conv, training)
            if norm_at != 7:
                conv = F.relu(conv)
        out = layer_norm(p, f"LN.{layer}", F.relu(u + conv).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    return out.flatten(2).transpose(1, 2)


def memories(
    parameters: Parameters, views: Tensor, heads: int, training: bool = False
) -> tuple[Tensor, Tensor]:
    """views (B, 4, 3, H, W) uint8 -> X_rgb, X_sem, each (B, N, 2D)."""
    p = part(parameters, "encoder_feat")
    grid = len(p["w_embedding.weight"])
    images = views.to(p["w_embedding.weight"].dtype) / 255
    f = []
    for view, (encoder, project) in enumerate(
        [("encoder_image", "projection")] * 2 + [("encoder_image2", "projection2")] * 2
    ):
        f.append(tokens_of(p, project, trunk(part(parameters, encoder), images[:, view], grid, training)))
    rgb, sem, layer = [], [], 0
    while f"transformer.{layer}.linear3.weight" in p:
        enhanced = enhance(part(p, f"transformer.{layer}"), f, heads)
        for stream, (before, after) in ((rgb, enhanced[:2]), (sem, enhanced[2:])):
            z = torch.cat([before, after], -1).transpose(1, 2)
            stream.append(z.reshape(*z.shape[:2], grid, grid))
        layer += 1
    return fuse(p, rgb, training), fuse(p, sem, training)


def positions(steps: int, width: int) -> Tensor:
    """Sinusoids (steps, width), computed element by element."""
    table = torch.zeros(steps, width)
    for time in range(steps):
        for channel in range(width):
            angle = time / 10000 ** (channel // 2 * 2 / width)
            table[time, channel] = (math.sin, math.cos)[channel % 2](angle)
    return table


def word_logits(parameters: Parameters, x: tuple[Tensor, Tensor], tokens: Tensor, heads: int) -> Tensor:
    """The decoder: X_rgb, X_sem (B, N, 2D) and tokens (B, T) -> logits (B, T, V)."""
    whole, p = part(parameters, "decoder"), part(parameters, "decoder.transformer.layers.0")
    w = whole["vocab_embedding.weight"][tokens]
    w = w + positions(tokens.shape[1], w.shape[-1]).to(w)
    s = layer_norm(p, "norm1", w + attention(p, "self_attn", w, w, heads, causal=True))
    a_rgb, a_sem = (attention(p, "multihead_attn", s, memory, heads) for memory in x)
    g1 = torch.sigmoid(linear(p, "gate.0", torch.cat([s, a_rgb], -1)))
    g2 = torch.sigmoid(linear(p, "gate2.0", torch.cat([s, a_sem], -1)))
    g3 = torch.sigmoid(linear(p, "gate3.0", s))
    m = layer_norm(p, "norm3", g1 * a_rgb + g2 * a_sem + g3 * s)
    out = layer_norm(p, "norm4", m + linear(p, "linear2", F.relu(linear(p, "linear1", m))))
    return linear(whole, "wdc", out)


def logits(
    parameters: Parameters, views: Tensor, tokens: Tensor, heads: int, training: bool = False
) -> Tensor:
    """Teacher-forced: views (B, 4, 3, H, W) uint8, tokens (B, T) -> (B, T, V)."""
    return word_logits(parameters, memories(parameters, views, heads, training), tokens, heads)


def loss(parameters: Parameters, views: Tensor, tokens: Tensor, heads: int, pad: int) -> Tensor:
    """The loss of a training step: mean negative log-probability of the target words."""
    log_probs = logits(parameters, views, tokens[:, :-1], heads, training=True).log_softmax(-1)
    terms = []
    for caption, target in enumerate(tokens[:, 1:].tolist()):
        terms += [-log_probs[caption, time, word] for time, word in enumerate(target) if word != pad]
    return torch.stack(terms).mean()


@torch.no_grad()
def caption(
    parameters: Parameters, views: Tensor, heads: int, *, start: int, end: int, beams: int, steps: int = 51
) -> tuple[list[int], float]:
    """Beam search for one pair, views (1, 4, 3, H, W): the words between `<start>` and `<end>`, the score."""
    x = memories(parameters, views, heads)
    alive, finished = [([start], 0.0)], []
    for _ in range(steps):
        candidates = []
        for index, (words, score) in enumerate(alive):
            row = word_logits(parameters, x, torch.tensor([words]), heads)[0, -1].log_softmax(-1).tolist()
            candidates += [(score + columns, index, word) for word, columns in enumerate(row)]
        candidates.sort(key=lambda candidate: (-candidate[0], candidate[1:]))
        chosen = candidates[: beams - len(finished)]
        grown = [([*alive[index][0], word], score) for score, index, word in chosen]
        finished += [(words[:-1], score) for words, score in grown if words[-1] == end]
        alive = [(words, score) for words, score in grown if words[-1] != end]
        if not alive:
            break
    words, score = max(finished or alive, key=lambda actual: actual[1])
    return words[1:], score
