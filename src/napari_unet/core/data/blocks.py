"""Planes cut into blocks, and what crosses from one block into the next.

A plane may be too large to hold, so it is worked on block by block. Whatever is found in one block is a
*node*; nodes of neighbouring blocks meet at the seams. Pixels are known by their place in the whole plane,
``y * width + x``, so that no answer depends on where the seams are::

    +--------+--------+
    | A     a|q  B    |     a: node of A beside the seam
    |        |        |     q: the pixel beyond it, whose node is known when B is done
    +--------+--------+
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arrays import ArrayLike

Places = NDArray[np.int64]
Nodes = NDArray[np.int64]


@dataclass(frozen=True)
class Block:
    """A part of a plane, in pixels.

    Attributes
    ----------
    y0, y1, x0, x1 : int
        Its bounds.
    height, width : int
        Of the whole plane.
    """

    y0: int
    y1: int
    x0: int
    x1: int
    height: int
    width: int

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Its bounds in the plane: y0, y1, x0, x1."""
        return self.y0, self.y1, self.x0, self.x1

    @property
    def slices(self) -> tuple[slice, slice]:
        """Where it lies in the plane."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    def read(self, array: ArrayLike, halo: int) -> NDArray[Any]:
        """Return the block with ``halo`` pixels around it, fewer where the plane ends."""
        ys = slice(max(0, self.y0 - halo), min(self.height, self.y1 + halo))
        xs = slice(max(0, self.x0 - halo), min(self.width, self.x1 + halo))
        return np.asarray(array[ys, xs])

    def framed(self, values: NDArray[Any], halo: int, outside: float) -> NDArray[Any]:
        """Return a block that was read with a halo with just one pixel around it, ``outside`` beyond the plane."""
        top, left = min(self.y0, halo), min(self.x0, halo)
        y0, x0 = top - min(top, 1), left - min(left, 1)
        y1 = top + self.y1 - self.y0 + min(1, self.height - self.y1)
        x1 = left + self.x1 - self.x0 + min(1, self.width - self.x1)
        missing = [(1 - top + y0, int(self.y1 == self.height)), (1 - left + x0, int(self.x1 == self.width))]
        framed: NDArray[Any] = np.pad(values[y0:y1, x0:x1], missing, constant_values=outside)
        return framed

    def places(self, rows: NDArray[Any], columns: NDArray[Any]) -> Places:
        """Return the places in the plane of pixels that are counted from the block's corner."""
        places: Places = (rows.astype(np.int64) + self.y0) * self.width + (columns + self.x0)
        return places


def blocks(height: int, width: int, side: int) -> list[Block]:
    """Return the blocks of a plane in raster order.

    Examples
    --------
    >>> [b.slices for b in blocks(3, 5, 4)]
    [(slice(0, 3, None), slice(0, 4, None)), (slice(0, 3, None), slice(4, 5, None))]
    """
    return [
        Block(y, min(y + side, height), x, min(x + side, width), height, width)
        for y in range(0, height, side)
        for x in range(0, width, side)
    ]


@dataclass(frozen=True)
class Border:
    """What one block's neighbours have to know of it.

    Attributes
    ----------
    places, nodes : NDArray of int64
        Its pixels beside a neighbouring block, and the node of each.
    pairs : NDArray of int64
        Nodes beside the right or lower neighbour.
    beyond : NDArray of int64
        For each of ``pairs`` the pixel on the other side of the seam.
    steps : NDArray of int64
        For each of ``pairs`` the step across, see :func:`step_places`.
    values : NDArray of float32
        For each of ``pairs`` the lower of the two pixels' values.
    """

    places: Places
    nodes: Nodes
    pairs: Nodes
    beyond: Places
    steps: Places
    values: NDArray[np.float32]

    def shifted(self, offset: int) -> Border:
        """Return the same border for nodes that are numbered from ``offset``."""
        return replace(self, nodes=self.nodes + offset, pairs=self.pairs + offset)

    def renumbered(self, numbers: Nodes) -> Border:
        """Return the same border for other numbers of the nodes."""
        return replace(self, nodes=numbers[self.nodes], pairs=numbers[self.pairs])


DOWN, RIGHT = 0, 1


def step_places(places: Places, direction: int) -> Places:
    """Return what tells the steps from some pixels to the next one down or right from all other steps."""
    return 2 * places + direction


def border_of(block: Block, labels: NDArray[np.int32], frame: NDArray[Any]) -> Border:
    """Return a block's border.

    Parameters
    ----------
    block : Block
        Where it lies.
    labels : NDArray of int32
        Node + 1 of each of its pixels, 0 for none.
    frame : NDArray
        Values of the block and one pixel around; negative where there is no node.
    """
    height, width = labels.shape
    rows, columns = np.arange(height), np.arange(width)
    last, right = np.full(width, height - 1), np.full(height, width - 1)
    seams = [(block.y0 > 0, np.zeros_like(columns), columns), (block.y1 < block.height, last, columns),
             (block.x0 > 0, rows, np.zeros_like(rows)), (block.x1 < block.width, rows, right)]  # fmt: skip
    own = [(block.places(ys, xs), labels[ys, xs]) for there, ys, xs in seams if there]
    across = [
        (
            block.places(ys + (way == DOWN), xs + (way == RIGHT)),
            labels[ys, xs],
            step_places(block.places(ys, xs), way),
            np.minimum(frame[ys + 1, xs + 1], frame[ys + 1 + (way == DOWN), xs + 1 + (way == RIGHT)]),
        )
        for (there, ys, xs), way in ((seams[1], DOWN), (seams[3], RIGHT))
        if there
    ]
    places, nodes = _joined([o[0] for o in own]), _joined([o[1] for o in own])
    beyond, pairs, steps = (_joined([a[n] for a in across]) for n in range(3))
    values = np.concatenate([np.zeros(0, np.float32), *[a[3] for a in across]])
    inside, met = nodes > 0, (pairs > 0) & (values >= 0)
    return Border(
        places[inside], nodes[inside] - 1, pairs[met] - 1, beyond[met], steps[met], values[met].astype(np.float32)
    )


def _joined(parts: list[NDArray[Any]]) -> NDArray[np.int64]:
    """Return arrays of whole numbers one behind the other; an empty one of none."""
    return np.concatenate([np.zeros(0, np.int64), *parts]).astype(np.int64)


class Seams:
    """The borders of all blocks of a plane."""

    def __init__(self) -> None:
        self._borders: list[Border] = []

    def add(self, border: Border) -> None:
        """Add a block's border; its nodes are numbered over all blocks."""
        self._borders.append(border)

    def pairs(self) -> tuple[Nodes, Nodes]:
        """Return the nodes that meet at seams."""
        return _joined([b.pairs for b in self._borders]), self.nodes_at(_joined([b.beyond for b in self._borders]))

    def steps(self) -> tuple[Places, NDArray[np.float32]]:
        """Return of each meeting the step across the seam, and the value there."""
        values = np.concatenate([np.zeros(0, np.float32), *[b.values for b in self._borders]])
        return _joined([b.steps for b in self._borders]), values

    def nodes_at(self, places: Places) -> Nodes:
        """Return the nodes at pixels beside a seam."""
        known = _joined([b.places for b in self._borders])
        order = np.argsort(known, kind="stable")
        nodes = _joined([b.nodes for b in self._borders])
        if len(places) == 0:
            return np.zeros(0, np.int64)
        return nodes[order[np.searchsorted(known, places, sorter=order)]]


def representatives(parents: NDArray[Any]) -> NDArray[Any]:
    """Return the end of each chain of parents, by leaps that double in length.

    Examples
    --------
    >>> representatives(np.array([0, 0, 1, 2, 4])).tolist()
    [0, 0, 0, 0, 4]
    """
    while True:
        further = parents[parents]
        if np.array_equal(further, parents):
            return parents
        parents = further


__all__ = [
    "DOWN", "RIGHT", "Block", "Border", "Seams", "blocks", "border_of", "representatives", "step_places",
]  # fmt: skip
