"""A set of the Cell Tracking Challenge: train on one sequence, measure SEG on the other, and back.

    python benchmarks/ctc.py --folder DIC-C2DH-HeLa                    # ten minutes of training each way
    python benchmarks/ctc.py --folder PhC-C2DH-U373 --minutes 30 --truth ST --start scratch
    python benchmarks/ctc.py --generated                               # on a generated set like DIC-C2DH-HeLa
    python benchmarks/ctc.py --quick                                   # a trial on a small generated set

FOLDER is a training set as it is downloaded and unpacked (the sets may not be passed on, so none is here):

    FOLDER/01/t000.tif ...   FOLDER/01_GT/SEG/man_seg000.tif ...   FOLDER/01_ST/SEG/man_seg000.tif ...
    FOLDER/02 ...            the same

Training takes the frames with a gold truth (GT, a few) or a silver one (ST, all), as the `train` command does;
unpainted means background unless `--set unpainted=unknown` says that not every cell is in the truth. Measured is
always against the gold truth, over all its cells together, without the challenge's field of interest. Sets of planes
only (2D): the SEG of a volume is about 3D objects.
"""

from __future__ import annotations

import contextlib
import functools
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

import models
import trials
from reporting import CannotMeasure, Figure, arguments, limit_cores, report, run, say, table
from trials import Picture, Results

WAYS_ROUND = (("01", "02"), ("02", "01"))
PUBLISHED = {
    "PhC-C2DH-U373": {"U-Net 2015": 0.9203, "best on the challenge's list": 0.931},
    "DIC-C2DH-HeLa": {"U-Net 2015": 0.7756, "best on the challenge's list": 0.887},
}
"""SEG on the challenge's own, hidden test sequences, after training on both sequences that users have."""
PROMISED, PROMISED_SET, PROMISED_MINUTES = 0.80, "DIC-C2DH-HeLa", 10.0


@dataclass(frozen=True)
class Generated:
    """What a generated set of cells in relief is like.

    Attributes
    ----------
    frames, gold : int
        Frames of each sequence, and how many of them have a gold truth.
    side : int
        Of a frame in pixels.
    diameter, density : float
        As of :func:`napari_unet.core.synthetic.generate`; where cells crowd they are cut to some two thirds of it.
    faint : bool
        Whether frames are blurred, noisy, of little contrast and unevenly lit.
    """

    frames: int = 6
    gold: int = 3
    side: int = 192
    diameter: float = 48.0
    density: float = 0.7
    faint: bool = False


LIKE_HELA = Generated(frames=9, gold=9, side=512, diameter=165.0, density=0.85, faint=True)
"""Nine frames to learn from, of cells of some 112 px that touch, in place of a set that may not be passed on."""


def sequence(folder: Path, number: str, truth: str) -> list[Picture]:
    """Return the frames of a sequence that have a truth of one kind (GT or ST).

    Raises
    ------
    CannotMeasure
        When a folder is missing, or the frames are volumes.
    """
    from napari_unet.stores import list_pictures, open_picture

    images, labels = folder / number, folder / f"{number}_{truth}" / "SEG"
    for part in (images, labels):
        if not part.is_dir():
            raise CannotMeasure(
                f"{part} is not there; --folder takes an unpacked set with 01, 01_GT/SEG, 02, 02_GT/SEG."
            )
    shape = open_picture(list_pictures(images)[0]).planes.shape
    if len(shape) != 2:
        raise CannotMeasure(f"the frames in {images} have the shape {shape}; this measures sets of single planes.")
    return trials.read_pictures(images, labels)


def faint(image: NDArray[np.floating[Any]], rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a picture with less contrast, blurred, noisy and unevenly lit."""
    mean = image.mean()
    light = 0.16 * gaussian_filter(rng.normal(size=image.shape), 6)
    return np.clip(
        mean + 0.6 * (gaussian_filter(image, 1.5) - mean) + light + rng.normal(0, 0.027, image.shape), 0.0, 1.0
    )


def write_set(folder: Path, like: Generated) -> Path:
    """Write a generated set of cells in relief: every frame with a silver truth, some with a gold one."""
    import tifffile

    from napari_unet.core.synthetic import generate

    for number in ("01", "02"):
        for frame in range(like.frames):
            seed = 100 * int(number) + frame
            image, labels = generate("dic", (like.side, like.side), seed, diameter=like.diameter, density=like.density)
            if like.faint:
                image = faint(image, np.random.default_rng(seed))
            grey, labels = (image * 255).astype(np.uint8), labels.astype(np.uint16)
            kinds = [(number, "t", grey), (f"{number}_ST/SEG", "man_seg", labels)]
            kinds += [(f"{number}_GT/SEG", "man_seg", labels)] if frame < like.gold else []
            for part, stem, values in kinds:
                (folder / part).mkdir(parents=True, exist_ok=True)
                tifffile.imwrite(folder / part / f"{stem}{frame:03d}.tif", values, photometric="minisblack")
    return folder


@contextlib.contextmanager
def found_set(folder: Path | None, quick: bool, generated: bool = False) -> Iterator[Path]:
    """Give the user's set, or a generated one for as long as it is used: a small one for a trial."""
    if folder is not None:
        yield folder
        return
    if not (quick or generated):
        raise CannotMeasure("give --folder with a set that you have downloaded, or --generated for one of ours.")
    with tempfile.TemporaryDirectory() as temporary:
        yield write_set(Path(temporary) / "generated", Generated() if quick else LIKE_HELA)


def measure(
    folder: Path, ends: tuple[str, str], truth: str, start: str, values: Mapping[str, Any], ways: Mapping[str, Any]
) -> dict[str, Any]:
    """Train on one sequence and measure on the other; return the scores of each way of segmenting."""
    lesson, exam = sequence(folder, ends[0], truth), sequence(folder, ends[1], "GT")
    model, steps = trials.taught(lesson, trials.start_model(start), values)
    scores = {}
    for way, chosen in ways.items():
        result = trials.scores(exam, trials.segmented(model, exam, chosen))
        scores[way] = {k: result[k] for k in ("seg", "ap_0.50", "ap_pooled_0.50", "cells_truth", "cells_predicted")}
        say(f"trained on {ends[0]}, tested on {ends[1]}, {way}: SEG {result['seg']:.3f}; {steps}")
    cells = sum(len(np.unique(p.truth)) - 1 for p in lesson)
    about = f"{len(lesson)} frames with {cells} cells"
    return {"steps": steps, "trained_on": about, "tested_on": f"{len(exam)} frames", "scores": scores}


def figures_of(name: str, way: str, done: Mapping[tuple[str, str], Mapping[str, Any]], held: bool) -> list[Figure]:
    """Return SEG each way round and their mean."""
    suffix, promise = ("" if way == "plain" else f", {way}"), PROMISED if held else None
    figures = []
    for (lesson, exam), one in done.items():
        scores = one["scores"][way]
        detail = f"{one['trained_on']}, {one['steps']}; tested on {one['tested_on']} with {scores['cells_truth']} cells"
        title = f"SEG on {name} {exam} after training on {lesson}{suffix}"
        figures.append(Figure(title, scores["seg"], detail=detail, at_least=promise))
    mean = float(np.mean([one["scores"][way]["seg"] for one in done.values()]))
    return [
        *figures,
        Figure(f"SEG on {name}, mean of both{suffix}", mean, detail=trials.provenance(list(done.values()))),
    ]


def rows_of(way: str, done: Mapping[tuple[str, str], Mapping[str, Any]]) -> list[list[Any]]:
    """Return each way round as a row."""
    rows: list[list[Any]] = []
    for (lesson, exam), one in done.items():
        s = one["scores"][way]
        shown = [f"{s[k]:.3f}" for k in ("seg", "ap_0.50", "ap_pooled_0.50")]
        rows.append([f"ours, {way}, {lesson} to {exam}", *shown, s["cells_truth"], s["cells_predicted"]])
    return rows


def published_rows(name: str) -> list[list[str]]:
    """Return the published figures of a set."""
    return [[f"{who}, hidden test sequences", f"{seg:.3f}", *[""] * 4] for who, seg in PUBLISHED.get(name, {}).items()]


def main() -> None:
    """Measure and report."""
    folder = {"type": Path, "metavar": "FOLDER", "help": "a set of the challenge, unpacked"}
    minutes = {"type": float, "default": 10.0, "help": "training time each way round (default: %(default)s)"}
    truth = {"choices": ["GT", "ST"], "default": "GT", "help": "what to train on: gold (few frames) or silver (all)"}
    generated = {"action": "store_true", "help": "without a folder: on a generated set like DIC-C2DH-HeLa"}
    chosen = arguments(
        __doc__, folder=folder, generated=generated, minutes=minutes, truth=truth, start=models.START, set=trials.SET,
        predict=trials.PREDICT, mirror=trials.MIRROR, results=trials.results_option("ctc"), cores=trials.CORES,
    )  # fmt: skip
    limit_cores(chosen.cores)
    values = {**dict(chosen.set), "seconds": 5.0 if chosen.quick else 60 * chosen.minutes}
    ways = trials.ways_of(chosen.predict, chosen.mirror)
    with found_set(chosen.folder, chosen.quick, chosen.generated) as place:
        done = measure_both(place, chosen, values, ways)
        name = place.resolve().name
    figures, rows = [], []
    held = name == PROMISED_SET and chosen.truth == "GT" and chosen.minutes == PROMISED_MINUTES and not chosen.quick
    for way in ways:
        figures += figures_of(name, way, done, held)
        rows += rows_of(way, done)
    header = ["method", "SEG", "AP 0.5 per image", "AP 0.5 pooled", "cells", "found"]
    report(figures, f"Start: {trials.identity(chosen.start)}.", table(header, rows + published_rows(name)))


def measure_both(
    place: Path, chosen: Any, values: Mapping[str, Any], ways: Mapping[str, Any]
) -> dict[tuple[str, str], dict[str, Any]]:
    """Return what was measured each way round, from the results file where it stands there."""
    known, done = Results(None if chosen.quick else chosen.results), {}
    for ends in WAYS_ROUND:
        for number, truth in zip(ends, (chosen.truth, "GT"), strict=True):
            sequence(place, number, truth)  # a missing folder is told before a long training, not after it
        key = {
            "set": place.resolve().name, "ends": ends, "truth": chosen.truth, "start": trials.identity(chosen.start),
            "values": values, "ways": ways,
        }  # fmt: skip
        done[ends] = known.once(key, functools.partial(measure, place, ends, chosen.truth, chosen.start, values, ways))
    return done


if __name__ == "__main__":
    run(main)
