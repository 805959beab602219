"""What the Models dock looks like: signals out, setters in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QIcon, QImage, QPixmap
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QInputDialog,
    QLabel,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QMenu,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)  # fmt: skip

from ..widgets.common import GearButton, Messages, ProgressBar, button, dress_main_button, folded, heading, row
from ..widgets.forms import caption, guard_wheel, plain_form
from .files import THUMBNAIL_SIDE

ZIP, BIOIMAGEIO, ONNX = "zip", "bioimageio", "onnx"
_FORMATS = {
    ZIP: ("one zip, for this plugin", "Models (*.zip)", ".zip"),
    BIOIMAGEIO: ("bioimage.io package", "bioimage.io packages (*.zip)", ".zip"),
    ONNX: ("ONNX", "ONNX (*.onnx)", ".onnx"),
}
_LICENCES = ("CC-BY-4.0", "CC0-1.0", "MIT", "BSD-3-Clause", "Apache-2.0")


@dataclass(frozen=True)
class ModelRow:
    """One model in the list: its path, its name, and a few words below."""

    path: str
    name: str
    words: str


class ModelList(QListWidget):
    """Models with a picture each."""

    def __init__(self) -> None:
        super().__init__()
        self.setIconSize(QSize(THUMBNAIL_SIDE, THUMBNAIL_SIDE))
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumHeight(150)
        self.setToolTip("<span>The picture shows cells that the model was taught, outlined.</span>")

    def sizeHint(self) -> QSize:
        """Return room for a few models; the list takes more where there is."""
        return QSize(100, 220)


class ModelsView(QWidget):
    """The widgets of the dock, without any knowledge of files or processes."""

    chosen = Signal(str)
    rename = Signal(str)
    duplicate = Signal()
    delete = Signal()
    restore = Signal(int)
    import_model = Signal(str)
    export = Signal(str, str)
    cancel = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.list = ModelList()
        self.facts = QLabel()
        self.facts.setWordWrap(True)
        self.facts.setTextFormat(Qt.TextFormat.RichText)
        self.facts.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.facts.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.MinimumExpanding)
        self.progress = ProgressBar()
        self.messages = Messages()
        self._make_buttons()
        self._make_export()
        self._lay_out()
        self._connect()
        self.set_busy("")
        self.show_trash(())

    def _make_buttons(self) -> None:
        self.rename_button = button("Rename ...", "Give the model another name.")
        self.duplicate_button = button("Duplicate", "Copy the model, for example to train the copy further.")
        self.delete_button = button("Delete", "Put the model into the trash, from where it can be restored.")
        self.restore_button = button("Restore", "Take a deleted model out of the trash.")
        self.trash_menu = QMenu(self)
        self.restore_button.setMenu(self.trash_menu)
        self.import_zip_button = button(
            "Import a zip ...", "Copy a model from a .zip of this plugin, or from a bioimage.io package that it made."
        )
        self.import_folder_button = button("Import a folder ...", "Copy a model from a folder with model.json in it.")

    def _make_export(self) -> None:
        self.format = QComboBox()
        for name, (words, _, _) in _FORMATS.items():
            self.format.addItem(words, name)
        self.format.setToolTip(
            "<span>One zip: for another computer with this plugin. bioimage.io package: for Fiji, ilastik and others, "
            "and for this plugin too. ONNX: the network alone, for programmers.</span>"
        )
        self.format.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        guard_wheel(self.format)
        self.export_button = button(
            "Export ...",
            "Write the model as a file. The file is read back and run before it counts, so this takes a moment.",
        )
        self.author = QLineEdit()
        self.author.setPlaceholderText("who made it")
        self.author.setToolTip("<span>The name that others cite; it is written into the package.</span>")
        self.licence = QComboBox()
        self.licence.setEditable(True)
        self.licence.addItems(_LICENCES)
        self.licence.setToolTip("<span>What others may do with the model: an SPDX name.</span>")
        guard_wheel(self.licence)
        details = QWidget()
        form = plain_form(details)
        form.addRow(caption("Author", self.author.toolTip()), self.author)
        form.addRow(caption("Licence", self.licence.toolTip()), self.licence)
        self.fold = folded("For bioimage.io", details)

    def _lay_out(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 2, 8, 8)
        layout.setSpacing(4)
        self.gear = GearButton()
        layout.addWidget(row(heading("Models"), self.gear, stretch=(1,)))
        layout.addWidget(self.list, 1)
        for widget in (
            self.facts, row(self.rename_button, self.duplicate_button, stretch=(1, 1)),
            row(self.delete_button, self.restore_button, stretch=(1, 1)), heading("Import and export"),
            row(self.import_zip_button, self.import_folder_button, stretch=(1, 1)),
            row(self.format, self.export_button, stretch=(1, 0)), self.fold, self.progress, self.messages,
        ):  # fmt: skip
            layout.addWidget(widget)

    def _connect(self) -> None:
        self.list.currentItemChanged.connect(lambda item, _: self.chosen.emit(self.path()))
        self.rename_button.clicked.connect(self._ask_for_name)
        self.duplicate_button.clicked.connect(self.duplicate)
        self.delete_button.clicked.connect(self.delete)
        self.import_zip_button.clicked.connect(self._ask_for_zip)
        self.import_folder_button.clicked.connect(self._ask_for_folder)
        self.export_button.clicked.connect(self._ask_for_target)

    def _ask_for_name(self) -> None:
        name, given = QInputDialog.getText(self, "Rename the model", "New name:", text=self.name())
        if given:
            self.rename.emit(name)

    def _ask_for_zip(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Import a model", "", "Models (*.zip)")
        if path:
            self.import_model.emit(path)

    def _ask_for_folder(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "Import a model folder")
        if path:
            self.import_model.emit(path)

    def _ask_for_target(self) -> None:
        if self._busy:
            self.cancel.emit()
            return
        kind = self.format.currentData()
        _, filter_, ending = _FORMATS[kind]
        path, _ = QFileDialog.getSaveFileName(
            self, "Export the model", f"{self.name().replace(':', '')}{ending}", filter_
        )
        if path:
            self.export.emit(kind, path if path.lower().endswith(ending) else path + ending)

    # --- setters and getters ------------------------------------------------------------------

    def path(self) -> str:
        """Return the chosen model, or nothing."""
        item = self.list.currentItem()
        return item.data(Qt.ItemDataRole.UserRole) if item is not None else ""

    def choose(self, path: str) -> None:
        """Choose a model, if it is in the list."""
        for index in range(self.list.count()):
            if self.list.item(index).data(Qt.ItemDataRole.UserRole) == path:
                self.list.setCurrentRow(index)

    def name(self) -> str:
        """Return the name of the chosen model."""
        item = self.list.currentItem()
        return item.data(Qt.ItemDataRole.UserRole + 1) if item is not None else ""

    def show_models(self, lines: Sequence[ModelRow], choose: str = "") -> None:
        """Show these models; the present choice stays where it can, unless another one is to be chosen.

        In place of a model that is gone, its neighbour is chosen.
        """
        wanted, row = choose or self.path(), max(0, min(self.list.currentRow(), len(lines) - 1))
        self.list.blockSignals(True)
        self.list.clear()
        for line in lines:
            item = QListWidgetItem(f"{line.name}\n{line.words}")
            item.setData(Qt.ItemDataRole.UserRole, line.path)
            item.setData(Qt.ItemDataRole.UserRole + 1, line.name)
            item.setSizeHint(QSize(0, THUMBNAIL_SIDE + 6))
            item.setIcon(_icon(np.full((THUMBNAIL_SIDE, THUMBNAIL_SIDE, 3), 90, np.uint8)))
            self.list.addItem(item)
        paths = [line.path for line in lines]
        self.list.setCurrentRow(paths.index(wanted) if wanted in paths else row)
        self.list.blockSignals(False)
        self.chosen.emit(self.path())

    def show_pictures(self, pictures: Mapping[str, NDArray[np.uint8] | None]) -> None:
        """Put pictures beside the models, by path."""
        for index in range(self.list.count()):
            item = self.list.item(index)
            picture = pictures.get(item.data(Qt.ItemDataRole.UserRole))
            if picture is not None:
                item.setIcon(_icon(picture))

    def show_facts(self, text: str, more: str, own: bool) -> None:
        """Show what the chosen model is, more of it as a tooltip, and whether it may be renamed and deleted."""
        self.facts.setText(text)
        self.facts.setToolTip(more)
        self._own = own
        self.set_busy(self._busy)

    def show_trash(self, names: Sequence[str]) -> None:
        """Offer what is in the trash to be restored."""
        self.trash_menu.clear()
        for index, name in enumerate(names):
            self.trash_menu.addAction(name).triggered.connect(lambda *_, index=index: self.restore.emit(index))
        self.restore_button.setEnabled(bool(names))

    _own: bool = False

    def set_busy(self, words: str) -> None:
        """Show what is under way, or nothing."""
        self._busy = words
        self.export_button.setText("Cancel" if words else "Export ...")
        own = self._own and not words
        for widget in (self.rename_button, self.delete_button):
            widget.setEnabled(own)
        for widget in (self.import_zip_button, self.import_folder_button, self.duplicate_button, self.format):
            widget.setEnabled(not words)
        self.progress.setVisible(bool(words))
        if words:
            self.progress.wait(words)

    def set_theme(self, kind: str, background: str) -> None:
        """Fit messages and buttons to a ``"dark"`` or ``"light"`` theme."""
        self.messages.set_theme(kind)
        dress_main_button(self.export_button, kind)


def _icon(picture: NDArray[Any]) -> QIcon:
    """Return an RGB picture as an icon that looks the same when chosen."""
    data = np.ascontiguousarray(picture, np.uint8)
    height, width = data.shape[:2]
    image = QImage(data.tobytes(), width, height, 3 * width, QImage.Format.Format_RGB888)
    pixmap = QPixmap.fromImage(image.copy())
    icon = QIcon(pixmap)
    icon.addPixmap(pixmap, QIcon.Mode.Selected)
    return icon
