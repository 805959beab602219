"""Measures of areas and partitions: IoU, Dice, pixel error, Rand, variation of information.

The conventions of :mod:`napari_unet.core.evaluation.metrics` hold, which has these functions too.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from .contingency import Contingency, Images, Labels, contingencies, contingency


def iou(truths: Images, predictions: Images, label: int | None = None) -> float:
    """Return intersection over union of one label (None: all that is not background), pixels pooled over images."""
    return _iou(*_overlap(contingencies(truths, predictions), label))


def dice(truths: Images, predictions: Images, label: int | None = None) -> float:
    """Return the Dice coefficient of one label (None: all that is not background), pixels pooled over images."""
    return _dice(*_overlap(contingencies(truths, predictions), label))


def classes(truths: Images, predictions: Images) -> list[int]:
    """Return the labels that occur in any truth or prediction, background included, sorted."""
    return _labels(contingencies(truths, predictions))


def iou_per_class(truths: Images, predictions: Images) -> dict[int, float]:
    """Return the IoU of each class that occurs, background (0) included, pixels pooled over images."""
    tables = contingencies(truths, predictions)
    return {label: _iou(*_overlap(tables, label)) for label in _labels(tables)}


def dice_per_class(truths: Images, predictions: Images) -> dict[int, float]:
    """Return the Dice coefficient (F1 of pixels) of each class that occurs, background (0) included."""
    tables = contingencies(truths, predictions)
    return {label: _dice(*_overlap(tables, label)) for label in _labels(tables)}


def pixel_error(truths: Images, predictions: Images) -> float:
    """Return the share of pixels that are foreground in one and background in the other."""
    return _pixel_error(contingencies(truths, predictions))


def _iou(shared: int, truth: int, prediction: int) -> float:
    return shared / (truth + prediction - shared) if truth + prediction else 1.0


def _dice(shared: int, truth: int, prediction: int) -> float:
    return 2 * shared / (truth + prediction) if truth + prediction else 1.0


def _pixel_error(tables: Sequence[Contingency]) -> float:
    shared, truth, prediction = _overlap(tables, None)
    return (truth + prediction - 2 * shared) / max(1, sum(int(t.counts.sum()) for t in tables))


def _labels(tables: Sequence[Contingency]) -> list[int]:
    """Return the labels that occur, sorted."""
    return sorted({int(k) for t in tables for k in (*t.truth_ids, *t.prediction_ids)})


def _overlap(tables: Sequence[Contingency], label: int | None) -> tuple[int, int, int]:
    """Return the pixels of a label that are shared, in truth and in prediction."""
    total = np.zeros(3, np.int64)
    for t in tables:
        ids = t.truth_ids[t.rows], t.prediction_ids[t.columns]
        one, other = (i != 0 if label is None else i == label for i in ids)
        total += [t.counts[chosen].sum() for chosen in (one & other, one, other)]
    return int(total[0]), int(total[1]), int(total[2])


def adapted_rand_error(truth: Labels, prediction: Labels) -> float:
    """Return the adapted Rand error over the pixels whose truth is not background, 0 = perfect.

    The predicted background counts as one segment, as in :func:`skimage.metrics.adapted_rand_error`.
    Without two truth pixels of one object, nothing can be wrong: 0.
    """
    return _adapted_rand(contingency(truth, prediction))


def _adapted_rand(table: Contingency) -> float:
    inside = table.inside_truth()
    both, one, other = (_pairs_of(n) for n in (inside.counts, inside.truth_areas, inside.prediction_areas))
    return 1.0 - 2 * both / (one + other) if one + other else 0.0


def variation_of_information(truth: Labels, prediction: Labels, *, foreground: bool = False) -> tuple[float, float]:
    """Return the entropies (split, merge) in bits; their sum is the variation of information.

    Parameters
    ----------
    truth, prediction : NDArray of int
        Labels of one shape. Background counts as one segment.
    foreground : bool
        Whether to leave out the pixels whose truth is background.
    """
    table = contingency(truth, prediction)
    return _information(table.inside_truth() if foreground else table)


def _information(t: Contingency) -> tuple[float, float]:
    """Return H(prediction | truth) and H(truth | prediction) in bits."""
    share = t.counts / max(1, t.counts.sum())
    split = share @ np.log2(t.truth_areas[t.rows] / t.counts)
    merge = share @ np.log2(t.prediction_areas[t.columns] / t.counts)
    return float(split), float(merge)


def thin_borders(labels: Labels) -> Labels:
    """Return labels grown into the background, each pixel to its nearest object, until no border is left."""
    if not labels.any():
        return labels
    nearest = distance_transform_edt(labels == 0, return_distances=False, return_indices=True)
    grown: Labels = labels[tuple(nearest)]
    return grown


def v_rand(truth: Labels, prediction: Labels, *, thin: bool = False) -> float:
    r"""Return the foreground-restricted Rand score of ISBI 2012, 1 = perfect.

    :math:`\sum p_{ij}^2 / (\frac12 \sum s_i^2 + \frac12 \sum t_j^2)` over the pixels whose truth is
    not background (eq. 3 of [1]_ with alpha 1/2); each pixel of predicted background is a segment
    of its own.

    Parameters
    ----------
    truth, prediction : NDArray of int
        Segments of one shape, 0 = membrane. A binary membrane map has to be labelled first, for
        example with :func:`skimage.measure.label`.
    thin : bool
        Thin the predicted borders first, so that their width does not count, as the leaderboard does.

    References
    ----------
    .. [1] Arganda-Carreras et al., "Crowdsourcing the creation of image segmentation algorithms for
       connectomics", Frontiers in Neuroanatomy 9:142 (2015).
    """
    return _v_rand(contingency(truth, thin_borders(np.asarray(prediction)) if thin else prediction))


def v_info(truth: Labels, prediction: Labels, *, thin: bool = False) -> float:
    r"""Return the foreground-restricted information score of ISBI 2012, 1 = perfect.

    :math:`I(S, T) / (\frac12 H(S) + \frac12 H(T))`; parameters and reference as in :func:`v_rand`.
    """
    return _v_info(contingency(truth, thin_borders(np.asarray(prediction)) if thin else prediction))


def _segments(table: Contingency) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the sizes of shared, true and predicted segments in the true foreground."""
    inside = table.inside_truth()
    real = inside.prediction_ids != 0
    singles = np.ones(int(inside.prediction_areas[~real].sum()), np.int64)
    shared = np.concatenate([inside.counts[real[inside.columns]], singles])
    return shared, inside.truth_areas, np.concatenate([inside.prediction_areas[real], singles])


def _v_rand(table: Contingency) -> float:
    both, one, other = (int(n @ n) for n in _segments(table))
    return 2 * both / (one + other) if one + other else 1.0


def _v_info(table: Contingency) -> float:
    both, one, other = (_entropy(n) for n in _segments(table))
    return 2 * (one + other - both) / (one + other) if one + other else 1.0


def _pairs_of(sizes: NDArray[np.int64]) -> int:
    """Return the number of ordered pairs of pixels inside of segments."""
    return int(sizes @ (sizes - 1))


def _entropy(sizes: NDArray[np.int64]) -> float:
    """Return the entropy in bits of segments of these sizes."""
    share = sizes[sizes > 0] / max(1, sizes.sum())
    return float(-share @ np.log2(share))


def region_scores(tables: Sequence[Contingency]) -> dict[str, float]:
    """Return the scores of this module by name: see :func:`napari_unet.core.evaluation.metrics.evaluate`."""
    foreground = _overlap(tables, None)
    split, merge = np.mean([_information(t) for t in tables], axis=0)
    return {
        "iou": _iou(*foreground),
        "dice": _dice(*foreground),
        "pixel_error": _pixel_error(tables),
        "adapted_rand_error": float(np.mean([_adapted_rand(t) for t in tables])),
        "vi_split": float(split),
        "vi_merge": float(merge),
        "v_rand": float(np.mean([_v_rand(t) for t in tables])),
        "v_info": float(np.mean([_v_info(t) for t in tables])),
    }
