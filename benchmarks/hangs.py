"""Does any click hold up the viewer for more than 200 ms? 20 planes of 2048 x 2048 with about 2000 cells each.

    python benchmarks/hangs.py

A real napari viewer with the real docks on two cores, in which everything is done for the first time: docks are
opened, an annotation is made, labels are checked, cells accepted, measured and compared. A 10 ms Qt timer ticks in
the viewer's main thread; the longest gap from a click until all that it leads to is there is what the user feels.
Beside it stands how long the main thread itself was computing at most between two ticks (what else runs on the
machine lengthens the first, hardly the second). In turn with that, in a napari of its own without the plugin: what
napari alone needs for the same, such as adding an empty layer of that size. What napari alone does, such as deleting a
layer, is measured with all docks open, and not counted among the clicks.
"""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

import screen
from proofreading import DOCK, STACK, Ticks, stack_of_cells
from reporting import Figure, arguments, limit_cores, report, run, say, table

LONGEST_MS = 200.0
MEASURE, MODELS, MANY = "Measure and compare", "Models", "Segment many files"
DOCKS = (screen.TRAIN, screen.SEGMENT, MANY, DOCK, MEASURE, MODELS)
SETTLED = 1.5
"""Seconds from the last answer to a click in which its consequences may still come."""
OURS, ALONE = "ours", "napari"
NAPARIS = ("rename a layer", "open labels", "another plane", "move a layer", "delete a layer")
"""What napari does, while the docks follow."""
CELL = 500
"""A cell that everything is done with."""

Gap = tuple[float, float]
"""Longest time between two ticks, and longest computing between two ticks; in ms."""


@dataclass(frozen=True)
class Deed:
    """Something that a user does: its name, the click, and how it is known that the answer is there."""

    name: str
    click: Callable[[], Any]
    arrived: Callable[[], bool] = field(default=lambda: True)


class Bench:
    """A viewer with a picture, its cells, and what somebody takes for the truth.

    Parameters
    ----------
    shape : tuple of int
        Planes, and their side.
    why : bool
        Whether to say where the main thread is while it stalls.
    """

    def __init__(self, shape: tuple[int, int], why: bool) -> None:
        self.stage = screen.Stage()
        self.viewer, self.shape = self.stage.viewer, shape
        self.labels = stack_of_cells(*shape)
        truth = np.where(self.labels % 7 == 0, 0, self.labels)
        truth[:, :: shape[1] // 6] = 0
        names = {"axis_labels": ("z", "y", "x")}
        self.viewer.add_labels(truth, name="truth", visible=False, **names)
        self.image = self.viewer.add_image((self.labels > 0).astype(np.uint8), name="picture", **names)
        about = {"napari_unet": {"result": "instances", "axes": "zyx"}}
        self.cells = self.viewer.add_labels(self.labels, name="cells", metadata=about, **names)
        self.viewer.dims.set_current_step(0, shape[0] // 2)
        self.stage.wait(2)
        self.ticks, self._clock = Ticks(), screen.Clock() if why else None
        self._watcher = screen.Watcher(self._clock, 0.1) if self._clock is not None else contextlib.nullcontext()
        self.docks: dict[str, Any] = {}

    def empty(self, dtype: Any) -> NDArray[Any]:
        """Return an empty stack of the size of the picture."""
        return np.zeros(self.labels.shape, dtype)

    def middle_of(self, cell: int) -> NDArray[np.float64]:
        """Return the middle of a cell in the plane on screen, as a place in the stack."""
        plane = self.shape[0] // 2
        return np.array([plane, *np.argwhere(self.labels[plane] == cell).mean(axis=0)])

    def do(self, deed: Deed) -> Gap:
        """Do something; return the longest gaps until its consequences are there."""
        self.stage.wait(0.5)
        self.ticks.times.clear()
        self.ticks.tick()
        with self._watcher:
            deed.click()
            self.stage.wait_until(deed.arrived, deed.name, 400)
            self.stage.wait(SETTLED)
        wall, busy = 1000 * np.diff(np.asarray(self.ticks.times), axis=0).max(axis=0)
        say(f"{deed.name}: {wall:.0f} ms, computing {busy:.0f} ms")
        for dock in self.docks.values():
            screen.check_no_error(dock.view)
        return float(wall), float(busy)

    def close(self) -> None:
        """Tick no more, and close the viewer."""
        self.ticks.stop()
        if self._clock is not None:
            self._clock.stop()
        self.stage.close()


# --- what the docks do ------------------------------------------------------------------------------------


def opening(bench: Bench) -> Iterator[Deed]:
    """Open each dock, as its menu does."""
    for name in DOCKS:
        yield Deed(
            f"open {name}",
            lambda name=name: bench.docks.update({name: bench.stage.dock(name)}),
            lambda name=name: bench.docks[name].layout() is not None,
        )
        if name == screen.TRAIN:
            bench.stage.wait_for_engine()
    known = bench.docks[DOCK].controller.session.known
    bench.stage.wait_until(lambda: known.linked is not None, "the cells to be counted")


def annotating(bench: Bench) -> Iterator[Deed]:
    """Make an annotation, box a region, accept and check cells, look at weights."""
    view = bench.docks[screen.TRAIN].view
    view.images.image.choose(bench.image)
    yield Deed("new annotation", view.new_button.click, lambda: view.annotation.layer() is not None)
    layer = view.annotation.layer()
    paint = bench.labels[bench.shape[0] // 2]
    strokes = np.nonzero((paint > 0) & (paint % 5 == 0))
    layer.data_setitem((np.full(len(strokes[0]), bench.shape[0] // 2), *strokes), paint[strokes] + 1)
    # A cell that was not painted already.
    bench.viewer.cursor.position = tuple(bench.cells.data_to_world(bench.middle_of(CELL + 1)))
    yield Deed("accept a cell", bench.docks[screen.TRAIN].controller.annotating.accept)
    view.tabs.setCurrentWidget(view.check)
    yield Deed("check labels", view.check.check_button.click, lambda: view.check.list.count() > 0)
    yield Deed("click what was found", lambda: view.check.list.setCurrentRow(0))
    yield Deed("show weight map", view.check.weights_button.click, lambda: "weight map" in bench.viewer.layers)
    bench.viewer.layers.remove("weight map")
    yield Deed("draw a complete region", view.region_button.click)
    bench.viewer.layers.selection.active = layer


def suggesting(bench: Bench) -> Iterator[Deed]:
    """Ask where to annotate next, and go there."""
    view = bench.docks[screen.TRAIN].view.where_next
    bench.docks[screen.TRAIN].view.tabs.setCurrentWidget(view)
    suggesting = bench.docks[screen.TRAIN].controller.suggesting
    yield Deed("annotate here next", view.button.click, lambda: suggesting.job is None and view.list.count() > 0)
    yield Deed("go to the first place", suggesting.next)
    yield Deed("go to the next place", suggesting.next)


def proofreading(bench: Bench) -> Iterator[Deed]:
    """Accept and correct a cell, go on, and come back by the list."""
    dock = bench.docks[DOCK]
    dock.view.result.choose(bench.cells)
    bench.stage.wait(2)
    controller = dock.controller
    yield Deed("next to check", lambda: controller.act("next"))
    yield Deed("accept in Proofread", lambda: controller.act("accept"))
    yield Deed("delete in Proofread", lambda: controller.act("delete"))
    yield Deed("click a checked cell", lambda: dock.view.entries.setCurrentRow(0))


def measuring(bench: Bench) -> Iterator[Deed]:
    """Measure every cell, look at the table, compare, and go to a mistake."""
    view, controller = bench.docks[MEASURE].view, bench.docks[MEASURE].controller
    view.cells.choose(bench.cells)
    view.truth.choose(bench.viewer.layers["truth"])
    view.images.image.choose(bench.image)
    yield Deed("measure every cell", view.measure_button.click, lambda: controller.measured is not None)
    yield Deed("show table", view.table_button.click)
    yield Deed("compare with the truth", view.compare_button.click, lambda: controller.answered is not None)
    yield Deed("click a mistake", lambda: view.cell_chosen.emit(0))


def looking_after(bench: Bench) -> Iterator[Deed]:
    """Look at models and preferences; rename, hide and delete layers while all docks are open."""
    view = bench.docks[MODELS].view
    yield Deed("choose a model", lambda: view.list.setCurrentRow(view.list.count() - 1))
    yield Deed("open the preferences", bench.docks[MODELS]._open_preferences)
    from napari_unet.plugin.dock.preferences_dialog import PreferencesDialog

    bench.docks[MODELS].window().findChild(PreferencesDialog).reject()
    yield from handling_layers(bench)


def handling_layers(bench: Bench) -> Iterator[Deed]:
    """Rename, add, hide, move and delete layers, and go to another plane."""
    layers, elsewhere = bench.viewer.layers, 0 if bench.viewer.dims.current_step[0] else 1
    ways: tuple[Callable[[], Any], ...] = (
        lambda: setattr(bench.image, "name", "renamed"),
        lambda: bench.viewer.add_labels(bench.empty(np.int32), name="opened"),
        lambda: bench.viewer.dims.set_current_step(0, elsewhere),
        lambda: layers.move(len(layers) - 1, 0),
        lambda: layers.remove("opened"),
    )
    for name, way in zip(NAPARIS, ways, strict=True):
        yield Deed(name, way)


# --- the same by napari alone -----------------------------------------------------------------------------


def alone(bench: Bench) -> Iterator[Deed]:
    """Do what is alike without the plugin."""
    yield from docks_alone(bench)
    yield from layers_alone(bench)
    bench.viewer.layers.selection.active = bench.cells
    yield Deed("show table", lambda: bench.viewer.window.add_plugin_dock_widget("napari", "Features table widget"))
    yield from handling_layers(bench)


def docks_alone(bench: Bench) -> Iterator[Deed]:
    """Open empty docks."""
    from qtpy.QtWidgets import QWidget

    before: list[Any] = []

    def show(name: str) -> None:
        widget = QWidget()
        widget.setMinimumWidth(330)
        frame = bench.viewer.window.add_dock_widget(widget, name=name, tabify=bool(before))
        before.append(frame)

    for name in DOCKS:
        yield Deed(f"open {name}", lambda name=name: show(name))


def layers_alone(bench: Bench) -> Iterator[Deed]:
    """Add layers of the kinds and sizes that the docks add, and change them as the docks do."""
    viewer, plane = bench.viewer, bench.shape[0] // 2
    middle = bench.middle_of(CELL)
    box = middle + np.array([[0, -50, -50], [0, 50, -50], [0, 50, 50], [0, -50, 50]])

    def paint() -> None:
        viewer.add_labels(bench.empty(np.uint16), name="annotation", opacity=0.55).mode = "paint"

    yield Deed("new annotation", paint)
    inside = np.nonzero(bench.labels[plane] == CELL)
    pixels = (np.full(len(inside[0]), plane), *inside)
    yield Deed("accept a cell", lambda: viewer.layers["annotation"].data_setitem(pixels, 7))
    # The first layer of shapes makes napari build what draws them, whoever adds it.
    yield Deed("click what was found", lambda: viewer.add_shapes([box], name="frame") and _go(bench, middle))
    map_of_weights = np.ones((1, *bench.labels.shape[1:]), np.float32)
    yield Deed("show weight map", lambda: viewer.add_image(map_of_weights, name="weights", blending="additive"))
    viewer.layers.remove("weights")
    yield Deed("draw a complete region", lambda: setattr(viewer.add_shapes(ndim=3), "mode", "add_rectangle"))
    yield Deed("go to the first place", lambda: setattr(viewer.layers["frame"], "data", [box]) or _go(bench, middle))
    yield Deed("next to check", lambda: viewer.add_points(middle[None], size=20) and _go(bench, middle))
    features = {"index": np.arange(1, 2001), **{f"f{i}": np.random.default_rng(i).random(2000) for i in range(25)}}
    yield Deed("measure every cell", lambda: setattr(bench.cells, "features", features))
    yield Deed("compare with the truth", lambda: viewer.add_labels(bench.empty(np.uint8), name="mistakes"))
    yield Deed("click a mistake", lambda: _go(bench, middle))


def _go(bench: Bench, place: NDArray[np.float64]) -> None:
    """Bring a place to the middle."""
    camera = bench.viewer.scene.camera if hasattr(bench.viewer, "scene") else bench.viewer.camera
    bench.viewer.dims.set_point(0, place[0])
    camera.center = (0.0, *place[1:])


# --- measuring --------------------------------------------------------------------------------------------

COURSES = {
    OURS: (opening, annotating, suggesting, proofreading, measuring, looking_after),
    ALONE: (alone,),
}


def once(chosen: argparse.Namespace) -> dict[str, Gap]:
    """Do everything once in this fresh process; return the gaps."""
    with screen.own_home("bundled"):
        bench = Bench((3, 1024) if chosen.quick else STACK, chosen.why)
        found = {deed.name: bench.do(deed) for part in COURSES[chosen.course] for deed in part(bench)}
        bench.close()
    return found


def in_turns(chosen: argparse.Namespace) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Return the gaps of both courses by deed, each (repeats, 2)."""
    taken: dict[str, list[dict[str, Gap]]] = {OURS: [], ALONE: []}
    for turn in range(1 if chosen.quick else chosen.repeats):
        for course, runs in taken.items():
            say(f"{course}, {turn + 1}")
            options = ["--quick"] * chosen.quick
            runs.append(screen.in_fresh_process(__file__, "--course", course, *options, timeout=1500))
    return {
        course: {name: np.asarray([one[name] for one in runs]) for name in runs[0]} for course, runs in taken.items()
    }


def row(name: str, found: dict[str, dict[str, NDArray[np.float64]]]) -> list[str]:
    """Return the line of the table on one deed: medians and worst of both courses."""
    line = [name]
    for course in (OURS, ALONE):
        gaps = found[course].get(name)
        line += (
            ["", "", ""]
            if gaps is None
            else [f"{v:.0f}" for v in (np.median(gaps[:, 0]), gaps[:, 0].max(), np.median(gaps[:, 1]))]
        )
    return line


def main() -> None:
    """Measure and report."""
    screen.need_display()
    why = {"action": "store_true", "help": "with --course: say where the main thread is while it stalls"}
    repeats, cores = {"type": int, "default": 3}, {"type": int, "default": 2}
    course = {"choices": sorted(COURSES), "help": "go through one course once and print JSON (used by itself)"}
    chosen = arguments(__doc__, repeats=repeats, cores=cores, why=why, course=course)
    limit_cores(chosen.cores)
    if chosen.course:
        print(json.dumps(once(chosen)))
        return
    found = in_turns(chosen)
    clicks = {name: gaps for name, gaps in found[OURS].items() if name not in NAPARIS}
    every = np.concatenate(list(clicks.values()))
    worst = max(clicks, key=lambda name: clicks[name][:, 0].max())
    header = ["what is done", "gap, median", "gap, worst", "computing, median"]
    header += [f"napari alone: {words}" for words in header[1:]]
    report(
        [
            Figure("longest gap of all clicks", float(every[:, 0].max()), "ms", worst, at_most=LONGEST_MS),
            Figure("longest computing between two ticks", float(every[:, 1].max()), "ms", at_most=LONGEST_MS),
        ],
        "Longest gaps of the main thread by what is done, in ms, each for the first time in a fresh viewer:",
        table(header, [row(name, found) for name in found[OURS]]),
    )


if __name__ == "__main__":
    run(main)
