"""A real napari viewer on a real (or virtual) screen, and a clock that notices when it stalls."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import painted
from napari_unet.core.distribution import PLUGIN
from reporting import ROOT, CannotMeasure, say

TRAIN, SEGMENT = "Annotate and train", "Segment"
SIZE = (1280, 800)
TICK = 0.010
"""Seconds between two ticks of a viewer that is never held up."""


def need_display() -> None:
    """Start this program again with a display where there is none."""
    known = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"))
    if not known and sys.platform.startswith("linux"):
        os.execv(sys.executable, [sys.executable, str(ROOT / ".ci" / "with_display.py"), sys.executable, *sys.argv])


@contextlib.contextmanager
def own_home(model: str) -> Iterator[str]:
    """Keep the user's runs, models and napari settings out of it; yield the path of the model for the docks."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "unet"
        os.environ["NAPARI_UNET_HOME"] = str(home)
        os.environ["NAPARI_CONFIG"] = str(Path(folder) / "napari.yaml")
        if model != "bundled" and os.path.exists(model):
            place = home / "models" / ("benchmark" + Path(model).suffix)
            place.parent.mkdir(parents=True)
            (shutil.copytree if Path(model).is_dir() else shutil.copyfile)(model, place)
            model = str(place)
        yield model


def in_fresh_process(script: str, *options: str, timeout: float = 300) -> dict[str, Any]:
    """Return the JSON that a script prints as its last line when it is run by itself, within so many seconds.

    Raises
    ------
    CannotMeasure
        When it fails.
    """
    command = [sys.executable, script, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout)
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise CannotMeasure(f"{Path(script).name} {' '.join(options)} ended with {done.returncode}: {last}")
    found: dict[str, Any] = json.loads(lines[-1])
    return found


@dataclass(frozen=True)
class Gaps:
    """Gaps between ticks: when each began, in seconds since the click, and how long it was."""

    since: NDArray[np.float64]
    seconds: NDArray[np.float64]

    def without(self, moments: list[float]) -> Gaps:
        """Return the gaps in which none of these moments (in seconds since the click) lies."""
        ends = self.since + self.seconds
        hit = [any(a <= m <= b for m in moments) for a, b in zip(self.since, ends, strict=True)]
        return Gaps(self.since[~np.array(hit, bool)], self.seconds[~np.array(hit, bool)])

    def longest(self, count: int) -> list[str]:
        """Return the longest gaps as text, in ms, each with when it began."""
        order = np.argsort(self.seconds)[::-1][:count]
        return [f"{1000 * self.seconds[i]:.0f} at {self.since[i]:.1f} s" for i in order]


class Clock:
    """Notes the times of a 10 ms Qt timer in the main thread: a long gap is a viewer that does not answer."""

    def __init__(self) -> None:
        from qtpy.QtCore import Qt, QTimer

        self.times: list[float] = []
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.setInterval(round(1000 * TICK))
        self._timer.timeout.connect(lambda: self.times.append(time.perf_counter()))
        self._timer.start()

    def gaps(self, begin: float, end: float) -> Gaps:
        """Return the gaps from the last tick before ``begin`` to the first one after ``end``."""
        times = np.asarray(self.times)
        first = max(0, int(np.searchsorted(times, begin, "right")) - 1)
        last = min(len(times), int(np.searchsorted(times, end)) + 1)
        return Gaps(times[first : last - 1] - begin, np.diff(times[first:last]))

    def stop(self) -> None:
        """Tick no more."""
        self._timer.stop()


class Watcher:
    """Says where the main thread is whenever the clock has not ticked for a while; for finding out why.

    Looking costs a little, so the figures are taken without it.
    """

    def __init__(self, clock: Clock, longer_than: float = 0.08) -> None:
        self._clock, self._limit = clock, longer_than
        self._main = threading.get_ident()
        self._on = threading.Event()

    def __enter__(self) -> Watcher:
        self._on.set()
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._on.clear()

    def _watch(self) -> None:
        while self._on.is_set():
            time.sleep(0.02)
            late = time.perf_counter() - self._clock.times[-1] if self._clock.times else 0.0
            if late > self._limit:
                frames = traceback.extract_stack(sys._current_frames().get(self._main))[3:]
                say(f"{1000 * late:.0f} ms: " + " > ".join(f"{Path(f.filename).stem}.{f.name}" for f in frames[:20]))


class Stage:
    """A viewer, and the means to wait in Qt's own event loop, as a user's viewer does."""

    def __init__(self) -> None:
        import napari
        from qtpy.QtWidgets import QApplication

        self.viewer = napari.Viewer(show=True)
        window = self.viewer.window._qt_window
        window.resize(*SIZE)
        window.move(0, 0)
        self.app = QApplication.instance()
        self.added: list[float] = []
        self.viewer.layers.events.inserting.connect(lambda _: self.added.append(time.perf_counter()))

    def wait(self, seconds: float) -> None:
        """Let the viewer run."""
        from qtpy.QtCore import QEventLoop, QTimer

        loop = QEventLoop()
        QTimer.singleShot(round(1000 * seconds), loop.quit)
        loop.exec()

    def wait_until(self, arrived: Callable[[], bool], what: str, timeout: float = 240.0, every: float = 0.02) -> float:
        """Let the viewer run until something is so; return the time at which it was seen.

        Raises
        ------
        CannotMeasure
            When it does not come.
        """
        end = time.perf_counter() + timeout
        while not arrived():
            if time.perf_counter() > end:
                raise CannotMeasure(f"waited {timeout:.0f} s in vain for {what}.")
            self.wait(every)
        return time.perf_counter()

    def dock(self, name: str) -> Any:
        """Open a dock of the plugin as its menu does; return its widget."""
        return self.viewer.window.add_plugin_dock_widget(PLUGIN, name)[1]

    def wait_for_engine(self) -> None:
        """Wait until the backend has loaded torch."""
        from napari_unet.plugin.runtime.engine import Engine

        engine = Engine.shared()
        self.wait_until(lambda: engine.state in ("ready", "dead"), "the backend")
        if engine.state == "dead":
            raise CannotMeasure(f"the backend has died: {engine.reason}")

    def annotate(self, view: Any, truth: NDArray[Any], cells: int = 20) -> None:
        """Make a new annotation with the dock, and paint on it."""
        view.new_button.click()
        view.annotation.layer().data = painted(truth, cells)

    def close(self) -> None:
        """Close the viewer, and the backend with it."""
        from napari_unet.plugin.runtime.engine import Engine

        Engine.shared().close()
        self.wait(0.5)
        self.viewer.close()
        self.wait(0.2)
        say("viewer closed")


def check_no_error(view: Any) -> None:
    """Raise :class:`CannotMeasure` when a dock shows an error."""
    errors = [text for kind, text in view.messages.lines() if kind == "error"]
    if errors:
        raise CannotMeasure(f"the dock says: {' '.join(errors)}")


def start_from(view: Any, model: str) -> None:
    """Choose the model that a training starts from.

    Raises
    ------
    CannotMeasure
        When the dock does not offer it.
    """
    view.start.choose(model)
    if view.start.currentData() != model:
        raise CannotMeasure(f"the dock does not offer {model} to start from.")
