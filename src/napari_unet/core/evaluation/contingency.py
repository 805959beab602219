"""How many pixels each pair of labels of two label images shares: what all metrics are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError

Labels = NDArray[Any]
Images = Labels | Sequence[Labels]
"""One label image of any number of axes, or several."""


@dataclass(frozen=True)
class Contingency:
    """How many pixels each pair of labels shares, background included; pairs without any are left out.

    Attributes
    ----------
    truth_ids, prediction_ids : NDArray
        The labels that occur, sorted.
    rows, columns : NDArray of int64
        Pair k is ``truth_ids[rows[k]]`` and ``prediction_ids[columns[k]]``.
    counts : NDArray of int64
        Shared pixels of pair k.
    """

    truth_ids: Labels
    prediction_ids: Labels
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    counts: NDArray[np.int64]

    @cached_property
    def truth_areas(self) -> NDArray[np.int64]:
        """Pixels of each truth label."""
        return _sums(self.rows, self.counts, len(self.truth_ids))

    @cached_property
    def prediction_areas(self) -> NDArray[np.int64]:
        """Pixels of each predicted label."""
        return _sums(self.columns, self.counts, len(self.prediction_ids))

    def inside_truth(self) -> Contingency:
        """Return the table of the pixels whose truth is not background."""
        kept = self.truth_ids[self.rows] != 0
        rows, columns, counts = self.rows[kept], self.columns[kept], self.counts[kept]
        return Contingency(self.truth_ids, self.prediction_ids, rows, columns, counts)


def contingency(truth: Labels, prediction: Labels) -> Contingency:
    """Return how many pixels each pair of labels shares.

    Parameters
    ----------
    truth, prediction : NDArray of int or bool
        Labels of one shape; ids may have gaps and any integer type.

    Raises
    ------
    DataError
        When the shapes differ or an array holds no whole numbers.

    Notes
    -----
    Labels come in runs along the last axis, so the runs are sorted and not the pixels: on cells
    this is ten times less work.
    """
    t, p = _checked(truth, prediction)
    start = np.ones(t.size, bool)
    start[1:] = (t[1:] != t[:-1]) | (p[1:] != p[:-1])
    starts = np.flatnonzero(start)
    lengths = np.diff(starts, append=t.size)
    truth_ids, rows = np.unique(t[starts], return_inverse=True)
    prediction_ids, columns = np.unique(p[starts], return_inverse=True)
    codes, pair = np.unique(rows * max(1, len(prediction_ids)) + columns, return_inverse=True)
    rows, columns = np.divmod(codes, max(1, len(prediction_ids)))
    return Contingency(truth_ids, prediction_ids, rows, columns, _sums(pair, lengths, len(codes)))


def contingencies(truths: Images, predictions: Images) -> list[Contingency]:
    """Return one table per pair of images.

    Raises
    ------
    DataError
        For unequal shapes, unequal numbers of images, or no image.
    """
    ones, others = _images(truths), _images(predictions)
    if len(ones) != len(others):
        raise DataError(f"There are {len(ones)} truths but {len(others)} predictions; give one for each.")
    if not ones:
        raise DataError("There is no image to measure on; give at least one pair.")
    return [contingency(one, other) for one, other in zip(ones, others, strict=True)]


def _images(images: Images) -> list[Labels]:
    """Return one label image or a sequence of them as a list."""
    return [np.asarray(images)] if hasattr(images, "shape") else list(images)


def _checked(truth: Labels, prediction: Labels) -> tuple[Labels, Labels]:
    """Return both label images as flat arrays, or raise when they cannot be compared."""
    arrays = np.asarray(truth), np.asarray(prediction)
    if arrays[0].shape != arrays[1].shape:
        raise DataError(
            f"Truth has the shape {arrays[0].shape}, but the prediction {arrays[1].shape}; they have to be equal."
        )
    for name, array in zip(("truth", "prediction"), arrays, strict=True):
        if array.dtype.kind not in "iub":
            raise DataError(f"The {name} is {array.dtype}, but labels have to be whole numbers; convert it first.")
    return arrays[0].ravel(), arrays[1].ravel()


def _sums(index: NDArray[np.int64], values: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Return the sum of the values of each index."""
    return np.bincount(index, values, size).astype(np.int64)
