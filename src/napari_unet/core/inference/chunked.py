"""Planes that are too large to hold: outputs go to a workspace chunk by chunk, and come back block by block.

The chunks are the same on every machine, and each is recorded when it is done, so that a job that ended in
the middle goes on where it was. Needs no torch: the network is a function that is given.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..data.annotation import Box
from ..data.arrays import ArrayLike, PlaneIndex, WritableArray, resampled_region
from ..data.blocks import Block, blocks
from ..data.prefetch import ahead
from ..events import Event, PredictionEvent, TileDone
from ..instances.elevation import DISTANCE_STEPS, PROBABILITY_STEPS, Maps, quantise
from ..instances.pipeline import Outputs, foreground, segment_maps
from ..settings import PredictionSettings

HELD = 4_000_000
"""Pixels up to which a plane's outputs are held in memory, when there is a workspace for larger ones."""
SIDE = 1024
"""Side in pixels of what is computed and recorded at once; a multiple of every network's stride."""
CHUNK = 512
"""Side in pixels of a chunk of a workspace's array; blocks are read with a little of their neighbours."""

Computed = tuple[Box, Outputs]
"""The outputs for y0, y1, x0, x1 of a plane."""
Network = Callable[[Iterable[Box]], Iterator[Computed | PredictionEvent]]
"""Yields the outputs of boxes of a plane, and events of the boxes; ends early when it is stopped."""


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


class Watcher(Protocol):
    """Somebody who looks at a large plane while it is computed. It changes the order of the work, not the result."""

    def view(self, plane: PlaneIndex) -> Box | None:
        """Return which part of a plane comes next, y0, y1, x0, x1 in pixels of the image; None where any will do."""
        ...

    def show(self, plane: PlaneIndex, box: Box, outputs: Outputs) -> None:
        """Be given the outputs of a part of a plane, at the size at which the network sees it."""
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
    plane: PlaneIndex

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
    plane: PlaneIndex
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
        self, network: Network, begin: float, watcher: Watcher | None = None, writers: int = 1
    ) -> Generator[PredictionEvent, None, bool]:
        """Compute the chunks that are not done yet, each written while the next ones are computed.

        Parameters
        ----------
        network : callable
            See :data:`Network`.
        begin : float
            When the job began, of time.perf_counter.
        watcher : Watcher, optional
            Somebody who looks at the plane.
        writers : int
            Threads that write.

        Returns
        -------
        bool
            Whether all chunks are done; False when it was stopped.
        """
        chunks = self.chunks()
        missing = [chunk for chunk in chunks if not self.is_done(chunk)]
        done = 0
        for chunk in chunks:
            if chunk not in missing:
                done += 1
                yield TileDone(done, len(chunks), self.plane, self.in_image(chunk), time.perf_counter() - begin)
        by_box = {chunk.box: chunk for chunk in missing}
        for found, _ in ahead(self.keep, network(self._in_order(missing, watcher)), writers):
            if isinstance(found, Event):
                yield found
                continue
            chunk, done = by_box[found[0]], done + 1
            self.note(chunk)
            if watcher is not None:
                watcher.show(self.plane, self.in_image(chunk), found[1])
            yield TileDone(done, len(chunks), self.plane, self.in_image(chunk), time.perf_counter() - begin)
        return done == len(chunks)

    def chunks(self) -> list[Block]:
        """Return what is computed and recorded at once, at the size that the network sees."""
        return blocks(*self.seen, SIDE)

    def is_done(self, chunk: Block) -> bool:
        """Return whether a chunk's outputs are in the workspace."""
        return self.work.recall(self._key(chunk)) is not None

    def note(self, chunk: Block) -> None:
        """Record that a chunk's outputs are in the workspace."""
        self.work.remember(self._key(chunk), True)

    def _key(self, chunk: Block) -> str:
        """Return under which name it is recorded that a chunk is done."""
        return f"chunk {self._name} {chunk.y0} {chunk.x0}"

    def _in_order(self, waiting: list[Block], watcher: Watcher | None) -> Iterator[Box]:
        """Yield the boxes of chunks in the order in which to compute them, as it is when each is asked for."""
        waiting = waiting.copy()
        while waiting:
            yield self._next(waiting, watcher).box

    def _next(self, waiting: list[Block], watcher: Watcher | None) -> Block:
        """Take the chunk that comes next: the one nearest to what somebody looks at."""
        view = watcher.view(self.plane) if watcher is not None else None
        if view is None:
            return waiting.pop(0)
        middle = (view[0] + view[1]) / 2, (view[2] + view[3]) / 2

        def distance(chunk: Block) -> tuple[bool, float]:
            y0, y1, x0, x1 = self.in_image(chunk)
            beside = y1 <= view[0] or y0 >= view[1] or x1 <= view[2] or x0 >= view[3]
            return beside, ((y0 + y1) / 2 - middle[0]) ** 2 + ((x0 + x1) / 2 - middle[1]) ** 2

        return waiting.pop(min(range(len(waiting)), key=lambda n: distance(waiting[n])))

    def keep(self, found: Computed | PredictionEvent) -> None:
        """Write a chunk's outputs; with events there is nothing to do."""
        if isinstance(found, Event):
            return
        (y0, y1, x0, x1), outputs = found
        for name, leading in self._wanted().items():
            where = (*(slice(None) for _ in leading), slice(y0, y1), slice(x0, x1))
            self._maps[name][where] = _quantise(outputs, name)

    def in_image(self, chunk: Block) -> Box:
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
        if self.settings.what != "instances":
            for block in self.parts():
                output[block.slices] = self.values(block)
                yield
            return 0
        steps = segment_maps(self.maps(), output, self.settings, SIDE, self.scratch)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return int(end.value)
            yield

    def parts(self) -> list[Block]:
        """Return what the result is written by, at the size of the image."""
        return blocks(*self.size, SIDE)

    def _sized(self) -> dict[str, ArrayLike]:
        """Return what the network said, at the size of the image."""
        return {name: a if self.seen == self.size else Scaled(a, self.size) for name, a in self._maps.items()}

    def maps(self) -> Maps:
        """Return what cells are told apart by, at the size of the image."""
        sized = self._sized()
        return Maps(sized["foreground"], sized.get("distance"))

    def values(self, block: Block) -> NDArray[Any]:
        """Return the classes or probabilities of a block of the image."""
        maps = self._sized()
        if self.settings.what == "classes":
            found = np.asarray(maps["classes"][(slice(None), *block.slices)])
            return np.asarray(found.argmax(axis=0), np.uint8)
        return np.asarray(maps["foreground"][block.slices]).astype(np.float32) / np.float32(PROBABILITY_STEPS)

    def scratch(self, shape: tuple[int, ...], dtype: Any) -> WritableArray:
        """Return an array for labels that are not final."""
        self._scratches.append(f"labels{len(self._scratches)}")
        return self.work.array(f"{self._name}-{self._scratches[-1]}", shape, (CHUNK, CHUNK), dtype)

    def finish(self, objects: int) -> None:
        """Record the plane as done and give its space back."""
        self.work.remember(plane_key(self.plane), objects)
        for name in [*self._maps, *self._scratches]:
            self.work.drop(f"{self._name}-{name}")


def plane_key(plane: PlaneIndex) -> str:
    """Return under which name the number of cells of a finished plane is recorded."""
    return f"plane {'-'.join(map(str, plane)) or 'plane'}"


def clear(output: WritableArray) -> None:
    """Write zeros into an array of shape (Y, X), a part at a time."""
    height, width = output.shape
    for block in blocks(height, width, SIDE):
        output[block.slices] = np.zeros((block.y1 - block.y0, block.x1 - block.x0), output.dtype)


def _quantise(outputs: Outputs, name: str) -> NDArray[np.uint16]:
    """Return a map in steps of 16 bits, just as a plane that is held is rounded before its cells are told apart."""
    if name == "distance":
        return quantise(outputs["distance"][0], DISTANCE_STEPS)
    return quantise(foreground(outputs) if name == "foreground" else outputs[name], PROBABILITY_STEPS)


__all__ = [
    "HELD", "SIDE", "LargePlane", "MemoryWorkspace", "PlaneOf", "Scaled", "Watcher", "Workspace", "clear", "is_large",
    "plane_key",
]  # fmt: skip
