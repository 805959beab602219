"""What the Proofread dock looks like: signals out, setters in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import (
    QCheckBox,
    QGridLayout,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QShortcut,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)  # fmt: skip

from ..core.proof import ACCEPTED, DELETED, EDITED
from .choosers import LayerCombo
from .parts import Messages, button, dress_main_button, heading

SIGNS = {ACCEPTED: "●", EDITED: "◆", DELETED: "✕"}
"""How checked cells are marked in the list; in the picture the signs have the same shapes."""


@dataclass(frozen=True)
class Action:
    """Something to do with a cell: its name, key, words on the button and in the tooltip.

    A tool stays on until it is used up or left; ``wide`` ones take a whole row.
    """

    name: str
    key: str
    label: str
    tip: str
    tool: bool = False
    wide: bool = False


ACTIONS = (
    Action("accept", "A", "Accept", "The cell is right as it is. Once more takes it back.", wide=True),
    Action("merge", "M", "Merge", "Make two cells one: click both, or press M on either.", True),
    Action("split", "S", "Split in two", "Split the cell at its narrowest place."),
    Action("line", "L", "Split by a line", "Draw a line across the cell, from outside to outside.", True),
    Action("seeds", "P", "Split by points", "Click a point in each part of one cell, then press Enter.", True),
    Action("redraw", "R", "Redraw", "Paint with the label of the cell; R again erases. Other cells are left alone. "
           "Esc ends it.", True),
    Action("fill", "F", "Fill holes", "Fill the holes in the cell."),
    Action("grow", ".", "Larger", "Widen the cell by one pixel, into background only."),
    Action("shrink", ",", "Smaller", "Take one pixel away from the cell all around."),
    Action("delete", "D", "Delete", "There is no cell; what follows from a new segmentation is deleted there too."),
    Action("leave", "Escape", "Leave the tool", "End merging, splitting or redrawing."),
    Action("previous", "B", "Back", "Go to the previous cell that was not checked."),
    Action("next", "N", "Next to check", "Go to the next cell that was not checked, in this plane or a later one."),
    Action("undo", "Control-Z", "Undo", "Take the last correction back, in whatever plane it was."),
    Action("redo", "Control-Shift-Z", "Redo", "Make the correction again that was taken back."),
)  # fmt: skip
"""Everything with a button, in the order of the buttons."""

MORE_KEYS = (
    Action("enter", "Enter", "", "Split at the points, or end redrawing."),
    Action("left", "Shift-Left", "", ""),
    Action("right", "Shift-Right", "", ""),
    Action("up", "Shift-Up", "", ""),
    Action("down", "Shift-Down", "", ""),
)
"""What has a key and no button."""

_KEY_WORDS = {"Escape": "Esc", "Control-Z": "Ctrl+Z", "Control-Shift-Z": "Ctrl+Shift+Z"}


class ProofreadView(QWidget):
    """The widgets of the dock, without any knowledge of layers.

    ``action`` tells the name of an :class:`Action`, by its button or its key.
    """

    action = Signal(str)
    entry_chosen = Signal(int)
    teaching_changed = Signal(bool)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.result = LayerCombo("The Labels layer to correct, such as the result of Segment.", "segment first")
        self.status = QLabel()
        self.status.setWordWrap(True)
        self.buttons = {action.name: self._make_button(action) for action in ACTIONS}
        self.counts = QLabel()
        self.counts.setWordWrap(True)
        self.entries = QListWidget()
        self.entries.setToolTip("<span>Checked cells. A click goes there.</span>")
        self.entries.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.entries.setMinimumHeight(60)
        self.entries.sizeHint = lambda: QSize(100, 110)
        self.entries.currentRowChanged.connect(self._on_row)
        self.teach_box = QCheckBox("The next training learns from these")
        self.teach_box.setChecked(True)
        self.teach_box.setToolTip(
            "<span>Accepted and corrected cells take part in the next training as if they were painted, deleted ones "
            "as background, and each is looked at four times as often as any other cell.</span>"
        )
        self.teach_box.toggled.connect(self.teaching_changed)
        self.messages = Messages()
        self._make_shortcuts()
        self._lay_out()
        self.show_target(0, "", "")
        self.show_tool("")
        self.set_ready(False)

    def _make_button(self, action: Action) -> QPushButton:
        key = _KEY_WORDS.get(action.key, action.key)
        made = button(f"{action.label} ({key})", f"{action.tip} Key: {key}.")
        made.setCheckable(action.tool)
        # Keys go to the dock or to the picture, so that Space and Enter do not press a button by surprise.
        made.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        made.clicked.connect(lambda _=False, name=action.name: self.action.emit(name))
        return made

    def _make_shortcuts(self) -> None:
        """Have the keys work in the dock as well as in the picture."""
        for action in (*ACTIONS, *MORE_KEYS):
            sequences = [action.key.replace("Control", "Ctrl").replace("-", "+")]
            sequences += ["Return"] if action.key == "Enter" else []
            for sequence in sequences:
                shortcut = QShortcut(QKeySequence(sequence), self)
                shortcut.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
                shortcut.activated.connect(lambda name=action.name: self.action.emit(name))

    def _lay_out(self) -> None:
        grid, place = QGridLayout(), 0
        grid.setSpacing(4)
        for action in ACTIONS:
            if action.wide:
                grid.addWidget(self.buttons[action.name], place // 2, 0, 1, 2)
                place += 2
            else:
                grid.addWidget(self.buttons[action.name], *divmod(place, 2))
                place += 1
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 2, 8, 8)
        layout.setSpacing(4)
        hint = QLabel("Keys work on the cell under the mouse, or on the circled one. Shift+arrows go to a neighbour.")
        hint.setWordWrap(True)
        layout.addWidget(heading("1  Result"))
        layout.addWidget(self.result)
        layout.addWidget(heading("2  Check and correct"))
        layout.addWidget(hint)
        layout.addWidget(self.status)
        layout.addLayout(grid)
        layout.addWidget(heading("3  Checked cells"))
        layout.addWidget(self.counts)
        layout.addWidget(self.entries, 1)
        layout.addWidget(self.teach_box)
        layout.addWidget(self.messages)

    def _on_row(self, row: int) -> None:
        if row >= 0:
            self.entry_chosen.emit(row)

    # --- setters ------------------------------------------------------------------------------

    def set_ready(self, ready: bool) -> None:
        """Show whether there is a layer to correct."""
        for made in self.buttons.values():
            made.setEnabled(ready)
        self.teach_box.setEnabled(ready)

    def show_target(self, cell: int, kind: str, tool_words: str) -> None:
        """Show which cell is meant, what is known of it, and what the tool waits for."""
        what = f"Cell {cell}{f', {SIGNS[kind]} {kind}' if kind else ', not checked'}" if cell else "No cell"
        self.status.setText(f"<b>{what}.</b> {tool_words}")

    def show_tool(self, name: str) -> None:
        """Show which tool is on; none when the name is empty."""
        for action in ACTIONS:
            self.buttons[action.name].setChecked(action.tool and action.name == name)

    def show_undo(self, undo: str, redo: str) -> None:
        """Show what undo and redo would do, each empty when there is nothing."""
        for name, words in (("undo", undo), ("redo", redo)):
            self.buttons[name].setEnabled(bool(words))
            action = next(action for action in ACTIONS if action.name == name)
            self.buttons[name].setToolTip(f"<span>{action.tip}{f' Now: {words}.' if words else ''}</span>")

    def show_checked(self, counts: Mapping[str, int], entries: Sequence[str], cells: int) -> None:
        """Show how many cells were checked, out of how many in this plane, and the list of them."""
        shown = [f"{SIGNS[kind]} {counts[kind]} {kind}" for kind in (ACCEPTED, EDITED, DELETED)]
        self.counts.setText(f"{'   '.join(shown)}<br>{cells} cells in this plane are left to check")
        self.entries.blockSignals(True)
        self.entries.clear()
        for text in entries:
            self.entries.addItem(QListWidgetItem(text))
        self.entries.blockSignals(False)

    def show_teaching(self, on: bool) -> None:
        """Show whether the next training learns from the checked cells."""
        self.teach_box.blockSignals(True)
        self.teach_box.setChecked(on)
        self.teach_box.blockSignals(False)

    def set_theme(self, kind: str, background: str) -> None:
        """Fit the messages to a ``"dark"`` or ``"light"`` theme."""
        self.messages.set_theme(kind)
        dress_main_button(self.buttons["accept"], kind)
