"""Kinds of cell: a network numbers them from 1 on, and they are shown as they were painted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .painted import FIRST_CELL, UNLISTED_COLOUR, cell_colour
from .reading import note

if TYPE_CHECKING:
    from napari.layers import Layer

_PAINTED = "label "
"""How the card of a model begins the name of a class that was painted."""


def painted_as(classes: Sequence[str]) -> tuple[int, ...]:
    """Return the label that each class was painted with; of one that was not, a label that looks like a cell.

    Parameters
    ----------
    classes : sequence of str
        The names on a model's card; the first is the background, which is left out.
    """
    found = []
    for number, name in enumerate(classes[1:]):
        digits = name.removeprefix(_PAINTED)
        found.append(int(digits) if name.startswith(_PAINTED) and digits.isdecimal() else FIRST_CELL + number)
    return tuple(found)


def kind_colours(painted: Sequence[int]) -> Any:
    """Return napari's colormap that shows kinds 1, 2, ... in the colours they were painted in."""
    from napari.utils.colormaps import DirectLabelColormap

    table: dict[int | None, Any] = {kind: cell_colour(label) for kind, label in enumerate(painted, 1)}
    return DirectLabelColormap(color_dict=table | {None: UNLISTED_COLOUR, 0: "transparent"})


def kind_names(classes: Sequence[str]) -> dict[str, list[Any]]:
    """Return a table of kinds, which napari shows below the picture for the pixel under the mouse."""
    words = [f"painted as {name}" if name.startswith(_PAINTED) else name for name in classes[1:]]
    return {"index": list(range(1, len(classes))), "kind": words}


def kinds_of(layer: Layer) -> tuple[int, ...]:
    """Return the labels that the kinds in a layer were painted with; none where its numbers tell cells apart."""
    return tuple(note(layer).get("kinds", ()))
