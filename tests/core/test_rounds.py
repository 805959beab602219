"""Training that goes on with what was painted meanwhile, and training that is continued later."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from napari_unet.core.data.annotation import AnnotatedImage
from napari_unet.core.errors import DataError
from napari_unet.core.events import AnnotationsUpdated, Fallback, Finished, StepDone, Validated
from napari_unet.core.network.model_io import load_model
from napari_unet.core.settings import NetworkSettings, TrainingSettings
from napari_unet.core.training.loop import train
from napari_unet.core.training.plan import TrainingPlan, held_out_of, read_notes, renew, resolve
from napari_unet.core.training.sampling import HeldOut, Sample, split_samples

TINY = NetworkSettings(width=4, depth=2)
QUICK = TrainingSettings(
    steps=6, seconds=0, patch=64, validate_every=0.1, device="cpu", background_label=1, border_weight=0.0, elastic=0.0
)


def squares(places: list[tuple[int, int]], size: int = 96, name: str = "squares") -> AnnotatedImage:
    """Return a picture with a bright cell of 12 px at each place, labelled from 2 on, and background around."""
    labels = np.ones((size, size), np.int32)
    for number, (y, x) in enumerate(places, start=2):
        labels[y : y + 12, x : x + 12] = number
    noise = np.random.default_rng(0).normal(0, 5, labels.shape)
    return AnnotatedImage(np.where(labels > 1, 200, 40) + noise, labels, name=name)


FIRST = [(8, 8), (8, 40), (60, 8), (60, 70)]
MORE = [*FIRST, (30, 20), (34, 70), (80, 40)]


def boxes(samples: tuple[Sample, ...]) -> set[tuple[int, int]]:
    """Return the shapes of samples."""
    return {sample.known.mask.shape for sample in samples}


def news_at(step: int, images: list[AnnotatedImage]):
    """Return a news function that hands over these images once, at the so-manieth call."""
    calls = iter(range(1000))
    return lambda plan: renew(plan, images) if next(calls) == step else None


def test_paint_joins_a_running_training_and_the_steps_begin_anew() -> None:
    plan = resolve([squares(FIRST)], QUICK, network=TINY)
    events = list(train(plan, get_updates=news_at(4, [squares(MORE)])))
    joined = [event for event in events if isinstance(event, AnnotationsUpdated)]
    assert [(event.step, event.planes) for event in joined] == [(4, 1)]
    assert 5 <= joined[0].cells <= 7
    assert [event.step for event in events if isinstance(event, StepDone)] == list(range(1, 11))
    assert events[-1].model.card.training_history[-1]["cells"] == 7


def test_what_joins_is_parted_along_the_same_line() -> None:
    plan = resolve([squares(FIRST)], QUICK, network=TINY)
    (held_out,) = plan.split.held_out
    again = renew(plan, [squares(MORE)])
    assert again.split.held_out == plan.split.held_out
    assert boxes(again.split.validation) == boxes(plan.split.validation)
    assert boxes(again.split.train) == boxes(plan.split.train)
    assert sum(s.cells for s in again.split.train) > sum(s.cells for s in plan.split.train)
    assert held_out.name == "squares"


def test_a_new_plane_joins_those_that_are_learnt_from() -> None:
    plan = resolve([squares(FIRST)], QUICK, network=TINY)
    again = renew(plan, [squares(FIRST), squares(MORE, name="other")])
    assert [sample.name for sample in again.split.validation] == ["squares"]
    assert sorted(sample.name for sample in again.split.train) == ["other", "squares"]


def test_whole_planes_stay_apart() -> None:
    planes = [squares(FIRST, name=f"plane {index}") for index in range(6)]
    plan = resolve(planes, QUICK, network=TINY)
    kept = {sample.name for sample in plan.split.validation}
    again = renew(plan, [*planes, squares(MORE, name="plane 6")])
    assert {sample.name for sample in again.split.validation} == kept
    assert len(again.split.train) == len(plan.split.train) + 1


def test_places_without_cells_are_chosen_anew() -> None:
    samples = resolve([squares(FIRST)], dataclasses.replace(QUICK, validation=0.0), network=TINY).split.train
    nowhere = HeldOut("squares", 0, 95, False)
    split = split_samples(samples, 0.2, np.random.default_rng(0), (nowhere,))
    assert split.held_out != (nowhere,)
    assert sum(sample.cells for sample in split.validation) == 1


def test_paint_that_teaches_nothing_is_told_and_ends_nothing() -> None:
    plan = resolve([squares(FIRST)], QUICK, network=TINY)
    events = list(train(plan, get_updates=news_at(2, [squares([])])))
    told = [event.message for event in events if isinstance(event, Fallback)]
    assert len(told) == 1
    assert "not used yet: No cells are painted" in told[0]
    assert isinstance(events[-1], Finished) and events[-1].step == 6


def test_a_class_that_the_network_has_no_output_for_is_refused() -> None:
    classes = dataclasses.replace(QUICK, mode="classes", background_label=0)
    image = squares(FIRST)
    kinds = dataclasses.replace(image, labels=np.where(image.labels > 1, 2, 1))
    plan = resolve([kinds], classes, network=TINY)
    with pytest.raises(DataError, match="Label 7 is a new class"):
        renew(plan, [dataclasses.replace(image, labels=np.where(image.labels > 1, 7, 1))])
    assert renew(plan, [kinds]).split.held_out == plan.split.held_out


def continued(folder: Path, images: list[AnnotatedImage], **changes: object) -> TrainingPlan:
    """Return the plan of a training that goes on from a folder."""
    settings = dataclasses.replace(QUICK, **changes)
    return resolve(images, settings, start=load_model(folder / "model"), resume=folder, folder=folder)


def test_continuing_keeps_the_size_and_what_was_kept_apart(tmp_path: Path) -> None:
    plan = resolve([squares(FIRST)], dataclasses.replace(QUICK, diameter=100.0), network=TINY, folder=tmp_path)
    assert plan.model.card.scale != 1
    list(train(plan))
    assert held_out_of(read_notes(tmp_path)) == plan.split.held_out
    again = continued(tmp_path, [squares(MORE)], diameter=0.0)
    assert again.model.card.scale == plan.model.card.scale
    assert boxes(again.split.validation) == boxes(plan.split.validation)


def test_continuing_never_gives_back_less_than_it_began_with(tmp_path: Path) -> None:
    plan = resolve([squares(FIRST)], dataclasses.replace(QUICK, steps=30), network=TINY, folder=tmp_path)
    first = list(train(plan))[-1]
    # Steps that are far too long spoil any network.
    spoilt = list(train(continued(tmp_path, [squares(FIRST)], learning_rate=1.0, ema_decay=0.0)))
    assert not [event for event in spoilt if isinstance(event, Validated) and event.best]
    assert spoilt[-1].metrics == first.metrics
    assert spoilt[-1].step == 36


def test_a_folder_without_a_state_holds_nothing_apart(tmp_path: Path) -> None:
    assert held_out_of(read_notes(tmp_path)) == ()
