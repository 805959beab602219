"""Results written progressively to the viewer's disk, wherever they are computed. Needs no torch.

A process on the same computer writes into the store itself. One on another computer cannot: it sends each part, and
:class:`Growing`, in the viewer's process, writes it. So the result lies in one place, looks the same while it grows,
and is gone on with in the same way.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ... import stores
from ...core.errors import StoreError
from ...core.inference.chunked import plane_key


def open_result(
    about: Mapping[str, Any], shape: tuple[int, ...], axes: str, dtype: Any, job: Mapping[str, Any]
) -> stores.UnfinishedLabels:
    """Return the unfinished result of the same job, or a new one under the first name that is free.

    Parameters
    ----------
    about : mapping
        ``folder``, ``name`` and ``spacing``.
    shape, axes, dtype, job
        See :class:`~napari_unet.stores.UnfinishedLabels`.

    Raises
    ------
    StoreError
        When nothing can be written there.
    """
    spacing = {axis: (float(size), str(unit)) for axis, (size, unit) in about["spacing"].items()}
    for number in itertools.count(1):
        path = Path(about["folder"]) / f"{about['name']}{'' if number == 1 else f'-{number}'}.zarr"
        if path.exists():
            continue
        try:
            return stores.UnfinishedLabels(path, shape, axes, dtype, job, spacing=spacing)
        except StoreError:
            # Of another job, or being written at this moment: the next name.
            if not (stores.unfinished_folder(path) / "job.json").exists():
                raise
    raise StoreError(f"{about['folder']} has no free name for {about['name']}.")


def missing_planes(out: stores.UnfinishedLabels) -> bool:
    """Return whether planes of a result are missing."""
    return any(out.work.recall(plane_key(plane)) is None for plane in np.ndindex(*out.array.shape[:-2]))


class Growing:
    """A result that a job on another computer makes: what it asks for and sends is done here.

    Where the result lies is the word of this computer alone.

    Parameters
    ----------
    about : mapping or None
        ``folder``, ``name`` and ``spacing``; None for a job that makes no such result.
    """

    def __init__(self, about: Mapping[str, Any] | None = None) -> None:
        self._about = about
        self._out: stores.UnfinishedLabels | None = None
        self._levels: stores.Levels | None = None
        # Parts are written by the thread that answers; the job may end in another one meanwhile.
        self._lock = threading.Lock()

    def answer(self, question: Mapping[str, Any]) -> Any:
        """Execute a request of the other computer, and return the answer.

        Raises
        ------
        StoreError
            When it cannot be written, or nothing was agreed on.
        """
        known: dict[str, Callable[[Mapping[str, Any]], Any]]
        known = {"open": self._open, "part": self._part, "plane": self._plane, "save": self._save}
        work = known.get(question["what"])
        if work is None or self._about is None:
            raise StoreError("The other computer sent a result that was not asked for.")
        with self._lock, stores.writing(Path(self._about["folder"])):
            return work(question)

    def close(self) -> None:
        """Release the result; finished planes are kept."""
        with self._lock:
            if self._out is not None:
                self._out.work.close()
            self._out = self._levels = None

    def _open(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Open the result; return its place and its finished planes."""
        dtype = np.dtype(question["dtype"])
        out = open_result(self._about or {}, tuple(question["shape"]), question["axes"], dtype, question["identity"])
        self._out, self._levels = out, stores.Levels(out.partial)
        keys = [plane_key(plane) for plane in np.ndindex(*out.array.shape[:-2])]
        planes = {key: count for key in keys if (count := out.work.recall(key)) is not None}
        return {"path": str(out.path), "partial": str(out.partial), "resumed": out.resumed, "planes": planes}

    def _opened(self) -> tuple[stores.UnfinishedLabels, stores.Levels]:
        if self._out is None or self._levels is None:
            raise StoreError("The other computer sent a part of a result that is not open.")
        return self._out, self._levels

    def _part(self, question: Mapping[str, Any]) -> None:
        """Write a part of a plane, at every size."""
        y0, y1, x0, x1 = question["box"]
        self._opened()[1].put(tuple(question["plane"]), (y0, y1, x0, x1), question["labels"])

    def _plane(self, question: Mapping[str, Any]) -> None:
        """Record that a plane is complete."""
        self._opened()[0].work.remember(plane_key(tuple(question["plane"])), int(question["objects"]))

    def _save(self, question: Mapping[str, Any]) -> str:
        """Put the result in place when every plane is done, and return where; nothing otherwise."""
        out, _ = self._opened()
        return "" if missing_planes(out) else str(out.save())


__all__ = ["Growing", "missing_planes", "open_result"]
