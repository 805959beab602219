"""The child's side: receives jobs, runs one generator at a time, streams its events.

Only this process loads torch, by importing the module of jobs. These threads live here:

- the main thread runs the jobs and sends;
- execnet's receiver thread takes messages, sets flags and fills queues, and never waits;
- a watchdog ends the process when the viewer is gone, however it went;
- when the viewer is on another computer, one that sends files back.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import os
import queue
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ...core.errors import DataError, UNetError
from ...core.events import CheckpointSaved, Event, Finished, Stopped
from ..protocol.messages import PROTOCOL, Assembler, JobDone, JobFailed, Key, event_to_dict, split
from .file_copies import Copies, Files, OwnFiles, remove_old
from .file_returns import Returns
from .process import be_modest, redirect_output
from .remote_array import RemoteArray

GRACE = 2.0
"""Grace period in seconds for a running job after the viewer has gone."""
SILENCE = 900.0
"""Seconds of silence after which a viewer on another computer counts as gone."""


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
    files : Files
        The viewer's files: themselves, or copies when it is on another computer.
    """

    def __init__(
        self, number: int, kind: str, payload: dict[str, Any], ask: Callable[[Job, dict[str, Any]], Any], remote: bool
    ) -> None:
        self.number, self.kind, self.payload = number, kind, payload
        self._ask = ask
        self.files: Files = Copies(self._list, self._read) if remote else OwnFiles()
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
        """Store a value for the generator; it replaces one that was not read yet."""
        with self._lock:
            self._told[what] = value

    def latest(self, what: str) -> Any:
        """Take what was left last under this name, or None."""
        with self._lock:
            return self._told.pop(what, None)

    def array(self, index: int, about: dict[str, Any]) -> RemoteArray:
        """Return one of the viewer's arrays; ``about`` holds its shape, dtype and axes."""

        def fetch(key: Key) -> NDArray[Any]:
            block: NDArray[Any] = self._ask(self, {"type": "read", "array": index, "key": key})
            return block

        return RemoteArray(about["shape"], about["dtype"], about["axes"], fetch)

    def grow(self, question: dict[str, Any]) -> Any:
        """Ask something of the result on the viewer's disk.

        See :class:`~napari_unet.engine.viewer.progressive_receiver.Growing`.
        """
        return self._ask(self, {"type": "grow", **question})

    def state_of(self, path: str) -> dict[str, Any] | None:
        """Return size and time of a picture's file as the viewer sees them; None where it sees none."""
        state: dict[str, Any] | None = self._ask(self, {"type": "state", "path": path})
        return state

    @property
    def is_remote(self) -> bool:
        """Whether the viewer is on another computer, so that its paths mean nothing here."""
        return isinstance(self.files, Copies)

    def _list(self, path: str, parts: Sequence[str]) -> list[dict[str, Any]]:
        """Ask the viewer what lies in a path."""
        listing: list[dict[str, Any]] = self._ask(self, {"type": "list", "path": path, "parts": list(parts)})
        return listing

    def _read(self, path: str, name: str, start: int) -> NDArray[np.uint8]:
        """Ask the viewer for a part of a file."""
        data: NDArray[np.uint8] = self._ask(self, {"type": "file", "path": path, "name": name, "start": start})
        return data


class Server:
    """Runs jobs from a channel until the viewer goes.

    Parameters
    ----------
    channel : Channel
        To the viewer.
    config : dict
        ``jobs``: module with ``KINDS`` (name to generator function of a :class:`Job`), perhaps
        ``warm_up`` (called while there is nothing to do yet) and ``devices`` (returns where it can
        compute). ``between``: names of short kinds, answered between two events of the running job.
        ``parent``: process id of the viewer. ``remote``: whether that is on another computer.
        ``nice``: priority.
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
        self._devices: Callable[[], dict[str, str]] = dict
        self._log = Path(os.devnull)
        self._remote: bool = config["remote"]
        self._returns = Returns(self._send) if self._remote else None
        self._heard = time.monotonic()

    def run(self) -> None:
        """Serve until the viewer goes, then end the process."""
        self._log = redirect_output()
        be_modest(self._config["nice"])
        # Ctrl+C in the terminal of the viewer reaches this process too, but is not meant for it.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._channel.setcallback(self._receive, endmarker=None)
        threading.Thread(target=self._watch, daemon=True).start()
        version = self._config["version"]
        self._send(
            {"type": "hello", "protocol": PROTOCOL, "version": version, "pid": os.getpid(), "log": str(self._log)}
        )
        if self._remote:
            remove_old()
        if self._load_jobs():
            self._send({"type": "ready", "devices": self._devices()})
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
            self._devices = getattr(jobs, "devices", self._devices)
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
        self._heard = time.monotonic()
        message = self._assembler.accept(raw)
        if message is not None:
            self._handle(message)

    def _handle(self, message: dict[str, Any]) -> None:
        """Handle one message of the viewer."""
        match message["type"]:
            case "submit":
                self._queue_job(message)
            case "stop" | "tell" as kind:
                # The job may be over.
                job = self._jobs.get(message["job"])
                if job is not None and kind == "stop":
                    job.request_stop()
                elif job is not None:
                    job.tell(message["what"], message["value"])
            case "block":
                # The answer to a question of :meth:`_ask`.
                self._blocks.put(message)
            case "arrived":
                if self._returns is not None:
                    self._returns.arrived(message["number"])
            case "alive":
                pass  # `_receive` has noted the time
            case kind:
                raise ValueError(f"unknown message {kind!r}")

    def _queue_job(self, message: dict[str, Any]) -> None:
        """Queue a job."""
        job = Job(message["job"], message["kind"], message["payload"], self._ask, self._remote)
        self._jobs[job.number] = job
        if job.kind in self._short:
            self._between.put(job)
        # A short job is in both queues: whichever comes to it first runs it.
        self._waiting.put(job)

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
        self._close_files(job)
        self._emit(job, JobDone())

    def _run_events(self, job: Job) -> None:
        """Run the job's generator and send its events."""
        if job.stop():
            self._emit(job, Stopped("stopped before it began"))
            return
        if job.kind not in self._kinds:
            raise UNetError(f"The backend knows no job {job.kind!r}; is it of the same version?")
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
        where: Path | str = self._log
        if "folder" in job.payload:
            with contextlib.suppress(OSError, UNetError, ReadStopped):
                (job.files.run(job.payload["folder"]) / "error.log").write_text(text, encoding="utf-8")
                where = Path(job.payload["folder"]) / "error.log"
        elif job.is_remote:
            where = f"{self._log} on {socket.gethostname()}"
        last = "".join(traceback.format_exception_only(error)).strip()
        return f"internal error: {last} (details in {where})"

    def _ask(self, job: Job, question: dict[str, Any]) -> Any:
        """Return the viewer's answer: a block of an array, a listing, or the bytes of a file."""
        request = next(self._numbers)
        self._send({**question, "job": job.number, "request": request})
        while True:
            if job.stop():
                raise ReadStopped
            with contextlib.suppress(queue.Empty):
                message = self._blocks.get(timeout=0.1)
                # Answers to a question that was given up come late, and are nobody's.
                if message["request"] == request:
                    break
        if message.get("error"):
            raise DataError(message["error"])
        return message["data"]

    def _emit(self, job: Job, event: Event) -> None:
        """Send an event of a job; one that speaks of a file on another computer only after the file."""
        if isinstance(job.files, Copies) and self._returns is not None:
            event = job.files.as_viewer_sees(event)
            if isinstance(event, (CheckpointSaved, Finished)):
                self._emit_with_files(self._returns, job.number, job.files.made(), event)
                return
        self._send({"type": "event", "job": job.number, "event": event_to_dict(event)})

    def _emit_with_files(self, returns: Returns, job: int, made: dict[str, Any], event: Event) -> None:
        """Send files and an event that speaks of them; the last one only when all before has arrived."""
        if isinstance(event, Finished):
            returns.wait()
        returns.put(job, made, event_to_dict(event))
        if isinstance(event, Finished):
            returns.wait()

    def _close_files(self, job: Job) -> None:
        """Have what a job left arrive in the viewer's run folder, then remove it here."""
        if isinstance(job.files, Copies) and self._returns is not None:
            made = job.files.made()
            if made:
                self._returns.put(job.number, made, None)
            job.files.close(delivered=self._returns.wait())

    def _send(self, message: dict[str, Any]) -> None:
        """Send a message; when the viewer is gone there is nobody to tell, and the watchdog ends the process."""
        with contextlib.suppress(OSError):
            for raw in split(message, next(self._numbers), packed=self._remote):
                self._channel.send(raw)

    # ---- the end: its own threads ---------------------------------------------------------------

    def _watch(self) -> None:
        """Leave when the viewer's process is gone though the pipe stays open."""
        while not self._alone():
            time.sleep(1)
        self._leave()

    def _alone(self) -> bool:
        """Return whether there is no viewer any more: a fork of it may hold the pipe, or the network be cut."""
        if self._remote:
            return time.monotonic() > self._heard + SILENCE
        return hasattr(os, "getppid") and os.getppid() != self._config["parent"]

    def _leave(self) -> None:
        """Ask the jobs to stop and save; end the process after a while in any case."""
        if self._returns is not None:
            self._returns.leave()
        for job in list(self._jobs.values()):
            job.request_stop()
        self._waiting.put(None)
        time.sleep(GRACE)
        os._exit(0)


def serve(channel: Channel, config: dict[str, Any]) -> None:
    """Run a :class:`Server`; what the child is started with."""
    Server(channel, config).run()
