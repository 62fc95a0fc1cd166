"""Figures of pairs, captions, attention and scores, drawn with matplotlib."""

import io
import math
import textwrap
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image

matplotlib.use("agg")
from matplotlib import colormaps
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from data.atomic_write import atomic_write
from data.palette import SECOND, Palette
from data.perturbations import PERTURBATIONS

TITLES = ("before", "after", "map before", "map after")
GATES = {"image gate": "#2166ac", "map gate": "#b2560d", "word gate": "#777777"}
HEAT = colormaps["autumn"]  # red to yellow, as in the report
OPACITY = 0.8  # of the largest weight
FORMATS = frozenset(FigureCanvasAgg.get_supported_filetypes())  # file formats by suffix
LEGEND_COLUMNS = 7  # maximum number of classes side by side
MOST_COLUMNS = 8  # maximum number of words side by side
PANELS = 7  # maximum number of robustness panels side by side
LEAST_TOP = 10  # minimum upper end of a score axis
SIDE = 1.15  # side length of a view in inches
PITCH = 1.06  # distance between adjacent views, relative to their width


def draw_pair(path: Path, views: np.ndarray, caption: str, palette: Palette = SECOND) -> None:
    """Draw views (4, 3, H, W) uint8 in the order of VIEWS above the caption; the suffix sets the format.

    The classes in the maps, which have the colours of `palette`, are named in a legend.
    """
    figure, axes = plt.subplots(1, 4, figsize=(12, 3.7), layout="constrained")
    for axis, view, title in zip(axes, views, TITLES, strict=True):
        _show(axis, view.transpose(1, 2, 0))
        axis.set_title(title, fontsize=11)
    figure.supxlabel(caption, fontsize=14, wrap=True)
    if handles := _class_handles(views[2:], palette):
        figure.legend(handles=handles, loc="outside upper center", ncols=LEGEND_COLUMNS, frameon=False)
    _save(figure, path, dpi=100)


def _class_handles(maps: np.ndarray, palette: Palette) -> list[Patch]:
    """The legend's entries for the classes in maps (2, 3, H, W) uint8."""
    present = np.unique(palette.map_classes(maps))
    return [
        Patch(facecolor=np.array(palette.prepared[index - 1]) / 255, label=palette.labels[index])
        for index in present[present > 0]
    ]


def draw_attention(
    path: Path, views: np.ndarray, words: Sequence[str], rgb: np.ndarray, sem: np.ndarray, gates: np.ndarray
) -> None:
    """Draw a column for each word: its attention overlaid on the views, and its three gates.

    views (4, 3, H, W) uint8; rgb, sem (T, h, w), each shared by both dates; gates (T, 3). Each modality has
    one colour scale, from 0 to the largest weight of any word.
    """
    bands = math.ceil(len(words) / MOST_COLUMNS)
    columns = math.ceil(len(words) / bands)
    width, height = SIDE * (PITCH * columns + 2.01), SIDE * (5.2 * bands - 0.43) + 0.36  # a view is a square
    figure = plt.figure(figsize=(width, height))
    grid = figure.add_gridspec(
        bands, 1, hspace=0.09,
        left=0.33 / width, right=1 - 0.63 / width, top=1 - 0.3 / height, bottom=0.06 / height,
    )  # fmt: skip
    for band, band_cell in enumerate(grid):
        cells = band_cell.subgridspec(
            5, 3, hspace=0.06, wspace=0.12 / (columns + 1),
            height_ratios=[1, 1, 1, 1, 0.55], width_ratios=[1, PITCH * columns, 0.12],
        )  # fmt: skip
        in_band = slice(band * columns, (band + 1) * columns)
        for row, view in enumerate(views.transpose(0, 2, 3, 1)):
            weights = (rgb, sem)[row // 2]
            before, beside = (figure.add_subplot(cells[row, column]) for column in (0, 1))
            _show(before, view)
            before.set_ylabel(TITLES[row], fontsize=9)
            _draw_row(beside, [overlay(view, heat / weights.max()) for heat in weights[in_band]], columns)
            if row == 0:
                beside.set_xticks([i + 0.5 / PITCH for i in range(len(words[in_band]))], words[in_band])
            if row % 2 == 0:
                _draw_scale(figure.add_subplot(cells[row : row + 2, 2]), weights.max())
        _draw_gates(figure.add_subplot(cells[4, 1]), gates[in_band], columns)
    _save(figure, path, dpi=200)


def _draw_row(axis: Axes, pictures: Sequence[np.ndarray], columns: int) -> None:
    """Draw pictures (H, W, 3) uint8 in a row with room for `columns`; x counts pictures."""
    height, width = pictures[0].shape[:2]
    pitch = round(PITCH * width)
    row = np.full((height, pitch * columns, 3), 255, dtype=np.uint8)
    for i, picture in enumerate(pictures):
        row[:, i * pitch : i * pitch + width] = picture
    axis.imshow(row, extent=(0, columns, 0, 1), aspect="auto")
    axis.set_xticks([])
    axis.set_yticks([])
    axis.tick_params(labeltop=True, labelbottom=False, labelsize=10, length=0, pad=4)
    axis.spines[:].set_visible(False)


def _draw_gates(axis: Axes, gates: np.ndarray, columns: int) -> None:
    """Draw the gates (T, 3) as three bars per word with their values, below a row of pictures."""
    for index, (name, colour) in enumerate(GATES.items()):
        values = gates[:, index]
        names, starts = [name] * len(values), range(len(values))
        bars = axis.barh(names, 0.7 * values, left=starts, color=colour, height=0.7)
        axis.bar_label(bars, [f"{value:.2f}" for value in values], fontsize=7, padding=2)
    axis.set_xlim(0, columns)
    axis.set_xticks([])
    axis.invert_yaxis()
    axis.tick_params(labelsize=9, length=0)
    axis.spines[:].set_visible(False)


def _draw_scale(axis: Axes, largest: float) -> None:
    """Draw a colour scale of weights from 0 to the largest, on black and on white."""
    grounds = np.stack([np.full((256, 1, 3), ground, dtype=np.uint8) for ground in (0, 255)])
    colours = [overlay(ground, np.linspace(1, 0, 256)[:, None]) for ground in grounds]
    axis.imshow(np.hstack(colours), extent=(0, 1, 0, largest), aspect="auto")
    axis.set_xticks([])
    axis.yaxis.tick_right()
    axis.yaxis.set_label_position("right")
    axis.set_ylabel("attention", fontsize=9)
    axis.yaxis.set_major_locator(MaxNLocator(4))
    axis.yaxis.set_major_formatter(lambda weight, _: f"{100 * weight:.3g} %")
    axis.tick_params(labelsize=8, length=2, pad=2)


def overlay(view: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Overlay weights (h, w) in 0..1 on a view: (H, W, 3) uint8 -> (H, W, 3) uint8.

    The opacity is proportional to the weight.
    """
    height, width = view.shape[:2]
    smooth = Image.fromarray(weights.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC)
    heat = np.asarray(smooth).clip(0, 1)
    opacity = OPACITY * heat[..., None]
    return ((1 - opacity) * view + opacity * 255 * HEAT(heat)[..., :3]).round().astype(np.uint8)


def curve_svg(title: str, epochs: Sequence[int], series: Mapping[str, Sequence[float]], best: int) -> str:
    """Curves over the epochs as an SVG element; the best epoch is marked.

    series: name -> a value per epoch; there is a legend if there are several series.
    """
    with plt.rc_context({"svg.fonttype": "none", "svg.hashsalt": title, "font.size": 9}):
        figure, axis = plt.subplots(figsize=(4, 2.6), layout="constrained")
        for name, values in series.items():
            axis.plot(epochs, values, label=name, marker="." if len(epochs) < 30 else "")
        axis.axvline(best, color="0.6", linestyle=":", zorder=0)
        axis.text(
            best, 1, "best", transform=axis.get_xaxis_transform(), ha="center", va="bottom", color="0.3"
        )
        axis.set_xlabel("epoch")
        axis.set_title(title, fontsize=10, loc="left", pad=14)
        axis.set_ylim(bottom=0)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(axis="y", color="0.9")
        axis.spines[["top", "right"]].set_visible(False)
        if len(series) > 1:
            axis.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, handlelength=1)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
        plt.close(figure)
    return text.getvalue()[text.getvalue().index("<svg") :]


NO_VALUE = dict.fromkeys(("value", "low", "high"), float("nan"))  # matplotlib draws nothing there


def draw_robustness(path: Path, runs: Sequence[Mapping], measures: Mapping[str, str]) -> None:
    """Draw a panel per measure and perturbation: scores over severity with intervals, one line per run.

    The score on clean pairs is dotted. runs: as in robustness.json (tools/robustness.py). measures: name in
    robustness.json -> title; each axis goes from 0 to the largest value.
    """
    panels = _distinct(runs)
    columns = min(PANELS, len(panels))
    rows = math.ceil(len(panels) / columns)
    size = (0.7 + 1.55 * max(2, columns), len(measures) * (0.4 + 1.5 * rows) + 0.22 * len(runs))
    figure = plt.figure(figsize=size, layout="constrained")
    parts = figure.subfigures(len(measures), squeeze=False)[:, 0]
    for part, (measure, title) in zip(parts, measures.items(), strict=True):
        part.supylabel(title, fontsize=11)
        axes = part.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat
        for panel, axis in zip_longest(panels, axes):
            if panel is None:
                axis.set_visible(False)
            else:
                axis.set_title(textwrap.fill(panel.replace("_", " "), 20), fontsize=9)
                _draw_severities(axis, runs, panel, measure)
        largest = max(axis.dataLim.ymax for axis in part.axes)
        part.axes[0].set_ylim(0, max(LEAST_TOP, largest))  # shared by all panels
    parts[-1].supxlabel("severity; dotted: on clean pairs", fontsize=10)
    handles, names = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=1, frameon=False, fontsize=9)
    _save(figure, path, dpi=150)


def _distinct(runs: Sequence[Mapping]) -> list[str]:
    """The perturbations and means, without means that equal another panel (those of one perturbation)."""
    panels: dict[str, list] = {}
    for name in runs[0]["curves"]:
        curves = [run["curves"][name] for run in runs]
        if name in PERTURBATIONS or curves not in panels.values():
            panels[name] = curves
    return list(panels)


def _draw_severities(axis: Axes, runs: Sequence[Mapping], panel: str, measure: str) -> None:
    """Draw a panel: for each checkpoint a line with intervals, and its score on clean pairs."""
    for number, run in enumerate(runs):
        curve = run["curves"][panel]
        severities = list(curve)
        intervals = [measures[measure] or NO_VALUE for measures in curve.values()]
        ends = [(interval["value"], interval["low"], interval["high"]) for interval in intervals]
        values, lows, highs = np.array(ends).T
        colour = f"C{number}"
        line = {"marker": ".", "linewidth": 1.4, "clip_on": False, "zorder": 3}
        axis.plot(severities, values, color=colour, label=run["label"], **line)
        axis.fill_between(severities, lows, highs, color=colour, alpha=0.15, linewidth=0)
        axis.vlines(severities, lows, highs, color=colour, alpha=0.4, linewidth=1)
        axis.axhline(run["clean"][measure]["value"], color=colour, linestyle=":", linewidth=1)
    axis.set_xticks(severities)
    axis.grid(axis="y", color="0.9")
    axis.tick_params(labelsize=8, labelbottom=True)
    axis.spines[["top", "right"]].set_visible(False)


def _show(axis: Axes, view: np.ndarray) -> None:
    axis.imshow(view, interpolation="nearest")
    axis.set_xticks([])
    axis.set_yticks([])


def _save(figure: Figure, path: Path, dpi: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with atomic_write(path) as partial:
            figure.savefig(partial, dpi=dpi, format=path.suffix[1:] or "png")
    finally:
        plt.close(figure)
