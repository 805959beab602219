"""A table with one row per cell: size, shape, place and grey values, in physical units. Needs no torch."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.arrays import ArrayLike, Planes
from ..errors import DataError

Table = dict[str, NDArray[Any]]
"""Columns of one length by name."""

_SHAPE = {
    "axis_major_length": "length_{u}",
    "axis_minor_length": "width_{u}",
    "orientation": "angle_deg",
}
_PLAIN = ("eccentricity", "solidity")


@dataclass(frozen=True)
class Scale:
    """How large a pixel is.

    Attributes
    ----------
    height, width : float
        Sides of a pixel in the unit, above 0.
    unit : str
        Of lengths, such as ``"µm"``; ``"px"`` when unknown.
    """

    height: float = 1.0
    width: float = 1.0
    unit: str = "px"

    def __post_init__(self) -> None:
        for side in (self.height, self.width):
            if not (math.isfinite(side) and side > 0):
                raise DataError(
                    f"A pixel of {self.height:g} x {self.width:g} {self.unit} has no area; set the scale of the image."
                )

    @property
    def square(self) -> bool:
        """Whether both sides are equal, up to rounding."""
        return math.isclose(self.height, self.width, rel_tol=1e-3)


def measure_plane(
    labels: NDArray[Any], channels: Mapping[str, NDArray[Any]] | None = None, scale: Scale | None = None
) -> Table:
    """Return a row for each cell of one plane, ordered by label.

    Parameters
    ----------
    labels : NDArray of int
        One number per cell, 0 = background, (Y, X).
    channels : mapping of str to NDArray, optional
        Grey values by the channel's name, (Y, X) each.
    scale : Scale, optional
        Size of a pixel; without it lengths are in pixels.

    Returns
    -------
    dict of str to NDArray
        ``label``; ``area``, ``diameter`` (of a circle of that area), ``perimeter``, ``length`` and ``width``
        (axes of the ellipse with the same second moments), each with its unit in its name;
        ``circularity`` (4 pi area / perimeter², 1 for a disc), ``eccentricity``, ``solidity``; ``angle_deg``
        of the long axis to the image's height; the centre ``y_px`` and ``x_px``; ``at_border``;
        and per channel ``mean``, ``min``, ``max``, ``std`` and ``sum`` of the grey values.

    Raises
    ------
    DataError
        When labels are no whole numbers, or a channel is of another shape.
    """
    scale, grey = scale or Scale(), dict(channels or {})
    labels = _checked(labels, grey)
    # Not by np.unique, which keeps all other threads waiting, the viewer's too, while it goes over a large plane.
    if labels.max(initial=0) == 0:
        return _empty(grey, scale)
    image = np.stack(list(grey.values()), axis=-1) if grey else None
    found = _region_properties(labels, image, scale)
    table = _shape_columns(found, scale) | {"at_border": np.isin(found["label"], _border_ids(labels))}
    for index, name in enumerate(grey):
        table |= _grey_columns(found, name, index)
    return table


def _checked(labels: NDArray[Any], grey: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """Return labels that region properties take, or raise a :class:`DataError`."""
    labels = np.asarray(labels)
    if labels.dtype.kind not in "uib" or labels.ndim != 2:
        raise DataError(f"Labels are whole numbers of (Y, X), but these are {labels.dtype} of shape {labels.shape}.")
    for name, values in grey.items():
        if np.shape(values) != labels.shape:
            raise DataError(
                f"The channel {name} has the shape {np.shape(values)}, but the labels have {labels.shape}; measure "
                "labels of the same image."
            )
    if labels.dtype == np.uint64:
        labels = labels.astype(np.int64)
    return labels.astype(np.uint8) if labels.dtype == bool else np.maximum(labels, 0)


def _region_properties(labels: NDArray[Any], image: NDArray[Any] | None, scale: Scale) -> Table:
    """Return skimage's table; perimeters exist for square pixels only, so others are measured in a square grid."""
    from skimage.measure import regionprops_table

    names = ["label", "area", "equivalent_diameter_area", "centroid", *_SHAPE, *_PLAIN]
    grey = ["intensity_mean", "intensity_min", "intensity_max"] if image is not None else []
    more: tuple[Callable[..., Any], ...] = (_intensity_sum, _intensity_std) if image is not None else ()
    spacing = (scale.height, scale.width)
    found = regionprops_table(
        labels, image, properties=[*names, *grey, *(["perimeter"] if scale.square else [])],
        spacing=(spacing[0], spacing[0]) if scale.square else spacing, extra_properties=more or None,
    )  # fmt: skip
    return dict(found)


def _intensity_sum(mask: NDArray[np.bool_], image: NDArray[Any]) -> Any:
    """Return the sum of the grey values of one cell, per channel."""
    return image[mask].sum(axis=0, dtype=float)


def _intensity_std(mask: NDArray[np.bool_], image: NDArray[Any]) -> Any:
    """Return the standard deviation of the grey values of one cell, per channel."""
    return image[mask].std(axis=0, dtype=float)


def _shape_columns(found: Table, scale: Scale) -> Table:
    """Return size, shape and place."""
    unit = scale.unit
    area = np.asarray(found["area"], float)
    table: Table = {
        "label": found["label"],
        f"area_{unit}²": area,
        f"diameter_{unit}": found["equivalent_diameter_area"],
    }
    if "perimeter" in found:
        perimeter = np.asarray(found["perimeter"], float)
        table[f"perimeter_{unit}"] = perimeter
        # Of cells of a few pixels the outline is too coarse to tell; above 1 there is no circularity.
        table["circularity"] = np.minimum(4 * np.pi * area / np.maximum(perimeter, 1e-12) ** 2, 1.0)
    for name, words in _SHAPE.items():
        values = np.asarray(found[name], float)
        table[words.format(u=unit)] = np.degrees(values) if name == "orientation" else values
    table |= {name: found[name] for name in _PLAIN}
    width = scale.height if scale.square else scale.width
    return table | {"y_px": found["centroid-0"] / scale.height, "x_px": found["centroid-1"] / width}


def _grey_columns(found: Table, name: str, index: int) -> Table:
    """Return the grey values of one channel."""
    sources = {
        "mean": "intensity_mean", "min": "intensity_min", "max": "intensity_max",
        "std": "_intensity_std", "sum": "_intensity_sum",
    }  # fmt: skip
    return {f"{name}_{what}": np.asarray(found[f"{key}-{index}"], float) for what, key in sources.items()}


def _border_ids(labels: NDArray[Any]) -> NDArray[Any]:
    """Return the labels on the outermost pixels: cells of which a part may be missing."""
    return np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))


def _empty(grey: Mapping[str, NDArray[Any]], scale: Scale) -> Table:
    """Return the columns of a plane without cells."""
    one = np.ones((3, 3), np.uint8)
    some = measure_plane(one, {name: one for name in grey}, scale)
    return {name: values[:0] for name, values in some.items()}


def measure(
    labels: ArrayLike, axes: str, image: Planes | None = None, names: Sequence[str] = (), scale: Scale | None = None,
    *, stop: Callable[[], bool] = lambda: False,
) -> Table:  # fmt: skip
    """Return a row for each cell of each plane of a stack.

    Parameters
    ----------
    labels : ArrayLike of int
        One array axis per letter; axes other than y and x are planes. A cell that is in several planes has
        a row in each.
    axes : str
        Letters of the labels' axes, such as ``"zyx"``; c is one thick.
    image : Planes, optional
        For grey values; of the labels' planes and size.
    names : sequence of str
        Names of the image's channels.
    scale : Scale, optional
        Size of a pixel.
    stop : callable
        Asked before each plane.

    Returns
    -------
    dict of str to NDArray
        As :func:`measure_plane`, after a column for each leading axis with the plane's index.

    Raises
    ------
    DataError
        When labels and image do not fit, or two channels have one name.
    """
    leading = [axis for axis in axes if axis not in "yxc"]
    sizes = dict(zip(axes, labels.shape, strict=True))
    _check_image(image, names, tuple(sizes[a] for a in leading) + (sizes["y"], sizes["x"]))
    parts: list[Table] = []
    for plane in np.ndindex(*(sizes[a] for a in leading)):
        if stop():
            break
        where = dict(zip(leading, plane, strict=True))
        block = np.asarray(labels[tuple(slice(None) if a in "yx" else where.get(a, 0) for a in axes)])
        block = block.T if axes.index("x") < axes.index("y") else block
        read = image.read(plane, slice(None), slice(None)) if image is not None else ()
        part = measure_plane(block, dict(zip(names, read, strict=True)), scale)
        count = len(part["label"])
        index: Table = {a: np.full(count, i) for a, i in where.items()}
        parts.append(index | part)
    if not parts:
        return {}
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _check_image(image: Planes | None, names: Sequence[str], shape: tuple[int, ...]) -> None:
    """Raise a :class:`DataError` when the image does not fit the labels."""
    if image is None:
        return
    if image.shape != shape:
        raise DataError(
            f"The image has planes of shape {image.shape}, but the labels {shape}; measure labels of the same image."
        )
    if len(names) != image.channels or len(set(names)) != len(names):
        raise DataError(f"The image has {image.channels} channel(s), which need different names, not {list(names)}.")


def write_csv(table: Table, path: Path | str) -> None:
    """Write a table as comma separated values, UTF-8 with a mark that spreadsheets know it by.

    Raises
    ------
    OSError
        When it cannot be written.
    """
    with open(path, "w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file)
        writer.writerow(table)
        columns = [_texts(values) for values in table.values()]
        writer.writerows(zip(*columns, strict=True))


def _texts(values: NDArray[Any]) -> list[str]:
    """Return a column as text: whole numbers whole, others with six digits."""
    if values.dtype.kind == "f":
        return [f"{value:.6g}" for value in values.tolist()]
    return [str(value) for value in values.tolist()]
