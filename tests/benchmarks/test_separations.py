import numpy as np
import pytest
import torch

import separations
import trials


@pytest.fixture
def rods():
    """Eight bars side by side that touch, and one apart."""
    labels = np.zeros((64, 80), np.int32)
    for number in range(8):
        labels[10:40, 8 + 8 * number : 16 + 8 * number] = number + 1
    labels[50:56, 20:60] = 9
    return labels


def ap(truth, labels):
    return trials.combined([trials.tally(truth, labels)])[0].mean()


def test_perfect_flows_give_the_cells_back(rods):
    flow = separations.flow_of(separations.potential(rods), rods)
    assert not flow[:, rods == 0].any() and np.median(np.linalg.norm(flow, axis=0)[rods > 0]) == pytest.approx(1)
    classes = np.stack([rods == 0, rods > 0]).astype(np.float32)
    assert ap(rods, separations.labels_of_flow({"classes": classes, "flow": flow}, 0.5, 1.0)) > 0.95


def test_perfect_offsets_give_the_cells_back(rods):
    unit, output = 24.0, np.zeros((4, *rods.shape), np.float32)
    places = np.indices(rods.shape)
    for number in range(1, 10):
        inside = rods == number
        away = (places[:, inside].mean(axis=1)[:, None] - places[:, inside]) / unit
        output[:2, inside] = np.arctanh(away)
    output[2], output[3] = 4, np.where(rods > 0, 3, -3)
    classes = np.stack([rods == 0, rods > 0]).astype(np.float32)
    assert ap(rods, separations.labels_of_offset({"classes": classes, "offset": output}, 0.5, 1.0)) == 1


def test_a_flow_never_looks_across_a_border(rods):
    # The long one stays: heat spreads for as long as it needs.
    alone = np.where(np.isin(rods, (3, 9)), rods, 0)
    both, one = (separations.flow_of(separations.potential(labels), labels) for labels in (rods, alone))
    np.testing.assert_allclose(both[:, rods == 3], one[:, rods == 3], atol=1e-3)


def test_the_lovasz_hinge_is_zero_where_all_is_right_with_a_margin():
    mask = torch.tensor([[True, False], [False, True]])
    assert separations._lovasz(torch.where(mask, 1.0, -1.0), mask) == 0
    assert separations._lovasz(torch.where(mask, -1.0, 1.0), mask) == 2


def test_specks_are_dropped_and_labels_numbered(rods):
    rods[0, 0] = 12
    found = separations.without_specks(rods, 5)
    assert found[0, 0] == 0 and np.unique(found).tolist() == list(range(10))
    assert not separations.without_specks(np.zeros((4, 4), np.int32), 5).any()
