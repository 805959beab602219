"""The bundled model without any training on nuclei it has never seen: AP on StarDist's validation pictures.

    python benchmarks/zero_training.py

The 67 pictures of StarDist's DSB 2018 validation list, which pretraining spared, segmented with default
settings, against the masks as published (what other tables compare with) and as corrected later. Other
pictures of the same plates were trained on, so this is no score on a new microscope.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import models
from five_pictures import Picture, scores, segmented
from reporting import CannotMeasure, Figure, arguments, report, run, say, table

MASKS = {"masks_original": "as published", "masks": "corrected"}
PROMISED = 0.80


def validation_names(data: Path) -> list[str]:
    """Return the names of StarDist's validation pictures.

    Raises
    ------
    CannotMeasure
        When the data are not there.
    """
    if not data.exists():
        raise CannotMeasure("there is no folder ../shared/data beside the repository.")
    return sorted(json.loads((data / "dsb2018" / "split.json").read_text())["stardist_val"])


def read_truths(data: Path, masks: str, names: list[str]) -> list[NDArray[np.int32]]:
    """Return the masks of one kind."""
    from skimage.io import imread

    return [imread(data / "dsb2018" / masks / f"{name}.png").astype(np.int32) for name in names]


def main() -> None:
    """Measure and report."""
    limit = {"type": int, "default": 0, "help": "segment at most so many"}
    diameter = {"type": float, "default": 0.0, "help": "typical diameter in pixels; 0 is the default setting"}
    chosen = arguments(__doc__, model=models.START, limit=limit, diameter=diameter)
    model = models.existing(chosen.model)
    import pretrain
    from napari_unet.core.evaluation.metrics import THRESHOLDS
    from napari_unet.core.network.model_io import load_model

    names = validation_names(pretrain.DATA)
    count = 6 if chosen.quick else chosen.limit or len(names)
    names = names[:: max(1, len(names) // count)][:count]
    images = [pretrain.read_grey(pretrain.DATA / "dsb2018" / "images" / f"{name}.png") for name in names]
    truths = {masks: read_truths(pretrain.DATA, masks, names) for masks in MASKS}
    sets = {m: [Picture(*each) for each in zip(names, images, truths[m], strict=True)] for m in MASKS}
    say(f"{len(names)} pictures")
    found = segmented(load_model(model), sets["masks"], chosen.diameter)
    about = f"{len(names)} pictures; {models.described(model)}"
    figures, rows = [], []
    for masks, words in MASKS.items():
        result = scores(sets[masks], found)
        detail = f"{about}; {result['cells_truth']:.0f} cells, {result['cells_predicted']:.0f} found"
        for key, how in (("ap", "per image"), ("ap_pooled", "pooled")):
            name = f"AP at IoU 0.5, {how}, no training, masks {words}"
            figures.append(Figure(name, result[f"{key}_0.50"], detail=detail, at_least=PROMISED))
            values = [result[f"{key}_{t:.2f}"] for t in THRESHOLDS]
            rows.append([words, how, *(f"{v:.3f}" for v in values), f"{np.mean(values):.3f}"])
    header = ["masks", "AP", *(f"{t:g}" for t in THRESHOLDS), "mean"]
    report(figures, "AP by IoU:", table(header, rows))


if __name__ == "__main__":
    run(main)
