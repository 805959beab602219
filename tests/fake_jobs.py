"""Jobs for the tests of the engine: the child imports this module instead of the real ones, and no torch."""

import ctypes
import os
import time

import numpy as np

from napari_unet.core.errors import DataError
from napari_unet.core.events import Finished, Preview, Started, StepDone, Stopped
from napari_unet.engine.protocol.messages import PlaneResult


def count(job):
    """Yield steps until stopped or done, like a training."""
    yield Started("train", "cpu", "float32", total=job.payload["steps"])
    for step in range(1, job.payload["steps"] + 1):
        if job.stop():
            yield Stopped("stopped by the user", step)
            break
        time.sleep(job.payload.get("seconds", 0.0))
        asked = job.latest("preview")
        if asked is not None:
            labels = np.rint(asked["image"][0]).astype(np.int32)
            yield Preview(step, asked["token"], asked["image"][0], labels)
        yield StepDone(step, np.float32(1 / step), 0.1, 0.0)
    yield Finished(0.0, step)


def copy(job):
    """Read planes of the viewer's arrays in bands, and send them back."""
    array = job.array(0, job.payload["image"]["arrays"][0])
    for plane in map(tuple, job.payload["planes"]):
        bands = [array[(*plane, slice(y, y + 100))] for y in range(0, array.shape[-2], 100)]
        yield PlaneResult(plane, np.concatenate(bands))


def echo(job):
    """Send the payload's arrays back."""
    for index, array in enumerate(job.payload["arrays"]):
        yield PlaneResult((index,), array)


def info(job):
    """Tell about the process."""
    yield Started("train", "cpu", "float32", notes=(str(os.nice(0)), os.getcwd()))


def user_error(job):
    """Fail by the user's mistake."""
    yield Started("train", "cpu", "float32")
    raise DataError("No labels are painted; paint some cells.")


def bug(job):
    """Fail by a bug of the package."""
    yield Started("train", "cpu", "float32")
    raise RuntimeError("CUDA error: whatever")


def memory(job):
    """Ask for more memory than there is."""
    yield Started("train", "cpu", "float32")
    np.ones(1 << 50, np.uint8)


def leave(job):
    """End the process."""
    yield Started("train", "cpu", "float32")
    print("this goes to the log", flush=True)
    os._exit(3)


def crash(job):
    """End the process by a bad memory access."""
    yield Started("train", "cpu", "float32")
    ctypes.string_at(0)


def relabel(job):
    """Answer at once."""
    yield PlaneResult((0,), np.zeros((2, 2), np.int32))


KINDS = {
    "count": count, "train": count, "copy": copy, "segment": copy, "echo": echo, "info": info, "user_error": user_error,
    "bug": bug, "memory": memory, "leave": leave, "crash": crash, "relabel": relabel,
}  # fmt: skip
