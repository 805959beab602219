"""A very small model and a few small pictures, for tests that run the real thing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch

from napari_unet.core.network.model_card import Card
from napari_unet.core.network.model_io import new_model, save_model
from napari_unet.core.settings import NetworkSettings
from napari_unet.core.synthetic import generate


def write_model(path: Path, **card: Any) -> Path:
    """Write a model that has learned nothing, with three levels of 4 to 16 maps."""
    network = NetworkSettings(width=4, depth=2)
    torch.manual_seed(0)
    save_model(new_model(Card("tiny", network, **card)), path)
    return path


def write_pictures(folder: Path, count: int = 3, side: int = 96) -> tuple[Path, Path]:
    """Write folders of images and labels of generated nuclei and return them."""
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        image, labels = generate("nuclei", (side, side), number, diameter=16, density=0.3)
        tifffile.imwrite(folder / "images" / f"cells{number}.tif", image)
        tifffile.imwrite(folder / "labels" / f"cells{number}.tif", labels.astype(np.uint16))
    return folder / "images", folder / "labels"
