"""The live preview: asks the running training for the part on screen, and shows the answer as a layer."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QTimer

from ...core.data.annotation import Box
from ...core.data.arrays import Normalisation, Planes, plane_normalisation
from ...core.events import Preview
from ..runtime.worker_thread import WorkerThread
from .class_labels import class_colormap, painted_labels_of
from .painted import cell_colours
from .reading import OURS, current_plane, note, place_again, placement, view_box, write_plane

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Layer

    from ..runtime.engine import EngineJob

PREVIEW_NAME = "U-Net preview"
LARGEST_SIDE = 640
"""Pixels of the longest preview side: more would hold up the training for long on a CPU."""
_OUTLINE = 2
"""Pixels."""
_AFTER_MOVE_MS = 150
_BETWEEN_MS = 700


def camera_of(viewer: ViewerModel) -> Any:
    """Return the viewer's camera, which has moved to the scene in napari 0.9."""
    return viewer.scene.camera if hasattr(viewer, "scene") else viewer.camera


class PreviewFeeder(QObject):
    """Keeps one preview request on its way for as long as a training runs.

    A request follows each answer, and each move of the camera or the sliders. Answers to a view that
    is no longer on screen are dropped.

    Parameters
    ----------
    viewer : ViewerModel
        Whose view to follow.
    image : Image
        The layer that is trained on; held weakly.
    planes : Planes
        Its pixels.
    axes : str
        Its axis letters.
    job : EngineJob
        The running training.
    painted_labels : tuple of int, optional
        The labels the classes are painted with, for a training on classes.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        image: Image,
        planes: Planes,
        axes: str,
        job: EngineJob,
        painted_labels: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        self._viewer, self._planes, self._axes, self._job = viewer, planes, axes, job
        self._image, self._painted_labels = weakref.ref(image), painted_labels
        self._background = WorkerThread()
        self._norms: dict[tuple[int, ...], Normalisation] = {}
        self._token = 0
        self._asked: tuple[tuple[int, ...], Box] | None = None
        self._timer = QTimer(self, singleShot=True)
        self._timer.timeout.connect(self._ask)
        self._events = [viewer.dims.events.current_step, viewer.dims.events.order, viewer.dims.events.ndisplay]
        self._events += [camera_of(viewer).events.center, camera_of(viewer).events.zoom]
        for event in self._events:
            event.connect(self._on_move)
        self.on = True

    def start(self) -> None:
        """Ask for the first preview."""
        self._timer.start(0)

    def set_on(self, on: bool) -> None:
        """Pause or go on."""
        self.on = on
        if on:
            self._timer.start(0)

    def _on_move(self, event: Any = None) -> None:
        if self.on:
            self._timer.start(_AFTER_MOVE_MS)

    def _ask(self) -> None:
        image = self._image()
        if not self.on or image is None or image not in self._viewer.layers or not self._job.running:
            return
        plane = current_plane(self._viewer, image, self._axes)
        box = view_box(self._viewer, image, self._axes, LARGEST_SIDE)
        self._token += 1
        self._asked = (plane, box)
        token = self._token
        self._background.run(lambda: self._read(plane, box), lambda got: self._send(token, *got))

    def _read(self, plane: tuple[int, ...], box: Box) -> tuple[Any, Normalisation]:
        """Return the crop and the normalisation of its whole plane; runs in a thread."""
        y0, y1, x0, x1 = box
        if plane not in self._norms:
            self._norms[plane] = plane_normalisation(self._planes, plane)
        return self._planes.read(plane, slice(y0, y1), slice(x0, x1)), self._norms[plane]

    def _send(self, token: int, crop: Any, normalisation: Normalisation) -> None:
        if self._job.running:
            self._job.request_preview(token, crop, normalisation)

    def show(self, answer: Preview) -> bool:
        """Show an answer, if it is for the present view; ask for the next one. Returns whether it was shown."""
        image = self._image()
        if answer.token != self._token or self._asked is None or image is None or image not in self._viewer.layers:
            return False
        if self.on:
            show_preview(self._viewer, image, self._axes, *self._asked, answer.labels, self._painted_labels)
            self._timer.start(_BETWEEN_MS)
        return self.on

    def close(self) -> None:
        """Ask no more."""
        self.on = False
        self._timer.stop()
        self._background.forget()
        for event in self._events:
            event.disconnect(self._on_move)


def is_preview(layer: Layer) -> bool:
    """Return whether the layer is a live preview, which is nobody's annotation."""
    return bool(note(layer).get("preview"))


def shows_answer(layer: Layer) -> bool:
    """Return whether the layer is a preview with what a network has answered in the last training."""
    return is_preview(layer) and layer.visible and "waiting" not in note(layer)


def toggle_preview(viewer: ViewerModel) -> None:
    """Hide the preview layer, or show it again."""
    for layer in viewer.layers:
        if is_preview(layer):
            layer.visible = not layer.visible


def prepare_preview(viewer: ViewerModel, image: Image, axes: str) -> None:
    """Have the preview layer there, empty as long as there was no preview yet.

    napari takes about a tenth of a second to add a layer and to draw it first, so neither is left for the training.
    """
    plane, box = current_plane(viewer, image, axes), view_box(viewer, image, axes, LARGEST_SIDE)
    layer = _existing(viewer, image)
    if layer is None:
        nothing = np.zeros((box[1] - box[0], box[3] - box[2]), np.int32)
        layer = _insert(viewer, image, _as_layer_data(nothing, axes), placement(image, axes, _corner(axes, plane, box)))
    note(layer)["waiting"] = True


def show_preview(
    viewer: ViewerModel,
    image: Image,
    axes: str,
    plane: tuple[int, ...],
    box: Box,
    labels: np.ndarray[Any, Any],
    painted_labels: tuple[int, ...] = (),
) -> None:
    """Show labels of a crop in the preview layer; selection and painting mode of other layers stay as they are.

    Classes have the colours of the labels they were painted with.
    """
    where = placement(image, axes, _corner(axes, plane, box))
    data = _as_layer_data(labels, axes)
    layer = _existing(viewer, image)
    if layer is None:
        layer = _insert(viewer, image, data, where)
    else:
        # Moved first, so that no frame shows the new labels at the old place beyond the image.
        place_again(layer, where)
        layer.data = data
    if painted_labels_of(layer) != painted_labels:
        note(layer)["painted_labels"] = painted_labels
        layer.colormap = class_colormap(painted_labels) if painted_labels else cell_colours()
    # A user who hides it while training is not overruled, only one who did before.
    if note(layer).pop("waiting", False):
        layer.visible = True


def _existing(viewer: ViewerModel, image: Image) -> Any:
    """Return the preview layer, or None; one that does not fit the image's axes is removed."""
    layer = next((known for known in viewer.layers if is_preview(known)), None)
    if layer is not None and layer.ndim != image.ndim:
        viewer.layers.remove(layer)
        return None
    return layer


def _as_layer_data(labels: np.ndarray[Any, Any], axes: str) -> np.ndarray[Any, Any]:
    """Return (Y, X) labels with the image's axes, all but height and width one thick."""
    shape = tuple(labels.shape[0] if a == "y" else labels.shape[1] if a == "x" else 1 for a in axes)
    data = np.zeros(shape, np.int32)
    write_plane(data, axes, (0,) * sum(a not in "cyx" for a in axes), labels)
    return data


def _corner(axes: str, plane: tuple[int, ...], box: Box) -> list[int]:
    """Return where the crop begins, one number per axis of the image."""
    where = iter(plane)
    return [{"y": box[0], "x": box[2], "c": 0}[a] if a in "yxc" else next(where) for a in axes]


def _insert(viewer: ViewerModel, image: Image, data: np.ndarray[Any, Any], where: dict[str, Any]) -> Any:
    """Add a preview right above the image, below all paint; return it."""
    from napari.layers import Labels

    about = {"name": PREVIEW_NAME, "metadata": {OURS: {"preview": True}}}
    # Outlines, because fills are what somebody has painted; and no blue, which is background.
    layer = Labels(data, opacity=0.9, colormap=cell_colours(), **about, **where)
    layer.contour = _OUTLINE
    active, selected = viewer.layers.selection.active, set(viewer.layers.selection)
    viewer.layers.insert(viewer.layers.index(image) + 1, layer)
    viewer.layers.selection = selected
    viewer.layers.selection.active = active
    return layer
