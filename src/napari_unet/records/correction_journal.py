"""The journal of a proofreading that was not saved yet; never holds up who writes it."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..core.proofreading.corrections import DONE
from ..core.proofreading.review import Marks, ReviewedCell, marks_to_plain
from ..core.proofreading.undo import Step
from ..stores.review_marks import write_json
from .runs import home

FORMAT = 2
MOST = 20
"""Journals that are kept; the oldest ones beyond that are deleted."""
_STRIP = 1 << 22
"""Bytes that are compressed at once, outside of Python: few and large, as each piece halts the viewer a little."""
_PAUSE = 0.02
"""Seconds between two pages."""
LABELS, ABOUT, STEPS = "labels.tif", "about.json", "steps.jsonl"


def corrections_folder() -> Path:
    """Return where journals lie."""
    return home() / "corrections"


def complete() -> list[Path]:
    """Return the journals that can be recovered, the newest first, whoever writes them."""
    return sorted((path.parent for path in corrections_folder().glob(f"*/{ABOUT}")), reverse=True)


class Journal:
    """Keeps every step of an unsaved proofreading on disk; never holds up who calls it.

    Parameters
    ----------
    folder : Path
        Of this journal; made by :meth:`begin`, or one that was recovered.

    Attributes
    ----------
    problem : str
        Why it cannot be kept, such as a full disk; empty while it can.
    """

    mine: ClassVar[set[Path]] = set()
    """The journals that this process is writing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.problem = ""
        self._guard = threading.Lock()
        self._about: dict[str, Any] = {}
        self._jobs: deque[Callable[[], None]] = deque()
        self._running = False
        self.mine.add(folder)

    @classmethod
    def begin(
        cls, labels: NDArray[Any], axes: str, marks: Marks, about: Mapping[str, Any], instead: Journal | None = None
    ) -> Journal:
        """Return a new journal of labels in memory.

        Parameters
        ----------
        labels : NDArray of int
            One array axis per letter; read in a thread while they may already change.
        axes : str
            Letters of their axes.
        marks : Marks
            What was checked up to now.
        about : mapping
            Plain data that says what the labels belong to.
        instead : Journal, optional
            One that is deleted when this one is complete.
        """
        folder = corrections_folder()
        name = f"{datetime.now():%Y%m%d-%H%M%S}-"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            journal = cls(Path(tempfile.mkdtemp(prefix=name, dir=folder)))
        except OSError as error:
            journal = cls(folder)
            journal.problem = _problem(error)
            return journal
        kept = {plane: dict(cells) for plane, cells in marks.items()}
        created = datetime.now().astimezone().isoformat(timespec="seconds")
        known = {**about, "napari_unet_corrections": FORMAT, "axes": axes, "created": created, **owner()}
        threading.Thread(
            target=journal._begin, args=(labels, axes, kept, known, instead), name="napari-unet journal"
        ).start()
        return journal

    def _begin(
        self, labels: NDArray[Any], axes: str, marks: Marks, about: dict[str, Any], instead: Journal | None
    ) -> None:
        """Write the labels, and then what they are."""
        try:
            _write_labels(self.folder / LABELS, labels, axes)
            about |= {"shape": list(labels.shape), "dtype": labels.dtype.str, "marks": marks_to_plain(marks)}
            with self._guard:
                write_json(self.folder / ABOUT, about | self._about)
        except OSError as error:
            self.problem = _problem(error)
            return
        if instead is not None:
            instead.discard()
        for old in complete()[MOST:]:
            shutil.rmtree(old, ignore_errors=True)

    def tell(self, **about: Any) -> None:
        """Note more plain data on the labels, at once; the caller waits until it is on disk."""
        path = self.folder / ABOUT
        with self._guard:
            self._about |= about
            if path.exists():
                write_json(path, {**json.loads(path.read_text(encoding="utf-8")), **about})

    def note(self, what: str, step: Step) -> None:
        """Keep a step that was done, undone or done again."""
        self._put(lambda: self._append(json.dumps(_entry(what, step))))

    def _append(self, line: str) -> None:
        with (self.folder / STEPS).open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def _put(self, job: Callable[[], None]) -> None:
        """Do something in a thread, one after the other; Python waits for it when it ends."""
        with self._guard:
            self._jobs.append(job)
            if not self._running:
                self._running = True
                threading.Thread(target=self._work, name="napari-unet journal").start()

    def _work(self) -> None:
        while True:
            with self._guard:
                if not self._jobs:
                    self._running = False
                    return
                job = self._jobs.popleft()
            try:
                job()
            except OSError as error:
                self.problem = _problem(error)

    def close(self) -> None:
        """Leave it to be recovered; nothing is lost when it is not called."""
        self.mine.discard(self.folder)

    def discard(self) -> None:
        """Delete it, as everything in it was saved or is not wanted."""
        if self.folder != corrections_folder():
            self._put(lambda: shutil.rmtree(self.folder, ignore_errors=True))
        self.close()


def _problem(error: OSError) -> str:
    return f"Corrections cannot be kept for the case of a crash ({error.strerror or error}); save them often."


def owner() -> dict[str, Any]:
    """Return what tells whether this process still runs."""
    import psutil

    return {"process": os.getpid(), "process_began": psutil.Process().create_time()}


def _write_labels(path: Path, labels: NDArray[Any], axes: str) -> None:
    """Write labels page by page, one core at most, with room between for who corrects them meanwhile."""
    import tifffile

    row = max(1, labels.shape[-1] * labels.dtype.itemsize)
    partial = path.with_name(f".{path.name}.part")
    tifffile.imwrite(
        partial, _pages(labels), shape=labels.shape, dtype=labels.dtype, photometric="minisblack", bigtiff=True,
        compression="zlib", compressionargs={"level": 1}, rowsperstrip=max(1, _STRIP // row), maxworkers=1,
        metadata={"axes": axes.upper()},
    )  # fmt: skip
    os.replace(partial, path)


def _pages(labels: NDArray[Any]) -> Iterator[NDArray[Any]]:
    for index in np.ndindex(labels.shape[:-2]):
        yield labels[index]
        time.sleep(_PAUSE)


def _entry(what: str, step: Step) -> dict[str, Any]:
    """Return a line of the journal."""
    if what != DONE:
        return {"what": what}
    return {
        "what": what,
        "words": step.words,
        "changes": [change.to_plain() for change in step.changes],
        "marks": [
            {"plane": list(mark.plane), "cell": mark.cell, "before": _plain(mark.before), "after": _plain(mark.after)}
            for mark in step.marks
        ],
    }


def _plain(kept: ReviewedCell | None) -> dict[str, Any] | None:
    return kept.to_plain() if kept is not None else None
