"""Weighted cross-entropy (eq. 1) and the weights of its classes (eq. 2).

Ronneberger, Fischer and Brox, MICCAI 2015, section 3.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F


def class_weights(counts: NDArray[np.integer[Any]], balance: float = 1.0) -> NDArray[np.float32]:
    """Return w_c of equation 2 from the number of known pixels of each class.

    Parameters
    ----------
    counts : NDArray of int
        Known pixels per class, (K,). Classes without any get weight 0.
    balance : float
        1 gives each class, 0 each pixel the same say; between, powers of the frequency.

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
