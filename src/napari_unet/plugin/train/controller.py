"""The Annotate and train dock: connects its view with layers, the engine and the shelf of models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QSignalBlocker, QTimer

from ...core import events
from ...core.data.annotation import AnnotatedImage, class_values
from ...core.data.arrays import Planes
from ...core.distribution import PLUGIN
from ...core.errors import UNetError
from ...core.network.model_card import read_card
from ...core.settings import TrainingSettings, with_values
from ..dock.engine_status import kind_of_device
from ..dock.follow_preferences import Preferring, follow_computing
from ..dock.lifecycle import abandon_job, connect_job, disconnect_from, painted_later
from ..layers.class_labels import note_labels
from ..layers.painted import select_background, select_next_cell
from ..layers.preview import PreviewFeeder, prepare_preview, toggle_preview
from ..layers.reading import check_labels_fit
from ..models.registry import ModelEntry, ModelRegistry
from ..models.selector import SCRATCH
from ..runtime.worker_thread import WorkerThread
from ..settings.preferences import Preferences
from ..settings.shortcuts import KeyBindings
from ..widgets.common import count, time_left
from ..widgets.layer_selectors import ImageChoice, images_of
from .annotation_controller import Annotating
from .check_controller import Checking
from .history import Before, copy_training, rounds_of
from .live_annotation import LivePaint
from .sample_data import picture
from .sources import Gathered, gather, nothing_painted, painting_of
from .suggest_controller import Suggesting
from .view import TrainView

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image

    from ..runtime.engine import Engine, EngineJob


class TrainController:
    """What happens when something is clicked in a :class:`TrainView`.

    Parameters
    ----------
    viewer : ViewerModel
        Whose layers are annotated.
    view : TrainView
        The widgets.
    engine : Engine
        Trains, in another process.
    """

    def __init__(self, viewer: ViewerModel, view: TrainView, engine: Engine) -> None:
        self.viewer, self.view, self.engine = viewer, view, engine
        self.registry = ModelRegistry.shared()
        self.job: EngineJob | None = None
        self.feeder: PreviewFeeder | None = None
        self.live: LivePaint | None = None
        self._path, self._stopped, self._discarding, self._grey, self._mode = "", False, False, False, "instances"
        self.rounds = rounds_of(viewer)
        self._same = False
        self._reading, self._sampling = WorkerThread(), WorkerThread()
        self._choice = ImageChoice(viewer, view.images, self._on_layers)
        self.annotating = Annotating(viewer, view, self._choice)
        self.suggesting = Suggesting(viewer, view, engine, self._choice, self.annotating, self._model_to_ask)
        self.checking = Checking(viewer, view, self._choice, self.annotating, self._reader)
        self._connect()
        self._show_models()
        view.set_continuable(self.rounds.can_go_on())
        self._choice.follow()

    def _connect(self) -> None:
        view = self.view
        view.paint_background.connect(partial(self._with_annotation, select_background))
        view.paint_next_cell.connect(partial(self._with_annotation, select_next_cell))
        view.train.connect(lambda: self._begin(None))
        view.resume.connect(lambda: self._begin(self.rounds.run))
        view.discard.connect(self._discard)
        view.stop.connect(self._stop)
        view.save.connect(self._save)
        view.copy_command.connect(lambda: copy_training(Path(self.registry.just_trained).parent, view.messages.say))
        view.preview_toggled.connect(self._toggle_preview)
        view.live_toggled.connect(lambda on: self.live.set_on(on) if self.live is not None else None)
        view.first_steps.sample_asked.connect(self._open_sample)
        self._keys = KeyBindings(self.viewer, {"key_preview": toggle_preview})
        self._preferring = Preferring(self._on_preferences)
        self.annotating.touched.connect(self._on_touch)
        self.registry.changed.connect(self._show_models)
        self.engine.state_changed.connect(self._on_engine)

    def close(self) -> None:
        """Stop training and let go of viewer and shelf; the best model so far is offered as just trained."""
        self._reading.forget()
        self._sampling.forget()
        abandon_job(self.job)
        self._follow_no_more()
        self._keys.close()
        self._preferring.close()
        self.suggesting.close()
        self.checking.close()
        self.annotating.close()
        self._choice.close()
        disconnect_from(self.registry, "changed", self._show_models)
        disconnect_from(self.engine, "state_changed", self._on_engine)
        if self.job is not None:
            with QSignalBlocker(self.registry):
                self._take(self.job)
                if self._discarding:
                    self._restore()
            # Later: other docks, which follow the shelf, may be on their way out too.
            QTimer.singleShot(0, self.registry.changed.emit)

    def _on_preferences(self, now: Preferences, before: Preferences) -> None:
        self.view.show_keys(now)
        follow_computing(self.view.advanced, now, before)

    # --- layers ---------------------------------------------------------------------------------

    def _on_layers(self) -> None:
        self.annotating.on_layers()
        self.suggesting.follow_layers()
        self.checking.follow_layers()
        self.view.show_first_steps(not images_of(self.viewer))

    def _open_sample(self, key: str) -> None:
        """Open a sample after a thread has made it, as that takes longer than a viewer may hold still."""
        self._sampling.run(partial(picture, key), lambda _: self.viewer.open_sample(PLUGIN, key))

    def _with_annotation(self, action: Any) -> None:
        """Do something with the annotation layer, after bringing it to the front for painting."""
        layer = self.view.annotation.layer()
        if layer is not None:
            self.viewer.layers.selection.active = layer
            action(layer)

    def _on_touch(self) -> None:
        if self.live is not None:
            self.live.touch()

    # --- training -------------------------------------------------------------------------------

    def _show_models(self) -> None:
        self.view.start.show_models([*self.registry.entries(), ModelEntry("Scratch (a new network)", SCRATCH)])
        self.view.set_model_ready(bool(self.registry.just_trained))

    def _model_to_ask(self) -> tuple[str, bool]:
        """Return the newest model there is, and whether a training is under way."""
        busy = self.job is not None
        return (busy and self._path) or self.registry.just_trained or self.view.start.currentData(), busy

    def _begin(self, resume: Path | None, same: bool = False) -> None:
        """Check what was chosen, read what was painted, then hand it to the engine.

        Parameters
        ----------
        resume : Path or None
            The run to go on with; None trains from the model that is chosen to start from.
        same : bool
            Whether the user takes it for the same training: another round, for paint that came late.
        """
        self.view.messages.clear_messages()
        start = str(resume / "model") if resume else self.view.start.currentData()
        try:
            self.annotating.check()
            image, axes, planes = self._choice.chosen(), self._choice.axes(), self._planes(start)
            settings = with_values(self.view.simple.settings(), self.view.advanced.values())
            network = self.view.network.settings()
            read = self._reader(settings.mode)
        except UNetError as error:
            self.view.messages.say(str(error), "error")
            return
        if self.view.preview_box.isChecked():
            with painted_later(self.view):
                prepare_preview(self.viewer, image, axes)
        self._mode = settings.mode
        for painting in self.annotating.paintings():
            if painting.on:
                note_labels(painting.layer(), settings.mode)
        self._stopped = self._discarding = False
        self.view.set_busy(True)
        self.view.progress.wait("reading the annotation")

        def read_all() -> tuple[Gathered, TrainingSettings, tuple[int, ...]]:
            found = read()
            chosen = replace(settings, background_label=found.background)
            return found, chosen, class_values(found.images, chosen) if chosen.mode == "classes" else ()

        def submit(found: Gathered, chosen: TrainingSettings, kinds: tuple[int, ...]) -> None:
            from ..runtime.engine import TrainRequest

            job = self.engine.train(TrainRequest(found.images, chosen, network, start, image.name, str(resume or "")))
            self._same = same
            if not same:
                self.rounds.begin(self.registry.just_trained)
            self._follow(job, image, planes, axes, found.background, bool(resume), kinds)

        self._reading.run(read_all, lambda got: submit(*got), self._fail_early)

    def _planes(self, start: str) -> Planes:
        """Return the chosen image, in grey where the model to start from asks for it."""
        planes = self._choice.planes()
        # Other numbers of channels are fine here: the first layer is fitted to them when training starts.
        self._grey = start != SCRATCH and planes.rgb and read_card(start).channels == 1
        return planes.as_grey() if self._grey else planes

    def _reader(self, mode: str, background: int | None = None) -> Callable[[], Gathered]:
        """Return what reads everything that takes part, for another thread; raise when it does not fit together."""
        labels = self.view.annotation.layer()
        if labels is not None and painting_of(labels) is None:
            check_labels_fit(self._choice.chosen(), self._choice.axes(), labels)
        sources, earlier = self.annotating.sources(self._grey), self.annotating.runs()
        if self.annotating.ignored_shapes():
            self.view.messages.say(
                f"{count(self.annotating.ignored_shapes(), 'shape')} among the complete regions is no upright box and "
                "does not count; draw rectangles.", "warning",
            )  # fmt: skip

        def read() -> Gathered:
            found = gather(sources, earlier, mode, background)
            nothing_painted(found, [source.name for source in sources])
            return found

        return read

    def _fail_early(self, message: str) -> None:
        self.view.set_busy(False)
        self.view.messages.say(message, "error")

    def _follow(
        self,
        job: EngineJob,
        image: Image,
        planes: Planes,
        axes: str,
        background: int,
        goes_on: bool,
        kinds: tuple[int, ...] = (),
    ) -> None:
        """Show what a training says; ``kinds`` are the labels of the kinds of cell that it learns, if any."""
        self.job = job
        self._path = ""
        if goes_on:
            self.view.plot.go_on()
        else:
            self.view.plot.reset()
            self.view.clear_score()
        self.view.progress.wait("starting")
        self.feeder = PreviewFeeder(self.viewer, image, planes, axes, job, kinds)
        self.feeder.on = self.view.preview_box.isChecked()
        self.live = LivePaint(job, partial(self._read_live, background))
        self.live.on = self.view.live_box.isChecked()
        self.live.failed.connect(lambda message: self.view.messages.say(message, "warning"))
        connect_job(job, self._on_event, self._on_failed, self._on_done)

    def _read_live(self, background: int) -> Callable[[], tuple[AnnotatedImage, ...]]:
        """Return what reads the annotation as it is now, for the training under way."""
        read = self._reader(self._mode, background)
        return lambda: read().images

    def _stop(self) -> None:
        self._stopped = True
        if self.job is None:
            self._reading.forget()
            self.view.set_busy(False)
            return
        self.view.progress.wait("stopping")
        self.job.stop()

    def _discard(self) -> None:
        """Go back to the model before this training, which is stopped first."""
        if not self.view.busy:
            self._go_back()
            return
        # While the annotation is still being read there is nothing to go back from.
        self._discarding = self.job is not None
        self._stop()

    def _go_back(self) -> None:
        before = self._restore()
        if before is not None:
            start = self.view.start.currentText()
            model = "the model trained before it" if before.model else f"the model to start from, {start}"
            self.view.messages.clear_messages()
            self.view.messages.say(f"Discarded. What counts now is {model}.", "done")
        self.view.plot.reset()
        self.view.clear_score()
        self.view.set_continuable(self.rounds.can_go_on())

    def _restore(self) -> Before | None:
        """Offer again what there was before the last training, if there was one."""
        before = self.rounds.take_back()
        if before is not None:
            self.registry.set_just_trained(before.model)
        return before

    def _toggle_preview(self, on: bool) -> None:
        if self.feeder is not None:
            self.feeder.set_on(on)

    # --- what the training says -----------------------------------------------------------------

    def _on_event(self, event: Any) -> None:
        match event:
            case events.Started():
                self._on_started(event)
            case events.StepDone():
                self._on_step(event)
            case events.Validated():
                self._on_validated(event)
            case events.AnnotationsUpdated():
                self._on_annotations(event)
            case events.Preview():
                self._on_preview(event)
            case events.Fallback():
                self.view.messages.say(event.message, "warning")
            case events.CheckpointSaved():
                self._on_checkpoint(event)
            case events.Finished():
                self._on_finished(event)

    def _on_started(self, event: events.Started) -> None:
        self.view.progress.wait(f"training on {kind_of_device(event.device)}")
        if self.feeder is not None:
            self.feeder.start()
        for text in event.notes:
            self.view.messages.say(text)

    def _on_step(self, event: events.StepDone) -> None:
        self.checking.note_step(event.elapsed)
        self.view.plot.add_step(event.elapsed, event.loss)
        total = event.elapsed + event.remaining if event.remaining is not None else None
        if total:
            self.view.progress.advance(event.elapsed / total, f"step {event.step}, {time_left(event.remaining)}")
        else:
            self.view.progress.wait(f"step {event.step}, {event.elapsed:.0f} s")

    def _on_validated(self, event: events.Validated) -> None:
        self.view.plot.add_validation(event.elapsed, event.loss, event.f1, event.iou, event.best)
        self.view.show_score(event.f1, event.iou, event.step, event.best)

    def _on_annotations(self, event: events.AnnotationsUpdated) -> None:
        if self.live is not None:
            self.live.note_joined(event.paint)
        self.view.plot.mark_paint(event.elapsed)
        self.view.show_joined(event.cells, event.planes)

    def _on_preview(self, event: events.Preview) -> None:
        if self.feeder is not None:
            self.feeder.show(event)

    def _on_checkpoint(self, event: events.CheckpointSaved) -> None:
        # Kept on disk, so it outlives a crash of the engine.
        if event.best or not self._path:
            self._path = event.path

    def _on_finished(self, event: events.Finished) -> None:
        self._path = event.path or self._path
        steps = f"Trained to step {event.step} in {event.elapsed:.0f} s."
        self.view.messages.clear_notes()
        self.view.messages.say(f"{event.message or steps} The Segment dock offers it as Just trained.", "done")

    def _on_failed(self, message: str) -> None:
        self._stopped = True
        self.view.messages.say(message, "error")

    def _follow_no_more(self) -> None:
        for part in (self.feeder, self.live):
            if part is not None:
                part.close()
        self.feeder = self.live = None

    def _on_done(self) -> None:
        """Offer what was learnt, however the training ended; go on when there is paint that it has not seen."""
        behind = self.live is not None and self.live.on and self.live.behind
        self._follow_no_more()
        job, self.job = self.job, None
        if job is not None:
            self._take(job)
        self.view.set_continuable(self.rounds.can_go_on())
        self.view.set_busy(False)
        if self._discarding:
            self._go_back()
        elif behind and self._path and not self._stopped:
            self._begin(self.rounds.run, same=True)

    def _take(self, job: EngineJob) -> None:
        """Offer the model of a training, and to go on with it; one without a model leaves all as it was before."""
        if self._path and job.folder is not None:
            self.rounds.run = job.folder
            self.registry.set_just_trained(self._path)
        elif not (self._discarding or self._same):
            self.rounds.take_back()

    def _on_engine(self, state: str) -> None:
        self.view.show_engine(state)

    def _save(self, name: str) -> None:
        try:
            path = self.registry.save(self.registry.just_trained, name)
        except UNetError as error:
            self.view.messages.say(str(error), "error")
            return
        self.view.messages.say(f"Saved as {name.strip()} in {path}.", "done")
