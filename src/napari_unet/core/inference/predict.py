"""Exact overlap-tile prediction (Fig. 2): a generator of events that fills an output array."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.annotation import Box
from ..data.arrays import Normalisation, PlaneIndex, Planes, ScaledPlanes, WritableArray, plane_normalisation, resample
from ..data.prefetch import ahead
from ..data.rescale import at_own_size
from ..data.tiles import split_axis
from ..errors import DataError, ModelError, OutOfMemoryError
from ..events import Event, Fallback, Finished, PlaneDone, PredictionEvent, Started, Stopped, TileDone
from ..instances.pipeline import Outputs, OutputsCallback, labels_from_outputs
from ..network.device import processor
from ..network.model_card import Card
from ..network.model_io import Model
from ..network.unet import CLASSES, DISTANCE
from ..settings import PredictionSettings, validate, with_values
from .chunked import LargePlane, MemoryWorkspace, PlaneOf, Watcher, Workspace, clear, is_large, plane_key
from .model_selection import choose_model, prediction_scale
from .tiled import (
    LARGEST_TILE,
    SMALLEST_TILE,
    Predictor,
    box_tiles,
    choose_tile,
    empty_outputs,
    predict_region,
    region_tiles,
)

__all__ = [
    "LARGEST_TILE", "SMALLEST_TILE", "Predictor", "check_fit", "choose_tile", "never", "predict", "predict_region",
    "prediction_scale", "region_tiles",
]  # fmt: skip

_HALF_FROM = 16_000_000
"""Planes of more pixels keep their outputs in 16 bits."""


def never() -> bool:
    """Return False: the stop function of whoever does not stop."""
    return False


def check_fit(card: Card, image: Planes) -> None:
    """Raise a :class:`ModelError` when the image has other channels than the model expects."""
    if image.channels != card.channels:
        hint = " Read the colours as grey (Planes.as_grey)." if image.rgb and card.channels == 1 else ""
        raise ModelError(
            f"The model {card.name} expects {card.channels} channel(s), but the image has {image.channels}; choose as "
            f"many as it was trained on, or train a model on this image.{hint}"
        )


def predict(
    model: Model,
    image: Planes,
    output: WritableArray,
    *,
    settings: PredictionSettings | None = None,
    stop: Callable[[], bool] = never,
    planes: Sequence[tuple[int, ...]] | None = None,
    keep: OutputsCallback | None = None,
    work: Workspace | None = None,
    watcher: Watcher | None = None,
) -> Iterator[PredictionEvent]:
    """Segment an image or stack plane by plane.

    Parameters
    ----------
    model : Model
        Network and card.
    image : Planes
        What to segment.
    output : WritableArray
        Filled with labels, classes or probabilities; its shape is ``image.shape``.
    settings : PredictionSettings, optional
        Options; by default those that the model's card recommends.
    stop : callable
        Asked before every tile; when it returns True, planes done are kept and no other is begun.
    planes : sequence of tuple, optional
        Which planes, in which order; all by default.
    keep : callable, optional
        Is given each plane, the network's outputs at the image's own size, and the size at which the network saw it
        over that, for re-labelling without the network (:func:`~napari_unet.core.data.rescale.at_own_size`);
        outputs are held in memory then, however large the plane is.
    work : Workspace, optional
        Where it is recorded what is done, and outputs of large planes are kept. A job that is given the
        workspace and the output of an earlier one that was cut off goes on where that was.
    watcher : Watcher, optional
        Says where in a large plane to begin, and is shown each part of it.

    Yields
    ------
    Started, TileDone, PlaneDone, Fallback, Stopped, Finished

    Raises
    ------
    UNetError
        For data, models and devices that cannot be used.
    """
    chosen = settings or with_values(PredictionSettings(), model.card.prediction)
    job = _Job.create(model, image, output, validate(chosen), work)
    todo = list(image.indices() if planes is None else planes)
    compute, notes = job.predictor.compute, (job.note,) if job.note else ()
    yield Started("predict", str(compute.device), compute.precision, len(todo), notes=notes)
    begin, done, objects = time.perf_counter(), 0, 0
    run = _PredictionRun(output, len(todo) == 1, stop, begin, watcher, keep is not None)
    threads = job.predictor.threads
    for found, count in ahead(lambda f: job.finish(f, run), job.computed(todo, run), threads, 2 * threads):
        if isinstance(found, Event):
            yield found
            continue
        job.record(found, count, keep)
        done, objects = done + 1, objects + count
        elapsed = time.perf_counter() - begin
        yield PlaneDone(done, len(todo), found.plane, count, elapsed, elapsed / done * (len(todo) - done))
    if done < len(todo):
        yield Stopped("Stopped on request; finished planes are kept.", done)
    yield Finished(time.perf_counter() - begin, done, metrics={"objects": float(objects)})


@dataclass(frozen=True)
class _PredictionRun:
    """What a plane has to know of the run that it is part of: whether it is the only one, and when all began."""

    output: WritableArray
    only: bool
    stop: Callable[[], bool]
    begin: float
    watcher: Watcher | None = None
    keeps: bool = False


@dataclass(frozen=True)
class _ReadyPlane:
    """A plane that is about to go through the network.

    Attributes
    ----------
    count : int or None
        Cells in it, when an earlier run has finished it.
    normalisation : Normalisation or None
        Of the plane; None when it is finished.
    """

    count: int | None
    normalisation: Normalisation | None


@dataclass(frozen=True)
class _Computed:
    """A plane that has gone through the network.

    Attributes
    ----------
    plane : tuple of int
        Which.
    outputs : dict or None
        What the network says of it; None when its result is written already.
    count : int
        Cells in it, when its result is written.
    """

    plane: PlaneIndex
    outputs: dict[str, NDArray[Any]] | None
    count: int = 0


class _Left:
    """Boxes of which those that were asked for but not done come again, when they are asked for anew."""

    def __init__(self, boxes: Iterable[Box]) -> None:
        self._new = iter(boxes)
        self._begun: deque[Box] = deque()

    def __iter__(self) -> Iterator[Box]:
        yield from list(self._begun)
        for box in self._new:
            self._begun.append(box)
            yield box

    def done(self) -> None:
        """Note that the first of those that were asked for is done."""
        self._begun.popleft()


@dataclass
class _Job:
    """One prediction: the network where it runs now, and the tile size that fits there."""

    model: Model
    image: Planes
    settings: PredictionSettings
    predictor: Predictor
    tile: int
    note: str = ""
    work: Workspace | None = None

    @classmethod
    def create(
        cls,
        model: Model,
        image: Planes,
        output: WritableArray,
        settings: PredictionSettings,
        work: Workspace | None = None,
    ) -> _Job:
        """Return the job after checking that everything fits."""
        check_fit(model.card, image)
        if tuple(output.shape) != image.shape:
            raise DataError(f"The output has the shape {tuple(output.shape)}, but the image needs {image.shape}.")
        choice = choose_model(model, image, settings)
        predictor = choice.predictor
        seen = image if choice.scale == 1 else ScaledPlanes(image, choice.scale)
        if 0 < settings.tile < predictor.network.geometry.stride:
            split_axis(1, settings.tile, predictor.network.geometry)  # raises before anything starts
        tile = settings.tile or choose_tile(predictor.network, predictor.compute, seen.height, seen.width)
        if work is not None:
            # The memory that is free now may not be what it was: other tiles round in other ways.
            tile = work.recall("tile") or tile
            work.remember("tile", tile)
        return cls(choice.model, seen, settings, predictor, tile, choice.told(settings), work)

    @property
    def scale(self) -> float:
        """The size at which the network sees the image over its own."""
        return self.image.scale if isinstance(self.image, ScaledPlanes) else 1.0

    @property
    def source(self) -> Planes:
        """The image at its own size."""
        return self.image.source if isinstance(self.image, ScaledPlanes) else self.image

    def recalled(self, plane: PlaneIndex) -> int | None:
        """Return how many cells were found in a plane that an earlier run has finished; None when none has."""
        return None if self.work is None else self.work.recall(plane_key(plane))

    def computed(self, todo: Iterable[tuple[int, ...]], run: _PredictionRun) -> Iterator[PredictionEvent | _Computed]:
        """Yield events and every plane once the network is done with it; ends early when stopped."""
        ready = ahead(self._ready, todo) if self.source.read_ahead else ((plane, self._ready(plane)) for plane in todo)
        for plane, about in ready:
            if about.count is not None or about.normalisation is None:
                yield _Computed(plane, None, about.count or 0)
                continue
            found = yield from self._compute(plane, about.normalisation, run)
            if found is None:
                return
            yield found

    def _ready(self, plane: PlaneIndex) -> _ReadyPlane:
        """Return what has to be known of a plane before the network sees it."""
        count = self.recalled(plane)
        return _ReadyPlane(count, plane_normalisation(self.source, plane) if count is None else None)

    def _compute(
        self, plane: PlaneIndex, normalisation: Normalisation, run: _PredictionRun
    ) -> Generator[PredictionEvent, None, _Computed | None]:
        """Yield events and return a plane that the network is done with; None when stopped."""
        self._check_contrast(normalisation, run)
        large = not run.keeps and (is_large(self.source.shape) or is_large(self.image.shape))
        if normalisation.constant:
            yield Fallback(f"Plane {plane} is constant and has no cells.")
            if large:
                clear(PlaneOf(run.output, plane))
                return _Computed(plane, None)
        elif large:
            count = yield from self._segment_large(plane, normalisation, run)
            return None if count is None else _Computed(plane, None, count)
        outputs = yield from self.plane_outputs(plane, normalisation, run)
        return None if outputs is None else _Computed(plane, outputs)

    def finish(self, found: PredictionEvent | _Computed, run: _PredictionRun) -> int:
        """Write the result of a plane that is held in memory; return how many cells it has. Events are left alone."""
        if isinstance(found, Event):
            return 0
        if found.outputs is None:
            return found.count
        labels = labels_from_outputs(found.outputs, at_own_size(self.settings, self.scale))
        run.output[(*found.plane, slice(None), slice(None))] = labels
        return int(labels.max(initial=0)) if self.settings.what == "instances" else 0

    def record(self, found: _Computed, count: int, keep: OutputsCallback | None) -> None:
        """Note that a plane is done, and hand its outputs to who keeps them."""
        if keep is not None and found.outputs is not None:
            keep(found.plane, found.outputs, self.scale)
        if self.work is not None and self.recalled(found.plane) is None:
            self.work.remember(plane_key(found.plane), count)

    def _segment_large(
        self, plane: PlaneIndex, normalisation: Normalisation, run: _PredictionRun
    ) -> Generator[PredictionEvent, None, int | None]:
        """Write the result of a plane that is never held as a whole, and return how many cells it has."""
        outputs = self.predictor.network.outputs
        classes = outputs[CLASSES].stop - outputs[CLASSES].start
        large = LargePlane(
            self.work or MemoryWorkspace(), plane, (self.image.height, self.image.width),
            (self.source.height, self.source.width), at_own_size(self.settings, self.scale), classes,
            DISTANCE in outputs,
        )  # fmt: skip

        def network(boxes: Iterable[Box]) -> Iterator[PredictionEvent | tuple[Box, Outputs]]:
            # Of its tiles nothing is told: a chunk counts when it is whole.
            return (f for f in self.boxes(plane, boxes, normalisation, run) if not isinstance(f, TileDone))

        done = yield from large.compute(network, run.begin, run.watcher, self.predictor.threads)
        if not done:
            return None
        steps = large.write(PlaneOf(run.output, plane))
        while True:
            try:
                next(steps)
            except StopIteration as end:
                large.finish(end.value)
                return int(end.value)
            if run.stop():
                return None

    @staticmethod
    def _check_contrast(normalisation: Normalisation, run: _PredictionRun) -> None:
        """Raise when the only plane is constant."""
        if normalisation.constant and run.only:
            raise DataError(
                f"The image is constant: every grey value is {normalisation.low[0]:g}. There is nothing to segment."
            )

    def plane_outputs(
        self, plane: PlaneIndex, normalisation: Normalisation, run: _PredictionRun
    ) -> Generator[PredictionEvent, None, dict[str, NDArray[Any]] | None]:
        """Yield events and return the plane's outputs at the image's own size; None when stopped."""
        if normalisation.constant:
            return self._blank(self.source.height, self.source.width)
        kind = np.float16 if self.image.height * self.image.width > _HALF_FROM else np.float32
        outputs = None
        for found in self.boxes(plane, [(0, self.image.height, 0, self.image.width)], normalisation, run, kind):
            if isinstance(found, Event):
                yield found
            else:
                outputs = dict(found[1])
        if outputs is None or self.image is self.source:
            return outputs
        return {name: resample(v, (self.source.height, self.source.width)) for name, v in outputs.items()}

    def boxes(
        self, plane: PlaneIndex, boxes: Iterable[Box], normalisation: Normalisation, run: _PredictionRun,
        kind: type = np.float32,
    ) -> Iterator[PredictionEvent | tuple[Box, Outputs]]:  # fmt: skip
        """Yield events, and each box of a plane with its outputs at the network's scale; ends early when stopped.

        Whatever fails for want of memory is computed again, with smaller tiles or by the processor.
        """
        left = _Left(boxes)
        while True:
            steps = box_tiles(
                self.predictor, self.image, plane, left, self.tile, normalisation, lambda box: self._maps(box, kind),
                run.stop,
            )  # fmt: skip
            try:
                for piece, outputs in steps:
                    yield TileDone(piece.number, piece.total, plane, piece.where, time.perf_counter() - run.begin)
                    if piece.number == piece.total:
                        left.done()
                        yield piece.box, outputs
                return
            except OutOfMemoryError as error:
                yield Fallback(self._step_down(error))

    def _maps(self, box: Box, kind: type) -> dict[str, NDArray[Any]]:
        """Return unfilled maps for a box."""
        return empty_outputs(self.predictor.network, box[1] - box[0], box[3] - box[2], kind)

    def _blank(self, height: int, width: int) -> dict[str, NDArray[Any]]:
        """Return outputs that are background everywhere."""
        outputs = empty_outputs(self.predictor.network, height, width, np.float32)
        for values in outputs.values():
            values[:] = 0
        outputs[CLASSES][0] = 1
        return outputs

    def _step_down(self, error: OutOfMemoryError) -> str:
        """Take the next step of the out-of-memory ladder and return what to tell; raise when there is none."""
        smallest = max(SMALLEST_TILE, self.predictor.network.geometry.stride)
        if self.tile > smallest:
            self.tile = max(smallest, self.tile // 2)
            if self.work is not None:
                self.work.remember("tile", self.tile)
            return f"Too little memory; continuing with smaller tiles of {self.tile} px. The result is the same."
        if self.predictor.compute.device.type == "cpu":
            raise error
        self.predictor = Predictor.create(self.model.network, processor(self.settings.precision), self.settings.tta)
        self.tile = choose_tile(self.predictor.network, self.predictor.compute, self.image.height, self.image.width)
        return "Too little memory on the graphics card; continuing on the processor, which is slower."
