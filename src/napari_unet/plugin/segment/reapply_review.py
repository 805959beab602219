"""Checked cells of earlier results, put back over a new one that lies on disk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ...records.saved_labels import restore_into
from ..layers.review_state import layer_review, reviewed_cells_of
from ..runtime.worker_thread import WorkerThread
from .provenance import Say

if TYPE_CHECKING:
    from ...core.proofreading.reapply_review import Restored
    from ..layers.result import ResultLayer


class Restoring:
    """Puts checked cells back in a thread, when a result on disk is finished.

    Parameters
    ----------
    say : callable
        Tells the user something: words and kind.
    """

    def __init__(self, say: Say) -> None:
        self._say = say
        self._thread = WorkerThread()

    def close(self) -> None:
        """Tell nothing more; what was begun is done to its end."""
        self._thread.forget()

    def run(self, result: ResultLayer, path: str) -> None:
        """Put back what was checked of the picture before, if anything was."""
        image, layer = result.image(), result.layer()
        marks = reviewed_cells_of(image, layer) if image is not None and result.what == "instances" else {}
        if marks:
            self._thread.run(
                lambda: restore_into(Path(path), marks), lambda found: self._on_done(result, found), self._on_failed
            )

    def _on_done(self, result: ResultLayer, found: Restored) -> None:
        layer = result.layer()
        result.restored = found.count
        if layer is not None:
            layer_review(layer).adopt(found.marks)
            layer.refresh(extent=False)
        self._say(f"{found.count} reviewed cells were kept.", "note")

    def _on_failed(self, message: str) -> None:
        self._say(f"Reviewed cells could not be kept: {message}", "warning")
