"""Keeps Python's full garbage collections away while something is computed.

A viewer holds several hundred thousand objects, and looking through all of them takes 100 to 200 ms
of the main thread, at moments that nobody chooses. While a hold lasts, only what was made since it
began is looked through; afterwards everything is again, so nothing is leaked.
"""

from __future__ import annotations

import gc
from types import TracebackType


class Hold:
    """From its making to its release, the objects that were there before are not searched for garbage.

    Holds may overlap; the last release ends them all. Also a context manager.
    """

    _count = 0

    def __init__(self) -> None:
        self._released = False
        Hold._count += 1
        if Hold._count == 1:
            gc.freeze()

    def release(self) -> None:
        """End this hold; does nothing the second time."""
        if self._released:
            return
        self._released = True
        Hold._count -= 1
        if not Hold._count:
            gc.unfreeze()

    def __enter__(self) -> Hold:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
