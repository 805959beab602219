"""Accept: the predicted cell under the cursor becomes an annotation with a number of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...core.errors import DataError
from ..layers.class_labels import painted_labels_of
from ..layers.painted import background_label, unused_label
from ..layers.preview import is_preview
from ..layers.reading import data_shape, label_index, note

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels, Layer

_TAKEN = 0.5
"""Share of a predicted cell that may be annotated already without its being the same cell."""


def accept_cell(viewer: ViewerModel, annotation: Labels, axes: str) -> int:
    """Copy the predicted cell under the cursor into the annotation, and return its number there.

    Where kinds of cell are predicted, that is the label its kind was painted with.

    Only pixels that are unpainted or background there are changed; one undo of the annotation takes the cell back.

    Parameters
    ----------
    viewer : ViewerModel
        With a preview or a result; the uppermost visible one with a cell under the cursor counts.
    annotation : Labels
        The layer that takes the cell.
    axes : str
        Its axis letters.

    Raises
    ------
    DataError
        When there is no predicted cell under the cursor, or it is annotated already.
    """
    position = np.asarray(viewer.cursor.position, float)
    found = next(
        ((layer, value) for layer in reversed(viewer.layers) if is_predicted(layer)
         for value in [_value(layer, position)] if value),
        None,
    )  # fmt: skip
    if found is None:
        raise DataError("There is no predicted cell under the cursor; point at one of a preview or a result.")
    indices = _pixels(*found, annotation, axes, position)
    painted = np.asarray(annotation.data[indices])
    free = (painted == 0) | (painted == (background_label(annotation) or 0))
    if free.mean() <= _TAKEN:
        raise DataError("This cell is annotated already; erase its paint first to take the predicted one.")
    classes = painted_labels_of(found[0])
    label = classes[found[1] - 1] if found[1] <= len(classes) else unused_label(annotation)
    annotation.data_setitem(tuple(index[free] for index in indices), label)
    return label


def is_predicted(layer: Layer) -> bool:
    """Return whether a layer holds cells, or kinds of cell, that a network has found, and is on show."""
    return bool(layer.visible) and (is_preview(layer) or note(layer).get("result") in ("instances", "classes"))


def _value(layer: Any, position: NDArray[np.float64]) -> int:
    """Return the layer's label at a position of the world, 0 outside."""
    index = tuple(int(n) for n in np.floor(np.asarray(layer.world_to_data(position)) + 0.5))
    if any(not 0 <= i < n for i, n in zip(index, data_shape(layer), strict=True)):
        return 0
    return int(np.asarray(layer.data[index]))


def _pixels(
    layer: Any, value: int, annotation: Labels, axes: str, position: NDArray[np.float64]
) -> tuple[NDArray[np.intp], ...]:
    """Return where a cell of another layer lies in the annotation, in the plane under the cursor."""
    shape, here = data_shape(layer), np.floor(np.asarray(layer.world_to_data(position)) + 0.5).astype(int)
    plane = tuple(int(np.clip(i, 0, n - 1)) for i, n, a in zip(here, shape, axes, strict=True) if a not in "cyx")
    first, second = sorted((axes.index("y"), axes.index("x")))
    cells = np.asarray(layer.data[label_index(axes, plane)]) == value
    rows, columns = np.nonzero(_piece(cells, here[first], here[second]) if painted_labels_of(layer) else cells)
    points = np.tile(here, (len(rows), 1)).astype(float)
    points[:, first], points[:, second] = rows, columns
    # Both lie on the same image: its pixels are theirs, moved by whole pixels for a preview of a part.
    start = np.asarray(annotation.world_to_data(layer.data_to_world(here)))
    moved = np.floor(points + (start - here) + 0.5).astype(np.intp)
    size = np.asarray(data_shape(annotation))
    inside = ((moved >= 0) & (moved < size)).all(axis=1)
    return tuple(moved[inside].T)


def _piece(cells: NDArray[np.bool_], row: int, column: int) -> NDArray[np.bool_]:
    """Return the one piece that a pixel belongs to: cells of one kind have one number."""
    from scipy.ndimage import label

    pieces = label(cells)[0]
    return np.asarray(pieces == pieces[row, column])
