"""Proofreading of a stack of labels: which cells were accepted, corrected or deleted, and what follows from it.

Needs no torch. What was checked by a human outlives what a network says: it is put back over a new
segmentation, and becomes annotation for the next training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .annotation import Box
from .editing import Edit, Plane, cell_box
from .errors import DataError
from .history import Change, History, MarkChange, Step

ACCEPTED, EDITED, DELETED = "accepted", "edited", "deleted"
_COVERED = 0.5
"""Share of a new cell's area that has to lie in checked ones for it to be the same cell."""

Index = tuple[int, ...]
"""Index of a plane in its stack."""


@dataclass(frozen=True)
class Kept:
    """What is known of one checked cell in one plane.

    Attributes
    ----------
    kind : str
        ``"accepted"``, ``"edited"`` or ``"deleted"``.
    box : Box
        y0, y1, x0, x1.
    """

    kind: str
    box: Box
    _bits: bytes

    @classmethod
    def of(cls, labels: Plane, cell: int, kind: str, corner: tuple[int, int] = (0, 0)) -> Kept:
        """Return what is to be kept of a cell as it is, in labels that begin at ``corner`` of their plane."""
        y0, y1, x0, x1 = cell_box(labels, cell)
        mask = labels[y0:y1, x0:x1] == cell
        top, left = corner
        return cls(kind, (top + y0, top + y1, left + x0, left + x1), np.packbits(mask).tobytes())

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Which pixels of the box belong to the cell."""
        y0, y1, x0, x1 = self.box
        shape = (y1 - y0, x1 - x0)
        bits = np.unpackbits(np.frombuffer(self._bits, np.uint8), count=shape[0] * shape[1])
        return bits.reshape(shape).astype(bool)

    @property
    def where(self) -> tuple[slice, slice]:
        """The box as an index."""
        y0, y1, x0, x1 = self.box
        return slice(y0, y1), slice(x0, x1)

    @property
    def middle(self) -> tuple[int, int]:
        """y, x of the cell's pixel that is nearest to its centre."""
        points = np.argwhere(self.mask)
        y, x = points[np.abs(points - points.mean(axis=0)).sum(axis=1).argmin()]
        return self.box[0] + int(y), self.box[2] + int(x)


Marks = dict[Index, dict[int, Kept]]
"""By plane and label."""


@dataclass
class Proof:
    """Corrections of one stack of labels, with their undo history and marks.

    Parameters
    ----------
    read : callable
        Returns the labels of a plane, (Y, X), by its index.
    write : callable
        Writes values into a box of a plane.
    highest : int
        The largest label in use anywhere.
    """

    read: Callable[[Index], Plane]
    write: Callable[[Index, Box, Plane], None]
    highest: int = 0
    history: History = field(default_factory=History)
    marks: Marks = field(default_factory=dict)

    def marked(self, plane: Index) -> Mapping[int, Kept]:
        """Return the checked cells of a plane by label."""
        return self.marks.get(plane, {})

    def count(self) -> dict[str, int]:
        """Return how many cells are marked, by kind."""
        kinds = [kept.kind for plane in self.marks.values() for kept in plane.values()]
        return {kind: kinds.count(kind) for kind in (ACCEPTED, EDITED, DELETED)}

    def touches(self, plane: Index) -> bool:
        """Return whether a plane was corrected, also when that was undone since, or holds checked cells."""
        changed = any(change.plane == plane for step in self.history.steps() for change in step.changes)
        return changed or bool(self.marked(plane))

    # --- what the user does ---------------------------------------------------------------------

    def edit(self, plane: Index, words: str, make: Callable[[Plane, int], Edit]) -> Step:
        """Make a correction, note it, and mark the cells that it changed.

        Parameters
        ----------
        plane : tuple of int
            Where.
        words : str
            What it is, for the undo button.
        make : callable
            Returns the change from the plane's labels and the first free label.

        Raises
        ------
        DataError
            When the correction is not possible; nothing is changed then.
        """
        labels = self.read(plane)
        edit = make(labels, self.highest + 1)
        before = labels[edit.where].copy()
        self.write(plane, edit.box, edit.values)
        return self.record(plane, words, edit.box, before, edit.values)

    def record(self, plane: Index, words: str, box: Box, before: Plane, after: Plane) -> Step:
        """Note a change that was made already, and mark the cells in it.

        Parameters
        ----------
        plane, words
            Where and what.
        box : Box
            y0, y1, x0, x1.
        before, after : NDArray of int
            What the box held, and what it holds.
        """
        differs = before != after
        gone, come = (set(np.unique(part[differs]).tolist()) - {0} for part in (before, after))
        marks = self._marks_after(plane, box, gone | come, before)
        step = Step(words, (Change.of(plane, box, before, after),), marks)
        self._set([(mark, mark.after) for mark in marks])
        self.highest = max(self.highest, int(after.max(initial=0)))
        self.history.push(step)
        return step

    def _marks_after(self, plane: Index, box: Box, cells: Iterable[int], before: Plane) -> tuple[MarkChange, ...]:
        """Return the marks of the cells that a change touched: edited where they are, else deleted or none."""
        labels = self.read(plane)
        found = []
        for cell in sorted(cells):
            after: Kept | None
            if (labels == cell).any():
                after = Kept.of(labels, cell, EDITED)
            else:
                after = Kept.of(before, cell, DELETED, (box[0], box[2]))
                # A cell that went into another one is not wrong; it is part of what is marked there.
                after = None if labels[after.where][after.mask].any() else after
            found.append(MarkChange(plane, cell, self.marked(plane).get(cell), after))
        return tuple(found)

    def accept(self, plane: Index, cell: int) -> Step:
        """Mark a cell as right as it is; one that is accepted already is unmarked.

        Raises
        ------
        DataError
            When there is no such cell.
        """
        before = self.marked(plane).get(cell)
        taken_back = before is not None and before.kind == ACCEPTED
        after = None if taken_back else Kept.of(self.read(plane), cell, ACCEPTED)
        mark = MarkChange(plane, cell, before, after)
        words = f"no longer accept cell {cell}" if taken_back else f"accept cell {cell}"
        self._set([(mark, after)])
        step = Step(words, (), (mark,))
        self.history.push(step)
        return step

    def undo(self) -> Step | None:
        """Take the last step back; None when there is none."""
        step = self.history.undo()
        if step is not None:
            for change in reversed(step.changes):
                self._exchange(change, change.after, change.before)
            self._set([(mark, mark.before) for mark in step.marks])
        return step

    def redo(self) -> Step | None:
        """Make the step again that was taken back last; None when there is none."""
        step = self.history.redo()
        if step is not None:
            for change in step.changes:
                self._exchange(change, change.before, change.after)
            self._set([(mark, mark.after) for mark in step.marks])
        return step

    def _exchange(self, change: Change, now: Plane, wanted: Plane) -> None:
        """Write the pixels that a change is about; those that were changed since without a note stay as they are."""
        y0, y1, x0, x1 = change.box
        part = self.read(change.plane)[y0:y1, x0:x1].copy()
        mine = (now != wanted) & (part == now)
        part[mine] = wanted[mine]
        self.write(change.plane, change.box, part)

    def adopt(self, plane: Index, kept: Mapping[int, Kept]) -> None:
        """Take over the marks of a plane whose checked cells were put back, without a step to undo."""
        if kept:
            self.marks[plane] = dict(kept)
            self.highest = max(self.highest, *kept)

    def _set(self, marks: Iterable[tuple[MarkChange, Kept | None]]) -> None:
        """Put marks in place."""
        for mark, kept in marks:
            cells = self.marks.setdefault(mark.plane, {})
            cells.pop(mark.cell, None)
            if kept is not None:
                cells[mark.cell] = kept
            if not cells:
                del self.marks[mark.plane]


# --- what follows from it -------------------------------------------------------------------------


def put_back(labels: Plane, kept: Mapping[int, Kept]) -> Plane:
    """Return a new segmentation of a plane with the checked cells of an older one put back over it.

    Parameters
    ----------
    labels : NDArray of int
        The new segmentation, (Y, X).
    kept : mapping of int to Kept
        Checked cells by label.

    Returns
    -------
    NDArray of int
        Accepted and edited cells are as they were, under their own labels; new cells that lie in them or in
        deleted ones by more than half are left out; others give way, and take another label where theirs is
        used already.
    """
    _check_shape(labels, kept.values())
    out = labels.copy()
    fresh = max([int(labels.max(initial=0)), *kept]) + 1
    for number, cell in enumerate(sorted(set(np.unique(labels).tolist()) & set(kept) - {0})):
        out[labels == cell] = fresh + number
    checked = np.zeros(labels.shape, bool)
    for item in kept.values():
        checked[item.where] |= item.mask
    ids, numbers = np.unique(out, return_inverse=True)
    numbers = numbers.reshape(out.shape)
    areas = np.bincount(numbers.ravel(), minlength=len(ids))
    inside = np.bincount(numbers[checked], minlength=len(ids))
    out[(inside > _COVERED * areas)[numbers]] = 0
    for cell, item in kept.items():
        if item.kind != DELETED:
            out[item.where][item.mask] = cell
    return out


def as_annotation(drawn: Plane, kept: Iterable[Kept], background: int) -> tuple[Plane, tuple[tuple[int, int], ...]]:
    """Return the paint of a plane with its checked cells added, and where they are.

    Parameters
    ----------
    drawn : NDArray of int
        What was painted, (Y, X); paint comes before checked cells.
    kept : iterable of Kept
        Checked cells; of several that lie in one place the first one counts.
    background : int
        The label of painted background; 0 when there is none, then deleted cells teach nothing.

    Returns
    -------
    labels : NDArray of int32
        Paint and checked cells, each cell with a label of its own.
    places : tuple of tuple of int
        y, x of every checked cell that was added, also of the deleted ones, which became background.
    """
    kept = list(kept)
    _check_shape(drawn, kept)
    out = drawn.astype(np.int32)
    fresh = max(int(out.max(initial=0)), background) + 1
    places = []
    for item in kept:
        part, mask = out[item.where], item.mask
        free = mask & (part == 0)
        deleted = item.kind == DELETED
        if free.sum() <= _COVERED * mask.sum() or (deleted and not background):
            # Painted by hand already, or nothing to paint it with.
            continue
        part[free] = background if deleted else fresh
        fresh += not deleted
        places.append(item.middle)
    return out, tuple(places)


def _check_shape(labels: Plane, kept: Iterable[Kept]) -> None:
    """Raise a :class:`DataError` when checked cells lie beyond the plane."""
    for item in kept:
        if item.box[1] > labels.shape[0] or item.box[3] > labels.shape[1]:
            raise DataError(
                f"A checked cell reaches to {item.box[1]} x {item.box[3]} px, but the plane has only "
                f"{labels.shape[0]} x {labels.shape[1]} px; it belongs to another picture."
            )
