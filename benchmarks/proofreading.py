"""How long does the viewer stand still for a correction? 20 planes of 2048 x 2048 with about 2000 cells each.

    python benchmarks/proofreading.py

A real napari viewer with the real Proofread dock on two cores. Each kind of correction is made on
different cells, in one plane and through the whole stack. A 10 ms Qt timer ticks in the viewer's main
thread; its longest gap around a correction is what the user feels: the correction itself, the marks, the
list, and napari drawing the picture anew. Beside it stands the time that the main thread itself was computing
in that gap (what else runs on the machine lengthens the first, hardly the second), and how long the correction
itself took without the drawing. For comparison: nothing, and napari moving the picture a little, which is
drawing alone.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

import screen
from reporting import Figure, arguments, limit_cores, report, run, say, table

LONGEST_MS = 200.0
STACK = (20, 2048)
"""Planes, and their side."""
PITCH = 45
"""Pixels from cell to cell."""
DOCK = "Proofread"

Cells = tuple[int, ...]
Work = Callable[[], None]


def stack_of_cells(planes: int, side: int, seed: int = 0) -> NDArray[np.int32]:
    """Return discs on a jittered grid that go through all planes, some with a hole, (planes, side, side)."""
    rng = np.random.default_rng(seed)
    count = -(-side // PITCH)
    y, x = (axis[:side] for axis in (np.tile(np.arange(PITCH), count),) * 2)
    ids = np.arange(1, count * count + 1, dtype=np.int32).reshape(count, count)
    radius = rng.uniform(13, 18, (count, count))
    labels = np.zeros((planes, side, side), np.int32)
    for plane in labels:
        middle = PITCH / 2 + rng.uniform(-2, 2, (2, count, count))
        over = [np.repeat(np.repeat(part, PITCH, 0), PITCH, 1)[:side, :side] for part in (*middle, radius, ids)]
        distance = np.hypot(y[:, None] - over[0], x[None, :] - over[1])
        hole = (over[3] % 2 == 0) & (distance < 4)
        plane[...] = np.where((distance < over[2]) & ~hole, over[3], 0)
    return labels


class Ticks:
    """Times of a 10 ms Qt timer in the main thread, with the time that the thread has computed until then."""

    def __init__(self) -> None:
        from qtpy.QtCore import Qt, QTimer

        self.times: list[tuple[float, float]] = []
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.setInterval(round(1000 * screen.TICK))
        self._timer.timeout.connect(self.tick)
        self._timer.start()

    def tick(self) -> None:
        """Note the time."""
        self.times.append((time.perf_counter(), time.thread_time()))

    def longest(self) -> tuple[float, float]:
        """Return the longest gap in ms, and how much of it the thread was computing; begin anew."""
        gaps = 1000 * np.diff(np.asarray(self.times), axis=0)
        self.times.clear()
        wall, busy = gaps[gaps[:, 0].argmax()].tolist()
        return wall, busy

    def stop(self) -> None:
        """Tick no more."""
        self._timer.stop()


class Bench:
    """The dock on a stack, and a cell that nobody has touched for each correction.

    Parameters
    ----------
    stage : Stage
        The viewer.
    shape : tuple of int
        Planes, and their side.
    """

    def __init__(self, stage: screen.Stage, shape: tuple[int, int]) -> None:
        self.stage = stage
        labels = stack_of_cells(*shape)
        stage.viewer.add_image((labels > 0).astype(np.uint8), name="picture", axis_labels=("z", "y", "x"))
        self.layer = stage.viewer.add_labels(labels, name="cells", axis_labels=("z", "y", "x"))
        self.cells = len(np.unique(labels[0])) - 1
        self.controller = stage.dock(DOCK).controller
        stage.wait_for_engine()
        stage.wait_until(lambda: self.session.known.linked is not None, "the cells to be counted")
        stage.viewer.dims.set_current_step(0, shape[0] // 2)
        row = -(-shape[1] // PITCH)
        # Whole cells well inside, no two of them neighbours; with holes where their number says so.
        self._free = [r * row + c + 1 for r in range(2, row - 3, 3) for c in range(2, row - 3, 3)]
        self.ticks = Ticks()

    @property
    def session(self) -> Any:
        """What is being corrected."""
        return self.controller.session

    def next_cell(self, hole: bool) -> int:
        """Return a cell that was not used yet, and go there."""
        cell = next(c for c in self._free if c % 2 == 0 or not hole)
        self._free.remove(cell)
        self.session.choose(self.session.plane(), cell)
        self.controller.show()
        return cell

    def act(self, name: str) -> Work:
        """Return the pressing of a key."""
        return lambda: self.controller.act(name)

    def prepared(self, kind: str) -> Work:
        """Bring everything to where one more key or click makes the correction; return that."""
        cell = self.next_cell(kind == "fill")
        y0, y1, x0, x1 = self.session.proof.places.box(self.session.plane(), cell)
        y, x = (y0 + y1) // 2, (x0 + x1) // 2
        if kind == "merge":
            self.controller.act("merge")
            beside = self.session.outline(self.session.plane(), cell + 1).middle
            return lambda: self.controller.on_click(beside)
        if kind == "split by a line":
            return lambda: self.controller.on_drawn([(y0 - 3, x), (y1 + 3, x + 1)])
        if kind == "split by points":
            self.controller.act("seeds")
            self.controller.on_click((y, x0 + 3))
            self.controller.on_click((y, x1 - 4))
            return self.act("enter")
        if kind == "redraw":
            self.controller.act("redraw")
            return lambda: self.stroke(y1, x)
        if kind in ("undo", "redo"):
            self.controller.act("delete")
            if kind == "redo":
                self.controller.act("undo")
        return self.act({"split in two": "split", "larger": "grow", "smaller": "shrink"}.get(kind, kind))

    def stroke(self, y: int, x: int) -> None:
        """Paint as the brush does when it is dragged."""
        plane = self.session.plane()
        self.controller.on_stroke_begin()
        with self.layer.block_history():
            for step in range(8):
                self.layer.paint((*plane, y - 4 + step, x), self.layer.selected_label)

    def measure(self, kind: str, repeats: int) -> NDArray[np.float64]:
        """Return wall and computing time of the longest gap, and wall time of the correction itself.

        Returns
        -------
        NDArray of float64
            In ms, (repeats, 3).
        """
        found = []
        for _ in range(repeats):
            work = self.prepared(kind)
            self.stage.wait(0.4)
            steps = self.session.known.steps
            self.ticks.times.clear()
            self.ticks.tick()
            begin = time.perf_counter()
            work()
            took = 1000 * (time.perf_counter() - begin)
            self.stage.wait(0.4)
            found.append((*self.ticks.longest(), took))
            if self.session.known.steps == steps and kind != "next cell":
                raise RuntimeError(f"{kind} has changed nothing: {self.controller.view.messages.lines()}")
            self.controller.act("leave")
        return np.asarray(found)


COMPARED = "for comparison"
KINDS = (
    "accept", "merge", "split in two", "split by a line", "split by points", "redraw", "fill", "larger", "smaller",
    "delete", "undo", "redo",
)  # fmt: skip
IN_ONE_PLANE = ("redraw",)
"""Kinds that are never about the whole cell."""


def idle(bench: Bench, work: Work, repeats: int) -> NDArray[np.float64]:
    """Return the longest gaps while something is done that is no correction."""
    found = []
    for _ in range(repeats):
        bench.stage.wait(0.4)
        bench.ticks.times.clear()
        bench.ticks.tick()
        begin = time.perf_counter()
        work()
        took = 1000 * (time.perf_counter() - begin)
        bench.stage.wait(0.4)
        found.append((*bench.ticks.longest(), took))
    return np.asarray(found)


def measure(chosen: argparse.Namespace) -> tuple[dict[str, NDArray[np.float64]], Bench]:
    """Return the gaps by kind of correction."""
    shape = (3, 1024) if chosen.quick else STACK
    stage = screen.Stage()
    stage.wait(2)
    bench = Bench(stage, shape)
    camera = stage.viewer.scene.camera if hasattr(stage.viewer, "scene") else stage.viewer.camera
    found = {
        f"{COMPARED}: nothing": idle(bench, lambda: None, 5),
        f"{COMPARED}: napari moves the picture": idle(bench, lambda: setattr(camera, "zoom", 1.01 * camera.zoom), 5),
    }
    for whole in (False, True):
        bench.session.known.whole = whole
        for kind in KINDS:
            if not (whole and kind in IN_ONE_PLANE):
                name = f"{kind}, {'whole cell' if whole else 'one plane'}"
                found[name] = bench.measure(kind, 1 if chosen.quick else chosen.repeats)
                say(f"{name}: {np.median(found[name], axis=0).round()} ms")
    bench.ticks.stop()
    return found, bench


def in_short(gaps: NDArray[np.float64]) -> list[str]:
    """Return median and worst of each column, as text."""
    return [f"{value:.0f}" for part in gaps.T for value in (np.median(part), part.max())]


def main() -> None:
    """Measure and report."""
    screen.need_display()
    repeats, cores = {"type": int, "default": 7}, {"type": int, "default": 2}
    chosen = arguments(__doc__, repeats=repeats, cores=cores)
    limit_cores(chosen.cores)
    with screen.own_home(""):
        found, bench = measure(chosen)
        about = (
            f"{len(bench.session.known.planes())} planes of {bench.layer.data.shape[1]} px, {bench.cells} cells each"
        )
        bench.stage.close()
    rows = [
        [name, *(f"{v:.0f}" for part in gaps.T for v in (np.median(part), part.max()))] for name, gaps in found.items()
    ]
    rest = np.concatenate([gaps for name, gaps in found.items() if not name.startswith(COMPARED)])
    report(
        [
            Figure("longest gap of all corrections", float(rest[:, 0].max()), "ms", about, at_most=LONGEST_MS),
            Figure("longest computing of the main thread in a gap", float(rest[:, 1].max()), "ms", at_most=LONGEST_MS),
        ],
        "Gaps of the main thread in ms:",
        table(
            [
                "correction",
                "gap, median",
                "gap, worst",
                "computing in it, median",
                "computing in it, worst",
                "the correction itself, median",
                "worst",
            ],
            rows,
        ),
    )


if __name__ == "__main__":
    run(main)
