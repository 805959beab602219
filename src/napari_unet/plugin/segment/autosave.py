"""Results that save themselves where the user said, again whenever they change. One file at a time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...records.replay import save_labels
from ..layers.reading import full_data
from ..layers.zarr_result import spacing_of
from ..runtime.worker_thread import WorkerThread
from .growing_result import safe_name
from .provenance import Recipe, Say

if TYPE_CHECKING:
    from ..layers.result import ResultLayer


class Autosave:
    """Writes results in a thread; while one is written, only the newest that is asked for waits.

    Parameters
    ----------
    say : callable
        Tells the user something: words and kind.
    """

    def __init__(self, say: Say) -> None:
        self._say = say
        self._thread = WorkerThread()
        self._waiting: tuple[ResultLayer, Path, Recipe | None] | None = None
        self._busy = False

    def save(self, result: ResultLayer, folder: Path, recipe: Recipe | None) -> None:
        """Write a result soon, under the name of its layer; a later version of it replaces the earlier one."""
        self._waiting = (result, folder, recipe)
        if not self._busy:
            self._next()

    def close(self) -> None:
        """Tell nothing more; what is being written is written to its end."""
        self._waiting = None
        self._thread.forget()

    def _next(self) -> None:
        """Begin to write what waits."""
        waiting, self._waiting, self._busy = self._waiting, None, False
        layer = waiting[0].layer() if waiting is not None else None
        if waiting is None or layer is None:
            return
        result, folder, recipe = waiting
        if result.saved is None or result.saved.parent != folder:
            result.saved = free_path(folder, layer.name)
        path, labels, axes, spacing = result.saved, full_data(layer), result.axes, spacing_of(layer, result.axes)
        self._busy = True

        def write() -> Path:
            job = recipe.job_beside() if recipe is not None else None
            return save_labels(path, labels, axes, job, spacing)

        self._thread.run(write, self._on_written, self._on_failed)

    def _on_written(self, path: Path) -> None:
        self._say(f"Saved as {path}.", "done")
        self._next()

    def _on_failed(self, message: str) -> None:
        self._say(message, "error")
        self._next()


def free_path(folder: Path, name: str) -> Path:
    """Return a path in a folder at which nothing lies."""
    stem, number = safe_name(name), 1
    while (path := folder / f"{stem}{'' if number == 1 else f'-{number}'}.zarr").exists():
        number += 1
    return path


def write_recipe(thread: WorkerThread, recipe: Recipe | None, path: str, failed: Any) -> None:
    """Write beside a result on disk how it was made."""
    from ...records.replay import write_job

    if recipe is not None and path:
        thread.run(lambda: write_job(recipe.job(keep=False), Path(path)), lambda _: None, failed)
