"""The target of a progressive result: the store itself, or the viewer's computer. Needs no torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ... import stores
from ...core.data.annotation import Box
from ...core.data.arrays import PlaneIndex, WritableArray
from ...core.data.blocks import blocks
from ...core.inference.chunked import CHUNK, SIDE, Workspace, plane_key
from ..viewer.progressive_receiver import missing_planes, open_result
from .file_copies import visits
from .server import Job


class Place(Protocol):
    """A progressive result; use it as a context.

    Attributes
    ----------
    path, partial : str
        Where it will lie, and where it lies until then, on the viewer's computer.
    resumed : bool
        Whether it continues an earlier run.
    array : WritableArray
        What final labels are written to.
    work : Workspace
        Where what is done is kept.
    """

    path: str
    partial: str
    resumed: bool
    array: WritableArray
    work: Workspace

    def __enter__(self) -> Place: ...

    def __exit__(self, *_: object) -> None: ...

    def show(self, plane: PlaneIndex, box: Box, labels: NDArray[Any]) -> None:
        """Have the viewer see labels that are not final, for y0, y1, x0, x1 of a plane."""

    def plane_done(self, plane: PlaneIndex, objects: int) -> None:
        """Have the viewer see a plane that is final."""

    def save(self) -> str:
        """Put the result in place when every plane is done, and return where; nothing otherwise."""


def place_of(
    job: Job, shape: tuple[int, ...], axes: str, dtype: Any, identity: Mapping[str, Any], anew: bool = False
) -> Place:
    """Return the unfinished result of the same job, or a new one, where ``payload["output"]`` says.

    Parameters
    ----------
    job : Job
        Whose result it is.
    shape, axes, dtype
        Of the labels; y and x are the last axes.
    identity : mapping
        What makes it what it is, as plain data.
    anew : bool
        Whether all of it is made again, whatever was done before.

    Raises
    ------
    StoreError
        When nothing can be written there.
    """
    kind = Away if job.is_remote else Here
    return kind(job, tuple(int(n) for n in shape), axes, np.dtype(dtype), identity, anew)


class Here:
    """A result on the disk of this computer. Parameters are those of :func:`place_of`."""

    def __init__(
        self,
        job: Job,
        shape: tuple[int, ...],
        axes: str,
        dtype: np.dtype[Any],
        identity: Mapping[str, Any],
        anew: bool,
    ) -> None:
        self._out = open_result(job.payload["output"], shape, axes, dtype, identity)
        self._levels = stores.Levels(self._out.partial)
        self.path, self.partial = str(self._out.path), str(self._out.partial)
        self.array: WritableArray = self._out.array
        self.work: Workspace = self._out.work
        self.resumed = self._out.resumed

    def __enter__(self) -> Here:
        return self

    def __exit__(self, *_: object) -> None:
        self._out.work.close()

    def show(self, plane: PlaneIndex, box: Box, labels: NDArray[Any]) -> None:
        """Write labels that are not final."""
        self._levels.put(plane, box, labels)

    def plane_done(self, plane: PlaneIndex, objects: int) -> None:
        """Make the smaller versions of a plane; those of a single one are made when it is saved."""
        if len(self.array.shape) > 2 and len(self._levels.arrays) > 1:
            self._levels.renew(plane)

    def save(self) -> str:
        """Put the result in place when every plane is done, and return where; nothing otherwise."""
        return "" if missing_planes(self._out) else str(self._out.save())


class Away:
    """A result on the disk of the viewer's computer, made on this one.

    Labels are written into an array here, from which each plane is sent, part by part, when it is done; the next
    part goes when the one before is on disk there. What the network has said stays here, to go on with. The viewer
    knows which planes it has; this computer knows what else is done.

    Parameters are those of :func:`place_of`.
    """

    def __init__(
        self,
        job: Job,
        shape: tuple[int, ...],
        axes: str,
        dtype: np.dtype[Any],
        identity: Mapping[str, Any],
        anew: bool,
    ) -> None:
        self._job = job
        told = job.grow({"what": "open", "shape": shape, "axes": axes, "dtype": dtype.str, "identity": identity})
        self.path, self.partial, self.resumed = told["path"], told["partial"], bool(told["resumed"])
        digest = hashlib.sha256(json.dumps([self.path, identity], sort_keys=True).encode()).hexdigest()[:24]
        self._folder = visits() / "growing" / digest
        if anew or not self.resumed:
            stores.remove(self._folder)
        folder = stores.Folder(self._folder)
        self.work: Workspace = folder
        self._close = folder.close
        self._there = set() if anew else set(told["planes"])
        for key in self._there:
            self.work.remember(key, told["planes"][key])
        chunks = tuple(min(n, CHUNK) if axis >= len(shape) - 2 else 1 for axis, n in enumerate(shape))
        self.array = self.work.array("result", shape, chunks, dtype)
        self._folder.touch()

    def __enter__(self) -> Away:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def show(self, plane: PlaneIndex, box: Box, labels: NDArray[Any]) -> None:
        """Send labels that are not final."""
        self._job.grow({"what": "part", "plane": plane, "box": box, "labels": labels.astype(self.array.dtype)})

    def plane_done(self, plane: PlaneIndex, objects: int) -> None:
        """Send a plane that is final, unless the viewer has it."""
        if plane_key(plane) in self._there:
            return
        height, width = self.array.shape[-2:]
        for block in blocks(height, width, SIDE):
            labels = np.asarray(self.array[(*plane, *block.slices)])
            self._job.grow({"what": "part", "plane": plane, "box": block.box, "labels": labels})
        self._job.grow({"what": "plane", "plane": plane, "objects": objects})
        self._there.add(plane_key(plane))
        self._folder.touch()

    def save(self) -> str:
        """Have the result put in place when every plane is done, and return where; nothing otherwise."""
        path = str(self._job.grow({"what": "save"}))
        if path:
            self._close()
            stores.remove(self._folder)
        return path


__all__ = ["Away", "Here", "Place", "place_of"]
