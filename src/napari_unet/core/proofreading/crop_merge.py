"""A part of a plane that is corrected apart from the rest, and put back into it. Needs no torch.

Cells that reach over the edge of the part stay whole: what lies beyond the edge follows what was made of it in the
part::

    ..........+-----------      The part begins at the line. Cell 7 was deleted in it: the piece beyond goes, too.
    ...7777777|7777.......      Cell 7 became part of cell 9: the piece beyond becomes cell 9.
    ..77777777|777........      Cell 7 was split, and the piece at the edge is cell 12: the piece beyond is cell 12.
    ..........+-----------
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..data.annotation import Box
from ..errors import DataError
from .bounding_boxes import Plane, PlaneCells, find_cells, widened
from .review import DELETED, ReviewedCell

SIDE = 4096
"""Largest side of a part, in pixels."""
_MARGIN, _FAR = 256, 2048
"""Pixels around a part that are looked at, at first and at most."""
_TOUCHING = np.ones((3, 3), bool)


@dataclass(frozen=True)
class Around:
    """A part of a plane, and what lies around it.

    Attributes
    ----------
    labels : NDArray of int
        What the plane holds now in the part and around it.
    box : Box
        Where that is in the plane: y0, y1, x0, x1.
    part : Box
        Where the part is in the plane.
    shape : tuple of int
        Height and width of the plane.
    """

    labels: Plane
    box: Box
    part: Box
    shape: tuple[int, int]

    @property
    def inner(self) -> tuple[slice, slice]:
        """The part as an index into :attr:`labels`."""
        y0, y1, x0, x1 = self.part
        return slice(y0 - self.box[0], y1 - self.box[0]), slice(x0 - self.box[2], x1 - self.box[2])

    def cells_over_edge(self) -> NDArray[np.integer[Any]]:
        """Return the cells that lie on both sides of the part's edge."""
        found = [inside[(inside == beyond) & (inside > 0)] for inside, beyond in self._edges()]
        return np.unique(np.concatenate(found)) if found else np.zeros(0, self.labels.dtype)

    def _edges(self) -> Iterator[tuple[Plane, Plane]]:
        """Yield the last lines of the part and the first ones beyond it, where there are any."""
        (y0, y1), (x0, x1) = ((span.start, span.stop) for span in self.inner)
        height, width = self.labels.shape
        rows, columns = self.inner
        for line, beyond in ((y0, y0 - 1), (y1 - 1, y1)):
            if 0 <= beyond < height:
                yield self.labels[line, columns], self.labels[beyond, columns]
        for line, beyond in ((x0, x0 - 1), (x1 - 1, x1)):
            if 0 <= beyond < width:
                yield self.labels[rows, line], self.labels[rows, beyond]

    def rim(self) -> NDArray[np.bool_]:
        """Return the outermost pixels behind which the plane goes on."""
        out = np.zeros(self.labels.shape, bool)
        y0, y1, x0, x1 = self.box
        out[0], out[-1] = y0 > 0, y1 < self.shape[0]
        out[:, 0] |= x0 > 0
        out[:, -1] |= x1 < self.shape[1]
        return out


def read_around(read: Callable[[Box], Plane], part: Box, shape: tuple[int, int]) -> Around:
    """Return a part with so much around it that cells that reach over its edge are there as a whole.

    Those that reach further than 2,048 px beyond are not.

    Parameters
    ----------
    read : callable
        Returns the labels of a box of the plane.
    part : Box
        y0, y1, x0, x1.
    shape : tuple of int
        Height and width of the plane.
    """
    margin = _MARGIN
    while True:
        box = widened(part, margin, shape)
        found = Around(read(box), box, part, shape)
        cut = np.unique(found.labels[found.rim()])
        if margin >= _FAR or not np.isin(found.cells_over_edge(), cut).any():
            return found
        margin *= 2


def put_in(around: Around, part: Plane) -> Plane:
    """Return what the part and its surroundings are to hold when a corrected part is put in.

    Parameters
    ----------
    around : Around
        What is there now.
    part : NDArray of int
        The part as it was corrected.

    Raises
    ------
    DataError
        When a cell that changes beyond the edge reaches too far to be there as a whole.
    """
    before, after = around.labels, around.labels.copy()
    after[around.inner] = part
    changed = before != after
    rows, columns = around.inner
    middle = (slice(rows.start + 1, rows.stop - 1), slice(columns.start + 1, columns.stop - 1))
    changed[middle] = False
    touched = np.intersect1d(around.cells_over_edge(), before[changed])
    for cell in touched.tolist():
        _follow(around, part, after, cell)
    return after


def _follow(around: Around, part: Plane, after: Plane, cell: int) -> None:
    """Give the pieces of a cell beyond the edge the label that it has at the edge now."""
    was = around.labels == cell
    beyond = was.copy()
    beyond[around.inner] = False
    pieces, count = ndimage.label(beyond, _TOUCHING)
    for number, where in enumerate(ndimage.find_objects(pieces, count), 1):
        place = tuple(slice(max(0, span.start - 1), span.stop + 1) for span in where)
        piece = pieces[place] == number
        edge = ndimage.binary_dilation(piece, _TOUCHING) & was[place] & ~beyond[place]
        if not edge.any():
            continue
        ids, counts = np.unique(after[place][edge], return_counts=True)
        now = int(ids[counts.argmax()])
        if now == cell or (now == 0 and bool((part == cell).any())):
            # Some of it was erased, but the cell is still there.
            continue
        if bool((around.rim()[place] & piece).any()):
            raise DataError(
                f"Cell {cell} was changed where the part ends, and reaches more than {_FAR:,} px beyond. Undo that, or "
                "open a part that holds more of it."
            )
        after[place][piece] = now


def marks_for(part: Box, known: Mapping[int, ReviewedCell]) -> dict[int, ReviewedCell]:
    """Return the checked cells of a plane that lie in a part of it, as far as they do, in pixels of the part."""
    found = {cell: kept.within(part) for cell, kept in known.items()}
    return {cell: kept.moved(-part[0], -part[2]) for cell, kept in found.items() if kept is not None}


def marks_after(
    around: Around, after: Plane, mine: Mapping[int, ReviewedCell], known: Mapping[int, ReviewedCell]
) -> dict[int, ReviewedCell]:
    """Return the checked cells of a plane after a part was put back, in pixels of the plane.

    Parameters
    ----------
    around : Around
        What was there before.
    after : NDArray of int
        From :func:`put_in`.
    mine : mapping of int to Kept
        Checked cells of the part, in its own pixels.
    known : mapping of int to Kept
        Checked cells of the plane before, in pixels of the plane.
    """
    found = {cell: kept for cell, kept in known.items() if kept.within(around.part) is None}
    here, there = find_cells(after), find_cells(around.labels)
    for cell, kept in mine.items():
        gone = kept.kind == DELETED
        whole = _whole(around, around.labels if gone else after, there if gone else here, cell, kept.kind)
        if gone and cell in known and known[cell].kind == DELETED:
            found[cell] = known[cell]
        elif whole is not None:
            found[cell] = whole
        elif gone:
            # It was never on disk.
            found[cell] = kept.moved(around.part[0], around.part[2])
    return found


def _whole(around: Around, labels: Plane, cells: PlaneCells, cell: int, kind: str) -> ReviewedCell | None:
    """Return all that there is of a cell, also beyond the edge of the part; None when it is not there."""
    box = cells.box(cell)
    if box is None:
        return None
    y0, y1, x0, x1 = box
    return ReviewedCell.of(labels[y0:y1, x0:x1], cell, kind, (around.box[0] + y0, around.box[2] + x0))
