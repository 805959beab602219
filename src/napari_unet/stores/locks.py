"""Files that one process at a time has open."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO

from ..core.errors import StoreError


def lock(path: Path) -> IO[bytes]:
    """Return an open file that no other process has open in this way; the lock goes with the process."""
    file = path.open("a+b")
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        else:
            import fcntl

            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise StoreError(
            f"Another run is writing the same result at this moment ({path.parent}); wait for it, or choose another "
            "output."
        ) from error
    return file


__all__ = ["lock"]
