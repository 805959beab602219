"""Painting: new annotations, regions, accepted cells, and the list of what takes part in a training."""

from __future__ import annotations

import weakref
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer, Signal

from ...core.errors import DataError, UNetError
from ..dock.lifecycle import painted_later
from ..layers.complete_regions import draw_regions, is_regions, read_regions, regions_of
from ..layers.painted import background_label, bind_keys, new_annotation
from ..layers.preview import prepare_preview
from ..layers.reading import OURS, current_plane, data_shape, guess_axes, label_shape, note
from ..layers.review_state import teaching
from ..layers.zarr_result import has_large_planes
from ..runtime.worker_thread import WorkerThread
from ..settings.preferences import current
from ..settings.shortcuts import KeyBindings
from ..widgets.layer_selectors import ImageChoice, is_painting, labels_of
from .accept import accept_cell
from .reviewed_cells import checked_source
from .sources import (  # fmt: skip
    EarlierRun,
    Painting,
    Source,
    Tally,
    count,
    earlier_images,
    looks_complete,
    painting_of,
    paintings_in,
    pair,
    recent_runs,
    run_name,
    source_of,
    tally,
)
from .sources_list import SourceRow

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels, Layer

    from .view import TrainView

_AFTER_STROKE_MS = 500
Counts = dict[tuple[int, ...], int]
"""Cells by plane, see :meth:`~napari_unet.plugin.train.sources.Source.counts`."""


class Annotating(QObject):
    """The painting half of the train dock.

    Attributes
    ----------
    touched : Signal()
        Something that takes part in training has changed: paint, a region, or a tick.

    Parameters
    ----------
    viewer : ViewerModel
        Whose layers are annotated.
    view : TrainView
        The widgets.
    choice : ImageChoice
        The chosen image.
    """

    touched = Signal()

    def __init__(self, viewer: ViewerModel, view: TrainView, choice: ImageChoice) -> None:
        super().__init__()
        self.viewer, self.view, self.choice = viewer, view, choice
        self.earlier: list[EarlierRun] = []
        self._counting = WorkerThread()
        self._counted: dict[Any, Counts] = {}
        self._stale: dict[Any, set[tuple[int, ...]]] = {}
        self._under_way: dict[Any, set[tuple[int, ...]]] = {}
        self._watched: list[tuple[Any, Any]] = []
        self._closed = False
        self._timer = QTimer(self, singleShot=True, interval=_AFTER_STROKE_MS)
        self._timer.timeout.connect(self._count)
        self._keys = KeyBindings(
            viewer, {"key_box": lambda _: self.draw_region(), "key_accept_cell": lambda _: self.accept()}
        )
        view.annotation.layer_changed.connect(self._on_choice)
        view.new_annotation.connect(self.new_annotation)
        view.draw_region.connect(self.draw_region)
        view.complete_toggled.connect(self._set_complete)
        view.kinds_changed.connect(self.touch)
        view.takes_part.ticked.connect(self._tick)
        view.takes_part.earlier_asked.connect(lambda: view.takes_part.show_earlier(recent_runs()))
        view.takes_part.earlier_chosen.connect(self.add_earlier)

    def close(self) -> None:
        """Let go of keys and layers."""
        self._closed = True
        self._timer.stop()
        self._counting.forget()
        self._keys.close()
        self._unwatch()

    # --- the annotation that is painted on ------------------------------------------------------

    def on_layers(self) -> None:
        """Follow the viewer's layers."""
        self.view.annotation.show_layers(labels_of(self.viewer), likely=is_painting)
        self.view.new_button.setEnabled(self.choice.image() is not None)
        self._on_choice()

    def layer(self) -> Labels:
        """Return the chosen annotation.

        Raises
        ------
        DataError
            When there is none.
        """
        layer = self.view.annotation.layer()
        if layer is None:
            raise DataError("There is no annotation; click New annotation and paint a few cells, and some background.")
        return layer

    def check(self) -> None:
        """Raise a :class:`DataError` when nothing is there to learn from: neither paint nor checked cells."""
        image = self.choice.image()
        if image is None or not teaching(image):
            self.layer()

    def new_annotation(self) -> None:
        """Add a layer to paint on."""
        image = self.choice.image()
        if image is None:
            return
        try:
            with painted_later(self.view, self._prepare_preview):
                layer = new_annotation(self.viewer, image, self.choice.axes())
                self.view.annotation.choose(layer)
        except UNetError as error:
            self.view.messages.say(str(error), "error")

    def _prepare_preview(self) -> None:
        """Add the preview, which no training then has to add while the user paints."""
        image = self.choice.image() if not self._closed else None
        if image is not None and self.view.preview_box.isChecked():
            with painted_later(self.view):
                prepare_preview(self.viewer, image, self.choice.axes())

    def _on_choice(self) -> None:
        """Show the chosen annotation; from now on it belongs to the chosen picture, if it fits."""
        layer, image = self.view.annotation.layer(), self.choice.image()
        if layer is not None and image is not None and self._fits(layer):
            fresh = painting_of(layer) is None
            painting = pair(layer, self.choice.layers(), self.choice.axes())
            if fresh:
                bind_keys(layer)
                plane = current_plane(self.viewer, image, painting.axes)
                painting.complete = looks_complete(layer, plane, painting.axes)
        for painting in self.paintings():
            if not background_label(painting.layer()) and not painting.asked:
                painting.on = painting.layer() is layer
        self._watch()
        self._show()
        self._timer.start(0)

    def _fits(self, layer: Labels) -> bool:
        """Return whether an annotation is for the chosen picture and no other."""
        known = painting_of(layer)
        image = self.choice.chosen()
        if known is not None and known.is_in(self.viewer) and image not in known.pictures():
            return False
        return label_shape(image, self.choice.axes()) == data_shape(layer)

    def _show(self) -> None:
        layer = self.view.annotation.layer()
        painting = painting_of(layer) if layer is not None else None
        self.view.set_annotating(layer is not None, background_label(layer), bool(painting and painting.complete))

    def _set_complete(self, complete: bool) -> None:
        layer = self.view.annotation.layer()
        painting = painting_of(layer) if layer is not None else None
        if painting is not None:
            painting.complete = complete
            self.touch()

    # --- regions and accepted cells -------------------------------------------------------------

    def draw_region(self) -> None:
        """Have a box drawn inside which unpainted means background."""
        try:
            labels = self.layer()
            with painted_later(self.view):
                draw_regions(self.viewer, labels, self._axes(labels))
        except UNetError as error:
            self.view.messages.say(str(error), "error")
            return
        self._watch()
        self.view.messages.say(
            "Drag a box around cells that are all painted; inside it, unpainted is background. "
            f"{current().key_next_cell} and {current().key_background} paint on."
        )

    def _axes(self, labels: Labels) -> str:
        painting = painting_of(labels)
        axes = painting.axes if painting is not None else self.choice.axes()
        # Labels may be there before their picture, or beside one of another kind.
        return axes if len(axes) == labels.ndim else guess_axes(labels)

    def accept(self) -> None:
        """Take over the predicted cell under the cursor."""
        try:
            labels = self.layer()
            accept_cell(self.viewer, labels, self._axes(labels))
        except UNetError as error:
            self.view.messages.clear_messages()
            self.view.messages.say(str(error), "warning")

    # --- what takes part ------------------------------------------------------------------------

    def paintings(self) -> list[Painting]:
        """Return the annotations of the viewer, in the order of the list."""
        return paintings_in(self.viewer)

    def sources(self, grey: bool) -> list[Source]:
        """Return what to read of the annotations that are switched on; see :func:`source_of` for errors."""
        paintings = [painting for painting in self.paintings() if painting.on]
        found = [source_of(self.viewer, painting, grey) for painting in paintings]
        image = self.choice.image()
        painted = any(image in painting.pictures() for painting in paintings)
        if image is not None and (not painted or has_large_planes(image, self.choice.axes())):
            planes = self.choice.planes()
            alone = checked_source(image, planes.as_grey() if grey and planes.rgb else planes, self.choice.axes())
            found += [alone] if alone is not None else []
        return found

    def runs(self) -> list[Path]:
        """Return the earlier runs that are switched on."""
        return [run.folder for run in self.earlier if run.on]

    def ignored_shapes(self) -> int:
        """Return the number of shapes among the regions that are no upright boxes."""
        return sum(
            read_regions(regions_of(self.viewer, p.layer()), p.layer(), p.axes).ignored
            for p in self.paintings()
            if p.on
        )

    def add_earlier(self, folder: str, on: bool = True) -> None:
        """Add what an earlier training learnt from."""
        if Path(folder) not in [run.folder for run in self.earlier]:
            self.earlier.append(EarlierRun(Path(folder), on))
        self.touch()

    def _tick(self, row: int, on: bool) -> None:
        paintings = self.paintings()
        if row < len(paintings):
            paintings[row].on, paintings[row].asked = on, True
        elif row - len(paintings) < len(self.earlier):
            self.earlier[row - len(paintings)].on = on
        self.touch()

    def _watch(self) -> None:
        """Notice strokes and boxes on everything that takes part."""
        layers: list[Layer] = [painting.layer() for painting in self.paintings()]
        layers += [layer for layer in self.viewer.layers if is_regions(layer)]
        if layers == list(dict.fromkeys(layer for layer, _ in self._watched)):
            return
        self._unwatch()
        for layer in layers:
            events = [layer.events.data] if is_regions(layer) else [layer.events.labels_update, layer.events.data]
            for event in events:
                event.connect(self._on_change)
                self._watched.append((layer, event))
            if not is_regions(layer):
                layer.events.set_data.connect(self._on_drawn)

    def _unwatch(self) -> None:
        for _, event in self._watched:
            event.disconnect(self._on_change)
        for layer in {layer for layer, _ in self._watched if not is_regions(layer)}:
            layer.events.set_data.disconnect(self._on_drawn)
        self._watched = []

    def _on_change(self, event: Any) -> None:
        """Note which plane was painted, so that no other has to be counted again."""
        layer = event.source
        painting = None if is_regions(layer) else painting_of(layer)
        if painting is not None and event.type == "labels_update" and layer.n_edit_dimensions == 2:
            plane = current_plane(self.viewer, layer, painting.axes)
            self._stale.setdefault(painting.labels, set()).add(plane)
        elif painting is not None:
            self._counted.pop(painting.labels, None)
        self._soon()

    def _on_drawn(self, event: Any) -> None:
        """Notice undo and redo, of which napari tells nothing but that the layer is drawn anew."""
        layer = event.source
        undone = len(getattr(layer, "_redo_history", ()))
        known = note(layer).get("undone", 0)
        if undone == known:
            return
        layer.metadata.setdefault(OURS, {})["undone"] = undone
        # Another plane on screen empties the history, which changes no paint.
        if undone or len(getattr(layer, "_undo_history", ())):
            self._counted.pop(weakref.ref(layer), None)
            self._soon()

    def touch(self) -> None:
        """Note that anything may have changed; the list is brought up to date a moment later."""
        self._counted.clear()
        self._soon()

    def _soon(self) -> None:
        self._timer.start(_AFTER_STROKE_MS)
        self.touched.emit()

    def _count(self) -> None:
        """Count planes and cells in a thread, where they may have changed, then show them."""
        try:
            sources = {p.labels: source_of(self.viewer, p, False) for p in self.paintings()}
        except UNetError:
            # Said when Train is clicked; until then the user is still choosing.
            sources = {}
        # What a count that is overtaken by this one was about, is counted now.
        for key, planes in self._stale.items():
            self._under_way.setdefault(key, set()).update(planes)
        self._stale = {}
        stale = {key: set(planes) for key, planes in self._under_way.items()}
        known, folders = dict(self._counted), [run.folder for run in self.earlier]

        def work() -> tuple[dict[Any, Counts], dict[Any, Tally], dict[Path, str]]:
            counts = {key: _recount(source, known.get(key), stale.get(key, set())) for key, source in sources.items()}
            tallies: dict[Any, Tally] = {key: source.tally(counts[key]) for key, source in sources.items()}
            tallies |= {folder: _earlier_tally(folder) for folder in folders}
            return counts, tallies, {folder: run_name(folder) for folder in folders}

        self._counting.run(
            work, lambda found: self._show_tallies(*found), lambda message: self.view.messages.say(message, "warning")
        )

    def _show_tallies(self, counts: dict[Any, Counts], tallies: dict[Any, Tally], earlier: dict[Path, str]) -> None:
        self._counted, self._under_way = counts, {}
        kinds = self.view.learns_kinds
        lines = [_line(p, tallies.get(p.labels, Tally()), kinds) for p in self.paintings()]
        for run in self.earlier:
            found = tallies.get(run.folder, Tally())
            words = f"Painted for the training in {run.folder}."
            cells = 0 if kinds else found.cells
            name = f"earlier: {earlier.get(run.folder, run.folder.name)}"
            lines.append(SourceRow(name, _amount(found, kinds), words, run.on, cells))
        self.view.takes_part.show_lines(lines)


def _recount(source: Source, known: Counts | None, stale: set[tuple[int, ...]]) -> Counts:
    """Return the cells by plane, counted only where they may have changed."""
    return source.counts() if known is None else {**known, **source.counts(stale)}


@lru_cache(maxsize=32)
def _earlier_tally(folder: Path) -> Tally:
    """Return how much an earlier training learnt from, which does not change any more."""
    return tally(*earlier_images(folder))


def _line(painting: Painting, found: Tally, kinds: bool) -> SourceRow:
    """Return the list's line of one annotation."""
    layer = painting.layer()
    pictures = " + ".join(image.name for image in painting.pictures())
    words = _amount(found, kinds) + (", every cell painted" if painting.complete and found.planes else "")
    return SourceRow(layer.name, words, f"Painted on {pictures}.", painting.on, 0 if kinds else found.cells)


def _amount(found: Tally, kinds: bool) -> str:
    """Return how much there is; how many cells each kind has is not known, as they share a label."""
    if not (kinds and found.planes):
        return found.words()
    boxes = [count(found.regions, "complete box", "es")] if found.regions else []
    return ", ".join([count(found.planes, "plane"), *boxes])
