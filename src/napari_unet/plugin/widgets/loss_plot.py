"""Live learning curves: loss and validation scores, with marks for the best model and for new paint."""

from __future__ import annotations

from typing import Any

import numpy as np
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QVBoxLayout, QWidget

# Okabe and Ito's colours, told apart with any kind of colour vision; darker orange and blue on light.
_PENS = {
    "dark": {
        "training": "#56b4e9",
        "validation": "#e69f00",
        "f1": "#2fd3a2",
        "text": "#d1d2d4",
        "faint": (86, 180, 233, 70),
    },
    "light": {
        "training": "#0072b2",
        "validation": "#b35900",
        "f1": "#00735a",
        "text": "#3e3f41",
        "faint": (0, 114, 178, 60),
    },
}
_REDRAW_MS = 250
_MOST_POINTS = 2000
_SMOOTH = 0.9
# Above the curves, for the legend.
_HEADROOM = 1.6
_LEGEND = {"labelTextSize": "8pt", "verSpacing": -4, "colCount": 2}
_AXIS_WIDTH = 38
# Room beside the newest point for half a star, as a share of the time shown.
_BESIDE = 0.04


class Curve:
    """Points of a curve, thinned so that a night's training draws as fast as a minute's."""

    def __init__(self) -> None:
        self.x: list[float] = []
        self.y: list[float] = []
        self._every = 1
        self._seen = 0

    def add(self, x: float, y: float) -> None:
        """Add a point, or skip it when the curve is dense enough already."""
        self._seen += 1
        if self._seen % self._every or not np.isfinite(y):
            return
        self.x.append(x)
        self.y.append(y)
        if len(self.x) >= _MOST_POINTS:
            self.x, self.y = self.x[::2], self.y[::2]
            self._every *= 2

    def smoothed(self) -> np.ndarray[Any, Any]:
        """Return the running average of y, started without a lag."""
        out, total, weight = np.empty(len(self.y)), 0.0, 0.0
        for i, value in enumerate(self.y):
            total, weight = _SMOOTH * total + value, _SMOOTH * weight + 1
            out[i] = total / weight
        return out


def clock(seconds: float) -> str:
    """Return "40 s", "2 min" or "2:30 min"."""
    if seconds < 120:
        return f"{seconds:g} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d} min" if rest else f"{minutes} min"


class LossPlot(QWidget):
    """Two plots over one time: loss above (smaller is better), scores of 0 to 1 below (larger is better)."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        import pyqtgraph

        self._pg = pyqtgraph
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        self.plot, self._legend = self._make_plot(layout, 10, 2)
        self.scores, self._scores_legend = self._make_plot(layout, 11, -4)
        self.scores.setXLink(self.plot)
        self.plot.getAxis("bottom").setStyle(showValues=False)
        self.plot.getAxis("bottom").setHeight(6)
        self.setToolTip(
            "<span>Above: loss on the training patches and on the held-out validation cells; lower is better. Below: "
            "F1, the share of validation cells found, and IoU, the intersection over union of their pixels; 1 is best. "
            "The star marks the best model; dotted lines mark new annotations.</span>"
        )
        self._raw = self.plot.plot()
        self._line = self.plot.plot(name="training")
        self._points = self.plot.plot(name="validation cells", symbolSize=5)
        self._f1_line = self.scores.plot(name="F1", symbolSize=5)
        self._iou_line = self.scores.plot(name="IoU", symbolSize=5)
        self._star = self.plot.plot(pen=None, symbol="star", symbolSize=15)
        self._score_star = self.scores.plot(pen=None, symbol="star", symbolSize=15)
        self._marks: list[Any] = []
        self._timer = QTimer(self, interval=_REDRAW_MS, singleShot=True)
        self._timer.timeout.connect(self.redraw)
        self._faint: Any = None
        self.reset()
        self.set_theme("dark")

    def _make_plot(self, layout: QVBoxLayout, share: int, legend_at: int) -> tuple[Any, Any]:
        """Return a plot that cannot be dragged, and its legend: above falling curves, below rising ones."""
        plot = self._pg.PlotWidget(background=None, enableMenu=False)
        plot.hideButtons()
        plot.setMouseEnabled(x=False, y=False)
        left, bottom = plot.getAxis("left"), plot.getAxis("bottom")
        left.setWidth(_AXIS_WIDTH)
        # Steps between the numbers look like a ruler in so low a plot.
        for axis in (left, bottom):
            axis.setStyle(maxTickLevel=0)
        # Numbers as they are: a loss of 650 thousandths is no easier to read than 0.65.
        left.enableAutoSIPrefix(False)
        bottom.enableAutoSIPrefix(False)
        bottom.tickStrings = lambda values, scale, spacing: [clock(value) for value in values]
        layout.addWidget(plot, share)
        legend = plot.addLegend(offset=(-4, legend_at), **_LEGEND)
        # Half a number stands out above the axis.
        plot.getPlotItem().layout.setContentsMargins(1, 5, 1, 1)
        # No more than its words need, or it would lie on the curves of a low plot.
        legend.layout.setContentsMargins(0, 0, 0, 0)
        return plot, legend

    def set_theme(self, kind: str, background: str | None = None) -> None:
        """Fit the colours to a ``"dark"`` or ``"light"`` theme with this background colour."""
        pens = _PENS.get(kind, _PENS["dark"])
        mk = self._pg.mkPen
        self._raw.setPen(mk(pens["faint"], width=1))
        self._line.setPen(mk(pens["training"], width=2))
        curves = [
            (self._points, "validation", "o"),
            (self._f1_line, "f1", "o"),
            (self._iou_line, "validation", "t"),
        ]
        for item, colour, symbol in curves:
            item.setPen(mk(pens[colour], width=2))
            item.setSymbol(symbol)
        stars = [(self._star, "validation"), (self._score_star, "f1")]
        for item, colour in [*((item, colour) for item, colour, _ in curves), *stars]:
            item.setSymbolBrush(pens[colour])
            item.setSymbolPen(mk(pens["text"], width=0.5))
        for plot, legend in ((self.plot, self._legend), (self.scores, self._scores_legend)):
            plot.setBackground(background)
            legend.setLabelTextColor(pens["text"])
            # That is for labels to come; those that are there keep the colour of the theme before.
            for _, label in legend.items:
                label.setText(label.text, color=pens["text"])
        self._faint = mk(pens["text"], width=1, style=Qt.PenStyle.DotLine)
        for mark in self._marks:
            mark.setPen(self._faint)
        self._dress_axes(pens["text"])

    def _dress_axes(self, text: Any) -> None:
        """Name the axes and colour them."""
        for plot, name in ((self.plot, "loss"), (self.scores, "score")):
            left, bottom = plot.getAxis("left"), plot.getAxis("bottom")
            left.setLabel(name, color=text)
            for axis in (left, bottom):
                axis.setPen(text)
                axis.setTextPen(text)

    def reset(self) -> None:
        """Begin new curves."""
        self.training, self.validation, self.f1, self.iou = Curve(), Curve(), Curve(), Curve()
        self.best: tuple[float, float, float] | None = None
        self._offset = 0.0
        for mark in self._marks:
            mark.getViewBox().removeItem(mark)
        self._marks = []
        self.redraw()

    def go_on(self) -> None:
        """Treat new points as a continuation: their time starts where the curves end."""
        self._offset = self._latest()

    def _latest(self) -> float:
        """Return the time at which the curves end, in seconds."""
        return max([*self.training.x[-1:], *self.validation.x[-1:], 0.0])

    def add_step(self, elapsed: float, loss: float) -> None:
        """Add the loss of a training step at ``elapsed`` seconds."""
        self.training.add(self._offset + elapsed, loss)
        self._redraw_soon()

    def add_validation(self, elapsed: float, loss: float, f1: float, iou: float, best: bool) -> None:
        """Add validation scores; ``best`` moves the star here."""
        time = self._offset + elapsed
        for curve, value in ((self.validation, loss), (self.f1, f1), (self.iou, iou)):
            curve.add(time, value)
        if best:
            self.best = (time, loss, f1)
        self._redraw_soon()

    def mark_paint(self, elapsed: float) -> None:
        """Mark new annotations at ``elapsed`` seconds."""
        for plot in (self.plot, self.scores):
            mark = self._pg.InfiniteLine(self._offset + elapsed, pen=self._faint)
            plot.addItem(mark)
            self._marks.append(mark)

    def _redraw_soon(self) -> None:
        if not self._timer.isActive():
            self._timer.start()

    def redraw(self) -> None:
        """Draw what has come in."""
        smooth = self.training.smoothed()
        self._raw.setData(self.training.x, self.training.y)
        self._line.setData(self.training.x, smooth)
        for item, curve in (
            (self._points, self.validation), (self._f1_line, self.f1), (self._iou_line, self.iou),
        ):  # fmt: skip
            item.setData(curve.x, curve.y)
        time, loss, f1 = ([v] for v in self.best) if self.best else ([], [], [])
        self._star.setData(time, loss)
        self._score_star.setData(time, f1)
        self._fit(smooth)

    def _fit(self, smooth: np.ndarray[Any, Any]) -> None:
        """Show everything but the spikes of single steps."""
        values = [*smooth, *self.validation.y]
        top = float(max(values)) if values else 1.0
        self.plot.setXRange(0, max(self._latest(), 1.0) * (1 + _BESIDE), padding=0)
        self.plot.setYRange(0, top * _HEADROOM if top > 0 else 1.0, padding=0)
        self.scores.setYRange(0, 1.15, padding=0)
        self.scores.getAxis("left").setTicks([[(v, f"{v:g}") for v in (0, 0.5, 1)]])
