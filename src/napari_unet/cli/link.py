"""``napari-unet link``: link cells of single planes into cells of a stack."""

from __future__ import annotations

import argparse
from collections.abc import Generator
from pathlib import Path

import numpy as np

from .. import stores
from ..core.errors import StoreError
from ..core.instances.stitching import link as link_labels
from ..core.settings import LinkSettings, with_values
from . import STOPPED
from .parser import check_names, chosen
from .progress import Interrupt, TerminalProgress

_NAMED = ("along", "overlap", "max_gap")


def link(arguments: argparse.Namespace) -> int:
    """Link the cells of a label stack across depth, through time, or both.

    Returns
    -------
    int
        0 if done, 130 if stopped.
    """
    source, output = Path(arguments.labels), Path(arguments.output)
    stores.check_output(output, arguments.overwrite, source)
    values = chosen(arguments, _NAMED)
    check_names(values, LinkSettings)
    settings = with_values(LinkSettings(), values)
    picture = stores.open_picture(source, arguments.axes)
    planes = picture.planes
    axes = planes.plane_axes + "yx"
    if planes.axes != axes or planes.dtype.kind not in "iu":
        raise StoreError(
            f"{source} holds {planes.dtype} numbers along the axes {planes.axes}; labels are whole numbers, with y and "
            "x as the last axes and no channels."
        )
    with (
        TerminalProgress() as progress,
        Interrupt(progress.say) as stop,
        stores.create_labels(
            output, planes.shape, axes, np.int32, overwrite=arguments.overwrite, spacing=picture.spacing
        ) as out,
    ):
        count = _followed(link_labels(planes.arrays[0], axes, out.array, settings), source.name, progress, stop)
        if count is None:
            return STOPPED
        out.save()
    print(f"{output}: {' x '.join(map(str, planes.shape))}, {count} cells", flush=True)
    return 0


def _followed(
    steps: Generator[tuple[int, int], None, int], name: str, progress: TerminalProgress, stop: Interrupt
) -> int | None:
    """Show the progress, and return the number of cells; None if stopped."""
    while True:
        try:
            done, total = next(steps)
        except StopIteration as end:
            return int(end.value)
        progress.show(done / total, name)
        if stop():
            progress.say("stopped; nothing was written")
            return None
