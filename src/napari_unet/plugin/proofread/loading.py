"""What is known of a layer's cells, learnt in a thread: marks of an earlier time, and where all its cells are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core.data.arrays import PlaneIndex
from ...core.proofreading.bounding_boxes import PlaneCells, find_cells, linked_axes
from ...core.proofreading.review import Marks, fitting, marks_from_plain
from ...records.saved_labels import read_marks
from ..layers.reading import full_data, label_index, note
from ..layers.review_state import LayerReview
from ..layers.zarr_result import store_of
from ..runtime.worker_thread import WorkerThread


class ReviewLoader:
    """Looks through a layer, plane by plane, while the user goes on.

    Parameters
    ----------
    known : LayerReview
        What is to be filled in.
    changed : callable
        Called when something was learnt.
    failed : callable
        Told in words what could not be read.
    """

    def __init__(self, known: LayerReview, changed: Callable[[], None], failed: Callable[[str], None]) -> None:
        self._known, self._changed, self._failed = known, changed, failed
        self._marks, self._counting = WorkerThread(), WorkerThread()

    def start(self) -> None:
        """Begin with the marks."""
        known = self._known
        layer = known.layer()
        if known.asked or layer is None:
            self.count()
            return
        path = store_of(layer) or getattr(getattr(layer, "source", None), "path", None)
        noted = [*note(layer).get("checked", {}).values()]
        data, axes, planes = full_data(layer), known.axes, known.planes()
        self._marks.run(lambda: _earlier(path, noted, data, axes, planes), self._take_marks, self._on_failed)

    def close(self) -> None:
        """Drop what is under way."""
        self._marks.forget()
        self._counting.forget()

    def _take_marks(self, marks: Marks) -> None:
        self._known.asked = True
        if marks and self._known.layer() is not None:
            self._known.adopt(marks)
            self._changed()
        self.count()

    def _on_failed(self, message: str) -> None:
        self._known.asked = True
        self._failed(message)
        self.count()

    def count(self) -> None:
        """Count the next plane that was not counted yet; those on disk only when they come on screen."""
        known = self._known
        if known.layer() is None or not known.in_memory:
            return
        places = known.proof.places
        plane = next((plane for plane in known.planes() if not places.knows(plane)), None)
        if plane is None:
            if known.linked is None:
                known.linked = linked_axes(places, known.stack_shape)
                self._changed()
            return
        version, labels = places.version(plane), known.read(plane)
        self._counting.run(lambda: find_cells(labels), lambda cells: self._take_cells(plane, cells, version))

    def _take_cells(self, plane: PlaneIndex, cells: PlaneCells, version: int) -> None:
        self._known.proof.places.put(plane, cells, version)
        self.count()


def _earlier(
    path: str | Path | None, noted: list[dict[str, Any]], data: Any, axes: str, planes: list[PlaneIndex]
) -> Marks:
    """Return the marks that are noted in a layer or beside its file, as far as the cells are still the same."""
    known = marks_from_plain(noted)
    if path is not None and not known:
        known = read_marks(Path(path))
    return fitting(known, lambda plane: _LazyPlane(data, axes, plane), planes) if known else {}


class _LazyPlane:
    """A plane of labels, of which no more is read than is asked for."""

    def __init__(self, data: Any, axes: str, plane: PlaneIndex) -> None:
        self._data, self._index = data, label_index(axes, plane)
        self._lies = axes.index("x") < axes.index("y")
        spans = {a: int(n) for a, n in zip(axes, data.shape, strict=True)}
        self.shape = spans["y"], spans["x"]

    def __getitem__(self, where: tuple[slice, slice]) -> NDArray[Any]:
        spans = iter(where[::-1] if self._lies else where)
        values = np.asarray(self._data[tuple(next(spans) if isinstance(i, slice) else i for i in self._index)])
        return values.T if self._lies else values
