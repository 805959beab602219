"""Which of several models a training had best start from, how near it is to what is painted, and how much of it stays.

What a few cells teach comes at the price of what they say nothing about. The mean of the weights before and after a
training keeps both (Wortsman et al., Robust fine-tuning of zero-shot models, CVPR 2022).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..inference.tiled import Predictor
from ..network.device import Compute
from ..network.model_io import Model
from .sampling import Sample
from .validation import score

NEAR = 0.5
"""F1 on the painted cells from which a start model is near: larger steps would make it forget what it knows."""
_FAR = 0.25
"""F1 up to which nothing of a start model is worth keeping."""
_AS_MUCH_AS = 10
"""Painted cells that count as much as all that a near start model has learnt before."""
_MOST_KEPT = 0.5
_ENOUGH = 100
"""Painted cells from which nothing of the start is kept: there it no longer measured better."""
_MOST_SAMPLES = 4
_CLEARLY = 0.05
"""By how much a sibling has to be better than the first model to be taken: a few cells tell no less apart."""


def interpolation_weight(nearness: float, cells: int) -> float:
    """Return the share of a start model's weights in the result of a training, the rest is what was learnt.

    Parameters
    ----------
    nearness : float
        F1 of the start model on the painted cells, before any training.
    cells : int
        How many are painted.

    Returns
    -------
    float
        From 0 to 0.5: larger of a start model that does well, and of few cells.

    Examples
    --------
    >>> [round(interpolation_weight(0.9, cells), 2) for cells in (5, 20, 100)]
    [0.5, 0.33, 0.0]
    >>> interpolation_weight(0.2, 5)
    0.0
    """
    if cells >= _ENOUGH:
        return 0.0
    near = float(np.clip((nearness - _FAR) / (NEAR - _FAR), 0, 1))
    return near * min(_MOST_KEPT, _AS_MUCH_AS / (_AS_MUCH_AS + cells))


def best_start(
    model: Model, samples: Sequence[Sample], compute: Compute, weights: NDArray[np.float32], mode: str
) -> tuple[Model, float, list[str]]:
    """Return the one of a model and its siblings that does best on painted cells before any training.

    Where none is clearly better, it is the first, which has learnt longest.

    Parameters
    ----------
    model : Model
        With its siblings, all of the same channels and trained at the same diameter.
    samples : sequence of Sample
        What is painted, at the size that all of them see it; those with most cells are measured.
    compute : Compute
        Where to measure.
    weights : NDArray of float32
        Class weights of the loss.
    mode : str
        ``"instances"``; models of cells say nothing on the classes that a user paints.

    Returns
    -------
    model : Model
        The best, without siblings.
    f1 : float
        Its F1 at IoU 0.5 on the painted cells; 0 for a model of other things or channels, 1 for one of classes.
    notes : list of str
        What the user should know of the choice.
    """
    alone = dataclasses.replace(model, siblings=())
    if model.card.mode != mode or model.card.channels != samples[0].image.shape[0]:
        return alone, 0.0, []
    if mode != "instances":
        return alone, 1.0, []
    candidates = [alone, *model.siblings]
    chosen = sorted(samples, key=lambda s: -s.cells)[:_MOST_SAMPLES]
    found = [score(Predictor.create(m.network, compute), chosen, weights, mode) for m in candidates]
    best = max(range(len(found)), key=lambda i: found[i].rank - (_CLEARLY if i else 0.0))
    name = candidates[best].card.name
    said = f"Training starts from the model {name}; no other does clearly better on the labels."
    return candidates[best], found[best].f1, [said] if len(candidates) > 1 else []
