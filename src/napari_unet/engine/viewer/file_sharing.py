"""The files of this computer that a job on another one may read and write. Needs no torch.

The other side can name only files that were shared with it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core.errors import StoreError
from ...core.events import Event
from ...records import runs

PART = 64_000_000
"""Bytes of a file that are sent at once."""


class Sharing:
    """The files of one job.

    Parameters
    ----------
    folder : str
        The run folder, in which the job may leave files; empty when there is none.
    paths : sequence of str
        Further files and folders that it may read.
    output : str
        A file or folder that the job writes, as a whole; empty when there is none.
    """

    def __init__(self, folder: str = "", paths: Sequence[str] = (), output: str = "") -> None:
        self._folder = Path(folder).absolute() if folder else None
        self._output = Path(output).absolute() if output else None
        self._readable = [Path(path).absolute() for path in [folder, output, *paths] if path]
        self._digests: dict[tuple[Path, int, int], str] = {}

    def listing(self, path: str, parts: Sequence[str]) -> list[dict[str, Any]]:
        """Return name, size in bytes and digest of a file, or of all files in a folder.

        Parameters
        ----------
        path : str
            What was shared, or something in it.
        parts : sequence of str
            Only these files and folders of it; none means all.

        Raises
        ------
        StoreError
            When it was not shared, or is not there; what is to be written may be missing.
        """
        root = self._allowed(path)
        if root == self._output and not root.exists():
            return []
        if root.is_file():
            return [self._entry(root, root.name)]
        tops = [root / part for part in parts] or [root]
        found = [
            self._entry(file, file.relative_to(root).as_posix())
            for top in tops
            for file in ([top] if top.is_file() else [file for file, _ in files_in(top)])
        ]
        if not found:
            raise StoreError(f"{path} cannot be sent to the other computer: it holds no files.")
        return found

    def read(self, path: str, name: str, start: int = 0) -> NDArray[np.uint8]:
        """Return the bytes of a file of a :meth:`listing`, as many as are sent at once.

        Parameters
        ----------
        path, name : str
            What was listed, and which file of it.
        start : int
            First byte.

        Raises
        ------
        StoreError
            When it was not shared, or cannot be read.
        """
        root = self._allowed(path)
        file = root if root.is_file() else self._allowed(str(root / name))
        try:
            with file.open("rb") as opened:
                opened.seek(start)
                return np.frombuffer(opened.read(PART), np.uint8)
        except OSError as error:
            raise StoreError(f"{file} cannot be read: {error.strerror or error}.") from error

    def write(self, files: Mapping[str, NDArray[np.uint8]]) -> None:
        """Write files into the run folder, or the result, each atomically.

        Raises
        ------
        StoreError
            When a name leads elsewhere, or one cannot be written.
        """
        folder = self._output.parent if self._output is not None else self._folder
        if folder is None:
            raise StoreError("The other computer sent files for a job that takes none.")
        try:
            if self._output is not None:
                self._replace_output(self._output, files)
            else:
                self._replace_each(folder, files)
        except OSError as error:
            raise StoreError(
                f"What the other computer has made cannot be kept in {folder}: {error.strerror or error}. Free some "
                "space, or make the folder writable."
            ) from error

    def _replace_each(self, folder: Path, files: Mapping[str, NDArray[np.uint8]]) -> None:
        """Write all files under temporary names, then rename them."""
        parts: list[tuple[Path, Path]] = []
        for name, data in files.items():
            target = _target(folder, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            part = target.with_name(f".part.{target.name}")
            part.write_bytes(data.data)
            parts.append((part, target))
        for part, target in parts:
            part.replace(target)

    def _replace_output(self, output: Path, files: Mapping[str, NDArray[np.uint8]]) -> None:
        """Write a result, which is one file or a folder of many, in the place of an older one."""
        part = output.with_name(f".part.{output.name}")
        if part.is_dir():
            shutil.rmtree(part)
        for name, data in files.items():
            if PurePosixPath(name).parts[:1] != (output.name,):
                raise StoreError(f"The other computer sent a file with the name {name!r}, which is refused.")
            target = _target(output.parent, f".part.{name}")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data.data)
        if output.is_dir():
            shutil.rmtree(output)
        part.replace(output)

    def record(self, event: Event) -> None:
        """Append an event to the run folder, if there is one."""
        if self._folder is not None:
            runs.append_event(self._folder, event)

    def _allowed(self, path: str) -> Path:
        """Return a path, checked to be shared."""
        asked = Path(os.path.normpath(Path(path).absolute()))
        if not any(asked.is_relative_to(root) for root in self._readable):
            raise StoreError(f"The other computer asked for {path}, which is no part of its job.")
        if not asked.exists() and asked != self._output:
            raise StoreError(f"{path} is missing.")
        return asked

    def _entry(self, file: Path, name: str) -> dict[str, Any]:
        """Return the listing entry of a file."""
        about = file.stat()
        key = (file, about.st_mtime_ns, about.st_size)
        if key not in self._digests:
            self._digests[key] = digest_of(file)
        return {"name": name, "size": about.st_size, "digest": self._digests[key]}


def digest_of(file: Path) -> str:
    """Return the SHA-256 digest of a file.

    Raises
    ------
    StoreError
        When it cannot be read.
    """
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise StoreError(f"{file} cannot be read: {error.strerror or error}.") from error


def files_in(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield all files in a folder with their names, ``a/b.tif``, but for those that are half written."""
    for file in sorted(folder.rglob("*")) if folder.is_dir() else ():
        parts = file.relative_to(folder).parts
        if file.is_file() and not any(_is_half_written(part) for part in parts):
            yield file, "/".join(parts)


def _is_half_written(name: str) -> bool:
    """Return whether a name is one of those under which files are written that get another one when they are whole."""
    return name.startswith(".") and "part" in name


def _target(folder: Path, name: str) -> Path:
    """Return the path of a file that the other side names."""
    parts = PurePosixPath(name).parts
    if not parts or PurePosixPath(name).is_absolute() or ".." in parts or "\\" in name or ":" in name:
        raise StoreError(f"The other computer sent a file with the name {name!r}, which is refused.")
    return folder.joinpath(*parts)
