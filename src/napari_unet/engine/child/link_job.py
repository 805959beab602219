"""Link the viewer's label planes into cells of the whole stack. Needs no torch."""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import numpy as np

from ...core.data.arrays import ArrayLike
from ...core.distribution import DISTRIBUTION
from ...core.errors import DataError
from ...core.events import Event, Finished, PlaneDone, ResultOpened, Started, Stopped, TileDone
from ...core.inference.chunked import plane_key
from ...core.instances.stitching import link as link_labels
from ...core.settings import LinkSettings, to_dict, with_values
from ...stores.views import fixed
from ..protocol.messages import PlaneResult
from .cache import PlaneBuffer
from .output_target import place_of
from .server import Job


def link(job: Job) -> Generator[Event, None, None]:
    """Link the viewer's labels; planes come back as they are written, or go to disk when there is an ``output``."""
    labels, axes = _labels(job)
    settings = with_values(LinkSettings(), job.payload["settings"])
    yield Started("link", "cpu", "int32", int(np.prod(labels.shape[:-2])))
    about = job.payload.get("output")
    if about is None:
        yield from _link_to_viewer(job, labels, axes, settings)
        return
    with place_of(job, labels.shape, axes, np.uint32, _identity(labels, settings), anew=True) as place:
        yield ResultOpened(place.path, place.partial, False)
        stopped = False
        for event in _linked(job, labels, axes, place.array, settings):
            stopped = stopped or isinstance(event, Stopped)
            if isinstance(event, PlaneDone):
                place.work.remember(plane_key(event.plane), event.objects)
                place.plane_done(event.plane, event.objects)
            if isinstance(event, Finished) and not stopped:
                event = replace(event, path=place.save())
            yield event


def _labels(job: Job) -> tuple[ArrayLike, str]:
    """Return the labels with y and x as the last axes and no channel, and their axis letters."""
    about = job.payload["labels"]
    axes: str = about["axes"]
    kept = "".join(a for a in axes if a != "c")
    if kept[-2:] != "yx":
        raise DataError("Labels are linked with height and width as the last axes; roll the picture's axes first.")
    return fixed(job.array(0, about), {axes.index("c"): 0} if "c" in axes else {}), kept


def _identity(labels: ArrayLike, settings: LinkSettings) -> dict[str, Any]:
    """Return the job's identity; linking is fast, so it never resumes."""
    corner = np.asarray(labels[(*(0 for _ in labels.shape[:-2]), slice(0, 512), slice(0, 512))])
    return {
        "labels": hashlib.sha256(corner.tobytes()).hexdigest(),
        "link": to_dict(settings),
        "version": version(DISTRIBUTION),
    }


def _link_to_viewer(job: Job, labels: ArrayLike, axes: str, settings: LinkSettings) -> Generator[Event, None, None]:
    """Link, and send each plane when it is written."""
    output = PlaneBuffer(tuple(labels.shape), np.int32)
    for event in _linked(job, labels, axes, output, settings):
        if isinstance(event, PlaneDone):
            yield PlaneResult(event.plane, output.take(event.plane))
        yield event


def _linked(
    job: Job, labels: ArrayLike, axes: str, output: Any, settings: LinkSettings
) -> Generator[Event, None, None]:
    """Yield the progress and each written plane."""
    planes = list(np.ndindex(*labels.shape[:-2]))
    steps = link_labels(labels, axes, output, settings)
    while True:
        try:
            done, total = next(steps)
        except StopIteration as end:
            yield Finished(0.0, len(planes), metrics={"objects": float(end.value)})
            return
        if job.stop():
            yield Stopped("stopped by the user")
            yield Finished(0.0)
            return
        yield TileDone(done, total, (), (0, 0, 0, 0))
        written = done - (total - len(planes))
        if written > 0:
            yield PlaneDone(written, len(planes), planes[written - 1])


__all__ = ["link"]
