"""One Labels layer being proofread: which cell is meant, what is changed, where to go next. Knows no widgets."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...core.data.annotation import Box
from ...core.data.arrays import PlaneIndex
from ...core.errors import DataError
from ...core.proofreading.bounding_boxes import PlaneCells, around
from ...core.proofreading.corrections import LabelPatch, Make, Splitting, Target, Window, merging
from ...core.proofreading.edits import Edit
from ...core.proofreading.review import ReviewedCell
from ...core.proofreading.undo import Step
from ..layers.navigation import go_to
from ..layers.painted import background_label
from ..layers.reading import current_plane, label_shape, note
from ..layers.review_state import LayerReview, apart, editable_review
from ..settings.preferences import current
from ..widgets.layer_selectors import images_of, noted_axes

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels

Point = tuple[int, int]
"""y, x in pixels of a plane."""

DIRECTIONS = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}
_AHEAD = 0.7
"""Cosine of the angle within which a cell lies in a direction: 45 degrees."""


class ProofreadSession:
    """The corrections of a layer, together with where the user looks.

    Parameters
    ----------
    viewer : ViewerModel
        Where the layer is shown.
    layer : Labels
        To be corrected.

    Attributes
    ----------
    known : LayerReview
        Corrections and checked cells of the layer.
    current : tuple or None
        Plane and label of the cell that was chosen last.
    pointer : tuple of int or None
        Pixel under the mouse; None after going somewhere by keys.

    Raises
    ------
    DataError
        When the layer cannot be corrected.
    """

    def __init__(self, viewer: ViewerModel, layer: Labels) -> None:
        self.viewer = viewer
        self.known: LayerReview = editable_review(layer)
        self.pair()
        self.proof = self.known.proof
        self.current: tuple[PlaneIndex, int] | None = None
        self.pointer: Point | None = None
        self._before: tuple[PlaneIndex, NDArray[Any]] | None = None
        self._stroke = self._stale = False
        self._touched: Box | None = None
        self.known.told = weakref.WeakMethod(self.on_network)
        self.remember()

    def pair(self) -> None:
        """Take the labels for those of the nearest picture of their shape below them, else above them.

        Layers that are put in another order change that, as long as nothing was checked.
        """
        known = self.known
        if "part" in note(self.labels()):
            # Its places are not those of a picture; what is checked counts when it was put back.
            return
        if known.picture() is not None and (not known.guessed or known.steps or known.proof.marks):
            return
        at = self.viewer.layers.index(self.labels())
        nearest = sorted(images_of(self.viewer), key=lambda image: self._distance(at, image))
        for image in nearest:
            if label_shape(image, noted_axes(image)) == self.known.shape:
                known.set_picture(image)
                known.guessed = True
                return

    def _distance(self, at: int, image: Image) -> tuple[bool, int]:
        index = self.viewer.layers.index(image)
        return index > at, abs(index - at)

    # --- where the user is ----------------------------------------------------------------------

    def is_open(self) -> bool:
        """Return whether the layer is still there."""
        return self.known.layer() in self.viewer.layers

    def labels(self) -> Labels:
        """Return the layer.

        Raises
        ------
        DataError
            When it was deleted.
        """
        if not self.is_open():
            raise DataError("The layer was deleted; choose another one.")
        return self.known.layer()

    def plane(self) -> PlaneIndex:
        """Return the index of the plane on screen."""
        return current_plane(self.viewer, self.labels(), self.known.axes)

    def values(self) -> NDArray[Any]:
        """Return the labels of the plane on screen, (Y, X)."""
        return self.known.read(self.plane())

    def where(self, event: Any) -> Point:
        """Return the pixel under the mouse."""
        place = np.floor(np.asarray(self.labels().world_to_data(event.position)) + 0.5).astype(int)
        return int(place[self.known.axes.index("y")]), int(place[self.known.axes.index("x")])

    def cell_at(self, point: Point | None) -> int:
        """Return the cell at a pixel; 0 for none, also beyond the picture."""
        if point is None or not self._in_sight():
            return 0
        values, (y, x) = self.values(), point
        inside = 0 <= y < values.shape[0] and 0 <= x < values.shape[1]
        value = int(values[y, x]) if inside else 0
        return 0 if value == background_label(self.labels()) else value

    def _in_sight(self) -> bool:
        """Return whether the sliders stand at a plane of the layer, which may be one of a larger stack."""
        point = np.asarray(self.labels().world_to_data(self.viewer.dims.point))
        place = dict(zip(self.known.axes, np.floor(point + 0.5), strict=True))
        size = dict(zip(self.known.axes, self.known.shape, strict=True))
        return all(0 <= place[a] < size[a] for a in self.known.axes if a not in "cyx")

    def target(self) -> int:
        """Return the cell that a key works on: the one under the mouse, else the chosen one; 0 for none."""
        return self.cell_at(self.pointer) or self.chosen()

    def needed_target(self) -> int:
        """Return the cell that a key works on.

        Raises
        ------
        DataError
            When there is none.
        """
        cell = self.target()
        if not cell:
            raise DataError(
                f"No cell is selected; point at one, click one, or press {current().key_next} for the next one."
            )
        return cell

    def chosen(self) -> int:
        """Return the cell that was chosen last, if it is in the plane on screen; else 0."""
        if self.current is None or self.current[0] != self.plane() or not self._in_sight():
            return 0
        return self.current[1] if self.current[1] in self.cells(self.plane()) else 0

    def cells(self, plane: PlaneIndex) -> PlaneCells:
        """Return the cells of a plane, without painted background; counted once as long as it stays unchanged."""
        found, background = self.proof.places.of(plane), background_label(self.labels())
        return found.with_box(background, None) if background else found

    # --- corrections ----------------------------------------------------------------------------

    def edit(self, words: str, cell: int, make: Make) -> None:
        """Correct a cell, in the plane on screen or in all that it goes through."""
        self._edit(words, [(plane, (cell,)) for plane in self.known.planes_of(self.plane(), cell)], make)

    def split(self, cell: int, split: Callable[[Window], Edit]) -> None:
        """Split a cell in the plane on screen, and through the others along the same border."""
        self.edit(f"split cell {cell}", cell, Splitting(cell, split))

    def merge(self, first: int, second: int) -> None:
        """Merge two cells of the plane on screen; wherever the second one is, it becomes part of the first."""
        here, *others = self.known.planes_of(self.plane(), second)
        targets: list[Target] = [(here, (first, second))]
        targets += [(plane, (first, second) if first in self.cells(plane) else (second,)) for plane in others]
        self._edit(f"merge cells {first} and {second}", targets, merging(first, second))

    def _edit(self, words: str, targets: Sequence[Target], make: Make) -> None:
        self.settle()
        self._follow(self.proof.edit(targets, words, make))

    def accept(self, cell: int) -> None:
        """Mark a cell as right as it is, or take that back."""
        self.settle()
        self.proof.accept(self.known.planes_of(self.plane(), cell), cell)
        self.current = (self.plane(), cell)

    def step_back(self, undo: bool) -> Step:
        """Undo or redo, and bring the plane where that was on screen.

        Raises
        ------
        DataError
            When there is nothing to undo or redo.
        """
        self.settle()
        step = self.proof.undo() if undo else self.proof.redo()
        if step is None:
            raise DataError(f"There is nothing to {'undo' if undo else 'redo'}.")
        self._follow(step)
        places = _places(step)
        if self.plane() not in places:
            plane, (y0, y1, x0, x1) = next(iter(places.items()))
            self.go(plane, ((y0 + y1) // 2, (x0 + x1) // 2))
            self.remember()
        return step

    def _follow(self, step: Step) -> None:
        """Bring what is remembered up to date after a step."""
        if self._before is not None:
            plane, before = self._before
            for change in step.changes:
                if change.plane == plane:
                    y0, y1, x0, x1 = change.box
                    before[y0:y1, x0:x1] = self.known.read(plane)[y0:y1, x0:x1]

    # --- strokes of the brush -------------------------------------------------------------------

    def remember(self) -> None:
        """Keep the labels on screen, to compare with after a stroke of the brush."""
        self.settle()
        if not self.is_open():
            self._before = None
        elif self._stale or self._before is None or self._before[0] != self.plane():
            self._before, self._stale = (self.plane(), self.values().copy()), False

    def expect_stroke(self) -> None:
        """Learn that labels are being painted: napari says so after a stroke, but before a single change by code."""
        self._stroke = not self.known.writing or self._stroke

    def touch(self, offset: Sequence[int], shape: Sequence[int]) -> None:
        """Learn which part of the screen was redrawn, in the order of the axes on screen."""
        shown = self._shown()
        if self.known.writing or shown not in ("yx", "xy"):
            return
        spans = {a: (int(begin), int(begin) + int(n)) for a, begin, n in zip(shown, offset, shape, strict=False)}
        box = (*spans["y"], *spans["x"])
        self._touched = around(self._touched, box) if self._touched is not None else box

    def _shown(self) -> str:
        """Return the letters of the axes on screen."""
        beyond = self.viewer.dims.ndim - len(self.known.axes)
        return "".join(self.known.axes[axis - beyond] for axis in self.viewer.dims.displayed if axis >= beyond)

    def on_network(self, plane: PlaneIndex, before: NDArray[Any], after: NDArray[Any]) -> None:
        """Learn what a network has written into a plane, perhaps during a stroke, of which that is no part."""
        if self._before is not None and self._before[0] == plane:
            differs = before != after
            self._before[1][differs] = after[differs]

    def settle(self) -> bool:
        """Note what was painted since :meth:`remember`; return False when that cannot be told."""
        if not self._stroke or not self.is_open():
            return True
        self._stroke = False
        touched, self._touched = self._touched, None
        if self._before is None or self.labels().n_edit_dimensions > 2 or self._shown() not in ("yx", "xy"):
            self._give_up()
            return False
        self._note_changes(*self._before, touched)
        return True

    def _give_up(self) -> None:
        """Start over after planes were painted that are not on screen; what was checked before stays."""
        self.proof.history.clear()
        self.known.outdate(at_once=True)
        for plane in self.known.planes():
            self.proof.places.forget(plane)
        self._stale = True
        self.remember()

    def _note_changes(self, plane: PlaneIndex, before: NDArray[Any], touched: Box | None) -> None:
        after = self.known.read(plane)
        y0, y1, x0, x1 = touched or (0, after.shape[0], 0, after.shape[1])
        differs = before[y0:y1, x0:x1] != after[y0:y1, x0:x1]
        if differs.any():
            rows, columns = (np.flatnonzero(differs.any(axis=axis)) for axis in (1, 0))
            box = (y0 + int(rows[0]), y0 + int(rows[-1]) + 1, x0 + int(columns[0]), x0 + int(columns[-1]) + 1)
            where = (slice(*box[:2]), slice(*box[2:]))
            patch = LabelPatch(plane, box, before[where].copy(), after[where].copy())
            before[where] = patch.after
            self.proof.record(f"redraw cell {self.labels().selected_label}", [patch])

    def recount(self) -> None:
        """Look at the plane on screen again, because its labels may have changed."""
        if self.is_open():
            self._stale = True
            self.proof.places.forget(self.plane())

    # --- going about ----------------------------------------------------------------------------

    def left(self, plane: PlaneIndex) -> list[int]:
        """Return the cells of a plane that were not checked yet."""
        checked = np.fromiter(self.proof.marked(plane), np.int64)
        return [int(cell) for cell in np.setdiff1d(self.cells(plane).ids, checked, assume_unique=True)]

    def walk(self, step: int) -> None:
        """Go to the next (1) or previous (-1) cell that was not checked.

        Raises
        ------
        DataError
            When all were checked.
        """
        planes, here, start = self.known.planes(), self.plane(), self.target()
        at = planes.index(here)
        for number in range(len(planes) + 1):
            plane = planes[(at + step * number) % len(planes)]
            left = self.left(plane)[::step]
            if number == 0 and start:
                left = [cell for cell in left if (cell - start) * step > 0]
            if left:
                self.choose(plane, left[0])
                return
        raise DataError("All cells are reviewed.")

    def go_to_neighbour(self, direction: str) -> None:
        """Go to the nearest cell in a direction.

        Raises
        ------
        DataError
            When there is none.
        """
        start, cells = self.needed_target(), self.cells(self.plane())
        away = cells.middles() - cells.middles()[cells.ids == start]
        far = np.hypot(*away.T)
        ahead = (cells.ids != start) & (away @ DIRECTIONS[direction] > _AHEAD * far)
        if not ahead.any():
            raise DataError("There is no cell in this direction.")
        self.choose(self.plane(), int(cells.ids[np.where(ahead, far, np.inf).argmin()]))

    def choose(self, plane: PlaneIndex, cell: int) -> None:
        """Go to a cell and mean it, whatever is under the mouse."""
        self.pointer, self.current = None, (plane, cell)
        self.go(plane, self.outline(plane, cell).middle)

    def outline(self, plane: PlaneIndex, cell: int) -> ReviewedCell:
        """Return where a cell is.

        Raises
        ------
        DataError
            When it is not there.
        """
        window = self.proof.window(plane, (cell,))
        return ReviewedCell.of(window.labels, cell, "", window.corner)

    def go_to_checked(self, planes: Sequence[PlaneIndex], cell: int) -> None:
        """Go to a checked cell, or to where one was deleted, in the nearest of some planes."""
        plane = min(planes, key=lambda index: apart(index, self.plane()))
        kept = self.proof.marked(plane).get(cell)
        if kept is not None:
            self.pointer, self.current = None, (plane, cell)
            self.go(plane, kept.middle)

    def go(self, plane: PlaneIndex, point: Point) -> None:
        """Bring a place on screen."""
        go_to(self.viewer, self.labels(), self.known.position(plane, *point), centre=False)


def _places(step: Step) -> dict[PlaneIndex, Box]:
    """Return where a step was, by plane."""
    if step.changes:
        return {change.plane: change.box for change in step.changes}
    return {mark.plane: (mark.after or mark.before).box for mark in step.marks}
