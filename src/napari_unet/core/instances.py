"""Network outputs of one plane to labels. Needs no torch, so that a slider can re-label."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import watershed

from .errors import SettingsError
from .labels import near_two
from .settings import PredictionSettings

Outputs = Mapping[str, NDArray[Any]]
"""Named maps of one plane: ``"classes"`` (K, Y, X) probabilities and, if the model has it, ``"distance"`` (1, Y, X)."""


def foreground(outputs: Outputs) -> NDArray[np.float32]:
    """Return the probability of not being background, (Y, X)."""
    return np.asarray(1 - outputs["classes"][0].astype(np.float32), np.float32)


def labels_from_outputs(outputs: Outputs, settings: PredictionSettings) -> NDArray[Any]:
    """Return what the settings ask for, from one plane's network outputs.

    Parameters
    ----------
    outputs : Outputs
        Named maps, (k, Y, X) each.
    settings : PredictionSettings
        ``what`` and, for instances, the settings from ``threshold`` to ``gap``.

    Returns
    -------
    NDArray
        (Y, X): int32 instance labels 1..n in raster order, uint8 classes, or float32 probabilities.

    Raises
    ------
    SettingsError
        When distance separation is asked of a model without a distance output.
    """
    if settings.what == "probabilities":
        return foreground(outputs)
    if settings.what == "classes":
        return np.asarray(outputs["classes"].argmax(axis=0), np.uint8)
    return segment_instances(foreground(outputs), outputs.get("distance"), settings)


def segment_instances(
    probability: NDArray[np.float32], distance: NDArray[Any] | None, settings: PredictionSettings
) -> NDArray[np.int32]:
    """Return instance labels of one plane.

    Threshold; separation; gap given back; holes filled; small cells dropped.

    Parameters
    ----------
    probability : NDArray of float32
        Foreground, (Y, X).
    distance : NDArray or None
        Distance output, (1, Y, X) or (Y, X).
    settings : PredictionSettings
        See there.
    """
    mask = probability > settings.threshold
    method = settings.separation
    if method == "auto":
        method = "components" if distance is None else "distance"
    if method == "components":
        labels = np.asarray(ndimage.label(mask)[0], np.int32)
    else:
        labels = _split(mask, _landscape(method, mask, distance), settings.seed_height)
    labels = restore_gap(labels, settings.gap)
    labels = fill_holes(labels, settings.holes)
    return drop_small(labels, settings.smallest)


def _landscape(method: str, mask: NDArray[np.bool_], distance: NDArray[Any] | None) -> NDArray[np.float32]:
    """Return the map whose summits are cell centres, about 1 high."""
    if method == "distance":
        if distance is None:
            raise SettingsError("The model has no distance output; choose auto, components or shape for separation.")
        # Smoothing takes out single-pixel summits; its size is far below any cell's.
        smooth = ndimage.gaussian_filter(distance.reshape(mask.shape).astype(np.float32), 1)
        # Below everything outside, so that each piece of the mask has a summit of its own.
        return np.where(mask, np.maximum(smooth, 0), -1)
    inside = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    pieces, count = ndimage.label(mask)
    highest = np.concatenate([[1.0], np.atleast_1d(ndimage.maximum(inside, pieces, np.arange(1, count + 1)))])
    return np.asarray(inside / np.maximum(highest, 1)[pieces], np.float32)


def _split(mask: NDArray[np.bool_], landscape: NDArray[np.float32], height: float) -> NDArray[np.int32]:
    """Return a watershed of the mask whose summits all rise ``height`` above the saddle to a higher one.

    The same as a watershed seeded with h-maxima, at the cost of one flooding: flood from every local
    summit, then join basins across shallow saddles.
    """
    # By sides alone, as the flooding spreads: a piece that meets a higher one at a corner has its own summit.
    sides = ndimage.generate_binary_structure(2, 1)
    local = (landscape == ndimage.maximum_filter(landscape, footprint=sides)) & mask
    seeds, _ = ndimage.label(local)
    basins = np.asarray(watershed(-landscape, seeds, mask=mask), np.int32)
    return join_basins(basins, landscape, height)


def join_basins(basins: NDArray[np.int32], landscape: NDArray[np.float32], height: float) -> NDArray[np.int32]:
    """Return the basins, those joined whose lower summit rises less than ``height`` above the saddle between.

    Parameters
    ----------
    basins : NDArray of int32
        Labels 1..n that touch each other, (Y, X).
    landscape : NDArray of float32
        The flooded map, (Y, X).
    height : float
        In units of the landscape.
    """
    count = int(basins.max(initial=0))
    if count < 2:
        return basins
    summit = np.concatenate([[0.0], ndimage.maximum(landscape, basins, np.arange(1, count + 1))])
    parent = np.arange(count + 1)

    def root(basin: int) -> int:
        while parent[basin] != basin:
            parent[basin] = parent[parent[basin]]
            basin = parent[basin]
        return basin

    # From the highest saddle down, so that each basin meets its highest neighbour first.
    for saddle, one, other in _saddles(basins, landscape):
        low, high = sorted((root(one), root(other)), key=lambda b: summit[b])
        if low != high and summit[low] - saddle < height:
            parent[low] = high
    return np.array([root(b) for b in range(count + 1)], np.int32)[basins]


def _saddles(basins: NDArray[np.int32], landscape: NDArray[np.float32]) -> list[tuple[float, int, int]]:
    """Return the highest pass between each two touching basins, highest first."""
    keys, heights = [], []
    factor = np.int64(basins.max()) + 1
    for here, there in (
        ((slice(None, -1), slice(None)), (slice(1, None), slice(None))),
        ((slice(None), slice(None, -1)), (slice(None), slice(1, None))),
    ):
        one, other = basins[here], basins[there]
        border = (one != other) & (one > 0) & (other > 0)
        a, b = one[border].astype(np.int64), other[border].astype(np.int64)
        keys.append(np.minimum(a, b) * factor + np.maximum(a, b))
        heights.append(np.minimum(landscape[here][border], landscape[there][border]))
    key, height = np.concatenate(keys), np.concatenate(heights)
    order = np.lexsort((key, -height))
    _, first = np.unique(key[order], return_index=True)
    chosen = order[np.sort(first)]
    return [(float(height[i]), int(key[i] // factor), int(key[i] % factor)) for i in chosen]


def restore_gap(labels: NDArray[np.int32], width: int) -> NDArray[np.int32]:
    """Return the labels grown into the gaps between them, and nowhere else.

    The gap that was cut between touching cells before training belongs to them; outer borders stay.
    """
    if width == 0 or not labels.any():
        return labels
    between = (labels == 0) & near_two(labels, width)
    rows, columns = np.nonzero(between)
    grown = np.pad(labels, 1)
    # One ring of pixels at a time, and only where there is a gap: that is far less than the plane.
    for _ in range(width):
        around = [grown[rows + 1 + dy, columns + 1 + dx] for dy, dx in ((-1, 0), (0, -1), (0, 1), (1, 0))]
        here = grown[rows + 1, columns + 1]
        grown[rows + 1, columns + 1] = np.where(here > 0, here, np.maximum.reduce(around))
    return grown[1:-1, 1:-1].copy()


def fill_holes(labels: NDArray[np.int32], largest: int) -> NDArray[np.int32]:
    """Return the labels with holes of up to ``largest`` pixels filled; -1 fills all.

    A hole is a connected piece of background that one single cell surrounds.
    """
    if largest == 0:
        return labels
    pieces, count = ndimage.label(labels == 0)
    if count == 0:
        return labels
    numbers = np.arange(1, count + 1)
    cross = ndimage.generate_binary_structure(2, 1)
    large = np.iinfo(labels.dtype).max
    highest = ndimage.maximum(ndimage.maximum_filter(labels, footprint=cross), pieces, numbers)
    positive = np.where(labels > 0, labels, large)
    lowest = ndimage.minimum(ndimage.minimum_filter(positive, footprint=cross), pieces, numbers)
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)[1:]
    hole = (highest == lowest) & ((largest < 0) | (sizes <= largest))
    edge = np.concatenate([pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]])
    hole[edge[edge > 0] - 1] = False
    filler = np.concatenate([[0], np.where(hole, highest, 0)]).astype(labels.dtype)
    return np.where(labels == 0, filler[pieces], labels)


def drop_small(labels: NDArray[np.int32], smallest: int) -> NDArray[np.int32]:
    """Return the labels without cells of fewer than ``smallest`` pixels, renumbered 1..n in raster order."""
    sizes = np.bincount(labels.ravel())
    kept = np.where(sizes[labels] >= smallest, labels, 0)
    return _raster_order(kept)


def _raster_order(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the labels renumbered by each one's first pixel, so that numbering does not depend on the way there."""
    ids, first = np.unique(labels, return_index=True)
    order = np.argsort(first[ids > 0])
    renumbered = np.zeros(int(ids.max(initial=0)) + 1, np.int32)
    renumbered[ids[ids > 0][order]] = np.arange(1, len(order) + 1)
    return renumbered[labels]


__all__ = [
    "Outputs", "drop_small", "fill_holes", "foreground", "join_basins", "labels_from_outputs", "restore_gap",
    "segment_instances",
]  # fmt: skip
