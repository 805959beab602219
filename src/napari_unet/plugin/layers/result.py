"""The layer that a segmentation fills plane by plane, and what is known of each plane in it."""

from __future__ import annotations

import contextlib
import weakref
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .class_labels import show_classes
from .preview import is_preview
from .reading import (
    OURS,
    current_plane,
    empty_array,
    full_data,
    label_index,
    label_shape,
    placement,
    read_plane,
    write_plane,
)
from .review_state import is_corrected, known_review, layer_review, restore
from .zarr_result import LabelStore, shown

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Layer

_DTYPES = {"instances": np.int32, "classes": np.uint8, "probabilities": np.float32}
_NAMES = {"instances": "cells", "classes": "classes", "probabilities": "probability"}

Tuning = tuple[Any, ...]
"""The values of the settings that labels follow from without the network."""


@dataclass
class ResultLayer:
    """A result layer under way or done.

    Attributes
    ----------
    image : weak reference to Image
        What was segmented.
    axes : str
        Its axis letters at the time.
    what, model : str
        Kind of result, and the model that made it.
    array : WritableArray
        The layer's data at first.
    jobs : dict
        By plane: the job whose network outputs of it the engine keeps.
    tuned : dict
        By plane: the tuning that its labels were made with.
    restored : int
        Checked cells of earlier results that were put back over this one.
    store : LabelStore or None
        Where it grows on disk; its labels then stay as they were made, whatever the sliders say.
    saved : Path or None
        Where it has saved itself.
    """

    image: weakref.ref[Image]
    axes: str
    what: str
    model: str
    array: Any
    jobs: dict[tuple[int, ...], int] = field(default_factory=dict)
    tuned: dict[tuple[int, ...], Tuning] = field(default_factory=dict)
    restored: int = 0
    store: LabelStore | None = None
    saved: Path | None = None
    _painted: bool = False
    _filled: set[tuple[int, ...]] = field(default_factory=set)
    _layer: weakref.ref[Layer] | None = None
    _veiled: bool = True

    def layer(self) -> Any:
        """Return the layer, or None when it was deleted and forgotten."""
        return self._layer() if self._layer is not None else None

    def is_in(self, viewer: ViewerModel) -> bool:
        """Return whether the layer is still in the viewer."""
        layer = self.layer()
        return layer is not None and layer in viewer.layers

    @property
    def edited(self) -> bool:
        """Whether the user has painted or corrected in it; then it is the user's, and no slider touches it any more."""
        return self._painted or is_corrected(self.layer())

    @property
    def is_stack(self) -> bool:
        """Whether it has several planes, in depth or in time."""
        return any(n > 1 for n, a in zip(self.array.shape, self.axes, strict=True) if a in "zt")

    def data(self, highest: int = 0) -> Any:
        """Return what the layer holds now: napari's menu can convert labels to numbers of another kind.

        To one that is too small for a number to come they are converted back.
        """
        layer = self.layer()
        now = full_data(layer) if layer is not None else self.array
        if now is self.array or now.shape != self.array.shape:
            return self.array
        if self.what != "probabilities" and highest > np.iinfo(now.dtype).max:
            layer.data = np.asarray(now).astype(self.array.dtype)
        return full_data(layer)

    def has(self, plane: tuple[int, ...]) -> bool:
        """Return whether a plane holds anything, by computing, painting or correcting."""
        held = bool(np.asarray(self.data()[label_index(self.axes, plane)]).any())
        return held or is_corrected(self.layer(), plane)

    def expect(self, plane: tuple[int, ...]) -> None:
        """Learn that a plane that holds nothing now is computed anew."""
        self._filled.discard(plane)

    def write(self, viewer: ViewerModel, plane: tuple[int, ...], values: NDArray[Any], tuning: Tuning) -> None:
        """Put a plane's result in place, unless the user has corrected one there, and redraw when it is on screen."""
        if not self.is_in(viewer) or self._protects(plane):
            return
        self.reveal()
        out = self._with_paint(plane, self._with_checked(plane, values))
        known = known_review(self.layer())
        with known.networks(plane) if known is not None else contextlib.nullcontext():
            write_plane(self.data(int(out.max(initial=0))), self.axes, plane, out)
        if values.any():
            self._filled.add(plane)
        else:
            self._filled.discard(plane)
        self.tuned[plane] = tuning
        self.redraw(viewer, plane)

    def redraw(self, viewer: ViewerModel, plane: tuple[int, ...]) -> None:
        """Show what a plane holds now, when it is on screen."""
        layer = self.layer()
        if viewer.dims.ndisplay == 3 or current_plane(viewer, layer, self.axes) == plane:
            layer.refresh(extent=False)

    def _protects(self, plane: tuple[int, ...]) -> bool:
        """Return whether a plane holds cells of the network's that the user has seen, and may have corrected."""
        return plane in self._filled and self.edited

    def _with_paint(self, plane: tuple[int, ...], values: NDArray[Any]) -> NDArray[Any]:
        """Return a plane's result below what the user painted there while the network had no cells in it.

        What was painted keeps its numbers, for the user may be about to paint on with them.
        """
        if not self._painted or plane in self._filled or self.store is not None:
            return values
        paint = read_plane(self.data(), self.axes, plane)
        painted = paint > 0
        if not painted.any():
            return values
        if self.what == "instances":
            proof = layer_review(self.layer()).proof
            values = give_way(values, np.unique(paint[painted]), max(proof.marked(plane), default=0))
            proof.use(int(max(values.max(), paint.max())))
        return np.where(painted, paint, values).astype(values.dtype)

    def _with_checked(self, plane: tuple[int, ...], values: NDArray[Any]) -> NDArray[Any]:
        """Return a plane's result with the cells put back that the user has checked in an earlier one."""
        image = self.image()
        if self.what != "instances" or image is None:
            return values
        values, count = restore(self.layer(), image, plane, values)
        self.restored += count if plane not in self.tuned else 0
        return values

    def reveal(self) -> None:
        """Show the layer, once; a user who hides it later is not overruled."""
        layer = self.layer()
        if self._veiled and layer is not None:
            self._veiled = False
            layer.visible = True

    def _on_paint(self, event: Any = None) -> None:
        self._painted = True


def give_way(values: NDArray[Any], taken: NDArray[Any], highest: int) -> NDArray[Any]:
    """Return labels of which those that are taken have other numbers, beyond all these and ``highest``."""
    ids, places = np.unique(values, return_inverse=True)
    clash = (ids > 0) & np.isin(ids, taken)
    ids[clash] = max(int(ids.max()), int(taken.max()), highest) + 1 + np.arange(clash.sum())
    return np.asarray(ids[places].reshape(values.shape))


def result_name(image: Image, what: str) -> str:
    """Return what the result of a picture is called."""
    return f"{image.name} {_NAMES[what]}"


def new_result(
    viewer: ViewerModel, image: Image, axes: str, what: str, model: str, store: LabelStore | None = None
) -> ResultLayer:
    """Return a result with an empty layer on top of the image, placed and named after it.

    With a store it shows what grows there, at several sizes where the image has them or is large.

    The layer is hidden until :meth:`Result.reveal`, because adding and drawing it at once would hold up the
    viewer for twice as long.

    Raises
    ------
    DataError
        When there is no room for it, or the store is gone.
    """
    if store is None:
        data = empty_array(label_shape(image, axes), _DTYPES[what])
    else:
        data = shown(store, axes, bool(image.multiscale))
    multiscale = isinstance(data, list)
    result = ResultLayer(weakref.ref(image), axes, what, model, data[0] if multiscale else data, store=store)
    about = {
        "name": result_name(image, what),
        "visible": False,
        "metadata": {OURS: {"result": what, "model": model, "axes": axes}},
        "multiscale": multiscale,
        **placement(image, axes),
    }
    if what == "probabilities":
        layer = viewer.add_image(data, contrast_limits=(0, 1), colormap="magma", opacity=0.7, **about)
    else:
        layer = viewer.add_labels(data, opacity=0.6, **about)
        if what == "classes":
            show_classes(layer, model)
        # Of the brush, the bucket and undo alike, but not of layer.refresh().
        layer.events.labels_update.connect(result._on_paint)
    result._layer = weakref.ref(layer)
    if what == "instances":
        layer_review(layer).set_picture(image)
    for other in filter(is_preview, viewer.layers):
        # What the network thought while it learnt would show through.
        other.visible = False
    return result
