"""Output and priority of the child process. Needs no torch."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import sys
from datetime import datetime
from pathlib import Path

from ...records import runs

KEPT_LOGS = 10


def redirect_output() -> Path:
    """Send everything that is printed, and the tracebacks of crashes, to a new log file, and return its path."""
    try:
        folder = runs.home() / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        for old in sorted(folder.glob("engine-*.log"))[: -KEPT_LOGS + 1]:
            old.unlink(missing_ok=True)
        path = folder / f"engine-{datetime.now():%Y%m%d-%H%M%S}-{os.getpid()}.log"
        target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError:
        # A folder that cannot be written is reported by the run folder; without a log the work goes on.
        path = Path(os.devnull)
        target = os.open(path, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(target, descriptor)
    os.close(target)
    faulthandler.enable(file=2)
    return path


def be_modest(nice: int) -> None:
    """Lower the priority, and volunteer for the out-of-memory killer."""
    if hasattr(os, "nice"):
        os.nice(nice)
    elif sys.platform == "win32":
        kernel = ctypes.windll.kernel32
        kernel.GetCurrentProcess.restype = ctypes.c_void_p
        kernel.SetPriorityClass(ctypes.c_void_p(kernel.GetCurrentProcess()), 0x4000)  # BELOW_NORMAL_PRIORITY_CLASS
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")
