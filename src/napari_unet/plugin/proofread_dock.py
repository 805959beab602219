"""The Proofread dock: check a segmentation cell by cell, correct it, and have the network learn from that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer

from ..core import editing
from ..core.errors import DataError, UNetError
from ..core.proof import Index
from .choosers import LayerWatch, labels_of
from .dock import Dock
from .mark_overlay import MarkOverlay
from .proof_session import Point, ProofSession
from .proofread_hooks import LayerHooks
from .proofread_signs import describe, is_result, signs_of, status_words
from .proofread_view import SIGNS, ProofreadView

if TYPE_CHECKING:
    import napari
    from napari.components import ViewerModel

_MOST_ENTRIES = 300
_AFTER_DATA_MS = 200
_BRUSH_SHARE = 5
"""Cell diameters over that of the brush."""
_WORDS = {"grow": "widen cell", "shrink": "narrow cell", "fill": "fill holes of cell", "delete": "delete cell"}


class ProofreadController:
    """What happens when something is clicked in a :class:`ProofreadView`, or in the picture.

    Parameters
    ----------
    viewer : ViewerModel
        Whose Labels layers are corrected.
    view : ProofreadView
        The widgets.
    """

    def __init__(self, viewer: ViewerModel, view: ProofreadView) -> None:
        self.viewer, self.view = viewer, view
        self.session: ProofSession | None = None
        self.tool = ""
        self._first = 0
        self._points: list[Point] = []
        self._preserved = False
        self._hooks: LayerHooks | None = None
        self._entries: list[tuple[Index, int]] = []
        self._seen: set[int] | None = None
        self._overlay = MarkOverlay(viewer)
        self._soon = QTimer(singleShot=True, interval=0)
        self._soon.timeout.connect(self._on_stroke_done)
        self._later = QTimer(singleShot=True, interval=_AFTER_DATA_MS)
        self._later.timeout.connect(self.show)
        view.result.layer_changed.connect(self._on_layer)
        view.action.connect(self.act)
        view.entry_chosen.connect(self._go_to_entry)
        view.teaching_changed.connect(self._on_teaching)
        viewer.dims.events.current_step.connect(self._on_plane)
        self._watch = LayerWatch(viewer, self._on_layers)
        self._on_layer()

    def close(self) -> None:
        """Let go of viewer and layer; what was corrected and checked stays known."""
        self._later.stop()
        self._soon.stop()
        self._watch.close()
        self.viewer.dims.events.current_step.disconnect(self._on_plane)
        self._detach()
        self._overlay.close()

    # --- the layer ------------------------------------------------------------------------------

    def _on_layers(self) -> None:
        """Offer the Labels layers; a result that was not there before is what the user wants to see now."""
        layers = labels_of(self.viewer)
        fresh = [layer for layer in layers if self._seen is not None and id(layer) not in self._seen]
        self._seen = {id(layer) for layer in layers}
        self.view.result.show_layers(layers, likely=is_result)
        for layer in filter(is_result, fresh):
            self.view.result.choose(layer)

    def _on_layer(self) -> None:
        """Work on another layer."""
        self._detach()
        layer = self.view.result.layer()
        if layer is not None:
            try:
                self.session = ProofSession(self.viewer, layer)
            except UNetError as error:
                self.view.messages.say(str(error), "error")
            else:
                self._hooks = LayerHooks(layer, self, self.session.where)
                self.viewer.layers.selection.active = layer
                self.view.show_teaching(self.session.known.teaches)
        self.view.set_ready(self.session is not None)
        self.show()

    def _detach(self) -> None:
        self._settle()
        self._leave()
        if self._hooks is not None:
            self._hooks.close()
        self.session = self._hooks = None

    def _open(self) -> ProofSession:
        """Return what is being corrected."""
        if self.session is None or not self.is_open():
            raise DataError("There is no result to correct; segment first, or choose a Labels layer.")
        return self.session

    # --- what the user does ---------------------------------------------------------------------

    def act(self, name: str) -> None:
        """Do what a button or key says; what is not possible is explained."""
        self._try(lambda: getattr(self, f"_do_{name}")(name))

    def _try(self, action: Any) -> None:
        """Do something; what is not possible is explained."""
        self.view.messages.clear_messages()
        self._settle()
        try:
            action()
        except UNetError as error:
            self.view.messages.say(str(error), "warning")
        self.show()

    def _do_simple(self, name: str) -> None:
        """Delete, fill, grow or shrink the cell that is meant."""
        cell = self._open().needed_target()
        self._open().edit(f"{_WORDS[name]} {cell}", lambda plane, fresh: getattr(editing, name)(plane, cell))

    _do_delete = _do_fill = _do_grow = _do_shrink = _do_simple

    def _do_split(self, name: str) -> None:
        cell = self._open().needed_target()
        self._open().edit(f"split cell {cell}", lambda plane, fresh: editing.split_at_waist(plane, cell, fresh))

    def _do_accept(self, name: str) -> None:
        session = self._open()
        cell = session.needed_target()
        session.proof.accept(session.plane(), cell)
        session.current = (session.plane(), cell)

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

    def _go_to_entry(self, row: int) -> None:
        self._try(lambda: self._open().go_to_checked(*self._entries[row]))

    def _on_plane(self, event: Any = None) -> None:
        self._points, self._first = [], 0
        if self.is_open():
            self._open().remember()
        self.show()

    def _on_teaching(self, on: bool) -> None:
        if self.session is not None:
            self.session.known.teaches = on

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
        words = f"merge cells {first} and {second}"
        self._open().edit(words, lambda plane, fresh: editing.merge(plane, first, second))
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
        session.edit(f"split cell {cell}", lambda plane, fresh: editing.split_by_seeds(plane, cell, points, fresh))

    def _do_redraw(self, name: str) -> None:
        """Take the brush with the cell's label; when it is taken already, change to the eraser and back."""
        session = self._open()
        layer = session.labels()
        if self.tool == "redraw":
            layer.mode = "paint" if str(layer.mode) == "erase" else "erase"
            return
        cell = session.needed_target()
        self._start("redraw")
        y0, y1, x0, x1 = editing.cell_box(session.values(), cell)
        session.current = (session.plane(), cell)
        self._preserved = layer.preserve_labels
        layer.selected_label, layer.preserve_labels = cell, True
        layer.brush_size = max(1, min(y1 - y0, x1 - x0) // _BRUSH_SHARE)
        layer.mode = "paint"

    # --- the mouse and the brush, see proofread_hooks.Listener ----------------------------------

    def is_open(self) -> bool:
        """Return whether the layer is still there; the last that it says comes while it is taken out."""
        return self.session is not None and self.session.is_open()

    def on_move(self, point: Point) -> None:
        """Follow the mouse."""
        session = self._open()
        before, session.pointer = session.target(), point
        if session.target() != before:
            self._show_target(session)

    def on_click(self, point: Point) -> None:
        """Choose a cell, or do with it what the tool does."""
        self._try(lambda: self._click(point))

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

    def draws(self) -> bool:
        """Return whether dragging draws a line."""
        return self.tool == "line"

    def on_drag(self, path: list[Point]) -> None:
        """Show the line."""
        self._points = list(path)
        self._show_signs(self._open())

    def on_drawn(self, path: list[Point]) -> None:
        """Split along the line."""
        self._points = []
        self._try(lambda: self._split_by_line(path))

    def _split_by_line(self, path: list[Point]) -> None:
        cell = editing.cell_on_line(self._open().values(), path)
        self._open().edit(f"split cell {cell}", lambda plane, fresh: editing.split_by_line(plane, cell, path, fresh))

    def on_stroke_begin(self) -> None:
        """Remember the labels before a stroke."""
        self._open().remember()

    def on_stroke(self) -> None:
        """Note what is being painted, as soon as it is there, so that it can be undone and is marked."""
        self._open().expect_stroke()
        self._soon.start()

    def _settle(self) -> None:
        if self.is_open() and not self._open().settle():
            self.view.messages.say("Several planes were painted at once; that and what was before stays as it is.")

    def _on_stroke_done(self) -> None:
        self._settle()
        self.show()

    def on_data(self) -> None:
        """Count cells anew, soon."""
        if self.is_open():
            self._open().count_anew()
        self._later.start()

    def on_mode(self) -> None:
        """Leave redrawing when the layer was set to something else than painting."""
        session = self._open()
        if self.tool == "redraw" and str(session.labels().mode) in ("pan_zoom", "transform", "pick"):
            self._leave()
        session.remember()
        self.show()

    # --- what is shown --------------------------------------------------------------------------

    def show(self) -> None:
        """Bring dock and signs up to date."""
        self.view.show_tool(self.tool)
        session = self.session
        if session is None or not session.is_open():
            self._overlay.close()
            self.view.show_target(0, "", "")
            self.view.show_checked(dict.fromkeys(SIGNS, 0), [], 0)
            self.view.show_undo("", "")
            return
        proof = session.proof
        self._show_target(session)
        self.view.show_undo(*proof.history.words())
        entries = [(plane, cell) for plane in sorted(proof.marks) for cell in sorted(proof.marks[plane])]
        self._entries = entries[:_MOST_ENTRIES]
        lines = [describe(session, *entry) for entry in self._entries]
        self.view.show_checked(proof.count(), lines, len(session.left(session.plane())))
        self._show_signs(session)

    def _show_target(self, session: ProofSession) -> None:
        cell = session.target()
        kept = session.proof.marked(session.plane()).get(cell)
        words = status_words(self.tool, self._first, len(self._points))
        self.view.show_target(cell, kept.kind if kept else "", words)

    def _show_signs(self, session: ProofSession) -> None:
        self._overlay.show(session.labels(), signs_of(session, self._first, self._points))


class ProofreadDock(Dock):
    """The dock: check and correct a segmentation.

    Parameters
    ----------
    napari_viewer : napari.Viewer
        Where the layers are.
    """

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer)
        self.view = ProofreadView()
        self.controller = ProofreadController(self.viewer, self.view)
        self.run(self.view, self.controller)
