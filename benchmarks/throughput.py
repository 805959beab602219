"""How fast it trains, segments and shows something: in one table, beside the bare network, StarDist and Cellpose.

    python benchmarks/throughput.py
    python benchmarks/throughput.py --peers ENVIRONMENT/bin/python      # `tox -e peers` makes such an environment

- *training*: steps per second at the defaults, and megapixels of training patches per second, which is what a
  comparison across patch and batch sizes needs; the bare network runs forward and backward on the same patch, in turns.
- *segmenting*: megapixels per second of one picture at its own size, from grey values to labelled cells, where model
  and size are given; the bare network runs forward over the whole picture at once, zero-padded, without
  normalising, tiling and telling cells apart.
- *first preview*: from the click on Train to cells on the screen (`first_preview.py`); the peers have none.

The peers learn from the same picture for a while and segment it, by the scripts of `few_cells.py`; their rates are of
that run, with their own patch and batch. What they find after so short a training decides how much work their
last step has, so their segmenting is a guide and no more. Everything on two cores.
"""

from __future__ import annotations

import dataclasses
import re
import statistics
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import models
import screen
import tiling
import training_step
from reporting import (
    CannotMeasure,
    Figure,
    arguments,
    cores,
    in_turns,
    limit_cores,
    medians,
    report,
    run,
    say,
    shown,
    table,
)

HERE = Path(__file__).resolve().parent
PEERS = {"StarDist": "stardist", "Cellpose": "cellpose"}
"""Package to import, which also names the script (`peers/peer_NAME.py`)."""
OURS, BARE = "ours", "bare network"
_PATCH = re.compile(r"patch (\d+), batch (\d+)")


@dataclass(frozen=True)
class Speed:
    """What was measured of one method; None where it was not.

    Attributes
    ----------
    steps : float or None
        Training steps per second.
    patches : float or None
        Megapixels of training patches per second.
    segmenting : float or None
        Megapixels of a picture per second.
    preview : float or None
        Seconds to the first preview.
    remark : str
        Under which conditions.
    """

    steps: float | None = None
    patches: float | None = None
    segmenting: float | None = None
    preview: float | None = None
    remark: str = ""


def picture(side: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Return a generated picture of nuclei, tiled from one of 512 pixels, and its cells."""
    from napari_unet.core.synthetic import generate

    image, truth = generate("nuclei", (512, 512), seed=3)
    repeats, count = -(-side // 512), int(truth.max())
    cells = np.block(
        [[np.where(truth > 0, truth + count * (repeats * r + c), 0) for c in range(repeats)] for r in range(repeats)]
    )
    return np.tile(image, (repeats, repeats))[:side, :side], cells[:side, :side]


def training_speeds(model: str, quick: bool) -> dict[str, Speed]:
    """Return the training speed of the defaults, and of bare forward and backward passes on the same patch."""
    learner = training_step.make_trainer(model)
    steps, blocks, seconds = (2, 2, 10.0) if quick else (10, 10, 90.0)
    taken = medians(training_step.time_steps(learner, steps, blocks, seconds))
    learner.close()
    side, batch = learner.sizes[0], learner.batch
    remark = f"patch {side}, batch {batch}, {learner.compute.device}, {learner.compute.precision}"
    return {
        name: Speed(steps / taken[key], steps / taken[key] * side**2 * batch / 1e6, remark=remark)
        for name, key in ((OURS, "step"), (BARE, "bare"))
    }


def segmenting_speeds(model: str, image: NDArray[np.float32], repeats: int) -> dict[str, float]:
    """Return megapixels per second of segmenting a picture, and of one bare pass of the network over it."""
    from napari_unet.core.data.arrays import Planes, plane_normalisation
    from napari_unet.core.inference.predict import Predictor, predict
    from napari_unet.core.network.device import choose
    from napari_unet.core.network.model_io import load_model
    from napari_unet.core.settings import PredictionSettings, with_values

    loaded, planes = dataclasses.replace(load_model(model), siblings=()), Planes(image, "yx")
    # At the picture's own size, as the bare network: neither model nor size is looked for, nothing is resampled.
    own_size = {**loaded.card.prediction, "diameter": loaded.card.diameter}
    settings = with_values(PredictionSettings(), own_size)
    predictor = Predictor.create(loaded.network, choose("auto"))
    bare = tiling.own_ways(predictor, planes, plane_normalisation(planes, ()))[tiling.PADDED]
    labels = np.zeros(image.shape, np.int32)

    def segment() -> None:
        for _ in predict(loaded, planes, labels, settings=settings):
            continue

    ways: dict[str, Callable[[], Any]] = {OURS: segment, BARE: bare}
    taken = medians(in_turns(ways, repeats, seconds=90.0))
    return {name: image.size / 1e6 / seconds for name, seconds in taken.items()}


def preview_seconds(model: str, repeats: int) -> float | None:
    """Return the seconds from Train to cells in the preview of a real viewer; None where there can be no viewer."""
    options = ("--once", "ready", "--model", model)
    try:
        runs = [screen.in_fresh_process(str(HERE / "first_preview.py"), *options) for _ in range(repeats)]
    except (CannotMeasure, subprocess.TimeoutExpired) as error:
        say(f"first preview not measured: {error}")
        return None
    return statistics.median(one["cells"] for one in runs)


def has_package(python: Path, package: str) -> bool:
    """Return whether an interpreter can import a package."""
    code = f"import importlib.util as u, sys; sys.exit(u.find_spec({package!r}) is None)"
    return subprocess.run([str(python), "-c", code], capture_output=True, check=False).returncode == 0


def peer_speed(python: Path, name: str, image: NDArray[Any], truth: NDArray[np.int32], seconds: float) -> Speed:
    """Return the speed of a peer that learns from the middle of a picture and segments all of it.

    Raises
    ------
    CannotMeasure
        When it fails.
    """
    from few_cells import ask_peer
    from napari_unet.core.data.label_ops import median_diameter
    from peers.protocol import Crop, Job

    top, left = (max(0, (n - 256) // 2) for n in image.shape)
    crop = Crop(image, (top, top + 256, left, left + 256), truth[top : top + 256, left : left + 256])
    found, said = ask_peer(name, Job((crop,), (image,), seconds, median_diameter(truth), cores()), python)
    remark = f"{said.method}, {said.remark}; {int(found[0].max())} cells found"
    return of_report(said.steps, said.seconds, image.size, said.segmenting, remark)


def of_report(steps: int, seconds: float, pixels: int, segmenting: float, remark: str) -> Speed:
    """Return the speed that follows from what a peer said; its remark names patch and batch."""
    rate, sizes = steps / seconds if seconds else None, _PATCH.search(remark)
    patches = rate * int(sizes[1]) ** 2 * int(sizes[2]) / 1e6 if rate is not None and sizes else None
    return Speed(rate, patches, pixels / 1e6 / segmenting if segmenting else None, remark=remark)


def peer_speeds(given: Path | None, side: int, seconds: float) -> dict[str, Speed]:
    """Return the speed of each peer that the environment has.

    Raises
    ------
    CannotMeasure
        When the interpreter that was given is not there.
    """
    from few_cells import peers_python

    python, found = peers_python(given), {}
    image, truth = picture(side)
    for name, package in PEERS.items():
        if python is None or not has_package(python, package):
            say(f"{name} skipped: there is no interpreter that can import {package}.")
            continue
        say(f"{name}: {seconds:.0f} s of training")
        try:
            found[name] = peer_speed(python, package, image, truth, seconds)
        except CannotMeasure as error:
            say(f"{name} skipped: {error}")
    return found


def row(name: str, speed: Speed) -> list[str]:
    """Return a line of the table; empty where nothing was measured."""
    values = (speed.steps, speed.patches, speed.segmenting, speed.preview)
    return [name, *("" if v is None else shown(v) for v in values), speed.remark]


def figures_of(speeds: dict[str, Speed], preview: float | None, side: int, about: str) -> list[Figure]:
    """Return our figures, with the bare network's and the peers' beside them."""
    ours, units = speeds[OURS], {"patches": "training", "segmenting": f"segmenting {side} x {side}"}
    figures = []
    for key, words in units.items():
        others = {n: getattr(s, key) for n, s in speeds.items() if n != OURS and getattr(s, key) is not None}
        detail = ", ".join(f"{name} {shown(value)}" for name, value in others.items())
        figures.append(Figure(words, getattr(ours, key), "Mpx/s", f"{detail}; {ours.remark}; {about}"))
    if preview is not None:
        figures.append(Figure("first preview after the click on Train", preview, "s", about, at_most=5.0))
    return figures


def main() -> None:
    """Measure and report."""
    side = {"type": int, "default": 1024, "help": "side of the picture to segment (default: %(default)s)"}
    peers = {"type": Path, "metavar": "PYTHON", "help": "of the peers' environment (default: that of `tox -e peers`)"}
    seconds = {"type": float, "default": 60.0, "help": "training time of each peer (default: %(default)s)"}
    no_viewer = {"action": "store_true", "help": "leave the first preview out"}
    chosen = arguments(
        __doc__, model=models.START, side=side, peers=peers, seconds=seconds, no_viewer=no_viewer,
        cores={"type": int, "default": 2},
    )  # fmt: skip
    limit_cores(chosen.cores)
    model = models.existing(chosen.model)
    quick, length = chosen.quick, 512 if chosen.quick else chosen.side
    say("training steps")
    speeds = training_speeds(model, quick)
    say(f"segmenting {length} x {length}")
    rates = segmenting_speeds(model, picture(length)[0], 2 if quick else 7)
    preview = None if chosen.no_viewer else preview_seconds(model, 1 if quick else 3)
    speeds = {
        n: Speed(s.steps, s.patches, rates[n], preview if n == OURS else None, s.remark) for n, s in speeds.items()
    }
    speeds |= peer_speeds(chosen.peers, length, 5.0 if quick else chosen.seconds)
    header = ["method", "training steps/s", "patch Mpx/s", "segmenting Mpx/s", "first preview (s)", "conditions"]
    report(
        figures_of(speeds, preview, length, models.described(model)), "All methods:",
        table(header, [row(name, speed) for name, speed in speeds.items()]),
    )  # fmt: skip


if __name__ == "__main__":
    run(main)
