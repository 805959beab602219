"""Weighted cross-entropy (eq. 1) and the weights of its classes (eq. 2).

Ronneberger, Fischer and Brox, MICCAI 2015, section 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ..network.unet import CLASSES, DISTANCE
from ..settings import TrainingSettings


def training_loss(outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor], settings: TrainingSettings) -> Tensor:
    """Return the loss of a batch: equation 1 plus the weighted loss of the distance output, if there is one.

    Parameters
    ----------
    outputs : mapping of str to Tensor
        The network's outputs by name, (N, K, Y, X).
    targets : mapping of str to Tensor
        ``target`` and ``weight`` of equation 1; ``distance``, and ``known`` without the border weights, (N, Y, X).
    settings : TrainingSettings
        ``mode`` and ``distance_weight`` are used.
    """
    loss = weighted_cross_entropy(outputs[CLASSES], targets["target"], targets["weight"])
    if DISTANCE in outputs and settings.mode == "instances":
        extra = distance_loss(outputs[DISTANCE][:, 0], targets["distance"], targets["known"])
        loss = loss + settings.distance_weight * extra
    return loss


def class_weights(counts: NDArray[np.integer[Any]], balance: float = 1.0) -> NDArray[np.float32]:
    """Return w_c of equation 2 from the number of known pixels of each class.

    Parameters
    ----------
    counts : NDArray of int
        Known pixels per class, (K,). Classes without any get weight 0.
    balance : float
        1 gives each class, 0 each pixel equal weight; between, powers of the frequency.

    Returns
    -------
    NDArray of float32
        One weight per class, such that the mean over all known pixels is 1.
    """
    present = counts > 0
    weights = np.zeros(len(counts))
    weights[present] = (counts[present] / counts.sum()) ** -balance
    mean = (weights * counts).sum() / max(1, counts.sum())
    return np.asarray(weights / (mean or 1), np.float32)


def weighted_cross_entropy(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Return equation 1, divided by the sum of the weights so that it does not depend on how much is known.

    Parameters
    ----------
    logits : Tensor
        (N, K, Y, X).
    target : Tensor of int
        Class per pixel, (N, Y, X).
    weight : Tensor
        w(x), (N, Y, X); 0 = unknown.
    """
    loss = F.cross_entropy(logits.float(), target.long(), reduction="none")
    return (loss * weight).sum() / weight.sum().clamp_min(1e-6)


def distance_loss(output: Tensor, distance: Tensor, weight: Tensor) -> Tensor:
    """Return the smooth L1 loss of the distance output where it is known.

    Parameters
    ----------
    output, distance : Tensor
        (N, Y, X); 1 at cell centres, 0 outside of cells.
    weight : Tensor
        (N, Y, X); 0 = unknown.
    """
    loss = F.smooth_l1_loss(output.float(), distance, reduction="none", beta=0.1)
    return (loss * weight).sum() / weight.sum().clamp_min(1e-6)
