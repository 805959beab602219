"""Reads of possibly slow arrays, off the viewer's thread."""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from qtpy.QtCore import QObject, Qt, Signal

from ...core.errors import UNetError


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


@dataclass(frozen=True)
class _Task:
    """A function, who asked for it and by which of its calls, and what is done with the outcome."""

    owner: WorkerThread
    call: int
    function: Callable[[], Any]
    done: Callable[[Any], None]
    failed: Callable[[str], None] | None


class _Courier(QObject):
    """Brings outcomes into the thread in which it was made; one for the whole process.

    A thread holds nothing but this and a number. Qt's objects may end in their own thread alone, and what a thread held
    last would end in it: the viewer then crashes when something was just being delivered to it.
    """

    arrived = Signal(int, object)
    _one: _Courier | None = None

    def __init__(self) -> None:
        super().__init__()
        self._tasks: dict[int, _Task] = {}
        self._numbers = itertools.count()
        self.arrived.connect(self._hand_over, Qt.ConnectionType.QueuedConnection)

    @classmethod
    def shared(cls) -> _Courier:
        """Return that of this process."""
        if cls._one is None:
            cls._one = cls()
        return cls._one

    def take(self, task: _Task) -> None:
        """Begin a task."""
        number = next(self._numbers)
        self._tasks[number] = task
        work = threading.Thread(target=_compute, args=(self, number), daemon=True, name="napari-unet reader")
        work.start()

    def function(self, number: int) -> Callable[[], Any]:
        """Return what a task computes; it is kept here until its outcome was handed over."""
        return self._tasks[number].function

    def _hand_over(self, number: int, outcome: tuple[Any, Any]) -> None:
        task = self._tasks.pop(number)
        task.owner.deliver(task, outcome)


def _compute(courier: _Courier, number: int) -> None:
    """Send the courier what a task computes; in a thread of its own."""
    outcome = _outcome_of(courier.function(number))
    courier.arrived.emit(number, outcome)


def _outcome_of(function: Callable[[], Any]) -> tuple[Any, Any]:
    """Return what a function returns, or None and what went wrong in words."""
    try:
        with ShortTurns():
            return function(), None
    except UNetError as error:
        return None, str(error)
    except Exception as error:
        # Whatever a lazy array raises when it is read: a missing file, a broken network drive.
        return None, f"The image cannot be read: {type(error).__name__}: {error}"


class WorkerThread:
    """Runs a function in a thread and delivers its result in the viewer's thread, in which it is made.

    The function may read arrays; it must touch neither layers nor widgets. A newer call makes the
    results of older ones be dropped.
    """

    def __init__(self) -> None:
        self._call = 0

    def run(
        self, function: Callable[[], Any], done: Callable[[Any], None], failed: Callable[[str], None] | None = None
    ) -> None:
        """Call ``done(function())`` here later, or ``failed`` with what went wrong in words."""
        self._call += 1
        _Courier.shared().take(_Task(self, self._call, function, done, failed))

    def forget(self) -> None:
        """Drop the results of all calls so far."""
        self._call += 1

    def deliver(self, task: _Task, outcome: tuple[Any, Any]) -> None:
        """Tell who asked, unless it asked for something else since."""
        if task.call != self._call:
            return
        value, error = outcome
        if error is None:
            task.done(value)
        elif task.failed is not None:
            task.failed(error)
