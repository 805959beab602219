"""How long does opening a dock hold up the viewer's main thread?

    python benchmarks/dock_opening.py

Each dock is opened in a fresh napari, as its menu does, where nothing of the plugin was imported
before. Counted is the click itself and all further time over the next seconds in which the main
thread kept a 10 ms timer from ticking (first painting, the backend being started).
"""

from __future__ import annotations

import json
import statistics
import time

import numpy as np

import screen
from reporting import Figure, arguments, limit_cores, report, run, say, table

AFTER = 3.0
"""Seconds after the click in which the main thread is watched."""
LATE = 2 * screen.TICK
"""Gaps up to this are the timer's own."""


def open_once(name: str) -> dict[str, float]:
    """Open a dock in this fresh process; return what it took from the main thread, in seconds."""
    with screen.own_home("bundled"):
        stage = screen.Stage()
        stage.viewer.add_image(np.zeros((512, 512), np.float32))
        stage.wait(3)
        clock = screen.Clock()
        stage.wait(AFTER)
        usual = _cpu_while(stage)
        begin, cpu = time.perf_counter(), time.thread_time()
        stage.dock(name)
        call = time.perf_counter() - begin
        stage.wait(AFTER)
        cpu = time.thread_time() - cpu
        gaps = clock.gaps(begin, time.perf_counter())
        late = gaps.seconds[gaps.seconds > LATE] - screen.TICK
        found = {"call": call, "blocked": float(late.sum()), "longest": float(gaps.seconds.max()), "cpu": cpu - usual}
        found["imported"] = float("torch" in __import__("sys").modules)
        stage.close()
    return found


def _cpu_while(stage: screen.Stage) -> float:
    """Return the processor time that the idle main thread takes in the same span."""
    begin = time.thread_time()
    stage.wait(AFTER)
    return time.thread_time() - begin


def main() -> None:
    """Measure and report."""
    screen.need_display()
    cores, dock = {"type": int, "default": 2}, {"help": "open this dock once and print JSON (used by itself)"}
    chosen = arguments(__doc__, cores=cores, dock=dock)
    limit_cores(chosen.cores)
    if chosen.dock:
        print(json.dumps(open_once(chosen.dock)))
        return
    repeats = 1 if chosen.quick else 5
    rows, figures = [], []
    for name in (screen.TRAIN, screen.SEGMENT):
        say(f"{name}, {repeats} times")
        runs = [screen.in_fresh_process(__file__, "--dock", name) for _ in range(repeats)]
        rows += [[name, *(f"{r[k]:.3f}" for k in ("blocked", "call", "longest", "cpu"))] for r in runs]
        blocked = [r["blocked"] for r in runs]
        detail = f"{min(blocked):.3f} to {max(blocked):.3f} s, median of {repeats} fresh viewers; the call itself "
        detail += f"{statistics.median(r['call'] for r in runs):.3f} s, processor time of the thread above idle "
        detail += f"{statistics.median(r['cpu'] for r in runs):.3f} s"
        figures.append(
            Figure(f"opening {name}: main thread held up", statistics.median(blocked), "s", detail, at_most=0.5)
        )
    header = ["dock", "held up (s)", "the call (s)", "longest gap (s)", "processor time above idle (s)"]
    report(figures, "Each opening:", table(header, rows))


if __name__ == "__main__":
    run(main)
