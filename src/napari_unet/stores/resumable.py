"""Resumable results: an interrupted job leaves its work beside the output, and the same job resumes from it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..core.data.arrays import WritableArray
from ..core.errors import StoreError
from ..core.inference.chunked import HELD, is_large
from .layout import Spacing
from .locks import lock
from .nested_labels import is_inside, register
from .output import LabelOutput, TiffOutput, check_output, create_labels, remove, replace, temporary, writing
from .zarrs import add_pyramid, create_array, create_zarr, open_writable

FORMAT = 2
JOB = "job.json"
DONE = "done.jsonl"


def unfinished_folder(path: Path) -> Path:
    """Return the folder beside an output that holds what is done of it."""
    return path.with_name(f".{path.name}.unfinished")


def state_of(picture: Path) -> dict[str, Any]:
    """Return what a picture is known again by: where it is, how large, and when it was changed last.

    Of a store it is all its files, as changed chunks leave the folders as they are; labels inside of it, which may be
    the very result, are left out.
    """
    found = [picture.stat()]
    if picture.is_dir():
        for folder, inner, names in os.walk(picture):
            inner[:] = [name for name in inner if name != "labels" and not name.startswith(".")]
            found += [os.stat(os.path.join(folder, name)) for name in names if not name.startswith(".")]
    newest = max(state.st_mtime for state in found[1:] or found)
    return {"path": str(picture.resolve()), "bytes": sum(s.st_size for s in found[1:] or found), "modified": newest}


class Folder:
    """A :class:`~napari_unet.core.inference.chunked.Workspace` in a folder: chunked Zarr arrays, and notes.

    Notes are lines of JSON, each written at once; a line that was cut off by a crash does not count.

    Parameters
    ----------
    folder : Path
        Is made when it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._file: IO[bytes] = lock(folder / DONE)
        self._notes = dict(self._read())

    def _read(self) -> list[tuple[str, Any]]:
        """Return all whole lines, and cut off what comes after them."""
        self._file.seek(0)
        raw = self._file.read()
        whole = raw[: raw.rfind(b"\n") + 1]
        self._file.truncate(len(whole))
        self._file.seek(len(whole))
        return [tuple(json.loads(line)) for line in whole.splitlines()]

    def recall(self, key: str) -> Any:
        """Return what was remembered under a name; None when nothing was."""
        return self._notes.get(key)

    def remember(self, key: str, value: Any) -> None:
        """Record plain data under a name, at once and for good."""
        with writing(self.folder):
            self._file.write(json.dumps([key, value]).encode() + b"\n")
            self._file.flush()
        self._notes[key] = value

    def array(self, name: str, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: Any) -> WritableArray:
        """Return an array of zeros, or the one that was made under this name before."""
        path = self.folder / name
        with writing(self.folder):
            if not (path / "zarr.json").exists():
                return create_array(path, shape, chunks, dtype)
            return open_writable(path)

    def drop(self, name: str) -> None:
        """Throw an array away, if it is there."""
        if (self.folder / name).exists():
            remove(self.folder / name)

    def close(self) -> None:
        """Let others use the folder."""
        self._file.close()


class UnfinishedLabels:
    """An OME-Zarr label image that a job can resume after a crash.

    Use it as a context. What is not saved when the context ends stays in a hidden folder beside the path.

    Parameters
    ----------
    path : Path
        Where the result will lie, a ``.zarr``.
    shape : tuple of int
        Leading axes, Y, X.
    axes : str
        One letter per axis.
    dtype : dtype
        Of the labels.
    job : mapping
        What makes the result what it is, as plain data: input, model, settings. An unfinished result of
        another job is not gone on with.
    overwrite : bool
        Whether a result that is there may be replaced, and an unfinished one of another job thrown away.
    spacing : mapping, optional
        Size and unit of a pixel by axis letter, for the result's metadata.

    Attributes
    ----------
    array : WritableArray
        What results are written to.
    work : Folder
        The workspace.
    resumed : bool
        Whether something was there already.
    partial : Path
        Where the label image lies until it is saved.
    lasting : bool
        Whether what is done outlives a run that is cut off.

    Raises
    ------
    StoreError
        When the output exists, or an unfinished result is there that is of another job or in use.
    """

    lasting = True

    def __init__(
        self, path: Path, shape: tuple[int, ...], axes: str, dtype: Any, job: Mapping[str, Any], *,
        overwrite: bool = False, spacing: Spacing | None = None,
    ) -> None:  # fmt: skip
        check_output(path, overwrite)
        self.path, self.axes = path, axes
        self.folder = unfinished_folder(path)
        self.partial = self.folder / self._inside()
        plain = json.loads(
            json.dumps(
                {"napari_unet_unfinished": FORMAT, **job, "shape": list(shape), "axes": axes, "type": str(dtype)}
            )
        )
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self.resumed = self._prepare(plain, overwrite)
            self.work = Folder(self.folder)
        try:
            with writing(path):
                if not self.resumed:
                    create_zarr(self.partial, shape, axes, dtype, spacing)
                self.array = open_writable(self.partial, "0")
                self._note(plain)
        except BaseException:
            self.work.close()
            if not self.resumed:
                remove(self.folder)
            raise

    def _prepare(self, job: dict[str, Any], overwrite: bool) -> bool:
        """Return whether there is a result to go on with; raise when it is of another job."""
        if not self.folder.exists():
            return False
        try:
            before = json.loads((self.folder / JOB).read_text())
        except (OSError, ValueError):
            before = None  # it ended before it had begun
        other = None if before is None else before.get("napari_unet_unfinished")
        if before is not None and other != FORMAT and not overwrite:
            raise StoreError(
                f"{self.folder} has format {other}, but this version reads {FORMAT}; pass --overwrite to replace it."
            )
        if before == job and self.partial.exists():
            return True
        if before not in (None, job) and not overwrite:
            raise StoreError(
                f"{self.path} was started before with {_differences(before, job)}. Use the same to resume it, "
                f"--overwrite to start again, or another output."
            )
        remove(self.folder)
        return False

    def _note(self, job: dict[str, Any]) -> None:
        """Record what the job is, once its array is there."""
        new = self.folder / f"{JOB}.new"
        new.write_text(json.dumps(job, indent=2))
        os.replace(new, self.folder / JOB)

    def _inside(self) -> str:
        """Return the name of the label image in the hidden folder."""
        return self.path.name

    def __enter__(self) -> UnfinishedLabels:
        return self

    def __exit__(self, *_: object) -> None:
        self.work.close()

    def save(self) -> Path:
        """Add smaller versions, put the result in place and return its path.

        Raises
        ------
        StoreError
            When it cannot be written.
        """
        with writing(self.path):
            add_pyramid(self.partial)
            replace(self.partial, self.path)
            if is_inside(self.path):
                register(self.path)
            self.work.close()
            remove(self.folder)
        return self.path


class UnfinishedFile(UnfinishedLabels):
    """A TIFF that a job can resume after a crash; until it is saved, an OME-Zarr label image.

    Parameters are those of :class:`UnfinishedLabels`; the path is a ``.tif``.
    """

    def __init__(
        self, path: Path, shape: tuple[int, ...], axes: str, dtype: Any, job: Mapping[str, Any], *,
        overwrite: bool = False, spacing: Spacing | None = None,
    ) -> None:  # fmt: skip
        super().__init__(path, shape, axes, dtype, job, overwrite=overwrite, spacing=spacing)
        self.spacing = spacing

    def _inside(self) -> str:
        return "labels.zarr"

    def save(self) -> Path:
        """Write the file, put it in place and return its path.

        Raises
        ------
        StoreError
            When it cannot be written; what is done is kept.
        """
        shape = tuple(self.array.shape)
        with writing(self.path):
            with TiffOutput(self.path, shape, self.axes, self.array.dtype, self.spacing, self.array) as file:
                file.save()
            self.work.close()
            remove(self.folder)
        return self.path


class Scratch(Folder):
    """A workspace for a result that is made in one go: it is gone when it is closed."""

    def close(self) -> None:
        """Throw everything away."""
        super().close()
        remove(self.folder)


def resumable_labels(
    path: str | Path, shape: tuple[int, ...], axes: str, dtype: Any, job: Mapping[str, Any], *,
    overwrite: bool = False, spacing: Spacing | None = None,
) -> LabelOutput | UnfinishedLabels:  # fmt: skip
    """Return a new label image, or the one that the same job was at work on when it was cut off.

    A ``.zarr`` can be gone on with, and a ``.tif`` of more than
    :data:`~napari_unet.core.inference.chunked.HELD` pixels; smaller files, and PNG, are a
    matter of seconds and written whole at the end.

    Parameters
    ----------
    path, shape, axes, dtype, overwrite, spacing
        See :func:`~napari_unet.stores.create_labels`.
    job : mapping
        See :class:`UnfinishedLabels`.
    """
    path, ending = Path(path), Path(path).suffix.lower()
    stored = np.dtype(np.uint32 if np.dtype(dtype).kind == "i" else dtype)
    if ending == ".zarr":
        return UnfinishedLabels(path, shape, axes, stored, job, overwrite=overwrite, spacing=spacing)
    if ending in (".tif", ".tiff") and int(np.prod(shape)) > HELD:
        return UnfinishedFile(path, shape, axes, stored, job, overwrite=overwrite, spacing=spacing)
    output = create_labels(path, shape, axes, dtype, overwrite=overwrite, spacing=spacing)
    if is_large(shape):
        output.work = Scratch(temporary(path).with_suffix(".scratch"))
    return output


def _differences(before: Any, now: Any, name: str = "") -> str:
    """Return what was another thing before, in words."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = [k for k in {**before, **now} if before.get(k) != now.get(k)]
        return ", ".join(_differences(before.get(k), now.get(k), f"{name} {k}".strip()) for k in keys)
    return f"{name} {before} (now {now})"


__all__ = [
    "Folder", "Scratch", "UnfinishedFile", "UnfinishedLabels", "resumable_labels", "state_of", "unfinished_folder",
]  # fmt: skip
