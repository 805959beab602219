"""Microscopy made by numbers, with the truth: sample data, and what the bundled model learned first.

Every picture follows from its kind, shape and seed alone. Seeds differ in size, shape, crowding,
contrast, sharpness and noise of the cells, as real experiments do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .fluorescence import nuclei, nuclei_stack, tissue
from .texture import Generator, Image, between
from .transmitted import bacteria, dic, membranes, phase

__all__ = ["KINDS", "generate", "generate_stack"]

Painter = Callable[[Generator, Sequence[int], float, float], tuple[Image, NDArray[np.int32]]]
Range = tuple[float, float]

# Painter, diameters in pixels, densities: from which a seed chooses when nothing is asked for.
_PAINTERS: dict[str, tuple[Painter, Range, Range]] = {
    "nuclei": (nuclei, (10, 46), (0.06, 0.45)),
    "phase": (phase, (26, 64), (0.12, 0.5)),
    "dic": (dic, (30, 80), (0.6, 0.95)),
    "bacteria": (bacteria, (10, 34), (0.05, 0.45)),
    "membranes": (membranes, (18, 60), (0.8, 1.0)),
    "tissue": (tissue, (12, 36), (0.1, 0.4)),
}

KINDS = tuple(_PAINTERS)
"""What :func:`generate` can paint."""


def generate(
    kind: str, shape: tuple[int, int] = (256, 256), seed: int = 0,
    *, diameter: float | None = None, density: float | None = None,
) -> tuple[Image, NDArray[np.int32]]:  # fmt: skip
    """Return a picture of cells and its instance labels.

    Parameters
    ----------
    kind : str
        ``"nuclei"`` (fluorescence), ``"phase"`` (adherent cells in phase contrast), ``"dic"`` (packed
        cells in relief), ``"bacteria"`` (rods; fluorescent, bright field or phase contrast),
        ``"membranes"`` (packed cells with stained or electron-dense membranes) or ``"tissue"``
        (dark nuclei in stained tissue, brightness only).
    shape : tuple of int
        Height and width in pixels.
    seed : int
        From 0; equal seeds give equal pictures.
    diameter : float, optional
        Typical diameter in pixels, at least 3, of a disc as large as a cell; None lets the seed choose.
    density : float, optional
        Share of the picture that cells cover, above 0 and at most 1, as far as they find room; None lets
        the seed choose.

    Returns
    -------
    image : NDArray of float32
        Grey values from 0 to 1, (Y, X).
    labels : NDArray of int32
        0 = background, cells 1..n, (Y, X). Each cell is one connected piece.

    Raises
    ------
    DataError
        For an unknown kind, an empty shape, or a number out of bounds.

    Examples
    --------
    >>> image, labels = generate("nuclei", (64, 80), seed=1, diameter=12)
    >>> image.shape, image.dtype, labels.dtype
    ((64, 80), dtype('float32'), dtype('int32'))
    """
    if kind not in _PAINTERS:
        raise DataError(f"There is no kind of picture {kind!r}; known are {', '.join(KINDS)}.")
    _check(shape, 2, seed, diameter, density)
    painter, diameters, densities = _PAINTERS[kind]
    rng = np.random.default_rng([KINDS.index(kind), seed])
    chosen = between(rng, *diameters), rng.uniform(*densities)
    image, labels = painter(rng, shape, diameter or chosen[0], density or chosen[1])
    return np.asarray(image, np.float32), np.asarray(labels, np.int32)


def generate_stack(
    kind: str = "nuclei", shape: tuple[int, int, int] = (16, 256, 256), seed: int = 0,
    *, diameter: float | None = None, density: float | None = None, spacing: float = 3.0,
) -> tuple[Image, NDArray[np.int32]]:  # fmt: skip
    """Return a z stack of cells and its instance labels; a cell has one label through all its planes.

    Parameters
    ----------
    kind : str
        ``"nuclei"``, the only kind there is in 3D.
    shape : tuple of int
        Planes, height and width.
    seed, diameter, density
        As in :func:`generate`; density is the share of the volume.
    spacing : float
        Distance between planes in pixels of a plane, above 0.

    Returns
    -------
    image : NDArray of float32
        Grey values from 0 to 1, (Z, Y, X).
    labels : NDArray of int32
        0 = background, cells 1..n, (Z, Y, X). Each cell is one connected piece.

    Raises
    ------
    DataError
        For an unknown kind, an empty shape, or a number out of bounds.
    """
    if kind != "nuclei":
        raise DataError(f"There is no kind of stack {kind!r}; known is nuclei.")
    _check(shape, 3, seed, diameter, density)
    if not spacing > 0:
        raise DataError(f"The spacing is {spacing}, but planes have to be more than 0 pixels apart.")
    rng = np.random.default_rng([len(KINDS) + 1000, seed])
    chosen = between(rng, 18, 36), rng.uniform(0.08, 0.3)
    return nuclei_stack(rng, shape, diameter or chosen[0], density or chosen[1], spacing)


def _check(shape: Sequence[int], axes: int, seed: int, diameter: float | None, density: float | None) -> None:
    """Raise a :class:`DataError` when no picture can be made of these numbers."""
    if len(shape) != axes or min(shape) < 1:
        raise DataError(f"The shape is {tuple(shape)}, but it has to be {axes} sizes of at least 1 pixel.")
    if seed < 0:
        raise DataError(f"The seed is {seed}, but it has to be 0 or more.")
    if diameter is not None and not diameter >= 3:
        raise DataError(f"The diameter is {diameter} pixels, but it has to be 3 or more.")
    if density is not None and not 0 < density <= 1:
        raise DataError(f"The density is {density}, but it has to be above 0 and at most 1.")
