"""What the docks ask of the engine, and how that is said as plain data."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...core.data.annotation import AnnotatedImage, Box
from ...core.data.arrays import ArrayLike, Planes
from ...core.network.model_card import BUNDLED, is_bundled
from ...core.settings import LinkSettings, NetworkSettings, PredictionSettings, TrainingSettings, to_dict
from ...records.runs import SCRATCH


@dataclass(frozen=True)
class TrainRequest:
    """What to train.

    Attributes
    ----------
    images : tuple of AnnotatedImage
        Pictures and what was painted on them.
    settings, network
        How to train; the network's settings count only from scratch.
    start : str
        ``"bundled"``, ``"scratch"`` or the path of a model.
    name : str
        Name of the new model.
    resume : str
        Run folder of the training that this one goes on with; ``start`` is then its model.
    """

    images: tuple[AnnotatedImage, ...]
    settings: TrainingSettings = dataclasses.field(default_factory=TrainingSettings)
    network: NetworkSettings = dataclasses.field(default_factory=NetworkSettings)
    start: str = BUNDLED
    name: str = "model"
    resume: str = ""


@dataclass(frozen=True)
class Output:
    """Where a result grows on disk.

    Attributes
    ----------
    folder : str
        Is made when it is not there.
    name : str
        Of the ``.zarr``, without the ending; a number is added where it is taken.
    spacing : mapping
        Size of a pixel and its unit by axis letter, for the metadata.
    """

    folder: str
    name: str
    spacing: Mapping[str, tuple[float, str]] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class FileRequest:
    """A file to segment into another file.

    Attributes
    ----------
    source, output : str
        Paths.
    model : str
        ``"bundled"`` or the path of a model.
    settings : PredictionSettings
        How.
    axes : str
        Letters of the file's axes, where it does not say them.
    overwrite : bool
        Whether a result that is there may be replaced.
    """

    source: str
    output: str
    model: str = BUNDLED
    settings: PredictionSettings = dataclasses.field(default_factory=PredictionSettings)
    axes: str = ""
    overwrite: bool = False

    def payload(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {**dataclasses.asdict(self), "model": full_path(self.model), "settings": to_dict(self.settings)}


@dataclass(frozen=True)
class LinkRequest:
    """Labels of a stack to link.

    Attributes
    ----------
    labels : ArrayLike
        Read lazily, from a thread.
    axes : str
        Its axis letters; a channel axis is one thick.
    settings : LinkSettings
        Along which axis, and how.
    output : Output, optional
        Where on disk the result grows; by default it comes back plane by plane.
    """

    labels: ArrayLike
    axes: str
    settings: LinkSettings
    output: Output | None = None

    def payload(self) -> dict[str, Any]:
        """Return it as plain data, all but the labels."""
        return {
            "labels": about_array(self.labels, self.axes),
            "settings": to_dict(self.settings),
            **({"output": dataclasses.asdict(self.output)} if self.output is not None else {}),
        }


@dataclass(frozen=True)
class SegmentRequest:
    """What to segment.

    Attributes
    ----------
    image : Planes
        Image of any size; its arrays are read lazily, from a thread.
    model : str
        ``"bundled"`` or the path of a model.
    settings : PredictionSettings
        How.
    planes : tuple of tuple of int, optional
        Indices into the leading axes, in the order to be computed; None means all.
    output : Output, optional
        Where on disk the result grows; by default it comes back plane by plane.
    files : tuple of str
        By array of the image: the file that holds the same, if it is known; read by the engine itself then.
    look : tuple, optional
        The plane and the part of it, y0, y1, x0, x1, that the user looks at.
    """

    image: Planes
    model: str = BUNDLED
    settings: PredictionSettings = dataclasses.field(default_factory=PredictionSettings)
    planes: tuple[tuple[int, ...], ...] | None = None
    output: Output | None = None
    files: tuple[str, ...] = ()
    look: tuple[tuple[int, ...], Box] | None = None


def train_payload(folder: Path, request: TrainRequest) -> dict[str, Any]:
    """Return a training, whose run folder is written, as plain data."""
    start = request.start if request.start == SCRATCH else full_path(request.start)
    return {"folder": str(folder), "start": start, "resume": full_path(request.resume) if request.resume else ""}


def read_paths(payload: Mapping[str, Any]) -> list[str]:
    """Return the files and folders that a job reads, and that another computer may therefore see."""
    named = [payload.get(name) or SCRATCH for name in ("model", "start", "resume", "source")]
    return [path for path in named if path != SCRATCH and not is_bundled(path)]


def segment_payload(request: SegmentRequest) -> dict[str, Any]:
    """Return a segmentation as plain data."""
    image = request.image
    large = request.output is not None
    files = itertools.chain(request.files, itertools.repeat(""))
    arrays = [
        {**about_array(array, image.axes), "file": file, "large": large}
        for array, file in zip(image.arrays, files, strict=False)
    ]
    planes = None if request.planes is None else [list(map(int, plane)) for plane in request.planes]
    return {
        "image": {"arrays": arrays, "axes": image.axes, "rgb": image.rgb, "grey": image.grey},
        "model": full_path(request.model),
        "settings": to_dict(request.settings),
        "planes": planes,
        **({"output": dataclasses.asdict(request.output)} if request.output is not None else {}),
        **({"view": look_payload(*request.look)} if request.look is not None else {}),
    }


def about_array(array: ArrayLike, axes: str) -> dict[str, Any]:
    """Return what the engine has to know of an array before it reads any of it."""
    return {"shape": list(map(int, array.shape)), "dtype": np.dtype(array.dtype).str, "axes": axes}


def full_path(model: str) -> str:
    """Return the full path of a model; a bundled one has none."""
    return model if is_bundled(model) else str(Path(model).expanduser().absolute())


def look_payload(plane: tuple[int, ...], box: Box) -> dict[str, Any]:
    """Return where the user looks as plain data."""
    return {"plane": list(map(int, plane)), "box": list(map(int, box))}
