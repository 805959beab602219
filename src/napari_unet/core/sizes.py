"""How large images are shown to a network. Needs no torch."""

from __future__ import annotations

import numpy as np

from .arrays import SCALE_LIMITS

SMALLER, LARGER = 1.25, 1.5
"""Ratios of diameters, below and above the model's, up to which an image is taken at its own size; small cells need
pixels more than large ones (docs/benchmarks.md, "What the parts bring")."""
SCRATCH_RANGE = (12.0, 48.0)
"""Object diameters in pixels at which a new network learns well; images are resized into this range."""


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
    # Bringing objects to the edge of what it knows keeps the most detail.
    low, high = known_sizes(expected)
    if own and low <= diameter * own <= high:
        # Measured from what it was taught, one training after the other would lead away from what it knew first.
        return own
    seen = min(max(diameter, low), high)
    return 1.0 if seen == diameter else round(float(np.clip(seen / diameter, *SCALE_LIMITS)), 3)


def known_sizes(expected: float | None) -> tuple[float, float]:
    """Return the smallest and largest object diameter in pixels that a network sees well.

    Parameters
    ----------
    expected : float or None
        What the starting model was trained at; None when starting from scratch.
    """
    return SCRATCH_RANGE if expected is None else (expected / SMALLER, expected * LARGER)
