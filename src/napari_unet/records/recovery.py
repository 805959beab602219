"""What was proofread and never saved: found, and had back as it was last."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ..core.errors import DataError, StoreError
from ..core.proofreading.bounding_boxes import plane_view
from ..core.proofreading.corrections import DONE, REDONE, UNDONE
from ..core.proofreading.review import Marks, ReviewedCell, marks_from_plain
from ..core.proofreading.undo import Change, History, MarkChange, Step
from ..stores.review_marks import write_json
from .correction_journal import ABOUT, FORMAT, LABELS, STEPS, Journal, complete, owner


@dataclass(frozen=True)
class Unsaved:
    """A proofreading that was never saved.

    Attributes
    ----------
    folder : Path
        Of its journal.
    about : dict
        What was noted of the labels.
    steps : int
        How many corrections are in it.
    """

    folder: Path
    about: dict[str, Any]
    steps: int

    def words(self) -> str:
        """Return what it is in words."""
        when = str(self.about.get("created", ""))[:16].replace("T", ", ")
        count = "1 correction" if self.steps == 1 else f"{self.steps} corrections"
        return f"{count} of {self.about.get('name', 'labels')} ({when})"

    def discard(self) -> None:
        """Delete it."""
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(frozen=True)
class Recovered:
    """What was proofread, as it was last.

    Attributes
    ----------
    labels : NDArray of int
        One array axis per letter of ``about["axes"]``.
    marks : Marks
        The checked cells.
    history : History
        What can be undone.
    about : dict
        What was noted of the labels.
    """

    labels: NDArray[Any]
    marks: Marks
    history: History
    about: dict[str, Any]


def unsaved() -> list[Unsaved]:
    """Return what was proofread and not saved, the newest first; not what is being proofread now."""
    found = []
    for folder in complete():
        try:
            about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
            lines = (folder / STEPS).read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError):
            # Without a step there is nothing to recover; what is damaged must not hide the others.
            continue
        undone = sum(f'"what": "{UNDONE}"' in line for line in lines)
        steps = len(lines) - 2 * undone
        if steps > 0 and folder not in Journal.mine and not _is_running(about):
            found.append(Unsaved(folder, about, steps))
    return found


def recover(folder: Path) -> Recovered:
    """Return what was proofread, as it was last, and take its journal over.

    Raises
    ------
    StoreError
        When it cannot be read.
    """
    import tifffile

    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        if about["napari_unet_corrections"] != FORMAT:
            raise ValueError(f"format {about['napari_unet_corrections']}, but this version reads {FORMAT}")
        labels = tifffile.imread(folder / LABELS).reshape(about["shape"])
        lines = (folder / STEPS).read_text(encoding="utf-8").splitlines()
        write_json(folder / ABOUT, {**about, **owner()})
        marks = marks_from_plain(about.pop("marks"))
    except (OSError, ValueError, KeyError, TypeError, DataError) as error:
        raise StoreError(f"The corrections in {folder} cannot be read: {error}.") from error
    history = History()
    for line in lines:
        try:
            entry = json.loads(line)
            _replay(entry, labels, str(about["axes"]), marks, history)
        except (ValueError, DataError):
            # The line that was being written when the program died.
            break
    return Recovered(labels, marks, history, about)


def _replay(entry: Mapping[str, Any], labels: NDArray[Any], axes: str, marks: Marks, history: History) -> None:
    """Do once more what a line says."""
    what = entry["what"]
    if what == DONE:
        step: Step | None = _step(entry)
        history.push(step)  # type: ignore[arg-type]
    else:
        step = history.redo() if what == REDONE else history.undo()
    if step is None:
        return
    for change in step.changes if what != UNDONE else reversed(step.changes):
        (y0, y1, x0, x1), after = change.box, change.before if what == UNDONE else change.after
        part = plane_view(labels, axes, change.plane)[y0:y1, x0:x1]
        differs = change.before != change.after
        part[differs] = after[differs]
    for mark in step.marks:
        kept = mark.before if what == UNDONE else mark.after
        cells = marks.setdefault(mark.plane, {})
        cells.pop(mark.cell, None)
        cells |= {mark.cell: kept} if kept else {}
        if not cells:
            del marks[mark.plane]


def _is_running(about: Mapping[str, Any]) -> bool:
    """Return whether another process is still writing a journal."""
    import psutil

    try:
        began = psutil.Process(int(about["process"])).create_time()
    except (psutil.Error, KeyError, TypeError, ValueError):
        return False
    return int(about["process"]) != os.getpid() and abs(began - float(about["process_began"])) < 1.0


def _step(entry: Mapping[str, Any]) -> Step:
    """Return the step of a line."""
    try:
        changes = tuple(Change.from_plain(plain) for plain in entry["changes"])
        marks = tuple(
            MarkChange(
                tuple(int(n) for n in mark["plane"]), int(mark["cell"]),
                *(ReviewedCell.from_plain(mark[side]) if mark[side] else None for side in ("before", "after")),
            )
            for mark in entry["marks"]
        )  # fmt: skip
        return Step(str(entry["words"]), changes, marks)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"A correction that was kept cannot be read: {error!r}.") from error
