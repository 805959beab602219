"""Measures how large the cells of an image are, by looking at it at several sizes.

A network is surest, and finds cells of the size it knows, where the image has the right size. So the image
is segmented at a few sizes, each in a small window; the size that wins tells the diameter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..data.arrays import SCALE_LIMITS, Normalisation, PlaneIndex, Planes, ScaledPlanes, plane_normalisation
from ..instances.pipeline import Outputs, foreground, segment_instances
from ..network.model_card import Card
from ..settings import PredictionSettings

Box = tuple[int, int, int, int]
Network = Callable[[Planes, tuple[int, ...], Box, Normalisation], Outputs]
"""What gives the outputs for a box y0, y1, x0, x1 of a plane: :func:`~.predictor.predict_region` of one model."""

_OCTAVES = (-2.0, -1.0, 0.0, 1.0)
"""Sizes that are always tried, as powers of two; finer ones around the best follow."""
WINDOW = 256
"""Largest side in pixels of the window that is looked at, at the network's size."""
_LEAST_SIDE = 16
_PLACES = 5
_PERCENTILE = 0.4
"""Share of the cells' area below the typical diameter: errors join cells more often than they split them."""
_CROWD, _OFF_SIZE = 0.1, 0.1
"""What few cells cost against the mean certainty, and cells of twice or half the size that the network knows."""


SURE = 0.87
"""Certainty from which a network is taken at its word on the size of cells; on hard images none is as sure."""
_CLEARLY = 0.1
"""By how much it has to be surer at another size than that which it was taught at."""


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


AS_MEASURED = {"tta": False, "min_peak": 0.0}
"""How networks are asked how sure they are, whatever their cards and the sliders say: doubtful cells count, as they are
the question."""


def measure_size(
    network: Network, planes: Planes, plane: PlaneIndex, expected: float, settings: PredictionSettings
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
    sizes = _Sizes(network, planes, plane, expected, settings)
    if settings.diameter:
        return sizes.look(float(np.clip(expected / settings.diameter, *SCALE_LIMITS)))
    return sizes.around(2.0**octave for octave in _OCTAVES)


def surer_size(
    network: Network, planes: Planes, plane: PlaneIndex, card: Card, settings: PredictionSettings
) -> Trial | None:
    """Return another size than the taught one, where the network is clearly surer there; None where it is not.

    A network that has learnt from a few images expects cells of their size, and misses or breaks those of an
    image of another magnification. It is asked only about networks that are sure of their own images: how sure
    others are says little of whether they are right.

    Parameters
    ----------
    network : callable
        Gives the network's outputs for a box of a plane.
    planes : Planes
        The image at its own size.
    plane : tuple of int
        Which plane to look at.
    card : Card
        The network's, with the size that it was taught at and how sure it is of what it has learnt from.
    settings : PredictionSettings
        How outputs become cells.

    Notes
    -----
    ``benchmarks/other_sizes.py`` measures what it brings on enlarged and reduced images.
    """
    if card.certainty < SURE:
        return None
    sizes = _Sizes(network, planes, plane, card.diameter, settings)
    own = sizes.look(card.scale)
    certainty = own.certainty if own else -1.0
    if certainty > card.certainty - _CLEARLY:
        return None
    best = sizes.around(card.scale * 2.0**octave for octave in _OCTAVES if octave)
    surer = best is not None and best.certainty >= max(SURE, certainty + _CLEARLY)
    return best if surer else None


class _Sizes:
    """Looks at a plane at one size after the other, each time where most cells were last."""

    def __init__(
        self, network: Network, planes: Planes, plane: PlaneIndex, expected: float, settings: PredictionSettings
    ) -> None:
        self.network, self.planes, self.plane = network, planes, plane
        self.expected, self.settings = expected, settings
        self.normalisation = plane_normalisation(planes, plane)
        self.trials: dict[float, Trial] = {}
        if not self.normalisation.constant:
            self.centre = busiest_place(planes, plane, self.normalisation)

    def look(self, scale: float) -> Trial | None:
        """Return what is found at one size of the image; None where nothing is."""
        if self.normalisation.constant:
            return None
        found = _trial(
            self.network, self.planes, self.plane, self.normalisation, scale, self.centre, self.expected, self.settings
        )
        if found is None:
            return None
        self.trials[scale], self.centre = found
        return self.trials[scale]

    def around(self, scales: Iterable[float]) -> Trial | None:
        """Return the best of all sizes so far, these and two beside the best; None where nothing is found."""
        for scale in scales:
            self.look(scale)
        if not self.trials:
            return None
        best = max(self.trials, key=lambda s: self.trials[s].certainty)
        for factor in (0.5**0.5, 2**0.5):
            self.look(best * factor)
        return max(self.trials.values(), key=lambda t: t.certainty)


def busiest_place(planes: Planes, plane: PlaneIndex, normalisation: Normalisation) -> tuple[float, float]:
    """Return the y and x, as shares of the plane, around which grey values differ most, of a few places."""
    if max(planes.height, planes.width) * 2.0 ** _OCTAVES[0] <= WINDOW:
        return 0.5, 0.5
    shares = (np.arange(_PLACES) + 0.5) / _PLACES
    found: dict[tuple[float, float], float] = {}
    for y in shares:
        for x in shares:
            ys, xs = _window(planes.height, y), _window(planes.width, x)
            found[float(y), float(x)] = float(normalisation.apply(planes.read(plane, ys, xs)).std())
    return max(found, key=lambda place: found[place])


def _window(size: int, centre: float, side: int = WINDOW) -> slice:
    """Return the part of an axis of at most ``side`` pixels around a share of it."""
    start = int(np.clip(round(centre * size) - side // 2, 0, max(0, size - side)))
    return slice(start, min(size, start + side))


def _trial(
    network: Network,
    planes: Planes,
    plane: PlaneIndex,
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


def middle_plane(leading: Sequence[int]) -> PlaneIndex:
    """Return the index of the plane in the middle of the leading axes of these sizes."""
    return tuple(n // 2 for n in leading)
