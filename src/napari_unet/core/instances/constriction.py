"""Where a cell is narrow between two wide parts, as two touching cells under one label are. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

_LEVELS = 16
_SMALLEST_RADIUS = 2.5
"""Pixels; narrower parts are as likely a wobble of the brush."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Constriction:
    """The narrowest place of a cell, and both of its sides.

    Attributes
    ----------
    position : tuple of int
        y, x of the middle of the waist, in pixels of the mask.
    ratio : float
        Its width over that of the narrower of the two parts, 0 to 1.
    sides : NDArray of int32
        1 and 2 on either side of the waist, 0 outside of the cell; (Y, X).
    """

    position: tuple[int, int]
    ratio: float
    sides: NDArray[np.int32]


def inner_distance(mask: Mask) -> NDArray[np.float64]:
    """Return each pixel's distance to the outside; what lies beyond the array is outside."""
    return np.asarray(ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1])


def find_constriction(mask: Mask, narrowest: float = 0.7, share: float = 0.2) -> Constriction | None:
    """Return the waist of a cell, or None when it has none.

    Parameters
    ----------
    mask : NDArray of bool
        One connected cell, (Y, X).
    narrowest : float
        How wide the waist may be, as a share of the width of the narrower part.
    share : float
        How much of the cell's area either part must have.

    Notes
    -----
    The width at a place is twice its distance to the outside. At rising levels of that distance the
    cell falls into pieces; the first level at which two pieces are far wider than the level is that
    of the waist. The border between its sides follows the valley of the distance (watershed).
    """
    distance = inner_distance(mask)
    for level in np.linspace(0.5, distance.max() * narrowest, _LEVELS):
        pieces, count = ndimage.label(distance > level, np.ones((3, 3)))
        if count < 2:
            continue
        peaks = ndimage.maximum(distance, pieces, np.arange(1, count + 1))
        wide = [i + 1 for i, min_peak in enumerate(peaks) if min_peak >= max(_SMALLEST_RADIUS, level / narrowest)]
        found = _part(distance, mask, pieces, sorted(wide, key=lambda i: -peaks[i - 1]), share)
        if found is not None and found.ratio <= narrowest:
            return found
    return None


def _part(
    distance: NDArray[np.float64], mask: Mask, pieces: NDArray[np.int32], wide: list[int], share: float
) -> Constriction | None:
    """Return the waist between the widest piece and the next one that is large enough, or None."""
    from skimage.segmentation import watershed

    for other in wide[1:]:
        markers = np.where(pieces == wide[0], 1, np.where(pieces == other, 2, 0))
        sides = watershed(-distance, markers, mask=mask, connectivity=2)
        areas = np.bincount(sides.ravel(), minlength=3)[1:]
        if areas.min() >= share * areas.sum():
            return _measure(distance, sides.astype(np.int32))
    return None


def _measure(distance: NDArray[np.float64], sides: NDArray[np.int32]) -> Constriction:
    """Return the waist between two sides that touch."""
    grown = ndimage.maximum_filter(np.where(sides == 2, 1, 0), 3).astype(bool)
    width = np.where(grown & (sides == 1), distance, 0)
    y, x = np.unravel_index(int(width.argmax()), width.shape)
    narrower = min(distance[sides == 1].max(), distance[sides == 2].max())
    return Constriction((int(y), int(x)), float(width[y, x] / narrower), sides)


def split_across_long_axis(mask: Mask) -> NDArray[np.int32]:
    """Return 1 and 2 on either side of a line across the middle of the cell's longest extent; (Y, X)."""
    points = np.argwhere(mask).astype(float)
    centred = points - points.mean(axis=0)
    long_axis = np.linalg.eigh(centred.T @ centred)[1][:, -1]
    sides = np.zeros(mask.shape, np.int32)
    sides[mask] = np.where(centred @ long_axis < 0, 1, 2)
    return sides


def sides_of_seeds(mask: Mask, seeds: Iterable[tuple[int, int]]) -> NDArray[np.int32]:
    """Return the cell's pixels numbered by the seed that they belong to, from 1; (Y, X).

    The borders follow the valleys of the distance to the outside, as in :func:`find_constriction`.
    """
    from skimage.segmentation import watershed

    markers = np.zeros(mask.shape, np.int32)
    for number, (y, x) in enumerate(seeds, start=1):
        markers[y, x] = number
    return np.asarray(watershed(-inner_distance(mask), markers, mask=mask, connectivity=2), np.int32)
