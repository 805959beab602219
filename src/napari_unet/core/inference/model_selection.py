"""Which model fits an image, and at what size it sees the image."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass

import numpy as np

from ..data.arrays import SCALE_LIMITS, Planes
from ..data.rescale import unless_nearly_own
from ..network.device import choose
from ..network.model_card import Card
from ..network.model_io import Model
from ..settings import PredictionSettings, with_values
from .size_estimation import AS_MEASURED, Trial, measure_size, middle_plane, surer_size
from .tiled import MIRRORED, Predictor, predict_region


def prediction_scale(card: Card, settings: PredictionSettings) -> float:
    """Return the size at which the network sees the image over the image's own size; 0 has to be measured."""
    if settings.diameter and card.diameter:
        return float(np.clip(card.diameter / settings.diameter, *SCALE_LIMITS))
    return card.scale


@dataclass(frozen=True)
class SelectedModel:
    """A model, ready to run, and how it sees an image.

    Attributes
    ----------
    model : Model
        The one that fits the image.
    predictor : Predictor
        Its network where it runs.
    scale : float
        Size at which the network sees the image over the image's own size.
    note : str
        What the user should know of the choice.
    """

    model: Model
    predictor: Predictor
    scale: float
    note: str = ""

    def told(self, settings: PredictionSettings) -> str:
        """Return all that the user should know before an image is segmented with these settings."""
        return " ".join(filter(None, (self.note, tta_note(self.model.card, settings))))


def tta_note(card: Card, settings: PredictionSettings) -> str:
    """Return why this takes longer, where the model's card and not the user asked for mirrored images."""
    if not (settings.tta and card.prediction.get("tta")):
        return ""
    return (
        "Test-time augmentation (mirroring) is on, as it found the annotated cells better; it takes "
        f"{MIRRORED} times as long. Switch tta off to be faster."
    )


def choose_model(model: Model, image: Planes, settings: PredictionSettings) -> SelectedModel:
    """Return which of a model and its siblings fits an image, and at what size it sees the image.

    The middle plane is looked at. Nothing is tried where there is nothing to choose, nor of a model that is not
    sure of what it was taught on.

    Parameters
    ----------
    model : Model
        With its siblings.
    image : Planes
        What will be segmented.
    settings : PredictionSettings
        The diameter of the cells, if it is known, and where to compute.
    """
    candidates = [m for m in (model, *model.siblings) if m.card.channels == image.channels] or [model]
    compute = choose(settings.device, settings.precision)
    ready = [Predictor.create(m.network, compute, settings.tta) for m in candidates]
    known = prediction_scale(candidates[0].card, settings)
    # As the model was measured and not as the sliders stand: what the network sees must not follow them, or the same
    # picture with the same values would be segmented in two ways, by moving a slider and by a new start.
    as_measured = {**AS_MEASURED, "diameter": settings.diameter}
    plain = with_values(PredictionSettings(), {**model.card.prediction, **as_measured})
    plane = middle_plane(image.plane_shape)
    if known and len(candidates) == 1:
        return _taught(candidates[0], ready[0], known, image, plain)
    trials = [
        measure_size(functools.partial(predict_region, p), image, plane, m.card.diameter, plain)
        for m, p in zip(candidates, ready, strict=True)
    ]
    best = max(range(len(trials)), key=lambda i: t.certainty if (t := trials[i]) else -np.inf)
    trial = trials[best]
    if trial is None:
        note = "No cell was found at any size; set the typical diameter of the cells if there are some."
        return SelectedModel(candidates[0], ready[0], known or 1.0, note)
    card = candidates[best].card
    scale = unless_nearly_own(prediction_scale(card, settings) or _measured_scale(card, trial))
    said = [f"The model {card.name} fits best."] if len(candidates) > 1 else []
    if not settings.diameter:
        said.append(
            f"Cells look about {trial.diameter:.0f} px wide, so the image is seen at {scale:.2f} of its size. "
            "Set the typical diameter if that is wrong."
        )
    return SelectedModel(candidates[best], ready[best], scale, " ".join(said))


def _measured_scale(card: Card, trial: Trial) -> float:
    """Return the size over its own at which the network sees an image, from what was found in it."""
    return float(np.clip(card.diameter / trial.diameter, *SCALE_LIMITS))


def _taught(model: Model, ready: Predictor, known: float, image: Planes, plain: PredictionSettings) -> SelectedModel:
    """Return how a model that was taught on few images sees one: as those, unless it clearly is of another size."""
    card = model.card
    if plain.diameter or card.mode != "instances":
        return SelectedModel(model, ready, known)
    look = functools.partial(predict_region, dataclasses.replace(ready, tta=False))
    trial = surer_size(look, image, middle_plane(image.plane_shape), card, plain)
    if trial is None:
        return SelectedModel(model, ready, known)
    note = (
        f"Cells look about {trial.diameter:.0f} px wide here, {card.diameter / card.scale:.0f} px where the model "
        "was taught, so the image is seen at another size. Set the typical diameter if that is wrong."
    )
    return SelectedModel(model, ready, unless_nearly_own(_measured_scale(card, trial)), note)
