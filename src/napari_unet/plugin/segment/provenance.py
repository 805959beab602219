"""Results that say how they were made: job and command line in the layer, to be copied, and saved beside a file."""

from __future__ import annotations

import dataclasses
import re
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.data.arrays import Planes
from ...core.errors import StoreError, UNetError
from ...core.network.model_card import read_card
from ...core.settings import PredictionSettings
from ...records.replay import keep_picture, lacks_chunks, own_file, save_labels, segment_command, segment_job
from ..layers.reading import OURS, full_data, note
from ..layers.review_state import Saved
from ..layers.zarr_result import needs_store, spacing_of
from ..runtime.worker_thread import WorkerThread
from ..widgets.common import to_clipboard

if TYPE_CHECKING:
    from ..layers.result import ResultLayer
    from ..runtime.engine import SegmentRequest

Say = Callable[[str, str], None]


@dataclass(frozen=True)
class Recipe:
    """How a result was made.

    Attributes
    ----------
    planes : Planes
        The picture.
    model : str
        What segmented it.
    settings : PredictionSettings
        How.
    wanted : tuple
        Indices of the planes.
    name, source : str
        The picture's name, and the file that it was opened from, if any.
    """

    planes: Planes
    model: str
    settings: PredictionSettings
    wanted: tuple[tuple[int, ...], ...]
    name: str
    source: str

    def job_beside(self) -> dict[str, Any]:
        """Return the job to be written beside a saved result; in a thread.

        Its command can be run: a picture in no file is written to one, unless there is no room for that.
        """
        try:
            return self.job(keep=True)
        except StoreError:
            return self.job(keep=False)

    def job(self, keep: bool) -> dict[str, Any]:
        """Return the job with its command; in a thread, as it reads the picture.

        Parameters
        ----------
        keep : bool
            Whether to write the picture to a file when it has none that would do.
        """
        path = own_file(self.source, self.planes)
        if path is None and keep:
            path = keep_picture(self.planes)
        # What is seen in the viewer was segmented, with the parts that a store leaves out.
        sparse = path is not None and lacks_chunks(path)
        only = None if list(self.wanted) == self.planes.indices() else self.wanted
        try:
            chosen = read_card(self.model).prediction
        except UNetError:
            chosen = {}
        ending = ".zarr" if needs_store(self.planes) else ".tif"
        stem = re.sub(r"[^\w.-]+", "_", self.name).strip("._") or "image"
        command = segment_command(
            path or f"{stem}.tif", f"{stem}-{self.settings.what}{ending}", self.model, self.settings, planes=only,
            chosen=chosen, sparse=sparse,
        )  # fmt: skip
        return segment_job(command, str(path or ""), self.model, self.settings, only, self.name, sparse)


class Replay:
    """Keeps the recipe of the last result of a dock, and hands it out.

    Parameters
    ----------
    say : callable
        Tells the user something: words and kind.
    """

    def __init__(self, say: Say) -> None:
        self._say = say
        self._noting, self._copying, self._saving = WorkerThread(), WorkerThread(), WorkerThread()
        self._recipe: Recipe | None = None
        self._result: ResultLayer | None = None

    def close(self) -> None:
        """Drop what is under way."""
        for thread in (self._noting, self._copying, self._saving):
            thread.forget()
        self._recipe = self._result = None

    def remember(self, result: ResultLayer, request: SegmentRequest) -> None:
        """Take note of what a result is about to be made from; planes that are filled one by one add up."""
        image = result.image()
        wanted = tuple(request.planes if request.planes is not None else request.image.indices())
        if result is self._result and self._recipe is not None:
            wanted = (*self._recipe.wanted, *wanted)
        self._result = result
        self._recipe = Recipe(
            request.image, request.model, request.settings, tuple(sorted(set(wanted))),
            image.name if image is not None else "image", _file_of(image),
        )  # fmt: skip

    def note(self, tuning: dict[str, Any]) -> None:
        """Write job and command into the result's layer, with the present values of the sliders."""
        recipe, result = self.recipe(tuning), self._result
        if recipe is not None and result is not None and result.layer() is not None:
            known = weakref.ref(result.layer())
            self._noting.run(lambda: recipe.job(keep=False), lambda job: _note(known, job))

    def copy(self, tuning: dict[str, Any]) -> None:
        """Put the command line into the clipboard; a picture that is in no file is written to one first."""
        recipe, result = self.recipe(tuning), self._result
        if recipe is None or result is None or result.layer() is None:
            self._say("There is no result yet; segment something first.", "warning")
            return
        known, edited = weakref.ref(result.layer()), result.edited
        self._copying.run(
            lambda: recipe.job(keep=True), lambda job: self._copied(known, job, edited),
            lambda message: self._say(message, "error"),
        )  # fmt: skip

    def save(self, path: str, tuning: dict[str, Any]) -> None:
        """Write the result to a file, with its job beside it."""
        recipe, result = self.recipe(tuning), self._result
        layer = result.layer() if result is not None else None
        if recipe is None or result is None or layer is None:
            self._say("There is no result yet; segment something first.", "warning")
            return
        labels, axes, spacing = full_data(layer), result.axes, spacing_of(layer, result.axes)
        if axes.index("x") < axes.index("y"):
            self._say("The picture has its width before its height; save the layer by File > Save instead.", "error")
            return
        checked = Saved.of(layer)

        def write() -> Path:
            written = save_labels(Path(path), labels, axes, recipe.job_beside(), spacing)
            if checked is not None:
                checked.write(written)
            return written

        self._saving.run(
            write, lambda written: self._saved(written, checked), lambda message: self._say(message, "error")
        )

    def _saved(self, written: Path, checked: Saved | None) -> None:
        if checked is not None:
            checked.done()
        self._say(f"Saved {written.name}, and how it was made beside it.", "done")

    def recipe(self, tuning: dict[str, Any]) -> Recipe | None:
        """Return the recipe with other values of the sliders."""
        if self._recipe is None:
            return None
        return dataclasses.replace(self._recipe, settings=dataclasses.replace(self._recipe.settings, **tuning))

    def _copied(self, known: weakref.ref[Any], job: dict[str, Any], edited: bool) -> None:
        _note(known, job)
        to_clipboard(job["command"])
        self._say("The command is in the clipboard; paste it into a terminal.", "done")
        if edited:
            self._say("What was corrected by hand is not part of the command.", "warning")


def _note(known: weakref.ref[Any], job: dict[str, Any]) -> None:
    """Write a job into a layer, if it is still there."""
    layer = known()
    if layer is not None:
        layer.metadata[OURS] = {**note(layer), "job": job, "command": job["command"]}


def _file_of(image: Any) -> str:
    """Return the file that a layer was opened from, or nothing."""
    source = getattr(image, "source", None)
    path = getattr(source, "path", None)
    return str(path) if path else ""


def tuned_values(names: Sequence[str], values: tuple[Any, ...] | None) -> dict[str, Any]:
    """Return the values that a plane's labels were last made with, by name."""
    return dict(zip(names, values, strict=True)) if values is not None else {}
