"""How large images are shown to a network. Needs no torch."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from ..settings import PredictionSettings
from .arrays import SCALE_LIMITS

SMALLER, LARGER = 1.25, 1.5
"""Ratios of diameters, below and above the one that a model was taught at, up to which images are seen as those were;
small cells need pixels more than large ones (docs/benchmarks.md, "What the parts bring" and "The demo")."""
SCRATCH_RANGE = (12.0, 48.0)
"""Object diameters in pixels at which a new network learns well; images are resized into this range."""

_SAME_SIZE = 1.1
"""Factor by which the measured size may be off before an image is resampled at all."""

_WIDER = 0.75
"""Pixels that the network sees by which a gap between touching cells is wider than it was cut: the threshold takes some
of either cell where enlarging blurs their edges (docs/benchmarks.md, "Large cells that touch")."""


def unless_nearly_own(scale: float) -> float:
    """Return 1 for a size that is nearly the image's own, so that it is not resampled for nothing."""
    return 1.0 if 1 / _SAME_SIZE < scale < _SAME_SIZE else scale


def choose_scale(diameter: float, expected: float | None, own: float = 0.0) -> float:
    """Return by how much to resize images whose objects have this diameter.

    Parameters
    ----------
    diameter : float
        Of the painted objects in pixels; 0 when unknown.
    expected : float or None
        What the starting model was trained at (0 when unknown); None when starting from scratch.
    own : float
        By how much images were resized when that was; 0 when they were of many sizes.
    """
    if not diameter or expected == 0:
        return own or 1.0
    low, high = known_sizes(expected, own)
    if own and low <= diameter * own <= high:
        # Measured from what it was taught, one training after the other would lead away from what it knew first.
        return own
    # Enlarging loses no detail; too large objects are brought to the edge of what it knows, which keeps the most.
    seen = min(diameter, high) if diameter >= low else expected or low
    return unless_nearly_own(round(float(np.clip(seen / diameter, *SCALE_LIMITS)), 3))


def known_sizes(expected: float | None, own: float = 0.0) -> tuple[float, float]:
    """Return the smallest and largest object diameter in pixels that a network sees well.

    Parameters
    ----------
    expected : float or None
        What the starting model was trained at; None when starting from scratch.
    own : float
        By how much images were resized when that was; 0 when they were of many sizes, each brought to ``expected``.
    """
    if expected is None:
        return SCRATCH_RANGE
    # Before any training such a model sees smaller objects enlarged; they are to look no different after it.
    return (expected / SMALLER if own else expected, expected * LARGER)


def at_own_size(settings: PredictionSettings, scale: float) -> PredictionSettings:
    """Return the settings for outputs that have been brought to the image's own size.

    Parameters
    ----------
    settings : PredictionSettings
        With ``gap`` in pixels that the network sees; all other lengths and areas are of the image's own size.
    scale : float
        Size at which the network saw the image over its own.

    Returns
    -------
    PredictionSettings
        With ``gap`` in pixels of the image. They are for
        :func:`~napari_unet.core.instances.pipeline.labels_from_outputs` alone:
        :func:`~napari_unet.core.inference.predict.predict` does this by itself.
    """
    wide = math.ceil((settings.boundary_erosion + _WIDER) / scale) if settings.boundary_erosion else 0
    return dataclasses.replace(settings, boundary_erosion=wide if scale < 1 else min(wide, settings.boundary_erosion))
