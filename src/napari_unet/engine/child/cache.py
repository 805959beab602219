"""Caches of the child: network outputs and loaded models. Needs no torch."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from ...core.data.arrays import PlaneIndex
from ...core.network.model_card import model_path

T = TypeVar("T")


@dataclass(frozen=True)
class CachedOutputs:
    """The network outputs of one plane.

    Attributes
    ----------
    outputs : dict
        Named maps, (k, Y, X) each, at the image's own size.
    scale : float
        Size at which the network saw the image over its own.
    """

    outputs: dict[str, NDArray[Any]]
    scale: float

    @property
    def size(self) -> int:
        """Bytes that it takes."""
        return sum(values.nbytes for values in self.outputs.values())


class KeptOutputs:
    """The network outputs of recent planes, in an LRU cache.

    As precise as they came: rounded any further, labels made of them would differ in a few pixels from those that
    the same values give in a run of their own.

    Parameters
    ----------
    limit : int
        Bytes kept in total.
    """

    def __init__(self, limit: int = 3 << 29) -> None:
        self.limit = limit
        self.size = 0
        self._planes: OrderedDict[tuple[int, PlaneIndex], CachedOutputs] = OrderedDict()

    def keep(self, job: int, plane: PlaneIndex, outputs: Mapping[str, NDArray[Any]], scale: float) -> None:
        """Keep the outputs of one plane of one job; those of an earlier run of it are replaced."""
        self._drop((job, plane))
        own = CachedOutputs({name: np.array(values) for name, values in outputs.items()}, scale)
        self._planes[job, plane] = own
        self.size += own.size
        while self.size > self.limit:
            self._drop(next(iter(self._planes)))

    def get(self, job: int, plane: PlaneIndex) -> CachedOutputs | None:
        """Return the outputs, or None if they were dropped."""
        found = self._planes.get((job, plane))
        if found is not None:
            self._planes.move_to_end((job, plane))
        return found

    def _drop(self, key: tuple[int, PlaneIndex]) -> None:
        """Drop one plane."""
        found = self._planes.pop(key, None)
        if found is not None:
            self.size -= found.size


class KeptModels(Generic[T]):
    """The last loaded models, read again when their files change.

    Parameters
    ----------
    load : callable
        Loads a model from a path or ``"bundled"``.
    count : int
        Models kept.
    """

    def __init__(self, load: Callable[[str], T], count: int = 2) -> None:
        self._load = load
        self._count = count
        self._models: OrderedDict[tuple[str, int], T] = OrderedDict()

    def get(self, model: str) -> T:
        """Return the model, from memory if its files are unchanged."""
        key = (model, _modified(model_path(model)))
        if key not in self._models:
            self._models[key] = self._load(model)
        self._models.move_to_end(key)
        while len(self._models) > self._count:
            self._models.popitem(last=False)
        return self._models[key]


def _modified(path: Path) -> int:
    """Return when a model's files last changed, in ns; 0 when there are none, which loading will report."""
    files = [path, *path.iterdir()] if path.is_dir() else [path]
    return max((file.stat().st_mtime_ns for file in files if file.exists()), default=0)


class PlaneBuffer:
    """An output that holds planes only until they are taken, so that a long stack is never in memory.

    Parameters
    ----------
    shape : tuple of int
        Leading axes, height, width.
    dtype
        Of the labels.
    """

    def __init__(self, shape: tuple[int, ...], dtype: Any) -> None:
        self.shape = tuple(shape)
        self.dtype = np.dtype(dtype)
        self._planes: dict[PlaneIndex, NDArray[Any]] = {}

    def __setitem__(self, key: Any, value: Any) -> None:
        plane, inner = self._split(key)
        self._plane(plane)[inner] = value

    def __getitem__(self, key: Any) -> NDArray[Any]:
        plane, inner = self._split(key)
        return self._plane(plane)[inner]

    def take(self, plane: PlaneIndex) -> NDArray[Any]:
        """Return one plane (zeros where nothing was written) and forget it."""
        taken = self._plane(plane)
        del self._planes[plane]
        return taken

    def _plane(self, plane: PlaneIndex) -> NDArray[Any]:
        """Return the array of one plane, new when it is the first access."""
        if plane not in self._planes:
            self._planes[plane] = np.zeros(self.shape[-2:], self.dtype)
        return self._planes[plane]

    def _split(self, key: Any) -> tuple[PlaneIndex, tuple[Any, ...]]:
        """Return the plane's index, and the index inside of the plane."""
        parts = key if isinstance(key, tuple) else (key,)
        leading = len(self.shape) - 2
        plane = parts[:leading]
        if len(plane) < leading or not all(isinstance(part, (int, np.integer)) for part in plane):
            raise IndexError(f"One plane of {self.shape} is written at a time; index {key!r} is none.")
        return tuple(int(part) for part in plane), tuple(parts[leading:])
