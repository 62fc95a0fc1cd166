"""What optics, sensor and storage do: an image (3, H, W) uint8 -> the same. Edges are mirrored."""

import io
import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import Generator
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

SAMPLES = 64  # places along a motion's path that are averaged


def gaussian_blur(image: Tensor, sigma: float, rng: Generator) -> Tensor:
    """Out of focus; `sigma` in pixels."""
    return tv.gaussian_blur(image, 2 * math.ceil(3 * sigma) + 1, sigma)


def motion_blur(image: Tensor, length: float, rng: Generator) -> Tensor:
    """The mean over a straight path of `length` pixels, in any direction."""
    kernel = torch.from_numpy(_path(length, rng.uniform(0, math.pi))).float().expand(3, 1, -1, -1)
    reach = kernel.shape[-1] // 2
    padded = tv.pad(image, [reach] * 4, padding_mode="reflect").float()
    return F.conv2d(padded[None], kernel, groups=3)[0].round().to(torch.uint8)


def _path(length: float, angle: float) -> np.ndarray:
    """A line through the middle as weights (k, k) that sum to 1, each place shared out bilinearly."""
    reach = math.ceil(length / 2)
    along = np.linspace(-length / 2, length / 2, SAMPLES)[:, None]
    pixels = np.arange(-reach, reach + 1)
    columns = np.clip(1 - np.abs(pixels - along * math.cos(angle)), 0, None)  # (SAMPLES, k)
    rows = np.clip(1 - np.abs(pixels - along * math.sin(angle)), 0, None)
    return rows.T @ columns / SAMPLES


def resolution(image: Tensor, factor: float, rng: Generator) -> Tensor:
    """A coarser sensor: `factor` times fewer pixels a side, enlarged again."""
    size = list(image.shape[-2:])
    coarse = [max(1, round(side / factor)) for side in size]
    return tv.resize(tv.resize(image, coarse, antialias=True), size, antialias=True)


def noise(image: Tensor, sigma: float, rng: Generator) -> Tensor:
    """Normal noise of `sigma` 8-bit counts, independent for every pixel and channel."""
    grain = torch.from_numpy(rng.standard_normal(image.shape, dtype=np.float32))
    return (image + sigma * grain).round().clamp(0, 255).to(torch.uint8)


def jpeg(image: Tensor, quality: int, rng: Generator) -> Tensor:
    """Stored as JPEG of this quality (libjpeg's scale, 1 to 100) and read again."""
    file = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=quality)
    return torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)
