"""One fine-tuning step at the defaults against the bare forward and backward pass of its network.

    python benchmarks/training_step.py

The step is `Trainer.train_step`: it takes a patch that was drawn in a thread while the last step ran
(augmentation, weight map), computes loss and gradients, moves the optimiser and the running average.
The bare pass runs the same network on a patch of the same size in the same number format: no loss,
no optimiser, no data. Both are timed in blocks, in turns; a block of steps ends when the patch that
it began to draw for the next one is there, so that every step has paid for a patch.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import models
from reporting import Figure, arguments, in_turns, report, run, say, table


def make_trainer(model: str) -> Any:
    """Return a learner at the defaults, on a generated 512 x 512 picture with 20 painted cells."""
    from napari_unet.core.data.annotation import AnnotatedImage
    from napari_unet.core.network.model_io import load_model
    from napari_unet.core.settings import TrainingSettings
    from napari_unet.core.synthetic import generate
    from napari_unet.core.training.plan import resolve
    from napari_unet.core.training.trainer import Trainer

    image, truth = generate("nuclei", (512, 512), seed=3)
    annotated = AnnotatedImage(image, models.painted(truth), name="nuclei")
    settings = TrainingSettings(background_label=models.BACKGROUND)
    return Trainer(resolve([annotated], settings, start=load_model(model)))


def bare_pass(learner: Any) -> Callable[[], None]:
    """Return forward and backward of a copy of the learner's network."""
    import copy

    import torch

    network, compute = copy.deepcopy(learner.network), learner.compute
    batch = learner._next_batch()
    x = torch.stack([torch.from_numpy(item["image"]) for item in batch]).to(compute.device)
    x = x.contiguous(memory_format=torch.channels_last)

    def once() -> None:
        with compute.autocast():
            out = network(x)
        out.backward(torch.ones_like(out))
        network.zero_grad(set_to_none=True)
        _wait(compute)

    return once


def _wait(compute: Any) -> None:
    """Wait until the device has done what it was given."""
    if compute.device.type == "cuda":
        import torch

        torch.cuda.synchronize()


def block_of(count: int, once: Callable[[], None], finish: Callable[[], None]) -> Callable[[], None]:
    """Return a function that does something so many times, then finishes what it left running."""

    def block() -> None:
        for _ in range(count):
            once()
        finish()

    return block


def time_steps(learner: Any, steps: int, blocks: int, seconds: float) -> dict[str, list[float]]:
    """Return the seconds of blocks of training steps (``"step"``) and of bare passes (``"bare"``), in turns."""
    bare = bare_pass(learner)

    def drawn() -> None:
        learner._next.result()
        _wait(learner.compute)

    step = block_of(steps, lambda: learner.train_step(0.0), drawn)
    drawn()
    return in_turns({"step": step, "bare": block_of(steps, bare, lambda: None)}, blocks, seconds=seconds)


def drawing(learner: Any, repeats: int) -> tuple[float, float]:
    """Return the median seconds of augmenting a patch, and of making targets and weight map of it."""
    augment, target = [], []
    for _ in range(repeats):
        begin = time.perf_counter()
        patch = learner._sampler.draw()
        drawn = time.perf_counter()
        learner._targets(patch)
        augment.append(drawn - begin)
        target.append(time.perf_counter() - drawn)
    return statistics.median(augment), statistics.median(target)


def main() -> None:
    """Measure and report."""
    chosen = arguments(__doc__, model=models.START)
    model = models.existing(chosen.model)
    steps, blocks, seconds = (2, 2, 10.0) if chosen.quick else (10, 20, 150.0)
    learner = make_trainer(model)
    say(f"blocks of {steps} steps on {learner.compute.device} in {learner.compute.precision}, up to {seconds:.0f} s")
    taken = time_steps(learner, steps, blocks, seconds)
    ratios = [a / b for a, b in zip(taken["step"], taken["bare"], strict=True)]
    full, pure = (statistics.median(taken[n]) / steps for n in ("step", "bare"))
    augment, target = drawing(learner, 5 if chosen.quick else 60)
    learner.close()
    patch = f"patch {learner.sizes[0]}, batch {learner.batch}, {learner.compute.device}, {learner.compute.precision}"
    report(
        [
            Figure(
                "training step over bare forward and backward pass", full / pure,
                detail=f"{1e3 * full:.1f} ms against {1e3 * pure:.1f} ms; medians of {len(ratios)} blocks of {steps} "
                f"in turns; {patch}; {models.described(model)}", at_most=1.15,
            ),
            Figure(
                "augmentation: share of a training step", augment / full,
                detail=f"{1e3 * augment:.1f} ms of one core, in a thread beside the network; targets and weight map "
                f"take {1e3 * target:.1f} ms more",
            ),
        ],
        "Ratio of the blocks:",
        table(["smallest", "quartile", "median", "quartile", "largest"], [_spread(ratios)]),
    )  # fmt: skip


def _spread(values: list[float]) -> list[str]:
    """Return the five numbers that describe a list."""
    quartiles = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return [f"{v:.3f}" for v in (min(values), *quartiles, max(values))]


if __name__ == "__main__":
    run(main)
