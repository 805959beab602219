"""The viewer's files, as a job sees them: itself on the same computer, copies of them on another one. Needs no torch.

Copies lie in ``<home>/visits``. Models are kept by what is in them, so that each crosses once; all else is removed
when its job has ended and everything that it made has arrived. ::

    visits/models/<digest>/model.json ...
    visits/sources/<digest>/picture.tif
    visits/results/<digest>/picture-labels.tif
    visits/runs/<name>-<digest>/job.json images/ labels/ model/ ...
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ...core.errors import StoreError
from ...core.events import Event
from ...core.network.model_card import is_bundled
from ...records import runs
from ..viewer.file_sharing import digest_of, files_in

KEPT_DAYS = 7
"""A copy that was not used for so long is removed."""
_ASKED = (runs.JOB_NAME, "images", "labels")
"""What the viewer writes into a run; all else there is the training's."""

Listing = list[dict[str, Any]]


class Files(Protocol):
    """What a job may do with the viewer's files; paths are the viewer's."""

    def find(self, path: str, keep: bool = True) -> str:
        """Return where a file or folder that is only read lies here; bundled models are everywhere.

        Parameters
        ----------
        path : str
            Of a model or a picture.
        keep : bool
            Whether it is likely to be used again by other jobs.
        """

    def output(self, path: str, overwrite: bool) -> Path:
        """Return where to write a result, whole, that belongs at this path."""

    def run(self, path: str) -> Path:
        """Return where a run folder lies here, up to date with what the viewer wrote."""


class OwnFiles:
    """The files of a viewer on this computer."""

    def find(self, path: str, keep: bool = True) -> str:
        """Return the same path."""
        return path

    def output(self, path: str, overwrite: bool) -> Path:
        """Return the same path."""
        return Path(path)

    def run(self, path: str) -> Path:
        """Return the same path."""
        return Path(path)


class Copies:
    """The files of a viewer on another computer.

    Parameters
    ----------
    listing : callable
        ``listing(path, parts)`` asks the viewer, see :meth:`~napari_unet.engine.viewer.file_sharing.Sharing.listing`.
    read : callable
        ``read(path, name, start)`` fetches a part of one of these files.
    """

    def __init__(
        self, listing: Callable[[str, Sequence[str]], Listing], read: Callable[[str, str, int], NDArray[np.uint8]]
    ) -> None:
        self._listing, self._read = listing, read
        self._theirs: dict[str, str] = {}
        self._run: Path | None = None
        self._result: Path | None = None
        self._passing: list[Path] = []
        self._sent: dict[Path, tuple[int, int]] = {}

    def find(self, path: str, keep: bool = True) -> str:
        """Return where the copy of a file or folder lies, fetched unless it was here before."""
        if is_bundled(path):
            return path
        listing = self._listing(path, ())
        if not listing:
            raise StoreError(f"{path} is missing.")
        folder = visits() / ("models" if keep else "sources") / _name_of(listing)
        self._passing += [] if keep else [folder]
        # Its own name, which says what kind of file it is.
        single = len(listing) == 1 and listing[0]["name"] == _last(path)
        found = folder if keep or single else folder / _last(path)
        self._fetch(path, listing, found)
        _touch(folder)
        found = folder / listing[0]["name"] if single else found
        self._theirs[str(found)] = path
        return str(found)

    def output(self, path: str, overwrite: bool) -> Path:
        """Return where to write a result; raise when there is one that may not be replaced."""
        if self._listing(path, ()) and not overwrite:
            raise StoreError(f"{path} exists already; choose another output, or have it replaced.")
        self._result = visits() / "results" / _digest(path)
        shutil.rmtree(self._result, ignore_errors=True)
        self._result.mkdir(parents=True)
        self._passing.append(self._result)
        self._theirs[str(self._result / _last(path))] = path
        return self._result / _last(path)

    def run(self, path: str) -> Path:
        """Return where the copy of a run lies, with what the viewer wrote since the last time."""
        folder = visits() / "runs" / f"{_last(path)}-{_digest(path)}"
        self._run = folder
        self._theirs[str(folder)] = path
        # The job comes last: with it the run is complete.
        listing = sorted(self._listing(path, _ASKED), key=lambda entry: entry["name"] == runs.JOB_NAME)
        self._fetch(path, listing, folder)
        _touch(folder)
        return folder

    def made(self) -> dict[str, NDArray[np.uint8]]:
        """Return the files that the job wrote or changed since the last time, by name."""
        made: dict[str, NDArray[np.uint8]] = {}
        for file, name in self._own_files():
            about = file.stat()
            if self._sent.get(file) != (about.st_mtime_ns, about.st_size):
                made[name] = np.frombuffer(file.read_bytes(), np.uint8)
                self._sent[file] = (about.st_mtime_ns, about.st_size)
        return made

    def as_viewer_sees(self, event: Event) -> Event:
        """Return the event with the viewer's paths in the place of those of the copies."""
        fields = {name: getattr(event, name, "") for name in ("path", "message")}
        told = {name: self._as_there(text) for name, text in fields.items() if text}
        return replace(event, **told) if told else event

    def _as_there(self, text: str) -> str:
        """Return words with the viewer's paths in them."""
        for here, there in self._theirs.items():
            before, found, after = text.partition(here)
            if found:
                # The viewer's path may be one of another system: it is continued in its own way.
                inside = after.replace("/", "\\") if "\\" in there and not before else after
                text = before + there + inside
        return text

    def close(self, delivered: bool) -> None:
        """End the job: nothing of it is kept when all has arrived, but its model, which is likely to be used next."""
        for folder in self._passing:
            shutil.rmtree(folder, ignore_errors=True)
        if self._run is None or not delivered:
            return
        model = self._run / "model"
        if model.is_dir():
            kept = visits() / "models" / _name_of(_listing_of(model))
            if not kept.exists():
                kept.parent.mkdir(parents=True, exist_ok=True)
                model.replace(kept)
        shutil.rmtree(self._run, ignore_errors=True)

    def _own_files(self) -> Iterator[tuple[Path, str]]:
        """Yield what in the run is not the viewer's, and what is a result, with its name."""
        if self._run is not None:
            theirs = (*_ASKED, runs.EVENTS_NAME)
            yield from ((file, name) for file, name in files_in(self._run) if name.split("/")[0] not in theirs)
        if self._result is not None:
            yield from files_in(self._result)

    def _fetch(self, path: str, listing: Listing, folder: Path) -> None:
        """Bring a folder up to date with a listing."""
        try:
            for entry in listing:
                target = folder / entry["name"]
                if target.is_file() and target.stat().st_size == entry["size"]:
                    if digest_of(target) == entry["digest"]:
                        continue
                target.parent.mkdir(parents=True, exist_ok=True)
                part = target.with_name(f".part.{target.name}")
                with part.open("wb") as file:
                    while file.tell() < entry["size"]:
                        # What is cut off meanwhile is met by whoever reads the copy.
                        if not file.write(self._read(path, entry["name"], file.tell()).data):
                            break
                part.replace(target)
        except OSError as error:
            raise StoreError(
                f"The other computer cannot write to {folder}: {error.strerror or error}. Free some space there."
            ) from error


def visits() -> Path:
    """Return the folder of all copies."""
    return runs.home() / "visits"


def remove_old(now: float | None = None) -> None:
    """Remove copies that were not used for a while; what cannot be removed stays."""
    limit = (time.time() if now is None else now) - KEPT_DAYS * 86_400
    for folder in visits().glob("*/*"):
        if folder.stat().st_mtime < limit:
            shutil.rmtree(folder, ignore_errors=True)


def _digest(path: str) -> str:
    """Return a short name for a path."""
    return hashlib.sha256(path.encode()).hexdigest()[:12]


def _touch(folder: Path) -> None:
    """Note that a copy is used now."""
    folder.touch()


def _last(path: str) -> str:
    """Return the last part of a path of this or another system."""
    return path.replace("\\", "/").rstrip("/").rpartition("/")[2]


def _name_of(listing: Listing) -> str:
    """Return the name that a set of files has, wherever it comes from."""
    plain = sorted((entry["name"], entry["digest"]) for entry in listing)
    return hashlib.sha256(json.dumps(plain).encode()).hexdigest()[:24]


def _listing_of(folder: Path) -> Listing:
    """Return the listing of a folder here, as the viewer would make it."""
    return [{"name": name, "digest": digest_of(file)} for file, name in files_in(folder)]
