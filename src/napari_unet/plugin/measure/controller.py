"""The Measure dock: connects its view with layers, tables and comparisons."""

from __future__ import annotations

import weakref
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QTableView

from ...core.data.arrays import Planes
from ...core.errors import DataError, UNetError
from ...core.evaluation.comparison import POOR, CellScore
from ...core.evaluation.measurements import Scale, write_csv
from ...records.report import called, write_report
from ..dock.lifecycle import painted_later
from ..layers.class_labels import holds_classes
from ..layers.connected_components import SPLIT, SPLIT_DONE, ComponentSplitter, can_split, classes_found
from ..layers.errors_found import ErrorsLayer
from ..layers.navigation import go_to
from ..layers.painted import background_label
from ..layers.reading import data_shape, empty_array, full_data, guess_axes, label_shape, planes_of
from ..runtime.gc_pause import Hold
from ..runtime.worker_thread import WorkerThread
from ..widgets.common import count
from ..widgets.layer_selectors import ImageChoice, LayerCombo, is_painting, labels_of
from .compute import (  # fmt: skip
    UNNAMED_UNIT,
    ComparisonInput,
    ComparisonResult,
    LayerMeasurements,
    Progress,
    build_report,
    channel_names,
    compare_layers,
    depth_of,
    measure_layer,
    pixel_scale,
    save_in_thread,
    trained_on_warning,
    with_classes,
)
from .view import COMPLETE, SPARSE, MeasureView

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels

_POLL_MS = 150
_TABLE = "Features table widget"
_ROWS_FOR_WIDTH = 10
"""Rows of the table that decide how wide its columns are."""


class MeasureController:
    """What happens when something is clicked in a :class:`MeasureView`.

    Parameters
    ----------
    viewer : Viewer
        Whose layers are measured.
    view : MeasureView
        The widgets.
    """

    def __init__(self, viewer: ViewerModel, view: MeasureView) -> None:
        self.viewer, self.view = viewer, view
        self.measured: LayerMeasurements | None = None
        self.result: ComparisonResult | None = None
        self._work = Progress()
        self._running = WorkerThread()
        self._saving = WorkerThread()
        self._compared: tuple[weakref.ref[Any], weakref.ref[Any], weakref.ref[Any] | None] | None = None
        self._warnings: list[str] = []
        self._splitter = ComponentSplitter(viewer, self._on_split, lambda words: view.messages.say(words, "error"))
        self._split_roles: list[LayerCombo] = []
        self._errors = ErrorsLayer(viewer)
        self._hold: Hold | None = None
        self._poll = QTimer(interval=_POLL_MS)
        self._poll.timeout.connect(self._show_progress)
        self._choice = ImageChoice(viewer, view.images, self._on_layers)
        view.cells.layer_changed.connect(self._on_cells)
        view.truth.layer_changed.connect(self._on_truth)
        view.cells_are.answered.connect(self._offer_split)
        view.truth_is.answered.connect(self._offer_split)
        view.split.connect(self._split)
        view.measure.connect(self._measure)
        view.compare.connect(self._compare)
        view.cancel.connect(self._cancel)
        view.show_table.connect(self._show_table)
        view.save_table.connect(self._save_table)
        view.save_report.connect(self._save_report)
        view.cell_chosen.connect(self._go_to)
        self._choice.follow()

    def close(self) -> None:
        """Stop, and let go of the viewer."""
        self._work.stopped = True
        self._running.forget()
        self._saving.forget()
        self._release()
        self._poll.stop()
        self._choice.close()
        self._splitter.close()

    # --- what there is --------------------------------------------------------------------------

    def _on_layers(self) -> None:
        found = labels_of(self.viewer)
        results = [layer for layer in found if not is_painting(layer)]
        # Without a result of this plugin, whatever is no annotation with background painted.
        meant = results or [layer for layer in found if not background_label(layer)]
        self.view.cells.show_layers(found, likely=lambda layer: layer in meant)
        cells = self.view.cells.layer()
        self.view.truth.show_layers([layer for layer in found if layer is not cells], likely=is_painting)
        self._on_truth()

    def _on_cells(self) -> None:
        """Drop the measurements of another layer, and do not offer the cells as ground truth."""
        self.measured = None
        self.view.set_measured("")
        self._on_layers()

    def _on_truth(self) -> None:
        truth = self.view.truth.layer()
        self.view.show_extent(SPARSE if truth is not None and background_label(truth) else COMPLETE)
        self._offer_split()

    # --- classes --------------------------------------------------------------------------------

    def _roles_to_split(self) -> list[LayerCombo]:
        """Return the selectors whose layers hold classes that can be split into cells."""
        return [role for role in (self.view.cells, self.view.truth) if can_split(role.layer())]

    def _offer_split(self) -> None:
        self.view.offer_split(bool(self._roles_to_split()))

    def _split(self) -> None:
        self._split_roles = self._roles_to_split()
        self.view.offer_split(False)
        self.view.messages.clear_messages()
        self._splitter.split([role.layer() for role in self._split_roles], keep_background=True)

    def _on_split(self, layers: list[Labels]) -> None:
        """Select the components in place of the classes; a layer deleted meanwhile leaves it unclear which is which."""
        if len(layers) == len(self._split_roles):
            for role, layer in zip(self._split_roles, layers, strict=True):
                role.choose(layer)
            self.view.messages.say(f"{SPLIT_DONE}. Measure or compare again.", "done")

    def _warn_of_classes(self, layer: Labels, follows: str) -> str:
        """Warn if a layer holds classes; return the warning."""
        if not holds_classes(layer):
            return ""
        words = f"{classes_found(layer)} {follows}"
        how = f" For single cells click {SPLIT}, then repeat this." if can_split(layer) else ""
        self.view.messages.say(words + how, "warning")
        return words

    def _cells(self) -> tuple[Any, str]:
        """Return the chosen cells and their axis letters, or raise a readable error."""
        cells = self.view.cells.layer()
        if cells is None:
            raise DataError("There are no cells yet; segment an image first, or open a Labels layer.")
        image = self._choice.image()
        fits = image is not None and label_shape(image, self._choice.axes()) == data_shape(cells)
        return cells, self._choice.axes() if fits else guess_axes(cells)

    def _image(self, cells: Any, axes: str) -> tuple[Planes | None, list[str]]:
        """Return the chosen image with the names of its channels; nothing when it is not of the cells."""
        image = self._choice.image()
        if image is None or label_shape(image, self._choice.axes()) != data_shape(cells):
            if image is not None:
                self.view.messages.say(
                    f"{image.name} has another size than {cells.name}, so grey values are left out.", "warning"
                )
            return None, []
        layers = self._choice.layers()
        planes = planes_of(layers, axes)
        return planes, channel_names(layers, planes)

    # --- measuring ------------------------------------------------------------------------------

    def _measure(self) -> None:
        self.view.messages.clear_messages()
        try:
            cells, axes = self._cells()
            image, names = self._image(cells, axes)
            scale, depth = pixel_scale(cells, axes), depth_of(cells, axes)
        except UNetError as error:
            self.view.messages.say(str(error), "error")
            return
        work = self._begin("measure", axes, data_shape(cells))
        labels = full_data(cells)
        self._running.run(
            partial(measure_layer, labels, axes, image, names, scale, work, depth, background_label(cells)),
            partial(self._on_measured, weakref.ref(cells), scale, work), self._fail,
        )  # fmt: skip

    def _on_measured(self, known: weakref.ref[Any], scale: Scale, work: Progress, found: LayerMeasurements) -> None:
        self._end()
        cells = known()
        if cells is None or work.stopped:
            self.view.messages.say("Cancelled; the table is as it was.", "warning")
            return
        self.measured = found = with_classes(found, cells.features)
        cells.features = found.features
        what, unit = (
            ("volume", f"{scale.unit}³") if f"volume_{scale.unit}³" in found.features else ("area", f"{scale.unit}²")
        )
        middle = np.median(found.features[f"{what}_{unit}"])
        things = count(len(found.features["index"]), *(("class", "es") if holds_classes(cells) else ("cell",)))
        self.view.set_measured(f"{things}, median {what} {middle:.4g} {unit}")
        self._explain(found, scale, cells)

    def _explain(self, found: LayerMeasurements, scale: Scale, cells: Any) -> None:
        """Explain the table."""
        self._warn_of_classes(cells, "Each row is one class.")
        if found.joined:
            self.view.messages.say("A cell that is in several planes has one row here, and one per plane in the file.")
        if found.repeated:
            self.view.messages.say(
                "Labels restart in each plane, so the same label is in several rows; the plane is beside it."
            )
        if scale.unit == UNNAMED_UNIT:
            self.view.messages.say(
                f"The scale of {cells.name} has no unit; lengths are in whatever its scale is in.", "warning"
            )
        if not scale.square:
            self.view.messages.say(
                f"Pixels are {scale.height:.4g} x {scale.width:.4g} {scale.unit} and not square, so perimeter and "
                "circularity are left out.", "warning"
            )  # fmt: skip

    def _show_table(self) -> None:
        """Open napari's table for the measured layer."""
        cells = self.view.cells.layer()
        try:
            # Nothing is selected while it opens, or it would look at every cell to find the width of its columns.
            self.viewer.layers.selection.clear()
            frame, _ = self.viewer.window.add_plugin_dock_widget("napari", _TABLE, tabify=False)
            for table in frame.findChildren(QTableView):
                table.horizontalHeader().setResizeContentsPrecision(_ROWS_FOR_WIDTH)
            # Below the picture, where a table has room for its columns.
            frame.window().addDockWidget(Qt.DockWidgetArea.BottomDockWidgetArea, frame)
        except (KeyError, ValueError):
            self.view.messages.say(
                "This napari has no table of features; save the table instead, or update napari.", "warning"
            )
        if cells is not None:
            self.viewer.layers.selection.active = cells

    def _save_table(self, path: str) -> None:
        if self.measured is not None:
            table = self.measured.table
            self._save(lambda: write_csv(table, path), path, f"{len(table['label'])} rows")

    # --- comparing ------------------------------------------------------------------------------

    def _compare(self) -> None:
        self.view.messages.clear_messages()
        try:
            cells, axes = self._cells()
            truth = self._truth(cells)
            image, _ = self._image(cells, axes)
            errors = empty_array(data_shape(cells), np.uint8)
        except UNetError as error:
            self.view.messages.say(str(error), "error")
            return
        complete = self.view.extent.currentData() == COMPLETE
        arrays = full_data(cells), full_data(truth)
        given = ComparisonInput(*arrays, axes, background_label(truth), complete, image)
        work = self._begin("compare", axes, data_shape(cells))
        shown = self._choice.image() if image is not None else None
        self._compared = weakref.ref(cells), weakref.ref(truth), weakref.ref(shown) if shown is not None else None
        self._warnings = [*filter(None, [trained_on_warning(cells, truth)])]
        self._running.run(
            partial(compare_layers, given, errors, work), partial(self._on_answer, axes, work), self._fail
        )  # fmt: skip

    def _truth(self, cells: Any) -> Any:
        """Return the selected ground truth; raise a :class:`DataError` unless it fits the cells."""
        truth = self.view.truth.layer()
        if truth is None:
            raise DataError("There is no ground truth to compare with; open a Labels layer, or annotate cells by hand.")
        if data_shape(truth) != data_shape(cells):
            raise DataError(
                f"{truth.name} has the shape {data_shape(truth)}, but {cells.name} has {data_shape(cells)}; choose "
                "labels of the same image."
            )
        return truth

    def _on_answer(self, axes: str, work: Progress, found: ComparisonResult) -> None:
        self._end()
        if work.stopped:
            self.view.messages.say("Cancelled; nothing was compared.", "warning")
            return
        self.result = found
        comparison = found.comparison
        letters = [a for a in axes if a not in "cyx"]
        self.view.set_compared(_scores(comparison.scores), [_line(cell, letters) for cell in comparison.worst()])
        self.view.plot.show_curves(comparison.curve("ap"), comparison.curve("f1"))
        for warning in self._warnings:
            self.view.messages.say(warning, "warning")
        source, truth = (known() for known in self._compared[:2]) if self._compared is not None else (None, None)
        for layer in filter(None, (source, truth)):
            words = "F1, AP and SEG count each class as one cell, so they mean little here."
            self._warnings += filter(None, [self._warn_of_classes(layer, words)])
        if source is not None:
            with painted_later(self.view):
                self._show_errors(source, found)

    def _hide_compared(self) -> None:
        """Hide cells and ground truth, whose colours would mix with those of the errors."""
        for known in self._compared[:2] if self._compared is not None else ():
            layer = known() if known is not None else None
            if layer is not None:
                layer.visible = False

    def _show_errors(self, cells: Any, found: ComparisonResult) -> None:
        """Show the errors as a layer on top."""
        if not found.comparison.worst():
            self._errors.remove()
            self.view.messages.say("Every cell was found, and nothing else.", "done")
            return
        self._hide_compared()
        self._errors.show(cells, found.errors)
        self.view.messages.say(
            "Errors: orange missed, yellow poor (found by less than half), blue false (no cell there). Cells and "
            "ground truth are hidden; click their eyes to see them."
        )

    def _go_to(self, index: int) -> None:
        """Bring a cell of the list into view."""
        if self.result is None or self._compared is None:
            return
        cells, worst = self._compared[0](), self.result.comparison.worst()
        if cells is None or cells not in self.viewer.layers or index >= len(worst):
            return
        cell = worst[index]
        y0, y1, x0, x1 = cell.box
        _, axes = self._cells()
        plane = iter(cell.plane)
        middle = {"y": (y0 + y1 - 1) / 2, "x": (x0 + x1 - 1) / 2, "c": 0}
        position = [middle[a] if a in middle else next(plane) for a in axes]
        with painted_later(self.view):
            go_to(self.viewer, cells, position, size=max(y1 - y0, x1 - x0))

    def _save_report(self, path: str) -> None:
        if self.result is None or self._compared is None:
            return
        cells, truth, image = (known() if known is not None else None for known in self._compared)
        if cells is None or truth is None:
            self.view.messages.say("The layers that were compared are gone; compare again.", "warning")
            return
        report = build_report(cells, truth, image, self.result, self._warnings)
        self._save(lambda: write_report(path, report), path, "one file to open in a browser")

    # --- threads --------------------------------------------------------------------------------

    def _begin(self, what: str, axes: str, shape: tuple[int, ...]) -> Progress:
        """Show that something is under way, and return what it counts in."""
        planes = [n for a, n in zip(axes, shape, strict=True) if a not in "yxc"]
        self._work = Progress(total=int(np.prod(planes)) if planes else 1)
        self.view.set_busy(what)
        self.view.progress.wait("reading")
        self._poll.start()
        self._hold = Hold()
        return self._work

    def _show_progress(self) -> None:
        work = self._work
        if work.total > 1 and work.done:
            self.view.progress.advance(work.done / work.total, f"plane {min(work.done, work.total)} of {work.total}")

    def _release(self) -> None:
        """Let Python look for garbage in the whole viewer again, which holds it up, from any thread."""
        if self._hold is not None:
            self._hold.release()
            self._hold = None

    def _end(self) -> None:
        self._release()
        self._poll.stop()
        self.view.set_busy("")

    def _cancel(self) -> None:
        self._work.stopped = True
        self.view.progress.wait("stopping")

    def _fail(self, message: str) -> None:
        stopped = self._work.stopped
        self._end()
        self.view.messages.say("Cancelled." if stopped else message, "warning" if stopped else "error")

    def _save(self, function: Any, path: str, what: str) -> None:
        """Write a file in a thread, and say so."""
        self._saving.run(
            save_in_thread(function),
            lambda _: self.view.messages.say(f"Saved {Path(path).name}: {what}.", "done"),
            lambda message: self.view.messages.say(message, "error"),
        )


def _scores(scores: dict[str, float]) -> str:
    """Return the scores that matter most, as a small table."""
    cells = [
        ("F1", "f1_0.50"), ("AP", "ap_0.50"), ("SEG", "seg"), ("IoU", "iou"),
    ]  # fmt: skip
    names = "".join(f"<td align='center' width='70'>{name}</td>" for name, _ in cells)
    values = "".join(f"<td align='center'><b>{scores[key]:.3f}</b></td>" for _, key in cells)
    counts = f"{scores['cells_truth']:.0f} true cells, {scores['cells_predicted']:.0f} predicted; at IoU 0.5"
    return f"<table><tr>{names}</tr><tr>{values}</tr></table>{counts}"


def _line(cell: CellScore, letters: list[str]) -> str:
    """Return the line of the list on one cell."""
    where = [f"{a} {i}" for a, i in zip(letters, cell.plane, strict=True)]
    overlap = f", IoU {cell.iou:.2f}" if cell.kind == POOR else ""
    return "   ".join([called(cell), *where, f"{cell.kind}{overlap}"])
