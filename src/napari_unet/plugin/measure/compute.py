"""Measure cells and compare layers with ground truth; without widgets, for a thread."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...core.data.arrays import ArrayLike, Planes
from ...core.data.label_ops import ids_of
from ...core.errors import DataError, UNetError
from ...core.evaluation.comparison import Comparison, PlanePair, compare, known_pair, paint_kinds
from ...core.evaluation.measurements import Scale, Table, measure
from ...core.network.model_card import BUNDLED, bundled_models, read_card
from ...records.report import Report, draw_cells
from ..layers.reading import _upright, label_index, note, read_plane

if TYPE_CHECKING:
    from napari.layers import Image, Labels, Layer

UNNAMED_UNIT = "unit"
"""What lengths are in where the scale was set, but no unit."""
_COMPARED_PAIRS = 6


@dataclass
class Progress:
    """Progress of work in a thread, and whether to stop it."""

    total: int = 1
    done: int = 0
    stopped: bool = False

    def advance(self) -> bool:
        """Count one plane; return whether to stop."""
        self.done += 1
        return self.stopped


# --- tables ------------------------------------------------------------------------------------


def pixel_scale(layer: Layer, axes: str) -> Scale:
    """Return the size of a pixel from the layer's scale and units.

    Raises
    ------
    DataError
        When a side of a pixel is 0.
    """
    at = [axes.index("y"), axes.index("x")]
    sides = [float(abs(layer.scale[axis])) for axis in at]
    units = getattr(layer, "units", None) or ()
    names = {_short(units[axis]) for axis in at} if len(units) == layer.ndim else {"px"}
    if len(names) > 1:
        sides, names = _in_one_unit(sides, [units[axis] for axis in at])
    unit = names.pop()
    if unit == "px" and sides != [1.0, 1.0]:
        unit = UNNAMED_UNIT
    return Scale(sides[0], sides[1], unit)


def depth_of(layer: Layer, axes: str) -> float | None:
    """Return the distance of two planes of a depth stack, in the unit of :func:`pixel_scale`.

    None where planes are not depth, or the distance is unknown.
    """
    if [a for a in axes if a not in "yxc"] != ["z"]:
        return None
    depth = float(abs(layer.scale[axes.index("z")]))
    units = getattr(layer, "units", None) or ()
    if len(units) == layer.ndim:
        try:
            depth = _in_one_unit([1.0, depth], [units[axes.index(a)] for a in "yz"])[0][1]
        except DataError:
            return None
    return depth or None


def _short(unit: Any) -> str:
    """Return a pint unit as written: µm, nm, px."""
    text = f"{unit:~}" if hasattr(unit, "dimensionality") else str(unit)
    return {"pixel": "px", "": "px", "um": "µm", "micrometer": "µm"}.get(text, text)


def _in_one_unit(sides: Sequence[float], units: Sequence[Any]) -> tuple[list[float], set[str]]:
    """Return two lengths, such as height and width of a pixel, in the unit of the first."""
    try:
        width = float((sides[1] * units[1]).to(units[0]).magnitude)
    except Exception as error:
        # pint raises many kinds for units of different dimensions.
        raise DataError(
            f"The height of the image is measured in {units[0]}, its width in {units[1]}; set one unit for both."
        ) from error
    return [sides[0], width], {_short(units[0])}


def channel_names(layers: Sequence[Image], planes: Planes) -> list[str]:
    """Return a different name for each channel: the layer's, with a number where a layer holds several."""
    each = planes.channels // max(1, len(layers))
    names = [layer.name for layer in layers for _ in range(each)]
    colours = ("red", "green", "blue")
    if planes.rgb and each == 3:
        names = [f"{name} {colours[i % 3]}" for i, name in enumerate(names)]
    elif each > 1:
        names = [f"{name} {i % each + 1}" for i, name in enumerate(names)]
    return [name if names.count(name) == 1 else f"{name} ({i + 1})" for i, name in enumerate(names)]


@dataclass(frozen=True)
class LayerMeasurements:
    """Measurements of a layer.

    Attributes
    ----------
    table : Table
        One row per cell and plane.
    features : dict
        What the Labels layer gets: a row per label, whose number is in the column ``index``.
    joined : bool
        Whether a label is one cell through several planes.
    repeated : bool
        Whether a label stands for different cells in different planes.
    """

    table: Table
    features: dict[str, NDArray[Any]] = field(default_factory=dict)
    joined: bool = False
    repeated: bool = False


def measure_layer(
    labels: ArrayLike, axes: str, image: Planes | None, names: Sequence[str], scale: Scale, work: Progress,
    depth: float | None = None, background: int = 0,
) -> LayerMeasurements:  # fmt: skip
    """Return the table of every cell, and the features for its layer; in a thread.

    What is painted on ``background`` is no cell.
    """
    table = measure(labels, axes, image, names, scale, stop=work.advance)
    if table and background:
        cells = table["label"] != background
        table = {name: values[cells] for name, values in table.items()}
    if not table or not len(table["label"]):
        raise DataError("There is no cell in the labels; segment something first, or choose another layer.")
    several = len(np.unique(table["label"])) < len(table["label"])
    joined = several and are_joined(labels, axes)
    rows = join_planes(table, depth) if joined else table
    features = {"index": rows["label"], **{name: values for name, values in rows.items() if name != "label"}}
    return LayerMeasurements(table, features, joined, several and not joined)


def are_joined(labels: ArrayLike, axes: str) -> bool:
    """Return whether most labels that two neighbouring planes share lie on top of each other there."""
    leading = [a for a in axes if a not in "yxc"]
    if not leading:
        return False
    depth = labels.shape[axes.index(leading[-1])]
    first = (0,) * (len(leading) - 1)
    on_top = shared = 0
    for z in np.unique(np.linspace(0, max(0, depth - 2), _COMPARED_PAIRS).astype(int)):
        below, above = (np.asarray(labels[label_index(axes, (*first, k))]) for k in (z, min(z + 1, depth - 1)))
        shared += len(np.intersect1d(ids_of(below), ids_of(above), assume_unique=True))
        on_top += len(ids_of(np.where(below == above, below, 0)))
    return on_top > 0.5 * shared


def join_planes(table: Table, depth: float | None = None) -> Table:
    """Return one row per label: sums summed, extremes kept, everything else averaged over its planes.

    With the distance of two planes each cell has its volume too: the sum of its areas times that distance.
    """
    ids, inverse, counts = np.unique(table["label"], return_inverse=True, return_counts=True)
    out: Table = {"label": ids, "planes": counts}
    if depth is not None:
        area = next(name for name in table if name.startswith("area_"))
        out[f"volume{area.removeprefix('area').removesuffix('²')}³"] = depth * np.bincount(inverse, table[area])
    for name, values in table.items():
        if name == "label" or values.dtype.kind not in "biuf":
            continue
        if name.endswith(("_min", "_max")) or name == "at_border":
            extreme = np.minimum if name.endswith("_min") else np.maximum
            joined = np.full(len(ids), values[0])
            joined[inverse] = values
            extreme.at(joined, inverse, values)
            out[name] = joined
        else:
            total = np.bincount(inverse, values.astype(float))
            out[name] = total if name.endswith("_sum") else total / counts
    return out


# --- comparisons ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class ComparisonInput:
    """The layers to compare.

    Attributes
    ----------
    prediction, truth : ArrayLike
        Labels of one shape.
    axes : str
        Their axis letters.
    background_label : int
        The label painted on background in the ground truth; 0 if there is none.
    complete : bool
        Whether every cell is annotated.
    image : Planes or None
        For the pictures.
    """

    prediction: ArrayLike
    truth: ArrayLike
    axes: str
    background_label: int = 0
    complete: bool = True
    image: Planes | None = None

    def indices(self) -> list[tuple[int, ...]]:
        """Return the index of every plane."""
        leading = [n for a, n in zip(self.axes, self.truth.shape, strict=True) if a not in "yxc"]
        return list(np.ndindex(*leading))

    def pair(self, plane: tuple[int, ...]) -> PlanePair:
        """Return one plane."""
        truth, prediction = (read_plane(array, self.axes, plane) for array in (self.truth, self.prediction))
        return known_pair(
            plane, truth, prediction, background_label=self.background_label, complete=self.complete
        )  # fmt: skip

    def grey(self, plane: tuple[int, ...]) -> NDArray[Any] | None:
        """Return the first channel of a plane, or None without an image."""
        return None if self.image is None else self.image.read(plane, slice(None), slice(None))[0]

    def pairs(self) -> Iterator[PlanePair]:
        """Yield every annotated plane."""
        for plane in self.indices():
            pair = self.pair(plane)
            if self.complete or pair.truth.any() or pair.prediction.any():
                yield pair


@dataclass(frozen=True)
class ComparisonResult:
    """A comparison with images of its worst cells.

    Attributes
    ----------
    comparison : Comparison
        Scores and cells.
    errors : NDArray of uint8
        Of the layers' shape: 1 missed, 2 poor, 3 false.
    pictures : tuple
        Of the worst cells, see :func:`~napari_unet.records.report.draw_cells`.
    """

    comparison: Comparison
    errors: Any
    pictures: tuple[Any, ...]


def compare_layers(given: ComparisonInput, errors: Any, work: Progress) -> ComparisonResult:
    """Compare, write the errors into ``errors``, and draw the worst cells; runs in a thread."""
    found = compare(given.pairs(), stop=work.advance)
    wrong: dict[tuple[int, ...], list[Any]] = {}
    for cell in found.worst():
        wrong.setdefault(cell.plane, []).append(cell)
    for plane, cells in wrong.items():
        painted = paint_kinds(given.pair(plane), cells)
        errors[label_index(given.axes, plane)] = _upright(painted, given.axes)
    pictures = draw_cells(
        found, lambda plane: (given.pair(plane), given.grey(plane)), stop=lambda: work.stopped
    )  # fmt: skip
    return ComparisonResult(found, errors, pictures)


def trained_on_warning(prediction: Layer, truth: Layer) -> str:
    """Return a warning when the model behind a result was trained on this very annotation, else nothing."""
    model = note(prediction).get("model", "")
    try:
        training_history = read_card(model).training_history if model else ()
    except UNetError:
        # The model was moved or deleted since; then nobody knows.
        return ""
    # A plane of a stack is called by the layer and the plane, such as "cells z 3".
    names = [str(name) for entry in training_history for name in _listed(entry.get("images"))]
    own = re.compile(rf"{re.escape(truth.name)}( [a-z] \d+(, [a-z] \d+)*)?")
    if not any(own.fullmatch(name) for name in names):
        return ""
    return (
        f"The model was trained on {truth.name}, so these scores are too high; annotate "
        "cells it has not seen in a new layer, and compare with those."
    )


def with_classes(found: LayerMeasurements, before: Mapping[str, Any]) -> LayerMeasurements:
    """Return measurements with the class of each cell beside its label, where the layer's features had it.

    Parameters
    ----------
    found : Measured
        The measurements.
    before : Mapping or DataFrame
        The features that they replace.
    """
    if not {"index", "class"} <= set(before):
        return found
    classes = dict(zip(before["index"], before["class"], strict=True))

    def beside(name: str, columns: dict[str, Any]) -> dict[str, Any]:
        column = np.array([str(classes.get(number, "")) for number in columns[name].tolist()])
        return {name: columns[name], "class": column, **{key: v for key, v in columns.items() if key != name}}

    return replace(found, table=beside("label", found.table), features=beside("index", found.features))


def _listed(value: Any) -> list[Any]:
    """Return a list as it is, and anything else as none."""
    return value if isinstance(value, list) else []


def build_report(
    prediction: Labels, truth: Labels, image: Image | None, result: ComparisonResult, warnings: Sequence[str]
) -> Report:
    """Return the contents of the report."""
    about = {"Prediction": prediction.name, "Ground truth": truth.name}
    if image is not None:
        about["Image"] = image.name
    own = note(prediction)
    about |= _model_facts(str(own.get("model", "")))
    if own.get("command"):
        about["Command"] = str(own["command"])
    title = f"{prediction.name} against {truth.name}"
    return Report(title, result.comparison, about, tuple(warnings), result.pictures)


def _model_facts(model: str) -> dict[str, str]:
    """Return the rows of the report on the model."""
    if not model:
        return {}
    if model == BUNDLED and len(offered := bundled_models()) > 1:
        # Which one it was is decided for each picture, when it is segmented.
        return {"Model": f"bundled; of {' and '.join(offered)} the one that fits best"}
    try:
        card = read_card(model)
    except UNetError:
        return {"Model": f"{model} (no longer there)"}
    names = [str(name) for entry in card.training_history for name in _listed(entry.get("images"))]
    facts = {"Model": card.name}
    if names:
        facts["Last trained on"] = ", ".join(names[-10:])
    return facts


def save_in_thread(function: Callable[[], None]) -> Callable[[], None]:
    """Return a function that writes a file, with what the disk says as a readable error."""

    def write() -> None:
        try:
            function()
        except OSError as error:
            raise DataError(f"The file cannot be written: {error.strerror or error}.") from error

    return write
