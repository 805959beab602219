"""Truth against prediction: what is wrong is found, named and painted where it is."""

import numpy as np
import pytest

from conftest import discs
from napari_unet.core.errors import DataError
from napari_unet.core.evaluation.comparison import FALSE, MISSED, POOR, compare, known_pair, paint_kinds
from napari_unet.core.evaluation.metrics import evaluate

CENTRES = [(20.0, 20.0), (20.0, 70.0), (70.0, 20.0)]


@pytest.fixture
def truth():
    return discs((100, 100), CENTRES, 10)


@pytest.fixture
def prediction(truth):
    """Cell 1 exact, cell 2 found by a third, cell 3 missed, and one where no cell is."""
    out = np.where(truth == 1, 11, 0)
    out[(truth == 2) & (np.arange(100) < 66)] = 12
    out[80:90, 80:90] = 13
    return out


def test_every_cell_is_named_by_what_is_wrong_with_it_the_worst_first(truth, prediction):
    found = compare([known_pair((), truth, prediction)])
    assert [(cell.kind, cell.label) for cell in found.cells] == [(MISSED, 3), (FALSE, 13), (POOR, 2), ("", 1)]
    missed, false, poor, good = found.cells
    assert (good.iou, good.partner) == (1.0, 11)
    assert poor.partner == 12
    assert 0.1 < poor.iou < 0.5
    assert missed.box == (60, 81, 10, 31)
    assert false.box == (80, 90, 80, 90)
    assert len(found.worst()) == 3


def test_scores_are_those_of_the_metrics(truth, prediction):
    planes = [(truth, prediction), (truth, truth)]
    found = compare(known_pair((z,), a, b) for z, (a, b) in enumerate(planes))
    assert found.scores == evaluate([a for a, _ in planes], [b for _, b in planes])
    assert found.planes == ((0,), (1,))
    assert found.curve("f1")[0] == (0.5, found.scores["f1_0.50"])


def test_of_sparse_paint_only_what_is_known_counts(truth, prediction):
    paint = np.where(truth == 1, 2, 0)
    paint[truth == 3] = 3
    paint[45:50] = 1
    prediction[46:49, 30:60] = 40
    found = compare([known_pair((), paint, prediction, background_label=1, complete=False)])
    assert [(cell.kind, cell.label) for cell in found.cells] == [(MISSED, 3), (FALSE, 40), ("", 2)]
    whole = compare([known_pair((), paint, prediction, background_label=1)])
    assert {cell.label for cell in whole.cells if cell.kind == FALSE} == {12, 13, 40}


def test_a_prediction_that_covers_half_the_picture_does_not_find_a_painted_cell(truth):
    paint = np.where(truth == 1, 2, 0)
    found = compare([known_pair((), paint, np.ones_like(truth), background_label=1, complete=False)])
    assert [cell.kind for cell in found.cells] == [MISSED]


def test_what_is_wrong_is_painted_where_it_is(truth, prediction):
    pair = known_pair((4,), truth, prediction)
    painted = paint_kinds(pair, compare([pair]).cells)
    np.testing.assert_array_equal(painted == 1, truth == 3)
    np.testing.assert_array_equal(painted == 2, truth == 2)
    np.testing.assert_array_equal(painted == 3, prediction == 13)
    other = known_pair((5,), truth, truth)
    assert not paint_kinds(other, compare([pair]).cells).any()


def test_empty_planes_are_perfect_and_no_plane_is_an_error():
    nothing = np.zeros((20, 20), int)
    found = compare([known_pair((), nothing, nothing)])
    assert found.cells == ()
    assert found.scores["f1_0.50"] == 1
    with pytest.raises(DataError, match="nothing to compare"):
        compare([])


def test_other_shapes_are_refused(truth):
    with pytest.raises(DataError, match=r"\(100, 100\).*\(50, 100\)"):
        known_pair((), truth, truth[:50])
