from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from conftest import discs
from napari_unet.core.data.annotation import AnnotatedImage, interpret
from napari_unet.core.data.label_ops import border_distance
from napari_unet.core.inference.predict import Predictor
from napari_unet.core.network.device import Compute
from napari_unet.core.network.model_io import Model
from napari_unet.core.settings import TrainingSettings
from napari_unet.core.training import validation
from napari_unet.core.training.sampling import Sample, make_sample
from napari_unet.core.training.validation import Score, known_box, match_known, score

CELLS = discs((60, 100), [(20, 20), (20, 50), (40, 80)], 10)


def sample(labels: np.ndarray, **chosen: object) -> Sample:
    image = np.zeros((1, *labels.shape), np.float32)
    return make_sample(image, interpret(AnnotatedImage(image, labels), TrainingSettings(**chosen), (1, 2)), "a")


@pytest.fixture
def answering(tiny_model: Callable[..., Model], monkeypatch: pytest.MonkeyPatch) -> Callable[[np.ndarray], Predictor]:
    """Return a maker of predictors that give a fixed answer, a class per pixel of the whole picture."""

    def make(answer: np.ndarray, instances: np.ndarray | None = None, classes: int = 2) -> Predictor:
        def region(_: object, planes: object, plane: object, box: tuple[int, ...], *more: object) -> dict:
            inside = (slice(box[0], box[1]), slice(box[2], box[3]))
            maps = np.stack([np.where(answer[inside] == k, 0.9, 0.1 / (classes - 1)) for k in range(classes)])
            distance = border_distance(answer if instances is None else instances)[inside]
            return {"classes": maps.astype(np.float32), "distance": distance[None]}

        monkeypatch.setattr(validation, "predict_region", region)
        return Predictor.create(tiny_model().network, Compute(torch.device("cpu"), torch.float32))

    return make


def test_a_perfect_answer(answering: Callable[..., Predictor]) -> None:
    part = sample(CELLS, unpainted="background")
    found = score(answering(part.known.target, CELLS), [part], np.ones(2, np.float32), "instances")
    assert (found.iou, found.f1) == (1, 1)
    assert found.loss == pytest.approx(-np.log(0.9), rel=1e-4)
    assert found.rank == pytest.approx(2 - 0.1 * found.loss)


def test_an_answer_that_misses_a_cell_and_invents_one(answering: Callable[..., Predictor]) -> None:
    part = sample(CELLS, unpainted="background")
    answer = np.where(CELLS == 3, 0, CELLS)
    answer[48:58, 5:15] = 9
    found = score(answering((answer > 0).astype(np.uint8), answer), [part], np.ones(2, np.float32), "instances")
    assert found.f1 == pytest.approx(4 / 6)
    truth, got = CELLS > 0, answer > 0
    assert found.iou == pytest.approx((truth & got).sum() / (truth | got).sum())


def test_what_is_unknown_does_not_count(answering: Callable[..., Predictor]) -> None:
    painted = np.where(CELLS == 1, 1, 0)
    part = sample(painted)
    answer = (CELLS > 0).astype(np.uint8)  # two more cells, where nobody painted
    found = score(answering(answer, CELLS), [part], np.ones(2, np.float32), "instances")
    assert (found.iou, found.f1) == (1, 1)


def test_classes_that_are_not_there_do_not_count(answering: Callable[..., Predictor]) -> None:
    labels = np.where(CELLS > 0, 1, 0)
    part = sample(labels, mode="classes", unpainted="background")
    found = score(answering(part.known.target, classes=3), [part], np.ones(3, np.float32), "classes")
    assert (found.iou, found.f1) == (1, 1)
    both = sample(np.where(CELLS == 3, 2, labels), mode="classes", unpainted="background")
    found = score(answering(part.known.target, classes=3), [both], np.ones(3, np.float32), "classes")
    assert found.iou == pytest.approx(((2 / 3) + 0) / 2, abs=0.02)


def test_matching_by_hand() -> None:
    truth = np.array([[1, 1, 1, 1, 0, 2, 2, 0, 0, 0]], np.int32)
    labels = np.array([[5, 5, 5, 0, 0, 7, 0, 0, 9, 9]], np.int32)
    known = np.ones(truth.shape, bool)
    # 5 hits 1 at 3/4; 7 meets 2 at 1/2, which is not more than half; 9 hits nothing.
    assert match_known(truth, labels, known).tolist() == [1, 2, 1]
    known[0, 8:] = False
    assert match_known(truth, labels, known).tolist() == [1, 1, 1]
    assert match_known(truth * 0, labels * 0, known).tolist() == [0, 0, 0]
    assert match_known(truth, labels * 0, known).tolist() == [0, 0, 2]


def test_the_box_holds_what_is_known_with_some_context() -> None:
    labels = np.zeros((300, 400), np.int32)
    labels[100:120, 200:240] = 1
    assert known_box(sample(labels, background_rim=0)) == (92, 128, 192, 248)
    assert known_box(sample(labels, unpainted="background")) == (0, 300, 0, 400)


def test_a_large_plane_is_measured_where_its_cells_are() -> None:
    labels = np.zeros((700, 2000), np.int32)
    labels[10:40, 1900:1990], labels[60:90, 1900:1950], labels[650:660, 5:15] = 1, 2, 3
    for unpainted in ("background", "unknown"):
        y0, y1, x0, x1 = known_box(sample(labels, unpainted=unpainted))
        assert y1 - y0 <= 512 and x1 - x0 <= 512
        assert set(np.unique(labels[y0:y1, x0:x1])) == {0, 1, 2}


@pytest.mark.parametrize("shape", [(1, 1), (1, 900), (900, 3)])
def test_boxes_of_thin_planes(shape: tuple[int, int]) -> None:
    y0, y1, x0, x1 = known_box(sample(np.ones(shape, np.int32)))
    assert 0 <= y0 < y1 <= shape[0] and 0 <= x0 < x1 <= shape[1] and max(y1 - y0, x1 - x0) <= 512


def test_the_rank_prefers_cells_found_and_breaks_ties_by_the_loss() -> None:
    assert Score(1, 0.5, 0.6).rank > Score(0.1, 0.5, 0.4).rank
    assert Score(0.1, 0.5, 0.5).rank > Score(0.2, 0.5, 0.5).rank
    assert Score(1e9, 0.5, 0.5).rank == Score(5, 0.5, 0.5).rank
