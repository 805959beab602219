from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from scipy import ndimage

from conftest import discs
from napari_unet.core.data.label_ops import (
    border_distance,
    consecutive,
    erode_boundaries,
    ids_of,
    median_diameter,
    near_two,
)

label_images = arrays_of.arrays(
    st.sampled_from([np.uint8, np.int16, np.int32, np.int64, np.uint64]),
    st.tuples(st.integers(1, 14), st.integers(1, 14)),
    elements=st.sampled_from([0, 0, 0, 1, 2, 5, 100]),
)


def touching(labels: np.ndarray, radius: int = 1) -> bool:
    """Return whether two cells lie within a square of the radius, by looking at every pair of pixels."""
    points = np.argwhere(labels > 0)
    ids = labels[labels > 0].astype(np.int64)
    near = np.abs(points[:, None] - points[None]).max(axis=2) <= radius
    return bool((near & (ids[:, None] != ids[None])).any())


@given(label_images)
def test_consecutive_keeps_cells_and_their_order(labels: np.ndarray) -> None:
    new = consecutive(labels)
    assert new.dtype == np.int32
    assert np.array_equal(new > 0, labels > 0)
    pairs = sorted(set(zip(labels[labels > 0].tolist(), new[labels > 0].tolist(), strict=True)))
    assert [b for _, b in pairs] == list(range(1, len(pairs) + 1))


def test_consecutive_takes_negative_ids_and_booleans() -> None:
    assert consecutive(np.array([[-3, 0, 9, 2**40]])).tolist() == [[0, 0, 1, 2]]
    assert consecutive(np.array([[True, False]])).tolist() == [[1, 0]]


@settings(deadline=None)
@given(label_images, st.integers(1, 5))
def test_after_the_cut_no_two_cells_touch(labels: np.ndarray, width: int) -> None:
    cut = erode_boundaries(labels, width)
    assert not touching(cut)
    kept = cut > 0
    assert np.array_equal(cut[kept], consecutive(labels)[kept])


@pytest.mark.parametrize("width", range(6))
@pytest.mark.parametrize("transpose", [False, True])
def test_the_gap_is_as_wide_as_promised(width: int, transpose: bool) -> None:
    labels = np.repeat([[3] * 20 + [8] * 20], 12, axis=0)
    cut = erode_boundaries(labels.T if transpose else labels, width)
    lines = cut.T if transpose else cut
    half, odd = divmod(width, 2)
    expected = [1] * (20 - half - odd) + [0] * width + [2] * (20 - half)
    assert (lines == expected).all()


@pytest.mark.parametrize("width", range(1, 6))
def test_cells_that_are_far_enough_apart_are_left_alone(width: int) -> None:
    labels = np.zeros((30, 40), np.int32)
    labels[5:25, 2:18], labels[5:25, 18 + width : 38] = 1, 2
    assert np.array_equal(erode_boundaries(labels, width), labels)


@given(label_images, st.integers(1, 3))
def test_near_two_looks_at_a_square(labels: np.ndarray, radius: int) -> None:
    numbers = consecutive(labels)
    found = near_two(numbers, radius)
    for y, x in np.ndindex(labels.shape):
        window = numbers[max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1]
        assert found[y, x] == (len(np.unique(window[window > 0])) > 1)


def test_the_median_diameter_is_that_of_circles() -> None:
    labels = discs((100, 200), [(50, 50), (50, 140)], 20)
    assert median_diameter(labels) == pytest.approx(40, rel=0.03)
    assert median_diameter(np.zeros((4, 4), np.int32)) == 0
    assert median_diameter(np.where(labels == 2, 7, labels)) == pytest.approx(40, rel=0.03)


def test_the_distance_is_one_at_every_centre_and_zero_outside() -> None:
    labels = np.zeros((60, 100), np.int32)
    labels[10:50, 5:45], labels[20:30, 45:55] = 4, 9  # touching
    distance = border_distance(labels)
    assert distance.dtype == np.float32
    assert distance[labels == 4].max() == distance[labels == 9].max() == 1
    assert (distance[labels == 0] == 0).all()
    assert (distance[erode_boundaries(labels) == 0] == 0).all()
    # Each cell by itself, by the definition.
    for cell in (4, 9):
        inside = ndimage.distance_transform_edt(erode_boundaries(labels) == consecutive(labels)[labels == cell][0])
        np.testing.assert_allclose(distance[labels == cell], (inside / inside.max())[labels == cell], atol=1e-6)


def test_the_picture_ends_where_a_cell_does() -> None:
    distance = border_distance(np.ones((9, 9), np.int32))
    assert distance[4, 4] == 1 and distance[0, 0] == pytest.approx(1 / 5)
    assert not border_distance(np.zeros((5, 5), np.int32)).any()


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint32, np.int64])
@pytest.mark.parametrize("boundary_erosion", [1, 10_000])
def test_ids_small_and_large_are_found_and_renumbered_alike(dtype, boundary_erosion):
    # Small ids go through a table, large ones are sorted.
    rng = np.random.default_rng(0)
    numbers = rng.integers(0, 20, (12, 15))
    labels = (numbers * min(boundary_erosion, np.iinfo(dtype).max // 20)).astype(dtype)
    if np.issubdtype(dtype, np.signedinteger):
        labels[0, 0] = -5
    present = sorted({int(v) for v in labels.ravel() if v > 0})
    assert ids_of(labels).tolist() == present
    expected = np.array([present.index(v) + 1 if v > 0 else 0 for v in labels.ravel().tolist()]).reshape(labels.shape)
    assert np.array_equal(consecutive(labels), expected)
