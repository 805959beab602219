"""Measures how large the cells of an image are, by looking at it at several sizes.

A network is surest, and finds cells of the size it knows, where the image has the right size. So the image
is segmented at a few sizes, each in a small window; the size that wins tells the diameter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .arrays import SCALE_LIMITS, Normalisation, Planes, ScaledPlanes, plane_normalisation
from .instances import Outputs, foreground, segment_instances
from .settings import PredictionSettings

Box = tuple[int, int, int, int]
Network = Callable[[Planes, tuple[int, ...], Box, Normalisation], Outputs]
"""What gives the outputs for a box y0, y1, x0, x1 of a plane: :func:`~.predictor.predict_region` of one model."""

_OCTAVES = (-2.0, -1.0, 0.0, 1.0)
"""Sizes that are always tried, as powers of two; finer ones around the best follow."""
_WINDOW = 256
"""Largest side in pixels of the window that is looked at, at the network's size."""
_LEAST_SIDE = 16
_PLACES = 5
_PERCENTILE = 0.4
"""Share of the cells' area below the typical diameter: errors join cells more often than they split them."""
_CROWD, _OFF_SIZE = 0.1, 0.1
"""What few cells cost against the mean certainty, and cells of twice or half the size that the network knows."""


@dataclass(frozen=True)
class Trial:
    """What was found at one size.

    Attributes
    ----------
    scale : float
        Image size in the trial over its own size.
    diameter : float
        Typical diameter of what was found, in pixels of the image's own size.
    certainty : float
        How sure the network was of it, at most 1; what the sizes, and different models, are compared by.
    cells : int
        How many cells were found.
    """

    scale: float
    diameter: float
    certainty: float
    cells: int


def measure_size(
    network: Network, planes: Planes, plane: tuple[int, ...], expected: float, settings: PredictionSettings
) -> Trial | None:
    """Return the size at which the network is surest of what it sees; None when it finds nothing.

    Parameters
    ----------
    network : callable
        Gives the network's outputs for a box of a plane.
    planes : Planes
        The image at its own size.
    plane : tuple of int
        Which plane to look at.
    expected : float
        Diameter in pixels of the cells that the network was trained on.
    settings : PredictionSettings
        How outputs become cells; with a diameter the image is looked at at that size alone.

    Notes
    -----
    Sizes a factor of two apart are tried first, then one on either side of the best. How near the diameter
    comes to the annotated one depends on the kind of picture: ``benchmarks/sizes.py`` measures it.
    """
    normalisation = plane_normalisation(planes, plane)
    if normalisation.constant:
        return None
    centre = busiest_place(planes, plane, normalisation)
    trials: dict[float, Trial] = {}

    def look(scale: float) -> None:
        nonlocal centre
        found = _trial(network, planes, plane, normalisation, scale, centre, expected, settings)
        if found is not None:
            trials[scale], centre = found

    if settings.diameter:
        look(float(np.clip(expected / settings.diameter, *SCALE_LIMITS)))
        return next(iter(trials.values()), None)
    for octave in _OCTAVES:
        look(2.0**octave)
    if not trials:
        return None
    best = max(trials, key=lambda s: trials[s].certainty)
    for factor in (0.5**0.5, 2**0.5):
        look(best * factor)
    return max(trials.values(), key=lambda t: t.certainty)


def busiest_place(planes: Planes, plane: tuple[int, ...], normalisation: Normalisation) -> tuple[float, float]:
    """Return the y and x, as shares of the plane, around which grey values differ most, of a few places."""
    if max(planes.height, planes.width) * 2.0 ** _OCTAVES[0] <= _WINDOW:
        return 0.5, 0.5
    shares = (np.arange(_PLACES) + 0.5) / _PLACES
    found: dict[tuple[float, float], float] = {}
    for y in shares:
        for x in shares:
            ys, xs = _window(planes.height, y), _window(planes.width, x)
            found[float(y), float(x)] = float(normalisation.apply(planes.read(plane, ys, xs)).std())
    return max(found, key=lambda place: found[place])


def _window(size: int, centre: float, side: int = _WINDOW) -> slice:
    """Return the part of an axis of at most ``side`` pixels around a share of it."""
    start = int(np.clip(round(centre * size) - side // 2, 0, max(0, size - side)))
    return slice(start, min(size, start + side))


def _trial(
    network: Network,
    planes: Planes,
    plane: tuple[int, ...],
    normalisation: Normalisation,
    scale: float,
    centre: tuple[float, float],
    expected: float,
    settings: PredictionSettings,
) -> tuple[Trial, tuple[float, float]] | None:
    """Return what is found at one size, and around where it lies thickest; None without any cell."""
    seen = planes if scale == 1 else ScaledPlanes(planes, scale)
    if min(seen.height, seen.width) < _LEAST_SIDE:
        return None
    ys, xs = _window(seen.height, centre[0]), _window(seen.width, centre[1])
    outputs = network(seen, plane, (ys.start, ys.stop, xs.start, xs.stop), normalisation)
    probability = foreground(outputs)
    labels = segment_instances(probability, outputs.get("distance"), settings)
    if not labels.any():
        return None
    trial = judged(probability, labels, scale, expected)
    # Larger sizes show a smaller part: the part where there are most cells.
    side = max(1, min(probability.shape) // 2)
    crowded = np.unravel_index(int(ndimage.uniform_filter(probability, side).argmax()), probability.shape)
    return trial, ((ys.start + float(crowded[0])) / seen.height, (xs.start + float(crowded[1])) / seen.width)


def judged(probability: NDArray[np.float32], labels: NDArray[np.int32], scale: float, expected: float) -> Trial:
    """Return typical diameter and certainty of the cells that were found at one size.

    Parameters
    ----------
    probability : NDArray of float32
        Foreground, (Y, X).
    labels : NDArray of int32
        The cells, 1..n without gaps, at least one; (Y, X).
    scale : float
        Size of both over the image's own size.
    expected : float
        Diameter in pixels that the network knows.
    """
    numbers = np.arange(1, int(labels.max()) + 1)
    areas = np.bincount(labels.ravel())[1:]
    sure = np.asarray(ndimage.mean(probability, labels, numbers))
    diameter = _weighted_percentile(np.sqrt(areas * 4 / np.pi), areas * sure, _PERCENTILE)
    certainty = 2 * float(np.average(sure, weights=areas)) - 1
    certainty -= _CROWD / float(np.sqrt(len(numbers))) + _OFF_SIZE * float(np.log2(diameter / expected)) ** 2
    return Trial(scale, diameter / scale, certainty, len(numbers))


def _weighted_percentile(values: NDArray[np.float64], weights: NDArray[np.float64], share: float) -> float:
    """Return the value below which a share of the weight lies."""
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, share * total[-1])])


def middle_plane(leading: Sequence[int]) -> tuple[int, ...]:
    """Return the index of the plane in the middle of the leading axes of these sizes."""
    return tuple(n // 2 for n in leading)
