"""Undo and redo over all planes of a stack of labels. Needs no torch.

A change is kept as what a box held before and after, compressed: labels are flat and shrink a
hundredfold, so thousands of corrections fit into the memory of one plane.
"""

from __future__ import annotations

import base64
import zlib
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.annotation import Box
from ..data.arrays import PlaneIndex
from ..errors import DataError

LARGEST = 256_000_000
"""Bytes of compressed changes beyond which the oldest steps are forgotten."""


@dataclass(frozen=True)
class Change:
    """What a box of one plane held before and after.

    Attributes
    ----------
    plane : tuple of int
        Index of the plane.
    box : Box
        y0, y1, x0, x1.
    """

    plane: PlaneIndex
    box: Box
    _before: bytes
    _after: bytes
    _dtype: str

    @classmethod
    def of(cls, plane: PlaneIndex, box: Box, before: NDArray[Any], after: NDArray[Any]) -> Change:
        """Return the change between two contents of a box."""
        packed = [zlib.compress(np.ascontiguousarray(values).tobytes(), 1) for values in (before, after)]
        return cls(plane, box, packed[0], packed[1], before.dtype.str)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Change:
        """Return what :meth:`to_plain` has written.

        Raises
        ------
        DataError
            When it is damaged.
        """
        try:
            y0, y1, x0, x1 = (int(n) for n in plain["box"])
            before, after = (base64.b64decode(plain[name], validate=True) for name in ("before", "after"))
            dtype = np.dtype(str(plain["dtype"]))
            change = cls(tuple(int(n) for n in plain["plane"]), (y0, y1, x0, x1), before, after, dtype.str)
            sizes = {change.before.shape, change.after.shape}
        except (KeyError, TypeError, ValueError, zlib.error) as error:
            raise DataError(f"A correction that was kept cannot be read: {error!r}.") from error
        if dtype.kind not in "iu" or len(sizes) != 1:
            raise DataError(f"A correction that was kept cannot be read: {dtype} in {sizes}.")
        return change

    def to_plain(self) -> dict[str, Any]:
        """Return it as plain data, for a file."""
        before, after = (base64.b64encode(packed).decode() for packed in (self._before, self._after))
        return {
            "plane": list(self.plane), "box": list(self.box), "dtype": self._dtype, "before": before, "after": after
        }  # fmt: skip

    @property
    def before(self) -> NDArray[Any]:
        """What the box held before."""
        return self._unpack(self._before)

    @property
    def after(self) -> NDArray[Any]:
        """What it held afterwards."""
        return self._unpack(self._after)

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return len(self._before) + len(self._after)

    def _unpack(self, packed: bytes) -> NDArray[Any]:
        y0, y1, x0, x1 = self.box
        return np.frombuffer(zlib.decompress(packed), self._dtype).reshape(y1 - y0, x1 - x0)


@dataclass(frozen=True)
class MarkChange:
    """What was noted of a cell in a plane before and after; None where nothing was."""

    plane: PlaneIndex
    cell: int
    before: Any
    after: Any


@dataclass(frozen=True)
class Step:
    """What one action of the user changed, in words, pixels and notes."""

    words: str
    changes: tuple[Change, ...] = ()
    marks: tuple[MarkChange, ...] = ()

    @property
    def nbytes(self) -> int:
        """Memory that it takes, about."""
        return sum(change.nbytes for change in self.changes) + 200 * len(self.marks)


@dataclass
class History:
    """The steps that can be undone, and those that were undone and can be done again."""

    largest: int = LARGEST
    _done: deque[Step] = field(default_factory=deque)
    _undone: list[Step] = field(default_factory=list)

    def push(self, step: Step) -> None:
        """Note a step that was made; what was undone before it cannot be done again."""
        self._undone.clear()
        self._done.append(step)
        while len(self._done) > 1 and sum(known.nbytes for known in self._done) > self.largest:
            self._done.popleft()

    def undo(self) -> Step | None:
        """Return the last step, to be taken back; None when there is none."""
        if not self._done:
            return None
        self._undone.append(self._done.pop())
        return self._undone[-1]

    def redo(self) -> Step | None:
        """Return the step that was undone last, to be made again; None when there is none."""
        if not self._undone:
            return None
        self._done.append(self._undone.pop())
        return self._done[-1]

    def clear(self) -> None:
        """Forget everything."""
        self._done.clear()
        self._undone.clear()

    def words(self) -> tuple[str, str]:
        """Return what undo and redo would do, each empty when there is nothing."""
        return (self._done[-1].words if self._done else ""), (self._undone[-1].words if self._undone else "")

    def steps(self) -> Sequence[Step]:
        """Return all steps, also those that were undone."""
        return [*self._done, *self._undone]
