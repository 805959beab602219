"""The Annotate and train dock: connects its view with layers, the engine and the shelf of models."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QSize
from qtpy.QtWidgets import QVBoxLayout, QWidget

from ..core import events
from ..core.annotation import AnnotatedImage
from ..core.arrays import Planes
from ..core.card import read_card
from ..core.errors import DataError, UNetError
from ..core.settings import TrainingSettings, with_values
from .annotate import background_label, new_annotation, select_background, select_next_cell
from .background import Background
from .choosers import SCRATCH, ImageChoice, is_painting, labels_of
from .docking import EngineUse, ThemeWatch, abandon_job, connect_job, disconnect_from, own_viewer
from .layers import check_labels_fit, collect, full_data
from .models import ModelEntry, Shelf
from .parts import DOCK_WIDTH, scrolled, time_left
from .preview import PreviewFeeder, prepare_preview
from .train_view import TrainView

if TYPE_CHECKING:
    import napari
    from napari.components import ViewerModel
    from napari.layers import Image, Labels

    from .runner import Engine, Job


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
        self.shelf = Shelf.shared()
        self.job: Job | None = None
        self.feeder: PreviewFeeder | None = None
        self._reading = Background()
        self._choice = ImageChoice(viewer, view.images, self._on_layers)
        view.annotation.layer_changed.connect(self._show_annotation)
        view.new_annotation.connect(self._new_annotation)
        view.paint_background.connect(partial(self._with_annotation, select_background))
        view.paint_next_cell.connect(partial(self._with_annotation, select_next_cell))
        view.train.connect(self._train)
        view.stop.connect(self._stop)
        view.save.connect(self._save)
        view.preview_toggled.connect(self._toggle_preview)
        self.shelf.changed.connect(self._show_models)
        self.engine.state_changed.connect(self._on_engine)
        self._show_models()
        self._choice.follow()

    def close(self) -> None:
        """Stop training and let go of viewer and shelf; the best model so far stays in the run's folder."""
        self._reading.forget()
        abandon_job(self.job)
        if self.feeder is not None:
            self.feeder.close()
        self._choice.close()
        disconnect_from(self.shelf, "changed", self._show_models)
        disconnect_from(self.engine, "state_changed", self._on_engine)

    # --- annotation -----------------------------------------------------------------------------

    def _on_layers(self) -> None:
        self.view.annotation.show_layers(labels_of(self.viewer), likely=is_painting)
        self.view.new_button.setEnabled(self._choice.image() is not None)
        self._show_annotation()

    def _show_annotation(self) -> None:
        layer = self.view.annotation.layer()
        self.view.set_annotating(layer is not None, background_label(layer))

    def _new_annotation(self) -> None:
        image = self._choice.image()
        if image is None:
            return
        try:
            if self.view.preview_box.isChecked():
                # Now, because adding a layer holds up the viewer longer than anything while training may.
                prepare_preview(self.viewer, image, self._choice.axes())
            layer = new_annotation(self.viewer, image, self._choice.axes())
        except UNetError as error:
            self.view.messages.say(str(error), "error")
            return
        self.view.annotation.choose(layer)

    def _with_annotation(self, action: Any) -> None:
        """Do something with the annotation layer, after bringing it to the front for painting."""
        layer = self.view.annotation.layer()
        if layer is not None:
            self.viewer.layers.selection.active = layer
            action(layer)

    # --- training -------------------------------------------------------------------------------

    def _show_models(self) -> None:
        self.view.start.show_models([*self.shelf.entries(), ModelEntry("Scratch (a new network)", SCRATCH)])
        self.view.set_model_ready(bool(self.shelf.just_trained))

    def _train(self) -> None:
        """Check what was chosen, read what was painted, then hand it to the engine."""
        self.view.messages.clear_messages()
        try:
            labels = self._labels()
            planes, axes = self._planes(), self._choice.axes()
            image = self._choice.chosen()
            check_labels_fit(image, axes, labels)
            settings = self._settings(labels)
            network = self.view.network.settings()
        except UNetError as error:
            self.view.messages.say(str(error), "error")
            return
        start, name = self.view.start.currentData(), labels.name
        if self.view.preview_box.isChecked():
            prepare_preview(self.viewer, image, axes)
        self.view.set_busy(True)
        self.view.progress.wait("reading the annotation")

        def submit(images: tuple[AnnotatedImage, ...]) -> None:
            from .runner import TrainRequest

            request = TrainRequest(images=images, settings=settings, network=network, start=start, name=image.name)
            self._follow(self.engine.train(request), image, planes, axes)

        self._reading.run(partial(collect, planes, full_data(labels), axes, name), submit, self._fail_early)

    def _labels(self) -> Labels:
        layer = self.view.annotation.layer()
        if layer is None:
            raise DataError("There is no annotation; click New annotation and paint a few cells, and some background.")
        return layer

    def _planes(self) -> Planes:
        """Return the chosen image, in grey where the model to start from asks for it."""
        planes, start = self._choice.planes(), self.view.start.currentData()
        # Other numbers of channels are fine here: the first layer is fitted to them when training starts.
        grey = start != SCRATCH and planes.rgb and read_card(start).channels == 1
        return planes.as_grey() if grey else planes

    def _settings(self, labels: Labels) -> TrainingSettings:
        settings = with_values(self.view.simple.settings(), self.view.advanced.values())
        return replace(settings, background_label=background_label(labels))

    def _fail_early(self, message: str) -> None:
        self.view.set_busy(False)
        self.view.messages.say(message, "error")

    def _follow(self, job: Job, image: Image, planes: Planes, axes: str) -> None:
        """Show what a training says."""
        self.job = job
        self._path = ""
        self.view.plot.reset()
        self.view.progress.wait("starting")
        self.feeder = PreviewFeeder(self.viewer, image, planes, axes, job)
        self.feeder.on = self.view.preview_box.isChecked()
        connect_job(job, self._on_event, self._on_failed, self._on_done)

    def _stop(self) -> None:
        if self.job is None:
            self._reading.forget()
            self.view.set_busy(False)
            return
        self.view.progress.wait("stopping")
        self.job.stop()

    def _toggle_preview(self, on: bool) -> None:
        if self.feeder is not None:
            self.feeder.set_on(on)

    # --- what the training says -----------------------------------------------------------------

    def _on_event(self, event: Any) -> None:
        kind = type(event).__name__
        handler = getattr(self, f"_on_{kind.lower()}", None)
        if handler is not None:
            handler(event)

    def _on_started(self, event: events.Started) -> None:
        self.view.progress.wait(f"training on {event.device}")
        if self.feeder is not None:
            self.feeder.start()
        for text in event.notes:
            self.view.messages.say(text)

    def _on_stepdone(self, event: events.StepDone) -> None:
        self.view.plot.add_step(event.elapsed, event.loss)
        total = event.elapsed + event.remaining if event.remaining is not None else None
        if total:
            self.view.progress.advance(event.elapsed / total, f"step {event.step}, {time_left(event.remaining)}")
        else:
            self.view.progress.wait(f"step {event.step}, {event.elapsed:.0f} s")

    def _on_validated(self, event: events.Validated) -> None:
        self.view.plot.add_validation(event.elapsed, event.loss, event.best)
        if event.best:
            self.view.show_score(event.f1, event.iou, event.step)

    def _on_preview(self, event: events.Preview) -> None:
        if self.feeder is not None:
            self.feeder.show(event)

    def _on_adapted(self, event: events.Adapted) -> None:
        self.view.messages.say(event.message, "warning")

    def _on_checkpointsaved(self, event: events.CheckpointSaved) -> None:
        # Kept on disk, so it outlives a crash of the engine.
        if event.best or not self._path:
            self._path = event.path

    def _on_finished(self, event: events.Finished) -> None:
        self._path = event.path or self._path
        steps = f"Trained to step {event.step} in {event.elapsed:.0f} s."
        self.view.messages.say(f"{event.message or steps} The Segment dock offers it as Just trained.", "done")

    def _on_failed(self, message: str) -> None:
        self.view.messages.say(message, "error")

    def _on_done(self) -> None:
        """Offer what was learnt, however the training ended."""
        if self.feeder is not None:
            self.feeder.close()
        self.job = self.feeder = None
        self.view.set_busy(False)
        if self._path:
            self.shelf.set_just_trained(self._path)

    def _on_engine(self, state: str) -> None:
        self.view.show_engine(state)

    def _save(self, name: str) -> None:
        try:
            path = self.shelf.save(self.shelf.just_trained, name)
        except UNetError as error:
            self.view.messages.say(str(error), "error")
            return
        self.view.messages.say(f"Saved as {name.strip()} in {path}.", "done")


class TrainDock(QWidget):
    """The dock: paint a few cells, watch a U-Net learn them.

    Parameters
    ----------
    napari_viewer : napari.Viewer
        Where the layers are.
    """

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__()
        viewer = own_viewer(napari_viewer)
        self.view = TrainView()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(scrolled(self.view))
        self._use = EngineUse(self)
        self.controller = TrainController(viewer, self.view, self._use.engine)
        self._theme = ThemeWatch(viewer, self.view.set_theme)
        self._use.on_close(self.controller.close)
        self._use.on_close(self._theme.close)

    def sizeHint(self) -> QSize:
        """Return a size that leaves the picture its room."""
        return QSize(DOCK_WIDTH, 700)
