"""Models and painted pictures for benchmarks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_unet.core.network.model_card import BUNDLED, CARD_NAME, Card, bundled_models, model_path, read_card
from reporting import CannotMeasure

BACKGROUND = 1
"""The label that :func:`painted` gives to background."""
START = {"default": BUNDLED, "help": "bundled, or the folder or zip of a model (for trials: pretraining/model)"}
"""The option of a benchmark that starts from a model."""


def existing(model: str) -> str:
    """Return the model as ``"bundled"`` or an absolute path.

    Raises
    ------
    CannotMeasure
        When it is not there.
    """
    path = model_path(model)
    if not path.exists() or (path.is_dir() and not (path / CARD_NAME).exists()):
        raise CannotMeasure(f"there is no model {model}; give another one with --model.")
    return BUNDLED if model == BUNDLED else str(path.resolve())


def described(model: str) -> str:
    """Return name and steps of a model, or of each that ``"bundled"`` stands for."""
    names = (bundled_models() if model == BUNDLED else ()) or (model,)
    return "model " + " or ".join(_described(read_card(name)) for name in names)


def _described(card: Card) -> str:
    """Return name and steps of one model."""
    last = card.training_history[-1] if card.training_history else {}
    steps = f", {last['steps']} steps" if "steps" in last else ""
    return f"{card.name}{steps}"


def painted(truth: NDArray[np.int32], cells: int = 20) -> NDArray[np.uint16]:
    """Return what a user paints in a minute: the cells nearest to the middle, and strokes of background.

    Background is label 1, cells follow from 2.
    """
    height, width = truth.shape
    ys, xs = np.nonzero(truth)
    near = np.argsort(np.hypot(ys - height / 2, xs - width / 2), kind="stable")
    chosen = list(dict.fromkeys(truth[ys, xs][near].tolist()))[:cells]
    labels = np.zeros(truth.shape, np.uint16)
    for number, cell in enumerate(chosen, start=BACKGROUND + 1):
        labels[truth == cell] = number
    for row in np.linspace(0.3, 0.7, 5) * height:
        stroke = np.zeros(truth.shape, bool)
        stroke[int(row) : int(row) + 7, int(0.25 * width) : int(0.75 * width)] = True
        labels[stroke & (truth == 0)] = BACKGROUND
    return labels
