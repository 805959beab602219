"""Where to annotate next: doubt from network outputs, and its ranking."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from conftest import discs
from napari_unet.core.instances.uncertainty import GRID, REASONS, coarse, known_share, rank, uncertainty
from napari_unet.core.settings import PredictionSettings

SIDE = 128
SETTINGS = PredictionSettings(smallest=0)


def outputs(labels: NDArray[np.int32], probability: float = 0.98) -> dict[str, NDArray[np.float32]]:
    """Return what a network that is sure of these cells puts out."""
    foreground = np.where(labels > 0, probability, 1 - probability).astype(np.float32)
    inside = np.zeros(labels.shape)
    for number in np.unique(labels)[1:]:
        depth = ndimage.distance_transform_edt(labels == number)
        inside += depth / depth.max()
    return {"classes": np.stack([1 - foreground, foreground]), "distance": inside[None].astype(np.float32)}


def two_discs() -> NDArray[np.int32]:
    return discs((SIDE, SIDE), [(30, 30), (90, 90)], 14)


def test_a_sure_network_has_no_doubt() -> None:
    maps = uncertainty(outputs(two_discs()), SETTINGS)
    assert maps.shape == (3, SIDE, SIDE) and maps.dtype == np.float32
    assert maps.max() < 0.1


def test_a_faint_cell_is_doubted_but_outlines_are_not() -> None:
    sure = outputs(two_discs())
    sure["classes"] = ndimage.gaussian_filter(sure["classes"], (0, 1, 1))
    assert uncertainty(sure, SETTINGS)[0].max() < 0.5
    faint = np.hypot(*(np.mgrid[:SIDE, :SIDE] - 90)) < 12
    sure["classes"][1][faint] = 0.5
    sure["classes"][0] = 1 - sure["classes"][1]
    doubt = uncertainty(sure, SETTINGS)[0]
    assert doubt[85:95, 85:95].min() > 0.9
    assert doubt[:60, :60].max() < 0.5


def test_a_cell_that_may_be_two_is_doubted() -> None:
    labels = two_discs()
    blob = discs((SIDE, SIDE), [(30, 90), (30, 104)], 10) > 0
    labels[blob] = 3
    made = outputs(labels)
    # A valley of 0.2 between two summits: exactly the seed height.
    columns = np.abs(np.mgrid[:SIDE, :SIDE][1] - 97)
    made["distance"][0][blob] = np.clip(0.8 + 0.03 * columns, 0, 1)[blob]
    doubt = uncertainty(made, SETTINGS)[1]
    assert doubt[30, 97] > 0.8
    assert doubt[labels != 3].max() == 0


def test_a_distance_that_the_classes_deny_is_doubted() -> None:
    made = outputs(two_discs())
    made["classes"][0][60:], made["classes"][1][60:] = 1, 0
    doubt = uncertainty(made, SETTINGS)[2]
    assert doubt[90, 90] > 0.9 and doubt[30, 30] < 0.1
    made = outputs(two_discs())
    made["distance"] *= 0.3
    assert uncertainty(made, SETTINGS)[2][90, 90] == pytest.approx(0.7, abs=0.01)


def test_without_a_distance_output_only_the_classes_count() -> None:
    made = {"classes": np.full((3, SIDE, SIDE), 1 / 3, np.float32)}
    maps = uncertainty(made, SETTINGS)
    assert maps[0].min() > 0.99
    assert not maps[1:].any()


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 33))
def test_coarse_means_weigh_every_pixel_once(height: int, width: int, side: int) -> None:
    values = np.random.default_rng(0).random((2, height, width), np.float32)
    means = coarse(values, side)
    assert means.shape == (2, -(-height // side), -(-width // side))
    for y in range(means.shape[1]):
        for x in range(means.shape[2]):
            part = values[:, y * side : (y + 1) * side, x * side : (x + 1) * side]
            np.testing.assert_allclose(means[:, y, x], part.mean(axis=(1, 2)), rtol=1e-5)


def doubts(planes: int, peaks: dict[int, tuple[int, int]]) -> dict[tuple[int, ...], NDArray[np.float32]]:
    """Return grids of 16 x 16 squares with a doubtful place of 3 x 3 squares in some planes."""
    grids = {(z,): np.zeros((3, 16, 16), np.float32) for z in range(planes)}
    for z, (y, x) in peaks.items():
        grids[(z,)][z % 3, y : y + 3, x : x + 3] = 0.9 - 0.01 * z
    return grids


def test_the_most_doubtful_place_comes_first_with_its_reason() -> None:
    found = rank(doubts(9, {1: (2, 3), 8: (9, 9)}), {}, (256, 250), side=48)
    assert [(s.plane, s.box, s.reason) for s in found[:1]] == [((1,), (32, 80, 48, 96), REASONS[1])]
    assert found[0].score == pytest.approx(0.89)
    assert (8,) in [s.plane for s in found]
    assert all(s.box[1] <= 256 and s.box[3] <= 250 for s in found)
    assert [s.score for s in found] == sorted((s.score for s in found), reverse=True)


def test_places_do_not_overlap_nor_repeat_in_the_next_plane() -> None:
    found = rank(doubts(4, {0: (2, 3), 1: (2, 3), 3: (2, 3)}), {}, (256, 256), side=48, count=50)
    full = [s.plane for s in found if s.score > 0.8]
    assert full == [(0,), (3,)]
    same = [s.box for s in found if s.plane == (0,)]
    assert len({(y0, x0) for y0, _, x0, _ in same}) == len(same)


def test_what_is_annotated_is_not_suggested() -> None:
    grids = doubts(1, {0: (2, 3)})
    grids[(0,)][0, 10:12, 10:12] = 0.3
    labels = np.zeros((256, 256), np.uint16)
    labels[30:82, 46:98] = 5
    found = rank(grids, {(0,): known_share(labels)}, (256, 256), side=48)
    assert found[0].box[0] >= 128
    regions = known_share(np.zeros((256, 256), int), [(30, 82, 46, 98)])
    np.testing.assert_array_equal(regions, known_share(labels))


def test_a_box_is_never_larger_than_the_plane() -> None:
    grids = {(): np.full((3, 2, 3), 0.2, np.float32)}
    (found,) = rank(grids, {}, (20, 40), side=96)
    assert found.box == (0, 20, 0, 40)
    assert GRID == 16
