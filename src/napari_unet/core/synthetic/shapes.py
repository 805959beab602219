"""Outlines of cells and how they are put beside each other without overlap."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label as components
from scipy.spatial import cKDTree
from skimage.measure import label as pieces_of

from .texture import Generator, Image, smooth_noise

ANGLES = 256
"""Directions in which the radius of an outline is given."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Blob:
    """One cell in its own little box.

    Attributes
    ----------
    rows, columns : slice
        The box in the image.
    height : NDArray of float32
        1 at the centre, 0 at the outline, negative outside; of the box's shape.
    centre : Point
        y, x in pixels; may lie outside of the image.
    radius : float
        Typical radius in pixels.
    """

    rows: slice
    columns: slice
    height: Image
    centre: Point
    radius: float

    @property
    def box(self) -> tuple[slice, slice]:
        """The box as an index."""
        return self.rows, self.columns

    def cover(self, softness: float = 1.0) -> Image:
        """Return how much of each pixel is covered, 0 to 1, with an edge of so many pixels."""
        share: Image = np.clip(self.height * np.float32(self.radius / softness) + np.float32(0.5), 0, 1)
        return share


@dataclass
class Scene:
    """Labels with the cells that were placed so far."""

    labels: NDArray[np.int32]
    blobs: list[Blob] = field(default_factory=list)

    def place(self, blob: Blob | None, overlap: float) -> bool:
        """Add a cell below the others, unless more than this share of it is hidden; return whether it was added."""
        if blob is None:
            return False
        under = self.labels[blob.box]
        inside = blob.height > 0
        seen = inside & (under == 0)
        area, free = int(inside.sum()), int(seen.sum())
        if free < max(4, (1 - overlap) * area):
            return False
        under[largest_piece(seen)] = len(self.blobs) + 1
        self.blobs.append(blob)
        return True


def largest_piece(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the largest connected piece of a mask (pixels joined by edges)."""
    pieces, count = components(mask)
    if count < 2:
        return mask
    largest: NDArray[np.bool_] = pieces == 1 + int(np.bincount(pieces.ravel())[1:].argmax())
    return largest


def one_piece_each(labels: NDArray[np.int32], smallest: int = 4) -> NDArray[np.int32]:
    """Return labels 1..n of which each is one connected piece: the largest of each id, if large enough."""
    pieces = pieces_of(labels, background=0, connectivity=1)
    areas = np.bincount(pieces.ravel())
    owner = np.zeros(len(areas), np.int64)
    owner[pieces.ravel()] = labels.ravel()
    best = np.zeros(int(owner.max()) + 1, np.int64)
    for piece in np.argsort(areas, kind="stable"):
        best[owner[piece]] = piece
    kept = best[1:][areas[best[1:]] >= smallest]
    kept = np.unique(kept[kept > 0])
    number = np.zeros(len(areas), np.int32)
    number[kept] = np.arange(1, len(kept) + 1)
    renumbered: NDArray[np.int32] = number[pieces]
    return renumbered


def rasterise(shape: Sequence[int], centre: Point, profile: Image, warp: Image | None = None) -> Blob | None:
    """Return the cell whose radius in each of :data:`ANGLES` directions is given; None when outside of the image.

    ``warp`` (2, Y, X) displaces its pixels, so that arms bend; in pixels.
    """
    far = float(profile.max()) + 2 + (float(np.abs(warp).max()) if warp is not None else 0)
    box = _box(shape, centre, far)
    if box is None:
        return None
    y, x = _offsets(box, centre)
    if warp is not None:
        y, x = y + warp[0][box], x + warp[1][box]
    index = (np.arctan2(y, x) * np.float32(ANGLES / (2 * np.pi))).astype(np.int32) % ANGLES
    height = 1 - np.hypot(y, x) / profile[index]
    return Blob(*box, np.asarray(height, np.float32), centre, float(np.sqrt(np.mean(profile**2))))


def rod(shape: Sequence[int], centre: Point, length: float, width: float, angle: float, bend: float) -> Blob | None:
    """Return a capsule, perhaps bent; lengths in pixels, angle in radians; None when outside of the image."""
    box = _box(shape, centre, length / 2 + width + 2)
    if box is None:
        return None
    y, x = _offsets(box, centre)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    across = across - np.float32(bend / length) * along**2
    reach = max(length - width, 0.0) / 2
    distance = np.hypot(np.clip(np.abs(along) - reach, 0, None), across)
    return Blob(*box, (1 - distance / (width / 2)).astype(np.float32), centre, width / 2)


def _box(shape: Sequence[int], centre: Point, far: float) -> tuple[slice, slice] | None:
    """Return the part of the image within this distance of the centre."""
    low = [max(0, int(c - far)) for c in centre]
    high = [min(n, int(c + far) + 1) for c, n in zip(centre, shape, strict=True)]
    if low[0] >= high[0] or low[1] >= high[1]:
        return None
    return slice(low[0], high[0]), slice(low[1], high[1])


def _offsets(box: tuple[slice, slice], centre: Point) -> tuple[Image, Image]:
    """Return y and x relative to the centre for each pixel of the box."""
    y, x = (np.arange(s.start, s.stop, dtype=np.float32) - np.float32(c) for s, c in zip(box, centre, strict=True))
    return y[:, None], x[None, :]


def oval(rng: Generator, diameter: float, elongation: float, irregularity: float) -> Image:
    """Return the profile of a smooth irregular ellipse of about this diameter."""
    angle = np.linspace(0, 2 * np.pi, ANGLES, endpoint=False)
    tilt = rng.uniform(0, np.pi)
    ratio = np.sqrt(1 + abs(rng.normal(0, elongation)) + elongation / 2)
    ellipse = 1 / np.hypot(np.cos(angle - tilt) / ratio, np.sin(angle - tilt) * ratio)
    return np.asarray(diameter / 2 * ellipse * _wobble(rng, angle, irregularity), np.float32)


def _wobble(rng: Generator, angle: NDArray[np.float64], strength: float) -> NDArray[np.float64]:
    """Return a factor around 1 that varies smoothly with the angle."""
    orders = np.arange(2, 7)[:, None]
    size = strength * rng.normal(0, 1, orders.shape) / orders
    waves = (size * np.cos(orders * angle + rng.uniform(0, 2 * np.pi, orders.shape))).sum(axis=0)
    return np.asarray(np.clip(1 + waves, 0.4, 2))


def spindle(rng: Generator, diameter: float, arms: int, reach: float) -> Image:
    """Return the profile of an adherent cell: a body with pointed arms, ``reach`` bodies long."""
    angle = np.linspace(0, 2 * np.pi, ANGLES, endpoint=False)
    first = rng.uniform(0, 2 * np.pi)
    profile = np.full(ANGLES, rng.uniform(0.4, 0.7))
    for k in range(arms):
        direction = first + 2 * np.pi * k / arms + rng.normal(0, 0.3)
        away = np.abs((angle - direction + np.pi) % (2 * np.pi) - np.pi)
        profile += reach * rng.uniform(0.4, 1) * np.exp(-away / rng.uniform(0.1, 0.34))
    profile *= _wobble(rng, angle, 0.16)
    return np.asarray(diameter / 2 * profile / np.sqrt(np.mean(profile**2)), np.float32)


def scatter(
    rng: Generator, scene: Scene, count: int, clumping: float, overlap: float,
    make: Callable[[Point], Blob | None],
) -> None:  # fmt: skip
    """Place up to ``count`` cells; a share ``clumping`` of them beside one that is already there."""
    height, width = scene.labels.shape
    tries = 0
    while len(scene.blobs) < count and tries < 4 * count + 20:
        tries += 1
        centre = rng.uniform(-4, height + 4), rng.uniform(-4, width + 4)
        if scene.blobs and rng.random() < clumping:
            centre = _beside(rng, scene.blobs[rng.integers(len(scene.blobs))])
        scene.place(make(centre), overlap)


def _beside(rng: Generator, blob: Blob) -> Point:
    """Return a point where a cell of about the same size would just touch this one."""
    angle, away = rng.uniform(0, 2 * np.pi), 2 * blob.radius * rng.uniform(0.75, 1.05)
    return blob.centre[0] + away * float(np.sin(angle)), blob.centre[1] + away * float(np.cos(angle))


def tessellate(
    rng: Generator, shape: Sequence[int], diameter: float, jitter: float, warp: float
) -> tuple[NDArray[np.int32], Image, Image]:
    """Return tightly packed cells: id 1..n, distance to the border between cells, distance to the centre.

    Parameters
    ----------
    diameter : float
        Typical diameter in pixels.
    jitter : float
        0 packs regularly, as an epithelium; 1 at random.
    warp : float
        How far borders wander, in diameters.
    """
    step = diameter * 0.93
    rows, columns = (np.arange(-1.0, n / step + 1.5) for n in shape)
    y, x = np.meshgrid(rows, columns, indexing="ij")
    x = x + 0.5 * (np.arange(len(rows))[:, None] % 2)  # shifted rows, so that the cells are hexagons and not squares
    points = np.stack([y, x], axis=-1).reshape(-1, 2)
    points = (points + jitter * rng.uniform(-0.75, 0.75, points.shape)) * step
    where = np.stack(np.meshgrid(*(np.arange(n, dtype=np.float64) for n in shape), indexing="ij"), axis=-1)
    for scale in (1.5, 0.4):
        for axis in range(2):
            where[..., axis] += warp * diameter * scale * 0.5 * smooth_noise(rng, shape, max(3.0, diameter * scale))
    distance, index = cKDTree(points).query(where, k=2)
    apart = np.hypot(*(points[index[..., 0]] - points[index[..., 1]]).transpose(2, 0, 1))
    border = (distance[..., 1] ** 2 - distance[..., 0] ** 2) / np.maximum(2 * apart, 1e-6)
    return (index[..., 0] + 1).astype(np.int32), border.astype(np.float32), distance[..., 0].astype(np.float32)
