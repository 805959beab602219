"""An evaluation as one HTML file: scores, curves and pictures of the worst cells.

Pictures and curves are embedded. Needs the extra ``report``; no torch.
"""

from __future__ import annotations

import base64
import contextlib
import io
import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

from ..core.distribution import require_extra
from ..core.errors import StoreError
from ..core.evaluation.comparison import FALSE, MISSED, POOR, CellScore, Comparison, PlanePair

SHOWN = 24
"""Cells with a picture."""
TRUTH_COLOUR, PREDICTION_COLOUR = (86, 180, 233), (230, 159, 0)
"""Sky blue and orange: distinct for any kind of colour vision."""
BOTH_COLOUR = (255, 255, 255)
SCORES = {
    "f1_0.50": ("F1", "harmonic mean of precision and recall; a cell counts as found from IoU 0.5"),
    "precision_0.50": ("Precision", "share of the predicted cells that are cells"),
    "recall_0.50": ("Recall", "share of the true cells that were found"),
    "ap_0.50": ("AP at IoU 0.5", "found / (found + false + missed), mean over planes"),
    "ap_mean": ("Mean AP", "mean of AP over IoU 0.5 to 0.9"),
    "seg": ("SEG", "score of the Cell Tracking Challenge: mean IoU of all true cells"),
    "iou": ("IoU", "of all cell pixels together"),
    "dice": ("Dice", "the same as an F1 of pixels"),
    "pq_0.50": ("Panoptic quality", "F1 times the mean IoU of the cells found"),
    "adapted_rand_error": ("Adapted Rand error", "0 is best; counts pairs of pixels"),
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


@dataclass(frozen=True)
class Report:
    """Contents of a report.

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
    """Return a PNG of a cell and what is around it, with outlines of ground truth and prediction.

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
    """Return the outermost two pixels of every cell."""
    # Loads scipy.sparse, which no dock needs before a report is written.
    from skimage.segmentation import find_boundaries

    inner = find_boundaries(labels, mode="inner")
    return np.asarray(binary_dilation(inner) & (labels > 0))


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
    """Return the report as HTML.

    Raises
    ------
    MissingLibraryError
        Without matplotlib or Jinja.
    """
    require_extra("report", "Reports", "matplotlib", "jinja2")
    from jinja2 import Environment, PackageLoader

    comparison = report.comparison
    environment = Environment(loader=PackageLoader(__package__, ""), autoescape=True, trim_blocks=True)
    environment.filters["base64"] = lambda png: base64.b64encode(png).decode("ascii")
    counts = Counter(cell.kind for cell in comparison.cells)
    return environment.get_template("report.html").render(
        report=report,
        facts={**report.about, "Written": f"{datetime.now():%Y-%m-%d %H:%M}"},
        scores=comparison.scores,
        score_names=SCORES,
        planes=int(comparison.scores["images"]),
        counts={kind: counts[kind] for kind in WORDS},
        curves=curves(comparison),
        worst=comparison.worst(),
        words=WORDS,
        called=called,
    )


def curves(comparison: Comparison) -> str:
    """Return AP and F1 over the IoU threshold as SVG."""
    import matplotlib
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 3), layout="constrained")
    axes = figure.add_subplot(xlabel="IoU threshold", ylabel="score", ylim=(0, 1.02), xlim=(0.5, 0.9))
    for name, label, colour, style in (("f1", "F1", "#d55e00", "--"), ("ap", "AP", "#2a8fc7", "-")):
        thresholds, scores = zip(*comparison.curve(name), strict=True)
        axes.plot(
            thresholds, scores, style, color=colour, linewidth=2.5, clip_on=False, label=f"{label} ({scores[-1]:.2f})"
        )
    axes.grid(axis="y", alpha=0.3)
    axes.set_xticks([0.5, 0.6, 0.7, 0.8, 0.9])
    # Grey shows on white and on black; the page lightens the text of a dark theme.
    axes.tick_params(color="#888888")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#888888")
    axes.legend(title="at IoU 0.9", loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False)
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "font.family": "sans-serif"}):
        # Without metadata there are no addresses in the page.
        figure.savefig(
            buffer, format="svg", transparent=True, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type"))
        )
    return buffer.getvalue()[buffer.getvalue().index("<svg") :]


def called(cell: CellScore) -> str:
    """Return what a cell is called: a label of the ground truth, or of the prediction if it is false."""
    return f"{'predicted' if cell.kind == FALSE else 'true'} cell {cell.label}"
