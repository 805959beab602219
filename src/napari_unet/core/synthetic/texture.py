"""Noise, blur and light: what microscopes do to a picture of cells. Any number of axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

Image = NDArray[np.float32]
Generator = np.random.Generator


def smooth_noise(rng: Generator, shape: Sequence[int], scale: float | Sequence[float]) -> Image:
    """Return Gaussian noise that varies over about ``scale`` pixels; mean 0, standard deviation about 1.

    Random values on a coarse grid, interpolated by cubic B-splines one axis at a time, which is much
    faster than a wide blur of white noise.
    """
    scales = np.broadcast_to(np.asarray(scale, float), len(shape))
    weights = [_spline_weights(n, s, rng.random()) for n, s in zip(shape, scales, strict=True)]
    values: NDArray[Any] = rng.standard_normal([w.shape[1] for w in weights], np.float32)
    for axis, w in enumerate(weights):
        values = np.moveaxis(np.tensordot(w, values, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(values, np.float32)


def _spline_weights(size: int, scale: float, offset: float) -> Image:
    """Return the matrix (size, grid points) that interpolates by cubic B-splines, scaled to keep the variance."""
    position = np.arange(size) / scale + offset
    first = position.astype(int)
    f = position - first
    four = np.stack([(1 - f) ** 3, 3 * f**3 - 6 * f**2 + 4, -3 * f**3 + 3 * f**2 + 3 * f + 1, f**3], axis=1) / 6
    matrix = np.zeros((size, first[-1] + 4), np.float32)
    matrix[np.arange(size)[:, None], first[:, None] + np.arange(4)] = four / np.sqrt((four**2).sum(axis=1).mean())
    return matrix


def grain(rng: Generator, shape: Sequence[int], scales: Sequence[float]) -> Image:
    """Return the mean of smooth noises of several scales, standard deviation about 1."""
    total = np.sum([smooth_noise(rng, shape, s) for s in scales], axis=0)
    return np.asarray(total / np.sqrt(len(scales)), np.float32)


def strands(rng: Generator, shape: Sequence[int], width: float, swing: float) -> Image:
    """Return wavy fibres about ``width`` pixels thick that run along one direction; ``swing`` in pixels; 2D only."""
    angle = rng.uniform(0, np.pi)
    y, x = np.ogrid[: shape[0], : shape[1]]
    scale = max(8.0, 2 * swing)
    across = y * np.cos(angle) + x * np.sin(angle) + swing * smooth_noise(rng, shape, scale)
    across = (across - across.min()) / width
    profile = rng.standard_normal(int(across.max()) + 3)
    fibres = np.interp(across, np.arange(len(profile)), profile)
    broken = np.clip(0.4 + grain(rng, shape, (max(4.0, scale / 4), scale)), 0, 2)
    return np.asarray(fibres * broken, np.float32)


def uneven_light(rng: Generator, shape: Sequence[int], strength: float) -> Image:
    """Return a slowly varying factor around 1."""
    light: Image = np.clip(1 + strength * smooth_noise(rng, shape, [max(n, 2) / 1.5 for n in shape]), 0.2, 3)
    return light


def camera(rng: Generator, image: Image, photons: float, read: float) -> Image:
    """Return the image with shot noise of so many photons at grey value 1, and read noise."""
    variance = np.clip(image, 0, None) / np.float32(photons) + np.float32(read) ** 2
    noisy: Image = image + np.sqrt(variance) * rng.standard_normal(image.shape, np.float32)
    return noisy


def blur(image: Image, sigma: float | Sequence[float]) -> Image:
    """Return the image behind a Gaussian point spread function, ``sigma`` in pixels."""
    blurred: Image = gaussian_filter(image, sigma, mode="nearest", truncate=3.0)
    return blurred


def specks(rng: Generator, shape: Sequence[int], count: int, sigma: float) -> Image:
    """Return small round dots of random brightness up to about 1 on 0: debris, granules, vesicles."""
    image = np.zeros(shape, np.float32)
    where = tuple(rng.integers(0, n, count) for n in shape)
    image[where] = rng.uniform(0.3, 1.0, count).astype(np.float32)
    return blur(image, sigma) * np.float32(2 * np.pi * sigma**2)


def between(rng: Generator, low: float, high: float) -> float:
    """Return a random number whose logarithm is uniform: as many below as above the geometric mean."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
