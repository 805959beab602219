"""The buttons that link a stack's planes."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from ...core.settings import LinkSettings, options
from ..widgets.common import button, heading, row
from ..widgets.forms import caption, make_editor, tooltip_of

_GAP = (
    "A cell that is missing in a plane ends there, and what comes behind is a new cell; with <i>Max. gap</i> of "
    "1 or more it is picked up behind the gap, with the same number, and stays missing in between."
)


class LinkBox(QWidget):
    """The buttons; shown for stacks only.

    Attributes
    ----------
    asked : Signal(str)
        ``"z"`` or ``"t"``.
    cancelled : Signal()
        The button of the linking that runs was clicked.
    """

    asked = Signal(str)
    cancelled = Signal()

    def __init__(self) -> None:
        super().__init__()
        known = options(LinkSettings)
        self.depth = button(
            "Link across z into 3D cells",
            "Cells of neighbouring planes become one cell in depth where they overlap by at least half of the smaller "
            f"one, and each is the best match of the other. {_GAP} Makes a new layer.",
        )
        self.time = button(
            "Follow through time",
            "Cells keep their number from one time point to the next where they overlap by at least half of the "
            "smaller one. When a cell divides, the daughter that overlaps it more keeps the number and the other is a "
            f"new cell. {_GAP} Makes a new layer.",
        )
        self.max_gap = make_editor("max_gap", known["max_gap"], LinkSettings().max_gap)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(heading("5  Link the planes"))
        layout.addWidget(row(self.depth, self.time, stretch=(1, 1)))
        layout.addWidget(row(caption("Max. gap", tooltip_of(known["max_gap"])), self.max_gap, stretch=(0, 1)))
        self._busy = ""
        self._words = {"z": self.depth.text(), "t": self.time.text()}
        for letter, made in self._buttons().items():
            made.clicked.connect(lambda _=False, letter=letter: self._on_click(letter))
        self.show_axes("")

    def _buttons(self) -> dict[str, Any]:
        return {"z": self.depth, "t": self.time}

    def _on_click(self, letter: str) -> None:
        if self._busy == letter:
            self.cancelled.emit()
        elif not self._busy:
            self.asked.emit(letter)

    def show_axes(self, axes: str) -> None:
        """Offer linking along those of depth and time that there are; nothing where there is neither."""
        for letter, made in self._buttons().items():
            made.setVisible(letter in axes)
        self.setVisible(bool(set(axes) & {"z", "t"}))

    def set_busy(self, letter: str) -> None:
        """Show Cancel on the button of the axis that is linked along; none with an empty letter."""
        self._busy = letter
        for known, made in self._buttons().items():
            made.setText("Cancel" if known == letter else self._words[known])
            made.setEnabled(letter in ("", known))
