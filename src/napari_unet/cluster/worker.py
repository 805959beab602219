"""The tasks that run in the workers: functions of a job spec and a place, which may run again after a crash.

Each reads from one array and writes into another, so that doing a part twice, or by two workers at once, leaves
the same as doing it once.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .. import stores
from ..core.data.annotation import Box
from ..core.data.arrays import (
    Normalisation,
    PlaneIndex,
    Planes,
    ScaledPlanes,
    WritableArray,
    plane_normalisation,
    resample,
)
from ..core.data.blocks import Block
from ..core.errors import ClusterError, DataError, OutOfMemoryError, UNetError
from ..core.inference.chunked import LargePlane, PlaneOf, Workspace
from ..core.inference.model_selection import choose_model
from ..core.inference.tiled import SMALLEST_TILE, Predictor, choose_tile, predict_region
from ..core.instances.cleanup import BlockSummary, relabel_block, restore_boundaries, summarise_block
from ..core.instances.pipeline import Outputs, labels_from_outputs, segment_block
from ..core.instances.watershed import BlockBasins
from ..core.network.device import choose, fixed_threads
from ..core.network.model_io import Model, fingerprint, load_model
from ..core.network.unet import CLASSES, DISTANCE
from .job_spec import JobSpec, WorkerConfig, public_version

JOB = "job.json"
_loading = threading.Lock()


@dataclass(frozen=True)
class Refusal:
    """A user error returned as a value; such tasks are not retried."""

    kind: str
    message: str
    worker: str


@dataclass(frozen=True)
class Facts:
    """Facts about a worker.

    Attributes
    ----------
    device, precision : str
        Device and number format of its networks.
    processor : str
        CPU capability, as torch names it.
    model : bool
        Whether its path holds the same model.
    workspace : str
        Its mark of the workspace, see :func:`workspace_mark`.
    """

    device: str
    precision: str
    processor: str
    model: bool
    workspace: str


@dataclass(frozen=True)
class TaskResult:
    """Result of a network task: cells found, and notes for the user."""

    objects: int = 0
    notes: tuple[str, ...] = ()


def call(name: str, spec: JobSpec, *arguments: Any) -> Any:
    """Run one of :data:`TASKS`; errors of the package are returned as a :class:`Refusal`."""
    try:
        check_versions(spec)
        with fixed_threads(spec.threads):
            return TASKS[name](spec, *arguments)
    except UNetError as error:
        return Refusal(type(error).__name__, str(error), address())


def address() -> str:
    """Return the name of the worker whose task runs here; empty outside of tasks."""
    from distributed import get_worker

    try:
        return str(get_worker().address)
    except ValueError:
        return ""


def check_versions(spec: JobSpec) -> None:
    """Raise if this worker's versions differ from those of the driver.

    Workers that join later are checked here first.
    """
    for name, wanted in spec.versions:
        if public_version(name) != wanted:
            raise ClusterError(f"it has {name} {public_version(name)}, but the job was begun with {wanted}.")


def look(spec: JobSpec) -> Facts:
    """Return the facts of this worker, after checking that it can read the image and write the result."""
    _picture(spec)
    mark = _checked_folder(spec)
    compute = choose(spec.settings.device, spec.settings.precision)
    capability = torch.backends.cpu.get_cpu_capability()
    try:
        found = bool(_candidates(spec.models, spec.fingerprint))
    except UNetError:
        found = False
    return Facts(compute.device.type, compute.precision, capability, found, mark)


def workspace_mark(folder: Path) -> str:
    """Return a mark that identifies a workspace across computers."""
    return hashlib.sha256((folder / JOB).read_bytes()).hexdigest()


def _checked_folder(spec: JobSpec) -> str:
    """Return the workspace's mark; raise unless the workspace exists and is writable."""
    probe = spec.folder / f".{uuid.uuid4().hex}.probe"
    try:
        mark = workspace_mark(spec.folder)
        probe.touch()
        probe.unlink()
        return mark
    except OSError as error:
        raise ClusterError(
            f"it cannot write the result: {spec.folder}: {error.strerror or error}. The folder of the output has to "
            "be one that all workers share, under the same path."
        ) from error


def looks_of(path: Path, planes: Planes) -> tuple[Any, ...]:
    """Return what identifies an image without reading it."""
    state = path.stat()
    when = (state.st_size, int(state.st_mtime)) if path.is_file() else ()
    return (*planes.shape, planes.channels, str(planes.dtype), *when)


def _picture(spec: JobSpec) -> Planes:
    """Return the image, opened once."""
    with _loading:
        return _opened(spec.picture, spec.axes, spec.grey, spec.looks)


@functools.lru_cache(maxsize=4)
def _opened(picture: str, axes: str | None, grey: bool, looks: tuple[Any, ...]) -> Planes:
    path = Path(picture)
    if not path.exists():
        raise ClusterError(
            f"it does not see {path}. The picture has to lie where all workers can read it, under the same path."
        )
    planes = stores.open_picture(path, axes).planes
    planes = planes.as_grey() if grey and not planes.grey else planes
    if looks_of(path, planes) != looks:
        raise ClusterError(
            f"it sees another picture at {path}, of shape {planes.shape} with {planes.channels} channel(s). All "
            "workers have to see the same file under this path."
        )
    return planes


@functools.lru_cache(maxsize=2)
def _candidates(models: tuple[str, ...], mark: str) -> tuple[Model, ...]:
    """Return the candidate models; raise if they are not those of the spec."""
    first, *others = (load_model(path) for path in models)
    whole = dataclasses.replace(first, siblings=(*first.siblings, *others))
    if fingerprint(whole) != mark:
        raise ClusterError(f"it has another model at {models[0]}.")
    return whole, *whole.siblings


@dataclass(frozen=True)
class _ReadyModel:
    """A model ready to run on an image."""

    model: Model
    predictor: Predictor
    image: Planes
    source: Planes
    tile: int


def _ready(spec: JobSpec) -> _ReadyModel:
    """Return model and predictor of the spec, made once."""
    source = _picture(spec)
    with _loading:
        return _prepared(spec, source)


@functools.lru_cache(maxsize=2)
def _prepared(spec: JobSpec, source: Planes) -> _ReadyModel:
    choice = spec.choice
    if choice is None:
        raise ClusterError("the spec is not complete: it has no worker configuration.")
    compute = choose(spec.settings.device, spec.settings.precision)
    if (compute.device.type, compute.precision) != (choice.device, choice.precision):
        raise ClusterError(
            f"it computes in {compute.precision} on {compute.device.type}, but the job was begun in "
            f"{choice.precision} on {choice.device}. Give --device {choice.device} and "
            f"--set precision={choice.precision}, or --overwrite to start over."
        )
    model = _candidates(spec.models, spec.fingerprint)[choice.model]
    predictor = Predictor.create(model.network, compute, spec.settings.tta)
    seen = source if choice.scale == 1 else ScaledPlanes(source, choice.scale)
    return _ReadyModel(model, predictor, seen, source, choice.tile)


def prepare(spec: JobSpec) -> WorkerConfig:
    """Select the model, the scale and the tile size."""
    source = _picture(spec)
    with _loading:
        candidates = _candidates(spec.models, spec.fingerprint)
    found = choose_model(candidates[0], source, spec.settings)
    index = next(n for n, model in enumerate(candidates) if model is found.model)
    seen = source if found.scale == 1 else ScaledPlanes(source, found.scale)
    compute = found.predictor.compute
    tile = spec.settings.tile or choose_tile(found.predictor.network, compute, seen.height, seen.width)
    return WorkerConfig(index, found.scale, tile, compute.device.type, compute.precision, found.told(spec.settings))


def measure(spec: JobSpec, plane: PlaneIndex, only: bool) -> Normalisation:
    """Return the normalisation of a plane; raise if the only plane is constant."""
    normalisation = plane_normalisation(_picture(spec), plane)
    if normalisation.constant and only:
        raise DataError(
            f"The image is constant: every grey value is {normalisation.low[0]:g}. There is nothing to segment."
        )
    return normalisation


def _network(
    spec: JobSpec, plane: PlaneIndex, box: Box, normalisation: Normalisation
) -> tuple[Outputs, tuple[str, ...]]:
    """Return the outputs for a box of a plane, with smaller tiles if memory runs out, and notes for the user."""
    ready = _ready(spec)
    notes: list[str] = []
    tile, smallest = ready.tile, max(SMALLEST_TILE, ready.predictor.network.geometry.stride)
    while True:
        try:
            return predict_region(ready.predictor, ready.image, plane, box, normalisation, tile), tuple(notes)
        except OutOfMemoryError:
            if tile <= smallest:
                raise
            tile = max(smallest, tile // 2)
            notes.append(f"Too little memory on the worker {address()}; smaller tiles of {tile} px there.")


def whole_plane(spec: JobSpec, plane: PlaneIndex, only: bool) -> TaskResult:
    """Segment a plane that fits in memory."""
    normalisation = measure(spec, plane, only)
    if normalisation.constant:
        return TaskResult(0, (f"Plane {plane} is constant and has no cells.",))
    ready = _ready(spec)
    image, source = ready.image, ready.source
    outputs, notes = _network(spec, plane, (0, image.height, 0, image.width), normalisation)
    if image is not source:
        outputs = {name: resample(values, (source.height, source.width)) for name, values in outputs.items()}
    labels = labels_from_outputs(outputs, spec.labelling)
    _output(spec)[(*plane, slice(None), slice(None))] = labels
    return TaskResult(int(labels.max(initial=0)) if spec.settings.what == "instances" else 0, notes)


def _output(spec: JobSpec) -> WritableArray:
    """Return the output array."""
    return stores.open_writable(Path(spec.labels), "0")


class Shared:
    """The driver's workspace as its workers see it: existing arrays.

    See :class:`~napari_unet.core.inference.chunked.Workspace`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def recall(self, key: str) -> Any:
        """Return None: only the driver keeps notes."""
        return None

    def remember(self, key: str, value: Any) -> None:
        """Raise: only the driver keeps notes."""
        raise ClusterError(f"a worker cannot note {key!r}; the process that hands out the tasks does.")

    def array(self, name: str, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: Any) -> WritableArray:
        """Return an array by name."""
        return stores.open_writable(self.folder / name)

    def drop(self, name: str) -> None:
        """Delete an array, if it exists."""
        stores.remove(self.folder / name)


def large_plane(work: Workspace, model: Model, spec: JobSpec, plane: PlaneIndex, size: tuple[int, int]) -> LargePlane:
    """Return a plane that is never in memory as a whole, of this size in the image."""
    scale = spec.choice.scale if spec.choice else 1.0
    seen = size if scale == 1 else (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
    outputs = model.network.outputs
    classes = outputs[CLASSES].stop - outputs[CLASSES].start
    return LargePlane(work, plane, seen, size, spec.labelling, classes, DISTANCE in outputs)


def _large(spec: JobSpec, plane: PlaneIndex) -> LargePlane:
    """Return the large plane that this worker computes a part of."""
    ready = _ready(spec)
    return large_plane(Shared(spec.folder), ready.model, spec, plane, (ready.source.height, ready.source.width))


def compute_chunk(spec: JobSpec, plane: PlaneIndex, box: Box, normalisation: Normalisation) -> TaskResult:
    """Compute the outputs of a chunk with its context, and write them to the workspace."""
    outputs, notes = _network(spec, plane, box, normalisation)
    _large(spec, plane).keep((box, outputs))
    return TaskResult(0, notes)


def write_values(spec: JobSpec, plane: PlaneIndex, block: Block) -> None:
    """Write the classes or probabilities of a block."""
    PlaneOf(_output(spec), plane)[block.slices] = _large(spec, plane).values(block)


def scratches(large: LargePlane) -> tuple[WritableArray, WritableArray]:
    """Return the arrays for components, numbered within each block, and for regions of the whole plane."""
    return large.scratch(large.size, np.uint32), large.scratch(large.size, np.uint32)


def split(spec: JobSpec, plane: PlaneIndex, block: Block) -> BlockBasins:
    """Split a block into components, store their labels, and return the rest of their data."""
    large = _large(spec, plane)
    found = segment_block(large.maps(), spec.settings, block)
    scratches(large)[0][block.slices] = found.labels
    return dataclasses.replace(found, labels=np.zeros((0, 0), np.int32))


Around = Sequence[tuple[Block, NDArray[np.int32]]]
"""Blocks, and the region of each of their components, after a 0."""


def grow(spec: JobSpec, plane: PlaneIndex, block: Block, around: Around) -> BlockSummary:
    """Restore the boundaries of a block's regions, store the regions, and return notes on them."""
    pieces, kept = scratches(_large(spec, plane))
    boundary_erosion = spec.labelling.boundary_erosion
    halo = 2 * boundary_erosion + 1
    frame = block.framed(restore_boundaries(regions_around(pieces, block, halo, around), boundary_erosion), halo, -1)
    kept[block.slices] = frame[1:-1, 1:-1]
    return summarise_block(frame, block, holes=spec.settings.holes != 0)


def regions_around(pieces: WritableArray, block: Block, halo: int, around: Around) -> NDArray[np.int32]:
    """Return the regions of a block and ``halo`` pixels around it, from components numbered per block."""
    top, left = max(0, block.y0 - halo), max(0, block.x0 - halo)
    bottom, right = min(block.height, block.y1 + halo), min(block.width, block.x1 + halo)
    found = np.zeros((bottom - top, right - left), np.int32)
    for other, regions in around:
        ys = slice(max(top, other.y0), min(bottom, other.y1))
        xs = slice(max(left, other.x0), min(right, other.x1))
        inside = slice(ys.start - top, ys.stop - top), slice(xs.start - left, xs.stop - left)
        found[inside] = regions[np.asarray(pieces[ys, xs])]
    return found


def number(
    spec: JobSpec,
    plane: PlaneIndex,
    block: Block,
    regions: NDArray[np.int64],
    numbers: NDArray[np.int32],
    filled: NDArray[np.int32] | None,
) -> None:
    """Write the final labels of a block.

    Parameters
    ----------
    regions, numbers : NDArray of int
        The regions in the block, ascending, and the final number of each.
    filled : NDArray of int32 or None
        See :func:`~napari_unet.core.instances.cleanup.relabel_block`.
    """
    labels = np.asarray(scratches(_large(spec, plane))[1][block.slices])
    local = np.searchsorted(np.concatenate([[0], regions]), labels).astype(np.int32)
    table = np.concatenate([[0], numbers]).astype(np.int32)
    PlaneOf(_output(spec), plane)[block.slices] = relabel_block(local, table, filled)


TASKS: dict[str, Callable[..., Any]] = {
    task.__name__: task
    for task in (look, prepare, measure, whole_plane, compute_chunk, write_values, split, grow, number)
}
"""The tasks by name."""
