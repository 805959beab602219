"""Labels layers whose numbers are classes of cells (or a mask) instead of cells: noted on the layer, and shown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.network.model_card import read_card
from ...records.replay import ENDING
from .painted import FIRST_CELL, UNLISTED_COLOUR, cell_colour
from .reading import OURS, note

if TYPE_CHECKING:
    from napari.layers import Labels, Layer
    from napari.utils.colormaps import DirectLabelColormap

INSTANCES, CLASSES = "instances", "classes"
_PAINTED = "label "
"""Prefix of class names on a model card, followed by the label the class was painted with."""


def labels_are(layer: Layer) -> str:
    """Return :data:`INSTANCES` or :data:`CLASSES`: what the numbers of a layer stand for.

    Results know it. For other layers it is what the user answered, else what the job file beside the layer's file
    says, else cells.
    """
    noted = note(layer)
    known = noted.get("result") or noted.get("labels")
    if known is None and getattr(layer, "source", None) is not None and layer.source.path:
        known = _saved_as(layer.source.path)
        note_labels(layer, known)
    return CLASSES if known == CLASSES else INSTANCES


def note_labels(layer: Layer, content: str) -> None:
    """Remember on the layer that its numbers are :data:`INSTANCES` or :data:`CLASSES`."""
    layer.metadata.setdefault(OURS, {})["labels"] = content


def holds_classes(layer: Layer | None) -> bool:
    """Return whether the numbers of a layer are classes."""
    return layer is not None and labels_are(layer) == CLASSES


def _saved_as(path: str) -> str:
    """Return what the job file beside an opened file says its labels are; cells without one."""
    try:
        job = json.loads(Path(f"{path}{ENDING}").read_text(encoding="utf-8"))
        return str(job["settings"]["what"])
    except (OSError, ValueError, KeyError, TypeError):
        return INSTANCES


def painted_labels(classes: Sequence[str]) -> tuple[int, ...]:
    """Return the label each class was painted with; cell labels in order for classes with names of their own.

    Parameters
    ----------
    classes : sequence of str
        Class names of a model card. The first is the background, which is left out.
    """
    found = []
    for number, name in enumerate(classes[1:]):
        digits = name.removeprefix(_PAINTED)
        found.append(int(digits) if name.startswith(_PAINTED) and digits.isdecimal() else FIRST_CELL + number)
    return tuple(found)


def painted_labels_of(layer: Layer) -> tuple[int, ...]:
    """Return the labels the classes of a result or preview were painted with; empty for cells."""
    return tuple(note(layer).get("painted_labels", ()))


def class_colormap(painted: Sequence[int]) -> DirectLabelColormap:
    """Return a colormap that shows classes 1, 2, ... in the colours they were painted in."""
    from napari.utils.colormaps import DirectLabelColormap

    table: dict[int | None, Any] = {number: cell_colour(label) for number, label in enumerate(painted, 1)}
    return DirectLabelColormap(color_dict=table | {None: UNLISTED_COLOUR, 0: "transparent"})


def class_features(classes: Sequence[str]) -> dict[str, list[Any]]:
    """Return a features table of class names, which napari shows in the status bar."""
    names = [f"painted as {name}" if name.startswith(_PAINTED) else name for name in classes[1:]]
    return {"index": list(range(1, len(classes))), "class": names}


def show_classes(layer: Labels, model: str) -> None:
    """Show the classes of a model in the colours they were painted in, with their names in the status bar."""
    classes = read_card(model).classes
    note(layer)["painted_labels"] = painted_labels(classes)
    layer.colormap = class_colormap(painted_labels(classes))
    layer.features = class_features(classes)
