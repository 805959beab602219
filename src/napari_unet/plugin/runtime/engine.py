"""Engine events to Qt signals: what the docks talk to.

Everything is delivered in the main thread. The client's threads only append to a queue and wake the
main thread, which then delivers for a few milliseconds at a time, so that a burst of events never
makes the viewer stall. Imports neither torch nor napari.
"""

from __future__ import annotations

import atexit
import dataclasses
import logging
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from qtpy.compat import isalive
from qtpy.QtCore import QCoreApplication, QObject, Qt, QTimer, Signal

from ...core.data.annotation import AnnotatedImage
from ...core.data.arrays import Normalisation
from ...core.errors import UNetError
from ...core.events import Event, Stopped
from ...core.settings import PredictionSettings, to_dict
from ...engine import LOCAL, EngineClient, JobDone, JobFailed, PlaneLost, PlaneResult, PlaneUncertainty
from ...records import runs
from .gc_pause import Hold
from .requests import (  # fmt: skip
    FileRequest,
    LinkRequest,
    SegmentRequest,
    TrainRequest,
    look_payload,
    read_paths,
    segment_payload,
    train_payload,
)

__all__ = ["Engine", "EngineJob", "PlaneUncertainty", "PlaneLost", "PlaneResult", "SegmentRequest", "TrainRequest"]

_logger = logging.getLogger(__name__)

SLICE = 0.008
"""Seconds for which events are delivered before Qt may paint and take input again."""


class EngineJob(QObject):
    """One training, segmentation or re-labelling under way.

    Attributes
    ----------
    event : Signal(object)
        Each event of :mod:`napari_unet.core.events`; for labels also :class:`PlaneResult`, and
        :class:`PlaneLost` where outputs are no longer kept.
    failed : Signal(str)
        A readable message; at most once.
    done : Signal()
        Exactly once, always last.
    id : int
        Number of the job, for :meth:`Engine.relabel`. 0 until it was sent.
    running : bool
        Whether ``done`` is still to come.
    folder : Path or None
        The run folder of a training, once it is written.
    """

    event = Signal(object)
    failed = Signal(str)
    done = Signal()

    def __init__(self, client: EngineClient) -> None:
        super().__init__()
        self.id = 0
        self.running = True
        self.folder: Path | None = None
        self._client = client
        self._lock = threading.Lock()
        self._stop = False
        self._early: dict[str, Any] | None = None

    def stop(self) -> None:
        """Ask the job to stop; it ends within one step or tile and keeps what it reached."""
        with self._lock:
            self._stop = True
        if self.id:
            self._client.stop(self.id)

    def request_preview(self, token: int, image: NDArray[Any], normalisation: Normalisation | None = None) -> None:
        """Ask a training for its present answer on a region, (C, Y, X); only the newest request counts.

        The answer is a :class:`~napari_unet.core.events.Preview` with the same token.
        """
        if not self.running:
            return
        scale = None if normalisation is None else {"low": normalisation.low, "high": normalisation.high}
        value = {"token": token, "image": np.asarray(image), "normalisation": scale}
        with self._lock:
            self._early = None if self.id else value
        if self.id:
            self._client.tell(self.id, "preview", value)

    def look(self, plane: tuple[int, ...], box: tuple[int, int, int, int]) -> None:
        """Tell a segmentation of a large plane which part of it the user looks at; it goes on there."""
        if self.running and self.id:
            self._client.tell(self.id, "view", look_payload(plane, box))

    def repaint(self, images: Sequence[AnnotatedImage], paint: int) -> bool:
        """Have what was painted meanwhile join a training; from any thread, as it writes to the disk.

        Parameters
        ----------
        images : sequence of AnnotatedImage
            All that takes part.
        paint : int
            Which state of the paint this is, from 1 on; comes back in
            :class:`~napari_unet.core.events.AnnotationsUpdated`.

        Returns
        -------
        bool
            False when the training has not begun yet, or is over.
        """
        if not self.running or not self.id or self.folder is None:
            return False
        runs.repaint(self.folder, images)
        self._client.tell(self.id, "repainted", paint)
        return True

    def submit(
        self, kind: str, payload: dict[str, Any], deliver: Callable[[Event], None], arrays: Sequence[Any]
    ) -> None:
        """Send the job to the child, unless it was stopped before that; from any thread."""
        with self._lock:
            if not self._stop:
                self.id = self._client.submit(kind, payload, deliver, arrays, read_paths(payload))
                if self._early is not None:
                    self._client.tell(self.id, "preview", self._early)
                return
        deliver(Stopped("stopped before it began"))
        deliver(JobDone())

    def deliver(self, event: Event) -> None:
        """Emit an event as the signal that it belongs to; in the main thread."""
        if not self.running:
            return
        if isinstance(event, JobFailed):
            self.failed.emit(event.message)
        elif isinstance(event, JobDone):
            self.running = False
            self.done.emit()
        else:
            self.event.emit(event)


class Engine(QObject):
    """The child process, as the docks see it. Create and use it in the main thread.

    Attributes
    ----------
    state_changed : Signal(str)
        ``"starting"``, ``"ready"``, ``"dead"`` or ``"stopped"``.
    reason : str
        Why it is dead, in a readable sentence.

    Parameters
    ----------
    client : EngineClient, optional
        Another client than the default one.
    address : callable, optional
        Returns the address of the computer to compute on, see :func:`~napari_unet.engine.viewer.address.parse_address`.
    """

    state_changed = Signal(str)
    _wake = Signal()
    _one: ClassVar[Engine | None] = None

    def __init__(self, client: EngineClient | None = None, address: Callable[[], str] | None = None) -> None:
        super().__init__()
        self._client = client or EngineClient(address() if address is not None else LOCAL)
        self._address = address
        self._client.on_state = self._on_state
        self.state = self._client.state
        self.reason = ""
        self._jobs: dict[EngineJob, Hold] = {}
        self._queue: deque[tuple[EngineJob | None, Any]] = deque()
        self._woken = threading.Event()
        self._wake.connect(self._deliver, Qt.ConnectionType.QueuedConnection)
        application = QCoreApplication.instance()
        if application is not None:
            application.aboutToQuit.connect(self.close)
        atexit.register(self._client.close, 3.0)

    @classmethod
    def shared(cls, address: Callable[[], str] | None = None) -> Engine:
        """Return the engine of this process.

        Parameters
        ----------
        address : callable, optional
            From now on, returns the address of the computer to compute on.
        """
        if cls._one is None:
            cls._one = cls(address=address)
        elif address is not None:
            cls._one._address = address
        return cls._one

    @property
    def pid(self) -> int | None:
        """Process id of the child, once it runs."""
        return self._client.pid

    @property
    def is_remote(self) -> bool:
        """Whether it computes on another computer, which sees no files of this one."""
        return bool(self._client.is_remote)

    @property
    def where(self) -> str:
        """Where it computes: ``"on this computer"``, or for example ``"on gpu-box"``."""
        return self._client.where

    @property
    def devices(self) -> dict[str, str]:
        """Names of the devices there, by the setting ``device``; empty until the child is ready."""
        return dict(self._client.devices)

    @property
    def busy(self) -> bool:
        """Whether a job is under way."""
        return bool(self._jobs)

    def settle(self) -> None:
        """Go to where the user prefers, unless a job is under way; then the next one does."""
        if self._address is not None and not self._jobs and self._client.move(self._address()):
            self._client.start()

    def start(self) -> None:
        """Start the child, also after it died; does nothing when it runs, and never waits."""
        self.settle()
        self._client.start()

    def close(self) -> None:
        """End the child and its jobs; :meth:`start` or the next job starts another one."""
        for job in self._jobs:
            job.stop()
        self._client.close()

    def train(self, request: TrainRequest) -> EngineJob:
        """Write the run folder (in a thread), then train from it."""
        # The user goes on painting: what is written is what there was at the click.
        painted = tuple(dataclasses.replace(image, labels=_snapshot(image.labels)) for image in request.images)

        def prepare(job: EngineJob) -> tuple[str, dict[str, Any], list[Any]]:
            job.folder = runs.create_run(
                painted, request.settings, request.network, request.start, request.name, request.resume
            )
            return "train", train_payload(job.folder, request), []

        return self._begin(prepare)

    def segment(self, request: SegmentRequest) -> EngineJob:
        """Segment planes of an image; each arrives as a :class:`PlaneResult`, before its ``PlaneDone``."""

        def prepare(job: EngineJob) -> tuple[str, dict[str, Any], list[Any]]:
            return "segment", segment_payload(request), list(request.image.arrays)

        return self._begin(prepare)

    def segment_file(self, request: FileRequest) -> EngineJob:
        """Segment a file into another one; the :class:`~napari_unet.core.events.Finished` says where it lies."""
        return self._begin(lambda job: ("segment_file", request.payload(), []))

    def link(self, request: LinkRequest) -> EngineJob:
        """Link the planes of a stack of labels; each arrives as a :class:`PlaneResult`, or they grow on disk."""
        return self._begin(lambda job: ("link", request.payload(), [request.labels]))

    def relabel(self, sources: Mapping[tuple[int, ...], int], settings: PredictionSettings) -> EngineJob:
        """Label planes again from their kept outputs; :class:`PlaneLost` where there are none any more.

        Runs between two tiles or steps of a job that is under way.

        Parameters
        ----------
        sources : mapping of tuple of int to int
            By plane, in the order to be done: ``id`` of the job that segmented it.
        settings : PredictionSettings
            How to label.
        """
        planes = [{"plane": list(map(int, plane)), "job": job_id} for plane, job_id in sources.items()]
        payload = {"settings": to_dict(settings), "planes": planes}
        return self._begin(lambda job: ("relabel", payload, []))

    def suggest(self, request: SegmentRequest, now: bool = False) -> EngineJob:
        """Ask how uncertain a model is of planes; each is a :class:`PlaneUncertainty`, before its ``PlaneDone``.

        Parameters
        ----------
        request : SegmentRequest
            The image, the model and the planes.
        now : bool
            Whether it is answered between two steps of a training under way, which waits meanwhile.
        """

        def prepare(job: EngineJob) -> tuple[str, dict[str, Any], list[Any]]:
            kind = "suggest_now" if now else "suggest"
            return kind, segment_payload(request), list(request.image.arrays)

        return self._begin(prepare)

    # ---- other threads to the main thread ---------------------------------------------------------

    def _begin(self, prepare: Callable[[EngineJob], tuple[str, dict[str, Any], list[Any]]]) -> EngineJob:
        """Return a new job, prepared and sent in a thread."""
        self.settle()
        job = EngineJob(self._client)
        self._jobs[job] = Hold()
        self._client.start()
        threading.Thread(target=self._submit, args=(job, prepare), name="unet-submit", daemon=True).start()
        return job

    def _submit(self, job: EngineJob, prepare: Callable[[EngineJob], tuple[str, dict[str, Any], list[Any]]]) -> None:
        """Prepare and send a job; whatever goes wrong is the job's failure."""
        try:
            kind, payload, arrays = prepare(job)
            job.submit(kind, payload, lambda event: self._post(job, event), arrays)
        except UNetError as error:
            self._fail(job, str(error))
        except Exception as error:
            _logger.exception("a job could not be prepared")
            self._fail(job, f"internal error: {type(error).__name__}: {error} (details in {_save_traceback()})")

    def _fail(self, job: EngineJob, message: str) -> None:
        """End a job that was never sent."""
        self._post(job, JobFailed(message))
        self._post(job, JobDone())

    def _on_state(self, state: str, reason: str) -> None:
        """Pass a state on to the main thread."""
        self._post(None, (state, reason))

    def _post(self, job: EngineJob | None, item: Any) -> None:
        """Append to the queue, and wake the main thread unless it is on its way already."""
        # At the end of the process Qt takes this object apart: then nobody is left to be told.
        if not isalive(self):
            return
        self._queue.append((job, item))
        if not self._woken.is_set():
            self._woken.set()
            try:
                self._wake.emit()
            except RuntimeError:
                # Taken apart since the question.
                _logger.debug("an event came after the end of the engine: %r", item)

    def _deliver(self) -> None:
        """Deliver what is in the queue, for a few milliseconds."""
        self._woken.clear()
        until = time.perf_counter() + SLICE
        while self._queue:
            if time.perf_counter() > until:
                # A timer and not another signal, because Qt lets no timer in between two posted events.
                self._woken.set()
                QTimer.singleShot(0, self._deliver)
                return
            self._hand_over(*self._queue.popleft())

    def _hand_over(self, job: EngineJob | None, item: Any) -> None:
        """Emit one item as a signal."""
        if job is None:
            self.state, self.reason = item
            self.state_changed.emit(self.state)
            return
        job.deliver(item)
        if not job.running and job in self._jobs:
            self._jobs.pop(job).release()
            if not self._jobs and self.state == "ready":
                self.settle()


def _snapshot(labels: Any) -> Any:
    """Return a copy of labels in memory; lazy ones are read later, in a thread."""
    return labels.copy() if isinstance(labels, np.ndarray) else labels


def _save_traceback() -> Path:
    """Append the traceback of the present exception to the viewer's log, and return the log's path."""
    path = runs.home() / "logs" / "viewer.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{datetime.now().isoformat(timespec='seconds')}\n{traceback.format_exc()}\n")
    return path
