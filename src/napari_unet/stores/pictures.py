"""Find and open pictures: TIFF, PNG and the like, Zarr, and folders of them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..core.data.arrays import ArrayLike, Planes
from ..core.errors import StoreError
from .label_patches import finish_patch
from .layout import SAMPLES, Spacing, Stored, resolve_axes
from .tiff import open_tiff, unreadable
from .views import Fixed, fixed
from .zarrs import ZarrPixels, is_zarr, open_zarr

TIFF_SUFFIXES = (".tif", ".tiff", ".btf", ".lsm", ".stk")
FLAT_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
SUFFIXES = (*TIFF_SUFFIXES, *FLAT_SUFFIXES, ".zarr")

_LARGEST_COMPARED = 10**8
"""Pixels up to which an RGB picture is looked through for being grey."""


@dataclass(frozen=True)
class Picture:
    """An opened image or stack.

    Attributes
    ----------
    name : str
        File name without its endings; what images and labels are paired by.
    path : Path
        Where it lies.
    planes : Planes
        Its pixels, read lazily.
    spacing : mapping
        Size and unit of a pixel by axis letter, as far as the file says it.
    """

    name: str
    path: Path
    planes: Planes
    spacing: Spacing = field(default_factory=dict)


def stem(path: Path) -> str:
    """Return a file name without its endings: ``a`` for ``a.tif``, ``a.ome.tif`` and ``a.ome.zarr``.

    Examples
    --------
    >>> stem(Path("cells.v2.ome.tif"))
    'cells.v2'
    """
    return path.stem.removesuffix(".ome") if path.suffix.lower() in SUFFIXES else path.name


def list_pictures(path: Path) -> list[Path]:
    """Return the pictures that a path stands for, in natural order: itself, or those of a folder.

    A folder of Cell Tracking Challenge ground truth (``01_GT``, ``01_ST``) stands for its ``SEG``.

    Raises
    ------
    StoreError
        When there is nothing, or two pictures have one stem.
    """
    if not path.exists():
        raise StoreError(f"{path} does not exist.")
    if path.is_file() or is_zarr(path):
        return [path]
    try:
        found = [p for p in path.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")]
        folders = sorted(p.name for p in path.iterdir() if p.is_dir() and not is_zarr(p))
    except OSError as error:
        raise unreadable(path, error) from error
    if not found and "SEG" in folders:
        return list_pictures(path / "SEG")
    if not found:
        inside = f"; its folders are {', '.join(folders[:8])}" if folders else ""
        raise StoreError(f"{path} holds no pictures ({', '.join(SUFFIXES)}){inside}.")
    _check_stems(path, found)
    return sorted(found, key=lambda p: natural(p.name))


def natural(name: str) -> list[tuple[int, int, str]]:
    """Return a key that sorts ``t2`` before ``t10``."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name)]


def _check_stems(folder: Path, paths: list[Path]) -> None:
    """Raise when two pictures would have one name."""
    seen: dict[str, Path] = {}
    for path in paths:
        other = seen.setdefault(stem(path), path)
        if other is not path:
            names = " and ".join(sorted((other.name, path.name)))
            raise StoreError(f"{folder} holds {names}, which have one stem; move one of them away.")


def open_picture(path: str | Path, axes: str | None = None, *, complete: bool = False) -> Picture:
    """Return one picture, opened lazily where the file allows.

    A grey picture that is stored as RGB or RGBA with three equal channels is read as grey.

    Parameters
    ----------
    path : path-like
        A TIFF, PNG or other picture, or a Zarr store.
    axes : str, optional
        One letter per axis as stored, which overrides what the file says: t time, z depth, c channel,
        p position, y, x.
    complete : bool
        Whether a Zarr store has to have every chunk. Those that it lacks are read as empty, and stores may leave
        empty ones out on purpose; after a copy that was cut off they are lost.

    Raises
    ------
    StoreError
        When it cannot be read, its axes cannot be told, or chunks are missing.
    DataError
        When it holds no grey values, such as complex numbers.
    """
    path = Path(path)
    array, stored = open_array(path)
    layout = resolve_axes(stored, path, axes)
    if complete and isinstance(array, ZarrPixels):
        array.check_chunks()
    array = fixed(array, dict.fromkeys(layout.dropped, 0))
    names = layout.axes
    planes = Planes(array, names, rgb=layout.rgb)
    if layout.rgb and _is_grey(array, names):
        at = names.index("c")
        planes = Planes(Fixed(array, {at: 0}), names[:at] + names[at + 1 :])
    return Picture(stem(path), path, planes, layout.spacing(stored))


def open_array(path: Path, *, indices: bool = False) -> tuple[ArrayLike, Stored]:
    """Return the array of a file as stored, and what the file says of its axes.

    Parameters
    ----------
    path : Path
        A picture or a Zarr store.
    indices : bool
        Whether a picture with a palette is read as its indices, as label pictures need, and not as its colours.

    Raises
    ------
    StoreError
        When it cannot be read.
    """
    if not path.exists():
        raise StoreError(f"{path} does not exist.")
    if is_zarr(path):
        finish_patch(path)
        return open_zarr(path)
    if path.is_dir():
        raise StoreError(f"{path} is a folder; give one picture in it.")
    if path.suffix.lower() in TIFF_SUFFIXES:
        return open_tiff(path)
    if path.suffix.lower() in FLAT_SUFFIXES:
        return _open_flat(path, indices)
    raise StoreError(f"{path} is of no known kind; known are {', '.join(SUFFIXES)}.")


def _open_flat(path: Path, indices: bool) -> tuple[ArrayLike, Stored]:
    """Return the pixels of a PNG, JPEG or the like."""
    try:
        with Image.open(path) as image:
            pixels = _pixels(image, indices)
    except Exception as error:  # Pillow raises many kinds for damaged files, SyntaxError among them
        raise unreadable(path, error) from error
    shape = tuple(pixels.shape)
    return pixels, Stored(shape, "yx" if pixels.ndim == 2 else "yx" + SAMPLES, rgb=pixels.ndim == 3)


def _pixels(image: Image.Image, indices: bool) -> NDArray[Any]:
    """Return the pixels of an image of any mode: grey values, RGB, or the indices of a palette."""
    if image.mode == "LA":
        image = image.convert("L")
    elif image.mode == "PA" or image.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        image = image.convert("RGB")
    elif image.mode == "P" and not indices:
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    return np.asarray(image)


def _is_grey(array: ArrayLike, axes: str) -> bool:
    """Return whether red, green and blue are equal everywhere."""
    at, pixels = axes.index("c"), int(np.prod(array.shape))
    if array.shape[at] < 3 or pixels > _LARGEST_COMPARED:
        return False
    red, green, blue = (Fixed(array, {at: i})[...] for i in range(3))
    return bool(np.array_equal(red, green, equal_nan=red.dtype.kind == "f") and np.array_equal(red, blue))
