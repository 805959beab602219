"""Cells that a human has checked: what is kept of them, and what follows from it. Needs no torch.

What was checked by a human outlives what a network says: it is put back over a new segmentation, becomes
annotation for the next training, and is written beside saved labels.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.annotation import Box
from ..data.arrays import PlaneIndex
from ..errors import DataError
from .bounding_boxes import Plane
from .edits import cell_box

ACCEPTED, EDITED, DELETED = KINDS = ("accepted", "edited", "deleted")
COVERED = 0.5
"""Share of a new cell's area that has to lie in checked ones for it to be the same cell."""


@dataclass(frozen=True)
class ReviewedCell:
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
    def of(cls, labels: Plane, cell: int, kind: str, corner: tuple[int, int] = (0, 0)) -> ReviewedCell:
        """Return what is to be kept of a cell as it is, in labels that begin at ``corner`` of their plane."""
        y0, y1, x0, x1 = cell_box(labels, cell)
        mask = labels[y0:y1, x0:x1] == cell
        return cls(kind, (y0, y1, x0, x1), np.packbits(mask).tobytes()).moved(*corner)

    def moved(self, rows: int, columns: int) -> ReviewedCell:
        """Return the same cell so many pixels further down and to the right."""
        y0, y1, x0, x1 = self.box
        return replace(self, box=(y0 + rows, y1 + rows, x0 + columns, x1 + columns))

    def within(self, box: Box) -> ReviewedCell | None:
        """Return what lies of the cell in a box; None when nothing does."""
        top, bottom, left, right = self.box
        if box[0] >= bottom or top >= box[1] or box[2] >= right or left >= box[3]:
            return None
        (y0, y1), (x0, x1) = ((max(0, a), max(0, b)) for a, b in ((box[0] - top, box[1] - top),
                                                                  (box[2] - left, box[3] - left)))  # fmt: skip
        mask = self.mask[y0:y1, x0:x1]
        return ReviewedCell.of(mask.astype(np.uint8), 1, self.kind, (top + y0, left + x0)) if mask.any() else None

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Which pixels of the box belong to the cell."""
        y0, y1, x0, x1 = self.box
        shape = (y1 - y0, x1 - x0)
        bits = np.unpackbits(np.frombuffer(self._bits, np.uint8), count=shape[0] * shape[1])
        return bits.reshape(shape).astype(bool)

    def fits(self, labels: Any, cell: int) -> bool:
        """Return whether a plane still holds the cell as it is kept, or nothing of it when it was deleted.

        The labels are asked for their ``shape`` and for the box of the cell only.
        """
        y0, y1, x0, x1 = self.box
        if min(y0, x0) < 0 or y1 > labels.shape[0] or x1 > labels.shape[1]:
            return False
        here = labels[self.where] == cell
        return bool((here == (self.mask & (self.kind != DELETED))).all())

    def to_plain(self) -> dict[str, Any]:
        """Return it as plain data, for a file."""
        return {"kind": self.kind, "box": list(self.box), "mask": base64.b64encode(self._bits).decode()}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> ReviewedCell:
        """Return what :meth:`to_plain` has written.

        Raises
        ------
        DataError
            When it is damaged.
        """
        try:
            kind, bits = str(plain["kind"]), base64.b64decode(plain["mask"], validate=True)
            y0, y1, x0, x1 = (int(n) for n in plain["box"])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"What is noted of a checked cell cannot be read: {error!r}.") from error
        if kind not in KINDS or not (y0 < y1 and x0 < x1) or 8 * len(bits) < (y1 - y0) * (x1 - x0):
            raise DataError(f"What is noted of a checked cell cannot be read: {kind} in {y0}:{y1}, {x0}:{x1}.")
        return cls(kind, (y0, y1, x0, x1), bits)

    @property
    def where(self) -> tuple[slice, slice]:
        """The box as an index."""
        y0, y1, x0, x1 = self.box
        return slice(y0, y1), slice(x0, x1)

    @cached_property
    def middle(self) -> tuple[int, int]:
        """y, x of the cell's pixel that is nearest to its centre."""
        points = np.argwhere(self.mask)
        y, x = points[np.abs(points - points.mean(axis=0)).sum(axis=1).argmin()]
        return self.box[0] + int(y), self.box[2] + int(x)


Marks = dict[PlaneIndex, dict[int, ReviewedCell]]
"""By plane and label."""


def marks_to_plain(marks: Marks) -> list[dict[str, Any]]:
    """Return marks as plain data, for a file."""
    return [
        {"plane": list(plane), "cell": cell, **kept.to_plain()}
        for plane, cells in sorted(marks.items())
        for cell, kept in sorted(cells.items())
    ]


def marks_from_plain(plain: Iterable[Mapping[str, Any]]) -> Marks:
    """Return what :func:`marks_to_plain` has written.

    Raises
    ------
    DataError
        When it is damaged.
    """
    marks: Marks = {}
    for entry in plain:
        kept = ReviewedCell.from_plain(entry)
        try:
            plane, cell = tuple(int(n) for n in entry["plane"]), int(entry["cell"])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"What is noted of a checked cell cannot be read: {error!r}.") from error
        marks.setdefault(plane, {})[cell] = kept
    return marks


def fitting(marks: Marks, read: Callable[[PlaneIndex], Any], planes: Sequence[PlaneIndex]) -> Marks:
    """Return those marks that say what is there, as labels may have been changed elsewhere since.

    Parameters
    ----------
    marks : Marks
        From a file or another layer.
    read : callable
        Returns the labels of a plane by its index, or what has a ``shape`` and gives parts of them.
    planes : sequence of tuple of int
        The planes that there are.
    """
    known = set(planes)
    found: Marks = {}
    for plane, cells in marks.items():
        if plane in known:
            labels = read(plane)
            here = {cell: kept for cell, kept in cells.items() if kept.fits(labels, cell)}
            found |= {plane: here} if here else {}
    return found


def put_back(labels: Plane, kept: Mapping[int, ReviewedCell]) -> Plane:
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
    ids, numbers = _numbered(labels)
    checked = np.zeros(labels.shape, bool)
    for item in kept.values():
        checked[item.where] |= item.mask
    areas = np.bincount(numbers.ravel(), minlength=len(ids))
    inside = np.bincount(numbers[checked], minlength=len(ids))
    wanted = ids.copy()
    taken = np.flatnonzero((ids > 0) & (areas > 0) & np.isin(ids, list(kept)))
    wanted[taken] = max([int(labels.max(initial=0)), *kept]) + 1 + np.arange(len(taken))
    wanted[inside > COVERED * areas] = 0
    out: Plane = wanted.astype(labels.dtype)[numbers]
    for cell, item in kept.items():
        if item.kind != DELETED:
            out[item.where][item.mask] = cell
    return out


def _numbered(labels: Plane) -> tuple[NDArray[np.int64], Plane]:
    """Return labels, and the plane with the place of each pixel's label among them."""
    most = int(labels.max(initial=0))
    if most < labels.size and labels.min(initial=0) >= 0:
        # Of a new segmentation, whose labels are 1 to n; many times faster than sorting all pixels.
        return np.arange(most + 1, dtype=np.int64), labels
    ids, numbers = np.unique(labels, return_inverse=True)
    return ids.astype(np.int64), numbers.reshape(labels.shape)


def as_annotation(
    drawn: Plane, kept: Iterable[ReviewedCell], background: int
) -> tuple[Plane, tuple[tuple[int, int], ...]]:
    """Return the paint of a plane with its checked cells added, and where they are.

    Parameters
    ----------
    drawn : NDArray of int
        What was painted, (Y, X); paint comes before checked cells.
    kept : iterable of ReviewedCell
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
        if free.sum() <= COVERED * mask.sum() or (deleted and not background):
            # Painted by hand already, or nothing to paint it with.
            continue
        part[free] = background if deleted else fresh
        fresh += not deleted
        places.append(item.middle)
    return out, tuple(places)


def _check_shape(labels: Plane, kept: Iterable[ReviewedCell]) -> None:
    """Raise a :class:`DataError` when checked cells lie beyond the plane."""
    for item in kept:
        if item.box[1] > labels.shape[0] or item.box[3] > labels.shape[1]:
            raise DataError(
                f"A checked cell reaches to {item.box[1]} x {item.box[3]} px, but the plane has only "
                f"{labels.shape[0]} x {labels.shape[1]} px; it belongs to another picture."
            )
