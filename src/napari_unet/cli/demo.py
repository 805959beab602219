"""``napari-unet demo``: the whole loop on one machine in a minute."""

from __future__ import annotations

import argparse
from pathlib import Path

from .. import demo as loop
from ..core.errors import SettingsError, StoreError
from ..core.events import Event, Fallback, PlaneDone
from ..core.network.model_card import BUNDLED
from ..core.settings import TrainingSettings, with_values
from . import STOPPED
from .parser import chosen
from .progress import Interrupt, TerminalProgress
from .train import show_training

_SHOWN = (("AP at IoU 0.5", "ap_0.50"), ("F1 at IoU 0.5", "f1_0.50"), ("SEG", "seg"))


def demo(arguments: argparse.Namespace) -> int:
    """Run the demo, print the scores, and open napari where there is a display."""
    if bool(arguments.images) != bool(arguments.labels):
        raise SettingsError("Give --images and --labels together, or neither of them.")
    settings = with_values(TrainingSettings(), chosen(arguments, ("seconds", "seed")))
    _check_folder(arguments.output, arguments.overwrite)
    with TerminalProgress() as progress, Interrupt(progress.say) as stop:
        progress.show(0, "loading")
        result = loop.run_demo(
            arguments.output,
            images=arguments.images,
            labels=arguments.labels,
            axes=arguments.axes,
            settings=settings,
            start=BUNDLED,
            stop=stop,
            listen=lambda job, event: _show(job, event, settings, progress),
        )
    print_result(result)
    if result.stopped:
        return STOPPED
    if not arguments.no_viewer:
        _open_viewer(arguments.output)
    return 0


def _check_folder(folder: Path, overwrite: bool) -> None:
    """Raise if the folder holds anything but an earlier demo that may be replaced."""
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"{folder} is a file; give a folder.")
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not overwrite:
        raise StoreError(
            f"{folder} is not empty; choose another --output, or give --overwrite to replace an earlier demo."
        )
    if not (folder / "painted.tif").exists():
        raise StoreError(f"{folder} holds files that are not from an earlier demo; choose another --output.")


def _show(job: str, event: Event, settings: TrainingSettings, progress: TerminalProgress) -> None:
    """Show one event of the demo."""
    if job == "train":
        show_training(event, settings, progress)  # type: ignore[arg-type]
    elif isinstance(event, PlaneDone):
        progress.show(event.done / event.total, f"segmenting {job} training", event.remaining)
    elif isinstance(event, Fallback):
        progress.say(f"note: {event.message}")


def print_result(result: loop.DemoResult) -> None:
    """Print the scores before and after, and where everything lies."""
    print(f"painted {result.painted_cells} cells on {result.trained_on}; {len(result.steps)} training steps")
    print(f"scores on the {len(result.unseen())} planes that were not trained on:")
    print(f"{'':<16}{'before':>8}{'after':>8}")
    for words, name in _SHOWN:
        print(f"{words:<16}{result.before[name]:>8.3f}{result.after[name]:>8.3f}")
    print(f"labels, model, overlay.png, learning_curve.png and scores.json are in {result.folder}")


def _open_viewer(folder: Path) -> None:
    """Open napari, or print why it cannot be opened."""
    reason = loop.missing()
    if reason:
        print(f"napari is not opened: {reason}")
        return
    print("opening napari with the layers; this command ends when its window is closed", flush=True)
    if loop.open_viewer(folder):
        print("napari could not be opened here; the results are complete all the same")
