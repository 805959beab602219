"""Arrays made of other arrays, without reading them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.data.arrays import ArrayLike

Key = tuple[int | slice, ...]


def full_key(key: Any, ndim: int) -> Key:
    """Return an index with one integer or slice per axis."""
    parts = list(key) if isinstance(key, tuple) else [key]
    if Ellipsis in parts:
        at = parts.index(Ellipsis)
        parts[at : at + 1] = [slice(None)] * (ndim - len(parts) + 1)
    if len(parts) > ndim:
        raise IndexError(f"{len(parts)} indices for an array of {ndim} axes")
    return tuple(p if isinstance(p, slice) else int(p) for p in [*parts, *[slice(None)] * (ndim - len(parts))])


class Fixed:
    """An array at fixed indices of some of its axes.

    Parameters
    ----------
    array : ArrayLike
        What to look at.
    at : mapping of int to int
        Axis to index.
    """

    def __init__(self, array: ArrayLike, at: Mapping[int, int]) -> None:
        self.array, self.at = array, dict(at)
        self.kept = [i for i in range(len(array.shape)) if i not in self.at]
        self.shape = tuple(int(array.shape[i]) for i in self.kept)
        self.dtype = np.dtype(array.dtype)
        self.ndim = len(self.shape)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        inner = dict(zip(self.kept, full_key(key, self.ndim), strict=True))
        return np.asarray(
            self.array[tuple(self.at[i] if i in self.at else inner[i] for i in range(len(self.array.shape)))]
        )


def fixed(array: ArrayLike, at: Mapping[int, int]) -> ArrayLike:
    """Return the array at fixed indices; the array itself when there are none."""
    return Fixed(array, at) if at else array


class Stack:
    """Arrays of one shape and type behind each other along a new first axis."""

    def __init__(self, arrays: Sequence[ArrayLike]) -> None:
        self.arrays = list(arrays)
        self.shape = (len(self.arrays), *(int(n) for n in self.arrays[0].shape))
        self.dtype = np.dtype(self.arrays[0].dtype)
        self.ndim = len(self.shape)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        first, *rest = full_key(key, self.ndim)
        if isinstance(first, int):
            return np.asarray(self.arrays[first][tuple(rest)])
        return np.stack([np.asarray(a[tuple(rest)]) for a in self.arrays[first]])


def block_indices(key: Key, shape: tuple[int, ...]) -> tuple[list[tuple[int, ...]], tuple[int, ...]]:
    """Return every index that a key selects, in order, and the shape that remains of its slices."""
    ranges = [
        range(*k.indices(n)) if isinstance(k, slice) else [_positive(k, n)] for k, n in zip(key, shape, strict=True)
    ]
    kept = tuple(len(r) for r, k in zip(ranges, key, strict=True) if isinstance(k, slice))
    return list(itertools.product(*ranges)), kept


def _positive(index: int, size: int) -> int:
    """Return an index counted from the front."""
    if not -size <= index < size:
        raise IndexError(f"index {index} is out of bounds for an axis of {size}")
    return index % size
