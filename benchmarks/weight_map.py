"""The weight map of equation 2 against the textbook: one distance transform of the whole image per cell.

    python benchmarks/weight_map.py

The textbook here keeps only the two smallest distances of each pixel, which is faster and needs less
memory than stacking and sorting all of them, as is often done.
"""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from napari_unet.core.data.weight_map import boundary_weight_map
from reporting import Figure, arguments, in_turns, medians, report, run, say, shown, table

W0, SIGMA = 10.0, 5.0
COVERED = 0.55
"""Share of the image that cells cover."""


def cells(side: int, per_side: int, seed: int = 0) -> NDArray[np.int32]:
    """Return ``per_side ** 2`` cells of random place and size, many of them touching, as (side, side) labels."""
    rng = np.random.default_rng(seed)
    spacing = side / per_side
    grid = (np.stack(np.mgrid[:per_side, :per_side], -1).reshape(-1, 2) + 0.5) * spacing
    centres = grid + rng.uniform(-0.25, 0.25, grid.shape) * spacing
    radii = np.sqrt(COVERED / np.pi) * spacing * rng.uniform(0.75, 1.25, len(grid))
    pixels = np.stack(np.mgrid[:side, :side], -1).reshape(-1, 2)
    distance, nearest = cKDTree(centres).query(pixels)
    return np.where(distance < radii[nearest], nearest + 1, 0).astype(np.int32).reshape(side, side)


def textbook(labels: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return the second term of equation 2 by its definition."""
    nearest = np.full(labels.shape, np.inf)
    second = nearest.copy()
    for cell in np.unique(labels[labels > 0]):
        distance = ndimage.distance_transform_edt(labels != cell)
        second = np.minimum(second, np.maximum(nearest, distance))
        nearest = np.minimum(nearest, distance)
    return np.asarray(W0 * np.exp(-((nearest + second) ** 2) / (2 * SIGMA**2)))


def ours(labels: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return the same by the package."""
    return boundary_weight_map(labels, w0=W0, sigma=SIGMA)


def growth(sizes: list[tuple[int, int]], repeats: int) -> str:
    """Return a table of seconds by image side and cells per side, all measured in turns."""
    images = {f"{side} {n}": cells(side, n) for side, n in sizes}
    taken = medians(in_turns({k: lambda image=v: ours(image) for k, v in images.items()}, repeats))
    rows = []
    for (side, n), (key, image) in zip(sizes, images.items(), strict=True):
        covered = int((image > 0).sum())
        rows.append([f"{side} x {side}", n * n, covered, f"{taken[key]:.4f}", f"{1e9 * taken[key] / side**2:.0f}"])
    return table(["image", "cells", "pixels in cells", "seconds", "ns per pixel of the image"], rows)


def main() -> None:
    """Measure and report."""
    chosen = arguments(__doc__)
    side, per_side, repeats = (256, 8, 1) if chosen.quick else (1024, 20, 5)
    labels = cells(side, per_side)
    count = len(np.unique(labels)) - 1
    say(f"{count} cells, {(labels > 0).mean():.0%} of {side} x {side}; the textbook takes about a minute")
    fast = medians(in_turns({"ours": lambda: ours(labels)}, repeats))["ours"]
    begin = time.perf_counter()
    truth = textbook(labels)
    slow = time.perf_counter() - begin
    difference = float(np.abs(ours(labels) - truth).max())
    report(
        [
            Figure(
                f"weight map, {side} x {side}, {count} cells: times faster than the textbook", slow / fast,
                detail=f"textbook {slow:.2f} s (once), ours {fast:.4f} s (median of {repeats})", at_least=50,
            ),
            Figure(
                "weight map: largest difference from the textbook, as a share of w0", difference / W0,
                detail=f"{difference:.2e} at w0 = {W0:g}, largest weight {shown(float(truth.max()))}", at_most=1e-4,
            ),
        ],
        "Ours, more cells on the same area (cells share the same pixels), all in turns:",
        growth([(side, round(per_side * f)) for f in (0.25, 0.5, 1, 2)], repeats),
        "Ours, more area with cells of the same size:",
        growth([(side // 2, per_side // 2), (side, per_side), (2 * side, 2 * per_side)], repeats),
    )  # fmt: skip


if __name__ == "__main__":
    run(main)
