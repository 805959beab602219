"""The annotation layer: blue background label, a colour per cell, keys for the next cell and background."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from colorsys import hls_to_rgb
from typing import TYPE_CHECKING, Any

import numpy as np

from ..settings.shortcuts import KeyBindings
from .reading import OURS, data_shape, empty_array, label_shape, note, placement

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels, Layer

BACKGROUND = 1
"""The label that is painted on background."""
FIRST_CELL = 2
BACKGROUND_COLOUR = (0.16, 0.38, 1.0, 1.0)
"""Blue, which no cell has: grey would be lost on a grey picture. Any kind of colour vision tells it from cells."""
UNLISTED_COLOUR = (1.0, 0.9, 0.2, 1.0)
"""Of labels beyond those that have a colour of their own."""
_FIRST_HUE, _HUES = 0.02, 0.34
"""Cells run from red over yellow to green: who sees no red takes pink for blue or grey, who sees no blue cyan."""
_LUMINANCES = (0.145, 0.304, 0.567)
"""Of one cell and the next, from 0 (black) to 1: without hues, neighbouring labels still differ."""
# Colours repeat after so many cells; neighbours in the count stay well apart in hue.
_COLOURS = 60
# Labels above share one colour: enough for painting by hand, and the table stays quick to build.
_COLOURED_LABELS = 3000
_SEARCHED_BYTES = 64_000_000
_KEYS: weakref.WeakKeyDictionary[Layer, KeyBindings] = weakref.WeakKeyDictionary()
"""Annotations and their boxes keep their keys, also when the dock is closed."""


def new_annotation(viewer: ViewerModel, image: Image, axes: str) -> Labels:
    """Return a new, selected Labels layer on top of the image, ready to paint the first cell.

    Parameters
    ----------
    viewer : ViewerModel
        Where the layer is added.
    image : Image
        The layer to annotate; shape and placement are taken from it.
    axes : str
        Axis letters of the image.
    """
    layer = viewer.add_labels(
        empty_array(label_shape(image, axes), np.uint16),
        name=f"{image.name} annotation",
        opacity=0.55,
        colormap=annotation_colours(),
        metadata={OURS: {"background_label": BACKGROUND}},
        **placement(image, axes),
    )
    bind_keys(layer)
    layer.brush_size = brush_size(image, axes)
    layer.selected_label = FIRST_CELL
    layer.mode = "paint"
    return layer


def bind_keys(layer: Labels) -> None:
    """Let the keys for the next cell and for background work while the layer is selected."""
    if layer not in _KEYS:
        _KEYS[layer] = KeyBindings(layer, {"key_next_cell": select_next_cell, "key_background": select_background})


def bind_keys_beside(viewer: ViewerModel, layer: Layer, labels: Labels) -> None:
    """Let the same keys lead from another layer, such as boxes drawn on the annotation, back to painting."""
    if layer in _KEYS:
        return
    # Weakly: the viewer would be kept by the keys of its own layer.
    there, paint = weakref.ref(viewer), weakref.ref(labels)

    def leading(action: Callable[[Labels], None]) -> Callable[[Any], None]:
        def act(_: Any) -> None:
            known, found = there(), paint()
            if known is not None and found is not None and found in known.layers:
                known.layers.selection.active = found
                action(found)

        return act

    actions = {"key_next_cell": leading(select_next_cell), "key_background": leading(select_background)}
    _KEYS[layer] = KeyBindings(layer, actions)


def annotation_colours() -> Any:
    """Return napari's colormap with label 1 blue and cells in well separated other colours."""
    from napari.utils.colormaps import DirectLabelColormap

    colours = [cell_colour(label) for label in range(_COLOURS)]
    table: dict[int | None, Any] = {label: colours[label % _COLOURS] for label in range(FIRST_CELL, _COLOURED_LABELS)}
    table |= {None: UNLISTED_COLOUR, 0: "transparent", BACKGROUND: BACKGROUND_COLOUR}
    return DirectLabelColormap(color_dict=table)


def cell_colour(label: int) -> tuple[float, float, float, float]:
    """Return the colour that a cell is painted in."""
    return (*_hue(label % _COLOURS), 1.0)


def cell_colours() -> Any:
    """Return napari's colormap with the colours of cells alone, for labels that a network has given."""
    from napari.utils.colormaps import CyclicLabelColormap

    return CyclicLabelColormap(colors=np.array([(0, 0, 0, 0), *(cell_colour(i) for i in range(_COLOURS))]))


def _hue(i: int) -> tuple[float, float, float]:
    """Return the i-th colour: hues spaced by the golden ratio, in three luminances; never grey or blue."""
    hue = _FIRST_HUE + _HUES * ((0.35 + i * 0.618034) % 1.0)
    darker, brighter = 0.0, 1.0
    for _ in range(12):
        middle = (darker + brighter) / 2
        if _luminance(hls_to_rgb(hue, middle, 0.9)) < _LUMINANCES[i % 3]:
            darker = middle
        else:
            brighter = middle
    return hls_to_rgb(hue, brighter, 0.9)


def _luminance(colour: tuple[float, float, float]) -> float:
    """Return the relative luminance of an sRGB colour, 0 to 1."""
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def brush_size(image: Image, axes: str) -> int:
    """Return a brush that fits the picture: about a fiftieth of its shorter side, in pixels."""
    shape = data_shape(image)
    return int(np.clip(min(shape[axes.index("y")], shape[axes.index("x")]) // 50, 3, 20))


def background_label(layer: Labels | None) -> int:
    """Return the label that means background in this layer; 0 when the layer has none."""
    return int(note(layer).get("background_label", 0)) if layer is not None else 0


def select_background(layer: Labels) -> None:
    """Paint background from now on."""
    if background_label(layer):
        layer.selected_label = background_label(layer)
        layer.mode = "paint"


def select_next_cell(layer: Labels) -> None:
    """Paint a new cell from now on, with a label that is not used yet."""
    layer.selected_label = next_cell(layer)
    layer.mode = "paint"


def next_cell(layer: Labels) -> int:
    """Return one more than the largest label in use, at least the first cell's.

    A large or lazy stack is not searched: there the labels that were selected before count.
    """
    own = layer.metadata.setdefault(OURS, {})
    if isinstance(layer.data, np.ndarray) and layer.data.nbytes <= _SEARCHED_BYTES:
        highest = int(layer.data.max(initial=0))
    else:
        highest = max(own.get("highest", 0), int(layer.selected_label))
    own["highest"] = max(highest + 1, FIRST_CELL if background_label(layer) else 1)
    return own["highest"]


def unused_label(layer: Labels) -> int:
    """Return a label for a cell that is added without the brush; the one in the brush may be meant for another."""
    label = max(next_cell(layer), int(layer.selected_label) + 1)
    layer.metadata[OURS]["highest"] = label
    return label
