"""Keyboard control of docks: keys for their main buttons, and a frame around the focused widget."""

from __future__ import annotations

import weakref
from typing import Any

from qtpy.compat import isalive
from qtpy.QtCore import QEvent, QObject, QPoint, QRect
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import QAbstractButton, QScrollArea, QShortcut, QWidget

MAIN_KEY, AGAIN_KEY = "Ctrl+Enter", "Ctrl+Shift+Enter"
"""What presses the main button of the dock in front, and the button that goes on with what it did."""

# Napari's own style shows no focus. Contrast over 3 : 1 on buttons, lists and the background.
_FRAME = {"dark": "#b3c4ff", "light": "#1b2a80"}
_UNTICKED = {"dark": "#a0a4aa", "light": "#5c5c5c"}
_FRAMED = (
    "QPushButton", "QToolButton", "QCheckBox", "QRadioButton", "QComboBox", "QAbstractSpinBox", "QLineEdit",
    "QAbstractItemView", "QAbstractSlider",
)  # fmt: skip


def give_key(made: QAbstractButton, key: str) -> None:
    """Let a key press a button wherever the keyboard is, as long as its dock is in front and it can be clicked.

    The key is added to its tooltip.

    Parameters
    ----------
    made : QAbstractButton
        The button, with its tooltip.
    key : str
        With Enter for both keys of that name, such as :data:`MAIN_KEY`. Buttons of several docks may share it.
    """
    # The button keeps it.
    _OnShow(made, (key, key.replace("Enter", "Return")))
    made.setToolTip(made.toolTip().replace("</span>", f" Key: {key}.</span>"))


class _OnShow(QObject):
    """Tells a window's keys of a button when that is shown in it; before, a button is in no window."""

    def __init__(self, made: QAbstractButton, keys: tuple[str, ...]) -> None:
        super().__init__(made)
        self._keys = keys
        made.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Follow the button into a window, or into another one when its dock is taken out."""
        if event.type() == QEvent.Type.Show and isinstance(watched, QAbstractButton):
            for key in self._keys:
                _WindowKey.of(watched.window(), key).add(watched)
        return False


class _WindowKey(QShortcut):
    """A key of a window, which presses the one of its buttons that is in front.

    One for all docks: Qt takes those behind the one in front for visible too, and their keys for ambiguous.
    """

    def __init__(self, window: QWidget, key: str) -> None:
        super().__init__(QKeySequence(key), window)
        self._buttons: list[weakref.ref[QAbstractButton]] = []
        self.activated.connect(self._press)

    @classmethod
    def of(cls, window: QWidget, key: str) -> _WindowKey:
        """Return the one of a window, made when there is none."""
        known = [found for found in window.findChildren(cls) if found.key() == QKeySequence(key)]
        return known[0] if known else cls(window, key)

    def add(self, made: QAbstractButton) -> None:
        """Press this button too, when it is in front."""
        if made not in self._there():
            self._buttons.append(weakref.ref(made))

    def _there(self) -> list[QAbstractButton]:
        found = [ref() for ref in self._buttons]
        return [made for made in found if made is not None and isalive(made)]

    def _press(self) -> None:
        for made in self._there():
            if made.isEnabled() and made.window() is self.parent() and is_in_front(made):
                made.click()
                return


def is_in_front(widget: QWidget) -> bool:
    """Return whether a widget is shown in a dock that is in front; it may be scrolled out of view there."""
    area: Any = widget
    while area is not None and not isinstance(area, QScrollArea):
        area = area.parent()
    area = widget if area is None else area
    window = widget.window()
    # Qt moves the docks behind out of the window, and goes on to call them visible.
    return widget.isVisible() and QRect(area.mapTo(window, QPoint(0, 0)), area.size()).intersects(window.rect())


def show_theme(view: Any, kind: str, background: str) -> None:
    """Fit a view to a theme, with what the keyboard acts on in a frame.

    Parameters
    ----------
    view : QWidget
        Has ``set_theme``.
    kind : str
        ``"dark"`` or ``"light"``.
    background : str
        The colour of the theme's background.
    """
    view.set_theme(kind, background)
    view.setStyleSheet(keyboard_style(kind))


def keyboard_style(kind: str) -> str:
    """Return the style that shows where the keyboard is, and boxes in lists without their tick."""
    framed = ", ".join(f"{name}:focus" for name in _FRAMED)
    colour, box = _FRAME.get(kind, _FRAME["dark"]), _UNTICKED.get(kind, _UNTICKED["dark"])
    return (
        f"{framed} {{ border: 2px solid {colour}; }}{tab_style(kind)}"
        f"QListWidget::indicator:unchecked {{ border: 1px solid {box}; width: 11px; height: 11px; }}"
    )


def tab_style(kind: str) -> str:
    """Return the style that shows when the keyboard is on tabs."""
    # With the focus behind the tab: before it, Qt draws corners of the frame between all tabs, focus or not.
    return f"QTabBar::tab:selected:focus {{ border: 2px solid {_FRAME.get(kind, _FRAME['dark'])}; }}"
