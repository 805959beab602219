"""What can be done with saved models: rename, duplicate, put into the trash and back, picture, facts. No torch."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core.errors import ModelError, StoreError
from ...core.network.model_card import CARD_NAME, THUMBNAIL_NAME, Card, is_bundled, model_path, read_card, read_file
from ...records.runs import HOME_VARIABLE, JOB_NAME, home
from ..settings.preferences import current

TRASH_NAME = ".trash"
THUMBNAIL_SIDE = 64
_OUTLINE = (240, 150, 20)
_KINDS = {"nuclei": "nuclei", "transmitted": "phase"}
"""What is generated for the picture of a bundled model."""
_STAMP = "%Y%m%d-%H%M%S-%f"


@dataclass(frozen=True)
class Trashed:
    """A model in the trash: its name, where it lies, and when it was put there."""

    name: str
    path: Path
    when: datetime


def models_folder() -> Path:
    """Return the folder of the saved models: the preferred one, unless the environment names another home."""
    preferred = current().models_folder
    if preferred and not os.environ.get(HOME_VARIABLE):
        return Path(preferred).expanduser()
    return home() / "models"


def file_name(name: str) -> str:
    """Return a name that every file system takes."""
    clean = re.sub(r'[<>:"/\\|?*\x00-\x1f]+', "_", name).strip(" .")
    if not clean:
        raise ModelError("The model has no name yet; type one beside Save.")
    return clean


def trash_folder() -> Path:
    """Return the folder of deleted models; nothing empties it but the user."""
    return models_folder() / TRASH_NAME


def is_saved(model: str) -> bool:
    """Return whether a model lies in the models folder, where it may be renamed and deleted."""
    return not is_bundled(model) and Path(model).parent == models_folder()


def size_of(model: str) -> int:
    """Return the bytes that a model takes on disk."""
    path = model_path(model)
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file()) if path.is_dir() else path.stat().st_size


def free_name(name: str) -> str:
    """Return the name, with a number if it is taken."""
    clean, number = file_name(name), 1
    while _taken(clean if number == 1 else f"{clean} {number}"):
        number += 1
    return clean if number == 1 else f"{clean} {number}"


def _taken(name: str) -> bool:
    """Return whether a model has this name, as a folder or a zip."""
    return (models_folder() / name).exists() or (models_folder() / f"{name}.zip").exists()


@contextlib.contextmanager
def _readable(what: str) -> Iterator[None]:
    """Turn what the disk says into a :class:`StoreError`."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"{what}: {error.strerror or error}.") from error


def rename_model(model: str, name: str) -> str:
    """Give a saved model another name, on disk and in its card, and return its new path.

    Raises
    ------
    ModelError
        For an empty name, or one that is taken.
    StoreError
        When the folder cannot be written.
    """
    old, clean = Path(model), file_name(name)
    if clean == name_of(old):
        return model
    if _taken(clean):
        raise ModelError(f"There is a model named {clean} already; choose another name.")
    new = old.with_name(clean + (old.suffix if old.is_file() else ""))
    with _readable(f"{old.name} cannot be renamed to {clean}"):
        if old.is_dir():
            _write_name(old, clean)
        old.rename(new)
    return str(new)


def _write_name(folder: Path, name: str) -> None:
    """Write a name into the card of a model folder; everything else in it stays."""
    card = dataclasses.replace(read_card(folder), name=name)
    partial = folder / f".{CARD_NAME}.part"
    partial.write_text(card.to_json(), encoding="utf-8")
    partial.replace(folder / CARD_NAME)


def duplicate_model(model: str) -> str:
    """Copy any model into the models folder under a free name, and return the copy's path.

    Raises
    ------
    StoreError
        When the folder cannot be written.
    """
    source = model_path(model)
    name = free_name(f"{name_of(source) if is_saved(model) else read_card(model).name or source.stem} copy")
    target = models_folder() / (name + (source.suffix if source.is_file() else ""))
    partial = target.with_name(f".{target.name}.part")
    with _readable(f"{source.name} cannot be copied"):
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
            shutil.copytree(source, partial)
            _write_name(partial, name)
            write_thumbnail(model, partial)
        else:
            shutil.copyfile(source, partial)
        partial.rename(target)
    return str(target)


def delete_model(model: str) -> Trashed:
    """Put a saved model into the trash.

    Raises
    ------
    ModelError
        For a model that is not saved, such as the bundled one.
    StoreError
        When it cannot be moved.
    """
    path, now = Path(model), datetime.now()
    if not is_saved(model):
        raise ModelError("Only saved models can be deleted; this one is part of the program or of a training.")
    target = trash_folder() / f"{now.strftime(_STAMP)}-{path.name}"
    with _readable(f"{path.name} cannot be put into the trash"):
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    return Trashed(name_of(path), target, now)


def trashed_models() -> list[Trashed]:
    """Return what is in the trash, the last deleted first."""
    if not trash_folder().is_dir():
        return []
    found = []
    for path in trash_folder().iterdir():
        match = re.match(r"(\d{8}-\d{6}-\d{6})-(.+)", path.name)
        if match:
            name = match[2].removesuffix(".zip") if path.is_file() else match[2]
            found.append(Trashed(name, path, datetime.strptime(match[1], _STAMP)))
    return sorted(found, key=lambda item: item.when, reverse=True)


def restore_model(item: Trashed) -> str:
    """Take a model out of the trash, under its old name or the next free one, and return its path.

    Raises
    ------
    StoreError
        When it cannot be moved, or is no longer there.
    """
    target = models_folder() / (free_name(item.name) + (".zip" if item.path.is_file() else ""))
    with _readable(f"{item.name} cannot be restored"):
        item.path.rename(target)
    return str(target)


def name_of(path: Path) -> str:
    """Return the name of a model folder or zip."""
    return path.stem if path.suffix == ".zip" else path.name


# --- pictures ------------------------------------------------------------------------------------


def thumbnail(model: str) -> NDArray[np.uint8] | None:
    """Return a small picture of what a model was made for, (side, side, 3), or None when it has none.

    The part of its training pictures with most cells, if it knows them; else its test picture with what it
    finds there.
    """
    try:
        if is_bundled(model):
            return _from_kind(model.partition(":")[2])
        path = model_path(model)
        kept = _kept_picture(path)
        if kept is not None:
            return kept
        own = from_run(path)
        return own if own is not None else _from_test(path, read_card(model))
    except Exception:
        # Damaged pictures raise nearly anything; a damaged model says so in words, and needs no picture.
        return None


def _from_kind(kind: str) -> NDArray[np.uint8]:
    """Return generated cells such as a bundled model has seen among others, outlined."""
    from ...core.synthetic import generate

    image, labels = generate(_KINDS.get(kind, "nuclei"), (128, 128), 3, diameter=26)
    return compose(image, labels, (64, 64))


def _kept_picture(path: Path) -> NDArray[np.uint8] | None:
    """Return the picture that a model folder or zip holds as RGB, or None."""
    from PIL import Image

    try:
        file = io.BytesIO(read_file(path, THUMBNAIL_NAME))
    except ModelError:
        return None
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"))


def from_run(path: Path) -> NDArray[np.uint8] | None:
    """Return the picture of a model that still lies in the folder of its training, or None."""
    import tifffile

    run = _run_of(path)
    if run is None:
        return None
    job = json.loads((run / JOB_NAME).read_text(encoding="utf-8"))
    stems = [entry["stem"] for entry in job["images"]]
    if not stems:
        return None
    image = np.asarray(tifffile.imread(run / "images" / f"{stems[0]}.tif"))
    labels = np.asarray(tifffile.imread(run / "labels" / f"{stems[0]}.tif"))
    # Painted background has no outline: it would look like cells in the shape of strokes.
    labels = np.where(labels == job["settings"]["background_label"], 0, labels)
    return compose(image if image.ndim == 2 else image[0], labels, _most_painted(labels))


def _run_of(model: Path) -> Path | None:
    """Return the folder of the training that a model still lies in, or None."""
    return next((parent for parent in (model.parent, model.parent.parent) if (parent / JOB_NAME).is_file()), None)


def write_thumbnail(model: str, folder: Path) -> None:
    """Keep the picture of a just trained or bundled model with its copy, which by itself could not make it again."""
    from PIL import Image

    picture = thumbnail(model) if is_bundled(model) or _run_of(Path(model)) is not None else None
    if picture is not None:
        Image.fromarray(picture).save(folder / THUMBNAIL_NAME)


def _from_test(path: Path, card: Card) -> NDArray[np.uint8]:
    """Return the middle of the test picture, and outlines of what the model finds in it."""
    given = np.load(io.BytesIO(read_file(path, "test_input.npy")), allow_pickle=False)[0, 0].astype(np.float32)
    found = np.load(io.BytesIO(read_file(path, "test_output.npy")), allow_pickle=False)[0]
    classes = found[: len(card.classes)].argmax(axis=0)
    labels = np.zeros(given.shape, np.int32)
    top, left = ((a - b) // 2 for a, b in zip(given.shape, classes.shape, strict=True))
    labels[top : top + classes.shape[0], left : left + classes.shape[1]] = classes
    middle = given.shape[0] // 2, given.shape[1] // 2
    return compose(given, labels, middle)


def _most_painted(labels: NDArray[Any]) -> tuple[int, int]:
    """Return the middle of the paint."""
    ys, xs = np.nonzero(labels)
    return (int(np.median(ys)), int(np.median(xs))) if len(ys) else (labels.shape[0] // 2, labels.shape[1] // 2)


def compose(image: NDArray[Any], labels: NDArray[Any], middle: tuple[int, int], span: int = 128) -> NDArray[np.uint8]:
    """Return a square part of a picture with outlines of its labels, :data:`THUMBNAIL_SIDE` pixels wide."""
    span = min(span, *image.shape)
    y, x = (int(np.clip(m - span // 2, 0, n - span)) for m, n in zip(middle, image.shape, strict=True))
    grey = np.nan_to_num(image[y : y + span, x : x + span].astype(np.float64))
    low, high = np.percentile(grey, (1, 99.5))
    grey = np.clip((grey - low) / max(high - low, 1e-9), 0, 1)
    nearest = (np.arange(THUMBNAIL_SIDE) * span // THUMBNAIL_SIDE).astype(int)
    small = np.rint(255 * grey[np.ix_(nearest, nearest)]).astype(np.uint8)
    ids = labels[y : y + span, x : x + span][np.ix_(nearest, nearest)]
    edge = np.zeros(ids.shape, bool)
    edge[:-1] |= ids[:-1] != ids[1:]
    edge[:, :-1] |= ids[:, :-1] != ids[:, 1:]
    picture = np.stack([small] * 3, axis=-1)
    picture[edge] = _OUTLINE
    return picture
