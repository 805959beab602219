"""Make the short animation of README from the running program: the second half of ``tox -e screenshots``.

As in ``make_screenshots.py`` everything is real but the painting hand: cells appear in the annotation one by one,
the training learns them meanwhile shown, and the picture is segmented.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
from make_screenshots import Stage, has_preview, painted
from PIL import Image

WIDTH = 960
"""Of the animation in pixels: readable in a README, and some hundred kilobytes."""
COLOURS = 255
STEP, LAST = 350, 3000
"""How long a picture is shown, and the last one, in milliseconds."""
EVERY = 1.5
"""Seconds of training from one picture to the next."""
PAINT_STEPS = 6


class Recorder:
    """Collects what a window shows.

    Parameters
    ----------
    stage : Stage
        The viewer.
    """

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.frames: list[Image.Image] = []

    def take(self, seconds: float = 0.3) -> None:
        """Let the program run for a moment and add what it shows."""
        self.stage.wait(seconds)
        shown = self.stage.window.grab().toImage()
        shown = shown.convertToFormat(shown.Format.Format_RGB888)
        data = np.frombuffer(bytes(shown.constBits().asstring(shown.sizeInBytes())), np.uint8)
        rows = data.reshape(shown.height(), shown.bytesPerLine())[:, : shown.width() * 3]
        picture = Image.fromarray(rows.reshape(shown.height(), shown.width(), 3))
        height = round(WIDTH * picture.height / picture.width)
        self.frames.append(picture.resize((WIDTH, height), Image.Resampling.LANCZOS))

    def save(self, path: Path) -> None:
        """Write the animation; one palette for all pictures, so that nothing flickers and little changes."""
        shown = self.frames[:: max(1, len(self.frames) // 8)] + self.frames[-1:]
        sheet = Image.fromarray(np.concatenate([np.asarray(f) for f in shown]))
        palette = sheet.quantize(COLOURS, dither=Image.Dither.NONE)
        pictures = [f.quantize(palette=palette, dither=Image.Dither.NONE) for f in self.frames]
        times = [STEP] * (len(pictures) - 1) + [LAST]
        pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=times, loop=0, optimize=True)


def paint(recorder: Recorder, truth: np.ndarray, layer: object, touch: object) -> None:
    """Let cells appear in the annotation a few at a time."""
    whole = painted(truth, first_cell=2, background=1)
    cells = np.unique(whole[whole > 1])
    for part in np.array_split(cells, PAINT_STEPS):
        layer.data = np.where((whole > 1) & (whole <= part.max()), whole, 0).astype(layer.data.dtype)
        recorder.take()
    layer.data = whole.astype(layer.data.dtype)
    touch()
    recorder.take()


def learn(recorder: Recorder, train: object, seconds: float) -> None:
    """Train, and follow the preview and the curves."""
    stage = recorder.stage
    train.simple.show_values({**train.simple.values(), "seconds": seconds})
    train.train_button.click()
    recorder.take(1)
    stage.wait_until(lambda: has_preview(stage.viewer) or not train._busy, "a preview")
    begin = time.monotonic()
    while train._busy and time.monotonic() - begin < 3 * seconds:
        recorder.take(EVERY)
    stage.wait_until(lambda: not train._busy, "the end of the training")
    recorder.take(1)


def segment(recorder: Recorder) -> None:
    """Segment the picture with what was learnt."""
    stage = recorder.stage
    for shown in list(stage.viewer.layers)[1:]:
        shown.visible = False
    stage.viewer.window.remove_dock_widget("all")
    view = stage.dock("Segment").view
    stage.viewer.reset_view()
    recorder.take(1)
    view.run_button.click()
    stage.wait(1)
    stage.wait_until(lambda: not view._busy, "the segmentation")
    recorder.take(1)


def record(path: Path, start: str, seconds: float) -> None:
    """Walk through the loop once and write the animation."""
    from napari_unet.core.synthetic import generate

    stage = Stage(path.parent)
    recorder = Recorder(stage)
    _, truth = generate("nuclei", (512, 512), seed=3)
    dock = stage.dock("Annotate and train")
    train = dock.view
    train.first_steps.buttons["nuclei"].click()
    stage.wait_until(lambda: len(stage.viewer.layers) > 0, "the sample")
    train.new_button.click()
    train.start.choose(start)
    recorder.take(1)
    paint(recorder, truth, train.annotation.layer(), dock.controller.annotating.touch)
    learn(recorder, train, seconds)
    segment(recorder)
    stage.viewer.close()
    recorder.save(path)
    print(f"{path.name}: {len(recorder.frames)} pictures, {path.stat().st_size / 1e6:.2f} MB")


def main() -> None:
    """Parse the command line and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent / "images")
    parser.add_argument("--start", default="bundled", help="bundled, scratch or the folder of a model")
    parser.add_argument("--seconds", type=float, default=30.0, help="time of the training")
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home:
        # The user's own runs and models have no business in a picture.
        os.environ["NAPARI_UNET_HOME"] = home
        record(chosen.folder / "loop.gif", chosen.start, chosen.seconds)


if __name__ == "__main__":
    main()
