"""A dock's life: it keeps the engine while it is open, follows the theme, and notices when it is closed."""

from __future__ import annotations

import atexit
import contextlib
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from qtpy.compat import isalive
from qtpy.QtCore import QEvent, QObject, QTimer
from qtpy.QtWidgets import QDockWidget, QMainWindow, QWidget

from ...core.distribution import PLUGIN
from ..runtime.gc_pause import Hold
from ..runtime.mesa_workaround import steady
from ..widgets.tabs import TabName

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from ..runtime.engine import Engine, EngineJob

_PAINT_AFTER_MS = 15
_HALF_BRIGHT = 3 * 128
"""Sum of red, green and blue."""


def own_viewer(napari_viewer: Any) -> Any:
    """Return the viewer itself rather than the proxy that napari hands to plugins.

    The proxy wraps each layer anew whenever it is asked for, so that no two are identical; jobs refer
    to layers by identity.
    """
    return getattr(napari_viewer, "__wrapped__", napari_viewer)


def connect_job(
    job: EngineJob, on_event: Callable[[Any], None], on_failed: Callable[[str], None], on_done: Callable[[], None]
) -> None:
    """Listen to a job."""
    job.event.connect(on_event)
    job.failed.connect(on_failed)
    job.done.connect(on_done)


def abandon_job(job: EngineJob | None) -> None:
    """Stop a job and listen to it no more, because who listened is going away."""
    if job is not None:
        for signal in (job.event, job.failed, job.done):
            signal.disconnect()
        job.stop()


@contextlib.contextmanager
def painted_later(widget: QWidget, then: Callable[[], None] | None = None) -> Iterator[None]:
    """Have the widget's window painted in a later turn of the event loop than what is done in this context.

    Adding a layer and painting it each take a while; apart, the viewer answers in between. Nor is Python looking
    for garbage meanwhile, which takes as long.

    Parameters
    ----------
    widget : QWidget
        In the window.
    then : callable, optional
        Called in a further turn, after the painting, if the window is still there.
    """
    window = widget.window()
    window.setUpdatesEnabled(False)

    def paint() -> None:
        if isalive(window):
            window.setUpdatesEnabled(True)
            if then is not None:
                QTimer.singleShot(_PAINT_AFTER_MS, then)

    try:
        with Hold():
            yield
    finally:
        QTimer.singleShot(_PAINT_AFTER_MS, paint)


def disconnect_from(sender: QObject, signal: str, slot: Callable[..., Any]) -> None:
    """Listen to a signal no more; at the end of the process the sender may be gone already."""
    if isalive(sender):
        getattr(sender, signal).disconnect(slot)


class EngineUse:
    """The shared engine for a dock, which is closed when the last dock is gone.

    A dock is gone when napari takes it out of its window, when the window is closed, or when it is
    destroyed; Qt tells each of these in another way.

    Parameters
    ----------
    dock : QWidget
        The widget that napari puts into its window.
    """

    _open: ClassVar[list[EngineUse]] = []

    def __init__(self, dock: QWidget) -> None:
        # Held weakly, or what Qt holds of this would keep the dock alive.
        self._dock = weakref.ref(dock)
        self._on_close: list[Callable[[], None]] = []
        self._open.append(self)
        # Its parent, the dock, keeps it.
        _DockEvents(dock, self.close)
        dock.destroyed.connect(lambda: self.close())

    @property
    def engine(self) -> Engine:
        """The engine of this process."""
        from ..runtime.engine import Engine
        from ..settings.preferences import engine_address

        return Engine.shared(engine_address)

    @property
    def is_open(self) -> bool:
        """Whether the dock was not closed yet."""
        return self in self._open

    @classmethod
    def docks(cls) -> list[QWidget]:
        """Return the docks that are open."""
        docks = [use._dock() for use in cls._open]
        return [dock for dock in docks if dock is not None and isalive(dock)]

    def on_close(self, function: Callable[[], None]) -> None:
        """Have a function called once, when the dock is gone; its widgets may be deleted by then."""
        if self.is_open:
            self._on_close.append(function)
        else:
            function()

    def start(self) -> None:
        """Start the engine, if the dock is still open."""
        if self.is_open:
            self.engine.start()

    def close(self) -> None:
        """Tell the dock to stop its work; close the engine after the last dock."""
        if not self.is_open:
            return
        self._open.remove(self)
        for function in self._on_close:
            function()
        self._on_close.clear()
        if not self._open:
            self.engine.close()


# When Python ends, Qt destroys docks in any order with what they would close; the engine has its own exit.
atexit.register(EngineUse._open.clear)


def open_dock(viewer: Any, name: str) -> None:
    """Open a dock of this plugin, or bring it to the front."""
    frame, _ = viewer.window.add_plugin_dock_widget(PLUGIN, name)
    # Napari returns a dock that is open already as it is, behind others or hidden.
    frame.show()
    frame.raise_()


def gather(dock: QWidget) -> None:
    """Put a dock behind the same tab bar as the one that is open already, where each has its full height."""
    window, frame = dock.window(), _frame(dock)
    others = [_frame(other) for other in EngineUse.docks() if other is not dock]
    for other in others:
        if not isinstance(window, QMainWindow) or frame is None or other is None or other.window() is not window:
            continue
        if window.dockWidgetArea(frame) == window.dockWidgetArea(other) and not window.tabifiedDockWidgets(frame):
            window.tabifyDockWidget(other, frame)
            # Later: the tab bar is not there yet.
            QTimer.singleShot(0, lambda: frame.raise_() if isalive(frame) else None)
            # The others are behind that bar too; each further move would take as long as the first.
            return


def name_tab(dock: Any) -> None:
    """Have the tab of a :class:`~napari_unet.plugin.dock.base.Dock` bear its short name, in the viewer's theme."""
    frame = _frame(dock)
    if frame is not None and dock.tab and frame.findChild(TabName) is None:
        tab = TabName(frame, dock.tab)
        watch = ThemeWatch(dock.viewer, lambda kind, _: tab.set_theme(kind))
        dock.use.on_close(watch.close)


def _frame(dock: QWidget) -> QDockWidget | None:
    """Return the frame that napari has put around a dock."""
    parent: Any = dock.parent()
    while parent is not None and not isinstance(parent, QDockWidget):
        parent = parent.parent()
    return parent


class _DockEvents(QObject):
    """Follows a dock into and out of its window."""

    # Here too, because PySide delivers events to an object whose own attributes are gone already.
    _dock: QWidget | None = None
    _window: weakref.ref[QWidget] | None = None

    def __init__(self, dock: QWidget, gone: Callable[[], None]) -> None:
        super().__init__(dock)
        self._dock, self._gone = dock, gone
        # Held weakly, or the window would live for as long as what it contains.
        self._window = None
        self._docked = False
        dock.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Notice new parents of the dock, and the closing of its window."""
        if watched is self._dock and event.type() == QEvent.Type.ParentChange:
            # At once, as a dock may be opened and closed in one turn of the event loop.
            self._docked = self._docked or self._dock.parent() is not None
            # Later: napari parents the dock first, and puts its frame into the window after that.
            QTimer.singleShot(0, self._on_parent)
        elif watched is self._own_window() and event.type() == QEvent.Type.Close:
            # Later: napari may refuse to close; what counts is whether the window is still there.
            QTimer.singleShot(0, self._on_window_close)
        return False

    def _on_parent(self) -> None:
        dock = self._dock
        if dock is None or not isalive(self) or not isalive(dock):
            return
        if dock.parent() is None and self._docked:
            self._gone()
            # Nobody else deletes it here, in Qt's thread. Left to Python's garbage collection, which runs in
            # whatever thread is busy, a widget takes PySide down with it.
            dock.deleteLater()
        elif dock.parent() is not None:
            name_tab(dock)
            gather(dock)
            steady(dock.window())
            window = self._own_window()
            if window is not None:
                window.removeEventFilter(self)
            self._window = weakref.ref(dock.window())
            dock.window().installEventFilter(self)

    def _own_window(self) -> QWidget | None:
        window = self._window() if self._window is not None else None
        return window if window is not None and isalive(window) else None

    def _on_window_close(self) -> None:
        window = self._own_window()
        if self._dock is not None and (window is None or not window.isVisible()):
            self._gone()


def theme_of(viewer: ViewerModel) -> tuple[str, str]:
    """Return whether the viewer's theme is ``"dark"`` or ``"light"``, and its background colour."""
    from napari.utils.theme import get_theme

    # Judged by its colour: a napari before 0.7 does not say what kind a theme is.
    background = get_theme(viewer.theme).background
    return "dark" if sum(background.as_rgb_tuple()[:3]) < _HALF_BRIGHT else "light", background.as_hex()


class ThemeWatch:
    """Tells a view whether napari's theme is dark or light, and its background, now and at each change."""

    def __init__(self, viewer: ViewerModel, tell: Callable[[str, str], None]) -> None:
        self._viewer, self._tell = viewer, tell
        viewer.events.theme.connect(self._on_theme)
        self._on_theme()

    def _on_theme(self, event: Any = None) -> None:
        self._tell(*theme_of(self._viewer))

    def close(self) -> None:
        """Stop following."""
        self._viewer.events.theme.disconnect(self._on_theme)
