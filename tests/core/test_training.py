from __future__ import annotations

import dataclasses
import errno
import math
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import cells_picture
from napari_unet.core.data.annotation import AnnotatedImage
from napari_unet.core.errors import DataError, ModelError, OutOfMemoryError, StoreError
from napari_unet.core.events import (
    CheckpointSaved,
    Fallback,
    Finished,
    Preview,
    PreviewRequest,
    Started,
    StepDone,
    Stopped,
    Validated,
)
from napari_unet.core.network.model_io import Model, load_model
from napari_unet.core.settings import NetworkSettings, PredictionSettings, TrainingSettings
from napari_unet.core.training import loop, trainer
from napari_unet.core.training.loop import train
from napari_unet.core.training.plan import TrainingPlan, resolve
from napari_unet.core.training.trainer import Trainer, schedule
from napari_unet.core.training.validation import Score

TINY = NetworkSettings(width=4, depth=2)
QUICK = TrainingSettings(
    seconds=0, steps=6, patch=48, unpainted="background", device="cpu", precision="float32", validate_every=1e3
)


def plan(annotated: AnnotatedImage, network: NetworkSettings = TINY, **values: Any) -> TrainingPlan:
    known = {f.name for f in dataclasses.fields(TrainingSettings)}
    more = {k: values.pop(k) for k in list(values) if k not in known}
    return resolve([annotated], dataclasses.replace(QUICK, **values), network=network, **more)


def kinds(events: list[Any]) -> list[str]:
    return [type(e).__name__ for e in events]


def weights(model: Model | torch.nn.Module) -> torch.Tensor:
    network = model.network if isinstance(model, Model) else model
    return torch.cat([v.flatten().float() for v in network.state_dict().values()])


def test_the_order_of_events(annotated: AnnotatedImage) -> None:
    events = list(train(plan(annotated)))
    assert kinds(events) == ["Started", *["StepDone"] * 6, "Validated", "Finished"]
    started, finished = events[0], events[-1]
    assert (started.job, started.device, started.precision, started.total) == ("train", "cpu", "float32", 6)
    steps = [e for e in events if isinstance(e, StepDone)]
    assert [e.step for e in steps] == [1, 2, 3, 4, 5, 6] and steps[-1].total == 6
    assert all(np.isfinite(e.loss) and e.learning_rate > 0 and e.elapsed > 0 for e in steps)
    assert finished.step == finished.best_step == 6 and set(finished.metrics) == {"loss", "iou", "f1"}
    entry = finished.model.card.training_history[-1]
    assert entry["steps"] == 6 and entry["cells"] == 9 and entry["start"] == "scratch"


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_the_loss_falls_and_the_cells_are_found(annotated: AnnotatedImage, optimiser: str) -> None:
    chosen = plan(annotated, steps=90, optimiser=optimiser, learning_rate=0.01 if optimiser == "adamw" else 1e-3)
    events = list(train(chosen))
    losses = [e.loss for e in events if isinstance(e, StepDone)]
    assert np.mean(losses[-15:]) < 0.6 * np.mean(losses[:10])
    assert events[-1].metrics["iou"] > 0.6 or optimiser == "sgd"  # which needs many more steps


def test_the_plan_and_its_model_are_not_changed(annotated: AnnotatedImage) -> None:
    chosen = plan(annotated)
    before = weights(chosen.model)
    list(train(chosen))
    assert torch.equal(before, weights(chosen.model)) and chosen.model.card.training_history == ()


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_the_same_seed_repeats_a_training(annotated: AnnotatedImage, padding: str) -> None:
    network = dataclasses.replace(TINY, padding=padding, dropout=0.3)

    def trained(seed: int, others: int) -> torch.Tensor:
        chosen = plan(annotated, network, seed=seed)
        torch.rand(others)  # whatever else draws random numbers meanwhile
        return weights(list(train(chosen))[-1].model)

    assert torch.equal(trained(3, 0), trained(3, 7))
    assert not torch.equal(trained(3, 0), trained(4, 0))


def test_stopping_is_answered_within_one_step(annotated: AnnotatedImage) -> None:
    asked = iter([False, False, True])
    events = list(train(plan(annotated, steps=10**6), stop=lambda: next(asked)))
    assert kinds(events) == ["Started", "StepDone", "StepDone", "Stopped", "Validated", "Finished"]
    assert events[-1].model is not None and "Stopped on request" in events[-1].message


def test_stopping_before_the_first_step(annotated: AnnotatedImage) -> None:
    events = list(train(plan(annotated), stop=lambda: True))
    assert kinds(events) == ["Started", "Stopped", "Finished"] and events[-1].step == 0


def test_time_limits_a_training(annotated: AnnotatedImage) -> None:
    events = list(train(plan(annotated, steps=0, seconds=3.0)))
    steps = [e for e in events if isinstance(e, StepDone)]
    assert 2.9 < steps[-1].elapsed < 10 and steps[-1].remaining == 0
    assert steps[-1].learning_rate < 0.3 * max(e.learning_rate for e in steps)


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[float]], None]:
    """Return a function that fixes the scores of the measurements to come, one after each step."""

    def arrange(f1: list[float]) -> None:
        coming = iter(f1)
        monkeypatch.setattr(loop, "score", lambda *_: Score(0.0, 0.0, next(coming)))

    return arrange


def every_step(annotated: AnnotatedImage, **values: Any) -> TrainingPlan:
    """Return a plan that measures after every step (0.1 s is the shortest time, so it is put below that)."""
    chosen = plan(annotated, **values)
    return dataclasses.replace(chosen, settings=dataclasses.replace(chosen.settings, validate_every=0.0))


def test_the_best_model_is_kept(annotated: AnnotatedImage, scored: Callable[[list[float]], None]) -> None:
    scored([0.1, 0.5, 0.9, 0.1, 0.2, 0.3])
    chosen = every_step(annotated, ema_decay=0.0)
    states = []
    events = []
    for event in train(chosen):
        events.append(event)
        if isinstance(event, Validated):
            states.append(event)
    assert [e.best for e in states] == [True, True, True, False, False, False]
    finished = events[-1]
    assert (finished.best_step, finished.step, finished.metrics["f1"]) == (3, 6, 0.9)
    three_steps = plan(annotated, ema_decay=0.0, steps=6)
    worker = Trainer(three_steps)
    for step in range(3):
        worker.train_step(step / 6)
    worker.close()
    assert torch.equal(weights(finished.model), weights(worker.averaged_copy()))


def test_a_later_model_is_kept_unless_it_is_worse_by_more_than_chance(
    annotated: AnnotatedImage, scored: Callable[[list[float]], None]
) -> None:
    chosen = every_step(annotated)
    cells = sum(sample.cells for sample in chosen.split.validation)
    chance = 0.5 / cells**0.5
    assert 0 < chance < 0.5
    # The best of all is the mark, also for those that come after one that was kept for no clear reason.
    scored([0.9, 0.91 - chance, 0.91 - 2 * chance, 0.89 - chance, 0.91 - chance, 0.0])
    events = list(train(chosen))
    assert [e.best for e in events if isinstance(e, Validated)] == [True, True, False, False, True, False]
    assert (events[-1].best_step, events[-1].metrics["f1"]) == (5, round(0.91 - chance, 4))


def test_a_start_model_has_to_be_beaten_once(annotated: AnnotatedImage, scored: Callable[[list[float]], None]) -> None:
    first = list(train(plan(annotated)))[-1].model
    scored([0.5, 0.49, 0.7, 0.6, 0.49, 0.51, 0.5])
    events = list(train(every_step(annotated, start=first)))
    assert [e.best for e in events if isinstance(e, Validated)] == [True, False, True, True, False, True, False]
    assert (events[-1].best_step, events[-1].metrics["f1"]) == (5, 0.51)


def test_a_start_model_that_stays_better_is_kept(
    annotated: AnnotatedImage, scored: Callable[[list[float]], None]
) -> None:
    first = list(train(plan(annotated)))[-1].model
    scored([0.8, 0.79, 0.6, 0.7, 0.2, 0.1, 0.3])
    chosen = every_step(annotated, start=first, ema_decay=0.0)
    events = list(train(chosen))
    assert [(e.step, e.best) for e in events if isinstance(e, Validated)][:2] == [(0, True), (1, False)]
    assert (events[-1].best_step, events[-1].step) == (0, 6)
    assert torch.equal(weights(events[-1].model), weights(first))


def test_patience_ends_a_training_that_no_longer_improves(
    annotated: AnnotatedImage, scored: Callable[[list[float]], None]
) -> None:
    scored([0.1, 0.9, 0.4, 0.3, 0.2, 0.9])
    events = list(train(every_step(annotated, patience=3)))
    assert sum(isinstance(e, StepDone) for e in events) == 5
    assert events[-2].reason == events[-1].message == "No better model in 3 validations, so the training ends here."
    assert events[-1].best_step == 2


def test_without_a_validation_part_the_last_model_is_the_result(annotated: AnnotatedImage) -> None:
    events = list(train(plan(annotated, validation=0.0)))
    assert "Validated" not in kinds(events) and events[-1].metrics == {} and events[-1].best_step == 6


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_continuing_equals_never_having_stopped(
    annotated: AnnotatedImage, tmp_path: Path, optimiser: str, norm: str
) -> None:
    network = dataclasses.replace(TINY, norm=norm)
    chosen = plan(annotated, network, optimiser=optimiser, learning_rate=1e-3)

    def steps(worker: Trainer, count: int) -> list[float]:
        try:
            return [worker.train_step(0.0) for _ in range(count)]
        finally:
            worker.close()

    straight = Trainer(chosen)
    losses = steps(straight, 7)
    first = Trainer(chosen)
    assert steps(first, 3) == losses[:3]
    first.save_state(tmp_path)
    trained = Model(first.averaged_copy(), dataclasses.replace(chosen.model.card, training_history=({"steps": 3},)))
    second = Trainer(dataclasses.replace(chosen, model=trained, resume=tmp_path))
    assert second.step == 3
    assert steps(second, 4) == losses[3:]
    assert torch.equal(weights(second.network), weights(straight.network))
    assert torch.equal(weights(second.ema), weights(straight.ema))
    a, b = second.optimiser.state_dict()["state"], straight.optimiser.state_dict()["state"]
    assert a.keys() == b.keys() and len(a) > 0
    assert all(torch.equal(a[i][k], b[i][k]) for i in a for k in a[i] if isinstance(a[i][k], torch.Tensor))


def test_continuing_from_a_run_folder(annotated: AnnotatedImage, tmp_path: Path) -> None:
    first = list(train(plan(annotated, folder=tmp_path)))
    assert any(isinstance(e, CheckpointSaved) for e in first)
    start = load_model(tmp_path / "model")
    chosen = resolve([annotated], dataclasses.replace(QUICK, steps=4), start=start, resume=tmp_path)
    second = list(train(chosen))
    assert [e.step for e in second if isinstance(e, StepDone)] == [7, 8, 9, 10]
    assert len(second[-1].model.card.training_history) == 2 and second[-1].model.card.training_history[-1]["steps"] == 4


def test_a_state_of_another_network_or_none_is_refused(annotated: AnnotatedImage, tmp_path: Path) -> None:
    other = plan(annotated, dataclasses.replace(TINY, depth=3))
    with pytest.raises(ModelError, match="cannot be continued"):
        Trainer(dataclasses.replace(other, resume=tmp_path))
    worker = Trainer(plan(annotated))
    worker.save_state(tmp_path)
    worker.close()
    with pytest.raises(ModelError, match="cannot be continued"):
        Trainer(dataclasses.replace(other, resume=tmp_path))


def test_what_was_reached_lies_in_the_run_folder(annotated: AnnotatedImage, tmp_path: Path) -> None:
    events = list(train(plan(annotated, folder=tmp_path)))
    assert events[-1].path == str(tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    assert torch.equal(weights(loaded), weights(events[-1].model)) and loaded.card.training_history[-1]["steps"] == 6


@pytest.fixture
def losses(monkeypatch: pytest.MonkeyPatch) -> Callable[[set[int]], None]:
    """Return a function that makes the loss of some calls undefined."""

    def arrange(bad: set[int]) -> None:
        original, calls = Trainer._loss, iter(range(10**6))

        def loss(self: Trainer, batch: Any) -> torch.Tensor:
            value = original(self, batch)
            return value * math.nan if next(calls) in bad else value

        monkeypatch.setattr(Trainer, "_loss", loss)

    return arrange


def test_an_undefined_loss_rolls_back(annotated: AnnotatedImage, losses: Callable[[set[int]], None]) -> None:
    losses({2, 4})
    chosen = plan(annotated, steps=12)
    events = list(train(chosen))
    messages = [e.message for e in events if isinstance(e, Fallback)]
    assert len(messages) == 2 and "undefined at step 2" in messages[0]
    assert kinds(events).count("StepDone") == 12
    assert torch.isfinite(weights(events[-1].model)).all()
    rates = [e.learning_rate for e in events if isinstance(e, StepDone)]
    assert max(rates[3:]) <= chosen.settings.learning_rate / 4 + 1e-12


def test_a_loss_that_stays_undefined_ends_the_training_but_keeps_the_model(
    annotated: AnnotatedImage, losses: Callable[[set[int]], None], tmp_path: Path
) -> None:
    losses(set(range(3, 10**5)))
    events: list[Any] = []
    with pytest.raises(DataError, match="undefined 6 times despite smaller learning rates"):
        for event in train(plan(annotated, folder=tmp_path)):
            events.append(event)
    assert isinstance(events[-1], CheckpointSaved)
    assert torch.isfinite(weights(load_model(tmp_path / "model"))).all()


def test_undefined_weights_never_reach_the_average(annotated: AnnotatedImage) -> None:
    worker = Trainer(plan(annotated))
    try:
        worker.train_step(0.0)
        before = weights(worker.ema)
        with torch.no_grad():
            worker.network.head.weight.fill_(math.inf)
        assert math.isnan(worker.train_step(0.0)) and worker.step == 1
        assert torch.equal(before, weights(worker.ema))
        worker.roll_back()
        assert torch.equal(before, weights(worker.network)) and math.isfinite(worker.train_step(0.0))
    finally:
        worker.close()


@pytest.fixture
def short_of_memory(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[tuple[int, ...]]]:
    """Return a function that lets the next n training steps run out of memory and notes what they were given."""

    def arrange(times: int) -> list[tuple[int, ...]]:
        original, shapes = Trainer._loss, []

        def loss(self: Trainer, batch: Any) -> torch.Tensor:
            shapes.append((len(batch), *batch[0]["image"].shape, *batch[0]["target"].shape))
            if len(shapes) <= times:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return original(self, batch)

        monkeypatch.setattr(Trainer, "_loss", loss)
        return shapes

    return arrange


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_out_of_memory_takes_smaller_batches_then_patches(
    annotated: AnnotatedImage, short_of_memory: Callable[[int], Any], padding: str
) -> None:
    image, labels = cells_picture(side=300)
    shapes = short_of_memory(3)
    network = dataclasses.replace(TINY, padding=padding)
    chosen = plan(AnnotatedImage(image, labels), network, batch=4, patch=256, steps=2)
    events = list(train(chosen))
    assert kinds(events)[:4] == ["Started", "Fallback", "Fallback", "Fallback"]
    assert kinds(events).count("StepDone") == 2
    assert [s[0] for s in shapes] == [4, 2, 1, 1, 1]
    assert shapes[3][2] < 0.7 * shapes[2][2] and shapes[3][-1] < 0.7 * shapes[2][-1]
    assert f"1 patch(es) of {shapes[3][2]} px" in events[3].message


def test_when_nothing_gets_smaller_the_error_is_readable(
    annotated: AnnotatedImage, short_of_memory: Callable[[int], Any]
) -> None:
    short_of_memory(10**6)
    with pytest.raises(OutOfMemoryError, match="Out of memory on cpu"):
        list(train(plan(annotated)))


def test_the_processor_comes_last(annotated: AnnotatedImage, short_of_memory: Callable[[int], Any]) -> None:
    short_of_memory(1)
    chosen = plan(annotated)
    run = loop._TrainingRun(chosen, Trainer(chosen))
    card = dataclasses.replace(run.trainer.compute, device=torch.device("cuda"))
    run.trainer.compute = card  # as if the tensors lay there
    message = run.step_down(OutOfMemoryError("x"))
    assert "processor" in message and run.trainer.compute.device.type == "cpu"
    assert run.trainer.compute.precision == "float32" and run.trainer.sizes == chosen.sizes
    run.trainer.close()


def test_lack_of_memory_while_measuring_does_not_end_the_training(
    annotated: AnnotatedImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def score(*_: Any) -> Score:
        raise OutOfMemoryError("Out of memory on cuda:0")

    monkeypatch.setattr(loop, "score", score)
    events = list(train(plan(annotated)))
    assert kinds(events)[-2:] == ["Fallback", "Finished"] and events[-1].model is not None


def previews(*requests: PreviewRequest | None) -> Callable[[], PreviewRequest | None]:
    coming: Iterator[PreviewRequest | None] = iter(requests)
    return lambda: next(coming, None)


def test_a_preview_answers_for_the_region_at_once(annotated: AnnotatedImage) -> None:
    region = np.asarray(annotated.image)[None, 5:60, 7:50]
    events = list(
        train(plan(annotated), preview=previews(PreviewRequest(11, region), None, PreviewRequest(12, region)))
    )
    assert kinds(events)[:6] == ["Started", "Preview", "StepDone", "StepDone", "Preview", "StepDone"]
    one, other = (e for e in events if isinstance(e, Preview))
    assert (one.token, one.step, other.token, other.step) == (11, 0, 12, 2)
    assert one.foreground.shape == one.labels.shape == (55, 43)
    assert one.foreground.dtype == np.float32 and one.labels.dtype == np.int32
    assert not np.array_equal(one.foreground, other.foreground)


def test_a_preview_is_computed_at_the_size_that_is_trained_on(
    annotated: AnnotatedImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = plan(annotated)
    card = dataclasses.replace(chosen.model.card, scale=0.5)
    chosen = dataclasses.replace(chosen, model=Model(chosen.model.network, card))
    shapes = []
    original = loop.predict_region

    def watching(predictor: Any, planes: Any, *more: Any) -> Any:
        shapes.append(planes.shape)
        return original(predictor, planes, *more)

    gaps = []
    labelled = loop.labels_from_outputs

    def labelling(outputs: Any, settings: PredictionSettings) -> Any:
        gaps.append(settings.boundary_erosion)
        return labelled(outputs, settings)

    monkeypatch.setattr(loop, "predict_region", watching)
    monkeypatch.setattr(loop, "labels_from_outputs", labelling)
    request = PreviewRequest(1, np.asarray(annotated.image)[None])
    events = list(train(chosen, preview=previews(request), stop=lambda: True))
    assert isinstance(events[1], Preview) and events[1].foreground.shape == (96, 96)
    # The pixel that parts touching cells there is two pixels wide here, and the threshold takes more.
    assert shapes == [(48, 48)] and gaps == [4]


def test_a_preview_shows_cells_as_the_model_will_segment_them(annotated: AnnotatedImage) -> None:
    chosen = plan(annotated)
    seen = []
    for threshold in (0.01, 0.5, 0.99):
        card = dataclasses.replace(chosen.model.card, prediction={"threshold": threshold, "smallest": 0})
        altered = dataclasses.replace(chosen, model=Model(chosen.model.network, card))
        request = PreviewRequest(1, np.asarray(annotated.image)[None])
        shown = list(train(altered, preview=previews(request), stop=lambda: True))[1]
        assert isinstance(shown, Preview)
        seen.append(int((shown.labels > 0).sum()))
    assert seen[0] > seen[1] > seen[2] == 0


@pytest.mark.parametrize("image", [np.full((1, 20, 20), np.nan), np.zeros((3, 20, 20)), np.zeros((1, 0, 5))])
def test_a_region_that_cannot_be_shown_does_not_end_the_training(annotated: AnnotatedImage, image: np.ndarray) -> None:
    events = list(train(plan(annotated), preview=previews(PreviewRequest(1, image))))
    assert kinds(events)[:3] == ["Started", "Fallback", "StepDone"] and events[-1].step == 6


def test_a_full_disk_does_not_lose_the_model(
    annotated: AnnotatedImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise StoreError(f"The model cannot be saved: {os.strerror(errno.ENOSPC)}.")

    monkeypatch.setattr(loop, "save_model", full)
    events = list(train(plan(annotated, folder=tmp_path)))
    assert kinds(events)[-2:] == ["Fallback", "Finished"]
    assert events[-1].model is not None and events[-1].path == "" and "No space left" in events[-1].message


def test_a_state_that_cannot_be_written_leaves_nothing_behind(
    annotated: AnnotatedImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Trainer(plan(annotated))
    worker.save_state(tmp_path)
    before = (tmp_path / trainer.STATE_NAME).read_bytes()

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(trainer, "save_file", full)
    worker.train_step(0.0)
    with pytest.raises(StoreError, match="No space left"):
        worker.save_state(tmp_path)
    worker.close()
    assert [f.name for f in tmp_path.iterdir()] == [trainer.STATE_NAME]
    assert (tmp_path / trainer.STATE_NAME).read_bytes() == before


def test_checkpoints_are_written_while_training(
    annotated: AnnotatedImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_SAVE_EVERY", 0.0)
    seen = []
    for event in train(plan(annotated, folder=tmp_path, steps=3)):
        if isinstance(event, CheckpointSaved):
            shutil.copytree(tmp_path / "model", tmp_path / f"copy{len(seen)}")
            seen.append(event.step)
    assert seen == [1, 2, 3, 3]
    assert not torch.equal(weights(load_model(tmp_path / "copy0")), weights(load_model(tmp_path / "copy2")))


def test_an_abandoned_training_ends_its_thread(annotated: AnnotatedImage, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []
    original = Trainer.close
    monkeypatch.setattr(Trainer, "close", lambda self: (closed.append(1), original(self))[0])
    events = train(plan(annotated))
    assert isinstance(next(events), Started)
    next(events)
    events.close()  # type: ignore[attr-defined]
    assert closed == [1]


def test_the_batch_statistics_of_a_trained_model_stay(annotated: AnnotatedImage) -> None:
    first = list(train(plan(annotated)))[-1].model
    second = list(train(resolve([annotated], QUICK, start=first)))[-1].model
    one, two = first.network.state_dict(), second.network.state_dict()
    assert all(torch.equal(one[k], two[k]) for k in one if "running" in k)
    assert not torch.equal(one["head.weight"], two["head.weight"])


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_classes_several_channels_and_mixed_precision(precision: str) -> None:
    image, labels = cells_picture()
    kinds_of = np.where(labels > 0, 1 + labels % 2, 0)
    item = AnnotatedImage(np.stack([image, image[::-1]]), kinds_of)
    settings = dataclasses.replace(QUICK, mode="classes", precision=precision)
    events = list(train(resolve([item], settings, network=TINY)))
    assert events[0].precision == precision
    assert events[-1].model.card.classes == ("background", "label 1", "label 2")
    assert events[-1].model.card.channels == 2 and events[-1].model.card.mode == "classes"
    assert all(math.isfinite(e.loss) for e in events if isinstance(e, StepDone))


def test_the_learning_rate_warms_up_and_cools_down() -> None:
    assert schedule(0, 0) == pytest.approx(0.1) and schedule(9, 0) == schedule(500, 0.3) == 1
    falling = [schedule(500, p) for p in np.linspace(0.3, 1, 20)]
    assert all(a > b for a, b in zip(falling, falling[1:], strict=False)) and falling[-1] == pytest.approx(0.05)


def test_the_stopped_event_comes_before_the_last_measurement(annotated: AnnotatedImage) -> None:
    asked = iter([False, True])
    events = list(train(plan(annotated), stop=lambda: next(asked)))
    stopped = next(i for i, e in enumerate(events) if isinstance(e, Stopped))
    assert isinstance(events[-1], Finished) and stopped < len(events) - 1


def test_a_model_s_certainty_is_measured_as_it_will_be_compared(
    annotated: AnnotatedImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = {"min_peak": 0.9, "tta": True, "seed_height": 0.3}
    given: list[PredictionSettings] = []

    def measured(predictor: object, split: object, diameter: float, settings: PredictionSettings) -> float:
        given.append(settings)
        return 0.75

    monkeypatch.setattr(loop, "tune", lambda *_: chosen)
    monkeypatch.setattr(loop, "certainty_of", measured)
    card = list(train(plan(annotated)))[-1].model.card
    assert card.certainty == 0.75 and card.prediction | chosen == card.prediction
    # Models are compared without what a training chose to throw away uncertain cells, and without mirrored images.
    assert [(s.min_peak, s.tta, s.seed_height) for s in given] == [(0.0, False, 0.3)]
