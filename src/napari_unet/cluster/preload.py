"""What local workers do first. Ctrl-C goes to all processes of a terminal: only the command itself answers it."""

from __future__ import annotations

import signal
from typing import Any


def dask_setup(worker: Any) -> None:
    """Leave Ctrl-C to the process that hands out the tasks; called by dask as a worker starts."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
