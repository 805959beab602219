"""What a network says of a plane, as heights to climb: the summits are the middles of cells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..data.arrays import ArrayLike
from ..data.blocks import Block
from ..errors import SettingsError
from ..settings import PredictionSettings
from .watershed import Graph, Landscape, components

PROBABILITY_STEPS = 65_535
"""What probability 1 becomes in 16 bits."""
DISTANCE_STEPS = 50_000
"""What distance 1, the middle of a cell, becomes in 16 bits; networks sometimes go a little beyond."""
SHAPE_REACH = 128
"""Depth in pixels from which on a mask counts as equally deep when cells are separated by shape."""

_SMOOTHING = 1.0
"""Standard deviation in pixels: takes out single-pixel summits, and is far below any cell's size."""
_SMOOTHING_REACH = 4
_SURE = 0.8
"""Part of the full height that cells usually have of which a network is sure."""


def in_steps(values: NDArray[Any], steps: int) -> NDArray[np.uint16]:
    """Return a map in whole steps of 16 bits, as which planes of any size are kept; NaN becomes 0.

    Parameters
    ----------
    values : NDArray
        Probabilities or distances.
    steps : int
        What 1 becomes.
    """
    # fmax takes the number where the other is NaN; all in one array, as this is done for every pixel.
    scaled = np.fmax(values, np.float32(0), dtype=np.float32)
    np.fmin(scaled, np.float32(65_535 / steps), out=scaled)
    scaled *= np.float32(steps)
    return np.asarray(np.rint(scaled, out=scaled), np.uint16)


@dataclass(frozen=True)
class Maps:
    """What the network says of a plane, in steps of 16 bits; arrays or stores of shape (Y, X).

    Attributes
    ----------
    foreground : ArrayLike
        Probability of not being background, see :data:`PROBABILITY_STEPS`.
    distance : ArrayLike, optional
        Distance to the cell's border, see :data:`DISTANCE_STEPS`.
    """

    foreground: ArrayLike
    distance: ArrayLike | None = None

    def method(self, settings: PredictionSettings) -> str:
        """Return how cells are told apart: distance, shape or components.

        Raises
        ------
        SettingsError
            When distance separation is asked of a model without a distance output.
        """
        if settings.separation == "auto":
            return "components" if self.distance is None else "distance"
        if settings.separation == "distance" and self.distance is None:
            raise SettingsError("The model has no distance output; choose auto, components or shape for separation.")
        return settings.separation

    def min_peak(self, settings: PredictionSettings) -> float:
        """Return how high a cell has to rise at least; only the distance output says how sure the network is."""
        return settings.min_peak if self.method(settings) == "distance" else 0.0

    def mask(self, block: Block, halo: int, threshold: float) -> NDArray[np.bool_]:
        """Return where cells are, in a block and ``halo`` pixels around it."""
        return np.asarray(block.read(self.foreground, halo) > np.float32(threshold * PROBABILITY_STEPS))


def landscapes(maps: Maps, settings: PredictionSettings, blocks: list[Block]) -> Callable[[Block], Landscape]:
    """Return what gives the heights of a block and one pixel around it, -1 outside of the mask.

    All blocks have to be given, as separation by shape looks through them once.
    """
    method = maps.method(settings)
    if method == "shape":
        shape = _Shape(maps, settings.threshold)
        shape.measure(blocks)
        return shape.landscape
    if method == "distance" and maps.distance is not None:
        distance = maps.distance
        return lambda block: _by_distance(maps, distance, settings.threshold, block)
    return lambda block: _flat(maps, settings.threshold, block)


def _flat(maps: Maps, threshold: float, block: Block) -> Landscape:
    """Return 0 in the mask."""
    mask = block.framed(maps.mask(block, 1, threshold), 1, 0)
    return np.where(mask, np.float32(0), np.float32(-1))


def _by_distance(maps: Maps, distance: ArrayLike, threshold: float, block: Block) -> Landscape:
    """Return the smoothed distance output, about 1 high."""
    halo = _SMOOTHING_REACH + 1
    raw = block.read(distance, halo).astype(np.float32) / np.float32(DISTANCE_STEPS)
    # Every pixel's sum has the same terms in the same order wherever the block begins.
    smooth = ndimage.gaussian_filter(raw, _SMOOTHING, radius=_SMOOTHING_REACH)
    mask = maps.mask(block, halo, threshold)
    return block.framed(np.where(mask, np.maximum(smooth, 0), np.float32(-1)), halo, -1)


def least_height(size: NDArray[np.int64], min_peak: float) -> NDArray[np.float64]:
    """Return how high cells have to rise not to be dropped as doubtful.

    The distance output falls evenly from 1 in the middle of a cell to 0 at its border, so smoothing lowers it by
    the mean way over which it smooths: hardly in large cells, to a half in round ones that are five pixels wide.
    Of small ones no more is asked than round ones have of which a network is sure.

    Parameters
    ----------
    size : NDArray of int
        Of the cells, in pixels.
    peak : float
        What is asked of large cells.
    """
    radius = np.sqrt(np.maximum(size, 1) / np.pi)
    full = np.maximum(0, 1 - _SMOOTHING * np.sqrt(np.pi / 2) / radius)
    return np.asarray(np.minimum(min_peak, max(min_peak, _SURE) * full))


class _Shape:
    """Heights from the mask alone: depth in it, over the depth of the connected piece's deepest pixel.

    Depth is measured up to :data:`SHAPE_REACH`, so that a block and what lies so far around it suffice.
    """

    def __init__(self, maps: Maps, threshold: float) -> None:
        self.maps, self.threshold = maps, threshold
        self._offsets: dict[tuple[int, int], int] = {}
        self._deepest = np.ones(1, np.float32)

    def measure(self, blocks: list[Block]) -> None:
        """Find the deepest pixel of every connected piece of the mask."""
        graph, deepest = Graph(0.0), []
        for block in blocks:
            pieces = components(_flat(self.maps, self.threshold, block), block)
            count = len(pieces.summits.places)
            depth = self._depth(block)[1:-1, 1:-1]
            deepest.append(np.zeros(count, np.float32))
            np.maximum.at(deepest[-1], pieces.labels[pieces.labels > 0] - 1, depth[pieces.labels > 0])
            self._offsets[block.y0, block.x0] = graph.add(pieces)
        group = graph.solve()
        highest = np.ones(int(group.max()) + 1, np.float32)
        np.maximum.at(highest, group[1:], np.concatenate([np.zeros(0, np.float32), *deepest]))
        self._deepest = highest[group]

    def _depth(self, block: Block) -> NDArray[np.float32]:
        """Return the distance to what is not in the mask, in a block and one pixel around it."""
        halo = SHAPE_REACH + 1
        # The pixel of padding is the plane's end, or so far away that it makes no difference.
        inside = ndimage.distance_transform_edt(np.pad(self.maps.mask(block, halo, self.threshold), 1))[1:-1, 1:-1]
        return block.framed(np.minimum(inside, SHAPE_REACH).astype(np.float32), halo, 0)

    def landscape(self, block: Block) -> Landscape:
        """Return the heights of a block and one pixel around it."""
        flat = _flat(self.maps, self.threshold, block)
        labels = components(flat, block).labels
        numbers = np.where(labels > 0, labels + self._offsets[block.y0, block.x0], 0)
        # A pixel beyond the block matters only beside one of the same piece.
        around = np.pad(numbers, 1, mode="edge")
        return np.where((flat >= 0) & (around > 0), self._depth(block) / self._deepest[around], np.float32(-1))


__all__ = ["DISTANCE_STEPS", "PROBABILITY_STEPS", "SHAPE_REACH", "Maps", "in_steps", "landscapes", "least_height"]
