"""Exact overlap-tile prediction (Fig. 2): a generator of events that fills an output array."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .arrays import (
    SCALE_LIMITS,
    Normalisation,
    Planes,
    ScaledPlanes,
    WritableArray,
    plane_normalisation,
    read_mirrored,
    resample,
)
from .card import Card
from .device import Compute, choose, free_memory, processor, readable_errors
from .diameter import measure_size, middle_plane
from .errors import DataError, ModelError, OutOfMemoryError
from .events import Adapted, Finished, PlaneDone, PredictionEvent, Started, Stopped, TileDone
from .instances import Outputs, labels_from_outputs
from .package import Model
from .settings import PredictionSettings, validate, with_values
from .tiles import Tile, split_axis
from .unet import CLASSES, UNet

LARGEST_TILE = 1024
"""Output side in pixels above which larger tiles gain less than 2 % and only cost memory."""
SMALLEST_TILE = 128
_FLIPS: tuple[tuple[int, ...], ...] = ((), (2,), (3,), (2, 3))
_HALF_FROM = 16_000_000
"""Planes of more pixels keep their outputs in 16 bits."""


def never() -> bool:
    """Return False: the stop function of whoever does not stop."""
    return False


@dataclass(frozen=True)
class Predictor:
    """A network ready to run on its device.

    Attributes
    ----------
    network : UNet
        Batch normalisation folded, in the compute's number format.
    compute : Compute
        Where it lives.
    mirror : bool
        Whether to average over the mirrored images.
    """

    network: UNet
    compute: Compute
    mirror: bool = False

    @classmethod
    def create(cls, network: UNet, compute: Compute, mirror: bool = False) -> Predictor:
        """Return a predictor with a copy of the network."""
        with readable_errors(compute.device):
            ready = network.fused().to(compute.device, compute.dtype)
            return cls(ready.to(memory_format=torch.channels_last), compute, mirror)  # type: ignore[call-overload]

    @torch.inference_mode()
    def run(self, block: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Return the named outputs of a normalised (C, Y, X) block: class probabilities, distance."""
        with readable_errors(self.compute.device):
            x = torch.from_numpy(block)[None].to(self.compute.device, self.compute.dtype)
            x = x.contiguous(memory_format=torch.channels_last)
            flips = _FLIPS if self.mirror else _FLIPS[:1]
            total: dict[str, torch.Tensor] = {}
            for flip in flips:
                out = self.network(x.flip(flip) if flip else x, padding="valid").float()
                for name, part in self.network.split(out.flip(flip) if flip else out).items():
                    values = torch.softmax(part, 1) if name == CLASSES else part
                    total[name] = total[name] + values if name in total else values
            return {name: (values[0] / len(flips)).cpu().numpy() for name, values in total.items()}


def choose_tile(network: UNet, compute: Compute, height: int, width: int) -> int:
    """Return the side of output tiles that fits a quarter of the free memory.

    Notes
    -----
    The most is held at the top of the expansive path: the skip, the up-convolved map, both
    concatenated, and a convolution's result, about six times ``width`` maps in all.
    """
    per_pixel = 6 * network.head.in_channels * torch.empty((), dtype=compute.dtype).element_size()
    side = int((free_memory(compute.device) / 4 / per_pixel) ** 0.5) - 2 * network.geometry.margin
    return max(SMALLEST_TILE, network.geometry.stride, min(side, LARGEST_TILE, max(height, width)))


def region_tiles(
    predictor: Predictor,
    planes: Planes,
    plane: tuple[int, ...],
    box: tuple[int, int, int, int],
    tile: int,
    normalisation: Normalisation,
    outputs: dict[str, NDArray[Any]],
) -> Iterator[tuple[int, int, tuple[int, int, int, int]]]:
    """Compute a region tile by tile into ``outputs``, whose maps have the shape of the box.

    The box has to start at multiples of the network's stride, for seamless results.

    Yields
    ------
    tuple
        Tiles done, tiles in all, and the tile's y0, y1, x0, x1.
    """
    y0, y1, x0, x1 = box
    rows = split_axis(y1 - y0, tile, predictor.network.geometry)
    columns = split_axis(x1 - x0, tile, predictor.network.geometry)
    done = 0
    for ty in rows:
        for tx in columns:
            block = _read_tile(planes, plane, ty, tx, y0, x0)
            for name, values in predictor.run(normalisation.apply(block)).items():
                outputs[name][:, ty.write_slice, tx.write_slice] = values[:, ty.crop_slice, tx.crop_slice]
            done += 1
            where = (y0 + ty.write_start, y0 + ty.write_stop, x0 + tx.write_start, x0 + tx.write_stop)
            yield done, len(rows) * len(columns), where


def _read_tile(planes: Planes, plane: tuple[int, ...], ty: Tile, tx: Tile, y0: int, x0: int) -> NDArray[np.float32]:
    """Return a tile with its context, mirrored where the image ends."""
    box = (y0 + ty.read_start, y0 + ty.read_stop, x0 + tx.read_start, x0 + tx.read_stop)
    block = read_mirrored(planes, plane, *box)
    # The normalisation of a large plane has seen only some of its rows.
    if not np.isfinite(block).all():
        where = f" of plane {plane}" if plane else ""
        raise DataError(f"Grey values in rows {max(0, box[0])} to {box[1]}{where} are NaN or infinite; replace them.")
    return block


def predict_region(
    predictor: Predictor,
    planes: Planes,
    plane: tuple[int, ...],
    box: tuple[int, int, int, int],
    normalisation: Normalisation,
    tile: int = LARGEST_TILE,
) -> dict[str, NDArray[np.float32]]:
    """Return the named outputs of any box of a plane, (k, Y, X) each: the atom of all predictions.

    Parameters
    ----------
    predictor : Predictor
        The network.
    planes : Planes
        The image at the network's scale.
    plane : tuple of int
        Index of the plane.
    box : tuple of int
        y0, y1, x0, x1 inside the plane.
    normalisation : Normalisation
        Of the whole plane.
    tile : int
        Largest output side in pixels; the result does not depend on it.
    """
    stride = predictor.network.geometry.stride
    y0, y1, x0, x1 = box
    top, left = y0 // stride * stride, x0 // stride * stride
    outputs = _empty_outputs(predictor.network, y1 - top, x1 - left, np.float32)
    for _ in region_tiles(predictor, planes, plane, (top, y1, left, x1), tile, normalisation, outputs):
        continue
    return {name: values[:, y0 - top :, x0 - left :] for name, values in outputs.items()}


def _empty_outputs(network: UNet, height: int, width: int, dtype: type) -> dict[str, NDArray[Any]]:
    """Return unfilled maps for every named output."""
    return {n: np.empty((s.stop - s.start, height, width), dtype) for n, s in network.outputs.items()}


def prediction_scale(card: Card, settings: PredictionSettings) -> float:
    """Return the size at which the network sees the image over the image's own size; 0 has to be measured."""
    if settings.diameter and card.diameter:
        return float(np.clip(card.diameter / settings.diameter, *SCALE_LIMITS))
    return card.scale


_SAME_SIZE = 1.1
"""Factor by which the measured size may be off before an image is resampled at all."""


def measured_scale(predictor: Predictor, card: Card, image: Planes, settings: PredictionSettings) -> tuple[float, str]:
    """Return the size at which cells are as large as the network knows them, and what to tell of it.

    Parameters
    ----------
    predictor : Predictor
        The network.
    card : Card
        Says how large the network knows cells.
    image : Planes
        Its middle plane is looked at.
    settings : PredictionSettings
        How outputs become cells.
    """
    look = functools.partial(predict_region, predictor)
    plane = middle_plane(image.plane_shape)
    trial = measure_size(look, image, plane, card.diameter, dataclasses.replace(settings, mirror=False))
    if trial is None:
        return 1.0, "No cell was found at any size; set the typical diameter of the cells if there are some."
    scale = float(np.clip(card.diameter / trial.diameter, *SCALE_LIMITS))
    if 1 / _SAME_SIZE < scale < _SAME_SIZE:
        scale = 1.0
    return scale, (
        f"Cells look about {trial.diameter:.0f} px wide; the image is seen at {scale:.2f} of its size. "
        "Set the typical diameter if that is wrong."
    )


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
        Is given the network outputs of each plane, for re-labelling without the network.

    Yields
    ------
    Started, TileDone, PlaneDone, Adapted, Stopped, Finished

    Raises
    ------
    UNetError
        For data, models and devices that cannot be used.
    """
    chosen = settings or with_values(PredictionSettings(), model.card.prediction)
    job = _Job.create(model, image, output, validate(chosen))
    todo = list(image.indices() if planes is None else planes)
    yield Started("predict", str(job.predictor.compute.device), job.predictor.compute.precision, len(todo))
    if job.note:
        yield Adapted(job.note)
    begin, objects = time.perf_counter(), 0
    for done, plane in enumerate(todo, start=1):
        outputs = yield from job.plane_outputs(plane, len(todo) == 1, stop, begin)
        if outputs is None:
            done -= 1
            yield Stopped("Stopped on request; finished planes are kept.", done)
            break
        labels = labels_from_outputs(outputs, job.settings)
        output[(*plane, slice(None), slice(None))] = labels
        if keep is not None:
            keep(plane, outputs)
        count = int(labels.max(initial=0)) if job.settings.what == "instances" else 0
        objects += count
        elapsed = time.perf_counter() - begin
        yield PlaneDone(done, len(todo), plane, count, elapsed, elapsed / done * (len(todo) - done))
    else:
        done = len(todo)
    yield Finished(time.perf_counter() - begin, done, metrics={"objects": float(objects)})


@dataclass
class _Job:
    """One prediction: the network where it runs now, and the tile size that fits there."""

    model: Model
    image: Planes
    settings: PredictionSettings
    predictor: Predictor
    tile: int
    note: str = ""

    @classmethod
    def create(cls, model: Model, image: Planes, output: WritableArray, settings: PredictionSettings) -> _Job:
        """Return the job after checking that everything fits."""
        check_fit(model.card, image)
        if tuple(output.shape) != image.shape:
            raise DataError(f"The output has the shape {tuple(output.shape)}, but the image needs {image.shape}.")
        predictor = Predictor.create(model.network, choose(settings.device, settings.precision), settings.mirror)
        scale, note = prediction_scale(model.card, settings), ""
        if not scale:
            scale, note = measured_scale(predictor, model.card, image, settings)
        seen = image if scale == 1 else ScaledPlanes(image, scale)
        if 0 < settings.tile < predictor.network.geometry.stride:
            split_axis(1, settings.tile, predictor.network.geometry)  # raises before anything starts
        tile = settings.tile or choose_tile(predictor.network, predictor.compute, seen.height, seen.width)
        return cls(model, seen, settings, predictor, tile, note)

    def plane_outputs(
        self, plane: tuple[int, ...], only: bool, stop: Callable[[], bool], begin: float
    ) -> Generator[PredictionEvent, None, dict[str, NDArray[Any]] | None]:
        """Yield events and return the plane's outputs at the image's own size; None when stopped."""
        source = self.image.source if isinstance(self.image, ScaledPlanes) else self.image
        normalisation = plane_normalisation(source, plane)
        if normalisation.constant:
            if only:
                raise DataError(
                    f"The image is constant: every grey value is {normalisation.low[0]:g}. There is nothing to segment."
                )
            yield Adapted(f"Plane {plane} is constant and has no cells.")
            return self._blank(source.height, source.width)
        while True:
            try:
                outputs = yield from self._tiles(plane, normalisation, stop, begin)
                break
            except OutOfMemoryError as error:
                yield Adapted(self._step_down(error))
        if outputs is None or self.image is source:
            return outputs
        return {name: resample(v, (source.height, source.width)) for name, v in outputs.items()}

    def _tiles(
        self, plane: tuple[int, ...], normalisation: Normalisation, stop: Callable[[], bool], begin: float
    ) -> Generator[PredictionEvent, None, dict[str, NDArray[Any]] | None]:
        """Yield TileDone events and return the plane's outputs at the network's scale; None when stopped."""
        height, width = self.image.height, self.image.width
        kind = np.float16 if height * width > _HALF_FROM else np.float32
        outputs = _empty_outputs(self.predictor.network, height, width, kind)
        box = (0, height, 0, width)
        if stop():
            return None
        for done, total, where in region_tiles(
            self.predictor, self.image, plane, box, self.tile, normalisation, outputs
        ):
            yield TileDone(done, total, plane, where, time.perf_counter() - begin)
            if done < total and stop():
                return None
        return outputs

    def _blank(self, height: int, width: int) -> dict[str, NDArray[Any]]:
        """Return outputs that are background everywhere."""
        outputs = _empty_outputs(self.predictor.network, height, width, np.float32)
        for values in outputs.values():
            values[:] = 0
        outputs[CLASSES][0] = 1
        return outputs

    def _step_down(self, error: OutOfMemoryError) -> str:
        """Take the next step of the out-of-memory ladder and return what to tell; raise when there is none."""
        smallest = max(SMALLEST_TILE, self.predictor.network.geometry.stride)
        if self.tile > smallest:
            self.tile = max(smallest, self.tile // 2)
            return f"Too little memory; going on with smaller tiles of {self.tile} px. The result is the same."
        if self.predictor.compute.device.type == "cpu":
            raise error
        self.predictor = Predictor.create(self.model.network, processor(self.settings.precision), self.settings.mirror)
        self.tile = choose_tile(self.predictor.network, self.predictor.compute, self.image.height, self.image.width)
        return "Too little memory on the graphics card; going on with the processor, which is slower."
