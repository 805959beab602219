"""Zarr arrays and OME-Zarr images: opened lazily, created chunk by chunk. Needs the zarr package."""

from __future__ import annotations

import importlib.util
import itertools
from pathlib import Path
from types import ModuleType
from typing import Any

from ..core.arrays import ArrayLike, WritableArray
from ..core.errors import StoreError
from .layout import UNKNOWN, Stored

CHUNK = 1024
"""Largest side of a chunk of a label image, in pixels."""

_NAMES = {"t": "t", "time": "t", "z": "z", "depth": "z", "c": "c", "channel": "c", "channels": "c", "y": "y",
          "height": "y", "x": "x", "width": "x", "p": "p", "position": "p"}  # fmt: skip
_TYPES = {"t": "time", "z": "space", "y": "space", "x": "space", "c": "channel", "p": "position"}


def is_zarr(path: Path) -> bool:
    """Return whether a path is a Zarr array or group, or means to become one."""
    inside = any(parent.suffix.lower() == ".zarr" for parent in path.parents) and path.is_dir()
    marked = any((path / name).exists() for name in ("zarr.json", ".zarray", ".zgroup"))
    return path.suffix.lower() == ".zarr" or inside or marked


def _zarr() -> ModuleType:
    """Return the zarr package.

    Raises
    ------
    StoreError
        When it is missing.
    """
    try:
        import zarr
    except ImportError as error:
        raise StoreError("Zarr files need the zarr package: pip install 'napari-unet[zarr]'.") from error
    return zarr


def has_zarr() -> bool:
    """Return whether the zarr package is there."""
    return importlib.util.find_spec("zarr") is not None


def open_zarr(path: Path) -> tuple[ArrayLike, Stored]:
    """Return an array of a Zarr store, and what it says of its axes.

    Of an OME-Zarr image the full size is taken.

    Raises
    ------
    StoreError
        When there is no readable array, or more than one.
    """
    zarr = _zarr()
    try:
        node = zarr.open(str(path), mode="r")
        array, names = _array_of(zarr, node, path)
    except StoreError:
        raise
    except Exception as error:  # zarr raises many kinds for damaged metadata
        raise StoreError(f"{path} cannot be read as Zarr: {error or type(error).__name__}") from error
    shape = tuple(int(n) for n in array.shape)
    return array, Stored(shape, _letters(names, shape))


def _array_of(zarr: ModuleType, node: Any, path: Path) -> tuple[Any, list[Any] | None]:
    """Return the array of a node and the names of its axes, if it has any."""
    if isinstance(node, zarr.Array):
        return node, _axis_names(node)
    attributes = dict(node.attrs)
    multiscales = attributes.get("ome", attributes).get("multiscales")
    if multiscales:
        axes = [a.get("name") if isinstance(a, dict) else a for a in multiscales[0].get("axes", [])]
        return node[multiscales[0]["datasets"][0]["path"]], axes or None
    arrays = dict(node.arrays())
    if len(arrays) == 1:
        array = next(iter(arrays.values()))
        return array, _axis_names(array)
    inside = ", ".join(sorted([*arrays, *(name for name, _ in node.groups())])) or "nothing"
    raise StoreError(f"{path} is a Zarr group without an image of its own; it holds {inside}: give the path of one.")


def _axis_names(array: Any) -> list[Any] | None:
    """Return the names of a plain array's axes, as Zarr 3 or xarray store them."""
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    return list(names) if names else None


def _letters(names: list[Any] | None, shape: tuple[int, ...]) -> str:
    """Return one letter per axis; without names the last two are y and x."""
    if names and len(names) == len(shape):
        return "".join(_NAMES.get(str(name).lower(), UNKNOWN) for name in names)
    return UNKNOWN * (len(shape) - 2) + "yx"


def create_zarr(path: Path, shape: tuple[int, ...], axes: str, dtype: Any) -> WritableArray:
    """Return a new chunked label array in an OME-Zarr (0.5) group.

    Parameters
    ----------
    path : Path
        Folder that does not exist yet.
    shape : tuple of int
        Shape of the label image.
    axes : str
        One letter per axis.
    dtype : dtype
        Of the labels.

    Raises
    ------
    StoreError
        When zarr is missing.
    OSError
        When the folder cannot be written.
    """
    zarr = _zarr()
    group = zarr.open_group(str(path), mode="w-", zarr_format=3)
    chunks = tuple(min(n, CHUNK) if a in "yx" else 1 for a, n in zip(axes, shape, strict=True))
    array: WritableArray = group.create_array(
        "0", shape=shape, chunks=chunks, dtype=dtype, dimension_names=list(axes), fill_value=0
    )
    _describe(group, path.name, axes, 1)
    return array


def create_array(path: Path, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: Any) -> WritableArray:
    """Return a new plain array of zeros for a while; what was at the path is gone."""
    zarr = _zarr()
    # Written and read once or twice: it has to be fast rather than small.
    quick = zarr.codecs.BloscCodec(cname="lz4", clevel=1, shuffle="shuffle")
    array: WritableArray = zarr.create_array(
        str(path), shape=shape, chunks=chunks, dtype=dtype, fill_value=0, zarr_format=3, overwrite=True,
        compressors=quick,
    )  # fmt: skip
    return array


def open_writable(path: Path, inner: str | None = None) -> WritableArray:
    """Return an array that is there, to go on writing to it.

    Raises
    ------
    StoreError
        When it cannot be opened.
    """
    try:
        array: WritableArray = _zarr().open_array(str(path), path=inner, mode="r+")
    except Exception as error:  # zarr raises many kinds for damaged metadata
        raise StoreError(f"{path} is damaged: {error or type(error).__name__}") from error
    return array


def _describe(group: Any, name: str, axes: str, levels: int) -> None:
    """Write what OME-Zarr 0.5 says of a label image with so many sizes, each half of the one before."""
    datasets = [
        {"path": str(n), "coordinateTransformations": [
            {"type": "scale", "scale": [float(2**n) if a in "yx" else 1.0 for a in axes]}]}
        for n in range(levels)
    ]  # fmt: skip
    multiscale = {
        "name": name,
        "axes": [{"name": a, "type": _TYPES[a]} for a in axes],
        "datasets": datasets,
    }
    group.attrs["ome"] = {"version": "0.5", "multiscales": [multiscale], "image-label": {"version": "0.5"}}


def add_pyramid(path: Path, smallest: int = CHUNK) -> int:
    """Add halved versions to a label image until one fits ``smallest`` pixels; return how many sizes there are.

    Every second pixel is taken: labels have no mean. One chunk is in memory at a time.
    """
    group = _zarr().open_group(str(path), mode="r+")
    name = group.attrs["ome"]["multiscales"][0]["name"]
    array, levels = group["0"], 1
    axes = "".join(array.metadata.dimension_names)
    while max(array.shape[-2:]) > smallest:
        shape = (*array.shape[:-2], *(-(-n // 2) for n in array.shape[-2:]))
        chunks = tuple(min(n, c) for n, c in zip(shape, array.chunks, strict=True))
        smaller = group.create_array(
            str(levels), shape=shape, chunks=chunks, dtype=array.dtype, dimension_names=list(axes), fill_value=0,
            overwrite=True,
        )  # fmt: skip
        for start in itertools.product(*(range(0, n, c) for n, c in zip(shape, chunks, strict=True))):
            stop = [min(a + c, n) for a, c, n in zip(start, chunks, shape, strict=True)]
            source = tuple(
                slice(a * 2, b * 2, 2) if axis in "yx" else slice(a, b)
                for a, b, axis in zip(start, stop, axes, strict=True)
            )
            smaller[tuple(map(slice, start, stop))] = array[source]
        array, levels = smaller, levels + 1
    _describe(group, name, axes, levels)
    return levels
