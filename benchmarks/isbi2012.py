"""EM membranes (ISBI 2012): train on some blocks of slices, measure V_rand, V_info and pixel error on another.

    python benchmarks/isbi2012.py --folder FOLDER                      # FOLDER/train-volume.tif, train-labels.tif
    python benchmarks/isbi2012.py --volume v.tif --labels l.tif --minutes 30 --start scratch --set width=64
    python benchmarks/isbi2012.py --quick                              # a trial on a small generated volume

Labels are 0 on membranes and 255 inside of cells; each connected piece of inside is one cell to learn. Neighbouring
slices show the same cells, so that the volume is split into blocks of consecutive slices (three by default): each is
tested once, by a model that the others taught. V_rand and V_info are restricted to the true inside, after
the predicted borders were thinned, as on the challenge's list; the mean over slices is given for three segmentations:

- cells: the labels that the `segment` command writes;
- map 0.5: connected pieces of the network's probability above 0.5;
- map, best: the same at the threshold that measures best on the tested slices, as the challenge's list takes it.
"""

from __future__ import annotations

import contextlib
import functools
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import models
import trials
from reporting import CannotMeasure, Figure, arguments, limit_cores, report, run, say, table
from trials import Picture, Results

VOLUME, LABELS = "train-volume.tif", "train-labels.tif"
THRESHOLDS = tuple(round(0.1 * k, 1) for k in range(1, 10))
MEASURES = {"v_rand": "V_rand", "v_info": "V_info", "pixel_error": "pixel error"}
CELLS, HALF, BEST = "cells", "map 0.5", "map, best"
PUBLISHED = (
    ("U-Net 2015, hidden volume", "(Rand error 0.0382, older definition)", "", "0.0611"),
    ("best on the challenge's list, hidden volume", "0.988", "", ""),
)


def inside_segments(inside: NDArray[Any]) -> NDArray[np.int32]:
    """Return the connected pieces, by sides, of what is not 0; (Y, X)."""
    from skimage.measure import label

    return np.asarray(label(np.asarray(inside) > 0, connectivity=1), np.int32)


def read_volume(volume: Path, labels: Path) -> list[Picture]:
    """Return the slices with their cells.

    Raises
    ------
    CannotMeasure
        When a file is missing, or the two are no stacks of one shape.
    """
    from napari_unet.stores import open_labels, open_picture

    for path in (volume, labels):
        if not path.exists():
            raise CannotMeasure(
                f"{path} is not there; give --folder with {VOLUME} and {LABELS}, or --volume, --labels."
            )
    planes, truth = open_picture(volume, "zyx").planes, open_labels(labels)
    if len(planes.shape) != 3 or tuple(truth.shape) != tuple(planes.shape):
        raise CannotMeasure(f"{volume} has the shape {planes.shape} and {labels} {tuple(truth.shape)}; they have to be "
                            "stacks of planes of one shape.")  # fmt: skip
    whole = (slice(None), slice(None))
    return [
        Picture(f"slice {index[0]:03d}", planes.read(index, *whole), inside_segments(truth[(*index, *whole)]))
        for index in planes.indices()
    ]


def write_volume(folder: Path, slices: int = 6, side: int = 192) -> Path:
    """Write a small generated volume: slices of packed cells with dark membranes, each on its own."""
    import tifffile

    from napari_unet.core.data.label_ops import erode_boundaries
    from napari_unet.core.synthetic import generate

    made = [generate("membranes", (side, side), seed, diameter=side / 6, density=0.95) for seed in range(slices)]
    folder.mkdir(parents=True, exist_ok=True)
    grey = np.stack([np.round(255 * image).astype(np.uint8) for image, _ in made])
    inside = np.stack([np.where(erode_boundaries(labels, 1) > 0, 255, 0).astype(np.uint8) for _, labels in made])
    for name, values in ((VOLUME, grey), (LABELS, inside)):
        tifffile.imwrite(folder / name, values, photometric="minisblack")
    return folder


@contextlib.contextmanager
def found_files(chosen: Any) -> Iterator[tuple[Path, Path]]:
    """Give the user's files, or with ``--quick`` and without them a generated volume for as long as it is used."""
    if chosen.folder or (chosen.volume and chosen.labels):
        folder = chosen.folder or Path()
        yield chosen.volume or folder / VOLUME, chosen.labels or folder / LABELS
        return
    if not chosen.quick:
        raise CannotMeasure(f"give --folder with {VOLUME} and {LABELS} of your download, or --volume and --labels.")
    with tempfile.TemporaryDirectory() as temporary:
        folder = write_volume(Path(temporary))
        yield folder / VOLUME, folder / LABELS


def blocks_of(count: int, blocks: int) -> list[range]:
    """Return ranges of consecutive slices, as equal as can be."""
    edges = np.linspace(0, count, blocks + 1).round().astype(int)
    return [range(a, b) for a, b in zip(edges[:-1], edges[1:], strict=True)]


def plane_scores(truth: NDArray[np.int32], found: NDArray[np.int32]) -> dict[str, float]:
    """Return the measures of one slice, both labelled."""
    from napari_unet.core.evaluation.metrics import pixel_error, v_info, v_rand

    return {
        "v_rand": v_rand(truth, found, thin=True),
        "v_info": v_info(truth, found, thin=True),
        "pixel_error": pixel_error([truth], [found]),
    }


def slice_scores(
    truth: NDArray[np.int32], cells: NDArray[np.int32], probability: NDArray[np.float32]
) -> dict[str, dict[str, float]]:
    """Return the measures of one slice by segmentation: the cells, and the map at each threshold."""
    maps = {f"map {t:g}": plane_scores(truth, inside_segments(probability > t)) for t in THRESHOLDS}
    return {CELLS: plane_scores(truth, cells), **maps}


def means(slices: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """Return the means over slices of each segmentation, with the best threshold for each measure."""
    mean = {way: {m: float(np.mean([s[way][m] for s in slices])) for m in MEASURES} for way in slices[0]}
    maps = [mean[way] for way in mean if way != CELLS]
    best = {m: (min if m == "pixel_error" else max)(values[m] for values in maps) for m in MEASURES}
    return {CELLS: mean[CELLS], HALF: mean["map 0.5"], BEST: best}


def measure(
    pictures: Sequence[Picture], tested: range, values: Mapping[str, Any], ways: Mapping[str, Any], start: str
) -> dict[str, Any]:
    """Train on the slices of the other blocks; return the measures of each tested slice by way of segmenting."""
    from napari_unet.core.instances.pipeline import foreground

    lesson, exam = [p for i, p in enumerate(pictures) if i not in tested], [pictures[i] for i in tested]
    model, steps = trials.taught(lesson, trials.start_model(start), values)
    scores = {}
    for way, chosen in ways.items():
        kept: list[NDArray[np.float32]] = []
        found = trials.segmented(
            model, exam, chosen, lambda _, outputs, scale, kept=kept: kept.append(foreground(outputs))
        )
        scores[way] = [slice_scores(p.truth, f, k) for p, f, k in zip(exam, found, kept, strict=True)]
        cells = ", ".join(f"{MEASURES[m]} {v:.3f}" for m, v in means(scores[way])[CELLS].items())
        say(f"slices {tested[0]} to {tested[-1]}, {way}: {cells}; {steps}")
    return {"steps": steps, "slices": [tested[0], tested[-1]], "scores": scores}


def main() -> None:
    """Measure and report."""
    folder = {"type": Path, "metavar": "FOLDER", "help": f"folder with {VOLUME} and {LABELS}"}
    minutes = {"type": float, "default": 10.0, "help": "training time of each block (default: %(default)s)"}
    blocks = {"type": int, "default": 3, "help": "blocks of slices (default: %(default)s)"}
    block = {"type": int, "help": "train for this one only, from 0; the table shows all that are in the results file"}
    chosen = arguments(
        __doc__, folder=folder, volume={"type": Path}, labels={"type": Path}, minutes=minutes, blocks=blocks,
        block=block, start=models.START, set=trials.SET, predict=trials.PREDICT, mirror=trials.MIRROR,
        results=trials.results_option("isbi2012"), cores=trials.CORES,
    )  # fmt: skip
    limit_cores(chosen.cores)
    values = {**dict(chosen.set), "seconds": 5.0 if chosen.quick else 60 * chosen.minutes}
    ways = trials.ways_of(chosen.predict, chosen.mirror)
    with found_files(chosen) as (volume, labels):
        pictures = read_volume(volume, labels)
        name = volume.resolve().name
    parts = blocks_of(len(pictures), chosen.blocks)
    if not 2 <= chosen.blocks <= len(pictures) or chosen.block not in (None, *range(chosen.blocks)):
        raise CannotMeasure(f"there is no block {chosen.block} of {chosen.blocks} of {len(pictures)} slices.")
    known, done = Results(None if chosen.quick else chosen.results), []
    for number, tested in enumerate(parts):
        key = {
            "volume": name, "slices": len(pictures), "block": number, "blocks": chosen.blocks,
            "start": trials.identity(chosen.start), "values": values, "ways": ways,
        }  # fmt: skip
        if chosen.block in (None, number):
            done.append(known.once(key, functools.partial(measure, pictures, tested, values, ways, chosen.start)))
        elif (earlier := known.get(key)) is not None:
            done.append(earlier)
    say_all(chosen, done, ways, len(pictures))


def say_all(chosen: Any, done: Sequence[Mapping[str, Any]], ways: Mapping[str, Any], count: int) -> None:
    """Report the blocks that were measured."""
    figures, rows = [], []
    for way in ways:
        slices = [s for each in done for s in each["scores"][way]]
        about = f"mean of {len(slices)} of {count} slices, {len(done)} of {chosen.blocks} blocks; each "
        about += "; ".join(each["steps"] for each in done)
        about += f"; from {trials.identity(chosen.start)}; measured {trials.provenance(done)}"
        suffix = "" if way == "plain" else f", {way}"
        for segmentation, values in means(slices).items():
            for measure_name, words in MEASURES.items():
                figures.append(Figure(f"{words}, {segmentation}{suffix}", values[measure_name], detail=about))
        for each in done:
            first, last = each["slices"]
            for segmentation, values in means(each["scores"][way]).items():
                shown = [f"{values[m]:.4f}" for m in MEASURES]
                rows.append([f"ours, {segmentation}{suffix}, slices {first} to {last}", *shown])
    report(figures, "By block:", table(["method", *MEASURES.values()], [*rows, *PUBLISHED]))


if __name__ == "__main__":
    run(main)
