"""A real viewer with all docks, and hands: mouse, keys, menus and dialogs, as far as a user can reach."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import tifffile
import yaml
from discs import discs
from qtpy.compat import isalive
from qtpy.QtCore import QEventLoop, QPoint, QPointF, Qt, QTimer
from qtpy.QtGui import QKeyEvent, QMouseEvent, QWheelEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QAbstractSlider,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QDialog,
    QDockWidget,
    QFileDialog,
    QInputDialog,
    QLineEdit,
    QMenu,
    QTabWidget,
    QWidget,
)  # fmt: skip
from superqt import QCollapsible

import napari_unet
from napari_unet.core.distribution import PLUGIN
from napari_unet.core.settings import NetworkSettings
from napari_unet.plugin.dock.lifecycle import EngineUse
from napari_unet.plugin.runtime.engine import Engine

MANIFEST = yaml.safe_load(Path(napari_unet.__file__).with_name("napari.yaml").read_text(encoding="utf-8"))
_CLASSES = {c["id"]: c["python_name"].rpartition(":")[2] for c in MANIFEST["contributions"]["commands"]}
DOCKS = {w["display_name"]: _CLASSES[w["command"]] for w in MANIFEST["contributions"]["widgets"]}
"""All docks of the package: the class by the name in the menu."""
TRAIN, SEGMENT, PROOFREAD, MEASURE, MODELS = (
    "Annotate and train",
    "Segment",
    "Proofread",
    "Measure and compare",
    "Models",
)
TINY_NETWORK = {"width": 4, "depth": 2}
TINY_TRAINING = {"patch": 64, "elastic": 0.0, "validate_every": 0.5, "device": "cpu"}
CONTROLS = (QAbstractButton, QAbstractItemView, QAbstractSlider, QAbstractSpinBox, QComboBox, QLineEdit, QTabWidget)
_EXPENSIVE = ("patch", "batch", "steps", *NetworkSettings.__dataclass_fields__)
"""Editors that are left alone: their larger values would only keep the computer busy."""
_ANSWER_MS = 15
_SIZE = (900, 640)


def controls(view: QWidget, path: str = "") -> Iterator[tuple[str, QWidget]]:
    """Yield everything in a view that a user can operate, each with the attributes that lead there."""
    for name, value in vars(view).items():
        if name.startswith("_"):
            continue
        parts = value.items() if isinstance(value, dict) else [("", value)]
        for key, part in parts:
            if not isinstance(part, QWidget) or key in _EXPENSIVE:
                continue
            where = ".".join(filter(None, (path, name, str(key))))
            if isinstance(part, CONTROLS) and not isinstance(part, QCollapsible):
                yield where, part
            elif type(part).__module__.startswith("napari_unet"):
                yield from controls(part, where)


class Desk:
    """A viewer with docks.

    Parameters
    ----------
    folder : Path
        Where file dialogs lead to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.viewer: Any = None
        self.answer = 0
        for seed in range(2):
            tifffile.imwrite(folder / f"picture {seed}.tif", discs((64, 64), seed)[0])
        self._own = {process.pid for process in psutil.Process().children(recursive=True)}
        self._dialogs = {name: getattr(QFileDialog, name) for name in _FILE_DIALOGS}
        for name, ask in _FILE_DIALOGS.items():
            setattr(QFileDialog, name, staticmethod(lambda *given, ask=ask, **more: ask(self)))
        self._answering = QTimer(interval=_ANSWER_MS)
        self._answering.timeout.connect(self._answer)
        self._answering.start()

    # --- the viewer ---------------------------------------------------------------------------------

    def open(self, viewer: Any) -> None:
        """Take a viewer, and open all docks in it."""
        self.viewer = viewer
        viewer.window._qt_window.resize(*_SIZE)
        for name in DOCKS:
            self.open_dock(name)

    def open_dock(self, name: str) -> None:
        """Open a dock by the menu, or bring it back."""
        self.viewer.window.add_plugin_dock_widget(PLUGIN, name)
        if name == TRAIN:
            self.make_tiny()

    def make_tiny(self) -> None:
        """Set training to a small network and a short time."""
        view = self.dock(TRAIN).view
        view.network.show_values(TINY_NETWORK)
        view.advanced.show_values(TINY_TRAINING)
        view.simple.show_values({"seconds": 2.0})

    def close(self) -> None:
        """Close the viewer as its user does."""
        self.viewer.close()
        self.viewer = None

    def put_away(self) -> None:
        """Give the file dialogs back."""
        self._answering.stop()
        for name, dialog in self._dialogs.items():
            setattr(QFileDialog, name, dialog)

    def children(self) -> list[psutil.Process]:
        """Return the processes that were started since, and live."""
        found = [p for p in psutil.Process().children(recursive=True) if p.pid not in self._own]
        return [process for process in found if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]

    def kill_engine(self) -> bool:
        """End the backend as a lack of memory does."""
        pid = Engine.shared().pid
        if pid is None or not psutil.pid_exists(pid):
            return False
        os.kill(pid, signal.SIGKILL)
        return True

    # --- docks and what is in them ------------------------------------------------------------------

    def dock(self, name: str) -> Any:
        """Return a dock that is open, or None."""
        found = [dock for dock in EngineUse.docks() if type(dock).__name__ == DOCKS[name]]
        return found[-1] if found else None

    def views(self) -> list[Any]:
        """Return the views of the docks that are open."""
        return [dock.view for dock in map(self.dock, DOCKS) if dock is not None]

    def frame(self, name: str) -> QDockWidget | None:
        """Return the frame with a dock's title bar."""
        parent: Any = self.dock(name)
        while parent is not None and not isinstance(parent, QDockWidget):
            parent = parent.parent()
        return parent

    def control(self, name: str, path: str) -> Any:
        """Bring something to operate on screen and return it; None when a user could not operate it now."""
        dock = self.dock(name)
        found = dict(controls(dock.view)).get(path) if dock is not None else None
        if found is None:
            return None
        self._uncover(found)
        return found if found.isVisible() and found.isEnabled() else None

    def _uncover(self, widget: QWidget) -> None:
        """Go to the tabs and unfold the folds that a widget is in."""
        inner, outer = widget, widget.parentWidget()
        while outer is not None:
            if isinstance(outer, QDockWidget):
                outer.raise_()
                return
            if isinstance(outer, QCollapsible) and not outer.isExpanded():
                outer.expand(animate=False)
            tabs = outer.parentWidget()
            if isinstance(tabs, QTabWidget) and tabs.indexOf(inner) >= 0:
                tabs.setCurrentWidget(inner)
            inner, outer = outer, outer.parentWidget()

    def click(self, widget: QWidget, answer: int = 0) -> None:
        """Click with the mouse; ``answer`` decides what is chosen in a menu or a dialog that comes up."""
        self.answer = answer
        QTest.mouseClick(widget, Qt.MouseButton.LeftButton)

    def _answer(self) -> None:
        """Choose in a menu, or answer a dialog."""
        popup, modal = QApplication.activePopupWidget(), QApplication.activeModalWidget()
        if isinstance(popup, QMenu):
            actions = [action for action in popup.actions() if action.isEnabled() and not action.isSeparator()]
            popup.close()
            if actions and self.answer % 4:
                actions[self.answer % len(actions)].trigger()
        elif isinstance(modal, QInputDialog) and self.answer % 4:
            modal.setTextValue(NAMES[self.answer % len(NAMES)])
            modal.accept()
        elif isinstance(modal, QDialog):
            modal.reject()
        else:
            self._close_dialogs()

    def _close_dialogs(self) -> None:
        """Close what stands beside the viewer, such as napari's preferences."""
        for widget in QApplication.topLevelWidgets():
            if isinstance(widget, QDialog) and widget.isVisible():
                widget.close()

    # --- the picture --------------------------------------------------------------------------------

    @property
    def canvas(self) -> QWidget:
        """The widget that shows the picture."""
        return self.viewer.window._qt_viewer.canvas.native

    def _at(self, x: float, y: float) -> QPointF:
        return QPointF(round(x * (self.canvas.width() - 1)), round(y * (self.canvas.height() - 1)))

    def _mouse(self, kind: Any, at: QPointF, button: Any, buttons: Any) -> None:
        globally = QPointF(self.canvas.mapToGlobal(at.toPoint()))
        event = QMouseEvent(kind, at, globally, button, buttons, Qt.KeyboardModifier.NoModifier)
        QApplication.sendEvent(self.canvas, event)

    def hover(self, x: float, y: float) -> None:
        """Move the mouse over the picture, to shares of its width and height."""
        nothing = Qt.MouseButton.NoButton
        self._mouse(QMouseEvent.Type.MouseMove, self._at(x, y), nothing, nothing)

    def drag(self, points: list[tuple[float, float]]) -> None:
        """Press, move over these places and release; one place is a click."""
        left, nothing = Qt.MouseButton.LeftButton, Qt.MouseButton.NoButton
        self.hover(*points[0])
        self._mouse(QMouseEvent.Type.MouseButtonPress, self._at(*points[0]), left, left)
        for point in points[1:]:
            self._mouse(QMouseEvent.Type.MouseMove, self._at(*point), nothing, left)
        if isalive(self.canvas):
            self._mouse(QMouseEvent.Type.MouseButtonRelease, self._at(*points[-1]), left, nothing)

    def wheel(self, x: float, y: float, turn: int) -> None:
        """Turn the wheel over the picture."""
        at = self._at(x, y)
        event = QWheelEvent(
            at, QPointF(self.canvas.mapToGlobal(at.toPoint())), QPoint(0, 0), QPoint(0, turn),
            Qt.MouseButton.NoButton, Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase, False,
        )  # fmt: skip
        QApplication.sendEvent(self.canvas, event)

    def key(self, words: str) -> None:
        """Press a key over the picture, such as ``N`` or ``Control+Z``."""
        *held, key = words.split("+")
        modifiers = Qt.KeyboardModifier.NoModifier
        for name in held:
            modifiers |= getattr(Qt.KeyboardModifier, f"{name}Modifier")
        text = key.lower() if len(key) == 1 else ""
        code = getattr(Qt.Key, f"Key_{ {'.': 'Period', ',': 'Comma'}.get(key, key) }")
        for kind in (QKeyEvent.Type.KeyPress, QKeyEvent.Type.KeyRelease):
            QApplication.sendEvent(self.canvas, QKeyEvent(kind, code, modifiers, text))


def run_loop(milliseconds: int, first: Callable[[], None] | None = None) -> None:
    """Let Qt's event loop run, and do something in it at first; what that raises is raised here."""
    loop = QEventLoop()
    raised: list[BaseException] = []

    def begin() -> None:
        try:
            if first is not None:
                first()
        except Exception as error:
            raised.append(error)
        finally:
            QTimer.singleShot(milliseconds, loop.quit)

    QTimer.singleShot(0, begin)
    loop.exec()
    if raised:
        raise raised[0]


# --- files and names --------------------------------------------------------------------------------------

NAMES = ("cells", "a copy", "", "  ", "<b>bold</b>", "%s {0} \\n", "../up", "zellkerne äöü 核", "x" * 120, "cells")
"""What somebody may type as a name; twice the same, and some that no file can have."""


def _save(desk: Desk) -> tuple[str, str]:
    """Return a file to write to, or nothing as when the dialog was cancelled."""
    if desk.answer % 5 == 0:
        return "", ""
    folder = desk.folder if desk.answer % 7 else desk.folder / "not there"
    return str(folder / f"saved {desk.answer % 3}"), ""


def _open(desk: Desk) -> tuple[str, str]:
    """Return a file to read: one that was exported, or one that is no model."""
    found = sorted(desk.folder.glob("saved *")) or [_no_model(desk.folder)]
    return ("", "") if desk.answer % 5 == 0 else (str(found[desk.answer % len(found)]), "")


def _folder(desk: Desk) -> str:
    return "" if desk.answer % 3 == 0 else str(desk.folder)


def _no_model(folder: Path) -> Path:
    path = folder / "saved no model.zip"
    path.write_bytes(np.arange(9, dtype=np.uint8).tobytes())
    return path


_FILE_DIALOGS: dict[str, Callable[[Desk], Any]] = {
    "getSaveFileName": _save, "getOpenFileName": _open, "getExistingDirectory": _folder,
}  # fmt: skip


def own_folder() -> tempfile.TemporaryDirectory[str]:
    """Return a folder for what is saved."""
    return tempfile.TemporaryDirectory(prefix="napari-unet-fuzz-", ignore_cleanup_errors=True)
