"""What the Measure dock says of labels whose numbers are no cells, and the cells that it makes of them."""

from __future__ import annotations

import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..layers.class_labels import MAKE_CELLS, PieceMaker
from ..layers.zarr_result import store_of
from .compute import Measured, not_cells
from .view import MeasureView

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels


class NotCells:
    """Remembers which of the chosen layers are no cells, until the next click.

    Parameters
    ----------
    viewer : ViewerModel
        Where the layers are.
    view : MeasureView
        Has the button, and says what happens.
    """

    def __init__(self, viewer: ViewerModel, view: MeasureView) -> None:
        self._viewer, self._view = viewer, view
        self._found: list[weakref.ref[Any]] = []
        self._roles: list[Any] = []
        self._maker = PieceMaker(viewer, self._on_made, lambda words: view.messages.say(words, "error"))
        view.make_cells.connect(self._make)

    def close(self) -> None:
        """Drop what is under way."""
        self._maker.close()

    def clear(self) -> None:
        """Forget what was said."""
        self._found = []
        self._view.offer_cells(False)

    def say(self, layer: Labels, kinds: tuple[int, int], follows: str) -> str:
        """Say that a layer's numbers are no cells, and what follows from it; return these words.

        Parameters
        ----------
        layer : Labels
            Which one.
        kinds : tuple of int
            How many pieces and numbers it has, if these look like kinds.
        follows : str
            What that means for what was asked.
        """
        what = not_cells(layer, kinds)
        if not what:
            return ""
        words = f"{what} {follows}"
        can = store_of(layer) is None and not layer.multiscale
        self._view.messages.say(
            f"{words} For single cells click {MAKE_CELLS}, then repeat this." if can else words, "warning"
        )
        if can:
            self._found.append(weakref.ref(layer))
            self._view.offer_cells(True)
        return words

    def _make(self) -> None:
        layers = [layer for layer in (known() for known in self._found) if layer in self._viewer.layers]
        self._roles = [self._view.cells if layer is self._view.cells.layer() else self._view.truth for layer in layers]
        self.clear()
        self._view.messages.clear_messages()
        self._maker.make(layers, keep_background=True)

    def _on_made(self, layers: list[Labels]) -> None:
        # A layer that was deleted meanwhile leaves nobody to say which is which.
        if len(layers) != len(self._roles):
            return
        for role, layer in sorted(zip(self._roles, layers, strict=True), key=lambda pair: pair[0] is self._view.truth):
            role.choose(layer)
        self._view.messages.say(
            "Each separate piece is a cell now; cells that touch are one piece. Measure or compare again.", "done"
        )


def with_kinds(found: Measured, before: Any) -> Measured:
    """Return measures with the kind of each cell beside its number, where the layer's features knew it.

    Parameters
    ----------
    found : Measured
        The measures.
    before : DataFrame
        The features that the measures replace.
    """
    if not {"index", "kind"} <= set(before):
        return found
    kinds = dict(zip(before["index"], before["kind"], strict=True))

    def beside(name: str, columns: dict[str, Any]) -> dict[str, Any]:
        column = np.array([str(kinds.get(number, "")) for number in columns[name].tolist()])
        return {name: columns[name], "kind": column, **{key: v for key, v in columns.items() if key != name}}

    return replace(found, table=beside("label", found.table), features=beside("index", found.features))
