"""Small networks, pictures and annotations that the tests of the core share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from napari_unet.core.data.annotation import AnnotatedImage
from napari_unet.core.network.model_card import Card
from napari_unet.core.network.model_io import Model, new_model
from napari_unet.core.settings import NetworkSettings


@pytest.fixture
def tiny_model() -> Callable[..., Model]:
    """Return a maker of small networks whose batch statistics, if any, are not the trivial ones."""

    def make(
        *, channels: int = 1, depth: int = 2, padding: str = "same", norm: str = "batch", distance: bool = True,
        classes: tuple[str, ...] = ("background", "cell"), seed: int = 0, **card: object,
    ) -> Model:  # fmt: skip
        torch.manual_seed(seed)
        network = NetworkSettings(width=4, depth=depth, padding=padding, norm=norm, distance=distance)
        mode = "instances" if len(classes) == 2 else "classes"
        model = new_model(Card("tiny", network, channels, classes, mode, **card))  # type: ignore[arg-type]
        for module in model.network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.5, 2)
                torch.nn.init.normal_(module.weight, 1, 0.2)
                torch.nn.init.normal_(module.bias, 0, 0.2)
        return model

    return make


def discs(shape: tuple[int, int], centres: list[tuple[float, float]], radius: float) -> NDArray[np.int32]:
    """Return one label per disc; a pixel belongs to the nearest centre."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    distances = np.array([np.hypot(y - cy, x - cx) for cy, cx in centres])
    return np.where(distances.min(axis=0) <= radius, distances.argmin(axis=0) + 1, 0).astype(np.int32)


def cells_picture(seed: int = 0, side: int = 96) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Return a noisy picture of nine bright discs and their labels."""
    rng = np.random.default_rng(seed)
    step = side / 3
    centres = [(step * (i + 0.5) + rng.uniform(-4, 4), step * (j + 0.5) + rng.uniform(-4, 4))
               for i in range(3) for j in range(3)]  # fmt: skip
    labels = discs((side, side), centres, 9)
    image = 100 + 400 * (labels > 0) + rng.normal(0, 30, labels.shape)
    return image.astype(np.float32), labels


@pytest.fixture
def annotated() -> AnnotatedImage:
    """Return nine painted discs."""
    image, labels = cells_picture()
    return AnnotatedImage(image, labels)
