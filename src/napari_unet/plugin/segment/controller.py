"""The Segment dock: connects its view with layers, the engine and the shelf of models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer

from ...core import events
from ...core.data.arrays import Planes
from ...core.errors import DataError, UNetError
from ...core.network.model_card import read_card
from ...core.settings import PredictionSettings, validate, with_values
from ...engine.protocol.messages import PlaneLost, PlaneResult
from ..dock.follow_preferences import Preferring, follow_computing
from ..dock.lifecycle import abandon_job, connect_job, disconnect_from, open_dock, painted_later
from ..layers.reading import current_plane, full_data
from ..layers.result import ResultLayer, Tuning, new_result
from ..layers.zarr_result import needs_store
from ..models.registry import check_channels
from ..models.selector import TUNING, ModelChoice
from ..runtime.engine import SegmentRequest
from ..runtime.worker_thread import WorkerThread
from ..settings.preferences import Preferences
from ..widgets.common import time_left
from ..widgets.layer_selectors import ImageChoice
from .autosave import Autosave, write_recipe
from .growing_result import OnDisk
from .link_planes import Linking
from .output_location import folder_for
from .provenance import Replay, tuned_values
from .reapply_review import Restoring
from .view import WHOLE, SegmentView

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from ..runtime.engine import Engine, EngineJob

_THROTTLE_MS = 80
_REVEAL_MS = 30


class SegmentController:
    """What happens when something is clicked in a :class:`SegmentView`.

    Parameters
    ----------
    viewer : ViewerModel
        Whose layers are segmented.
    view : SegmentView
        The widgets.
    engine : Engine
        Computes, in another process.
    """

    def __init__(self, viewer: ViewerModel, view: SegmentView, engine: Engine) -> None:
        self.viewer, self.view, self.engine = viewer, view, engine
        self.models = ModelChoice(view)
        self.registry = self.models.registry
        self.job: EngineJob | None = None
        self.relabelling: EngineJob | None = None
        self.result: ResultLayer | None = None
        self._request: SegmentRequest | None = None
        self.disk = OnDisk(viewer)
        self._recipes = WorkerThread()
        self._choice = ImageChoice(viewer, view.images, self._on_layers)
        self._folder: Path | None = None
        self._timer = QTimer(singleShot=True, interval=_THROTTLE_MS)
        self._timer.timeout.connect(self._relabel)
        view.segment.connect(self._segment)
        view.cancel.connect(self._cancel)
        view.setting_changed.connect(self._on_setting)
        self.replay = Replay(view.messages.say)
        view.copy_command.connect(lambda: self.replay.copy(self._made_with()))
        view.save_result.connect(lambda path: self.replay.save(path, self._made_with()))
        view.proofread.connect(lambda: open_dock(viewer, "Proofread"))
        view.many_files.connect(lambda: open_dock(viewer, "Segment many files"))
        self.autosave = Autosave(view.messages.say)
        self.restoring = Restoring(view.messages.say)
        self.linking = Linking(viewer, view, engine, lambda: self.result)
        self.engine.state_changed.connect(view.show_engine)
        self._preferring = Preferring(self._on_preferences)
        self._choice.follow()

    def close(self) -> None:
        """Stop, keep what was done, and let go of viewer and shelf."""
        self._timer.stop()
        self._preferring.close()
        self.replay.close()
        self.autosave.close()
        self.restoring.close()
        self.linking.close()
        self._recipes.forget()
        abandon_job(self.job)
        self.disk.close(redraw=False)
        abandon_job(self.relabelling)
        self._choice.close()
        self.models.close()
        disconnect_from(self.engine, "state_changed", self.view.show_engine)

    def _on_preferences(self, now: Preferences, before: Preferences) -> None:
        follow_computing(self.view.advanced, now, before)

    # --- what to segment with -------------------------------------------------------------------

    def _on_layers(self) -> None:
        try:
            self.view.show_extent(len(self._choice.planes().indices()))
        except DataError:
            # Said when Segment is clicked; until then the user is still choosing.
            self.view.show_extent(1)
        if self.job is not None and self.result is not None and not self.result.is_in(self.viewer):
            self.view.messages.say("The result layer was deleted, so the segmentation is stopped.", "warning")
            self.job.stop()

    def offer(self, model: str) -> None:
        """Put a model on offer that is not on the shelf; see :func:`read_card` for errors."""
        self.models.offer(model)

    def card_values(self, path: str) -> dict[str, Any]:
        """Return the settings that suit a model; see :func:`read_card` for errors."""
        return self.models.card_values(path)

    # --- segmenting -----------------------------------------------------------------------------

    def _segment(self) -> None:
        """Check what was chosen, make or find the layer to fill, and begin."""
        self.view.messages.clear_messages()
        try:
            planes, model = self._planes()
            settings = validate(with_values(PredictionSettings(), self.view.values()))
            image = self._choice.chosen()
            request = SegmentRequest(planes, model, settings, self._todo(planes, image))
            self._folder = folder_for(self.view.place.place(), image, full_data(image))
            if needs_store(planes):
                images, axes = self._choice.layers(), self._choice.axes()
                request = self.disk.prepare(request, images, axes, self._folder, self.result)
                # Its layer comes with the store that it grows in.
                self.result = None
                self._begin(request)
                return
            with painted_later(self.view):
                self.result = self._layer_for(image, settings.what, model, request.planes or ())
                self._begin(request)
        except UNetError as error:
            self.view.messages.say(str(error), "error")

    def _begin(self, request: SegmentRequest) -> None:
        """Hand the work to the engine, and follow it."""
        job = self.engine.segment(request)
        self._request = request
        if self.result is not None:
            self.replay.remember(self.result, request)
        self.job, self._run_tuning = job, _tuning(request.settings)
        self._objects = self._done_planes = 0
        self._stopped = False
        QTimer.singleShot(_REVEAL_MS, self._reveal)
        self.view.set_busy(True)
        self.view.progress.wait("starting")
        connect_job(job, self._on_event, self._on_failed, self._on_done)

    def _reveal(self) -> None:
        if self.result is not None and self.result.is_in(self.viewer):
            self.result.reveal()

    def _planes(self) -> tuple[Planes, str]:
        """Return the chosen image and model, which fit each other, or raise a readable error."""
        planes, model = self._choice.planes(), self.view.model.currentData()
        grey = check_channels(read_card(model), planes.channels, planes.rgb)
        return (planes.as_grey() if grey else planes), model

    def _todo(self, planes: Planes, image: Any) -> tuple[tuple[int, ...], ...]:
        """Return the planes to segment, the current one first."""
        here = current_plane(self.viewer, image, self._choice.axes())
        if self.view.extent.currentData() != WHOLE:
            return (here,)
        return (here, *(plane for plane in planes.indices() if plane != here))

    def _layer_for(self, image: Any, what: str, model: str, todo: tuple[tuple[int, ...], ...]) -> ResultLayer:
        """Return the layer to fill: the last one while its planes are free, so that planes can be done one by one."""
        last, axes = self.result, self._choice.axes()
        same = last is not None and (last.image(), last.axes, last.what, last.model) == (image, axes, what, model)
        if last is not None and same and len(todo) == 1 and last.is_in(self.viewer) and not last.has(todo[0]):
            last.expect(todo[0])
            return last
        return new_result(self.viewer, image, axes, what, model)

    def _cancel(self) -> None:
        if self.job is not None:
            self.view.progress.wait("stopping")
            self.job.stop()

    # --- what the engine says -------------------------------------------------------------------

    def _on_event(self, event: Any) -> None:
        match event:
            case events.Started():
                self._on_started(event)
            case events.ResultOpened():
                self._on_result_opened(event)
            case events.TileDone():
                self._on_tile(event)
            case PlaneResult():
                self._on_plane_result(event)
            case events.PlaneDone():
                self._on_plane(event)
            case events.Fallback():
                self.view.messages.say(event.message, "warning")
            case events.Stopped():
                self._on_stopped(event)
            case events.Finished():
                self._on_finished(event)

    def _on_started(self, event: events.Started) -> None:
        self.view.progress.wait(f"segmenting on {event.device}")
        for text in event.notes:
            self.view.messages.say(text)

    def _on_result_opened(self, event: events.ResultOpened) -> None:
        try:
            self.result = self.disk.opened(event, self.job) if self.job is not None else None
        except UNetError as error:
            self._on_failed(str(error))
        if self.result is None or self._request is None:
            self._cancel()
            return
        self.replay.remember(self.result, self._request)
        begun = "Resumed" if event.resumed else "Large, so written to disk while it is made"
        self.view.messages.say(f"{begun}: {event.path}. The sliders do not change it afterwards.")
        self.linking.refresh()

    def _on_tile(self, event: events.TileDone) -> None:
        left = event.remaining
        if self.disk.grows:
            self.disk.get_updates()
            left = event.elapsed * (event.total / event.done - 1)
            if event.done == event.total > 1:
                self.view.progress.wait("joining cells across parts")
                return
        self.view.progress.advance(event.done / event.total, time_left(left))

    def _on_plane_result(self, event: PlaneResult) -> None:
        if self.result is not None and self.job is not None:
            plane = tuple(event.plane)
            self.result.jobs[plane] = self.job.id
            self.result.write(self.viewer, plane, event.labels, self._run_tuning)

    def _on_plane(self, event: events.PlaneDone) -> None:
        self._objects += event.objects
        self._done_planes = event.done
        self.disk.get_updates()
        if event.total > 1:
            text = f"plane {event.done} of {event.total}, {time_left(event.remaining)}"
            self.view.progress.advance(event.done / event.total, text)

    def _on_stopped(self, event: events.Stopped) -> None:
        planes, verb = ("1 plane", "is") if self._done_planes == 1 else (f"{self._done_planes} planes", "are")
        self._stopped = True
        self.view.messages.say(f"Cancelled; {planes} segmented so far {verb} kept.", "warning")

    def _on_finished(self, event: events.Finished) -> None:
        if self._stopped:
            # Said already; the end of what was begun follows every stop.
            return
        cells = f"{self._objects} cells in " if self.result is not None and self.result.what == "instances" else ""
        planes = "1 plane" if self._done_planes == 1 else f"{self._done_planes} planes"
        self.view.messages.say(f"Segmented {cells}{planes} in {event.elapsed:.1f} s.", "done")
        if event.path:
            write_recipe(self._recipes, self.replay.recipe(self._made_with()), event.path, self._on_failed)
            if self.result is not None:
                self.restoring.run(self.result, event.path)
        if self.result is not None and self.result.restored:
            self.view.messages.say(f"{self.result.restored} reviewed cells were kept.")

    def _on_failed(self, message: str) -> None:
        self.view.messages.say(message, "error")

    def _on_done(self) -> None:
        self.job = None
        before = self.disk.close()
        self.result = self.result or before
        self.view.set_busy(False)
        self.replay.note(self._made_with())
        self.linking.refresh()
        self._save()
        self._relabel()

    def _save(self) -> None:
        """Have the result save itself where the user said; one that grows on disk is there already."""
        result = self.result
        if self._folder is not None and result is not None and result.store is None and result.is_in(self.viewer):
            self.autosave.save(result, self._folder, self.replay.recipe(self._made_with()))

    def _made_with(self) -> dict[str, Any]:
        """Return the values of the sliders that the last result was made with."""
        tuned = list(self.result.tuned.values()) if self.result is not None else []
        return tuned_values(TUNING, tuned[-1] if tuned else None)

    # --- labels anew, without the network -------------------------------------------------------

    def _on_setting(self, name: str) -> None:
        if name not in TUNING or self.result is None:
            return
        if self.result.store is None:
            self._timer.start()
        elif self.job is None:
            self.view.messages.say(
                "A result this large does not follow the sliders; click Segment to make a new one with these values."
            )

    def _relabel(self) -> None:
        """Bring all planes of the last result up to the present threshold and sizes, what is on screen first."""
        result = self.result
        if result is None or not result.is_in(self.viewer) or result.what == "probabilities" or result.store:
            return
        if self.relabelling is not None:
            # Its done starts the next one, with whatever the sliders say then.
            self.relabelling.stop()
            return
        settings = with_values(PredictionSettings(), {**self.view.values(), "what": result.what})
        tuning = _tuning(settings)
        stale = [plane for plane, made_with in result.tuned.items() if made_with != tuning]
        if not stale:
            return
        if result.edited:
            name = result.layer().name
            self.view.messages.say(
                f"{name} was edited by hand and stays as it is; segment again for a new one.", "warning"
            )
            return
        here = current_plane(self.viewer, result.layer(), result.axes)
        sources = {plane: result.jobs[plane] for plane in sorted(stale, key=lambda plane: plane != here)}
        job = self.engine.relabel(sources, settings)
        self.relabelling = job
        connect_job(
            job, lambda event: self._on_relabelled(result, event, tuning), self._on_failed, self._on_relabelling_done
        )

    def _on_relabelled(self, result: ResultLayer, event: Any, tuning: Tuning) -> None:
        if isinstance(event, PlaneResult) and not result.edited:
            result.write(self.viewer, tuple(event.plane), event.labels, tuning)
        elif isinstance(event, PlaneLost):
            result.tuned.pop(tuple(event.plane), None)
            self.view.messages.say("Some planes have to be segmented again to follow the sliders.", "warning")

    def _on_relabelling_done(self) -> None:
        self.relabelling = None
        self.replay.note(self._made_with())
        self._save()
        self._relabel()


def _tuning(settings: PredictionSettings) -> Tuning:
    return tuple(getattr(settings, name) for name in TUNING)
