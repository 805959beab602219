"""Pictures of bright discs, which a small network learns within seconds, a model that has, and docks set to it."""

import sys
from pathlib import Path

import numpy as np

SMALL = {"width": 8, "depth": 2}
"""Network settings."""
SHORT = {"patch": 96, "elastic": 0.0, "validate_every": 1.0, "device": "cpu"}
"""Training settings."""


def discs(shape=(128, 128), seed=0, count=12):
    """Return an image of discs that do not touch, and their labels."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    labels = np.zeros(shape, np.int32)
    for label in range(1, count + 1):
        cy, cx, radius = rng.uniform(12, shape[0] - 12), rng.uniform(12, shape[1] - 12), rng.uniform(7, 10)
        distance = np.hypot(y - cy, x - cx)
        if not labels[distance < radius + 4].any():
            labels[distance < radius] = label
    image = np.where(labels > 0, 200.0, 40.0) + rng.normal(0, 8, shape)
    return image.astype(np.float32), labels


def stack(planes=5, shape=(128, 128)):
    """Return a stack of different planes."""
    return np.stack([discs(shape, seed)[0] for seed in range(planes)])


def train(folder):
    """Train a small network on one picture and write it to ``folder``."""
    from napari_unet.core.data.annotation import AnnotatedImage
    from napari_unet.core.network.model_io import save_model
    from napari_unet.core.settings import NetworkSettings, TrainingSettings
    from napari_unet.core.training.loop import train
    from napari_unet.core.training.plan import resolve

    image, labels = discs(seed=100)
    settings = TrainingSettings(steps=150, seconds=0, unpainted="background", validation=0.0, **SHORT)
    plan = resolve([AnnotatedImage(image, labels)], settings, network=NetworkSettings(**SMALL), name="discs")
    *_, last = train(plan)
    save_model(last.model, folder)


def alive(pid):
    """Return whether a process runs (a zombie does not)."""
    if pid is None:
        return False
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def make_small(view, seconds=6.0, start="scratch"):
    """Set a train dock to a small network and a short time."""
    view.start.choose(start)
    view.network.show_values(SMALL)
    view.advanced.show_values(SHORT)
    view.simple.show_values({"seconds": seconds})


def errors(view):
    """Return the error messages that a dock shows."""
    return [text for kind, text in view.messages.lines() if kind == "error"]


if __name__ == "__main__":
    train(sys.argv[1])
