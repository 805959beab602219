"""Overlap-tile geometry (Fig. 2 of the paper): pure integers, one axis at a time.

A network with ``depth`` poolings treats pixels by their position modulo ``2**depth``, so tiles that
start at multiples of this *stride* see the same network as the whole image does. Each tile reads
``margin`` pixels of context on both sides::

    image axis   0        |---- write ----|                size
    tile         |-margin-|---- output ---|..|-margin-|
                 read_start                   read_stop

Context beyond the image is mirrored, see :func:`mirrored`. Every pixel is written once, with its
full context, so nothing is averaged or blended.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import SettingsError


@dataclass(frozen=True)
class Geometry:
    """Size arithmetic of a U-Net with unpadded 3 x 3 convolutions, two per level.

    Parameters
    ----------
    depth : int
        Number of poolings; 4 in the paper.
    """

    depth: int = 4

    @property
    def stride(self) -> int:
        """Pixels after which the pooling pattern repeats."""
        return 1 << self.depth

    def output_size(self, bottom: int) -> int:
        """Return the output side for a bottom of ``bottom`` pixels: 16 b - 60 at depth 4."""
        size = bottom
        for _ in range(self.depth):
            size = 2 * size - 4
        return size

    def input_size(self, bottom: int) -> int:
        """Return the input side for a bottom of ``bottom`` pixels: 16 b + 124 at depth 4."""
        size = bottom + 4
        for _ in range(self.depth):
            size = 2 * size + 4
        return size

    @property
    def margin(self) -> int:
        """Context in pixels that is lost on each side: 92 at depth 4."""
        return (self.input_size(8) - self.output_size(8)) // 2

    @property
    def smallest_output(self) -> int:
        """Smallest positive output side."""
        return self.bottom_for(1)[1]

    def bottom_for(self, output: int) -> tuple[int, int]:
        """Return the smallest bottom with at least ``output`` output pixels, and its output side."""
        bottom = 1
        offset = bottom * self.stride - self.output_size(bottom)
        bottom = max(1, -(-(output + offset) // self.stride))
        return bottom, self.output_size(bottom)

    def is_valid_input(self, size: int) -> bool:
        """Return whether every pooled size is even and an output remains."""
        bottom, remainder = divmod(size - self.input_size(0), self.stride)
        return remainder == 0 and bottom > 0 and self.output_size(bottom) > 0


@dataclass(frozen=True)
class Tile:
    """One tile along one axis, in pixels of the image; read bounds may lie outside of it."""

    write_start: int
    write_stop: int
    read_start: int
    read_stop: int

    @property
    def write_slice(self) -> slice:
        """Where the result goes in the image."""
        return slice(self.write_start, self.write_stop)

    @property
    def crop_slice(self) -> slice:
        """Which part of the network's output is written."""
        return slice(0, self.write_stop - self.write_start)


def split_axis(size: int, tile: int, geometry: Geometry) -> list[Tile]:
    """Return the tiles that cover an axis, all of one input size, starting at multiples of the stride.

    Parameters
    ----------
    size : int
        Length of the axis in pixels, at least 1.
    tile : int
        Largest output side in pixels.
    geometry : Geometry
        The network's size arithmetic.

    Raises
    ------
    SettingsError
        When the tile is smaller than the stride.

    Examples
    --------
    >>> [(t.write_start, t.write_stop, t.read_start, t.read_stop) for t in split_axis(500, 388, Geometry(4))]
    [(0, 256, -92, 352), (256, 500, 164, 608)]
    """
    stride = geometry.stride
    if tile < stride:
        raise SettingsError(f"A tile of {tile} px is too small for {geometry.depth} levels; take at least {stride} px.")
    largest = tile // stride * stride
    count = -(-size // largest)
    step = -(-size // (count * stride)) * stride
    bottom, _ = geometry.bottom_for(min(step, size))
    length, margin = geometry.input_size(bottom), geometry.margin
    return [
        Tile(start, min(start + step, size), start - margin, start - margin + length) for start in range(0, size, step)
    ]


def mirrored(start: int, stop: int, size: int) -> NDArray[np.intp]:
    """Return image indices for ``start`` to ``stop``, mirrored at both ends of the axis.

    The border pixel is not repeated, and the mirror image is mirrored again as often as needed.

    Examples
    --------
    >>> mirrored(-3, 6, 4).tolist()
    [3, 2, 1, 0, 1, 2, 3, 2, 1]
    """
    if size == 1:
        return np.zeros(stop - start, dtype=np.intp)
    period = 2 * (size - 1)
    position = np.arange(start, stop) % period
    return np.where(position < size, position, period - position).astype(np.intp)
