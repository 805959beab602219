"""One line at the foot of a dock that says which computer computes, and with what; devices under its names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtGui import QResizeEvent
from qtpy.QtWidgets import QComboBox, QLabel, QSizePolicy, QWidget

from ..settings.preferences import Keeper
from .lifecycle import disconnect_from

if TYPE_CHECKING:
    from ..runtime.engine import Engine

_DEVICES = {"cuda": "CUDA", "mps": "Apple GPU", "cpu": "processor"}
"""How the values of the setting ``device`` read."""


class EngineStatus(QLabel):
    """Follows the engine and the preferred address for one dock.

    Parameters
    ----------
    engine : Engine
        Whose state is shown.
    view : QWidget
        The dock's view; has ``messages``, and perhaps editors named ``device``.
    """

    def __init__(self, engine: Engine, view: QWidget) -> None:
        super().__init__()
        self._engine, self._view, self._keeper = engine, view, Keeper.shared()
        self.words = ""
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setContentsMargins(8, 0, 8, 3)
        # A long name of a card may not set the dock's width.
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        engine.state_changed.connect(self._on_state)
        self._keeper.changed.connect(self._on_preferences)
        self._show()

    def close_status(self) -> None:
        """Follow no more."""
        disconnect_from(self._engine, "state_changed", self._on_state)
        disconnect_from(self._keeper, "changed", self._on_preferences)

    def _on_preferences(self) -> None:
        # A slot of each dock's own: PySide takes off all connections to the same one at once.
        self._engine.settle()

    def _on_state(self, state: str) -> None:
        """Show a new state, and why the engine cannot be used when no job is there to say so."""
        self._show()
        if state == "dead" and not self._engine.busy:
            self._view.messages.say(self._engine.reason, "error")

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Cut the words to the width that there is."""
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        self.setText(self.fontMetrics().elidedText(self.words, Qt.TextElideMode.ElideRight, self.width() - 16))

    def _show(self) -> None:
        """Show where work is done."""
        self.words = status(self._engine.state, self._engine.where, self._engine.devices)
        self.setToolTip(f"<span>{self.words}. Preferences (⚙) name another computer to compute on.</span>")
        self._fit()
        if self._engine.state == "ready":
            for editor in self._view.findChildren(QComboBox, "device"):
                name_devices(editor, self._engine.where, self._engine.devices)


def status(state: str, where: str, devices: dict[str, str]) -> str:
    """Return where work is done, and whether that is possible now.

    Parameters
    ----------
    state : str
        Of the engine.
    where : str
        For example ``"on gpu-box"``.
    devices : dict
        Names by the setting ``device``, fastest first.
    """
    if state == "starting":
        return f"Getting ready {where}"
    if state == "dead":
        return f"Stopped {where}; a click starts it"
    fastest = next(iter(devices), "")
    return f"Computes {where}{f': {_title(fastest, devices)}' if fastest else ''}"


def name_devices(editor: QComboBox, where: str, devices: dict[str, str]) -> None:
    """Show in an editor of the setting ``device`` what there is, and what is not."""
    if not devices:
        return
    for index in range(editor.count()):
        device = editor.itemData(index)
        if device not in _DEVICES:
            continue
        there = device in devices
        words = _title(device, devices) if there else f"{_DEVICES[device]} (none)"
        editor.setItemText(index, f"{words} {where}")
        editor.model().item(index).setEnabled(there)


def kind_of_device(device: str) -> str:
    """Return what a device, as torch names it, is called in the docks."""
    return _DEVICES.get(device.split(":")[0], device)


def _title(device: str, devices: dict[str, str]) -> str:
    """Return the kind of a device with its name, unless they are the same."""
    title, name = _DEVICES.get(device, device), devices.get(device, "")
    return title if name in ("", title) else f"{title} ({name})"
