"""Training as a generator of events: callers draw, save, print and stop."""

from __future__ import annotations

import dataclasses
import datetime
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
from .best_model import BestModel
from .budget import Budget
from .calibration import certainty_of, tune
from .plan import TrainingPlan
from .trainer import Trainer
from .validation import Score, score

_ROLLBACKS = 5
_SAVE_EVERY = 30.0
_PAUSE = 10
"""Minimum ratio of training time to validation time."""


def no_preview() -> PreviewRequest | None:
    """Request no preview."""
    return None


def no_updates(plan: TrainingPlan) -> TrainingPlan | None:
    """Return no new annotations."""
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
        Called before every step; when it returns True the training ends and the best model so far is kept.
    preview : callable
        Called before every step; returns a region to preview, or None.
    get_updates : callable
        Called before every step with the present plan; returns a plan with new annotations (see
        :func:`~napari_unet.core.training.plan.renew`), or None. Training continues from the present weights, and the
        planned time or steps restart.

    Yields
    ------
    Started, StepDone, Validated, AnnotationsUpdated, Preview, CheckpointSaved, Fallback, Stopped, Finished
        ``Finished.model`` is the trained model; with ``plan.folder`` it lies in ``Finished.path`` too.

    Raises
    ------
    UNetError
        If the device fails for good, or the loss stays undefined.
    """
    run = _TrainingRun(plan, Trainer(plan))
    settings, budget, trainer = plan.settings, run.budget, run.trainer
    yield Started(
        "train", str(plan.compute.device), plan.compute.precision, settings.steps or None, settings.seconds or None,
        plan.notes,
    )  # fmt: skip
    try:
        yield from run.validate_start()
        last_validation = last_save = budget.elapsed
        pause = settings.validate_every
        while budget.progress(trainer.run_steps) < 1:
            yield from run.preview(preview())
            yield from run.update(get_updates)
            if stop():
                run.reason = "Stopped on request; the best model so far is kept."
                break
            yield from run.step()
            if budget.elapsed - last_validation >= pause:
                begin = budget.elapsed
                yield from run.validate()
                last_validation = budget.elapsed
                if settings.validate_every:
                    pause = max(settings.validate_every, _PAUSE * (last_validation - begin))
                if settings.patience and run.best.since >= settings.patience:
                    run.reason = f"No better model in {run.best.since} validations, so the training ends here."
                    break
            if budget.elapsed - last_save >= _SAVE_EVERY:
                yield from run.checkpoint()
                last_save = budget.elapsed
        if run.reason:
            yield Stopped(run.reason, trainer.step)
        if trainer.step:
            yield from run.validate()
        yield from run.finish()
    except (DataError, DeviceError):
        # What was reached stays on disk even though the training failed.
        if trainer.step:
            yield from run.checkpoint()
        raise
    finally:
        trainer.close()


class _TrainingRun:
    """The parts of one training: trainer, clock and best model so far."""

    def __init__(self, plan: TrainingPlan, trainer: Trainer) -> None:
        self.plan, self.trainer = plan, trainer
        self.budget, self.best = Budget(plan.settings), BestModel()
        self.reason = ""
        self._validated_step = -1
        self._start_share = 0.0
        self._rollbacks = 0

    def step(self) -> Iterator[TrainingEvent]:
        """Make one step; yield its event, or what was done instead."""
        try:
            loss = self.trainer.train_step(self.budget.progress(self.trainer.run_steps))
        except OutOfMemoryError as error:
            yield Fallback(self.step_down(error))
            return
        if not np.isfinite(loss):
            yield Fallback(self.roll_back())
            return
        remaining, total = self.budget.remaining(self.trainer.run_steps), self.plan.settings.steps or None
        yield StepDone(self.trainer.step, loss, self.trainer.learning_rate, self.budget.elapsed, remaining, total)

    def roll_back(self) -> str:
        """Return to the averaged weights with half the learning rate; raise when that does not help."""
        self._rollbacks += 1
        if self._rollbacks > _ROLLBACKS:
            raise DataError(
                f"The loss became undefined {self._rollbacks} times despite smaller learning rates; check the image "
                "for extreme values, or choose precision float32."
            )
        self.trainer.roll_back()
        return f"The loss became undefined at step {self.trainer.step}; went back and halved the learning rate."

    def update(self, get_updates: Callable[[TrainingPlan], TrainingPlan | None]) -> Iterator[TrainingEvent]:
        """Train on new annotations, if there are any; an error in them is reported and ends nothing."""
        try:
            renewed = get_updates(self.plan)
        except DataError as error:
            yield Fallback(f"The new annotations are not used yet: {error}")
            return
        if renewed is None:
            return
        self.plan = renewed
        self.trainer.renew(renewed)
        self.budget.restart(self.trainer.run_steps)
        self.best.since, self._validated_step = 0, -1
        if self.best.model is not None:
            yield from self.validate_best(self.best.model)
        samples = (*renewed.split.train, *renewed.split.validation)
        planes = len({sample.name for sample in samples})
        yield AnnotationsUpdated(self.trainer.step, self.budget.elapsed, renewed.cells, planes)

    def validate_best(self, model: Model) -> Iterator[TrainingEvent]:
        """Validate a model on the held-out cells as they are now; later ones have to beat it."""
        self.best.clear()
        samples = self.plan.split.validation
        if not samples:
            return
        try:
            predictor = Predictor.create(model.network, self.trainer.compute)
            found = score(predictor, samples, self.plan.weights, self.plan.settings.mode)
        except OutOfMemoryError as error:
            yield Fallback(f"Too little memory to validate the best model again; the training continues. {error}")
            return
        self.best.start_from(model, found)

    def step_down(self, error: OutOfMemoryError) -> str:
        """Take the next step of the out-of-memory ladder: smaller batch, smaller patch, processor."""
        if self.trainer.shrink():
            return f"Too little memory; continuing with {self.trainer.batch} patch(es) of {self.trainer.sizes[0]} px."
        if self.trainer.compute.device.type == "cpu":
            raise error
        self.trainer.move(processor(self.plan.settings.precision))
        return "Too little memory on the graphics card; continuing on the processor, which is slower."

    def validate_start(self) -> Iterator[TrainingEvent]:
        """Validate the start model: few cells may teach less than they make it forget."""
        if self.plan.resume is not None:
            # The best model so far, which need not be the last one that training resumes from.
            self.best.step = self.trainer.step
            yield from self.validate_best(self.plan.model)
        elif self.plan.model.card.training_history:
            yield from self.validate()

    def validate(self) -> Iterator[TrainingEvent]:
        """Validate the present model, if cells are held out, and keep it if it may be the best."""
        samples, step = self.plan.split.validation, self.trainer.step
        if not samples or step == self._validated_step:
            return
        self._validated_step = step
        try:
            found = score(self.predictor(), samples, self.plan.weights, self.plan.settings.mode)
        except OutOfMemoryError as error:
            yield Fallback(f"Too little memory to validate the model now; the training continues. {error}")
            return
        kept = self.best.offer(found, step, sum(sample.cells for sample in samples), self.model)
        yield Validated(step, found.loss, found.iou, found.f1, kept, self.budget.elapsed)

    def preview(self, request: PreviewRequest | None) -> Iterator[TrainingEvent]:
        """Yield a preview of a region, if one is requested."""
        if request is None:
            return
        try:
            outputs = self.outputs_of(request)
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

    def outputs_of(self, request: PreviewRequest) -> dict[str, NDArray[np.float32]]:
        """Return the outputs for a region at its own size, computed at the scale of the training."""
        card = self.plan.model.card
        region = Planes(request.image, "cyx")
        check_fit(card, region)
        normalisation = request.normalisation or plane_normalisation(region, ())
        seen = region if card.scale == 1 else ScaledPlanes(region, card.scale)
        outputs = predict_region(self.predictor(), seen, (), (0, seen.height, 0, seen.width), normalisation)
        return {name: resample(values, (region.height, region.width)) for name, values in outputs.items()}

    def predictor(self) -> Predictor:
        """Return the present model, ready to run."""
        return Predictor.create(self.trainer.averaged(), self.trainer.compute)

    def model(self, found: Score | None = None) -> Model:
        """Return the present model with its scores in the card."""
        self._start_share = round(self.trainer.kept, 2) if self.trainer.step else 0.0
        return Model(self.trainer.averaged_copy(), self.card(found))

    def card(self, found: Score | None) -> Card:
        """Return the card with these scores, and with this training in its history."""
        entry = {
            "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
            "seconds": round(self.budget.elapsed, 1),
            "steps": self.trainer.run_steps,
            **self.plan.training_history,
        }
        if self._start_share:
            entry["kept_of_start"] = self._start_share
        card = self.plan.model.card
        return dataclasses.replace(card, training_history=(*card.training_history, entry), metrics=_metrics(found))

    def checkpoint(self) -> Iterator[TrainingEvent]:
        """Write the best model and the state to resume from, if there is a folder; a failure is reported."""
        if self.plan.folder is None:
            return
        best = self.best.model or self.model()
        path = self.plan.folder / "model"
        try:
            save_model(best, path)
            self.trainer.save_state(self.plan.folder)
        except StoreError as error:
            yield Fallback(str(error))
            return
        yield CheckpointSaved(self.trainer.step, str(path), self.best.model is not None)

    def finish(self) -> Iterator[TrainingEvent]:
        """Yield the last checkpoint and the result."""
        best = self.best.model or self.model()
        prediction, certainty = self.calibrated(best)
        card = dataclasses.replace(self.card(self.best.score), prediction=prediction, certainty=certainty)
        self.best.model = Model(best.network, card)
        path = ""
        for event in self.checkpoint():
            if isinstance(event, CheckpointSaved):
                path = event.path
            elif isinstance(event, Fallback):
                self.reason = f"{self.reason} The model is not on disk: {event.message}".strip()
            yield event
        step = self.best.step if self.best.step >= 0 else self.trainer.step
        scores = _metrics(self.best.score)
        yield Finished(self.budget.elapsed, self.trainer.step, step, path, scores, self.reason, self.best.model)

    def calibrated(self, best: Model) -> tuple[dict[str, Any], float]:
        """Return the prediction settings and the certainty for the card, measured on the annotated cells."""
        card = self.plan.model.card
        if card.mode != "instances" or self.trainer.run_steps == 0:
            return card.prediction, card.certainty
        base = with_values(PredictionSettings(), card.prediction)
        predictor = Predictor.create(best.network, self.trainer.compute)
        # A tenth of the time at most, as for validation; but counted steps give the same model each time.
        counted = self.plan.settings.steps and not self.plan.settings.seconds
        seconds = np.inf if counted else self.budget.elapsed / _PAUSE
        found = {**card.prediction, **tune(predictor, self.plan.split, base, card.scale, seconds)}
        # As models are compared in model_selection.py.
        plain = with_values(PredictionSettings(), {**found, **AS_MEASURED})
        return found, certainty_of(predictor, self.plan.split, card.diameter, plain)


def _metrics(found: Score | None) -> dict[str, float]:
    """Return the scores as plain numbers."""
    return {} if found is None else {"loss": round(found.loss, 4), "iou": round(found.iou, 4), "f1": round(found.f1, 4)}
