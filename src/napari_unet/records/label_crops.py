"""Parts of labels that lie in a store: opened for correction, and put back.

Nothing but the part is in memory. Its numbers are those of the store; new cells get numbers above the largest one
anywhere in it, so that none is used twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.data.annotation import Box
from ..core.data.arrays import PlaneIndex
from ..core.errors import DataError, StoreError
from ..core.proofreading.crop_merge import Around, marks_after, marks_for, put_in, read_around
from ..core.proofreading.review import ReviewedCell
from ..stores.label_patches import StoredLabels, correcting, fingerprint_of, finish_patch
from ..stores.review_marks import read_marks

_LARGEST: dict[tuple[str, int], int] = {}
"""The largest label of stores that were looked through, by path and the moment at which they were made."""


@dataclass(frozen=True)
class LabelCrop:
    """A part of a plane of labels in a store.

    Attributes
    ----------
    path : Path
        The store.
    plane : tuple of int
        Index of the plane.
    box : Box
        y0, y1, x0, x1.
    largest : int
        The largest label anywhere in the store.
    ids : frozenset of int
        The labels that are this part's own: those that it had when it was opened, also of cells deleted before.
    seen : tuple of str
        What the store may hold in the part when it is put back, as fingerprints; with anything else, somebody else
        has changed it.
    """

    path: Path
    plane: PlaneIndex
    box: Box
    largest: int
    ids: frozenset[int]
    seen: tuple[str, ...]

    def to_plain(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "path": str(self.path), "plane": list(self.plane), "box": list(self.box), "largest": self.largest,
            "ids": sorted(self.ids), "seen": list(self.seen),
        }  # fmt: skip

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> LabelCrop:
        """Return what :meth:`to_plain` has written.

        Raises
        ------
        DataError
            When it is damaged.
        """
        try:
            y0, y1, x0, x1 = (int(n) for n in plain["box"])
            return cls(
                Path(plain["path"]), tuple(int(n) for n in plain["plane"]), (y0, y1, x0, x1), int(plain["largest"]),
                frozenset(int(n) for n in plain["ids"]), tuple(map(str, plain["seen"])),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"What is noted of a part of a store cannot be read: {error!r}.") from error


@dataclass(frozen=True)
class OpenedPart:
    """A part and what is in it.

    Attributes
    ----------
    part : LabelCrop
        Where it is.
    labels : NDArray of int
        (Y, X).
    marks : dict of int to Kept
        Its checked cells, in its own pixels.
    """

    part: LabelCrop
    labels: NDArray[Any]
    marks: dict[int, ReviewedCell]


@dataclass(frozen=True)
class PutBack:
    """What came of putting a part back.

    Attributes
    ----------
    part : LabelCrop
        As it is in the store now.
    marks : dict of int to Kept
        The checked cells of the plane, in its pixels.
    renamed : dict of int to int
        Labels that were used elsewhere in the store already, and those that took their place.
    """

    part: LabelCrop
    marks: dict[int, ReviewedCell]
    renamed: dict[int, int]


def open_part(path: Path, plane: PlaneIndex, box: Box) -> OpenedPart:
    """Return a part of labels in a store, to be corrected.

    The store is looked through once per process for its largest label.

    Parameters
    ----------
    path : Path
        An OME-Zarr label image on this computer.
    plane : tuple of int
        Index of the plane.
    box : Box
        y0, y1, x0, x1.

    Raises
    ------
    StoreError
        When it cannot be read, or not be corrected.
    """
    finish_patch(path)
    labels = StoredLabels(path)
    values = labels.read(plane, box)
    largest = _largest(labels)
    fits = {cell: kept for cell, kept in read_marks(path).get(plane, {}).items() if _fits(labels, plane, cell, kept)}
    marks = marks_for(box, fits)
    part = LabelCrop(path, plane, box, largest, _ids(values) | set(marks), (fingerprint_of(values),))
    return OpenedPart(part, _handy(values, largest), marks)


def _handy(values: NDArray[Any], largest: int) -> NDArray[Any]:
    """Return labels in the type that all others in memory have, where that has room for many more."""
    return values.astype(np.int32) if largest < np.iinfo(np.int32).max // 2 else values.copy()


def _ids(values: NDArray[Any]) -> frozenset[int]:
    return frozenset(np.unique(values).tolist()) - {0}


def _fits(labels: StoredLabels, plane: PlaneIndex, cell: int, kept: ReviewedCell) -> bool:
    """Return whether a store still holds a checked cell as it is kept."""
    y0, y1, x0, x1 = kept.box
    inside = 0 <= y0 and y1 <= labels.plane_shape[0] and 0 <= x0 and x1 <= labels.plane_shape[1]
    return inside and kept.moved(-y0, -x0).fits(labels.read(plane, kept.box), cell)


def _largest(labels: StoredLabels) -> int:
    """Return the largest label of a store, which is looked through only once."""
    key = str(labels.path.resolve()), labels.made
    if key not in _LARGEST:
        _LARGEST[key] = labels.find_largest()
    _LARGEST[key] = max(_LARGEST[key], labels.noted_largest())
    return _LARGEST[key]


def put_back(
    part: LabelCrop,
    values: NDArray[Any],
    marks: Mapping[int, ReviewedCell],
    note: Callable[[LabelCrop], None] | None = None,
) -> PutBack:
    """Write a corrected part into its store, at every size, and its marks beside it: all of it, or nothing.

    Parameters
    ----------
    part : LabelCrop
        Where it belongs.
    values : NDArray of int
        The part as it was corrected, (Y, X).
    marks : mapping of int to Kept
        Its checked cells, in its own pixels.
    note : callable, optional
        Told what the part will be, before anything is written.

    Raises
    ------
    DataError
        When the store was changed in the part by somebody else, or a cell over its edge cannot be followed.
    StoreError
        When the store cannot be written.
    """
    with correcting(part.path) as labels:
        around = read_around(lambda box: labels.read(part.plane, box), part.box, labels.plane_shape)
        _check_unchanged(part, around)
        largest = max(part.largest, labels.noted_largest())
        renamed = _clashes(part, [*np.unique(values).tolist(), *marks], largest)
        values, marks = _renamed(values, renamed), {renamed.get(cell, cell): kept for cell, kept in marks.items()}
        largest = max(largest, int(values.max(initial=0)), *marks, 0)
        _check_room(labels, largest)
        after = put_in(around, values.astype(labels.dtype))
        every = read_marks(part.path)
        every[part.plane] = marks_after(around, after, marks, every.get(part.plane, {}))
        seen = fingerprint_of(after[around.inner])
        new = replace(part, largest=largest, ids=part.ids | _ids(values), seen=(*part.seen, seen))
        if note is not None:
            note(new)
        box, changed = _changed(around, after)
        labels.put(part.plane, box, changed, {plane: cells for plane, cells in every.items() if cells}, largest)
    return PutBack(replace(new, seen=(seen,)), every[part.plane], renamed)


def _check_unchanged(part: LabelCrop, around: Around) -> None:
    """Raise a :class:`DataError` when somebody else has changed the store in a part."""
    if fingerprint_of(around.labels[around.inner]) not in part.seen:
        raise DataError(
            f"{part.path.name} was changed in this part since it was opened, by another correction or a new "
            "segmentation, so nothing was written. Save these labels to a file of their own to keep them, or open "
            "the part anew."
        )


def _clashes(part: LabelCrop, cells: Iterable[int], largest: int) -> dict[int, int]:
    """Return new labels for cells of a part whose label is in use elsewhere, as far as can be known."""
    new = sorted(set(cells) - part.ids - {0})
    start = max([largest, *new]) + 1
    return {cell: start + number for number, cell in enumerate(cell for cell in new if cell <= largest)}


def _renamed(values: NDArray[Any], names: Mapping[int, int]) -> NDArray[Any]:
    out = values.copy()
    for old, new in names.items():
        out[values == old] = new
    return out


def _check_room(labels: StoredLabels, largest: int) -> None:
    most = int(np.iinfo(labels.dtype).max)
    if largest > most:
        raise StoreError(
            f"{labels.path.name} holds numbers up to {most:,} and all of them are used up; save the labels as a new "
            ".zarr to add cells."
        )


def _changed(around: Around, after: NDArray[Any]) -> tuple[Box, NDArray[Any]]:
    """Return the smallest box of the plane with all that changes, and what comes there; one pixel at least."""
    differs = around.labels != after
    differs[0, 0] |= not differs.any()
    rows, columns = (np.flatnonzero(differs.any(axis=axis)) for axis in (1, 0))
    y0, y1, x0, x1 = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    top, left = around.box[0], around.box[2]
    return (top + y0, top + y1, left + x0, left + x1), after[y0:y1, x0:x1]
