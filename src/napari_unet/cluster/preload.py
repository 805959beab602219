"""Loaded first by local workers: only the command itself handles Ctrl-C, which a terminal sends to all processes."""

from __future__ import annotations

import signal
from typing import Any


def dask_setup(worker: Any) -> None:
    """Ignore Ctrl-C; called by dask when a worker starts."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
