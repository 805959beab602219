"""The Segment dock: connects its view with layers, the engine and the shelf of models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer

from ..core import events
from ..core.arrays import Planes
from ..core.card import read_card
from ..core.errors import DataError, UNetError
from ..core.settings import PredictionSettings, validate, with_values
from .choosers import ImageChoice
from .collector import Hold
from .dock import Dock
from .docking import (
    abandon_job,
    connect_job,
    disconnect_from,
    open_dock,
    painted_later,
)
from .layers import current_plane
from .models import ModelEntry, Shelf, check_channels
from .parts import time_left
from .replaying import Replay, tuned_values
from .results import Result, Tuning, new_result
from .runner import SegmentRequest
from .segment_view import WHOLE, SegmentView

if TYPE_CHECKING:
    import napari
    from napari.components import ViewerModel

    from .runner import Engine, Job

TUNING = ("threshold", "smallest", "holes", "separation", "seed_height", "gap")
"""Settings that labels follow from without running the network again."""
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
        self.shelf = Shelf.shared()
        self.job: Job | None = None
        self.relabelling: Job | None = None
        self.result: Result | None = None
        self._browsed: list[ModelEntry] = []
        self._choice = ImageChoice(viewer, view.images, self._on_layers)
        self._timer = QTimer(singleShot=True, interval=_THROTTLE_MS)
        self._timer.timeout.connect(self._relabel)
        view.segment.connect(self._segment)
        view.cancel.connect(self._cancel)
        view.browse.connect(self._browse)
        view.model_changed.connect(self._on_model)
        view.setting_changed.connect(self._on_setting)
        self.replay = Replay(view.messages.say)
        view.copy_command.connect(lambda: self.replay.copy(self._made_with()))
        view.save_result.connect(lambda path: self.replay.save(path, self._made_with()))
        view.proofread.connect(lambda: open_dock(viewer, "Proofread"))
        self.shelf.changed.connect(self._show_models)
        self.engine.state_changed.connect(view.show_engine)
        self._show_models()
        self._choice.follow()

    def close(self) -> None:
        """Stop, keep what was done, and let go of viewer and shelf."""
        self._timer.stop()
        self.replay.close()
        abandon_job(self.job)
        abandon_job(self.relabelling)
        self._choice.close()
        disconnect_from(self.shelf, "changed", self._show_models)
        disconnect_from(self.engine, "state_changed", self.view.show_engine)

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

    def _show_models(self) -> None:
        newest = self.shelf.just_trained
        fresh = bool(newest) and self.view.model.findData(newest) < 0
        self.view.model.show_models([*self.shelf.entries(), *self._browsed])
        if fresh:
            self.view.model.choose(newest)

    def _browse(self, path: str) -> None:
        """Offer a model that the user looked up: a zip, or the card inside a folder."""
        model = Path(path) if path.endswith(".zip") else Path(path).parent
        try:
            card = read_card(model)
        except UNetError as error:
            self.view.messages.say(str(error), "error")
            return
        if str(model) not in [entry.path for entry in self._browsed]:
            self._browsed.append(ModelEntry(card.name or model.stem, str(model)))
        self._show_models()
        self.view.model.choose(str(model))

    def _on_model(self, path: str) -> None:
        """Show the settings that suit the model."""
        try:
            card = read_card(path)
            settings = with_values(PredictionSettings(), card.prediction)
        except UNetError as error:
            self.view.messages.say(str(error), "error")
            return
        what = "classes" if card.mode == "classes" else "instances"
        self.view.show_values({**{name: getattr(settings, name) for name in TUNING}, "what": what})

    # --- segmenting -----------------------------------------------------------------------------

    def _segment(self) -> None:
        """Check what was chosen, make or find the layer to fill, and begin."""
        self.view.messages.clear_messages()
        try:
            planes, model = self._planes()
            settings = validate(with_values(PredictionSettings(), self.view.values()))
            image = self._choice.chosen()
            todo = self._todo(planes, image)
            with Hold(), painted_later(self.view):
                self.result = self._layer_for(image, settings.what, model, todo)
                self._begin(SegmentRequest(planes, model, settings, todo))
        except UNetError as error:
            self.view.messages.say(str(error), "error")

    def _begin(self, request: SegmentRequest) -> None:
        """Hand the work to the engine, and follow it."""
        job = self.engine.segment(request)
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

    def _layer_for(self, image: Any, what: str, model: str, todo: tuple[tuple[int, ...], ...]) -> Result:
        """Return the layer to fill: the last one while its planes are free, so that planes can be done one by one."""
        last, axes = self.result, self._choice.axes()
        same = last is not None and (last.image(), last.axes, last.what, last.model) == (image, axes, what, model)
        if last is not None and same and len(todo) == 1 and last.is_in(self.viewer) and not last.has(todo[0]):
            return last
        return new_result(self.viewer, image, axes, what, model)

    def _cancel(self) -> None:
        if self.job is not None:
            self.view.progress.wait("stopping")
            self.job.stop()

    # --- what the engine says -------------------------------------------------------------------

    def _on_event(self, event: Any) -> None:
        handler = getattr(self, f"_on_{type(event).__name__.lower()}", None)
        if handler is not None:
            handler(event)

    def _on_started(self, event: events.Started) -> None:
        self.view.progress.wait(f"segmenting on {event.device}")
        for text in event.notes:
            self.view.messages.say(text)

    def _on_tiledone(self, event: events.TileDone) -> None:
        self.view.progress.advance(event.done / event.total, time_left(event.remaining))

    def _on_planeresult(self, event: Any) -> None:
        if self.result is not None and self.job is not None:
            plane = tuple(event.plane)
            self.result.jobs[plane] = self.job.id
            self.result.write(self.viewer, plane, event.labels, self._run_tuning)

    def _on_planedone(self, event: events.PlaneDone) -> None:
        self._objects += event.objects
        self._done_planes = event.done
        if event.total > 1:
            text = f"plane {event.done} of {event.total}, {time_left(event.remaining)}"
            self.view.progress.advance(event.done / event.total, text)

    def _on_adapted(self, event: events.Adapted) -> None:
        self.view.messages.say(event.message, "warning")

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
        if self.result is not None and self.result.restored:
            self.view.messages.say(f"{self.result.restored} cells that you have checked before are as they were.")

    def _on_failed(self, message: str) -> None:
        self.view.messages.say(message, "error")

    def _on_done(self) -> None:
        self.job = None
        self.view.set_busy(False)
        self.replay.note(self._made_with())
        self._relabel()

    def _made_with(self) -> dict[str, Any]:
        """Return the values of the sliders that the last result was made with."""
        tuned = list(self.result.tuned.values()) if self.result is not None else []
        return tuned_values(TUNING, tuned[-1] if tuned else None)

    # --- labels anew, without the network -------------------------------------------------------

    def _on_setting(self, name: str) -> None:
        if name in TUNING and self.result is not None:
            self._timer.start()

    def _relabel(self) -> None:
        """Bring all planes of the last result up to the present threshold and sizes, what is on screen first."""
        result = self.result
        if result is None or not result.is_in(self.viewer) or result.what == "probabilities":
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

    def _on_relabelled(self, result: Result, event: Any, tuning: Tuning) -> None:
        if type(event).__name__ == "PlaneResult" and not result.edited:
            result.write(self.viewer, tuple(event.plane), event.labels, tuning)
        elif type(event).__name__ == "PlaneLost":
            result.tuned.pop(tuple(event.plane), None)
            self.view.messages.say("Some planes have to be segmented again to follow the sliders.", "warning")

    def _on_relabelling_done(self) -> None:
        self.relabelling = None
        self.replay.note(self._made_with())
        self._relabel()


def _tuning(settings: PredictionSettings) -> Tuning:
    return tuple(getattr(settings, name) for name in TUNING)


class SegmentDock(Dock):
    """The dock: segment a plane or a stack with a U-Net.

    Parameters
    ----------
    napari_viewer : napari.Viewer
        Where the layers are.
    """

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer)
        self.view = SegmentView()
        self.controller = SegmentController(self.viewer, self.view, self.use.engine)
        self.run(self.view, self.controller)
