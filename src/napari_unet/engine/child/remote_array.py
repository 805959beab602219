"""Arrays of the viewer's process, as the child sees them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..protocol.messages import Key, pack_key, unpack_key

KEPT_PLANE = 128 << 20
"""Bytes up to which a whole plane is fetched at once and kept."""


class RemoteArray:
    """An array in another process: shape, dtype and basic indexing.

    Overlapping tiles of one plane, and the statistics of the whole of it, are asked for one after
    the other. So a plane of up to :data:`KEPT_PLANE` bytes is fetched whole and kept until another
    one is read: each pixel crosses once, and a lazy array computes each chunk once. Of larger planes
    only the region asked for is fetched.

    Parameters
    ----------
    shape, dtype
        Of the array.
    axes : str
        A letter per axis; those of ``"cyx"`` belong to the plane.
    fetch : callable
        ``fetch(key)`` returns a block, see :func:`~napari_unet.engine.protocol.messages.pack_key`.

    Attributes
    ----------
    largest_kept : int
        Bytes up to which a whole plane is fetched; 0 for none.
    """

    read_ahead = False
    """Only the thread that runs the job may talk to the viewer."""

    def __init__(self, shape: tuple[int, ...], dtype: str, axes: str, fetch: Callable[[Key], NDArray[Any]]) -> None:
        self.shape = tuple(shape)
        self.dtype = np.dtype(dtype)
        self._in_plane = [axis in "cyx" for axis in axes]
        self._fetch = fetch
        self._kept: tuple[Key, NDArray[Any]] | None = None
        self.largest_kept = KEPT_PLANE

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def _plane_bytes(self) -> int:
        """Size of one plane."""
        return self.dtype.itemsize * math.prod(
            n for n, inside in zip(self.shape, self._in_plane, strict=True) if inside
        )

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Return a block; ints, slices and Ellipsis are understood."""
        packed = pack_key(key, self.shape)
        leading = [part for part, inside in zip(packed, self._in_plane, strict=True) if not inside]
        if self._plane_bytes > self.largest_kept or any(isinstance(part, list) for part in leading):
            return self._fetch(packed)
        inner = [part for part, inside in zip(packed, self._in_plane, strict=True) if inside]
        return self._plane(packed)[unpack_key(inner)]

    def _plane(self, packed: Key) -> NDArray[Any]:
        """Return the whole plane that a key lies in."""
        whole = [
            [0, size, 1] if inside else part
            for part, size, inside in zip(packed, self.shape, self._in_plane, strict=True)
        ]
        if self._kept is None or self._kept[0] != whole:
            self._kept = None  # frees the memory before the next plane needs it
            self._kept = (whole, self._fetch(whole))
        return self._kept[1]
