"""Label images on their way to disk: whole and in place at the end, or not there at all."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from ..core.data.arrays import WritableArray
from ..core.data.blocks import blocks
from ..core.distribution import DISTRIBUTION
from ..core.errors import StoreError
from ..core.inference.chunked import Workspace, is_large
from .layout import Spacing
from .nested_labels import check_inside, is_inside, register
from .spacing import tiff_options
from .zarrs import add_pyramid, create_zarr

IN_MEMORY = 512 * 2**20
"""Bytes of a label image up to which it is held in memory until it is written."""

_BIG_TIFF = 4 * 10**9
_TILE = 512
"""Side in pixels of the tiles of large planes in a TIFF."""
_LOOKED_AT = 2048
"""Side in pixels of what is looked at in one go for the largest label."""
_ZEROS = 2**24


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn failures to write into a :class:`StoreError` with the path and the reason."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise StoreError(
                f"{path} cannot be written: the disk is full. Nothing was changed; free some space or choose another "
                "place."
            ) from error
        raise StoreError(f"{path} cannot be written: {error.strerror or error}. Nothing was changed.") from error


def check_output(path: Path, overwrite: bool, *inputs: Path) -> None:
    """Raise unless a result may be written to a path.

    Raises
    ------
    StoreError
        When something is there and may not be overwritten, when it is one of the inputs, or when it goes into an
        image that cannot have it.
    """
    for other in inputs:
        if path.exists() and other.exists() and path.samefile(other):
            raise StoreError(f"{path} is the input itself; choose another output.")
    if path.exists() and not overwrite:
        raise StoreError(f"{path} exists already; choose another output, or give --overwrite to replace it.")
    if is_inside(path):
        check_inside(path)


def temporary(path: Path) -> Path:
    """Return a name beside a path that does not exist yet, with the same suffix."""
    return path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")


def replace(new: Path, path: Path) -> None:
    """Put a finished file or folder in place of an old one, if there is one."""
    if not path.is_dir():
        os.replace(new, path)
        return
    old = temporary(path.with_name(path.name + ".old"))
    os.rename(path, old)
    try:
        os.rename(new, path)
    except OSError:
        os.rename(old, path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def remove(path: Path) -> None:
    """Remove a file or folder if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


class ClosableWorkspace(Workspace, Protocol):
    """A workspace that holds something which has to be given back."""

    def close(self) -> None:
        """Give it back."""
        ...


class LabelOutput(ABC):
    """A label image that is being computed.

    Use it as a context: what is not saved when the context ends is discarded, and what was at the
    path before is still there.

    Attributes
    ----------
    path : Path
        Where the result will lie.
    array : WritableArray
        What results are written to.
    work : Workspace or None
        Where outputs of large planes can be kept meanwhile; closed with the rest.
    """

    array: WritableArray
    work: ClosableWorkspace | None = None
    resumed = lasting = False

    def __init__(self, path: Path, axes: str) -> None:
        self.path, self.axes, self.partial = path, axes, temporary(path)

    def __enter__(self) -> LabelOutput:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def save(self) -> Path:
        """Put the result in place and return its path.

        Raises
        ------
        StoreError
            When it cannot be written; what was there before is unchanged.
        """
        with writing(self.path):
            self._write()
            replace(self.partial, self.path)
        return self.path

    def close(self) -> None:
        """Give memory and temporary files back."""
        remove(self.partial)
        if self.work is not None:
            self.work.close()

    @abstractmethod
    def _write(self) -> None:
        """Write the whole result to the temporary name."""


def create_labels(
    path: str | Path, shape: tuple[int, ...], axes: str, dtype: Any = np.int32, *, overwrite: bool = False,
    spacing: Spacing | None = None,
) -> LabelOutput:  # fmt: skip
    """Return a new label image; its kind is told by the suffix: ``.tif``, ``.png`` or ``.zarr``.

    Parameters
    ----------
    path : path-like
        Where it will lie; its folder is made.
    shape : tuple of int
        Leading axes, Y, X.
    axes : str
        One letter per axis.
    dtype : dtype
        Of the array that is computed into. TIFF and PNG labels are written in the smallest unsigned
        type of at least 16 bit (8 bit for uint8); floating point as it is.
    overwrite : bool
        Whether a result that is there may be replaced.
    spacing : mapping, optional
        Size and unit of a pixel by axis letter; PNG has no place for it.

    Raises
    ------
    StoreError
        When the place cannot be written to, or the kind is not known.
    """
    path = Path(path)
    check_output(path, overwrite)
    kinds: dict[str, type[FileOutput] | type[ZarrOutput]]
    kinds = {".tif": TiffOutput, ".tiff": TiffOutput, ".png": PngOutput, ".zarr": ZarrOutput}
    kind = kinds.get(path.suffix.lower())
    if kind is None:
        raise StoreError(f"{path} has no known ending for a result; give it one of {', '.join(kinds)}.")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        return kind(path, shape, axes, np.dtype(dtype), spacing)


class FileOutput(LabelOutput):
    """A result that is written as one file at the end, and held in memory or a scratch file until then.

    Parameters
    ----------
    path, shape, axes, dtype, spacing
        See :func:`create_labels`.
    array : WritableArray, optional
        Where the result is held, when that is somewhere else already.
    """

    def __init__(
        self, path: Path, shape: tuple[int, ...], axes: str, dtype: np.dtype[Any], spacing: Spacing | None = None,
        array: WritableArray | None = None,
    ) -> None:  # fmt: skip
        super().__init__(path, axes)
        self.spacing = spacing or {}
        self._scratch: Path | None = None
        # Opened now, so that a folder that cannot be written to is told before the work and not after.
        self.partial.open("wb").close()
        try:
            if array is None:
                array, self._scratch = _scratch_array(path.parent, shape, dtype)
        except OSError:
            self.close()
            raise
        self.array: WritableArray = array

    def close(self) -> None:
        """Give memory and temporary files back."""
        super().close()
        self.array = np.zeros((0,), np.uint8)
        if self._scratch:
            remove(self._scratch)

    def _planes(self, dtype: np.dtype[Any]) -> Iterator[NDArray[Any]]:
        """Yield the planes in order, as they are stored."""
        for plane in np.ndindex(*self.array.shape[:-2]):
            yield np.ascontiguousarray(self.array[plane], dtype)

    def _tiles(self, dtype: np.dtype[Any], side: int) -> Iterator[NDArray[Any]]:
        """Yield square parts of all planes in order, filled up with zeros where a plane ends."""
        height, width = self.array.shape[-2:]
        for plane in np.ndindex(*self.array.shape[:-2]):
            for block in blocks(height, width, side):
                found = np.asarray(self.array[(*plane, *block.slices)])
                yield np.pad(found.astype(dtype), [(0, side - n) for n in found.shape])

    def _stored_dtype(self) -> np.dtype[Any]:
        """Return the type that holds every value."""
        dtype: np.dtype[Any] = np.dtype(self.array.dtype)
        if dtype.kind == "f" or dtype == np.uint8:
            return dtype
        largest = max((int(tile.max()) for tile in self._tiles(dtype, _LOOKED_AT)), default=0)
        return np.dtype(np.uint16 if largest < 2**16 else np.uint32)


def _scratch_array(folder: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[Any, Path | None]:
    """Return an array of zeros in memory, or in a file when it is large."""
    size = int(np.prod(shape)) * dtype.itemsize
    if size <= IN_MEMORY:
        return np.zeros(shape, dtype), None
    handle, name = tempfile.mkstemp(".scratch", ".napari-unet-", folder)
    try:
        with os.fdopen(handle, "wb") as file:
            # Real zeros and no hole: a full disk is an error here, and not a killed process later.
            for start in range(0, size, _ZEROS):
                file.write(bytes(min(_ZEROS, size - start)))
    except OSError:
        remove(Path(name))
        raise
    return np.memmap(name, dtype, "r+", shape=shape), Path(name)


class TiffOutput(FileOutput):
    """A compressed TIFF with named axes; OME-TIFF when the name ends so."""

    def _write(self) -> None:
        dtype, shape = self._stored_dtype(), self.array.shape
        ome = self.path.stem.lower().endswith(".ome")
        big = int(np.prod(shape)) * dtype.itemsize > _BIG_TIFF
        # In strips or, where a plane is never held as a whole, in tiles: a part can be read later without the rest.
        large = is_large(shape)
        pixels = self._tiles(dtype, _TILE) if large else self._planes(dtype)
        with self.partial.open("wb") as file:
            tifffile.imwrite(
                file, pixels, shape=shape, dtype=dtype, ome=ome, bigtiff=big, compression="zlib",
                predictor=dtype.kind != "f", photometric="minisblack", software=DISTRIBUTION,
                tile=(_TILE, _TILE) if large else None, **tiff_options(self.spacing, self.axes),
            )  # fmt: skip
            file.flush()
            os.fsync(file.fileno())


class PngOutput(FileOutput):
    """A PNG of 8 or 16 bit, for single planes."""

    def __init__(
        self, path: Path, shape: tuple[int, ...], axes: str, dtype: np.dtype[Any], spacing: Spacing | None = None,
        array: WritableArray | None = None,
    ) -> None:  # fmt: skip
        if len(shape) != 2 or dtype.kind == "f":
            raise StoreError(f"{path} cannot hold {dtype} of shape {shape}: PNG is for labels of one plane; use .tif.")
        super().__init__(path, shape, axes, dtype, spacing, array)

    def _write(self) -> None:
        dtype = self._stored_dtype()
        if dtype == np.uint32:
            raise StoreError(f"{self.path} cannot hold more than 65535 cells; use .tif.")
        with self.partial.open("wb") as file:
            Image.fromarray(np.ascontiguousarray(self.array[:, :], dtype)).save(file, "PNG")
            file.flush()
            os.fsync(file.fileno())


class ZarrOutput(LabelOutput):
    """An OME-Zarr label image, written chunk by chunk as it is computed."""

    def __init__(
        self, path: Path, shape: tuple[int, ...], axes: str, dtype: np.dtype[Any], spacing: Spacing | None = None
    ) -> None:
        super().__init__(path, axes)
        remove(self.partial)
        stored = np.dtype(np.uint32) if dtype.kind == "i" else dtype
        try:
            self.array = create_zarr(self.partial, shape, axes, stored, spacing)
        except BaseException:
            self.close()
            raise

    def save(self) -> Path:
        """Put the result in place and return its path, see :meth:`LabelOutput.save`."""
        super().save()
        if is_inside(self.path):
            register(self.path)
        return self.path

    def _write(self) -> None:
        """Add smaller versions; every chunk of the labels is on disk already."""
        add_pyramid(self.partial)
