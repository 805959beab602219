"""AP and F1 over the IoU threshold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QVBoxLayout, QWidget

# Okabe and Ito's blue and vermilion, lighter and darker with the theme.
_COLOURS = {
    "dark": {"ap": "#56b4e9", "f1": "#f0a37a", "text": "#d1d2d4"},
    "light": {"ap": "#0072b2", "f1": "#b34700", "text": "#3e3f41"},
}
_AXIS_HEIGHT = 34
_BOTTOM_LEFT, _TOP_RIGHT = (8, -4), (-8, 2)


class ScorePlot(QWidget):
    """Two curves, 0 to 1, over IoU 0.5 to 0.9."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        import pyqtgraph

        self._pg = pyqtgraph
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self.plot = pyqtgraph.PlotWidget(enableMenu=False)
        layout.addWidget(self.plot)
        item = self.plot.getPlotItem()
        item.hideButtons()
        item.setMouseEnabled(False, False)
        # Wider than the curves, or the numbers at both ends are left out for want of room.
        self.plot.setRange(xRange=(0.47, 0.93), yRange=(0, 1.08), padding=0.03)
        self._legend = item.addLegend(offset=_BOTTOM_LEFT, colCount=2, labelTextSize="8pt", verSpacing=-4)
        self._legend.layout.setContentsMargins(6, 0, 6, 0)
        self.curves: dict[str, Any] = {
            "ap": self.plot.plot([], [], name="AP"),
            "f1": self.plot.plot([], [], name="F1"),
        }
        self.setToolTip(
            "<span>Scores at higher IoU thresholds. AP: found / "
            "(found + false + missed). F1 counts the found ones twice.</span>"
        )
        self.set_theme("dark", "#262930")

    def show_curves(self, ap: Sequence[tuple[float, float]], f1: Sequence[tuple[float, float]]) -> None:
        """Draw (IoU, score) points."""
        for name, points in (("ap", ap), ("f1", f1)):
            self.curves[name].setData([x for x, _ in points], [y for _, y in points])
        # Scores fall with the threshold, AP below F1: one of these two corners is free of curves.
        middle = next((y for x, y in reversed(ap) if x < 0.76), 1.0)
        self._legend.setOffset(_BOTTOM_LEFT if middle > 0.4 else _TOP_RIGHT)

    def set_theme(self, kind: str, background: str) -> None:
        """Fit colours to a ``"dark"`` or ``"light"`` theme with this background."""
        colours = _COLOURS.get(kind, _COLOURS["dark"])
        self.plot.setBackground(background)
        for name, style in (("ap", Qt.PenStyle.SolidLine), ("f1", Qt.PenStyle.DashLine)):
            self.curves[name].setPen(self._pg.mkPen(colours[name], width=2, style=style))
        self._legend.setLabelTextColor(colours["text"])
        # The legend keeps the colour that its texts were made with.
        for _, label in self._legend.items:
            label.setText(label.text, color=colours["text"])
        for side, words in (("bottom", "IoU from which a cell is found"), ("left", "score")):
            axis = self.plot.getAxis(side)
            axis.enableAutoSIPrefix(False)
            axis.setPen(colours["text"])
            axis.setTextPen(colours["text"])
            axis.setLabel(words, color=colours["text"])
        # No more than numbers and words need.
        self.plot.getAxis("bottom").setHeight(_AXIS_HEIGHT)
        # Spelt out, or pyqtgraph writes 0.6 as 600 thousandths.
        self.plot.getAxis("bottom").setTicks([[(x / 10, f"{x / 10:.1f}") for x in range(5, 10)]])
        self.plot.getAxis("left").setTicks([[(y / 4, f"{y / 4:g}") for y in range(5)]])
