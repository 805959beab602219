"""What each axis of a stored array means: from metadata, from the user, never from a silent guess."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..core.data.arrays import AXES
from ..core.errors import StoreError

Spacing = Mapping[str, tuple[float, str]]
"""Size of a pixel along an axis and its unit as OME-Zarr names it (``"micrometer"``; empty when none), by letter."""

UNKNOWN = "?"
"""Letter of an axis about which the file says nothing."""

SAMPLES = "s"
"""Letter of the values of one pixel; channels, or red, green and blue."""

CHANNEL_SIZES = range(2, 5)
"""Axes of these sizes may be channels as well as planes, so that they are asked for."""


@dataclass(frozen=True)
class Stored:
    """What a file says about its array.

    Attributes
    ----------
    shape : tuple of int
        Shape of the array as stored.
    letters : str
        One letter per axis: those of :data:`~napari_unet.core.data.arrays.AXES`, :data:`SAMPLES` or
        :data:`UNKNOWN`.
    rgb : bool
        Whether the samples are red, green, blue (and perhaps alpha).
    spacing : mapping
        Size and unit of a pixel by letter, where the file says it.
    """

    shape: tuple[int, ...]
    letters: str
    rgb: bool = False
    spacing: Spacing = field(default_factory=dict)


@dataclass(frozen=True)
class Layout:
    """How to look at a stored array.

    Attributes
    ----------
    axes : str
        One letter per axis that is kept.
    dropped : tuple of int
        Stored axes of size 1 without meaning.
    rgb : bool
        Whether ``c`` is red, green, blue (and perhaps alpha).
    """

    axes: str
    dropped: tuple[int, ...] = ()
    rgb: bool = False

    def spacing(self, stored: Stored) -> Spacing:
        """Return size and unit of a pixel by letter, of axes that the file and the user mean the same by."""
        kept = [letter for i, letter in enumerate(stored.letters) if i not in self.dropped]
        same = {a for a, letter in zip(self.axes, kept, strict=True) if a == letter}
        return {a: value for a, value in stored.spacing.items() if a in same}


def resolve_axes(stored: Stored, path: Path, asked: str | None = None) -> Layout:
    """Return what each axis is.

    One unknown axis in front of y and x is read as ``p``, a row of planes that are neither depth nor
    time. It is not guessed when channels are as likely: an axis of 2 to 4 has to be named.

    Parameters
    ----------
    stored : Stored
        What the file says.
    path : Path
        For messages.
    asked : str, optional
        Axes that the user gave; they override the file.

    Raises
    ------
    StoreError
        When the axes cannot be told, or those asked for do not fit.
    """
    if 0 in stored.shape:
        raise StoreError(f"{path} is empty: its shape is {stored.shape}.")
    if asked:
        return _asked_layout(stored, path, asked.lower())
    return _known_layout(stored, path)


def _known_layout(stored: Stored, path: Path) -> Layout:
    """Return the layout that the file's own letters give."""
    letters = list(stored.letters)
    dropped = tuple(i for i, (a, n) in enumerate(zip(letters, stored.shape, strict=True)) if _is_padding(a, n, letters))
    kept = [i for i in range(len(letters)) if i not in dropped]
    unknown = [i for i in kept if letters[i] == UNKNOWN]
    if len(unknown) > 1 or (unknown and _ambiguous(stored, unknown[0])):
        raise _ask(stored, path)
    axes = "".join({UNKNOWN: "p", SAMPLES: "c"}.get(letters[i], letters[i]) for i in kept)
    if len(set(axes)) != len(axes) or not {"y", "x"} <= set(axes):
        raise _ask(stored, path)
    return Layout(axes, dropped, stored.rgb and SAMPLES in stored.letters)


def _is_padding(letter: str, size: int, letters: list[str]) -> bool:
    """Return whether an axis of size 1 says nothing: of unknown meaning, or a second channel axis."""
    return size == 1 and (letter == UNKNOWN or (letter == "c" and SAMPLES in letters))


def _ambiguous(stored: Stored, unknown: int) -> bool:
    """Return whether the unknown axis, or the last one, could as well be channels."""
    return stored.shape[unknown] in CHANNEL_SIZES or stored.shape[-1] in CHANNEL_SIZES


def _ask(stored: Stored, path: Path) -> StoreError:
    """Return the error that asks for the axes."""
    said = stored.letters.replace(UNKNOWN, "?")
    examples = {3: "zyx, tyx, cyx or yxc", 4: "tzyx, zcyx or tcyx", 5: "tzcyx"}.get(len(stored.shape), "yx")
    return StoreError(
        f"{path} has shape {stored.shape} and its file names the axes {said!r}, which is not enough to tell planes "
        f"from channels. Give one letter per axis (t time, z depth, c channel, p position, y, x) with --axes, "
        f"such as {examples}."
    )


def _asked_layout(stored: Stored, path: Path, asked: str) -> Layout:
    """Return the layout for axes that the user gave, with or without axes of size 1."""
    sized = [i for i, n in enumerate(stored.shape) if n > 1 or stored.letters[i] in "yx"]
    for kept in (list(range(len(stored.shape))), sized):
        if len(asked) == len(kept) and len(set(asked)) == len(asked) and {"y", "x"} <= set(asked) <= set(AXES):
            dropped = tuple(i for i in range(len(stored.shape)) if i not in kept)
            rgb = stored.rgb and any(
                stored.letters[i] == SAMPLES and a == "c" for i, a in zip(kept, asked, strict=True)
            )
            return Layout(asked, dropped, rgb)
    raise StoreError(
        f"--axes {asked} does not fit {path} of shape {stored.shape}: give one letter of {', '.join(AXES)} per axis, "
        "each once, with y and x among them."
    )
