"""Painted labels to what is known: target, instances and mask. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..errors import DataError
from ..settings import TrainingSettings
from .arrays import PlaneIndex
from .label_ops import consecutive, erode_boundaries

Box = tuple[int, int, int, int]
"""y0, y1, x0, x1 in pixels."""


MOST_CLASSES = 255
"""Classes besides the background that the targets' number type can tell apart."""


@dataclass(frozen=True)
class AnnotatedImage:
    """One plane with what was painted on it.

    Attributes
    ----------
    image : NDArray
        Grey values, (C, Y, X) or (Y, X).
    labels : NDArray of int
        Painted labels, (Y, X); 0 = unpainted.
    regions : tuple of Box
        Complete regions: inside of them, unpainted means background.
    name : str
        For messages and the ledger.
    emphasis : tuple of (y, x)
        Places in pixels that training looks at more often than at others: cells that a human has checked.
    plane : tuple of int
        Index of the plane in its stack, for who wants to go there.
    """

    image: NDArray[Any]
    labels: NDArray[Any]
    regions: tuple[Box, ...] = ()
    name: str = "image"
    oversampled: tuple[tuple[float, float], ...] = ()
    plane: PlaneIndex = ()


@dataclass(frozen=True)
class Target:
    """What one annotated plane teaches.

    Attributes
    ----------
    instances : NDArray of int32
        Cell ids 1..n, 0 elsewhere; (Y, X). All 0 in semantic mode.
    target : NDArray of uint8
        Class index per pixel, 0 = background; (Y, X).
    mask : NDArray of bool
        Whether the pixel is known at all; (Y, X).
    """

    instances: NDArray[np.int32]
    target: NDArray[np.uint8]
    mask: NDArray[np.bool_]


def class_values(images: Sequence[AnnotatedImage], settings: TrainingSettings) -> tuple[int, ...]:
    """Return the painted labels that stand for classes, in order; the background label is left out.

    Raises
    ------
    DataError
        When labels are not integers, of another shape than the image, or too many to be classes.
    """
    found: set[int] = set()
    for item in images:
        labels = np.asarray(item.labels)
        _check_labels(item, labels)
        found.update(int(v) for v in np.unique(labels))
    values = tuple(sorted(v for v in found if v > 0 and v != settings.background_label))
    if len(values) > MOST_CLASSES:
        raise DataError(
            f"There are {len(values)} different labels, but at most {MOST_CLASSES} classes; choose that labels are "
            "instances if each one is a cell."
        )
    return values


def interpret(annotated: AnnotatedImage, settings: TrainingSettings, values: Sequence[int] = ()) -> Target:
    """Return what is known of every pixel of one annotated plane.

    Parameters
    ----------
    annotated : AnnotatedImage
        The plane and its paint.
    settings : TrainingSettings
        ``mode``, ``unpainted``, ``background_label``, ``rim`` and ``gap`` are used.
    values : sequence of int
        In semantic mode the label of each class after the background, see :func:`class_values`.

    Notes
    -----
    Where unpainted means unknown, a rim of ``settings.background_rim`` pixels around each painted cell still
    counts as background: a neighbour that touches there would be parted by a gap all the same
    (section 3 of the paper), and without it nothing shows the network where a cell ends.

    Raises
    ------
    DataError
        When labels are not integers, or of another shape than the image.
    """
    labels = np.asarray(annotated.labels)
    _check_labels(annotated, labels)
    painted = (labels > 0) & (labels != settings.background_label)
    background = np.zeros(labels.shape, bool)
    if settings.background_label:
        background |= labels == settings.background_label
    if settings.unpainted == "background":
        background |= labels == 0
    for y0, y1, x0, x1 in annotated.regions:
        inside = (slice(max(0, y0), max(0, y1)), slice(max(0, x0), max(0, x1)))
        background[inside] |= labels[inside] == 0
    if settings.mode == "classes":
        target = np.zeros(labels.shape, np.uint8)
        for index, value in enumerate(values, start=1):
            target[labels == value] = index
        return Target(np.zeros(labels.shape, np.int32), target, background | painted)
    instances = consecutive(np.where(painted, labels, 0))
    if settings.unpainted == "unknown" and settings.background_rim:
        background |= _rim(painted, settings.background_rim) & (labels == 0)
    target = (erode_boundaries(instances, settings.boundary_erosion) > 0).astype(np.uint8)
    return Target(instances, target, background | painted)


def _rim(painted: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    """Return the pixels within ``width`` of the paint, the paint left out."""
    structure = ndimage.generate_binary_structure(2, 2)
    return np.asarray(ndimage.binary_dilation(painted, structure, iterations=width) & ~painted)


def _check_labels(annotated: AnnotatedImage, labels: NDArray[Any]) -> None:
    """Raise a :class:`DataError` when the labels do not fit the image."""
    shape = tuple(np.shape(annotated.image)[-2:])
    if tuple(labels.shape) != shape:
        raise DataError(
            f"The labels of {annotated.name} have the shape {labels.shape}, but the image has {shape}; "
            "use labels that were painted on this image."
        )
    if labels.dtype.kind not in "uib":
        raise DataError(f"The labels of {annotated.name} are {labels.dtype} numbers; they have to be whole numbers.")
