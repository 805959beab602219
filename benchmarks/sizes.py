"""How well the size of cells is measured, on pictures that pretraining spared.

    python benchmarks/sizes.py

The bundled models look at each picture at several sizes, as segmenting with default settings does; the
diameter that they find is compared with the annotated cells' median diameter.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import models
from reporting import CannotMeasure, Figure, arguments, report, run, say, table

KINDS = ("fluorescence", "stained", "usiigaci", "ecoli", "em")
NEAR = 1.25
"""Factor within which a diameter is near enough: the networks learnt sizes from 0.67 to 1.5 of the annotated one."""


def errors(kind: str, limit: int, model: str) -> list[float]:
    """Return measured over annotated diameter of the spared pictures of a kind; 0 where nothing was found."""
    from skimage.io import imread

    import pretrain
    from napari_unet.core.data.arrays import Planes
    from napari_unet.core.data.label_ops import median_diameter
    from napari_unet.core.inference.model_selection import choose_model
    from napari_unet.core.network.model_io import load_model
    from napari_unet.core.settings import PredictionSettings, with_values

    if not pretrain.DATA.exists():
        raise CannotMeasure("there is no folder ../shared/data beside the repository.")
    chosen = sorted((i, m) for k, i, m, allowed in pretrain.sources() if k == kind and not allowed)
    chosen = [chosen[i] for i in np.linspace(0, len(chosen) - 1, min(limit, len(chosen))).round().astype(int)]
    start = load_model(model)
    settings = with_values(PredictionSettings(), start.card.prediction)
    found = []
    for image, mask in chosen:
        choice = choose_model(start, Planes(pretrain.read_grey(Path(image)), "yx"), settings)
        diameter = choice.model.card.diameter / choice.scale if "found" not in choice.note else 0.0
        found.append(diameter / median_diameter(imread(mask).astype(np.int32)))
    return found


def main() -> None:
    """Measure and report."""
    limit = {"type": int, "default": 24, "help": "at most so many pictures of a kind"}
    chosen = arguments(__doc__, model=models.START, limit=limit)
    model = models.existing(chosen.model)
    rows, figures = [], []
    for kind in KINDS:
        ratios = np.array(errors(kind, 2 if chosen.quick else chosen.limit, model))
        some = ratios[ratios > 0]
        near = float((np.maximum(some, 1 / some) < NEAR).sum() / len(ratios)) if len(some) else 0.0
        off = 100 * float(np.median(np.exp(np.abs(np.log(some)))) - 1) if len(some) else float("nan")
        rows.append([kind, len(ratios), f"{near:.2f}", f"{off:.0f} %", f"{np.median(some):.2f}" if len(some) else "-"])
        figures.append(Figure(f"diameter within a factor of {NEAR:g}, {kind}", near, detail=f"{len(ratios)} pictures"))
        say(f"{kind}: {near:.2f} within a factor of {NEAR:g}, median error {off:.0f} %")
    about = f"Measured against annotated diameter, {models.described(model)}:"
    report(figures, about, table(["pictures", "number", "near", "median error", "median ratio"], rows))


if __name__ == "__main__":
    run(main)
