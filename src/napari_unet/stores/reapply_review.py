"""Checked cells of an earlier result, put back when it is made anew."""

from __future__ import annotations

from pathlib import Path

from ..core.proofreading.reapply_review import Restored, restore
from ..core.proofreading.review import Marks
from .label_patches import correcting, finish_patch
from .output import LabelOutput
from .resumable import UnfinishedLabels
from .review_marks import read_marks, write_marks
from .zarrs import renew_levels

_LARGEST = "largest before checked cells"


def marks_before(path: Path) -> Marks:
    """Return the marks of a result that is about to be replaced; none when there is no such result.

    Raises
    ------
    StoreError
        When they cannot be read.
    """
    if not path.exists():
        return {}
    finish_patch(path)
    return read_marks(path)


def restore_in(out: LabelOutput | UnfinishedLabels, marks: Marks) -> Restored:
    """Put checked cells back over a result that is complete, but not saved yet; see :func:`restore`.

    Where this was cut off before, the outcome is the same.

    Raises
    ------
    DataError
        When the cells are of another picture.
    """
    known = out.work.recall(_LARGEST) if out.lasting and out.work is not None else None
    if known is None and out.lasting and out.work is not None:
        # The numbers of a first attempt must not count.
        found = restore(out.array, {})
        out.work.remember(_LARGEST, known := found.largest)
    return restore(out.array, marks, known)


def restore_into(path: Path, marks: Marks) -> Restored:
    """Put checked cells back over a result in a store, at every size, and write their marks beside it.

    Raises
    ------
    DataError
        When the cells are of another picture.
    StoreError
        When the store cannot be written.
    """
    with correcting(path) as labels:
        found = restore(labels.arrays[0], marks)
        for plane in marks:
            renew_levels(labels.arrays, plane)
        write_marks(path, found.marks)
    return found


__all__ = ["marks_before", "restore_in", "restore_into"]
