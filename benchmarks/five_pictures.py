"""Train on five real pictures for a minute, segment others: AP on pictures that nothing was trained on.

    python benchmarks/five_pictures.py                    # about ten minutes
    python benchmarks/five_pictures.py --seconds 10 --limit 4

For each data set (of dsb2018 the fluorescent nuclei) the pictures that pretraining spared (see
`pretrain.py`) are taken in alphabetical order. Five, evenly spaced, are trained on with default settings
(every cell is annotated, so unpainted means background), once from the bundled model and once from
scratch; all others are segmented. The bundled model without any training is measured too: as it is, and
told the typical cell diameter of the five pictures. Two cores.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

import models
import trials
from reporting import CannotMeasure, Figure, arguments, limit_cores, report, run, say, table
from trials import Picture, scores, taught

COUNT = 5
SETS = {"dsb2018": "fluorescence", "usiigaci": "usiigaci"}
"""Data set, and the kind of its pictures in `pretrain.sources`."""
COLUMNS = ("ap_0.50", "ap_0.75", "ap_mean", "ap_pooled_0.50", "ap_pooled_0.75", "ap_pooled_mean")


def spared_pictures(kind: str) -> list[Picture]:
    """Return the annotated pictures of a kind that pretraining spared, in alphabetical order.

    Raises
    ------
    CannotMeasure
        When the data are not there.
    """
    from skimage.io import imread

    import pretrain

    if not pretrain.DATA.exists():
        raise CannotMeasure("there is no folder ../shared/data beside the repository.")
    found = sorted((i, m) for k, i, m, allowed in pretrain.sources() if k == kind and not allowed)
    return [Picture(i.stem, pretrain.read_grey(i), imread(m).astype(np.int32)) for i, m in found]


def part(pictures: list[Picture], limit: int) -> tuple[list[Picture], list[Picture]]:
    """Return five evenly spaced pictures to train on, and the others (at most ``limit``, evenly spaced)."""
    chosen = set(np.linspace(0, len(pictures) - 1, COUNT).round().astype(int).tolist())
    others = [p for i, p in enumerate(pictures) if i not in chosen]
    if limit and limit < len(others):
        others = [others[i] for i in np.linspace(0, len(others) - 1, limit).round().astype(int)]
    return [pictures[i] for i in sorted(chosen)], others


def segmented(model: Any, pictures: list[Picture], diameter: float) -> list[NDArray[np.int32]]:
    """Return the instance labels of the pictures, by default settings but for the diameter."""
    return trials.segmented(model, pictures, {"diameter": diameter})


def median_size(pictures: list[Picture]) -> float:
    """Return the typical diameter of the cells in pixels."""
    from napari_unet.core.data.label_ops import median_diameter

    return float(np.median([d for d in (median_diameter(p.truth) for p in pictures) if d]))


def measure(name: str, start: Any, seconds: float, limit: int) -> list[tuple[str, str, dict[str, float], str]]:
    """Return data set, way, scores and a remark of every way to segment one data set."""
    five, others = part(spared_pictures(SETS[name]), limit)
    diameter = median_size(five)
    cells = sum(len(np.unique(p.truth)) - 1 for p in five)

    def bare(size: float) -> tuple[Any, float, str]:
        return start, size, f"diameter {size:.0f} px" if size else "as it is"

    def after(begin: Any) -> tuple[Any, float, str]:
        return (lambda got: (got[0], 0.0, got[1]))(taught(five, begin, {"seconds": seconds}))

    ways: dict[str, Callable[[], tuple[Any, float, str]]] = {
        "bundled, no training": lambda: bare(0.0),
        "bundled, no training, diameter given": lambda: bare(diameter),
        f"bundled, {seconds:g} s on five pictures": lambda: after(start),
        f"from scratch, {seconds:g} s on five pictures": lambda: after(None),
    }
    rows = []
    for way, make in ways.items():
        model, size, remark = make()
        begin = time.perf_counter()
        result = scores(others, segmented(model, others, size))
        remark += f"; {len(others)} pictures segmented in {time.perf_counter() - begin:.0f} s"
        remark += f"; trained on {cells} cells of about {diameter:.0f} px" if "five" in way else ""
        rows.append((name, way, result, remark))
        say(f"{name}, {way}: AP50 {result['ap_0.50']:.3f}; {remark}")
    return rows


def main() -> None:
    """Measure and report."""
    seconds, limit = {"type": float, "default": 60.0}, {"type": int, "default": 0, "help": "segment at most so many"}
    cores, sets = {"type": int, "default": 2}, {"nargs": "+", "choices": list(SETS), "default": list(SETS)}
    chosen = arguments(__doc__, model=models.START, seconds=seconds, limit=limit, cores=cores, sets=sets)
    limit_cores(chosen.cores)
    model = models.existing(chosen.model)
    from napari_unet.core.network.model_io import load_model

    length, most = (5.0, 3) if chosen.quick else (chosen.seconds, chosen.limit)
    rows = [row for name in chosen.sets for row in measure(name, load_model(model), length, most)]
    about = models.described(model)
    figures = []
    for name, way, result, remark in rows:
        detail = f"per image; pooled {result['ap_pooled_0.50']:.3f}; {remark}"
        detail += f"; {about}" if way.startswith("bundled") else ""
        figures.append(Figure(f"AP at IoU 0.5 on {name}: {way}", result["ap_0.50"], detail=detail))
    cells = [[n, w, *(f"{r[c]:.3f}" for c in COLUMNS), r["cells_truth"], r["cells_predicted"]] for n, w, r, _ in rows]
    named = [c.replace("ap_", "AP ").replace("pooled_", "pooled ").replace("_", " ") for c in COLUMNS]
    header = ["data", "way", *named, "cells", "found"]
    report(
        figures,
        "AP is the mean over images, or of all cells pooled; the mean is over IoU 0.5 to 0.9:",
        table(header, cells),
    )


if __name__ == "__main__":
    run(main)
