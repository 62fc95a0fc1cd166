"""Light and air: an image (3, H, W) uint8 -> the same. What is physical is computed in linear light."""

import torch
from numpy.random import Generator
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

VALUES = torch.arange(256, dtype=torch.uint8).unsqueeze(0)  # (1, 256), all values of a channel
AIRLIGHT = (0.72, 0.78, 0.85)  # what the air scatters into the view, as linear light: a bluish white


def to_linear(image: Tensor) -> Tensor:
    """sRGB in 8 bits as linear light, 0 to 1 (IEC 61966-2-1)."""
    value = image / 255
    return torch.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def to_srgb(light: Tensor) -> Tensor:
    """Linear light as sRGB in 8 bits; what is brighter than 1 is clipped as a sensor clips it."""
    light = light.clamp(0, 1)
    value = torch.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return (255 * value).round().to(torch.uint8)


def look_up(image: Tensor, table: Tensor) -> Tensor:
    """An image (3, H, W) uint8 whose values v become table[v].

    table (1 or 3, 256) uint8: for all channels, or for each.
    """
    channels = zip(image.numpy(), table.expand(3, -1).numpy(), strict=True)
    found = b"".join(channel.tobytes().translate(new.tobytes()) for channel, new in channels)
    return torch.frombuffer(bytearray(found), dtype=torch.uint8).view(image.shape)


def either_way(rng: Generator) -> int:
    """+1 or -1."""
    return int(rng.choice((-1, 1)))


def brightness(image: Tensor, stops: float, rng: Generator) -> Tensor:
    """Another exposure: a stop up doubles the light, a stop down halves it."""
    return look_up(image, to_srgb(to_linear(VALUES) * 2 ** (either_way(rng) * stops)))


def contrast(image: Tensor, factor: float, rng: Generator) -> Tensor:
    """Differences from the mean grey multiplied, or divided, by the factor."""
    return tv.adjust_contrast(image, factor ** either_way(rng))


def gamma(image: Tensor, exponent: float, rng: Generator) -> Tensor:
    """Another response curve: values from 0 to 1 to the power of the exponent or of its inverse."""
    return look_up(image, tv.adjust_gamma(VALUES, exponent ** either_way(rng)))


def colour_cast(image: Tensor, stops: float, rng: Generator) -> Tensor:
    """Another sun or white balance: red gains half of the stops and blue loses as much, or the reverse."""
    half = either_way(rng) * stops / 2
    gains = 2 ** torch.tensor([half, 0, -half])
    return look_up(image, to_srgb(to_linear(VALUES) * gains.view(3, 1)))


def haze(image: Tensor, lost: float, rng: Generator) -> Tensor:
    """Of the land's light the share 1 - `lost` comes through, and as much airlight takes its place.

    Koschmieder's law with one depth for the whole image: light * t + airlight * (1 - t), t = 1 - lost.
    """
    airlight = torch.tensor(AIRLIGHT).view(3, 1)
    return look_up(image, to_srgb(to_linear(VALUES) * (1 - lost) + airlight * lost))
