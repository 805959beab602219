"""Paint a few cells and some background the way a person does it with a brush."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.morphology import disk

BACKGROUND = 1
"""The label that is painted on background; cells follow."""

_FAR, _NEAR = 12.0, 3.0
_STROKES = 8
_STROKE_STEPS = 30
_BRUSH = 2


def paint(truth: NDArray[Any], cells: int = 8, seed: int = 0) -> NDArray[np.int32]:
    """Return what a person would paint on a plane.

    Cells are filled with a round brush that stays inside of them, so that fine tips and a part of the rim
    stay bare; strokes of background run beside them.

    Parameters
    ----------
    truth : NDArray of int
        All cells, (Y, X).
    cells : int
        How many to paint, at most half of those there are (but one, if there is any).
    seed : int
        Which ones, and where the strokes go.

    Returns
    -------
    NDArray of int32
        0 = unpainted, 1 = background, 2.. = cells; (Y, X).
    """
    rng = np.random.default_rng(seed)
    painted = np.zeros(truth.shape, np.int32)
    for value in choose_cells(truth, cells, rng):
        painted[brush(truth == value)] = painted.max(initial=BACKGROUND) + 1
    for _ in range(_STROKES):
        painted[stroke(truth, painted, rng) & (painted == 0)] = BACKGROUND
    return painted


def choose_cells(truth: NDArray[Any], cells: int, rng: np.random.Generator) -> NDArray[Any]:
    """Return the ids of a few cells that are wholly in view, small and large ones alike."""
    ids, sizes = np.unique(truth[truth > 0], return_counts=True)
    edge = np.concatenate([truth[0], truth[-1], truth[:, 0], truth[:, -1]])
    inside = ids[~np.isin(ids, edge) & (sizes >= 0.3 * np.median(sizes) if sizes.size else True)]
    ids = inside if len(inside) else ids
    count = min(cells, max(1, len(ids) // 2), len(ids))
    return np.sort(rng.choice(ids, count, replace=False))


def brush(cell: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the part of a cell that a brush of a sixth of its width reaches."""
    radius = max(1, round(np.sqrt(cell.sum() / np.pi) / 3))
    reached = ndimage.binary_opening(cell, disk(radius))
    return reached if reached.any() else cell


def stroke(truth: NDArray[Any], painted: NDArray[Any], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return a brush stroke on background, beside a painted cell where there is room."""
    away = ndimage.distance_transform_edt(truth == 0)
    free = away > _NEAR + _BRUSH
    if painted.max(initial=0) > BACKGROUND:
        free &= ndimage.distance_transform_edt(painted <= BACKGROUND) < _FAR
    mask, (height, width) = np.zeros(truth.shape, bool), truth.shape
    if not free.any():
        return mask
    places = np.argwhere(free)
    y, x = (float(v) for v in places[rng.integers(len(places))])
    angle = rng.uniform(0, 2 * np.pi)
    for _ in range(_STROKE_STEPS):
        if not (0 <= y < height and 0 <= x < width) or away[int(y), int(x)] <= _NEAR:
            break
        mask[int(y), int(x)] = True
        angle += rng.normal(0, 0.25)
        y, x = y + np.sin(angle), x + np.cos(angle)
    return ndimage.binary_dilation(mask, disk(_BRUSH)) & (away > 1)
