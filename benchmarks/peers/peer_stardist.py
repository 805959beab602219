"""StarDist 2D from scratch, as in its example notebooks: 32 rays on a grid, flips and grey values as augmentation.

The clock starts when the first step, which compiles the network, is done. Afterwards both thresholds are
chosen on the crops, as its documentation advises; that is not counted either.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from protocol import Crop, Job, Report, Segment, answer

LARGEST_PATCH = 256
IGNORED = -1
"""The label that StarDist learns nothing from."""
MANY = 100_000


def patch_side(crops: tuple[Crop, ...]) -> int:
    """Return a patch side that fits the crops: their median side, at most StarDist's default, in steps of 32."""
    side = np.median([min(crop.labels.shape) for crop in crops])
    return int(np.clip(side // 32 * 32, 64, LARGEST_PATCH))


def padded(image: NDArray[np.float32], labels: NDArray[np.int32], side: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return crop and labels at least one patch large; what is added is mirrored and not learnt from."""
    more = [(0, max(0, side - length)) for length in labels.shape]
    return np.pad(image, more, mode="symmetric"), np.pad(labels, more, constant_values=IGNORED)


def grid_for(diameter: float) -> tuple[int, int]:
    """Return on which grid to predict: the notebooks' one, or a coarser one for cells that exceed its view."""
    step = 2 if diameter <= 48 else 4
    return step, step


def augmented(image: NDArray[np.float32], labels: NDArray[np.int32]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return patch and labels turned, mirrored and changed in brightness, as in the example notebook."""
    turns, mirrored = np.random.randint(4), np.random.rand() < 0.5
    image, labels = np.rot90(image, turns), np.rot90(labels, turns)
    if mirrored:
        image, labels = image[:, ::-1], labels[:, ::-1]
    image = image * np.random.uniform(0.6, 2) + np.random.uniform(-0.2, 0.2)
    return image + 0.02 * np.random.uniform(0, 1) * np.random.normal(0, 1, image.shape), labels


def clock(seconds: float) -> Any:
    """Return a callback that ends training so many seconds after its first step."""
    from keras.callbacks import Callback

    class Clock(Callback):
        """Counts steps and seconds after the first step."""

        begin, steps, took = 0.0, 0, 0.0

        def on_train_batch_end(self, batch: int, logs: object = None) -> None:
            """Start after the first step, stop when the time is over."""
            self.begin = self.begin or time.perf_counter()
            self.steps += 1
            self.took = time.perf_counter() - self.begin
            self.model.stop_training = self.took >= seconds

    return Clock()


def choose_thresholds(model: Any, crops: Sequence[tuple[NDArray[Any], NDArray[Any]]]) -> None:
    """Give the model the thresholds that are best on the crops, as its `optimize_thresholds` does.

    Its defaults stay where nothing is found at any threshold: the lowest one would take every pixel for a cell.
    """
    from stardist.utils import optimize_threshold

    truths, answers = [truth for _, truth in crops], [model.predict(image)[:2] for image, _ in crops]
    tried = []
    for overlap in (0.3, 0.4, 0.5):
        threshold, value = optimize_threshold(truths, answers, model=model, nms_thresh=overlap, verbose=0)
        tried.append((value, float(threshold), overlap))
    best, threshold, overlap = max(tried)
    if best > 0:
        model.thresholds = {"prob": threshold, "nms": overlap}


def fit(job: Job) -> tuple[Segment, Report]:
    """Train for the time, then choose thresholds."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    import stardist
    import tensorflow as tf
    from csbdeep.utils import normalize
    from stardist.models import Config2D, StarDist2D

    tf.config.threading.set_intra_op_parallelism_threads(job.threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.keras.utils.set_random_seed(job.seed)
    side = patch_side(job.crops)
    crops = [(crop.part(normalize(crop.image, 1, 99.8)), crop.labels) for crop in job.crops]
    images, labels = zip(*(padded(*crop, side) for crop in crops), strict=True)
    grid = grid_for(job.diameter)
    config = Config2D(n_rays=32, grid=grid, n_channel_in=1, train_patch_size=(side, side))
    model = StarDist2D(config, basedir=None)
    model.prepare_for_training()
    timer = clock(job.seconds)
    model.callbacks.append(timer)
    # One epoch without end: no time goes to validation, and the rate is only lowered after 40 epochs anyway.
    model.train(
        list(images), list(labels), validation_data=(images[:1], [np.maximum(labels[0], 0)]), augmenter=augmented,
        seed=job.seed, epochs=1, steps_per_epoch=MANY,
    )  # fmt: skip
    choose_thresholds(model, crops)

    def segment(image: NDArray[np.float32]) -> NDArray[np.int32]:
        return model.predict_instances(normalize(image, 1, 99.8))[0]

    remark = f"patch {side}, batch {config.train_batch_size}, grid {grid[0]}, threshold {model.thresholds.prob:.2f}"
    return segment, Report(f"stardist {stardist.__version__}", timer.steps, timer.took, remark)


if __name__ == "__main__":
    answer(fit)
