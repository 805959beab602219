"""Figures of a demo: outlines over images, and learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation
from skimage.segmentation import find_boundaries

from ..core.evaluation.metrics import match_instances
from ..core.events import StepDone, Validated
from ..stores import remove, replace, temporary, writing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Colour = tuple[int, int, int]

# Okabe and Ito's colours, distinct for any kind of colour vision.
BLUE, ORANGE, YELLOW, GREEN, PINK = (86, 180, 233), (230, 120, 0), (240, 228, 66), (0, 158, 115), (204, 121, 167)
GREY = (110, 110, 118)

PANEL = 520
"""Side of a panel in pixels."""

LARGEST = 640
"""Side in pixels of the part that is shown of a larger image."""


@dataclass(frozen=True)
class Panel:
    """One view of an image.

    Attributes
    ----------
    title, subtitle : str
        Written above it.
    image : NDArray
        Grey values, (C, Y, X); three channels are shown as red, green, blue.
    outlines : sequence of (labels, colour)
        Drawn in this order.
    fill : (labels, colours), optional
        Paint, half transparent, with the colour of each label.
    """

    title: str
    subtitle: str
    image: NDArray[Any]
    outlines: Sequence[tuple[NDArray[Any], Colour]]
    fill: tuple[NDArray[Any], Mapping[int, Colour]] | None = None

    def pixels(self) -> NDArray[np.uint8]:
        """Return the middle of the image with fill and outlines, enlarged to about :data:`PANEL` pixels a side."""
        window = self._window()
        factor = max(1, round(PANEL / max(self.image[0][window].shape)))
        drawn = _enlarged(_shown(self.image)[window], factor).astype(np.float32)
        if self.fill is not None:
            labels, colours = self.fill
            for value, colour in colours.items():
                inside = _enlarged(labels[window] == value, factor)
                drawn[inside] = 0.45 * drawn[inside] + 0.55 * np.asarray(colour, np.float32)
        for labels, colour in self.outlines:
            drawn[_outlines(_enlarged(labels[window], factor), 2 if factor > 1 else 1)] = colour
        return drawn.astype(np.uint8)

    def _window(self) -> tuple[slice, slice]:
        """Return the part to show of an image that is too large: around the paint, or the middle."""
        painted = np.argwhere(self.fill[0] > 0) if self.fill is not None else np.empty((0, 2))
        sides = self.image.shape[-2:]
        middle = painted.mean(axis=0) if len(painted) else np.asarray(sides) / 2
        starts = [int(np.clip(m - LARGEST / 2, 0, max(0, n - LARGEST))) for m, n in zip(middle, sides, strict=True)]
        return slice(starts[0], starts[0] + LARGEST), slice(starts[1], starts[1] + LARGEST)


def compared(truth: NDArray[Any], prediction: NDArray[Any]) -> list[tuple[NDArray[Any], Colour]]:
    """Return outlines of missed cells (yellow), false ones (orange) and those found at IoU 0.5 (blue)."""
    matching = match_instances(truth, prediction)
    pairs = matching.matched(0.5)
    found = matching.prediction_ids[matching.columns[pairs]]
    hit = matching.truth_ids[matching.rows[pairs]]
    return [
        (np.where(np.isin(truth, hit), 0, truth), YELLOW),
        (np.where(np.isin(prediction, found), 0, prediction), ORANGE),
        (np.where(np.isin(prediction, found), prediction, 0), BLUE),
    ]


def draw_overlay(path: Path, panels: Sequence[Panel], legend: Sequence[tuple[str, Colour]]) -> None:
    """Write panels beside each other as one picture.

    Parameters
    ----------
    path : Path
        PNG to write.
    panels : sequence of Panel
        From left to right.
    legend : sequence of (text, colour)
        Written below.

    Raises
    ------
    StoreError
        When it cannot be written.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    pictures = [panel.pixels() for panel in panels]
    tallest = max(picture.shape[0] / picture.shape[1] for picture in pictures)
    width, height = 5.4 * len(panels), 5.2 * min(2, max(0.3, tallest)) + 1.2
    figure = Figure(figsize=(width, height))
    figure.subplots_adjust(0.2 / width, 0.5 / height, 1 - 0.2 / width, 1 - 0.7 / height, wspace=0.04)
    for number, (panel, picture) in enumerate(zip(panels, pictures, strict=True)):
        axes = figure.add_subplot(1, len(panels), number + 1, anchor="NW")
        axes.imshow(picture)
        axes.set_axis_off()
        axes.set_title(panel.title, loc="left", fontsize=16, pad=24)
        axes.annotate(
            fitting(panel.subtitle), (0, 1), (0, 6), "axes fraction", "offset points", fontsize=11, color=_rgb(GREY)
        )
    patches = [Patch(facecolor=_rgb(colour), edgecolor=_rgb(GREY), label=text) for text, colour in legend]
    figure.legend(handles=patches, loc="lower left", ncols=len(patches), frameon=False, fontsize=12)
    save_figure(figure, path)


def draw_learning_curves(path: Path, steps: Sequence[StepDone], checks: Sequence[Validated]) -> None:
    """Write loss, and the scores on validation cells where there are any, over time.

    Raises
    ------
    StoreError
        When it cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.8 if checks else 6.4, 4.2), layout="constrained")
    columns = 2 if checks else 1
    times = [event.elapsed for event in checks]
    loss = figure.add_subplot(1, columns, 1)
    _curve(loss, [event.elapsed for event in steps], running_mean([event.loss for event in steps]), "training", ORANGE)
    if checks:
        _curve(loss, times, [event.loss for event in checks], "validation", BLUE, "o")
        scores = figure.add_subplot(1, columns, 2)
        _curve(scores, times, [event.iou for event in checks], "IoU", BLUE, "o")
        _curve(scores, times, [event.f1 for event in checks], "F1", GREEN, "o")
        best = next((event.elapsed for event in reversed(checks) if event.best), None)
        if best is not None:
            scores.axvline(best, color=_rgb(GREY), linestyle="--")
            side = "right" if best > times[-1] / 2 else "left"
            scores.text(best, 0.03, " saved model ", ha=side, color=_rgb(GREY))
        _finish(scores, "Scores on validation cells", 1.04)
    _finish(loss, "Loss", None)
    save_figure(figure, path)


def _curve(
    axes: Axes, times: Sequence[float], values: Sequence[float], label: str, colour: Colour, marker: str = ""
) -> None:
    axes.plot(times, values, marker=marker, color=_rgb(colour), linewidth=2.5, markeredgecolor="white", label=label)


def _finish(axes: Axes, title: str, top: float | None) -> None:
    """Add title, grid and legend; both axes start at 0."""
    axes.set_title(title, loc="left")
    axes.set_xlabel("seconds of training")
    axes.set_xlim(left=0)
    axes.set_ylim(0, top)
    axes.grid(axis="y", alpha=0.4)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False)


def _rgb(colour: Colour) -> tuple[float, float, float]:
    """Return a colour in matplotlib's range."""
    red, green, blue = colour
    return red / 255, green / 255, blue / 255


def running_mean(values: Sequence[float]) -> list[float]:
    """Return an exponential running mean, which shows the trend of a noisy loss."""
    out: list[float] = []
    for value in values:
        out.append(value if not out else 0.9 * out[-1] + 0.1 * value)
    return out


def _shown(image: NDArray[Any]) -> NDArray[np.uint8]:
    """Return an image as 8 bit RGB, (Y, X, 3), its contrast stretched."""
    planes = image[np.newaxis] if image.ndim == 2 else image
    planes = planes[:3] if len(planes) >= 3 else np.repeat(planes[:1], 3, axis=0)
    low, high = np.percentile(planes, (0.5, 99.7))
    scaled = np.clip((planes - low) / max(high - low, 1e-9), 0, 1)
    return np.asarray(255 * scaled**0.8, np.uint8).transpose(1, 2, 0)


def _enlarged(array: NDArray[Any], factor: int) -> NDArray[Any]:
    """Return every pixel as a square of pixels."""
    return array.repeat(factor, axis=0).repeat(factor, axis=1)


def _outlines(labels: NDArray[Any], width: int) -> NDArray[np.bool_]:
    """Return the outermost ``width`` pixels of every cell."""
    inner = find_boundaries(labels, mode="inner")
    if width > 1:
        inner = binary_dilation(inner, iterations=width - 1) & (labels > 0)
    return np.asarray(inner)


def fitting(text: str, longest: int = 60) -> str:
    """Return a text, cut off after ``longest`` characters.

    Examples
    --------
    >>> fitting("a long name", 9)
    'a long...'
    """
    return text if len(text) <= longest else text[: longest - 3] + "..."


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all.

    Raises
    ------
    StoreError
        When it cannot be written.
    """
    partial = temporary(path)
    with writing(path):
        try:
            figure.savefig(partial, format="png", dpi=100)
            replace(partial, path)
        finally:
            remove(partial)
