"""Reads of possibly slow arrays, off the viewer's thread."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

from qtpy.QtCore import QObject, Qt, Signal

from ..core.errors import UNetError


class ShortTurns:
    """From entering to leaving, a thread that computes in Python is asked to let others go on ten times sooner.

    Python lets a thread go on for 5 ms while others wait, and the viewer's thread waits anew after each call that
    lets go of the interpreter, as most of Qt's and OpenGL's do: some fifty of them in one click hold the viewer up
    for a quarter of a second though it computes little. May be entered in several threads at once; the last one
    that leaves puts back what was there.
    """

    SECONDS = 0.0005
    _guard = threading.Lock()
    _count = 0
    _before = 0.0

    def __enter__(self) -> ShortTurns:
        cls = type(self)
        with cls._guard:
            cls._count += 1
            if cls._count == 1:
                cls._before = sys.getswitchinterval()
                sys.setswitchinterval(min(cls._before, cls.SECONDS))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        cls = type(self)
        with cls._guard:
            cls._count -= 1
            if not cls._count:
                sys.setswitchinterval(cls._before)


class Background(QObject):
    """Runs a function in a thread and delivers its result in the thread that made this object.

    The function may read arrays; it must touch neither layers nor widgets. A newer call makes the
    results of older ones be dropped.
    """

    _arrived = Signal(int, object, object, object)

    def __init__(self) -> None:
        super().__init__()
        self._call = 0
        self._arrived.connect(self._deliver, Qt.ConnectionType.QueuedConnection)

    def run(
        self, function: Callable[[], Any], done: Callable[[Any], None], failed: Callable[[str], None] | None = None
    ) -> None:
        """Call ``done(function())`` here later, or ``failed`` with what went wrong in words."""
        self._call += 1
        call = self._call

        def work() -> None:
            try:
                with ShortTurns():
                    outcome: tuple[Any, Any] = (function(), None)
            except UNetError as error:
                outcome = (None, str(error))
            except Exception as error:
                # Whatever a lazy array raises when it is read: a missing file, a broken network drive.
                outcome = (None, f"The image cannot be read: {type(error).__name__}: {error}")
            self._arrived.emit(call, outcome, done, failed)

        threading.Thread(target=work, daemon=True, name="napari-unet reader").start()

    def forget(self) -> None:
        """Drop the results of all calls so far."""
        self._call += 1

    def _deliver(self, call: int, outcome: tuple[Any, Any], done: Callable[[Any], None], failed: Any) -> None:
        if call != self._call:
            return
        value, error = outcome
        if error is None:
            done(value)
        elif failed is not None:
            failed(error)
