"""Planes that are too large to hold: outputs go to a workspace chunk by chunk, and come back block by block.

The chunks are the same on every machine, and each is recorded when it is done, so that a job that ended in
the middle goes on where it was. Needs no torch: the network is a function that is given.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .arrays import ArrayLike, WritableArray, resampled_region
from .blocks import Block, blocks
from .events import PredictionEvent, TileDone
from .instances import Outputs, foreground, segment_maps
from .landscape import DISTANCE_STEPS, PROBABILITY_STEPS, Maps, in_steps
from .settings import PredictionSettings

HELD = 4_000_000
"""Pixels up to which a plane's outputs are held in memory, when there is a workspace for larger ones."""
SIDE = 1024
"""Side in pixels of what is computed and recorded at once; a multiple of every network's stride."""
CHUNK = 512
"""Side in pixels of a chunk of a workspace's array; blocks are read with a little of their neighbours."""

Box = tuple[int, int, int, int]
Plane = tuple[int, ...]
Network = Callable[[Box], Generator[PredictionEvent, None, Outputs | None]]
"""Yields events and returns the outputs for y0, y1, x0, x1 of a plane; None when it was stopped."""


class Workspace(Protocol):
    """Where a job keeps what it has done."""

    def recall(self, key: str) -> Any:
        """Return what was remembered under a name; None when nothing was."""
        ...

    def remember(self, key: str, value: Any) -> None:
        """Record plain data under a name, at once and for good."""
        ...

    def array(self, name: str, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: Any) -> WritableArray:
        """Return an array of zeros, or the one that was made under this name before."""
        ...

    def drop(self, name: str) -> None:
        """Throw an array away, if it is there."""
        ...


class MemoryWorkspace:
    """A workspace that lasts as long as the process."""

    def __init__(self) -> None:
        self._notes: dict[str, Any] = {}
        self._arrays: dict[str, NDArray[Any]] = {}

    def recall(self, key: str) -> Any:
        """Return what was remembered under a name; None when nothing was."""
        return self._notes.get(key)

    def remember(self, key: str, value: Any) -> None:
        """Record plain data under a name."""
        self._notes[key] = value

    def array(self, name: str, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: Any) -> WritableArray:
        """Return an array of zeros, or the one that was made under this name before."""
        return self._arrays.setdefault(name, np.zeros(shape, dtype))

    def drop(self, name: str) -> None:
        """Throw an array away, if it is there."""
        self._arrays.pop(name, None)


def is_large(shape: tuple[int, ...]) -> bool:
    """Return whether a plane of this shape is worked on chunk by chunk."""
    return int(np.prod(shape[-2:])) > HELD


@dataclass(frozen=True)
class Scaled:
    """A (..., Y, X) array that looks resampled to another size; read by regions."""

    array: ArrayLike
    size: tuple[int, int]
    dtype: Any = np.dtype(np.float32)

    @property
    def shape(self) -> tuple[int, ...]:
        """Leading axes, then the new height and width."""
        return (*self.array.shape[:-2], *self.size)

    def __getitem__(self, key: Any) -> NDArray[np.float32]:
        *leading, ys, xs = key
        return resampled_region(
            lambda rows, columns: np.asarray(self.array[(*leading, rows, columns)]),
            tuple(self.array.shape[-2:]), self.size, ys, xs,
        )  # fmt: skip


@dataclass(frozen=True)
class PlaneOf:
    """One plane of an output, as an array of shape (Y, X)."""

    array: WritableArray
    plane: Plane

    @property
    def shape(self) -> tuple[int, ...]:
        """Height and width."""
        return tuple(self.array.shape[-2:])

    @property
    def dtype(self) -> Any:
        """Number type of the output."""
        return self.array.dtype

    def __getitem__(self, key: Any) -> Any:
        return self.array[(*self.plane, *key)]

    def __setitem__(self, key: Any, value: Any) -> None:
        self.array[(*self.plane, *key)] = value


@dataclass
class LargePlane:
    """One plane of a job.

    Attributes
    ----------
    work : Workspace
        Where its outputs go.
    plane : tuple of int
        Which plane.
    seen, size : tuple of int
        Height and width as the network sees it, and of the image.
    settings : PredictionSettings
        What is wanted of it.
    classes : int
        How many classes the network tells apart.
    distance : bool
        Whether it has a distance output.
    """

    work: Workspace
    plane: Plane
    seen: tuple[int, int]
    size: tuple[int, int]
    settings: PredictionSettings
    classes: int
    distance: bool
    _maps: dict[str, WritableArray] = field(init=False, default_factory=dict)
    _scratches: list[str] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self._name = "-".join(map(str, self.plane)) or "plane"
        for name, leading in self._wanted().items():
            chunks = (*(1 for _ in leading), CHUNK, CHUNK)
            self._maps[name] = self.work.array(f"{self._name}-{name}", (*leading, *self.seen), chunks, np.uint16)

    def _wanted(self) -> dict[str, tuple[int, ...]]:
        """Return the leading axes of each map that has to be kept."""
        if self.settings.what == "classes":
            return {"classes": (self.classes,)}
        with_distance = self.settings.what == "instances" and self.distance
        return {"foreground": (), **({"distance": ()} if with_distance else {})}

    def compute(
        self, network: Network, stop: Callable[[], bool], begin: float
    ) -> Generator[PredictionEvent, None, bool]:
        """Compute the chunks that are not done yet; return whether all are, False when stopped."""
        chunks = blocks(*self.seen, SIDE)
        for done, chunk in enumerate(chunks, 1):
            key = f"chunk {self._name} {chunk.y0} {chunk.x0}"
            if self.work.recall(key) is None:
                outputs = None if stop() else (yield from self._outputs(network, chunk))
                if outputs is None:
                    return False
                self._keep(outputs, chunk)
                self.work.remember(key, True)
            yield TileDone(done, len(chunks), self.plane, self._in_image(chunk), time.perf_counter() - begin)
        return True

    @staticmethod
    def _outputs(network: Network, chunk: Block) -> Generator[PredictionEvent, None, Outputs | None]:
        """Return a chunk's outputs; of its tiles nothing is told, as it counts when it is whole."""
        steps = network((chunk.y0, chunk.y1, chunk.x0, chunk.x1))
        while True:
            try:
                event = next(steps)
            except StopIteration as end:
                outputs: Outputs | None = end.value
                return outputs
            if not isinstance(event, TileDone):
                yield event

    def _keep(self, outputs: Outputs, chunk: Block) -> None:
        """Write a chunk's outputs."""
        for name, values in _in_steps(outputs).items():
            if name in self._maps:
                self._maps[name][(*(slice(None) for _ in self._wanted()[name]), *chunk.slices)] = values

    def _in_image(self, chunk: Block) -> Box:
        """Return where a chunk lies in the image."""
        y, x = self.size[0] / self.seen[0], self.size[1] / self.seen[1]
        return round(chunk.y0 * y), round(chunk.y1 * y), round(chunk.x0 * x), round(chunk.x1 * x)

    def write(self, output: WritableArray) -> Generator[None, None, int]:
        """Write the result to an array of shape (Y, X), and return how many cells there are.

        Yields
        ------
        None
            After each block, so that the caller can stop in between.
        """
        maps = {name: a if self.seen == self.size else Scaled(a, self.size) for name, a in self._maps.items()}
        if self.settings.what != "instances":
            for block in blocks(*self.size, SIDE):
                output[block.slices] = self._values(maps, block)
                yield
            return 0
        steps = segment_maps(Maps(maps["foreground"], maps.get("distance")), output, self.settings, SIDE, self._scratch)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return int(end.value)
            yield

    def _values(self, maps: Mapping[str, ArrayLike], block: Block) -> NDArray[Any]:
        """Return the classes or probabilities of a block."""
        if self.settings.what == "classes":
            found = np.asarray(maps["classes"][(slice(None), *block.slices)])
            return np.asarray(found.argmax(axis=0), np.uint8)
        return np.asarray(maps["foreground"][block.slices]).astype(np.float32) / np.float32(PROBABILITY_STEPS)

    def _scratch(self, shape: tuple[int, ...], dtype: Any) -> WritableArray:
        """Return an array for labels that are not final."""
        self._scratches.append(f"labels{len(self._scratches)}")
        return self.work.array(f"{self._name}-{self._scratches[-1]}", shape, (CHUNK, CHUNK), dtype)

    def finish(self, objects: int) -> None:
        """Record the plane as done and give its space back."""
        self.work.remember(plane_key(self.plane), objects)
        for name in [*self._maps, *self._scratches]:
            self.work.drop(f"{self._name}-{name}")


def plane_key(plane: Plane) -> str:
    """Return under which name the number of cells of a finished plane is recorded."""
    return f"plane {'-'.join(map(str, plane)) or 'plane'}"


def _in_steps(outputs: Outputs) -> dict[str, NDArray[np.uint16]]:
    """Return the maps in steps of 16 bits, just as a plane that is held is rounded before its cells are told apart."""
    found = {
        "classes": in_steps(outputs["classes"], PROBABILITY_STEPS),
        "foreground": in_steps(foreground(outputs), PROBABILITY_STEPS),
    }
    if "distance" in outputs:
        found["distance"] = in_steps(outputs["distance"][0], DISTANCE_STEPS)
    return found


__all__ = ["HELD", "SIDE", "LargePlane", "MemoryWorkspace", "PlaneOf", "Scaled", "Workspace", "is_large", "plane_key"]
