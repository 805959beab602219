"""Labels on disk, corrected part by part: what is on screen is opened as a layer, and put back into the store."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.data.annotation import Box
from ...core.data.arrays import PlaneIndex
from ...core.errors import DataError
from ...core.proofreading.bounding_boxes import widened
from ...core.proofreading.crop_merge import SIDE
from ...records.label_crops import LabelCrop, OpenedPart, PutBack, open_part, put_back
from ..layers.navigation import canvas_size
from ..layers.preview import camera_of
from ..layers.reading import OURS, current_plane, data_shape, guess_axes, label_shape, note, placement
from ..layers.review_state import editable_review, layer_review
from ..layers.zarr_result import LabelStore, store_of
from ..runtime.worker_thread import WorkerThread
from ..widgets.layer_selectors import images_of, labels_of, noted_axes
from .view import ProofreadView

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels

_MARGIN = 64
"""Pixels beyond the screen that are opened too, so that cells at its edge are there as a whole."""


def is_crop(layer: Any) -> bool:
    """Return whether a layer is a part of labels on disk."""
    return layer is not None and "part" in note(layer)


class StoreCrops:
    """Opens parts of labels on disk, and puts them back.

    Parameters
    ----------
    viewer : ViewerModel
        Where the labels are.
    view : ProofreadView
        Has the button, and says what happens.
    changed : callable
        Called when marks have changed.
    """

    def __init__(self, viewer: ViewerModel, view: ProofreadView, changed: Callable[[], None]) -> None:
        self._viewer, self._view, self._changed = viewer, view, changed
        self._opening, self._writing = WorkerThread(), WorkerThread()

    def close(self) -> None:
        """Drop what is being opened; what is being put back is written to its end."""
        self._opening.forget()
        self._writing.forget()

    def show(self, layer: Any) -> None:
        """Offer what can be done with the chosen layer."""
        if is_crop(layer):
            part = _part(layer)
            height, width = part.box[1] - part.box[0], part.box[3] - part.box[2]
            self._view.show_offer(f"A part of {part.path.name}, {height:,} x {width:,} px.", "Write to file")
        elif layer is not None and store_of(layer) is not None:
            words = "Labels on disk: zoom in to correct them."
            self._view.show_offer(words, "Correct this part")
        else:
            self._view.show_offer("", "")

    def act(self, layer: Labels) -> None:
        """Open what is on screen of labels on disk, or put back what was opened.

        Raises
        ------
        DataError
            When that is not possible now.
        """
        self._put_back(layer) if is_crop(layer) else self._open(layer)

    # --- opening --------------------------------------------------------------------------------

    def _open(self, layer: Labels) -> None:
        store = getattr(layer.data[0] if layer.multiscale else layer.data, "store", None)
        if isinstance(store, LabelStore) and not store.finished:
            raise DataError(f"{layer.name} is still being written; it can be corrected when it is done.")
        path, axes = store_of(layer), str(note(layer).get("axes") or guess_axes(layer))
        if path is None:
            raise DataError(f"{layer.name} does not lie on disk; correct it as it is.")
        plane, box = current_plane(self._viewer, layer, axes), crop_box(self._viewer, layer, axes)
        self._check_free(path, plane, box)
        about = weakref.ref(layer), axes, plane
        self._view.messages.say("Opening ...")
        self._view.show_busy(True)
        self._opening.run(
            lambda: open_part(path, plane, box), lambda opened: self._add(opened, *about), self._on_failed
        )  # fmt: skip

    def _check_free(self, path: Any, plane: PlaneIndex, box: Box) -> None:
        """Raise a :class:`DataError` when a part that is open already has pixels in common."""
        for other in filter(is_crop, labels_of(self._viewer)):
            part = _part(other)
            if part.path == path and part.plane == plane and _meet(part.box, box):
                raise DataError(f"{other.name} is open here already; write it to the file first, or continue in it.")

    def _on_failed(self, message: str) -> None:
        self._view.show_busy(False)
        self._view.messages.say(message, "error")

    def _add(self, opened: OpenedPart, whole: weakref.ref[Labels], axes: str, plane: PlaneIndex) -> None:
        """Show a part as a layer that can be corrected, in place of what it belongs to."""
        self._view.show_busy(False)
        layer = whole()
        if layer is None or layer not in self._viewer.layers:
            return
        index = iter(plane)
        starts = {"y": opened.part.box[0], "x": opened.part.box[2], "c": 0}
        offset = [starts[a] if a in starts else next(index) for a in axes]
        labels = opened.labels.T if axes.index("x") < axes.index("y") else opened.labels
        labels = np.expand_dims(labels, [axis for axis, a in enumerate(axes) if a not in "yx"])
        new = self._viewer.add_labels(
            labels, name=f"{layer.name} part", opacity=layer.opacity, **placement(layer, axes, offset),
            metadata={OURS: {"result": "instances", "axes": axes, "part": opened.part.to_plain()}},
        )  # fmt: skip
        # Beyond the part its own labels would be seen; within it, what was deleted.
        layer.visible = False
        # What napari's own brush paints is a new cell, and not one that is somewhere else in the store.
        new.selected_label = opened.part.largest + 1
        known = editable_review(new)
        known.adopt({known.planes()[0]: opened.marks})
        self._view.result.choose(new)
        self._view.messages.clear_messages()
        self._view.messages.say("Opened. Correct it, then click Write to file.")
        self._changed()

    # --- putting back ---------------------------------------------------------------------------

    def _put_back(self, layer: Labels) -> None:
        known, part = editable_review(layer), _part(layer)
        plane, steps, journal = known.planes()[0], known.steps, known.journal
        values, marks = known.read(plane).copy(), dict(known.proof.marked(plane))

        def note_before(new: LabelCrop) -> None:
            if journal is not None:
                journal.tell(part=new.to_plain())

        def write() -> PutBack:
            done = put_back(part, values, marks, note_before)
            if journal is not None and known.steps == steps:
                journal.discard()
            return done

        # Out of reach until it is written.
        layer.visible = False
        whole = self._whole(part)
        if whole is not None:
            self._view.result.choose(whole)
        self._view.messages.say(f"Writing into {part.path.name} ...")
        self._view.show_busy(True)
        about = weakref.ref(layer)
        self._writing.run(write, lambda done: self._on_written(done, about), lambda words: self._on_kept(words, about))

    def _on_written(self, done: PutBack, about: weakref.ref[Labels]) -> None:
        self._view.show_busy(False)
        layer, whole, part = about(), self._whole(done.part), done.part
        if layer is not None and layer in self._viewer.layers:
            editable_review(layer).journal = None
            self._viewer.layers.remove(layer)
        if whole is not None:
            layer_review(whole).replace_marks(part.plane, done.marks)
            layer_review(whole).used_in_training = layer is None or editable_review(layer).used_in_training
            self._pair(whole)
            if not whole.visible:
                # Told once more, napari takes the tool out of the user's hand.
                whole.visible = True
            whole.refresh(extent=False)
            self._view.result.choose(whole)
            self._viewer.layers.selection.active = whole
        self._view.messages.clear_messages()
        self._view.messages.say(f"Written to {part.path.name}.", "done")
        self._changed()

    def _on_kept(self, message: str, about: weakref.ref[Labels]) -> None:
        """Show the part again when it could not be put back."""
        layer = about()
        if layer is not None and layer in self._viewer.layers:
            if not layer.visible:
                layer.visible = True
            self._view.result.choose(layer)
        self._on_failed(message)

    def _whole(self, part: LabelCrop) -> Any:
        """Return the layer that a part belongs to, or None."""
        whole = [layer for layer in labels_of(self._viewer) if not is_crop(layer) and store_of(layer) == part.path]
        return whole[-1] if whole else None

    def _pair(self, whole: Labels) -> None:
        """Take labels that were opened from disk for those of a picture of their shape, if there is one."""
        known = layer_review(whole)
        fits = (image for image in images_of(self._viewer) if label_shape(image, noted_axes(image)) == known.shape)
        picture = known.picture() or next(fits, None)
        if picture is not None:
            known.set_picture(picture)


def _part(layer: Any) -> LabelCrop:
    return LabelCrop.from_plain(note(layer)["part"])


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[1] and other[0] < one[1] and one[2] < other[3] and other[2] < one[3]


def crop_box(viewer: ViewerModel, layer: Labels, axes: str) -> Box:
    """Return which part of a plane is to be opened: what is on screen, and a little around it.

    Raises
    ------
    DataError
        When that is too large, or nothing of it is on screen.
    """
    sizes = data_shape(layer)
    shape = sizes[axes.index("y")], sizes[axes.index("x")]
    y0, y1, x0, x1 = _on_screen(viewer, layer, axes)
    if y0 >= y1 or x0 >= x1:
        raise DataError(f"{layer.name} is not on screen; move to where it needs correcting.")
    if max(y1 - y0, x1 - x0) > SIDE:
        raise DataError(
            f"{y1 - y0:,} x {x1 - x0:,} px are on screen, and at most {SIDE:,} x {SIDE:,} px are opened at once. Zoom "
            "in, and show the picture flat (2D)."
        )
    return widened((y0, y1, x0, x1), min(_MARGIN, (SIDE - max(y1 - y0, x1 - x0)) // 2), shape)


def _on_screen(viewer: ViewerModel, layer: Labels, axes: str) -> Box:
    """Return what is on screen of a plane; all of it when height and width are not shown flat.

    Of layers with several sizes napari itself knows no more than the chunks that it has loaded.
    """
    sizes, shown = data_shape(layer), list(viewer.dims.displayed)
    offset = viewer.dims.ndim - layer.ndim
    if {axis - offset for axis in shown} != {axes.index("y"), axes.index("x")}:
        return 0, sizes[axes.index("y")], 0, sizes[axes.index("x")]
    camera = camera_of(viewer)
    reach = np.asarray(canvas_size(viewer), float) / max(camera.zoom, 1e-9) / 2
    points = []
    for side in itertools.product((-1, 1), repeat=2):
        world = np.array(viewer.dims.point, float)
        world[shown] = np.asarray(camera.center, float)[-2:] + reach * side
        points.append(layer.world_to_data(world))
    low, high = np.floor(np.min(points, axis=0)).astype(int), np.ceil(np.max(points, axis=0)).astype(int) + 1
    spans = [(max(0, int(low[i])), min(sizes[i], int(high[i]))) for i in (axes.index("y"), axes.index("x"))]
    return (*spans[0], *spans[1])
