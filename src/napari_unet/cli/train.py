"""``napari-unet train``: labelled images to a model."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import stores
from ..core.data.annotation import AnnotatedImage
from ..core.errors import SettingsError, UNetError
from ..core.events import Fallback, Finished, Started, StepDone, Stopped, TrainingEvent, Validated
from ..core.network.model_card import check_place
from ..core.settings import NetworkSettings, TrainingSettings, with_values
from . import STOPPED
from .parser import SCRATCH, check_names, chosen
from .progress import Interrupt, TerminalProgress

if TYPE_CHECKING:
    from ..core.network.model_io import Model

_NAMED = ("seconds", "steps", "unpainted", "background_label", "seed")


def train(arguments: argparse.Namespace) -> int:
    """Train a model and write it.

    Returns
    -------
    int
        0 if the training finished; 130 if it was stopped, with the best model so far written.
    """
    settings, network = choose_settings(chosen(arguments, _NAMED), arguments.start == SCRATCH)
    output = arguments.output
    check_place(output)
    stores.check_output(output, arguments.overwrite, arguments.images, arguments.labels)
    images = _images(arguments, settings.unpainted == "background")
    with work_folder(output) as folder, TerminalProgress() as progress:
        finished, stopped = _run(images, settings, network, arguments, folder, progress)
        from ..core.network.model_io import save_model

        save_model(finished.model, output)
    _report(finished, output)
    endless = not (settings.seconds or settings.steps)
    return STOPPED if stopped and not endless else 0


def _images(arguments: argparse.Namespace, empty: bool) -> list[AnnotatedImage]:
    """Return the annotated planes with their complete regions; with ``empty`` also planes without paint."""
    boxed = arguments.regions is not None
    images = stores.annotated_images(arguments.images, arguments.labels, axes=arguments.axes, empty=empty or boxed)
    return stores.with_regions(images, arguments.regions, empty=empty) if boxed else images


def choose_settings(values: dict[str, Any], scratch: bool) -> tuple[TrainingSettings, NetworkSettings]:
    """Return training and network settings from the given values.

    Steps without a time limit the training by steps alone; neither means until stopped. Label files are usually
    complete masks, so unpainted means background, unless a background label is given.

    Raises
    ------
    SettingsError
        For unknown names, invalid values, and network settings without a new network.
    """
    names = {f.name for f in fields(NetworkSettings)}
    of_network = {n: v for n, v in values.items() if n in names}
    if of_network and not scratch:
        raise SettingsError(
            f"{', '.join(of_network)} belongs to a new network; give --start {SCRATCH}, or leave it out to keep what "
            "the model has."
        )
    of_training = {n: v for n, v in values.items() if n not in names}
    if of_training.get("steps") not in (None, "0", 0):
        of_training.setdefault("seconds", 0.0)
    painted = of_training.get("background_label") not in (None, "0", 0)
    of_training.setdefault("unpainted", "unknown" if painted else "background")
    check_names(of_training, TrainingSettings, NetworkSettings)
    return with_values(TrainingSettings(), of_training), with_values(NetworkSettings(), of_network)


@contextmanager
def work_folder(output: Path) -> Iterator[Path]:
    """Make a folder beside the model for checkpoints, and remove it when the model is written.

    If the training fails, the last checkpoint stays and the error says where.
    """
    with stores.writing(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        folder = stores.temporary(output.with_name(output.name + ".run"))
        folder.mkdir()
    try:
        yield folder
    except UNetError as error:
        if not (folder / "model").exists():
            stores.remove(folder)
            raise
        raise type(error)(f"{error} The model so far is in {folder / 'model'}.") from error
    except BaseException:
        stores.remove(folder)
        raise
    stores.remove(folder)


def start_model(start: str) -> Model | None:
    """Return the start model; None for a new network."""
    from ..core.network.model_io import load_model

    return None if start == SCRATCH else load_model(start)


def _run(
    images: list[AnnotatedImage],
    settings: TrainingSettings,
    network: NetworkSettings,
    arguments: argparse.Namespace,
    folder: Path,
    progress: TerminalProgress,
) -> tuple[Finished, bool]:
    """Train, and return the last event and whether the user stopped it."""
    progress.show(0, "loading")
    from ..core.training.loop import train as run
    from ..core.training.plan import resolve

    name = stores.stem(arguments.output).removesuffix(".zip")
    plan = resolve(
        images,
        settings,
        start=start_model(arguments.start),
        network=network,
        name=name,
        folder=folder,
        resume=arguments.resume,
    )
    with Interrupt(progress.say) as stop:
        for event in run(plan, stop=stop):
            show_training(event, settings, progress)
            if isinstance(event, Finished):
                return event, stop()
    raise UNetError("The training ended without a model.")


def show_training(event: TrainingEvent, settings: TrainingSettings, progress: TerminalProgress) -> None:
    """Show one event of a training."""
    if isinstance(event, Started):
        progress.say(f"training on {event.device}, {event.precision}")
        for note in event.notes:
            progress.say(f"note: {note}")
    elif isinstance(event, StepDone):
        by_time = event.elapsed / settings.seconds if settings.seconds else 0.0
        by_steps = event.step / settings.steps if settings.steps else 0.0
        progress.show(max(by_time, by_steps), f"step {event.step}, loss {event.loss:.3f}", event.remaining)
    elif isinstance(event, Validated):
        best = ", kept so far" if event.best else ""
        progress.say(f"step {event.step}: validation IoU {event.iou:.3f}, F1 {event.f1:.3f}{best}")
    elif isinstance(event, Fallback):
        progress.say(f"note: {event.message}")
    elif isinstance(event, Stopped):
        progress.say(event.reason)


def _report(finished: Finished, output: Path) -> None:
    """Print a summary."""
    names = {"iou": "IoU", "f1": "F1", "loss": "loss"}
    scores = ", ".join(f"{names.get(k, k)} {v:.3f}" for k, v in finished.metrics.items())
    print(f"{finished.step} steps in {finished.elapsed:.0f} s, kept is step {finished.best_step}")
    print(f"validation: {scores or 'no cells were held out'}")
    print(f"model: {output}")
    sys.stdout.flush()
