"""What the dock for many files looks like: signals out, setters in."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QBrush, QColor, QKeyEvent
from qtpy.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QComboBox,
    QFileDialog,
    QHeaderView,
    QLineEdit,
    QSizePolicy,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)  # fmt: skip

from ...core.settings import PredictionSettings, options
from ..models.selector import ModelCombo
from ..widgets.common import GearButton, Messages, ProgressBar, button, dress_main_button, folded, heading, row
from ..widgets.focus import MAIN_KEY, give_key
from ..widgets.forms import (
    SettingsForm,
    advanced_names,
    caption,
    get_value,
    guard_wheel,
    make_editor,
    plain_form,
    set_value,
    tooltip_of,
)
from .view import FOLLOWS, SizeSlider, threshold_slider

AXES = {
    "as the files say": "",
    "planes in depth (z, y, x)": "zyx",
    "time points (t, y, x)": "tyx",
    "channels first (c, y, x)": "cyx",
    "channels last (y, x, c)": "yxc",
    "depth and channels (z, c, y, x)": "zcyx",
    "time and depth (t, z, y, x)": "tzyx",
}
"""Roles of the axes of files that do not name them."""
ENDINGS = {"TIFF": ".tif", "OME-Zarr": ".zarr"}
WAITING, RUNNING, DONE, FAILED, SKIPPED = "waiting", "running", "done", "failed", "skipped"
_SIGNS = {WAITING: "", RUNNING: "▸ ", DONE: "✔ ", FAILED: "✖ ", SKIPPED: "• "}
_COLOURS = {
    "dark": {RUNNING: "#9fb4ff", DONE: "#80cbc4", FAILED: "#ffab91"},
    "light": {RUNNING: "#23409a", DONE: "#00574b", FAILED: "#a3260f"},
}


class FolderRow(QWidget):
    """A folder: typed, or looked up.

    Attributes
    ----------
    changed : Signal(str)
        Another folder was entered.
    """

    changed = Signal(str)

    def __init__(self, hint: str, tooltip: str) -> None:
        super().__init__()
        self.edit = QLineEdit()
        self.edit.setPlaceholderText(hint)
        self.edit.setToolTip(f"<span>{tooltip}</span>")
        self.button = button("Browse ...", tooltip)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(row(self.edit, self.button, stretch=(1, 0)))
        self.button.clicked.connect(self._ask)
        self.edit.editingFinished.connect(lambda: self.changed.emit(self.text()))

    def text(self) -> str:
        """Return the folder as it is shown."""
        return self.edit.text().strip()

    def show_text(self, text: str) -> None:
        """Show a folder, without announcing it as the user's."""
        self.edit.setText(text)
        self.edit.setCursorPosition(len(text))

    def _ask(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Choose a folder", self.text())
        if folder:
            self.show_text(folder)
            self.changed.emit(folder)


class FileList(QTreeWidget):
    """One line per file: its name, and what has become of it.

    Attributes
    ----------
    entered : Signal(int)
        Enter was pressed on a line.
    """

    entered = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self.setColumnCount(2)
        self.setHeaderLabels(["file", "state"])
        self.setRootIsDecorated(False)
        self.setUniformRowHeights(True)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setMinimumHeight(130)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setToolTip("<span>Double-click a line, or press Enter on it, to open the picture with its result.</span>")
        header = self.header()
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Interactive)
        header.setStretchLastSection(True)
        header.resizeSection(0, 140)
        self._theme = "dark"

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Take Enter for what a double click does."""
        plain = event.modifiers() & ~Qt.KeyboardModifier.KeypadModifier == Qt.KeyboardModifier.NoModifier
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and plain and self.currentItem() is not None:
            self.entered.emit(self.indexOfTopLevelItem(self.currentItem()))
            return
        super().keyPressEvent(event)

    def show_files(self, names: list[str]) -> None:
        """Show files that wait."""
        self.clear()
        self.addTopLevelItems([QTreeWidgetItem([name, ""]) for name in names])

    def show_state(self, index: int, state: str, words: str) -> None:
        """Show what has become of a file."""
        item = self.topLevelItem(index)
        if item is None:
            return
        item.setData(1, Qt.ItemDataRole.UserRole, state)
        item.setText(1, f"{_SIGNS[state]}{words}")
        item.setToolTip(1, f"<span>{words}</span>")
        item.setToolTip(0, f"<span>{item.text(0)}</span>")
        self._colour(item)
        if state == RUNNING:
            self.scrollToItem(item)

    def states(self) -> list[tuple[str, str]]:
        """Return state and words of each line."""
        items = [self.topLevelItem(n) for n in range(self.topLevelItemCount())]
        return [(item.data(1, Qt.ItemDataRole.UserRole), item.text(1)) for item in items]

    def set_theme(self, kind: str) -> None:
        """Fit the colours to a ``"dark"`` or ``"light"`` background."""
        self._theme = kind if kind in _COLOURS else "dark"
        for n in range(self.topLevelItemCount()):
            self._colour(self.topLevelItem(n))

    def _colour(self, item: QTreeWidgetItem) -> None:
        colour = _COLOURS[self._theme].get(item.data(1, Qt.ItemDataRole.UserRole))
        item.setForeground(1, QBrush(QColor(colour)) if colour else QBrush())


class BatchView(QWidget):
    """The widgets of the dock, without any knowledge of files, layers or engine."""

    run = Signal()
    stop = Signal()
    browse = Signal(str)
    source_changed = Signal(str)
    place_changed = Signal(str)
    model_changed = Signal(str)
    opened = Signal(int)
    chosen = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        known, start = options(PredictionSettings), PredictionSettings()
        self.source = FolderRow("folder with pictures", "Every TIFF, PNG, JPEG or Zarr in this folder is segmented.")
        self.axes = QComboBox()
        for words, letters in AXES.items():
            self.axes.addItem(words, letters)
        self.axes.setToolTip(
            "<span>What the axes of the files are, where the files do not say it. A file whose axes are neither named "
            "nor given here is not guessed at: it is listed as an error.</span>"
        )
        self.axes.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.axes.setMinimumContentsLength(8)
        self.axes.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        guard_wheel(self.axes)
        self.model = ModelCombo("The network to segment with.")
        self.browse_button = button("Browse ...", "Take a model from a folder or a .zip file.")
        self.what = make_editor("what", known["what"], start.what)
        self.threshold = threshold_slider(known["threshold"], start.threshold)
        self.smallest = SizeSlider(known["smallest"], start.smallest)
        self.advanced = SettingsForm(start, advanced_names(PredictionSettings))
        self.place = FolderRow("folder for the results", "One result for each picture, under the same name.")
        self.ending = QComboBox()
        for words, ending in ENDINGS.items():
            self.ending.addItem(words, ending)
        self.ending.setToolTip(
            "<span>TIFF opens everywhere. OME-Zarr is for large pictures: it is written while it is made, and a result "
            "that was stopped resumes with the next click.</span>"
        )
        guard_wheel(self.ending)
        self.replace = QCheckBox("replace")
        self.replace.setToolTip("<span>Overwrite existing results; otherwise they are skipped.</span>")
        self.run_button = button("Segment all", "Segment one file after the other. The viewer stays usable meanwhile.")
        self.run_button.setMinimumHeight(30)
        give_key(self.run_button, MAIN_KEY)
        self.progress = ProgressBar()
        self.files = FileList()
        self.messages = Messages()
        self.gear = GearButton()
        self._lay_out()
        self._connect()
        self.set_busy(False)

    def _lay_out(self) -> None:
        known, form, tuning, saving = options(PredictionSettings), plain_form(), plain_form(), plain_form()
        form.addRow(caption("Folder"), self.source)
        form.addRow(caption("Axes", self.axes.toolTip()), self.axes)
        tuning.addRow(caption("Result", self.what.toolTip()), self.what)
        tuning.addRow(caption("Threshold", tooltip_of(known["threshold"])), self.threshold)
        tuning.addRow(caption("Smallest cell", tooltip_of(known["smallest"])), self.smallest)
        saving.addRow(caption("Save to"), self.place)
        saving.addRow(caption("As"), row(self.ending, self.replace, stretch=(1, 0)))
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 2, 8, 8)
        layout.setSpacing(4)
        layout.addWidget(row(heading("1  Pictures"), self.gear, stretch=(1,)))
        layout.addLayout(form)
        layout.addWidget(heading("2  Model"))
        layout.addWidget(row(self.model, self.browse_button, stretch=(1, 0)))
        layout.addLayout(tuning)
        self.fold = folded("More settings", self.advanced)
        layout.addWidget(self.fold)
        layout.addWidget(heading("3  Segment"))
        layout.addLayout(saving)
        layout.addWidget(self.run_button)
        layout.addWidget(self.progress)
        layout.addWidget(self.files, 1)
        layout.addWidget(self.messages)

    def _connect(self) -> None:
        self.run_button.clicked.connect(lambda: (self.stop if self._busy else self.run).emit())
        self.browse_button.clicked.connect(self._ask_for_model)
        self.source.changed.connect(self.source_changed)
        self.place.changed.connect(self.place_changed)
        self.ending.currentIndexChanged.connect(lambda _: self.place_changed.emit(self.place.text()))
        self.what.currentIndexChanged.connect(lambda _: self._show_tuning())
        self.model.currentIndexChanged.connect(lambda _: self.model_changed.emit(self.model.currentData() or ""))
        self.files.itemClicked.connect(lambda item, _: self.chosen.emit(self.files.indexOfTopLevelItem(item)))
        self.files.currentItemChanged.connect(self._on_current)
        self.files.itemDoubleClicked.connect(lambda item, _: self.opened.emit(self.files.indexOfTopLevelItem(item)))
        self.files.entered.connect(self.opened)

    def _on_current(self, item: QTreeWidgetItem | None, _: object) -> None:
        """Tell which line the arrows have come to."""
        if item is not None:
            self.chosen.emit(self.files.indexOfTopLevelItem(item))

    def _ask_for_model(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Choose a model", "", "Models (model.json *.zip)")
        if path:
            self.browse.emit(path)

    # --- setters and getters ------------------------------------------------------------------

    def values(self) -> dict[str, Any]:
        """Return the prediction settings as shown."""
        return {
            "what": get_value(self.what),
            "threshold": round(self.threshold.value(), 4),
            "smallest": self.smallest.value(),
            **self.advanced.values(),
        }

    def show_values(self, values: dict[str, Any]) -> None:
        """Show some prediction settings."""
        self.advanced.show_values(values)
        if "what" in values:
            set_value(self.what, values["what"])
        if "threshold" in values:
            self.threshold.setValue(values["threshold"])
        if "smallest" in values:
            self.smallest.set_value(values["smallest"])

    def set_busy(self, busy: bool) -> None:
        """Show Segment all or Stop."""
        self._busy = busy
        self.run_button.setText("Stop" if busy else "Segment all")
        for widget in (self.source, self.axes, self.model, self.browse_button, self.what, self.place, self.ending,
                       self.replace, self.advanced):  # fmt: skip
            widget.setEnabled(not busy)
        self._show_tuning()
        if not busy:
            self.progress.rest()

    def _show_tuning(self) -> None:
        """Offer threshold and smallest cell where the results follow from them."""
        for editor in (self.threshold, self.smallest):
            editor.setEnabled(not self._busy and get_value(self.what) == FOLLOWS)

    def set_theme(self, kind: str, background: str) -> None:
        """Fit messages, list and button to a ``"dark"`` or ``"light"`` theme."""
        self.messages.set_theme(kind)
        self.files.set_theme(kind)
        dress_main_button(self.run_button, kind)
