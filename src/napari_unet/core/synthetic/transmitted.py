"""Pictures by transmitted light or electrons: phase contrast, relief, bacteria, membranes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from .fluorescence import cell_count
from .shapes import Blob, Point, Scene, one_piece_each, oval, rasterise, rod, scatter, spindle, tessellate
from .texture import Generator, Image, between, blur, camera, grain, smooth_noise, specks, uneven_light

Labels = NDArray[np.int32]


def phase(rng: Generator, shape: Sequence[int], diameter: float, density: float) -> tuple[Image, Labels]:
    """Return adherent cells in phase contrast: spindly, granular, dark inside a bright halo; some rounded up."""
    reach, rounded, bend = rng.uniform(0.2, 3.2), rng.uniform(0, 0.2), diameter * rng.uniform(0.03, 0.14)
    warp = bend * np.stack([grain(rng, shape, (diameter / 3, diameter)) for _ in range(2)])
    round_cells: list[bool] = []

    def make(centre: Point) -> Blob | None:
        round_cells[len(scene.blobs) :] = [rng.random() < rounded]
        size = diameter * float(np.exp(np.clip(rng.normal(0, 0.2), -0.6, 0.6)))
        if round_cells[-1]:
            return rasterise(shape, centre, oval(rng, size * 0.55, 0.1, 0.05))
        return rasterise(shape, centre, spindle(rng, size, int(rng.choice([2, 2, 3, 4, 5])), reach), warp)

    scene = Scene(np.zeros(shape, np.int32))
    scatter(rng, scene, cell_count(shape, diameter, density), rng.uniform(0.2, 0.7), rng.uniform(0.05, 0.25), make)
    granules = rng.uniform(0.02, 0.07) * grain(rng, shape, (1.4, max(2.0, diameter / 14)))
    granules -= rng.uniform(0.1, 0.5) * np.minimum(specks(rng, shape, int(np.prod(shape) * 0.01), 1.2), 1)
    body, thick = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    level = rng.uniform(-0.12, 0.06)
    for k, blob in enumerate(scene.blobs):
        mine = blob.cover(1.5) * (scene.labels[blob.box] == k + 1)
        part, core = (_rounded if round_cells[k] else _spread)(rng, blob, granules[blob.box], level)
        body[blob.box] += mine * part
        thick[blob.box] = np.maximum(thick[blob.box], mine * core)
    image = rng.uniform(0.35, 0.5) + rng.uniform(0.6, 1.3) * (body + _halo(rng, thick)) + _dirt(rng, shape)
    image = blur(image, between(rng, 0.4, 1.2)) * uneven_light(rng, shape, rng.uniform(0, 0.12))
    return np.clip(camera(rng, image, between(rng, 200, 3000), 0.008), 0, 1), one_piece_each(scene.labels)


def _rounded(rng: Generator, blob: Blob, granules: Image, level: float) -> tuple[Image, float]:
    """Return the grey values of a round, thick cell relative to the background, and its thickness."""
    ring = np.exp(-((blob.height - np.float32(0.3)) ** 2) / 0.03)
    return np.asarray(ring * rng.uniform(0.2, 0.5) + granules - 0.1, np.float32), rng.uniform(1.2, 2.0)


def _spread(rng: Generator, blob: Blob, granules: Image, level: float) -> tuple[Image, float]:
    """Return the grey values of a flat cell with its nucleus relative to the background, and its thickness."""
    inner = np.clip(3 * blob.height, 0, 1)
    nucleus = np.clip((blob.height - np.float32(rng.uniform(0.5, 0.65))) * 8, 0, 1)
    tone = level + rng.normal(0, 0.03)
    grey = tone * inner + granules * (0.3 + 1.2 * inner) + rng.uniform(-0.08, 0.08) * nucleus
    return np.asarray(grey, np.float32), rng.uniform(0.3, 1.0)


def _halo(rng: Generator, thick: Image) -> Image:
    """Return the bright fringe around and the dark line along the inside of thick cells."""
    width = between(rng, 1.2, 3.0)
    near, wide = blur(thick, width), blur(thick, 4 * width)
    outside = np.clip(1 - 2 * thick, 0, 1)
    fringe = rng.uniform(0.5, 1.4) * near * outside - rng.uniform(0.2, 0.9) * np.clip(thick - near, 0, None)
    return np.asarray(fringe + rng.uniform(0.0, 0.25) * (wide - thick), np.float32)


def _dirt(rng: Generator, shape: Sequence[int]) -> Image:
    """Return small debris, dark and bright, that is no cell."""
    count = int(np.prod(shape) * rng.uniform(0, 1.2e-3))
    dark, bright = specks(rng, shape, count, rng.uniform(0.8, 1.5)), specks(rng, shape, count // 6, 1.3)
    dirt: Image = np.clip(rng.uniform(0, 0.25) * (bright * 1.5 - dark), -0.4, 0.5)
    return dirt + 0.01 * smooth_noise(rng, shape, 6)


def dic(rng: Generator, shape: Sequence[int], diameter: float, density: float) -> tuple[Image, Labels]:
    """Return tightly packed cells in relief: light from one side, as differential interference contrast shows."""
    labels, border, centre = tessellate(rng, shape, diameter, rng.uniform(0.5, 1), rng.uniform(0.12, 0.35))
    present = rng.random(int(labels.max()) + 1) < min(1.0, 1.15 * density)
    size = diameter * rng.uniform(0.5, 0.75, present.size).astype(np.float32)
    labels[~present[labels] | (centre > size[labels]) | (border < 0.5 * rng.uniform(0, 1))] = 0
    labels = one_piece_each(labels, smallest=12)
    depth = np.minimum(distance_transform_edt(labels > 0), np.maximum(border, 0)).astype(np.float32)
    path = np.sqrt(np.clip(depth, 0, diameter * rng.uniform(0.15, 0.4))) * rng.uniform(0.8, 1.5)
    nucleus = np.clip((depth - diameter * 0.2) / 2, 0, 1) * (labels > 0)
    organelles = specks(rng, shape, int(np.prod(shape) * rng.uniform(0.004, 0.02)), rng.uniform(0.9, 1.8))
    inside = (labels > 0) * np.clip(depth / 4, 0, 1)
    path += inside * (organelles * rng.uniform(0.3, 1.3) + rng.uniform(0.1, 0.5) * grain(rng, shape, (2, 5)))
    path += rng.uniform(-0.8, 0.8) * blur(nucleus.astype(np.float32), 1.5)
    path = blur(path.astype(np.float32), between(rng, 0.7, 1.6))
    angle = rng.uniform(0, 2 * np.pi)
    relief = (
        np.gradient(path, axis=0) * np.sin(angle) + np.gradient(path, axis=1) * np.cos(angle)
        if min(shape) > 1
        else path
    )
    image = 0.5 + rng.uniform(0.25, 0.7) * relief.astype(np.float32) * uneven_light(rng, shape, 0.2)
    image = image + rng.uniform(0, 0.05) * smooth_noise(rng, shape, max(shape) / 2)
    return np.clip(camera(rng, image.astype(np.float32), between(rng, 150, 3000), 0.01), 0, 1), labels


def bacteria(rng: Generator, shape: Sequence[int], diameter: float, density: float) -> tuple[Image, Labels]:
    """Return rods in chains and side by side: fluorescent, or dark with a bright rim on grey."""
    scene = Scene(np.zeros(shape, np.int32))
    aspect = rng.uniform(1.6, 4.5)
    width = diameter * float(np.sqrt(np.pi / 4 / aspect))
    bent, count = rng.uniform(0, 0.25), cell_count(shape, diameter, density)
    for _ in range(3 * count + 5):
        if len(scene.blobs) >= count:
            break
        _chain(rng, scene, width, aspect, bent, int(rng.integers(1, 7)))
    style = ("fluorescent", "bright", "phase")[rng.integers(3)]
    image = _RODS[style](rng, scene)
    image = blur(image, between(rng, 0.5, max(0.6, width / 6))) * uneven_light(rng, shape, rng.uniform(0, 0.15))
    image = image + rng.uniform(0, 0.025) * grain(rng, shape, (2.0, 6.0))
    return np.clip(camera(rng, image, between(rng, 60, 3000), between(rng, 0.003, 0.03)), 0, 1), one_piece_each(
        scene.labels
    )


def _chain(rng: Generator, scene: Scene, width: float, aspect: float, bent: float, links: int) -> None:
    """Place rods one after the other or side by side until one does not fit."""
    shape = scene.labels.shape
    y, x = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
    angle, beside = rng.uniform(0, 2 * np.pi), rng.random() < 0.4
    for _ in range(links):
        length = width * aspect * rng.uniform(0.65, 1.4)
        if not scene.place(rod(shape, (y, x), length, width, angle, rng.normal(0, bent)), overlap=0.12):
            return
        turn = angle + (np.pi / 2 if beside else 0.0)
        step = (width if beside else length) * rng.uniform(0.97, 1.06)
        slip = rng.normal(0, 0.25) * length if beside else 0.0
        y += step * float(np.sin(turn)) + slip * float(np.sin(angle))
        x += step * float(np.cos(turn)) + slip * float(np.cos(angle))
        angle += rng.normal(0, 0.08 if beside else 0.2)


def _fluorescent_rods(rng: Generator, scene: Scene) -> Image:
    """Return bright rods on black, some filled and some outlined."""
    image = np.full(scene.labels.shape, rng.uniform(0.02, 0.15), np.float32)
    outlined, spread = rng.uniform(0, 0.6) * (rng.random() < 0.4), rng.uniform(0.1, 0.5)
    level = rng.uniform(0.3, 0.75)
    for blob in scene.blobs:
        glow = np.clip(level * np.exp(rng.normal(0, spread)), 0.08, 0.95)
        image[blob.box] += (glow * blob.cover() * (1 - outlined * np.clip(blob.height, 0, 1))).astype(np.float32)
    return image


def _dark_rods(rng: Generator, scene: Scene, ground: float, core: float, fringe: float) -> Image:
    """Return dark rods with a core of another brightness and a fringe outside."""
    cover = np.zeros(scene.labels.shape, np.float32)
    inner = np.zeros(scene.labels.shape, np.float32)
    depth = rng.uniform(0.25, 0.8) * ground
    for blob in scene.blobs:
        level = rng.uniform(0.75, 1.1)
        cover[blob.box] = np.maximum(cover[blob.box], level * blob.cover())
        inner[blob.box] = np.maximum(inner[blob.box], np.clip(2 * blob.height - 0.7, 0, 1))
    halo = blur(cover, between(rng, 1.5, 4)) * (1 - np.clip(cover, 0, 1))
    return np.asarray(ground - depth * cover + core * depth * inner + fringe * halo, np.float32)


def _bright_rods(rng: Generator, scene: Scene) -> Image:
    """Return rods in bright field: a dark outline around a paler core."""
    return _dark_rods(rng, scene, rng.uniform(0.55, 0.85), rng.uniform(0.2, 1.0), rng.uniform(0.05, 0.25))


def _phase_rods(rng: Generator, scene: Scene) -> Image:
    """Return rods in phase contrast: evenly dark in a bright halo."""
    return _dark_rods(rng, scene, rng.uniform(0.4, 0.65), rng.uniform(0, 0.1), rng.uniform(0.15, 0.6))


_RODS = {"fluorescent": _fluorescent_rods, "bright": _bright_rods, "phase": _phase_rods}


def membranes(rng: Generator, shape: Sequence[int], diameter: float, density: float) -> tuple[Image, Labels]:
    """Return cells side by side with bright (stained epithelium) or dark (electron microscopy) membranes."""
    electrons = rng.random() < 0.5
    jitter, warp = (
        (rng.uniform(0.6, 1), rng.uniform(0.1, 0.3)) if electrons else (rng.uniform(0.3, 0.8), rng.uniform(0.02, 0.1))
    )
    labels, border, _ = tessellate(rng, shape, diameter, jitter, warp)
    width = between(rng, 0.8, max(1.2, diameter / 12))
    missing = rng.random(int(labels.max()) + 1) > density
    line = np.exp(-((border / width) ** 2))
    image = (_electrons if electrons else _stained)(rng, line.astype(np.float32), border, missing[labels], diameter)
    labels[missing[labels] | (border < max(0.0, width - 1.2))] = (
        0  # thick membranes are background, thin ones are shared
    )
    image = camera(rng, blur(image, between(rng, 0.4, 1.1)), between(rng, 50, 1500), 0.01)
    return np.clip(image, 0, 1), one_piece_each(labels, smallest=12)


def _stained(rng: Generator, line: Image, border: Image, empty: NDArray[np.bool_], diameter: float) -> Image:
    """Return bright membranes of uneven strength on dark cells."""
    strength = np.clip(1 + rng.uniform(0.1, 0.4) * smooth_noise(rng, line.shape, diameter / 2), 0.15, 2)
    cytoplasm = rng.uniform(0.02, 0.25) * np.clip(1 + 0.3 * grain(rng, line.shape, (2, 6)), 0, 3) * ~empty
    return np.asarray(0.04 + rng.uniform(0.35, 0.75) * line * strength + cytoplasm + 0.15 * blur(line, 4), np.float32)


def _electrons(rng: Generator, line: Image, border: Image, empty: NDArray[np.bool_], diameter: float) -> Image:
    """Return dark membranes on pale cells with dark organelles of their own outline."""
    ground = rng.uniform(0.55, 0.85)
    cytoplasm = rng.uniform(0.02, 0.07) * grain(rng, line.shape, (1.3, 3, 8)) * ~empty
    bodies = smooth_noise(rng, line.shape, diameter / 4) - rng.uniform(1.2, 2.0)
    organelles = np.clip(bodies * 6, 0, 1) * (border > diameter / 12) * ~empty
    outline = np.exp(-((bodies / 0.12) ** 2)) * (border > diameter / 12) * ~empty
    strength = np.clip(0.9 + 0.3 * smooth_noise(rng, line.shape, diameter / 2), 0.3, 1.2)
    dark = (
        rng.uniform(0.35, 0.6) * line * strength + rng.uniform(0.05, 0.25) * organelles + rng.uniform(0, 0.3) * outline
    )
    return np.asarray(ground + cytoplasm - dark + 0.08 * empty, np.float32)
