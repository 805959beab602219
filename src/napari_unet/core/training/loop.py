"""Training as a generator of events: callers draw, save, print and stop."""

from __future__ import annotations

import dataclasses
import datetime
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.arrays import Planes, ScaledPlanes, plane_normalisation, resample
from ..data.rescale import at_own_size
from ..errors import DataError, DeviceError, ModelError, OutOfMemoryError, StoreError
from ..events import (  # fmt: skip
    AnnotationsUpdated,
    CheckpointSaved,
    Fallback,
    Finished,
    Preview,
    PreviewRequest,
    Started,
    StepDone,
    Stopped,
    TrainingEvent,
    Validated,
)
from ..inference.predict import Predictor, check_fit, never, predict_region
from ..inference.size_estimation import AS_MEASURED
from ..instances.pipeline import foreground, labels_from_outputs
from ..network.device import processor
from ..network.model_card import Card
from ..network.model_io import Model, save_model
from ..settings import PredictionSettings, with_values
from .calibration import certainty_of, tune
from .plan import TrainingPlan
from .trainer import Trainer
from .validation import Score, score

_CHANCE = 0.5
"""What one cell kept apart says of a model's rank is chance up to this; of more cells, to this over their root."""
_ROLLBACKS = 5
_SAVE_EVERY = 30.0
_PAUSE = 10
"""Times as long as a measurement took, the training goes on before the next."""


def no_preview() -> PreviewRequest | None:
    """Return None: the preview function of whoever wants none."""
    return None


def no_updates(plan: TrainingPlan) -> TrainingPlan | None:
    """Return None: the news function of whoever paints no more."""
    return None


def train(
    plan: TrainingPlan,
    *,
    stop: Callable[[], bool] = never,
    preview: Callable[[], PreviewRequest | None] = no_preview,
    get_updates: Callable[[TrainingPlan], TrainingPlan | None] = no_updates,
) -> Iterator[TrainingEvent]:
    """Train a model.

    Parameters
    ----------
    plan : TrainingPlan
        From :func:`~napari_unet.core.training.plan.resolve`.
    stop : callable
        Asked before every step; when it returns True the best model so far is kept.
    preview : callable
        Asked before every step for a region to show the present answer of.
    news : callable
        Asked before every step, with the present plan, for one with what was painted meanwhile (see
        :func:`~napari_unet.core.training.plan.renew`); learning goes on from where it is, for the planned time or steps
        once more.

    Yields
    ------
    Started, StepDone, Validated, AnnotationsUpdated, Preview, CheckpointSaved, Fallback, Stopped, Finished
        ``Finished.model`` is the trained model; with ``plan.folder`` it lies in ``Finished.path`` too.

    Raises
    ------
    UNetError
        When the device fails for good, or the loss stays undefined.
    """
    run = _TrainingRun(plan, Trainer(plan))
    limit = plan.settings.steps or None
    yield Started(
        "train", str(plan.compute.device), plan.compute.precision, limit, plan.settings.seconds or None, plan.notes
    )
    try:
        yield from run.measure_start()
        yield from run.loop(stop, preview, get_updates)
        if run.trainer.step:
            yield from run.validate()
        yield from run.finish()
    except (DataError, DeviceError):
        # What was reached stays on disk even though the training failed.
        if run.trainer.step:
            yield from run.checkpoint()
        raise
    finally:
        run.trainer.close()


class _TrainingRun:
    """One training: the learner, the clock, and the best model so far."""

    def __init__(self, plan: TrainingPlan, trainer: Trainer) -> None:
        self.plan, self.trainer = plan, trainer
        self.begin = time.perf_counter()
        self.best: Model | None = None
        self.best_score: Score | None = None
        self.best_rank, self.best_step = -np.inf, -1
        self.mark = -np.inf
        self.since_best = 0
        self.measured_step = -1
        self.kept = 0.0
        self.rollbacks = 0
        self.reason = ""
        self.round_begin, self.round_step = 0.0, 0

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.begin

    def progress(self) -> float:
        """Return the share of the planned work that is done, 0 to 1; 0 without a plan's end."""
        settings, shares = self.plan.settings, [0.0]
        if settings.steps:
            shares.append((self.trainer.run_steps - self.round_step) / settings.steps)
        if settings.seconds:
            shares.append((self.elapsed - self.round_begin) / settings.seconds)
        return min(1.0, max(shares))

    def loop(
        self,
        stop: Callable[[], bool],
        preview: Callable[[], PreviewRequest | None],
        get_updates: Callable[[TrainingPlan], TrainingPlan | None],
    ) -> Iterator[TrainingEvent]:
        """Yield the events of all steps."""
        last_measure = last_save = self.elapsed
        every = pause = self.plan.settings.validate_every
        while self.progress() < 1:
            yield from self.show(preview())
            yield from self.join(get_updates)
            if stop():
                self.reason = "Stopped on request; the best model so far is kept."
                break
            yield from self.step()
            if self.elapsed - last_measure >= pause:
                begin = self.elapsed
                yield from self.validate()
                last_measure = self.elapsed
                # Measuring much may take long, and is never to take more than a tenth of the time.
                pause = max(every, _PAUSE * (last_measure - begin)) if every else 0.0
                if self.plan.settings.patience and self.since_best >= self.plan.settings.patience:
                    self.reason = f"No better model in {self.since_best} measurements, so the training ends here."
                    break
            if self.elapsed - last_save >= _SAVE_EVERY:
                yield from self.checkpoint()
                last_save = self.elapsed
        if self.reason:
            yield Stopped(self.reason, self.trainer.step)

    def step(self) -> Iterator[TrainingEvent]:
        """Make one step; yield its event, or what was done instead."""
        try:
            loss = self.trainer.train_step(self.progress())
        except OutOfMemoryError as error:
            yield Fallback(self.step_down(error))
            return
        if not np.isfinite(loss):
            yield Fallback(self.roll_back())
            return
        done = self.progress()
        remaining = (self.elapsed - self.round_begin) * (1 - done) / done if done else None
        total = self.plan.settings.steps or None
        yield StepDone(self.trainer.step, loss, self.trainer.learning_rate, self.elapsed, remaining, total)

    def roll_back(self) -> str:
        """Return to the averaged weights with half the learning rate; raise when that does not help."""
        self.rollbacks += 1
        if self.rollbacks > _ROLLBACKS:
            raise DataError(
                f"The loss became undefined {self.rollbacks} times in spite of smaller learning rates; check the image "
                "for extreme values, or choose precision float32."
            )
        self.trainer.roll_back()
        return f"The loss became undefined at step {self.trainer.step}; went back and halved the learning rate."

    def join(self, get_updates: Callable[[TrainingPlan], TrainingPlan | None]) -> Iterator[TrainingEvent]:
        """Learn from what was painted meanwhile, if anything was; a mistake in it is told and ends nothing."""
        try:
            renewed = get_updates(self.plan)
        except DataError as error:
            yield Fallback(f"What was painted meanwhile is not learnt yet: {error}")
            return
        if renewed is None:
            return
        self.plan = renewed
        self.trainer.renew(renewed)
        self.round_begin, self.round_step = self.elapsed, self.trainer.run_steps
        self.since_best, self.measured_step = 0, -1
        if self.best is not None:
            yield from self.measure_best(self.best)
        samples = (*renewed.split.train, *renewed.split.validation)
        planes = len({sample.name for sample in samples})
        yield AnnotationsUpdated(self.trainer.step, self.elapsed, renewed.cells, planes)

    def measure_best(self, best: Model) -> Iterator[TrainingEvent]:
        """Measure a model on what is kept apart now, as the mark that others have to pass."""
        self.best, self.best_score, self.best_rank, self.mark = None, None, -np.inf, -np.inf
        samples = self.plan.split.validation
        if not samples:
            return
        try:
            predictor = Predictor.create(best.network, self.trainer.compute)
            self.best_score = score(predictor, samples, self.plan.weights, self.plan.settings.mode)
        except OutOfMemoryError as error:
            yield Fallback(f"Too little memory to measure the best model again; the training goes on. {error}")
            return
        self.best, self.best_rank = best, self.best_score.rank
        self.mark = self.best_rank

    def step_down(self, error: OutOfMemoryError) -> str:
        """Take the next step of the out-of-memory ladder: smaller batch, smaller patch, processor."""
        if self.trainer.shrink():
            return f"Too little memory; going on with {self.trainer.batch} patch(es) of {self.trainer.sizes[0]} px."
        if self.trainer.compute.device.type == "cpu":
            raise error
        self.trainer.move(processor(self.plan.settings.precision))
        return "Too little memory on the graphics card; going on with the processor, which is slower."

    def measure_start(self) -> Iterator[TrainingEvent]:
        """Measure the model that training starts from: few cells may teach less than they make it forget."""
        if self.plan.resume is not None:
            # The best one until then, which need not be the last one that training goes on from.
            self.best_step = self.trainer.step
            yield from self.measure_best(self.plan.model)
        elif self.plan.model.card.training_history:
            yield from self.validate()

    def validate(self) -> Iterator[TrainingEvent]:
        """Measure the result so far, if there is anything to measure on, and keep it if it may be the best.

        It has to be better than what the training began with. Of what is learnt a later one is kept unless an earlier
        one was better by more than chance: the luckiest of many measurements on a few cells is no better model.
        """
        samples = self.plan.split.validation
        if not samples or self.trainer.step == self.measured_step:
            return
        self.measured_step = self.trainer.step
        try:
            found = score(self.predictor(), samples, self.plan.weights, self.plan.settings.mode)
        except OutOfMemoryError as error:
            yield Fallback(f"Too little memory to measure the model now; the training goes on. {error}")
            return
        self.since_best = 0 if found.rank > self.best_rank else self.since_best + 1
        self.best_rank = max(self.best_rank, found.rank)
        kept = self.best is None or (found.rank > self.mark and found.rank >= self.best_rank - self.chance())
        if not self.trainer.step:
            self.mark = found.rank
        if kept:
            self.best_step, self.best_score = self.trainer.step, found
            self.best = self.model()
        yield Validated(self.trainer.step, found.loss, found.iou, found.f1, kept, self.elapsed)

    def chance(self) -> float:
        """Return by how much less a model may rank than the best one and be no worse; at most half of all there is."""
        cells = sum(sample.cells for sample in self.plan.split.validation)
        return min(_CHANCE / math.sqrt(max(1, cells)), max(0.0, self.best_rank / 2))

    def show(self, request: PreviewRequest | None) -> Iterator[TrainingEvent]:
        """Yield the present answer for a region, if one is asked for."""
        if request is None:
            return
        try:
            outputs = self.answer(request)
        except (DataError, ModelError, OutOfMemoryError) as error:
            # A region that cannot be shown is no reason to end the training.
            yield Fallback(f"There is no preview of this region: {error}")
            return
        if self.plan.settings.mode == "classes":
            labels: NDArray[np.int32] = outputs["classes"].argmax(axis=0).astype(np.int32)
        else:
            # With what is known so far, which is nearest to how it will be segmented.
            card = self.plan.model.card
            known = with_values(PredictionSettings(), card.prediction)
            labels = labels_from_outputs(outputs, at_own_size(known, card.scale))
        yield Preview(self.trainer.step, request.token, foreground(outputs), labels)

    def answer(self, request: PreviewRequest) -> dict[str, NDArray[np.float32]]:
        """Return the outputs for a region at the region's own size, computed at the size that is trained on."""
        card = self.plan.model.card
        region = Planes(request.image, "cyx")
        check_fit(card, region)
        normalisation = request.normalisation or plane_normalisation(region, ())
        seen = region if card.scale == 1 else ScaledPlanes(region, card.scale)
        outputs = predict_region(self.predictor(), seen, (), (0, seen.height, 0, seen.width), normalisation)
        return {name: resample(values, (region.height, region.width)) for name, values in outputs.items()}

    def predictor(self) -> Predictor:
        """Return the result so far, ready to run."""
        return Predictor.create(self.trainer.averaged(), self.trainer.compute)

    def model(self) -> Model:
        """Return the result so far with the card as it stands."""
        self.kept = round(self.trainer.kept, 2) if self.trainer.step else 0.0
        return Model(self.trainer.averaged_copy(), self.card())

    def card(self) -> Card:
        """Return the card with this training in its ledger."""
        entry = {
            "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
            "seconds": round(self.elapsed, 1),
            "steps": self.trainer.run_steps,
            **self.plan.training_history,
        }
        if self.kept:
            entry["kept_of_start"] = self.kept
        card = self.plan.model.card
        return dataclasses.replace(
            card, training_history=(*card.training_history, entry), metrics=_metrics(self.best_score)
        )

    def checkpoint(self) -> Iterator[TrainingEvent]:
        """Write the best model and the state to go on from, if there is a folder; failing to is no end."""
        if self.plan.folder is None:
            return
        best = self.best or self.model()
        path = self.plan.folder / "model"
        try:
            save_model(best, path)
            self.trainer.save_state(self.plan.folder)
        except StoreError as error:
            yield Fallback(str(error))
            return
        yield CheckpointSaved(self.trainer.step, str(path), self.best is not None)

    def finish(self) -> Iterator[TrainingEvent]:
        """Yield the last checkpoint and the result."""
        best = self.best or self.model()
        prediction, certainty = self.tuned(best)
        card = dataclasses.replace(self.card(), prediction=prediction, certainty=certainty)
        self.best = Model(best.network, card)
        path = ""
        for event in self.checkpoint():
            if isinstance(event, CheckpointSaved):
                path = event.path
            elif isinstance(event, Fallback):
                self.reason = f"{self.reason} The model is not on disk: {event.message}".strip()
            yield event
        yield Finished(
            self.elapsed, self.trainer.step, self.best_step if self.best_step >= 0 else self.trainer.step, path,
            _metrics(self.best_score), self.reason, self.best,
        )  # fmt: skip

    def tuned(self, best: Model) -> tuple[dict[str, Any], float]:
        """Return the prediction settings and the certainty for the model's card, measured on what was painted."""
        card = self.plan.model.card
        if card.mode != "instances" or self.trainer.run_steps == 0:
            return card.prediction, card.certainty
        base = with_values(PredictionSettings(), card.prediction)
        predictor = Predictor.create(best.network, self.trainer.compute)
        # A tenth of the time at most, as for measuring on the way; but counted steps give the same model each time.
        counted = self.plan.settings.steps and not self.plan.settings.seconds
        seconds = np.inf if counted else self.elapsed / _PAUSE
        found = {**card.prediction, **tune(predictor, self.plan.split, base, card.scale, seconds)}
        # As it will be compared with later, see choosing.py.
        plain = with_values(PredictionSettings(), {**found, **AS_MEASURED})
        return found, certainty_of(predictor, self.plan.split, card.diameter, plain)


def _metrics(found: Score | None) -> dict[str, float]:
    """Return the scores as plain numbers."""
    return {} if found is None else {"loss": round(found.loss, 4), "iou": round(found.iou, 4), "f1": round(found.f1, 4)}
