"""Cellpose 3 from scratch, by its own `train_seg` with cells rescaled to its 30 pixels.

The clock starts after the first step, as for StarDist; making flows of the labels and compiling is not counted.
When the time is over, the network's next forward pass ends the training.
"""

from __future__ import annotations

import tempfile
import time
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray
from protocol import Job, Report, Segment, answer

BATCH = 1
"""Its default of 8 would leave a handful of steps in a minute on two cores; 1 is the default of its next version."""
MANY = 100_000


class TimeOver(Exception):
    """The time for training is over."""


class Clock:
    """A forward hook that counts passes and ends the training after so many seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.begin, self.passes, self.took = seconds, 0.0, 0, 0.0

    def __call__(self, network: object, inputs: object) -> None:
        """Count a pass that is about to begin, or raise :class:`TimeOver`."""
        if self.passes == 1:
            self.begin = time.perf_counter()
        self.took = time.perf_counter() - self.begin if self.passes else 0.0
        if self.took >= self.seconds:
            raise TimeOver
        self.passes += 1


def normalised(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the picture with its 1st and 99th percentile at 0 and 1, which is Cellpose's own way."""
    from cellpose.transforms import normalize99

    return normalize99(image.astype(np.float32))


def fit(job: Job) -> tuple[Segment, Report]:
    """Train for the time."""
    import torch
    from cellpose import train
    from cellpose.models import CellposeModel

    torch.set_num_threads(job.threads)
    torch.manual_seed(job.seed)
    model = CellposeModel(gpu=False, pretrained_model=False)
    clock = Clock(job.seconds)
    hook = model.net.register_forward_pre_hook(clock)
    images = [crop.part(normalised(crop.image)) for crop in job.crops]
    labels = [crop.labels for crop in job.crops]
    try:
        with tempfile.TemporaryDirectory() as folder:
            train.train_seg(
                model.net, images, labels, channels=[0, 0], normalize=False, batch_size=BATCH, min_train_masks=1,
                n_epochs=MANY, nimg_per_epoch=BATCH, save_path=folder, save_every=MANY,
            )  # fmt: skip
    except TimeOver:
        hook.remove()
    size = float(model.net.diam_labels.item())

    def segment(image: NDArray[np.float32]) -> NDArray[np.int32]:
        return model.eval(normalised(image), channels=[0, 0], normalize=False, diameter=size)[0]

    remark = f"patch 224, batch {BATCH}, cells of {size:.0f} px seen at {model.diam_mean:.0f}"
    return segment, Report(f"cellpose {version('cellpose')}", clock.passes, clock.took, remark)


if __name__ == "__main__":
    answer(fit)
