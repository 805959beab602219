"""The files of a batch, one after the other through the engine; knows no widgets but tells who listens.

Each file is a job of its own. So one that cannot be segmented keeps no other from it, not even one on which the
computing process dies, and what is clicked in other docks meanwhile gets its turn between two files.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

from ...core import events
from ...records.replay import segment_command, segment_job, write_job
from ..dock.lifecycle import abandon_job, connect_job
from ..runtime.requests import FileRequest
from ..runtime.worker_thread import WorkerThread

if TYPE_CHECKING:
    from ..runtime.engine import Engine, EngineJob

WAITING, RUNNING, DONE, FAILED, SKIPPED = "waiting", "running", "done", "failed", "skipped"
_TILES_SHARE = 0.9
"""Share of a plane's work that is done with its last tile; what is left is to tell its cells apart."""
_DEATHS = 2
"""So many files in a row on which the computing process dies end the batch."""


@dataclass
class BatchFile:
    """A file of a batch.

    Attributes
    ----------
    source, output : Path
        The picture, and where its result goes.
    state : str
        What has become of it.
    words : str
        The same for the user.
    notes : list of str
        What is worth knowing of how it was segmented.
    """

    source: Path
    output: Path
    state: str = WAITING
    words: str = "waiting"
    notes: list[str] = field(default_factory=list)


class Batch(QObject):
    """Segments files until all are done or it is stopped.

    Parameters
    ----------
    engine : Engine
        Computes.

    Attributes
    ----------
    changed : Signal(int)
        Something has become of a file.
    advanced : Signal(float, object)
        The share of the batch that is done, and the seconds left or None.
    noted : Signal(str)
        Words about the file that runs.
    ended : Signal(str)
        Nothing runs any more, with the reason when there is one.
    """

    changed = Signal(int)
    advanced = Signal(float, object)
    noted = Signal(str)
    ended = Signal(str)

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self._engine = engine
        self._recipes = WorkerThread()
        self.files: list[BatchFile] = []
        self._request: FileRequest | None = None
        self._chosen: dict[str, Any] = {}
        self._job: EngineJob | None = None
        self._at = -1
        self._stopping = ""
        self._deaths = self._planes = self._total = 0
        self._begun, self._before = 0.0, 0.0

    @property
    def running(self) -> bool:
        """Whether it is under way."""
        return self._request is not None

    def begin(self, files: list[BatchFile], request: FileRequest, chosen: dict[str, Any]) -> None:
        """Begin with the first file.

        Parameters
        ----------
        files : list of BatchFile
            In order.
        request : FileRequest
            For each of them, but for its paths.
        chosen : dict
            Settings that the model's card brings along.
        """
        self.files, self._request, self._chosen = files, request, chosen
        self._at, self._deaths, self._stopping = -1, 0, ""
        self._begun, self._before = time.monotonic(), 0.0
        self._next()

    def stop(self) -> None:
        """Stop the file that runs, and begin no other."""
        self._stopping = self._stopping or "Stopped"
        if self._job is not None:
            self._job.stop()

    def close(self) -> None:
        """Stop, and tell nobody."""
        abandon_job(self._job)
        self._recipes.forget()
        self._job = self._request = None

    def _next(self) -> None:
        """Begin the next file that has no result yet."""
        self._at += 1
        while self._at < len(self.files) and self._is_there(self.files[self._at]):
            self._set(SKIPPED, "there already")
            self._at += 1
        if self._at >= len(self.files) or self._stopping or self._request is None:
            self._request = None
            self.ended.emit(self._stopping)
            return
        self._begin_one(self.files[self._at], self._request)

    def _is_there(self, file: BatchFile) -> bool:
        return self._request is not None and not self._request.overwrite and file.output.exists()

    def _begin_one(self, file: BatchFile, request: FileRequest) -> None:
        self._planes = self._total = 0
        self._set(RUNNING, "begins")
        self._job = self._engine.segment_file(
            FileRequest(
                str(file.source), str(file.output), request.model, request.settings, request.axes, request.overwrite
            )
        )
        connect_job(self._job, self._on_event, self._on_failed, self._on_done)

    def _set(self, state: str, words: str) -> None:
        self.files[self._at].state, self.files[self._at].words = state, words
        self.changed.emit(self._at)

    # --- what the engine says -------------------------------------------------------------------

    def _on_event(self, event: Any) -> None:
        if isinstance(event, events.Started):
            self._total = event.total or 1
            for note in event.notes:
                self._note(note)
        elif isinstance(event, events.PlaneDone):
            self._planes = event.done
            self._advance(0.0)
        elif isinstance(event, events.TileDone):
            self._advance(_TILES_SHARE * event.done / event.total)
        elif isinstance(event, events.Fallback):
            self._note(event.message)
        elif isinstance(event, events.Finished) and event.path:
            self._finish(int(event.metrics.get("objects", 0)))

    def _note(self, words: str) -> None:
        file = self.files[self._at]
        file.notes.append(words)
        self.noted.emit(f"{file.source.name}: {words}")

    def _advance(self, part: float) -> None:
        """Show how far the present file and all together are."""
        share = min(1.0, (self._planes + part) / max(1, self._total))
        self._set(RUNNING, f"{100 * share:.0f} %")
        done = (self._at + share) / len(self.files)
        elapsed = time.monotonic() - self._begun
        self.advanced.emit(done, elapsed * (1 - done) / done if done else None)

    def _finish(self, objects: int) -> None:
        """Note what was found, and write beside the result how it was made."""
        file, request = self.files[self._at], self._request
        if request is None:
            return
        cells = "1 cell" if objects == 1 else f"{objects} cells"
        planes = f" in {self._total} planes" if self._total > 1 else ""
        self._set(DONE, f"{cells}{planes}" if request.settings.what == "instances" else f"done{planes}")
        command = segment_command(
            file.source.absolute(), file.output.absolute(), request.model, request.settings, axes=request.axes,
            chosen=self._chosen,
        )  # fmt: skip
        source = str(file.source.absolute())
        job = segment_job(command, source, request.model, request.settings, None, file.source.name)
        self._recipes.run(lambda: write_job(job, file.output), lambda _: None, self.noted.emit)

    def _on_failed(self, message: str) -> None:
        # The line begins with the name already.
        source = self.files[self._at].source
        self._set(FAILED, message.removeprefix(f"{source} ").replace(str(source), source.name))

    def _on_done(self) -> None:
        self._job = None
        if self._at < len(self.files) and self.files[self._at].state == RUNNING:
            self._set(WAITING, "stopped")
        died = self.files[self._at].state == FAILED and self._engine.state == "dead"
        self._deaths = self._deaths + 1 if died else 0
        if self._deaths >= _DEATHS:
            self._stopping = "The computing process ended on several files in a row, so the rest was not begun"
        self._next()
