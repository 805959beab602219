"""Interactive cell segmentation with a U-Net.

The names below are what scripts and notebooks need, without a screen. They are loaded when they are
first used: importing this package loads neither Qt nor torch.

Examples
--------
Train on a folder of images with painted cells, and segment a stack::

    import numpy as np
    import napari_unet as nu

    images = nu.annotated_images("images", "labels")
    plan = nu.resolve(images, nu.TrainingSettings(seconds=60), start=nu.load_model("bundled"))
    for event in nu.train(plan):
        if isinstance(event, nu.Finished):
            model = event.model
    nu.save_model(model, "my_model")

    stack = nu.open_picture("stack.tif").planes
    labels = np.zeros(stack.shape, np.int32)
    for event in nu.predict(model, stack, labels):
        print(event)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .core.data.annotation import AnnotatedImage
    from .core.data.arrays import Planes
    from .core.data.rescale import at_own_size
    from .core.data.weight_map import boundary_weight_map
    from .core.errors import (
        DataError,
        DeviceError,
        EngineError,
        ModelError,
        OutOfMemoryError,
        SettingsError,
        StoreError,
        UNetError,
    )
    from .core.evaluation.metrics import average_precision, evaluate, seg_score
    from .core.events import (
        CheckpointSaved,
        Fallback,
        Finished,
        PlaneDone,
        Preview,
        PreviewRequest,
        Started,
        StepDone,
        Stopped,
        TileDone,
        Validated,
    )
    from .core.inference.predict import predict, predict_region
    from .core.instances.pipeline import labels_from_outputs
    from .core.network.model_card import Card, read_card
    from .core.network.model_io import Model, load_model, save_model, verify_model
    from .core.network.unet import UNet
    from .core.settings import NetworkSettings, PredictionSettings, TrainingSettings
    from .core.synthetic import generate, generate_stack
    from .core.training.loop import train
    from .core.training.plan import TrainingPlan, resolve
    from .stores import annotated_images, create_labels, open_labels, open_picture

_HOMES = {
    "core.data.annotation": ("AnnotatedImage",),
    "core.data.arrays": ("Planes",),
    "core.data.weight_map": ("boundary_weight_map",),
    "core.network.model_card": ("Card", "read_card"),
    "core.errors": (
        "DataError", "DeviceError", "EngineError", "ModelError", "OutOfMemoryError", "SettingsError", "StoreError",
        "UNetError",
    ),
    "core.events": (
        "Fallback", "CheckpointSaved", "Finished", "PlaneDone", "Preview", "PreviewRequest", "Started", "StepDone",
        "Stopped", "TileDone", "Validated",
    ),
    "core.instances.pipeline": ("labels_from_outputs",),
    "core.evaluation.metrics": ("average_precision", "evaluate", "seg_score"),
    "core.network.model_io": ("Model", "load_model", "save_model", "verify_model"),
    "core.training.plan": ("TrainingPlan", "resolve"),
    "core.inference.predict": ("predict", "predict_region"),
    "core.settings": ("NetworkSettings", "PredictionSettings", "TrainingSettings"),
    "core.data.rescale": ("at_own_size",),
    "core.synthetic": ("generate", "generate_stack"),
    "core.training.loop": ("train",),
    "core.network.unet": ("UNet",),
    "stores": ("annotated_images", "create_labels", "open_labels", "open_picture"),
}  # fmt: skip
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AnnotatedImage",
    "Card",
    "CheckpointSaved",
    "DataError",
    "DeviceError",
    "EngineError",
    "Fallback",
    "Finished",
    "Model",
    "ModelError",
    "NetworkSettings",
    "OutOfMemoryError",
    "PlaneDone",
    "Planes",
    "PredictionSettings",
    "Preview",
    "PreviewRequest",
    "SettingsError",
    "Started",
    "StepDone",
    "Stopped",
    "StoreError",
    "TileDone",
    "TrainingPlan",
    "TrainingSettings",
    "UNet",
    "UNetError",
    "Validated",
    "annotated_images",
    "at_own_size",
    "average_precision",
    "boundary_weight_map",
    "create_labels",
    "evaluate",
    "generate",
    "generate_stack",
    "labels_from_outputs",
    "load_model",
    "open_labels",
    "open_picture",
    "predict",
    "predict_region",
    "read_card",
    "resolve",
    "save_model",
    "seg_score",
    "train",
    "verify_model",
]


def __getattr__(name: str) -> Any:
    """Return a public name, loading its module on first use."""
    if name == "__version__":
        from importlib.metadata import version

        from .core.distribution import DISTRIBUTION

        return version(DISTRIBUTION)
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names, loaded or not."""
    return sorted({*globals(), *__all__, "__version__"})
