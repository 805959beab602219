"""Live learning curves: loss on training patches and on the cells kept apart, the best model marked."""

from __future__ import annotations

from typing import Any

import numpy as np
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QVBoxLayout, QWidget

# Okabe and Ito's colours, told apart with any kind of colour vision; darker orange and blue on light.
_PENS = {
    "dark": {"training": "#56b4e9", "validation": "#e69f00", "text": "#d1d2d4", "faint": (86, 180, 233, 70)},
    "light": {"training": "#0072b2", "validation": "#b35900", "text": "#3e3f41", "faint": (0, 114, 178, 60)},
}
_REDRAW_MS = 250
_MOST_POINTS = 2000
_SMOOTH = 0.9
# Above the curves, for the legend.
_HEADROOM = 1.3


class Curve:
    """Points of a curve that thins itself out, so that drawing a night's training costs no more than a minute's."""

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


class LossPlot(QWidget):
    """The plot: time in seconds to the right, loss upwards (smaller is better)."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        import pyqtgraph

        self._pg = pyqtgraph
        self.plot = pyqtgraph.PlotWidget(background=None)
        self.plot.setMinimumHeight(110)
        self.plot.setMenuEnabled(False)
        self.plot.hideButtons()
        self.plot.setMouseEnabled(x=False, y=False)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.plot)
        self.setToolTip(
            "<span>How wrong the network is: on the patches that it learns from, and on the painted cells that are "
            "kept apart. Lower is better; the star marks the model that is kept, which finds the most cells.</span>"
        )
        self._legend = self.plot.addLegend(offset=(-4, 4), labelTextSize="8pt", verSpacing=-4, colCount=2)
        self._raw = self.plot.plot()
        self._line = self.plot.plot(name="training")
        self._points = self.plot.plot(name="cells kept apart", symbolSize=5)
        self._star = self.plot.plot(pen=None, symbol="star", symbolSize=15)
        self._timer = QTimer(self, interval=_REDRAW_MS, singleShot=True)
        self._timer.timeout.connect(self.redraw)
        self.set_theme("dark")
        self.reset()

    def set_theme(self, kind: str, background: str | None = None) -> None:
        """Fit the colours to a ``"dark"`` or ``"light"`` theme with this background colour."""
        self.plot.setBackground(background)
        pens = _PENS.get(kind, _PENS["dark"])
        mk = self._pg.mkPen
        self._raw.setPen(mk(pens["faint"], width=1))
        self._line.setPen(mk(pens["training"], width=2))
        self._points.setPen(mk(pens["validation"], width=2))
        for item in (self._points, self._star):
            item.setSymbolBrush(pens["validation"])
            item.setSymbolPen(mk(pens["text"], width=0.5))
        self._points.setSymbol("o")
        for side, text in (("left", "loss"), ("bottom", "time (s)")):
            axis = self.plot.getAxis(side)
            axis.setPen(pens["text"])
            axis.setTextPen(pens["text"])
            axis.setLabel(text, color=pens["text"])
            axis.enableAutoSIPrefix(False)
        self._legend.setLabelTextColor(pens["text"])

    def reset(self) -> None:
        """Begin new curves."""
        self.training, self.validation = Curve(), Curve()
        self.best: tuple[float, float] | None = None
        self.redraw()

    def add_step(self, elapsed: float, loss: float) -> None:
        """Add the loss of a training step at ``elapsed`` seconds."""
        self.training.add(elapsed, loss)
        self._redraw_soon()

    def add_validation(self, elapsed: float, loss: float, best: bool) -> None:
        """Add the loss on the cells kept apart; ``best`` moves the star here."""
        self.validation.add(elapsed, loss)
        if best:
            self.best = (elapsed, loss)
        self._redraw_soon()

    def _redraw_soon(self) -> None:
        if not self._timer.isActive():
            self._timer.start()

    def redraw(self) -> None:
        """Draw what has come in."""
        smooth = self.training.smoothed()
        self._raw.setData(self.training.x, self.training.y)
        self._line.setData(self.training.x, smooth)
        self._points.setData(self.validation.x, self.validation.y)
        self._star.setData(*([[v] for v in self.best] if self.best else ([], [])))
        self._fit(smooth)

    def _fit(self, smooth: np.ndarray[Any, Any]) -> None:
        """Show everything but the spikes of single steps."""
        times = [*self.training.x[-1:], *self.validation.x[-1:], 1.0]
        values = [*smooth, *self.validation.y]
        top = float(max(values)) if values else 1.0
        self.plot.setXRange(0, max(times), padding=0.02)
        self.plot.setYRange(0, top * _HEADROOM if top > 0 else 1.0, padding=0)
