"""What Continue goes on with and Discard goes back to: known as long as the viewer, whatever becomes of the dock."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...core.errors import UNetError
from ...records.runs import read_job
from ..widgets.common import to_clipboard


@dataclass(frozen=True)
class Before:
    """What there was before a training: the model just trained, and the run to go on with."""

    model: str
    run: Path | None


@dataclass
class Rounds:
    """The trainings of a viewer, one after the other.

    Attributes
    ----------
    run : Path or None
        The folder of the last one that gave a model.
    before : list of Before
        What there was before each, the last one last.
    """

    run: Path | None = None
    before: list[Before] = field(default_factory=list)

    def begin(self, model: str) -> None:
        """Note that a training begins, while ``model`` is the one just trained."""
        self.before.append(Before(model, self.run))

    def take_back(self) -> Before | None:
        """Go back to what there was before the last training, and return it; None when there was none."""
        if not self.before:
            return None
        last = self.before.pop()
        self.run = last.run
        return last

    def can_go_on(self) -> bool:
        """Return whether there is a training to go on with, and its folder is still there."""
        return bool(self.before) and self.run is not None and self.run.is_dir()


_KNOWN: weakref.WeakKeyDictionary[Any, Rounds] = weakref.WeakKeyDictionary()


def rounds_of(viewer: Any) -> Rounds:
    """Return the trainings of a viewer, which is held weakly."""
    return _KNOWN.setdefault(viewer, Rounds())


def copy_training(folder: Path, say: Callable[[str, str], None]) -> None:
    """Put the command line that repeats a training into the clipboard.

    Parameters
    ----------
    folder : Path
        Of the training, in which its pictures and labels lie.
    say : callable
        Tells the user something: words and kind.
    """
    try:
        job = read_job(folder)
    except UNetError as error:
        say(str(error), "error")
        return
    to_clipboard(job["command"])
    say("The command is in the clipboard; it trains on what was painted for this training.", "done")
