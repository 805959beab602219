"""What a network says of a plane, as heights to climb: the summits are the middles of cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..data.arrays import ArrayLike
from ..data.blocks import Block
from ..errors import SettingsError
from ..settings import PredictionSettings
from .watershed import Elevation

PROBABILITY_STEPS = 65_535
"""What probability 1 becomes in 16 bits."""
DISTANCE_STEPS = 50_000
"""What distance 1, the middle of a cell, becomes in 16 bits; networks sometimes go a little beyond."""

_SMOOTHING = 1.0
"""Standard deviation in pixels: takes out single-pixel summits, and is far below any cell's size."""
_SMOOTHING_REACH = 4
_SURE = 0.8
"""Part of the full height that cells usually have of which a network is sure."""


def quantise(values: NDArray[Any], steps: int) -> NDArray[np.uint16]:
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
        """Return how cells are told apart: distance or components.

        Raises
        ------
        SettingsError
            When distance separation is asked of a model without a distance output.
        """
        if settings.separation == "auto":
            return "components" if self.distance is None else "distance"
        if settings.separation == "distance" and self.distance is None:
            raise SettingsError("The model has no distance output; choose auto or components for separation.")
        return settings.separation

    def min_peak(self, settings: PredictionSettings) -> float:
        """Return how high a cell has to rise at least; only the distance output says how sure the network is."""
        return settings.min_peak if self.method(settings) == "distance" else 0.0

    def mask(self, block: Block, halo: int, threshold: float) -> NDArray[np.bool_]:
        """Return where cells are, in a block and ``halo`` pixels around it."""
        return np.asarray(block.read(self.foreground, halo) > np.float32(threshold * PROBABILITY_STEPS))


def elevation(maps: Maps, settings: PredictionSettings, block: Block) -> Elevation:
    """Return the elevation of a block and one pixel around it, -1 outside the mask.

    It is the smoothed distance output, or 0 everywhere when connected components are the cells.
    """
    if maps.method(settings) == "components" or maps.distance is None:
        mask = block.framed(maps.mask(block, 1, settings.threshold), 1, 0)
        return np.where(mask, np.float32(0), np.float32(-1))
    halo = _SMOOTHING_REACH + 1
    raw = block.read(maps.distance, halo).astype(np.float32) / np.float32(DISTANCE_STEPS)
    # The same terms in the same order for every pixel, wherever the block begins.
    smooth = ndimage.gaussian_filter(raw, _SMOOTHING, radius=_SMOOTHING_REACH)
    mask = maps.mask(block, halo, settings.threshold)
    return block.framed(np.where(mask, np.maximum(smooth, 0), np.float32(-1)), halo, -1)


def min_peak_for_size(size: NDArray[np.int64], min_peak: float) -> NDArray[np.float64]:
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


__all__ = ["DISTANCE_STEPS", "PROBABILITY_STEPS", "Maps", "elevation", "quantise", "min_peak_for_size"]
