"""Which of several models a training had best start from, measured on what is painted."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .device import Compute
from .package import Model
from .patches import Sample
from .predictor import Predictor
from .validation import score

_MOST_SAMPLES = 4


def best_start(
    model: Model, samples: Sequence[Sample], compute: Compute, weights: NDArray[np.float32], mode: str
) -> Model:
    """Return the one of a model and its siblings that does best on painted cells before any training.

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
    """
    alone = dataclasses.replace(model, siblings=())
    candidates = [alone, *model.siblings]
    fits = model.card.channels == samples[0].image.shape[0]
    if len(candidates) == 1 or mode != "instances" or not fits:
        return alone
    chosen = sorted(samples, key=lambda s: -s.cells)[:_MOST_SAMPLES]
    ranks = [score(Predictor.create(m.network, compute), chosen, weights, mode).rank for m in candidates]
    return candidates[int(np.argmax(ranks))]
