"""What makes a result what it is: only a job of the same may go on with what another one has begun."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from ..data.arrays import Planes
from ..distribution import DISTRIBUTION
from ..settings import PredictionSettings, to_dict
from .model_io import Model, fingerprint


def made_with(image: Planes, model: Model, settings: PredictionSettings, **more: Any) -> dict[str, Any]:
    """Return as plain data how an image is looked at, by which model, with which settings and which package.

    Parameters
    ----------
    image : Planes
        As the network is given it.
    model : Model
        With its siblings.
    settings : PredictionSettings
        All of them.
    more : plain data
        What else counts, such as the state of the image's file and which of its planes are wanted.
    """
    return {
        **more,
        "image": {"axes": image.axes, "rgb": image.rgb, "grey": image.grey},
        "model": {"name": model.card.name, "fingerprint": fingerprint(model)},
        "settings": to_dict(settings),
        "version": version(DISTRIBUTION),
    }


__all__ = ["made_with"]
