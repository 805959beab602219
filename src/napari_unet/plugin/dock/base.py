"""The base of all docks: a view that scrolls, its controller, the engine while it is open, the viewer's theme.

Loading this module is part of the click that opens a dock; what only the content of a dock needs is loaded later.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from qtpy.QtCore import QSize, Qt, QTimer
from qtpy.QtWidgets import QLabel, QScrollArea, QSizePolicy, QVBoxLayout, QWidget

from ..widgets.common import DOCK_WIDTH, listed, scrolled
from ..widgets.focus import show_theme
from .lifecycle import EngineUse, ThemeWatch, own_viewer, theme_of

if TYPE_CHECKING:
    import napari

    from .state import StateEntry

_HEIGHT = 700
_LOADED_FIRST = (
    "napari_unet.core.data.annotation",
    "napari_unet.stores",
    "napari_unet.engine",
    "napari_unet.plugin.runtime.engine",
    "napari_unet.plugin.dock.follow_preferences",
    "napari_unet.plugin.dock.state",
)
"""Modules that every dock needs, each loaded in a fraction of the time that a click may take."""
_TURN_MS = 5
"""More than 0, which Qt takes for the end of the same turn; what waits is answered in between."""


class Controller(Protocol):
    """The controller of a dock."""

    def close(self) -> None:
        """Stop what is under way; the dock is gone."""


class Dock(QWidget):
    """The base of the docks; a subclass makes view and controller.

    A dock is filled in several turns of the event loop after the click that opens it, or as soon as its view or its
    controller is asked for: modules, preferences, widgets and layers each take a while, between which the viewer
    answers.

    Parameters
    ----------
    napari_viewer : napari.Viewer
        Whose layers and theme the dock works with.
    """

    loads: ClassVar[Sequence[str]] = ()
    """Modules that view and controller are made of, loaded in a turn each, by their absolute names."""

    tab: ClassVar[str] = ""
    """What its tab says where docks lie behind each other; each subclass has its own."""

    make_view: Callable[..., Any]
    """Returns the view, which has ``set_theme`` and ``gear``, a
    :class:`~napari_unet.plugin.widgets.common.GearButton`; each subclass has its own."""

    make_controller: Callable[..., tuple[Controller, Sequence[StateEntry]]]
    """Returns, for the view, the controller and what is remembered of the dock; each subclass has its own."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__()
        self.viewer = own_viewer(napari_viewer)
        self.use = EngineUse(self)
        # Loading takes a second or more on a busy machine, where an empty panel would look broken.
        self._waiting = QLabel("One moment \u2026", self, alignment=Qt.AlignmentFlag.AlignCenter)
        # What takes all the room keeps napari from adding a stretch below.
        self._waiting.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._waiting)
        self._area: QScrollArea | None = None
        self._parts: tuple[Any, Any] | None = None
        self._taken = 0
        self._turn = QTimer(self, singleShot=True, interval=_TURN_MS)
        self._turn.timeout.connect(self._take_turn)
        self._turn.start()

    @property
    def view(self) -> Any:
        """The widgets of the dock."""
        return self._made()[0]

    @property
    def controller(self) -> Any:
        """The controller of a dock."""
        return self._made()[1]

    @property
    def is_filled(self) -> bool:
        """Whether view and controller are made and shown."""
        return self._taken == len(self._steps())

    # --- filling it ------------------------------------------------------------------------------

    def _steps(self) -> list[Callable[[], Any]]:
        """Return what fills the dock, a turn each."""
        first, more = ([partial(import_module, name) for name in names] for names in (_LOADED_FIRST, self.loads))
        # The engine first: it loads torch while the rest is made.
        begin: list[Callable[[], Any]] = [_read_preferences, _warn_of_clash, self.use.start]
        return [*first, *begin, *more, self._make_view, self._make_controller, self._colour, self._show]

    def _step(self) -> bool:
        """Take the next step; return whether there was one."""
        steps = self._steps()
        if self._taken == len(steps):
            return False
        steps[self._taken]()
        self._taken += 1
        return True

    def _take_turn(self) -> None:
        if self.use.is_open and self._step():
            self._turn.start()

    def _made(self) -> Any:
        """Return view and controller; what is still to be done is done now."""
        while self._step():
            pass
        return self._parts

    def _make_view(self) -> None:
        """Make the widgets, and hide them until they work."""
        self._area = scrolled(self.make_view())
        self._area.hide()
        # In the dock from the first, for Qt to delete them with it.
        self._area.setParent(self)

    def _make_controller(self) -> None:
        view = self._area.widget() if self._area is not None else None
        self._run(view, *self.make_controller(view))

    def _run(self, view: Any, controller: Controller, choices: Sequence[StateEntry]) -> None:
        """Show what was chosen before; close the controller with the dock."""
        from .state import Remembering

        self._kept = Remembering(self.viewer, type(self).__name__, choices)
        self.use.on_close(self._kept.close)
        self.use.on_close(controller.close)
        # Methods of this widget, as PySide would keep it alive for a function that knows it.
        view.gear.preferences.connect(self._open_preferences)
        view.gear.put_back.connect(self._put_back)
        view.gear.put_back_action.setVisible(self._kept.can_put_back())
        if self._kept.fresh and self._kept.differing():
            view.messages.say(f"As you left it last time: {listed(self._kept.differing())}. \u2699 puts it back.")
        self._parts = (view, controller)

    def _colour(self) -> None:
        """Give the widgets, which are still hidden, the theme's colours."""
        view, _ = self._parts or (None, None)
        self._theme = ThemeWatch(self.viewer, partial(show_theme, view))
        self.use.on_close(self._theme.close)

    def _show(self) -> None:
        """Show the widgets."""
        from .engine_status import EngineStatus

        view, controller = self._parts or (None, None)
        layout = self.layout()
        layout.removeWidget(self._waiting)
        self._waiting.deleteLater()
        layout.addWidget(self._area)
        if hasattr(controller, "engine"):
            status = EngineStatus(self.use.engine, view)
            layout.addWidget(status)
            self.use.on_close(status.close_status)
        if self._area is not None:
            self._area.show()

    # --- the gear --------------------------------------------------------------------------------

    def _open_preferences(self) -> None:
        from .preferences_dialog import open_preferences

        open_preferences(self.window(), theme_of(self.viewer)[0])

    def _put_back(self) -> None:
        self._kept.put_back()

    def sizeHint(self) -> QSize:
        """Return a size that leaves the picture its room."""
        return QSize(DOCK_WIDTH, _HEIGHT)


@cache
def _warn_of_clash() -> None:
    """Have napari say, once in its life, that another team's plugin overwrites files of this one."""
    from ...core.distribution import clash

    if warning := clash():
        from napari.utils.notifications import show_warning

        show_warning(warning)


def _read_preferences() -> None:
    from .follow_preferences import tell_refusals

    tell_refusals()
