"""``napari-unet segment``: images to labels."""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import stores
from ..core.arrays import Planes
from ..core.card import Card, is_bundled
from ..core.errors import SettingsError, StoreError, UNetError
from ..core.events import Adapted, Finished, PlaneDone, PredictionEvent, Started, Stopped, TileDone
from ..core.settings import PredictionSettings, to_dict, with_values
from ..replay import segment_command, segment_job, write_job
from . import FAILED, PROGRAM, STOPPED
from .parser import check_names, chosen
from .progress import Interrupt, Progress

if TYPE_CHECKING:
    from ..core.package import Model

_NAMED = ("tile", "device", "what")
_DTYPES = {"instances": np.int32, "classes": np.uint8, "probabilities": np.float32}
_TILES_SHARE = 0.9
"""Share of a plane's work that is done with its last tile; what is left is to tell its cells apart."""
FILE_ENDINGS = (".tif", ".tiff", ".png", ".zarr")


def segment(arguments: argparse.Namespace) -> int:
    """Segment one image or a folder of them.

    Of a folder, images that cannot be segmented are told and do not keep the others from it.

    Returns
    -------
    int
        0 when every image was segmented, 1 when some could not be, 130 when it was stopped.
    """
    inputs = stores.list_pictures(arguments.input)
    outputs = output_paths(arguments.input, inputs, arguments.output)
    for output in outputs:
        stores.check_output(output, arguments.overwrite, *inputs)
    # The settings are checked before torch is loaded, which takes seconds.
    values = chosen(arguments, _NAMED)
    check_names(values, PredictionSettings)
    with_values(PredictionSettings(), values)
    with Progress() as progress, Interrupt(progress.say) as stop:
        progress.show(0, "loading")
        from ..core.package import load_model

        model = load_model(arguments.model)
        settings = prediction_settings(model.card, values)
        name = arguments.model if is_bundled(arguments.model) else str(Path(arguments.model).absolute())
        batch = _Batch(model, name, settings, arguments.axes, arguments.planes, arguments.overwrite, progress, stop)
        return batch.run(list(zip(inputs, outputs, strict=True)))


def output_paths(given: Path, inputs: list[Path], output: Path) -> list[Path]:
    """Return where the labels of each input go.

    Raises
    ------
    StoreError
        When a folder of images is to go to one file.
    """
    many = given.is_dir() and inputs != [given]
    is_file = output.suffix.lower() in FILE_ENDINGS
    if many and is_file:
        raise StoreError(
            f"{given} is a folder of {len(inputs)} image(s); give a folder for the labels and not {output}."
        )
    if is_file:
        return [output]
    if output.suffix and not output.is_dir():
        raise StoreError(
            f"{output} has no known ending for a result; give one of {', '.join(FILE_ENDINGS)}, or a folder without a "
            "dot in its name."
        )
    return [output / f"{stores.stem(path)}.tif" for path in inputs]


def choose_planes(text: str, planes: Planes) -> list[tuple[int, ...]]:
    """Return the planes that ``--planes`` names, such as ``3,5`` or ``0:3,0:5``; all when it names none.

    Raises
    ------
    SettingsError
        When the image has no such plane.
    """
    known = planes.indices()
    if not text:
        return known
    names = {":".join(map(str, plane)): plane for plane in known}
    unknown = [name for name in text.split(",") if name.strip() not in names]
    if unknown:
        raise SettingsError(
            f"The image has no plane {unknown[0]!r}; it has {len(known)}, from {next(iter(names))!r} to "
            f"{list(names)[-1]!r}."
        )
    return [names[name.strip()] for name in dict.fromkeys(text.split(","))]


def prediction_settings(card: Card, values: dict[str, Any]) -> PredictionSettings:
    """Return what the user gave, over what the model was measured best with, over the defaults."""
    own = {"what": "classes"} if card.mode == "classes" else {}
    return with_values(PredictionSettings(), {**own, **card.prediction, **values})


@dataclass
class _Batch:
    """Images to segment with one model."""

    model: Model
    name: str
    settings: PredictionSettings
    axes: str | None
    planes: str
    overwrite: bool
    progress: Progress
    stop: Interrupt

    def run(self, jobs: list[tuple[Path, Path]]) -> int:
        """Segment all and return the exit code."""
        failed, begin = 0, time.monotonic()
        for number, (source, output) in enumerate(jobs):
            try:
                said = self.one(source, output, _Share(number, len(jobs), begin))
            except UNetError as error:
                if len(jobs) == 1:
                    raise
                failed += 1
                self.progress.say(f"{PROGRAM}: error: {source.name}: {' '.join(str(error).split())}")
                continue
            if said is None:
                self.progress.say(f"stopped; {number - failed} of {len(jobs)} images are written")
                return STOPPED
            print(said, flush=True)
        if failed:
            self.progress.say(f"{PROGRAM}: error: {failed} of {len(jobs)} images could not be segmented, see above")
        return FAILED if failed else 0

    def one(self, source: Path, output: Path, share: _Share) -> str | None:
        """Segment one image; return what to say, or None when it was stopped."""
        from ..core.prediction import predict

        planes = stores.open_picture(source, self.axes).planes
        if planes.rgb and planes.channels != self.model.card.channels:
            planes = planes.as_grey()
        axes, dtype, objects = planes.plane_axes + "yx", _DTYPES[self.settings.what], 0
        wanted = choose_planes(self.planes, planes)
        job = self._job(source, planes)
        with stores.resumable_labels(output, planes.shape, axes, dtype, job, overwrite=self.overwrite) as out:
            if out.resumed:
                self.progress.say(f"note: {source.name}: going on where an earlier run ended")
            for event in predict(
                self.model, planes, out.array, settings=self.settings, stop=self.stop, planes=wanted, work=out.work
            ):
                if isinstance(event, Stopped):
                    if out.lasting:
                        self.progress.say("what is done is kept; the same command goes on from here")
                    return None
                if isinstance(event, Finished):
                    objects = int(event.metrics.get("objects", 0))
                self._show(event, source, share, len(wanted))
            out.save()
        self._write_job(source, output, wanted)
        return f"{output}: {' x '.join(map(str, planes.shape))}{self._counted(objects, len(wanted))}"

    def _job(self, source: Path, planes: Planes) -> dict[str, Any]:
        """Return what makes a result what it is; only with the same an unfinished one is gone on with."""
        from ..core.package import fingerprint

        state = source.stat()
        return {
            "input": {"path": str(source.resolve()), "bytes": state.st_size, "modified": state.st_mtime},
            "image": {"axes": planes.axes, "rgb": planes.rgb, "grey": planes.grey},
            "model": {"name": self.model.card.name, "fingerprint": fingerprint(self.model)},
            "settings": to_dict(self.settings),
            "planes": self.planes,
            "version": version("napari-unet"),
        }

    def _write_job(self, source: Path, output: Path, wanted: list[tuple[int, ...]]) -> None:
        """Write beside a result how it was made."""
        source, output, only = source.absolute(), output.absolute(), wanted if self.planes else None
        command = segment_command(
            source, output, self.name, self.settings, axes=self.axes or "", planes=only,
            chosen=self.model.card.prediction,
        )  # fmt: skip
        write_job(segment_job(command, str(source), self.name, self.settings, only, source.name), output)

    def _counted(self, objects: int, planes: int) -> str:
        """Return how many cells were found; one that is in several planes counts in each."""
        if self.settings.what != "instances":
            return ""
        return f", {objects} cells" + (f" in {planes} planes, counted plane by plane" if planes > 1 else "")

    def _show(self, event: PredictionEvent, source: Path, share: _Share, planes: int) -> None:
        """Show one event of a prediction as a part of the whole batch."""
        if isinstance(event, Started):
            for note in event.notes:
                self.progress.say(f"note: {source.name}: {note}")
        elif isinstance(event, Adapted):
            self.progress.say(f"note: {source.name}: {event.message}")
        elif isinstance(event, (TileDone, PlaneDone)):
            done = share.after(event, planes)
            what = source.name if planes == 1 else f"{source.name}, plane {min(share.planes + 1, planes)} of {planes}"
            self.progress.show(done, what, share.remaining(done))


@dataclass
class _Share:
    """How far one image of a batch is.

    Attributes
    ----------
    number, count : int
        Which image, of how many.
    begin : float
        When the batch began.
    planes : int
        Planes of this image that are done.
    """

    number: int
    count: int
    begin: float
    planes: int = 0

    def after(self, event: TileDone | PlaneDone, planes: int) -> float:
        """Return the share of the batch that is done after an event."""
        part = 0.0
        if isinstance(event, PlaneDone):
            self.planes = event.done
        else:
            part = _TILES_SHARE * event.done / event.total
        return (self.number + min(1.0, (self.planes + part) / planes)) / self.count

    def remaining(self, done: float) -> float | None:
        """Return the seconds to the end, from the time so far."""
        return (time.monotonic() - self.begin) * (1 - done) / done if done else None
