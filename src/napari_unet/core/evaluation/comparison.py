"""A segmentation against the truth, plane by plane: scores, and the cells it goes wrong at. Needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..data.annotation import AnnotatedImage, Box, interpret
from ..data.arrays import PlaneIndex
from ..errors import DataError
from ..settings import TrainingSettings
from .contingency import Contingency, contingency
from .metrics import THRESHOLDS, Matching, evaluate_tables, match_instances

GOOD = 0.5
"""IoU from which a cell counts as found."""
MISSED, POOR, FALSE = "missed", "poor", "false"
KINDS = (MISSED, POOR, FALSE)


@dataclass(frozen=True)
class CellScore:
    """How well one cell was segmented.

    Attributes
    ----------
    plane : tuple of int
        Index of its plane.
    label : int
        Its label in the truth; of a false cell, in the prediction.
    iou : float
        Intersection over union with the cell that fits best; 0 when nothing fits.
    kind : str
        ``"missed"`` (nothing there, or what is there is mostly something else), ``"poor"`` (found by less
        than half), ``"false"`` (predicted where no cell is), or ``""`` for a good one.
    box : Box
        y0, y1, x0, x1 of the cell in pixels.
    partner : int
        Label of the best fitting cell on the other side; 0 when there is none.
    """

    plane: PlaneIndex
    label: int
    iou: float
    kind: str
    box: Box
    partner: int = 0


@dataclass(frozen=True)
class PlanePair:
    """One plane of truth and prediction, (Y, X) each, of which only what is known is left.

    Attributes
    ----------
    plane : tuple of int
        Its index.
    truth, prediction : NDArray of int
        Labels; 0 where nothing is, or where nothing is known.
    """

    plane: PlaneIndex
    truth: NDArray[np.int64]
    prediction: NDArray[np.int64]


@dataclass(frozen=True)
class Comparison:
    """Scores and cells.

    Attributes
    ----------
    scores : dict of str to float
        As :func:`~napari_unet.core.evaluation.metrics.evaluate`.
    cells : tuple of CellScore
        All of the truth, and the false ones; the worst first.
    planes : tuple of tuple of int
        What was compared.
    """

    scores: dict[str, float]
    cells: tuple[CellScore, ...]
    planes: tuple[tuple[int, ...], ...]

    def worst(self) -> list[CellScore]:
        """Return the cells that are missed, poor or false, the worst first."""
        return [cell for cell in self.cells if cell.kind]

    def curve(self, name: str = "ap") -> list[tuple[float, float]]:
        """Return (IoU threshold, score) of ``"ap"``, ``"ap_pooled"``, ``"precision"``, ``"recall"`` or ``"f1"``."""
        return [(t, self.scores[f"{name}_{t:.2f}"]) for t in THRESHOLDS]


def known_pair(
    plane: PlaneIndex, truth: NDArray[np.integer], prediction: NDArray[np.integer], *,
    background_label: int = 0, complete: bool = True,
) -> PlanePair:  # fmt: skip
    """Return truth and prediction where the truth is known.

    Parameters
    ----------
    plane : tuple of int
        Its index.
    truth, prediction : NDArray of int
        Labels, (Y, X).
    background_label : int
        The label that is painted on background; 0 when there is none.
    complete : bool
        Whether every cell is in the truth. Otherwise unpainted pixels are unknown, but for a narrow rim of
        each painted cell: they count for nobody, and neither does a predicted cell that is mostly there.

    Raises
    ------
    DataError
        When the shapes differ.
    """
    if truth.shape != prediction.shape:
        raise DataError(
            f"The truth has the shape {truth.shape}, but the prediction {prediction.shape}; compare labels of the same "
            "image."
        )
    cells = np.where((truth == background_label) | (truth < 0), 0, truth).astype(np.int64)
    found = np.maximum(prediction, 0).astype(np.int64)
    if complete:
        return PlanePair(plane, cells, found)
    settings = TrainingSettings(unpainted="unknown", background_label=background_label)
    mask = interpret(AnnotatedImage(np.zeros(truth.shape, np.uint8), np.maximum(truth, 0)), settings).mask
    ids, inverse = np.unique(found, return_inverse=True)
    inverse = inverse.reshape(found.shape)
    whole = np.bincount(inverse.ravel(), minlength=len(ids))
    inside = np.bincount(inverse[mask], minlength=len(ids))
    return PlanePair(plane, cells, np.where(mask & (2 * inside > whole)[inverse], found, 0))


def compare(pairs: Iterable[PlanePair], *, stop: Callable[[], bool] = lambda: False) -> Comparison:
    """Return scores over all planes, and every cell, the worst first.

    Parameters
    ----------
    pairs : iterable of PlanePair
        Read one at a time; not kept.
    stop : callable
        Asked before each plane; what was compared until then counts.

    Raises
    ------
    DataError
        When there is nothing to compare.
    """
    tables: list[Contingency] = []
    cells: list[CellScore] = []
    planes: list[tuple[int, ...]] = []
    for pair in pairs:
        if stop():
            break
        tables.append(contingency(pair.truth, pair.prediction))
        cells += _cells(pair)
        planes.append(pair.plane)
    if not tables:
        raise DataError("There is nothing to compare: no plane holds both truth and prediction.")
    order = {MISSED: 0, FALSE: 1, POOR: 2, "": 3}
    cells.sort(key=lambda cell: (order[cell.kind], cell.iou))
    return Comparison(evaluate_tables(tables), tuple(cells), tuple(planes))


def _cells(pair: PlanePair) -> list[CellScore]:
    """Return every true cell of a plane, and the predicted ones where no cell is."""
    matching = match_instances(pair.truth, pair.prediction)
    boxes = _boxes(pair.truth)
    best, partner = _best(matching, len(matching.truth_ids), matching.rows, matching.prediction_ids[matching.columns])
    out = [
        CellScore(pair.plane, int(label), float(best[k]), _kind(best[k]), boxes[int(label)], int(partner[k]))
        for k, label in enumerate(matching.truth_ids)
    ]
    best, partner = _best(matching, len(matching.prediction_ids), matching.columns, matching.truth_ids[matching.rows])
    boxes = _boxes(pair.prediction)
    # A predicted cell with a partner is told of as that cell's; only those that hit next to nothing are false.
    return out + [
        CellScore(pair.plane, int(label), float(best[k]), FALSE, boxes[int(label)], int(partner[k]))
        for k, label in enumerate(matching.prediction_ids)
        if best[k] < 0.1
    ]


def _kind(iou: float) -> str:
    """Return what is wrong with a true cell."""
    return MISSED if iou < 0.1 else POOR if iou < GOOD else ""


def _best(
    matching: Matching, count: int, ends: NDArray[np.int64], others: NDArray[np.integer]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the largest IoU of each object on one side, and the label on the other side it is with."""
    best, partner = np.zeros(count), np.zeros(count, np.int64)
    order = np.argsort(matching.iou, kind="stable")
    best[ends[order]], partner[ends[order]] = matching.iou[order], others[order]
    return best, partner


def _boxes(labels: NDArray[np.int64]) -> dict[int, Box]:
    """Return the box around each label."""
    ids, inverse = np.unique(labels, return_inverse=True)
    found = ndimage.find_objects(inverse.reshape(labels.shape) + 1)
    spans = [(s[0].start, s[0].stop, s[1].start, s[1].stop) for s in found]
    return {int(label): box for label, box in zip(ids, spans, strict=True) if label != 0}


def paint_kinds(pair: PlanePair, cells: Sequence[CellScore]) -> NDArray[np.uint8]:
    """Return a picture of what is wrong in one plane, (Y, X): 1 missed, 2 poor, 3 false, 0 elsewhere."""
    out = np.zeros(pair.truth.shape, np.uint8)
    for cell in sorted(cells, key=lambda cell: cell.kind != FALSE):
        if cell.kind and cell.plane == pair.plane:
            y0, y1, x0, x1 = cell.box
            source = pair.prediction if cell.kind == FALSE else pair.truth
            inside = source[y0:y1, x0:x1] == cell.label
            out[y0:y1, x0:x1][inside] = KINDS.index(cell.kind) + 1
    return out
