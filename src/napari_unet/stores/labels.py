"""Read label images, and bring images and labels together."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.data.annotation import AnnotatedImage
from ..core.data.arrays import ArrayLike
from ..core.errors import DataError, StoreError
from .layout import SAMPLES
from .pictures import Picture, list_pictures, open_array, open_picture, stem
from .views import Fixed, fixed

_FRAME = re.compile(r"^(?:t|mask|man_seg_?|man_track_?)(\d{3,})(?:_(\d+))?$")
_SHOWN = 5


@dataclass(frozen=True)
class ImageLabelPair:
    """An image file and the file of its labels.

    Attributes
    ----------
    image, labels : Path
        The files.
    depth : int or None
        The plane of the image that the labels belong to, where they are of one plane alone
        (``man_seg_000_012.tif`` of the Cell Tracking Challenge).
    """

    image: Path
    labels: Path
    depth: int | None = None


def pair(
    images: str | Path, labels: str | Path, *, nouns: tuple[str, str] = ("image", "labels")
) -> list[ImageLabelPair]:
    """Return images with their labels: by stem, or by frame number in Cell Tracking Challenge folders.

    Parameters
    ----------
    images, labels : path-like
        Two files, two Zarr stores or two folders.
    nouns : tuple of str
        What the two are called in messages.

    Raises
    ------
    StoreError
        When one has no partner, with the names. Cell Tracking Challenge ground truth may cover few frames.
    """
    left, right = list_pictures(Path(images)), list_pictures(Path(labels))
    if len(left) == len(right) == 1:
        return [ImageLabelPair(left[0], right[0])]
    by_stem = {stem(p): p for p in left}
    pairs = [ImageLabelPair(by_stem[stem(p)], p) for p in right if stem(p) in by_stem]
    if not pairs:
        pairs = _pair_frames(left, right)
    paired = {p.labels for p in pairs}
    lonely = [p for p in right if p not in paired]
    if lonely:
        raise StoreError(_unmatched(lonely, nouns[1], Path(images), nouns[0]))
    used = {p.image for p in pairs}
    rest = [p for p in left if p not in used]
    if rest and not all(re.match("man_(seg|track)", p.stem) for p in right):
        raise StoreError(_unmatched(rest, nouns[0], Path(labels), nouns[1]))
    return pairs


def _pair_frames(images: list[Path], labels: list[Path]) -> list[ImageLabelPair]:
    """Return the pairs of one frame number."""
    frames = {int(m[1]): p for p in images if (m := _FRAME.match(stem(p)))}
    found = [(p, m) for p in labels if (m := _FRAME.match(stem(p)))]
    return [ImageLabelPair(frames[int(m[1])], p, int(m[2]) if m[2] else None) for p, m in found if int(m[1]) in frames]


def _unmatched(paths: list[Path], noun: str, other: Path, other_noun: str) -> str:
    """Return the message about files without partner."""
    names = ", ".join(p.name for p in paths[:_SHOWN])
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return (
        f"{len(paths)} {noun} file{'s have' if len(paths) > 1 else ' has'} no {other_noun} of the same stem in "
        f"{other}: {names}{more}. Give matching files one stem (cell1.tif and cell1.png), or move the others away."
    )


def open_labels(path: str | Path) -> ArrayLike:
    """Return a label image without its axes of size 1, opened lazily where the file allows.

    Raises
    ------
    StoreError
        When it cannot be read.
    DataError
        When it holds colours or other things that are no labels.
    """
    path = Path(path)
    array, stored = open_array(path, indices=True)
    if 0 in stored.shape:
        raise StoreError(f"{path} is empty: its shape is {stored.shape}.")
    if np.dtype(array.dtype).kind not in "buif":
        raise DataError(f"{path} holds {array.dtype} numbers, which are no labels.")
    at: dict[int, int] = {i: 0 for i, n in enumerate(stored.shape[:-2]) if n == 1}
    if stored.rgb and SAMPLES in stored.letters:
        axis = stored.letters.index(SAMPLES)
        red, green, blue = (Fixed(array, {axis: i})[...] for i in range(3))
        if not (np.array_equal(red, green) and np.array_equal(red, blue)):
            raise DataError(f"{path} holds colours; labels are one whole number per pixel.")
        at[axis] = 0
    return fixed(array, at)


def label_plane(labels: ArrayLike, plane: tuple[int, ...], path: Path) -> NDArray[np.int64]:
    """Return one plane of labels, (Y, X).

    Raises
    ------
    DataError
        When it holds numbers that are no labels: fractions, NaN, below 0.
    """
    values = np.asarray(labels[(*plane, slice(None), slice(None))])
    whole = values.dtype.kind != "f" or bool(np.array_equal(values, np.rint(values)))
    if not whole or (values.size and values.min() < 0):
        raise DataError(f"{path} holds numbers that are no labels, such as {_odd(values)}; labels are 0, 1, 2, ...")
    return values.astype(np.int64)


def _odd(values: NDArray[Any]) -> float:
    """Return the first value that is no label."""
    odd = (values < 0) | (values != np.rint(values))
    return float(values[odd][0])


def labelled_planes(picture: Picture, found: ImageLabelPair) -> Iterator[tuple[tuple[int, ...], NDArray[np.int64]]]:
    """Yield the index and the labels, (Y, X), of every plane of a picture that its label file covers.

    Raises
    ------
    DataError
        When the labels are of another shape than the image.
    """
    labels = open_labels(found.labels)
    planes = picture.planes
    wanted = tuple(n for n in planes.plane_shape if n > 1) + (planes.height, planes.width)
    got = tuple(int(n) for n in labels.shape)
    if found.depth is not None:
        wanted = wanted[-2:]
    if got != wanted:
        raise DataError(
            f"{found.labels} has labels of shape {got}, but its image {picture.path} needs {wanted}; "
            "labels have to cover the image pixel by pixel."
        )
    for plane in planes.indices():
        if found.depth in (None, plane[-1] if plane else 0):
            inner = () if found.depth is not None else _without_ones(plane, planes.plane_shape)
            yield plane, label_plane(labels, inner, found.labels)


def _without_ones(plane: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return an index without the axes of size 1."""
    return tuple(i for i, n in zip(plane, shape, strict=True) if n > 1)


def annotated_images(
    images: str | Path, labels: str | Path, *, axes: str | None = None, empty: bool = False, grey: bool | None = None
) -> list[AnnotatedImage]:
    """Return every labelled plane as core functions take it.

    Parameters
    ----------
    images, labels : path-like
        See :func:`pair`.
    axes : str, optional
        Axes of the images, see :func:`~napari_unet.stores.open_picture`.
    empty : bool
        Whether planes without any label are returned too, as those where every pixel is background.
    grey : bool, optional
        Whether red, green and blue are read as one channel; by default where grey pictures are among them.

    Raises
    ------
    StoreError
        When a file cannot be read or has no partner.
    DataError
        When labels do not fit their image.
    """
    pairs = pair(images, labels)
    pictures = {p.image: _opened(p.image, axes) for p in pairs}
    if grey is None:
        grey = len({p.planes.channels for p in pictures.values()}) > 1
    out = []
    for found in pairs:
        picture = pictures[found.image]
        planes = picture.planes.as_grey() if grey else picture.planes
        for plane, values in labelled_planes(picture, found):
            if empty or values.any():
                name = f"{picture.name} {plane}" if plane else picture.name
                out.append(AnnotatedImage(planes.read(plane, slice(None), slice(None)), values, name=name))
    return out


def _opened(path: Path, axes: str | None) -> Picture:
    """Return a picture; what is wrong with it is told with its name, as it is one of many."""
    try:
        return open_picture(path, axes)
    except DataError as error:
        raise DataError(f"{path.name}: {error}") from error
