"""Small tools for instance labels (Y, X). Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Labels = NDArray[np.integer[Any]]


def consecutive(labels: Labels) -> NDArray[np.int32]:
    """Return the labels renumbered 1..n in order of their ids; 0 and negative ids become 0."""
    if int(labels.max(initial=0)) <= labels.size:
        # A table of all ids is smaller than the picture, and several times faster than sorting its pixels.
        clipped = np.maximum(labels, 0).astype(np.intp)
        return np.cumsum(_occurring(clipped), dtype=np.int32)[clipped]
    ids, inverse = np.unique(labels, return_inverse=True)
    new = np.cumsum(ids > 0).astype(np.int32)
    new[ids <= 0] = 0
    return new[inverse].reshape(labels.shape)


def ids_of(labels: Labels) -> NDArray[np.integer[Any]]:
    """Return the ids of the cells, sorted: the labels above 0 that occur."""
    if int(labels.max(initial=0)) <= labels.size:
        return np.flatnonzero(_occurring(np.maximum(labels, 0).astype(np.intp)))
    ids = np.unique(labels)
    return np.asarray(ids[ids > 0])


def _occurring(labels: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Return which numbers from 0 to the highest one are cells of the labels, none of which is negative."""
    there = np.zeros(int(labels.max(initial=0)) + 1, bool)
    there[labels] = True
    there[0] = False
    return there


def near_two(labels: Labels, radius: int) -> NDArray[np.bool_]:
    """Return where at least two different cells lie within a square of ``radius`` pixels."""
    size = 2 * radius + 1
    highest = ndimage.maximum_filter(labels, size)
    large = np.iinfo(labels.dtype).max
    lowest = ndimage.minimum_filter(np.where(labels > 0, labels, large).astype(labels.dtype), size)
    return np.asarray((highest > 0) & (lowest < highest))


def erode_boundaries(labels: Labels, width: int = 1) -> NDArray[np.int32]:
    """Return the labels with a background gap between touching cells.

    Parameters
    ----------
    labels : NDArray of int
        Instance labels, (Y, X), 0 = background.
    width : int
        Width of the gap in pixels. 0 returns the labels as they are.

    Notes
    -----
    Half of the gap is taken from either cell; the odd pixel of an odd width comes from the upper or
    left one. Afterwards no two cells touch, diagonally neither.
    """
    cut = consecutive(labels)
    half, odd = divmod(width, 2)
    if odd:
        _part_neighbours(cut)
    if half:
        cut[near_two(cut, half + odd) & (cut > 0)] = 0
    return cut


def _part_neighbours(labels: NDArray[np.int32]) -> None:
    """Take away pixels whose right or lower neighbour, diagonals included, is another cell, in place.

    One direction after the other: where sides no longer touch, most diagonals do not either, and a
    straight border loses one row of pixels instead of two.
    """
    height, width = labels.shape
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        here = labels[: height - dy, max(0, -dx) : width - max(0, dx)]
        there = labels[dy:, max(0, dx) : width + min(0, dx)]
        here[(here > 0) & (there > 0) & (here != there)] = 0


def median_diameter(labels: Labels) -> float:
    """Return the median diameter in pixels of circles of the cells' areas; 0 without cells."""
    areas = np.bincount(labels.ravel().clip(0))[1:]
    areas = areas[areas > 0]
    return float(np.median(np.sqrt(areas * 4 / np.pi))) if len(areas) else 0.0


def smallest_area(many: Sequence[Labels]) -> float:
    """Return the area in pixels below which a cell is taken for a speck; 0 without cells.

    An eighth of the area that 95 % of the cells exceed: a cell at the image's edge shows only a part of itself, and
    others may be smaller than the few that were painted.
    """
    areas = np.concatenate([np.bincount(labels.ravel().clip(0))[1:] for labels in many] or [np.zeros(0, np.intp)])
    areas = areas[areas > 0]
    return float(np.percentile(areas, 5) / 8) if len(areas) else 0.0


def border_distance(labels: Labels) -> NDArray[np.float32]:
    """Return each pixel's distance to its cell's border, 1 at the cell's innermost pixel, 0 outside.

    One distance transform serves all cells: the gap that :func:`erode_boundaries` leaves keeps them apart.
    Scaling by the cell makes small and large cells equally well marked.
    """
    inside = erode_boundaries(labels, 1) > 0
    distance = ndimage.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1]
    numbers = consecutive(labels)
    count = int(numbers.max(initial=0))
    if count == 0:
        return np.zeros(labels.shape, np.float32)
    highest = np.concatenate([[1.0], ndimage.maximum(distance, numbers, np.arange(1, count + 1))])
    return np.asarray(distance / np.maximum(highest, 1)[numbers], np.float32)
