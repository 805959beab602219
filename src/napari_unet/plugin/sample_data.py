"""Generated microscopy to try the plugin on: the same pictures every time, no download."""

from __future__ import annotations

from typing import Any

LayerData = tuple[Any, dict[str, Any], str]


def nuclei() -> list[LayerData]:
    """Return fluorescent nuclei, 512 x 512 pixels."""
    from ..core.synthetic import generate

    image, _ = generate("nuclei", (512, 512), seed=3)
    return [(image, {"name": "nuclei", "axis_labels": ("y", "x")}, "image")]


def phase_contrast() -> list[LayerData]:
    """Return cells as in phase contrast, 512 x 512 pixels."""
    from ..core.synthetic import generate

    image, _ = generate("phase", (512, 512), seed=1)
    return [(image, {"name": "phase contrast", "axis_labels": ("y", "x")}, "image")]


def stack() -> list[LayerData]:
    """Return a stack of fluorescent nuclei, 16 planes of 256 x 256 pixels, three times as coarse in depth."""
    from ..core.synthetic import generate_stack

    image, _ = generate_stack("nuclei", (16, 256, 256), seed=2, diameter=28, density=0.25)
    about = {"name": "nuclei stack", "scale": (3.0, 1.0, 1.0), "axis_labels": ("z", "y", "x")}
    return [(image, about, "image")]
