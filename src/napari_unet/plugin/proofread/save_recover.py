"""Saving what was proofread, and having back what was not saved when the program ended."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...records import recovery
from ...records.correction_journal import Journal
from ...records.recovery import Recovered, Unsaved
from ...records.replay import save_labels
from ..layers.reading import OURS, full_data, note
from ..layers.review_state import Saved, editable_review
from ..layers.zarr_result import spacing_of
from ..runtime.worker_thread import WorkerThread
from .view import ProofreadView

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels


class SaveAndRecover:
    """Saves labels with their marks, and offers unsaved corrections of an earlier time.

    Parameters
    ----------
    viewer : ViewerModel
        Where recovered labels are put.
    view : ProofreadView
        Has the buttons, and says what happens.
    changed : callable
        Called when marks or layers have changed.
    """

    def __init__(self, viewer: ViewerModel, view: ProofreadView, changed: Callable[[], None]) -> None:
        self._viewer, self._view, self._changed = viewer, view, changed
        self._saving, self._looking, self._recovering = WorkerThread(), WorkerThread(), WorkerThread()
        self._unsaved: list[Unsaved] = []
        view.recover.connect(self._recover)
        view.discard.connect(self._discard)

    def close(self) -> None:
        """Drop what is under way; a file that is being written is finished."""
        for thread in (self._saving, self._looking, self._recovering):
            thread.forget()

    # --- saving ---------------------------------------------------------------------------------

    def save(self, layer: Labels, axes: str, path: str) -> None:
        """Write the labels of a layer to a file, and their marks beside it."""
        if axes.index("x") < axes.index("y"):
            self._view.messages.say("The labels have their width before their height; save the layer by File > Save "
                                    "Selected Layers instead.", "error")  # fmt: skip
            return
        labels, job, marks = full_data(layer), note(layer).get("job"), Saved.of(layer)
        spacing = spacing_of(layer, axes)

        def write() -> Path:
            written = save_labels(Path(path), labels, axes, job, spacing)
            if marks is not None:
                marks.write(written)
            return written

        self._saving.run(write, lambda written: self._saved(written, marks), self._say_error)

    def _saved(self, written: Path, marks: Saved | None) -> None:
        if marks is not None:
            marks.done()
        self._view.messages.say(f"Saved {written.name}, and the review marks beside it.", "done")

    def _say_error(self, message: str) -> None:
        self._view.messages.say(message, "error")

    # --- recovering -----------------------------------------------------------------------------

    def look(self) -> None:
        """Look for corrections that were not saved, and offer the newest ones."""
        self._looking.run(recovery.unsaved, self._offer)

    def _offer(self, found: list[Unsaved]) -> None:
        self._unsaved = found
        more = f" Then {len(found) - 1} more." if len(found) > 1 else ""
        self._view.show_unsaved(f"{found[0].words()}.{more}" if found else "")

    def _discard(self) -> None:
        if self._unsaved:
            self._unsaved.pop(0).discard()
            self._offer(self._unsaved)

    def _recover(self) -> None:
        if self._unsaved:
            first = self._unsaved.pop(0)
            self._offer(self._unsaved)
            self._recovering.run(
                lambda: recovery.recover(first.folder), lambda found: self._add(first, found), self._say_error
            )

    def _add(self, unsaved: Unsaved, found: Recovered) -> None:
        """Put recovered labels into the viewer, and go on with their journal."""
        about: dict[str, Any] = {"axes": found.about["axes"]}
        about |= {name: found.about[name] for name in ("result", "part") if found.about.get(name)}
        layer = self._viewer.add_labels(
            found.labels, name=str(found.about.get("name", "labels")), opacity=0.6, metadata={OURS: about},
            **self._placement(found),
        )  # fmt: skip
        editable_review(layer).resume(found, Journal(unsaved.folder))
        self._view.result.choose(layer)
        self._changed()
        how = "Write them to the file" if "part" in about else "Save them"
        self._view.messages.say(f"Recovered {unsaved.words()}. {how} to keep them.", "done")

    def _placement(self, found: Recovered) -> dict[str, Any]:
        """Return where the labels were, if that fits them."""
        placement = found.about.get("placement")
        return dict(placement) if isinstance(placement, dict) else {}
