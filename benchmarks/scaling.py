"""Workers against one process, what a task costs, what is read and written per pixel, where more stop helping.

    python benchmarks/scaling.py

One process with two threads and two local workers with one core each segment the same picture from Zarr to Zarr, in
turns, at the model's own size. The clock runs from the first event to the last, pyramid included; starting workers
and loading torch comes before, and is told apart. Processor time is that of all processes together, which says
more than the clock while the machine is busy. What a task costs is measured with tasks that do nothing. Bytes of the
plan are uncompressed, with a chunk that is touched read as a whole; those of the run are what the system was asked for.

The model of many workers is arithmetic on those figures and on two assumptions that are options: how fast a worker
with a graphics card is, and how much the shared file system carries.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import queue
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

import large
from models import START, existing
from reporting import Figure, arguments, limit_cores, medians, report, run, say, shown, table

CORES = 2
TASKS = 500
PASSES = 4
"""Tasks per chunk: the network, pieces, regions, numbers."""
WORKERS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


@dataclass(frozen=True)
class Traffic:
    """Bytes per pixel of the result, uncompressed.

    Attributes
    ----------
    name : str
        Of the step.
    read, written : float
        Bytes per pixel.
    """

    name: str
    read: float
    written: float


def touched(side: int, task: int, halo: int, chunk: int) -> float:
    """Return how many pixels are read for each pixel of a plane: whole chunks, of a part and what surrounds it."""

    def axis() -> int:
        total = 0
        for start in range(0, side, task):
            first, last = max(0, start - halo), min(side, start + task + halo)
            total += min(side, -(-last // chunk) * chunk) - first // chunk * chunk
        return total

    return (axis() / side) ** 2


def traffic(side: int, chunk: int, item: int, margin: int, boundary_erosion: int) -> list[Traffic]:
    """Return what each step of a plane reads and writes.

    Parameters
    ----------
    side : int
        Of the picture, in pixels.
    chunk, item : int
        Side of the picture's chunks, and bytes of one of its pixels.
    margin : int
        Context that the network needs around a part, in pixels.
    gap : int
        The setting.
    """
    from napari_unet.core.inference.chunked import CHUNK, SIDE

    maps, label = 2 * 2, 4  # foreground and distance in 16 bits; labels in 32
    near = touched(side, SIDE, 5, CHUNK)
    return [
        Traffic("network", item * touched(side, SIDE, margin, chunk), maps),
        Traffic("pieces", maps * near, label),
        Traffic("regions", label * touched(side, SIDE, 2 * boundary_erosion + 1, CHUNK), label),
        Traffic("numbers", label, label),
        Traffic("smaller versions", label * 4 / 3, label / 3),
    ]


@contextlib.contextmanager
def prepared(image: Path, output: Path, model: str) -> Iterator[tuple[Any, Any, Any, Any]]:
    """Give the model, the picture, settings at the model's own size, and where the result goes."""
    import numpy as np

    from napari_unet import stores
    from napari_unet.core.network.model_io import load_model
    from napari_unet.core.settings import PredictionSettings, with_values

    loaded = load_model(model)
    settings = with_values(PredictionSettings(), {**loaded.card.prediction, "diameter": loaded.card.diameter})
    planes = stores.open_picture(image).planes
    with stores.resumable_labels(output, planes.shape, "yx", np.int32, {}) as out:
        yield loaded, planes, settings, out


def used(processes: list[psutil.Process]) -> dict[str, float]:
    """Return processor time in seconds, and bytes read and written, of some processes together."""
    times, files = [p.cpu_times() for p in processes], [p.io_counters() for p in processes]
    return {
        "processor": sum(t.user + t.system for t in times),
        "read": float(sum(f.read_chars for f in files)),
        "written": float(sum(f.write_chars for f in files)),
    }


def timed(events: Any, out: Any, others: list[int] | None = None) -> dict[str, float]:
    """Return what it takes from the first event until the result is in place, and how many cells there are."""
    processes = [psutil.Process(), *map(psutil.Process, others or [])]
    next(events)
    begin, before = time.perf_counter(), used(processes)
    *_, last = events
    after = used(processes)
    out.save()
    took = {name: after[name] - before[name] for name in after}
    return {"seconds": time.perf_counter() - begin, "cells": last.metrics["objects"], **took}


def alone(image: str, output: str, model: str) -> dict[str, float]:
    """Segment in one process."""
    from napari_unet.core.inference.predict import predict

    with prepared(Path(image), Path(output), model) as (loaded, planes, settings, out):
        return timed(predict(loaded, planes, out.array, settings=settings, work=out.work), out)


def together(image: str, output: str, model: str, workers: str) -> dict[str, float]:
    """Segment by local workers; tell what starting them took, what a task costs, and what was done in between."""
    from napari_unet.cluster import Pool, driver, joining
    from napari_unet.core.instances.cleanup import Cleanup

    # Loaded with the first joining only, which would count it as work that grows with the picture.
    importlib.import_module("scipy.sparse.csgraph")
    between: list[float] = []
    large.timed(joining, "regions_of", between)
    large.timed(joining, "gathered", between)
    large.timed(Cleanup, "decide", between)
    begin = time.perf_counter()
    with (
        Pool.local(int(workers)) as pool,
        prepared(Path(image), Path(output), model) as (loaded, planes, settings, out),
    ):
        job = driver.ClusterJob(pool, loaded, model, Path(image), None, planes, out, settings)
        order = job.order()
        events = driver.predict(job)
        pids = list(pool.everywhere(os.getpid).values())
        found = {"start": time.perf_counter() - begin, "task": seconds_per_task(pool, order)}
        return {**found, **timed(events, out, pids), "between": sum(between)}


def seconds_per_task(pool: Any, order: Any) -> float:
    """Return what it takes to hand out a task and to have its answer, when many are under way."""
    finished: queue.SimpleQueue[Any] = queue.SimpleQueue()
    for count in (TASKS // 10, TASKS):
        begin = time.perf_counter()
        # The order travels along as with any task; what is asked for takes no time.
        futures = [pool.client.submit(type, order, pure=False) for _ in range(count)]
        for future in futures:
            future.add_done_callback(finished.put)
        for _ in range(count):
            finished.get()
        seconds = (time.perf_counter() - begin) / count
    return seconds


def child(name: str, *given: Any) -> dict[str, float]:
    """Run one measurement in a process of its own."""
    return large.child(name, *given, script=__file__)


def many(rate: float, task: float, between: float, bytes_per_pixel: float, shared: float) -> list[float]:
    """Return for each of :data:`WORKERS` the share of its rate that each worker reaches.

    Parameters
    ----------
    rate : float
        Of one worker, in megapixels per second.
    task, between : float
        Seconds per task in the scheduler, and per megapixel in the process that hands out the tasks.
    bytes_per_pixel, shared : float
        What is read and written, and what the shared file system carries, in MB/s.

    Notes
    -----
    Workers, the scheduler and the file system work at the same time: the slowest counts. Joining comes between
    passes, when the others wait: it is added.
    """
    from napari_unet.core.inference.chunked import SIDE

    scheduler, files = PASSES * task / (SIDE**2 / 1e6), bytes_per_pixel / shared
    return [1 / rate / n / (max(1 / rate / n, scheduler, files) + between) for n in WORKERS]


def measure(side: int, repeats: int, model: str) -> dict[str, dict[str, float]]:
    """Return the medians of what each way took, in turns."""
    taken: dict[str, list[dict[str, float]]] = {"alone": [], "together": []}
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "image.zarr"
        large.write_image(image, side)
        for turn in range(repeats):
            for name, more in (("alone", ()), ("together", (CORES,))):
                say(f"{side} x {side}, {name}, {turn + 1} of {repeats}")
                taken[name].append(child(name, image, Path(folder) / f"{name}{turn}.zarr", model, *more))
    return {name: medians({key: [f[key] for f in found] for key in found[0]}) for name, found in taken.items()}


def main() -> None:
    """Measure and report."""
    if sys.argv[1:2] == ["--child"]:
        limit_cores(CORES)
        print(json.dumps({"alone": alone, "together": together}[sys.argv[2]](*sys.argv[3:])))
        return
    chosen = arguments(
        __doc__, model={**START, "default": "bundled:nuclei"},
        side={"type": int, "default": 0, "help": "of the picture, in pixels; 4096 by default"},
        card_rate={"type": float, "default": 30.0, "help": "assumed megapixels per second of a card (default: 30)"},
        shared={"type": float, "default": 1000.0, "help": "assumed MB/s of the shared file system (default: 1000)"},
    )  # fmt: skip
    side, repeats = chosen.side or (2048 if chosen.quick else 4096), 1 if chosen.quick else 3
    limit_cores(CORES)
    found = measure(side, repeats, existing(chosen.model))
    one, two = found["alone"], found["together"]
    pixels = side * side / 1e6
    steps = traffic(8192, 1024, 2, margin(chosen.model), 2)
    both = (two["read"] + two["written"]) / pixels / 1e6
    rate = pixels / two["seconds"] / CORES
    between = two["between"] / pixels
    detail = f"{shown(one['seconds'])} and {shown(two['seconds'])} s; {one['cells']:.0f} and {two['cells']:.0f} cells"
    rates = {"this processor": rate, f"a card ({shown(chosen.card_rate)} Mpx/s)": chosen.card_rate}
    curves = [many(r, two["task"], between, both, chosen.shared) for r in rates.values()]
    figures = [
        Figure(f"two workers over one process of two threads, {side} x {side}", one["seconds"] / two["seconds"],
               detail=detail, at_least=0.9),
        Figure("processor time of two workers over that of one process", two["processor"] / one["processor"],
               detail=f"{shown(two['processor'])} and {shown(one['processor'])} s"),
        Figure("read and written by two workers, compressed", both, "bytes per pixel",
               f"{shown(two['read'] / pixels / 1e6)} and {shown(two['written'] / pixels / 1e6)}; by one process "
               f"{shown(one['read'] / pixels / 1e6)} and {shown(one['written'] / pixels / 1e6)}"),
        Figure("what a task costs in the scheduler", 1000 * two["task"], "ms", f"{TASKS} tasks that do nothing"),
        Figure("joining, in the process that hands out the tasks", 1000 * between, "ms per Mpx",
               f"{shown(two['between'])} s in all"),
        Figure("starting two workers", two["start"], "s", "torch is loaded in each with its first task"),
    ]  # fmt: skip
    report(
        figures,
        table(["step, 8192 x 8192, uint16 in chunks of 1024", "bytes read per pixel", "written"],
              [[t.name, shown(t.read), shown(t.written)] for t in steps]
              + [["all", shown(sum(t.read for t in steps)), shown(sum(t.written for t in steps))]]),
        table(["workers", *(f"efficiency, {name}" for name in rates)],
              [[n, *(f"{curve[i]:.2f}" for curve in curves)] for i, n in enumerate(WORKERS)]),
    )  # fmt: skip


def margin(model: str) -> int:
    """Return the context in pixels that a model's network needs."""
    from napari_unet.core.network.model_io import load_model

    return int(load_model(model).network.geometry.margin)


if __name__ == "__main__":
    run(main)
