"""What a demo shows: pictures, scores as JSON, and the layers for the viewer."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from .. import stores
from ..core.evaluation.metrics import evaluate
from .figures import BLUE, GREEN, ORANGE, PINK, YELLOW, Panel, compared, draw_learning_curves, draw_overlay
from .outcome import DemoResult, labels_path
from .painting import BACKGROUND
from .viewer import write_layers

LEGEND = (
    ("found (IoU at least 0.5)", BLUE),
    ("false (IoU below 0.5)", ORANGE),
    ("missed", YELLOW),
    ("ground truth, painted cells", GREEN),
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
    draw_learning_curves(result.folder / "learning_curve.png", result.steps, result.checks)
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
    """Return pictures of one unseen plane: before, after, ground truth."""
    case = result.cases[number]
    image, truth = case.read(plane), case.truth[plane]
    panels = []
    for title, found in (("Before training", result.labels_before), ("After training", result.labels_after)):
        answer = found[number][plane]
        scores = evaluate(truth, answer)
        said = f"AP {scores['ap_0.50']:.2f}   F1 {scores['f1_0.50']:.2f}   SEG {scores['seg']:.2f}"
        panels.append(Panel(title, f"{said}   {case.title(plane)}", image, compared(truth, answer)))
    cells = f"{len(np.unique(truth[truth > 0]))} cells   {case.title(plane)}"
    return [*panels, Panel("Ground truth", cells, image, [(truth, GREEN)])]


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
        _layer("ground truth", "labels", case.truth_path.absolute(), options=hidden),
    ]
    if number == result.number:
        out.append(_layer("painted", "labels", (result.folder / "painted.tif").absolute(), options=hidden))
    out.append(_layer("before training", "labels", before.absolute(), options=hidden))
    out.append(_layer("after training", "labels", after.absolute()))
    return out


def _layer(name: str, kind: str, path: Any, **more: Any) -> dict[str, Any]:
    """Return one entry of the list of layers."""
    return {"name": name, "kind": kind, "path": str(path), **more}
