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
        self.wait(0.7)
        self.window.grab().save(str(self.folder / name))

    def dock(self, name: str) -> Any:
        """Open a dock of the plugin as the menu does; return its widget."""
        dock, widget = self.viewer.window.add_plugin_dock_widget("napari-unet", name)
        self.wait(0.5)
        return widget


def shoot(folder: Path, start: str, seconds: float) -> None:
    """Go through the loop and take the pictures."""
    from napari_unet.core.synthetic import generate

    stage = Stage(folder)
    viewer = stage.viewer
    _, truth = generate("nuclei", (512, 512), seed=3)
    dock = stage.dock("Annotate and train")
    train = dock.view
    stage.picture("first-steps.png")
    train.first_steps.buttons["nuclei"].click()
    train.new_button.click()
    layer = train.annotation.layer()
    layer.data = painted(truth, first_cell=2, background=1).astype(layer.data.dtype)
    dock.controller.annotating.touch()
    train.tabs.setCurrentWidget(train.takes_part)
    stage.picture("annotate.png")
    train.tabs.setCurrentIndex(0)

    train.start.choose(start)
    train.simple.show_values({**train.simple.values(), "seconds": seconds})
    train.train_button.click()
    stage.wait(1)
    stage.wait_until(lambda: has_preview(viewer) or not train._busy, "a preview")
    stage.wait(0.6 * seconds)
    stage.picture("training.png")
    stage.wait_until(lambda: not train._busy, "the end of the training")

    train.tabs.setCurrentWidget(train.where_next)
    train.where_next.button.click()
    stage.wait_until(lambda: dock.controller.suggesting.suggestions, "places to annotate next")
    dock.controller.suggesting.next()
    stage.picture("where-next.png")

    for shown in list(viewer.layers)[1:]:
        shown.visible = False
    viewer.window.remove_dock_widget("all")
    viewer.reset_view()
    segment = stage.dock("Segment").view
    segment.run_button.click()
    stage.wait(1)
    stage.wait_until(lambda: not segment._busy, "the segmentation")
    stage.picture("segmented.png")
    viewer.close()


def has_preview(viewer: Any) -> bool:
    """Return whether the live preview shows something."""
    from napari_unet.plugin.preview import shows_answer

    return any(shows_answer(layer) for layer in viewer.layers)


def main() -> None:
    """Parse the command line and take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent / "images")
    parser.add_argument("--start", default="bundled", help="bundled, scratch or the folder of a model")
    parser.add_argument("--seconds", type=float, default=40.0, help="time of the training")
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home:
        # The user's own runs and models have no business in a picture.
        os.environ["NAPARI_UNET_HOME"] = home
        shoot(chosen.folder, chosen.start, chosen.seconds)


if __name__ == "__main__":
    main()
