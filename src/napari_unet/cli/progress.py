"""Progress on the standard error: a bar with time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import _thread
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

EVERY = 5.0
"""Seconds between two plain lines."""


class TerminalProgress:
    """Progress of a job on the standard error.

    Use it as a context. On a terminal a bar shows the remaining time; elsewhere a line is
    printed every few seconds, which suits log files.

    Parameters
    ----------
    terminal : bool, optional
        Whether to draw a bar; by default where the standard error is a terminal.
    """

    def __init__(self, terminal: bool | None = None) -> None:
        self.terminal = sys.stderr.isatty() if terminal is None else terminal
        self._bar: Any = None
        self._task: Any = None
        self._last = -EVERY

    def __enter__(self) -> TerminalProgress:
        if self.terminal:
            from rich.console import Console
            from rich.progress import BarColumn, TaskProgressColumn, TextColumn
            from rich.progress import Progress as Bar

            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TaskProgressColumn(),
                TextColumn("{task.fields[left]}"),
            )
            self._bar = Bar(*columns, console=Console(stderr=True, force_terminal=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task("", total=1.0, left="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, share: float, text: str, remaining: float | None = None, *, now: bool = False) -> None:
        """Show the progress.

        Parameters
        ----------
        share : float
            From 0 to 1.
        text : str
            What is being done.
        remaining : float, optional
            Seconds to the end.
        now : bool
            Whether to print a line even if the last one is recent.
        """
        left = f"{duration(remaining)} left" if remaining is not None else ""
        if self._bar is not None:
            self._bar.update(self._task, completed=min(share, 1.0), description=text, left=left)
            return
        moment = time.monotonic()
        if now or moment - self._last >= EVERY:
            self._last = moment
            self.say(f"{100 * min(share, 1.0):3.0f} %  {text}{', ' + left if left else ''}")

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """Return a readable time.

    Examples
    --------
    >>> duration(4.2), duration(75), duration(7300)
    ('4 s', '1:15 min', '2:01 h')
    """
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02d} h"


class Interrupt:
    """Inside its context, the first Ctrl-C (or SIGTERM) sets a flag; the second raises.

    An instance is the ``stop`` function of a training or a prediction.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.asked = False
        self._say = say
        self._saying = _thread.allocate_lock()
        self._before: dict[int, Any] = {}

    def __call__(self) -> bool:
        """Return whether a stop was requested."""
        return self.asked

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            self._before = {s: signal.signal(s, self._handle) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        # The first message is printed before the next one.
        with self._saying:
            pass

    def _handle(self, number: int, frame: FrameType | None) -> None:
        """Set the flag at the first signal, raise at the second."""
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        # In a separate thread: the interrupted code may be writing to the same stream, which Python does not let
        # anybody enter twice. Not by `threading`, whose locks the interrupted code may hold, too.
        self._saying.acquire()
        _thread.start_new_thread(self._tell, ())

    def _tell(self) -> None:
        try:
            self._say("stopping; press Ctrl-C again to stop at once")
        finally:
            self._saying.release()
