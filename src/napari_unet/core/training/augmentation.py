"""Random patches that look like other pictures of the same cells (section 3.1 of the paper).

Shift, rotation, mirror, size and the elastic deformation are one coordinate map, so that each patch
is interpolated once; image, labels and mask move together.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..settings import TrainingSettings

GRID = 3
"""Points per side of the coarse grid of random displacements."""


@functools.lru_cache(maxsize=8)
def _cubic_basis(size: int) -> NDArray[np.float32]:
    """Return the (size, GRID) matrix that interpolates grid values along one axis with cubic splines."""
    positions = np.linspace(0, GRID - 1, size)
    columns = [ndimage.map_coordinates(unit, [positions], order=3, mode="nearest") for unit in np.eye(GRID)]
    return np.stack(columns, axis=1).astype(np.float32)


def elastic_displacement(size: int, sigma: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return a smooth random displacement field.

    Random vectors on a 3 x 3 grid, Gaussian with ``sigma`` pixels standard deviation, interpolated to
    every pixel by bicubic splines (section 3.1).

    Parameters
    ----------
    size : int
        Side of the patch in pixels.
    sigma : float
        Standard deviation in pixels; 10 in the paper.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    NDArray of float32
        (2, size, size), displacement along y and x in pixels.
    """
    basis = _cubic_basis(size)
    grid = rng.normal(0, sigma, (2, GRID, GRID)).astype(np.float32)
    return np.asarray(basis @ grid @ basis.T, np.float32)


@dataclass(frozen=True)
class Warp:
    """Where each pixel of a patch comes from.

    Attributes
    ----------
    coordinates : NDArray of float32
        (2, size, size), y and x in pixels of the source; may lie outside, where the source is mirrored.
    """

    coordinates: NDArray[np.float32]

    def image(self, source: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the (C, Y, X) source interpolated linearly, as (C, size, size)."""
        ys, xs = self._mirrored(source.shape[-2:])
        top, left = int(ys.min()), int(xs.min())
        window = source[:, top : int(ys.max()) + 2, left : int(xs.max()) + 2]
        where = np.stack([ys - top, xs - left])
        return np.stack([ndimage.map_coordinates(c, where, order=1, mode="nearest", prefilter=False) for c in window])

    def nearest(self, *sources: NDArray[Any]) -> list[NDArray[Any]]:
        """Return (Y, X) sources, such as labels, at the nearest pixel, each as (size, size)."""
        ys, xs = self._mirrored(sources[0].shape)
        place = np.rint(ys).astype(np.intp) * sources[0].shape[1] + np.rint(xs).astype(np.intp)
        return [np.take(source, place) for source in sources]

    def central(self, size: int) -> Warp:
        """Return the warp of the patch's centre, ``size`` pixels a side."""
        start = (self.coordinates.shape[-1] - size) // 2
        return Warp(self.coordinates[:, start : start + size, start : start + size])

    def _mirrored(self, shape: tuple[int, ...]) -> list[NDArray[np.float32]]:
        """Return the coordinates folded back into the source, as in :func:`~.tiles.mirrored`."""
        folded = []
        for axis, size in enumerate(shape):
            last = np.float32(size - 1)
            position = np.abs(self.coordinates[axis])
            if last == 0:
                folded.append(np.zeros_like(position))
            elif position.max() <= last:
                folded.append(position)
            else:
                folded.append(last - np.abs(position % (2 * last) - last))
        return folded


def random_warp(centre: tuple[float, float], size: int, settings: TrainingSettings, rng: np.random.Generator) -> Warp:
    """Return a random shift-free warp of a square patch around a point of the source.

    Parameters
    ----------
    centre : tuple of float
        y and x in pixels of the source. Random shifts come from its choice.
    size : int
        Side of the patch in pixels.
    settings : TrainingSettings
        ``rotate``, ``mirror``, ``resize`` and ``elastic`` are used.
    rng : numpy.random.Generator
        Source of randomness; equal states give equal warps.
    """
    angle = rng.uniform(0, 2 * np.pi) if settings.rotate else 0.0
    flip = rng.choice((-1.0, 1.0)) if settings.mirror else 1.0
    zoom = np.exp(rng.uniform(-1, 1) * np.log1p(settings.resize))
    cos, sin = np.cos(angle) / zoom, np.sin(angle) / zoom
    axis = np.arange(size, dtype=np.float32) - np.float32((size - 1) / 2)
    y, x = axis[:, None], axis[None, :] * np.float32(flip)
    coordinates = np.empty((2, size, size), np.float32)
    coordinates[0] = np.float32(cos) * y + np.float32(sin) * x
    coordinates[1] = np.float32(cos) * x - np.float32(sin) * y
    coordinates += np.asarray(centre, np.float32)[:, None, None]
    if settings.elastic:
        coordinates += elastic_displacement(size, settings.elastic, rng)
    return Warp(coordinates)


def change_grey_values(
    image: NDArray[np.float32], settings: TrainingSettings, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return a normalised (C, Y, X) patch with other brightness, contrast, gamma, blur and noise."""
    strength = settings.grey
    if strength:
        gamma, contrast = np.exp(rng.normal(0, strength, 2))
        shift = rng.normal(0, strength / 2)
        positive = np.maximum(image, 0) ** np.float32(gamma)
        image = np.where(image > 0, positive, image) * np.float32(contrast) + np.float32(shift)
    if settings.noise:
        if rng.random() < 0.2:
            sigma = rng.uniform(0.3, 0.5 + 20 * settings.noise)
            image = ndimage.gaussian_filter(image, (0, sigma, sigma), truncate=2.5)
        if rng.random() < 0.5:
            level = np.float32(rng.uniform(0, settings.noise))
            image = image + level * rng.standard_normal(image.shape, dtype=np.float32)
    return np.asarray(image, np.float32)
