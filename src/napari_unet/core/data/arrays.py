"""Images as stacks of planes: axis roles, channels, mirrored reads, normalisation.

Arrays are asked for ``shape``, ``dtype`` and ``__getitem__`` only, so numpy, zarr, dask and a
proxy to another process all serve, and never more than the asked-for region is read.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .tiles import mirrored

PlaneIndex = tuple[int, ...]
"""Index of a plane in its stack: one number per leading axis."""


class ArrayLike(Protocol):
    """Anything with a shape, a dtype and basic indexing."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of every axis."""
        ...

    @property
    def dtype(self) -> Any:
        """Number type, anything that numpy.dtype takes."""
        ...

    def __getitem__(self, key: Any) -> Any: ...


class WritableArray(ArrayLike, Protocol):
    """An array that also takes results."""

    def __setitem__(self, key: Any, value: Any) -> None: ...


AXES = {"t": "time", "z": "depth", "c": "channel", "y": "height", "x": "width", "p": "position"}
"""Axis letters and the roles that they stand for. Only y and x are segmented together."""


class Planes:
    """One image or stack, seen as 2D planes of shape (C, Y, X).

    Parameters
    ----------
    arrays : ArrayLike or sequence of ArrayLike
        One array, or several of one shape, each holding a channel (napari keeps each channel as a
        layer of its own).
    axes : str
        One letter of :data:`AXES` per array axis, such as ``"yx"``, ``"zyx"``, ``"tcyx"`` or ``"yxc"``.
    rgb : bool
        Whether the ``c`` axis holds red, green, blue (and perhaps alpha, which is left out).
    grey : bool
        Whether red, green and blue are to be read as one channel of brightness.

    Raises
    ------
    DataError
        For wrong axes, an empty array, arrays of several shapes, or numbers that are no grey values.
    """

    def __init__(
        self, arrays: ArrayLike | Sequence[ArrayLike], axes: str, *, rgb: bool = False, grey: bool = False
    ) -> None:
        many: list[ArrayLike] = list(arrays) if isinstance(arrays, (list, tuple)) else [arrays]  # type: ignore[list-item]
        _check_arrays(many, axes)
        self.arrays = many
        self.axes = axes
        self.rgb = rgb
        self.sizes = dict(zip(axes, many[0].shape, strict=True))
        self.grey = grey and rgb and self.sizes.get("c", 1) >= 3
        self.plane_axes = "".join(a for a in axes if a not in "cyx")
        self.plane_shape = tuple(self.sizes[a] for a in self.plane_axes)
        self.height, self.width = self.sizes["y"], self.sizes["x"]
        self.dtype = np.dtype(many[0].dtype)

    @property
    def channels(self) -> int:
        """Number of channels that :meth:`read` returns."""
        if self.grey:
            return len(self.arrays)
        inner = self.sizes.get("c", 1)
        return len(self.arrays) * (min(inner, 3) if self.rgb else inner)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a label image of this stack: leading axes, height, width."""
        return (*self.plane_shape, self.height, self.width)

    @property
    def read_ahead(self) -> bool:
        """Whether other threads than the one that asks may read; an array says that it is not so by ``read_ahead``."""
        return all(getattr(array, "read_ahead", True) for array in self.arrays)

    def indices(self) -> list[PlaneIndex]:
        """Return the index of every plane, in order."""
        return list(itertools.product(*(range(n) for n in self.plane_shape)))

    def as_grey(self) -> Planes:
        """Return the same planes with red, green and blue as one channel."""
        return Planes(self.arrays, self.axes, rgb=self.rgb, grey=True)

    def read(self, plane: PlaneIndex, ys: slice, xs: slice) -> NDArray[np.float32]:
        """Return a region inside the image as float32 of shape (C, Y, X)."""
        where = dict(zip(self.plane_axes, plane, strict=True))
        key = tuple({"y": ys, "x": xs, "c": slice(None)}.get(a, where.get(a, 0)) for a in self.axes)
        parts = [self._channels_first(np.asarray(array[key])) for array in self.arrays]
        return np.concatenate(parts) if len(parts) > 1 else parts[0]

    def _channels_first(self, block: NDArray[Any]) -> NDArray[np.float32]:
        """Return a block of the array's own axis order as (C, Y, X)."""
        kept = [a for a in self.axes if a in "cyx"]
        if "c" not in kept:
            block, kept = block[np.newaxis], ["c", *kept]
        block = block.transpose([kept.index(a) for a in "cyx"]).astype(np.float32)
        if self.rgb:
            block = block[:3]
        if self.grey:
            # ITU-R BT.601 luma, as in skimage.color.rgb2gray's predecessors and most viewers.
            block = np.tensordot(np.array([0.299, 0.587, 0.114], np.float32), block, axes=1)[np.newaxis]
        return np.ascontiguousarray(block)


def _check_arrays(arrays: list[ArrayLike], axes: str) -> None:
    """Raise a :class:`DataError` when the arrays are no readable image."""
    if not arrays:
        raise DataError("There is no image; choose at least one.")
    shape, dtype = tuple(arrays[0].shape), np.dtype(arrays[0].dtype)
    if any(tuple(a.shape) != shape for a in arrays):
        shapes = ", ".join(str(tuple(a.shape)) for a in arrays)
        raise DataError(f"Channels have to be of one shape, but are {shapes}.")
    if len(axes) != len(shape) or len(set(axes)) != len(axes) or not {"y", "x"} <= set(axes) <= set(AXES):
        raise DataError(
            f"Axes {axes!r} do not fit an image of shape {shape}: give one letter of {', '.join(AXES)} per axis, "
            "with y and x among them."
        )
    if 0 in shape:
        raise DataError(f"The image is empty: its shape is {shape}.")
    if dtype.kind not in "buif":
        raise DataError(f"The image holds {dtype} numbers; convert it to a real number type such as uint8 or float32.")


def read_mirrored(planes: Planes, plane: PlaneIndex, y0: int, y1: int, x0: int, x1: int) -> NDArray[np.float32]:
    """Return a region of shape (C, y1 - y0, x1 - x0) whose parts outside the image are mirrored."""
    ys, xs = mirrored(y0, y1, planes.height), mirrored(x0, x1, planes.width)
    top, left = int(ys.min()), int(xs.min())
    block = planes.read(plane, slice(top, int(ys.max()) + 1), slice(left, int(xs.max()) + 1))
    if ys[0] == y0 and ys[-1] == y1 - 1 and xs[0] == x0 and xs[-1] == x1 - 1:
        return block
    return block[:, (ys - top)[:, None], (xs - left)[None, :]]


@dataclass(frozen=True)
class Normalisation:
    """Grey values to the network's input: per channel, ``low`` to 0 and ``high`` to 1.

    Attributes
    ----------
    low, high : tuple of float
        Grey values of each channel, from percentiles of the *whole* plane, never of a tile.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]

    LIMITS = (-1.0, 4.0)

    def apply(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return a (C, Y, X) block on the network's scale, outliers clipped."""
        low = np.asarray(self.low, np.float32)[:, None, None]
        span = np.asarray(self.high, np.float32)[:, None, None] - low
        scaled = block - low
        scaled /= np.where(span > 0, span, 1)
        return np.clip(scaled, *self.LIMITS, out=scaled)

    @property
    def constant(self) -> bool:
        """Whether no channel has any contrast."""
        return all(high <= low for low, high in zip(self.low, self.high, strict=True))


PERCENTILES = (1.0, 99.8)
_SAMPLED_PIXELS = 4_000_000


def plane_normalisation(planes: Planes, plane: PlaneIndex) -> Normalisation:
    """Return the normalisation of one plane, from percentiles 1 and 99.8 of its grey values.

    Planes of over four million pixels are sampled on regular rows, so that memory stays bounded.

    Raises
    ------
    DataError
        When the plane holds values that are not finite.
    """
    row_step = max(1, -(-planes.height * planes.width // _SAMPLED_PIXELS))
    # One strided read: a chunked array then decompresses each chunk once.
    sample = planes.read(plane, slice(0, planes.height, row_step), slice(None))
    values = sample.reshape(len(sample), -1)
    bad = int(values.size - np.isfinite(values).sum())
    if bad:
        where = f" in plane {plane}" if plane else ""
        raise DataError(
            f"{bad} of {values.size} grey values{where} are NaN or infinite; replace them, for example with "
            "numpy.nan_to_num."
        )
    low, high = np.percentile(values, PERCENTILES, axis=1)
    # A picture that is dark but for a few bright pixels has equal percentiles: fall back to the range.
    flat = high <= low
    low, high = np.where(flat, values.min(axis=1), low), np.where(flat, values.max(axis=1), high)
    return Normalisation(tuple(map(float, low)), tuple(map(float, high)))


def axis_weights(size: int, scaled: int, start: int, stop: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return which pixels of an axis make up positions ``start`` to ``stop`` of a scaled grid, and how much each.

    Linear interpolation when enlarging, a triangle filter as wide as the step when reducing. Each
    position depends on its place in the whole axis alone, to the last bit, so that a region resampled
    by itself equals the same region of the whole.

    Returns
    -------
    index : NDArray of int
        Source pixels, (stop - start, taps).
    weights : NDArray of float32
        Of the same shape; each row sums to 1.
    """
    ratio = size / scaled
    radius = max(1.0, ratio)
    centres = (np.arange(start, stop) + 0.5) * ratio - 0.5
    taps = np.floor(centres - radius)[:, None] + 1 + np.arange(int(np.ceil(2 * radius)))
    weights = np.clip(1 - np.abs(centres[:, None] - taps) / radius, 0, None)
    weights[(taps < 0) | (taps >= size)] = 0
    # One after the other: a sum over an axis may go in another order for another number of rows.
    total = np.zeros(len(centres))
    for tap in weights.T:
        total += tap
    return np.clip(taps, 0, size - 1).astype(np.intp), (weights / total[:, None]).astype(np.float32)


def resample(block: NDArray[Any], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Return a (..., Y, X) block resampled to ``shape``, see :func:`axis_weights`."""
    whole = tuple(block.shape[-2:])
    if whole == tuple(shape):
        return block.astype(np.float32)
    return resampled_region(lambda ys, xs: block[..., ys, xs], whole, shape, slice(0, shape[0]), slice(0, shape[1]))


def resampled_region(
    read: Callable[[slice, slice], NDArray[Any]],
    shape: tuple[int, ...],
    scaled: tuple[int, ...],
    ys: slice,
    xs: slice,
) -> NDArray[np.float32]:
    """Return a region of what ``read`` gives, resampled; the same as that region of the whole.

    Parameters
    ----------
    read : callable
        Gives the (..., Y, X) values of a region.
    shape, scaled : tuple of int
        Y and X of the whole before and after.
    ys, xs : slice
        The region after.
    """
    (y0, y1, _), (x0, x1, _) = ys.indices(scaled[0]), xs.indices(scaled[1])
    top, rows = _from_first(*axis_weights(shape[0], scaled[0], y0, y1))
    left, columns = _from_first(*axis_weights(shape[1], scaled[1], x0, x1))
    block = read(slice(top, top + rows[2]), slice(left, left + columns[2])).astype(np.float32)
    return _weighted(_weighted(block, -2, rows[0], rows[1]), -1, columns[0], columns[1])


def _from_first(
    index: NDArray[np.intp], weights: NDArray[np.float32]
) -> tuple[int, tuple[NDArray[np.intp], NDArray[np.float32], int]]:
    """Return the first pixel that counts, and index, weights and number of pixels from there."""
    first = int(index.min())
    return first, (index - first, weights, int(index.max()) + 1 - first)


def _weighted(
    block: NDArray[np.float32], axis: int, index: NDArray[np.intp], weights: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return sums of pixels along an axis (-2 or -1); no product of matrices, whose rounding depends on the shape."""
    total: NDArray[np.float32] | None = None
    for taps, weight in zip(index.T, weights.T, strict=True):
        part = np.take(block, taps, axis=axis)
        part *= weight[:, None] if axis == -2 else weight
        total = part if total is None else np.add(total, part, out=total)
    return block if total is None else total


SCALE_LIMITS = (0.05, 8.0)
"""Smallest and largest factor by which images are resized, in training and prediction alike."""


class ScaledPlanes(Planes):
    """Planes seen at another size, resampled on reading.

    Parameters
    ----------
    planes : Planes
        The planes at their own size.
    scale : float
        New size over old size, on both axes.
    """

    def __init__(self, planes: Planes, scale: float) -> None:
        super().__init__(planes.arrays, planes.axes, rgb=planes.rgb, grey=planes.grey)
        self.source = planes
        self.scale = scale
        self.height = max(1, round(planes.height * scale))
        self.width = max(1, round(planes.width * scale))

    def read(self, plane: PlaneIndex, ys: slice, xs: slice) -> NDArray[np.float32]:
        """Return a region of the scaled image as float32 of shape (C, Y, X)."""
        return resampled_region(
            lambda rows, columns: self.source.read(plane, rows, columns),
            (self.source.height, self.source.width), (self.height, self.width), ys, xs,
        )  # fmt: skip

    def as_grey(self) -> Planes:
        """Return the same scaled planes with red, green and blue as one channel."""
        return ScaledPlanes(self.source.as_grey(), self.scale)
