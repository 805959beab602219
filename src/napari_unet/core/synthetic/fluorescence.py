"""Pictures of nuclei: fluorescence in two and three dimensions, and stained tissue."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .shapes import Blob, Scene, one_piece_each, oval, rasterise, scatter
from .texture import Generator, Image, between, blur, camera, grain, smooth_noise, specks, strands, uneven_light

Labels = NDArray[np.int32]


def nuclei(rng: Generator, shape: Sequence[int], diameter: float, density: float) -> tuple[Image, Labels]:
    """Return fluorescent nuclei: bright, textured, in clumps, over haze and an uneven background."""
    scene = _oval_scene(rng, shape, diameter, density, clumping=rng.uniform(0.2, 0.8), overlap=rng.uniform(0, 0.25))
    spread, softness = rng.uniform(0.1, 0.55), rng.uniform(1.0, max(1.2, diameter / 5))
    chromatin = rng.uniform(0.05, 0.35) * grain(rng, shape, (max(1.2, diameter / 14), max(2.0, diameter / 6)))
    image = np.zeros(shape, np.float32)
    for blob in scene.blobs:
        level = np.float32(np.exp(rng.normal(0, spread)))
        dome = 1 + np.float32(rng.uniform(-0.25, 0.5)) * np.clip(blob.height, 0, 1)
        image[blob.box] += level * blob.cover(softness) * dome * np.clip(1 + chromatin[blob.box], 0.2, None)
    if rng.random() < 0.25:  # chromocentres, as in mouse nuclei
        spots = specks(rng, shape, int(image.size * 12 / diameter**2), max(0.8, diameter / 22))
        image *= 1 + np.minimum(spots, 2)
    image = _out_of_focus(rng, image, diameter)
    image = blur(image, between(rng, 0.4, max(0.6, diameter / 14)))
    image = (image + rng.uniform(0, 0.25)) * uneven_light(rng, shape, rng.uniform(0, 0.25))
    return _exposed(rng, image), one_piece_each(scene.labels)


def tissue(rng: Generator, shape: Sequence[int], diameter: float, density: float) -> tuple[Image, Labels]:
    """Return the brightness of stained tissue: dark nuclei on bright fibres and pale cytoplasm."""
    scene = _oval_scene(rng, shape, diameter, density, clumping=rng.uniform(0.3, 0.9), overlap=rng.uniform(0.05, 0.3))
    image = 0.93 - _stroma(rng, shape, diameter)
    pale, dark = rng.uniform(0.0, 0.25), rng.uniform(0.18, 0.5)
    chromatin = grain(rng, shape, (1.3, max(2.0, diameter / 8)))
    mottled, rim = rng.uniform(0.02, 0.11), rng.uniform(0, 0.5)
    for blob in scene.blobs:
        stain = np.float32(np.clip(dark * np.exp(rng.normal(0, 0.3)), 0.1, 0.75))
        inner = 1 - np.float32(rim) * np.clip(2 * blob.height, 0, 1)
        image[blob.box] -= blob.cover(rng.uniform(1.0, 3.0)) * (stain * inner + mottled * chromatin[blob.box])
    image -= pale * blur((scene.labels > 0).astype(np.float32), diameter / 3)
    ghosts = _oval_scene(rng, shape, diameter * 1.2, density * 0.15, 0.0, 0.5)  # below or above the focus: not labelled
    image -= rng.uniform(0, 0.25) * blur((ghosts.labels > 0).astype(np.float32), diameter / 6)
    image = blur(np.clip(image, 0.05, 1), between(rng, 0.4, 1.4))
    image = camera(rng, image * uneven_light(rng, shape, rng.uniform(0, 0.06)), between(rng, 300, 5000), 0.005)
    return np.clip(image, 0, 1), one_piece_each(scene.labels)


def _stroma(rng: Generator, shape: Sequence[int], diameter: float) -> Image:
    """Return the darkness of what lies between nuclei: wavy fibres, patches and empty holes."""
    fibres = strands(rng, shape, rng.uniform(1.5, 5), diameter * rng.uniform(0.5, 2))
    fibres += strands(rng, shape, rng.uniform(2, 8), diameter * rng.uniform(1, 3))
    dense = np.clip(0.6 + 0.7 * smooth_noise(rng, shape, diameter * rng.uniform(1.5, 4)), 0, 1.4)
    texture = rng.uniform(0.005, 0.04) * fibres + rng.uniform(0.01, 0.04) * grain(rng, shape, (1.5, 4))
    return np.asarray((rng.uniform(0.04, 0.28) + texture) * dense, np.float32)


def _oval_scene(
    rng: Generator, shape: Sequence[int], diameter: float, density: float, clumping: float, overlap: float
) -> Scene:
    """Return ovals of about this diameter that cover about this share of the image."""
    elongation, irregularity, spread = between(rng, 0.1, 1.5), between(rng, 0.02, 0.16), rng.uniform(0.08, 0.3)

    def make(centre: tuple[float, float]) -> Blob | None:
        size = diameter * float(np.exp(np.clip(rng.normal(0, spread), -0.8, 0.8)))
        return rasterise(shape, centre, oval(rng, size, elongation, irregularity))

    scene = Scene(np.zeros(shape, np.int32))
    scatter(rng, scene, cell_count(shape, diameter, density), clumping, overlap, make)
    return scene


def cell_count(shape: Sequence[int], diameter: float, density: float) -> int:
    """Return how many discs of this diameter cover this share of the image, at least one."""
    return max(1, round(density * float(np.prod(shape)) / (np.pi / 4 * diameter**2)))


def _out_of_focus(rng: Generator, image: Image, diameter: float) -> Image:
    """Return the image with the glow of what lies above and below the focus."""
    glow = rng.uniform(0, 0.35) * blur(image, diameter / 2)
    if rng.random() < 0.4:
        shift = tuple(int(v) for v in rng.integers(0, image.shape))
        glow = glow + rng.uniform(0.05, 0.3) * blur(np.roll(image, shift, (0, 1)), diameter / 3)
    return image + glow


def _exposed(rng: Generator, image: Image) -> Image:
    """Return the image as a camera takes it, its brightest parts near 1."""
    top = float(np.percentile(image, 99.8)) or 1.0
    bright = np.asarray(image / np.float32(top) * rng.uniform(0.5, 0.98), np.float32)
    return np.clip(camera(rng, bright, between(rng, 40, 4000), between(rng, 0.003, 0.03)), 0, 1)


def nuclei_stack(
    rng: Generator, shape: Sequence[int], diameter: float, density: float, spacing: float
) -> tuple[Image, Labels]:
    """Return fluorescent nuclei in 3D, (Z, Y, X); planes are ``spacing`` pixels apart."""
    labels = np.zeros(shape, np.int32)
    image = np.zeros(shape, np.float32)
    bumps = 0.12 * smooth_noise(rng, shape, (max(1.0, diameter / 3 / spacing), diameter / 3, diameter / 3))
    volume = np.pi / 6 * diameter**3 / spacing
    count = max(1, round(density * float(np.prod(shape)) / volume))
    centres: list[NDArray[np.float64]] = []
    for _ in range(5 * count):
        centre = _next_centre(rng, shape, centres, diameter, spacing)
        if len(centres) < count and _add_ellipsoid(
            rng, labels, image, bumps, centre, diameter, spacing, len(centres) + 1
        ):
            centres.append(centre)
    image *= np.clip(1 + 0.2 * smooth_noise(rng, shape, (1.5, diameter / 8, diameter / 8)), 0.3, None)
    image = blur(image, (between(rng, 0.5, 1.2), between(rng, 0.6, 1.2), between(rng, 0.6, 1.2)))
    image += rng.uniform(0.03, 0.2) * blur(image, (2.0, diameter / 3, diameter / 3)) + np.float32(
        rng.uniform(0.02, 0.1)
    )
    image *= np.linspace(1, rng.uniform(0.6, 1), shape[0], dtype=np.float32)[:, None, None]  # deeper planes are dimmer
    return _exposed(rng, image), one_piece_each(labels)


def _next_centre(
    rng: Generator, shape: Sequence[int], centres: list[NDArray[np.float64]], diameter: float, spacing: float
) -> NDArray[np.float64]:
    """Return a random place, half of the time beside a nucleus that is already there."""
    if not centres or rng.random() < 0.5:
        return rng.uniform(0, shape)
    way = rng.normal(0, 1, 3)
    step = diameter * rng.uniform(0.8, 1.1) * way / np.linalg.norm(way)
    return np.asarray(centres[rng.integers(len(centres))] + step / (spacing, 1, 1))


def _add_ellipsoid(
    rng: Generator, labels: Labels, image: Image, bumps: Image, centre: NDArray[np.float64],
    diameter: float, spacing: float, number: int,
) -> bool:  # fmt: skip
    """Draw one nucleus unless a fifth of it is taken; return whether it was drawn."""
    half = diameter / 2 * np.exp(np.clip(rng.normal(0, 0.15, 3), -0.4, 0.4))
    tilt = rng.uniform(0, np.pi)
    far = np.array([half[0] / spacing, max(half), max(half)]) * 1.4 + 1
    low, high = (
        np.maximum(0, np.floor(centre - far)).astype(int),
        np.minimum(labels.shape, centre + far + 1).astype(int),
    )
    if (low >= high).any():
        return False
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    z, y, x = np.ogrid[box]
    z, y, x = (z - centre[0]) * spacing, y - centre[1], x - centre[2]
    u, v = x * np.cos(tilt) + y * np.sin(tilt), y * np.cos(tilt) - x * np.sin(tilt)
    height = 1 + bumps[box] - np.sqrt((z / half[0]) ** 2 + (v / half[1]) ** 2 + (u / half[2]) ** 2)
    inside = height > 0
    free = inside & (labels[box] == 0)
    if free.sum() < max(8, 0.8 * inside.sum()):
        return False
    labels[box][free] = number
    image[box] += (np.exp(rng.normal(0, 0.25)) * np.clip(height * diameter / 3, 0, 1)).astype(np.float32)
    return True
