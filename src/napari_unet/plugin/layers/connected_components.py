"""Split class labels or a mask into connected components, each a cell with a label of its own."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...core.data.arrays import ArrayLike
from ...core.proofreading.bounding_boxes import number_pieces
from ..runtime.worker_thread import WorkerThread
from .class_labels import INSTANCES, holds_classes, painted_labels_of
from .painted import background_label
from .reading import (
    OURS,
    _upright,
    data_shape,
    empty_array,
    full_data,
    label_index,
    note,
    noted_axes,
    placement,
    read_plane,
)
from .zarr_result import store_of

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels

SPLIT = "Split into connected components"
SPLIT_TIP = (
    "Make a new layer in which every connected component is a cell with its own label. Touching cells of one class are "
    "one component; split them in Proofread. The original layer stays unchanged."
)
SPLIT_DONE = "Each connected component is a cell now. Touching cells of one class are one component"
_MAX_PIXELS = 1 << 28
"""Larger layers are not split in memory."""


def can_split(layer: Labels | None) -> bool:
    """Return whether a layer holds classes and fits into memory to be split."""
    if layer is None or not holds_classes(layer) or store_of(layer) is not None or layer.multiscale:
        return False
    return int(np.prod(data_shape(layer), dtype=np.int64)) <= _MAX_PIXELS


def classes_found(layer: Labels) -> str:
    """Return the sentence that a layer holds classes."""
    return f"{layer.name} holds classes, not cells."


@dataclass(frozen=True)
class Components:
    """The connected components of a layer.

    Attributes
    ----------
    labels : NDArray of int32
        Of the layer's shape; numbers continue from plane to plane.
    classes : NDArray of int64
        The class of each component, in the order of their labels.
    first : int
        The first component's label; 2 where 1 is the background label.
    """

    labels: NDArray[np.int32]
    classes: NDArray[np.int64]
    first: int


def connected_components(labels: ArrayLike, axes: str, background: int, keep_background: bool) -> Components:
    """Return the connected components of every plane; runs in a thread.

    Parameters
    ----------
    labels : ArrayLike
        One array axis per letter of ``axes``.
    axes : str
        Axis letters.
    background : int
        The label painted on background; 0 if there is none.
    keep_background : bool
        Whether the background is kept, as label 1.
    """
    shape = tuple(int(n) for n in labels.shape)
    out, classes = empty_array(shape, np.int32), [np.zeros(0, np.int64)]
    first = 2 if background and keep_background else 1
    highest = first - 1
    for plane in np.ndindex(*(n for n, a in zip(shape, axes, strict=True) if a not in "cyx")):
        values = read_plane(labels, axes, plane)
        components, of = number_pieces(np.where(values == background, 0, values))
        components[components > 0] += highest
        if first == 2:
            components[values == background] = 1
        out[label_index(axes, plane)] = _upright(components, axes)
        highest += len(of)
        classes.append(of)
    return Components(np.asarray(out), np.concatenate(classes), first)


class ComponentSplitter:
    """Splits layers in a thread and shows the components as new layers.

    Parameters
    ----------
    viewer : ViewerModel
        Where the layers are.
    made : callable
        Called with the new layers, in the order of the old ones; layers deleted meanwhile have none.
    failed : callable
        Called with an error message.
    """

    def __init__(
        self, viewer: ViewerModel, made: Callable[[list[Labels]], None], failed: Callable[[str], None]
    ) -> None:
        self._viewer, self._made, self._failed = viewer, made, failed
        self._thread = WorkerThread()

    def close(self) -> None:
        """Drop what is running."""
        self._thread.forget()

    def split(self, layers: Sequence[Labels], *, keep_background: bool = False) -> None:
        """Split layers, see :func:`can_split`; ``keep_background`` keeps painted background, as ground truth needs."""
        jobs = [(full_data(layer), noted_axes(layer), background_label(layer), keep_background) for layer in layers]
        known = [weakref.ref(layer) for layer in layers]
        self._thread.run(
            lambda: [connected_components(*job) for job in jobs], lambda found: self._show(known, found), self._failed
        )

    def _show(self, known: Sequence[weakref.ref[Labels]], found: Sequence[Components]) -> None:
        made = []
        for ref, components in zip(known, found, strict=True):
            layer = ref()
            if layer is not None and layer in self._viewer.layers and data_shape(layer) == components.labels.shape:
                made.append(self._add(layer, components))
        self._made(made)

    def _add(self, layer: Labels, components: Components) -> Labels:
        """Add the components as a layer and hide the classes."""
        axes = noted_axes(layer)
        about: dict[str, Any] = {"axes": axes, "result": INSTANCES}
        if "model" in note(layer):
            about["model"] = note(layer)["model"]
        if components.first == 2:
            # Ground truth for Compare: neither proofread nor trained on.
            about |= {"background_label": 1, "result": "truth"}
        layer.visible = False
        name = layer.name.removesuffix(" classes")
        return self._viewer.add_labels(
            components.labels,
            name=f"{name} cells",
            opacity=layer.opacity,
            metadata={OURS: about},
            features=_features(layer, components),
            **placement(layer, axes),
        )


def _features(layer: Labels, components: Components) -> dict[str, Any]:
    """Return the class of each cell, for the status bar; nothing where there is only one class."""
    if len(np.unique(components.classes)) < 2 and not painted_labels_of(layer):
        return {}
    table = layer.features
    names = dict(zip(table["index"], table["class"], strict=True)) if {"index", "class"} <= set(table) else {}
    index = [*range(components.first, components.first + len(components.classes))]
    return {"index": index, "class": [str(names.get(int(n), f"label {n}")) for n in components.classes]}
