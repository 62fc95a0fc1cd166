"""Perturbations by optics, sensor and compression, (3, H, W) uint8 -> (3, H, W) uint8; edges are mirrored."""

import io
import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import Generator
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

SAMPLES = 64  # points along a motion path that are averaged


def gaussian_blur(image: Tensor, sigma: float, rng: Generator) -> Tensor:
    """Gaussian blur; `sigma` in pixels."""
    return tv.gaussian_blur(image, 2 * math.ceil(3 * sigma) + 1, sigma)


def motion_blur(image: Tensor, length: float, rng: Generator) -> Tensor:
    """Average over a straight path of `length` pixels in a random direction."""
    kernel = torch.from_numpy(_path(length, rng.uniform(0, math.pi))).float().expand(3, 1, -1, -1)
    reach = kernel.shape[-1] // 2
    padded = tv.pad(image, [reach] * 4, padding_mode="reflect").float()
    return F.conv2d(padded[None], kernel, groups=3)[0].round().to(torch.uint8)


def _path(length: float, angle: float) -> np.ndarray:
    """Weights (k, k) of a centred line, with sum 1; its points are distributed bilinearly over pixels."""
    reach = math.ceil(length / 2)
    along = np.linspace(-length / 2, length / 2, SAMPLES)[:, None]
    pixels = np.arange(-reach, reach + 1)
    columns = np.clip(1 - np.abs(pixels - along * math.cos(angle)), 0, None)  # (SAMPLES, k)
    rows = np.clip(1 - np.abs(pixels - along * math.sin(angle)), 0, None)
    return rows.T @ columns / SAMPLES


def resolution(image: Tensor, factor: float, rng: Generator) -> Tensor:
    """Downsample by `factor` per side, then upsample to the original size."""
    size = list(image.shape[-2:])
    coarse = [max(1, round(side / factor)) for side in size]
    return tv.resize(tv.resize(image, coarse, antialias=True), size, antialias=True)


def noise(image: Tensor, sigma: float, rng: Generator) -> Tensor:
    """Add Gaussian noise of `sigma` 8-bit counts, independently for each pixel and channel."""
    grain = torch.from_numpy(rng.standard_normal(image.shape, dtype=np.float32))
    return (image + sigma * grain).round().clamp(0, 255).to(torch.uint8)


def jpeg(image: Tensor, quality: int, rng: Generator) -> Tensor:
    """Compress as JPEG with this quality (libjpeg's scale, 1 to 100)."""
    file = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=quality)
    return torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)
