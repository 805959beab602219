"""The viewer's side of the engine: one child at a time, and the jobs that it was given. Needs no torch."""

from __future__ import annotations

import itertools
import logging
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.arrays import ArrayLike
from ..core.events import Event
from .link import LOCAL, Link
from .wire import JobDone, JobFailed, event_from_dict

_logger = logging.getLogger(__name__)

NICE = 10
"""Priority of the child: the viewer goes first."""
BETWEEN = ("relabel", "suggest_now")
"""Short kinds of job, answered between two events of a running one."""

STOPPED, STARTING, READY, DEAD = "stopped", "starting", "ready", "dead"


@dataclass(frozen=True)
class _Open:
    """A job that is not done: who wants its events, and the arrays that the child may read."""

    on_message: Callable[[Event], None]
    arrays: tuple[ArrayLike, ...]


class EngineClient:
    """Starts the child process, gives it jobs and delivers their events.

    All methods return at once. Events arrive on a thread of the client, in order: what the generator
    yields, then :class:`~napari_unet.engine.wire.JobFailed` if it failed, then, exactly once and
    always, :class:`~napari_unet.engine.wire.JobDone`.

    Parameters
    ----------
    address : str
        ``"local"``, or an execnet specification such as ``"ssh=user@machine"``.
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
        jobs: str = "napari_unet.engine.jobs",
        path: Sequence[str] = (),
    ) -> None:
        local = address == LOCAL
        # The child finds the package also when the viewer found it by a path of its own.
        package = [str(Path(__file__).parents[2])] if local else []
        self._config = {
            "jobs": jobs, "between": list(BETWEEN), "nice": NICE, "path": [*path, *package],
            "parent": os.getpid() if local else None,
        }  # fmt: skip
        self._address = address
        self.on_state = on_state
        self._numbers = itertools.count(1)
        self._lock = threading.RLock()
        self._link: Link | None = None
        self._jobs: dict[int, _Open] = {}
        self.state = STOPPED
        self.reason = ""

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
            link = Link(self._address, self._config, self._take, self._array, lambda reason: self._end(link, reason))
            self._link = link
            self._set_state(STARTING)
        link.open()

    def submit(
        self, kind: str, payload: dict[str, Any], on_message: Callable[[Event], None], arrays: Sequence[ArrayLike] = ()
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

        Returns
        -------
        int
            Number of the job.
        """
        with self._lock:
            self.start()
            number = next(self._numbers)
            self._jobs[number] = _Open(on_message, tuple(arrays))
            self._post({"type": "submit", "job": number, "kind": kind, "payload": payload})
        return number

    def stop(self, job: int) -> None:
        """Ask a job to stop; it answers within one step or tile."""
        self._post({"type": "stop", "job": job})

    def tell(self, job: int, what: str, value: Any) -> None:
        """Leave something for a running job; what it did not take yet is replaced."""
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
        """Change the state and tell."""
        self.state, self.reason = state, reason
        if self.on_state is not None:
            self.on_state(state, reason)

    def _array(self, job: int, index: int) -> ArrayLike:
        """Return an array of a job, for the reader thread."""
        return self._jobs[job].arrays[index]

    def _take(self, message: dict[str, Any]) -> None:
        """Handle a message of the child."""
        if message["type"] == "ready":
            with self._lock:
                self._set_state(READY)
        elif message["type"] == "event":
            self._deliver(message["job"], event_from_dict(message["event"]))

    def _deliver(self, number: int, event: Event) -> None:
        """Hand an event to whoever submitted the job; nothing follows :class:`JobDone`."""
        with self._lock:
            job = self._jobs.pop(number, None) if isinstance(event, JobDone) else self._jobs.get(number)
        if job is None:
            return
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
            self._deliver(number, JobFailed(reason or "The computing process was closed."))
            self._deliver(number, JobDone())
