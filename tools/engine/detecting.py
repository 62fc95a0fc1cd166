"""Find the maps of a whole split with a change detector."""

from collections.abc import Iterator

import numpy as np

from configs import Config
from data.dataset import ChangeCaptions, make_loader, views_of
from models.change_detector import ChangeDetector
from models.precision import autocast
from tools.engine.progress_bar import progress_bar


def detected_maps(detector: ChangeDetector, samples: ChangeCaptions, config: Config) -> Iterator[np.ndarray]:
    """The maps of all pairs, in order, in batches (B, 2, 3, H, W) uint8."""
    loader = make_loader(samples, config.data, batch_size=config.decode.batch_size)
    for batch in progress_bar(loader, "detecting", unit="batch"):
        images = views_of(batch, detector.device)[:, :2]
        with autocast(images.device, config.decode.precision):
            maps = detector.detect(images).numpy()
        yield maps
