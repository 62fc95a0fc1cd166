"""Photometric perturbations of images (3, H, W) uint8; physical effects are computed in linear light."""

import torch
from numpy.random import Generator
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

VALUES = torch.arange(256, dtype=torch.uint8).unsqueeze(0)  # (1, 256), all values of a channel
AIRLIGHT = (0.72, 0.78, 0.85)  # light scattered by the air, in linear RGB: a bluish white


def to_linear(image: Tensor) -> Tensor:
    """Convert 8-bit sRGB to linear light in 0..1 (IEC 61966-2-1)."""
    value = image / 255
    return torch.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def to_srgb(light: Tensor) -> Tensor:
    """Convert linear light to 8-bit sRGB; values above 1 are clipped, as by a sensor."""
    light = light.clamp(0, 1)
    value = torch.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return (255 * value).round().to(torch.uint8)


def look_up(image: Tensor, table: Tensor) -> Tensor:
    """Replace each value v of an image (3, H, W) uint8 by table[v].

    table: (1, 256) uint8 for all channels, or (3, 256) for each channel.
    """
    channels = zip(image.numpy(), table.expand(3, -1).numpy(), strict=True)
    pixels = b"".join(channel.tobytes().translate(values.tobytes()) for channel, values in channels)
    return torch.frombuffer(bytearray(pixels), dtype=torch.uint8).view(image.shape)


def random_sign(rng: Generator) -> int:
    """+1 or -1 with equal probability."""
    return int(rng.choice((-1, 1)))


def brightness(image: Tensor, stops: float, rng: Generator) -> Tensor:
    """Change the exposure: one stop up doubles the light, one stop down halves it."""
    return look_up(image, to_srgb(to_linear(VALUES) * 2 ** (random_sign(rng) * stops)))


def contrast(image: Tensor, factor: float, rng: Generator) -> Tensor:
    """Multiply or divide the differences from the mean grey by `factor`."""
    return tv.adjust_contrast(image, factor ** random_sign(rng))


def gamma(image: Tensor, exponent: float, rng: Generator) -> Tensor:
    """Change the response curve: raise values in 0..1 to the power of `exponent` or of its inverse."""
    return look_up(image, tv.adjust_gamma(VALUES, exponent ** random_sign(rng)))


def colour_cast(image: Tensor, stops: float, rng: Generator) -> Tensor:
    """Change the white balance: red gains half of the stops and blue loses as much, or vice versa."""
    half = random_sign(rng) * stops / 2
    gains = 2 ** torch.tensor([half, 0, -half])
    return look_up(image, to_srgb(to_linear(VALUES) * gains.view(3, 1)))


def haze(image: Tensor, lost: float, rng: Generator) -> Tensor:
    """Replace the fraction `lost` of the light by airlight.

    Koschmieder's law with a constant depth: light * t + airlight * (1 - t) with t = 1 - lost.
    """
    airlight = torch.tensor(AIRLIGHT).view(3, 1)
    return look_up(image, to_srgb(to_linear(VALUES) * (1 - lost) + airlight * lost))
