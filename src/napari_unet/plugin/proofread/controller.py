"""Controller of the Proofread dock: review and correct a segmentation cell by cell."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer

from ...core.errors import UNetError
from ...records.correction_journal import Journal
from ..dock.follow_preferences import Preferring
from ..dock.lifecycle import painted_later
from ..layers.class_labels import holds_classes
from ..layers.connected_components import SPLIT, SPLIT_DONE, ComponentSplitter, can_split, classes_found
from ..layers.reading import note
from ..layers.review_overlay import ReviewOverlay
from ..layers.review_state import LayerReview, known_review, layer_review
from ..layers.zarr_result import store_of
from ..runtime.gc_pause import Hold
from ..settings.preferences import Preferences
from ..widgets.layer_selectors import LayerWatch, labels_of
from .actions import Actions
from .layer_events import LayerHooks
from .loading import ReviewLoader
from .review_signs import Entry, entries_of, is_likely, is_result, scope_of, signs_of, status_words
from .save_recover import SaveAndRecover
from .session import Point, ProofreadSession
from .store_crops import StoreCrops
from .view import SIGNS, ProofreadView

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels

_MOST_ENTRIES = 300
_AFTER_DATA_MS = 200
_REST_MS = 10_000
"""From the last correction until Python may look for garbage again, which holds up the viewer for 200 ms."""


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
        self.actions = Actions(viewer, view)
        self._hooks: LayerHooks | None = None
        self._entries: list[Entry] = []
        self._seen: set[int] | None = None
        self._overlay = ReviewOverlay(viewer)
        self._soon = QTimer(singleShot=True, interval=0)
        self._soon.timeout.connect(self._on_stroke_done)
        self._hold: Hold | None = None
        self._rest = QTimer(singleShot=True, interval=_REST_MS)
        self._rest.timeout.connect(self._release)
        self._later = QTimer(singleShot=True, interval=_AFTER_DATA_MS)
        self._later.timeout.connect(self._on_recounted)
        view.result.layer_changed.connect(self._on_layer)
        view.labels_are.answered.connect(self._on_layer)
        view.action.connect(self.act)
        view.entry_chosen.connect(self._go_to_entry)
        view.training_changed.connect(self._on_used_in_training)
        view.scope_changed.connect(self._on_scope)
        view.save.connect(self._save)
        view.part.connect(self._on_offer)
        viewer.dims.events.current_step.connect(self._on_plane)
        self._loading: ReviewLoader | None = None
        self._complained: Journal | None = None
        self._keeping = SaveAndRecover(viewer, view, self.show)
        self._parts = StoreCrops(viewer, view, self.show)
        self._splitter = ComponentSplitter(viewer, self._on_split, self._on_split_failed)
        self._preferring = Preferring(self._on_preferences)
        self._watch = LayerWatch(viewer, self._on_layers)
        self._on_layer()
        self._keeping.look()

    def close(self) -> None:
        """Let go of viewer and layer; what was corrected and checked stays known."""
        for timer in (self._later, self._soon, self._rest):
            timer.stop()
        self._release()
        self._watch.close()
        self._preferring.close()
        self.viewer.dims.events.current_step.disconnect(self._on_plane)
        self._detach()
        self._keeping.close()
        self._parts.close()
        self._splitter.close()
        self._overlay.close()

    def _on_preferences(self, now: Preferences, before: Preferences) -> None:
        self.view.show_keys(now)
        if self._hooks is not None:
            self._hooks.bind()

    @property
    def session(self) -> ProofreadSession | None:
        """The layer being corrected."""
        return self.actions.session

    def is_open(self) -> bool:
        """Return whether the layer is still in the viewer."""
        return self.actions.is_open()

    # --- the layer ------------------------------------------------------------------------------

    def _on_layers(self) -> None:
        """Offer the Labels layers; a result that was not there before is what the user wants to see now."""
        layers = labels_of(self.viewer)
        fresh = [layer for layer in layers if self._seen is not None and id(layer) not in self._seen]
        self._seen = {id(layer) for layer in layers}
        self.view.result.show_layers(layers, likely=is_result if any(map(is_result, layers)) else is_likely)
        for layer in filter(is_result, fresh):
            self.view.result.choose(layer)
        if self.actions.is_open():
            self.actions.opened().pair()

    def _on_layer(self) -> None:
        """Work on another layer."""
        self._detach()
        layer = self.view.result.layer()
        self.actions.refusal = _refusal(layer)
        if layer is not None and not self.actions.refusal:
            self._begin(layer)
        self.view.set_ready(self.actions.session is not None)
        self.view.training_box.setEnabled(known_review(layer) is not None)
        self.show()

    def _begin(self, layer: Labels) -> None:
        if store_of(layer) is not None:
            # Corrected in parts; the marks are of use all the same.
            self._load(layer_review(layer))
            self.view.show_used_in_training(layer_review(layer).used_in_training)
            return
        try:
            self.actions.session = ProofreadSession(self.viewer, layer)
        except UNetError as error:
            self.view.messages.say(str(error), "error")
            return
        self._hooks = LayerHooks(layer, self, self.actions.session.where)
        self.viewer.layers.selection.active = layer
        self.view.show_used_in_training(self.actions.session.known.used_in_training)
        self._load(self.actions.session.known)

    def _load(self, known: LayerReview) -> None:
        """Look for marks of an earlier time, and where the cells are."""
        self._loading = ReviewLoader(known, self.show, lambda words: self.view.messages.say(words, "warning"))
        self._loading.start()

    def _detach(self) -> None:
        self._settle()
        self.actions.leave()
        if self._hooks is not None:
            self._hooks.close()
        if self._loading is not None:
            self._loading.close()
        self.actions.session = self._hooks = self._loading = None

    # --- what the user does ---------------------------------------------------------------------

    def act(self, name: str) -> None:
        """Do what a button or key says; what is not possible is explained."""
        self._try(lambda: self.actions.run(name))

    def _try(self, action: Any) -> None:
        """Do something; what is not possible is explained."""
        self._hold = self._hold or Hold()
        self._rest.start()
        self.view.messages.clear_messages()
        self._settle()
        try:
            action()
        except UNetError as error:
            self.view.messages.say(str(error), "warning")
        self.show()

    def _release(self) -> None:
        """Let Python look for garbage again."""
        if self._hold is not None:
            self._hold.release()
            self._hold = None

    def _go_to_entry(self, row: int) -> None:
        self._try(lambda: self.actions.opened().go_to_checked(self._entries[row].planes, self._entries[row].cell))

    def _on_plane(self, event: Any = None) -> None:
        self.actions.forget_clicks()
        if self.actions.is_open():
            self.actions.opened().remember()
        self.show()

    def _on_used_in_training(self, on: bool) -> None:
        known = known_review(self.view.result.layer())
        if known is not None:
            known.used_in_training = on

    def _on_scope(self, whole: bool) -> None:
        if self.actions.session is not None:
            self.actions.session.known.whole = whole
        self.show()

    def _on_offer(self) -> None:
        layer = self.view.result.layer()
        if layer is not None:
            self._try(lambda: self._split(layer) if holds_classes(layer) else self._parts.act(layer))

    def _split(self, layer: Labels) -> None:
        """Split classes into cells, which can be corrected one by one."""
        self.view.show_busy(True)
        self._splitter.split([layer])

    def _on_split(self, layers: list[Labels]) -> None:
        self.view.show_busy(False)
        for layer in layers:
            self.view.result.choose(layer)
            self.view.messages.say(f"{SPLIT_DONE}; split them.", "done")

    def _on_split_failed(self, message: str) -> None:
        self.view.show_busy(False)
        self.view.messages.say(message, "error")

    def _save(self, path: str) -> None:
        self._settle()
        if self.actions.is_open():
            self._keeping.save(self.actions.opened().labels(), self.actions.opened().known.axes, path)

    # --- the mouse and the brush, see proofread_hooks.Listener ----------------------------------

    def on_move(self, point: Point) -> None:
        """Follow the mouse."""
        session = self.actions.opened()
        before, session.pointer = session.target(), point
        if session.target() != before:
            self._show_target(session)

    def on_click(self, point: Point) -> None:
        """Choose a cell, or do with it what the tool does."""
        self._try(lambda: self.actions.click(point))

    def draws(self) -> bool:
        """Return whether dragging draws a line."""
        return self.actions.tool == "line"

    def on_drag(self, path: list[Point]) -> None:
        """Show the line."""
        self.actions.points = list(path)
        self._show_signs(self.actions.opened())

    def on_drawn(self, path: list[Point]) -> None:
        """Split along the line."""
        self._try(lambda: self.actions.split_by_line(path))

    def on_stroke_begin(self) -> None:
        """Remember the labels before a stroke."""
        self.actions.opened().remember()

    def on_stroke(self) -> None:
        """Note what is being painted, as soon as it is there, so that it can be undone and is marked."""
        if not self.actions.opened().known.writing:
            self.actions.opened().expect_stroke()
            self._soon.start()

    def on_pixels(self, offset: tuple[int, ...], shape: tuple[int, ...]) -> None:
        """Remember where labels are being painted."""
        self.actions.opened().touch(offset, shape)

    def _settle(self) -> None:
        if self.actions.is_open() and not self.actions.opened().settle():
            self.view.messages.say("Several planes were painted at once; that and what was before stays as it is.")

    def _on_stroke_done(self) -> None:
        self._settle()
        self.show()

    def on_data(self) -> None:
        """Recount cells soon."""
        if self.actions.is_open():
            self.actions.opened().recount()
        self._later.start()

    def _on_recounted(self) -> None:
        self.show()
        if self._loading is not None:
            # Planes that were scrolled past, which may have changed for all that is known.
            self._loading.count()

    def on_mode(self) -> None:
        """Leave redrawing when the layer was set to something else than painting."""
        session = self.actions.opened()
        if self.actions.tool == "redraw" and str(session.labels().mode) in ("pan_zoom", "transform", "pick"):
            self.actions.leave()
        session.remember()
        self.show()

    # --- what is shown --------------------------------------------------------------------------

    def show(self) -> None:
        """Bring dock and signs up to date."""
        layer = self.view.result.layer()
        if self.actions.refusal:
            self.view.show_offer(self.actions.refusal, SPLIT if can_split(layer) else "")
        else:
            self._parts.show(layer)
        self.view.show_tool(self.actions.tool)
        session = self.actions.session
        if session is None or not session.is_open():
            self._overlay.remove()
            self.view.show_scope("", False)
            self.view.show_target(0, "", "")
            known = known_review(self.view.result.layer())
            self.view.show_checked(known.proof.count() if known is not None else dict.fromkeys(SIGNS, 0), [])
            self.view.show_undo("", "")
            return
        proof = session.proof
        self._show_target(session)
        self.view.show_scope(scope_of(session.known), session.known.whole)
        self.view.show_undo(*proof.history.words())
        self._complain(session)
        self._list(session)
        self._show_signs(session)

    def _list(self, session: ProofreadSession) -> None:
        """Show the checked cells, those of a long list up to a limit."""
        entries = entries_of(session.known)
        letters = [a for a in session.known.axes if a not in "cyx"]
        self._entries = entries[:_MOST_ENTRIES]
        kinds = [entry.kind for entry in entries]
        counts = {kind: kinds.count(kind) for kind in SIGNS}
        left = len(session.left(session.plane()))
        first = note(session.labels()).get("part", {}).get("plane", ())
        self.view.show_checked(counts, [entry.words(letters, first) for entry in self._entries], left)

    def _complain(self, session: ProofreadSession) -> None:
        """Say once per journal when it cannot be kept."""
        journal = session.known.journal
        if journal is not None and journal.problem and journal is not self._complained:
            self._complained = journal
            self.view.messages.say(journal.problem, "warning")

    def _show_target(self, session: ProofreadSession) -> None:
        cell = session.target()
        kept = session.proof.marked(session.plane()).get(cell)
        words = status_words(self.actions.tool, self.actions.first, len(self.actions.points))
        self.view.show_target(cell, kept.kind if kept else "", words)

    def _show_signs(self, session: ProofreadSession) -> None:
        signs = signs_of(session, self.actions.first, self.actions.points)
        fresh = bool(signs) and self._overlay.layer() is None
        with painted_later(self.view) if fresh else contextlib.nullcontext():
            self._overlay.show(session.labels(), signs)


def _refusal(layer: Labels | None) -> str:
    """Return why a layer cannot be corrected cell by cell, and what to do; nothing where it can."""
    if layer is None or not holds_classes(layer):
        return ""
    how = (
        "Split it into connected components to correct single cells"
        if can_split(layer)
        else "Segment with a model of cells"
    )
    return f"{classes_found(layer)} Delete would remove every cell of a class. {how}, or paint to correct the classes."
