"""Curves over time, drawn with Pillow at twice the size for smooth lines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from .overlay import GREY, INK, LINE, PAPER, Colour, font, save_picture


@dataclass(frozen=True)
class DiagramCurve:
    """One line of a diagram.

    Attributes
    ----------
    name : str
        For the legend.
    x, y : sequence of float
        Its points.
    colour : Colour
        Of the line.
    dots : bool
        Whether each point is marked.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: Colour
    dots: bool = False


@dataclass(frozen=True)
class Diagram:
    """Curves over one pair of axes.

    Attributes
    ----------
    title, x_label : str
        Written above and below.
    curves : sequence of DiagramCurve
        Drawn in this order.
    top : float, optional
        Upper end of the y axis, which begins at 0; by default the largest value.
    mark : float, optional
        x of a dashed line.
    mark_text : str
        Written beside it.
    """

    title: str
    x_label: str
    curves: Sequence[DiagramCurve]
    top: float | None = None
    mark: float | None = None
    mark_text: str = ""


def draw_diagrams(path: Path, diagrams: Sequence[Diagram]) -> None:
    """Write diagrams beside each other as one picture.

    Raises
    ------
    StoreError
        When it cannot be written.
    """
    width, height = 640, 420
    canvas = Image.new("RGB", (2 * width * len(diagrams), 2 * height), PAPER)
    for number, diagram in enumerate(diagrams):
        _Frame(ImageDraw.Draw(canvas), 2 * width * number, 2 * width, 2 * height, diagram).draw()
    save_picture(canvas.resize((width * len(diagrams), height), Image.Resampling.LANCZOS), path)


def ticks(top: float, count: int = 5) -> list[float]:
    """Return round numbers from 0 to at most ``top``, about ``count`` of them.

    Examples
    --------
    >>> ticks(1.0), ticks(33.0)
    ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0])
    """
    if top <= 0:
        return [0.0]
    rough = top / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(m for m in (1, 2, 5, 10) if m * power >= 0.75 * rough)
    return [round(i * step, 10) for i in range(int(top / step + 1e-6) + 1)]


class _Frame:
    """One diagram's place on the canvas, all sizes in pixels of the doubled picture."""

    def __init__(self, pen: ImageDraw.ImageDraw, left: int, width: int, height: int, diagram: Diagram) -> None:
        self.pen, self.diagram = pen, diagram
        self.x0, self.x1 = left + 130, left + width - 50
        self.y0, self.y1 = height - 120, 110
        points = [(x, y) for c in diagram.curves for x, y in zip(c.x, c.y, strict=True)]
        self.right = max((x for x, _ in points), default=1.0) or 1.0
        self.top = diagram.top or 1.05 * max((y for _, y in points), default=1.0) or 1.0

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Return where a point lies."""
        along = self.x0 + (self.x1 - self.x0) * x / self.right
        return along, self.y0 - (self.y0 - self.y1) * min(y, self.top) / self.top

    def draw(self) -> None:
        """Draw axes, curves and legend."""
        self.pen.text((self.x0, 36), self.diagram.title, INK, font(34))
        for value in ticks(self.top):
            y = self.at(0, value)[1]
            self.pen.line((self.x0, y, self.x1, y), LINE, 2)
            self.pen.text((self.x0 - 16, y), f"{value:g}", GREY, font(24), anchor="rm")
        for value in ticks(self.right):
            x = self.at(value, 0)[0]
            self.pen.line((x, self.y0, x, self.y0 + 10), GREY, 2)
            self.pen.text((x, self.y0 + 16), f"{value:g}", GREY, font(24), anchor="ma")
        self.pen.line((self.x0, self.y0, self.x1, self.y0), GREY, 3)
        self.pen.text(((self.x0 + self.x1) / 2, self.y0 + 62), self.diagram.x_label, INK, font(26), anchor="ma")
        self._mark()
        for curve in self.diagram.curves:
            self._curve(curve)
        self._legend()

    def _mark(self) -> None:
        """Draw the dashed line."""
        if self.diagram.mark is None:
            return
        x = self.at(self.diagram.mark, 0)[0]
        for y in range(self.y1, self.y0, 20):
            self.pen.line((x, y, x, min(y + 10, self.y0)), GREY, 3)
        side = "rm" if self.diagram.mark > self.right / 2 else "lm"
        self.pen.text((x + (-12 if side == "rm" else 12), self.y0 - 24), self.diagram.mark_text, GREY, font(24), side)

    def _curve(self, curve: DiagramCurve) -> None:
        """Draw one line."""
        points = [self.at(x, y) for x, y in zip(curve.x, curve.y, strict=True)]
        if len(points) > 1:
            self.pen.line(points, curve.colour, 6, joint="curve")
        for x, y in points if curve.dots else []:
            self.pen.ellipse((x - 8, y - 8, x + 8, y + 8), curve.colour, PAPER, 2)

    def _legend(self) -> None:
        """Write the names of the curves, right of the title."""
        x = float(self.x1)
        for curve in reversed(self.diagram.curves):
            x -= self.pen.textlength(curve.name, font(26))
            self.pen.text((x, 54), curve.name, INK, font(26), anchor="lm")
            self.pen.line((x - 52, 54, x - 12, 54), curve.colour, 8)
            x -= 80
