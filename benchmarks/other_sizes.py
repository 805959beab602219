"""What a model taught on a few cells finds where cells are larger or smaller than those that it was taught on.

    python benchmarks/other_sizes.py

Twenty cells of each kind of picture are painted and learnt from; the test pictures are enlarged and reduced.
Each is segmented twice: always at the size that was taught, and as by default, where a picture is seen at
another size when the model is clearly surer there (`napari_unet.core.inference.size_estimation.surer_size`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

import few_cells
import models
import trials
from painted_crops import KINDS, Picture
from reporting import Figure, arguments, cores, limit_cores, report, run, say, table

CELLS = 20
ZOOMS = (0.5, 1.0, 2.0)


def zoomed(picture: Picture, zoom: float) -> Picture:
    """Return a picture enlarged or reduced, with its truth."""
    from skimage.transform import resize

    if zoom == 1:
        return picture
    shape = tuple(round(n * zoom) for n in picture.truth.shape)
    grey = picture.image.astype(np.float32)
    image = resize(grey, shape, order=1, anti_aliasing=zoom < 1, preserve_range=True)
    truth = resize(picture.truth, shape, order=0, anti_aliasing=False, preserve_range=True)
    return dataclasses.replace(picture, image=image.astype(np.float32), truth=truth.astype(np.int32))


def compared(model: Any, tests: Sequence[Picture]) -> tuple[float, float, int]:
    """Return AP at the taught size, AP by default, and how many pictures were seen at another size."""
    fixed = dataclasses.replace(model, card=dataclasses.replace(model.card, certainty=0.0))
    own, found = trials.segmented(fixed, tests), trials.segmented(model, tests)
    changed = sum(not np.array_equal(a, b) for a, b in zip(own, found, strict=True))
    return trials.scores(tests, own)["ap_0.50"], trials.scores(tests, found)["ap_0.50"], changed


def measured(name: str, seconds: float, limit: int, start: str) -> list[list[Any]]:
    """Teach a model 20 cells of a kind; return kind, certainty, zoom, what `compared` does, and number of pictures."""
    task = few_cells.make_task(name, CELLS, limit)
    if task is None:
        return []
    model, _ = few_cells.train_ours(task, few_cells.Ours("", start, {}), seconds)
    rows = []
    for zoom in ZOOMS:
        tests = [zoomed(p, zoom) for p in task.tests]
        own, found, changed = compared(model, tests)
        rows.append([name, model.card.certainty, zoom, own, found, changed, len(tests)])
        say(f"{name}, size {zoom:g}: {own:.3f} at the taught size, {found:.3f} by default; {changed} changed")
    return rows


def main() -> None:
    """Measure and report."""
    chosen = arguments(
        __doc__, model=models.START, cores=trials.CORES,
        kinds={"nargs": "+", "choices": list(KINDS), "default": ["nuclei", "tissue", "phase", "bacteria"]},
        seconds={"type": float, "default": 45.0}, limit={"type": int, "default": 8, "help": "at most so many pictures"},
    )  # fmt: skip
    limit_cores(chosen.cores)
    seconds, limit = (5.0, 2) if chosen.quick else (chosen.seconds, chosen.limit)
    start = models.existing(chosen.model)
    rows = [row for kind in chosen.kinds for row in measured(kind, seconds, limit, start)]
    figures = [
        Figure(f"{kind}, {zoom:g} of their size: AP at 0.5 gained", found - own, detail=f"{own:.3f} to {found:.3f}")
        for kind, _, zoom, own, found, *_ in rows
    ]
    lines = [
        [kind, f"{certainty:.2f}", f"{zoom:g}", f"{own:.3f}", f"{found:.3f}", f"{changed} / {count}"]
        for kind, certainty, zoom, own, found, changed, count in rows
    ]
    header = ["pictures", "certainty where taught", "size", "AP 0.5, taught size", "AP 0.5", "seen at another size"]
    about = f"{CELLS} painted cells, {seconds:g} s on {cores()} cores, {models.described(start)}:"
    report(figures, about, table(header, lines))


if __name__ == "__main__":
    run(main)
