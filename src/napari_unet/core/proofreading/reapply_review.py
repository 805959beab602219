"""Checked cells put back over a new segmentation that is too large to hold: block by block. Needs no torch.

The same as :func:`~napari_unet.core.proofreading.review.put_back` does with a plane in memory, but for
the numbers: the checked cells get new ones above the largest, instead of others giving way anywhere in the picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..data.arrays import PlaneIndex, WritableArray
from ..data.blocks import Block, blocks
from ..errors import DataError
from .bounding_boxes import Plane
from .review import COVERED, DELETED, Marks, ReviewedCell

SIDE = 2048
"""Side in pixels of what is read at once."""


@dataclass(frozen=True)
class Restored:
    """What came of putting checked cells back.

    Attributes
    ----------
    marks : Marks
        The checked cells under their new numbers.
    largest : int
        The largest label of the new segmentation itself.
    """

    marks: Marks
    largest: int

    @property
    def count(self) -> int:
        """How many cells were checked; one that is in several planes counts in each."""
        return sum(map(len, self.marks.values()))


def restore(array: WritableArray, marks: Marks, largest: int | None = None) -> Restored:
    """Put checked cells of an older segmentation back over a new one, in place.

    Accepted and edited cells are as they were, under new numbers; new cells that lie in them or in deleted ones by
    more than half are removed.

    Parameters
    ----------
    array : WritableArray
        Leading axes, Y, X; read and written block by block.
    marks : Marks
        The checked cells.
    largest : int, optional
        The largest label of the new segmentation, where an earlier run that was cut off has found it; the outcome is
        then the same.

    Raises
    ------
    DataError
        When the cells lie beyond the planes, or there is no room for their numbers; nothing was changed then.
    """
    _check(array, marks)
    counts = {plane: _count(array, plane, dict(kept)) for plane, kept in marks.items()}
    if largest is None:
        every = (plane for plane in np.ndindex(*array.shape[:-2]) if plane not in counts)
        others = (int(values.max(initial=0)) for plane in every for _, values in _read(array, plane))
        largest = max([0, *others, *(count.largest for count in counts.values())])
    new, label = {}, largest
    for plane, kept in sorted(marks.items()):
        new[plane] = {label + number: kept[cell] for number, cell in enumerate(sorted(kept), 1)}
        label += len(kept)
    if label > np.iinfo(array.dtype).max:
        raise DataError(f"The labels hold numbers up to {np.iinfo(array.dtype).max:,}, too few for the checked cells.")
    for plane, count in counts.items():
        _remove(array, plane, count)
        _place(array, plane, new[plane])
    return Restored(new, largest)


def _check(array: WritableArray, marks: Marks) -> None:
    """Raise a :class:`DataError` unless all cells lie in planes that there are."""
    shape = tuple(array.shape)
    for plane, cells in marks.items():
        there = len(plane) == len(shape) - 2 and all(i < n for i, n in zip(plane, shape, strict=False))
        for kept in cells.values():
            if not there or kept.box[1] > shape[-2] or kept.box[3] > shape[-1]:
                raise DataError(f"A checked cell lies beyond the labels of shape {shape}; it is of another picture.")


@dataclass
class _Count:
    """How large the new cells of a plane are, how much of each lies in checked ones, and which block holds which."""

    areas: NDArray[np.int64] = field(default_factory=lambda: np.zeros(1, np.int64))
    inside: NDArray[np.int64] = field(default_factory=lambda: np.zeros(1, np.int64))
    held: list[tuple[Block, NDArray[np.int64]]] = field(default_factory=list)

    @property
    def largest(self) -> int:
        """The largest label."""
        return int(np.flatnonzero(self.areas).max(initial=0))

    @property
    def gone(self) -> NDArray[np.int64]:
        """The cells that lie in checked ones by more than half."""
        return np.flatnonzero(self.inside > COVERED * self.areas)

    def add(self, block: Block, values: Plane, checked: NDArray[np.bool_]) -> None:
        """Count a block."""
        areas = np.bincount(values.ravel())
        self.held.append((block, np.flatnonzero(areas)))
        self.areas = _sum(self.areas, areas)
        self.inside = _sum(self.inside, np.bincount(values[checked], minlength=1))
        self.inside = _sum(self.inside, np.zeros(len(self.areas), np.int64))
        self.inside[0] = 0


def _sum(one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the sum of two counts of different lengths."""
    out = np.zeros(max(len(one), len(other)), np.int64)
    out[: len(one)] += one
    out[: len(other)] += other
    return out


def _read(array: WritableArray, plane: PlaneIndex) -> Iterator[tuple[Block, Plane]]:
    """Yield the blocks of a plane."""
    for block in blocks(array.shape[-2], array.shape[-1], SIDE):
        yield block, np.asarray(array[(*plane, *block.slices)])


def _count(array: WritableArray, plane: PlaneIndex, kept: Mapping[int, ReviewedCell]) -> _Count:
    found = _Count()
    for block, values in _read(array, plane):
        checked = np.zeros(values.shape, bool)
        for item in kept.values():
            part = item.within(block.box)
            if part is not None:
                part = part.moved(-block.y0, -block.x0)
                checked[part.where] |= part.mask
        found.add(block, values, checked)
    return found


def _remove(array: WritableArray, plane: PlaneIndex, count: _Count) -> None:
    """Remove the new cells that are checked ones."""
    gone = count.gone
    for block, ids in count.held:
        here = np.intersect1d(ids, gone)
        if len(here):
            values = np.asarray(array[(*plane, *block.slices)])
            array[(*plane, *block.slices)] = np.where(np.isin(values, here), 0, values)


def _place(array: WritableArray, plane: PlaneIndex, kept: Mapping[int, ReviewedCell]) -> None:
    """Write the checked cells."""
    for cell, item in kept.items():
        if item.kind != DELETED:
            values = np.array(array[(*plane, *item.where)])
            values[item.mask] = cell
            array[(*plane, *item.where)] = values


__all__ = ["Restored", "restore"]
