"""The steps of the demo, from images to scores."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from .. import stores
from ..core.data.annotation import AnnotatedImage
from ..core.data.arrays import PlaneIndex, Planes
from ..core.distribution import require_extra
from ..core.errors import DataError
from ..core.events import Event, Finished, StepDone, Stopped, Validated
from ..core.network.model_card import BUNDLED
from ..core.settings import PredictionSettings, TrainingSettings, with_values
from ..core.synthetic import generate_stack
from .outcome import Case, DemoResult, every_plane, labels_path
from .painting import BACKGROUND, paint
from .report import write_report

if TYPE_CHECKING:
    from ..core.network.model_io import Model

SHAPE = (12, 256, 256)
"""Planes, height and width of the generated stack."""

SECONDS = 30.0
"""Time to train."""

Listener = Callable[[str, Event], None]
Stop = Callable[[], bool]


def run_demo(
    folder: Path,
    *,
    images: Path | None = None,
    labels: Path | None = None,
    axes: str | None = None,
    settings: TrainingSettings | None = None,
    start: str | Path = BUNDLED,
    cells: int = 8,
    shape: tuple[int, int, int] = SHAPE,
    listen: Listener = lambda job, event: None,
    stop: Stop = lambda: False,
) -> DemoResult:
    """Paint, train, segment and measure; write what comes out.

    Parameters
    ----------
    folder : Path
        Where to; files of an earlier demo are replaced.
    images, labels : Path, optional
        Own images with complete labels, at least two planes; generated ones by default.
    axes : str, optional
        Axes of the images, where their files do not say.
    settings : TrainingSettings, optional
        30 seconds by default.
    start : str or Path
        Start model.
    cells : int
        Cells to paint.
    shape : tuple of int
        Of the generated stack.
    listen : callable
        Is given every event, with ``"before"``, ``"train"`` or ``"after"``.
    stop : callable
        When it returns True the training ends and the best model so far is used.

    Raises
    ------
    UNetError
        For images, labels, models and places that cannot be used.
    """
    from ..core.network.model_io import load_model, save_model

    require_extra("report", "The figures", "matplotlib")
    settings = dataclasses.replace(settings or TrainingSettings(seconds=SECONDS), background_label=BACKGROUND)
    with stores.writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    cases = given(images, labels, axes) if images and labels else [generated(folder, shape, settings.seed)]
    model = load_model(start)
    cases = [fitted(case, model.card.channels) for case in cases]
    number, plane = richest(cases)
    result = DemoResult(folder, cases, number, plane, paint(cases[number].truth[plane], cells, settings.seed))
    _write_painted(result)
    result.labels_before.extend(segment_all(folder / "labels_before", model, cases, lambda e: listen("before", e)))
    trained, stopped = _train(model, result, settings, lambda event: listen("train", event), stop)
    save_model(trained, folder / "model")
    result.labels_after.extend(segment_all(folder / "labels", trained, cases, lambda e: listen("after", e)))
    result = dataclasses.replace(
        result, stopped=stopped, before=result.scores(result.labels_before), after=result.scores(result.labels_after)
    )
    write_report(result)
    return result


def generated(folder: Path, shape: tuple[int, int, int], seed: int) -> Case:
    """Return a generated stack, written to the folder."""
    image, truth = generate_stack("nuclei", shape, seed)
    stack = (image * 65535).astype(np.uint16)
    with stores.writing(folder / "stack.tif"):
        tifffile.imwrite(
            folder / "stack.tif", stack, metadata={"axes": "ZYX"}, photometric="minisblack", compression="zlib"
        )
    write_labels(folder / "truth.tif", truth, "zyx")
    return Case("stack", Planes(stack, "zyx"), truth, folder / "stack.tif", folder / "truth.tif")


def given(images: Path, labels: Path, axes: str | None) -> list[Case]:
    """Return the user's own images with their labels.

    Raises
    ------
    UNetError
        When they cannot be read or do not fit.
    """
    cases = []
    for pair in stores.pair(images, labels):
        picture = stores.open_picture(pair.image, axes)
        truth = np.zeros(picture.planes.shape, np.int64)
        for plane, values in stores.labelled_planes(picture, pair):
            truth[plane] = values
        cases.append(Case(picture.name, picture.planes, truth, pair.image.absolute(), pair.labels.absolute()))
    if len(every_plane(cases)) < 2:
        raise DataError(
            f"{images} is a single plane; the demo trains on one and measures on others: give at least two."
        )
    return cases


def fitted(case: Case, channels: int) -> Case:
    """Return a case with its colours read as grey where the model has another number of channels."""
    if not case.planes.rgb or case.planes.channels == channels:
        return case
    return dataclasses.replace(case, planes=case.planes.as_grey())


def richest(cases: list[Case]) -> tuple[int, PlaneIndex]:
    """Return image number and index of the plane with the most cells.

    Raises
    ------
    DataError
        When there is no cell anywhere.
    """
    number, plane = max(every_plane(cases), key=lambda at: len(np.unique(cases[at[0]].truth[at[1]])))
    if not cases[number].truth[plane].any():
        raise DataError("The labels are empty everywhere; the demo needs cells to paint.")
    return number, plane


def _train(
    model: Model, result: DemoResult, settings: TrainingSettings, listen: Callable[[Event], None], stop: Stop
) -> tuple[Model, bool]:
    """Return the model after training on the painted plane, and whether the training was stopped."""
    from ..core.training.loop import train
    from ..core.training.plan import resolve

    image = AnnotatedImage(result.cases[result.number].read(result.plane), result.painted, name=result.trained_on)
    trained, stopped = model, False
    for event in train(resolve([image], settings, start=model, name="demo"), stop=stop):
        listen(event)
        if isinstance(event, StepDone):
            result.steps.append(event)
        elif isinstance(event, Validated):
            result.checks.append(event)
        elif isinstance(event, Finished):
            trained = event.model
        stopped |= isinstance(event, Stopped)
    return trained, stopped


def segment_all(
    folder: Path, model: Model, cases: list[Case], listen: Callable[[Event], None]
) -> Iterator[NDArray[np.int32]]:
    """Yield the labels of every image, which are also written: as one file, or as a folder of many."""
    from ..core.inference.predict import predict

    settings = with_values(PredictionSettings(), model.card.prediction)
    for case in cases:
        labels = np.zeros(case.planes.shape, np.int32)
        for event in predict(model, case.planes, labels, settings=settings):
            listen(event)
        write_labels(labels_path(folder, case, cases), labels, case.planes.plane_axes + "yx")
        yield labels


def write_labels(path: Path, labels: NDArray[Any], axes: str) -> None:
    """Write a label image, in place of an older one."""
    with stores.create_labels(path, labels.shape, axes, labels.dtype, overwrite=True) as output:
        output.array[...] = labels
        output.save()


def _write_painted(result: DemoResult) -> None:
    """Write what was painted, in the shape of its image."""
    planes = result.cases[result.number].planes
    whole = np.zeros(planes.shape, np.int32)
    whole[result.plane] = result.painted
    write_labels(result.folder / "painted.tif", whole, planes.plane_axes + "yx")
