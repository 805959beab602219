"""Keeps a running training up to date with what is painted meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, QTimer, Signal

from ...core.data.annotation import AnnotatedImage
from ...core.errors import UNetError
from ..runtime.worker_thread import WorkerThread

if TYPE_CHECKING:
    from ..runtime.engine import EngineJob

QUIET_MS = 1500
"""After the last stroke: nobody wants half a cell learnt."""


class LivePaint(QObject):
    """Sends the annotation to a training some time after each stroke.

    Attributes
    ----------
    failed : Signal(str)
        What is painted cannot be learnt, in words.
    on : bool
        Whether it does so.

    Parameters
    ----------
    job : EngineJob
        The training.
    read : callable
        Called in the main thread after a stroke; returns a function that reads the annotation in another thread.
    """

    failed = Signal(str)

    def __init__(self, job: EngineJob, read: Callable[[], Callable[[], tuple[AnnotatedImage, ...]]]) -> None:
        super().__init__()
        self._job, self._read = job, read
        self._background = WorkerThread()
        self._strokes = self._sent = self._learnt = 0
        self._timer = QTimer(self, singleShot=True, interval=QUIET_MS)
        self._timer.timeout.connect(self._send)
        self.on = True

    @property
    def behind(self) -> bool:
        """Whether there are strokes that the training has not learnt from; it may have ended with them in its hands."""
        return self._learnt < self._strokes

    def touch(self) -> None:
        """Note a stroke."""
        self._strokes += 1
        if self.on:
            self._timer.start()

    def note_joined(self, paint: int) -> None:
        """Note that the training learns from the paint as it was after so many strokes."""
        self._learnt = max(self._learnt, paint)

    def set_on(self, on: bool) -> None:
        """Pause or go on; what was painted meanwhile joins then."""
        self.on = on
        if on and self._sent < self._strokes:
            self._timer.start()

    def close(self) -> None:
        """Send no more."""
        self._timer.stop()
        self._background.forget()

    def _send(self) -> None:
        if not self._job.running or not self.on:
            return
        try:
            read = self._read()
        except UNetError as error:
            self.failed.emit(str(error))
            return
        strokes, job = self._strokes, self._job
        self._background.run(
            lambda: job.repaint(read(), strokes), lambda sent: self._on_sent(sent, strokes), self.failed.emit
        )

    def _on_sent(self, sent: bool, strokes: int) -> None:
        if sent:
            self._sent = strokes
        elif self._job.running:
            # It has not begun yet.
            self._timer.start()
