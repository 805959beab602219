"""The tab that checks the labels before training: two buttons and a list of what to look at."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QAbstractItemView, QApplication, QLabel, QListWidget, QListWidgetItem, QVBoxLayout, QWidget

from ...core.evaluation.annotation_checks import ERROR, NOTE, WARNING, Finding
from ..widgets.common import breakable, button, row

_SIGNS = {ERROR: "✖", WARNING: "⚠", NOTE: "•"}


_BEFORE = "Finds slips of the brush before the network learns them."


class CheckView(QWidget):
    """The widgets of the tab.

    Attributes
    ----------
    check_asked, weights_asked : Signal()
        A button was clicked.
    chosen : Signal(int)
        A line was clicked, or the keyboard has moved to it.
    diameter_asked : Signal(float)
        The measured diameter in pixels shall be taken as the setting.
    """

    check_asked = Signal()
    weights_asked = Signal()
    chosen = Signal(int)
    diameter_asked = Signal(float)

    def __init__(self) -> None:
        super().__init__()
        self.check_button = button(
            "Check labels",
            "Look for what may be wrong before training: one label on two cells, touching cells under one label, "
            "specks, holes, too little background, cells of a size that the network does not know.",
        )
        self.weights_button = button(
            "Show weight map",
            "Show how much more the pixels between close cells of this plane count in training, as a layer. It is "
            "what makes the network part touching cells.",
        )
        self.diameter_button = button("", "Take this for the typical diameter, under More settings.")
        self.words = QLabel(_BEFORE)
        self.words.setWordWrap(True)
        self.list = QListWidget()
        self.list.setWordWrap(True)
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.list.setToolTip("<span>Click a line to go there.</span>")
        self._diameter = 0.0
        self.check_button.clicked.connect(self.check_asked)
        self.weights_button.clicked.connect(self.weights_asked)
        self.diameter_button.clicked.connect(lambda: self.diameter_asked.emit(self._diameter))
        # By the mouse, a line that is marked already can be clicked again, to come back to it.
        self.list.itemClicked.connect(lambda item: self.chosen.emit(self.list.row(item)))
        self.list.currentRowChanged.connect(self._on_row)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 4, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(row(self.check_button, self.weights_button, stretch=(1, 1)))
        layout.addWidget(self.words)
        layout.addWidget(self.list, 1)
        layout.addWidget(self.diameter_button)
        self.diameter_button.hide()

    def _on_row(self, row: int) -> None:
        """Go where the keyboard has moved to; a mouse button that is down is followed by its click."""
        if row >= 0 and QApplication.mouseButtons() == Qt.MouseButton.NoButton:
            self.chosen.emit(row)

    def say(self, text: str) -> None:
        """Show a sentence above the list."""
        self.words.setText(text)

    def forget(self) -> None:
        """Show nothing, as before the first check."""
        self.show_findings([], [])
        self.say(_BEFORE)

    def show_findings(self, findings: Sequence[Finding], where: Sequence[str]) -> None:
        """Show what was found, and where each is in words; the worst first."""
        self.list.blockSignals(True)
        self.list.clear()
        for finding, place in zip(findings, where, strict=True):
            words = f"{_SIGNS[finding.severity]} {f'{place}: ' if place else ''}{finding.words}"
            self.list.addItem(QListWidgetItem(breakable(words)))
        self.list.blockSignals(False)
        self._diameter = next((finding.diameter for finding in findings if finding.diameter), 0.0)
        self.diameter_button.setText(f"Take {self._diameter:.0f} px as the diameter")
        self.diameter_button.setVisible(self._diameter > 0)
        odd = sum(finding.severity != NOTE for finding in findings)
        things = "1 thing" if odd == 1 else f"{odd} things"
        self.say(f"{things} to look at; click one to go there." if odd else "Nothing odd was found.")
