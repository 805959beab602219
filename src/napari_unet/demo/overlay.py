"""Outlines over images, drawn with Pillow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ..core.evaluation.metrics import match_instances
from ..stores import remove, replace, temporary, writing

Colour = tuple[int, int, int]

# Okabe and Ito's colours, which colour-blind people can tell apart.
BLUE, ORANGE, YELLOW, GREEN, PINK = (86, 180, 233), (230, 120, 0), (240, 228, 66), (0, 158, 115), (204, 121, 167)
GREY, INK, PAPER, LINE = (110, 110, 118), (30, 32, 38), (255, 255, 255), (222, 224, 230)

PANEL = 520
"""Side of a panel in pixels."""

LARGEST = 640
"""Side in pixels of the part that is shown of a larger image."""

_MARGIN, _HEAD, _FOOT, _NARROWEST = 24, 64, 56, 440


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
            drawn[_outline(_enlarged(labels[window], factor), 2 if factor > 1 else 1)] = colour
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
    pictures = [Image.fromarray(panel.pixels()) for panel in panels]
    places = [max(p.width, _NARROWEST) + _MARGIN for p in pictures]
    height = max(p.height for p in pictures) + _HEAD + _FOOT
    canvas = Image.new("RGB", (sum(places) + _MARGIN, height), PAPER)
    pen = ImageDraw.Draw(canvas)
    left = _MARGIN
    for panel, picture, place in zip(panels, pictures, places, strict=True):
        pen.text((left, 12), panel.title, INK, font(22))
        pen.text((left, 40), fitting(panel.subtitle, place - _MARGIN, 15), GREY, font(15))
        canvas.paste(picture, (left, _HEAD))
        left += place
    _draw_legend(pen, legend, height - _FOOT // 2)
    save_picture(canvas, path)


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


def _outline(labels: NDArray[Any], width: int) -> NDArray[np.bool_]:
    """Return the pixels of cells that are within ``width`` of another label."""
    inner = np.ones(labels.shape, bool)
    padded = np.pad(labels, width, mode="edge")
    for dy, dx in ((0, width), (0, -width), (width, 0), (-width, 0)):
        y, x = width + dy, width + dx
        inner &= padded[y : y + labels.shape[0], x : x + labels.shape[1]] == labels
    return (labels > 0) & ~inner


def _draw_legend(pen: ImageDraw.ImageDraw, legend: Sequence[tuple[str, Colour]], middle: int) -> None:
    """Write the legend in one row."""
    x = float(_MARGIN)
    for text, colour in legend:
        pen.rounded_rectangle((x, middle - 7, x + 22, middle + 7), 3, fill=colour, outline=GREY)
        pen.text((x + 32, middle), text, INK, font(16), anchor="lm")
        x += 32 + pen.textlength(text, font(16)) + 34


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return the font that comes with Pillow."""
    return ImageFont.load_default(size)


def fitting(text: str, width: float, size: int) -> str:
    """Return a text, cut off where it is wider than ``width`` pixels."""
    if font(size).getlength(text) <= width:
        return text
    while text and font(size).getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."


def save_picture(canvas: Image.Image, path: Path) -> None:
    """Write a picture, whole or not at all.

    Raises
    ------
    StoreError
        When it cannot be written.
    """
    partial = temporary(path)
    with writing(path):
        try:
            canvas.save(partial, "PNG")
            replace(partial, path)
        finally:
            remove(partial)
