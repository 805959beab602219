"""The real jobs of the engine, which save a checkpoint every second."""

from napari_unet.core.training import loop
from napari_unet.engine.child.jobs import KINDS, devices, warm_up

__all__ = ["KINDS", "devices", "warm_up"]
loop._SAVE_EVERY = 1.0
