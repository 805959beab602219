"""The viewer's side of the engine: one child process and its jobs. Needs no torch."""

from __future__ import annotations

import itertools
import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...core.data.arrays import ArrayLike
from ...core.errors import StoreError
from ...core.events import Event, Fallback, Finished, Started
from ...stores import state_of
from ..protocol.messages import JobDone, JobFailed, event_from_dict, read_block
from .address import HERE, LOCAL, parse_address
from .connection import Link
from .file_sharing import Sharing
from .progressive_receiver import Growing

_logger = logging.getLogger(__name__)

NICE = 10
"""Priority of the child: the viewer goes first."""
BETWEEN = ("relabel", "suggest_now")
"""Short kinds of job, answered between two events of a running one."""

STOPPED, STARTING, READY, DEAD = "stopped", "starting", "ready", "dead"


@dataclass(frozen=True)
class _Open:
    """A running job: the receiver of its events, what the child may read, and where its result is written."""

    on_message: Callable[[Event], None]
    arrays: tuple[ArrayLike, ...]
    files: Sharing
    growing: Growing
    named: frozenset[str]


class EngineClient:
    """Starts the child process, gives it jobs and delivers their events.

    All methods return at once. Events arrive on a thread of the client, in order: what the generator
    yields, then :class:`~napari_unet.engine.protocol.messages.JobFailed` if it failed, then, exactly once and
    always, :class:`~napari_unet.engine.protocol.messages.JobDone`.

    Parameters
    ----------
    address : str
        ``"local"``, or another computer, see :func:`~napari_unet.engine.viewer.address.parse_address`.
    on_state : callable, optional
        Called with each new state and a reason (text, for ``"dead"``), on any thread.
    jobs : str
        Module with ``KINDS``, which the child imports.
    path : sequence of str
        More folders for the child to import from.
    """

    def __init__(
        self,
        address: str = LOCAL,
        *,
        on_state: Callable[[str, str], None] | None = None,
        jobs: str = "napari_unet.engine.child.jobs",
        path: Sequence[str] = (),
    ) -> None:
        self._jobs_module, self._path = jobs, tuple(path)
        self._address = parse_address(address)
        self.on_state = on_state
        self._numbers = itertools.count(1)
        self._lock = threading.RLock()
        self._link: Link | None = None
        self._jobs: dict[int, _Open] = {}
        self.state = STOPPED
        self.reason = ""
        self.devices: dict[str, str] = {}

    @property
    def is_remote(self) -> bool:
        """Whether the child is on another computer, which does not see the files of this one."""
        return self._address is not None

    @property
    def where(self) -> str:
        """Where the child is: ``"on this computer"``, or for example ``"on gpu-box"``."""
        return self._address.where if self._address is not None else HERE

    @property
    def busy(self) -> bool:
        """Whether a job is not done."""
        return bool(self._jobs)

    def move(self, address: str) -> bool:
        """Compute elsewhere from the next job on; a child at another address is ended, and its jobs with it.

        Returns
        -------
        bool
            Whether it is elsewhere.

        Raises
        ------
        SettingsError
            When it is no address.
        """
        parsed = parse_address(address)
        if parsed == self._address:
            return False
        self.close()
        with self._lock:
            self._address, self.devices = parsed, {}
        return True

    @property
    def pid(self) -> int | None:
        """Process id of the child, once it runs."""
        return self._link.pid if self._link else None

    @property
    def log(self) -> str:
        """Path of the child's log file, once it runs."""
        return self._link.log if self._link else ""

    def start(self) -> None:
        """Start a child, unless one runs; returns at once."""
        with self._lock:
            if self._link is not None:
                return
            link = Link(self._address, self._config(), self._take, self._answer, lambda reason: self._end(link, reason))
            self._link = link
            self._set_state(STARTING)
        link.open()

    def _config(self) -> dict[str, Any]:
        """Return the child's configuration."""
        from ... import __version__

        # The child finds the package also when the viewer found it by a path of its own.
        package = [] if self.is_remote else [str(Path(__file__).parents[3])]
        return {
            "jobs": self._jobs_module,
            "between": list(BETWEEN),
            "nice": NICE,
            "path": [*self._path, *package],
            "parent": os.getpid(),
            "remote": self.is_remote,
            "version": __version__,
        }

    def submit(
        self,
        kind: str,
        payload: dict[str, Any],
        on_message: Callable[[Event], None],
        arrays: Sequence[ArrayLike] = (),
        files: Sequence[str] = (),
    ) -> int:
        """Queue a job, starting a child if there is none.

        Parameters
        ----------
        kind : str
            A key of the jobs module's ``KINDS``.
        payload : dict
            Plain data and numpy arrays.
        on_message : callable
            Called with each event, on a thread of the client.
        arrays : sequence of ArrayLike
            What the job may read lazily, by position.
        files : sequence of str
            Files and folders that it may read besides ``payload["folder"]``, if that is a run folder.

        Returns
        -------
        int
            Number of the job.
        """
        with self._lock:
            self.start()
            number = next(self._numbers)
            growing = Growing(payload.get("output") if self.is_remote and _grows(payload) else None)
            self._jobs[number] = _Open(
                on_message, tuple(arrays), _sharing(payload, files), growing, _named_files(payload)
            )
            self._post({"type": "submit", "job": number, "kind": kind, "payload": payload})
        return number

    def stop(self, job: int) -> None:
        """Ask a job to stop; it answers within one step or tile."""
        self._post({"type": "stop", "job": job})

    def tell(self, job: int, what: str, value: Any) -> None:
        """Send a value to a running job; it replaces an earlier one that was not read yet."""
        self._post({"type": "tell", "job": job, "what": what, "value": value}, key=f"{job} {what}")

    def close(self, timeout: float = 0.0) -> None:
        """End the child; wait up to ``timeout`` seconds for it to be gone."""
        with self._lock:
            link = self._link
        if link is not None:
            link.close(timeout)

    def _post(self, message: dict[str, Any], key: str | None = None) -> None:
        """Send a message to the child, if there is one."""
        with self._lock:
            if self._link is not None:
                self._link.post(message, key)

    def _set_state(self, state: str, reason: str = "") -> None:
        """Change the state and notify."""
        self.state, self.reason = state, reason
        if self.on_state is not None:
            self.on_state(state, reason)

    def _answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """Answer a request of the child, on the reader thread."""
        job = self._jobs[question["job"]]
        if question["type"] == "read":
            return {"data": read_block(job.arrays[question["array"]], question["key"])}
        if question["type"] == "state":
            return {"data": _state(question["path"]) if question["path"] in job.named else None}
        if question["type"] == "grow":
            return {"data": job.growing.answer(question)}
        if question["type"] == "list":
            return {"data": job.files.listing(question["path"], question["parts"])}
        return {"data": job.files.read(question["path"], question["name"], question["start"])}

    def _take(self, message: dict[str, Any]) -> None:
        """Handle a message of the child."""
        if message["type"] == "ready":
            with self._lock:
                self.devices = message["devices"]
                self._set_state(READY)
        elif message["type"] == "event":
            self._on_event(message["job"], event_from_dict(message["event"]))
        elif message["type"] == "files":
            self._on_files(message)

    def _on_files(self, message: dict[str, Any]) -> None:
        """Write the files of a job on another computer, then deliver the event that names them."""
        number = message["job"]
        try:
            if number in self._jobs and message["files"]:
                self._jobs[number].files.write(message["files"])
            if message["event"]:
                self._on_event(number, event_from_dict(message["event"]))
        except StoreError as error:
            last = (message["event"] or {}).get("event") == Finished.__name__
            self._on_event(number, JobFailed(str(error)) if last else Fallback(str(error)))
        self._post({"type": "arrived", "number": message["number"]})

    def _on_event(self, number: int, event: Event) -> None:
        """Deliver an event; a job on another computer has its run folder's record here."""
        job = self._jobs.get(number)
        if isinstance(event, Started) and self.is_remote:
            event = replace(event, device=f"{event.device} {self.where}")
        if job is not None and self.is_remote and not isinstance(event, (JobDone, JobFailed)):
            try:
                job.files.record(event)
            except StoreError as error:
                _logger.warning("%s", error)
        self._deliver(number, event)

    def _deliver(self, number: int, event: Event) -> None:
        """Pass an event to the job's callback; nothing follows :class:`JobDone`."""
        with self._lock:
            job = self._jobs.pop(number, None) if isinstance(event, JobDone) else self._jobs.get(number)
        if job is None:
            return
        if isinstance(event, JobDone):
            job.growing.close()
        try:
            job.on_message(event)
        except Exception:
            _logger.exception("an event could not be delivered")

    def _end(self, link: Link, reason: str) -> None:
        """Fail the jobs of a child that is gone; an empty reason means that it was closed."""
        with self._lock:
            if self._link is not link:
                return
            self._link = None
            orphans = list(self._jobs)
            self._set_state(DEAD if reason else STOPPED, reason)
        for number in orphans:
            self._deliver(number, JobFailed(reason or "The backend was closed."))
            self._deliver(number, JobDone())


def _sharing(payload: Mapping[str, Any], files: Sequence[str]) -> Sharing:
    """Return the files that a job may read and write."""
    # A progressive result is not sent as a file.
    output = "" if _grows(payload) else payload.get("output", "")
    return Sharing(payload.get("folder", ""), files, output)


def _named_files(payload: Mapping[str, Any]) -> frozenset[str]:
    """Return the files that a job's arrays may be in."""
    arrays = payload.get("image", {}).get("arrays", [])
    return frozenset(array["file"] for array in arrays if array.get("file"))


def _state(path: str) -> dict[str, Any] | None:
    """Return what identifies a file; None if there is none."""
    try:
        return state_of(Path(path))
    except OSError:
        return None


def _grows(payload: Mapping[str, Any]) -> bool:
    """Return whether a job writes its result to disk progressively."""
    return isinstance(payload.get("output"), dict)
