"""The preferences as a dialog, the same in every napari; where napari shows them too, both show the same values."""

from __future__ import annotations

import os
from dataclasses import fields

from qtpy.QtCore import QEvent, Qt, Signal
from qtpy.QtGui import QKeyEvent, QKeySequence
from qtpy.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QVBoxLayout,
    QWidget,
)  # fmt: skip

from ...core.errors import SettingsError, UNetError
from ...core.settings import Option, options
from ...records.runs import HOME_VARIABLE, home
from ..settings.preferences import SECTIONS, Keeper, Preferences, check_all, is_key
from ..settings.shortcut_names import normal_key
from ..widgets.common import Messages, button, heading, row
from ..widgets.forms import caption, change_signal, get_value, make_editor, plain_form, set_value, tooltip_of

_EMPTY = {"engine_address": "this computer", "models_folder": "napari-unet's own folder"}
"""What an empty field means, written into it in grey."""
_COLUMNS = (("computing", "models", "painting"), ("proofreading",))
_WIDTH = 760
_KEY_WIDTH = 110
_ALONE = (Qt.Key.Key_Control, Qt.Key.Key_Shift, Qt.Key.Key_Alt, Qt.Key.Key_Meta, Qt.Key.Key_AltGr)


class KeyEdit(QLineEdit):
    """Shows a key; pressing another one takes that one.

    Attributes
    ----------
    refused : Signal(str)
        The key that was pressed cannot be used, in words.
    """

    refused = Signal(str)

    def __init__(self, option: Option) -> None:
        super().__init__()
        self.setReadOnly(True)
        self.setFixedWidth(_KEY_WIDTH)
        self.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.setToolTip(f"<span>{option.help} Click here, then press the key that shall do it.</span>")

    def event(self, event: QEvent) -> bool:
        """Take keys before they are looked up as shortcuts, but leave Tab and Esc to the dialog."""
        if event.type() == QEvent.Type.ShortcutOverride and not _is_for_dialog(event):
            event.accept()
            return True
        return super().event(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Take the key that is pressed."""
        if _is_for_dialog(event):
            super().keyPressEvent(event)
        elif event.key() not in _ALONE:
            self._take(event)

    def _take(self, event: QKeyEvent) -> None:
        held = event.modifiers() & ~Qt.KeyboardModifier.KeypadModifier
        code = getattr(held, "value", held)
        pressed = QKeySequence(int(code) | int(event.key())).toString(QKeySequence.SequenceFormat.PortableText)
        try:
            self.setText(normal_key(pressed))
        except SettingsError as error:
            self.refused.emit(str(error))


def _is_for_dialog(event: QEvent) -> bool:
    """Return whether a key moves on to the next field, or closes the dialog."""
    return event.key() in (Qt.Key.Key_Tab, Qt.Key.Key_Backtab, Qt.Key.Key_Escape, Qt.Key.Key_Return, Qt.Key.Key_Enter)


class PreferencesDialog(QDialog):
    """Shows the preferences, checks each change at once, and keeps them when OK is clicked.

    Parameters
    ----------
    parent : QWidget
        The window that it belongs to.
    theme : str
        Whether that is ``"dark"`` or ``"light"``.
    """

    def __init__(self, parent: QWidget | None, theme: str = "dark") -> None:
        super().__init__(parent)
        self.setWindowTitle("Preferences of U-Net segmentation")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self._keeper = Keeper.shared()
        known = options(Preferences)
        self.editors = {field.name: self._make_editor(field.name, known[field.name]) for field in fields(Preferences)}
        self.messages = Messages()
        self.messages.set_theme(theme)
        self.browse_button = button("Browse ...", "Choose the folder.")
        self.browse_button.clicked.connect(self._browse)
        self.buttons = QDialogButtonBox(
            QDialogButtonBox.StandardButton.Ok | QDialogButtonBox.StandardButton.Cancel
            | QDialogButtonBox.StandardButton.RestoreDefaults
        )  # fmt: skip
        self.buttons.accepted.connect(self._keep)
        self.buttons.rejected.connect(self.reject)
        restore = self.buttons.button(QDialogButtonBox.StandardButton.RestoreDefaults)
        restore.clicked.connect(lambda: self._show(Preferences()))
        self._lay_out(known)
        self._show(self._keeper.current())
        self._show_home()

    def _make_editor(self, name: str, option: Option) -> QWidget:
        editor = KeyEdit(option) if is_key(name) else make_editor(name, option, getattr(Preferences, name))
        editor.setObjectName(name)
        if isinstance(editor, KeyEdit):
            editor.refused.connect(self._say)
        elif isinstance(editor, QLineEdit):
            editor.setPlaceholderText(_EMPTY[name])
        change_signal(editor).connect(self._check)
        return editor

    def _lay_out(self, known: dict[str, Option]) -> None:
        columns = QHBoxLayout()
        columns.setSpacing(24)
        for sections in _COLUMNS:
            column = QVBoxLayout()
            column.setSpacing(4)
            for section in sections:
                column.addWidget(heading(SECTIONS[section].title))
                column.addLayout(self._form(section, known))
                column.addSpacing(8)
            column.addStretch(1)
            columns.addLayout(column, 1 if "computing" in sections else 0)
        layout = QVBoxLayout(self)
        layout.addLayout(columns)
        hint = QLabel(
            "To change a key, click it and press another one. Keys count in the picture while a dock is open."
        )
        hint.setWordWrap(True)
        layout.addWidget(hint)
        layout.addWidget(self.messages)
        layout.addWidget(self.buttons)
        self.setMinimumWidth(_WIDTH)

    def _form(self, section: str, known: dict[str, Option]) -> QFormLayout:
        form = plain_form()
        for name in SECTIONS[section].names():
            editor = self.editors[name]
            label = caption(known[name].label, editor.toolTip() or tooltip_of(known[name]))
            beside = row(editor, self.browse_button, stretch=(1, 0)) if name == "models_folder" else editor
            form.addRow(label, beside)
        return form

    def _show(self, values: Preferences) -> None:
        """Show preferences without keeping them."""
        for name, editor in self.editors.items():
            set_value(editor, getattr(values, name))
        self._check()

    def _show_home(self) -> None:
        """Say where models lie when nothing is preferred, and what overrides the preference."""
        folder, own = self.editors["models_folder"], home() / "models"
        if not os.environ.get(HOME_VARIABLE):
            folder.setToolTip(f"{folder.toolTip()}<span> That is {own}.</span>")
            return
        folder.setPlaceholderText(str(own))
        for widget in (folder, self.browse_button):
            widget.setEnabled(False)
            widget.setToolTip(f"<span>Set by the environment variable {HOME_VARIABLE}: {own}</span>")

    def values(self) -> dict[str, str]:
        """Return what the dialog shows."""
        return {name: get_value(editor) for name, editor in self.editors.items()}

    def _say(self, words: str) -> None:
        self.messages.clear_messages()
        self.messages.say(words, "warning")

    def _check(self, *_: object) -> None:
        """Say what cannot be used, and offer OK only when all can."""
        if not hasattr(self, "buttons"):
            return
        self.messages.clear_messages()
        problem = ""
        try:
            check_all(self.values())
        except SettingsError as error:
            problem = str(error)
            self.messages.say(problem, "error")
        self.buttons.button(QDialogButtonBox.StandardButton.Ok).setEnabled(not problem)

    def _browse(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "Folder for models", self.editors["models_folder"].text())
        if chosen:
            self.editors["models_folder"].setText(chosen)

    def _keep(self) -> None:
        try:
            self._keeper.change(**self.values())
        except UNetError as error:
            self.messages.clear_messages()
            self.messages.say(str(error), "error")
            return
        self.accept()


def open_preferences(window: QWidget, theme: str = "dark") -> PreferencesDialog:
    """Open the dialog, or bring the one of this window to the front."""
    dialog = window.findChild(PreferencesDialog) or PreferencesDialog(window, theme)
    dialog.show()
    dialog.raise_()
    dialog.activateWindow()
    return dialog
