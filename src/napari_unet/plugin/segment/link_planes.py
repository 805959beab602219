"""Cells of single planes to cells of the stack, from the dock: the buttons, and what a click does."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core import events
from ...core.errors import DataError, UNetError
from ...core.settings import LinkSettings, validate, with_values
from ..dock.lifecycle import abandon_job, connect_job
from ..layers.preview import is_preview
from ..layers.reading import OURS, data_shape, empty_array, full_data, guess_axes, note, placement, write_plane
from ..layers.zarr_result import LabelStore, shown, spacing_of
from ..runtime.requests import LinkRequest, Output
from ..widgets.forms import get_value

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from ..layers.result import ResultLayer
    from ..runtime.engine import Engine, EngineJob
    from .view import SegmentView


class Linking:
    """Links what the dock has segmented last, or the Labels layer that is selected.

    Parameters
    ----------
    viewer : ViewerModel
        Where the layers are.
    view : SegmentView
        With the buttons, the progress and the words to the user.
    engine : Engine
        Computes.
    result : callable
        Returns the dock's last result, or None.
    """

    def __init__(
        self, viewer: ViewerModel, view: SegmentView, engine: Engine, result: Callable[[], ResultLayer | None]
    ) -> None:
        self._viewer, self._view, self._engine, self._result = viewer, view, engine, result
        self.job: EngineJob | None = None
        self._target: tuple[Any, str] | None = None
        self._linked: Any = None
        self._data: Any = None
        self._objects = 0
        self._stopped = False
        view.link.asked.connect(self._link)
        view.link.cancelled.connect(self._cancel)
        viewer.layers.selection.events.changed.connect(self.refresh)
        self.refresh()

    def close(self) -> None:
        """Stop, and let go of the viewer."""
        abandon_job(self.job)
        self._viewer.layers.selection.events.changed.disconnect(self.refresh)

    def refresh(self, event: Any = None) -> None:
        """Offer what can be linked now."""
        target = self._target_now()
        shape = data_shape(target[0]) if target is not None else ()
        axes = target[1] if target is not None else ""
        self._view.link.show_axes("".join(a for a, n in zip(axes, shape, strict=True) if n > 1))

    def _target_now(self) -> tuple[Any, str] | None:
        """Return the labels to link and their axis letters."""
        from napari.layers import Labels

        result = self._result()
        if result is not None and result.is_in(self._viewer):
            return (result.layer(), result.axes) if result.what == "instances" else None
        layer = self._viewer.layers.selection.active
        if not isinstance(layer, Labels) or is_preview(layer) or not 3 <= layer.ndim <= 6:
            return None
        return layer, note(layer).get("axes") or guess_axes(layer)

    def _link(self, along: str) -> None:
        self._view.messages.clear_messages()
        try:
            target = self._target_now()
            if target is None:
                raise DataError("There are no labels to link; segment a stack first, or select a Labels layer.")
            layer, axes = target
            settings = validate(
                with_values(LinkSettings(), {"along": along, "max_gap": get_value(self._view.link.max_gap)})
            )
            request = LinkRequest(full_data(layer), axes, settings, self._output(layer, axes))
        except UNetError as error:
            self._view.messages.say(str(error), "error")
            return
        self._target, self._linked, self._data = target, None, None
        self._objects, self._stopped = 0, False
        self.job = self._engine.link(request)
        self._view.link.set_busy(along)
        self._view.progress.wait("linking")
        connect_job(self.job, self._on_event, lambda text: self._view.messages.say(text, "error"), self._on_done)

    def _output(self, layer: Any, axes: str) -> Output | None:
        """Return where on disk the result grows, if the labels are on disk themselves."""
        store = getattr(full_data(layer), "store", None)
        if not isinstance(store, LabelStore):
            return None
        if not store.finished:
            raise DataError(f"{layer.name} is not finished; click Segment to resume it, then link.")
        return Output(str(store.path.parent), f"{store.path.stem}-linked", spacing_of(layer, axes))

    def _cancel(self) -> None:
        if self.job is not None:
            self._view.progress.wait("stopping")
            self.job.stop()

    # --- what the engine says -------------------------------------------------------------------

    def _on_event(self, event: Any) -> None:
        if isinstance(event, events.TileDone):
            self._view.progress.advance(event.done / event.total, "linking")
        elif isinstance(event, events.ResultOpened):
            store = LabelStore(event.partial, event.path, "".join(a for a in self._axes() if a != "c"))
            self._data = shown(store, self._axes(), bool(self._layer().multiscale))
        elif type(event).__name__ == "PlaneResult":
            self._take(tuple(event.plane), event.labels)
        elif isinstance(event, events.Stopped):
            self._stopped = True
        elif isinstance(event, events.Finished) and not self._stopped:
            self._objects = int(event.metrics.get("objects", 0))
            self._show()

    def _layer(self) -> Any:
        return self._target[0] if self._target is not None else None

    def _axes(self) -> str:
        return self._target[1] if self._target is not None else ""

    def _take(self, plane: tuple[int, ...], labels: Any) -> None:
        """Keep a plane until all are there."""
        if self._data is None:
            shape = tuple(1 if a == "c" else n for a, n in zip(self._axes(), data_shape(self._layer()), strict=True))
            self._data = empty_array(shape, np.int32)
        write_plane(self._data, self._axes(), plane, labels)

    def _show(self) -> None:
        """Show the linked labels as a layer of their own, in place of those that they are made of."""
        layer, data = self._layer(), self._data
        if layer is None or data is None:
            return
        about = {"result": "instances", "axes": self._axes(), "linked": True}
        self._linked = self._viewer.add_labels(
            data, name=f"{layer.name} linked", opacity=layer.opacity, metadata={OURS: about},
            multiscale=isinstance(data, list), **placement(layer, self._axes()),
        )  # fmt: skip
        layer.visible = False
        self._view.messages.say(
            f"{self._objects} cells in the whole stack, each with one number. They are in {self._linked.name}.", "done"
        )

    def _on_done(self) -> None:
        if self._stopped:
            self._view.messages.say("Linking was cancelled; nothing has changed.", "warning")
        # What is no longer needed may be large.
        self.job = self._target = self._data = None
        self._view.link.set_busy("")
        self._view.progress.rest()
        self.refresh()
