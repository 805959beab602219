"""The child's side: receives jobs, runs one generator at a time, streams its events.

Only this process loads torch, by importing the module of jobs. Three threads live here:

- the main thread runs the jobs and is the only one that sends;
- execnet's receiver thread takes messages, sets flags and fills queues, and never waits;
- a watchdog ends the process when the viewer is gone, however it went.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import importlib
import itertools
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from .. import runs
from ..core.errors import DataError, UNetError
from ..core.events import Event, Stopped
from .remote_array import RemoteArray
from .wire import PROTOCOL, Assembler, JobDone, JobFailed, Key, event_to_dict, split

GRACE = 2.0
"""Seconds that a running job has to stop by itself after the viewer has gone."""
KEPT_LOGS = 10


class Channel(Protocol):
    """The part of an execnet channel that is used here."""

    def send(self, item: object) -> None:
        """Send plain data."""

    def setcallback(self, callback: Callable[[Any], Any], endmarker: object = ...) -> None:
        """Call back with what is received, and with the endmarker when the other side is gone."""


class ReadStopped(Exception):
    """The job was stopped while it waited for a part of its image."""


class Job:
    """One job, as its generator sees it.

    Attributes
    ----------
    number : int
        The viewer's number for it.
    kind : str
        A key of the jobs module's ``KINDS``.
    payload : dict
        Plain data and arrays.
    """

    def __init__(self, number: int, kind: str, payload: dict[str, Any], ask: Callable[[Job, int, Key], Any]) -> None:
        self.number, self.kind, self.payload = number, kind, payload
        self._ask = ask
        self._stop = threading.Event()
        self._told: dict[str, Any] = {}
        self._lock = threading.Lock()

    def stop(self) -> bool:
        """Return whether the user asked to stop."""
        return self._stop.is_set()

    def request_stop(self) -> None:
        """Ask the job to stop."""
        self._stop.set()

    def tell(self, what: str, value: Any) -> None:
        """Leave something for the generator; it replaces what was not taken yet."""
        with self._lock:
            self._told[what] = value

    def latest(self, what: str) -> Any:
        """Take what was left last under this name, or None."""
        with self._lock:
            return self._told.pop(what, None)

    def array(self, index: int, about: dict[str, Any]) -> RemoteArray:
        """Return one of the viewer's arrays; ``about`` holds its shape, dtype and axes."""
        return RemoteArray(about["shape"], about["dtype"], about["axes"], lambda key: self._ask(self, index, key))


class Server:
    """Runs jobs from a channel until the viewer goes.

    Parameters
    ----------
    channel : Channel
        To the viewer.
    config : dict
        ``jobs``: module with ``KINDS`` (name to generator function of a :class:`Job`), perhaps
        ``warm_up`` (called while there is nothing to do yet). ``between``:
        (names of short kinds, answered between two events of the running job). ``parent``: process
        id of the viewer when it runs on this machine, else None. ``nice``: priority.
    """

    def __init__(self, channel: Channel, config: dict[str, Any]) -> None:
        self._channel, self._config = channel, config
        self._numbers = itertools.count()
        self._assembler = Assembler()
        self._waiting: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._between: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._blocks: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._jobs: dict[int, Job] = {}
        self._kinds: dict[str, Callable[[Job], Generator[Event, None, None]]] = {}
        self._short: frozenset[str] = frozenset()
        self._warm_up: Callable[[], None] = lambda: None
        self._log = Path(os.devnull)

    def run(self) -> None:
        """Serve until the viewer goes, then end the process."""
        self._log = redirect_output()
        be_modest(self._config["nice"])
        # Ctrl+C in the terminal of the viewer reaches this process too, but is not meant for it.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._channel.setcallback(self._receive, endmarker=None)
        if self._config["parent"] is not None and hasattr(os, "getppid"):
            threading.Thread(target=self._watch, args=(self._config["parent"],), daemon=True).start()
        self._send({"type": "hello", "protocol": PROTOCOL, "pid": os.getpid(), "log": str(self._log)})
        if self._load_jobs():
            self._send({"type": "ready"})
            if self._waiting.empty():
                self._warm_up()
            while (job := self._waiting.get()) is not None:
                self._run_job(job)
        os._exit(0)  # without waiting for whatever threads torch has

    def _load_jobs(self) -> bool:
        """Import the jobs, and torch with them; report why when that fails."""
        self._short = frozenset(self._config["between"])
        try:
            jobs = importlib.import_module(self._config["jobs"])
            self._kinds = dict(jobs.KINDS)
            self._warm_up = getattr(jobs, "warm_up", self._warm_up)
        except Exception as error:
            traceback.print_exc()
            text = "".join(traceback.format_exception_only(error)).strip()
            self._send({"type": "fatal", "message": f"{text} (details in {self._log})"})
            return False
        return True

    # ---- messages in: the receiver thread -------------------------------------------------------

    def _receive(self, raw: dict[str, Any] | None) -> None:
        """Take one message; None when the viewer is gone."""
        if raw is None:
            threading.Thread(target=self._leave, daemon=True).start()
            return
        message = self._assembler.accept(raw)
        if message is not None:
            getattr(self, f"_on_{message['type']}")(message)

    def _on_submit(self, message: dict[str, Any]) -> None:
        """Queue a job."""
        job = Job(message["job"], message["kind"], message["payload"], self._fetch)
        self._jobs[job.number] = job
        short = job.kind in self._short
        if short:
            self._between.put(job)
        # A short job is in both queues: whichever comes to it first runs it.
        self._waiting.put(job)

    def _on_stop(self, message: dict[str, Any]) -> None:
        """Pass a stop on to its job, unless that is over."""
        job = self._jobs.get(message["job"])
        if job is not None:
            job.request_stop()

    def _on_tell(self, message: dict[str, Any]) -> None:
        """Leave something for a job, unless that is over."""
        job = self._jobs.get(message["job"])
        if job is not None:
            job.tell(message["what"], message["value"])

    def _on_block(self, message: dict[str, Any]) -> None:
        """Pass on an answer to :meth:`_fetch`."""
        self._blocks.put(message)

    # ---- jobs: the main thread ------------------------------------------------------------------

    def _run_job(self, job: Job) -> None:
        """Run one job to its end, whatever that is, unless it ran already."""
        if job.number not in self._jobs:
            return
        try:
            self._run_events(job)
        except ReadStopped:
            self._emit(job, Stopped("stopped by the user"))
        except UNetError as error:
            self._emit(job, JobFailed(str(error)))
        except MemoryError:
            self._emit(job, JobFailed("The memory is full. Close other images or programs, or choose a smaller tile."))
        except Exception as error:
            self._emit(job, JobFailed(self._internal_error(job, error)))
        del self._jobs[job.number]
        self._emit(job, JobDone())

    def _run_events(self, job: Job) -> None:
        """Run the job's generator and send its events."""
        if job.stop():
            self._emit(job, Stopped("stopped before it began"))
            return
        if job.kind not in self._kinds:
            raise UNetError(f"The computing process knows no job {job.kind!r}; is it of the same version?")
        # Closed at once, and not by the garbage collector, so that its `finally` has run before `JobDone`.
        with contextlib.closing(self._kinds[job.kind](job)) as generator:
            for event in generator:
                self._emit(job, event)
                self._run_between(job)

    def _run_between(self, running: Job) -> None:
        """Run the short jobs that came meanwhile, unless the running one is short itself."""
        if running.kind in self._short:
            return
        with contextlib.suppress(queue.Empty):
            while True:
                self._run_job(self._between.get_nowait())

    def _internal_error(self, job: Job, error: Exception) -> str:
        """Save the traceback, and return one line that says where."""
        text = "".join(traceback.format_exception(error))
        print(text, file=sys.stderr, flush=True)
        where = self._log
        if "folder" in job.payload:
            with contextlib.suppress(OSError):
                (Path(job.payload["folder"]) / "error.log").write_text(text, encoding="utf-8")
                where = Path(job.payload["folder"]) / "error.log"
        last = "".join(traceback.format_exception_only(error)).strip()
        return f"internal error: {last} (details in {where})"

    def _fetch(self, job: Job, array: int, key: Key) -> NDArray[Any]:
        """Return a block of one of the viewer's arrays."""
        request = next(self._numbers)
        self._send({"type": "read", "job": job.number, "array": array, "key": key, "request": request})
        while True:
            if job.stop():
                raise ReadStopped
            with contextlib.suppress(queue.Empty):
                message = self._blocks.get(timeout=0.1)
                # Blocks of a read that was given up come late, and are nobody's.
                if message["request"] == request:
                    break
        if message.get("error"):
            raise DataError(message["error"])
        block: NDArray[Any] = message["data"]
        return block

    def _emit(self, job: Job, event: Event) -> None:
        """Send an event of a job."""
        self._send({"type": "event", "job": job.number, "event": event_to_dict(event)})

    def _send(self, message: dict[str, Any]) -> None:
        """Send a message; when the viewer is gone there is nobody to tell, and the watchdog ends the process."""
        with contextlib.suppress(OSError):
            for raw in split(message, next(self._numbers)):
                self._channel.send(raw)

    # ---- the end: its own threads ---------------------------------------------------------------

    def _watch(self, parent: int) -> None:
        """Leave when the viewer's process is gone though a fork of it holds the pipe open."""
        while os.getppid() == parent:
            time.sleep(1)
        self._leave()

    def _leave(self) -> None:
        """Ask the jobs to stop and save; end the process after a while in any case."""
        for job in list(self._jobs.values()):
            job.request_stop()
        self._waiting.put(None)
        time.sleep(GRACE)
        os._exit(0)


def serve(channel: Channel, config: dict[str, Any]) -> None:
    """Run a :class:`Server`; what the child is started with."""
    Server(channel, config).run()


def redirect_output() -> Path:
    """Send everything that is printed, and the tracebacks of crashes, to a new log file, and return its path."""
    try:
        folder = runs.home() / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        for old in sorted(folder.glob("engine-*.log"))[: -KEPT_LOGS + 1]:
            old.unlink(missing_ok=True)
        path = folder / f"engine-{datetime.now():%Y%m%d-%H%M%S}-{os.getpid()}.log"
        target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError:
        # A folder that cannot be written is reported by the run folder; without a log the work goes on.
        path = Path(os.devnull)
        target = os.open(path, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(target, descriptor)
    os.close(target)
    faulthandler.enable(file=2)
    return path


def be_modest(nice: int) -> None:
    """Lower the priority, and be the first to go when the machine runs out of memory."""
    if hasattr(os, "nice"):
        os.nice(nice)
    elif sys.platform == "win32":
        kernel = ctypes.windll.kernel32
        kernel.GetCurrentProcess.restype = ctypes.c_void_p
        kernel.SetPriorityClass(ctypes.c_void_p(kernel.GetCurrentProcess()), 0x4000)  # BELOW_NORMAL_PRIORITY_CLASS
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")
