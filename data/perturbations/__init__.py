"""The table of perturbations: image differences that are not changes, and errors of maps, at five severities.

They are used to test trained models (tools/robustness.py) and to augment training (`data.augment`). A
perturbation of images alters one of the two dates. Pixels refer to the images as the network sees them.
`apply.perturb` applies a perturbation; this module does not import torch.
"""

from typing import NamedTuple

SEVERITIES = (1, 2, 3, 4, 5)


class Perturbation(NamedTuple):
    """A perturbation and its strength at each severity.

    group: LIGHT, SENSOR or MAPS. unit: of `levels`, which are in the order of SEVERITIES. function: a module
    and function of this package.
    """

    group: str
    unit: str
    levels: tuple
    function: str


LIGHT, SENSOR, MAPS = "photometric", "geometric and sensor", "map noise"
PAINTING = frozenset({"map_confusion", "map_invented"})  # these need the classes of the data set

# fmt: off
PERTURBATIONS: dict[str, Perturbation] = {
    "brightness": Perturbation(
        LIGHT, "stops, up or down", (0.15, 0.3, 0.6, 1.0, 1.5), "photometric.brightness"),
    "contrast": Perturbation(
        LIGHT, "factor, or its inverse", (1.1, 1.25, 1.5, 1.9, 2.5), "photometric.contrast"),
    "gamma": Perturbation(
        LIGHT, "exponent, or its inverse", (1.1, 1.25, 1.5, 1.9, 2.5), "photometric.gamma"),
    "colour_cast": Perturbation(
        LIGHT, "stops between red and blue", (0.2, 0.4, 0.8, 1.2, 1.8), "photometric.colour_cast"),
    "haze": Perturbation(
        LIGHT, "share of the light that is lost", (0.03, 0.07, 0.15, 0.3, 0.5), "photometric.haze"),
    "gaussian_blur": Perturbation(
        SENSOR, "sigma in pixels", (0.5, 0.8, 1.3, 2.0, 3.0), "sensor.gaussian_blur"),
    "motion_blur": Perturbation(
        SENSOR, "path in pixels", (2, 4, 6, 9, 14), "sensor.motion_blur"),
    "viewpoint": Perturbation(
        SENSOR, "corners' own moves as a share of the side, and rotation in degrees",
        ((0.005, 0.5), (0.01, 1), (0.02, 2), (0.035, 3), (0.05, 5)), "geometric.viewpoint"),
    "resolution": Perturbation(
        SENSOR, "times fewer pixels a side", (1.25, 1.6, 2.2, 3, 4), "sensor.resolution"),
    "registration": Perturbation(
        SENSOR, "shift in pixels, and difference in scale in per cent",
        ((0.5, 0.1), (1, 0.25), (2, 0.5), (4, 1), (8, 2)), "geometric.registration"),
    "noise": Perturbation(
        SENSOR, "sigma in 8-bit counts", (4, 8, 15, 25, 35), "sensor.noise"),
    "jpeg": Perturbation(
        SENSOR, "quality", (85, 60, 40, 25, 15), "sensor.jpeg"),
    "map_confusion": Perturbation(
        MAPS, "share of regions confused", (0.1, 0.25, 0.5, 0.75, 1.0), "map_noise.confusion"),
    "map_borders": Perturbation(
        MAPS, "pixels too far out or in", (1, 2, 4, 6, 10), "map_noise.borders"),
    "map_missing": Perturbation(
        MAPS, "share of changed areas missed", (0.1, 0.25, 0.5, 0.75, 1.0), "map_noise.missing"),
    "map_invented": Perturbation(
        MAPS, "changed areas invented", (1, 2, 3, 5, 8), "map_noise.invented"),
    "map_void": Perturbation(
        MAPS, "share of pairs without maps", (0.1, 0.25, 0.5, 0.75, 1.0), "map_noise.void"),
}
# fmt: on
