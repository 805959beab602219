"""What the paper's parts, and ours, bring: one part at a time switched off, on five pictures of two data sets.

    python benchmarks/ablations.py                                     # 60 s of training each, one seed
    python benchmarks/ablations.py --seeds 0 1 2 --limit 16            # three trainings of each, for the spread
    python benchmarks/ablations.py --sets usiigaci --ways "from scratch" "no elastic deformation"

The pictures are those of `five_pictures.py`: five to train on and the others to measure on, which no
pretraining has learnt from. All parts but the start are switched on a network from scratch, as the bundled one has
learnt with them; every way has the same time on two cores. Each training is segmented as its card says, and once
more averaged over mirrored pictures. What is in the results file is not trained again.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import models
import trials
from five_pictures import SETS, part, spared_pictures
from reporting import Figure, arguments, limit_cores, report, run, say, table
from trials import Picture, Results

SCRATCH, BUNDLED = "from scratch", "bundled start"
WAYS: dict[str, dict[str, str]] = {
    SCRATCH: {},
    "no border weight": {"border_weight": "0"},
    "no elastic deformation": {"elastic": "0"},
    "valid convolutions, as in the paper": {"padding": "valid"},
    "no distance output, as in the paper": {"distance": "false"},
    "no distance output, no border weight": {"distance": "false", "border_weight": "0"},
    BUNDLED: {},
}
"""Every training, and the settings in which it differs from the defaults."""
PLAIN, MIRRORED = "plain", "mirrored"
COLUMNS = ("ap_0.50", "ap_0.75", "ap_mean", "ap_pooled_0.50")


def start_of(way: str, model: str) -> str:
    """Return what a training begins with."""
    return model if way == BUNDLED else trials.SCRATCH


def measure(
    lesson: Sequence[Picture], exam: Sequence[Picture], start: str, values: Mapping[str, Any], label: str
) -> dict[str, Any]:
    """Train once; return the scores as the card says and averaged over mirrored pictures."""
    model, steps = trials.taught(lesson, trials.start_model(start), values)
    found = {}
    for way, chosen in trials.ways_of((), True).items():
        result = trials.scores(exam, trials.segmented(model, exam, chosen))
        found[way] = {column: result[column] for column in COLUMNS}
    say(f"{label}: AP at IoU 0.5 {found[PLAIN]['ap_0.50']:.3f}, mirrored {found[MIRRORED]['ap_0.50']:.3f}; {steps}")
    return {"steps": steps, "scores": found}


def all_of(name: str, chosen: Any, known: Results) -> dict[str, list[dict[str, Any]]]:
    """Return what every way measured on one data set, one entry per seed."""
    limit = 3 if chosen.quick else chosen.limit
    five, others = part(spared_pictures(SETS[name]), limit)
    seconds = 5.0 if chosen.quick else chosen.seconds
    done: dict[str, list[dict[str, Any]]] = {way: [] for way in chosen.ways}
    # Seed by seed, so that a run that is ended early has measured all ways alike.
    for seed in chosen.seeds:
        for way in chosen.ways:
            start = start_of(way, chosen.model)
            values = {**WAYS[way], "seconds": seconds, "seed": seed}
            key = {"set": name, "start": trials.identity(start), "values": values, "tested": len(others)}
            make = functools.partial(measure, five, others, start, values, f"{name}, {way}, seed {seed}")
            done[way].append(known.once(key, make))
    return done


def rows_of(name: str, done: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[list[str]]:
    """Return one row per training, and one each for the mirrored pictures of the two starts."""
    base = done.get(SCRATCH)
    rows = []
    for way, each in done.items():
        rows.append(row_of(name, way, each, PLAIN, base))
        if way in (SCRATCH, BUNDLED):
            rows.append(row_of(name, f"{way}, mirrored pictures averaged", each, MIRRORED, each))
    return rows


def row_of(
    name: str, label: str, each: Sequence[Mapping[str, Any]], way: str, base: Sequence[Mapping[str, Any]] | None
) -> list[str]:
    """Return the mean over seeds, its range, and the difference from the row that it is compared with."""
    values = {c: [one["scores"][way][c] for one in each] for c in COLUMNS}
    first = values["ap_0.50"]
    spread = f" ({min(first):.3f} to {max(first):.3f})" if len(first) > 1 else ""
    against = "" if base is None or (base is each and way == PLAIN) else f"{np.mean(first) - _plain(base):+.3f}"
    return [name, label, f"{np.mean(first):.3f}{spread}", against, *(f"{np.mean(values[c]):.3f}" for c in COLUMNS[1:])]


def _plain(each: Sequence[Mapping[str, Any]]) -> float:
    """Return the mean AP at IoU 0.5 of a training without mirrored pictures."""
    return float(np.mean([one["scores"][PLAIN]["ap_0.50"] for one in each]))


def figures_of(name: str, done: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Figure]:
    """Return AP at IoU 0.5 of each training."""
    figures = []
    for way, each in done.items():
        steps = ", ".join(one["steps"] for one in each)
        detail = f"per image, mean of {len(each)} training(s): {steps}; measured {trials.provenance(each)}"
        figures.append(Figure(f"AP at IoU 0.5 on {name}: {way}", _plain(each), detail=detail))
    return figures


def main() -> None:
    """Measure and report."""
    seconds = {"type": float, "default": 60.0, "help": "training time of each (default: %(default)s)"}
    limit = {"type": int, "default": 16, "help": "segment at most so many; 0 is all (default: %(default)s)"}
    seeds = {"type": int, "nargs": "+", "default": [0], "help": "one training of each way per seed (default: 0)"}
    sets = {"nargs": "+", "choices": list(SETS), "default": list(SETS)}
    ways = {"nargs": "+", "choices": list(WAYS), "default": list(WAYS), "metavar": "WAY"}
    chosen = arguments(
        __doc__, model=models.START, seconds=seconds, seeds=seeds, sets=sets, ways=ways, limit=limit,
        results=trials.results_option("ablations"), cores=trials.CORES,
    )  # fmt: skip
    limit_cores(chosen.cores)
    known = Results(None if chosen.quick else Path(chosen.results))
    done = {name: all_of(name, chosen, known) for name in chosen.sets}
    figures = [figure for name in done for figure in figures_of(name, done[name])]
    rows = [row for name in done for row in rows_of(name, done[name])]
    header = ["data", "way", "AP 0.5 (range over seeds)", "difference", "AP 0.75", "mean AP", "pooled AP 0.5"]
    about = "Differences are to *from scratch*; those of mirrored pictures to the same model without them. "
    about += f"Bundled start: {models.described(chosen.model)}."
    report(figures, about, table(header, rows))


if __name__ == "__main__":
    run(main)
