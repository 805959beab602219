"""A page on how good a segmentation is: one HTML file with scores, curves and pictures of the worst cells.

The page needs nothing beside it: pictures and curves are inside. Needs no torch.
"""

from __future__ import annotations

import base64
import contextlib
import html
import io
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import StoreError
from ..core.evaluation.comparison import FALSE, MISSED, POOR, CellScore, Comparison, PlanePair

SHOWN = 24
"""Cells with a picture."""
TRUTH_COLOUR, PREDICTION_COLOUR = (86, 180, 233), (230, 159, 0)
"""Sky blue and orange: told apart by nearly all eyes."""
BOTH_COLOUR = (255, 255, 255)
SCORES = {
    "f1_0.50": ("F1", "share of cells found, with at least half of their area right; 1 is all and no false ones"),
    "precision_0.50": ("Precision", "share of the predicted cells that are cells"),
    "recall_0.50": ("Recall", "share of the true cells that were found"),
    "ap_0.50": ("AP at IoU 0.5", "found / (found + false + missed), mean over planes"),
    "ap_mean": ("Mean AP", "mean of AP over IoU 0.5 to 0.9"),
    "seg": ("SEG", "score of the Cell Tracking Challenge: mean overlap of all true cells"),
    "iou": ("IoU", "overlap of all cell pixels together"),
    "dice": ("Dice", "the same as an F1 of pixels"),
    "pq_0.50": ("Panoptic quality", "F1 times the mean overlap of what was found"),
    "adapted_rand_error": ("Fallback Rand error", "0 is best; counts pairs of pixels"),
}
"""What the page shows of the scores: name and meaning."""
WORDS = {
    MISSED: "missed",
    POOR: "found by less than half",
    FALSE: "false: no cell there",
    "": "good",
}
_SIDE, _ZOOMED = 48, 160
_BRIGHTEST = 190
"""Of the ground in a picture, so that white outlines are seen on bright pictures too."""
_APART = 13
"""Pixels between two words beside the curves."""
_STYLE = """
:root { color-scheme: light dark } body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto;
padding: 0 1rem } table { border-collapse: collapse } td, th { text-align: left; padding: .2rem .9rem .2rem 0 }
td.n { text-align: right; font-variant-numeric: tabular-nums } figure { display: inline-block; margin: 0 .8rem .8rem 0;
width: 160px; vertical-align: top; font-size: 12px } img { width: 160px; height: 160px; image-rendering: pixelated }
code { white-space: pre-wrap; word-break: break-all } h1, figcaption { overflow-wrap: anywhere }
.t { color: #0b6fa4 } .p { color: #a86f00 }
@media (prefers-color-scheme: dark) { .t { color: #56b4e9 } .p { color: #e69f00 }
polyline.ap { stroke: #56b4e9 } polyline.f1 { stroke: #f0a37a } text.ap { fill: #56b4e9 } text.f1 { fill: #f0a37a } }
"""


@dataclass(frozen=True)
class Report:
    """What to write.

    Attributes
    ----------
    title : str
        Heading.
    comparison : Comparison
        Scores and cells.
    about : mapping of str to str
        Facts to show in a table: names of the data, the model and what it was trained on.
    notes : tuple of str
        Warnings to show on top.
    pictures : tuple
        Each a cell with its PNG, see :func:`draw_cell`.
    """

    title: str
    comparison: Comparison
    about: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    pictures: tuple[tuple[CellScore, bytes], ...] = ()


def draw_cells(
    comparison: Comparison,
    read: Callable[[tuple[int, ...]], tuple[PlanePair, NDArray[Any] | None]],
    *,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[tuple[CellScore, bytes], ...]:
    """Return pictures of the worst cells, each plane read once.

    Parameters
    ----------
    comparison : Comparison
        Whose cells.
    read : callable
        From a plane's index to its labels and its grey values, (Y, X) or None.
    stop : callable
        Asked before each plane.
    """
    worst = comparison.worst()[:SHOWN]
    drawn: dict[int, bytes] = {}
    for plane in dict.fromkeys(cell.plane for cell in worst):
        if stop():
            break
        pair, grey = read(plane)
        drawn |= {i: draw_cell(cell, pair, grey) for i, cell in enumerate(worst) if cell.plane == plane}
    return tuple((cell, drawn[i]) for i, cell in enumerate(worst) if i in drawn)


def draw_cell(cell: CellScore, pair: PlanePair, grey: NDArray[Any] | None) -> bytes:
    """Return a PNG of a cell and what is around it, outlines of truth and prediction on top.

    Parameters
    ----------
    cell : CellScore
        What to look at.
    pair : PlanePair
        Labels of its plane.
    grey : NDArray or None
        Grey values of its plane, (Y, X); without them the ground is grey.
    """
    from PIL import Image

    inside = _window(cell, pair.truth.shape)
    ground = np.full(pair.truth[inside].shape, 110.0) if grey is None else _stretched(np.asarray(grey)[inside])
    zoom = max(1, round(_ZOOMED / max(ground.shape)))
    picture = np.repeat(np.repeat(np.stack([ground] * 3, axis=-1), zoom, 0), zoom, 1).astype(np.uint8)
    large = np.ones((zoom, zoom), np.int64)
    predicted, true = (_outlines(np.kron(labels[inside], large)) for labels in (pair.prediction, pair.truth))
    for lines, colour in ((predicted, PREDICTION_COLOUR), (true, TRUTH_COLOUR), (predicted & true, BOTH_COLOUR)):
        picture[lines] = colour
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def _window(cell: CellScore, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Return a square around a cell, with as much around it as it is large, inside of the plane."""
    y0, y1, x0, x1 = cell.box
    side = max(_SIDE, 2 * (y1 - y0), 2 * (x1 - x0))
    spans = []
    for low, high, size in ((y0, y1, shape[0]), (x0, x1, shape[1])):
        start = int(np.clip((low + high - side) // 2, 0, max(0, size - side)))
        spans.append(slice(start, min(size, start + side)))
    return spans[0], spans[1]


def _stretched(grey: NDArray[Any]) -> NDArray[np.float64]:
    """Return grey values from 0 to :data:`_BRIGHTEST`, by percentiles of the part shown."""
    values = np.nan_to_num(grey.astype(float))
    low, high = np.percentile(values, (1, 99.5))
    return np.asarray(np.clip((values - low) / max(high - low, 1e-12), 0, 1) * _BRIGHTEST)


def _outlines(labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return the pixels of cells that are at most two pixels away from another label."""
    padded = np.pad(labels, 2, mode="edge")
    middle = padded[2:-2, 2:-2]
    others = [np.roll(padded, step, axis)[2:-2, 2:-2] for step in (-2, -1, 1, 2) for axis in (0, 1)]
    return (middle > 0) & np.logical_or.reduce([other != middle for other in others])


def write_report(path: Path | str, report: Report) -> None:
    """Write the page at once, so that an older one stays until the new one is whole.

    Raises
    ------
    StoreError
        When it cannot be written.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(render(report), encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        raise StoreError(f"The report cannot be written to {path}: {error.strerror or error}.") from error
    finally:
        # Where not even the folder can be made, there is nothing to take away either.
        with contextlib.suppress(OSError):
            partial.unlink()


def render(report: Report) -> str:
    """Return the page."""
    title = html.escape(report.title)
    notes = "".join(f"<p><strong>⚠ {html.escape(note)}</strong></p>" for note in report.notes)
    facts = {**report.about, "Written": f"{datetime.now():%Y-%m-%d %H:%M}"}
    body = [
        f"<h1>{title}</h1>{notes}",
        _table([(name, _code(value) if name == "Command" else html.escape(value)) for name, value in facts.items()]),
        "<h2>Scores</h2>", _counts(report.comparison), _scores(report.comparison),
        "<h2>Curves</h2>", curves(report.comparison),
        _pictures(report), _list(report.comparison.worst()),
    ]  # fmt: skip
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style></head><body>{''.join(body)}</body></html>\n"
    )


def _code(text: str) -> str:
    return f"<code>{html.escape(text)}</code>"


def _table(rows: Sequence[tuple[str, str]]) -> str:
    """Return rows of name and ready HTML."""
    return "<table>" + "".join(f"<tr><th>{html.escape(a)}</th><td>{b}</td></tr>" for a, b in rows) + "</table>"


def _counts(comparison: Comparison) -> str:
    """Return a sentence on how many cells there are, and of which kinds."""
    scores = comparison.scores
    kinds = [cell.kind for cell in comparison.cells]
    planes = int(scores["images"])
    return (
        f"<p>{scores['cells_truth']:.0f} true cells and {scores['cells_predicted']:.0f} predicted ones in "
        f"{planes} plane{'s' * (planes != 1)}: {kinds.count('')} good, {kinds.count(POOR)} found by less than half, "
        f"{kinds.count(MISSED)} missed, {kinds.count(FALSE)} false.</p>"
    )


def _scores(comparison: Comparison) -> str:
    """Return the table of scores with their meanings."""
    rows = [
        f'<tr><th>{name}</th><td class="n">{comparison.scores[key]:.3f}</td><td>{html.escape(meaning)}</td></tr>'
        for key, (name, meaning) in SCORES.items()
    ]
    return f"<table>{''.join(rows)}</table>"


def curves(comparison: Comparison, width: int = 520, height: int = 260) -> str:
    """Return AP and F1 over the IoU that counts as found, as SVG."""
    left, right, top, bottom = 44, 110, 22, 40
    wide, high = width - left - right, height - top - bottom

    def at(threshold: float, score: float) -> str:
        return f"{left + wide * (threshold - 0.5) / 0.4:.1f},{top + high * (1 - score):.1f}"

    lines = []
    for y in (0, 0.25, 0.5, 0.75, 1):
        place = top + high * (1 - y)
        lines.append(f'<path d="M{left} {place:.1f}h{wide}" stroke="currentColor" opacity=".2"/>')
        lines.append(f'<text x="{left - 6}" y="{place + 4:.1f}" text-anchor="end">{y:g}</text>')
    for x in (0.5, 0.6, 0.7, 0.8, 0.9):
        where = left + wide * (x - 0.5) / 0.4
        lines.append(f'<text x="{where:.1f}" y="{top + high + 16}" text-anchor="middle">{x:g}</text>')
    ends = []
    for name, words, colour, dash in (("ap", "AP", "#0072b2", ""), ("f1", "F1", "#b34700", "6 4")):
        points = comparison.curve(name)
        drawn = " ".join(at(t, v) for t, v in points)
        lines.append(
            f'<polyline class="{name}" fill="none" stroke="{colour}" stroke-width="2.5" stroke-dasharray="{dash}" '
            f'points="{drawn}"/>'
        )
        ends.append(
            (
                float(at(*points[-1]).split(",")[1]) + 4,
                f'class="{name}" fill="{colour}"',
                f"{words} {points[-1][1]:.2f}",
            )
        )
    # F1 is above AP; where both end at one height their words would lie on each other.
    low = max(ends[0][0], ends[1][0] + _APART)
    # Where both end at the bottom, they are moved up, out of the numbers of the axis.
    low = min(low, top + high)
    for (_, style, words), y in zip(ends, (low, min(ends[1][0], low - _APART)), strict=True):
        lines.append(f'<text {style} x="{left + wide + 8}" y="{y:.1f}">{words}</text>')
    lines.append(
        f'<text x="{left + wide / 2}" y="{height - 4}" text-anchor="middle">IoU from which a cell is found</text>'
    )
    lines.append(f'<text x="{left}" y="{top - 6}" text-anchor="middle">score</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-size="12" fill="currentColor">'
        f"{''.join(lines)}</svg>"
    )


def _pictures(report: Report) -> str:
    """Return the pictures of the worst cells."""
    if not report.pictures:
        return ""
    figures = []
    for cell, png in report.pictures:
        data = base64.b64encode(png).decode("ascii")
        figures.append(
            f'<figure><img alt="{called(cell)}" src="data:image/png;base64,{data}">'
            f"<figcaption>{_said(cell)}</figcaption></figure>"
        )
    return (
        '<h2>Worst cells</h2><p>Outlines: <span class="t">truth, blue</span>; '
        f'<span class="p">prediction, orange</span>; white where both agree.</p>{"".join(figures)}'
    )


def called(cell: CellScore) -> str:
    """Return what a cell is called: its number is one of the truth, or of the prediction if it is false."""
    return f"{'predicted' if cell.kind == FALSE else 'true'} cell {cell.label}"


def _said(cell: CellScore) -> str:
    """Return a cell in words."""
    where = f", plane {', '.join(map(str, cell.plane))}" if cell.plane else ""
    return html.escape(f"{called(cell)}{where}: {WORDS[cell.kind]}, IoU {cell.iou:.2f}")


def _list(cells: Sequence[CellScore]) -> str:
    """Return the table of all cells that are not good."""
    if not cells:
        return "<h2>Worst cells</h2><p>None: every cell was found, and nothing else.</p>"
    rows = [
        f"<tr><td>{called(c)}</td><td>{WORDS[c.kind]}</td><td class='n'>{c.iou:.2f}</td>"
        f"<td>{', '.join(map(str, c.plane)) or '-'}</td><td>y {c.box[0]}-{c.box[1]}, x {c.box[2]}-{c.box[3]}</td></tr>"
        for c in cells[:500]
    ]
    head = "<tr><th>cell</th><th>what</th><th>IoU</th><th>plane</th><th>pixels</th></tr>"
    more = f"<p>{len(cells) - 500} more are left out.</p>" if len(cells) > 500 else ""
    return f"<h2>All {len(cells)} that went wrong</h2><table>{head}{''.join(rows)}</table>{more}"
