"""What a training learns from cells that were checked in a segmentation, where nothing was painted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...core.data.annotation import AnnotatedImage
from ...core.data.arrays import PlaneIndex, Planes
from ...core.proofreading.bounding_boxes import around, widened
from ...core.proofreading.review import ReviewedCell, as_annotation
from ..layers.painted import BACKGROUND
from ..layers.reading import label_shape
from ..layers.review_state import teaching
from ..layers.zarr_result import has_large_planes
from .sources import BARE, Source

if TYPE_CHECKING:
    from napari.layers import Image

_TILE, _MARGIN = 1024, 256
"""Pixels: side of the squares whose checked cells are learnt together, and what is read around these."""


@dataclass(frozen=True)
class SparseSource(Source):
    """Checked cells in planes that are too large to be read as a whole: what is around them is learnt."""

    def counts(self, planes: Iterable[PlaneIndex] | None = None) -> dict[PlaneIndex, int]:
        """Return that nothing is painted, without looking."""
        return dict.fromkeys(self.planes.indices() if planes is None else planes, BARE)

    def read(self) -> list[AnnotatedImage]:
        """Return the surroundings of all checked cells."""
        return [
            self._part(plane, cells, number)
            for plane, kept in self.checked.items()
            for number, cells in enumerate(_neighbours(kept), 1)
        ]

    def _part(self, plane: PlaneIndex, cells: Sequence[ReviewedCell], number: int) -> AnnotatedImage:
        box = cells[0].box
        for kept in cells[1:]:
            box = around(box, kept.box)
        y0, y1, x0, x1 = widened(box, _MARGIN, (self.planes.height, self.planes.width))
        nothing = np.zeros((y1 - y0, x1 - x0), np.int32)
        paint, places = as_annotation(nothing, [kept.moved(-y0, -x0) for kept in cells], self.background)
        image = self.planes.read(plane, slice(y0, y1), slice(x0, x1))
        where = "".join(f"{a} {i}, " for a, i in zip(self.planes.plane_axes, plane, strict=True))
        return AnnotatedImage(image, paint, (), f"{self.name} {where}part {number}", places, plane)


def _neighbours(kept: Iterable[ReviewedCell]) -> Iterator[list[ReviewedCell]]:
    """Yield checked cells that lie together."""
    found: dict[tuple[int, int], list[ReviewedCell]] = {}
    for cell in kept:
        found.setdefault((cell.box[0] // _TILE, cell.box[2] // _TILE), []).append(cell)
    yield from found.values()


def checked_source(image: Image, planes: Planes, axes: str) -> Source | None:
    """Return what to read of a picture whose cells were checked but not painted; None when none were."""
    checked = teaching(image)
    if not checked:
        return None
    nothing = np.broadcast_to(np.zeros((), np.int32), label_shape(image, axes))
    kind = SparseSource if has_large_planes(image, axes) else Source
    return kind(f"{image.name} (checked cells)", planes, nothing, axes, BACKGROUND, checked=checked)


__all__ = ["SparseSource", "checked_source"]
