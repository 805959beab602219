"""Tabs of stacked docks: short names that are never cut off, with the whole name as tooltip."""

from __future__ import annotations

from qtpy.compat import isalive
from qtpy.QtCore import QObject, Qt, QTimer
from qtpy.QtWidgets import QDockWidget, QTabBar

from .focus import tab_style


class TabName(QObject):
    """Has the tab of a dock bear a short name.

    Qt takes a dock's title for its tab, and shortens all of them to a few letters where they do not fit beside each
    other: "Anno...", "Se...", "P...". Napari's own title above the dock, and the Window menu, keep the whole name.

    Parameters
    ----------
    frame : QDockWidget
        What napari has put around the dock; keeps this.
    name : str
        The short name.
    """

    def __init__(self, frame: QDockWidget, name: str) -> None:
        super().__init__(frame)
        self._frame, self._name, self._kind = frame, name, "dark"
        self._whole, action = frame.windowTitle(), frame.toggleViewAction()
        in_menu = action.text()
        frame.setWindowTitle(name)
        # Qt gives the entry in the menu the new title too.
        action.setText(in_menu)
        # Later: a tab comes after its dock.
        self._later = QTimer(self, singleShot=True, interval=0)
        self._later.timeout.connect(self._dress)
        frame.visibilityChanged.connect(self._on_visible)
        self._later.start()

    def set_theme(self, kind: str) -> None:
        """Fit the frame around the tab that the keyboard is on to a ``"dark"`` or ``"light"`` theme."""
        if isalive(self):
            self._kind = kind
            self._later.start()

    def _on_visible(self, visible: bool) -> None:
        self._later.start()

    def _dress(self) -> None:
        """Let the bar scroll rather than shorten names, tell the whole name at the tab, and show the keyboard."""
        window = self._frame.parent() if isalive(self) and isalive(self._frame) else None
        if window is None:
            return
        for bar in window.findChildren(QTabBar, options=Qt.FindChildOption.FindDirectChildrenOnly):
            for index in range(bar.count()):
                if bar.tabText(index) == self._name:
                    bar.setElideMode(Qt.TextElideMode.ElideNone)
                    bar.setUsesScrollButtons(True)
                    bar.setTabToolTip(index, self._whole)
                    if bar.styleSheet() != tab_style(self._kind):
                        bar.setStyleSheet(tab_style(self._kind))
