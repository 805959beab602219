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
"""Share of a plane's work done with its last tile; the rest is separating its cells."""
FILE_ENDINGS = (".tif", ".tiff", ".png", ".zarr")


def segment(arguments: argparse.Namespace) -> int:
    """Segment one image or a folder of them.

    In a folder, images that fail are reported and the others continue.

    Returns
    -------
    int
        0 if every image was segmented, 1 if some failed, 130 if stopped.
    """
    inputs = stores.list_pictures(arguments.input)
    shared = bool(arguments.scheduler) or arguments.workers is not None
    outputs = output_paths(arguments.input, inputs, arguments.output, ".zarr" if shared else ".tif")
    many = arguments.input.is_dir() and inputs != [arguments.input]
    for output in outputs:
        # In a folder, a result of an earlier run is compared with this job once the model is known.
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
            progress.say("stopped before the first image")
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
    """Return the workers that the options name."""
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
    """Return the given settings, over those of the model card, over the defaults."""
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
    """Number of images that each note applies to."""

    def run(self, jobs: list[tuple[Path, Path]]) -> int:
        """Segment the images without a result, and return the exit code."""
        failed, begin = 0, time.monotonic()
        there = self.finished(jobs) if self.many and not self.overwrite else set()
        for number, (source, output) in enumerate(jobs):
            if output in there:
                print(f"{output}: exists already, from the same job", flush=True)
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
        """Return the outputs that an earlier run of the same job has finished; raise for other existing ones."""
        there = {output: source for source, output in jobs if output.exists()}
        for output, source in there.items():
            # As they are after a round trip through JSON.
            same = json.loads(json.dumps(self._job(source, self._opened(source)[1])))
            if made_from(output) != same:
                stores.check_output(output, False, source)
        return set(there)

    def _opened(self, source: Path) -> tuple[stores.Picture, Planes]:
        """Return an image, and its planes with the channels that the model expects."""
        picture = stores.open_picture(source, self.axes, complete=not self.sparse)
        planes = picture.planes
        if planes.rgb and planes.channels != self.model.card.channels:
            planes = planes.as_grey()
        return picture, planes

    def one(self, source: Path, output: Path, share: _Share) -> str | None:
        """Segment one image; return a line to print, or None if stopped."""
        picture, planes = self._opened(source)
        axes, dtype, objects = planes.plane_axes + "yx", _DTYPES[self.settings.what], 0
        wanted = choose_planes(self.planes, planes)
        job = self._job(source, planes)
        # Only a replaced result has marks.
        marks = marks_before(output) if self.settings.what == "instances" else {}
        with stores.resumable_labels(
            output, planes.shape, axes, dtype, job, overwrite=self.overwrite, spacing=picture.spacing
        ) as out:
            if out.resumed:
                self.progress.say(f"note: {source.name}: resuming an earlier run")
            for event in self._events(source, planes, out, wanted):
                if isinstance(event, Stopped):
                    if out.lasting:
                        self.progress.say("finished chunks are kept; run the same command to resume")
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
        """Restore the reviewed cells of the replaced result; return their marks, or none where that is impossible."""
        try:
            found = restore_in(out, marks)
        except DataError as error:
            self.progress.say(f"note: {source.name}: reviewed cells could not be kept: {error}")
            return {}
        self.progress.say(f"note: {source.name}: {found.count} reviewed cells were kept")
        return found.marks

    def _events(
        self,
        source: Path,
        planes: Planes,
        out: stores.LabelOutput | stores.UnfinishedLabels,
        wanted: list[tuple[int, ...]],
    ) -> Iterator[PredictionEvent]:
        """Segment planes in this process or by several workers, and yield the events."""
        if self.pool is None or not isinstance(out, stores.UnfinishedLabels):
            from ..core.inference.predict import predict

            return predict(
                self.model, planes, out.array, settings=self.settings, stop=self.stop, planes=wanted, work=out.work
            )
        from ..cluster import driver

        job = driver.ClusterJob(self.pool, self.model, self.name, source, self.axes, planes, out, self.settings)
        return driver.predict(job, planes=wanted, stop=self.stop)

    def _job(self, source: Path, planes: Planes) -> dict[str, Any]:
        """Return everything that the result depends on; a run resumes only if it is equal."""
        from ..core.network.provenance import made_with

        return made_with(planes, self.model, self.settings, input=stores.state_of(source), planes=self.planes)

    def _write_job(self, source: Path, output: Path, wanted: list[tuple[int, ...]], job: dict[str, Any]) -> None:
        """Write the job that made a result beside it."""
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
        """Return the number of cells in words; a cell in several planes counts in each."""
        if self.settings.what != "instances":
            return ""
        return f", {objects} cells" + (f" in {planes} planes, counted plane by plane" if planes > 1 else "")

    def _note(self, source: Path, text: str) -> None:
        """Print a note on an image; equal notes on further images are counted and printed at the end."""
        self.noted[text] += 1
        if self.noted[text] == 1:
            self.progress.say(f"note: {source.name}: {text}")

    def _tell_repeated(self) -> None:
        """Print how many more images each note applies to."""
        for text, count in self.noted.items():
            if count > 1:
                self.progress.say(f"note: {count - 1} more: {text}")

    def _show(self, event: PredictionEvent, source: Path, share: _Share, planes: int) -> None:
        """Show one event as progress of the whole batch."""
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
    """Progress of one image in a batch.

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
