"""How many touching cells under one label *Check labels* finds, and how many single cells it blames.

``python benchmarks/waists.py [--data FOLDER]``
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_unet.core.instances.constriction import find_constriction

SETS, FILES, SMALLEST = ("dsb2018", "usiigaci"), 12, 30


def touching(labels: NDArray[Any]) -> set[tuple[int, int]]:
    """Return the pairs of cells that share a border."""
    found = set()
    for one, other in ((labels[:-1], labels[1:]), (labels[:, :-1], labels[:, 1:])):
        border = (one != other) & (one > 0) & (other > 0)
        found |= {(min(pair), max(pair)) for pair in zip(one[border].tolist(), other[border].tolist(), strict=True)}
    return found


def connected(mask: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    """Return the mask cut to its box, if it is in one piece and not too small to be judged."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    cut = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return cut if cut.sum() >= SMALLEST and ndimage.label(cut, np.ones((3, 3)))[1] == 1 else None


def measure(folder: Path) -> tuple[int, int, int, int]:
    """Return blamed and all single cells, found and all pairs, of evenly chosen files of a data set."""
    files = sorted((folder / "masks").rglob("*.png"))
    blamed = cells = found = pairs = 0
    for path in files[:: max(1, len(files) // FILES)]:
        labels = np.asarray(iio.imread(path))
        singles = [connected(labels == cell) for cell in np.unique(labels) if cell]
        joined = [connected((labels == one) | (labels == other)) for one, other in sorted(touching(labels))]
        cells += sum(mask is not None for mask in singles)
        pairs += sum(mask is not None for mask in joined)
        blamed += sum(mask is not None and find_constriction(mask) is not None for mask in singles)
        found += sum(mask is not None and find_constriction(mask) is not None for mask in joined)
    return blamed, cells, found, pairs


def main() -> None:
    """Print a line per data set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    data = parser.parse_args().data
    for name in SETS:
        blamed, cells, found, pairs = measure(data / name)
        print(f"{name}: {found} of {pairs} touching pairs found, {blamed} of {cells} single cells blamed")


if __name__ == "__main__":
    main()
