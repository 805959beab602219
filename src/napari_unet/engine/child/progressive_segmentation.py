"""Segmentations that are written to disk as they are made.

The viewer looks at the result on its disk, where what was computed last shows at once, each part by itself; cells are
joined across the parts when the plane is done.
"""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Generator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ...core.data.annotation import Box
from ...core.data.arrays import PlaneIndex, Planes, resample
from ...core.data.rescale import at_own_size
from ...core.events import Event, Finished, PlaneDone, ResultOpened, Stopped
from ...core.inference import predict as prediction
from ...core.instances.pipeline import Outputs, labels_from_outputs
from ...core.network.model_io import Model
from ...core.network.provenance import made_with
from ...core.settings import PredictionSettings
from .output_target import Place, place_of
from .server import Job

_STORED = {"instances": np.uint32, "classes": np.uint8, "probabilities": np.float32}
_SAMPLE = 128
"""Side in pixels of the parts of a picture that it is known again by."""
_SHARE = 0.2
"""Share of the time that may go into showing what is not on screen."""


def segment_to_store(
    job: Job, model: Model, image: Planes, settings: PredictionSettings
) -> Generator[Event, None, None]:
    """Segment planes into a ``.zarr``, and go on with what an earlier run of the same has done.

    It is finished when all planes of the image are; ``payload["output"]`` says where: ``folder``, ``name`` (the ending
    and, where the name is taken, a number are added) and ``spacing``.
    """
    wanted = job.payload["planes"]
    todo = image.indices() if wanted is None else [tuple(plane) for plane in wanted]
    dtype, known = _STORED[settings.what], identity(image, model, settings)
    with place_of(job, image.shape, image.plane_axes + "yx", dtype, known) as place:
        yield ResultOpened(place.path, place.partial, place.resumed)
        showing, stopped = Showing(job, place, settings), False
        for event in prediction.predict(
            model, image, place.array, settings=settings, stop=job.stop, planes=todo, work=place.work, watcher=showing
        ):
            stopped = stopped or isinstance(event, Stopped)
            if isinstance(event, PlaneDone):
                place.plane_done(event.plane, event.objects)
            if isinstance(event, Finished) and not stopped:
                event = replace(event, path=place.save())
            yield event


def identity(image: Planes, model: Model, settings: PredictionSettings) -> dict[str, Any]:
    """Return what makes a result what it is; a picture is known by samples of it, as it may be in no file."""
    digest = hashlib.sha256()
    every = image.indices()
    for plane in sorted({every[0], every[len(every) // 2], every[-1]}):
        for y, x in itertools.product((0, image.height // 2), (0, image.width // 2)):
            digest.update(image.read(plane, slice(y, y + _SAMPLE), slice(x, x + _SAMPLE)).tobytes())
    return {
        "picture": {"shape": list(image.shape), "dtype": str(image.dtype), "sample": digest.hexdigest()},
        **made_with(image, model, settings),
    }


class Showing:
    """Writes what was just computed where the viewer sees it; see :class:`~napari_unet.core.inference.chunked.Watcher`.

    Cells are told apart within each part by itself, so that those at its edges look cut until the plane is done.

    Parameters
    ----------
    job : Job
        Is told where the user looks, as ``view``: ``{"plane": [...], "box": [y0, y1, x0, x1]}``.
    place : Place
        The result.
    settings : PredictionSettings
        How outputs become labels.
    """

    def __init__(self, job: Job, place: Place, settings: PredictionSettings) -> None:
        self._job, self._place, self._settings = job, place, settings
        self._look: Mapping[str, Any] = job.payload.get("view") or {}
        self._labels = 0
        self._spent, self._begin = 0.0, time.perf_counter()

    def view(self, plane: PlaneIndex) -> Box | None:
        """Return the visible part of a plane."""
        self._look = self._job.latest("view") or self._look
        if not self._look or tuple(self._look["plane"]) != plane:
            return None
        y0, y1, x0, x1 = self._look["box"]
        return y0, y1, x0, x1

    def show(self, plane: PlaneIndex, box: Box, outputs: Outputs) -> None:
        """Write the labels of a part, unless it is off screen and would slow the job down."""
        now = time.perf_counter()
        if self._spent > _SHARE * (now - self._begin) and not self._is_looked_at(plane, box):
            return
        size = box[1] - box[0], box[3] - box[2]
        if not min(size):
            return
        settings = at_own_size(self._settings, outputs["classes"].shape[-2] / size[0])
        labels = labels_from_outputs({name: resample(v, size) for name, v in outputs.items()}, settings)
        if self._settings.what == "instances":
            count = int(labels.max(initial=0))
            labels = np.where(labels > 0, labels + self._labels, 0)
            self._labels += count
        self._place.show(plane, box, labels)
        self._spent += time.perf_counter() - now

    def _is_looked_at(self, plane: PlaneIndex, box: Box) -> bool:
        view = self.view(plane)
        return view is not None and view[0] < box[1] and box[0] < view[1] and view[2] < box[3] and box[2] < view[3]


__all__ = ["Showing", "identity", "segment_to_store"]
