"""A dock's life: it keeps the engine while it is open, follows the theme, and notices when it is closed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, QObject, QTimer, Signal
from qtpy.QtWidgets import QWidget

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from .runner import Job


def own_viewer(napari_viewer: Any) -> Any:
    """Return the viewer itself rather than the proxy that napari hands to plugins.

    The proxy wraps each layer anew whenever it is asked for, so that no two are identical; jobs refer
    to layers by identity.
    """
    return getattr(napari_viewer, "__wrapped__", napari_viewer)


def connect_job(job: Job, on_event: Callable[[Any], None], on_failed: Callable[[str], None], on_done: Callable[[], None]) -> None:
    """Listen to a job."""
    job.event.connect(on_event)
    job.failed.connect(on_failed)
    job.done.connect(on_done)


def abandon_job(job: Job | None) -> None:
    """Stop a job and listen to it no more, because who listened is going away."""
    if job is not None:
        for signal in (job.event, job.failed, job.done):
            signal.disconnect()
        job.stop()


class EngineUse(QObject):
    """Starts the shared engine for a dock, and closes it when the last dock is gone.

    A dock is gone when napari takes it out of its window, when the window is closed, or when it is
    destroyed; Qt tells each of these in another way.

    Parameters
    ----------
    dock : QWidget
        The widget that napari puts into its window.
    """

    closing = Signal()
    """Emitted once, before the engine may be closed."""

    _users: set[int] = set()

    def __init__(self, dock: QWidget) -> None:
        super().__init__(dock)
        from .runner import Engine

        self._dock = dock
        self._window: QWidget | None = None
        self._open = True
        self.engine = Engine.shared()
        self._users.add(id(self))
        dock.installEventFilter(self)
        # Started when the dock has been painted, so that it costs the click nothing.
        QTimer.singleShot(0, self._start)

    def _start(self) -> None:
        if self._open:
            self.engine.start()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Follow the dock into and out of its window."""
        if watched is self._dock and event.type() in (QEvent.Type.ParentChange, QEvent.Type.Show):
            self._on_parent()
        elif watched is self._window and event.type() == QEvent.Type.Close:
            # napari may refuse to close; what counts is whether the window is still there afterwards.
            QTimer.singleShot(0, self._on_window_close)
        return False

    def _on_parent(self) -> None:
        window = self._dock.window()
        if self._dock.parent() is None:
            if self._window is not None:
                self.close()
        elif window is not self._window and window is not self._dock:
            if self._window is not None:
                self._window.removeEventFilter(self)
            self._window = window
            window.installEventFilter(self)

    def _on_window_close(self) -> None:
        if self._window is None or not self._window.isVisible():
            self.close()

    def close(self) -> None:
        """Tell the dock to stop its work; close the engine after the last dock."""
        if not self._open:
            return
        self._open = False
        self.closing.emit()
        self._users.discard(id(self))
        if not self._users:
            self.engine.close()


class ThemeWatch:
    """Tells a view whether napari's theme is dark or light, and its background, now and at each change."""

    def __init__(self, viewer: ViewerModel, tell: Callable[[str, str], None]) -> None:
        self._viewer, self._tell = viewer, tell
        viewer.events.theme.connect(self._on_theme)
        self._on_theme()

    def _on_theme(self, event: Any = None) -> None:
        from napari.utils.theme import get_theme

        theme = get_theme(self._viewer.theme)
        self._tell(theme.type, theme.background.as_hex())

    def close(self) -> None:
        """Stop following."""
        self._viewer.events.theme.disconnect(self._on_theme)
