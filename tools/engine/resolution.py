"""Compare the ground resolution of images to caption with that of a model's training images."""

import math
from collections.abc import Sequence
from pathlib import Path

from data.images import size_of
from tools.engine.predictor import Predictor

FACTOR = 1.5  # remark on resolutions that differ by more


def resolution_remark(predictor: Predictor, metres_per_pixel: float, images: Sequence[Path]) -> str | None:
    """A line about images whose resolution differs from the training images' by more than FACTOR, or None.

    metres_per_pixel: of the image files. What counts is the resolution after the resizing to the model's
    input. Files that cannot be read are left out.
    """
    trained = predictor.metres_per_pixel
    if trained is None:
        return (
            "--metres_per_pixel is not compared, because the training data did not state theirs: prepare "
            "training data with tools/create_input_files.py --metres_per_pixel"
        )
    side = math.sqrt(math.prod(predictor.image_size))
    sizes = [size for size in map(size_of, images) if size]
    resolutions = [metres_per_pixel * math.sqrt(math.prod(size)) / side for size in sizes]
    different = [value for value in resolutions if not trained / FACTOR <= value <= trained * FACTOR]
    if not different:
        return None
    values = " to ".join(dict.fromkeys(f"{value:.3g}" for value in (min(different), max(different))))
    height, width = (trained * side for side in predictor.image_size)
    return (
        f"{len(different)} of {len(images)} pairs have {values} metres per pixel at the model's input, more "
        f"than a factor of {FACTOR} from the {trained:.3g} of its training: give images that cover about "
        f"{height:.3g} x {width:.3g} metres"
    )
