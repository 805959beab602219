"""``napari-unet evaluate``: score a segmentation against ground truth."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import stores
from ..core.errors import DataError, StoreError
from ..core.evaluation.comparison import compare, known_pair
from ..core.evaluation.metrics import THRESHOLDS
from ..core.evaluation.metrics import evaluate as measure
from ..records.report import Report, draw_cells, write_report

_SHOWN = ("precision", "recall", "f1", "pq", "seg", "iou", "dice", "adapted_rand_error", "vi_split", "vi_merge")
_WORDS = {
    "precision_0.50": "precision at IoU 0.5",
    "recall_0.50": "recall at IoU 0.5",
    "f1_0.50": "F1 at IoU 0.5",
    "pq_0.50": "panoptic quality",
    "seg": "SEG",
    "iou": "IoU of the foreground",
    "dice": "Dice of the foreground",
    "adapted_rand_error": "adapted Rand error",
    "vi_split": "variation of information, split (bits)",
    "vi_merge": "variation of information, merge (bits)",
}


@dataclass(frozen=True)
class LabelledPlane:
    """One plane of ground truth and prediction, (Y, X) each."""

    name: str
    truth: NDArray[np.int64]
    prediction: NDArray[np.int64]


def evaluate(arguments: argparse.Namespace) -> int:
    """Print a table of scores, and write them as JSON and as a report on request."""
    if arguments.json is not None and arguments.json.suffix.lower() != ".json":
        raise StoreError(f"{arguments.json} has another ending than .json; give the scores a file of their own.")
    if arguments.report is not None and arguments.report.suffix.lower() not in (".html", ".htm"):
        raise StoreError(f"{arguments.report} has another ending than .html; give the report a file of its own.")
    planes = read_planes(arguments.truth, arguments.prediction)
    scores = measure([p.truth for p in planes], [p.prediction for p in planes])
    if arguments.json is not None:
        _write_json(arguments, planes, scores)
    if arguments.report is not None:
        _write_report(arguments, planes)
    print_scores(scores)
    return 0


def read_planes(truth: Path, prediction: Path) -> list[LabelledPlane]:
    """Return every plane of the ground truth with the same plane of the prediction.

    Raises
    ------
    StoreError
        When a file cannot be read or has no partner.
    DataError
        If shapes differ.
    """
    out = []
    for found in stores.pair(prediction, truth, nouns=("prediction", "truth")):
        right, left = stores.open_labels(found.labels), stores.open_labels(found.image)
        at = () if found.depth is None else (found.depth,)
        wanted = tuple(right.shape) if found.depth is None else (left.shape[0], *right.shape)
        if tuple(left.shape) != wanted:
            raise DataError(
                f"{found.image} has the shape {tuple(left.shape)}, but the ground truth {found.labels} has "
                f"{tuple(right.shape)}; measure labels of the same image."
            )
        for plane in np.ndindex(*right.shape[:-2]):
            name = f"{stores.stem(found.labels)} {plane}" if plane else stores.stem(found.labels)
            known = stores.label_plane(right, plane, found.labels)
            out.append(LabelledPlane(name, known, stores.label_plane(left, (*at, *plane), found.image)))
    return out


def _write_json(arguments: argparse.Namespace, planes: list[LabelledPlane], scores: dict[str, float]) -> None:
    """Write all scores, pooled and for each plane."""
    each = [{"name": p.name, **measure([p.truth], [p.prediction])} for p in planes]
    content: dict[str, Any] = {"truth": str(arguments.truth), "prediction": str(arguments.prediction), **scores}
    with stores.writing(arguments.json):
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        partial = stores.temporary(arguments.json)
        try:
            partial.write_text(json.dumps({**content, "planes": each}, indent=2) + "\n", encoding="utf-8")
            stores.replace(partial, arguments.json)
        finally:
            stores.remove(partial)


def _write_report(arguments: argparse.Namespace, planes: list[LabelledPlane]) -> None:
    """Write the page with curves and pictures; planes are numbered over all files."""
    pairs = [known_pair((number,), p.truth, p.prediction) for number, p in enumerate(planes)]
    found = compare(pairs)
    grey = _grey_planes(arguments) if arguments.image is not None else []
    if grey and len(grey) != len(planes):
        raise StoreError(f"{arguments.image} has {len(grey)} planes with ground truth, but {len(planes)} are compared.")
    pictures = draw_cells(found, lambda plane: (pairs[plane[0]], grey[plane[0]] if grey else None))
    about = {
        "Truth": str(arguments.truth),
        "Prediction": str(arguments.prediction),
        "Planes": ", ".join(f"{number}: {p.name}" for number, p in enumerate(planes[:20])),
    }
    write_report(arguments.report, Report("Segmentation against ground truth", found, about, (), pictures))


def _grey_planes(arguments: argparse.Namespace) -> list[NDArray[np.float32]]:
    """Return the first channel of every plane with ground truth."""
    found = stores.annotated_images(arguments.image, arguments.truth, axes=arguments.axes, empty=True)
    return [np.asarray(item.image)[0] if np.ndim(item.image) == 3 else np.asarray(item.image) for item in found]


def print_scores(scores: dict[str, float]) -> None:
    """Print a table of the most common scores."""
    counts = "{images:.0f} plane(s), {cells_truth:.0f} ground-truth cells, {cells_predicted:.0f} predicted"
    print(counts.format(**scores))
    print()
    print("IoU threshold         " + " ".join(f"{t:6.2f}" for t in THRESHOLDS) + "    mean")
    rows = {"AP, mean over planes": "ap", "AP, pooled": "ap_pooled", "F1, pooled": "f1"}
    for words, name in rows.items():
        values = [scores[f"{name}_{t:.2f}"] for t in THRESHOLDS]
        print(f"{words:<22}" + " ".join(f"{v:6.3f}" for v in [*values]) + f"  {np.mean(values):6.3f}")
    print()
    for name, words in _WORDS.items():
        print(f"{words:<42}{scores[name]:6.3f}")
