"""TIFF files, read lazily: mapped into memory where they are plain, by strip or tile where not."""

from __future__ import annotations

import logging
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from ..core.data.arrays import ArrayLike
from ..core.errors import StoreError
from .layout import SAMPLES, UNKNOWN, Stored
from .spacing import of_tiff
from .views import Stack, block_indices, full_key

CACHE_BYTES = 256 * 2**20
"""Decoded strips and tiles that are kept, so that neighbouring regions do not decode them again."""

_LETTERS = {"T": "t", "Z": "z", "C": "c", "Y": "y", "X": "x", "S": SAMPLES, "P": "p"}

_DAMAGE = re.compile(
    "invalid (page|value|.* )?offset|missing|failed to re|corrupted|incompletely|out of range|no keyframes"
)
"""What tifffile logs when it goes on with a part of a damaged file, for example with fewer planes."""


class _Complaints(logging.Handler):
    """Collects what tifffile has to say about a file, which would otherwise go to the terminal."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())

    @contextmanager
    def listening(self) -> Iterator[_Complaints]:
        """Take tifffile's messages while the context lasts."""
        logger = logging.getLogger("tifffile")
        propagate, logger.propagate = logger.propagate, False
        logger.addHandler(self)
        try:
            yield self
        finally:
            logger.removeHandler(self)
            logger.propagate = propagate

    def check(self, path: Path) -> None:
        """Raise when a message means that a part of the file is lost."""
        for message in self.messages:
            if _DAMAGE.search(message):
                said = re.sub("<tifffile[^>]*> ?", "", message)
                raise StoreError(f"{path} cannot be read: it is damaged or cut off ({said}).")


def open_tiff(path: Path) -> tuple[ArrayLike, Stored]:
    """Return the first picture of a TIFF file as a lazy array, and what the file says of its axes.

    Of a pyramid the full size is taken; several pictures of one size are a row of planes.

    Raises
    ------
    StoreError
        When the file cannot be read, or holds several pictures of different sizes.
    """
    complaints = _Complaints()
    try:
        with complaints.listening():
            opened = _open(path)
        complaints.check(path)
        return opened
    except StoreError:
        raise
    except Exception as error:  # tifffile raises most kinds of exceptions on damaged files
        raise unreadable(path, error) from error


def unreadable(path: Path, error: Exception) -> StoreError:
    """Return the error for a file that cannot be read."""
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return StoreError(f"{path} cannot be read: {reason.splitlines()[0].rstrip('.')}.")


def _open(path: Path) -> tuple[ArrayLike, Stored]:
    """Return the array of a file and what is stored about it."""
    tif = tifffile.TiffFile(path)
    series = [s for s in tif.series if s.pages and s.ndim >= 2 or 0 in s.shape]
    if not series:
        raise StoreError(f"{path} cannot be read: there is no picture in it.")
    largest = max(int(np.prod(s.shape)) for s in series)
    spacing = of_tiff(tif)
    same = [s for s in series if s.shape == series[0].shape and s.dtype == series[0].dtype]
    if len(same) == len(series) and len(series) > 1:
        stored = replace(_stored(series[0]), spacing=spacing)
        many = (len(series), *stored.shape)
        return Stack([_series_array(path, s) for s in series]), replace(
            stored, shape=many, letters=f"p{stored.letters}"
        )
    full = [s for s in series if int(np.prod(s.shape)) == largest]
    if len(full) > 1:
        shapes = ", ".join(str(s.shape) for s in series)
        raise StoreError(f"{path} holds several pictures of shapes {shapes}; save the one to use as a file of its own.")
    return _series_array(path, full[0]), replace(_stored(full[0]), spacing=spacing)


def _stored(series: Any) -> Stored:
    """Return what a series says about its axes."""
    letters = "".join(_LETTERS.get(a, UNKNOWN) for a in series.axes.upper())
    if "y" not in letters or "x" not in letters:
        letters = UNKNOWN * (len(letters) - 2) + "yx"
    if series.kind == "shaped" and letters == SAMPLES + "yx":
        # tifffile writes any three or four planes of bytes as red, green, blue when it is not told otherwise.
        letters = UNKNOWN + "yx"
    rgb = bool(series.pages) and series.keyframe.photometric in (tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.YCBCR)
    return Stored(tuple(int(n) for n in series.shape), letters, rgb)


def _series_array(path: Path, series: Any) -> ArrayLike:
    """Return a series as memory map, or as lazily decoded pages."""
    if 0 in series.shape:
        return np.zeros(series.shape, series.dtype)
    if series.dataoffset is not None:
        _check_length(path, series)
        return np.memmap(
            path, series.dtype.newbyteorder(series.keyframe.parent.byteorder), "r", series.dataoffset, series.shape
        )
    return TiffPages(path, series)


def _check_length(path: Path, series: Any) -> None:
    """Raise when the file ends before its pixels do."""
    needed, there = series.dataoffset + int(np.prod(series.shape)) * series.dtype.itemsize, path.stat().st_size
    if there < needed:
        raise StoreError(f"{path} cannot be read: it is cut off after {there} of {needed} bytes.")


class TiffPages:
    """A series of pages of a TIFF file, of which only the strips or tiles that are needed are decoded.

    Parameters
    ----------
    path : Path
        The file, for messages.
    series : tifffile.TiffPageSeries
        Its pages; the file stays open as long as this array lives.
    """

    def __init__(self, path: Path, series: Any) -> None:
        self.path, self.series, self.keyframe = path, series, series.keyframe
        self.shape = tuple(int(n) for n in series.shape)
        self.dtype = np.dtype(series.dtype)
        self.ndim = len(self.shape)
        self.page_shape = tuple(int(n) for n in self.keyframe.shape)
        self.leading = self.shape[: self.ndim - len(self.page_shape)]
        self._lock = threading.Lock()
        self._cache: OrderedDict[tuple[int, int], NDArray[Any]] = OrderedDict()
        self._cached_bytes = 0
        if self.leading + self.page_shape != self.shape or len(series.pages) < int(np.prod(self.leading)):
            raise StoreError(
                f"{path} cannot be read: {len(series.pages)} pages do not make up a stack of {self.shape}."
            )
        if self.keyframe.imagedepth > 1:
            raise StoreError(f"{path} cannot be read: it stores volumes in one page; save it as a stack of planes.")

    def __getitem__(self, key: Any) -> NDArray[Any]:
        key = full_key(key, self.ndim)
        split = len(self.leading)
        pages, kept = block_indices(key[:split], self.leading)
        numbers = [int(np.ravel_multi_index(p, self.leading)) if split else 0 for p in pages]
        if not numbers:
            inner = np.broadcast_to(np.zeros((), self.dtype), self.page_shape)[key[split:]]
            return np.zeros((*kept, *inner.shape), self.dtype)
        blocks = np.stack([self._page(number, key[split:]) for number in numbers])
        return blocks.reshape(kept + blocks.shape[1:])

    def _page(self, number: int, key: tuple[Any, ...]) -> NDArray[Any]:
        """Return a region of one page, in the page's own axis order."""
        planar = self.keyframe.planarconfig == 2 and self.keyframe.samplesperpixel > 1
        at = 1 if planar else 0
        rows, columns = (self._span(k, n) for k, n in zip(key[at : at + 2], self.page_shape[at : at + 2], strict=True))
        try:
            block = self._region(number, rows, columns)  # (planar samples, Y, X, samples)
        except StoreError:
            raise
        except Exception as error:  # decoders raise most kinds of exceptions on damaged data
            raise unreadable(self.path, error) from error
        block = block.reshape(*(block.shape[:1] if planar else ()), *block.shape[1:3], *self.page_shape[at + 2 :])
        local = list(key)
        for axis, (start, _) in zip((at, at + 1), (rows, columns), strict=True):
            local[axis] = _shifted(key[axis], start, self.page_shape[axis])
        inside: NDArray[Any] = block[tuple(local)]
        return inside

    @staticmethod
    def _span(key: int | slice, size: int) -> tuple[int, int]:
        """Return first and last + 1 of the pixels that a key needs."""
        chosen = range(*key.indices(size)) if isinstance(key, slice) else range(key % size, key % size + 1)
        return (min(chosen), max(chosen) + 1) if len(chosen) else (0, 0)

    def _region(self, number: int, rows: tuple[int, int], columns: tuple[int, int]) -> NDArray[Any]:
        """Return rows and columns of a page, pasted from the segments that meet them."""
        samples, _, height, width, values = self.keyframe.shaped
        tiled = self.keyframe.is_tiled
        length = self.keyframe.tilelength if tiled else self.keyframe.rowsperstrip
        breadth = self.keyframe.tilewidth if tiled else width
        per_row, per_column = -(-width // breadth), -(-height // length)
        out = np.zeros((samples, rows[1] - rows[0], columns[1] - columns[0], values), self.dtype)
        for sample, r, c in block_indices(
            (slice(None), slice(rows[0] // length, -(-rows[1] // length)),
             slice(columns[0] // breadth, -(-columns[1] // breadth))),
            (samples, per_column, per_row),
        )[0]:  # fmt: skip
            segment = self._segment(number, (sample * per_column + r) * per_row + c)
            _paste(out[sample], segment, r * length - rows[0], c * breadth - columns[0])
        return out

    def _segment(self, number: int, index: int) -> NDArray[Any]:
        """Return one decoded strip or tile, (Y, X, samples)."""
        with self._lock:
            if (number, index) in self._cache:
                self._cache.move_to_end((number, index))
                return self._cache[number, index]
            segment = self._decode(number, index)
            self._cache[number, index] = segment
            self._cached_bytes += segment.nbytes
            while self._cached_bytes > CACHE_BYTES and len(self._cache) > 1:
                self._cached_bytes -= self._cache.popitem(last=False)[1].nbytes
            return segment

    def _decode(self, number: int, index: int) -> NDArray[Any]:
        """Return one strip or tile from the file."""
        page = self.series.pages[number]
        if page is None or index >= len(page.dataoffsets):
            raise StoreError(f"{self.path} cannot be read: page {number} or a part of it is missing.")
        handle, count = page.parent.filehandle, page.databytecounts[index]
        handle.seek(page.dataoffsets[index])
        data = handle.read(count)
        if len(data) < count:
            raise StoreError(f"{self.path} cannot be read: page {number} is cut off.")
        tables = {"jpegtables": page.jpegtables, "jpegheader": self.keyframe.jpegheader} if _is_jpeg(page) else {}
        segment, _, _ = self.keyframe.decode(data or None, index, _fullsize=False, **tables)
        if segment is None:  # a sparse file leaves empty segments out
            raise StoreError(f"{self.path} cannot be read: page {number} has no pixels.")
        return np.asarray(segment[0])


def _is_jpeg(page: Any) -> bool:
    """Return whether decoding needs the tables of the page."""
    return int(page.compression) in {6, 7, 34892, 33007}


def _paste(out: NDArray[Any], segment: NDArray[Any], y: int, x: int) -> None:
    """Write a segment whose first pixel lies at y, x of ``out`` where both meet."""
    y0, x0 = max(y, 0), max(x, 0)
    y1, x1 = min(y + segment.shape[0], out.shape[0]), min(x + segment.shape[1], out.shape[1])
    out[y0:y1, x0:x1] = segment[y0 - y : y1 - y, x0 - x : x1 - x]


def _shifted(key: int | slice, start: int, size: int) -> int | slice:
    """Return a key of the whole axis as a key of the block that begins at ``start``."""
    if not isinstance(key, slice):
        return key % size - start
    chosen = range(*key.indices(size))
    if not len(chosen):
        return slice(0, 0)
    stop = chosen[-1] - start + (1 if chosen.step > 0 else -1)
    return slice(chosen[0] - start, stop if stop >= 0 else None, chosen.step)
