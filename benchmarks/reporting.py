"""What all benchmarks share: figures as Markdown with date, commit and machine, timing in turns, exit codes.

Imports neither torch nor Qt, so that measuring the viewer stays true to it.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, NoReturn

import psutil

from napari_unet.core.errors import UNetError

ROOT = Path(__file__).resolve().parents[1]
_BUSY = 15.0
"""Percent of all cores in use before a benchmark begins from which the table says so."""
_others = {"percent": 0.0}


class CannotMeasure(Exception):
    """Something that the measurement needs is not there; the message says what."""


@dataclass(frozen=True)
class Figure:
    """One measured number and, where there is one, what was promised.

    Attributes
    ----------
    name : str
        What was measured.
    value : float
        The number that the promise is about.
    unit : str
        Its unit; empty for ratios and scores.
    detail : str
        The absolute numbers behind it, and how they were taken.
    at_least, at_most : float or None
        What was promised.
    """

    name: str
    value: float
    unit: str = ""
    detail: str = ""
    at_least: float | None = None
    at_most: float | None = None

    @property
    def promised(self) -> str:
        """The promise in words."""
        if self.at_least is not None:
            return f"at least {shown(self.at_least, self.unit)}"
        return f"at most {shown(self.at_most, self.unit)}" if self.at_most is not None else ""

    @property
    def verdict(self) -> str:
        """``"reached"``, or by how much it was missed."""
        missing = 0.0
        if self.at_least is not None:
            missing = self.at_least - self.value
        elif self.at_most is not None:
            missing = self.value - self.at_most
        else:
            return ""
        if missing != missing:
            raise CannotMeasure(f"{self.name} is {self.value}: the measurement gave no number.")
        return "reached" if missing <= 0 else f"missed by {shown(missing, self.unit)}"


def shown(value: float, unit: str = "") -> str:
    """Return three significant digits with the unit."""
    text = f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{text} {unit}".strip()


def commit() -> str:
    """Return the commit that is checked out, and whether files differ from it."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude", "*"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def limit_cores(count: int) -> None:
    """Keep this process and its children to so many cores, where the system can; before torch is imported."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])


def machine() -> str:
    """Return what the numbers depend on: cores, memory, torch, and whether something else was running."""
    memory = psutil.virtual_memory().total / 2**30
    text = f"{cores()} of {os.cpu_count()} cores {platform.machine()}, {memory:.0f} GiB"
    text += f", Python {platform.python_version()}, torch {importlib.metadata.version('torch')}"
    percent = _others["percent"]
    return text + (f", busy ({percent:.0f} % of all cores in use before)" if percent > _BUSY else "")


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def report(figures: Sequence[Figure], *more: str) -> None:
    """Print the figures as one Markdown table, and further tables or sentences below it."""
    where = [date.today().isoformat(), commit(), machine()]
    rows = [[f.name, shown(f.value, f.unit), f.promised, f.verdict, f.detail, *where] for f in figures]
    header = ["figure", "measured", "promised", "verdict", "absolute numbers", "date", "commit", "machine"]
    print("\n\n".join([table(header, rows), *more]), flush=True)


def say(text: str) -> None:
    """Tell whoever waits how far it is; not part of the result."""
    print(text, file=sys.stderr, flush=True)


def in_turns(
    ways: Mapping[str, Callable[[], Any]], repeats: int, *, warm_up: int = 1, seconds: float = float("inf")
) -> dict[str, list[float]]:
    """Return the seconds of each way of doing something, taken in turns: A B C A B C ...

    What else the machine does then hits all of them alike. After ``seconds`` no further round is begun.
    """
    taken: dict[str, list[float]] = {name: [] for name in ways}
    begin = time.perf_counter()
    for turn in range(-warm_up, repeats):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if turn >= 0:
                taken[name].append(time.perf_counter() - start)
        if turn >= 0 and time.perf_counter() - begin > seconds:
            break
    return taken


def medians(taken: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return the median of each list."""
    return {name: statistics.median(values) for name, values in taken.items()}


def arguments(about: str | None, **more: Mapping[str, Any]) -> argparse.Namespace:
    """Read the command line, and note what else the machine is doing.

    ``--quick`` asks for a trial whose numbers mean little.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a short trial: smaller and fewer, figures mean little")
    for name, keywords in more.items():
        parser.add_argument(f"--{name.replace('_', '-')}", **keywords)
    parsed = parser.parse_args()
    _others["percent"] = psutil.cpu_percent(interval=1.0)
    return parsed


def run(main: Callable[[], None]) -> NoReturn:
    """Run a benchmark and end the process: 0 when it measured, whatever came out, 1 when it could not."""
    try:
        main()
    except (CannotMeasure, UNetError) as error:
        say(f"{Path(sys.argv[0]).stem} could not measure: {error}")
        sys.exit(1)
    sys.exit(0)
