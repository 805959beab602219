"""Common parts of the docks: headings, rows, progress, messages."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import Any

from qtpy.compat import isalive
from qtpy.QtCore import QSize, Qt, QTimer, Signal
from qtpy.QtGui import QIcon, QPixmap
from qtpy.QtWidgets import (
    QApplication,
    QFrame,
    QHBoxLayout,
    QLabel,
    QMenu,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)  # fmt: skip
from superqt import QCollapsible

from ...core.errors import DataError

# Told apart by sign and word as well as by colour; contrast over 4.5 : 1 on napari's backgrounds.
_COLOURS = {
    "dark": {"error": "#ffab91", "warning": "#ffd54f", "note": "#f0f1f2", "done": "#80cbc4"},
    "light": {"error": "#a3260f", "warning": "#6b4e00", "note": "#1e1e21", "done": "#00574b"},
}
DOCK_WIDTH = 330
"""Pixels; leaves the picture room on a screen of 1280."""
_TEXT_WIDTH = DOCK_WIDTH - 32
"""Pixels that a dock leaves for words between its margins and beside its scroll bar."""
# Blue as napari's own selection, darkened or lightened until its text has a contrast of 4.5 : 1.
_MAIN_BUTTON = {
    "dark": ("#3f58b5", "#4d69d1", "#ffffff"),
    "light": ("#a0b8ff", "#b9cbff", "#10142b"),
}
_LONG_WORD, _PIECE = 24, re.compile(r"\S{4}(?=\S)")
_SIGNS = {"error": "✖", "warning": "⚠", "note": "•", "done": "✔"}


def breakable(text: str) -> str:
    """Return a text whose long words, such as the names of some files, may be broken where they meet a border."""
    # Paths as they are: they break at their slashes, and are copied.
    words = text.split(" ")
    kept = [len(word) <= _LONG_WORD or "/" in word or "\\" in word for word in words]
    return " ".join(
        word if whole else _PIECE.sub("\\g<0>\u200b", word) for word, whole in zip(words, kept, strict=True)
    )


class Messages(QLabel):
    """Messages to the user."""

    def __init__(self) -> None:
        super().__init__()
        self.setWordWrap(True)
        self.setTextFormat(Qt.TextFormat.RichText)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.setAlignment(Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignLeft)
        # A label that wraps has to be told that it may grow, or its last lines are cut off.
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.MinimumExpanding)
        self._theme = "dark"
        self._lines: list[tuple[str, str]] = []

    def sizeHint(self) -> QSize:
        """Return the room that the words need in a dock; Qt would guess at a narrow column, and have it scrolled."""
        return QSize(_TEXT_WIDTH, max(0, self.heightForWidth(_TEXT_WIDTH)) if self.text() else 0)

    def set_theme(self, kind: str) -> None:
        """Fit the colours to a ``"dark"`` or ``"light"`` background."""
        self._theme = kind if kind in _COLOURS else "dark"
        self._render()

    def clear_messages(self) -> None:
        """Show nothing."""
        self._lines = []
        self._render()

    def say(self, text: str, kind: str = "note") -> None:
        """Add a line; kinds are ``"note"``, ``"done"``, ``"warning"`` and ``"error"``. The last four are kept."""
        if text and (kind, text) not in self._lines:
            self._lines = [*self._lines, (kind, text)][-4:]
        self._render()
        # Later: first the layout has to make room for it.
        QTimer.singleShot(0, self._come_into_view)

    def clear_notes(self) -> None:
        """Leave out what was only worth knowing meanwhile; warnings and errors stay."""
        self._lines = [(kind, text) for kind, text in self._lines if kind != "note"]
        self._render()

    def lines(self) -> list[tuple[str, str]]:
        """Return the shown (kind, text) pairs."""
        return list(self._lines)

    def _come_into_view(self) -> None:
        """Have the dock scrolled to where the newest words are, or a small screen would hide them."""
        area: Any = self.parent() if isalive(self) else None
        while area is not None and not isinstance(area, QScrollArea):
            area = area.parent()
        if area is not None and self._lines:
            area.ensureVisible(0, self.geometry().bottom(), 0, 4)

    def _render(self) -> None:
        colours = _COLOURS[self._theme]
        rows = [
            f'<p style="margin:1px 0; color:{colours[kind]}">{_SIGNS[kind]} {html.escape(breakable(text))}</p>'
            for kind, text in self._lines
        ]
        self.setText("".join(rows))


class ProgressBar(QProgressBar):
    """A progress bar with the remaining time."""

    def __init__(self) -> None:
        super().__init__()
        self.setRange(0, 1000)
        self.setTextVisible(True)
        self.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.rest()

    def text(self) -> str:
        """Return the words on the bar; Qt shows none while the length of the work is not known."""
        return self.format() if self.maximum() == 0 else super().text()

    def rest(self, text: str = "") -> None:
        """Show that nothing runs."""
        self.setRange(0, 1000)
        self.setValue(0)
        self.setFormat(text)

    def wait(self, text: str) -> None:
        """Show work whose length is not known."""
        self.setRange(0, 0)
        self.setFormat(text)

    def advance(self, fraction: float, text: str) -> None:
        """Show a fraction of the work, 0 to 1."""
        self.setRange(0, 1000)
        self.setValue(int(1000 * min(1.0, max(0.0, fraction))))
        self.setFormat(text)


def time_left(seconds: float | None) -> str:
    """Return "12 s left" or "3 min left"; nothing when unknown."""
    if seconds is None:
        return ""
    return f"{seconds:.0f} s left" if seconds < 100 else f"{seconds / 60:.0f} min left"


class GearButton(QToolButton):
    """Opens the preferences, or puts the settings of a dock back.

    Attributes
    ----------
    preferences : Signal()
        The preferences are asked for.
    put_back : Signal()
        The settings of the dock shall be as at the very first.
    """

    preferences = Signal()
    put_back = Signal()

    def __init__(self) -> None:
        super().__init__()
        # The second sign asks for text rather than a coloured picture.
        self.setText("\u2699\ufe0e")
        self.setToolTip("<span>Preferences for every dock: computer, model folder, keys.</span>")
        self.setAutoRaise(True)
        self.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.setStyleSheet("QToolButton::menu-indicator { image: none; } QToolButton { font-size: 15px; padding: 0; }")
        menu = QMenu(self)
        menu.addAction("Preferences ...").triggered.connect(self._ask_preferences)
        self.put_back_action = menu.addAction("Reset the settings of this dock")
        self.put_back_action.triggered.connect(self._ask_put_back)
        self.setMenu(menu)

    def _ask_preferences(self, *_: object) -> None:
        self.preferences.emit()

    def _ask_put_back(self, *_: object) -> None:
        self.put_back.emit()


def heading(text: str) -> QLabel:
    """Return a section heading."""
    label = QLabel(f"<b>{text}</b>")
    label.setContentsMargins(0, 4, 0, 0)
    return label


def listed(words: Sequence[str], most: int = 3) -> str:
    """Return words as a list in a sentence: the first few of them, and how many more there are."""
    more = len(words) - most
    return ", ".join(words[:most]) + (f" and {more} more" if more > 0 else "")


def folded(title: str, content: QWidget) -> QCollapsible:
    """Return the content under a title, folded away until the title is clicked."""
    # The arrow is part of the text: superqt paints its own in black, whatever the theme. A null icon would
    # not do, as PySide takes it for none.
    nothing = QPixmap(1, 1)
    nothing.fill(Qt.GlobalColor.transparent)
    fold = QCollapsible(f"▸ {title}", expandedIcon=QIcon(nothing), collapsedIcon=QIcon(nothing))
    fold.toggled.connect(lambda expanded: fold.setText(f"{'▾' if expanded else '▸'} {title}"))
    # What is folded away is only of no height: the Tab key would lead through all of it.
    fold.toggled.connect(content.setVisible)
    fold.layout().setContentsMargins(0, 0, 0, 0)
    fold.setDuration(0)
    fold.addWidget(content)
    content.hide()
    return fold


def scrolled(content: QWidget) -> QScrollArea:
    """Return a frameless area that scrolls the content up and down only."""
    area = QScrollArea()
    area.setWidgetResizable(True)
    area.setFrameShape(QFrame.Shape.NoFrame)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    area.setWidget(content)
    area.setMinimumWidth(DOCK_WIDTH)
    return area


def button(text: str, tooltip: str) -> QPushButton:
    """Return a push button with a wrapped tooltip."""
    made = QPushButton(text)
    made.setToolTip(f"<span>{tooltip}</span>")
    return made


def dress_main_button(made: QPushButton, theme: str) -> None:
    """Make the button stand out as the one to click next."""
    plain, hover, text = _MAIN_BUTTON.get(theme, _MAIN_BUTTON["dark"])
    made.setStyleSheet(
        f"QPushButton:enabled {{ background: {plain}; color: {text}; font-weight: bold; }}"
        f"QPushButton:enabled:hover {{ background: {hover}; }}"
    )


def row(*widgets: QWidget, stretch: Sequence[int] = ()) -> QWidget:
    """Return widgets side by side."""
    box = QWidget()
    layout = QHBoxLayout(box)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(4)
    for i, widget in enumerate(widgets):
        layout.addWidget(widget, stretch[i] if i < len(stretch) else 0)
    return box


def column(*widgets: QWidget, spacing: int = 4) -> QWidget:
    """Return widgets below each other."""
    box = QWidget()
    layout = QVBoxLayout(box)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(spacing)
    for widget in widgets:
        layout.addWidget(widget)
    return box


def count(number: int, thing: str, plural: str = "s") -> str:
    """Return "1 cell" or "12 cells"."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}{plural}"


def to_clipboard(text: str) -> None:
    """Put a text into the clipboard."""
    clipboard = QApplication.clipboard()
    if clipboard is None:
        raise DataError("There is no clipboard on this screen.")
    clipboard.setText(text)
