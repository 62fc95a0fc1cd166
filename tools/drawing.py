"""Pictures of pairs and their captions, with matplotlib."""

from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("agg")
from matplotlib import pyplot as plt

TITLES = ("before", "after", "map before", "map after")


def draw_pair(path: Path, views: np.ndarray, caption: str) -> None:
    """views (4, 3, H, W) uint8 in the order of VIEWS, side by side over the caption; the suffix of `path` is
    the format."""
    figure, axes = plt.subplots(1, 4, figsize=(12, 3.7), layout="constrained")
    for axis, view, title in zip(axes, views, TITLES, strict=True):
        axis.imshow(view.transpose(1, 2, 0), interpolation="nearest")
        axis.set_title(title, fontsize=11)
        axis.set_xticks([])
        axis.set_yticks([])
    figure.supxlabel(caption, fontsize=14, wrap=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    plt.close(figure)
