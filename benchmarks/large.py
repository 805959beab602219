"""Large planes from Zarr to Zarr: rate, memory at two sizes, and the cost of joining cells across chunks.

    python benchmarks/large.py

Each size is segmented in a process of its own, at default settings on two cores: opened, segmented, and saved
with its pyramid. The bare network runs in the same process over as many tiles of the same size, context included,
half of them before and half of them after, so that a machine that is busy with other things slows both alike; it
neither reads nor writes, and its time within the run would tell too little, as reading and writing go on beside it.
Processor time is given too: it does not depend on what else runs. Memory is the process's peak, less that of one
that has imported torch and run one convolution.

Joining is measured on cells that are placed so that they lie across the borders of 1,024 chunks.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import START, existing
from reporting import CannotMeasure, Figure, arguments, limit_cores, report, run, say, shown, table

CORES = 2
SPACING = 26
"""Pixels between two cells: 8192 x 8192 hold 99,225 of them."""


def write_image(path: Path, side: int) -> None:
    """Write a mosaic of generated nuclei as a chunked Zarr array."""
    import zarr

    from napari_unet.core.synthetic import generate

    tiles = [generate("nuclei", (1024, 1024), seed, diameter=24)[0] for seed in range(4)]
    array = zarr.create_array(
        str(path), shape=(side, side), chunks=(1024, 1024), dtype=tiles[0].dtype, dimension_names=("y", "x")
    )
    for y in range(0, side, 1024):
        for x in range(0, side, 1024):
            tile = tiles[(y // 1024 * 3 + x // 1024) % 4]
            array[y : y + 1024, x : x + 1024] = tile[: side - y, : side - x]


def timed(owner: Any, name: str, total: list[float]) -> None:
    """Let a method add the seconds that it takes to a list."""
    original = getattr(owner, name)

    def measured(*given: Any, **named: Any) -> Any:
        begin = time.perf_counter()
        result = original(*given, **named)
        total.append(time.perf_counter() - begin)
        return result

    setattr(owner, name, measured)


def peak() -> float:
    """Return the most memory that this process has had, in MiB."""
    try:
        import resource
    except ImportError as error:
        raise CannotMeasure(f"memory is measured on Linux alone: {error}.") from error
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def bare() -> dict[str, float]:
    """Return the memory of a process that has imported torch and used it once."""
    import torch

    torch.nn.functional.conv2d(torch.zeros(1, 1, 64, 64), torch.zeros(1, 1, 3, 3))
    return {"peak": peak()}


def bare_tiles(predictor: Any, side: int, tiles: int) -> tuple[float, float]:
    """Return the seconds and the processor's seconds of the network alone over so many tiles of a plane."""
    from napari_unet.core.data.tiles import split_axis
    from napari_unet.core.inference.chunked import SIDE
    from napari_unet.core.inference.predict import choose_tile

    chunk = min(side, SIDE)
    tile = split_axis(chunk, choose_tile(predictor.network, predictor.compute, side, side), predictor.network.geometry)
    length = tile[0].read_stop - tile[0].read_start
    block = np.random.default_rng(0).random((1, length, length), np.float32)
    predictor.run(block)
    begin, busy = time.perf_counter(), time.process_time()
    for _ in range(tiles * len(tile) ** 2):
        predictor.run(block)
    return time.perf_counter() - begin, time.process_time() - busy


def segmented(image: Path, output: Path, model: str) -> dict[str, float]:
    """Segment one image and return what it took, and what the network alone takes."""
    from napari_unet import stores
    from napari_unet.core.events import Finished
    from napari_unet.core.inference.chunked import SIDE
    from napari_unet.core.inference.predict import Predictor, predict
    from napari_unet.core.network.device import choose
    from napari_unet.core.network.model_io import load_model
    from napari_unet.core.settings import PredictionSettings, with_values

    loaded = load_model(model)
    # At the model's own size, so that a pixel of the image is a pixel of the network.
    settings = with_values(PredictionSettings(), {**loaded.card.prediction, "diameter": loaded.card.diameter})
    predictor, side = Predictor.create(loaded.network, choose("cpu")), stores.open_picture(image).planes.height
    chunks = (-(-side // SIDE)) ** 2
    before = bare_tiles(predictor, side, chunks // 2)
    begin, busy = time.perf_counter(), time.process_time()
    planes = stores.open_picture(image).planes
    with stores.resumable_labels(output, planes.shape, "yx", np.int32, {}) as out:
        *_, last = predict(loaded, planes, out.array, settings=settings, work=out.work)
        out.save()
    seconds, busy = time.perf_counter() - begin, time.process_time() - busy
    high = peak()
    after = bare_tiles(predictor, side, chunks - chunks // 2)
    cells = last.metrics["objects"] if isinstance(last, Finished) else float("nan")
    return {"seconds": seconds, "network": before[0] + after[0], "peak": high, "cells": cells, "processor": busy,
            "network processor": before[1] + after[1]}  # fmt: skip


def perfect_maps(side: int) -> Any:
    """Return what a perfect network says of a plane full of cells, every other pair of them touching."""
    from napari_unet.core.instances.elevation import DISTANCE_STEPS, PROBABILITY_STEPS, Maps, quantise

    rng = np.random.default_rng(0)
    ys, xs = np.mgrid[:SPACING, :SPACING] - (SPACING - 1) / 2
    rows = []
    for _ in range(32):
        heights = [np.clip(1 - np.hypot(ys, xs) / rng.uniform(11, 15), 0, 1) for _ in range(32)]
        rows.append(np.hstack(heights))
    distance = np.vstack(rows).astype(np.float32)
    repeats = -(-side // len(distance))

    def plane(values: NDArray[Any], steps: int) -> NDArray[np.uint16]:
        return np.tile(quantise(values, steps), (repeats, repeats))[:side, :side].copy()

    return Maps(plane(distance > 0, PROBABILITY_STEPS), plane(distance, DISTANCE_STEPS))


def joined(side: int, chunk: int) -> dict[str, float]:
    """Tell the cells of a plane apart chunk by chunk, and return what it took."""
    from napari_unet.core.instances.cleanup import Cleanup
    from napari_unet.core.instances.pipeline import segment_maps
    from napari_unet.core.instances.watershed import BasinGraph
    from napari_unet.core.settings import PredictionSettings

    joining: list[float] = []
    timed(BasinGraph, "solve", joining)
    timed(Cleanup, "decide", joining)
    maps, labels = perfect_maps(side), np.zeros((side, side), np.int32)
    begin = time.perf_counter()
    for _ in segment_maps(maps, labels, PredictionSettings(), chunk):
        continue
    seconds = time.perf_counter() - begin
    return {"seconds": seconds, "joining": sum(joining), "cells": float(labels.max()), "chunks": (side / chunk) ** 2}


CHILDREN: dict[str, Callable[..., dict[str, float]]] = {
    "bare": bare,
    "segment": lambda image, output, model: segmented(Path(image), Path(output), model),
    "join": lambda side, chunk: joined(int(side), int(chunk)),
}


def child(name: str, *given: Any, script: str = __file__) -> dict[str, float]:
    """Run one measurement of a script in a process of its own."""
    command = [sys.executable, script, "--child", name, *map(str, given)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise CannotMeasure(f"{name} {' '.join(map(str, given))} ended with {done.returncode}, see above.")
    return {k: float(v) for k, v in json.loads(done.stdout.splitlines()[-1]).items()}


def measure(sides: tuple[int, int], model: str) -> tuple[float, dict[int, dict[str, float]]]:
    """Return the memory of a bare process, and what segmenting each size took."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for side in sides:
            image = Path(folder) / f"{side}.zarr"
            write_image(image, side)
            say(f"{side} x {side}")
            found[side] = child("segment", image, Path(folder) / f"{side}-labels.zarr", model)
    return child("bare")["peak"], found


def figures(base: float, found: dict[int, dict[str, float]], join: dict[str, float]) -> list[Figure]:
    """Return what was promised and what was measured."""
    small, large = (found[side] for side in sorted(found))
    low, high = sorted(found)
    rates = {side: side * side / 1e6 / f["seconds"] for side, f in found.items()}
    bare_rate = high * high / 1e6 / large["network"]
    at_join = join["chunks"] and join["joining"] / large["network"]
    busy = large["network processor"] / large["processor"]
    detail = (
        f"{shown(rates[high])} Mpx/s against {shown(bare_rate)} Mpx/s of the network (by processor time "
        f"{shown(busy)}); {large['cells']:.0f} cells"
    )
    growth = abs(rates[low] / rates[high] - 1) * 100
    return [
        Figure(f"Zarr to Zarr, {high} x {high}: rate over the bare network's", large["network"] / large["seconds"],
               detail=detail, at_least=0.85),
        *(Figure(f"peak memory above Python with torch, {side} x {side}", f["peak"] - base, "MiB",
                 f"{f['peak']:.0f} less {base:.0f} MiB", at_most=1536.0) for side, f in sorted(found.items())),
        Figure(f"change of the cost per pixel from {low} to {high} px", growth, "%",
               f"{shown(rates[low])} and {shown(rates[high])} Mpx/s; network {shown(small['network'])} and "
               f"{shown(large['network'])} s", at_most=10.0),
        Figure("joining cells across chunks over the network's time", 100 * at_join, "%",
               f"{join['cells']:.0f} cells over {join['chunks']:.0f} chunks: {shown(join['joining'])} s", at_most=5.0),
    ]  # fmt: skip


def main() -> None:
    """Measure and report."""
    if sys.argv[1:2] == ["--child"]:
        limit_cores(CORES)
        print(json.dumps(CHILDREN[sys.argv[2]](*sys.argv[3:])))
        return
    chosen = arguments(__doc__, model={**START, "default": "bundled:nuclei"})
    sides, chunk = ((512, 2048), 256) if chosen.quick else ((2048, 8192), 256)
    model = existing(chosen.model)
    base, found = measure(sides, model)
    join = child("join", sides[1], chunk)
    names = ("seconds", "network", "processor", "network processor")
    rows = [[side, *(f"{f[name]:.1f}" for name in names), f"{f['peak']:.0f}", f"{f['cells']:.0f}"]
            for side, f in sorted(found.items())]  # fmt: skip
    header = ["side, px", "seconds", "bare network, s", "processor, s", "bare network's processor, s", "peak, MiB",
              "cells"]  # fmt: skip
    passes = (
        f"All passes that tell {join['cells']:.0f} cells apart, in {join['chunks']:.0f} chunks held in memory, took "
        f"{shown(join['seconds'])} s."
    )
    report(figures(base, found, join), table(header, rows),
           passes)  # fmt: skip


if __name__ == "__main__":
    run(main)
