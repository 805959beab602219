"""One Labels layer being proofread: which cell is meant, what is changed, where to go next. Knows no widgets."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..core.annotation import Box
from ..core.editing import Edit
from ..core.errors import DataError
from ..core.history import Step
from ..core.proof import Index, Kept
from .choosers import images_of, noted_axes
from .goto import go_to
from .layers import current_plane, label_shape
from .proofs import LayerProof, proof_of

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels

Point = tuple[int, int]
"""y, x in pixels of a plane."""

DIRECTIONS = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}
_AHEAD = 0.7
"""Cosine of the angle within which a cell lies in a direction: 45 degrees."""


class ProofSession:
    """The corrections of a layer, together with where the user looks.

    Parameters
    ----------
    viewer : ViewerModel
        Where the layer is shown.
    layer : Labels
        To be corrected.

    Attributes
    ----------
    known : LayerProof
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
        self.known: LayerProof = proof_of(layer)
        if self.known.picture() is None:
            self._find_picture(layer)
        self.proof = self.known.proof
        self.current: tuple[Index, int] | None = None
        self.pointer: Point | None = None
        self._before: tuple[Index, NDArray[Any]] | None = None
        self._stroke = False
        self._cells: tuple[Index, frozenset[int]] | None = None
        self.remember()

    def _find_picture(self, layer: Labels) -> None:
        """Take the labels for those of the nearest picture of their shape below them, else above them."""
        at = self.viewer.layers.index(layer)
        nearest = sorted(images_of(self.viewer), key=lambda image: self._distance(at, image))
        for image in nearest:
            if label_shape(image, noted_axes(image)) == self.known.shape:
                self.known.set_picture(image)
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

    def plane(self) -> Index:
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
        if point is None:
            return 0
        values, (y, x) = self.values(), point
        inside = 0 <= y < values.shape[0] and 0 <= x < values.shape[1]
        return int(values[y, x]) if inside else 0

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
            raise DataError("No cell is meant; put the mouse on one, click one, or press N for the next one.")
        return cell

    def chosen(self) -> int:
        """Return the cell that was chosen last, if it is in the plane on screen; else 0."""
        if self.current is None or self.current[0] != self.plane():
            return 0
        return self.current[1] if self.current[1] in self.cells(self.plane()) else 0

    # --- corrections ----------------------------------------------------------------------------

    def edit(self, words: str, make: Callable[[NDArray[Any], int], Edit]) -> None:
        """Make a correction in the plane on screen, see :meth:`~napari_unet.core.proof.Proof.edit`."""
        self.settle()
        self.proof.edit(self.plane(), words, make)
        self._redraw()

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
        plane, (y0, y1, x0, x1) = _place(step)
        if plane != self.plane():
            self.go(plane, ((y0 + y1) // 2, (x0 + x1) // 2))
        self._redraw()
        return step

    def remember(self) -> None:
        """Keep the labels on screen, to compare with after a stroke of the brush."""
        self.settle()
        self.count_anew()
        self._before = (self.plane(), self.values().copy()) if self.is_open() else None

    def expect_stroke(self) -> None:
        """Learn that labels are being painted: napari says so after a stroke, but before a single change by code."""
        self._stroke = True

    def settle(self) -> bool:
        """Note what was painted since :meth:`remember`; return False when that cannot be told."""
        if not self._stroke or not self.is_open():
            return True
        self._stroke = False
        if self._before is None or self.labels().n_edit_dimensions > 2:
            self.proof.history.clear()
            self.remember()
            return False
        self._note_changes(*self._before)
        self.remember()
        return True

    def _note_changes(self, plane: Index, before: NDArray[Any]) -> None:
        after = self.known.read(plane)
        differs = before != after
        if differs.any():
            rows, columns = (np.flatnonzero(differs.any(axis=axis)) for axis in (1, 0))
            box = (int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1)
            where = (slice(*box[:2]), slice(*box[2:]))
            words = f"redraw cell {self.labels().selected_label}"
            self.proof.record(plane, words, box, before[where], after[where].copy())

    def count_anew(self) -> None:
        """Forget which cells there were, because labels may have changed."""
        self._cells = None

    def cells(self, plane: Index) -> frozenset[int]:
        """Return the cells of a plane; counted once as long as it stays on screen unchanged."""
        if self._cells is None or self._cells[0] != plane:
            self._cells = (plane, frozenset(cells_in(self.known.read(plane))))
        return self._cells[1]

    def _redraw(self) -> None:
        """Show changed labels."""
        self.labels().refresh(extent=False)
        self.remember()

    # --- going about ----------------------------------------------------------------------------

    def left(self, plane: Index) -> list[int]:
        """Return the cells of a plane that were not checked yet."""
        checked = self.proof.marked(plane)
        return sorted(self.cells(plane).difference(checked))

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
        raise DataError("All cells are checked.")

    def go_to_neighbour(self, direction: str) -> None:
        """Go to the nearest cell in a direction.

        Raises
        ------
        DataError
            When there is none.
        """
        start, towards = self.needed_target(), DIRECTIONS[direction]
        middles = middles_of(self.values())
        away = {cell: np.subtract(middle, middles[start]) for cell, middle in middles.items() if cell != start}
        ahead = {cell: gap for cell, gap in away.items() if np.dot(gap, towards) > _AHEAD * np.hypot(*gap)}
        if not ahead:
            raise DataError("There is no cell in this direction.")
        self.choose(self.plane(), min(ahead, key=lambda cell: float(np.hypot(*ahead[cell]))))

    def choose(self, plane: Index, cell: int) -> None:
        """Go to a cell and mean it, whatever is under the mouse."""
        self.pointer, self.current = None, (plane, cell)
        self.go(plane, Kept.of(self.known.read(plane), cell, "").middle)

    def go_to_checked(self, plane: Index, cell: int) -> None:
        """Go to a checked cell, or to where one was deleted."""
        kept = self.proof.marked(plane).get(cell)
        if kept is not None:
            self.pointer, self.current = None, (plane, cell)
            self.go(plane, kept.middle)

    def go(self, plane: Index, point: Point) -> None:
        """Bring a place on screen."""
        go_to(self.viewer, self.labels(), self.known.position(plane, *point), centre=False)


def _place(step: Step) -> tuple[Index, Box]:
    """Return where a step was."""
    if step.changes:
        return step.changes[0].plane, step.changes[0].box
    mark = step.marks[0]
    return mark.plane, (mark.after or mark.before).box


def cells_in(labels: NDArray[Any]) -> list[int]:
    """Return the labels that occur in a plane, in order, without 0."""
    if labels.max(initial=0) < 4 * labels.size:
        # Many times faster than sorting all pixels.
        found = np.flatnonzero(np.bincount(labels.ravel().clip(0)))
    else:
        found = np.unique(labels)
    return [int(cell) for cell in found if cell > 0]


def middles_of(labels: NDArray[Any]) -> dict[int, tuple[float, float]]:
    """Return the centre of each cell of a plane by its label."""
    ids = cells_in(labels)
    flat = labels.ravel()
    numbers = np.where(flat > 0, np.searchsorted(ids, flat) + 1, 0)
    areas = np.bincount(numbers, minlength=len(ids) + 1)[1:]
    rows, columns = (index.ravel() for index in np.indices(labels.shape))
    sums = [np.bincount(numbers, weights=index, minlength=len(ids) + 1)[1:] / areas for index in (rows, columns)]
    return {cell: (float(y), float(x)) for cell, y, x in zip(ids, *sums, strict=True)}
