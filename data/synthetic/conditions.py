"""Differences between the two dates that are not changes: the distractors named in the paper.

They are illumination, season, blur, resolution, viewpoint and registration. They alter the images, not the
maps; viewpoint and registration move an image by at most three pixels each, so the maps still match.
"""

import numpy as np
from PIL import Image, ImageFilter

from data.synthetic.materials import CLASS_IDS, SIZE, TREE, VEGETATION

NO_CONDITION_SHARE, EACH_CONDITION_SHARE = 0.15, 0.35
MARGIN = 8  # mirrored pixels around an image, so that a moved image has no empty border


def illumination(rgb: np.ndarray, classes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Change brightness, contrast and colour cast."""
    cast = rng.uniform(0.75, 1.25) * rng.uniform(0.94, 1.06, 3)
    return 255 * (np.clip(rgb, 0, 255) / 255) ** rng.uniform(0.8, 1.25) * cast


def season(rgb: np.ndarray, classes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Make grass and trees drier and browner, or fresher and greener."""
    green = np.isin(classes, [CLASS_IDS[VEGETATION], CLASS_IDS[TREE]])[..., None]
    tint = (1.2, 1.04, 0.92) if rng.random() < 0.6 else (0.86, 1.05, 0.86)
    return np.where(green, rgb * np.float32(tint), rgb)


def viewpoint(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Change the viewpoint: move each corner independently by up to three pixels."""
    width, height = picture.size
    corners = np.array([(0, 0), (0, height), (width, height), (width, 0)]) + rng.uniform(-3, 3, (4, 2))
    return picture.transform(picture.size, Image.Transform.QUAD, corners.ravel(), Image.Resampling.BICUBIC)


def registration(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Shift the image by one to three pixels in each direction."""
    x, y = rng.integers(1, 4, 2) * rng.choice([-1, 1], 2)
    return picture.transform(picture.size, Image.Transform.AFFINE, (1, 0, x, 0, 1, y))


def resolution(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Downsample, then upsample to the original size."""
    coarse = picture.reduce(2) if rng.random() < 0.5 else picture.resize((160, 160), Image.Resampling.BOX)
    return coarse.resize(picture.size, Image.Resampling.BILINEAR)


def blur(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Gaussian blur."""
    return picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.6, 1.5)))


ON_THE_LAND = {"season": season, "illumination": illumination}
ON_THE_SENSOR = {"viewpoint": viewpoint, "registration": registration, "resolution": resolution, "blur": blur}


def draw_conditions(rng: np.random.Generator) -> tuple[list[str], list[str]]:
    """Draw the conditions of the two dates; each is applied to one date or to none."""
    dates: tuple[list[str], list[str]] = ([], [])
    if rng.random() < NO_CONDITION_SHARE:
        return dates
    for name in (*ON_THE_LAND, *ON_THE_SENSOR):
        if rng.random() < EACH_CONDITION_SHARE:
            dates[rng.integers(2)].append(name)
    return dates


def photograph(
    rgb: np.ndarray, classes: np.ndarray, names: list[str], rng: np.random.Generator
) -> np.ndarray:
    """Apply the named conditions to a drawing, rgb (H, W, 3) float32 and classes (H, W); returns uint8."""
    for name in [name for name in names if name in ON_THE_LAND]:
        rgb = ON_THE_LAND[name](rgb, classes, rng)
    pixels = np.clip(np.rint(rgb), 0, 255).astype(np.uint8)
    picture = Image.fromarray(np.pad(pixels, ((MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0)), mode="reflect"))
    for name in [name for name in names if name in ON_THE_SENSOR]:
        picture = ON_THE_SENSOR[name](picture, rng)
    return np.asarray(picture)[MARGIN : MARGIN + SIZE, MARGIN : MARGIN + SIZE]
