"""What all docks are: a view that scrolls, its controller, the engine while it is open, the viewer's theme."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from qtpy.QtCore import QSize, QTimer
from qtpy.QtWidgets import QVBoxLayout, QWidget

from .choices import Choice, Remembering
from .docking import EngineUse, ThemeWatch, own_viewer, theme_of
from .engine_status import EngineStatus
from .keyboard import show_theme
from .parts import DOCK_WIDTH, listed, scrolled
from .preferences_dialog import open_preferences
from .preferring import tell_refusals

if TYPE_CHECKING:
    import napari

_HEIGHT = 700
_TURN_MS = 5
"""More than 0, which Qt takes for the end of the same turn; what waits is answered in between."""


class Controller(Protocol):
    """What answers to the user."""

    def close(self) -> None:
        """Stop what is under way; the dock is gone."""


Made = tuple[Any, Controller, Sequence[Choice]]
"""View, controller, and what is remembered."""


class Dock(QWidget):
    """The base of the docks; a subclass makes view and controller in :meth:`make`.

    They are made a few turns of the event loop after the click that opens the dock, or as soon as they are asked for:
    napari's window, the preferences and the widgets each take a while, between which the viewer answers.

    Parameters
    ----------
    napari_viewer : napari.Viewer
        Whose layers and theme the dock works with.
    """

    make: Callable[..., Made]
    """Returns the view, which has ``set_theme`` and ``gear``, a :class:`~napari_unet.plugin.parts.GearButton`; the
    controller; and what is remembered of the dock. Each subclass has its own."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__()
        self.viewer = own_viewer(napari_viewer)
        self.use = EngineUse(self)
        self._parts: tuple[Any, Any] | None = None
        self._turn = QTimer(self, singleShot=True, interval=_TURN_MS)
        self._turn.timeout.connect(self._prepare)
        self._turn.start()

    @property
    def view(self) -> Any:
        """The widgets of the dock."""
        return self._made()[0]

    @property
    def controller(self) -> Any:
        """What answers to the user."""
        return self._made()[1]

    def _prepare(self) -> None:
        """Read the preferences, then make the rest in another turn."""
        if self.use.is_open and self._parts is None:
            tell_refusals()
            self._turn.timeout.disconnect(self._prepare)
            self._turn.timeout.connect(self._fill)
            self._turn.start()

    def _fill(self) -> None:
        if self.use.is_open:
            self._made()

    def _made(self) -> tuple[Any, Any]:
        if self._parts is None:
            tell_refusals()
            view, controller, choices = self.make()
            self._parts = (view, controller)
            self._run(view, controller, choices)
        return self._parts

    def _run(self, view: Any, controller: Controller, choices: Sequence[Choice]) -> None:
        """Show the view with what was chosen before; close the controller with the dock."""
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(scrolled(view))
        if hasattr(controller, "engine"):
            status = EngineStatus(self.use.engine, view)
            layout.addWidget(status)
            self.use.on_close(status.close_status)
        self._theme = ThemeWatch(self.viewer, partial(show_theme, view))
        self._kept = Remembering(self.viewer, type(self).__name__, choices)
        # Methods of this widget, as PySide would keep it alive for a function that knows it.
        view.gear.preferences.connect(self._open_preferences)
        view.gear.put_back.connect(self._put_back)
        view.gear.put_back_action.setVisible(self._kept.can_put_back())
        if self._kept.fresh and self._kept.differing():
            view.messages.say(f"As you left it last time: {listed(self._kept.differing())}. \u2699 puts it back.")
        self.use.on_close(self._kept.close)
        self.use.on_close(controller.close)
        self.use.on_close(self._theme.close)

    def _open_preferences(self) -> None:
        open_preferences(self.window(), theme_of(self.viewer)[0])

    def _put_back(self) -> None:
        self._kept.put_back()

    def sizeHint(self) -> QSize:
        """Return a size that leaves the picture its room."""
        return QSize(DOCK_WIDTH, _HEIGHT)
