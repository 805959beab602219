"""What the Proofread dock does with labels that are kinds of cell, or a mask, where each number is no cell."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..layers.class_labels import MAKE_CELLS, PieceMaker, holds_kinds, kinds_words, looks_like_kinds
from ..layers.painted import background_label
from ..layers.reading import current_plane, data_shape, full_data, guess_axes, note
from ..layers.zarr_result import store_of
from ..runtime.worker_thread import WorkerThread
from .view import ProofreadView

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels

_MOST_PIXELS = 1 << 28
"""Of a layer that is taken apart in memory."""
_REFUSED = "{name} holds kinds of cell, not cells: Delete would take every cell of a kind. "
_DO = "Make cells of its pieces to correct them one by one, or paint in the layer to correct the kinds."
_DO_ON_DISK = "Segment it with a model that tells cells apart, or paint in the layer to correct the kinds."
_LIKELY = "Here Delete takes all pieces of a number."


class ProofKinds:
    """Says which layers are not made of cells, and makes cells of them.

    Parameters
    ----------
    viewer : ViewerModel
        Where the layers are.
    view : ProofreadView
        Has the button, and says what happens.
    changed : callable
        Called when something was learnt of a layer.
    """

    def __init__(self, viewer: ViewerModel, view: ProofreadView, changed: Callable[[], None]) -> None:
        self._viewer, self._view, self._changed = viewer, view, changed
        self._looking = WorkerThread()
        self._maker = PieceMaker(viewer, self._on_made, self._on_failed)
        self._kinds: weakref.WeakSet[Any] = weakref.WeakSet()
        self._likely: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()

    def close(self) -> None:
        """Drop what is under way."""
        self._looking.forget()
        self._maker.close()

    def look(self, layer: Labels | None) -> None:
        """Find out whether a layer is made of cells; in a thread where only its pixels tell."""
        self._looking.forget()
        if layer is None:
            return
        if holds_kinds(layer):
            self._kinds.add(layer)
        elif not note(layer).get("result") and store_of(layer) is None and not layer.multiscale:
            axes = str(note(layer).get("axes") or guess_axes(layer))
            data, plane, known = full_data(layer), current_plane(self._viewer, layer, axes), weakref.ref(layer)
            background = background_label(layer)
            self._looking.run(
                lambda: looks_like_kinds(data, axes, plane, background), lambda found: self._take(known, *found)
            )

    def _take(self, known: weakref.ref[Labels], pieces: int, numbers: int) -> None:
        layer = known()
        if layer is not None and pieces:
            self._likely[layer] = f"{kinds_words(layer.name, pieces, numbers)} {_LIKELY}"
            self._changed()

    def refusal(self, layer: Any) -> str:
        """Return why a layer cannot be corrected cell by cell, and what to do; nothing where it can."""
        if layer is None or layer not in self._kinds:
            return ""
        return _REFUSED.format(name=layer.name) + (_DO if self._fits(layer) else _DO_ON_DISK)

    def _fits(self, layer: Any) -> bool:
        """Return whether a layer can be taken apart in memory."""
        size = 1
        for n in data_shape(layer):
            size *= n
        return store_of(layer) is None and not layer.multiscale and size <= _MOST_PIXELS

    def words(self, layer: Any) -> str:
        """Return what is said of a layer that is, or may be, no cells; nothing of others."""
        return self.refusal(layer) or (self._likely.get(layer, "") if layer is not None else "")

    def show(self, layer: Any) -> bool:
        """Say so of a layer that is no cells; return whether there is anything to say."""
        words = self.words(layer)
        if words:
            self._view.show_part(words, MAKE_CELLS if self._fits(layer) else "")
        return bool(words)

    def make(self, layer: Labels) -> None:
        """Make cells of a layer's pieces."""
        self._view.show_busy(True)
        self._maker.make([layer])

    def _on_failed(self, words: str) -> None:
        self._view.show_busy(False)
        self._view.messages.say(words, "error")

    def _on_made(self, layers: list[Labels]) -> None:
        self._view.show_busy(False)
        if not layers:
            return
        self._view.result.choose(layers[0])
        self._view.messages.say(
            "Each separate piece is a cell now. Cells of a kind that touch are one piece; split them.", "done"
        )
