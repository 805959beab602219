"""Brings a place of a layer into view: sliders and camera."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .preview import camera_of

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

_WELL_INSIDE = 0.8
"""Share of the view within which a place needs no moving of the camera."""

_SMALLEST_ON_SCREEN = 24.0
"""Screen pixels below which something is too small to be seen well."""


def go_to(
    viewer: ViewerModel, layer: Layer, position: Sequence[float], *, centre: bool = True, size: float = 0
) -> None:
    """Move sliders and camera so that a place is on screen.

    Parameters
    ----------
    viewer : ViewerModel
        Whose.
    layer : Layer
        In whose pixels the place is given.
    position : sequence of float
        One number per axis of the layer.
    centre : bool
        Whether to bring it to the middle also when it is on screen already.
    size : float
        Extent of what is there, in pixels; when it would be hard to see, the picture is magnified.
    """
    world = np.asarray(layer.data_to_world(position), float)
    offset = viewer.dims.ndim - len(world)
    shown = list(viewer.dims.displayed)
    for axis, value in enumerate(world):
        if axis + offset not in shown:
            viewer.dims.set_point(axis + offset, value)
    here = [float(world[axis - offset]) if axis >= offset else 0.0 for axis in shown]
    camera = camera_of(viewer)
    if 0 < size * abs(float(layer.scale[-1])) * camera.zoom < _SMALLEST_ON_SCREEN:
        camera.zoom = _SMALLEST_ON_SCREEN / (size * abs(float(layer.scale[-1])))
    middle = here if centre or len(here) != 2 else _nearest_middle(viewer, here)
    camera.center = tuple([0.0] * (3 - len(here)) + list(middle))


def _nearest_middle(viewer: ViewerModel, here: Sequence[float]) -> list[float]:
    """Return the nearest middle of the view from which a place is well inside of it."""
    camera = camera_of(viewer)
    room = _WELL_INSIDE * np.asarray(canvas_size(viewer), float) / max(camera.zoom, 1e-9) / 2
    middle = np.asarray(camera.center, float)[-2:]
    return [float(value) for value in np.clip(middle, here - room, here + room)]


def canvas_size(viewer: ViewerModel) -> Sequence[float]:
    """Return height and width of the canvas in screen pixels; it has moved in napari 0.9."""
    canvas = getattr(viewer, "canvas", None)
    return canvas.size if canvas is not None and hasattr(canvas, "size") else viewer._canvas_size
