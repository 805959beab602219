"""Pictures of several kinds, some to paint a few cells on and others to test on, for `few_cells.py`.

Painting is simulated: the cells nearest to a picture's middle are painted, all other pixels of the box
around them are told too (neighbours that reach into it, and background), so that methods that need dense
labels learn from the same crop.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet.core.data.label_ops import median_diameter
from peers.protocol import Box, Crop
from reporting import CannotMeasure

BACKGROUND = 1
"""The label of painted background; cells follow from 2."""
VIEW = 512
"""Side in pixels to which test pictures are cut."""
TESTS = 8


@dataclass(frozen=True)
class Picture:
    """A picture with its truth.

    Attributes
    ----------
    name : str
        File stem.
    image, truth : NDArray
        Grey values and instance labels, (Y, X) each.
    spared : bool
        Whether no model of this project was pretrained on what it shows.
    """

    name: str
    image: NDArray[Any]
    truth: NDArray[np.int32]
    spared: bool

    def view(self, box: Box) -> Picture:
        """Return a part as a picture of its own."""
        y0, y1, x0, x1 = box
        return Picture(self.name, self.image[y0:y1, x0:x1], self.truth[y0:y1, x0:x1], self.spared)


@dataclass(frozen=True)
class Painted:
    """A crop and what was painted by hand in it.

    Attributes
    ----------
    crop : Crop
        Densely labelled.
    cells : int
        Painted cells, all of them whole; the crop's labels 1..cells.
    name : str
        Of the picture.
    """

    crop: Crop
    cells: int
    name: str

    @property
    def paint(self) -> NDArray[np.uint16]:
        """Painted labels on the whole picture: background 1, cells from 2, the neighbours unknown."""
        labels = np.zeros(self.crop.image.shape, np.uint16)
        dense = self.crop.labels
        part = np.where((dense > 0) & (dense <= self.cells), dense + BACKGROUND, 0)
        labels[self.crop.around(0)] = np.where(dense == 0, BACKGROUND, part)
        return labels


@dataclass(frozen=True)
class Kind:
    """One type of image.

    Attributes
    ----------
    words : str
        What it shows.
    group : str
        Its kind in `pretrain.sources`.
    split : callable
        Its pictures -> those to paint on and those to test on.
    few : bool
        Whether so few are spared that pictures that pretraining has seen are needed too.
    """

    words: str
    group: str
    split: Callable[[list[Picture]], tuple[list[Picture], list[Picture]]]
    few: bool = False


def spread(pictures: Sequence[Picture], count: int) -> list[Picture]:
    """Return so many of the pictures, evenly spaced; all when there are fewer."""
    if count >= len(pictures):
        return list(pictures)
    return [pictures[i] for i in np.linspace(0, len(pictures) - 1, count).round().astype(int)]


def centre(picture: Picture, side: int = VIEW) -> Picture:
    """Return the middle of a picture, at most ``side`` pixels wide and high."""
    y, x = (max(0, (length - side) // 2) for length in picture.truth.shape)
    return picture.view((y, y + side, x, x + side))


def tested(pictures: Sequence[Picture]) -> list[Picture]:
    """Return the middles of the pictures that hold cells there."""
    return [view for view in map(centre, pictures) if view.truth.any()]


def apart(pictures: list[Picture]) -> tuple[list[Picture], list[Picture]]:
    """Test on evenly spaced pictures, paint on the others."""
    tests = spread(pictures, min(TESTS, len(pictures) // 2))
    names = {p.name for p in tests}
    return [p for p in pictures if p.name not in names], tested(tests)


def bacteria(pictures: list[Picture]) -> tuple[list[Picture], list[Picture]]:
    """Paint on pictures with five cells or more that pretraining has seen, test on the others."""
    paint = [p for p in pictures if not p.spared and len(np.unique(p.truth)) > 5]
    names = {p.name for p in paint}
    return paint, tested([p for p in pictures if p.name not in names])


def halves(pictures: list[Picture]) -> tuple[list[Picture], list[Picture]]:
    """Paint on the left half of the first plane, test on two quarters of the right half of the last one.

    The planes are neighbours and show the same objects: only a different place is a different object, and a
    pretraining that has seen any of them has seen all.
    """
    first, last = pictures[0], pictures[-1]
    height, width = first.truth.shape
    y, x = height // 2, width // 4
    paint = [first.view((i * y, (i + 1) * y, j * x, (j + 1) * x)) for i in (0, 1) for j in (0, 1)]
    tests = [last.view((0, y, 2 * x, 3 * x)), last.view((y, 2 * y, 3 * x, 4 * x))]
    return paint, [dataclasses.replace(view, spared=False) for view in tests]


KINDS = {
    "nuclei": Kind("fluorescent nuclei, dsb2018", "fluorescence", apart),
    "tissue": Kind("stained tissue in grey, dsb2018", "stained", apart),
    "phase": Kind("phase contrast, usiigaci", "usiigaci", apart),
    "bacteria": Kind("E. coli in brightfield, ecoli", "ecoli", bacteria, few=True),
    "em": Kind("chloroplasts in electron microscopy, em_chloroplast", "em", halves),
}
"""The types of image by name."""


@functools.cache
def read_pictures(kind: Kind) -> list[Picture]:
    """Return the annotated pictures of a kind that pretraining spared (or all) in alphabetical order.

    Raises
    ------
    CannotMeasure
        When the data are not there.
    """
    from skimage.io import imread

    import pretrain

    if not pretrain.DATA.exists():
        raise CannotMeasure("there is no folder ../shared/data beside the repository.")
    stained = json.loads((pretrain.DATA / "dsb2018" / "split.json").read_text())["kind"]

    def wanted(group: str, image: Path, allowed: bool) -> bool:
        # Brightfield pictures of DSB 2018 and E. coli in fluorescence count to the same groups.
        other = stained.get(image.stem, group) == "brightfield" or image.parent.name == "images_fluorescence"
        return group == kind.group and not other and (kind.few or not allowed)

    found = sorted((i, m, a) for group, i, m, a in pretrain.sources() if wanted(group, i, a))
    return [Picture(i.stem, pretrain.read_grey(i), imread(m).astype(np.int32), not a) for i, m, a in found]


def paint_cells(pictures: Sequence[Picture], cells: int) -> list[Painted]:
    """Return so many painted cells, on about as many pictures as there are cells on each.

    Raises
    ------
    CannotMeasure
        When the pictures hold too few.
    """
    most = min(len(pictures), round(cells**0.5))
    for count in range(most, len(pictures) + 1):
        shares = [cells // count + (i < cells % count) for i in range(count)]
        rich = [p for p in pictures if len(np.unique(p.truth)) - 1 >= shares[0]]
        if len(rich) >= count:
            return [paint_one(p, share) for p, share in zip(spread(rich, count), shares, strict=True)]
    raise CannotMeasure(f"{len(pictures)} pictures do not hold {cells} cells to paint.")


def paint_one(picture: Picture, cells: int) -> Painted:
    """Return the crop around the cells nearest to the middle of a picture."""
    truth = picture.truth
    ids, numbers = np.unique(truth, return_inverse=True)
    places = np.argwhere(truth > 0)
    middle = np.array(truth.shape) / 2
    at = numbers.reshape(truth.shape)[truth > 0]
    sizes = np.maximum(1, np.bincount(at, minlength=len(ids)))
    centres = np.stack([np.bincount(at, places[:, axis], len(ids)) / sizes for axis in (0, 1)], axis=1)
    distance = np.hypot(*(centres - middle).T)
    distance[ids == 0] = np.inf
    order = np.argsort(distance, kind="stable")
    rank = np.zeros(len(ids), np.int32)
    rank[order] = np.arange(1, len(ids) + 1)
    rank[ids == 0] = 0
    ranked = rank[numbers].reshape(truth.shape)
    box = box_around((ranked > 0) & (ranked <= cells), median_diameter(truth) / 4)
    y0, y1, x0, x1 = box
    return Painted(Crop(picture.image, box, ranked[y0:y1, x0:x1]), cells, picture.name)


def box_around(marked: NDArray[np.bool_], margin: float) -> Box:
    """Return the box around marked pixels, with a margin of at least 4 pixels where the picture has them."""
    more = max(4, round(margin))
    spans = []
    for axis in (0, 1):
        hit = np.flatnonzero(marked.any(axis=1 - axis))
        spans += [max(0, int(hit[0]) - more), min(marked.shape[axis], int(hit[-1]) + 1 + more)]
    return spans[0], spans[1], spans[2], spans[3]


def painted_diameter(painted: Sequence[Painted]) -> float:
    """Return the median diameter in pixels of the painted cells."""
    areas = [np.bincount(p.crop.labels.ravel(), minlength=p.cells + 1)[1 : p.cells + 1] for p in painted]
    return float(np.median(np.sqrt(np.concatenate(areas) * 4 / np.pi)))
