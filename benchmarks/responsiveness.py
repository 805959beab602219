"""Does the viewer answer while the network works? Longest gap between ticks of a 10 ms timer.

    python benchmarks/responsiveness.py

A real napari viewer with the real docks on two cores. A 10 ms Qt timer ticks in the viewer's main
thread; its gaps are taken from the click (the click's own work included) to the end of the training
or segmentation. For comparison: the idle viewer, and napari itself adding an empty Labels layer, as
both docks have to once (the preview, the result).
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import models
import screen
from napari_unet.core.distribution import PLUGIN
from reporting import Figure, arguments, limit_cores, report, run, say, table

LONGEST_MS = 100.0
STACK = (8, 1024)
"""Planes, and their side."""


def stack_of(planes: int, side: int) -> NDArray[Any]:
    """Return a stack of different planes of nuclei, (planes, side, side) in 16 bits."""
    from napari_unet.core.synthetic import generate

    image, _ = generate("nuclei", (512, 512), seed=3)
    repeats = -(-side // 512)
    plane = (np.tile(image, (repeats, repeats))[:side, :side] * 50_000).astype(np.uint16)
    return np.stack([np.roll(plane, (37 * z, 61 * z), (0, 1)) for z in range(planes)])


@dataclass(frozen=True)
class Bench:
    """The viewer, its clock, and perhaps a watcher that says why it stalls."""

    stage: screen.Stage
    clock: screen.Clock
    watcher: screen.Watcher | None

    def gaps(self, click: Callable[[], None], view: Any, what: str, timeout: float) -> tuple[screen.Gaps, list[float]]:
        """Return the gaps from a click until the dock is not busy any more, and when layers were added."""
        self.stage.wait_for_engine()
        self.stage.wait(2)
        begin = time.perf_counter()
        with self.watcher or contextlib.nullcontext():
            click()
            if not view._busy:
                screen.check_no_error(view)
            end = self.stage.wait_until(lambda: not view._busy, f"the end of the {what}", timeout)
        screen.check_no_error(view)
        self.stage.wait(0.5)
        return self.clock.gaps(begin, end), [t - begin for t in self.stage.added if t >= begin]


def idle(bench: Bench, seconds: float) -> screen.Gaps:
    """Return the gaps of a viewer that nobody uses."""
    begin = time.perf_counter()
    bench.stage.wait(seconds)
    return bench.clock.gaps(begin, time.perf_counter())


def adding(bench: Bench, side: int) -> screen.Gaps:
    """Return the gaps while napari adds an empty Labels layer to a picture that has one already."""
    viewer = bench.stage.viewer
    viewer.add_image(np.zeros((side, side), np.float32))
    viewer.add_labels(np.zeros((side, side), np.int32))
    bench.stage.wait(2)
    begin = time.perf_counter()
    viewer.add_labels(np.zeros((side, side), np.int32))
    bench.stage.wait(1)
    gaps = bench.clock.gaps(begin, time.perf_counter())
    viewer.layers.clear()
    return gaps


def training(bench: Bench, model: str, seconds: float) -> tuple[screen.Gaps, list[float]]:
    """Return the gaps from the click on Train to the end of the training, with the live preview on."""
    from napari_unet.core.synthetic import generate

    stage = bench.stage
    view = stage.dock(screen.TRAIN).view
    stage.viewer.open_sample(PLUGIN, "nuclei")
    stage.annotate(view, generate("nuclei", (512, 512), seed=3)[1])
    screen.start_from(view, model)
    view.simple.show_values({**view.simple.values(), "seconds": seconds})
    return bench.gaps(view.train_button.click, view, "training", 3 * seconds + 120)


def segmenting(bench: Bench, model: str, shape: tuple[int, int]) -> tuple[screen.Gaps, list[float]]:
    """Return the gaps from the click on Segment to the end of a whole stack."""
    from napari_unet.plugin.segment.view import WHOLE

    stage = bench.stage
    stage.viewer.layers.clear()
    layer = stage.viewer.add_image(stack_of(*shape), name="stack", axis_labels=("z", "y", "x"))
    view = stage.dock(screen.SEGMENT).view
    view.images.image.choose(layer)
    view.model.choose(model)
    view.extent.setCurrentIndex(view.extent.findData(WHOLE))
    return bench.gaps(view.run_button.click, view, "segmentation", 600)


def figures(name: str, gaps: screen.Gaps, added: list[float], about: str) -> list[Figure]:
    """Return the longest gap, and the longest one in which napari adds no layer."""
    ms, rest = 1000 * gaps.seconds, gaps.without(added).seconds * 1000
    numbers = f"99th percentile {np.percentile(ms, 99):.0f} ms, median {np.median(ms):.1f} ms, {len(ms)} ticks in "
    numbers += f"{gaps.seconds.sum():.0f} s, {int((ms > LONGEST_MS).sum())} gaps over {LONGEST_MS:.0f} ms; {about}"
    return [
        Figure(f"longest gap while {name}", float(ms.max()), "ms", numbers, at_most=LONGEST_MS),
        Figure(f"longest gap while {name}, but for napari adding a layer", float(rest.max()), "ms", at_most=LONGEST_MS),
    ]


def measure(chosen: argparse.Namespace, model: str) -> dict[str, tuple[screen.Gaps, list[float]]]:
    """Return gaps and moments of new layers, by what the viewer does."""
    seconds, shape = (6.0, (2, 256)) if chosen.quick else (chosen.seconds, STACK)
    stage = screen.Stage()
    stage.wait(3)
    clock = screen.Clock()
    bench = Bench(stage, clock, screen.Watcher(clock) if chosen.why else None)
    found: dict[str, tuple[screen.Gaps, list[float]]] = {"idle": (idle(bench, 2.0 if chosen.quick else 10.0), [])}
    found["adding an empty layer"] = adding(bench, 512), []
    say("training")
    found["training"] = training(bench, model, seconds)
    say("segmenting")
    found["segmenting"] = segmenting(bench, model, shape)
    clock.stop()
    stage.close()
    return found


def main() -> None:
    """Measure and report."""
    screen.need_display()
    why = {"action": "store_true", "help": "say where the main thread is while it stalls; the figures suffer"}
    seconds, cores = {"type": float, "default": 30.0}, {"type": int, "default": 2}
    chosen = arguments(__doc__, model=models.START, seconds=seconds, cores=cores, why=why)
    limit_cores(chosen.cores)
    with screen.own_home(models.existing(chosen.model)) as model:
        about = models.described(model)
        found = measure(chosen, model)
    planes = "a trial" if chosen.quick else f"{STACK[0]} planes of {STACK[1]} x {STACK[1]}"
    control = [
        Figure(f"longest gap, {name}", float(1000 * found[name][0].seconds.max()), "ms", "for comparison")
        for name in ("idle", "adding an empty layer")
    ]
    report(
        [
            *figures("training", *found["training"], f"512 x 512, live preview on; {about}"),
            *figures("segmenting a stack", *found["segmenting"], f"{planes}; {about}"),
            *control,
        ],
        "The longest gaps, in ms, with the time since the click:",
        table(["viewer", *(f"{n}." for n in range(1, 7))], [[n, *gaps.longest(6)] for n, (gaps, _) in found.items()]),
    )


if __name__ == "__main__":
    run(main)
