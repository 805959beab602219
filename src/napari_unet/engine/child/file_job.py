"""Segment one file into another, as part of a batch; the engine loads the model once."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import numpy as np

from ... import stores
from ...core.errors import StoreError
from ...core.events import Event, Finished, Stopped
from ...core.inference import predict as prediction
from ...core.network.model_io import Model
from ...core.network.provenance import made_with
from ...core.settings import PredictionSettings
from .server import Job

_DTYPES = {"instances": np.int32, "classes": np.uint8, "probabilities": np.float32}


def segment_file(job: Job, model: Model, settings: PredictionSettings) -> Generator[Event, None, None]:
    """Segment ``payload["source"]`` into ``payload["output"]``; the last event says where the result lies.

    Raises
    ------
    StoreError
        When the one cannot be read or the other cannot be written.
    DataError
        When there is nothing to segment in it.
    """
    overwrite = bool(job.payload["overwrite"])
    source = Path(job.files.find(job.payload["source"], keep=False))
    output = job.files.output(job.payload["output"], overwrite)
    picture = _open(source, job.payload["axes"])
    planes = picture.planes
    if planes.rgb and planes.channels != model.card.channels:
        planes = planes.as_grey()
    stores.check_output(output, overwrite, source)
    # The same as on the command line, which can resume it.
    known = made_with(planes, model, settings, input=stores.state_of(source), planes="")
    with stores.resumable_labels(
        output,
        planes.shape,
        planes.plane_axes + "yx",
        _DTYPES[settings.what],
        known,
        overwrite=overwrite,
        spacing=picture.spacing,
    ) as out:
        stopped = False
        for event in prediction.predict(model, planes, out.array, settings=settings, stop=job.stop, work=out.work):
            stopped = stopped or isinstance(event, Stopped)
            if isinstance(event, Finished) and not stopped:
                event = replace(event, path=str(out.save()), step=len(planes.indices()))
            yield event


def _open(source: Path, axes: str) -> stores.Picture:
    """Open a file; errors use the dock's terms."""
    try:
        return stores.open_picture(source, axes or None, complete=True)
    except StoreError as error:
        # The same message serves the command line.
        words = str(error).replace("with --axes", "under Axes").replace("--axes", "Axes")
        words = words.replace("say so with --sparse", "segment it by napari-unet segment --sparse")
        raise StoreError(words) from error


__all__ = ["segment_file"]
