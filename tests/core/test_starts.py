"""How much of a start model stays in the result of a training."""

from __future__ import annotations

import dataclasses
import doctest
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from napari_unet.core.data.annotation import AnnotatedImage
from napari_unet.core.inference.tiled import Predictor
from napari_unet.core.network.device import choose
from napari_unet.core.network.model_io import Model, load_model
from napari_unet.core.network.unet import UNet
from napari_unet.core.settings import NetworkSettings, TrainingSettings
from napari_unet.core.training import loop, start_model
from napari_unet.core.training import plan as plan_module
from napari_unet.core.training.loop import train
from napari_unet.core.training.plan import TrainingPlan, read_notes, renew, resolve
from napari_unet.core.training.start_model import interpolation_weight
from napari_unet.core.training.trainer import Trainer
from napari_unet.core.training.validation import Score

TINY = NetworkSettings(width=4, depth=2)
QUICK = TrainingSettings(
    seconds=0, steps=6, patch=48, unpainted="background", device="cpu", precision="float32", validate_every=1e3,
    ema_decay=0.0, learning_rate=1e-2,
)  # fmt: skip


def weights(network: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in network.parameters()])


@pytest.fixture
def start(annotated: AnnotatedImage) -> Model:
    """Return a model for images of many kinds, which has learnt a little."""
    model = list(train(resolve([annotated], QUICK, network=TINY)))[-1].model
    return Model(model.network, dataclasses.replace(model.card, scale=0.0))


@pytest.fixture
def near(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every start model find all painted cells."""
    monkeypatch.setattr(plan_module, "best_start", lambda model, *_: (model, 1.0, []))


def stepped(plan: TrainingPlan, steps: int) -> Trainer:
    worker = Trainer(plan)
    for _ in range(steps):
        worker.train_step(0.0)
    worker.close()
    return worker


def test_examples() -> None:
    found = doctest.testmod(start_model)
    assert found.attempted and not found.failed


@pytest.mark.parametrize("cells", [1, 5, 20, 80])
def test_more_of_a_nearer_start_and_of_fewer_cells_stays(cells: int) -> None:
    shares = [interpolation_weight(f1 / 10, cells) for f1 in range(11)]
    assert shares[0] == shares[2] == 0 and shares == sorted(shares) and shares[-1] <= 0.5
    assert interpolation_weight(1.0, 100) == 0
    assert interpolation_weight(0.8, cells + 10) < interpolation_weight(0.8, cells)


@pytest.mark.usefixtures("near")
def test_the_result_is_the_mean_of_start_and_what_was_learnt(annotated: AnnotatedImage, start: Model) -> None:
    plan = resolve([annotated], QUICK, start=start)
    worker = stepped(plan, 3)
    share = interpolation_weight(1.0, plan.cells)
    assert plan.cells == 9 and 0 < share == worker.kept
    before, learnt = weights(start.network), weights(worker.ema)
    assert not torch.allclose(before, learnt, atol=1e-3)
    expected = share * before + (1 - share) * learnt
    assert torch.allclose(weights(worker.averaged()), expected, atol=1e-6)
    assert torch.equal(weights(worker.averaged_copy()), weights(worker.averaged()))
    assert torch.equal(learnt, weights(worker.ema)) and torch.equal(before, weights(plan.model.network))


@pytest.mark.usefixtures("near")
@pytest.mark.parametrize("validation", [0.0, 0.3])
def test_what_is_measured_and_kept_is_that_mean(
    annotated: AnnotatedImage, start: Model, validation: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    run: list[torch.Tensor] = []
    create, scores = Predictor.create, iter([Score(0.0, 0.0, 0.1 * n) for n in range(9)])

    def noted(network: UNet, *more: Any) -> Predictor:
        run.append(weights(network))
        return create(network, *more)

    monkeypatch.setattr(loop.Predictor, "create", noted)
    monkeypatch.setattr(loop, "score", lambda *_: next(scores))
    plan = resolve([annotated], dataclasses.replace(QUICK, validation=validation), start=start)
    finished = list(train(plan))[-1].model
    alone = list(train(dataclasses.replace(plan, nearness=0.0)))[-1].model
    share = interpolation_weight(1.0, plan.cells)
    expected = share * weights(start.network) + (1 - share) * weights(alone.network)
    assert torch.allclose(weights(finished.network), expected, atol=1e-6)
    assert not torch.allclose(expected, weights(alone.network), atol=1e-3)
    assert finished.card.training_history[-1]["kept_of_start"] == round(share, 2)
    assert "kept_of_start" not in alone.card.training_history[-1]
    if validation:
        assert torch.equal(run[0], weights(start.network)) and torch.allclose(run[1], expected, atol=1e-6)


@pytest.mark.usefixtures("near")
def test_a_start_that_stays_better_is_not_called_a_part(
    annotated: AnnotatedImage, start: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([Score(0.0, 0.0, 0.9), Score(0.0, 0.0, 0.1)])
    monkeypatch.setattr(loop, "score", lambda *_: next(scores))
    finished = list(train(resolve([annotated], QUICK, start=start)))[-1]
    assert finished.best_step == 0 and "kept_of_start" not in finished.model.card.training_history[-1]
    assert torch.equal(weights(finished.model.network), weights(start.network))


@pytest.mark.usefixtures("near")
@pytest.mark.parametrize(
    ("changes", "card"),
    [({"start_interpolation": False}, {}), ({}, {"scale": 1.0}), ({"mode": "classes"}, {"mode": "classes"})],
)
def test_nothing_is_kept(
    annotated: AnnotatedImage, start: Model, changes: dict[str, Any], card: dict[str, Any]
) -> None:
    """Not where the user does not want it, of a model for images of one kind, and of classes."""
    given = Model(start.network, dataclasses.replace(start.card, **card))
    worker = stepped(resolve([annotated], dataclasses.replace(QUICK, **changes), start=given), 1)
    assert worker.kept == 0 and worker.averaged() is worker.ema


def test_nothing_is_kept_of_a_start_that_finds_no_cell(annotated: AnnotatedImage, start: Model) -> None:
    with torch.no_grad():
        for parameter in start.network.parameters():
            parameter.zero_()
    plan = resolve([annotated], QUICK, start=start)
    finished = list(train(plan))[-1]
    assert plan.nearness == 0 and "kept_of_start" not in finished.model.card.training_history[-1]


@pytest.mark.usefixtures("near")
def test_less_is_kept_once_more_is_painted(annotated: AnnotatedImage, start: Model) -> None:
    plan = resolve([annotated], QUICK, start=start)
    worker = stepped(plan, 1)
    before = worker.kept
    again = renew(plan, [annotated, dataclasses.replace(annotated, name="other")])
    worker.renew(again)
    assert again.cells == 2 * plan.cells and worker.kept == interpolation_weight(1.0, again.cells) < before


@pytest.mark.parametrize("off_at_first", [False, True])
def test_a_training_that_goes_on_keeps_of_what_it_began_with(
    annotated: AnnotatedImage, start: Model, tmp_path: Path, off_at_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_module, "best_start", lambda model, *_: (model, 0.4, []))
    settings = dataclasses.replace(QUICK, validation=0.0)
    began = dataclasses.replace(settings, start_interpolation=not off_at_first)
    first = resolve([annotated], began, start=start, folder=tmp_path)
    list(train(first))
    reached = load_model(tmp_path / "model")
    assert not torch.allclose(weights(reached.network), weights(start.network), atol=1e-3)
    # What was learnt is near to what it was learnt from, which says nothing of the start.
    monkeypatch.setattr(plan_module, "best_start", lambda model, *_: (model, 0.9, []))
    plan = resolve([annotated], settings, start=reached, resume=tmp_path, folder=tmp_path)
    assert plan.nearness == first.nearness == 0.4
    worker = stepped(plan, 1)
    assert worker.kept == interpolation_weight(0.4, plan.cells) > 0
    expected = torch.lerp(weights(worker.ema), weights(start.network), worker.kept)
    assert torch.allclose(weights(worker.averaged()), expected, atol=1e-6)
    off = resolve([annotated], dataclasses.replace(settings, start_interpolation=False), start=reached, resume=tmp_path)
    assert stepped(off, 1).kept == 0


@pytest.mark.usefixtures("near")
def test_a_state_from_before_shares_goes_on_without(annotated: AnnotatedImage, start: Model, tmp_path: Path) -> None:
    plan = resolve([annotated], QUICK, start=start, folder=tmp_path)
    list(train(dataclasses.replace(plan, nearness=0.0)))
    tensors = load_file(tmp_path / "state.safetensors")
    notes = read_notes(tmp_path)
    del notes["nearness"]
    save_file(tensors, tmp_path / "state.safetensors", {"notes": json.dumps(notes)})
    again = resolve([annotated], QUICK, start=load_model(tmp_path / "model"), resume=tmp_path)
    assert again.nearness == 0 and stepped(again, 1).kept == 0


@pytest.mark.usefixtures("near")
def test_the_start_moves_along_to_another_device(
    annotated: AnnotatedImage, start: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Trainer(resolve([annotated], QUICK, start=start))
    moved: list[torch.device] = []
    monkeypatch.setattr(worker.start, "to", moved.append)
    compute = choose("cpu", "bfloat16")
    worker.move(compute)
    worker.close()
    assert moved == [compute.device]
