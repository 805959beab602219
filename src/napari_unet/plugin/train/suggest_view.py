"""The tab that says where annotating helps most: a button, a choice of extent, and a ranked list."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QLabel, QListWidget, QListWidgetItem, QPushButton, QVBoxLayout, QWidget

from ..settings.shortcuts import name_key
from ..widgets.common import row
from ..widgets.forms import guard_wheel

_TIP = (
    "Find the places where the network is least certain, and which nobody has annotated yet. What is painted there "
    "teaches most. Key {key} goes from one to the next."
)


class WhereNext(QWidget):
    """The widgets of the tab.

    Attributes
    ----------
    asked, cancelled : Signal()
        The button was clicked.
    chosen : Signal(int)
        A line was clicked.
    """

    asked = Signal()
    cancelled = Signal()
    chosen = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self._title = ""
        self._busy = False
        self.button = QPushButton()
        self.extent = QComboBox()
        self.extent.addItems(["this plane", "all planes"])
        self.extent.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.extent.setMinimumContentsLength(6)
        self.extent.setToolTip("<span>Where to look. A whole stack takes as long as segmenting it.</span>")
        guard_wheel(self.extent)
        self.words = QLabel()
        self.words.setWordWrap(True)
        self.list = QListWidget()
        self.list.setToolTip("<span>The most uncertain place first, with its uncertainty. Click to go there.</span>")
        self.list.itemClicked.connect(lambda item: self.chosen.emit(self.list.row(item)))
        self.button.clicked.connect(lambda: (self.cancelled if self._busy else self.asked).emit())
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 4, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(row(self.button, self.extent, stretch=(1, 0)))
        layout.addWidget(self.words)
        layout.addWidget(self.list, 1)
        self.show_extent(1)
        self.say("Shows where the network is least certain.")

    def whole(self) -> bool:
        """Return whether the whole stack is asked for."""
        return not self.extent.isHidden() and self.extent.currentIndex() == 1

    def show_extent(self, planes: int) -> None:
        """Offer the whole stack where there is more than one plane."""
        self.extent.setVisible(planes > 1)

    def show_key(self, key: str) -> None:
        """Show which key does what the button does."""
        name_key(self.button, "Annotate here next", _TIP, key)
        self._title = self.button.text()
        self.set_busy(self._busy)

    def set_busy(self, busy: bool) -> None:
        """Show the button as it is, or as Cancel."""
        self._busy = busy
        self.button.setText("Cancel" if busy else self._title)

    def say(self, text: str) -> None:
        """Show one sentence above the list."""
        self.words.setText(text)

    def show_suggestions(self, lines: Sequence[tuple[str, str]]) -> None:
        """Show the places with their tooltips, the best first."""
        self.list.clear()
        for line, where in lines:
            item = QListWidgetItem(line)
            item.setToolTip(where)
            self.list.addItem(item)

    def mark(self, row: int) -> None:
        """Show which place is on screen."""
        self.list.setCurrentRow(row)
