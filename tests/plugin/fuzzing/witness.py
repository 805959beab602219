"""Who watches the walk: errors of any kind, gaps without an answer, and what is left behind; see also account.py."""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import logging
import re
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from qtpy.QtCore import Qt, QTimer, qInstallMessageHandler
from qtpy.QtWidgets import QApplication

from .desk import Desk

_INTERNAL = re.compile(r"internal error|The image cannot be read|The command ended with")
"""What a dock says when something has failed that is nobody's mistake."""
_QT = re.compile(r"different thread|another thread|Destroyed while|Timers cannot|has been deleted|QObject::startTimer")
"""Warnings of Qt that mean a mistake of ours."""
_TICK_MS = 10

_OVERRIDE = re.compile(r"Error calling Python override of \w+::(\w+)\(\)")
"""What PySide puts before the words of an error, for each override that it has called meanwhile."""


@dataclass(frozen=True)
class Trouble:
    """Something that must not be: what kind, in words, with the traceback if there is one."""

    kind: str
    words: str
    trace: str = ""
    at: int = -1

    @property
    def ours(self) -> bool:
        """Whether code of this package had a part in it."""
        return not self.trace or "napari_unet" in self._origin()

    def _origin(self) -> str:
        """Return the traceback from the innermost override on.

        After an error in an event, PySide still asks event filters, ours too, and lists each as if it had called
        the one where the error came from. PyQt reports the error at the innermost override, and no more.
        """
        overrides = _OVERRIDE.findall(self.words)
        begin = self.trace.rfind(f", in {overrides[-1]}\n") if overrides else -1
        return self.trace[self.trace.rfind("File ", 0, begin) :] if begin >= 0 else self.trace

    @property
    def signature(self) -> str:
        """What stays the same when the same trouble comes again."""
        frames = re.findall(r'File "[^"]*/([\w/]+)\.py", line \d+, in (\w+)', self.trace)
        words = re.sub(r"0x[0-9a-f]+|\d+", "#", self.words.splitlines()[0] if self.words else "")
        return f"{self.kind}: {words[:160]} @ " + " < ".join(f"{f.split('/')[-1]}.{n}" for f, n in frames[-3:][::-1])


@dataclass
class Errors:
    """Every exception, logged error, error notification and bad warning of Qt, while in its context."""

    found: list[Trouble] = field(default_factory=list)
    warnings: Counter[str] = field(default_factory=Counter)
    at: int = -1

    def add(self, kind: str, words: str, trace: str = "") -> None:
        """Note one."""
        self.found.append(Trouble(kind, words, trace, self.at))

    def add_exception(self, kind: str, error: BaseException | None) -> None:
        """Note an exception with its traceback."""
        trace = "".join(traceback.format_exception(error)) if error is not None else ""
        self.add(kind, f"{type(error).__name__}: {error}", trace)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Listen to everything that reports errors."""
        from napari.utils.notifications import notification_manager

        hooks = sys.excepthook, threading.excepthook, sys.unraisablehook
        sys.excepthook = self._on_exception
        threading.excepthook = lambda told: self.add_exception("exception in a thread", told.exc_value)
        sys.unraisablehook = lambda told: self.add_exception("exception that nobody sees", told.exc_value)
        handler = _Listener(self)
        logging.getLogger().addHandler(handler)
        notification_manager.notification_ready.connect(self._on_notification)
        former = qInstallMessageHandler(self._on_qt)
        try:
            yield
        finally:
            qInstallMessageHandler(former)
            notification_manager.notification_ready.disconnect(self._on_notification)
            logging.getLogger().removeHandler(handler)
            sys.excepthook, threading.excepthook, sys.unraisablehook = hooks

    def _on_exception(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        self.add_exception("exception in a slot", error)

    def _on_notification(self, notification: Any) -> None:
        if str(notification.severity) == "error":
            error = getattr(notification, "exception", None)
            trace = "".join(traceback.format_exception(error)) if error is not None else ""
            self.add("notification", str(notification.message), trace)

    def _on_qt(self, kind: Any, context: Any, message: str | None) -> None:
        words = message or ""
        if _QT.search(words):
            self.add("warning of Qt", words, "".join(traceback.format_stack()))
        self.warnings[re.sub(r"0x[0-9a-f]+|\d+", "#", words)[:150]] += 1


class _Listener(logging.Handler):
    """Notes what is logged as an error."""

    def __init__(self, errors: Errors) -> None:
        super().__init__(logging.ERROR)
        self._errors = errors

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        trace = "".join(traceback.format_exception(error)) if error is not None else record.pathname
        self._errors.add("logged error", record.getMessage(), trace)


# --- time -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Gap:
    """How long the main thread did not answer, in seconds of the clock and of its own computing, and during what."""

    seconds: float
    computing: float
    at: int
    stack: str = ""


class Heart:
    """A 10 ms timer in the main thread: what lies between two beats is time in which the viewer did not answer.

    Parameters
    ----------
    longer_than : float
        Seconds from which a gap is kept.
    """

    def __init__(self, longer_than: float = 0.1) -> None:
        self.gaps: list[Gap] = []
        self.at = -1
        self._longer = longer_than
        self._last = time.perf_counter(), time.thread_time()
        self._main, self._stacks, self._on = threading.get_ident(), Counter[str](), True
        self._timer = QTimer(interval=_TICK_MS, timerType=Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._beat)
        self._timer.start()
        threading.Thread(target=self._look, daemon=True, name="fuzz heart").start()

    def _beat(self) -> None:
        now = time.perf_counter(), time.thread_time()
        seconds, computing = (b - a for a, b in zip(self._last, now, strict=True))
        self._last = now
        if seconds > self._longer:
            self.gaps.append(Gap(seconds, computing, self.at, " | ".join(s for s, _ in self._stacks.most_common(2))))
        self._stacks = Counter()

    def rest(self) -> None:
        """Leave out what lies between the last beat and now."""
        self._last = time.perf_counter(), time.thread_time()

    def stop(self) -> None:
        """Beat no more."""
        self._on = False
        self._timer.stop()

    def _look(self) -> None:
        """Note where the main thread is while it does not answer."""
        with tempfile.TemporaryFile("w+") as file:
            while self._on:
                time.sleep(0.03)
                if time.perf_counter() - self._last[0] > self._longer / 2:
                    self._stacks[_place(file, self._main)] += 1


_FRAME = re.compile(r'File "([^"]+)", line \d+ in (\S+)')


def _place(file: IO[str], thread: int) -> str:
    """Return where a thread is: what of this package it is in, and what that has called."""
    # By faulthandler, which lets no other thread run meanwhile: frames of a running thread go away under one's hands.
    file.seek(0)
    file.truncate()
    faulthandler.dump_traceback(file, all_threads=True)
    file.seek(0)
    block = file.read().partition(f"0x{thread:016x} (")[2].partition("\n\n")[0]
    frames = [frame for frame in reversed(_FRAME.findall(block)) if "fuzz" not in frame[0]]
    names = [f"{Path(path).stem}.{name}" for path, name in frames]
    own = [i for i, (path, _) in enumerate(frames) if "napari_unet" in path]
    return " > ".join(names[own[0] :][:4] + ["..."] + names[-3:] if own else names[-6:])


# --- docks, and what is left behind -----------------------------------------------------------------------


def forget_last_error() -> None:
    """Let go of the last error, which vispy keeps for a debugger, and with it all that its frames know."""
    for name in ("last_type", "last_value", "last_traceback", "last_exc"):
        vars(sys).pop(name, None)


def words_of(desk: Desk) -> Iterator[str]:
    """Yield what the docks say."""
    for view in desk.views():
        for _, text in view.messages.lines():
            yield f"{type(view).__name__}: {text}"


def is_bad(words: str) -> bool:
    """Return whether a dock says something that no user can have caused."""
    return bool(_INTERNAL.search(words))


def own_widgets() -> list[Any]:
    """Return all widgets of this package that live, after Qt and Python have freed what they may."""
    gc.collect()
    QApplication.processEvents()
    return [widget for widget in QApplication.allWidgets() if type(widget).__module__.startswith("napari_unet")]


def own_objects() -> Counter[str]:
    """Return how many controllers, sessions and the like live, by class."""
    kinds = (type(thing) for thing in gc.get_objects())
    return Counter(
        kind.__name__
        for kind in kinds
        if str(kind.__module__).startswith("napari_unet.plugin") and _goes_with_a_dock(kind)
    )


def _goes_with_a_dock(kind: type) -> bool:
    return kind.__name__.endswith(("Controller", "Dock", "View", "Feeder", "Hooks", "Watch", "Choice", "Session"))
