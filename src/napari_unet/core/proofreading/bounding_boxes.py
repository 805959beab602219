"""Where the cells of a stack of labels are: their boxes by plane, counted once and kept up to date. Needs no torch.

Whatever works on single cells reads only their boxes, so that it takes the same time in planes of any size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..data.annotation import Box
from ..data.arrays import PlaneIndex
from ..errors import DataError

Plane = NDArray[np.integer[Any]]

_DENSE = 4
"""Labels up to so many times the number of pixels are counted by a table; others are sorted."""
_LINKED = 0.5
"""Share of the labels that two neighbouring planes have in common whose boxes have to meet for cells to go through."""

_PAIRS = 50
"""Pairs of planes that are looked at for that, spread over the stack."""


@dataclass(frozen=True)
class PlaneCells:
    """The cells of one plane.

    Attributes
    ----------
    ids : NDArray of int64
        Labels in rising order, (n,).
    boxes : NDArray of int32
        y0, y1, x0, x1 of each, (n, 4).
    """

    ids: NDArray[np.int64]
    boxes: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, cell: int) -> bool:
        return self.box(cell) is not None

    def box(self, cell: int) -> Box | None:
        """Return the box of a cell; None when it is not there."""
        at = int(np.searchsorted(self.ids, cell))
        if at == len(self.ids) or self.ids[at] != cell:
            return None
        y0, y1, x0, x1 = self.boxes[at].tolist()
        return y0, y1, x0, x1

    def middles(self) -> NDArray[np.float64]:
        """Return y, x of the middle of each box, (n, 2)."""
        return np.stack([self.boxes[:, :2].mean(axis=1), self.boxes[:, 2:].mean(axis=1)], axis=1)

    def with_box(self, cell: int, box: Box | None) -> PlaneCells:
        """Return the cells with one moved, added or, where the box is None, left out."""
        at = int(np.searchsorted(self.ids, cell))
        there = at < len(self.ids) and self.ids[at] == cell
        after = at + there
        new = [] if box is None else [cell]
        ids = np.concatenate([self.ids[:at], np.array(new, np.int64), self.ids[after:]])
        middle = np.array([box] if box is not None else [], np.int32).reshape(-1, 4)
        return PlaneCells(ids, np.concatenate([self.boxes[:at], middle, self.boxes[after:]]))


def find_cells(labels: Plane) -> PlaneCells:
    """Return the cells of a plane.

    Parameters
    ----------
    labels : NDArray of int
        (Y, X); what is not above 0 is background.
    """
    most = int(labels.max(initial=0))
    if most >= _DENSE * labels.size:
        # A table of that length would take more memory than the plane.
        ids = np.unique(labels).astype(np.int64)
        ids = ids[ids > 0]
        numbers = np.searchsorted(ids, labels) + 1
        return PlaneCells(ids, find_cells(np.where(labels > 0, numbers, 0)).boxes)
    signed = labels if labels.dtype.kind == "i" and labels.dtype.itemsize <= 4 else labels.astype(np.int64)
    found = [(i, s) for i, s in enumerate(ndimage.find_objects(signed, most), 1) if s is not None]
    boxes = [(rows.start, rows.stop, columns.start, columns.stop) for _, (rows, columns) in found]
    return PlaneCells(np.array([i for i, _ in found], np.int64), np.array(boxes, np.int32).reshape(-1, 4))


class Places:
    """Boxes of all cells by plane; a plane is counted when it is first asked for.

    Parameters
    ----------
    read : callable
        Returns the labels of a plane, (Y, X), by its index.
    """

    def __init__(self, read: Callable[[PlaneIndex], Plane]) -> None:
        self._read = read
        self._cells: dict[PlaneIndex, PlaneCells] = {}
        self._versions: dict[PlaneIndex, int] = {}

    def of(self, plane: PlaneIndex) -> PlaneCells:
        """Return the cells of a plane."""
        if plane not in self._cells:
            self._cells[plane] = find_cells(self._read(plane))
        return self._cells[plane]

    def box(self, plane: PlaneIndex, cell: int) -> Box:
        """Return the box of a cell.

        Raises
        ------
        DataError
            When there is no such cell in the plane.
        """
        box = self.of(plane).box(cell) if cell > 0 else None
        if box is None:
            raise DataError(f"There is no cell {cell} in this plane; click one.")
        return box

    def knows(self, plane: PlaneIndex) -> bool:
        """Return whether a plane has been counted."""
        return plane in self._cells

    def version(self, plane: PlaneIndex) -> int:
        """Return a number that changes when the plane does."""
        return self._versions.get(plane, 0)

    def put(self, plane: PlaneIndex, cells: PlaneCells, version: int) -> None:
        """Take what was counted elsewhere, unless the plane has changed since it had this version."""
        if version == self.version(plane) and plane not in self._cells:
            self._cells[plane] = cells

    def forget(self, plane: PlaneIndex) -> None:
        """Count a plane anew when it is next asked for, because it may have changed."""
        self._versions[plane] = self.version(plane) + 1
        self._cells.pop(plane, None)

    def update(self, plane: PlaneIndex, box: Box, before: Plane, after: Plane) -> list[int]:
        """Follow a change of a plane that was made already, and return the cells that it touched.

        Parameters
        ----------
        plane : tuple of int
            Where.
        box : Box
            The part that has changed.
        before, after : NDArray of int
            What it held and what it holds.
        """
        differs = before != after
        touched = sorted({int(i) for part in (before, after) for i in np.unique(part[differs])} - {0})
        self._versions[plane] = self.version(plane) + 1
        if plane in self._cells:
            labels, cells = self._read(plane), self._cells[plane]
            for cell in touched:
                known = cells.box(cell)
                cells = cells.with_box(cell, _tight(labels, cell, around(box, known) if known else box))
            self._cells[plane] = cells
        return [cell for cell in touched if cell > 0]

    def planes_with(self, cell: int, planes: Iterable[PlaneIndex]) -> list[PlaneIndex]:
        """Return those of some planes that hold a cell."""
        return [plane for plane in planes if cell in self.of(plane)]


def around(one: Box, other: Box) -> Box:
    """Return the smallest box around two."""
    return min(one[0], other[0]), max(one[1], other[1]), min(one[2], other[2]), max(one[3], other[3])


def widened(box: Box, margin: int, shape: Sequence[int]) -> Box:
    """Return a box with a margin as far as a plane of this shape reaches."""
    y0, y1, x0, x1 = box
    return max(0, y0 - margin), min(shape[0], y1 + margin), max(0, x0 - margin), min(shape[1], x1 + margin)


def _tight(labels: Plane, cell: int, within: Box) -> Box | None:
    """Return the box of a cell that lies in a part of a plane; None when it is not there."""
    y0, y1, x0, x1 = within
    mask = labels[y0:y1, x0:x1] == cell
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    return y0 + int(rows[0]), y0 + int(rows[-1]) + 1, x0 + int(columns[0]), x0 + int(columns[-1]) + 1


def linked_axes(places: Places, shape: PlaneIndex) -> tuple[int, ...]:
    """Return the axes of a stack along which cells keep their label from plane to plane.

    Where planes were labelled one by one, each from 1 on, equal labels lie anywhere; where cells go through,
    they lie one above the other.

    Parameters
    ----------
    places : Places
        All planes.
    shape : tuple of int
        How many planes there are along each axis.
    """
    return tuple(axis for axis in range(len(shape)) if _is_linked(places, shape, axis))


def _is_linked(places: Places, shape: PlaneIndex, axis: int) -> bool:
    pairs = [(plane, _next(plane, axis)) for plane in np.ndindex(*shape) if plane[axis] + 1 < shape[axis]]
    shared = met = 0
    for plane, beyond in pairs[:: max(1, len(pairs) // _PAIRS)]:
        here, there = places.of(plane), places.of(beyond)
        _, one, other = np.intersect1d(here.ids, there.ids, assume_unique=True, return_indices=True)
        a, b = here.boxes[one], there.boxes[other]
        meets = (a[:, 0] < b[:, 1]) & (b[:, 0] < a[:, 1]) & (a[:, 2] < b[:, 3]) & (b[:, 2] < a[:, 3])
        shared, met = shared + len(a), met + int(meets.sum())
    return shared > 0 and met > _LINKED * shared


def number_pieces(labels: Plane) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return every separate piece of a plane under a number of its own, 1..n, and the label of each of them.

    Parameters
    ----------
    labels : NDArray of int
        (Y, X); what is not above 0 is background. Pixels that meet at a corner belong together.

    Returns
    -------
    tuple of NDArray
        The numbers, (Y, X), and the labels, (n,).
    """
    # Takes a moment to load, and few need it.
    from skimage.measure import label as number_equal

    inside = np.maximum(labels, 0)
    pieces = number_equal(inside, background=0, connectivity=2).astype(np.int32)
    of = np.zeros(int(pieces.max(initial=0)) + 1, np.int64)
    of[pieces.ravel()] = inside.ravel()
    return pieces, of[1:]


def _next(plane: PlaneIndex, axis: int) -> PlaneIndex:
    return tuple(n + (i == axis) for i, n in enumerate(plane))


def plane_view(labels: NDArray[Any], axes: str, plane: PlaneIndex) -> NDArray[Any]:
    """Return a plane of an array, (Y, X), without copying it.

    Parameters
    ----------
    labels : NDArray of int
        One array axis per letter; a channel axis is one thick.
    axes : str
        Letters.
    plane : tuple of int
        One number per axis that is neither y, x nor channel.
    """
    where = iter(plane)
    values = labels[tuple(slice(None) if a in "yx" else 0 if a == "c" else next(where) for a in axes)]
    return values.T if axes.index("x") < axes.index("y") else values
