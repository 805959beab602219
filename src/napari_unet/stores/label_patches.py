"""Corrections of labels that lie in an OME-Zarr store: at every size, and whole or not at all.

::

    cells.zarr                       the labels
    cells.zarr.checked.json          marks of the checked cells
    .cells.zarr.correction/          while a correction is written
      about.json                     where, and the marks that there are afterwards
      values.npz                     the labels that come there; with it the correction counts as made

Chunks are written one after the other. When the program dies meanwhile, :func:`finish_patch` writes them once more,
before anything else is done with the store.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.data.annotation import Box
from ..core.errors import DataError, StoreError
from ..core.proofreading.review import Marks, marks_from_plain, marks_to_plain
from .locks import lock
from .output import remove, writing
from .review_marks import write_json, write_marks
from .zarrs import CHUNK, label_arrays

ABOUT, VALUES = "about.json", "values.npz"
_NOTES = "napari_unet"


def patch_folder(path: Path) -> Path:
    """Return the folder beside a label image that holds a correction while it is written."""
    return path.with_name(f".{path.name}.correction")


class StoredLabels:
    """A label image in an OME-Zarr store, read by parts.

    Parameters
    ----------
    path : Path
        The store, on this computer.
    mode : str
        ``"r"`` to read, ``"r+"`` to correct.

    Attributes
    ----------
    axes : str
        One letter per axis, y and x last.
    arrays : list of zarr.Array
        The labels at full size, and each smaller version.

    Raises
    ------
    StoreError
        When it cannot be read, or holds no labels whose smaller versions have every second pixel.
    """

    def __init__(self, path: Path, mode: str = "r") -> None:
        self.path = path
        self.group, self.arrays, self.axes = label_arrays(path, mode)
        self.dtype = np.dtype(self.arrays[0].dtype)
        self.shape: tuple[int, ...] = tuple(self.arrays[0].shape)
        self._check()

    def _check(self) -> None:
        if self.dtype.kind not in "iu":
            raise StoreError(f"{self.path} holds {self.dtype} values and no cells; choose a label image.")
        channels = self.shape[self.axes.index("c")] if "c" in self.axes else 1
        if self.axes[-2:] != "yx" or channels > 1:
            raise StoreError(f"{self.path} has the axes {self.axes}; labels to be corrected need y and x last.")
        for one, half in itertools.pairwise(self.arrays):
            wanted = (*one.shape[:-2], *(-(-n // 2) for n in one.shape[-2:]))
            if tuple(half.shape) != wanted:
                raise StoreError(
                    f"A smaller version in {self.path} has shape {tuple(half.shape)} instead of {wanted}, so it was "
                    "made in another way than here; save the labels as a new .zarr to correct them."
                )

    @property
    def plane_shape(self) -> tuple[int, int]:
        """Height and width of a plane."""
        return int(self.shape[-2]), int(self.shape[-1])

    @property
    def planes(self) -> list[tuple[int, ...]]:
        """The indices of all planes, along the axes that are neither channel nor y nor x."""
        return list(np.ndindex(*(n for n, a in zip(self.shape, self.axes, strict=True) if a not in "cyx")))

    def index(self, plane: tuple[int, ...]) -> tuple[int, ...]:
        """Return where a plane is in the arrays."""
        where = iter(plane)
        return tuple(0 if a == "c" else next(where) for a in self.axes[:-2])

    def read(self, plane: tuple[int, ...], box: Box) -> NDArray[Any]:
        """Return the labels of y0, y1, x0, x1 of a plane."""
        y0, y1, x0, x1 = box
        try:
            return np.asarray(self.arrays[0][(*self.index(plane), slice(y0, y1), slice(x0, x1))])
        except Exception as error:  # every codec has its own kind
            raise StoreError(f"{self.path} cannot be read: {error or type(error).__name__}.") from error

    @property
    def made(self) -> int:
        """When the store was made, in nanoseconds; another store in its place has another time."""
        return self.description.stat().st_mtime_ns

    @property
    def description(self) -> Path:
        """The file that describes the largest array; unlike those of the group and the chunks it stays the same."""
        folder: Path = self.path / self.arrays[0].basename
        return next(path for name in ("zarr.json", ".zarray") if (path := folder / name).exists())

    def noted_largest(self) -> int:
        """Return the largest label after the last correction, as it is noted in the store; 0 before the first one."""
        noted = dict(self.group.attrs).get(_NOTES, {})
        return int(noted.get("largest", 0)) if isinstance(noted, dict) else 0

    def find_largest(self) -> int:
        """Return the largest label anywhere; one block is in memory at a time."""
        largest = self.noted_largest()
        (height, width), side = self.plane_shape, 2 * CHUNK
        corners = list(itertools.product(range(0, height, side), range(0, width, side)))
        for plane, (y, x) in itertools.product(self.planes, corners):
            largest = max(largest, int(self.read(plane, (y, min(y + side, height), x, min(x + side, width))).max()))
        return largest

    def put(self, plane: tuple[int, ...], box: Box, values: NDArray[Any], marks: Marks, largest: int) -> None:
        """Write labels at every size, and the marks beside them: all of it, or nothing.

        Parameters
        ----------
        plane : tuple of int
            Index of the plane.
        box : Box
            y0, y1, x0, x1.
        values : NDArray of int
            What comes there.
        marks : Marks
            All marks that the store has afterwards.
        largest : int
            The largest label in use afterwards.
        """
        folder = patch_folder(self.path)
        about = {"plane": list(plane), "box": list(box), "marks": marks_to_plain(marks), "largest": largest,
                 "made": self.made}  # fmt: skip
        with writing(self.path):
            folder.mkdir(exist_ok=True)
            write_json(folder / ABOUT, about)
            partial = folder / f"{VALUES}.part"
            with partial.open("wb") as file:
                np.savez_compressed(file, values=values.astype(self.dtype))
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, folder / VALUES)
        self.finish()

    def finish(self) -> None:
        """Write the correction that was made and perhaps not written to its end; without any, do nothing."""
        folder = patch_folder(self.path)
        if (folder / VALUES).exists():
            self._finish(folder)
        remove(folder)

    def _finish(self, folder: Path) -> None:
        try:
            about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
            with np.load(folder / VALUES) as found:
                values = found["values"]
            plane, box = self.index(tuple(about["plane"])), about["box"]
            marks, largest, made = marks_from_plain(about["marks"]), int(about["largest"]), int(about["made"])
        except (OSError, ValueError, KeyError, TypeError, DataError, zipfile.BadZipFile) as error:
            raise StoreError(
                f"The correction of {self.path} in {folder} cannot be read: {error}. Delete that folder to do without."
            ) from error
        if made != self.made:
            # The labels were made anew since, or replaced.
            return
        with _kept(self.path):
            for level, array in enumerate(self.arrays):
                _write_changed(array, plane, *_at_level(box, values, 2**level))
            write_marks(self.path, marks)
            self.group.attrs[_NOTES] = {"largest": largest}


@contextlib.contextmanager
def _kept(path: Path) -> Iterator[None]:
    """Say of a correction that cannot be written now that it will be later."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"The correction of {path} cannot be written to its end: {error.strerror or error}. It is kept beside it, "
            "and is written when the labels are next opened."
        ) from error


def _at_level(box: Box, values: NDArray[Any], step: int) -> tuple[Box, NDArray[Any]]:
    """Return where a correction is in a smaller version, and its pixels there."""
    y0, y1, x0, x1 = (-(-n // step) for n in box)
    return (y0, y1, x0, x1), values[y0 * step - box[0] :: step, x0 * step - box[2] :: step]


def _write_changed(array: Any, plane: tuple[int, ...], box: Box, values: NDArray[Any]) -> None:
    """Write those chunks of a part of a plane that change."""
    y0, y1, x0, x1 = box
    rows, columns = (max(1, int(n)) for n in array.chunks[-2:])
    starts = itertools.product(range(y0 // rows * rows, y1, rows), range(x0 // columns * columns, x1, columns))
    for top, left in starts:
        ys, xs = slice(max(top, y0), min(top + rows, y1)), slice(max(left, x0), min(left + columns, x1))
        wanted = values[ys.start - y0 : ys.stop - y0, xs.start - x0 : xs.stop - x0]
        if (np.asarray(array[(*plane, ys, xs)]) != wanted).any():
            array[(*plane, ys, xs)] = wanted


@contextlib.contextmanager
def correcting(path: Path) -> Iterator[StoredLabels]:
    """Open a label image to correct it, as the only one; what an earlier correction left to do is done first.

    Raises
    ------
    StoreError
        When it cannot be written, or another program corrects it at this moment.
    """
    labels = StoredLabels(path, "r+")
    with writing(path):
        file = lock(labels.description)
    with file:
        labels.finish()
        yield labels


def finish_patch(path: Path) -> None:
    """Write the correction of a label image that was not written to its end, if there is one.

    Raises
    ------
    StoreError
        When that is not possible, or it is being written at this moment.
    """
    if patch_folder(path).exists():
        with correcting(path):
            pass


def fingerprint_of(values: NDArray[Any]) -> str:
    """Return what labels of one type and shape are known again by."""
    return hashlib.blake2b(np.ascontiguousarray(values).tobytes(), digest_size=16).hexdigest()


__all__ = ["StoredLabels", "correcting", "fingerprint_of", "finish_patch", "patch_folder"]
