"""Exact overlap-tile prediction (Fig. 2): a generator of events that fills an output array."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arrays import Normalisation, Planes, ScaledPlanes, WritableArray, plane_normalisation, resample
from .card import Card
from .choosing import choose_model, prediction_scale
from .device import processor
from .errors import DataError, ModelError, OutOfMemoryError
from .events import Adapted, Finished, PlaneDone, PredictionEvent, Started, Stopped, TileDone
from .instances import Outputs, labels_from_outputs
from .large import LargePlane, MemoryWorkspace, PlaneOf, Workspace, is_large, plane_key
from .package import Model
from .predictor import LARGEST_TILE, SMALLEST_TILE, Predictor, choose_tile, empty_outputs, predict_region, region_tiles
from .settings import PredictionSettings, validate, with_values
from .tiles import split_axis
from .unet import CLASSES, DISTANCE

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
    keep: Callable[[tuple[int, ...], Outputs], None] | None = None,
    work: Workspace | None = None,
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
        Is given the network outputs of each plane, for re-labelling without the network; they are held in
        memory then, however large the plane is.
    work : Workspace, optional
        Where it is recorded what is done, and outputs of large planes are kept. A job that is given the
        workspace and the output of an earlier one that was cut off goes on where that was.

    Yields
    ------
    Started, TileDone, PlaneDone, Adapted, Stopped, Finished

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
    begin, objects = time.perf_counter(), 0
    for done, plane in enumerate(todo, start=1):
        count = job.recalled(plane)
        if count is None:
            count = yield from job.segment(plane, output, _Run(len(todo) == 1, stop, begin), keep)
        if count is None:
            done -= 1
            yield Stopped("Stopped on request; finished planes are kept.", done)
            break
        objects += count
        elapsed = time.perf_counter() - begin
        yield PlaneDone(done, len(todo), plane, count, elapsed, elapsed / done * (len(todo) - done))
    else:
        done = len(todo)
    yield Finished(time.perf_counter() - begin, done, metrics={"objects": float(objects)})


@dataclass(frozen=True)
class _Run:
    """What a plane has to know of the run that it is part of: whether it is the only one, and when all began."""

    only: bool
    stop: Callable[[], bool]
    begin: float


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
        return cls(choice.model, seen, settings, predictor, tile, choice.note, work)

    @property
    def source(self) -> Planes:
        """The image at its own size."""
        return self.image.source if isinstance(self.image, ScaledPlanes) else self.image

    def recalled(self, plane: tuple[int, ...]) -> int | None:
        """Return how many cells were found in a plane that an earlier run has finished; None when none has."""
        return None if self.work is None else self.work.recall(plane_key(plane))

    def segment(
        self, plane: tuple[int, ...], output: WritableArray, run: _Run,
        keep: Callable[[tuple[int, ...], Outputs], None] | None,
    ) -> Generator[PredictionEvent, None, int | None]:  # fmt: skip
        """Yield events, write a plane's result and return how many cells it has; None when stopped."""
        normalisation = plane_normalisation(self.source, plane)
        self._check_contrast(normalisation, run)
        if normalisation.constant:
            yield Adapted(f"Plane {plane} is constant and has no cells.")
        elif keep is None and (is_large(self.source.shape) or is_large(self.image.shape)):
            return (yield from self._segment_large(plane, normalisation, output, run))
        outputs = yield from self.plane_outputs(plane, normalisation, run)
        if outputs is None:
            return None
        labels = labels_from_outputs(outputs, self.settings)
        output[(*plane, slice(None), slice(None))] = labels
        if keep is not None:
            keep(plane, outputs)
        count = int(labels.max(initial=0)) if self.settings.what == "instances" else 0
        if self.work is not None:
            self.work.remember(plane_key(plane), count)
        return count

    def _segment_large(
        self, plane: tuple[int, ...], normalisation: Normalisation, output: WritableArray, run: _Run
    ) -> Generator[PredictionEvent, None, int | None]:
        """Do the same as :meth:`segment` for a plane that is never held as a whole."""
        outputs = self.predictor.network.outputs
        classes = outputs[CLASSES].stop - outputs[CLASSES].start
        large = LargePlane(
            self.work or MemoryWorkspace(), plane, (self.image.height, self.image.width),
            (self.source.height, self.source.width), self.settings, classes, DISTANCE in outputs,
        )  # fmt: skip
        done = yield from large.compute(lambda box: self._box(plane, box, normalisation, run), run.stop, run.begin)
        if not done:
            return None
        steps = large.write(PlaneOf(output, plane))
        while True:
            try:
                next(steps)
            except StopIteration as end:
                large.finish(end.value)
                return int(end.value)
            if run.stop():
                return None

    @staticmethod
    def _check_contrast(normalisation: Normalisation, run: _Run) -> None:
        """Raise when the only plane is constant."""
        if normalisation.constant and run.only:
            raise DataError(
                f"The image is constant: every grey value is {normalisation.low[0]:g}. There is nothing to segment."
            )

    def plane_outputs(
        self, plane: tuple[int, ...], normalisation: Normalisation, run: _Run
    ) -> Generator[PredictionEvent, None, dict[str, NDArray[Any]] | None]:
        """Yield events and return the plane's outputs at the image's own size; None when stopped."""
        if normalisation.constant:
            return self._blank(self.source.height, self.source.width)
        kind = np.float16 if self.image.height * self.image.width > _HALF_FROM else np.float32
        outputs = yield from self._box(plane, (0, self.image.height, 0, self.image.width), normalisation, run, kind)
        if outputs is None or self.image is self.source:
            return outputs
        return {name: resample(v, (self.source.height, self.source.width)) for name, v in outputs.items()}

    def _box(
        self, plane: tuple[int, ...], box: tuple[int, int, int, int], normalisation: Normalisation, run: _Run,
        kind: type = np.float32,
    ) -> Generator[PredictionEvent, None, dict[str, NDArray[Any]] | None]:  # fmt: skip
        """Yield events and return the outputs of a part of a plane at the network's scale; None when stopped."""
        while True:
            try:
                return (yield from self._tiles(plane, box, normalisation, run, kind))
            except OutOfMemoryError as error:
                yield Adapted(self._step_down(error))

    def _tiles(
        self, plane: tuple[int, ...], box: tuple[int, int, int, int], normalisation: Normalisation, run: _Run,
        kind: type,
    ) -> Generator[PredictionEvent, None, dict[str, NDArray[Any]] | None]:  # fmt: skip
        """Do the same as :meth:`_box` with the tiles and the device of now."""
        outputs = empty_outputs(self.predictor.network, box[1] - box[0], box[3] - box[2], kind)
        if run.stop():
            return None
        for done, total, where in region_tiles(
            self.predictor, self.image, plane, box, self.tile, normalisation, outputs
        ):
            yield TileDone(done, total, plane, where, time.perf_counter() - run.begin)
            if done < total and run.stop():
                return None
        return outputs

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
            return f"Too little memory; going on with smaller tiles of {self.tile} px. The result is the same."
        if self.predictor.compute.device.type == "cpu":
            raise error
        self.predictor = Predictor.create(self.model.network, processor(self.settings.precision), self.settings.mirror)
        self.tile = choose_tile(self.predictor.network, self.predictor.compute, self.image.height, self.image.width)
        return "Too little memory on the graphics card; going on with the processor, which is slower."
