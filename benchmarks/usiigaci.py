"""Glioma cells in phase contrast (Usiigaci), cross-validated over its 45 pictures: AP beside the published table.

    python benchmarks/usiigaci.py --seconds 600              # three trainings from scratch, every picture tested once
    python benchmarks/usiigaci.py --seconds 600 --fold 1     # only the second of them; run the others later
    python benchmarks/usiigaci.py --start MODEL --seconds 600 --set batch=2 --mirror

The pictures are dealt to the folds in turn, by name; each fold is tested by a model that the others taught, through
the same calls as the `train` and `segment` commands, with complete masks. Folds that are in the results
file with the same start, time and settings are not trained again. A start model that has seen pictures of the
set, or does not say, is refused: the bundled one has. The published figures are of five other pictures
of the same recording after training on all 45.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import trials
from reporting import CannotMeasure, Figure, arguments, limit_cores, report, run, say, table
from trials import Picture, Results

KIND = "usiigaci"
AT = (0.50, 0.60, 0.70, 0.75, 0.80)
PUBLISHED = {
    "U-Net, 3 classes": (0.245, 0.133, 0.049, 0.016, 0.008),
    "StarDist": (0.510, 0.337, 0.143, 0.076, 0.019),
    "Cellpose, trained": (0.704, 0.499, 0.258, 0.138, 0.040),
    "EmbedSeg": (0.704, 0.535, 0.273, 0.140, 0.044),
}
"""AP per image on the five test pictures at the IoU of :data:`AT`."""
PROMISED = 0.75


def dealt(names: Sequence[str], folds: int) -> list[list[str]]:
    """Return the names of each fold: dealt in turn, in alphabetical order."""
    ordered = sorted(names)
    return [ordered[fold::folds] for fold in range(folds)]


def read_all(data: Path) -> dict[str, Picture]:
    """Return the pictures by name.

    Raises
    ------
    CannotMeasure
        When the data are not there.
    """
    folder = data / KIND
    if not folder.exists():
        raise CannotMeasure("there is no folder ../shared/data/usiigaci beside the repository.")
    return {p.name: p for p in trials.read_pictures(folder / "images", folder / "masks")}


def check_start(start: str, names: Sequence[str], anyway: bool) -> str:
    """Return what has to be said of the start; raise when it may have seen the pictures."""
    reason = trials.seen(start, KIND, names)
    if reason and not anyway:
        raise CannotMeasure(
            f"the start {start} may know these pictures: {reason}. Give --start {trials.SCRATCH} or another model, or "
            "--anyway for figures that are no cross-validation."
        )
    return f"NO CROSS-VALIDATION: {reason}" if reason else ""


def measure_fold(
    pictures: Mapping[str, Picture], tested: Sequence[str], values: Mapping[str, Any], ways: Mapping[str, Any],
    start: str, save: Path | None,
) -> dict[str, Any]:  # fmt: skip
    """Train on the pictures of the other folds; return the counts of each tested picture by way of segmenting."""
    lesson = [p for name, p in sorted(pictures.items()) if name not in set(tested)]
    model, steps = trials.taught(lesson, trials.start_model(start), values)
    if save:
        from napari_unet.core.network.model_io import save_model

        save_model(model, save)
    exam = [pictures[name] for name in tested]
    counts = {}
    for way, chosen in ways.items():
        found = trials.segmented(model, exam, chosen)
        counts[way] = {p.name: trials.tally(p.truth, f) for p, f in zip(exam, found, strict=True)}
        ap = trials.combined(list(counts[way].values()))[0][0]
        say(f"{steps}; {len(exam)} pictures, {way}: AP at IoU 0.5 {ap:.3f}")
    return {"steps": steps, "trained_on": len(lesson), "counts": counts}


def rows_of(label: str, tallies: Sequence[list[list[int]]]) -> list[list[str]]:
    """Return AP at the published thresholds and the mean over IoU 0.5 to 0.9, per image and pooled."""
    from napari_unet.core.evaluation.metrics import THRESHOLDS

    where = [THRESHOLDS.index(t) for t in AT]
    return [
        [label, how, *(f"{ap[i]:.3f}" for i in where), f"{ap.mean():.3f}"]
        for how, ap in zip(("per image", "pooled"), trials.combined(tallies), strict=True)
    ]


def figures_of(way: str, tallies: Sequence[list[list[int]]], about: str, held: bool) -> list[Figure]:
    """Return AP at IoU 0.5 of all tested pictures; the promise is about all of them."""
    image, pooled = (float(ap[0]) for ap in trials.combined(tallies))
    suffix = "" if way == "plain" else f", {way}"
    return [
        Figure(f"AP at IoU 0.5, per image{suffix}", image, detail=about, at_least=PROMISED if held else None),
        Figure(f"AP at IoU 0.5, pooled{suffix}", pooled, detail=about),
    ]


def main() -> None:
    """Measure and report."""
    start = {"default": trials.SCRATCH, "metavar": "scratch|MODEL", "help": "what to go on from (default: scratch)"}
    seconds = {"type": float, "default": 600.0, "help": "training time of each fold (default: %(default)s)"}
    folds = {"type": int, "default": 3, "help": "how many (default: %(default)s)"}
    fold = {"type": int, "help": "train only this one, from 0; the table shows all that are in the results file"}
    save = {"type": Path, "metavar": "FOLDER", "help": "where to keep the model of each fold"}
    anyway = {"action": "store_true", "help": "also take a start that has seen the pictures; the table says so"}
    chosen = arguments(
        __doc__, start=start, seconds=seconds, folds=folds, fold=fold, set=trials.SET, predict=trials.PREDICT,
        mirror=trials.MIRROR, results=trials.results_option("usiigaci"), save=save, anyway=anyway, cores=trials.CORES,
    )  # fmt: skip
    if not 2 <= chosen.folds <= 45 or chosen.fold not in (None, *range(chosen.folds)):
        raise CannotMeasure(f"there is no fold {chosen.fold} of {chosen.folds}; folds are 2 to 45, counted from 0.")
    limit_cores(chosen.cores)
    import pretrain

    pictures = read_all(pretrain.DATA)
    warning = check_start(chosen.start, list(pictures), chosen.anyway)
    if chosen.quick:
        pictures = dict(list(sorted(pictures.items()))[::8])
    values = {**dict(chosen.set), "seconds": 5.0 if chosen.quick else chosen.seconds}
    ways = trials.ways_of(chosen.predict, chosen.mirror)
    known, done = Results(None if chosen.quick else chosen.results), []
    for number, tested in enumerate(dealt(list(pictures), chosen.folds)):
        key = {
            "fold": number, "folds": chosen.folds, "start": trials.identity(chosen.start), "values": values,
            "ways": ways,
        }  # fmt: skip
        if chosen.fold in (None, number):
            save_to = chosen.save / f"fold{number}" if chosen.save else None
            make = functools.partial(measure_fold, pictures, tested, values, ways, chosen.start, save_to)
            done.append({"fold": number, **known.once(key, make)})
        elif (earlier := known.get(key)) is not None:
            done.append({"fold": number, **earlier})
    say_all(chosen, done, ways, len(pictures), warning)


def say_all(chosen: Any, done: list[dict[str, Any]], ways: Mapping[str, Any], count: int, warning: str) -> None:
    """Report the folds that were measured."""
    figures, rows = [], []
    for way in ways:
        tallies = [t for each in done for t in each["counts"][way].values()]
        steps = "; ".join(each["steps"] for each in done)
        about = f"{len(tallies)} of {count} pictures tested, {len(done)} of {chosen.folds} folds; each {steps}"
        about += f"; from {trials.identity(chosen.start)}; measured {trials.provenance(done)}"
        about = "; ".join(filter(None, (about, ", ".join(map("=".join, chosen.set)), warning)))
        figures += figures_of(way, tallies, about, len(tallies) == count and not (warning or chosen.quick))
        for each in done:
            rows += rows_of(f"ours, {way}, fold {each['fold']}", list(each["counts"][way].values()))
        rows += rows_of(f"ours, {way}, all of them", tallies)
    published = [
        [f"{name}, published, 5 test pictures", "per image", *(f"{v:.3f}" for v in values), ""]
        for name, values in PUBLISHED.items()
    ]
    header = ["method", "AP", *(f"{t:g}" for t in AT), "mean of 0.5 to 0.9"]
    report(figures, "AP by IoU:", table(header, rows + published))


if __name__ == "__main__":
    run(main)
