"""Where work lives on disk: one run, one folder.

::

    <home>/runs/20250131-140502-nuclei/
      job.json         what was asked for, and the same as one command line
      images/          the pictures it learns from, as TIFF
      labels/          what was painted on them, under the same names
      events.jsonl     everything the training said, arrays left out
      checkpoints/     written by the training
      model/           the trained model

So painted annotations are on disk at every click on Train. Needs no torch.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core import events, settings
from ..core.data.annotation import AnnotatedImage
from ..core.distribution import DISTRIBUTION
from ..core.errors import SettingsError, StoreError
from ..core.network.model_card import BUNDLED, CARD_NAME, is_bundled
from ..core.settings import NetworkSettings, TrainingSettings
from .shell_words import as_typed

HOME_VARIABLE = "NAPARI_UNET_HOME"
"""Environment variable that names another folder than the user's data folder."""

SCRATCH = "scratch"
"""The start that means a new network."""

JOB_NAME = "job.json"
EVENTS_NAME = "events.jsonl"
FORMAT = 2


@dataclass(frozen=True)
class Run:
    """What a training was asked to do.

    Attributes
    ----------
    images : tuple of AnnotatedImage
        What to learn from.
    settings, network
        How; the network's settings count only when it starts from scratch.
    start : str
        ``"bundled"``, ``"scratch"`` or the path of a model.
    name : str
        What the model will be called.
    folder : Path
        Where the run lies.
    resume : str
        The run folder whose training it goes on with; empty when it begins anew.
    """

    images: tuple[AnnotatedImage, ...]
    settings: TrainingSettings
    network: NetworkSettings
    start: str
    name: str
    folder: Path
    resume: str = ""


def home() -> Path:
    """Return the folder of all runs and logs; :data:`HOME_VARIABLE` overrides the user's data folder."""
    chosen = os.environ.get(HOME_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    import platformdirs

    return Path(platformdirs.user_data_dir("napari-unet", appauthor=False))


def runs_folder() -> Path:
    """Return the folder that holds one folder per run."""
    return home() / "runs"


def create_run(
    images: Sequence[AnnotatedImage],
    settings: TrainingSettings,
    network: NetworkSettings,
    start: str = BUNDLED,
    name: str = "model",
    resume: str = "",
) -> Path:
    """Write a new run folder and return it.

    ``job.json`` is written last: a folder with it is complete, and a failed one is removed.

    Parameters
    ----------
    images : sequence of AnnotatedImage
        What to learn from.
    settings, network
        How.
    start : str
        ``"bundled"``, ``"scratch"`` or the path of a model.
    name : str
        What the model will be called.
    resume : str, optional
        Run folder whose training is gone on with.

    Raises
    ------
    StoreError
        When the folder cannot be written, for example because the disk is full.
    """
    if start != SCRATCH and not is_bundled(start):
        start = str(Path(start).expanduser().absolute())
    resume = str(Path(resume).expanduser().absolute()) if resume else ""
    folder = None
    try:
        folder = _new_folder(name)
        stems = [_stem(index, image) for index, image in enumerate(images)]
        for stem, image in zip(stems, images, strict=True):
            _write_image(folder / "images" / f"{stem}.tif", np.asarray(image.image))
            _write_labels(folder / "labels" / f"{stem}.tif", np.asarray(image.labels))
        _write_job(folder, stems, images, settings, network, start, name, resume)
    except OSError as error:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        where = folder or runs_folder()
        raise StoreError(
            f"The training cannot be written to {where}: {error.strerror or error}. Free some space or make the "
            f"folder writable, or name another one in the environment variable {HOME_VARIABLE}."
        ) from error
    return folder


def repaint(folder: Path, images: Sequence[AnnotatedImage]) -> None:
    """Bring the annotation of a run up to date, while its training may be reading it.

    Planes are known by their names: the paint on a known one is replaced, new ones are added, and those that are
    no longer among the images are no longer part of the run, though their files stay.

    Raises
    ------
    StoreError
        When the folder cannot be written.
    """
    job = read_job(folder)
    known = {entry["name"]: entry["stem"] for entry in job["images"]}
    number = 1 + max((int(path.stem.split("_")[0]) for path in (folder / "labels").glob("[0-9]*_*.tif")), default=-1)
    try:
        stems = []
        for image in images:
            stem = known.get(image.name)
            if stem is None:
                stem, number = _stem(number, image), number + 1
                _write_image(folder / "images" / f"{stem}.tif", np.asarray(image.image))
            _replace_labels(folder / "labels" / f"{stem}.tif", np.asarray(image.labels))
            stems.append(stem)
        _replace_job(folder, {**job, "images": _entries(stems, images)})
    except OSError as error:
        raise StoreError(f"The annotation cannot be written to {folder}: {error.strerror or error}.") from error


def _stem(index: int, image: AnnotatedImage) -> str:
    """Return the name of a plane's files."""
    return f"{index:03d}_{_safe(image.name)}"


def _safe(name: str) -> str:
    """Return a name that every file system takes."""
    return re.sub(r"[^\w.-]+", "_", name).strip("._")[:60] or "unnamed"


def _new_folder(name: str) -> Path:
    """Make a folder that did not exist, named by time and model."""
    stem = f"{datetime.now():%Y%m%d-%H%M%S}-{_safe(name)}"
    number = 1
    while True:
        folder = runs_folder() / (stem if number == 1 else f"{stem}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            if not folder.parent.is_dir():
                raise
            number += 1
            continue
        for part in ("images", "labels"):
            (folder / part).mkdir()
        return folder


def _write_image(path: Path, image: NDArray[Any]) -> None:
    """Write a (Y, X) or (C, Y, X) image with its number type."""
    import tifffile

    image = image.astype(np.uint8) if image.dtype == bool else image
    image = image.astype(np.float32) if image.dtype == np.float16 else image
    axes = "YX" if image.ndim == 2 else "CYX"
    tifffile.imwrite(path, image, photometric="minisblack", metadata={"axes": axes})


def _write_labels(path: Path, labels: NDArray[Any]) -> None:
    """Write (Y, X) labels with their number type; paint is sparse and compresses well."""
    import tifffile

    labels = labels.astype(np.uint8) if labels.dtype == bool else labels
    tifffile.imwrite(path, labels, photometric="minisblack", compression="zlib", metadata={"axes": "YX"})


def _replace_labels(path: Path, labels: NDArray[Any]) -> None:
    """Write labels so that whoever reads meanwhile sees the old ones or the new ones."""
    temporary = path.with_name(f".part.{path.name}")
    _write_labels(temporary, labels)
    temporary.replace(path)


def _entries(stems: Sequence[str], images: Sequence[AnnotatedImage]) -> list[dict[str, Any]]:
    """Return what ``job.json`` says of the planes."""
    return [
        {
            "stem": stem,
            "name": image.name,
            "regions": [list(map(int, box)) for box in image.regions],
            "oversampled": [list(map(float, place)) for place in image.oversampled],
        }
        for stem, image in zip(stems, images, strict=True)
    ]


def _write_job(
    folder: Path,
    stems: Sequence[str],
    images: Sequence[AnnotatedImage],
    training: TrainingSettings,
    network: NetworkSettings,
    start: str,
    name: str,
    resume: str,
) -> None:
    """Write ``job.json``."""
    job = {
        "napari_unet_run": FORMAT,
        "created": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": command_line(folder, training, network, start, resume),
        "name": name,
        "start": start,
        "settings": settings.to_dict(training),
        "network": settings.to_dict(network),
        "resume": resume,
        "images": _entries(stems, images),
    }
    _replace_job(folder, job)


def _replace_job(folder: Path, job: dict[str, Any]) -> None:
    """Write ``job.json`` at once."""
    temporary = folder / (JOB_NAME + ".part")
    temporary.write_text(json.dumps(job, indent=2), encoding="utf-8")
    temporary.replace(folder / JOB_NAME)


def command_line(
    folder: Path, training: TrainingSettings, network: NetworkSettings, start: str, resume: str = ""
) -> str:
    """Return the command that trains the same from a terminal."""
    words = ["napari-unet", "train", "--images", folder / "images", "--labels", folder / "labels"]
    # The job says which planes take part, their complete regions and their emphasis.
    words += ["--output", folder / "model", "--regions", folder / JOB_NAME, "--start", start]
    words += ["--resume", resume] if resume else []
    named = {"seconds", "steps", "unpainted", "background_label", "seed"}
    # What unpainted means is always said: the command line takes files for complete masks, a dock does not.
    # Likewise the time beside a number of steps, which would be the only limit there.
    always = ("unpainted", "seconds") if training.steps else ("unpainted",)
    changed = {**_changed(training, *always), **(_changed(network) if start == SCRATCH else {})}
    for option, value in changed.items():
        words += [f"--{option.replace('_', '-')}", value] if option in named else ["--set", f"{option}={value}"]
    return as_typed(list(map(str, words)))


def _changed(values: Any, *always: str) -> dict[str, Any]:
    """Return the settings that differ from their defaults, and those that are always named."""
    names = [f.name for f in dataclasses.fields(values) if f.name in always or getattr(values, f.name) != f.default]
    return {name: getattr(values, name) for name in names}


def load_run(folder: Path | str) -> Run:
    """Read a run folder back.

    Raises
    ------
    StoreError
        When the folder holds no complete run.
    """
    folder = Path(folder)
    job = read_job(folder)
    try:
        images = tuple(
            AnnotatedImage(
                _read_tiff(folder / "images" / f"{entry['stem']}.tif"),
                _read_tiff(folder / "labels" / f"{entry['stem']}.tif"),
                tuple(tuple(box) for box in entry["regions"]),
                entry["name"],
                tuple(tuple(place) for place in entry["oversampled"]),
            )
            for entry in job["images"]
        )
        training = settings.with_values(TrainingSettings(), job["settings"])
        network = settings.with_values(NetworkSettings(), job["network"])
        return Run(images, training, network, job["start"], job["name"], folder, job["resume"])
    except (KeyError, TypeError, ValueError, SettingsError) as error:
        raise StoreError(f"The run {folder} is damaged: {error}") from error


def _read_tiff(path: Path) -> NDArray[Any]:
    """Return a picture; a damaged file makes tifffile raise nearly anything."""
    import tifffile

    try:
        return np.asarray(tifffile.imread(path))
    except Exception as error:
        raise StoreError(f"{path} cannot be read: {type(error).__name__}: {error}") from error


def read_job(folder: Path) -> dict[str, Any]:
    """Return the contents of ``job.json``.

    Raises
    ------
    StoreError
        When it is missing, damaged, or of another version.
    """
    try:
        job = json.loads((folder / JOB_NAME).read_text(encoding="utf-8"))
        version = job["napari_unet_run"]
    except FileNotFoundError as error:
        raise StoreError(f"{folder} is no run of {DISTRIBUTION}: {JOB_NAME} is missing.") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{JOB_NAME} in {folder} cannot be read: {error}") from error
    if version != FORMAT:
        raise StoreError(f"The run {folder} has format {version}, but this version reads {FORMAT}.")
    return dict(job)


def list_runs() -> list[Path]:
    """Return the folders of all complete runs, newest first."""
    found = [path.parent for path in runs_folder().glob(f"*/{JOB_NAME}")]
    return sorted(found, key=lambda folder: ((folder / JOB_NAME).stat().st_mtime_ns, folder.name), reverse=True)


def finished_model(folder: Path | str) -> Path | None:
    """Return where a run's trained model lies, or None when there is none (yet)."""
    model = Path(folder) / "model"
    return model if (model / CARD_NAME).is_file() else None


def append_event(folder: Path | str, event: events.Event) -> None:
    """Append an event to ``events.jsonl``, with the time and without its arrays.

    Raises
    ------
    StoreError
        When it cannot be written.
    """
    plain = {key: value for key, value in events.to_dict(event).items() if not isinstance(value, np.ndarray)}
    path = Path(folder) / EVENTS_NAME
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"time": round(time.time(), 3), **plain}, default=_plain) + "\n")
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror or error}.") from error


def _plain(value: Any) -> Any:
    """Return what json cannot write: numpy scalars as Python's, paths as text."""
    return value.item() if isinstance(value, np.generic) else str(value)


def read_events(folder: Path | str) -> Iterator[dict[str, Any]]:
    """Yield the recorded events of a run; a last line that a crash cut off is left out."""
    path = Path(folder) / EVENTS_NAME
    if not path.exists():
        return
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.endswith("\n"):
                yield json.loads(line)
