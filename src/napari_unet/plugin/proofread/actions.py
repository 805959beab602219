"""What keys and buttons of the Proofread dock do with a cell, and the tools that wait for clicks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...core.errors import DataError
from ...core.proofreading import edits
from .review_signs import scope_of
from .session import Point, ProofSession
from .view import SCOPE_TIPS, ProofreadView

if TYPE_CHECKING:
    from napari.components import ViewerModel

_BRUSH_SHARE = 5
"""Cell diameters over that of the brush."""
_WORDS = {"grow": "widen cell", "shrink": "narrow cell", "fill": "fill holes of cell", "delete": "delete cell"}


class ProofreadActions:
    """One method ``_do_NAME`` per action of :data:`~.proofread_view.ACTIONS`; what is not possible is raised.

    Parameters
    ----------
    viewer : ViewerModel
        Where the layer is.
    view : ProofreadView
        The widgets.
    """

    def __init__(self, viewer: ViewerModel, view: ProofreadView) -> None:
        self.viewer, self.view = viewer, view
        self.session: ProofSession | None = None
        self.tool, self.refusal = "", ""
        self._first = 0
        self._points: list[Point] = []
        self._preserved = False

    def is_open(self) -> bool:
        """Return whether the layer is still there; the last that it says comes while it is taken out."""
        return self.session is not None and self.session.is_open()

    def _open(self) -> ProofSession:
        """Return what is being corrected."""
        if self.session is None or not self.is_open():
            raise DataError(self.refusal or "There is no result to correct; segment first, or choose a Labels layer.")
        return self.session

    def _do_simple(self, name: str) -> None:
        """Delete, fill, grow or shrink the cell that is meant."""
        cell = self._open().needed_target()
        correct = getattr(edits, name)
        self._open().edit(f"{_WORDS[name]} {cell}", cell, lambda window: correct(window.labels, cell))

    _do_delete = _do_fill = _do_grow = _do_shrink = _do_simple

    def _do_split(self, name: str) -> None:
        cell = self._open().needed_target()
        self._open().split(cell, lambda window: edits.split_at_waist(window.labels, cell, window.fresh))

    def _do_accept(self, name: str) -> None:
        self._open().accept(self._open().needed_target())

    def _do_undo(self, name: str) -> None:
        self.view.messages.say(f"Took back: {self._open().step_back(undo=True).words}.")

    def _do_redo(self, name: str) -> None:
        self.view.messages.say(f"Made again: {self._open().step_back(undo=False).words}.")

    def _do_next(self, name: str) -> None:
        self._open().walk(1 if name == "next" else -1)

    _do_previous = _do_next

    def _do_neighbour(self, name: str) -> None:
        self._open().go_to_neighbour(name)

    _do_left = _do_right = _do_up = _do_down = _do_neighbour

    def _do_scope(self, name: str) -> None:
        known = self._open().known
        if scope_of(known) != "ready":
            raise DataError(SCOPE_TIPS.get(scope_of(known), "There is only one plane."))
        known.whole = not known.whole

    # --- tools ----------------------------------------------------------------------------------

    def _start(self, tool: str) -> None:
        self._leave()
        layer = self._open().labels()
        self.tool = tool
        # Else dragging would move the picture.
        layer.mouse_pan = tool != "line"
        layer.mode = "pan_zoom"
        self.viewer.layers.selection.active = layer

    def _leave(self) -> None:
        """End the tool, and forget what was begun with it."""
        layer = self.session.known.layer() if self.session is not None else None
        tool, self.tool = self.tool, ""
        self._first, self._points = 0, []
        if layer is not None and tool:
            if tool == "redraw":
                layer.mode = "pan_zoom"
                layer.preserve_labels = self._preserved
            layer.mouse_pan = True

    def _do_leave(self, name: str) -> None:
        self._leave()

    def _toggle(self, tool: str) -> None:
        self._leave() if self.tool == tool else self._start(tool)

    def _do_merge(self, name: str) -> None:
        """Take the first cell, or merge it with the one that is meant now."""
        cell = self._open().target()
        if self.tool == "merge" and self._first:
            self._merge(self._open().needed_target())
            self._leave()
        elif self.tool == "merge" and not cell:
            self._leave()
        else:
            self._start("merge")
            self._first = cell

    def _merge(self, second: int) -> None:
        first, self._first = self._first, 0
        self._open().merge(first, second)
        self._open().current = (self._open().plane(), first)

    def _do_line(self, name: str) -> None:
        self._toggle("line")

    def _do_seeds(self, name: str) -> None:
        if self.tool == "seeds" and self._points:
            self._split_by_seeds()
        else:
            self._toggle("seeds")

    def _do_enter(self, name: str) -> None:
        """Split at the points that were clicked, or end redrawing."""
        if self.tool == "seeds":
            self._split_by_seeds()
        else:
            self._leave()

    def _split_by_seeds(self) -> None:
        session, points = self._open(), self._points
        self._points = []
        cells = {session.cell_at(point) for point in points} - {0}
        if not cells:
            raise DataError("No point lies in a cell; click one in each part of a cell, then press Enter.")
        if len(cells) > 1:
            raise DataError("The points lie in several cells; click them again, all in one cell.")
        (cell,) = cells
        session.split(
            cell, lambda window: edits.split_by_seeds(window.labels, cell, window.inside(points), window.fresh)
        )

    def _do_redraw(self, name: str) -> None:
        """Take the brush with the cell's label; when it is taken already, change to the eraser and back."""
        session = self._open()
        layer = session.labels()
        if self.tool == "redraw":
            layer.mode = "paint" if str(layer.mode) == "erase" else "erase"
            return
        cell = session.needed_target()
        self._start("redraw")
        y0, y1, x0, x1 = session.proof.places.box(session.plane(), cell)
        session.current = (session.plane(), cell)
        self._preserved = layer.preserve_labels
        layer.selected_label, layer.preserve_labels = cell, True
        layer.brush_size = max(1, min(y1 - y0, x1 - x0) // _BRUSH_SHARE)
        layer.mode = "paint"

    def _click(self, point: Point) -> None:
        session = self._open()
        cell = session.cell_at(point)
        session.pointer, session.current = point, (session.plane(), cell) if cell else None
        if self.tool == "seeds":
            self._points.append(point)
        elif self.tool == "merge" and self._first and cell:
            self._merge(cell)
        elif self.tool == "merge":
            self._first = cell

    def _split_by_line(self, path: list[Point]) -> None:
        cell = edits.cell_on_line(self._open().values(), path)
        self._open().split(
            cell, lambda window: edits.split_by_line(window.labels, cell, window.inside(path), window.fresh)
        )
