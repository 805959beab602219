"""The jobs of the child: core generators, fed from messages. Importing this module imports torch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...core.data.arrays import Normalisation, Planes
from ...core.data.rescale import at_own_size
from ...core.events import AnnotationsUpdated, Event, PlaneDone, PreviewRequest
from ...core.inference import predict as prediction
from ...core.instances.pipeline import Outputs, labels_from_outputs
from ...core.instances.uncertainty import coarse, uncertainty
from ...core.network import device
from ...core.network.model_io import Model, load_model
from ...core.network.unet import UNet
from ...core.settings import PredictionSettings, with_values
from ...core.training import loop, plan
from ...records import runs
from ..protocol.messages import LARGEST_PLANE, PlaneLost, PlaneResult, PlaneUncertainty
from . import file_job
from .array_reading import array_of
from .cache import KeptModels, KeptOutputs, PlaneBuffer
from .link_job import link
from .progressive_segmentation import segment_to_store
from .server import Job

_MODELS: KeptModels[Model] = KeptModels(load_model)
_OUTPUTS = KeptOutputs()
_DTYPES = {"instances": np.int32, "classes": np.uint8, "probabilities": np.float32}


def train(job: Job) -> Generator[Event, None, None]:
    """Train from the run folder ``payload["folder"]``, and record the events in it."""
    folder = job.files.run(job.payload["folder"])
    run = runs.load_run(folder)
    # Training changes the weights, so the start is not taken from the kept models.
    start = None if run.start == runs.SCRATCH else load_model(job.files.find(run.start))
    work = plan.resolve(
        run.images,
        run.settings,
        start=start,
        network=run.network,
        name=run.name,
        folder=folder,
        resume=_resumed(job, run.resume) if run.resume else None,
    )
    joined = _Paint(job)
    for event in loop.train(work, stop=job.stop, preview=lambda: _preview(job), get_updates=joined.get_updates):
        if isinstance(event, AnnotationsUpdated):
            event = replace(event, paint=joined.newest)
        runs.append_event(folder, event)
        yield event


def _resumed(job: Job, folder: str) -> Path:
    """Return a folder with the state of an earlier training."""
    return Path(job.files.find(str(Path(folder) / plan.STATE_NAME))).parent


class _Paint:
    """Annotations painted during a training, and the last version used, by the viewer's count."""

    def __init__(self, job: Job) -> None:
        self.job, self.newest = job, 0

    def get_updates(self, present: plan.TrainingPlan) -> plan.TrainingPlan | None:
        """Return the plan with the new annotations, once the viewer reports that they are in the run folder."""
        told = self.job.latest("repainted")
        if told is None:
            return None
        self.newest = int(told)
        return plan.renew(present, runs.load_run(self.job.files.run(self.job.payload["folder"])).images)


def _preview(job: Job) -> PreviewRequest | None:
    """Return the newest request for a preview, if there is one."""
    asked = job.latest("preview")
    if asked is None:
        return None
    scale = asked["normalisation"]
    normalisation = Normalisation(tuple(scale["low"]), tuple(scale["high"])) if scale else None
    return PreviewRequest(asked["token"], asked["image"], normalisation)


def segment(job: Job) -> Generator[Event, None, None]:
    """Segment planes of the viewer's arrays, and keep the network's outputs for :func:`relabel`.

    With an ``output`` in the payload the result is written to disk instead, and nothing is kept.
    """
    settings = with_values(PredictionSettings(), job.payload["settings"])
    model = _MODELS.get(job.files.find(job.payload["model"]))
    image = _planes(job, model)
    if "output" in job.payload:
        yield from segment_to_store(job, model, image, settings)
        return
    output = PlaneBuffer(image.shape, _DTYPES[settings.what])
    planes = job.payload["planes"]
    keeps = image.height * image.width <= LARGEST_PLANE
    for event in prediction.predict(
        model,
        image,
        output,
        settings=settings,
        stop=job.stop,
        planes=None if planes is None else [tuple(plane) for plane in planes],
        keep=functools.partial(_OUTPUTS.keep, job.number) if keeps else None,
    ):
        if isinstance(event, PlaneDone):
            yield PlaneResult(event.plane, output.take(event.plane))
        yield event


def _planes(job: Job, model: Model) -> Planes:
    """Return the viewer's image; red, green and blue as grey when the model has one channel for them."""
    about: dict[str, Any] = job.payload["image"]
    arrays = [array_of(job, index, array) for index, array in enumerate(about["arrays"])]
    planes = Planes(arrays, about["axes"], rgb=about["rgb"], grey=about["grey"])
    if planes.rgb and planes.channels != model.card.channels == planes.as_grey().channels:
        return planes.as_grey()
    return planes


def segment_file(job: Job) -> Generator[Event, None, None]:
    """Segment a file into another one."""
    settings = with_values(PredictionSettings(), job.payload["settings"])
    yield from file_job.segment_file(job, _MODELS.get(job.files.find(job.payload["model"])), settings)


def relabel(job: Job) -> Generator[Event, None, None]:
    """Label planes of earlier jobs again from cached outputs, without the network."""
    settings = with_values(PredictionSettings(), job.payload["settings"])
    for wanted in job.payload["planes"]:
        if job.stop():
            return
        plane = tuple(wanted["plane"])
        kept = _OUTPUTS.get(wanted["job"], plane)
        if kept is None:
            yield PlaneLost(plane)
        else:
            yield PlaneResult(plane, labels_from_outputs(kept.outputs, at_own_size(settings, kept.scale)))


def suggest(job: Job) -> Generator[Event, None, None]:
    """Yield uncertainty maps, plane by plane."""
    settings = with_values(PredictionSettings(), job.payload["settings"])
    model = _MODELS.get(job.files.find(job.payload["model"]))
    image = _planes(job, model)
    buffer = PlaneBuffer(image.shape, np.float32)
    doubts: dict[tuple[int, ...], NDArray[np.float32]] = {}

    def keep(plane: tuple[int, ...], outputs: Outputs, scale: float) -> None:
        doubts[plane] = coarse(uncertainty(outputs, at_own_size(settings, scale)))

    for event in prediction.predict(
        model,
        image,
        buffer,
        settings=replace(settings, what="probabilities"),
        stop=job.stop,
        keep=keep,
        planes=[tuple(plane) for plane in job.payload["planes"]],
    ):
        if isinstance(event, PlaneDone):
            buffer.take(event.plane)
            yield PlaneUncertainty(event.plane, doubts.pop(event.plane))
        yield event


def devices() -> dict[str, str]:
    """Return the available devices and their names, by the setting ``device``."""
    return device.names()


def warm_up() -> None:
    """Run one tiny training step, so that torch's lazy imports are done before Train is clicked.

    The first optimiser alone imports some eight hundred modules.
    """
    network = UNet(width=4, depth=1, padding="same", dropout=0.0)
    optimiser = torch.optim.AdamW(network.parameters(), fused=True)
    with device.choose("cpu").autocast():
        network(torch.zeros(1, 1, 32, 32)).mean().backward()
    optimiser.step()


KINDS: dict[str, Callable[[Job], Generator[Event, None, None]]] = {
    "train": train,
    "segment": segment,
    "segment_file": segment_file,
    "link": link,
    "relabel": relabel,
    "suggest": suggest,
    "suggest_now": suggest,
}
