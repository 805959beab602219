"""Show and edit the axes of an image, and ask for those that neither layer nor file names."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from ..layers.reading import LEADING
from .forms import guard_wheel

CHANNEL_SIZES = range(2, 5)
"""Axes of these sizes may be channels or planes, so the user is asked."""


class AxesRow(QWidget):
    """Shows what each leading axis is, to be corrected by the user: ``30 x depth, height x width``.

    Attributes
    ----------
    axes_changed : Signal()
        The user has said what an axis is.
    touched : bool
        Whether the user has said so since the picture was shown.
    """

    axes_changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._row = QHBoxLayout()
        self._row.setContentsMargins(0, 0, 0, 0)
        self._row.setSpacing(4)
        self.hint = QLabel("Not named: please check.")
        self.hint.setWordWrap(True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addLayout(self._row)
        layout.addWidget(self.hint)
        self._axes = ""
        self._shown: tuple[str, tuple[int, ...], tuple[int, ...]] | None = None
        self._boxes: dict[int, QComboBox] = {}
        self.touched = False

    def show_axes(self, axes: str, shape: Sequence[int], unsaid: Collection[int] = ()) -> None:
        """Show the axis letters of an image of this shape.

        Parameters
        ----------
        axes : str
            Letters, some of them guessed.
        shape : sequence of int
            Of the image.
        unsaid : collection of int
            Which axes were guessed. Those that may be channels as well are left open until the user says it.
        """
        shown = axes, tuple(shape), tuple(unsaid)
        if shown == self._shown and not self.touched:
            # Asked for whenever a layer comes or goes; making the boxes anew would hold up the viewer each time.
            return
        self._shown, self._axes, self.touched = shown, axes, False
        self._boxes = {}
        while (item := self._row.takeAt(0)) is not None:
            item.widget().hide()
            item.widget().deleteLater()
        for axis, (letter, size) in enumerate(zip(axes, shape, strict=True)):
            if letter not in "yx":
                self._row.addWidget(QLabel(f"{size} ×"))
                is_open = axis in unsaid and size in CHANNEL_SIZES
                self._boxes[axis] = self._make_box("" if is_open else letter)
                self._row.addWidget(self._boxes[axis], 1)
        self.hint.setVisible(any(shape[axis] > 1 for axis in unsaid))
        self.setVisible(bool(self._boxes))

    def _make_box(self, letter: str) -> QComboBox:
        box = QComboBox()
        for known, word in LEADING.items():
            box.addItem(word, known)
        box.setPlaceholderText("which?")
        box.setCurrentIndex(box.findData(letter))
        box.setToolTip(
            "<span>What this axis is. Planes along time, depth and position are segmented one by one; channels are "
            "used together.</span>"
        )
        guard_wheel(box)
        box.currentIndexChanged.connect(self._on_box)
        return box

    def _on_box(self) -> None:
        self.touched = True
        self.hint.hide()
        self.axes_changed.emit()

    def axes(self) -> str:
        """Return the axis letters as shown; those that are open are guessed."""
        said = {axis: box.currentData() for axis, box in self._boxes.items()}
        return "".join(said.get(axis) or letter for axis, letter in enumerate(self._axes))

    def open_axes(self) -> list[int]:
        """Return which axes the user still has to name."""
        return [axis for axis, box in self._boxes.items() if box.currentIndex() < 0]
