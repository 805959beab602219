"""Generated microscopy to try the plugin on: the same pictures every time, no download."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

LayerData = tuple[Any, dict[str, Any], str]


@lru_cache(maxsize=1)
def picture(key: str) -> NDArray[np.float32]:
    """Return a sample's pixels by its key in the manifest; the last one is kept, so that a thread can make it first."""
    from ...core.synthetic import generate, generate_stack

    if key == "stack":
        return generate_stack("nuclei", (16, 256, 256), seed=2, diameter=28, density=0.25)[0]
    return generate(key, (512, 512), seed={"nuclei": 3, "phase": 1}[key])[0]


def nuclei() -> list[LayerData]:
    """Return fluorescent nuclei, 512 x 512 pixels."""
    return [(picture("nuclei").copy(), {"name": "nuclei", "axis_labels": ("y", "x")}, "image")]


def phase_contrast() -> list[LayerData]:
    """Return cells as in phase contrast, 512 x 512 pixels."""
    return [(picture("phase").copy(), {"name": "phase contrast", "axis_labels": ("y", "x")}, "image")]


def stack() -> list[LayerData]:
    """Return a stack of fluorescent nuclei, 16 planes of 256 x 256 pixels, three times as coarse in depth."""
    about = {"name": "nuclei stack", "scale": (3.0, 1.0, 1.0), "axis_labels": ("z", "y", "x")}
    return [(picture("stack").copy(), about, "image")]
