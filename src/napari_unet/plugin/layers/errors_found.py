"""The layer that shows the errors found by a comparison; one per dock, refilled each time."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from .reading import OURS, fill_again, placement

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels

# Vermilion, yellow and blue of Okabe and Ito: distinct for any kind of colour vision.
_COLOURS = {1: (0.84, 0.37, 0.0, 1.0), 2: (0.94, 0.89, 0.26, 1.0), 3: (0.0, 0.45, 0.70, 1.0)}


class ErrorsLayer:
    """A Labels layer of 1 missed, 2 poor and 3 false.

    Parameters
    ----------
    viewer : ViewerModel
        Where.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._layer: weakref.ref[Any] | None = None

    def layer(self) -> Any:
        """Return the layer, or None."""
        layer = self._layer() if self._layer is not None else None
        return layer if layer is not None and layer in self._viewer.layers else None

    def show(self, cells: Labels, errors: NDArray[Any]) -> None:
        """Show errors on top of all layers, placed like the cells, and select them."""
        where = placement(cells)
        name, layer = f"{cells.name} errors", self.layer()
        if layer is not None and layer.ndim == cells.ndim:
            fill_again(self._viewer, layer, errors, where)
            # New data make a layer editable again.
            layer.name, layer.visible, layer.editable = name, True, False
            self._viewer.layers.selection.active = layer
            return
        self.remove()
        self._add(errors, name, where)

    def _add(self, errors: NDArray[Any], name: str, where: dict[str, Any]) -> None:
        from napari.utils.colormaps import DirectLabelColormap

        # Nothing else is selected meanwhile, or napari's open table lays out all cells again.
        self._viewer.layers.selection.clear()
        colours: dict[int | None, Any] = {0: "transparent", None: "transparent"}
        colours.update(_COLOURS.items())
        layer = self._viewer.add_labels(
            errors, name=name, opacity=0.8, metadata={OURS: {"errors": True}},
            features={"index": [1, 2, 3], "error": ["missed", "poor", "false"]},
            colormap=DirectLabelColormap(color_dict=colours), **where,
        )  # fmt: skip
        layer.editable = False
        self._layer = weakref.ref(layer)

    def remove(self) -> None:
        """Take the layer away."""
        layer = self.layer()
        if layer is not None:
            self._viewer.layers.remove(layer)
