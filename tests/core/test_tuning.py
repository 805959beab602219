"""The choice of how outputs become cells."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from napari_unet.core.data.annotation import Target
from napari_unet.core.data.label_ops import smallest_area
from napari_unet.core.settings import PredictionSettings
from napari_unet.core.training import calibration
from napari_unet.core.training.sampling import Split, make_sample

OUTPUTS = {"classes": slice(0, 2), "distance": slice(2, 3)}


def grid_of_cells(count=4, size=24, boundary_erosion=6):
    """Return squares on a grid, (Y, X)."""
    side = count * (size + boundary_erosion)
    labels = np.zeros((side, side), np.int32)
    for index in range(count**2):
        y, x = (boundary_erosion // 2 + (size + boundary_erosion) * k for k in divmod(index, count))
        labels[y : y + size, x : x + size] = index + 1
    return labels


def sample_of(labels):
    """Return a sample that knows every pixel."""
    known = Target(labels, (labels > 0).astype(np.uint8), np.ones(labels.shape, bool))
    return make_sample(np.zeros((1, *labels.shape), np.float32), known, "cells")


def answer(labels, dip, outside=0.0):
    """Return outputs whose cells have two summits each, ``dip`` deep apart."""
    columns = np.zeros(labels.shape, np.float32)
    for cell in range(1, labels.max() + 1):
        ys, xs = np.nonzero(labels == cell)
        place = (xs - xs.min()) / (xs.max() - xs.min())
        columns[ys, xs] = 0.9 - dip * np.clip(1 - np.abs(place - 0.5) / 0.25, 0, 1)
    inside = np.where(labels > 0, 0.9, outside).astype(np.float32)
    return {"classes": np.stack([1 - inside, inside]), "distance": columns[None]}


@dataclass(frozen=True)
class Fake:
    """What stands for a predictor; copies of it share what was asked, as ``mirror`` is all that differs."""

    tta: bool = False
    network: Any = field(default_factory=lambda: SimpleNamespace(outputs=OUTPUTS))
    answers: list[Any] = field(default_factory=list)
    mirrored: list[Any] = field(default_factory=list)
    asks: list[bool] = field(default_factory=list)

    @property
    def asked(self):
        """How often something was asked."""
        return len(self.asks)


@pytest.fixture
def predictor(monkeypatch):
    """Let regions be answered by ``predictor.answers``, one per sample in turn, or by ``predictor.mirrored``."""
    fake = Fake()

    def predict_region(predictor, _planes, _plane, box, _normalisation):
        answers = fake.mirrored if predictor.tta else fake.answers
        outputs = answers[fake.asks.count(predictor.tta) % len(answers)]
        fake.asks.append(predictor.tta)
        return {name: values[:, box[0] : box[1], box[2] : box[3]] for name, values in outputs.items()}

    monkeypatch.setattr(calibration, "predict_region", predict_region)
    return fake


def test_cells_with_two_summits_are_held_together(predictor):
    labels = grid_of_cells()
    predictor.answers[:] = [answer(labels, dip=0.3)]
    chosen = calibration.tune(predictor, Split((), (sample_of(labels),)), PredictionSettings(), 1.0)
    assert chosen["seed_height"] >= 0.3 > PredictionSettings().seed_height


def test_doubtful_cells_are_dropped_where_they_are_false(predictor):
    labels = grid_of_cells()
    outputs = answer(labels, dip=0.0)
    false = labels > 12
    outputs["distance"][0][false] *= 0.5
    truth = np.where(false, 0, labels)
    predictor.answers[:] = [outputs]
    split = Split((), (sample_of(truth),))
    assert 0.45 < calibration.tune(predictor, split, PredictionSettings(), 1.0)["min_peak"] < 0.9
    predictor.answers[:] = [answer(labels, dip=0.0)]
    # Too high a value of the start model's is taken back.
    assert (
        calibration.tune(predictor, Split((), (sample_of(labels),)), PredictionSettings(min_peak=1.0), 1.0)["min_peak"]
        < 0.9
    )


@pytest.mark.parametrize(("side", "every", "taken"), [(6, 36, False), (12, 36, True), (2, 4, False), (3, 3, True)])
def test_smaller_gains_count_among_many_cells_and_one_cell_never(predictor, side, every, taken):
    labels = grid_of_cells(side)
    outputs = answer(labels, dip=0.0)
    false = labels % every == 1
    outputs["distance"][0][false] *= 0.5
    predictor.answers[:] = [outputs]
    chosen = calibration.tune(predictor, Split((), (sample_of(np.where(false, 0, labels)),)), PredictionSettings(), 1.0)
    assert ("min_peak" in chosen) is taken


def test_what_is_good_already_stays(predictor):
    labels = grid_of_cells()
    predictor.answers[:] = [answer(labels, dip=0.0)]
    assert calibration.tune(predictor, Split((), (sample_of(labels),)), PredictionSettings(smallest=7), 1.0) == {
        "smallest": 7
    }


def test_a_higher_threshold_drops_faint_bridges(predictor):
    labels = grid_of_cells()
    predictor.answers[:] = [answer(labels, dip=0.0, outside=0.55)]
    chosen = calibration.tune(predictor, Split((), (sample_of(labels),)), PredictionSettings(), 1.0)
    assert chosen["threshold"] > 0.55


def test_the_smallest_cell_is_counted_at_the_scale_of_the_samples(predictor):
    labels = grid_of_cells()
    predictor.answers[:] = [answer(labels, dip=0.0)]
    split = Split((), (sample_of(labels),))
    at_half = PredictionSettings(smallest=4 * 24**2 + 8)
    measured = [calibration._outputs(predictor, split.validation[0])]
    assert calibration.mean_ap(measured, PredictionSettings(smallest=24**2)) == 1
    assert calibration.mean_ap(measured, PredictionSettings(smallest=24**2 + 2)) == 0
    assert calibration.tune(predictor, split, at_half, 0.5)["smallest"] == at_half.smallest


def test_both_parts_are_measured(predictor):
    few, many = grid_of_cells(1), grid_of_cells(3)
    predictor.answers[:] = [answer(few, 0.0), answer(many, 0.0)]
    calibration.tune(predictor, Split((sample_of(many),), (sample_of(few),)), PredictionSettings(), 1.0)
    assert predictor.asked == 2


def test_without_cells_nothing_is_measured(predictor):
    empty = sample_of(np.zeros((32, 32), np.int32))
    assert calibration.tune(predictor, Split((empty,), ()), PredictionSettings(), 1.0) == {"smallest": 15}
    assert predictor.asked == 0


def test_the_smallest_area_is_an_eighth_of_what_nearly_all_exceed():
    labels = np.zeros((40, 40), np.int32)
    for index in range(20):
        labels[2 * index, : index + 20] = index + 1
    assert smallest_area([labels]) == pytest.approx(np.percentile(np.arange(20, 40), 5) / 8)
    assert smallest_area([]) == smallest_area([np.zeros((3, 3), int)]) == 0


def test_specks_raise_the_smallest_cell(predictor):
    labels = grid_of_cells()
    specks = labels.copy()
    specks[::15, ::15][labels[::15, ::15] == 0] = 99
    outputs = answer(labels, dip=0.0)
    outputs["classes"][1][specks == 99], outputs["classes"][0][specks == 99] = 0.9, 0.1
    outputs["distance"][0][specks == 99] = 0.9
    predictor.answers[:] = [outputs]
    chosen = calibration.tune(predictor, Split((), (sample_of(labels),)), PredictionSettings(smallest=1), 1.0)
    assert chosen == {"smallest": 2}


def test_sparse_paint_leaves_the_settings_alone(predictor):
    labels = grid_of_cells()
    predictor.answers[:] = [answer(labels, dip=0.3)]
    sample = sample_of(labels)
    sample.known.mask[labels == 0] = False
    assert calibration.tune(predictor, Split((), (sample,)), PredictionSettings(), 1.0) == {"smallest": 15}


def test_mirrored_images_are_averaged_where_that_is_clearly_better(predictor):
    labels = grid_of_cells()
    predictor.answers[:] = [answer(np.where(labels > 3, 0, labels), dip=0.0)]
    predictor.mirrored[:] = [answer(labels, dip=0.0)]
    chosen = calibration.tune(predictor, Split((), (sample_of(labels),)), PredictionSettings(), 1.0, seconds=np.inf)
    assert chosen["tta"] is True


@pytest.mark.parametrize(("side", "missed", "taken"), [(12, 3, True), (12, 1, False), (4, 1, False), (4, 2, True)])
def test_mirrored_images_gain_a_hundredth_and_more_than_one_cell(predictor, side, missed, taken):
    labels = grid_of_cells(side)
    predictor.answers[:] = [answer(np.where(labels > side**2 - missed, 0, labels), dip=0.0)]
    predictor.mirrored[:] = [answer(labels, dip=0.0)]
    chosen = calibration.tune(predictor, Split((), (sample_of(labels),)), PredictionSettings(), 1.0, seconds=np.inf)
    assert chosen.get("tta", False) is taken


@pytest.mark.parametrize(("scale", "missed", "taken"), [(0.5, 1, True), (0.51, 1, False), (0.5, 0, False)])
def test_any_gain_will_do_where_cells_are_seen_so_small_that_mirroring_costs_little(predictor, scale, missed, taken):
    labels = grid_of_cells()
    predictor.answers[:] = [answer(np.where(labels > labels.max() - missed, 0, labels), dip=0.0)]
    predictor.mirrored[:] = [answer(labels, dip=0.0)]
    chosen = calibration.tune(predictor, Split((), (sample_of(labels),)), PredictionSettings(), scale, seconds=np.inf)
    assert chosen.get("tta", False) is taken


def test_mirrored_images_are_left_out_where_they_change_little(predictor):
    labels = grid_of_cells()
    predictor.answers[:] = predictor.mirrored[:] = [answer(labels, dip=0.0)]
    split, was_mirrored = Split((), (sample_of(labels),)), PredictionSettings(tta=True)
    assert "tta" not in calibration.tune(predictor, split, PredictionSettings(), 1.0, seconds=np.inf)
    assert calibration.tune(predictor, split, was_mirrored, 1.0, seconds=np.inf)["tta"] is False


def test_mirrored_images_are_tried_on_as_many_samples_as_there_is_time_for(predictor, monkeypatch):
    labels = grid_of_cells()
    predictor.answers[:] = predictor.mirrored[:] = [answer(labels, dip=0.0)]
    ticks = iter((0.0, 3.0))
    monkeypatch.setattr(calibration.time, "perf_counter", lambda: next(ticks))
    three = Split((), (sample_of(labels),) * 3)
    # Each of the three took a second, so that mirrored each takes four.
    calibration.tune(predictor, three, PredictionSettings(), 1.0, seconds=9.0)
    assert predictor.asks.count(True) == 2


def test_without_time_mirrored_images_are_not_tried(predictor):
    labels = grid_of_cells()
    predictor.answers[:] = [answer(labels, dip=0.0)]
    calibration.tune(predictor, Split((), (sample_of(labels),)), PredictionSettings(), 1.0)
    assert predictor.asks == [False]


def test_the_certainty_is_that_of_the_cells_that_were_shown(predictor):
    labels = grid_of_cells()
    predictor.answers[:] = [answer(labels, 0.0)]
    split, settings = Split((sample_of(labels),), ()), PredictionSettings(smallest=5)
    sure = calibration.certainty_of(predictor, split, 27.0, settings)
    assert 0.7 < sure <= 2 * 0.9 - 1
    assert calibration.certainty_of(predictor, split, 108.0, settings) < sure - 0.3
    predictor.answers[:] = [answer(np.zeros_like(labels), 0.0)]
    assert calibration.certainty_of(predictor, split, 27.0, settings) == 0
