"""Touching cells told apart: each pixel climbs to its summit, then shallow valleys are closed.

A watershed without an order of flooding. Each pixel of the mask points to the highest of its four
neighbours and itself, of equals to the first in the plane; where the arrows end are the summits, and
the pixels that lead to one are its basin. The highest pass between two basins is their saddle. From
the highest saddle down, two basins become one where the lower summit rises less than a given height
above it. All of that is either local or the same in any order, so a plane that is cut into blocks
gives exactly the labels that it gives whole.

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
from scipy import ndimage, sparse
from scipy.sparse import csgraph

from .blocks import Block, Border, Nodes, Places, Seams, border_of, representatives

Landscape = NDArray[np.float32]
"""Heights of a block and one pixel around it; negative outside of the mask."""


@dataclass(frozen=True)
class Edges:
    """Which nodes meet, and the highest place where they do."""

    one: Nodes
    other: Nodes
    saddle: NDArray[np.float32]

    def where(self, chosen: NDArray[Any]) -> Edges:
        """Return some of the edges."""
        return Edges(self.one[chosen], self.other[chosen], self.saddle[chosen])

    def between(self, numbers: Nodes) -> Edges:
        """Return the edges for renumbered nodes, without those from a node to itself."""
        one, other = numbers[self.one], numbers[self.other]
        apart = one != other
        return Edges(one[apart], other[apart], self.saddle[apart])


@dataclass(frozen=True)
class Summits:
    """The nodes of a graph of basins.

    Attributes
    ----------
    places : NDArray of int64
        Where each has its summit in the plane.
    heights : NDArray of float32
        How high that is.
    leaves : NDArray of bool
        Whether the arrows leave the block there, so that place and height are those of the next pixel.
    """

    places: Places
    heights: NDArray[np.float32]
    leaves: NDArray[np.bool_]

    def where(self, chosen: NDArray[Any]) -> Summits:
        """Return some of the nodes."""
        return Summits(self.places[chosen], self.heights[chosen], self.leaves[chosen])

    def may_join(self, edges: Edges, height: float) -> NDArray[np.bool_]:
        """Return which edges can matter; summits only rise by joining, so the others never will."""
        lower = np.minimum(self.heights[edges.one], self.heights[edges.other]).astype(np.float64)
        rise = lower - edges.saddle
        return (rise < height) | (rise <= 0) | self.leaves[edges.one] | self.leaves[edges.other]


@dataclass(frozen=True)
class Pieces:
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
    summits: Summits
    edges: Edges
    border: Border


def components(landscape: Landscape, block: Block) -> Pieces:
    """Return the connected pieces of a block's mask; by sides alone."""
    labels, count = ndimage.label(landscape[1:-1, 1:-1] >= 0)
    rows, columns = np.nonzero(labels)
    first = np.zeros(count, np.int64)
    # Of repeated indices the last one counts: backwards, that is the first pixel.
    first[labels[rows, columns][::-1] - 1] = block.places(rows, columns)[::-1]
    summits = Summits(first, np.zeros(count, np.float32), np.zeros(count, np.bool_))
    flat = np.where(landscape >= 0, np.float32(0), np.float32(-1))
    return Pieces(labels.astype(np.int32), summits, _no_edges(), border_of(block, labels, flat))


def basins(landscape: Landscape, block: Block, height: float) -> Pieces:
    """Return the basins of a block; those that no neighbouring block can touch are joined already."""
    labels, summits = _climb(landscape, block)
    edges = _edges(labels, landscape[1:-1, 1:-1], summits, height)
    border = border_of(block, labels, landscape)
    is_open = summits.leaves.copy()
    is_open[border.nodes] = True
    parents, left = _close(summits, edges, is_open, height)
    kept = parents == np.arange(len(parents))
    numbers = (np.cumsum(kept) - 1)[parents]
    relabelled = np.concatenate([[0], numbers + 1]).astype(np.int32)[labels]
    border = Border(border.places, numbers[border.nodes], numbers[border.pairs], border.beyond, border.values)
    return Pieces(relabelled, summits.where(kept), left.between(numbers), border)


def _climb(landscape: Landscape, block: Block) -> tuple[NDArray[np.int32], Summits]:
    """Return node + 1 of each pixel of a block, and the nodes: summits, and pixels beyond that arrows lead to."""
    stride = landscape.shape[1]
    heights = landscape.ravel()
    inside = landscape >= 0
    core = np.zeros_like(inside)
    core[1:-1, 1:-1] = inside[1:-1, 1:-1]
    own, around = np.flatnonzero(core), np.flatnonzero(inside & ~core)
    everywhere = np.concatenate([own, around])
    slots = np.zeros(heights.size, np.int32)
    slots[everywhere] = np.arange(len(everywhere), dtype=np.int32)
    arrows = slots[everywhere]
    arrows[: len(own)] = slots[_highest(heights, own, stride)]
    ends = representatives(arrows)[: len(own)]
    used = np.zeros(len(everywhere), np.bool_)
    used[ends] = True
    labels = np.zeros(landscape.shape, np.int32)
    labels.ravel()[own] = np.cumsum(used, dtype=np.int32)[ends]
    nodes = np.flatnonzero(used)
    places = block.places(everywhere[nodes] // stride - 1, everywhere[nodes] % stride - 1)
    return labels[1:-1, 1:-1], Summits(places, heights[everywhere[nodes]], nodes >= len(own))


def _highest(heights: NDArray[np.float32], own: NDArray[np.intp], stride: int) -> NDArray[np.intp]:
    """Return the highest of each pixel and its four neighbours; of equals the first in raster order."""
    target = own - stride
    best = heights[target]
    for step in (-1, 0, 1, stride):
        candidate = heights[own + step]
        higher = candidate > best
        np.copyto(best, candidate, where=higher)
        np.copyto(target, own + step, where=higher)
    return target


def _edges(labels: NDArray[np.int32], heights: NDArray[np.float32], summits: Summits, height: float) -> Edges:
    """Return the highest pass between each two touching basins that may become one."""
    found = []
    for here, there in (
        ((slice(None, -1), slice(None)), (slice(1, None), slice(None))),
        ((slice(None), slice(None, -1)), (slice(None), slice(1, None))),
    ):
        border = (labels[here] != labels[there]) & (labels[here] > 0) & (labels[there] > 0)
        one, other = labels[here][border].astype(np.int64) - 1, labels[there][border].astype(np.int64) - 1
        edges = Edges(one, other, np.minimum(heights[here][border], heights[there][border]))
        found.append(edges.where(summits.may_join(edges, height)))
    return _strongest(_merged(found), len(summits.places))


def _merged(many: list[Edges]) -> Edges:
    """Return all edges in one."""
    columns = ([getattr(e, name) for e in many] for name in ("one", "other", "saddle"))
    return Edges(*(np.concatenate(c) for c in columns)) if many else _no_edges()


def _no_edges() -> Edges:
    return Edges(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))


def _strongest(edges: Edges, count: int) -> Edges:
    """Return one edge for each two nodes, the highest."""
    low, high = np.minimum(edges.one, edges.other), np.maximum(edges.one, edges.other)
    order = np.lexsort((-edges.saddle, low * count + high))
    key = (low * count + high)[order]
    first = np.ones(len(key), np.bool_)
    first[1:] = key[1:] != key[:-1]
    return Edges(low, high, edges.saddle).where(order[first])


def _close(summits: Summits, edges: Edges, is_open: NDArray[np.bool_], height: float) -> tuple[Nodes, Edges]:
    """Join all groups that no open node is part of; return representatives, and the edges that are left."""
    count = len(is_open)
    if count == 0:
        return np.zeros(0, np.int64), edges
    links = sparse.coo_matrix((np.ones(len(edges.one), np.bool_), (edges.one, edges.other)), (count, count))
    groups, group = csgraph.connected_components(links, directed=False)
    closed = np.ones(groups, np.bool_)
    closed[group[is_open]] = False
    done = closed[group[edges.one]]
    return join(summits, edges.where(done), height), edges.where(~done)


def join(summits: Summits, edges: Edges, height: float) -> Nodes:
    """Return each basin's representative: the highest summit that it is joined to.

    Parameters
    ----------
    summits : Summits
        The basins.
    edges : Edges
        Which of them meet; only the highest of several edges between two counts.
    height : float
        Two become one where the lower summit rises less above the saddle. Summits that do not rise at
        all always do: those are parts of one plateau.
    """
    order = np.lexsort((-summits.places, summits.heights))
    rank_of = np.empty(len(order), np.int64)
    rank_of[order] = np.arange(len(order))
    one, other = rank_of[edges.one], rank_of[edges.other]
    low, high = (summits.places[order][np.sort([one, other], axis=0)[i]] for i in (0, 1))
    # From the highest saddle down, so that each basin meets its highest neighbour first.
    sequence = np.lexsort((high, low, -edges.saddle))
    parents = _join_in_order(
        summits.heights[order].tolist(), one[sequence].tolist(), other[sequence].tolist(),
        edges.saddle[sequence].tolist(), height,
    )  # fmt: skip
    return order[representatives(parents)[rank_of]].astype(np.int64)


def _join_in_order(
    heights: list[float], ones: list[int], others: list[int], saddles: list[float], height: float
) -> Nodes:
    """Return each basin's parent; the basins come in order of height, the edges in the order to look at them."""
    parents = list(range(len(heights)))

    def root(basin: int) -> int:
        while parents[basin] != basin:
            parents[basin] = parents[parents[basin]]
            basin = parents[basin]
        return basin

    for one, other, saddle in zip(ones, others, saddles, strict=True):
        low, high = root(one), root(other)
        if low > high:
            low, high = high, low
        rise = heights[low] - saddle
        if low != high and (rise < height or rise <= 0):
            parents[low] = high
    return np.array(parents, np.int64)


class Graph:
    """The pieces of all blocks of a plane, and which of them are one.

    Parameters
    ----------
    height : float
        See :func:`join`.
    """

    def __init__(self, height: float) -> None:
        self.height = height
        self.count = 0
        self._summits: list[Summits] = []
        self._edges: list[Edges] = []
        self._seams = Seams()

    def add(self, pieces: Pieces) -> int:
        """Add a block's pieces and return the number from which they are counted."""
        offset = self.count
        self._summits.append(pieces.summits)
        edges = pieces.edges
        self._edges.append(Edges(edges.one + offset, edges.other + offset, edges.saddle))
        self._seams.add(pieces.border.shifted(offset))
        self.count += len(pieces.summits.places)
        return offset

    def solve(self) -> Nodes:
        """Return the region of each piece, 1 to n in the order of their summits' places; a 0 comes first.

        The order is that of the plane and not of the blocks, so the numbers do not depend on these.
        """
        if self.count == 0:
            return np.zeros(1, np.int64)
        summits = Summits(*(np.concatenate([getattr(s, n) for s in self._summits])
                            for n in ("places", "heights", "leaves")))  # fmt: skip
        parents = np.arange(self.count)
        parents[summits.leaves] = self._seams.nodes_at(summits.places[summits.leaves])
        basin = representatives(parents)
        edges = _merged([*self._edges, Edges(*self._seams.pairs())]).between(basin)
        edges = edges.where(summits.may_join(edges, self.height))
        region = join(summits, edges, self.height)[basin]
        roots = np.unique(region)
        numbers = np.zeros(self.count, np.int64)
        numbers[roots[np.argsort(summits.places[roots])]] = np.arange(1, len(roots) + 1)
        return np.concatenate([[0], numbers[region]])


__all__ = ["Edges", "Graph", "Pieces", "Summits", "basins", "components", "join"]
