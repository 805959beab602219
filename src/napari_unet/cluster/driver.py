"""Submit the tasks of a job and report its progress.

The events are those of :func:`napari_unet.core.inference.predict.predict`.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..core.data.arrays import Normalisation, PlaneIndex, Planes
from ..core.errors import ClusterError
from ..core.events import Fallback, Finished, PlaneDone, PredictionEvent, Started, Stopped, TileDone
from ..core.inference.chunked import LargePlane, is_large, plane_key
from ..core.inference.predict import check_fit, never
from ..core.network.model_io import Model, fingerprint, load_model, save_model
from ..core.settings import PredictionSettings, validate
from ..stores import UnfinishedLabels
from .job_spec import ALIKE, JobSpec, WorkerConfig, public_version
from .joining import Blocks, write_labels, write_values
from .pool import Pool, Task, answered
from .worker import Facts, TaskResult, large_plane, look, looks_of, scratches, workspace_mark
from .worker import call as call_in_worker

MODEL_NAME = "model-{}.zip"
"""Name of a model's copy in the workspace, for workers that cannot read the original."""


@dataclass(frozen=True)
class ClusterJob:
    """An image to segment with the workers of a pool.

    Attributes
    ----------
    pool : Pool
        The workers.
    model : Model
        The model, with its siblings.
    name : str
        ``"bundled"`` or the path of the model.
    picture : Path
        Path of the image.
    axes : str or None
        Axis letters, where the file has none.
    planes : Planes
        The opened image.
    out : UnfinishedLabels
        The output.
    settings : PredictionSettings
        How to segment.
    """

    pool: Pool
    model: Model
    name: str
    picture: Path
    axes: str | None
    planes: Planes
    out: UnfinishedLabels
    settings: PredictionSettings

    def spec(self) -> JobSpec:
        """Return the job specification, as far as it is known before the workers are checked."""
        threads = self.out.work.recall("threads") or torch.get_num_threads()
        self.out.work.remember("threads", threads)
        picture = self.picture.absolute()
        return JobSpec(
            str(picture),
            self.axes,
            self.planes.grey,
            looks_of(picture, self.planes),
            str(self.out.partial.absolute()),
            (self.name,),
            fingerprint(self.model),
            validate(self.settings),
            threads,
            tuple((package, public_version(package)) for package in ALIKE),
        )

    def copied(self, spec: JobSpec) -> JobSpec:
        """Return the spec with the models copied into the workspace, which every worker can read."""
        paths = []
        for number, model in enumerate((self.model, *self.model.siblings)):
            path = spec.folder / MODEL_NAME.format(number)
            if not path.exists():
                save_model(dataclasses.replace(model, siblings=()), path)
            paths.append(str(path))
        first, *others = (load_model(path) for path in paths)
        mark = fingerprint(dataclasses.replace(first, siblings=tuple(others)))
        return dataclasses.replace(spec, models=tuple(paths), fingerprint=mark)


def predict(
    job: ClusterJob, *, planes: Sequence[PlaneIndex] | None = None, stop: Callable[[], bool] = never
) -> Iterator[PredictionEvent]:
    """Segment an image from store to store with the workers of a pool.

    The result is that of :func:`~napari_unet.core.inference.predict.predict` in one process with the same
    workspace, bit by bit, if the processors, or cards, are of one kind. An interrupted job resumes.

    Parameters
    ----------
    job : ClusterJob
        The job.
    planes : sequence of tuple of int, optional
        Planes to segment; all by default.
    stop : callable
        Asked several times per second; when it returns True, tasks are taken back and what is done is kept.

    Yields
    ------
    Started, TileDone, PlaneDone, Fallback, Stopped, Finished

    Raises
    ------
    ClusterError
        When workers have other versions, do not see the files, or fail.
    UNetError
        For data, models and devices that cannot be used.
    """
    check_fit(job.model.card, job.planes)
    begin = time.perf_counter()
    todo = list(job.planes.indices() if planes is None else planes)
    found = yield from _agreed(job, stop)
    if found is None:
        yield Stopped("Stopped on request before the first task.")
        yield Finished(time.perf_counter() - begin)
        return
    spec, notes = found
    yield Started("predict", _crew(job.pool, spec), _chosen(spec).precision, len(todo), notes=notes)
    run = _ClusterRun(job, spec, stop, begin, len(todo))
    if not (yield from run.segment(todo)):
        yield Stopped("Stopped on request; finished chunks are kept.", run.done)
    yield Finished(time.perf_counter() - begin, run.done, metrics={"objects": float(run.objects)})


def _crew(pool: Pool, spec: JobSpec) -> str:
    """Return a description of the devices."""
    return f"{_chosen(spec).device}, {pool.count()} worker(s)"


def _chosen(spec: JobSpec) -> WorkerConfig:
    """Return the worker configuration; only a complete spec has one."""
    if spec.choice is None:
        raise ClusterError("The spec is not complete: it has no worker configuration.")
    return spec.choice


def _agreed(
    job: ClusterJob, stop: Callable[[], bool]
) -> Generator[Fallback, None, tuple[JobSpec, tuple[str, ...]] | None]:
    """Check all workers; return the complete spec and notes for the user, or None if stopped."""
    spec = job.spec()
    if not (yield from job.pool.wait(stop)):
        return None
    job.pool.check_versions(spec)
    facts = _facts(job, spec, stop)
    if facts and not all(f.model for f in facts.values()):
        spec = job.copied(spec)
        facts = _facts(job, spec, stop)
    if not facts:
        return None
    blind = [worker for worker, f in facts.items() if not f.model]
    if blind:
        raise ClusterError(f"The worker {blind[0]} cannot read the model from {spec.models[0]}.")
    notes = _compared(facts)
    choice = yield from _prepared(job, spec, stop)
    if choice is None:
        return None
    tile = job.out.work.recall("tile") or choice.tile
    job.out.work.remember("tile", tile)
    spec = dataclasses.replace(spec, choice=dataclasses.replace(choice, tile=tile))
    return spec, (*((choice.note,) if choice.note else ()), *notes)


def _facts(job: ClusterJob, spec: JobSpec, stop: Callable[[], bool]) -> dict[str, Facts]:
    """Return the facts of each worker, empty if stopped; raise for the first that cannot take part."""
    mark, found = workspace_mark(spec.folder), {}
    answers = job.pool.patiently(stop, call_in_worker, look.__name__, spec)
    for worker, said in (answers or {}).items():
        if isinstance(said, Exception):
            raise ClusterError(f"The worker {worker} cannot take part: {type(said).__name__}: {said}") from said
        refused = answered(said, worker)
        if refused is not None:
            raise refused
        if said.workspace != mark:
            raise ClusterError(
                f"The worker {worker} sees another folder at {spec.folder}. The folder of the output has to be one "
                "that all workers share, under the same path."
            )
        found[worker] = said
    return found


def _compared(facts: dict[str, Facts]) -> tuple[str, ...]:
    """Return notes on differences between workers; raise if they would compute differently."""
    (first, one), *others = facts.items()
    for worker, other in others:
        if (one.device, one.precision) != (other.device, other.precision):
            raise ClusterError(
                f"The workers do not compute alike: {first} in {one.precision} on {one.device}, {worker} in "
                f"{other.precision} on {other.device}. Give --device and --set precision=..., such as --device cpu "
                "--set precision=float32, or take workers of one kind."
            )
    kinds = sorted({f.processor for f in facts.values()}) if one.device == "cpu" else []
    if len(kinds) < 2:
        return ()
    return (
        f"Workers have different processors ({', '.join(kinds)}), which round in different ways: the result is as "
        "good, but another run may differ from it in a few pixels.",
    )


def _prepared(
    job: ClusterJob, spec: JobSpec, stop: Callable[[], bool]
) -> Generator[Fallback, None, WorkerConfig | None]:
    """Return the worker configuration, from an earlier run or from a worker; None if stopped."""
    known = job.out.work.recall("choice")
    if known is not None:
        return WorkerConfig(**known)
    found = yield from _single(job.pool, spec, (None, "prepare", ()), stop)
    if found is not None:
        job.out.work.remember("choice", dataclasses.asdict(found))
    return found


def _single(pool: Pool, spec: JobSpec, task: Task, stop: Callable[[], bool]) -> Generator[Fallback, None, Any]:
    """Return the result of one task; None if stopped."""
    result = None
    for step in pool.work(spec, [task], stop):
        if isinstance(step, Fallback):
            yield step
        else:
            result = step[1]
    return result


@dataclass
class _ClusterRun:
    """A running job.

    Attributes
    ----------
    done, objects : int
        Finished planes, and cells in them.
    """

    job: ClusterJob
    spec: JobSpec
    stop: Callable[[], bool]
    begin: float
    total: int
    done: int = 0
    objects: int = 0

    def segment(self, todo: list[PlaneIndex]) -> Generator[PredictionEvent, None, bool]:
        """Segment planes; return whether all are done, False if stopped."""
        waiting = []
        for plane in todo:
            count = self.job.out.work.recall(plane_key(plane))
            if count is None:
                waiting.append(plane)
            else:
                yield self._counted(plane, count)
        return (yield from (self._one_by_one(waiting) if self._large() else self._side_by_side(waiting)))

    def _large(self) -> bool:
        """Return whether planes are too large for memory."""
        planes, scale = self.job.planes, _chosen(self.spec).scale
        return is_large(planes.shape) or is_large((round(planes.height * scale), round(planes.width * scale)))

    def _counted(self, plane: PlaneIndex, count: int) -> PlaneDone:
        """Count a plane that is done."""
        self.done += 1
        self.objects += count
        elapsed = time.perf_counter() - self.begin
        left = elapsed / self.done * (self.total - self.done)
        return PlaneDone(self.done, self.total, plane, count, elapsed, left)

    def _finish(self, plane: PlaneIndex, count: int) -> PlaneDone:
        """Record a plane as done."""
        self.job.out.work.remember(plane_key(plane), count)
        return self._counted(plane, count)

    def _side_by_side(self, planes: list[PlaneIndex]) -> Generator[PredictionEvent, None, bool]:
        """Segment planes, each as one task."""
        tasks: Iterator[Task] = ((plane, "whole_plane", (plane, self.total == 1)) for plane in planes)
        steps = self.job.pool.work(self.spec, tasks, self.stop)
        while True:
            try:
                step = next(steps)
            except StopIteration as end:
                return bool(end.value)
            if isinstance(step, Fallback):
                yield step
                continue
            plane, part = step
            yield from _told(part)
            yield self._finish(plane, part.objects)

    def _one_by_one(self, planes: list[PlaneIndex]) -> Generator[PredictionEvent, None, bool]:
        """Segment large planes, each by many tasks."""
        for plane in planes:
            task: Task = (plane, "measure", (plane, self.total == 1))
            normalisation = yield from _single(self.job.pool, self.spec, task, self.stop)
            if normalisation is None:
                return False
            if normalisation.constant:
                yield Fallback(f"Plane {plane} is constant and has no cells.")
                yield self._finish(plane, 0)
                continue
            count = yield from self._large_plane(plane, normalisation)
            if count is None:
                return False
            yield self._counted(plane, count)
        return True

    def _large_plane(
        self, plane: PlaneIndex, normalisation: Normalisation
    ) -> Generator[PredictionEvent, None, int | None]:
        """Segment a plane chunk by chunk, then separate its cells; return their number, or None if stopped."""
        job = self.job
        model = (job.model, *job.model.siblings)[_chosen(self.spec).model]
        size = (job.planes.height, job.planes.width)
        large = large_plane(job.out.work, model, self.spec, plane, size)
        if not (yield from self._compute(large, normalisation)):
            return None
        count = yield from self._write(large)
        if count is not None:
            large.finish(count)
        return count

    def _compute(self, large: LargePlane, normalisation: Normalisation) -> Generator[PredictionEvent, None, bool]:
        """Compute the missing chunks; return whether all are done, False if stopped."""
        chunks = large.chunks()
        missing = [chunk for chunk in chunks if not large.is_done(chunk)]
        tasks: Iterator[Task] = ((chunk, "compute_chunk", (large.plane, chunk.box, normalisation)) for chunk in missing)
        done = len(chunks) - len(missing)
        for step in self.job.pool.work(self.spec, tasks, self.stop):
            if isinstance(step, Fallback):
                yield step
                continue
            chunk, part = step
            large.note(chunk)
            yield from _told(part)
            done += 1
            elapsed = time.perf_counter() - self.begin
            yield TileDone(done, len(chunks), large.plane, large.in_image(chunk), elapsed)
        return done == len(chunks)

    def _write(self, large: LargePlane) -> Generator[PredictionEvent, None, int | None]:
        """Write the result of a plane; return the number of cells, or None if stopped."""
        blocks = Blocks(self.job.pool, self.spec, large, self.stop)
        settings = self.spec.settings
        if settings.what != "instances":
            return (yield from write_values(blocks))
        scratches(large)
        return (yield from write_labels(blocks))


def _told(part: TaskResult) -> Iterator[Fallback]:
    """Yield a worker's notes as events."""
    return (Fallback(note) for note in part.notes)


__all__ = ["ClusterJob", "predict"]
