"""What the Proofread dock looks like: signals out, setters in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import (
    QCheckBox,
    QFileDialog,
    QGridLayout,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QRadioButton,
    QShortcut,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)  # fmt: skip

from ...core.proofreading.review import ACCEPTED, DELETED, EDITED
from ..layers.connected_components import SPLIT, SPLIT_TIP
from ..settings.preferences import Preferences
from ..settings.shortcuts import name_key
from ..widgets.common import GearButton, Messages, button, column, dress_main_button, heading, row
from ..widgets.labels_are import LabelsAre
from ..widgets.layer_selectors import LayerCombo

SIGNS = {ACCEPTED: "●", EDITED: "◆", DELETED: "✕"}
"""How checked cells are marked in the list; in the picture the signs have the same shapes."""


@dataclass(frozen=True)
class Action:
    """Something to do with a cell: its name, key, words on the button and in the tooltip.

    Where the key is empty, it is the one that the user prefers, see :func:`key_of`. A tool stays on until it is used
    up or left; ``wide`` ones take a whole row.
    """

    name: str
    key: str
    label: str
    tip: str
    tool: bool = False
    wide: bool = False


def key_of(action: Action, keys: Preferences) -> str:
    """Return the key of an action, as ``Ctrl+Z``."""
    return action.key or getattr(keys, f"key_{action.name}")


ACTIONS = (
    Action("accept", "", "Accept", "Mark the cell as correct. Again removes the mark.", wide=True),
    Action("merge", "", "Merge", "Make two cells one: click both, or press {key} on either.", True),
    Action("split", "", "Split in two", "Split the cell at its narrowest place."),
    Action("line", "", "Split by a line", "Draw a line across the cell, from outside to outside.", True),
    Action("seeds", "", "Split by points", "Click a point in each part of one cell, then press Enter.", True),
    Action("redraw", "", "Redraw", "Paint with the label of the cell; {key} again erases. Other cells are left alone. "
           "Esc ends it.", True),
    Action("fill", "", "Fill holes", "Fill the holes in the cell."),
    Action("grow", "", "Larger", "Grow the cell by one pixel, into background only."),
    Action("shrink", "", "Smaller", "Shrink the cell by one pixel."),
    Action("delete", "", "Delete", "Delete the cell; a new segmentation leaves it out too."),
    Action("leave", "Esc", "Leave the tool", "End merging, splitting or redrawing."),
    Action("previous", "", "Back", "Go to the previous unreviewed cell."),
    Action("next", "", "Next to review", "Go to the next unreviewed cell, in this plane or a later one."),
    Action("undo", "Ctrl+Z", "Undo", "Undo the last correction, in whatever plane it was."),
    Action("redo", "Ctrl+Shift+Z", "Redo", "Redo the correction that was undone."),
)  # fmt: skip
"""Everything with a button, in the order of the buttons."""

MORE_KEYS = (
    Action("enter", "Enter", "", "Split at the points, or end redrawing."),
    Action("scope", "", "", "Change between this plane and the whole cell."),
    Action("left", "Shift+Left", "", ""),
    Action("right", "Shift+Right", "", ""),
    Action("up", "Shift+Up", "", ""),
    Action("down", "Shift+Down", "", ""),
)
"""What has a key and no button."""

SCOPE_TIPS = {
    "ready": "All planes that the cell goes through are corrected and marked at once, and undone at once. A split "
    "continues along the same border. Redrawing is for this plane alone. Key: {key}.",
    "single": "In these labels, each plane has numbers of its own, so a cell is known in its plane only. "
    "napari-unet link joins the cells of a stack.",
    "looking": "The planes are still being searched.",
    "on disk": "The labels are on disk; they are corrected plane by plane.",
}
"""What is said of correcting whole cells, by whether that is possible."""

OFFER_TIPS = {
    "Correct this part": "What is on screen is opened at full resolution as a layer that can be corrected and painted "
    "on. It is never more than 4,096 x 4,096 pixels of one plane.",
    "Write to file": "Write the corrections to the file, at every resolution, with the review marks beside it. A "
    "cell that reaches over the edge of the part stays one cell.",
    SPLIT: SPLIT_TIP,
}
"""What is said of labels on disk and of kinds, by the words on the button."""

_ROOM = len("Ctrl+Shift+Z")


class ProofreadView(QWidget):
    """The widgets of the dock, without any knowledge of layers.

    ``action`` tells the name of an :class:`Action`, by its button or its key.
    """

    action = Signal(str)
    entry_chosen = Signal(int)
    training_changed = Signal(bool)
    scope_changed = Signal(bool)
    save = Signal(str)
    recover = Signal()
    discard = Signal()
    part = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._theme = "dark"
        self.result = LayerCombo("The Labels layer to correct, such as the result of Segment.", "segment first")
        self.labels_are = LabelsAre(self.result)
        self.status = QLabel()
        self.status.setWordWrap(True)
        self.buttons = {action.name: self._make_button(action) for action in ACTIONS}
        self.here = QRadioButton("This plane")
        self.whole = QRadioButton()
        self.here.setChecked(True)
        self.scope = row(self.here, self.whole, stretch=(0, 1))
        self.whole.toggled.connect(self.scope_changed)
        self.unsaved = QLabel()
        self.unsaved.setWordWrap(True)
        self.recover_button = button("Recover", "Open these labels again, with all corrections and marks.")
        self.discard_button = button("Delete them", "Delete these corrections for good.")
        self.recovery = column(self.unsaved, row(self.recover_button, self.discard_button, stretch=(1, 1)))
        self.offer_words = QLabel()
        self.offer_words.setWordWrap(True)
        self.offer_button = button("", "")
        self.offer_row = column(self.offer_words, self.offer_button)
        self.offer_button.clicked.connect(self.part)
        self.save_button = button(
            "Save labels and review marks ...",
            "Write the labels as TIFF, PNG or Zarr, and beside them which cells were reviewed. Opened again, both are "
            "there.",
        )
        self.counts = QLabel()
        self.counts.setWordWrap(True)
        self.entries = QListWidget()
        self.entries.setToolTip("<span>Reviewed cells. Click one to go there.</span>")
        self.entries.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.entries.setMinimumHeight(60)
        self.entries.sizeHint = lambda: QSize(100, 110)
        self.entries.currentRowChanged.connect(self._on_row)
        self.training_box = QCheckBox("Use for the next training")
        self.training_box.setChecked(True)
        self.training_box.setToolTip(
            "<span>Train on accepted and edited cells as if they were painted, and on deleted ones as background. "
            "Each is sampled four times as often as other cells.</span>"
        )
        self.training_box.toggled.connect(self.training_changed)
        self.messages = Messages()
        self.recover_button.clicked.connect(self.recover)
        self.discard_button.clicked.connect(self.discard)
        self.save_button.clicked.connect(self._ask_for_file)
        self._shortcuts = [(action, sc) for action in (*ACTIONS, *MORE_KEYS) for sc in self._make_shortcuts(action)]
        self.show_keys(Preferences())
        self._lay_out()
        self.show_target(0, "", "")
        self.show_tool("")
        self.show_scope("", False)
        self.show_unsaved("")
        self.show_offer("", "")
        self.set_ready(False)

    def _make_button(self, action: Action) -> QPushButton:
        made = QPushButton()
        made.setCheckable(action.tool)
        # Keys go to the dock or to the picture, so that Space and Enter do not press a button by surprise.
        made.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        made.clicked.connect(lambda _=False, name=action.name: self.action.emit(name))
        return made

    def _make_shortcuts(self, action: Action) -> list[QShortcut]:
        """Return what makes an action's key work in the dock as well as in the picture."""
        # A keyboard has two keys that mean Enter.
        made = [QShortcut(self) for _ in range(2 if action.key == "Enter" else 1)]
        for shortcut in made:
            shortcut.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
            shortcut.activated.connect(lambda name=action.name: self.action.emit(name))
        if action.key == "Enter":
            made[1].setKey(QKeySequence("Return"))
        return made

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
        layout.addWidget(self.recovery)
        self.gear = GearButton()
        layout.addWidget(row(heading("1  Result"), self.gear, stretch=(1,)))
        layout.addWidget(self.result)
        layout.addWidget(self.labels_are)
        layout.addWidget(self.offer_row)
        layout.addWidget(heading("2  Review and correct"))
        layout.addWidget(hint)
        layout.addWidget(self.scope)
        layout.addWidget(self.status)
        layout.addLayout(grid)
        layout.addWidget(heading("3  Reviewed cells"))
        layout.addWidget(self.counts)
        layout.addWidget(self.entries, 1)
        layout.addWidget(self.training_box)
        layout.addWidget(self.save_button)
        layout.addWidget(self.messages)

    def _on_row(self, row: int) -> None:
        if row >= 0:
            self.entry_chosen.emit(row)

    def _ask_for_file(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Save the labels", "", "TIFF (*.tif);;PNG (*.png);;Zarr (*.zarr)")
        if path:
            self.save.emit(path if path.lower().endswith((".tif", ".png", ".zarr")) else f"{path}.tif")

    # --- setters ------------------------------------------------------------------------------

    def show_keys(self, keys: Preferences) -> None:
        """Show which keys do what the buttons do, and have them do it in the dock."""
        self._keys = keys
        for action in ACTIONS:
            tip, key = f"{action.tip} Key: {{key}}.", key_of(action, keys)
            name_key(self.buttons[action.name], action.label, tip, key, room=_ROOM)
        name_key(self.here, "", "Only the plane on screen is corrected. Key: {key}.", keys.key_scope)
        self.here.setText("This plane")
        name_key(self.whole, "Whole cell, in all planes", SCOPE_TIPS["ready"], keys.key_scope)
        for action in (*ACTIONS, *MORE_KEYS):
            first = next(shortcut for known, shortcut in self._shortcuts if known is action)
            first.setKey(QKeySequence(key_of(action, keys)))

    def set_ready(self, ready: bool) -> None:
        """Show whether there is a layer to correct."""
        for made in self.buttons.values():
            made.setEnabled(ready)
        self.training_box.setEnabled(ready)
        self.save_button.setEnabled(ready)

    def show_scope(self, state: str, whole: bool) -> None:
        """Show what corrections are about.

        Parameters
        ----------
        state : str
            A key of :data:`SCOPE_TIPS`; empty for a single plane, where there is nothing to choose.
        whole : bool
            Whether they are about whole cells, where that is possible.
        """
        self.scope.setVisible(bool(state))
        for made in (self.here, self.whole):
            made.blockSignals(True)
        ready = state == "ready"
        self.whole.setEnabled(ready)
        self.whole.setToolTip(f"<span>{SCOPE_TIPS.get(state, '').format(key=self._keys.key_scope)}</span>")
        (self.whole if ready and whole else self.here).setChecked(True)
        for made in (self.here, self.whole):
            made.blockSignals(False)

    def show_unsaved(self, words: str) -> None:
        """Offer to recover corrections that were not saved; none when the words are empty."""
        self.recovery.setVisible(bool(words))
        self.unsaved.setText(f"<b>Not saved:</b> {words}")

    def show_offer(self, words: str, action: str) -> None:
        """Show what can be done with labels on disk, a part of them, or kinds; nothing when the words are empty.

        Parameters
        ----------
        words : str
            What is chosen.
        action : str
            A key of :data:`OFFER_TIPS`.
        """
        self.offer_row.setVisible(bool(words))
        self.offer_button.setVisible(bool(action))
        self.offer_words.setText(words)
        self.offer_button.setText(action)
        self.offer_button.setToolTip(f"<span>{OFFER_TIPS.get(action, '')}</span>")

    def show_busy(self, busy: bool) -> None:
        """Show whether a part is being read or written."""
        self.offer_button.setEnabled(not busy)

    def show_target(self, cell: int, kind: str, tool_words: str) -> None:
        """Show which cell is meant, what is known of it, and what the tool waits for."""
        what = f"Cell {cell}{f', {SIGNS[kind]} {kind}' if kind else ', not reviewed'}" if cell else "No cell"
        self.status.setText(f"<b>{what}.</b> {tool_words}")

    def show_tool(self, name: str) -> None:
        """Show which tool is on; none when the name is empty."""
        for action in ACTIONS:
            self.buttons[action.name].setChecked(action.tool and action.name == name)
        self._dress(bool(name))

    def _dress(self, tool: bool) -> None:
        """Have one button stand out: the tool that is on, and Accept while there is none; napari paints both blue."""
        if tool:
            self.buttons["accept"].setStyleSheet("")
        else:
            dress_main_button(self.buttons["accept"], self._theme)

    def show_undo(self, undo: str, redo: str) -> None:
        """Show what undo and redo would do, each empty when there is nothing."""
        for name, words in (("undo", undo), ("redo", redo)):
            self.buttons[name].setEnabled(bool(words))
            action = next(action for action in ACTIONS if action.name == name)
            self.buttons[name].setToolTip(f"<span>{action.tip}{f' Now: {words}.' if words else ''}</span>")

    def show_checked(self, counts: Mapping[str, int], entries: Sequence[str], cells: int | None = None) -> None:
        """Show how many cells were checked, how many are left in this plane if that is known, and the list of them."""
        shown = [f"{SIGNS[kind]} {counts[kind]} {kind}" for kind in (ACCEPTED, EDITED, DELETED)]
        left = "" if cells is None else f"<br>{cells} cells in this plane are left to review"
        self.counts.setText(f"{'   '.join(shown)}{left}")
        self.entries.blockSignals(True)
        self.entries.clear()
        for text in entries:
            self.entries.addItem(QListWidgetItem(text))
        self.entries.blockSignals(False)

    def show_used_in_training(self, on: bool) -> None:
        """Show whether the next training learns from the checked cells."""
        self.training_box.blockSignals(True)
        self.training_box.setChecked(on)
        self.training_box.blockSignals(False)

    def set_theme(self, kind: str, background: str) -> None:
        """Fit the messages to a ``"dark"`` or ``"light"`` theme."""
        self.messages.set_theme(kind)
        self._theme = kind
        self._dress(any(made.isChecked() for made in self.buttons.values()))
        dress_main_button(self.offer_button, kind)
