from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from conftest import cells_picture, discs
from napari_unet.core.data.annotation import AnnotatedImage
from napari_unet.core.data.rescale import LARGER, SCRATCH_RANGE, choose_scale
from napari_unet.core.errors import DataError, DeviceError, SettingsError, UNetError
from napari_unet.core.network.model_io import Model
from napari_unet.core.settings import NetworkSettings, TrainingSettings
from napari_unet.core.training.plan import resolve

CPU = TrainingSettings(device="cpu", precision="float32")
TINY = NetworkSettings(width=4, depth=2)
IMAGE, LABELS = cells_picture()


def item(image: Any = IMAGE, labels: Any = LABELS, **more: Any) -> AnnotatedImage:
    return AnnotatedImage(image, labels, **more)


def planned(*items: AnnotatedImage, **chosen: Any) -> Any:
    more = {k: chosen.pop(k) for k in ("start", "network", "name", "folder") if k in chosen}
    return resolve(items or [item()], dataclasses.replace(CPU, **chosen), **{"network": TINY, **more})


def test_a_plan_is_complete() -> None:
    plan = planned(name="mine")
    assert plan.settings.learning_rate == 1e-3 and plan.compute.precision == "float32"
    assert plan.model.card.name == "mine" and plan.model.card.channels == 1
    assert plan.model.card.network == TINY and plan.model.card.diameter == pytest.approx(18, abs=1)
    assert plan.training_history["cells"] == 9 and plan.training_history["start"] == "scratch"
    assert plan.sizes == (96, 96) and plan.weights.shape == (2,)
    assert plan.split.train and plan.split.validation


def test_images_are_normalised_by_the_whole_plane() -> None:
    plan = planned(validation=0.0)
    low, high = np.percentile(IMAGE, (1, 99.8))
    np.testing.assert_allclose(plan.split.train[0].image[0], np.clip((IMAGE - low) / (high - low), -1, 4), atol=1e-5)


@pytest.mark.parametrize(
    ("items", "chosen", "message"),
    [
        ([item(labels=LABELS * 0)], {}, "No labels are painted"),
        ([item(labels=LABELS * 0)], {"mode": "classes"}, "No labels are painted"),
        ([item(labels=LABELS * 0)], {"unpainted": "background"}, "No cells are painted, only background"),
        ([item(labels=np.where(LABELS, 4, 0))], {"background_label": 4}, "No cells are painted, only background"),
        ([item(labels=LABELS[1:])], {}, r"have the shape \(95, 96\), but the image has \(96, 96\)"),
        ([item(labels=LABELS.astype(float))], {}, "whole numbers"),
        ([item()], {"background_rim": 0}, "of one class, so there is nothing to separate"),
        ([item(image=IMAGE * 0)], {}, "is constant: every grey value is 0"),
        ([item(image=np.where(LABELS, IMAGE, np.nan))], {}, "are NaN or infinite"),
        ([item(image=IMAGE.astype(np.complex128))], {}, "complex128 numbers; convert"),
        ([item(image=IMAGE[None, None])], {}, r"has the shape \(1, 1, 96, 96\)"),
        ([item(), item(image=np.stack([IMAGE] * 2))], {}, r"have \[1, 2\] channels"),
        ([item(IMAGE[:0], LABELS[:0])], {}, "No labels|empty"),
    ],
)
def test_what_cannot_be_learnt_from(items: list[AnnotatedImage], chosen: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        planned(*items, **chosen)


def test_no_image_wrong_settings_and_a_missing_device(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="no annotated image"):
        resolve([])
    with pytest.raises(SettingsError, match="patch is 1"):
        planned(patch=1)
    with pytest.raises(SettingsError, match="width is 1"):
        planned(network=NetworkSettings(width=1))
    monkeypatch.setattr("napari_unet.core.network.device.available", lambda d: d == "cpu")
    with pytest.raises(DeviceError, match="cuda is not available"):
        planned(device="cuda")


def test_a_one_pixel_wide_image_is_no_crash() -> None:
    image = np.linspace(0, 1, 50)[:, None]
    labels = np.zeros((50, 1), np.int32)
    labels[5:15], labels[25:35] = 1, 2
    plan = planned(item(image, labels))
    assert plan.split.train[0].image.shape[2] == round(plan.model.card.scale)


def test_images_without_paint_are_left_out() -> None:
    plan = planned(item(), item(IMAGE * 0, LABELS * 0, name="empty"), validation=0.0)
    assert len(plan.split.train) == 1


def test_the_user_is_told_what_matters() -> None:
    one = discs((60, 60), [(30, 30)], 9)
    notes = planned(item(np.random.default_rng(0).random((60, 60)), one, name="x")).notes
    assert any("nothing to measure on" in n for n in notes)
    large = np.kron(LABELS, np.ones((6, 6), int))
    image = np.kron(IMAGE, np.ones((6, 6)))
    plan = planned(item(image, large), unpainted="background")
    assert plan.model.card.scale < 0.7 and any("of their size" in n for n in plan.notes)
    assert max(s.image.shape[1] for s in (*plan.split.train, *plan.split.validation)) <= 576 * plan.model.card.scale + 1


@pytest.mark.parametrize("diameter", [0.0, 3.0, 10.0, 24.0, 48.0, 200.0, 10_000.0])
@pytest.mark.parametrize("expected", [None, 0.0, 5.0, 30.0])
def test_objects_are_brought_near_to_what_is_known(diameter: float, expected: float | None) -> None:
    scale = choose_scale(diameter, expected)
    assert 0.05 <= scale <= 8
    if not diameter or expected == 0:
        assert scale == 1
        return
    low, high = SCRATCH_RANGE if expected is None else (expected, expected * LARGER)
    if low <= diameter <= high:
        assert scale == 1
    elif scale == 1:  # so near that it is not resampled
        assert low / 1.1 <= diameter <= high * 1.1
    elif 0.05 < scale < 8:
        assert low * 0.98 <= diameter * scale <= high * 1.02


def test_cells_look_to_the_network_after_training_as_before() -> None:
    # Untrained, the bundled models bring every cell to their diameter, see `choosing.py`.
    assert [choose_scale(d, 24.0) * d for d in (8.0, 14.0, 18.5)] == pytest.approx([24.0] * 3, rel=0.002)
    assert choose_scale(23.0, 24.0) == 1.0
    # A model that was taught takes somewhat smaller ones as they come, and sees much smaller ones as those it knows.
    assert choose_scale(20.0, 24.0, 1.0) == 1.0
    assert choose_scale(12.0, 24.0, 1.0) == 2.0


@pytest.mark.parametrize("diameter", [10.0, 15.0, 24.0, 64.0])
def test_one_training_after_another_sees_cells_at_one_size(diameter: float) -> None:
    first = choose_scale(diameter, 24.0)
    assert choose_scale(diameter, first * diameter, first) == first
    # Cells of quite another size are brought to what it knows.
    other = choose_scale(diameter * 4, first * diameter, first)
    assert other < first and other * diameter * 4 <= first * diameter * LARGER * 1.02


def test_a_taught_model_keeps_its_size_in_the_next_training(tiny_model: Callable[..., Model]) -> None:
    diameter = planned().model.card.diameter
    taught = planned(start=tiny_model(diameter=1.4 * diameter, scale=1.4), network=None)
    assert taught.model.card.scale == 1.4
    assert taught.model.card.diameter == pytest.approx(1.4 * diameter, abs=0.01)


def test_impossible_settings_of_the_start_are_told_before_the_training(tiny_model: Callable[..., Model]) -> None:
    with pytest.raises(SettingsError, match="heights"):
        planned(start=tiny_model(diameter=18.0, prediction={"heights": 0.3}), network=None)


def test_labels_follow_the_size_of_the_image() -> None:
    plan = planned(item(labels=LABELS, regions=((0, 96, 0, 96),)), diameter=180.0, validation=0.0)
    sample = plan.split.train[0]
    assert sample.image.shape[1:] == sample.known.mask.shape and sample.known.mask.all()
    assert plan.model.card.scale < 0.5 and sample.cells == 9
    painted = sample.known.instances > 0
    assert sample.image[0][painted].mean() > sample.image[0][~painted].mean() + 0.3


def test_the_gap_that_was_cut_is_given_back() -> None:
    assert planned().model.card.prediction["boundary_erosion"] == 1
    assert planned(boundary_erosion=3).model.card.prediction["boundary_erosion"] == 3


def test_starting_from_a_model(tiny_model: Callable[..., Model]) -> None:
    start = tiny_model(diameter=18.0, training_history=({"images": []},))
    plan = planned(start=start, network=None)
    assert plan.model.card.training_history == start.card.training_history
    before, after = start.network.state_dict(), plan.model.network.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert plan.model.network is not start.network and plan.training_history["start"] == "tiny"


def test_a_start_model_is_fitted_to_more_channels(tiny_model: Callable[..., Model]) -> None:
    start = tiny_model(diameter=18.0)
    plan = planned(item(image=np.stack([IMAGE] * 3)), start=start)
    assert any("fitted to 3" in n for n in plan.notes)
    x = torch.rand(1, 1, 32, 32)
    with torch.no_grad():  # three equal channels look like the one that it knew
        torch.testing.assert_close(
            plan.model.network.eval()(x.repeat(1, 3, 1, 1)), start.network.eval()(x), atol=1e-4, rtol=1e-4
        )


def test_a_start_model_is_fitted_to_other_classes(tiny_model: Callable[..., Model]) -> None:
    start = tiny_model(diameter=18.0)
    plan = planned(item(labels=np.where(LABELS, LABELS % 3 + 1, 0)), mode="classes", start=start)
    assert plan.model.card.classes == ("background", "label 1", "label 2", "label 3")
    head = plan.model.network.head.weight
    assert head.shape[0] == 5 and not torch.equal(head[1], head[2])
    assert plan.model.network.outputs["distance"] == slice(4, 5)
    torch.testing.assert_close(head[4], start.network.head.weight[2], atol=0.1, rtol=0)


def test_the_seed_decides_about_weights_and_split() -> None:
    one, same, other = planned(seed=1), planned(seed=1), planned(seed=2)
    assert torch.equal(one.model.network.head.weight, same.model.network.head.weight)
    assert not torch.equal(one.model.network.head.weight, other.model.network.head.weight)


@pytest.mark.parametrize("background", [False, True])
def test_hardly_any_background_is_noted(background: bool) -> None:
    labels = np.zeros_like(LABELS)
    labels[5:90, 5:90] = 1
    if background:
        labels[:, 91:] = labels[91:] = labels[:4] = labels[:, :4] = 2
        labels[20:80, 20:80] = 2
    notes = planned(item(labels=labels), background_label=2).notes
    assert any("Very little background" in n for n in notes) != background


def test_every_error_is_one_of_ours() -> None:
    for labels in (LABELS.astype(object), LABELS.astype(str)):
        with pytest.raises(UNetError):
            planned(item(labels=labels))


def test_emphasised_places_are_seen_at_the_network_s_scale(annotated: AnnotatedImage, tiny_model) -> None:
    oversampled_at = dataclasses.replace(annotated, oversampled=((48.0, 24.0),))
    plan = resolve([oversampled_at], TrainingSettings(validation=0.0), start=tiny_model(diameter=60.0))
    scale = plan.model.card.scale
    assert scale > 1.2
    assert plan.split.train[0].oversampled == ((48 * scale, 24 * scale),)
