"""AP from a few painted cells and seconds of training on two cores, against peers on the same crops.

    tox -e peers                                             # once: the peers, in an environment of their own
    python benchmarks/few_cells.py                           # 20 cells, 10 and 60 s; about an hour
    python benchmarks/few_cells.py --minutes 9               # the next rows only; run again until none is missing
    python benchmarks/few_cells.py --cells 5 20 100 --seconds 10 60 300       # the full grid; a night
    python benchmarks/few_cells.py --start clean=pretraining/nuclei/model     # further start models

Some pictures of each kind are painted on: the cells nearest to the middle, and the background of the box
around them. Ours learns from that paint; to the peers, which need dense labels, the neighbours that reach
into the box are told too. Every method normalises the whole picture in its own way, knows the median
diameter of the painted cells, trains for the same wall-clock time and segments the same other pictures.
Not counted: imports, compilation (the first step of StarDist and Cellpose), making of targets by these
two, and the choice of thresholds by StarDist and by ours. The pretrained weights of StarDist and Cellpose
are downloads that are not part of this comparison: both train from scratch.
"""

from __future__ import annotations

import functools
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import models
import trials
from napari_unet.core.network.model_card import BUNDLED, bundled_models
from painted_crops import BACKGROUND, KINDS, Kind, Painted, Picture, paint_cells, painted_diameter, read_pictures
from peers.protocol import Job, Report, read_answer, write_job
from reporting import ROOT, CannotMeasure, Figure, arguments, cores, limit_cores, report, run, say, table
from trials import Results

PEERS = {"forest": "random forest", "stardist": "StarDist", "cellpose": "Cellpose 3"}
"""Script of each peer (`peers/peer_NAME.py`), and its name."""
PACKAGES = {"forest": "scikit-learn", "stardist": "stardist", "cellpose": "cellpose"}
PAPER = {
    "width": 64, "padding": "valid", "norm": "none", "dropout": 0.5, "distance": False,
    "optimiser": "sgd", "momentum": 0.99, "batch": 1, "ema_decay": 0.0, "weight_decay": 0.0, "balance": 1.0,
}  # fmt: skip
"""The settings of the 2015 paper, from scratch; the patch stays small, so that a minute holds more than a few steps."""
COLUMNS = ("ap_0.50", "ap_mean", "ap_pooled_0.50", "ap_pooled_mean")
PATIENCE = 900.0
"""Seconds beyond the training time after which a peer counts as stuck."""
OVERHEAD = 60.0
"""Seconds that a row takes beside its training, as far as planning goes."""


@dataclass(frozen=True)
class Ours:
    """A way of training our network.

    Attributes
    ----------
    words : str
        What the table calls it.
    start : str
        Model to start from, or ``trials.SCRATCH``.
    values : mapping
        Settings that differ from the defaults.
    """

    words: str
    start: str
    values: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Task:
    """One kind of image with so many painted cells: what every method is given."""

    name: str
    kind: Kind
    painted: tuple[Painted, ...]
    tests: tuple[Picture, ...]

    @property
    def cells(self) -> int:
        """Painted cells."""
        return sum(p.cells for p in self.painted)


def make_task(name: str, cells: int, limit: int) -> Task | None:
    """Return what to paint and to test; None, with a word on it, where the pictures hold too few cells."""
    kind = KINDS[name]
    paint, tests = kind.split(read_pictures(kind))
    try:
        painted = paint_cells(paint, cells)
    except CannotMeasure as error:
        say(f"{name}: {error}")
        return None
    return Task(name, kind, tuple(painted), tuple(tests[:limit] if limit else tests))


def train_ours(task: Task, way: Ours, seconds: float) -> tuple[Any, Report]:
    """Return our model after so many seconds on the paint, and how far it came."""
    from napari_unet.cli.train import choose_settings
    from napari_unet.core.data.annotation import AnnotatedImage
    from napari_unet.core.events import Finished
    from napari_unet.core.training.loop import train
    from napari_unet.core.training.plan import resolve

    start = trials.start_model(way.start)
    values = {**way.values, "seconds": seconds, "background_label": BACKGROUND}
    settings, network = choose_settings(values, start is None)
    images = [AnnotatedImage(p.crop.image, p.paint, name=f"{p.name} {i}") for i, p in enumerate(task.painted)]
    plan = resolve(images, settings, start=start, network=network)
    begin = time.perf_counter()
    last = [event for event in train(plan) if isinstance(event, Finished)][-1]
    took = time.perf_counter() - begin
    remark = (
        f"from {last.model.card.training_history[-1]['start']}; {took:.0f} s with validation and choice of thresholds"
    )
    return last.model, Report(way.words, last.step, last.elapsed, remark)


def run_ours(task: Task, way: Ours, seconds: float) -> tuple[list[NDArray[np.int32]], Report]:
    """Train ours, segment the test pictures."""
    model, about = train_ours(task, way, seconds)
    begin = time.perf_counter()
    found = trials.segmented(model, task.tests)
    return found, Report(about.method, about.steps, about.seconds, about.remark, time.perf_counter() - begin)


def run_peer(task: Task, name: str, seconds: float, python: Path) -> tuple[list[NDArray[np.int32]], Report]:
    """Train a peer in its own environment and let it segment the test pictures."""
    crops, tests = (p.crop for p in task.painted), (t.image for t in task.tests)
    return ask_peer(name, Job(tuple(crops), tuple(tests), seconds, painted_diameter(task.painted), cores()), python)


def ask_peer(name: str, job: Job, python: Path) -> tuple[list[NDArray[np.int32]], Report]:
    """Give a peer a job in its own environment; return the labels of the test pictures and its report.

    Raises
    ------
    CannotMeasure
        When it fails, with the end of what it said.
    """
    script = Path(__file__).parent / "peers" / f"peer_{name}.py"
    with tempfile.TemporaryDirectory() as folder:
        write_job(Path(folder), job)
        command = [str(python), str(script), folder]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=job.seconds + PATIENCE, check=False)
        except subprocess.TimeoutExpired as error:
            raise CannotMeasure(f"{name} did not end {PATIENCE:.0f} s after its training time.") from error
        if done.returncode:
            raise CannotMeasure(f"{name} ended with {done.returncode}:\n{done.stderr[-2000:]}")
        return read_answer(Path(folder))


def row_of(task: Task, found: Sequence[NDArray[np.int32]], about: Report) -> dict[str, Any]:
    """Return what is kept of a measurement: scores on all test pictures and on those that pretraining spared."""
    spared = [i for i, t in enumerate(task.tests) if t.spared]
    row = {
        "all": scores_of(task, found, range(len(found))),
        "spared": scores_of(task, found, spared) if spared else None,
        "method": about.method, "steps": about.steps, "seconds": about.seconds,
        "segmenting": about.segmenting, "remark": about.remark,
    }  # fmt: skip
    say(f"  AP at 0.5 {row['all']['ap_0.50']:.3f}; {about.steps} steps in {about.seconds:.0f} s; {about.remark}")
    return row


def scores_of(task: Task, found: Sequence[NDArray[np.int32]], chosen: Sequence[int]) -> dict[str, float]:
    """Return the scores on some of the test pictures."""
    result = trials.scores([task.tests[i] for i in chosen], [found[i] for i in chosen])
    return {name: result[name] for name in (*COLUMNS, "cells_truth", "cells_predicted")}


def pinned(package: str) -> str:
    """Return the version of a peer that its environment is made with."""
    lines = (Path(__file__).parent / "peers" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return next(line for line in lines if line.startswith(f"{package}=="))


def peers_python(given: Path | None) -> Path | None:
    """Return the Python of the peers' environment; None, with a word on it, when there is none.

    Raises
    ------
    CannotMeasure
        When the one that was given is not there.
    """
    if given is not None and not given.exists():
        raise CannotMeasure(f"there is no {given}; make the peers' environment by `tox -e peers`.")
    usual = [ROOT / ".tox" / "peers" / place for place in ("bin/python", "Scripts/python.exe")]
    found = given or next((path for path in usual if path.exists()), None)
    if found is None:
        say("the peers are left out: make their environment by `tox -e peers`, or name its Python by --peers.")
    # Not resolved: the link is what tells Python which environment it is.
    return None if found is None else found.absolute()


def our_ways(chosen: Any) -> dict[str, Ours]:
    """Return our ways of training by name.

    Raises
    ------
    CannotMeasure
        When a start model is not there, or its option is not NAME=MODEL.
    """
    values: dict[str, Any] = dict(chosen.set)
    starts = {"bundled": chosen.model}
    for option in chosen.start:
        name, sign, model = option.partition("=")
        if not (name and sign and model):
            raise CannotMeasure(f"--start is {option}, but has to be NAME=MODEL.")
        starts[name] = model
    ways = {name: Ours(f"ours, {name} start", models.existing(model), values) for name, model in starts.items()}
    ways["scratch"] = Ours("ours, from scratch", trials.SCRATCH, values)
    return ways | {"paper": Ours("ours, the paper's setting from scratch", trials.SCRATCH, PAPER)}


@dataclass(frozen=True)
class Row:
    """One line of the table that is to be, or was, measured."""

    task: Task
    seconds: float
    method: str

    def key(self, ways: Mapping[str, Ours]) -> dict[str, Any]:
        """Return what tells this row from others, with everything that its figures depend on but the code."""
        way = ways.get(self.method)
        what: dict[str, Any] = {"peer": pinned(PACKAGES[self.method])} if way is None else {
            "start": [trials.identity(start) for start in members(way.start)], "values": dict(way.values),
        }  # fmt: skip
        tested = [t.name for t in self.task.tests]
        return {
            "kind": self.task.name, "cells": self.task.cells, "seconds": self.seconds, "cores": cores(),
            "method": self.method, "tested": tested, **what,
        }  # fmt: skip

    def words(self, ways: Mapping[str, Ours]) -> str:
        """Return what the table calls the method."""
        return ways[self.method].words if self.method in ways else PEERS[self.method]

    def measure(self, ways: Mapping[str, Ours], python: Path | None) -> dict[str, Any]:
        """Train, segment and score."""
        say(f"{self.task.name}, {self.task.cells} cells, {self.seconds:g} s, {self.words(ways)}")
        if self.method in ways:
            return row_of(self.task, *run_ours(self.task, ways[self.method], self.seconds))
        if python is None:
            raise CannotMeasure("there is no environment of the peers; make it by `tox -e peers`.")
        return row_of(self.task, *run_peer(self.task, self.method, self.seconds, python))


def measured(
    rows: Sequence[Row], ways: Mapping[str, Ours], python: Path | None, known: Results, minutes: float
) -> dict[Row, dict[str, Any]]:
    """Return what each row measured, now or before; rows that do not fit into the time are left out."""
    end = time.perf_counter() + 60 * minutes if minutes else float("inf")
    done: dict[Row, dict[str, Any]] = {}
    for row in rows:
        key = row.key(ways)
        value = known.get(key)
        if value is None and time.perf_counter() + row.seconds + OVERHEAD <= end:
            value = known.once(key, functools.partial(row.measure, ways, python))
        if value is not None:
            done[row] = value
    return done


def members(start: str) -> tuple[str, ...]:
    """Return the models that a training may begin with: all of the package's for ``"bundled"``."""
    return bundled_models() if start == BUNDLED else (start,)


def knows(row: Row, ways: Mapping[str, Ours]) -> bool:
    """Return whether a start model may have learnt from test pictures that pretraining did not spare."""
    way = ways.get(row.method)
    shown = [t.name for t in row.task.tests if not t.spared]
    if way is None or not shown:
        return False
    return any(trials.seen(start, row.task.kind.group, shown) for start in members(way.start))


def figures_of(done: Mapping[Row, Mapping[str, Any]], ways: Mapping[str, Ours]) -> list[Figure]:
    """Return by how much each start model is ahead: of every peer, and in a short time of the random forest."""
    figures = []
    for row, value in done.items():
        if row.method not in ways or ways[row.method].start == trials.SCRATCH:
            continue
        part = "spared" if knows(row, ways) else "all"
        rivals = [
            (other, them) for other, them in done.items()
            if (other.task, other.seconds) == (row.task, row.seconds) and other.method not in ways
            and (row.seconds >= 60 or other.method == "forest")
        ]  # fmt: skip
        if rivals and value[part]:
            figures.append(lead(row, value, rivals, ways, part))
    return figures


def lead(
    row: Row, value: Mapping[str, Any], rivals: Sequence[tuple[Row, Mapping[str, Any]]],
    ways: Mapping[str, Ours], part: str,
) -> Figure:  # fmt: skip
    """Return the difference to the best of the rivals as a figure, on all or only the spared test pictures."""
    best, theirs = max(rivals, key=lambda rival: rival[1][part]["ap_0.50"])
    ours, other = value[part]["ap_0.50"], theirs[part]["ap_0.50"]
    words = " and ".join(rival.words(ways) for rival, _ in rivals)
    count = len(row.task.tests) if part == "all" else sum(t.spared for t in row.task.tests)
    detail = f"{ours:.3f} against {other:.3f} of {best.words(ways)}, per image; {count} pictures with "
    detail += f"{value[part]['cells_truth']:.0f} cells, none of them pretrained on; "
    detail += f"measured {trials.provenance([value, theirs])}"
    name = f"{row.task.kind.words}: {row.task.cells} painted cells, {row.seconds:g} s: "
    name += f"AP at 0.5 of {row.words(ways)} over {words}"
    promised = row.method == "bundled" and row.task.cells == 20 and row.seconds in (10, 60)
    return Figure(name, ours - other, detail=detail, at_least=0.0 if promised else None)


def line(row: Row, value: Mapping[str, Any], ways: Mapping[str, Ours]) -> list[str]:
    """Return one row of the table."""
    scores, spared = value["all"], value["spared"]
    about = value["remark"] if row.method in ways else f"{value['method']}; {value['remark']}"
    return [
        row.task.name, str(row.task.cells), f"{row.seconds:g}", row.words(ways) + (" (*)" if knows(row, ways) else ""),
        *(f"{scores[c]:.3f}" for c in COLUMNS), f"{spared['ap_0.50']:.3f}" if spared else "none",
        f"{scores['cells_predicted']:.0f} / {scores['cells_truth']:.0f}",
        str(value["steps"]), f"{value['seconds']:.0f}", f"{value['segmenting']:.0f}", about,
        f"{value['date']} {value['commit']}",
    ]  # fmt: skip


HEADER = [
    "image type", "cells", "s", "method", "AP 0.5", "mean AP", "pooled AP 0.5", "pooled mean AP",
    "AP 0.5, spared pictures", "found / true cells", "steps", "trained (s)", "segmenting (s)", "how", "measured",
]  # fmt: skip


def described(tasks: Sequence[Task]) -> str:
    """Return a table of what was painted and what is tested on."""
    rows = []
    for task in tasks:
        parts = sum(len(np.unique(p.crop.labels)) - 1 for p in task.painted) - task.cells
        size = " ".join("x".join(map(str, p.crop.labels.shape)) for p in task.painted)
        cells = sum(len(np.unique(t.truth)) - 1 for t in task.tests)
        spared = sum(t.spared for t in task.tests)
        rows.append([
            task.name, task.kind.words, task.cells, f"{painted_diameter(task.painted):.0f}", size, parts,
            len(task.tests), spared, cells,
        ])  # fmt: skip
    header = ["image type", "what", "painted cells", "diameter (px)", "crops (px)", "neighbours told to peers"]
    return table([*header, "test pictures", "of them not pretrained on", "test cells"], rows)


NOTES = (
    "AP is the mean over test pictures, or of their cells pooled; the mean is over IoU 0.5 to 0.9. All pictures are "
    "grey. (*): the start model may have learnt from some of the test pictures, so it is compared with the peers on "
    "the spared ones alone; the planes of em show the same objects, so none of them is spared from a model that was "
    "pretrained on em. StarDist and Cellpose train from scratch: their own pretrained weights could not be fetched and "
    "are not compared with."
)


def main() -> None:
    """Measure and report."""
    methods = {"nargs": "+", "metavar": "METHOD", "help": f"bundled, a --start, scratch, paper, {', '.join(PEERS)}"}
    minutes = {"type": float, "default": 0.0, "help": "begin no row that would end later; 0 is no limit"}
    chosen = arguments(
        __doc__, model=models.START, cores=trials.CORES, set=trials.SET, methods=methods, minutes=minutes,
        start={"action": "append", "default": [], "metavar": "NAME=MODEL", "help": "a further start model"},
        kinds={"nargs": "+", "choices": list(KINDS), "default": list(KINDS)},
        cells={"nargs": "+", "type": int, "default": [20]},
        seconds={"nargs": "+", "type": float, "default": [10.0, 60.0]},
        limit={"type": int, "default": 0, "help": "test on at most so many pictures"},
        peers={"type": Path, "help": "Python of the peers' environment (default: that of `tox -e peers`)"},
        results=trials.results_option("few_cells"),
    )  # fmt: skip
    limit_cores(chosen.cores)
    times, limit = ([5.0], 2) if chosen.quick else (chosen.seconds, chosen.limit)
    ways, python = our_ways(chosen), peers_python(chosen.peers)
    there = [*ways, *(PEERS if python else ())]
    unknown = set(chosen.methods or ()) - {*ways, *PEERS}
    if unknown:
        raise CannotMeasure(f"there is no method {', '.join(sorted(unknown))}; known are {', '.join([*ways, *PEERS])}.")
    tasks = [t for name in chosen.kinds for cells in chosen.cells if (t := make_task(name, cells, limit))]
    rows = [Row(t, s, m) for t in tasks for s in times for m in chosen.methods or there]
    done = measured(rows, ways, python, Results(None if chosen.quick else chosen.results), chosen.minutes)
    lines = [line(row, value, ways) for row, value in done.items()]
    missing = f"{len(rows) - len(done)} of {len(rows)} rows are not measured yet: run the same command again."
    more = [] if len(done) == len(rows) else [missing]
    report(figures_of(done, ways), *more, "Painted and tested:", described(tasks), NOTES, table(HEADER, lines))


if __name__ == "__main__":
    run(main)
