"""From the click on Train to the first live preview with cells in it, on a 512 x 512 picture.

    python benchmarks/first_preview.py

A real napari viewer on two cores, a fresh one for each run. The engine is ready, as it is for a user
who has been painting for half a minute (*ready*); and, for comparison, Train is clicked right after
the dock was opened, while the backend is still importing torch (*cold*).
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import models
import screen
from napari_unet.core.distribution import PLUGIN
from reporting import Figure, arguments, limit_cores, report, run, say, table

READY, COLD = "ready", "cold"


def preview_of(viewer: Any) -> Any:
    """Return the preview layer once something is shown in it, or None."""
    from napari_unet.plugin.layers.preview import shows_answer

    return next((layer for layer in viewer.layers if shows_answer(layer)), None)


def measure_once(way: str, model: str) -> dict[str, float]:
    """Click Train in this fresh process; return the seconds to the preview layer and to cells in it."""
    from napari_unet.core.synthetic import generate

    with screen.own_home(model) as own:
        truth = generate("nuclei", (512, 512), seed=3)[1]
        stage = screen.Stage()
        stage.viewer.open_sample(PLUGIN, "nuclei")
        stage.wait(3)
        view = stage.dock(screen.TRAIN).view
        stage.annotate(view, truth)
        screen.start_from(view, own)
        if way == READY:
            stage.wait_for_engine()
            stage.wait(2)
        begin = time.perf_counter()
        view.train_button.click()
        words, there = "training on", lambda: preview_of(stage.viewer)
        started = _seen(stage, view, lambda: there() is not None or words in view.progress.format(), "the training")
        layer = _seen(stage, view, lambda: there() is not None, "a preview")
        cells = _seen(stage, view, lambda: bool(there().data.any()), "cells in the preview")
        view.train_button.click()
        stage.wait_until(lambda: not view._busy, "the training to stop")
        stage.close()
    return {"started": started - begin, "layer": layer - begin, "cells": cells - begin}


def _seen(stage: screen.Stage, view: Any, arrived: Callable[[], bool], what: str) -> float:
    """Return the time at which something was there; raise when the dock shows an error instead."""

    def there() -> bool:
        if arrived():
            return True
        screen.check_no_error(view)
        return False

    return stage.wait_until(there, what, every=0.005)


def main() -> None:
    """Measure and report."""
    screen.need_display()
    cores, once = (
        {"type": int, "default": 2},
        {"choices": [READY, COLD], "help": "one run, prints JSON (used by itself)"},
    )
    chosen = arguments(__doc__, model=models.START, cores=cores, once=once)
    limit_cores(chosen.cores)
    model = models.existing(chosen.model)
    if chosen.once:
        print(json.dumps(measure_once(chosen.once, model)))
        return
    repeats = 1 if chosen.quick else 5
    figures, rows = [], []
    for way, promise in ((READY, 5.0), (COLD, None)):
        say(f"{way}, {repeats} times")
        runs = [screen.in_fresh_process(__file__, "--once", way, "--model", model) for _ in range(repeats)]
        rows += [[way, *(f"{r[k]:.2f}" for k in ("started", "layer", "cells"))] for r in runs]
        cells = [r["cells"] for r in runs]
        detail = f"{min(cells):.2f} to {max(cells):.2f} s, median of {repeats} fresh viewers; {models.described(model)}"
        name = f"first preview after the click on Train, engine {way}"
        figures.append(Figure(name, statistics.median(cells), "s", detail, at_most=promise))
    report(figures, "Each run:", table(["engine", "training began (s)", "layer there (s)", "cells in it (s)"], rows))


if __name__ == "__main__":
    run(main)
