"""Separated cells put in order: gap given back, holes filled, small ones dropped, the rest numbered.

What decides is gathered block by block (sizes, first pixels, what surrounds a hole) and holds for the whole
plane, so that the result does not depend on the blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..data.blocks import Block, Border, Seams, border_of
from ..data.label_ops import near_two
from .elevation import min_peak_for_size

Labels = NDArray[np.int32]
_SIDES = ((-1, 0), (0, -1), (0, 1), (1, 0))


def restore_boundaries(labels: Labels, width: int) -> Labels:
    """Return the labels grown into the gaps between them, and nowhere else.

    The gap that was cut between touching cells before training belongs to them; outer borders stay.
    A pixel's answer depends on labels up to ``2 * width`` pixels away.
    """
    if width == 0 or not labels.any():
        return labels
    between = (labels == 0) & near_two(labels, width)
    rows, columns = np.nonzero(between)
    grown = np.pad(labels, 1)
    # One ring of pixels at a time, and only where there is a gap: that is far less than the plane.
    for _ in range(width):
        around = np.maximum.reduce([grown[rows + 1 + dy, columns + 1 + dx] for dy, dx in _SIDES])
        new = around > 0
        if not new.any():
            break
        grown[rows[new] + 1, columns[new] + 1] = around[new]
        rows, columns = rows[~new], columns[~new]
    return grown[1:-1, 1:-1].copy()


@dataclass(frozen=True)
class _Background:
    """The connected pieces of a block's background."""

    size: NDArray[np.int64]
    lowest: NDArray[np.int64]
    highest: NDArray[np.int64]
    ends: NDArray[np.bool_]


_NO_CELL = np.iinfo(np.int64).max


def _background(labels: Labels) -> tuple[NDArray[np.int32], int]:
    """Return the connected pieces of background of a block, 1 to n, and n."""
    pieces, count = ndimage.label(labels == 0)
    return pieces, int(count)


def _background_components(frame: Labels, pieces: NDArray[np.int32], count: int, block: Block) -> _Background:
    """Return how large each piece of background is, and which cells lie beside it."""
    size = np.bincount(pieces.ravel(), minlength=count + 1)[1:].astype(np.int64)
    lowest, highest = np.full(count, _NO_CELL), np.zeros(count, np.int64)
    cells = frame > 0
    beside_cell = cells[:-2, 1:-1] | cells[1:-1, :-2] | cells[1:-1, 2:] | cells[2:, 1:-1]
    rows, columns = np.nonzero(beside_cell & (pieces > 0))
    piece = pieces[rows, columns] - 1
    for dy, dx in _SIDES:
        beside = frame[rows + 1 + dy, columns + 1 + dx].astype(np.int64)
        there = beside > 0
        np.minimum.at(lowest, piece[there], beside[there])
        np.maximum.at(highest, piece[there], beside[there])
    edges = [(block.y0 == 0, pieces[0]), (block.y1 == block.height, pieces[-1]),
             (block.x0 == 0, pieces[:, 0]), (block.x1 == block.width, pieces[:, -1])]  # fmt: skip
    touched = np.concatenate([np.zeros(0, np.int32), *[line for at_edge, line in edges if at_edge]])
    ends = np.zeros(count, np.bool_)
    ends[touched[touched > 0] - 1] = True
    return _Background(size, lowest, highest, ends)


@dataclass(frozen=True)
class BlockSummary:
    """What has to be known of a block, to decide about the whole plane.

    Attributes
    ----------
    regions, size, first : NDArray of int64
        The regions in it, ascending; of each how many pixels it has, and the place of its first one.
    gaps : _Gaps, optional
        Its pieces of background, when holes are filled.
    border : Border, optional
        What of them meets the neighbouring blocks.
    """

    regions: NDArray[np.int64]
    size: NDArray[np.int64]
    first: NDArray[np.int64]
    gaps: _Background | None = None
    border: Border | None = None


def summarise_block(frame: Labels, block: Block, *, holes: bool) -> BlockSummary:
    """Return what has to be known of a block.

    Parameters
    ----------
    frame : NDArray of int32
        Regions of the block and one pixel around it; negative beyond the plane.
    block : Block
        Where it lies.
    holes : bool
        Whether holes will be filled.
    """
    labels = frame[1:-1, 1:-1]
    rows, columns = np.nonzero(labels)
    found = labels[rows, columns].astype(np.int64)
    low = int(found.min(initial=_NO_CELL)) if len(found) else 0
    size = np.bincount(found - low)
    first = np.full(len(size), _NO_CELL)
    np.minimum.at(first, found - low, block.places(rows, columns))
    there = np.flatnonzero(size)
    known = there + low, size[there].astype(np.int64), first[there]
    if not holes:
        return BlockSummary(*known)
    pieces, count = _background(labels)
    # For the seams alone: 0 where there is background, which is what meets.
    meeting = np.where(frame == 0, np.float32(0), np.float32(-1))
    return BlockSummary(*known, _background_components(frame, pieces, count, block), border_of(block, pieces, meeting))


def relabel_block(labels: Labels, numbers: NDArray[np.int32], filled: NDArray[np.int32] | None) -> Labels:
    """Return a block's final labels.

    Parameters
    ----------
    labels : NDArray of int32
        Regions of the block alone, as they were noted.
    numbers : NDArray of int32
        Final number of each region; of 0 it is 0.
    filled : NDArray of int32 or None
        Final number of what fills each of the block's pieces of background; None when no holes are filled.
    """
    if filled is None or not filled.any():
        return numbers[labels]
    pieces, _ = _background(labels)
    return np.where(labels > 0, numbers[labels], np.concatenate([[0], filled])[pieces]).astype(np.int32)


class Cleanup:
    """Which cells stay, how they are numbered, and which holes they fill.

    Every block is first added with :meth:`add`, in any order; after :meth:`decide` each can be had from
    :meth:`finished`.

    Parameters
    ----------
    heights : NDArray of float32
        How high each region of the plane rises, after a 0.
    holes : int
        Holes of up to so many pixels are filled; -1 fills all. A hole is a connected piece of background
        that one single cell surrounds.
    smallest : int
        Cells with fewer pixels are dropped.
    peak : float
        Cells that rise less are dropped, see :func:`~napari_unet.core.instances.elevation.min_peak_for_size`.
    """

    def __init__(self, heights: NDArray[np.float32], holes: int, smallest: int, min_peak: float = 0.0) -> None:
        self.heights, self.holes, self.smallest, self.min_peak = heights, holes, smallest, min_peak
        self._size = np.zeros(len(heights), np.int64)
        self._first = np.full(len(heights), _NO_CELL)
        self._gaps: list[_Background] = []
        self._seams = Seams()
        self._offsets: dict[tuple[int, int], int] = {}
        self._counts: dict[tuple[int, int], int] = {}
        self._pieces = 0

    def add(self, frame: Labels, block: Block) -> None:
        """Note what a block holds.

        Parameters
        ----------
        frame : NDArray of int32
            Regions of the block and one pixel around it; negative beyond the plane.
        block : Block
            Where it lies.
        """
        self.add_summary(summarise_block(frame, block, holes=self.holes != 0), block)

    def add_summary(self, notes: BlockSummary, block: Block) -> None:
        """Do the same as :meth:`add` with what was noted elsewhere."""
        self._size[notes.regions] += notes.size
        self._first[notes.regions] = np.minimum(self._first[notes.regions], notes.first)
        if notes.gaps is None or notes.border is None:
            return
        self._offsets[block.y0, block.x0] = self._pieces
        self._gaps.append(notes.gaps)
        self._seams.add(notes.border.shifted(self._pieces))
        self._counts[block.y0, block.x0] = len(notes.gaps.size)
        self._pieces += len(notes.gaps.size)

    def decide(self) -> int:
        """Decide about all cells and holes; return how many cells there are."""
        self._filler = self._fill()
        high = self.heights >= min_peak_for_size(self._size, self.min_peak)
        kept = np.flatnonzero((self._size >= self.smallest) & (self._size > 0) & high)
        self._numbers = np.zeros(len(self._size), np.int32)
        # A hole's first pixel comes after that of the cell around it, so the cell's own one counts.
        self._numbers[kept[np.argsort(self._first[kept])]] = np.arange(1, len(kept) + 1)
        return len(kept)

    def _fill(self) -> NDArray[np.int64]:
        """Return the region that fills each piece of background, 0 for none, and add its size to that."""
        if not self._pieces:
            return np.zeros(0, np.int64)
        # Here, as loading it takes a while in which a viewer would not answer.
        from scipy.sparse import coo_matrix, csgraph

        one, other = self._seams.pairs()
        links = coo_matrix((np.ones(len(one), np.bool_), (one, other)), (self._pieces, self._pieces))
        groups, group = csgraph.connected_components(links, directed=False)
        size, highest = np.zeros(groups, np.int64), np.zeros(groups, np.int64)
        lowest, ends = np.full(groups, _NO_CELL), np.zeros(groups, np.bool_)
        np.add.at(size, group, np.concatenate([g.size for g in self._gaps]))
        np.maximum.at(highest, group, np.concatenate([g.highest for g in self._gaps]))
        np.minimum.at(lowest, group, np.concatenate([g.lowest for g in self._gaps]))
        np.logical_or.at(ends, group, np.concatenate([g.ends for g in self._gaps]))
        hole = (highest == lowest) & ~ends & ((self.holes < 0) | (size <= self.holes))
        np.add.at(self._size, highest[hole], size[hole])
        filled: NDArray[np.int64] = np.where(hole, highest, 0)[group]
        return filled

    def final_labels(self, labels: Labels, block: Block) -> Labels:
        """Return a block's final labels.

        Parameters
        ----------
        labels : NDArray of int32
            Regions of the block alone, as they were added.
        block : Block
            Where it lies.
        """
        return relabel_block(labels, self._numbers, self.filled(block))

    def numbers(self, regions: NDArray[np.int64]) -> NDArray[np.int32]:
        """Return the final numbers of some regions, 0 where a cell is dropped."""
        return self._numbers[regions]

    def filled(self, block: Block) -> NDArray[np.int32] | None:
        """Return the final number of what fills each piece of a block's background; None when nothing is filled."""
        if self.holes == 0:
            return None
        offset = self._offsets[block.y0, block.x0]
        return self._numbers[self._filler[offset : offset + self._counts[block.y0, block.x0]]]


def clean_labels(labels: NDArray[Any], *, boundary_erosion: int = 0, holes: int = 0, smallest: int = 0) -> Labels:
    """Return labels of a whole plane in order, numbered 1 to n by their first pixels.

    Parameters
    ----------
    labels : NDArray of int
        Cells that may touch, (Y, X), 0 = background.
    gap, holes, smallest : int
        See :class:`napari_unet.core.settings.PredictionSettings`; 0 leaves things as they are.
    """
    height, width = labels.shape
    block = Block(0, height, 0, width, height, width)
    grown = restore_boundaries(labels.astype(np.int32), boundary_erosion)
    work = Cleanup(np.zeros(int(grown.max(initial=0)) + 1, np.float32), holes, smallest)
    work.add(block.framed(grown, 0, -1), block)
    work.decide()
    return work.final_labels(grown, block)


__all__ = ["BlockSummary", "Cleanup", "relabel_block", "summarise_block", "restore_boundaries", "clean_labels"]
