"""``napari-unet measure``: a table with one row per cell."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from .. import stores
from ..core.data.arrays import Planes
from ..core.errors import StoreError
from ..core.evaluation.measurements import Scale, Table, write_csv
from ..core.evaluation.measurements import measure as measure_cells


def measure(arguments: argparse.Namespace) -> int:
    """Write the table of one label file, or of a folder, with the file name as first column."""
    if arguments.output.suffix.lower() != ".csv":
        raise StoreError(f"{arguments.output} has another ending than .csv; the table is a .csv file.")
    stores.check_output(arguments.output, arguments.overwrite, arguments.labels)
    scale = Scale(arguments.pixel_size, arguments.pixel_size, arguments.unit)
    files: list[tuple[Path, Path | None]]
    if arguments.image is None:
        files = [(path, None) for path in stores.list_pictures(arguments.labels)]
    else:
        found = stores.pair(arguments.image, arguments.labels)
        files = [(pair.labels, pair.image) for pair in found]
    tables = [_one(labels, image, arguments.axes, scale, len(files) > 1) for labels, image in files]
    table = {name: np.concatenate([t[name] for t in tables]) for name in tables[0]}
    with stores.writing(arguments.output):
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        partial = stores.temporary(arguments.output)
        try:
            write_csv(table, partial)
            stores.replace(partial, arguments.output)
        finally:
            stores.remove(partial)
    print(f"{arguments.output}: {len(table['label'])} cells in {len(files)} file(s), {len(table)} columns")
    return 0


def _one(labels: Path, image: Path | None, axes: str | None, scale: Scale, named: bool) -> Table:
    """Return the table of one file."""
    array = stores.open_labels(labels)
    planes: Planes | None = None if image is None else stores.open_picture(image, axes).planes
    # Leading axes of labels take the names of the image's axes longer than 1, or z, t, p from the last.
    leading = "".join(a for a, n in zip(planes.plane_axes, planes.plane_shape, strict=True) if n > 1) if planes else ""
    if len(leading) != len(array.shape) - 2:
        leading = "ptz"[max(0, 5 - len(array.shape)) :]
    whole = np.stack([stores.label_plane(array, plane, labels) for plane in np.ndindex(*array.shape[:-2])])
    whole = whole.reshape(tuple(array.shape))
    names = [f"channel{c + 1}" for c in range(planes.channels)] if planes else []
    table = measure_cells(whole, f"{leading}yx", _without_ones(planes), names, scale)
    return ({"file": np.full(len(table["label"]), stores.stem(labels))} if named else {}) | table


def _without_ones(planes: Planes | None) -> Planes | None:
    """Return an image without leading axes of size 1, as labels are opened."""
    if planes is None or 1 not in planes.plane_shape:
        return planes
    dropped = {a for a, n in zip(planes.plane_axes, planes.plane_shape, strict=True) if n == 1}
    key = tuple(0 if a in dropped else slice(None) for a in planes.axes)
    kept = "".join(a for a in planes.axes if a not in dropped)
    return Planes([np.asarray(array[key]) for array in planes.arrays], kept, rgb=planes.rgb, grey=planes.grey)
