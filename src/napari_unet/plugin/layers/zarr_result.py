"""Results that grow on disk while another process writes them, as arrays that napari can show."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...core.data.arrays import Planes
from ...core.errors import DataError
from ...engine.protocol.messages import LARGEST_PLANE
from ...records.runs import home
from ...records.saved_labels import finish_patch
from .reading import data_shape, full_data

if TYPE_CHECKING:
    from napari.layers import Layer

LARGEST_HELD = 128_000_000
"""Pixels of all planes together up to which a result is held in memory."""
_OME_UNITS = {"um": "micrometer", "µm": "micrometer", "nm": "nanometer", "mm": "millimeter", "s": "second"}


def needs_store(planes: Planes) -> bool:
    """Return whether a result is too large to be held in memory and crosses to the viewer plane by plane no more."""
    pixels = planes.height * planes.width
    return pixels > LARGEST_PLANE or pixels * len(planes.indices()) > LARGEST_HELD


def has_large_planes(layer: Layer, axes: str) -> bool:
    """Return whether planes of a layer are too large to be read as a whole."""
    shape = data_shape(layer)
    return shape[axes.index("y")] * shape[axes.index("x")] > LARGEST_PLANE


def default_folder() -> Path:
    """Return where results that need a store grow when the user named no place."""
    return home() / "segmentations"


def spacing_of(layer: Layer, axes: str) -> dict[str, tuple[float, str]]:
    """Return the size of a pixel along each axis of a layer and its unit, in the words of OME-Zarr."""
    units = getattr(layer, "units", None) or ("",) * layer.ndim
    return {
        axis: (float(size), _unit(unit))
        for axis, size, unit in zip(axes, layer.scale, units, strict=True)
        if axis != "c"
    }


def _unit(unit: Any) -> str:
    """Return the full name of a unit; pixels are none."""
    name = str(unit)
    return "" if name in ("pixel", "dimensionless", "") else _OME_UNITS.get(name, name)


def file_of(array: Any, source: str = "") -> str:
    """Return the path of the file that may hold the same as an array, or nothing.

    Parameters
    ----------
    array : ArrayLike
        Of a layer.
    source : str
        What the layer was opened from.
    """
    found = _zarr_path(array) or next(filter(None, map(_zarr_path, _inputs(array))), "")
    return found or source


def _zarr_path(array: Any) -> str:
    """Return where a zarr array lies on this computer; nothing when it is none."""
    store, path = getattr(array, "store", None), getattr(array, "path", None)
    if store is None or not isinstance(path, str):
        return ""
    root = getattr(store, "root", None)
    if root is None and _is_local(getattr(store, "fs", None)):
        root = getattr(store, "path", None)
    return str(Path(root) / path) if isinstance(root, (str, Path)) else ""


def _is_local(files: Any) -> bool:
    """Return whether a file system of fsspec, through which dask opens zarr arrays, is that of this computer."""
    return "file" in np.atleast_1d(getattr(getattr(files, "sync_fs", files), "protocol", ()))


def _inputs(array: Any) -> list[Any]:
    """Return what a dask array was made from, if it was made from one thing."""
    layers = getattr(getattr(array, "dask", None), "layers", None) or {}
    whole = [layer for name, layer in layers.items() if str(name).startswith("original-")]
    found = [value for layer in whole for value in dict(layer).values()]
    return [getattr(value, "value", value) for value in found]


def store_of(layer: Layer) -> Path | None:
    """Return the OME-Zarr label image on this computer that a layer shows, also while it grows; None for others."""
    data = full_data(layer)
    store = getattr(data, "store", None)
    if isinstance(store, LabelStore):
        return store.path
    found = file_of(data)
    path = Path(found).parent
    for name in ("zarr.json", ".zattrs") if found else ():
        about = path / name
        if about.is_file() and '"multiscales"' in about.read_text(encoding="utf-8", errors="replace"):
            return path
    return None


class LabelStore:
    """A label image on disk that another process fills; it moves once, when it is finished.

    Parameters
    ----------
    partial, path : str
        Where it lies until it is finished, and afterwards; the same for one that is finished.
    axes : str
        Its axis letters, y and x last.
    """

    def __init__(self, partial: str, path: str, axes: str) -> None:
        self.partial, self.path, self.axes = Path(partial), Path(path), axes
        self._root: Path | None = None
        self._levels: list[Any] = []

    @property
    def finished(self) -> bool:
        """Whether it lies at its place."""
        return self.path.exists() and (self.partial == self.path or not self.partial.exists())

    def levels(self) -> list[Any]:
        """Return it at all its sizes, the full one first.

        Raises
        ------
        DataError
            When it is gone.
        """
        root = self.partial if self.partial.exists() else self.path
        if root != self._root:
            if root == self.path:
                finish_patch(root)
            self._levels, self._root = self._open(root), root
        return self._levels

    def _open(self, root: Path) -> list[Any]:
        import zarr

        try:
            group: Any = zarr.open_group(str(root), mode="r+")
            datasets = group.attrs["ome"]["multiscales"][0]["datasets"]
            return [group[dataset["path"]] for dataset in datasets]
        except (OSError, KeyError, ValueError) as error:
            raise DataError(f"The result {self.path} is gone or damaged: {error or type(error).__name__}.") from error


class StoredArray:
    """One size of a :class:`LabelStore` with the axes of a layer: read and written by regions.

    Parameters
    ----------
    store : LabelStore
        Where it is.
    level : int
        Which size, 0 for the full one.
    axes : str
        Axis letters of the layer; a channel axis is one thick.
    """

    def __init__(self, store: LabelStore, level: int, axes: str) -> None:
        self.store, self.level, self.axes = store, level, axes
        array = store.levels()[level]
        sizes = dict(zip(store.axes, array.shape, strict=True))
        self.shape = tuple(int(sizes.get(a, 1)) for a in axes)
        self.dtype = np.dtype(array.dtype)
        self.ndim = len(axes)

    @property
    def size(self) -> int:
        """Number of pixels."""
        return int(np.prod(self.shape, dtype=np.int64))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return all of it, for whoever saves it as a whole."""
        return np.asarray(self[...], dtype)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        parts = self._parts(key)
        values = np.asarray(self._array[self._inner(parts)])
        if any(isinstance(part, np.ndarray) for part in parts.values()):
            return values
        spans = [a for a in self.store.axes if isinstance(parts[a], slice)]
        wanted = [a for a in self.axes if isinstance(parts[a], slice)]
        values = values.transpose([spans.index(a) for a in wanted if a in spans])
        if "c" not in wanted:
            return values
        at = wanted.index("c")
        return np.expand_dims(values, at)[(*(slice(None),) * at, parts["c"])]

    def __setitem__(self, key: Any, value: Any) -> None:
        parts = self._parts(key)
        if np.ndim(value) and not any(isinstance(part, np.ndarray) for part in parts.values()):
            wanted = [a for a in self.axes if isinstance(parts[a], slice)]
            shape = [
                len(range(*parts[a].indices(n))) for a, n in zip(self.axes, self.shape, strict=True) if a in wanted
            ]
            value = np.broadcast_to(value, shape)
            if "c" in wanted:
                value, wanted = value.take(0, wanted.index("c")), [a for a in wanted if a != "c"]
            value = value.transpose([wanted.index(a) for a in self.store.axes if a in wanted])
        self._array[self._inner(parts)] = value

    @property
    def _array(self) -> Any:
        return self.store.levels()[self.level]

    def _inner(self, parts: dict[str, Any]) -> tuple[Any, ...]:
        """Return an index into the array on disk."""
        return tuple(parts[a] for a in self.store.axes)

    def _parts(self, key: Any) -> dict[str, Any]:
        """Return the index of each axis."""
        parts = list(key) if isinstance(key, tuple) else [key]
        if any(part is Ellipsis for part in parts):
            at = next(i for i, part in enumerate(parts) if part is Ellipsis)
            parts[at : at + 1] = [slice(None)] * (self.ndim - len(parts) + 1)
        if len(parts) > self.ndim:
            raise IndexError(f"{len(parts)} indices for an array of {self.ndim} axes")
        parts += [slice(None)] * (self.ndim - len(parts))
        return {a: p if isinstance(p, (slice, np.ndarray)) else int(p) for a, p in zip(self.axes, parts, strict=True)}


def shown(store: LabelStore, axes: str, multiscale: bool) -> Any:
    """Return what a layer takes for a store: one array, or several sizes of it where it is large.

    Parameters
    ----------
    store : LabelStore
        The result.
    axes : str
        Axis letters of the picture's layer.
    multiscale : bool
        Whether the picture has several sizes itself.
    """
    levels = store.levels()
    large = multiscale or int(np.prod(levels[0].shape[-2:], dtype=np.int64)) > LARGEST_PLANE
    if len(levels) == 1 or not large:
        return StoredArray(store, 0, axes)
    return [StoredArray(store, level, axes) for level in range(len(levels))]
