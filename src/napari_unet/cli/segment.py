"""``napari-unet segment``: images to labels."""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import stores
from ..core.data.arrays import Planes
from ..core.distribution import COMMAND
from ..core.errors import DataError, SettingsError, StoreError, UNetError
from ..core.events import Fallback, Finished, PlaneDone, PredictionEvent, Started, Stopped, TileDone
from ..core.network.model_card import Card, is_bundled
from ..core.proofreading.review import Marks
from ..core.settings import PredictionSettings, with_values
from ..records.replay import made_from, segment_command, segment_job, write_job
from ..stores.reapply_review import marks_before, restore_in
from ..stores.review_marks import write_marks
from . import FAILED, STOPPED
from .parser import check_names, chosen
from .progress import Interrupt, TerminalProgress

if TYPE_CHECKING:
    from ..cluster import Pool
    from ..core.network.model_io import Model

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
    shared = bool(arguments.scheduler) or arguments.workers is not None
    outputs = output_paths(arguments.input, inputs, arguments.output, ".zarr" if shared else ".tif")
    many = arguments.input.is_dir() and inputs != [arguments.input]
    for output in outputs:
        # Of a folder, a result that a run before may have finished is looked at again when the model is known.
        later = many and made_from(output) is not None
        stores.check_output(output, arguments.overwrite or later, *inputs)
        if shared:
            check_shared(output)
    # The settings are checked before torch is loaded, which takes seconds.
    values = chosen(arguments, _NAMED)
    check_names(values, PredictionSettings)
    with_values(PredictionSettings(), values)
    with contextlib.ExitStack() as stack:
        progress = stack.enter_context(TerminalProgress())
        stop = stack.enter_context(Interrupt(progress.say))
        progress.show(0, "loading")
        pool = stack.enter_context(open_pool(arguments)) if shared else None
        if stop():
            progress.say("stopped; nothing was begun")
            return STOPPED
        from ..core.network.model_io import load_model

        model = load_model(arguments.model)
        settings = prediction_settings(model.card, values)
        name = arguments.model if is_bundled(arguments.model) else str(Path(arguments.model).absolute())
        batch = _Batch(
            model,
            name,
            settings,
            arguments.axes,
            arguments.planes,
            arguments.overwrite,
            progress,
            stop,
            pool,
            arguments.sparse,
            many,
        )
        return batch.run(list(zip(inputs, outputs, strict=True)))


def check_shared(output: Path) -> None:
    """Raise unless several processes can write a result, see :func:`napari_unet.cluster.check_output`."""
    from ..cluster import check_output

    check_output(output)


def open_pool(arguments: argparse.Namespace) -> Pool:
    """Return the workers that the user has named."""
    from ..cluster import Pool

    return Pool.connect(arguments.scheduler) if arguments.scheduler else Pool.local(arguments.workers)


def output_paths(given: Path, inputs: list[Path], output: Path, ending: str = ".tif") -> list[Path]:
    """Return where the labels of each input go; in a folder, each gets a name with this ending.

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
    return [output / f"{stores.stem(path)}{ending}" for path in inputs]


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
    progress: TerminalProgress
    stop: Interrupt
    pool: Pool | None = None
    sparse: bool = False
    many: bool = False
    noted: Counter[str] = field(default_factory=Counter)
    """Of how many images each note was to be told."""

    def run(self, jobs: list[tuple[Path, Path]]) -> int:
        """Segment all that is not there yet, and return the exit code."""
        failed, begin = 0, time.monotonic()
        there = self.finished(jobs) if self.many and not self.overwrite else set()
        for number, (source, output) in enumerate(jobs):
            if output in there:
                print(f"{output}: there already, made from the same", flush=True)
                continue
            try:
                said = self.one(source, output, _Share(number, len(jobs), begin))
            except UNetError as error:
                if len(jobs) == 1:
                    raise
                failed += 1
                self.progress.say(f"{COMMAND}: error: {source.name}: {' '.join(str(error).split())}")
                continue
            if said is None:
                self._tell_repeated()
                self.progress.say(f"stopped; {number - failed} of {len(jobs)} images are written")
                return STOPPED
            print(said, flush=True)
        self._tell_repeated()
        if failed:
            self.progress.say(f"{COMMAND}: error: {failed} of {len(jobs)} images could not be segmented, see above")
        return FAILED if failed else 0

    def finished(self, jobs: list[tuple[Path, Path]]) -> set[Path]:
        """Return the outputs that an earlier run of the very same has finished; raise for others that are there."""
        there = {output: source for source, output in jobs if output.exists()}
        for output, source in there.items():
            # Settings and the like as they are once they were written.
            same = json.loads(json.dumps(self._job(source, self._opened(source)[1])))
            if made_from(output) != same:
                stores.check_output(output, False, source)
        return set(there)

    def _opened(self, source: Path) -> tuple[stores.Picture, Planes]:
        """Return an image, and its planes as the model takes them."""
        picture = stores.open_picture(source, self.axes, complete=not self.sparse)
        planes = picture.planes
        if planes.rgb and planes.channels != self.model.card.channels:
            planes = planes.as_grey()
        return picture, planes

    def one(self, source: Path, output: Path, share: _Share) -> str | None:
        """Segment one image; return what to say, or None when it was stopped."""
        picture, planes = self._opened(source)
        axes, dtype, objects = planes.plane_axes + "yx", _DTYPES[self.settings.what], 0
        wanted = choose_planes(self.planes, planes)
        job = self._job(source, planes)
        # Only a result that is replaced has any.
        marks = marks_before(output) if self.settings.what == "instances" else {}
        with stores.resumable_labels(
            output, planes.shape, axes, dtype, job, overwrite=self.overwrite, spacing=picture.spacing
        ) as out:
            if out.resumed:
                self.progress.say(f"note: {source.name}: going on where an earlier run ended")
            for event in self._events(source, planes, out, wanted):
                if isinstance(event, Stopped):
                    if out.lasting:
                        self.progress.say("what is done is kept; the same command goes on from here")
                    return None
                if isinstance(event, Finished):
                    objects = int(event.metrics.get("objects", 0))
                self._show(event, source, share, len(wanted))
            restored = self._restore(out, marks, source) if marks else {}
            out.save()
        if restored:
            write_marks(output, restored)
        self._write_job(source, output, wanted, job)
        return f"{output}: {' x '.join(map(str, planes.shape))}{self._counted(objects, len(wanted))}"

    def _restore(self, out: stores.LabelOutput | stores.UnfinishedLabels, marks: Marks, source: Path) -> Marks:
        """Put cells that were checked in the result before back; return their marks, none where that is impossible."""
        try:
            found = restore_in(out, marks)
        except DataError as error:
            self.progress.say(f"note: {source.name}: cells that were checked before are not put back: {error}")
            return {}
        self.progress.say(f"note: {source.name}: {found.count} cells that were checked before are as they were")
        return found.marks

    def _events(
        self,
        source: Path,
        planes: Planes,
        out: stores.LabelOutput | stores.UnfinishedLabels,
        wanted: list[tuple[int, ...]],
    ) -> Iterator[PredictionEvent]:
        """Segment planes here or by several workers, and yield what is told of it."""
        if self.pool is None or not isinstance(out, stores.UnfinishedLabels):
            from ..core.inference.predict import predict

            return predict(
                self.model, planes, out.array, settings=self.settings, stop=self.stop, planes=wanted, work=out.work
            )
        from ..cluster import driver

        job = driver.ClusterJob(self.pool, self.model, self.name, source, self.axes, planes, out, self.settings)
        return driver.predict(job, planes=wanted, stop=self.stop)

    def _job(self, source: Path, planes: Planes) -> dict[str, Any]:
        """Return what makes a result what it is; only with the same an unfinished one is gone on with."""
        from ..core.network.provenance import made_with

        return made_with(planes, self.model, self.settings, input=stores.state_of(source), planes=self.planes)

    def _write_job(self, source: Path, output: Path, wanted: list[tuple[int, ...]], job: dict[str, Any]) -> None:
        """Write beside a result how it was made, and what it is known again by."""
        source, output, only = source.absolute(), output.absolute(), wanted if self.planes else None
        command = segment_command(
            source,
            output,
            self.name,
            self.settings,
            axes=self.axes or "",
            planes=only,
            chosen=self.model.card.prediction,
            sparse=self.sparse,
        )
        about = segment_job(command, str(source), self.name, self.settings, only, source.name, self.sparse)
        write_job({**about, "made_from": job}, output)

    def _counted(self, objects: int, planes: int) -> str:
        """Return how many cells were found; one that is in several planes counts in each."""
        if self.settings.what != "instances":
            return ""
        return f", {objects} cells" + (f" in {planes} planes, counted plane by plane" if planes > 1 else "")

    def _note(self, source: Path, text: str) -> None:
        """Tell what there is to know of an image; the same of further images is told once, at the end."""
        self.noted[text] += 1
        if self.noted[text] == 1:
            self.progress.say(f"note: {source.name}: {text}")

    def _tell_repeated(self) -> None:
        """Tell of how many images a note holds that was told of the first of them alone."""
        for text, count in self.noted.items():
            if count > 1:
                self.progress.say(f"note: the same of {count - 1} more: {text}")

    def _show(self, event: PredictionEvent, source: Path, share: _Share, planes: int) -> None:
        """Show one event of a prediction as a part of the whole batch."""
        if isinstance(event, Started):
            for note in event.notes:
                self._note(source, note)
        elif isinstance(event, Fallback):
            self._note(source, event.message)
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
