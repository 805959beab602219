"""Megapixels per second on every device that there is, and what share of the bare network's rate that is.

    python benchmarks/gpu_throughput.py
    python benchmarks/gpu_throughput.py --device cuda --side 8192

A mosaic of generated nuclei goes from Zarr to Zarr, at the model's own size:

- *bare network*: forward passes over as many tiles of the same size, context included, on data that is on the device
  already; outputs stay there. Nothing is read, copied or written.
- *tile after tile*: each tile is read, computed, copied back and written before the next one is read.
- *overlapped*: what `predict` does. Reading, network and writing go on at the same time; a graphics card is given
  the next tile before the outputs of the last one are there, from pinned memory and on a stream for copies.

The last two write probabilities. *Instances* is the whole way to labelled cells, which is work of the processor. On a
processor the ways are taken in turns, so that what else it does hits all alike.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from large import write_image
from models import START, existing
from reporting import Figure, arguments, in_turns, limit_cores, medians, report, run, say, shown, table

BARE, ONE_BY_ONE, OVERLAPPED, INSTANCES = "bare network", "tile after tile", "overlapped", "instances"
SIDES = {"cpu": 2048, "cuda": 8192, "mps": 4096}
"""Side of the picture by device, so that a run takes seconds and not milliseconds."""


class Here:
    """An array that only the thread that asks may read, so that nothing is read ahead."""

    read_ahead = False

    def __init__(self, array: Any) -> None:
        self.array, self.shape, self.dtype = array, array.shape, array.dtype

    def __getitem__(self, key: Any) -> Any:
        return self.array[key]


def devices(wanted: str) -> list[str]:
    """Return the devices to measure."""
    from napari_unet.core.network.device import available, choose

    if wanted != "all":
        return [choose(wanted).device.type]
    return [name for name in ("cpu", "cuda", "mps") if available(name)]


def bare(predictor: Any, side: int) -> Callable[[], None]:
    """Return forward passes over the tiles of a plane, on data that is there."""
    import torch

    from napari_unet.core.data.tiles import split_axis
    from napari_unet.core.inference.chunked import SIDE
    from napari_unet.core.inference.predict import choose_tile

    compute, geometry = predictor.compute, predictor.network.geometry
    tile = choose_tile(predictor.network, compute, side, side)
    sides = [t for start in range(0, side, SIDE) for t in split_axis(min(SIDE, side - start), tile, geometry)]
    length = sides[0].read_stop - sides[0].read_start
    x = torch.rand(1, predictor.network.in_channels, length, length)
    x = x.to(compute.device, compute.dtype).contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def passes() -> None:
        for _ in range(len(sides) ** 2):
            predictor.network(x, padding="valid")
        if compute.device.type == "cuda":
            torch.cuda.synchronize()

    return passes


def one_by_one(predictor: Any, image: Path, folder: Path) -> Callable[[], None]:
    """Return a prediction that does one thing after the other."""
    from napari_unet import stores
    from napari_unet.core.data.arrays import Planes, plane_normalisation
    from napari_unet.core.data.blocks import blocks
    from napari_unet.core.inference.chunked import SIDE
    from napari_unet.core.inference.predict import choose_tile, predict_region
    from napari_unet.core.instances.pipeline import foreground

    def passes() -> None:
        opened = stores.open_picture(image).planes
        planes = Planes([Here(a) for a in opened.arrays], opened.axes)
        normalisation = plane_normalisation(planes, ())
        tile = choose_tile(predictor.network, predictor.compute, planes.height, planes.width)
        with stores.create_labels(folder / "one.zarr", planes.shape, "yx", np.float32, overwrite=True) as out:
            for block in blocks(planes.height, planes.width, SIDE):
                found = predict_region(predictor, planes, (), block.box, normalisation, tile)
                out.array[block.slices] = foreground(found)
            out.save()

    return passes


def overlapped(loaded: Any, image: Path, folder: Path, settings: Any) -> Callable[[], None]:
    """Return a prediction from Zarr to Zarr."""
    from napari_unet import stores
    from napari_unet.core.inference.predict import predict

    dtype = np.int32 if settings.what == "instances" else np.float32

    def passes() -> None:
        planes = stores.open_picture(image).planes
        path = folder / f"{settings.what}.zarr"
        with stores.resumable_labels(path, planes.shape, "yx", dtype, {}, overwrite=True) as out:
            for _ in predict(loaded, planes, out.array, settings=settings, work=out.work):
                continue
            out.save()

    return passes


def measure(device: str, model: str, side: int, repeats: int) -> tuple[dict[str, float], str]:
    """Return megapixels per second of each way on one device, and in which number format."""
    from napari_unet.core.inference.predict import Predictor
    from napari_unet.core.network.device import choose
    from napari_unet.core.network.model_io import load_model
    from napari_unet.core.settings import PredictionSettings, with_values

    loaded = dataclasses.replace(load_model(model), siblings=())
    own_size = {**loaded.card.prediction, "diameter": loaded.card.diameter, "device": device}
    instances = with_values(PredictionSettings(), own_size)
    values = dataclasses.replace(instances, what="probabilities")
    predictor = Predictor.create(loaded.network, choose(device))
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "image.zarr"
        write_image(image, side)
        ways = {
            BARE: bare(predictor, side),
            ONE_BY_ONE: one_by_one(predictor, image, Path(folder)),
            OVERLAPPED: overlapped(loaded, image, Path(folder), values),
            INSTANCES: overlapped(loaded, image, Path(folder), instances),
        }
        taken = medians(in_turns(ways, repeats, seconds=300.0))
    return {name: side * side / 1e6 / seconds for name, seconds in taken.items()}, predictor.compute.precision


def main() -> None:
    """Measure and report."""
    chosen = arguments(
        __doc__, model={**START, "default": "bundled:nuclei"},
        device={"default": "all", "choices": ("all", "cpu", "cuda", "mps")},
        side={"type": int, "default": 0, "help": f"of the picture in pixels; by default {SIDES}"},
        cores={"type": int, "default": 0, "help": "cores to use; all by default"},
    )  # fmt: skip
    if chosen.cores:
        limit_cores(chosen.cores)
    model, figures, rows = existing(chosen.model), [], []
    for device in devices(chosen.device):
        side = chosen.side or (512 if chosen.quick else SIDES[device])
        say(f"{device}, {side} x {side}")
        rates, precision = measure(device, model, side, 1 if chosen.quick else 5)
        share = {name: rate / rates[BARE] for name, rate in rates.items()}
        for name in (OVERLAPPED, INSTANCES):
            detail = f"{shown(rates[name])} of {shown(rates[BARE])} Mpx/s; {precision}; tile after tile "
            detail += shown(share[ONE_BY_ONE])
            figures.append(Figure(f"{device}, {side} x {side}, {name}: share of the bare network's rate", share[name],
                                  detail=detail))  # fmt: skip
        rows += [[device, side, name, shown(rate), shown(share[name])] for name, rate in rates.items()]
    report(figures, table(["device", "side, px", "way", "Mpx/s", "share"], rows))


if __name__ == "__main__":
    run(main)
