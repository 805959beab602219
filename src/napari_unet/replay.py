"""Every result can be made again: its job as plain data, and as one command line. Needs no torch."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from . import stores
from .core.arrays import ArrayLike, Planes
from .core.errors import StoreError, UNetError
from .core.settings import PredictionSettings, to_dict
from .runs import home

FORMAT = 1
ENDING = ".job.json"
LARGEST_KEPT = 8 * 10**9
"""Bytes of a picture in no file up to which a copy is kept."""
Plane = tuple[int, ...]


def pictures_folder() -> Path:
    """Return where pictures are kept that were in no file; each once, named by its content."""
    return home() / "pictures"


def segment_command(
    image: str | Path, output: str | Path, model: str, settings: PredictionSettings, *, axes: str = "",
    planes: Sequence[Plane] | None = None, chosen: Mapping[str, Any] | None = None,
) -> str:  # fmt: skip
    """Return the command line that segments a picture with these settings.

    Parameters
    ----------
    image, output : str or Path
        What to read and to write.
    model : str
        ``"bundled"`` or a path.
    settings : PredictionSettings
        How.
    axes : str
        Letters of the picture's axes, where the file does not say them.
    planes : sequence of tuple of int, optional
        Which planes; all by default.
    chosen : mapping, optional
        Settings that the model's card brings along; they are named even where they equal the default.
    """
    words = ["napari-unet", "segment", str(image), str(output), "--model", model]
    words += ["--axes", axes] if axes else []
    words += ["--planes", ",".join(":".join(map(str, plane)) for plane in planes)] if planes else []
    for field in fields(PredictionSettings):
        value = getattr(settings, field.name)
        if field.name == "what":
            # A model of classes has another default.
            words += ["--what", value]
        elif value != field.default or field.name in (chosen or {}):
            words += ["--set", f"{field.name}={str(value).lower() if isinstance(value, bool) else value}"]
    return shlex.join(words)


def segment_job(
    command: str, image: str, model: str, settings: PredictionSettings, planes: Sequence[Plane] | None, name: str
) -> dict[str, Any]:
    """Return a segmentation as plain data, with its command line.

    Parameters
    ----------
    command : str
        From :func:`segment_command`.
    image : str
        Path of the picture; empty while it is in no file.
    model : str
        ``"bundled"`` or a path.
    settings : PredictionSettings
        How.
    planes : sequence of tuple of int or None
        Which planes of the picture, in order; None for all.
    name : str
        What the picture is called.
    """
    indices = None if planes is None else [list(map(int, plane)) for plane in planes]
    return {
        "napari_unet_job": FORMAT,
        "kind": "segment",
        "created": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": command,
        "image": {"name": name, "path": image, "planes": indices},
        "model": model,
        "settings": to_dict(settings),
    }


def write_job(job: Mapping[str, Any], result: Path) -> Path:
    """Write a job beside the file of its result, and return where.

    Raises
    ------
    StoreError
        When it cannot be written.
    """
    path = result.with_name(result.name + ENDING)
    with stores.writing(path):
        partial = path.with_name(f".{path.name}.part")
        partial.write_text(json.dumps(job, indent=2) + "\n", encoding="utf-8")
        os.replace(partial, path)
    return path


def own_file(source: str | None, planes: Planes) -> Path | None:
    """Return the file that a picture was opened from, if a command would read the very same from it.

    Parameters
    ----------
    source : str or None
        Where the viewer has it from.
    planes : Planes
        The picture as it was segmented.
    """
    if not source or not Path(source).exists():
        return None
    try:
        found = stores.open_picture(source).planes
    except UNetError:
        # Opened by another reader than ours.
        return None
    found = found.as_grey() if planes.grey and not found.grey else found
    if (found.shape, found.channels) != (planes.shape, planes.channels):
        return None
    known = planes.indices()
    ends = {known[0], known[len(known) // 2], known[-1]}
    same = all(np.array_equal(_read(found, plane), _read(planes, plane), equal_nan=True) for plane in ends)
    return Path(source).absolute() if same else None


def keep_picture(planes: Planes) -> Path:
    """Write a picture to a file of its own, unless it is there already, and return the file.

    All planes are kept, because the size of cells is measured in the middle one. The file holds what the
    network reads: grey values by channel, of the picture's number type, or float32 where that does not do.

    Raises
    ------
    StoreError
        When it cannot be written, or is too large to be kept twice.
    """
    whole = planes.dtype.kind in "ui" and planes.dtype.itemsize <= 2 and not planes.grey
    dtype = planes.dtype if whole else np.dtype(np.float32)
    shape = (*planes.plane_shape, *((planes.channels,) if planes.channels > 1 else ()), planes.height, planes.width)
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if size > LARGEST_KEPT:
        raise StoreError(
            f"The picture is in no file that the command could read, and takes {size / 1e9:.0f} GB, too much to keep a "
            "copy of; save it as TIFF or OME-Zarr and open it from there."
        )
    digest = hashlib.sha256(f"{shape} {planes.plane_axes} {dtype}".encode())
    for plane in planes.indices():
        digest.update(np.ascontiguousarray(_read(planes, plane).astype(dtype)).tobytes())
    path = pictures_folder() / f"{digest.hexdigest()[:20]}.tif"
    if not path.exists():
        axes = f"{planes.plane_axes}{'c' if planes.channels > 1 else ''}yx"
        _write_picture(path, planes, shape, axes, dtype)
    return path


def _write_picture(path: Path, planes: Planes, shape: tuple[int, ...], axes: str, dtype: np.dtype[Any]) -> None:
    """Write a picture page by page."""
    import tifffile

    partial = path.with_name(f".{path.name}.part")
    pages = (page for plane in planes.indices() for page in _read(planes, plane).astype(dtype))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(
            partial, pages, shape=shape, dtype=dtype, photometric="minisblack", bigtiff=True,
            metadata={"axes": axes.upper()},
        )  # fmt: skip
        os.replace(partial, path)
    except OSError as error:
        raise StoreError(
            f"The picture cannot be kept at {path}: {error.strerror or error}. Free some space, or save the picture to "
            "a file and open it from there."
        ) from error
    finally:
        # Where not even the folder can be made, there is nothing to take away either.
        with contextlib.suppress(OSError):
            partial.unlink()


def _read(planes: Planes, plane: Plane) -> Any:
    return planes.read(plane, slice(None), slice(None))


def save_labels(path: Path, labels: ArrayLike, axes: str, job: Mapping[str, Any] | None) -> Path:
    """Write labels to ``.tif``, ``.png`` or ``.zarr``, plane by plane, with their job beside them.

    Parameters
    ----------
    path : Path
        Where; replaced when it is there.
    labels : ArrayLike
        One array axis per letter; a channel axis is one thick.
    axes : str
        Letters, y before x.
    job : mapping or None
        How they were made.

    Raises
    ------
    StoreError
        When it cannot be written.
    """
    kept = [i for i, a in enumerate(axes) if a != "c"]
    shape = tuple(int(labels.shape[i]) for i in kept)
    with stores.create_labels(path, shape, "".join(axes[i] for i in kept), labels.dtype, overwrite=True) as out:
        for plane in np.ndindex(*shape[:-2]):
            where = iter(plane)
            key = tuple(slice(None) if a in "yx" else 0 if a == "c" else next(where) for a in axes)
            out.array[(*plane, slice(None), slice(None))] = np.asarray(labels[key])
        out.save()
    if job is not None:
        write_job(job, path)
    return path
