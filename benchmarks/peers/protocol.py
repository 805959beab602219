"""What passes between `few_cells.py` and a peer in another environment: one folder of plain arrays.

`job.json` holds the numbers, `train.npz` the painted pictures, `test.npz` the pictures to segment. The peer
answers with `found.npz` and then `report.json`; what is not there was not done. Needs numpy alone.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Box = tuple[int, int, int, int]
"""y0, y1, x0, x1 in pixels."""
Segment = Callable[[NDArray[Any]], NDArray[Any]]


@dataclass(frozen=True)
class Crop:
    """A picture in which a part is densely labelled.

    Attributes
    ----------
    image : NDArray
        The whole picture in grey values, (Y, X), so that each method can normalise it in its own way.
    box : Box
        The labelled part.
    labels : NDArray of int32
        Instance labels of the part, 0 = background.
    """

    image: NDArray[Any]
    box: Box
    labels: NDArray[np.int32]

    def part(self, image: NDArray[Any], margin: int = 0) -> NDArray[Any]:
        """Return the labelled part of an array of the picture's size, with up to ``margin`` pixels around it."""
        rows, columns = self.around(margin)
        return image[rows, columns]

    def around(self, margin: int) -> tuple[slice, slice]:
        """Return rows and columns of the labelled part and its margin."""
        y0, y1, x0, x1 = self.box
        return slice(max(0, y0 - margin), y1 + margin), slice(max(0, x0 - margin), x1 + margin)


@dataclass(frozen=True)
class Job:
    """What a method is given.

    Attributes
    ----------
    crops : tuple of Crop
        To learn from.
    tests : tuple of NDArray
        Pictures to segment, (Y, X) each.
    seconds : float
        Wall-clock time for training.
    diameter : float
        Median diameter of the painted cells in pixels.
    threads : int
        Cores to use.
    seed : int
        Start of all random choices.
    """

    crops: tuple[Crop, ...]
    tests: tuple[NDArray[Any], ...]
    seconds: float
    diameter: float
    threads: int = 2
    seed: int = 0


@dataclass(frozen=True)
class Report:
    """What a method says of itself.

    Attributes
    ----------
    method : str
        Name and version.
    steps : int
        Training steps (or trees) that fitted into the time.
    seconds : float
        Time that training took.
    remark : str
        What else has to be known.
    segmenting : float
        Seconds that segmenting all test pictures took.
    """

    method: str
    steps: int
    seconds: float
    remark: str = ""
    segmenting: float = 0.0


def write_job(folder: Path, job: Job) -> None:
    """Write a job into an existing folder."""
    train: dict[str, NDArray[Any]] = {}
    for index, crop in enumerate(job.crops):
        train |= {f"image{index}": crop.image, f"box{index}": np.array(crop.box), f"labels{index}": crop.labels}
    np.savez(folder / "train.npz", **train)
    _write_arrays(folder / "test.npz", job.tests)
    numbers = {name: getattr(job, name) for name in ("seconds", "diameter", "threads", "seed")}
    (folder / "job.json").write_text(json.dumps({"crops": len(job.crops), **numbers}), encoding="utf-8")


def read_job(folder: Path) -> Job:
    """Return the job of a folder."""
    numbers = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    with np.load(folder / "train.npz") as train:
        crops = tuple(
            Crop(train[f"image{i}"], tuple(train[f"box{i}"].tolist()), train[f"labels{i}"])
            for i in range(numbers.pop("crops"))
        )
    return Job(crops, tuple(_read_arrays(folder / "test.npz")), **numbers)


def write_answer(folder: Path, found: Sequence[NDArray[Any]], report: Report) -> None:
    """Write the labels of the test pictures, then the report."""
    _write_arrays(folder / "found.npz", [np.asarray(labels, np.int32) for labels in found])
    (folder / "report.json").write_text(json.dumps(dataclasses.asdict(report)), encoding="utf-8")


def read_answer(folder: Path) -> tuple[list[NDArray[np.int32]], Report]:
    """Return labels and report that a peer left in a folder."""
    report = Report(**json.loads((folder / "report.json").read_text(encoding="utf-8")))
    return _read_arrays(folder / "found.npz"), report


def _write_arrays(path: Path, arrays: Sequence[NDArray[Any]]) -> None:
    """Write arrays under the names ``0``, ``1``, ..."""
    np.savez(path, **{str(index): array for index, array in enumerate(arrays)})


def _read_arrays(path: Path) -> list[NDArray[Any]]:
    """Return arrays in the order in which they were written."""
    with np.load(path) as stored:
        return [stored[str(index)] for index in range(len(stored.files))]


def limit_threads(count: int) -> None:
    """Keep the libraries that read it from the environment to so many threads; before they are imported."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = str(count)


def answer(fit: Callable[[Job], tuple[Segment, Report]]) -> None:
    """Be a peer: read the job of the folder named on the command line, train, segment, answer."""
    folder = Path(sys.argv[1])
    job = read_job(folder)
    limit_threads(job.threads)
    segment, report = fit(job)
    begin = time.perf_counter()
    found = [segment(image) for image in job.tests]
    write_answer(folder, found, dataclasses.replace(report, segmenting=time.perf_counter() - begin))
