"""Segmentations that grow on disk, as the Segment dock handles them: where to, what is on screen, what has come."""

from __future__ import annotations

import dataclasses
import re
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer

from ...core.events import ResultOpened
from ..layers.preview import camera_of
from ..layers.reading import current_plane, full_data, view_box
from ..layers.result import ResultLayer, new_result, result_name
from ..layers.zarr_result import LabelStore, default_folder, file_of, spacing_of
from ..runtime.requests import Output, SegmentRequest

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image

    from ..runtime.engine import EngineJob

_REDRAW_MS, _LOOK_MS = 600, 200
_WHOLE_PLANE = 1 << 30


def safe_name(name: str) -> str:
    """Return a name that every file system takes."""
    return re.sub(r"[^\w.-]+", "_", name).strip("._")[:80] or "image"


def to_disk(
    request: SegmentRequest, viewer: ViewerModel, images: list[Image], axes: str, folder: Path | None, name: str
) -> SegmentRequest:
    """Return the request with a place on disk, the files that the engine may read, and where the user looks.

    Parameters
    ----------
    request : SegmentRequest
        Of a picture that is too large to come back plane by plane.
    viewer : ViewerModel
        Where it is shown.
    images : list of Image
        Its layers, one per channel.
    axes : str
        Axis letters of each.
    folder : Path or None
        Where the user wants results.
    name : str
        What the result is called.
    """
    image = images[0]
    letters = request.image.plane_axes + "yx"
    spacing = {a: value for a, value in spacing_of(image, axes).items() if a in letters}
    return dataclasses.replace(
        request,
        output=Output(str(folder or default_folder() / safe_name(image.name)), safe_name(name), spacing),
        files=tuple(file_of(full_data(layer), str(getattr(layer.source, "path", None) or "")) for layer in images),
        look=(current_plane(viewer, image, axes), view_box(viewer, image, axes, _WHOLE_PLANE)),
    )


class Growth(QObject):
    """Redraws a result while it grows, and tells the engine where the user looks.

    Parameters
    ----------
    viewer : ViewerModel
        Where the result is shown.
    result : ResultLayer
        With a store.
    job : EngineJob
        What fills it.
    """

    def __init__(self, viewer: ViewerModel, result: ResultLayer, job: EngineJob) -> None:
        super().__init__()
        self._viewer, self._result, self._job = viewer, result, job
        self._redraw = QTimer(self, singleShot=True, interval=_REDRAW_MS)
        self._redraw.timeout.connect(self._on_redraw)
        self._look = QTimer(self, singleShot=True, interval=_LOOK_MS)
        self._look.timeout.connect(self._on_look)
        camera = camera_of(viewer).events
        self._events = [camera.center, camera.zoom, viewer.dims.events.current_step]
        for event in self._events:
            event.connect(self._on_move)
        result.reveal()
        self.get_updates()

    def get_updates(self) -> None:
        """Note that there is more of it."""
        if not self._redraw.isActive():
            self._redraw.start()

    def close(self, redraw: bool) -> None:
        """Follow no more; draw what has come last, unless the viewer is going."""
        self._redraw.stop()
        self._look.stop()
        for event in self._events:
            event.disconnect(self._on_move)
        if redraw:
            self._on_redraw()

    def _on_redraw(self) -> None:
        if self._result.is_in(self._viewer):
            self._result.layer().refresh(extent=False)

    def _on_move(self, event: Any = None) -> None:
        self._look.start()

    def _on_look(self) -> None:
        image = self._result.image()
        if image is not None and image in self._viewer.layers:
            plane = current_plane(self._viewer, image, self._result.axes)
            self._job.look(plane, view_box(self._viewer, image, self._result.axes, _WHOLE_PLANE))


class OnDisk:
    """The segmentation of a dock that grows on disk, if one does.

    Parameters
    ----------
    viewer : ViewerModel
        Where its result is shown.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._growth: Growth | None = None
        self._image: Callable[[], Any] = lambda: None
        self._axes = ""
        self._request: SegmentRequest | None = None
        self._last: ResultLayer | None = None

    @property
    def grows(self) -> bool:
        """Whether there is a result that grows."""
        return self._growth is not None

    def prepare(
        self, request: SegmentRequest, images: list[Image], axes: str, folder: Path | None, last: ResultLayer | None
    ) -> SegmentRequest:
        """Return the request with all that the engine has to know; see :func:`to_disk`.

        Parameters
        ----------
        request, images, axes, folder
            See :func:`to_disk`.
        last : ResultLayer or None
            The result before, which is gone on with where it is the same.
        """
        name = result_name(images[0], request.settings.what)
        self._request = to_disk(request, self._viewer, images, axes, folder, name)
        self._image, self._axes, self._last = weakref.ref(images[0]), axes, last
        return self._request

    def opened(self, event: ResultOpened, job: EngineJob) -> ResultLayer | None:
        """Return the result that grows in a store: the one that is in the viewer already, or a new layer.

        None when the picture is gone meanwhile.

        Raises
        ------
        DataError
            When the store cannot be read.
        """
        result, image, request = self._last, self._image(), self._request
        if image is None or request is None:
            return None
        known = result.store if result is not None and result.is_in(self._viewer) else None
        if result is None or known is None or known.partial != Path(event.partial):
            store = LabelStore(event.partial, event.path, request.image.plane_axes + "yx")
            result = new_result(self._viewer, image, self._axes, request.settings.what, request.model, store)
        self._growth = Growth(self._viewer, result, job)
        return result

    def get_updates(self) -> None:
        """Note that there is more of it."""
        if self._growth is not None:
            self._growth.get_updates()

    def close(self, redraw: bool = True) -> ResultLayer | None:
        """End it, and return the result before, for when nothing has come of it."""
        growth, self._growth = self._growth, None
        last, self._last, self._request = self._last, None, None
        if growth is not None:
            growth.close(redraw)
        return last
