"""Brings a place of a layer into view: sliders, camera, and a frame around it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .preview import camera_of
from .reading import OURS, note, place_again, placement

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

_WELL_INSIDE = 0.8
"""Share of the view within which a place needs no moving of the camera."""

_SMALLEST_ON_SCREEN = 24.0
"""Screen pixels below which something is too small to be seen well."""

_ORANGE = "#e69f00"
_LINE = 2.0
"""Screen pixels of a frame's line."""


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


def show_frame(
    viewer: ViewerModel, layer: Layer, axes: str, corner: Sequence[float], opposite: Sequence[float], name: str
) -> None:
    """Draw a frame around a box, instead of an earlier one; layers stay selected as they were.

    Parameters
    ----------
    viewer : ViewerModel
        Where; the camera is on the box already.
    layer : Layer
        In whose pixels the box is given.
    axes : str
        Its axis letters.
    corner, opposite : sequence of float
        Of the box, one number per axis of the layer.
    name : str
        What the frame says.
    """
    points = np.array([corner, corner, opposite, opposite], float)
    points[1, axes.index("x")], points[3, axes.index("x")] = opposite[axes.index("x")], corner[axes.index("x")]
    width = _LINE / max(camera_of(viewer).zoom * abs(float(layer.scale[-1])), 1e-9)
    frame = frame_of(viewer)
    if frame is not None and frame.ndim == layer.ndim:
        frame.name, frame.data = name, []
        place_again(frame, placement(layer, axes.replace("c", "p")))
        frame.add_rectangles([points], edge_width=width, edge_color=_ORANGE, face_color="transparent")
        return
    hide_frame(viewer)
    active, selected = viewer.layers.selection.active, set(viewer.layers.selection)
    viewer.add_shapes(
        [points], shape_type="rectangle", name=name, edge_color=_ORANGE, face_color="transparent",
        edge_width=width, metadata={OURS: {"frame": True}}, **placement(layer, axes.replace("c", "p")),
    )  # fmt: skip
    viewer.layers.selection = selected
    viewer.layers.selection.active = active


def frame_of(viewer: ViewerModel) -> Any:
    """Return the layer of the frame, or None."""
    return next((known for known in viewer.layers if note(known).get("frame")), None)


def hide_frame(viewer: ViewerModel) -> None:
    """Take the frame away, as there is nothing to point at any more."""
    frame = frame_of(viewer)
    if frame is not None:
        viewer.layers.remove(frame)
