"""A network ready to run, and exact overlap-tile prediction of any box of a plane (Fig. 2)."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from ..data.annotation import Box
from ..data.arrays import Normalisation, PlaneIndex, Planes, read_mirrored
from ..data.prefetch import ahead, cores
from ..data.tiles import Tile, split_axis
from ..errors import DataError
from ..network.device import Compute, free_memory, readable_errors
from ..network.unet import CLASSES, UNet

LARGEST_TILE = 1024
"""Output side in pixels above which larger tiles gain less than 2 % and only cost memory."""
SMALLEST_TILE = 128
_MOST_THREADS = 4
"""Threads that read for a graphics card, or write what it computed."""
_CUDA: Any = torch.cuda
"""Without types: only a part of the module has any."""
_FLIPS: tuple[tuple[int, ...], ...] = ((), (2,), (3,), (2, 3))
MIRRORED = len(_FLIPS)
"""Times as long as the image alone, the average over its mirrored images takes."""


K = TypeVar("K")


@dataclass(frozen=True)
class Underway:
    """The outputs of a block that a device may still be computing.

    Attributes
    ----------
    outputs : dict
        Tensors on the processor, filled when ``ready`` has happened.
    ready : torch.cuda.Event or None
        None when they are there.
    """

    outputs: dict[str, torch.Tensor]
    ready: Any = None

    def wait(self) -> dict[str, NDArray[np.float32]]:
        """Return the outputs once they are there."""
        if self.ready is not None:
            self.ready.synchronize()
        return {name: values.numpy() for name, values in self.outputs.items()}


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
    tta: bool = False

    @classmethod
    def create(cls, network: UNet, compute: Compute, tta: bool = False) -> Predictor:
        """Return a predictor with a copy of the network."""
        with readable_errors(compute.device):
            ready = network.fused().to(compute.device, compute.dtype)
            return cls(ready.to(memory_format=torch.channels_last), compute, tta)  # type: ignore[call-overload]

    @property
    def threads(self) -> int:
        """Threads that are worth while to read for this device, and as many to write: a processor is busy itself."""
        return 1 if self.compute.device.type == "cpu" else max(1, min(_MOST_THREADS, cores() - 1))

    def run(self, block: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Return the named outputs of a normalised (C, Y, X) block: class probabilities, distance."""
        with readable_errors(self.compute.device):
            return self.begin(block).wait()

    def results(self, blocks: Iterable[tuple[K, NDArray[np.float32]]]) -> Iterator[tuple[K, dict[str, NDArray[Any]]]]:
        """Yield what :meth:`run` returns for each block, under the block's own key, in order.

        A graphics card is given the next block before the outputs of the one before are asked for, so that it
        copies and computes at once and never waits for its host.
        """
        if self.compute.device.type != "cuda":
            yield from ((key, self.run(block)) for key, block in blocks)
            return
        underway: deque[tuple[K, Underway]] = deque()
        for key, block in blocks:
            underway.append((key, self.begin(block)))
            if len(underway) > 1:
                yield self._waited(*underway.popleft())
        while underway:
            yield self._waited(*underway.popleft())

    def _waited(self, key: K, underway: Underway) -> tuple[K, dict[str, NDArray[Any]]]:
        with readable_errors(self.compute.device):
            return key, underway.wait()

    @torch.inference_mode()
    def begin(self, block: NDArray[np.float32]) -> Underway:
        """Begin to compute the outputs of a normalised (C, Y, X) block; on a processor they are there at once."""
        with readable_errors(self.compute.device):
            if self.compute.device.type != "cuda":
                x = torch.from_numpy(block)[None].to(self.compute.device, self.compute.dtype)
                return Underway({name: values.cpu() for name, values in self._outputs(x).items()})
            return self._begin_on_card(block)

    def _begin_on_card(self, block: NDArray[np.float32]) -> Underway:
        """Queue copying there, computing and copying back; nothing of it is waited for.

        The copies have a stream of their own and pinned memory, as otherwise they would wait for the network
        of the block before.
        """
        device, copying = self.compute.device, _copy_stream(self.compute.device)
        computing = torch.cuda.current_stream(device)
        pinned = torch.from_numpy(block)[None].pin_memory()
        with torch.cuda.stream(copying):
            x = pinned.to(device, non_blocking=True)
        computing.wait_stream(copying)
        x.record_stream(computing)
        found = self._outputs(x.to(self.compute.dtype))
        copying.wait_stream(computing)
        ready = _CUDA.Event()
        with torch.cuda.stream(copying):
            for values in found.values():
                values.record_stream(copying)
            there = {n: torch.empty(v.shape, dtype=v.dtype, pin_memory=True) for n, v in found.items()}
            for name, values in found.items():
                there[name].copy_(values, non_blocking=True)
            ready.record(copying)
        return Underway(there, ready)

    def _outputs(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the named outputs, (k, Y, X), of a (1, C, Y, X) block in the network's number format."""
        x = x.contiguous(memory_format=torch.channels_last)
        flips = _FLIPS if self.tta else _FLIPS[:1]
        total: dict[str, torch.Tensor] = {}
        for flip in flips:
            out = self.network(x.flip(flip) if flip else x, padding="valid").float()
            for name, part in self.network.split(out.flip(flip) if flip else out).items():
                values = torch.softmax(part, 1) if name == CLASSES else part
                total[name] = total[name] + values if name in total else values
        return {name: values[0] / len(flips) for name, values in total.items()}


@functools.cache
def _copy_stream(device: torch.device) -> Any:
    """Return the stream of a graphics card for copies; one lasts as long as the process."""
    return _CUDA.Stream(device)


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


@dataclass(frozen=True)
class Piece:
    """One tile of a box of a plane.

    Attributes
    ----------
    box : tuple of int
        y0, y1, x0, x1 in the plane.
    ty, tx : Tile
        Its place in the box.
    number, total : int
        Which tile of the box, from 1, and of how many.
    """

    box: Box
    ty: Tile
    tx: Tile
    number: int
    total: int

    @property
    def read_box(self) -> Box:
        """What is read of the plane, which may lie outside."""
        y0, _, x0, _ = self.box
        return y0 + self.ty.read_start, y0 + self.ty.read_stop, x0 + self.tx.read_start, x0 + self.tx.read_stop

    @property
    def where(self) -> Box:
        """What is known of the plane when it is done."""
        y0, _, x0, _ = self.box
        return y0 + self.ty.write_start, y0 + self.ty.write_stop, x0 + self.tx.write_start, x0 + self.tx.write_stop

    def paste(self, outputs: dict[str, NDArray[Any]], values: dict[str, NDArray[Any]]) -> None:
        """Write the tile's outputs into those of its box."""
        for name, found in values.items():
            outputs[name][:, self.ty.write_slice, self.tx.write_slice] = found[
                :, self.ty.crop_slice, self.tx.crop_slice
            ]


def _pieces(boxes: Iterable[Box], tile: int, network: UNet) -> Iterator[Piece]:
    """Yield the tiles of boxes in order."""
    for box in boxes:
        rows = split_axis(box[1] - box[0], tile, network.geometry)
        columns = split_axis(box[3] - box[2], tile, network.geometry)
        places = [(ty, tx) for ty in rows for tx in columns]
        for number, (ty, tx) in enumerate(places, 1):
            yield Piece(box, ty, tx, number, len(places))


def box_tiles(
    predictor: Predictor,
    planes: Planes,
    plane: PlaneIndex,
    boxes: Iterable[Box],
    tile: int,
    normalisation: Normalisation,
    outputs: Callable[[Box], dict[str, NDArray[Any]]],
    stop: Callable[[], bool] = bool,
) -> Iterator[tuple[Piece, dict[str, NDArray[Any]]]]:
    """Compute boxes of a plane tile by tile; the next tiles are read meanwhile.

    Parameters
    ----------
    boxes : iterable of tuple
        y0, y1, x0, x1 each, starting at multiples of the network's stride, for seamless results. Some are asked
        for ahead.
    outputs : callable
        Makes the maps for a box, which are filled.
    stop : callable
        Asked before each tile; ends the work when it returns True.

    Yields
    ------
    Piece, dict
        The tile that is done, and the outputs of its box, complete with its last tile.
    """

    def read(piece: Piece) -> NDArray[np.float32]:
        return normalisation.apply(_read_tile(planes, plane, piece.read_box))

    pieces = _pieces(boxes, tile, predictor.network)
    if planes.read_ahead:
        blocks = ahead(read, pieces, predictor.threads)
    else:
        blocks = ((piece, read(piece)) for piece in pieces)
    filled: dict[str, NDArray[Any]] = {}
    for piece, values in predictor.results(_until(stop, blocks)):
        if piece.number == 1:
            filled = outputs(piece.box)
        piece.paste(filled, values)
        yield piece, filled


def _until(stop: Callable[[], bool], items: Iterable[K]) -> Iterator[K]:
    """Yield items until it is time to stop."""
    for item in items:
        if stop():
            return
        yield item


def region_tiles(
    predictor: Predictor,
    planes: Planes,
    plane: PlaneIndex,
    box: Box,
    tile: int,
    normalisation: Normalisation,
    outputs: dict[str, NDArray[Any]],
) -> Iterator[tuple[int, int, Box]]:
    """Compute one box tile by tile into ``outputs``, whose maps have its shape; see :func:`box_tiles`.

    Yields
    ------
    tuple
        Tiles done, tiles in all, and the tile's y0, y1, x0, x1.
    """
    for piece, _ in box_tiles(predictor, planes, plane, [box], tile, normalisation, lambda _: outputs):
        yield piece.number, piece.total, piece.where


def _read_tile(planes: Planes, plane: PlaneIndex, box: Box) -> NDArray[np.float32]:
    """Return a tile with its context, mirrored where the image ends."""
    block = read_mirrored(planes, plane, *box)
    # The normalisation of a large plane has seen only some of its rows.
    if not np.isfinite(block).all():
        where = f" of plane {plane}" if plane else ""
        raise DataError(f"Grey values in rows {max(0, box[0])} to {box[1]}{where} are NaN or infinite; replace them.")
    return block


def predict_region(
    predictor: Predictor,
    planes: Planes,
    plane: PlaneIndex,
    box: Box,
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
    outputs = empty_outputs(predictor.network, y1 - top, x1 - left, np.float32)
    for _ in region_tiles(predictor, planes, plane, (top, y1, left, x1), tile, normalisation, outputs):
        continue
    return {name: values[:, y0 - top :, x0 - left :] for name, values in outputs.items()}


def empty_outputs(network: UNet, height: int, width: int, dtype: type) -> dict[str, NDArray[Any]]:
    """Return unfilled maps for every named output."""
    return {n: np.empty((s.stop - s.start, height, width), dtype) for n, s in network.outputs.items()}
