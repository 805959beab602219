"""How much of a start model stays in the result of a training."""

from __future__ import annotations

import dataclasses
import doctest
from pathlib import Path
from typing import Any

import pytest
import torch

from napari_unet.core import plan as plan_module
from napari_unet.core import starts
from napari_unet.core.annotation import AnnotatedImage
from napari_unet.core.events import Validated
from napari_unet.core.learner import Learner
from napari_unet.core.package import Model, load_model
from napari_unet.core.plan import TrainingPlan, renew, resolve
from napari_unet.core.settings import NetworkSettings, TrainingSettings
from napari_unet.core.starts import share_kept
from napari_unet.core.training import train

TINY = NetworkSettings(width=4, depth=2)
QUICK = TrainingSettings(
    seconds=0, steps=6, patch=48, unpainted="background", device="cpu", precision="float32", validate_every=1e3,
    average=0.0, learning_rate=1e-2,
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


def stepped(plan: TrainingPlan, steps: int) -> Learner:
    worker = Learner(plan)
    for _ in range(steps):
        worker.train_step(0.0)
    worker.close()
    return worker


def test_examples() -> None:
    found = doctest.testmod(starts)
    assert found.attempted and not found.failed


@pytest.mark.parametrize("cells", [1, 5, 20, 1000])
def test_more_of_a_nearer_start_and_of_fewer_cells_stays(cells: int) -> None:
    shares = [share_kept(f1 / 10, cells) for f1 in range(11)]
    assert shares[0] == shares[2] == 0 and shares == sorted(shares) and shares[-1] <= 0.5
    assert share_kept(0.8, cells + 10) < share_kept(0.8, cells) or cells == 1


@pytest.mark.usefixtures("near")
def test_the_result_is_the_mean_of_start_and_what_was_learnt(annotated: AnnotatedImage, start: Model) -> None:
    plan = resolve([annotated], QUICK, start=start)
    worker = stepped(plan, 3)
    share = share_kept(1.0, plan.cells)
    assert plan.cells == 9 and 0 < share == worker.kept
    before, learnt = weights(start.network), weights(worker.average)
    assert not torch.allclose(before, learnt, atol=1e-3)
    expected = share * before + (1 - share) * learnt
    assert torch.allclose(weights(worker.averaged()), expected, atol=1e-6)
    assert torch.equal(weights(worker.averaged_copy()), weights(worker.averaged()))
    assert torch.equal(learnt, weights(worker.average)) and torch.equal(before, weights(plan.model.network))


@pytest.mark.usefixtures("near")
def test_what_is_measured_and_kept_is_that_mean(annotated: AnnotatedImage, start: Model) -> None:
    plan = resolve([annotated], dataclasses.replace(QUICK, validation=0.0), start=start)
    finished = list(train(plan))[-1]
    straight = stepped(dataclasses.replace(plan, nearness=0.0), 6)
    share = share_kept(1.0, plan.cells)
    assert finished.model.card.ledger[-1]["kept_of_start"] == round(share, 2)
    expected = share * weights(start.network) + (1 - share) * weights(straight.average)
    # The rate falls towards the end in one of them alone, so they are near each other but not the same.
    assert torch.dist(weights(finished.model.network), expected) < torch.dist(weights(straight.average), expected)


@pytest.mark.usefixtures("near")
@pytest.mark.parametrize(
    ("changes", "card"),
    [({"near_start": False}, {}), ({}, {"scale": 1.0}), ({"mode": "classes"}, {"mode": "classes"})],
)
def test_nothing_is_kept(
    annotated: AnnotatedImage, start: Model, changes: dict[str, Any], card: dict[str, Any]
) -> None:
    """Not where the user does not want it, of a model for images of one kind, and of classes."""
    given = Model(start.network, dataclasses.replace(start.card, **card))
    plan = resolve([annotated], dataclasses.replace(QUICK, **changes), start=given)
    worker = stepped(plan, 1)
    assert plan.nearness == worker.kept == 0 and worker.averaged() is worker.average


def test_nothing_is_kept_of_a_start_that_finds_no_cell(annotated: AnnotatedImage, start: Model) -> None:
    with torch.no_grad():
        for parameter in start.network.parameters():
            parameter.zero_()
    plan = resolve([annotated], QUICK, start=start)
    finished = list(train(plan))[-1]
    assert plan.nearness == 0 and "kept_of_start" not in finished.model.card.ledger[-1]


@pytest.mark.usefixtures("near")
def test_less_is_kept_once_more_is_painted(annotated: AnnotatedImage, start: Model) -> None:
    plan = resolve([annotated], QUICK, start=start)
    worker = stepped(plan, 1)
    before = worker.kept
    again = renew(plan, [annotated, dataclasses.replace(annotated, name="other")])
    worker.renew(again)
    assert again.cells == 2 * plan.cells and worker.kept == share_kept(1.0, again.cells) < before


@pytest.mark.usefixtures("near")
def test_a_training_that_goes_on_keeps_of_what_it_began_with(
    annotated: AnnotatedImage, start: Model, tmp_path: Path
) -> None:
    first = resolve([annotated], QUICK, start=start, folder=tmp_path)
    list(train(first))
    reached = load_model(tmp_path / "model")
    plan = resolve([annotated], QUICK, start=reached, resume=tmp_path, folder=tmp_path)
    assert plan.nearness == first.nearness == 1
    worker = stepped(plan, 1)
    expected = torch.lerp(weights(worker.average), weights(start.network), worker.kept)
    assert torch.allclose(weights(worker.averaged()), expected, atol=1e-6)
    off = resolve([annotated], dataclasses.replace(QUICK, near_start=False), start=reached, resume=tmp_path)
    assert stepped(off, 1).kept == 0
    events = list(train(plan))
    assert any(isinstance(event, Validated) for event in events)
