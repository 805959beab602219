"""The actions of the Proofread dock on a cell, and the tools that wait for clicks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...core.errors import DataError
from ...core.proofreading import edits
from .review_signs import scope_of
from .session import Point, ProofreadSession
from .view import SCOPE_TIPS, ProofreadView

if TYPE_CHECKING:
    from napari.components import ViewerModel

_BRUSH_SHARE = 5
"""Cell diameter over brush diameter."""
_EDITS = {
    "delete": ("delete cell", edits.delete),
    "fill": ("fill holes of cell", edits.fill),
    "grow": ("grow cell", edits.grow),
    "shrink": ("shrink cell", edits.shrink),
}
"""Edits that need nothing but the cell: their name in the history, and the function."""


class Actions:
    """Runs the actions of :data:`~.view.ACTIONS`; what is not possible raises a :class:`DataError`.

    Parameters
    ----------
    viewer : ViewerModel
        Where the layer is.
    view : ProofreadView
        Shows what was undone.

    Attributes
    ----------
    session : ProofreadSession or None
        The layer being corrected.
    refusal : str
        Why the selected layer cannot be corrected.
    tool : str
        ``"merge"``, ``"line"``, ``"seeds"`` or ``"redraw"``; empty for none.
    first : int
        The first of two cells to be merged; 0 for none.
    points : list of tuple of int
        Pixels of the line being drawn, or clicked points.
    """

    def __init__(self, viewer: ViewerModel, view: ProofreadView) -> None:
        self.viewer, self.view = viewer, view
        self.session: ProofreadSession | None = None
        self.tool, self.refusal = "", ""
        self.first = 0
        self.points: list[Point] = []
        self._preserved = False

    def is_open(self) -> bool:
        """Return whether the layer is still in the viewer."""
        return self.session is not None and self.session.is_open()

    def opened(self) -> ProofreadSession:
        """Return the session, or raise why there is none."""
        if self.session is None or not self.is_open():
            raise DataError(self.refusal or "There is no result to correct; segment first, or select a Labels layer.")
        return self.session

    def run(self, name: str) -> None:
        """Run an action."""
        match name:
            case "delete" | "fill" | "grow" | "shrink":
                self._edit(name)
            case "split":
                self._split_in_two()
            case "accept":
                self.opened().accept(self.opened().needed_target())
            case "undo":
                self.view.messages.say(f"Undone: {self.opened().step_back(undo=True).words}.")
            case "redo":
                self.view.messages.say(f"Redone: {self.opened().step_back(undo=False).words}.")
            case "next":
                self.opened().walk(1)
            case "previous":
                self.opened().walk(-1)
            case "left" | "right" | "up" | "down":
                self.opened().go_to_neighbour(name)
            case "scope":
                self._toggle_scope()
            case "merge":
                self._select_or_merge()
            case "line":
                self._toggle("line")
            case "seeds" | "enter" if self.tool == "seeds" and (self.points or name == "enter"):
                self._split_by_seeds()
            case "seeds":
                self._toggle("seeds")
            case "redraw":
                self._redraw()
            case "leave" | "enter":
                self.leave()
            case _:
                raise ValueError(f"unknown action {name!r}")

    def _edit(self, name: str) -> None:
        cell = self.opened().needed_target()
        words, function = _EDITS[name]
        self.opened().edit(f"{words} {cell}", cell, lambda window: function(window.labels, cell))

    def _split_in_two(self) -> None:
        cell = self.opened().needed_target()
        self.opened().split(cell, lambda window: edits.split_at_constriction(window.labels, cell, window.fresh))

    def _toggle_scope(self) -> None:
        known = self.opened().known
        if scope_of(known) != "ready":
            raise DataError(SCOPE_TIPS.get(scope_of(known), "There is only one plane."))
        known.whole = not known.whole

    # --- tools ----------------------------------------------------------------------------------

    def _start(self, tool: str) -> None:
        self.leave()
        layer = self.opened().labels()
        self.tool = tool
        # Otherwise dragging would move the image.
        layer.mouse_pan = tool != "line"
        layer.mode = "pan_zoom"
        self.viewer.layers.selection.active = layer

    def leave(self) -> None:
        """End the tool and forget its clicks."""
        layer = self.session.known.layer() if self.session is not None else None
        tool, self.tool = self.tool, ""
        self.forget_clicks()
        if layer is not None and tool:
            if tool == "redraw":
                layer.mode = "pan_zoom"
                layer.preserve_labels = self._preserved
            layer.mouse_pan = True

    def forget_clicks(self) -> None:
        """Forget the cell and the points clicked so far."""
        self.points, self.first = [], 0

    def _toggle(self, tool: str) -> None:
        self.leave() if self.tool == tool else self._start(tool)

    def _select_or_merge(self) -> None:
        """Select the first cell, or merge it with the target."""
        cell = self.opened().target()
        if self.tool == "merge" and self.first:
            self._merge(self.opened().needed_target())
            self.leave()
        elif self.tool == "merge" and not cell:
            self.leave()
        else:
            self._start("merge")
            self.first = cell

    def _merge(self, second: int) -> None:
        first, self.first = self.first, 0
        self.opened().merge(first, second)
        self.opened().current = (self.opened().plane(), first)

    def _split_by_seeds(self) -> None:
        session, points = self.opened(), self.points
        self.points = []
        cells = {session.cell_at(point) for point in points} - {0}
        if not cells:
            raise DataError("No point lies in a cell; click one in each part of a cell, then press Enter.")
        if len(cells) > 1:
            raise DataError("The points lie in several cells; click them again, all in one cell.")
        (cell,) = cells
        session.split(
            cell, lambda window: edits.split_by_seeds(window.labels, cell, window.inside(points), window.fresh)
        )

    def split_by_line(self, path: list[Point]) -> None:
        """Split the cell that a line crosses."""
        self.points = []
        cell = edits.cell_on_line(self.opened().values(), path)
        self.opened().split(
            cell, lambda window: edits.split_by_line(window.labels, cell, window.inside(path), window.fresh)
        )

    def _redraw(self) -> None:
        """Select the brush with the cell's label; if it is selected, switch between brush and eraser."""
        session = self.opened()
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

    def click(self, point: Point) -> None:
        """Select the cell at a pixel, or use the click for the tool."""
        session = self.opened()
        cell = session.cell_at(point)
        session.pointer, session.current = point, (session.plane(), cell) if cell else None
        if self.tool == "seeds":
            self.points.append(point)
        elif self.tool == "merge" and self.first and cell:
            self._merge(cell)
        elif self.tool == "merge":
            self.first = cell
