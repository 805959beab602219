"""The dock that segments a folder of pictures: connects its view with the files, the engine and the viewer."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.errors import DataError, UNetError
from ...core.network.model_card import read_card
from ...core.settings import PredictionSettings, validate, with_values
from ...records.replay import pictures_in, read_labels, stem_of
from ..layers.reading import OURS
from ..layers.zarr_result import LabelStore, shown
from ..models.selector import ModelChoice
from ..runtime.requests import FileRequest
from ..runtime.worker_thread import WorkerThread
from ..widgets.common import time_left
from .batch_queue import Batch, BatchFile
from .batch_view import DONE, FAILED, SKIPPED, BatchView

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from ..runtime.engine import Engine


class BatchController:
    """What happens when something is clicked in a :class:`BatchView`.

    Parameters
    ----------
    viewer : ViewerModel
        Where results are opened.
    view : BatchView
        The widgets.
    engine : Engine
        Computes, in another process.
    """

    def __init__(self, viewer: ViewerModel, view: BatchView, engine: Engine) -> None:
        self.viewer, self.view, self.engine = viewer, view, engine
        self.models, self.batch = ModelChoice(view), Batch(engine)
        self.registry = self.models.registry
        self._sources: list[Path] = []
        self._opening = WorkerThread()
        self._open: dict[str, list[weakref.ref[Any]]] = {}
        self._own_place = ""
        view.run.connect(self._run)
        view.stop.connect(self._stop)
        view.source_changed.connect(self._on_source)
        view.place_changed.connect(lambda _: self._show_files())
        view.opened.connect(self._open_one)
        view.chosen.connect(self._on_chosen)
        self.batch.changed.connect(self._on_file)
        self.batch.advanced.connect(self._on_advanced)
        self.batch.noted.connect(view.messages.say)
        self.batch.ended.connect(self._on_ended)

    def close(self) -> None:
        """Stop, and let go of the shelf; results that are written stay."""
        self.batch.close()
        self._opening.forget()
        self.models.close()

    # --- what to do -----------------------------------------------------------------------------

    def _on_source(self, folder: str) -> None:
        """List the pictures of a folder, and name a folder for their results beside it."""
        self.view.messages.clear_messages()
        self._sources = []
        if folder:
            try:
                self._sources = pictures_in(Path(folder))
                source = Path(folder)
                if self.view.place.text() in ("", self._own_place):
                    self._own_place = str(source.with_name(f"{source.name}-labels"))
                    self.view.place.show_text(self._own_place)
            except UNetError as error:
                self.view.messages.say(str(error), "error")
        self._show_files()

    def _show_files(self) -> None:
        """Show all files as they are before a batch."""
        if self.batch.running:
            return
        self.batch.files = self._files()
        self.view.files.show_files([file.source.name for file in self.batch.files])
        for index, file in enumerate(self.batch.files):
            self.view.files.show_state(index, file.state, file.words)

    def _files(self) -> list[BatchFile]:
        """Return the files with the places of their results; those with a result are marked."""
        place, ending = Path(self.view.place.text() or "."), self.view.ending.currentData()
        files = [BatchFile(path, place / f"{stem_of(path)}{ending}") for path in self._sources]
        for file in files:
            if self.view.place.text() and file.output.exists():
                file.state, file.words = SKIPPED, "there already"
        return files

    # --- running --------------------------------------------------------------------------------

    def _run(self) -> None:
        """Check what was chosen, and begin."""
        self.view.messages.clear_messages()
        try:
            if self.view.source.text() and not self._sources:
                self._on_source(self.view.source.text())
            if not self._sources:
                raise DataError("There are no pictures; choose a folder with some.")
            if not self.view.place.text():
                raise DataError("Choose a folder for the results under Save to.")
            settings = validate(with_values(PredictionSettings(), self.view.values()))
            model = self.view.model.currentData()
            chosen = read_card(model).prediction
        except UNetError as error:
            self.view.messages.say(str(error), "error")
            return
        overwrite = self.view.replace.isChecked()
        request = FileRequest("", "", model, settings, self.view.axes.currentData(), overwrite)
        self.view.files.show_files([path.name for path in self._sources])
        self.view.set_busy(True)
        self.view.progress.wait("starting")
        files = [BatchFile(file.source, file.output) for file in self._files()]
        for index, file in enumerate(files):
            self.view.files.show_state(index, file.state, file.words)
        self.batch.begin(files, request, chosen)

    def _stop(self) -> None:
        self.view.progress.wait("stopping")
        self.batch.stop()

    def _on_file(self, index: int) -> None:
        file = self.batch.files[index]
        self.view.files.show_state(index, file.state, file.words)

    def _on_advanced(self, share: float, left: float | None) -> None:
        number = sum(file.state in (DONE, FAILED, SKIPPED) for file in self.batch.files)
        words = [f"{number} of {len(self.batch.files)} files", time_left(left)]
        self.view.progress.advance(share, ", ".join(filter(None, words)))

    def _on_ended(self, reason: str) -> None:
        """Say what has become of all of them; what is worth knowing of single ones is said when they are clicked."""
        self.view.set_busy(False)
        self.view.messages.clear_notes()
        states = [file.state for file in self.batch.files]
        parts = [f"{states.count(DONE)} of {len(states)} pictures segmented"]
        parts += [f"{states.count(SKIPPED)} were there already"] if SKIPPED in states else []
        parts += [f"{states.count(FAILED)} could not be, see the list"] if FAILED in states else []
        kind = "warning" if reason or FAILED in states else "done"
        self.view.messages.say(f"{reason + '; ' if reason else ''}{', '.join(parts)}.", kind)
        self.view.messages.say(f"Results are in {self.view.place.text()}. Double-click a line to look at one.", "done")

    def _on_chosen(self, index: int) -> None:
        """Say in full why a file could not be segmented, or how it was, which its line has no room for."""
        file = self.batch.files[index]
        if not self.batch.running:
            self.view.messages.clear_notes()
        for note in file.notes:
            self.view.messages.say(f"{file.source.name}: {note}")
        if file.state == FAILED:
            self.view.messages.say(f"{file.source.name}: {file.words}", "error")

    # --- looking at results -----------------------------------------------------------------------

    def _open_one(self, index: int) -> None:
        """Open a picture with its result, or show them when they are open."""
        file = self.batch.files[index]
        known = [ref() for ref in self._open.get(str(file.source), [])]
        if known and all(layer is not None and layer in self.viewer.layers for layer in known):
            self._show_only(known)
            return
        try:
            layers = list(self.viewer.open(str(file.source), plugin="napari"))
        except Exception as error:
            # Readers raise most kinds of exceptions.
            self.view.messages.say(f"{file.source.name} cannot be opened: {error}", "error")
            return
        self._open[str(file.source)] = [weakref.ref(layer) for layer in layers]
        self._show_only(layers)
        if file.output.exists():
            self._opening.run(
                lambda: read_labels(file.output), lambda found: self._add_labels(file, found, layers),
                lambda message: self.view.messages.say(message, "error"),
            )  # fmt: skip

    def _show_only(self, layers: list[Any]) -> None:
        """Show these layers, and hide those of the other files."""
        for ref in (ref for refs in self._open.values() for ref in refs):
            if (other := ref()) is not None:
                other.visible = other in layers
        self.viewer.reset_view()

    def _add_labels(self, file: BatchFile, found: Any, layers: list[Any]) -> None:
        """Add the labels of a file on top of its picture."""
        store, axes = LabelStore(str(file.output), str(file.output), found.axes), found.axes
        data = shown(store, axes, False) if found.values is None else found.values
        about = {
            "name": f"{layers[0].name} result", "metadata": {OURS: {"axes": axes, "result": "instances"}},
            "multiscale": isinstance(data, list), "opacity": 0.6,
        }  # fmt: skip
        add = self.viewer.add_image if found.is_image else self.viewer.add_labels
        if layers[0].ndim == len(axes):
            about["scale"] = layers[0].scale
        self._open[str(file.source)].append(weakref.ref(add(data, **about)))
