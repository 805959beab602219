"""The list of what a training learns from: a tick, a name, planes and cells per line."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qtpy.QtCore import QModelIndex, QSize, Qt, Signal
from qtpy.QtGui import QAction
from qtpy.QtWidgets import (
    QListWidget,
    QListWidgetItem,
    QMenu,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QToolButton,
    QVBoxLayout,
    QWidget,
)  # fmt: skip

from ..widgets.common import breakable

_BESIDE = 34
"""Pixels of a line that its tick and margins take."""


class _Shortened(QStyledItemDelegate):
    """Draws long names shortened in their middle, as they often differ in their ends alone."""

    def initStyleOption(self, option: QStyleOptionViewItem | None, index: QModelIndex) -> None:
        """Shorten each line to the room that there is."""
        super().initStyleOption(option, index)
        shown: Any = self.parent()
        if option is not None:
            room, cut = shown.viewport().width() - _BESIDE, Qt.TextElideMode.ElideMiddle
            # Qt has put its own sign in place of the ends of lines.
            lines = (option.fontMetrics.elidedText(line, cut, room) for line in option.text.splitlines())
            option.text = "\u2028".join(lines)

    def sizeHint(self, option: QStyleOptionViewItem, index: QModelIndex) -> QSize:
        """Return how high a line is; it is as wide as the list."""
        return QSize(0, super().sizeHint(option, index).height())


@dataclass(frozen=True)
class SourceRow:
    """One line of the list.

    Attributes
    ----------
    name : str
        Of the annotation.
    words : str
        How much there is in it.
    tooltip : str
        Which picture it belongs to, or which run it comes from.
    on : bool
        Whether it takes part.
    cells : int
        Cells that it adds while it takes part.
    """

    name: str
    words: str
    tooltip: str
    on: bool
    cells: int


class TakesPart(QWidget):
    """The list, and a menu of earlier trainings whose annotation can be added.

    Attributes
    ----------
    ticked : Signal(int, bool)
        A line was switched on or off.
    earlier_asked : Signal()
        The menu is about to open, see :meth:`show_earlier`.
    earlier_chosen : Signal(str)
        The folder of a run to add.
    summary : Signal(int)
        The number of cells that take part.
    """

    ticked = Signal(int, bool)
    earlier_asked = Signal()
    earlier_chosen = Signal(str)
    summary = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self.list = QListWidget()
        self.list.setToolTip(
            "<span>Everything annotated in this viewer is learnt together; untick what shall not be.</span>"
        )
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list.setItemDelegate(_Shortened(self.list))
        self.list.itemChanged.connect(self._on_item)
        self.menu = QMenu(self)
        self.menu.aboutToShow.connect(self.earlier_asked)
        self.add_button = QToolButton()
        # The arrow is part of the text: Qt's own lies on its last letter.
        self.add_button.setText("Add from an earlier training ▾")
        self.add_button.setStyleSheet("QToolButton::menu-indicator { image: none; }")
        self.add_button.setToolTip("<span>Learn from what was painted for an earlier training, too.</span>")
        self.add_button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.add_button.setMenu(self.menu)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 4, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.list, 1)
        layout.addWidget(self.add_button)

    def show_lines(self, lines: Sequence[SourceRow]) -> None:
        """Show what there is."""
        self.list.blockSignals(True)
        while self.list.count() > len(lines):
            self.list.takeItem(self.list.count() - 1)
        for row, line in enumerate(lines):
            item = self.list.item(row)
            if item is None:
                item = QListWidgetItem()
                item.setFlags(Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsUserCheckable)
                self.list.addItem(item)
            item.setText(f"{line.name}\n{line.words}")
            item.setToolTip(f"<span>{html.escape(breakable(f'{line.name}. {line.tooltip}'))}</span>")
            item.setCheckState(Qt.CheckState.Checked if line.on else Qt.CheckState.Unchecked)
        self.list.blockSignals(False)
        self.summary.emit(sum(line.cells for line in lines if line.on))

    def show_earlier(self, entries: Sequence[tuple[Path, str]]) -> None:
        """Offer earlier trainings."""
        self.menu.clear()
        for folder, words in entries:
            action = QAction(words, self.menu)
            action.triggered.connect(lambda _=False, path=str(folder): self.earlier_chosen.emit(path))
            self.menu.addAction(action)
        if not entries:
            self.menu.addAction("There is none yet").setEnabled(False)

    def _on_item(self, item: QListWidgetItem) -> None:
        self.ticked.emit(self.list.row(item), item.checkState() == Qt.CheckState.Checked)


def title(cells: int) -> str:
    """Return the words on the list's tab, with the number of cells."""
    return f"Training data ({cells})" if cells else "Training data"
