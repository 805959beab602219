"""Every result can be made again: its job as plain data, and as one command line. Needs no torch."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import stores
from ..core.data.arrays import ArrayLike, PlaneIndex, Planes
from ..core.errors import StoreError, UNetError
from ..core.settings import PredictionSettings, to_dict
from .runs import home
from .shell_words import as_typed

FORMAT = 2
ENDING = ".job.json"
LARGEST_KEPT = 8 * 10**9
"""Bytes of a picture in no file up to which a copy is kept."""
LARGEST_READ = 64_000_000
"""Pixels of a plane up to which it is copied as a whole."""
_LARGEST_COMPARED = 4_000_000
_PLACE = 256


def pictures_folder() -> Path:
    """Return where pictures are kept that were in no file; each once, named by its content."""
    return home() / "pictures"


def segment_command(
    image: str | Path, output: str | Path, model: str, settings: PredictionSettings, *, axes: str = "",
    planes: Sequence[PlaneIndex] | None = None, chosen: Mapping[str, Any] | None = None, sparse: bool = False,
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
    sparse : bool
        Whether chunks that the picture lacks are empty on purpose.
    """
    words = ["napari-unet", "segment", str(image), str(output), "--model", model]
    words += ["--axes", axes] if axes else []
    words += ["--planes", ",".join(":".join(map(str, plane)) for plane in planes)] if planes else []
    words += ["--sparse"] if sparse else []
    for field in fields(PredictionSettings):
        value = getattr(settings, field.name)
        if field.name == "what":
            # A model of classes has another default.
            words += ["--what", value]
        elif value != field.default or field.name in (chosen or {}):
            words += ["--set", f"{field.name}={str(value).lower() if isinstance(value, bool) else value}"]
    return as_typed(words)


def segment_job(
    command: str, image: str, model: str, settings: PredictionSettings, planes: Sequence[PlaneIndex] | None, name: str,
    sparse: bool = False,
) -> dict[str, Any]:  # fmt: skip
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
    sparse : bool
        Whether chunks that the picture lacks are empty on purpose.
    """
    indices = None if planes is None else [list(map(int, plane)) for plane in planes]
    return {
        "napari_unet_job": FORMAT,
        "kind": "segment",
        "created": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": command,
        "image": {"name": name, "path": image, "planes": indices, "sparse": sparse},
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


def made_from(result: Path) -> dict[str, Any] | None:
    """Return what the job beside a result says that it was made from; None where it says nothing."""
    try:
        job = json.loads(result.with_name(result.name + ENDING).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    known = isinstance(job, dict) and job.get("napari_unet_job") == FORMAT
    found = job.get("made_from") if known else None
    return found if isinstance(found, dict) else None


def lacks_chunks(picture: Path) -> bool:
    """Return whether a picture is a store without some of its chunks, which are read as empty."""
    try:
        stores.open_picture(picture, complete=True)
    except UNetError:
        try:
            stores.open_picture(picture)
        except UNetError:
            return False
        return True
    return False


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
    parts = _parts(planes.height, planes.width)
    same = all(
        np.array_equal(found.read(plane, *part), planes.read(plane, *part), equal_nan=True)
        for plane in ends for part in parts
    )  # fmt: skip
    return Path(source).absolute() if same else None


def _strips(height: int, width: int) -> list[slice]:
    """Return the rows of a plane in strips of a bounded number of pixels."""
    step = max(1024, LARGEST_READ // width // 1024 * 1024)
    return [slice(y, min(y + step, height)) for y in range(0, height, step)]


def _parts(height: int, width: int) -> list[tuple[slice, slice]]:
    """Return what of a plane is compared: all of it, or a few places where that is too much to read."""
    if height * width <= _LARGEST_COMPARED:
        return [(slice(None), slice(None))]
    starts = [(int(share * (height - _PLACE)), int(share * (width - _PLACE))) for share in (0.0, 0.3, 0.5, 0.7, 1.0)]
    return [(slice(y, y + _PLACE), slice(x, x + _PLACE)) for y, x in starts]


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
    if size > LARGEST_KEPT or planes.height * planes.width > LARGEST_READ:
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


def _read(planes: Planes, plane: PlaneIndex) -> Any:
    return planes.read(plane, slice(None), slice(None))


def pictures_in(folder: Path) -> list[Path]:
    """Return the pictures of a folder in natural order, see :func:`~napari_unet.stores.list_pictures`."""
    return stores.list_pictures(folder)


def stem_of(path: Path) -> str:
    """Return a file name without its endings, which is what its result is called."""
    return stores.stem(path)


def axes_in_file(path: Path, shape: tuple[int, ...]) -> str:
    """Return what a file says of the axes of an array that was opened from it, one letter each, ``?`` where nothing.

    Nothing at all where the file cannot be read or holds an array of another shape; axes of size 1 may be missing.
    """
    try:
        _, stored = stores.open_array(path)
    except UNetError:
        # Opened by another reader than ours.
        return ""
    kept = [(a, n) for a, n in zip(stored.letters, stored.shape, strict=True) if not (stored.rgb and a == "s")]
    for found in (kept, [(a, n) for a, n in kept if n > 1]):
        if tuple(n for _, n in found) == shape:
            return "".join("c" if a == "s" else a for a, _ in found)
    return ""


@dataclass(frozen=True)
class SavedLabels:
    """Labels in a file.

    Attributes
    ----------
    axes : str
        One letter per axis.
    values : NDArray or None
        The labels; None where they are in a Zarr, which is not read at once.
    is_image : bool
        Whether they are probabilities rather than labels.
    """

    axes: str
    values: NDArray[Any] | None
    is_image: bool


def read_labels(path: Path) -> SavedLabels:
    """Return labels that were written by :func:`save_labels` or the command line.

    Raises
    ------
    StoreError
        When they cannot be read.
    """
    array, stored = stores.open_array(path, indices=True)
    axes = stored.letters.replace("?", "p")
    values = None if path.suffix.lower() == ".zarr" else np.asarray(array[...])
    return SavedLabels(axes, values, np.dtype(array.dtype).kind == "f")


def save_labels(
    path: Path, labels: ArrayLike, axes: str, job: Mapping[str, Any] | None, spacing: stores.Spacing | None = None
) -> Path:
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
    spacing : mapping, optional
        Size and unit of a pixel by axis letter; kept by Zarr.

    Raises
    ------
    StoreError
        When it cannot be written.
    """
    kept = [i for i, a in enumerate(axes) if a != "c"]
    shape = tuple(int(labels.shape[i]) for i in kept)
    letters = "".join(axes[i] for i in kept)
    with stores.create_labels(path, shape, letters, labels.dtype, overwrite=True, spacing=spacing) as out:
        for plane, rows in itertools.product(np.ndindex(*shape[:-2]), _strips(*shape[-2:])):
            where = iter(plane)
            key = tuple(rows if a == "y" else slice(None) if a == "x" else 0 if a == "c" else next(where) for a in axes)
            out.array[(*plane, rows, slice(None))] = np.asarray(labels[key])
        out.save()
    if job is not None:
        write_job(job, path)
    return path
