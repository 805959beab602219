"""The real jobs of the engine, which save a checkpoint every second."""

from napari_unet.core import training
from napari_unet.engine.jobs import KINDS, devices, warm_up

__all__ = ["KINDS", "devices", "warm_up"]
training._SAVE_EVERY = 1.0
