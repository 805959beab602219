"""Make the pictures of README and tutorial from the running program: ``tox -e screenshots``.

Everything is real: napari with its docks, the sample picture, a training and a segmentation. Only the
painting is done by the sample's own truth instead of a hand.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet.core.distribution import PLUGIN

SIZE = (1280, 800)
CELLS = 12
SECONDS_TO_WAIT = 240.0


def painted(truth: NDArray[Any], first_cell: int, background: int, cells: int = CELLS) -> NDArray[Any]:
    """Return what somebody paints in a minute: some whole cells side by side and strokes of background."""
    height, width = truth.shape
    ys, xs = np.nonzero(truth)
    near = np.hypot(ys - 0.45 * height, xs - 0.45 * width)
    order = dict.fromkeys(truth[ys, xs][np.argsort(near)].tolist())
    chosen = list(order)[:cells]
    labels = np.zeros_like(truth)
    for number, cell in enumerate(chosen):
        labels[truth == cell] = first_cell + number
    for row in np.linspace(0.3, 0.62, 5) * height:
        stroke = np.zeros(truth.shape, bool)
        stroke[int(row) : int(row) + 7, int(0.25 * width) : int(0.68 * width)] = True
        labels[stroke & (truth == 0)] = background
    return labels


class Stage:
    """A viewer with the means to wait and to take pictures.

    Parameters
    ----------
    folder : Path
        Where the pictures go.
    """

    def __init__(self, folder: Path) -> None:
        import napari
        from qtpy.QtWidgets import QApplication

        self.folder = folder
        self.viewer = napari.Viewer(show=True)
        self.window = self.viewer.window._qt_window
        self.window.resize(*SIZE)
        self.window.move(0, 0)
        self.app = QApplication.instance()

    def wait(self, seconds: float) -> None:
        """Let the program run."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.app.processEvents()
            time.sleep(0.01)

    def wait_until(self, arrived: Callable[[], bool], what: str) -> None:
        """Let the program run until something is so."""
        end = time.monotonic() + SECONDS_TO_WAIT
        while not arrived():
            if time.monotonic() > end:
                raise TimeoutError(f"waited {SECONDS_TO_WAIT:.0f} s in vain for {what}")
            self.wait(0.05)

    def picture(self, name: str) -> None:
        """Save what the window shows."""
        # The plugin adds layers while the window is not painted; on a busy computer that takes longer than the rest.
        self.wait_until(self.window.updatesEnabled, "the window to be painted")
        self.wait(0.7)
        self.window.grab().save(str(self.folder / name))

    def dock(self, name: str) -> Any:
        """Open a dock of the plugin as the menu does; return its widget."""
        dock, widget = self.viewer.window.add_plugin_dock_widget(PLUGIN, name)
        self.wait(0.5)
        return widget


class Loop:
    """The loop of the plugin, picture by picture; each part goes on where the one before has ended.

    Parameters
    ----------
    stage : Stage
        The viewer.
    start : str
        The model to begin with.
    seconds : float
        Time of the training.
    """

    def __init__(self, stage: Stage, start: str, seconds: float) -> None:
        from napari_unet.core.synthetic import generate

        self.stage, self.viewer = stage, stage.viewer
        self.start, self.seconds = start, seconds
        _, self.truth = generate("nuclei", (512, 512), seed=3)
        self.dock = stage.dock("Annotate and train")
        self.train = self.dock.view

    def annotate(self) -> None:
        """Open the sample and paint on it."""
        train = self.train
        self.stage.picture("first-steps.png")
        train.first_steps.buttons["nuclei"].click()
        self.stage.wait_until(lambda: len(self.viewer.layers) > 0, "the sample")
        train.new_button.click()
        layer = train.annotation.layer()
        layer.data = painted(self.truth, first_cell=2, background=1).astype(layer.data.dtype)
        self.dock.controller.annotating.touch()
        train.tabs.setCurrentWidget(train.takes_part)
        self.stage.picture("annotate.png")

    def prefer(self) -> None:
        """Open the preferences, as they are where no environment variable has a say in them."""
        from napari_unet.plugin.dock.preferences_dialog import open_preferences

        home = os.environ.pop("NAPARI_UNET_HOME")
        dialog = open_preferences(self.stage.window)
        os.environ["NAPARI_UNET_HOME"] = home
        self.stage.wait(0.5)
        dialog.grab().save(str(self.stage.folder / "preferences.png"))
        dialog.reject()

    def check(self) -> None:
        """Check labels with three slips of the brush in them, and mend these."""
        train, layer = self.train, self.train.annotation.layer()
        clean = layer.data.copy()
        layer.data = with_slips(clean)
        train.tabs.setCurrentWidget(train.check)
        train.check.check_button.click()
        self.stage.wait_until(lambda: train.check.list.count() > 3, "the findings")
        train.check.list.setCurrentRow(0)
        self.stage.picture("check-labels.png")
        layer.data = clean
        self.viewer.reset_view()
        train.tabs.setCurrentIndex(0)

    def learn(self) -> None:
        """Train, and look where to annotate next."""
        train, stage = self.train, self.stage
        train.start.choose(self.start)
        train.simple.show_values({**train.simple.values(), "seconds": self.seconds})
        train.train_button.click()
        stage.wait(1)
        stage.wait_until(lambda: has_preview(self.viewer) or not train._busy, "a preview")
        stage.wait(0.6 * self.seconds)
        stage.picture("training.png")
        stage.wait_until(lambda: not train._busy, "the end of the training")
        train.tabs.setCurrentWidget(train.where_next)
        train.where_next.button.click()
        stage.wait_until(lambda: self.dock.controller.suggesting.suggestions, "places to annotate next")
        self.dock.controller.suggesting.next()
        stage.picture("where-next.png")

    def segment(self) -> None:
        """Segment the picture."""
        for shown in list(self.viewer.layers)[1:]:
            shown.visible = False
        self.viewer.window.remove_dock_widget("all")
        self.viewer.reset_view()
        segment = self.stage.dock("Segment").view
        segment.run_button.click()
        self.stage.wait(1)
        self.stage.wait_until(lambda: not segment._busy, "the segmentation")
        self.stage.picture("segmented.png")

    def proofread(self) -> None:
        """Accept, correct and delete a few cells, and draw a line across the next one."""
        dock = self.stage.dock("Proofread")
        controller = dock.controller
        self.stage.wait_until(lambda: controller.session is not None, "the result to be chosen")
        near = np.array(self.truth.shape) / 2
        cells = controller.session.cells(controller.session.plane())
        order = cells.ids[np.hypot(*(cells.middles() - near).T).argsort()].tolist()
        keys = ("accept", "accept", "grow", "accept", "split", "delete", "accept", "accept")
        for cell, key in zip(order[1:9], keys, strict=True):
            controller.session.choose(controller.session.plane(), cell)
            controller.act(key)
        controller.session.choose(controller.session.plane(), order[0])
        controller.act("line")
        y0, y1, x0, x1 = controller.session.proof.places.box(controller.session.plane(), order[0])
        controller.on_drag([(round(y0 - 4 + t * (y1 - y0 + 8)), round(x0 + (x1 - x0) * (0.4 + 0.2 * t)))
                            for t in np.linspace(0, 1, 12)])  # fmt: skip
        self.viewer.scene.camera.zoom *= 2.2
        self.stage.picture("proofread.png")
        controller.act("leave")


def with_slips(labels: NDArray[Any]) -> NDArray[Any]:
    """Return labels as they are after three slips: two cells under one label, a speck, a hole."""
    out = labels.copy()
    first, second, third = [int(cell) for cell in np.unique(labels) if cell > 1][:3]
    out[out == second] = first
    y, x = (int(n) for n in np.argwhere(labels == third).mean(axis=0))
    out[y - 1 : y + 2, x - 1 : x + 2] = 0
    free = np.argwhere(labels == 0)
    y, x = free[len(free) // 2]
    out[y : y + 2, x : x + 2] = int(labels.max()) + 1
    return out


PARTS = ("annotate", "prefer", "check", "learn", "segment", "proofread")


def shoot(folder: Path, start: str, seconds: float, parts: tuple[str, ...] = PARTS) -> None:
    """Go through the loop, or through some parts of it, and take the pictures."""
    stage = Stage(folder)
    loop = Loop(stage, start, seconds)
    for part in PARTS:
        if part in parts:
            getattr(loop, part)()
    stage.viewer.close()


def has_preview(viewer: Any) -> bool:
    """Return whether the live preview shows something."""
    from napari_unet.plugin.layers.preview import shows_answer

    return any(shows_answer(layer) for layer in viewer.layers)


def main() -> None:
    """Parse the command line and take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent / "images")
    parser.add_argument("--start", default="bundled", help="bundled, scratch or the folder of a model")
    parser.add_argument("--seconds", type=float, default=40.0, help="time of the training")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="parts of the loop; all by default")
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home:
        # The user's own runs, models and preferences have no business in a picture.
        os.environ |= {"NAPARI_UNET_HOME": home, "NAPARI_CONFIG": str(Path(home) / "settings.yaml")}
        shoot(chosen.folder, chosen.start, chosen.seconds, tuple(chosen.parts))


if __name__ == "__main__":
    main()
