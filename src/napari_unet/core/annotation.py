"""Painted labels to what is known: target, instances and mask. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import DataError

Box = tuple[int, int, int, int]
"""y0, y1, x0, x1 in pixels."""


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
    """

    image: NDArray[Any]
    labels: NDArray[Any]
    regions: tuple[Box, ...] = ()
    name: str = "image"


@dataclass(frozen=True)
class Known:
    """What one annotated plane teaches.

    Attributes
    ----------
    instances : NDArray of int32
        Cell ids 1..n, 0 elsewhere; (Y, X). In semantic mode connected pieces of classes.
    target : NDArray of uint8
        Class index per pixel, 0 = background; (Y, X).
    mask : NDArray of bool
        Whether the pixel is known at all; (Y, X).
    """

    instances: NDArray[np.int32]
    target: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    class_values: tuple[int, ...] = field(default=())
