"""Touching cells told apart: each pixel climbs to its summit, then shallow valleys are closed.

A watershed without an order of flooding. Each pixel of the mask points to the highest of its four
neighbours and itself, of equals to the first in the plane; where the arrows end are the summits, and
the pixels that lead to one are its basin. The highest pass between two basins is their saddle. From
the highest saddle down, of equals in the order of the plane, two basins become one where the lower
summit rises less than a given height above it.

A plane that is cut into blocks gives exactly the labels that it gives whole. A block does not know all
of the basins that reach its border, but of every other one that is the lower of two it knows the fate,
since what lies beyond can only make the higher one higher still. What it cannot know is left to the
:class:`Graph` of the plane, which therefore holds little more than one node for each cell.

References
----------
Steepest ascent is the *watershed by topographical distance* without plateaus of F. Meyer, Signal
Processing 38, 1994; joining by height is *dynamics* (M. Grimaud, Proc. SPIE 1769, 1992).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..data.blocks import DOWN, RIGHT, Block, Border, Nodes, Places, Seams, border_of, representatives, step_places

Elevation = NDArray[np.float32]
"""Heights of a block and one pixel around it; negative outside of the mask."""


@dataclass(frozen=True)
class Edges:
    """Which nodes meet, the highest place where they do, and which step between pixels that is."""

    one: Nodes
    other: Nodes
    saddle: NDArray[np.float32]
    step: Places

    def where(self, chosen: NDArray[Any]) -> Edges:
        """Return some of the edges."""
        return Edges(self.one[chosen], self.other[chosen], self.saddle[chosen], self.step[chosen])

    def between(self, numbers: Nodes) -> Edges:
        """Return the edges for renumbered nodes, without those from a node to itself."""
        renumbered = Edges(numbers[self.one], numbers[self.other], self.saddle, self.step)
        return renumbered.where(renumbered.one != renumbered.other)

    def by_saddle(self) -> Edges:
        """Return the edges from the highest saddle down; no two are equal, so there is one order."""
        return self.where(np.lexsort((self.step, -self.saddle)))


@dataclass(frozen=True)
class Maxima:
    """The nodes of a graph of basins.

    Attributes
    ----------
    places : NDArray of int64
        Where each has its summit in the plane.
    heights : NDArray of float32
        How high that is.
    leaves : NDArray of bool
        Whether the arrows leave the block there, so that place and height are those of the next pixel; the
        summit is higher still.
    """

    places: Places
    heights: NDArray[np.float32]
    outside: NDArray[np.bool_]

    def where(self, chosen: NDArray[Any]) -> Maxima:
        """Return some of the nodes."""
        return Maxima(self.places[chosen], self.heights[chosen], self.outside[chosen])

    def may_merge(self, edges: Edges, height: float) -> NDArray[np.bool_]:
        """Return which edges can matter; summits only rise by joining, so the others never will."""
        lower = np.minimum(self.heights[edges.one], self.heights[edges.other]).astype(np.float64)
        rise = lower - edges.saddle
        return (rise < height) | (rise <= 0)


@dataclass(frozen=True)
class BlockBasins:
    """What one block is made of.

    Attributes
    ----------
    labels : NDArray of int32
        Node + 1 of each pixel, 0 outside of the mask.
    summits : Summits
        The nodes.
    edges : Edges
        Between nodes of this block that may still become one.
    border : Border
        What meets the neighbouring blocks.
    """

    labels: NDArray[np.int32]
    maxima: Maxima
    edges: Edges
    border: Border


def connected_components(elevation: Elevation, block: Block) -> BlockBasins:
    """Return the connected pieces of a block's mask; by sides alone."""
    labels, count = ndimage.label(elevation[1:-1, 1:-1] >= 0)
    rows, columns = np.nonzero(labels)
    first = np.zeros(count, np.int64)
    # Of repeated indices the last one counts: backwards, that is the first pixel.
    first[labels[rows, columns][::-1] - 1] = block.places(rows, columns)[::-1]
    maxima = Maxima(first, np.zeros(count, np.float32), np.zeros(count, np.bool_))
    flat = np.where(elevation >= 0, np.float32(0), np.float32(-1))
    return BlockBasins(labels.astype(np.int32), maxima, _no_edges(), border_of(block, labels, flat))


def catchment_basins(elevation: Elevation, block: Block, height: float) -> BlockBasins:
    """Return the basins of a block; joined already where nothing beyond the block can change that."""
    labels, maxima = _steepest_ascent(elevation, block)
    edges = _edges(labels, elevation[1:-1, 1:-1], maxima, height, block)
    border = border_of(block, labels, elevation)
    is_open = maxima.outside.copy()
    is_open[border.nodes] = True
    parents, left = merge_basins(maxima, edges, height, is_open)
    kept = parents == np.arange(len(parents))
    numbers = (np.cumsum(kept) - 1)[parents]
    relabelled = np.concatenate([[0], numbers + 1]).astype(np.int32)[labels]
    return BlockBasins(relabelled, maxima.where(kept), left.between(numbers), border.renumbered(numbers))


def _steepest_ascent(elevation: Elevation, block: Block) -> tuple[NDArray[np.int32], Maxima]:
    """Return node + 1 of each pixel of a block, and the nodes: summits, and pixels beyond that arrows lead to."""
    stride = elevation.shape[1]
    heights = elevation.ravel()
    inside = elevation >= 0
    core = np.zeros_like(inside)
    core[1:-1, 1:-1] = inside[1:-1, 1:-1]
    own, around = np.flatnonzero(core), np.flatnonzero(inside & ~core)
    everywhere = np.concatenate([own, around])
    slots = np.zeros(heights.size, np.int32)
    slots[everywhere] = np.arange(len(everywhere), dtype=np.int32)
    arrows = slots[everywhere]
    arrows[: len(own)] = slots[_highest_neighbour(heights, own, stride)]
    ends = representatives(arrows)[: len(own)]
    used = np.zeros(len(everywhere), np.bool_)
    used[ends] = True
    labels = np.zeros(elevation.shape, np.int32)
    labels.ravel()[own] = np.cumsum(used, dtype=np.int32)[ends]
    nodes = np.flatnonzero(used)
    places = block.places(everywhere[nodes] // stride - 1, everywhere[nodes] % stride - 1)
    return labels[1:-1, 1:-1], Maxima(places, heights[everywhere[nodes]], nodes >= len(own))


def _highest_neighbour(heights: NDArray[np.float32], own: NDArray[np.intp], stride: int) -> NDArray[np.intp]:
    """Return the highest of each pixel and its four neighbours; of equals the first in raster order."""
    target = own - stride
    best = heights[target]
    for step in (-1, 0, 1, stride):
        candidate = heights[own + step]
        higher = candidate > best
        np.copyto(best, candidate, where=higher)
        np.copyto(target, own + step, where=higher)
    return target


def _edges(
    labels: NDArray[np.int32], heights: NDArray[np.float32], maxima: Maxima, height: float, block: Block
) -> Edges:
    """Return the highest pass between each two touching basins that may become one."""
    found = []
    for way, here, there in (
        (DOWN, (slice(None, -1), slice(None)), (slice(1, None), slice(None))),
        (RIGHT, (slice(None), slice(None, -1)), (slice(None), slice(1, None))),
    ):
        rows, columns = np.nonzero((labels[here] != labels[there]) & (labels[here] > 0) & (labels[there] > 0))
        one, other = (labels[s][rows, columns].astype(np.int64) - 1 for s in (here, there))
        saddle = np.minimum(heights[here][rows, columns], heights[there][rows, columns])
        edges = Edges(one, other, saddle, step_places(block.places(rows, columns), way))
        found.append(edges.where(maxima.may_merge(edges, height)))
    return _highest_saddles(_merged(found), len(maxima.places))


def _merged(many: list[Edges]) -> Edges:
    """Return all edges in one."""
    columns = ([getattr(e, name) for e in many] for name in ("one", "other", "saddle", "step"))
    return Edges(*(np.concatenate(c) for c in columns)) if many else _no_edges()


def _no_edges() -> Edges:
    return Edges(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(0, np.int64))


def _highest_saddles(edges: Edges, count: int) -> Edges:
    """Return one edge for each two nodes: of those between two, only the first in order can join them."""
    pair = np.minimum(edges.one, edges.other) * count + np.maximum(edges.one, edges.other)
    order = np.lexsort((edges.step, -edges.saddle, pair))
    first = np.ones(len(order), np.bool_)
    first[1:] = pair[order][1:] != pair[order][:-1]
    return edges.where(order[first])


def merge_basins(
    maxima: Maxima, edges: Edges, height: float, is_open: NDArray[np.bool_] | None = None
) -> tuple[Nodes, Edges]:
    """Join basins across shallow saddles.

    Parameters
    ----------
    summits : Summits
        The basins.
    edges : Edges
        Where they meet; only the first of several edges between two counts.
    height : float
        Two become one where the lower summit rises less above the saddle. Summits that do not rise at
        all always do: those are parts of one plateau.
    is_open : NDArray of bool, optional
        Basins that are larger than is known, so that they may meet others sooner and have a higher summit.

    Returns
    -------
    parents : NDArray of int64
        Each basin's representative: the highest summit that it is joined to.
    left : Edges
        Those of which it cannot be told, between representatives.
    """
    order = np.lexsort((-maxima.places, maxima.heights))
    rank_of = np.empty(len(order), np.int64)
    rank_of[order] = np.arange(len(order))
    edges = edges.by_saddle()
    open_ranks = np.zeros(len(order), np.bool_) if is_open is None else is_open[order]
    parents, left = _merge_in_order(
        maxima.heights[order].tolist(), open_ranks.tolist(), rank_of[edges.one].tolist(),
        rank_of[edges.other].tolist(), edges.saddle.tolist(), height,
    )  # fmt: skip
    found = order[representatives(parents)[rank_of]].astype(np.int64)
    return found, edges.where(left).between(found)


def _merge_in_order(
    heights: list[float], is_open: list[bool], ones: list[int], others: list[int], saddles: list[float], height: float
) -> tuple[Nodes, Nodes]:
    """Return each basin's parent, and the edges that are left.

    The basins come in order of height, the edges in the order to look at them. ``is_open`` is changed.
    """
    parents = list(range(len(heights)))
    left = []

    def root(basin: int) -> int:
        while parents[basin] != basin:
            parents[basin] = parents[parents[basin]]
            basin = parents[basin]
        return basin

    for number, (one, other, saddle) in enumerate(zip(ones, others, saddles, strict=True)):
        low, high = root(one), root(other)
        if low == high:
            continue
        if low > high:
            low, high = high, low
        rise = heights[low] - saddle
        if rise >= height and rise > 0:
            continue
        if is_open[low]:
            # It may be the higher one in truth, and then this decides about the other.
            is_open[high] = True
            left.append(number)
        else:
            parents[low] = high
    return np.array(parents, np.int64), np.array(left, np.int64)


class BasinGraph:
    """The pieces of all blocks of a plane, and which of them are one.

    Parameters
    ----------
    height : float
        See :func:`join`.

    Attributes
    ----------
    heights : NDArray of float32
        How high the summit of each region is, after a 0; known when it is solved.
    """

    def __init__(self, height: float) -> None:
        self.height = height
        self.heights = np.zeros(1, np.float32)
        self.count = 0
        self._maxima: list[Maxima] = []
        self._edges: list[Edges] = []
        self._seams = Seams()

    def add(self, pieces: BlockBasins) -> int:
        """Add a block's pieces and return the number from which they are counted."""
        offset = self.count
        self._maxima.append(pieces.maxima)
        edges = pieces.edges
        self._edges.append(Edges(edges.one + offset, edges.other + offset, edges.saddle, edges.step))
        self._seams.add(pieces.border.shifted(offset))
        self.count += len(pieces.maxima.places)
        return offset

    def solve(self) -> Nodes:
        """Return the region of each piece, 1 to n in the order of their summits' places; a 0 comes first.

        The order is that of the plane and not of the blocks, so the numbers do not depend on these.
        """
        if self.count == 0:
            return np.zeros(1, np.int64)
        maxima = Maxima(
            np.concatenate([block.places for block in self._maxima]),
            np.concatenate([block.heights for block in self._maxima]),
            np.concatenate([block.outside for block in self._maxima]),
        )
        parents = np.arange(self.count)
        parents[maxima.outside] = self._seams.nodes_at(maxima.places[maxima.outside])
        basin = representatives(parents)
        steps, values = self._seams.steps()
        edges = _merged([*self._edges, Edges(*self._seams.pairs(), values, steps)]).between(basin)
        edges = edges.where(maxima.may_merge(edges, self.height))
        region = merge_basins(maxima, edges, self.height)[0][basin]
        roots = np.unique(region)
        numbers = np.zeros(self.count, np.int64)
        roots = roots[np.argsort(maxima.places[roots])]
        numbers[roots] = np.arange(1, len(roots) + 1)
        self.heights = np.concatenate([np.zeros(1, np.float32), maxima.heights[roots]])
        return np.concatenate([[0], numbers[region]])


__all__ = ["Edges", "BasinGraph", "BlockBasins", "Maxima", "catchment_basins", "connected_components", "merge_basins"]
