"""A bioimage.io package: described and checked by the official library, and still a model of this plugin.

The zip holds TorchScript weights (and ONNX ones where the extra ``onnx`` is installed) for other programs,
and beside them the files of a model of this package, so that it can be read back with nothing lost.
"""

from __future__ import annotations

import getpass
import importlib.util
import json
import shutil
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ..core.data.arrays import PERCENTILES, Normalisation
from ..core.distribution import DISTRIBUTION, install_extra
from ..core.errors import ModelError
from ..core.network.model_card import Card
from ..core.network.model_io import Model, load_model, verify_model
from .model_files import Details, copy_files
from .portable import DISTANCE, INPUT, PROBABILITIES, Portable, normalised, sample
from .readme import cite_paper, readme
from .to_onnx import OPSET, available, export_onnx

TORCHSCRIPT_NAME, ONNX_NAME = "weights.pt", "weights.onnx"
INPUT_TENSOR, OUTPUT_TENSOR = "bioimageio_test_image.npy", "bioimageio_test_{}.npy"
COVER_NAME, README_NAME = "cover.png", "README.md"
_COVER_SIDE = 256


def export_bioimageio(model: str | Path, path: Path, details: Details) -> tuple[float, tuple[str, ...]]:
    """Write a model as a bioimage.io package, have the official library test it, and read it back.

    Parameters
    ----------
    model : str or Path
        Folder, zip or ``"bundled"``.
    path : Path
        The zip to write.
    details : Details
        Author and licence.

    Returns
    -------
    difference : float
        Of the test output, when the package is read back as a model of this plugin.
    checked : tuple of str
        What was checked, in words.

    Raises
    ------
    ModelError
        When the extra ``bioimageio`` is missing, or the package fails a test.
    """
    if importlib.util.find_spec("bioimageio") is None or importlib.util.find_spec("bioimageio.core") is None:
        raise ModelError(f"bioimage.io packages need more libraries: {install_extra('bioimageio')}")
    folder = path.with_name("package")
    copy_files(model, folder)
    loaded = load_model(model)
    portable = Portable(loaded)
    formats = _write_weights(loaded, portable, folder)
    tensors = _write_tensors(loaded, portable, folder)
    (folder / README_NAME).write_text(readme(loaded.card, portable, PERCENTILES), encoding="utf-8")
    _write_cover(tensors, folder / COVER_NAME)
    with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        warnings.simplefilter("ignore")
        _pack(lambda: _describe(loaded.card, portable, formats, folder, details), path)
        _test(path)
    words = " and ".join({"torchscript": "TorchScript", "onnx": "ONNX"}[name] for name in formats)
    return verify_model(path), (f"tested by bioimageio.core with {words}", "read back", "its test output reproduced")


def _write_weights(model: Model, portable: Portable, folder: Path) -> tuple[str, ...]:
    """Write the weights in each format that there are libraries for, and return the formats' names."""
    example = torch.zeros(1, model.card.channels, portable.smallest, portable.smallest)
    with torch.no_grad(), warnings.catch_warnings():
        # TorchScript is no longer developed, but it is what bioimage.io's programs run.
        warnings.simplefilter("ignore")
        torch.jit.trace(portable, example).save(str(folder / TORCHSCRIPT_NAME))
    if not available():
        return ("torchscript",)
    export_onnx(model, folder / ONNX_NAME)
    return ("torchscript", "onnx")


def _write_tensors(model: Model, portable: Portable, folder: Path) -> dict[str, NDArray[np.float32]]:
    """Write a test picture and what the network makes of it, and return both."""
    picture = sample(model, portable.smallest + 3 * portable.stride)
    tensors = {INPUT: picture, **dict(zip(portable.outputs, portable.run(normalised(picture)), strict=True))}
    for name, values in tensors.items():
        np.save(folder / (INPUT_TENSOR if name == INPUT else OUTPUT_TENSOR.format(name)), values)
    return tensors


def _write_cover(tensors: dict[str, NDArray[np.float32]], path: Path) -> None:
    """Write the test picture beside the probability of not being background."""
    picture, foreground = tensors[INPUT][0, 0], 1 - tensors[PROBABILITIES][0, 0]
    grey = np.clip((picture - picture.min()) / max(float(np.ptp(picture)), 1e-6), 0, 1)
    both = np.concatenate([grey, foreground], axis=1)
    image = Image.fromarray(np.rint(255 * both).astype(np.uint8))
    image.resize((2 * _COVER_SIDE, _COVER_SIDE), Image.Resampling.BILINEAR).save(path)


def _describe(card: Card, portable: Portable, formats: Sequence[str], folder: Path, details: Details) -> Any:
    """Return the description of the package, as the library's own object."""
    from bioimageio.spec.generic.v0_3 import Author, CiteEntry
    from bioimageio.spec.model import v0_5 as spec

    inside = {INPUT_TENSOR, COVER_NAME, README_NAME, TORCHSCRIPT_NAME, ONNX_NAME}
    inside |= {OUTPUT_TENSOR.format(name) for name in portable.outputs}
    author = Author(name=(details.author or _user()).replace("/", " ").replace("\\", " "))
    return spec.ModelDescr(
        name=_name(card.name), description=(card.description or f"U-Net for {', '.join(card.classes[1:])}")[:1024],
        authors=[author], license=_licence(details.licence), cite=[CiteEntry(**cite_paper())],
        documentation=spec.FileDescr(source=folder / README_NAME), covers=[spec.FileDescr(source=folder / COVER_NAME)],
        tags=["segmentation", "unet", "2d", "cells", "instance-segmentation", DISTRIBUTION],
        inputs=[_input(card, portable, folder)],
        outputs=[_output(name, card, portable, folder) for name in portable.outputs],
        weights=_weights(formats, folder),
        attachments=[spec.FileDescr(source=p) for p in sorted(folder.iterdir()) if p.name not in inside],
        config=spec.Config.model_validate({"napari_unet": json.loads(card.to_json())}),
    )  # fmt: skip


def _input(card: Card, portable: Portable, folder: Path) -> Any:
    """Return the description of the picture and of its normalisation."""
    from bioimageio.spec.model import v0_5 as spec

    low, high = PERCENTILES
    clip_low, clip_high = Normalisation.LIMITS
    side = spec.ParameterizedSize(min=portable.smallest, step=portable.stride)
    sides = [spec.SpaceInputAxis(id=spec.AxisId(a), size=side, concatenable=True) for a in "yx"]
    over = (spec.AxisId("y"), spec.AxisId("x"))
    return spec.InputTensorDescr(
        id=spec.TensorId(INPUT),
        description="grey values of any range",
        axes=[spec.BatchAxis(), _channels([f"channel{c}" for c in range(card.channels)]), *sides],
        test_tensor=spec.FileDescr(source=folder / INPUT_TENSOR),
        data=spec.IntervalOrRatioDataDescr(type="float32"),
        preprocessing=[
            spec.ScaleRangeDescr(kwargs=spec.ScaleRangeKwargs(axes=over, min_percentile=low, max_percentile=high)),
            spec.ClipDescr(kwargs=spec.ClipKwargs(min=clip_low, max=clip_high)),
        ],
    )


def _output(name: str, card: Card, portable: Portable, folder: Path) -> Any:
    """Return the description of one output."""
    from bioimageio.spec.model import v0_5 as spec

    words = {
        PROBABILITIES: "probability of each class; the first one is the background",
        DISTANCE: "distance to the border of the cell, 1 in its middle",
    }
    sides = [
        spec.SpaceOutputAxisWithHalo(
            id=spec.AxisId(a), halo=portable.halo,
            size=spec.SizeReference(tensor_id=spec.TensorId(INPUT), axis_id=spec.AxisId(a)),
        ) for a in "yx"
    ]  # fmt: skip
    names = [_identifier(c) for c in card.classes] if name == PROBABILITIES else [DISTANCE]
    return spec.OutputTensorDescr(
        id=spec.TensorId(name),
        description=words[name],
        axes=[spec.BatchAxis(), _channels(names), *sides],
        test_tensor=spec.FileDescr(source=folder / OUTPUT_TENSOR.format(name)),
        data=spec.IntervalOrRatioDataDescr(type="float32"),
    )


def _channels(names: Sequence[str]) -> Any:
    """Return a channel axis; its names have to differ."""
    from bioimageio.spec.model import v0_5 as spec

    own = [name if names.count(name) == 1 else f"{name}_{i}" for i, name in enumerate(names)]
    return spec.ChannelAxis(channel_names=[spec.Identifier(name) for name in own])


def _weights(formats: Sequence[str], folder: Path) -> Any:
    """Return the description of the weights; ONNX ones count as made from the TorchScript ones."""
    from bioimageio.spec.model import v0_5 as spec

    version = torch.__version__.split("+")[0]
    entries: dict[str, Any] = {
        "torchscript": spec.TorchscriptWeightsDescr(
            source=folder / TORCHSCRIPT_NAME, pytorch_version=spec.Version(version)
        )
    }
    if "onnx" in formats:
        entries["onnx"] = spec.OnnxWeightsDescr(source=folder / ONNX_NAME, opset_version=OPSET, parent="torchscript")
    return spec.WeightsDescr(**entries)


def _licence(name: str) -> Any:
    """Return the licence, or raise a :class:`ModelError` that says which names there are."""
    from bioimageio.spec.generic.v0_3 import LicenseId

    try:
        return LicenseId(name)
    except ValueError as error:
        raise ModelError(
            f"{name!r} is no licence that bioimage.io knows; give an SPDX name such as CC-BY-4.0, CC0-1.0, MIT or "
            "BSD-3-Clause."
        ) from error


def _pack(describe: Callable[[], Any], path: Path) -> None:
    """Have the library write the zip; only what it accepts is written."""
    from bioimageio.spec import save_bioimageio_package

    made = path.with_name("bioimageio.zip")
    try:
        save_bioimageio_package(describe(), output_path=made)
    except ValueError as error:
        raise ModelError(f"bioimage.io does not accept the description of the model: {error}") from error
    shutil.move(made, path)


def _test(path: Path) -> None:
    """Have the library read the zip back, run every kind of weights on the test picture, and compare."""
    from bioimageio.core import test_model

    summary = test_model(path, determinism="seed_only")
    if summary.status != "passed":
        wrong = [f"{d.name}: {e.msg}" for d in summary.details for e in d.errors]
        raise ModelError(f"The bioimage.io package fails the library's own test: {'; '.join(wrong) or summary.status}")


def _user() -> str:
    """Return the name of whoever is logged in."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        # Python raises any of these where the system knows no names.
        return "unknown"


def _name(name: str) -> str:
    """Return a model name of letters that bioimage.io allows, at least five long."""
    clean = "".join(c if c.isalnum() or c in "_+- ()" else " " for c in name).strip()[:120]
    return clean if len(clean) >= 5 else f"U-Net {clean}".strip()


def _identifier(text: str) -> str:
    """Return a text as the name of a channel."""
    clean = "".join(c if c.isalnum() and c.isascii() else "_" for c in text).strip("_").lower() or "class"
    return clean if clean[0].isalpha() else f"c{clean}"
