"""ONNX: the network alone, for any runtime; checked against torch with onnxruntime."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..core.distribution import DISTRIBUTION, install_extra
from ..core.errors import ModelError
from ..core.network.model_io import Model
from .portable import INPUT, Portable, normalised, sample

OPSET = 18
TOLERANCE = 1e-3
"""Largest difference from torch; probabilities and distances are 0 to 1."""
_NEEDED = ("onnx", "onnxruntime", "onnxscript")


def available() -> bool:
    """Return whether the libraries of the extra ``onnx`` are installed."""
    return all(importlib.util.find_spec(name) is not None for name in _NEEDED)


def export_onnx(model: Model, path: Path) -> float:
    """Write a model as ONNX, with weights inside, and return its largest difference from torch.

    Parameters
    ----------
    model : Model
        What to write.
    path : Path
        The file.

    Raises
    ------
    ModelError
        When the extra ``onnx`` is missing, or onnxruntime computes something else than torch.
    """
    if not available():
        raise ModelError(f"ONNX needs more libraries: {install_extra('onnx')}")
    portable = Portable(model)
    _write(portable, model, path)
    _describe(path, model, portable)
    return check_onnx(path, model)


def _write(portable: Portable, model: Model, path: Path) -> None:
    """Have torch write the file; batch, height and width stay free."""
    example = torch.zeros(1, model.card.channels, portable.smallest, portable.smallest + portable.stride)
    free: Any = torch.export.Dim.AUTO
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        # What it prints and warns of is about its own inside.
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            torch.onnx.export(
                portable, (example,), path, input_names=[INPUT], output_names=list(portable.outputs), dynamo=True,
                opset_version=OPSET, external_data=False, verbose=False,
                dynamic_shapes={"image": {0: free, 2: free, 3: free}},
            )  # fmt: skip
    finally:
        logger.setLevel(level)


def _describe(path: Path, model: Model, portable: Portable) -> None:
    """Write into the file what a program has to know to use it."""
    import onnx

    card = model.card
    content = onnx.load(path)
    content.doc_string = card.description or f"{card.name}, a U-Net of {DISTRIBUTION}"
    about = {
        "name": card.name,
        "classes": ", ".join(card.classes),
        "normalisation": "per channel and plane, percentile 1 to 0 and percentile 99.8 to 1, then clipped to -1 to 4",
        "sides": f"multiples of {portable.stride} px",
        "halo": f"{portable.halo} px",
        "object_diameter": f"{card.diameter:g} px" if card.diameter else "unknown",
        "napari_unet_card": card.to_json(),
    }
    onnx.helper.set_model_props(content, about)
    onnx.checker.check_model(content)
    onnx.save(content, path)


def check_onnx(path: Path, model: Model) -> float:
    """Run a file with onnxruntime on pictures of two shapes and return the largest difference from torch.

    Raises
    ------
    ModelError
        When it exceeds :data:`TOLERANCE`.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    portable, worst = Portable(model), 0.0
    picture = normalised(sample(model, portable.smallest + 2 * portable.stride))
    for given in (picture, np.ascontiguousarray(picture[..., : -portable.stride, :])):
        answers = session.run(list(portable.outputs), {INPUT: given})
        worst = max([worst, *(float(np.abs(a - b).max()) for a, b in zip(answers, portable.run(given), strict=True))])
    if not worst <= TOLERANCE:
        raise ModelError(
            f"ONNX does not compute what the model does: it is up to {worst:.3g} off, and may be {TOLERANCE:g}. Try "
            "another version of onnxruntime."
        )
    return worst
