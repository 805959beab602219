"""A network ready to run, and exact overlap-tile prediction of any box of a plane (Fig. 2)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .arrays import Normalisation, Planes, read_mirrored
from .device import Compute, free_memory, readable_errors
from .errors import DataError
from .tiles import Tile, split_axis
from .unet import CLASSES, UNet

LARGEST_TILE = 1024
"""Output side in pixels above which larger tiles gain less than 2 % and only cost memory."""
SMALLEST_TILE = 128
_FLIPS: tuple[tuple[int, ...], ...] = ((), (2,), (3,), (2, 3))


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
    outputs = empty_outputs(predictor.network, y1 - top, x1 - left, np.float32)
    for _ in region_tiles(predictor, planes, plane, (top, y1, left, x1), tile, normalisation, outputs):
        continue
    return {name: values[:, y0 - top :, x0 - left :] for name, values in outputs.items()}


def empty_outputs(network: UNet, height: int, width: int, dtype: type) -> dict[str, NDArray[Any]]:
    """Return unfilled maps for every named output."""
    return {n: np.empty((s.stop - s.start, height, width), dtype) for n, s in network.outputs.items()}
