"""Measures a network on samples that were kept apart, sparse ones too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..data.arrays import Normalisation, Planes
from ..inference.predict import Predictor, predict_region
from ..instances.pipeline import labels_from_outputs
from ..settings import PredictionSettings
from .sampling import Sample

_CONTEXT = 8
_LARGEST_SIDE = 512


@dataclass(frozen=True)
class Score:
    """How well the network does; rates from 0 to 1.

    Attributes
    ----------
    loss : float
        Class-weighted cross-entropy on known pixels.
    iou : float
        Of the foreground on known pixels (mean over classes in semantic mode).
    f1 : float
        Of instances at IoU 0.5 (macro F1 of the classes in semantic mode).
    """

    loss: float
    iou: float
    f1: float

    @property
    def rank(self) -> float:
        """What decides which model is the best; the loss breaks ties among few cells."""
        return self.iou + self.f1 - 0.1 * min(self.loss, 5.0)


def known_box(sample: Sample) -> tuple[int, int, int, int]:
    """Return the box around the known pixels, at most 512 px a side where most of the painted ones are."""
    known = sample.known
    # The paint decides; after the gap is cut hardly visible cells may have none left.
    painted = known.target > 0 if known.target.any() else known.mask
    box: list[int] = []
    for axis in (0, 1):
        # The rows are chosen first, then the columns within them.
        rows = slice(*box) if box else slice(None)
        counts = painted[rows].sum(axis=1 - axis)
        low, high = _fullest(counts, np.flatnonzero(known.mask[rows].any(axis=1 - axis)))
        box += [max(0, low), min(known.mask.shape[axis], high)]
    return box[0], box[1], box[2], box[3]


def _fullest(counts: NDArray[np.intp], known: NDArray[np.intp]) -> tuple[int, int]:
    """Return the bounds of all known positions with context, or of the longest part allowed with most counts."""
    low, high = int(known[0]) - _CONTEXT, int(known[-1]) + 1 + _CONTEXT
    if high - low <= _LARGEST_SIDE:
        return low, high
    total = np.concatenate([[0], np.cumsum(counts)])
    starts = np.arange(max(1, len(counts) - _LARGEST_SIDE + 1))
    inside = total[np.minimum(starts + _LARGEST_SIDE, len(counts))] - total[starts]
    # The middle one of the equally full.
    best = np.flatnonzero(inside == inside.max())
    start = int(best[len(best) // 2])
    return start, start + _LARGEST_SIDE


def score(predictor: Predictor, samples: Sequence[Sample], weights: NDArray[np.float32], mode: str) -> Score:
    """Return the scores over all samples.

    Parameters
    ----------
    predictor : Predictor
        The network.
    samples : sequence of Sample
        Kept apart from training.
    weights : NDArray of float32
        Class weights of the loss.
    mode : str
        ``"instances"`` or ``"classes"``.
    """
    identity = Normalisation((0.0,) * samples[0].image.shape[0], (1.0,) * samples[0].image.shape[0])
    loss = total = 0.0
    confusion = np.zeros((len(weights), len(weights)))
    matched = np.zeros(3)
    for sample in samples:
        box = known_box(sample)
        outputs = predict_region(predictor, Planes(sample.image, "cyx"), (), box, identity)
        inside = (slice(box[0], box[1]), slice(box[2], box[3]))
        mask, target = sample.known.mask[inside], sample.known.target[inside]
        probability = np.take_along_axis(outputs["classes"], target[None].astype(np.intp), axis=0)[0]
        weight = weights[target] * mask
        loss += float((weight * -np.log(np.clip(probability, 1e-6, 1))).sum())
        total += float(weight.sum())
        answer = outputs["classes"].argmax(axis=0)
        pairs = target[mask].astype(np.intp) * len(weights) + answer[mask]
        confusion += np.bincount(pairs, minlength=len(weights) ** 2).reshape(confusion.shape)
        if mode == "instances":
            labels = labels_from_outputs(outputs, PredictionSettings(smallest=5))
            matched += match_known(sample.known.instances[inside], labels, mask)
    # A class of which nothing is known here says nothing about the network.
    present = confusion.sum(axis=1)[1:] > 0
    iou = float(_class_iou(confusion)[1:][present].mean()) if present.any() else 0.0
    classes_f1 = float(_class_f1(confusion)[1:][present].mean()) if present.any() else 0.0
    f1 = _f1(*matched) if mode == "instances" else classes_f1
    return Score(loss / max(total, 1e-6), iou, f1)


def match_known(truth: NDArray[np.int32], labels: NDArray[np.int32], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return true positives, false positives and false negatives at IoU 0.5, see :func:`match_known_at`."""
    return np.asarray(match_known_at(truth, labels, mask, (0.5,))[0])


def match_known_at(
    truth: NDArray[np.int32], labels: NDArray[np.int32], mask: NDArray[np.bool_], thresholds: Sequence[float]
) -> NDArray[np.float64]:
    """Return true positives, false positives and false negatives where only part is known.

    Pixels outside of the mask count for nobody, and a predicted cell of which less than half is
    known is neither right nor wrong.

    Parameters
    ----------
    truth, labels : NDArray of int32
        True and predicted instances, (Y, X).
    mask : NDArray of bool
        What is known, (Y, X).
    thresholds : sequence of float
        A cell is found when its IoU is above, each at least 0.5.

    Returns
    -------
    NDArray
        Counts as (thresholds, 3).
    """
    inside = np.where(mask, labels, 0)
    whole, part = np.bincount(labels.ravel()), np.bincount(inside.ravel(), minlength=int(labels.max(initial=0)) + 1)
    counted = part > 0.5 * whole
    counted[0] = False
    sizes = np.bincount(truth.ravel())
    pairs = truth.ravel().astype(np.int64) * len(part) + inside.ravel()
    keys, overlap = np.unique(pairs, return_counts=True)
    cell, other = keys // len(part), keys % len(part)
    iou = overlap / (sizes[cell] + part[other] - overlap)
    present = int((sizes[1:] > 0).sum())
    rows = []
    for threshold in thresholds:
        hits = (iou > threshold) & (cell > 0) & (other > 0)
        found = int(hits.sum())
        rows.append([found, int(counted.sum()) - int(counted[other[hits]].sum()), present - found])
    return np.array(rows, float)


def _f1(tp: float, fp: float, fn: float) -> float:
    return float(2 * tp / max(1.0, 2 * tp + fp + fn))


def _class_iou(confusion: NDArray[np.float64]) -> NDArray[np.float64]:
    hits = np.diag(confusion)
    return np.asarray(hits / np.maximum(1, confusion.sum(0) + confusion.sum(1) - hits))


def _class_f1(confusion: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(2 * np.diag(confusion) / np.maximum(1, confusion.sum(0) + confusion.sum(1)))
