"""Complete regions: boxes drawn on an annotation inside which unpainted means background."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...core.data.annotation import Box
from .painted import BACKGROUND_COLOUR, bind_keys_beside
from .reading import OURS, data_shape, note, placement

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels, Layer, Shapes

REGIONS_NAME = "complete regions"
_ALIGNED = 0.25
"""Pixels by which the corners of a box may be off."""


@dataclass(frozen=True)
class Regions:
    """The boxes of one annotation.

    Attributes
    ----------
    boxes : dict
        By plane: its boxes, in pixels of the annotation.
    ignored : int
        Shapes that are no upright boxes, which count for nothing.
    """

    boxes: dict[tuple[int, ...], tuple[Box, ...]] = field(default_factory=dict)
    ignored: int = 0


def draw_regions(viewer: ViewerModel, labels: Labels, axes: str) -> Shapes:
    """Return the annotation's layer of complete regions, made if there is none, selected and ready to draw a box.

    Parameters
    ----------
    viewer : ViewerModel
        Where the layers are.
    labels : Labels
        The annotation.
    axes : str
        Its axis letters.
    """
    layer = regions_of(viewer, labels)
    if layer is None:
        layer = viewer.add_shapes(
            ndim=labels.ndim,
            name=f"{labels.name} {REGIONS_NAME}",
            edge_color=np.array(BACKGROUND_COLOUR),
            face_color=np.array([*BACKGROUND_COLOUR[:3], 0.12]),
            edge_width=max(1.0, min(data_shape(labels)[axes.index(a)] for a in "yx") / 250),
            metadata={OURS: {"regions_of": weakref.ref(labels)}},
            **placement(labels, axes.replace("c", "p")),
        )
    bind_keys_beside(viewer, layer, labels)
    viewer.layers.selection.active = layer
    layer.mode = "add_rectangle"
    return layer


def regions_of(viewer: ViewerModel, labels: Labels) -> Any:
    """Return the layer of complete regions of an annotation, or None."""
    return next((layer for layer in viewer.layers if _owner(layer) is labels), None)


def _owner(layer: Layer) -> Any:
    """Return the annotation that a layer holds the regions of, or None."""
    known = note(layer).get("regions_of")
    return known() if known is not None else None


def is_regions(layer: Layer) -> bool:
    """Return whether a layer holds complete regions."""
    return "regions_of" in note(layer)


def read_regions(shapes: Shapes | None, labels: Labels, axes: str) -> Regions:
    """Return the boxes of a layer of regions.

    Parameters
    ----------
    shapes : Shapes or None
        The layer, if there is one.
    labels : Labels
        The annotation whose pixels count.
    axes : str
        Its axis letters.
    """
    if shapes is None:
        return Regions()
    found: dict[tuple[int, ...], tuple[Box, ...]] = {}
    ignored = 0
    for corners in _corners(shapes, labels):
        place = _box_of(corners, axes, data_shape(labels))
        if place is None:
            ignored += 1
        else:
            found[place[0]] = (*found.get(place[0], ()), place[1])
    return Regions(found, ignored)


def _corners(shapes: Shapes, labels: Labels) -> Iterator[NDArray[np.float64]]:
    """Yield the corners of each shape in pixels of the annotation, (n, ndim)."""
    for kind, vertices in zip(shapes.shape_type, shapes.data, strict=True):
        points = np.array([labels.world_to_data(shapes.data_to_world(vertex)) for vertex in vertices], float)
        yield points if kind in ("rectangle", "polygon") else points[:0]


def _box_of(corners: NDArray[np.float64], axes: str, shape: tuple[int, ...]) -> tuple[tuple[int, ...], Box] | None:
    """Return plane and box of four corners; None when they are no upright box with a pixel of the image in it.

    A pixel belongs to a box when its centre does.
    """
    if len(corners) != 4:
        return None
    spans = []
    for axis in (axes.index("y"), axes.index("x")):
        low, high = corners[:, axis].min(), corners[:, axis].max()
        if np.minimum(corners[:, axis] - low, high - corners[:, axis]).max() > _ALIGNED:
            return None
        spans.append((max(0, int(np.ceil(low))), min(shape[axis], int(np.floor(high)) + 1)))
    (y0, y1), (x0, x1) = spans
    if y1 <= y0 or x1 <= x0:
        return None
    leading = [axis for axis, letter in enumerate(axes) if letter not in "cyx"]
    plane = tuple(int(np.clip(np.floor(corners[0, axis] + 0.5), 0, shape[axis] - 1)) for axis in leading)
    return plane, (y0, y1, x0, x1)
