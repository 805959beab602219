from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from scipy import ndimage
from torch.nn import functional

from napari_unet.core.data import weight_map
from napari_unet.core.data.weight_map import boundary_weight_map
from napari_unet.core.errors import SettingsError
from napari_unet.core.network.unet import CLASSES, DISTANCE
from napari_unet.core.settings import TrainingSettings
from napari_unet.core.training.loss import class_weights, distance_loss, training_loss, weighted_cross_entropy


def textbook(labels: np.ndarray, w0: float, sigma: float) -> np.ndarray:
    """Return equation 2's second term by one distance transform of the whole image per cell."""
    ids = [i for i in np.unique(labels) if i > 0]
    if len(ids) < 2:
        return np.zeros(labels.shape)
    distances = np.sort([ndimage.distance_transform_edt(labels != i) for i in ids], axis=0)
    return w0 * np.exp(-((distances[0] + distances[1]) ** 2) / (2 * sigma**2))


DTYPES = [np.uint8, np.int8, np.uint16, np.int32, np.uint32, np.int64, np.uint64]


@settings(max_examples=150, deadline=None)
@given(
    arrays_of.arrays(
        st.sampled_from(DTYPES), st.tuples(st.integers(1, 40), st.integers(1, 40)),
        elements=st.sampled_from([0] * 8 + [1, 2, 3, 50, 127]), fill=st.just(0),
    ),
    st.sampled_from([0.0, 1.0, 10.0]),
    st.sampled_from([0.5, 1.5, 5.0]),
    st.integers(1, 4),
)  # fmt: skip
def test_the_map_is_the_textbooks(labels: np.ndarray, w0: float, sigma: float, grow: int) -> None:
    labels = labels.repeat(grow, 0).repeat(grow, 1)  # pieces, touching cells, cells in several places
    got = boundary_weight_map(labels, w0=w0, sigma=sigma)
    assert got.dtype == np.float32 and got.shape == labels.shape
    np.testing.assert_allclose(got, textbook(labels, w0, sigma), atol=1e-4 * w0)


def cells(seed: int, side: int, count: int) -> np.ndarray:
    """Return cells of a Voronoi picture, parted by background here, touching there."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, side, (count, 2))
    y, x = np.mgrid[:side, :side]
    distance = np.hypot(y[None] - points[:, 0, None, None], x[None] - points[:, 1, None, None])
    ids = rng.choice(60000, count, replace=False) + 1
    return np.where(distance.min(axis=0) < 12, ids[distance.argmin(axis=0)], 0).astype(np.uint16)


@pytest.mark.parametrize("seed", range(3))
def test_many_cells_with_gaps_in_their_ids(seed: int) -> None:
    labels = cells(seed, 150, 40)
    np.testing.assert_allclose(boundary_weight_map(labels), textbook(labels, 10, 5), atol=1e-3)


def test_extreme_ids_and_booleans() -> None:
    labels = np.zeros((20, 20), np.uint64)
    labels[2:8, 2:8], labels[10:18, 10:18] = 2**64 - 1, 2**63
    np.testing.assert_allclose(boundary_weight_map(labels), textbook(labels, 10, 5), atol=1e-3)
    assert not boundary_weight_map(labels > 0).any()  # one cell in two pieces
    negative = np.where(labels > 0, 1, -1).astype(np.int8)
    assert not boundary_weight_map(negative).any()


@pytest.mark.parametrize("labels", [np.zeros((7, 9), np.int32), np.ones((7, 9), np.int32), np.ones((1, 1), np.uint8)])
def test_fewer_than_two_cells_weigh_nothing(labels: np.ndarray) -> None:
    assert not boundary_weight_map(labels).any()


def test_the_place_between_two_close_cells_weighs_most() -> None:
    labels = np.zeros((30, 31), np.int32)
    labels[:, :15], labels[:, 16:] = 1, 2
    got = boundary_weight_map(labels)
    np.testing.assert_allclose(got[:, 15], 10 * np.exp(-(2**2) / 50), rtol=1e-5)


@pytest.mark.parametrize("sigma", [0, -1.0])
def test_sigma_has_to_be_positive(sigma: float) -> None:
    with pytest.raises(SettingsError, match="sigma is"):
        boundary_weight_map(np.ones((2, 2), int), sigma=sigma)


def transformed_pixels(monkeypatch: pytest.MonkeyPatch, labels: np.ndarray) -> int:
    """Return how many pixels are handed to distance transforms."""
    pixels = 0
    original = ndimage.distance_transform_edt

    def counting(mask: np.ndarray) -> np.ndarray:
        nonlocal pixels
        pixels += mask.size
        return np.asarray(original(mask))

    with monkeypatch.context() as patched:
        patched.setattr(weight_map.ndimage, "distance_transform_edt", counting)
        boundary_weight_map(labels)
    return pixels


def test_the_cost_grows_with_the_cells_and_not_with_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = cells(0, 150, 30)
    alone = transformed_pixels(monkeypatch, labels)
    assert alone <= 30 * (25 + 2 * 22) ** 2
    wide = np.pad(labels, 500)
    # The pad frees windows that the picture's edge had cut.
    assert alone <= transformed_pixels(monkeypatch, wide) <= 30 * (25 + 2 * 22) ** 2
    shifted = np.where(labels > 0, labels.astype(np.int64) + 60_000, 0)
    twice = np.concatenate([wide, np.pad(shifted, 500)])
    assert transformed_pixels(monkeypatch, twice) == 2 * transformed_pixels(monkeypatch, wide)


def test_one_id_in_far_pieces_does_not_cost_the_space_between(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.zeros((600, 600), np.int32)
    labels[:10, :10] = labels[-10:, -10:] = 1
    assert transformed_pixels(monkeypatch, labels) <= 2 * 32**2


def test_class_weights_give_each_class_the_same_say() -> None:
    counts = np.array([900, 100, 0])
    weights = class_weights(counts, 1.0)
    assert weights[2] == 0
    np.testing.assert_allclose(weights[:2] * counts[:2], 500, rtol=1e-6)
    np.testing.assert_allclose(class_weights(counts, 0.0), [1, 1, 0])
    for balance in (0, 0.3, 0.5, 1):
        assert (class_weights(counts, balance) * counts).sum() / 1000 == pytest.approx(1)
    assert class_weights(np.array([0, 0])).tolist() == [0, 0]


def test_unknown_pixels_teach_nothing() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 4, 5, requires_grad=True)
    target, weight = torch.randint(0, 3, (2, 4, 5)), torch.rand(2, 4, 5)
    weight[:, :2] = 0
    value = weighted_cross_entropy(logits, target, weight)
    value.backward()
    assert not logits.grad[:, :, :2].any() and logits.grad[:, :, 2:].abs().min() > 0
    p = torch.softmax(logits.detach(), 1).gather(1, target[:, None])[:, 0]
    assert value.item() == pytest.approx(float((-(p.log()) * weight).sum() / weight.sum()), rel=1e-5)
    other = target.clone()
    other[:, :2] = (target[:, :2] + 1) % 3
    assert weighted_cross_entropy(logits, other, weight).item() == value.item()


def test_nothing_known_is_no_loss_and_half_precision_is_not_summed_in_half() -> None:
    logits = torch.randn(1, 2, 64, 64).half()
    target = torch.zeros(1, 64, 64, dtype=torch.uint8)
    assert weighted_cross_entropy(logits, target, torch.zeros(1, 64, 64)).item() == 0
    large = weighted_cross_entropy(logits, target, torch.full((1, 64, 64), 1000.0))
    exact = functional.cross_entropy(logits.float(), target.long())
    assert large.item() == pytest.approx(exact.item(), rel=1e-4)


def test_the_distance_loss_is_the_weighted_smooth_l1() -> None:
    output = torch.tensor([[[0.5, 9.0, 0.95]]])
    truth, weight = torch.tensor([[[1.0, 0.0, 1.0]]]), torch.tensor([[[1.0, 0.0, 3.0]]])
    expected = ((0.5 - 0.05) + 3 * (0.5 * 0.05**2 / 0.1)) / 4
    assert distance_loss(output, truth, weight).item() == pytest.approx(expected, rel=1e-5)


def test_the_distance_output_counts_by_its_weight_where_cells_are_instances() -> None:
    torch.manual_seed(0)
    outputs = {CLASSES: torch.randn(1, 2, 4, 4), DISTANCE: torch.rand(1, 1, 4, 4)}
    known = torch.ones(1, 4, 4)
    targets = {"target": known.long(), "weight": known, "distance": torch.rand(1, 4, 4), "known": known}
    classes = weighted_cross_entropy(outputs[CLASSES], targets["target"], known)
    distance = distance_loss(outputs[DISTANCE][:, 0], targets["distance"], known)
    for chosen, expected in (
        (TrainingSettings(), classes + 5 * distance),
        (TrainingSettings(distance_weight=0.0), classes),
        (TrainingSettings(mode="classes"), classes),
    ):
        torch.testing.assert_close(training_loss(outputs, targets, chosen), expected)
