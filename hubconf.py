"""Load a captioning model with torch.hub.

import torch
predictor = torch.hub.load("path/to/this/repository", "captioner", source="local", checkpoint="best.pt")
print(predictor.caption("before.png", "after.png").text)
"""

from tools.engine import cli  # noqa: F401 first: it sets how OpenMP's threads wait, before torch starts them

# isort: split
from collections.abc import Sequence
from pathlib import Path

from tools.engine.predictor import Predictor

dependencies = ["h5py", "imageio", "jsonargparse", "numpy", "PIL", "torch", "torchvision", "yaml"]


def captioner(
    checkpoint: str | Path | Sequence[str | Path],
    detector: str | Path | None = None,
    device: str = "auto",
) -> Predictor:
    """The model of a best.pt or last.pt with all that it needs to caption pairs, as `Predictor.load`.

    detector: a change detector's checkpoint, which finds the maps of pairs that have none. device: "auto"
    (a GPU if there is one), "cpu" or "cuda:N".
    """
    return Predictor.load(checkpoint, detector, device)
