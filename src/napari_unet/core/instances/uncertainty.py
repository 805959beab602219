"""Where the network is least certain, from its outputs alone: what is most worth annotating next. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..data.annotation import Box
from ..data.arrays import PlaneIndex
from ..settings import PredictionSettings
from .pipeline import Outputs, foreground, labels_from_outputs

GRID = 16
"""Side in pixels of the squares by which uncertainty is summed up."""

REASONS = ("cell or background?", "one cell or several?", "the network contradicts itself")
"""What there is to be uncertain about, in the order of the maps."""

_WIDE = 5
"""Pixels. Every outline is uncertain by a pixel or two; only what is wider says something of the place."""
_COARSE, _FINE = 2.0, 0.5
"""Factors of the seed height between which cells come apart or stay one."""
_DEEP = 0.3
"""Share of the way from border to centre from which a pixel ought to be in a cell."""
_ALONG = 2
"""Planes above and below a suggestion that show much the same."""


def uncertainty(outputs: Outputs, settings: PredictionSettings) -> NDArray[np.float32]:
    """Return three maps of doubt for one plane, 0 (none) to 1, in the order of :data:`REASONS`.

    Parameters
    ----------
    outputs : Outputs
        Named maps of the plane, (k, Y, X) each.
    settings : PredictionSettings
        How cells are told apart; ``threshold`` and ``seed_height`` say where doubt begins.

    Returns
    -------
    NDArray of float32
        (3, Y, X).

    Notes
    -----
    1. A probability near the threshold, where it is so over more than the width of an outline. With several
       classes also a class that is hardly ahead of the next one.
    2. Cells that fall apart at half the seed height and are one at double; the more equal their parts, the more.
    3. A distance output that knows a cell's inside where the classes say background, and cells whose distance
       output never rises to a centre. Nothing, without a distance output.
    """
    classes = np.asarray(outputs["classes"], np.float32)
    probability = foreground(outputs)
    doubt = _near(probability, settings.threshold)
    if classes.shape[0] > 2:
        first, second = np.partition(classes, (-2, -1), axis=0)[[-1, -2]]
        doubt = np.maximum(doubt, 1 - (first - second))
    wide = ndimage.grey_opening(doubt, size=(_WIDE, _WIDE))
    distance = outputs.get("distance")
    if distance is None:
        nothing = np.zeros_like(probability)
        return np.stack([wide, nothing, nothing]).astype(np.float32)
    inside = np.clip(np.asarray(distance, np.float32).reshape(probability.shape), 0, 1)
    whole = _labels(outputs, settings, _COARSE)
    divided = _divided(whole, _labels(outputs, settings, _FINE))
    missed = np.where((inside > _DEEP) & (probability < settings.threshold), inside * (1 - probability), 0)
    return np.stack([wide, divided, np.maximum(missed, _flat(whole, inside))]).astype(np.float32)


def _near(probability: NDArray[np.float32], threshold: float) -> NDArray[np.float32]:
    """Return 1 at the threshold, falling to 0 at probabilities 0 and 1."""
    below = probability / threshold
    above = (1 - probability) / (1 - threshold)
    return np.asarray(np.clip(np.minimum(below, above), 0, 1), np.float32)


def _labels(outputs: Outputs, settings: PredictionSettings, factor: float) -> NDArray[np.int32]:
    """Return the cells as they would be with another seed height; the doubtful ones too, for they are looked for."""
    height = min(1.0, settings.seed_height * factor)
    chosen = replace(settings, what="instances", separation="distance", seed_height=height, min_peak=0.0)
    return np.asarray(labels_from_outputs(outputs, chosen), np.int32)


def _divided(whole: NDArray[np.int32], parts: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return, over each whole cell, how much of it its second largest part holds: 1 when the two are equal."""
    count = int(whole.max(initial=0)) + 1
    pairs, sizes = np.unique(whole.ravel().astype(np.int64) * (int(parts.max(initial=0)) + 1) + parts.ravel(),
                             return_counts=True)  # fmt: skip
    cell, part = np.divmod(pairs, int(parts.max(initial=0)) + 1)
    kept = (cell > 0) & (part > 0)
    first, second = np.zeros(count), np.zeros(count)
    for index, size in zip(cell[kept], sizes[kept], strict=True):
        first[index], second[index] = max(first[index], size), max(second[index], min(first[index], size))
    share = np.divide(second, first, out=np.zeros(count), where=first > 0)
    return np.asarray(share[whole], np.float32)


def _flat(cells: NDArray[np.int32], inside: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return, over each cell, how far its distance output stays below 1, which it has at a centre."""
    count = int(cells.max(initial=0))
    if not count:
        return np.zeros(cells.shape, np.float32)
    summits = np.asarray(ndimage.maximum(inside, cells, np.arange(1, count + 1)))
    return np.asarray(np.concatenate([[0.0], 1 - summits])[cells], np.float32)


def coarse(values: NDArray[np.float32], side: int = GRID) -> NDArray[np.float32]:
    """Return the means over squares of ``side`` pixels, (..., Y, X) to (..., ceil(Y / side), ceil(X / side))."""
    height, width = values.shape[-2:]
    rows, columns = (np.arange(0, n, side) for n in (height, width))
    sums = np.add.reduceat(np.add.reduceat(values.astype(np.float64), rows, axis=-2), columns, axis=-1)
    areas = np.outer(np.minimum(rows + side, height) - rows, np.minimum(columns + side, width) - columns)
    return np.asarray(sums / areas, np.float32)


@dataclass(frozen=True)
class Suggestion:
    """A place worth annotating.

    Attributes
    ----------
    plane : tuple of int
        Index into the leading axes.
    box : Box
        y0, y1, x0, x1 in pixels.
    score : float
        Mean doubt over the box, all kinds together, 0 to 1.
    reason : str
        What most of the doubt is about, one of :data:`REASONS`.
    """

    plane: PlaneIndex
    box: Box
    score: float
    reason: str


def rank(
    doubts: Mapping[PlaneIndex, NDArray[np.float32]],
    known: Mapping[PlaneIndex, NDArray[np.float32]],
    shape: tuple[int, int],
    *,
    side: int = 96,
    count: int = 10,
) -> list[Suggestion]:
    """Return the most doubtful boxes, the most doubtful one first, apart from each other and from what is known.

    Parameters
    ----------
    doubts : mapping of tuple to NDArray of float32
        By plane: the :func:`coarse` means of :func:`uncertainty`, (3, rows, columns).
    known : mapping of tuple to NDArray of float32
        By plane: the :func:`coarse` share of annotated pixels, (rows, columns); planes without paint may be left out.
    shape : tuple of int
        Height and width of a plane in pixels.
    side : int
        Of a box, in pixels.
    count : int
        At most so many.

    Notes
    -----
    Boxes in the same place of neighbouring planes count as one, as they show much the same.
    """
    squares = max(1, round(side / GRID))
    found: list[Suggestion] = []
    for plane, maps in doubts.items():
        unknown = 1 - known[plane] if plane in known else np.ones(maps.shape[-2:], np.float32)
        found += _best_of_plane(plane, _box_means(maps * unknown, squares), squares, shape, count)
    return spread(found, count)


def spread(suggestions: Sequence[Suggestion], count: int = 10) -> list[Suggestion]:
    """Return the most doubtful of these places, the most doubtful one first, none at the same place as another.

    Parameters
    ----------
    suggestions : sequence of Suggestion
        Of any planes.
    count : int
        At most so many.
    """
    chosen: list[Suggestion] = []
    for place in sorted(suggestions, key=lambda item: (-item.score, item.plane, item.box)):
        if len(chosen) == count:
            break
        if not any(_same_place(place.plane, place.box, other) for other in chosen):
            chosen.append(place)
    return chosen


def _best_of_plane(
    plane: PlaneIndex, means: NDArray[np.float64], squares: int, shape: tuple[int, int], count: int
) -> list[Suggestion]:
    """Return the most doubtful boxes of one plane, none overlapping another."""
    total = np.minimum(means.sum(axis=0), 1)
    found = []
    for _ in range(count):
        y, x = (int(n) for n in np.unravel_index(int(total.argmax()), total.shape))
        if total[y, x] <= 0:
            break
        reason = REASONS[int(means[:, y, x].argmax())]
        found.append(Suggestion(plane, _box(y, x, squares, shape), float(total[y, x]), reason))
        total[max(0, y - squares + 1) : y + squares, max(0, x - squares + 1) : x + squares] = 0
    return found


def _box_means(maps: NDArray[np.float32], squares: int) -> NDArray[np.float64]:
    """Return the means over boxes of so many squares a side, at every place where one fits."""
    rows, columns = (min(squares, n) for n in maps.shape[-2:])
    total = np.pad(maps.astype(np.float64), ((0, 0), (1, 0), (1, 0))).cumsum(axis=1).cumsum(axis=2)
    sums = total[:, rows:, columns:] - total[:, :-rows, columns:] - total[:, rows:, :-columns]
    return np.asarray((sums + total[:, :-rows, :-columns]) / (rows * columns))


def _box(y: int, x: int, squares: int, shape: tuple[int, int]) -> Box:
    """Return a box of squares in pixels, cut at the border of the plane."""
    ends = [min(n, (start + squares) * GRID) for start, n in zip((y, x), shape, strict=True)]
    return y * GRID, ends[0], x * GRID, ends[1]


def _same_place(plane: PlaneIndex, box: Box, other: Suggestion) -> bool:
    """Return whether two boxes overlap, in one plane or in planes next to each other."""
    if plane[:-1] != other.plane[:-1] or (plane and abs(plane[-1] - other.plane[-1]) > _ALONG):
        return False
    return box[0] < other.box[1] and other.box[0] < box[1] and box[2] < other.box[3] and other.box[2] < box[3]


def known_share(labels: NDArray[np.integer], regions: Sequence[Box] = ()) -> NDArray[np.float32]:
    """Return the share of pixels that are annotated, by squares of :data:`GRID` pixels.

    Parameters
    ----------
    labels : NDArray of int
        Paint of one plane, (Y, X).
    regions : sequence of Box
        Complete regions: known to the last pixel.
    """
    mask = labels > 0
    for y0, y1, x0, x1 in regions:
        mask[max(0, y0) : max(0, y1), max(0, x0) : max(0, x1)] = True
    return coarse(mask.astype(np.float32))
