"""Zarr arrays and OME-Zarr images: opened lazily, created chunk by chunk."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ..core.data.arrays import ArrayLike, WritableArray
from ..core.errors import StoreError
from .layout import UNKNOWN, Spacing, Stored
from .spacing import of_multiscale

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


def open_zarr(path: Path) -> tuple[ArrayLike, Stored]:
    """Return an array of a Zarr store, and what it says of its axes.

    Of an OME-Zarr image the full size is taken.

    Raises
    ------
    StoreError
        When there is no readable array, or more than one.
    """
    import zarr

    try:
        node = zarr.open(str(path), mode="r")
        array, names = _array_of(zarr, node, path)
        spacing = _spacing(node)
    except StoreError:
        raise
    except Exception as error:  # zarr raises many kinds for damaged metadata
        raise StoreError(f"{path} cannot be read as Zarr: {error or type(error).__name__}") from error
    shape = tuple(int(n) for n in array.shape)
    return ZarrPixels(path, array), Stored(shape, _letters(names, shape), spacing=spacing)


class ZarrPixels:
    """An array of a Zarr store that reports damaged chunks as errors.

    Parameters
    ----------
    path : Path
        The store, for messages.
    array : zarr.Array
        Its pixels.
    """

    def __init__(self, path: Path, array: Any) -> None:
        self.path, self.array = path, array
        self.shape = tuple(int(n) for n in array.shape)
        self.dtype = np.dtype(array.dtype)
        self.ndim = len(self.shape)
        self.chunks = tuple(array.chunks)

    def __getitem__(self, key: Any) -> Any:
        try:
            return self.array[key]
        except IndexError:
            raise
        except Exception as error:  # every codec has its own kind
            raise StoreError(
                f"{self.path} cannot be read: a chunk is damaged or cut off ({str(error) or type(error).__name__})."
            ) from error

    def check_chunks(self) -> None:
        """Raise a :class:`StoreError` when chunks are missing."""
        many, there = int(self.array.nchunks), int(self.array.nchunks_initialized)
        if there < many:
            raise StoreError(
                f"{self.path} lacks {many - there} of its {many} chunks; what is missing would be read as empty. Copy "
                "it again if a copy was cut off; if it leaves empty parts out on purpose, say so with --sparse."
            )


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


def label_arrays(path: Path, mode: str) -> tuple[Any, list[Any], str]:
    """Return the group of an OME-Zarr image, its arrays, the full size first, and one letter per axis.

    Parameters
    ----------
    path : Path
        The group.
    mode : str
        ``"r"`` or ``"r+"``.

    Raises
    ------
    StoreError
        When it cannot be opened, or is no OME-Zarr image.
    """
    import zarr

    try:
        group = zarr.open_group(str(path), mode=mode)
        attributes = dict(group.attrs)
        about = attributes.get("ome", attributes)["multiscales"][0]
        arrays = [group[dataset["path"]] for dataset in about["datasets"]]
        axes = _letters([a.get("name") if isinstance(a, dict) else a for a in about["axes"]], arrays[0].shape)
    except Exception as error:  # zarr raises many kinds for damaged metadata
        raise StoreError(f"{path} is gone, damaged or no OME-Zarr image: {error or type(error).__name__}.") from error
    return group, arrays, axes


def _spacing(node: Any) -> Spacing:
    """Return size and unit of a pixel by letter, of an OME-Zarr image."""
    attributes = dict(node.attrs)
    multiscales = attributes.get("ome", attributes).get("multiscales")
    found = of_multiscale(multiscales[0]) if multiscales else {}
    return {_NAMES[name]: value for name, value in found.items() if name in _NAMES}


def _axis_names(array: Any) -> list[Any] | None:
    """Return the names of a plain array's axes, as Zarr 3 or xarray store them."""
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    return list(names) if names else None


def _letters(names: list[Any] | None, shape: tuple[int, ...]) -> str:
    """Return one letter per axis; without names the last two are y and x."""
    if names and len(names) == len(shape):
        return "".join(_NAMES.get(str(name).lower(), UNKNOWN) for name in names)
    return UNKNOWN * (len(shape) - 2) + "yx"


def create_zarr(
    path: Path, shape: tuple[int, ...], axes: str, dtype: Any, spacing: Spacing | None = None
) -> WritableArray:
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
    spacing : mapping, optional
        Size and unit of a pixel by axis letter, see :data:`Spacing`.

    Raises
    ------
    OSError
        When the folder cannot be written.
    """
    import zarr

    group = zarr.open_group(str(path), mode="w-", zarr_format=3)
    chunks = tuple(min(n, CHUNK) if a in "yx" else 1 for a, n in zip(axes, shape, strict=True))
    array: WritableArray = group.create_array(
        "0", shape=shape, chunks=chunks, dtype=dtype, dimension_names=list(axes), fill_value=0
    )
    known = spacing or {}
    described = [_axis(a, known.get(a, (1.0, ""))[1]) for a in axes]
    _describe(group, path.name, described, [float(known.get(a, (1.0, ""))[0]) for a in axes], 1)
    return array


def create_array(path: Path, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: Any) -> WritableArray:
    """Return a new plain array of zeros for a while; what was at the path is gone.

    It is written and read once or twice, so it has to be fast rather than small. Labels are packed all the same, as
    that makes them a tenth; the 16-bit outputs of a network are not, as they stay two thirds and it takes longest.
    """
    import zarr

    outputs = np.dtype(dtype) == np.uint16
    quick = None if outputs else zarr.codecs.BloscCodec(cname="lz4", clevel=1, shuffle="shuffle")
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
    import zarr

    try:
        array: WritableArray = zarr.open_array(str(path), path=inner, mode="r+")
    except Exception as error:  # zarr raises many kinds for damaged metadata
        raise StoreError(f"{path} is damaged: {error or type(error).__name__}") from error
    return array


def _axis(letter: str, unit: str) -> dict[str, str]:
    """Return what OME-Zarr says of an axis."""
    return {"name": letter, "type": _TYPES[letter], **({"unit": unit} if unit else {})}


def _describe(group: Any, name: str, axes: list[dict[str, str]], scale: list[float], levels: int) -> None:
    """Write what OME-Zarr 0.5 says of a label image with so many sizes, each half of the one before."""
    datasets = [
        {"path": str(n), "coordinateTransformations": [
            {"type": "scale", "scale": [
                s * 2**n if a["name"] in "yx" else s for a, s in zip(axes, scale, strict=True)
            ]}]}
        for n in range(levels)
    ]  # fmt: skip
    multiscale = {"name": name, "axes": axes, "datasets": datasets}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [multiscale], "image-label": {"version": "0.5"}}


class Levels:
    """A label image and its smaller versions, each of which has every second pixel of the one before.

    Parameters
    ----------
    path : Path
        From :func:`create_zarr`; the smaller versions that are missing are made, empty.
    smallest : int
        Side in pixels that one version at least has to fit into.
    """

    def __init__(self, path: Path, smallest: int = CHUNK) -> None:
        import zarr

        group: Any = zarr.open_group(str(path), mode="r+")
        about = group.attrs["ome"]["multiscales"][0]
        scale = about["datasets"][0]["coordinateTransformations"][0]["scale"]
        self.arrays: list[Any] = [group["0"]]
        while max(self.arrays[-1].shape[-2:]) > smallest:
            self.arrays.append(_half(group, self.arrays[-1], str(len(self.arrays))))
        _describe(group, about["name"], about["axes"], scale, len(self.arrays))

    def put(self, plane: tuple[int, ...], box: tuple[int, int, int, int], values: Any) -> None:
        """Write labels, (Y, X), into a part y0, y1, x0, x1 of a plane of every version."""
        for level, array in enumerate(self.arrays):
            step = 2**level
            y0, y1, x0, x1 = (-(-n // step) for n in box)
            if y1 > y0 and x1 > x0:
                first = y0 * step - box[0], x0 * step - box[2]
                array[(*plane, slice(y0, y1), slice(x0, x1))] = values[first[0] :: step, first[1] :: step]

    def renew(self, plane: tuple[int, ...] | None = None) -> None:
        """Make the smaller versions of a plane, or of all, anew; see :func:`renew_levels`."""
        renew_levels(self.arrays, plane)


def renew_levels(arrays: Sequence[Any], plane: tuple[int, ...] | None = None) -> None:
    """Make smaller versions of a plane of labels, or of all, anew from the largest, one chunk at a time."""
    for array, smaller in itertools.pairwise(arrays):
        ndim = len(smaller.shape)
        spans = [range(0, n, c) for n, c in zip(smaller.shape, smaller.chunks, strict=True)]
        if plane is not None:
            spans[: ndim - 2] = [range(index, index + 1) for index in plane]
        for start in itertools.product(*spans):
            stop = [min(a + c, n) for a, c, n in zip(start, smaller.chunks, smaller.shape, strict=True)]
            source = tuple(
                slice(a * 2, b * 2, 2) if axis >= ndim - 2 else slice(a, b)
                for axis, (a, b) in enumerate(zip(start, stop, strict=True))
            )
            smaller[tuple(map(slice, start, stop))] = array[source]


def _half(group: Any, array: Any, name: str) -> Any:
    """Return the version of half the size, made when it is not there."""
    shape = (*array.shape[:-2], *(-(-n // 2) for n in array.shape[-2:]))
    if name in group and group[name].shape == shape and group[name].dtype == array.dtype:
        return group[name]
    chunks = tuple(min(n, c) for n, c in zip(shape, array.chunks, strict=True))
    return group.create_array(
        name, shape=shape, chunks=chunks, dtype=array.dtype, dimension_names=list(array.metadata.dimension_names),
        fill_value=0, overwrite=True,
    )  # fmt: skip


def add_pyramid(path: Path, smallest: int = CHUNK) -> int:
    """Add halved versions to a label image until one fits ``smallest`` pixels; return how many sizes there are.

    Every second pixel is taken: labels have no mean. One chunk is in memory at a time.
    """
    levels = Levels(path, smallest)
    levels.renew()
    return len(levels.arrays)
