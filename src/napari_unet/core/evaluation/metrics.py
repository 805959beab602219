"""How good a segmentation is: AP, F1, PQ, SEG, IoU, Dice, Rand, variation of information.

Everything comes from one sparse table per image: how many pixels each pair of labels shares. Label
0 is background, every other number is one object (or one class). Truths and predictions are one
label image of any number of axes, or a list or tuple of them; an array of three axes is one volume
with 3D objects, so pass ``list(stack)`` to measure a stack plane by plane.

Nothing there to measure is not a failure: where truth and prediction are both empty, every score
is perfect; where only one of them is, the score is the worst. A pair of empty images counts as one
image with AP 1 in the mean over images and adds nothing to what is pooled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .contingency import Contingency, Images, Labels, contingencies, contingency
from .region_metrics import (  # fmt: skip
    adapted_rand_error,
    classes,
    dice,
    dice_per_class,
    iou,
    iou_per_class,
    pixel_error,
    region_scores,
    thin_borders,
    v_info,
    v_rand,
    variation_of_information,
)

__all__ = [
    "THRESHOLDS", "Contingency", "InstanceScores", "Matching", "adapted_rand_error", "average_precision", "classes",
    "contingency", "dice", "dice_per_class", "evaluate", "evaluate_tables", "iou", "iou_per_class", "match_instances",
    "pixel_error", "region_scores", "seg_score", "thin_borders", "v_info", "v_rand", "variation_of_information",
    "worst_cells",
]  # fmt: skip

THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9)
"""Intersections over union at which published tables give AP."""


@dataclass(frozen=True)
class Matching:
    """The objects of two label images and how much they overlap.

    Attributes
    ----------
    truth_ids, prediction_ids : NDArray
        Ids of the objects, without background, sorted.
    truth_areas, prediction_areas : NDArray of int64
        Their pixels.
    rows, columns : NDArray of int64
        Overlapping pair k is ``truth_ids[rows[k]]`` with ``prediction_ids[columns[k]]``.
    shared : NDArray of int64
        Pixels that pair k shares.
    iou : NDArray of float64
        Intersection over union of pair k.
    """

    truth_ids: Labels
    prediction_ids: Labels
    truth_areas: NDArray[np.int64]
    prediction_areas: NDArray[np.int64]
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    shared: NDArray[np.int64]
    iou: NDArray[np.float64]

    def matched(self, threshold: float = 0.5) -> NDArray[np.int64]:
        """Return the indices k of the pairs matched one to one, each with IoU >= threshold.

        Above an IoU of 0.5 an object has at most one partner. At and below it, as many objects as
        possible are matched, and among such matchings the one with the largest sum of IoU is taken.
        """
        usable = np.flatnonzero((self.iou >= threshold) & (self.iou > 0))
        rows, columns = self.rows[usable], self.columns[usable]
        alone = (np.bincount(rows)[rows] == 1) & (np.bincount(columns)[columns] == 1) if usable.size else usable > 0
        return np.sort(np.concatenate([usable[alone], self._assigned(usable[~alone])]))

    def _assigned(self, usable: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the best one to one choice among pairs that compete for objects, group by group."""
        if not usable.size:
            return usable
        # Here, as loading it takes a while in which a viewer would not answer.
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        n = len(self.truth_ids)
        size = n + len(self.prediction_ids)
        ends = (self.rows[usable], self.columns[usable] + n)
        _, group = connected_components(coo_array((np.ones(usable.size), ends), shape=(size, size)), directed=False)
        order = np.argsort(group[ends[0]], kind="stable")
        cuts = np.flatnonzero(np.diff(group[ends[0]][order])) + 1
        return np.concatenate([self._assign_group(part) for part in np.split(usable[order], cuts)])

    def _assign_group(self, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the best one to one choice among a few pairs."""
        from scipy.optimize import linear_sum_assignment

        rows, r = np.unique(self.rows[pairs], return_inverse=True)
        columns, c = np.unique(self.columns[pairs], return_inverse=True)
        gain = np.zeros((len(rows), len(columns)))
        gain[r, c] = 1 + self.iou[pairs] / (2 * min(gain.shape))  # one more match outweighs any sum of IoU
        index = np.full(gain.shape, -1, np.int64)
        index[r, c] = pairs
        chosen: NDArray[np.int64] = index[linear_sum_assignment(gain, maximize=True)]
        return chosen[chosen >= 0]


def match_instances(truth: Labels, prediction: Labels) -> Matching:
    """Return the objects of two label images and the IoU of each overlapping pair.

    Parameters
    ----------
    truth, prediction : NDArray of int
        Instance labels of one shape, 0 = background.

    Raises
    ------
    DataError
        When the shapes differ or an array holds no whole numbers.

    Examples
    --------
    >>> match_instances(np.array([[1, 1, 1, 0]]), np.array([[0, 7, 7, 7]])).iou
    array([0.5])
    """
    return _matching(contingency(truth, prediction))


def _matching(table: Contingency) -> Matching:
    """Return the table without background, with the IoU of each pair."""
    real_t, real_p = table.truth_ids != 0, table.prediction_ids != 0
    kept = real_t[table.rows] & real_p[table.columns]
    rows, columns, shared = table.rows[kept], table.columns[kept], table.counts[kept]
    iou = shared / (table.truth_areas[rows] + table.prediction_areas[columns] - shared)
    return Matching(
        table.truth_ids[real_t], table.prediction_ids[real_p],
        table.truth_areas[real_t], table.prediction_areas[real_p],
        (np.cumsum(real_t) - 1)[rows], (np.cumsum(real_p) - 1)[columns], shared, iou,
    )  # fmt: skip


@dataclass(frozen=True)
class InstanceScores:
    """Scores of objects; arrays have one value per threshold.

    Attributes
    ----------
    thresholds : tuple of float
        IoU from which a pair counts as matched.
    tp, fp, fn : NDArray of int64
        Matched, falsely predicted and missed objects, summed over the images.
    ap : NDArray of float64
        TP / (TP + FP + FN) per image, then the mean over images.
    ap_pooled : NDArray of float64
        TP / (TP + FP + FN) of the summed counts.
    precision, recall, f1 : NDArray of float64
        Of the summed counts.
    matched_iou : NDArray of float64
        Mean IoU of the matched pairs; 0 without any.
    pq : NDArray of float64
        Panoptic quality: ``f1 * matched_iou`` (and 1 where both sides are empty).
    """

    thresholds: tuple[float, ...]
    tp: NDArray[np.int64]
    fp: NDArray[np.int64]
    fn: NDArray[np.int64]
    ap: NDArray[np.float64]
    ap_pooled: NDArray[np.float64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]
    matched_iou: NDArray[np.float64]
    pq: NDArray[np.float64]


def average_precision(truths: Images, predictions: Images, thresholds: Sequence[float] = THRESHOLDS) -> InstanceScores:
    """Return AP and the other object scores at each IoU threshold.

    AP here is TP / (TP + FP + FN), as in the tables of DSB 2018, StarDist and Cellpose.

    Parameters
    ----------
    truths, predictions : label image, or sequence of them
        Instance labels, 0 = background.
    thresholds : sequence of float
        0 to 1; a pair is matched when its IoU is at least this.

    Raises
    ------
    DataError
        For unequal shapes, unequal numbers of images, or no image.
    """
    return _scores([_matching(table) for table in contingencies(truths, predictions)], thresholds)


def _scores(matchings: Sequence[Matching], thresholds: Sequence[float]) -> InstanceScores:
    """Return the scores of matched images."""
    chosen = [[m.matched(t) for t in thresholds] for m in matchings]
    tp = np.array([[len(k) for k in row] for row in chosen], np.int64)
    fn = np.array([[len(m.truth_ids)] for m in matchings]) - tp
    fp = np.array([[len(m.prediction_ids)] for m in matchings]) - tp
    ious = np.array([[m.iou[k].sum() for k in row] for m, row in zip(matchings, chosen, strict=True)]).sum(axis=0)
    ap = _ratio(tp, tp + fp + fn).mean(axis=0)
    tp, fp, fn = tp.sum(axis=0), fp.sum(axis=0), fn.sum(axis=0)
    empty = tp + fp + fn == 0
    return InstanceScores(
        tuple(thresholds), tp, fp, fn, ap=ap, ap_pooled=_ratio(tp, tp + fp + fn),
        precision=np.where(tp + fp == 0, empty, tp / np.maximum(tp + fp, 1)),
        recall=np.where(tp + fn == 0, empty, tp / np.maximum(tp + fn, 1)),
        f1=_ratio(2 * tp, 2 * tp + fp + fn), matched_iou=np.where(empty, 1.0, ious / np.maximum(tp, 1)),
        pq=_ratio(2 * ious, 2 * tp + fp + fn),
    )  # fmt: skip


def seg_score(truths: Images, predictions: Images) -> float:
    """Return SEG of the Cell Tracking Challenge: the mean Jaccard index over all reference cells.

    A reference cell R counts with the segmented cell S that holds more than half of it, and with 0
    when there is none. The cells of all images are pooled; false cells cost nothing.

    References
    ----------
    .. [1] Maska et al., "A benchmark for comparison of cell tracking algorithms", Bioinformatics
       30:1609 (2014).
    """
    return _seg([_matching(table) for table in contingencies(truths, predictions)])


def _seg(matchings: Sequence[Matching]) -> float:
    """Return SEG over matched images."""
    cells = sum(len(m.truth_ids) for m in matchings)
    if not cells:
        return float(not any(len(m.prediction_ids) for m in matchings))
    return float(sum(m.iou[2 * m.shared > m.truth_areas[m.rows]].sum() for m in matchings) / cells)


def worst_cells(truth: Labels, prediction: Labels) -> list[tuple[int, float]]:
    """Return every truth id with the IoU of its best predicted object, the worst first."""
    m = match_instances(truth, prediction)
    best = np.zeros(len(m.truth_ids))
    np.maximum.at(best, m.rows, m.iou)
    return [(int(m.truth_ids[k]), float(best[k])) for k in np.argsort(best, kind="stable")]


def evaluate(truths: Images, predictions: Images, thresholds: Sequence[float] = THRESHOLDS) -> dict[str, float]:
    """Return every score of instance segmentations under its name, ready for JSON.

    Returns
    -------
    dict of str to float
        ``images``, ``cells_truth``, ``cells_predicted``: counts.
        ``ap_0.50`` ...: AP at that IoU, mean over images. ``ap_pooled_0.50`` ...: of pooled counts.
        ``precision_0.50``, ``recall_0.50``, ``f1_0.50``, ``pq_0.50``, ``matched_iou_0.50`` ...: pooled.
        ``ap_mean``: mean of the ``ap_`` over all thresholds.
        ``seg``: Cell Tracking Challenge SEG, pooled over reference cells.
        ``iou``, ``dice``, ``pixel_error``: foreground against background, pooled over pixels.
        ``adapted_rand_error``, ``vi_split``, ``vi_merge`` (bits), ``v_rand``, ``v_info`` (without
        thinning): mean over images.

    Raises
    ------
    DataError
        For unequal shapes, unequal numbers of images, or no image.
    """
    return evaluate_tables(contingencies(truths, predictions), thresholds)


def evaluate_tables(tables: Sequence[Contingency], thresholds: Sequence[float] = THRESHOLDS) -> dict[str, float]:
    """Return what :func:`evaluate` does, from one table per image, so that the images need not be kept.

    Parameters
    ----------
    tables : sequence of Contingency
        At least one, each from :func:`contingency`.
    thresholds : sequence of float
        IoU from which a pair counts as matched.
    """
    matchings = [_matching(t) for t in tables]
    scores = _scores(matchings, thresholds)
    result: dict[str, float] = {
        "images": len(tables),
        "cells_truth": sum(len(m.truth_ids) for m in matchings),
        "cells_predicted": sum(len(m.prediction_ids) for m in matchings),
    }
    for name in ("ap", "ap_pooled", "precision", "recall", "f1", "pq", "matched_iou"):
        result |= {f"{name}_{t:.2f}": float(v) for t, v in zip(thresholds, getattr(scores, name), strict=True)}
    return result | {"ap_mean": float(scores.ap.mean()), "seg": _seg(matchings)} | region_scores(tables)


def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[np.float64]:
    """Return part / whole, and 1 where there is nothing."""
    return np.where(whole == 0, 1.0, part / np.maximum(whole, 1))
