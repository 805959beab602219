"""What a demo shows: pictures, scores as JSON, and the layers for the viewer."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from .. import stores
from ..core.evaluation.metrics import evaluate
from .curves import Diagram, DiagramCurve, draw_diagrams
from .outcome import DemoResult, labels_path
from .overlay import BLUE, GREEN, ORANGE, PINK, YELLOW, Panel, compared, draw_overlay
from .painting import BACKGROUND
from .viewer import write_layers

LEGEND = (
    ("found (IoU at least 0.5)", BLUE),
    ("false or too far off", ORANGE),
    ("missed", YELLOW),
    ("truth, painted cells", GREEN),
    ("painted background", PINK),
)


def write_report(result: DemoResult) -> None:
    """Write ``overlay.png``, ``learning_curve.png``, ``scores.json`` and the list of layers.

    Raises
    ------
    StoreError
        When one cannot be written.
    """
    shown = _richest_unseen(result)
    draw_overlay(result.folder / "overlay.png", [_painted_panel(result), *_answer_panels(result, *shown)], LEGEND)
    draw_diagrams(result.folder / "learning_curve.png", diagrams(result))
    _write_scores(result)
    write_layers(result.folder, layers(result, shown[0]))


def _richest_unseen(result: DemoResult) -> tuple[int, tuple[int, ...]]:
    """Return the plane with the most cells among those that were not trained on."""
    return max(result.unseen(), key=lambda at: len(np.unique(result.cases[at[0]].truth[at[1]])))


def _painted_panel(result: DemoResult) -> Panel:
    """Return the picture of what was painted."""
    colours = dict.fromkeys(range(BACKGROUND + 1, int(result.painted.max()) + 1), GREEN) | {BACKGROUND: PINK}
    title = f"Painted: {result.painted_cells} cells, some background"
    image = result.cases[result.number].read(result.plane)
    return Panel(title, result.trained_on, image, [], (result.painted, colours))


def _answer_panels(result: DemoResult, number: int, plane: tuple[int, ...]) -> list[Panel]:
    """Return pictures of one unseen plane: before, after, truth."""
    case = result.cases[number]
    image, truth = case.read(plane), case.truth[plane]
    panels = []
    for title, found in (("Before training", result.labels_before), ("After training", result.labels_after)):
        answer = found[number][plane]
        scores = evaluate(truth, answer)
        said = f"AP {scores['ap_0.50']:.2f}   F1 {scores['f1_0.50']:.2f}   SEG {scores['seg']:.2f}"
        panels.append(Panel(title, f"{said}   {case.title(plane)}", image, compared(truth, answer)))
    cells = f"{len(np.unique(truth[truth > 0]))} cells   {case.title(plane)}"
    return [*panels, Panel("Truth", cells, image, [(truth, GREEN)])]


def diagrams(result: DemoResult) -> list[Diagram]:
    """Return the learning curves: loss, and the scores on validation cells where there are any."""
    times, losses = [e.elapsed for e in result.steps], [e.loss for e in result.steps]
    curves = [DiagramCurve("training", times, running_mean(losses), ORANGE)]
    checks = [e.elapsed for e in result.checks]
    if checks:
        curves.append(DiagramCurve("validation", checks, [e.loss for e in result.checks], BLUE, True))
    out = [Diagram("Loss", "seconds of training", curves)]
    if checks:
        best = next((e.elapsed for e in reversed(result.checks) if e.best), None)
        rates = [
            DiagramCurve("IoU", checks, [e.iou for e in result.checks], BLUE, True),
            DiagramCurve("F1", checks, [e.f1 for e in result.checks], GREEN, True),
        ]
        out.append(Diagram("On validation cells", "seconds of training", rates, 1.0, best, "kept"))
    return out


def running_mean(values: list[float]) -> list[float]:
    """Return an exponential running mean, which shows the trend of a noisy loss."""
    out: list[float] = []
    for value in values:
        out.append(value if not out else 0.9 * out[-1] + 0.1 * value)
    return out


def _write_scores(result: DemoResult) -> None:
    """Write the scores as JSON."""
    plain = {
        "trained_on": result.trained_on,
        "painted_cells": result.painted_cells,
        "steps": len(result.steps),
        "seconds": result.steps[-1].elapsed if result.steps else 0.0,
        "stopped": result.stopped,
        "measured_on": [result.cases[n].title(p) for n, p in result.unseen()],
        "before": result.before,
        "after": result.after,
    }
    path = result.folder / "scores.json"
    with stores.writing(path):
        path.write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8")


def layers(result: DemoResult, number: int) -> list[dict[str, Any]]:
    """Return what the viewer shows of one image, the lowest layer first."""
    case, hidden = result.cases[number], {"visible": False}
    before, after = (labels_path(result.folder / n, case, result.cases) for n in ("labels_before", "labels"))
    out = [
        _layer("image", "image", case.image_path.absolute(), axes=case.planes.axes),
        _layer("truth", "labels", case.truth_path.absolute(), options=hidden),
    ]
    if number == result.number:
        out.append(_layer("painted", "labels", (result.folder / "painted.tif").absolute(), options=hidden))
    out.append(_layer("before training", "labels", before.absolute(), options=hidden))
    out.append(_layer("after training", "labels", after.absolute()))
    return out


def _layer(name: str, kind: str, path: Any, **more: Any) -> dict[str, Any]:
    """Return one entry of the list of layers."""
    return {"name": name, "kind": kind, "path": str(path), **more}
