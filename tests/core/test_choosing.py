"""Several models: which one fits an image, and which one a training had best start from."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from conftest import cells_picture
from napari_unet.core.data.annotation import AnnotatedImage
from napari_unet.core.data.arrays import Planes
from napari_unet.core.evaluation.metrics import average_precision
from napari_unet.core.inference import size_estimation
from napari_unet.core.inference.model_selection import choose_model, tta_note
from napari_unet.core.inference.predict import predict
from napari_unet.core.network import model_card as card_module
from napari_unet.core.network.model_card import BUNDLED, KINDS, Card, bundled_models, is_bundled, model_path
from napari_unet.core.network.model_io import Model, load_model, new_model, save_model
from napari_unet.core.settings import NetworkSettings, PredictionSettings, TrainingSettings
from napari_unet.core.training import start_model
from napari_unet.core.training.loop import train
from napari_unet.core.training.plan import resolve
from napari_unet.core.training.validation import Score

TINY = NetworkSettings(width=4, depth=2)
EXACT = PredictionSettings(device="cpu", precision="float32", smallest=5)
LESSON = TrainingSettings(
    seconds=0, steps=90, patch=48, learning_rate=0.01, unpainted="background", device="cpu", precision="float32",
    validate_every=1e3,
)  # fmt: skip


@pytest.fixture(scope="module")
def taught() -> Model:
    """Return a model that has learnt to find discs."""
    plan = resolve([AnnotatedImage(*cells_picture())], LESSON, network=TINY, name="discs")
    return list(train(plan))[-1].model


@pytest.fixture
def ignorant() -> Model:
    """Return a model that has learnt nothing, but claims to fit the same images."""
    return new_model(Card("nothing", TINY, diameter=19.0))


def with_certainty(card: Card, certainty: float) -> Card:
    """Return the card of a model that was so sure of what it was taught on."""
    return dataclasses.replace(card, certainty=certainty)


def test_the_surest_model_segments(taught: Model, ignorant: Model) -> None:
    image, truth = cells_picture(seed=5)
    both = dataclasses.replace(ignorant, siblings=(taught,))
    output = np.zeros(truth.shape, np.int32)
    events = list(predict(both, Planes(image, "yx"), output, settings=EXACT))
    assert "discs fits best" in events[0].notes[0]
    alone = np.zeros(truth.shape, np.int32)
    choice = choose_model(both, Planes(image, "yx"), EXACT)
    assert choice.model is taught and choice.scale == taught.card.scale
    list(predict(taught, Planes(image, "yx"), alone, settings=EXACT))
    assert np.array_equal(output, alone) and output.max() >= 8


def test_the_measured_size_does_not_follow_the_sliders(taught: Model) -> None:
    image = np.kron(cells_picture(seed=5)[0], np.ones((2, 2), np.float32))
    measuring = dataclasses.replace(taught, card=dataclasses.replace(taught.card, scale=0.0))
    others = [{"threshold": 0.97}, {"smallest": 900}, {"seed_height": 0.9}, {"min_peak": 0.9}]
    choices = [
        choose_model(measuring, Planes(image, "yx"), dataclasses.replace(EXACT, **values)) for values in ({}, *others)
    ]
    assert choices[0].scale < 0.8
    assert {choice.scale for choice in choices} == {choices[0].scale}
    known = choose_model(measuring, Planes(image, "yx"), dataclasses.replace(EXACT, diameter=19.0))
    assert known.scale != choices[0].scale


def test_a_taught_model_sees_clearly_larger_cells_at_another_size(
    taught: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert 0.5 < taught.card.certainty <= 1
    monkeypatch.setattr(size_estimation, "SURE", 0.6)  # so small a network is never as sure as a real one
    sure = dataclasses.replace(taught, card=with_certainty(taught.card, 0.68))
    image, truth = (np.kron(a, np.ones((4, 4), a.dtype)) for a in cells_picture(seed=5))
    choice = choose_model(sure, Planes(image, "yx"), EXACT)
    assert choice.scale == pytest.approx(sure.card.scale / 4, rel=0.2)
    assert "73 px wide here, 18 px where" in choice.note and "Set the typical diameter" in choice.note
    output = np.zeros(truth.shape, np.int32)
    events = list(predict(sure, Planes(image, "yx"), output, settings=dataclasses.replace(EXACT, smallest=500)))
    assert choice.note in events[0].notes and average_precision(truth, output).ap[0] > 0.8


def test_a_taught_model_keeps_its_size_where_it_is_sure_unsure_or_told_the_diameter(
    taught: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(size_estimation, "SURE", 0.6)
    sure = dataclasses.replace(taught, card=with_certainty(taught.card, 0.68))
    image, _ = cells_picture(seed=5)
    same = choose_model(sure, Planes(image, "yx"), EXACT)
    assert same.scale == sure.card.scale and same.note == ""
    large = np.kron(image, np.ones((4, 4), np.float32))
    told = choose_model(sure, Planes(large, "yx"), dataclasses.replace(EXACT, diameter=sure.card.diameter))
    assert told.scale == 1 and told.note == ""
    never_measured = dataclasses.replace(taught, card=with_certainty(taught.card, 0.0))
    assert choose_model(never_measured, Planes(large, "yx"), EXACT).scale == taught.card.scale
    noise = np.random.default_rng(0).normal(size=image.shape).astype(np.float32)
    assert choose_model(sure, Planes(noise, "yx"), EXACT).scale == sure.card.scale


def test_a_model_of_other_channels_is_not_tried(taught: Model, ignorant: Model) -> None:
    colour = dataclasses.replace(new_model(Card("colour", TINY, channels=3, diameter=19.0)), siblings=(taught,))
    assert choose_model(colour, Planes(cells_picture()[0], "yx"), EXACT).model is taught
    alone = choose_model(taught, Planes(cells_picture()[0], "yx"), EXACT)
    assert alone.model is taught and alone.note == ""


def test_training_starts_from_the_model_that_does_best_on_the_paint(taught: Model, ignorant: Model) -> None:
    item = AnnotatedImage(*cells_picture(seed=3))
    for first, second in ((ignorant, taught), (taught, ignorant)):
        plan = resolve([item], LESSON, start=dataclasses.replace(first, siblings=(second,)))
        assert plan.training_history["start"] == "discs" and plan.settings.learning_rate == LESSON.learning_rate
    assert resolve([item], LESSON, start=ignorant).training_history["start"] == "nothing"


@pytest.mark.parametrize(("second", "name"), [(0.83, "discs"), (0.90, "nothing")])
def test_the_first_model_stays_where_another_is_hardly_better(
    taught: Model, ignorant: Model, monkeypatch: pytest.MonkeyPatch, second: float, name: str
) -> None:
    coming = iter([Score(0.0, 0.8, 1.0), Score(0.0, second, 1.0)])
    monkeypatch.setattr(start_model, "score", lambda *_: next(coming))
    item = AnnotatedImage(*cells_picture(seed=3))
    assert (
        resolve([item], LESSON, start=dataclasses.replace(taught, siblings=(ignorant,))).training_history["start"]
        == name
    )


def test_classes_start_from_the_first_model(taught: Model, ignorant: Model) -> None:
    image, labels = cells_picture()
    item = AnnotatedImage(image, np.where(labels > 0, 1 + labels % 2, 0))
    settings = dataclasses.replace(LESSON, mode="classes")
    plan = resolve([item], settings, start=dataclasses.replace(ignorant, siblings=(taught,)))
    assert plan.training_history["start"] == "nothing"


def test_the_name_bundled_stands_for_all_of_them(
    taught: Model, ignorant: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(card_module, "bundled_folder", lambda kind=KINDS[0]: tmp_path / kind)
    save_model(ignorant, tmp_path / KINDS[0])
    assert load_model(BUNDLED).siblings == () and bundled_models() == (f"{BUNDLED}:{KINDS[0]}",)
    save_model(taught, tmp_path / KINDS[1])
    loaded = load_model(BUNDLED)
    assert loaded.card.name == "nothing" and [m.card.name for m in loaded.siblings] == ["discs"]
    assert load_model(f"{BUNDLED}:{KINDS[1]}").card.name == "discs"
    assert is_bundled(BUNDLED) and not is_bundled("bundled:other") and not is_bundled("models/bundled")
    assert model_path(f"{BUNDLED}:{KINDS[1]}") == tmp_path / KINDS[1]


def test_a_near_start_is_taught_more_gently_than_a_far_one(taught: Model, ignorant: Model) -> None:
    item, free = AnnotatedImage(*cells_picture(seed=3)), dataclasses.replace(LESSON, learning_rate=0.0)
    near = resolve([item], free, start=taught).settings.learning_rate
    far = resolve([item], free, start=ignorant).settings.learning_rate
    assert near < far == resolve([item], free, network=TINY).settings.learning_rate


def test_it_is_said_when_the_card_asks_for_mirrored_images():
    card = Card("cells", TINY, prediction={"tta": True})
    said = tta_note(card, PredictionSettings(tta=True))
    assert "4 times as long" in said and "Switch tta off" in said
    assert tta_note(card, PredictionSettings(tta=False)) == ""
    assert tta_note(Card("cells", TINY), PredictionSettings(tta=True)) == ""
