"""Planes that were segmented one by one, joined: cells across depth, and through time. Needs no torch.

Two planes at a time are read, block by block. A cell goes on as the one that it shares most with, if each
is the best of the other and they share enough; so a cell that is cut in two in one plane goes on as the
larger part, and two cells never become one because of a single bad plane. What is shared is measured by the
smaller of the two, as the ends of a round cell are small; intersection over union measured worse on nuclei in
depth. A cell that is missing in a plane can be picked up behind it; in between it stays missing.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.arrays import ArrayLike, PlaneIndex, WritableArray
from ..data.blocks import Block, blocks
from ..errors import DataError
from ..settings import LinkSettings

SIDE = 1024
"""Side in pixels of what is read at once."""

Nodes = NDArray[np.int64]
_NAMES = {"z": "depth (z)", "t": "time (t)"}


def link(
    labels: ArrayLike, axes: str, output: WritableArray, settings: LinkSettings
) -> Generator[tuple[int, int], None, int]:
    """Give each cell of a stack one label in all planes, 1 to n, that no other cell has.

    Parameters
    ----------
    labels : ArrayLike
        Cells of each plane, 0 = background; the last two axes are y and x.
    axes : str
        One letter per axis.
    output : WritableArray
        Of the same shape.
    settings : LinkSettings
        Along which axes, and how much two have to share.

    Yields
    ------
    done, total : int
        Planes read and written.

    Returns
    -------
    int
        How many cells there are.

    Raises
    ------
    DataError
        When an axis that is to be linked along is not there.
    """
    stack = _Stack(labels, axes)
    along = "" if settings.along == "none" else settings.along
    for axis in along:
        if axis not in stack.leading:
            raise DataError(f"The labels have the axes {axes} and no {_NAMES[axis]}; link along another axis.")
    total = stack.count * (2 + len(along))
    for done, plane in enumerate(stack.planes(), 1):
        stack.measure(plane)
        yield done, total
    objects = np.arange(stack.nodes)
    for number, axis in enumerate(along, 1):
        links = yield from _links(stack, axis, objects, settings, (number * stack.count, total))
        objects = _joined(objects, links)
    numbers = _in_order(objects)
    for done, plane in enumerate(stack.planes(), (1 + len(along)) * stack.count + 1):
        for block in stack.blocks:
            output[(*plane, *block.slices)] = np.concatenate([[0], numbers[stack.of(plane)]])[stack.read(plane, block)]
        yield done, total
    return int(numbers.max(initial=0))


class _Stack:
    """A label stack, whose cells are counted over all planes; each is a node."""

    def __init__(self, labels: ArrayLike, axes: str) -> None:
        if len(axes) != len(labels.shape) or axes[-2:] != "yx":
            raise DataError(f"Axes {axes!r} do not fit labels of shape {tuple(labels.shape)}: y and x have to be last.")
        self.labels, self.leading = labels, axes[:-2]
        self.shape = tuple(int(n) for n in labels.shape[:-2])
        self.blocks = blocks(int(labels.shape[-2]), int(labels.shape[-1]), SIDE)
        self.count = int(np.prod(self.shape, dtype=np.int64))
        self.nodes = 0
        self.areas = np.zeros(0, np.int64)
        self._ids: dict[PlaneIndex, NDArray[Any]] = {}
        self._first: dict[PlaneIndex, int] = {}

    def planes(self) -> Iterator[PlaneIndex]:
        """Return the index of every plane, in order."""
        return iter(np.ndindex(*self.shape))

    def measure(self, plane: PlaneIndex) -> None:
        """Note which cells a plane has, and how large they are."""
        found = [np.unique(self._raw(plane, block), return_counts=True) for block in self.blocks]
        every, counts = (np.concatenate([f[n] for f in found]) for n in (0, 1))
        ids, inverse = np.unique(every[every > 0], return_inverse=True)
        areas = np.zeros(len(ids), np.int64)
        np.add.at(areas, inverse, counts[every > 0])
        self._ids[plane], self._first[plane] = ids, self.nodes
        self.areas = np.concatenate([self.areas, areas])
        self.nodes += len(ids)

    def _raw(self, plane: PlaneIndex, block: Block) -> NDArray[Any]:
        """Return a part of a plane as it is stored."""
        return np.asarray(self.labels[(*plane, *block.slices)])

    def of(self, plane: PlaneIndex) -> slice:
        """Return the nodes of a plane."""
        return slice(self._first[plane], self._first[plane] + len(self._ids[plane]))

    def read(self, plane: PlaneIndex, block: Block) -> NDArray[np.int64]:
        """Return a part of a plane, its cells counted from 1."""
        raw = self._raw(plane, block)
        return np.where(raw > 0, np.searchsorted(self._ids[plane], raw) + 1, 0)

    def overlaps(self, one: PlaneIndex, other: PlaneIndex) -> tuple[Nodes, Nodes, NDArray[np.int64]]:
        """Return the nodes of two planes that share pixels, and how many."""
        factor, keys, counts = len(self._ids[other]) + 1, [], []
        for block in self.blocks:
            key, count = np.unique(self.read(one, block) * factor + self.read(other, block), return_counts=True)
            keys.append(key)
            counts.append(count)
        key, count = np.concatenate(keys), np.concatenate(counts)
        both = (key // factor > 0) & (key % factor > 0)
        return key[both] // factor - 1 + self._first[one], key[both] % factor - 1 + self._first[other], count[both]

    def pairs(self, axis: str, distance: int) -> Iterator[tuple[int, PlaneIndex, PlaneIndex]]:
        """Yield planes that lie so far apart along an axis, and where the first of them lies."""
        position = self.leading.index(axis)
        for plane in self.planes():
            if plane[position] + distance < self.shape[position]:
                further = (*plane[:position], plane[position] + distance, *plane[position + 1 :])
                yield plane[position], plane, further


@dataclass(frozen=True)
class _Shared:
    """How many pixels pairs of objects share."""

    one: Nodes
    other: Nodes
    pixels: NDArray[np.int64]

    @classmethod
    def of(cls, parts: list[tuple[Nodes, Nodes, NDArray[np.int64]]], objects: Nodes) -> _Shared:
        """Return the sums over all pairs of nodes of the same objects."""
        one, other, pixels = (np.concatenate([np.zeros(0, np.int64), *[p[n] for p in parts]]) for n in range(3))
        keys, inverse = np.unique(objects[one] * len(objects) + objects[other], return_inverse=True)
        total = np.zeros(len(keys), np.int64)
        np.add.at(total, inverse, pixels)
        return cls(keys // max(len(objects), 1), keys % max(len(objects), 1), total)

    def best(self, areas: tuple[NDArray[np.int64], NDArray[np.int64]], least: float) -> tuple[Nodes, Nodes]:
        """Return the pairs in which each is the best of the other, and the smaller shares at least so much of itself.

        ``areas`` are those of all objects on either side.
        """
        before, after = areas[0][self.one], areas[1][self.other]
        iou = self.pixels / (before + after - self.pixels)
        mutual = _is_best(self.one, iou, self.other) & _is_best(self.other, iou, self.one)
        chosen = mutual & (self.pixels >= least * np.minimum(before, after))
        return self.one[chosen], self.other[chosen]


def _is_best(group: Nodes, value: NDArray[np.float64], tie: Nodes) -> NDArray[np.bool_]:
    """Return whether a value is the highest of its group; of equals the one whose tie is lowest."""
    order = np.lexsort((tie, -value, group))
    found = np.zeros(len(group), np.bool_)
    first = np.ones(len(group), np.bool_)
    first[1:] = group[order][1:] != group[order][:-1]
    found[order[first]] = True
    return found


def _links(
    stack: _Stack, axis: str, objects: Nodes, settings: LinkSettings, progress: tuple[int, int]
) -> Generator[tuple[int, int], None, tuple[Nodes, Nodes]]:
    """Yield progress and return pairs of objects that are one, along an axis."""
    ends, starts = np.zeros(len(objects), np.bool_), np.zeros(len(objects), np.bool_)
    found: list[tuple[Nodes, Nodes]] = []
    done, total = progress
    for distance in range(1, settings.max_gap + 2):
        by_index: dict[int, list[tuple[PlaneIndex, PlaneIndex]]] = {}
        for index, *pair in stack.pairs(axis, distance):
            by_index.setdefault(index, []).append((pair[0], pair[1]))
        for pairs in by_index.values():
            one, other = _match(stack, pairs, objects, settings.overlap)
            # Whoever has been found nearer by is not looked for further away.
            free = ~ends[one] & ~starts[other]
            ends[one[free]] = starts[other[free]] = True
            found.append((one[free], other[free]))
            if distance == 1:
                done += len(pairs)
                yield done, total
    ones, others = (np.concatenate([np.zeros(0, np.int64), *[f[n] for f in found]]) for n in (0, 1))
    return ones, others


def _match(
    stack: _Stack, pairs: list[tuple[PlaneIndex, PlaneIndex]], objects: Nodes, least: float
) -> tuple[Nodes, Nodes]:
    """Return which objects in the first planes of pairs go on as which in the second."""
    areas = (np.zeros(len(objects), np.int64), np.zeros(len(objects), np.int64))
    for pair in pairs:
        for total, plane in zip(areas, pair, strict=True):
            np.add.at(total, objects[stack.of(plane)], stack.areas[stack.of(plane)])
    return _Shared.of([stack.overlaps(*pair) for pair in pairs], objects).best(areas, least)


def _joined(objects: Nodes, links: tuple[Nodes, Nodes]) -> Nodes:
    """Return the object of each node after joining linked ones."""
    # Here, as loading it takes a while in which a viewer would not answer.
    from scipy.sparse import coo_matrix, csgraph

    count = len(objects)
    graph = coo_matrix((np.ones(len(links[0]), np.bool_), links), (count, count))
    return np.asarray(csgraph.connected_components(graph, directed=False)[1][objects], np.int64)


def _in_order(objects: Nodes) -> Nodes:
    """Return the objects numbered from 1 by where they first occur."""
    ids, first, inverse = np.unique(objects, return_index=True, return_inverse=True)
    numbers = np.empty(len(ids), np.int64)
    numbers[np.argsort(first)] = np.arange(1, len(ids) + 1)
    return numbers[inverse]


__all__ = ["link"]
