"""Images as stacks of planes: axis roles, channels, mirrored reads, normalisation.

Arrays are asked for ``shape``, ``dtype`` and ``__getitem__`` only, so numpy, zarr, dask and a
proxy to another process all serve, and never more than the asked-for region is read.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .errors import DataError
from .tiles import mirrored


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

    def indices(self) -> list[tuple[int, ...]]:
        """Return the index of every plane, in order."""
        return list(itertools.product(*(range(n) for n in self.plane_shape)))

    def as_grey(self) -> Planes:
        """Return the same planes with red, green and blue as one channel."""
        return Planes(self.arrays, self.axes, rgb=self.rgb, grey=True)

    def read(self, plane: tuple[int, ...], ys: slice, xs: slice) -> NDArray[np.float32]:
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


def read_mirrored(planes: Planes, plane: tuple[int, ...], y0: int, y1: int, x0: int, x1: int) -> NDArray[np.float32]:
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
        return np.clip((block - low) / np.where(span > 0, span, 1), *self.LIMITS)

    @property
    def constant(self) -> bool:
        """Whether no channel has any contrast."""
        return all(high <= low for low, high in zip(self.low, self.high, strict=True))


PERCENTILES = (1.0, 99.8)
_SAMPLED_PIXELS = 4_000_000


def plane_normalisation(planes: Planes, plane: tuple[int, ...]) -> Normalisation:
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


def axis_weights(size: int, scaled: int, start: int, stop: int) -> tuple[int, int, NDArray[np.float32]]:
    """Return the part of an axis and the matrix that resample it to ``start`` to ``stop`` of a scaled grid.

    Linear interpolation when enlarging, a triangle filter as wide as the step when reducing. Each row
    depends on the position in the whole axis alone, so that a region resampled by itself equals the
    same region of the whole.

    Returns
    -------
    first, last : int
        Bounds of the source pixels needed.
    matrix : NDArray
        Weights of shape (stop - start, last - first), each row summing to 1.
    """
    ratio = size / scaled
    radius = max(1.0, ratio)
    centres = (np.arange(start, stop) + 0.5) * ratio - 0.5
    first = max(0, int(np.floor(centres[0] - radius)))
    last = min(size, int(np.ceil(centres[-1] + radius)) + 1)
    distance = np.abs(centres[:, None] - np.arange(first, last)[None, :])
    matrix = np.clip(1 - distance / radius, 0, None)
    # Beyond the outermost pixel centres the nearest pixel alone counts.
    empty = matrix.sum(axis=1) == 0
    matrix[empty, np.argmin(distance[empty], axis=1)] = 1 if empty.any() else 0
    return first, last, (matrix / matrix.sum(axis=1, keepdims=True)).astype(np.float32)


def resample(block: NDArray[Any], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Return a (..., Y, X) block resampled to ``shape``, see :func:`axis_weights`."""
    if tuple(block.shape[-2:]) == tuple(shape):
        return block.astype(np.float32)
    rows = _resample_axis(block.astype(np.float32), -2, block.shape[-2], shape[0], 0, shape[0])
    return _resample_axis(rows, -1, block.shape[-1], shape[1], 0, shape[1])


_STRIP = 64
"""Positions that are resampled at once: the matrix of a whole axis would be almost nothing but zeros."""


def _source_span(size: int, scaled: int, start: int, stop: int) -> tuple[int, int]:
    """Return the bounds of the source pixels that positions ``start`` to ``stop`` of the scaled axis need."""
    return axis_weights(size, scaled, start, start + 1)[0], axis_weights(size, scaled, stop - 1, stop)[1]


def _resample_axis(
    block: NDArray[np.float32], axis: int, size: int, scaled: int, start: int, stop: int
) -> NDArray[np.float32]:
    """Return a block with one axis (-2 or -1) resampled to ``start`` to ``stop`` of the scaled grid.

    The block's axis begins at the first source pixel that is needed, see :func:`_source_span`.
    """
    offset = _source_span(size, scaled, start, stop)[0]
    shape = list(block.shape)
    shape[axis] = stop - start
    out = np.empty(shape, np.float32)
    for low in range(start, stop, _STRIP):
        high = min(low + _STRIP, stop)
        first, last, matrix = axis_weights(size, scaled, low, high)
        if axis == -2:
            out[..., low - start : high - start, :] = matrix @ block[..., first - offset : last - offset, :]
        else:
            out[..., low - start : high - start] = block[..., first - offset : last - offset] @ matrix.T
    return out


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

    def read(self, plane: tuple[int, ...], ys: slice, xs: slice) -> NDArray[np.float32]:
        """Return a region of the scaled image as float32 of shape (C, Y, X)."""
        y0, y1, _ = ys.indices(self.height)
        x0, x1, _ = xs.indices(self.width)
        top, bottom = _source_span(self.source.height, self.height, y0, y1)
        left, right = _source_span(self.source.width, self.width, x0, x1)
        block = self.source.read(plane, slice(top, bottom), slice(left, right))
        rows = _resample_axis(block, -2, self.source.height, self.height, y0, y1)
        return _resample_axis(rows, -1, self.source.width, self.width, x0, x1)

    def as_grey(self) -> Planes:
        """Return the same scaled planes with red, green and blue as one channel."""
        return ScaledPlanes(self.source.as_grey(), self.scale)
