"""Chooses how network outputs become cells, by measuring on what was painted."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.arrays import Normalisation, Planes
from ..inference.size_estimation import WINDOW, judged
from ..inference.tiled import MIRRORED, Predictor, predict_region
from ..instances.pipeline import Outputs, foreground, labels_from_outputs
from ..network.unet import DISTANCE
from ..settings import PredictionSettings
from .sampling import Sample, Split
from .validation import known_box, match_known_at

CANDIDATES: dict[str, tuple[Any, ...]] = {
    "seed_height": (0.1, 0.2, 0.3, 0.4, 0.5),
    "min_peak": (0.0, 0.4, 0.5, 0.6, 0.7),
    "threshold": (0.4, 0.5, 0.6, 0.7),
}
"""What is tried for each setting."""
OF_DISTANCE = ("seed_height", "min_peak")
"""Settings that only a network with a distance output follows; tried together, as cells that are split more need a
higher peak."""
_ROUNDS = 2
"""Times that settings which are tried together are gone through."""
_STEP = 1 / 3
"""Part of the least gain that each of them has to bring."""
_LARGER = (2, 4, 8)
"""Times the smallest cell's area that are tried too, where specks are many."""
_IOUS = (0.5, 0.6, 0.7, 0.8)
_MOST_SAMPLES = 6
_DENSE = 0.8
_LEAST_GAIN = 0.03
"""Gain in mean AP up to which a setting stays as it is: less than that is chance."""
_FEW_CELLS = 100
"""Cells up to which that holds; of more, it is the same number of cells that has to be gained."""
_WORTH_ITS_TIME = 0.01
"""Gain in mean AP for which segmenting may take four times as long; what was learnt already gains less than others."""
_CHEAP = 1 / math.sqrt(MIRRORED)
"""Size up to which any gain will do: so reduced, all mirrored images together have no more pixels than the image."""


Measured = tuple[Outputs, NDArray[np.int32], NDArray[np.bool_]]
"""Outputs, true instances and known mask of one region."""


def tune(
    predictor: Predictor, split: Split, base: PredictionSettings, scale: float, seconds: float = 0.0
) -> dict[str, Any]:
    """Return the prediction settings that separate the annotated cells best.

    Parameters
    ----------
    predictor : Predictor
        The trained network.
    split : Split
        Measured on both parts: one plane alone, though kept apart, chose settings that were worse on
        others. Sparsely painted samples are left out.
    base : PredictionSettings
        What to start from; ``smallest`` in pixels of the image's own size.
    scale : float
        Size at which the samples are seen over the image's own size.
    seconds : float
        How long it may take to find out whether averaging over mirrored images is worth its time; with too few
        it is not tried.

    Returns
    -------
    dict
        ``smallest``, and each other setting that measured clearly better than ``base``; ``mirror`` also for any
        gain where it costs little.
    """
    chosen: dict[str, Any] = {"smallest": base.smallest}
    samples = _samples(split)
    if not samples:
        return chosen
    begin = time.perf_counter()
    measured = [_outputs(predictor, sample) for sample in samples]
    each = (time.perf_counter() - begin) / len(samples)
    settings = dataclasses.replace(base, smallest=round(base.smallest * scale**2))
    best, gain = mean_ap(measured, settings), _least_gain(measured)
    for names in (OF_DISTANCE, ("threshold",)) if DISTANCE in predictor.network.outputs else (("threshold",),):
        better, found = _better(measured, settings, names, best, gain * _STEP)
        if found > best + gain:
            best, settings = found, dataclasses.replace(settings, **better)
            chosen.update(better)
    for factor in _LARGER:
        value = mean_ap(measured, dataclasses.replace(settings, smallest=round(base.smallest * factor * scale**2)))
        if value > best + gain:
            best, chosen["smallest"] = value, base.smallest * factor
            settings = dataclasses.replace(settings, smallest=round(base.smallest * factor * scale**2))
    affordable = int(min(len(samples), seconds / max(MIRRORED * each, 1e-6)))
    if affordable and _tta_pays(predictor, samples[:affordable], measured[:affordable], settings, scale):
        chosen["tta"] = True
    elif base.tta:
        # A start model for which it paid says nothing of this one.
        chosen["tta"] = False
    return chosen


def _better(
    measured: Sequence[Measured], settings: PredictionSettings, names: Sequence[str], best: float, step: float
) -> tuple[dict[str, Any], float]:
    """Return other values of some settings, each better by a step than those before, and the mean AP with them."""
    better: dict[str, Any] = {}
    for _ in range(_ROUNDS if len(names) > 1 else 1):
        before = dict(better)
        for name in names:
            now = dataclasses.replace(settings, **better)
            tried = {v: mean_ap(measured, dataclasses.replace(now, **{name: v})) for v in CANDIDATES[name]}
            value = max(tried, key=lambda v: tried[v])
            if tried[value] > best + step:
                best, better[name] = tried[value], value
        if better == before:
            break
    return better, best


def _least_gain(measured: Sequence[Measured]) -> float:
    """Return the gain in mean AP above which another value is taken."""
    return max(_one_cell(measured), _LEAST_GAIN * min(1.0, _FEW_CELLS * _one_cell(measured)))


def _one_cell(measured: Sequence[Measured]) -> float:
    """Return what one of the known cells, found at every IoU, adds to the mean AP: as much may be chance."""
    cells = sum(int((np.unique(truth[mask]) > 0).sum()) for _, truth, mask in measured)
    return 1 / max(1, cells)


def _tta_pays(
    predictor: Predictor,
    samples: Sequence[Sample],
    measured: Sequence[Measured],
    settings: PredictionSettings,
    scale: float,
) -> bool:
    """Return whether the average over mirrored images is better than the image alone, and clearly so if that costs."""
    averaging = dataclasses.replace(predictor, tta=True)
    mirrored = mean_ap([_outputs(averaging, sample) for sample in samples], settings)
    needed = 0.0 if scale <= _CHEAP else max(_one_cell(measured), _WORTH_ITS_TIME)
    return mirrored > mean_ap(measured, settings) + needed


def certainty_of(predictor: Predictor, split: Split, diameter: float, settings: PredictionSettings) -> float:
    """Return how sure a trained network is of the cells that it was shown, where it is surest; 0 without any.

    The surest sample counts: others may hold cells of another size than the typical one.

    Parameters
    ----------
    predictor : Predictor
        The trained network.
    split : Split
        What was painted; looked at in the middle of what is known of a few samples.
    diameter : float
        Of the cells, in pixels that the network sees.
    settings : PredictionSettings
        How outputs become cells.
    """
    found = []
    for sample in sorted((*split.train, *split.validation), key=lambda s: -s.cells)[:_MOST_SAMPLES]:
        y0, y1, x0, x1 = known_box(sample)
        outputs = _predicted(predictor, sample, (*_middle(y0, y1), *_middle(x0, x1)))
        labels = labels_from_outputs(outputs, settings)
        if labels.any():
            found.append(judged(foreground(outputs), labels, 1.0, diameter).certainty)
    return round(max(found), 3) if found else 0.0


def _middle(start: int, stop: int) -> tuple[int, int]:
    """Return the bounds of the middle of an axis, of as much as is looked at in other images too."""
    cut = max(0, stop - start - WINDOW)
    return start + cut // 2, stop - (cut - cut // 2)


def mean_ap(measured: Sequence[Measured], settings: PredictionSettings) -> float:
    """Return the AP over all regions together, averaged over IoU 0.5 to 0.8, where only part is known."""
    counts = sum(match_known_at(truth, labels_from_outputs(o, settings), mask, _IOUS) for o, truth, mask in measured)
    counts = np.asarray(counts)
    return float((counts[:, 0] / np.maximum(1, counts.sum(axis=1))).mean())


def _samples(split: Split) -> list[Sample]:
    """Return the samples to measure on: those kept apart first, then those learnt from, with most cells first."""
    by_cells = [s for part in (split.validation, split.train) for s in sorted(part, key=lambda s: -s.cells)]
    return [s for s in by_cells if s.cells and _is_dense(s)][:_MOST_SAMPLES]


def _is_dense(sample: Sample) -> bool:
    """Return whether nearly all of the region to measure on is known.

    Where neighbours are unknown, a cell joined to one costs nothing, and the choice would favour joining.
    """
    y0, y1, x0, x1 = known_box(sample)
    return float(sample.known.mask[y0:y1, x0:x1].mean()) > _DENSE


def _outputs(predictor: Predictor, sample: Sample) -> Measured:
    """Return outputs, truth and mask of a sample's known region."""
    y0, y1, x0, x1 = box = known_box(sample)
    return _predicted(predictor, sample, box), sample.known.instances[y0:y1, x0:x1], sample.known.mask[y0:y1, x0:x1]


def _predicted(predictor: Predictor, sample: Sample, box: tuple[int, int, int, int]) -> Outputs:
    """Return the outputs for a box of a sample, whose grey values are normalised already."""
    channels = sample.image.shape[0]
    identity = Normalisation((0.0,) * channels, (1.0,) * channels)
    return predict_region(predictor, Planes(sample.image, "cyx"), (), box, identity)
