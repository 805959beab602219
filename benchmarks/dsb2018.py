"""Nuclei of DSB 2018 on StarDist's split: AP at IoU 0.5 to 0.9 beside the published tables.

    python benchmarks/dsb2018.py                             # the bundled model as it is
    python benchmarks/dsb2018.py --seconds 600               # after ten minutes on the 380 training pictures
    python benchmarks/dsb2018.py --model scratch --seconds 3600 --save MODEL
    python benchmarks/dsb2018.py --test FOLDER               # on FOLDER/images and FOLDER/masks in place of the 67

The 67 validation pictures of StarDist's subset are segmented by the settings of the model's card, and measured against
the masks as published (what other tables compare with) and as corrected later. Training takes the 380
training pictures with the masks as published; the bundled model has learnt from them beforehand, from none
of the 67. FOLDER may be the `test` folder of StarDist's download, the 50 pictures that the published
per-image table is about.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import models
import trials
from reporting import CannotMeasure, Figure, arguments, limit_cores, report, run, say, table
from trials import Picture
from zero_training import MASKS, validation_names

PUBLISHED = {
    "U-Net, 3 classes": (0.806, 0.775, 0.743, 0.701, 0.654, 0.578, 0.491, 0.374, 0.226),
    "Mask R-CNN": (0.832, 0.805, 0.773, 0.730, 0.684, 0.597, 0.489, 0.353, 0.189),
    "StarDist": (0.864, 0.836, 0.804, 0.755, 0.685, 0.586, 0.450, 0.287, 0.119),
    "Cellpose, trained on DSB": (0.853, 0.826, 0.812, 0.792, 0.768, 0.716, 0.645, 0.536, 0.402),
    "EmbedSeg": (0.876, 0.858, 0.834, 0.806, 0.768, 0.715, 0.645, 0.530, 0.399),
}
"""AP per image on the 50 test pictures of the subset at IoU 0.5 to 0.9."""
STARDIST = {"ap_pooled_0.50": 0.835, "precision_0.50": 0.955, "recall_0.50": 0.869, "f1_0.50": 0.910}
"""StarDist on the 67 validation pictures, pooled, as its example notebook prints it."""
PROMISED = {"ap_pooled_0.50": 0.87, "ap_mean": 0.73}
"""What is promised of the 67, masks as published."""
WORDS = {
    "ap_pooled_0.50": "AP at IoU 0.5, pooled",
    "ap_0.50": "AP at IoU 0.5, per image",
    "ap_mean": "AP, mean over IoU 0.5 to 0.9, per image",
    "precision_0.50": "precision at IoU 0.5",
    "recall_0.50": "recall at IoU 0.5",
    "f1_0.50": "F1 at IoU 0.5",
}
OF_FOLDER = "of the folder"


def subset(data: Path, names: Sequence[str], masks: str) -> list[Picture]:
    """Return pictures by name with their masks of one kind."""
    folder = data / "dsb2018"
    return [
        picture
        for name in names
        for picture in trials.read_pictures(folder / "images" / f"{name}.png", folder / masks / f"{name}.png")
    ]


def training_names(data: Path) -> list[str]:
    """Return the names of StarDist's training pictures."""
    return sorted(json.loads((data / "dsb2018" / "split.json").read_text())["stardist_train"])


def spread(items: Sequence[Any], count: int) -> list[Any]:
    """Return at most ``count`` items, evenly spaced; all for 0."""
    if not count or count >= len(items):
        return list(items)
    return [items[i] for i in np.linspace(0, len(items) - 1, count).round().astype(int)]


def exam_sets(data: Path, folder: Path | None, limit: int) -> dict[str, list[Picture]]:
    """Return the pictures to measure on, by the kind of their masks.

    Raises
    ------
    CannotMeasure
        When the folder has no ``images`` and ``masks``, or the shared data are not there.
    """
    if folder is None:
        names = spread(validation_names(data), limit)
        return {words: subset(data, names, masks) for masks, words in MASKS.items()}
    for part in ("images", "masks"):
        if not (folder / part).is_dir():
            raise CannotMeasure(f"{folder} has no folder {part}; --test takes a folder with images and masks in it.")
    return {OF_FOLDER: spread(trials.read_pictures(folder / "images", folder / "masks"), limit)}


def make_model(chosen: Any, data: Path) -> tuple[Any, str]:
    """Return the model to measure, and what it is."""
    start = trials.start_model(chosen.model)
    seconds = min(chosen.seconds, 5.0) if chosen.quick else chosen.seconds
    if not seconds:
        if start is None:
            raise CannotMeasure("a network from scratch knows nothing; give --seconds to train it.")
        return start, models.described(chosen.model)
    names = spread(training_names(data), 6 if chosen.quick else 0)
    pictures = subset(data, names, "masks_original")
    model, steps = trials.taught(pictures, start, {**dict(chosen.set), "seconds": seconds})
    if chosen.save:
        from napari_unet.core.network.model_io import save_model

        save_model(model, chosen.save)
    return model, f"{trials.identity(chosen.model)}, {steps} on {len(pictures)} pictures"


def figures_of(masks: str, way: str, result: dict[str, float], about: str, every: bool) -> list[Figure]:
    """Return the figures of one kind of masks; promises are about all 67, masks as published."""
    detail = f"{about}; {result['cells_truth']:.0f} cells, {result['cells_predicted']:.0f} found"
    held = every and masks == MASKS["masks_original"]
    figures = []
    for key, words in WORDS.items():
        if masks == MASKS["masks"] and not key.startswith("ap"):
            continue
        peer = f"; StarDist prints {STARDIST[key]:.3f}" if held and key in STARDIST else ""
        name = f"{words}, masks {masks}" + (", mirrored" if way == "mirrored" else "")
        figures.append(Figure(name, result[key], detail=detail + peer, at_least=PROMISED.get(key) if held else None))
    return figures


def rows_of(what: str, masks: str, result: dict[str, float]) -> list[list[str]]:
    """Return AP at each threshold, per image and pooled."""
    from napari_unet.core.evaluation.metrics import THRESHOLDS

    rows = []
    for key, how in (("ap", "per image"), ("ap_pooled", "pooled")):
        values = [result[f"{key}_{t:.2f}"] for t in THRESHOLDS]
        rows.append([f"ours, {what}, masks {masks}", how, *_shown(values)])
    return rows


def published_rows() -> list[list[str]]:
    """Return the published figures as rows of the same table."""
    rows = [[f"{name}, published, 50 test pictures", "per image", *_shown(v)] for name, v in PUBLISHED.items()]
    pooled = f"{STARDIST['ap_pooled_0.50']:.3f}"
    return [*rows, ["StarDist, published, 67 validation pictures", "pooled", pooled, *[""] * 9]]


def _shown(values: Sequence[float]) -> list[str]:
    """Return values and their mean with three digits."""
    return [f"{v:.3f}" for v in (*values, np.mean(values))]


def main() -> None:
    """Measure and report."""
    seconds = {"type": float, "default": 0.0, "help": "fine-tune first for so long; 0 takes the model as it is"}
    limit = {"type": int, "default": 0, "help": "segment at most so many"}
    test = {"type": Path, "metavar": "FOLDER", "help": "measure on its folders images and masks"}
    save = {"type": Path, "metavar": "MODEL", "help": "where to keep the model that was trained"}
    chosen = arguments(
        __doc__, model=models.START, seconds=seconds, set=trials.SET, predict=trials.PREDICT, mirror=trials.MIRROR,
        limit=limit, test=test, save=save, cores=trials.CORES,
    )  # fmt: skip
    limit_cores(chosen.cores)
    import pretrain
    from napari_unet.core.evaluation.metrics import THRESHOLDS

    sets = exam_sets(pretrain.DATA, chosen.test, 6 if chosen.quick else chosen.limit)
    pictures = next(iter(sets.values()))
    warning = trials.seen(chosen.model, "the test set", [p.name for p in pictures])
    model, about = make_model(chosen, pretrain.DATA)
    say(f"{len(pictures)} pictures, {about}" + (f"; WARNING: {warning}" if warning else ""))
    about = "; ".join(filter(None, (f"{len(pictures)} pictures", about, warning)))
    every = chosen.test is None and not (chosen.limit or chosen.quick)
    figures, rows = [], []
    for way, values in trials.ways_of(chosen.predict, chosen.mirror).items():
        found: list[NDArray[np.int32]] = trials.segmented(model, pictures, values)
        for masks, truths in sets.items():
            result = trials.scores(truths, found)
            figures += figures_of(masks, way, result, about, every)
            rows += rows_of(way, masks, result)
    header = ["method", "AP", *(f"{t:g}" for t in THRESHOLDS), "mean"]
    report(figures, "AP by IoU:", table(header, rows + published_rows()))


if __name__ == "__main__":
    run(main)
