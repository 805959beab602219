"""Corrections of cells in one plane of labels: each function returns what it changes, and changes nothing.

Needs no torch. Planes are (Y, X) arrays of any integer type, 0 = background.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..data.annotation import Box
from ..errors import DataError
from ..instances.constriction import Mask, find_constriction, sides_of_seeds, split_across_long_axis
from .bounding_boxes import Plane, around

Point = tuple[int, int]
"""y, x in pixels."""

SEAM = 2
"""Pixels from either cell up to which the background between two merged cells becomes part of them."""
_CRUMB = 0.02
"""Share of a cell below which a piece that a line cuts off is left with its neighbour."""
_SPLIT_WAIST, _SPLIT_SHARE = 0.95, 0.1
_AROUND = np.ones((3, 3), bool)


@dataclass(frozen=True)
class Edit:
    """New values of a part of a plane.

    Attributes
    ----------
    box : Box
        y0, y1, x0, x1.
    values : NDArray of int
        What is in the box afterwards, (y1 - y0, x1 - x0), in the plane's number type.
    """

    box: Box
    values: Plane

    @property
    def where(self) -> tuple[slice, slice]:
        """The box as an index."""
        y0, y1, x0, x1 = self.box
        return slice(y0, y1), slice(x0, x1)

    def apply(self, labels: Plane) -> None:
        """Make the change in place."""
        labels[self.where] = self.values


def cell_box(labels: Plane, cell: int, margin: int = 0) -> Box:
    """Return the bounding box of a cell, widened by a margin as far as the plane reaches.

    Raises
    ------
    DataError
        When there is no such cell in the plane.
    """
    mask = labels == cell
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if cell <= 0 or not len(rows):
        raise DataError(f"There is no cell {cell} in this plane; click one.")
    return (
        max(0, int(rows[0]) - margin),
        min(labels.shape[0], int(rows[-1]) + 1 + margin),
        max(0, int(columns[0]) - margin),
        min(labels.shape[1], int(columns[-1]) + 1 + margin),
    )


def merge(labels: Plane, first: int, second: int) -> Edit:
    """Let the second cell become part of the first, with the seam of background between them.

    Raises
    ------
    DataError
        When one is missing, or both are the same.
    """
    if first == second:
        raise DataError(f"Cell {first} was chosen twice; choose another one to merge it with.")
    box = around(cell_box(labels, first, SEAM), cell_box(labels, second, SEAM))
    part = _copy(labels, box)
    seam = _seam(part == first, part == second) & (part == 0)
    part[(part == second) | seam] = first
    return Edit(box, part)


def _seam(one: Mask, other: Mask) -> Mask:
    """Return the pixels between two masks that are near to both, without any beside them."""
    near = [ndimage.binary_dilation(mask, _AROUND, iterations=SEAM) for mask in (one, other)]
    closed = ndimage.binary_closing(np.pad(one | other, SEAM), _AROUND, iterations=SEAM)
    return np.asarray(near[0] & near[1] & closed[SEAM:-SEAM, SEAM:-SEAM])


def split_at_constriction(labels: Plane, cell: int, fresh: int) -> Edit:
    """Split a cell in two at its narrowest place, or across its middle when it has none.

    Parameters
    ----------
    labels : NDArray of int
        The plane.
    cell : int
        Which cell.
    fresh : int
        The label of the smaller part.

    Raises
    ------
    DataError
        When the cell is missing or has a single pixel.
    """
    box, mask = _mask(labels, cell)
    constriction = find_constriction(mask, _SPLIT_WAIST, _SPLIT_SHARE)
    return _split(labels, cell, box, constriction.sides if constriction else split_across_long_axis(mask), fresh)


def split_by_seeds(labels: Plane, cell: int, seeds: Sequence[Point], fresh: int) -> Edit:
    """Split a cell into as many parts as there are seeds in it; borders follow its narrow places.

    Parameters
    ----------
    labels, cell
        The plane, and which cell.
    seeds : sequence of tuple of int
        y, x of a pixel in each part.
    fresh : int
        First label of the new parts; the largest part keeps its own, the others take the numbers from here on.

    Raises
    ------
    DataError
        With fewer than two seeds in different pixels of the cell.
    """
    box, mask = _mask(labels, cell)
    y0, y1, x0, x1 = box
    inside = [(y - y0, x - x0) for y, x in dict.fromkeys(seeds) if y0 <= y < y1 and x0 <= x < x1]
    inside = [(y, x) for y, x in inside if mask[y, x]]
    if len(inside) < 2:
        raise DataError(f"Cell {cell} has {len(inside)} seeds; click one in each part, at least two.")
    return _split(labels, cell, box, sides_of_seeds(mask, inside), fresh)


def split_by_line(labels: Plane, cell: int, path: Sequence[Point], fresh: int) -> Edit:
    """Split a cell along a drawn line.

    Parameters
    ----------
    labels, cell
        The plane, and which cell.
    path : sequence of tuple of int
        y, x of the corners of the line, which may begin and end outside of the plane.
    fresh : int
        First label of the new parts, see :func:`split_by_seeds`.

    Raises
    ------
    DataError
        When the line does not part the cell.
    """
    box, mask = _mask(labels, cell)
    y0, _, x0, _ = box
    cut = mask.copy()
    for y, x in line_pixels(path):
        if 0 <= y - y0 < mask.shape[0] and 0 <= x - x0 < mask.shape[1]:
            cut[y - y0, x - x0] = False
    # Corners do not connect here, as a line of pixels that touch by their corners has to part a cell.
    pieces, count = ndimage.label(cut)
    areas = np.bincount(pieces.ravel(), minlength=count + 1)
    large = [i for i in range(1, count + 1) if areas[i] >= max(1, _CRUMB * mask.sum())]
    if len(large) < 2:
        raise DataError(f"The line does not part cell {cell}; begin and end it outside of the cell.")
    nearest = ndimage.distance_transform_edt(~np.isin(pieces, large), return_distances=False, return_indices=True)
    return _split(labels, cell, box, np.where(mask, pieces[tuple(nearest)], 0), fresh)


def line_pixels(path: Sequence[Point]) -> list[Point]:
    """Return the pixels of a line through some corners, connected at least by their corners."""
    from skimage.draw import line

    pixels: list[Point] = []
    for (y, x), (next_y, next_x) in zip(path, path[1:], strict=False):
        rows, columns = line(y, x, next_y, next_x)
        pixels += zip(rows.tolist(), columns.tolist(), strict=True)
    return pixels


def cell_on_line(labels: Plane, path: Sequence[Point]) -> int:
    """Return the cell that a line runs through the longest.

    Raises
    ------
    DataError
        When it runs through none.
    """
    inside = [labels[y, x] for y, x in line_pixels(path) if 0 <= y < labels.shape[0] and 0 <= x < labels.shape[1]]
    ids, counts = np.unique([int(i) for i in inside if i > 0], return_counts=True)
    if not len(ids):
        raise DataError("The line runs through no cell; draw it across the cell to be split.")
    return int(ids[counts.argmax()])


def delete(labels: Plane, cell: int) -> Edit:
    """Make a cell background.

    Raises
    ------
    DataError
        When it is missing.
    """
    box, mask = _mask(labels, cell)
    return _with(labels, box, mask, 0)


def split_like(labels: Plane, cell: int, parts: Plane, corner: Point) -> Edit | None:
    """Split a cell as it was split in another plane: each pixel goes to the part that is nearest.

    Parameters
    ----------
    labels, cell
        The plane, and which cell.
    parts : NDArray of int
        Labels of the parts in the other plane, (h, w); 0 elsewhere.
    corner : tuple of int
        y, x in this plane where ``parts`` begins; may lie outside.

    Returns
    -------
    Edit or None
        None when the whole cell keeps its label.

    Raises
    ------
    DataError
        When it is missing.
    """
    box, mask = _mask(labels, cell)
    there = corner[0], corner[0] + parts.shape[0], corner[1], corner[1] + parts.shape[1]
    y0, y1, x0, x1 = around(box, there)
    frame = np.zeros((y1 - y0, x1 - x0), labels.dtype)
    frame[there[0] - y0 : there[1] - y0, there[2] - x0 : there[3] - x0] = parts
    nearest = ndimage.distance_transform_edt(frame == 0, return_distances=False, return_indices=True)
    sides = frame[tuple(nearest)][box[0] - y0 : box[1] - y0, box[2] - x0 : box[3] - x0]
    part = _copy(labels, box)
    part[mask] = sides[mask]
    return Edit(box, part) if (part[mask] != cell).any() else None


def rename(labels: Plane, cell: int, label: int) -> Edit:
    """Give a cell another label.

    Raises
    ------
    DataError
        When it is missing.
    """
    box, mask = _mask(labels, cell)
    return _with(labels, box, mask, label)


def fill(labels: Plane, cell: int) -> Edit:
    """Fill the holes of a cell; other cells inside of it stay.

    Raises
    ------
    DataError
        When it is missing or has no holes.
    """
    box, mask = _mask(labels, cell)
    holes = ndimage.binary_fill_holes(mask) & (_copy(labels, box) == 0)
    if not holes.any():
        raise DataError(f"Cell {cell} has no holes.")
    return _with(labels, box, holes, cell)


def grow(labels: Plane, cell: int) -> Edit:
    """Widen a cell by a pixel all around, into background only.

    Raises
    ------
    DataError
        When it is missing, or other cells or the edge leave it no room.
    """
    box, mask = _mask(labels, cell, margin=1)
    rim = ndimage.binary_dilation(mask) & (_copy(labels, box) == 0)
    if not rim.any():
        raise DataError(f"There is no background around cell {cell} to grow into.")
    return _with(labels, box, rim, cell)


def shrink(labels: Plane, cell: int) -> Edit:
    """Take a pixel away from a cell all around.

    Raises
    ------
    DataError
        When it is missing or nothing would be left of it.
    """
    box, mask = _mask(labels, cell)
    left = ndimage.binary_erosion(np.pad(mask, 1))[1:-1, 1:-1]
    if not left.any():
        raise DataError(f"Nothing would be left of cell {cell}; delete it instead.")
    return _with(labels, box, mask & ~left, 0)


def _mask(labels: Plane, cell: int, margin: int = 0) -> tuple[Box, Mask]:
    """Return a cell's box and which of its pixels belong to it."""
    box = cell_box(labels, cell, margin)
    return box, _copy(labels, box) == cell


def _copy(labels: Plane, box: Box) -> Plane:
    """Return a copy of a part of a plane."""
    return labels[box[0] : box[1], box[2] : box[3]].copy()


def _with(labels: Plane, box: Box, where: Mask, value: int) -> Edit:
    """Return the change of some pixels of a box to one value."""
    part = _copy(labels, box)
    part[where] = value
    return Edit(box, part)


def _split(labels: Plane, cell: int, box: Box, sides: NDArray[np.integer[Any]], fresh: int) -> Edit:
    """Give each side of a cell its own label: the largest keeps its own, the others take those from ``fresh`` on."""
    areas = np.bincount(sides.ravel())[1:]
    found = [int(i) + 1 for i in np.argsort(-areas, kind="stable") if areas[i]]
    if len(found) < 2:
        raise DataError(f"Cell {cell} is too small to be split.")
    most = fresh + len(found) - 2
    if most > np.iinfo(labels.dtype).max:
        raise DataError(
            f"Label {most} does not fit into {labels.dtype} numbers; convert the layer to int32 (right click on it in "
            "the layer list)."
        )
    part = _copy(labels, box)
    for number, side in enumerate(found[1:]):
        part[sides == side] = fresh + number
    return Edit(box, part)
