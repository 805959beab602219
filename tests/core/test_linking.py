from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import discs
from napari_unet.core.errors import DataError
from napari_unet.core.evaluation.metrics import evaluate
from napari_unet.core.instances import stitching
from napari_unet.core.instances.stitching import link
from napari_unet.core.settings import LinkSettings

DATA = Path(__file__).parents[2].parent / "shared" / "data"


def linked(labels: np.ndarray, axes: str, **chosen: object) -> np.ndarray:
    """Return the linked stack, and check what the linking says of itself."""
    output = np.full(labels.shape, -1, np.int32)
    steps, said = link(labels, axes, output, LinkSettings(**chosen)), []  # type: ignore[arg-type]
    while True:
        try:
            said.append(next(steps))
        except StopIteration as end:
            assert end.value == output.max(initial=0)
            break
    assert all(0 < done <= total for done, total in said) and said[-1][0] == said[-1][1]
    assert [d for d, _ in said] == sorted(d for d, _ in said)
    assert np.array_equal(output > 0, labels > 0)
    return output


def shuffled(labels: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return the planes of a stack, each with numbers of its own for its cells."""
    rng, out = np.random.default_rng(seed), np.zeros_like(labels)
    for plane in np.ndindex(labels.shape[:-2]):
        ids = np.unique(labels[plane])
        ids = ids[ids > 0]
        out[plane] = np.concatenate([[0], rng.permutation(len(ids)) + 1])[
            np.searchsorted(ids, labels[plane], side="right") * (labels[plane] > 0)
        ]
    return out


def same_cells(one: np.ndarray, other: np.ndarray) -> bool:
    pairs = set(zip(one.ravel().tolist(), other.ravel().tolist(), strict=True))
    return len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


def drifting(planes: int = 6) -> np.ndarray:
    """Return two discs that move to the right, plane by plane."""
    return np.stack([discs((40, 90), [(20, 20 + 3 * n), (20, 55 + 2 * n)], 10) for n in range(planes)])


@pytest.mark.parametrize("axis", ["z", "t"])
def test_cells_keep_their_number_along_the_axis(axis: str) -> None:
    truth = drifting()
    assert np.array_equal(linked(shuffled(truth), f"{axis}yx", along=axis), truth)


def test_none_makes_numbers_unique_and_consecutive() -> None:
    found = linked(shuffled(drifting(3)), "zyx", along="none")
    assert [sorted(set(p[p > 0].tolist())) for p in found] == [[1, 2], [3, 4], [5, 6]]


def test_a_missed_plane_is_bridged_and_stays_missed() -> None:
    truth = drifting()
    truth[3][truth[3] == 2] = 0
    found = linked(shuffled(truth), "zyx", max_gap=1)
    assert np.array_equal(found, truth)
    assert linked(shuffled(truth), "zyx", max_gap=0).max() == 3
    truth[2][truth[2] == 2] = 0
    assert linked(shuffled(truth), "zyx", max_gap=1).max() == 3
    assert linked(shuffled(truth), "zyx", max_gap=2).max() == 2


def test_a_bad_plane_neither_merges_two_cells_nor_splits_one() -> None:
    truth = np.stack([discs((40, 90), [(20, 30), (20, 58)], 14)] * 5)
    merged = truth.copy()
    merged[2][truth[2] > 0] = 1
    found = linked(merged, "zyx", max_gap=1)
    assert found.max() == 2 and same_cells(found[[0, 1, 3, 4]], truth[[0, 1, 3, 4]])
    split = truth.copy()
    split[2, 24:][truth[2, 24:] == 1] = 3  # the smaller part
    found = linked(split, "zyx")
    assert found.max() == 3 and len(set(found[:, 18, 30].tolist())) == 1


def test_too_little_overlap_begins_a_new_cell() -> None:
    labels = np.zeros((2, 20, 40), np.int32)
    labels[0, 5:15, 5:15], labels[1, 5:15, 11:21] = 1, 1
    assert linked(labels, "tyx", along="t", overlap=0.5).max() == 2
    assert linked(labels, "tyx", along="t", overlap=0.4).max() == 1


def test_depth_first_and_then_time() -> None:
    truth = np.zeros((3, 4, 40, 90), np.int32)
    for t in range(3):
        truth[t, 1:] = discs((40, 90), [(20, 20 + 4 * t), (20, 60 - 3 * t)], 10)
        truth[t, 0] = np.where(truth[t, 1] == 1, 1, 0)
    stack = shuffled(truth)
    assert same_cells(linked(stack, "tzyx", along="zt"), truth)
    depth = linked(stack, "tzyx", along="z")
    assert depth.max() == 6 and all(same_cells(depth[t], truth[t]) for t in range(3))
    # Time alone follows each plane for itself.
    assert linked(stack, "tzyx", along="t").max() == 7


def test_axes_that_do_not_fit_are_told() -> None:
    labels = np.zeros((2, 5, 5), np.int32)
    with pytest.raises(DataError, match=r"have the axes zyx and no time \(t\)"):
        linked(labels, "zyx", along="t")
    with pytest.raises(DataError, match="y and x have to be last"):
        linked(labels, "yxz")
    assert not linked(labels, "zyx").any()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12), st.sampled_from(["z", "none"]))
def test_blocks_make_no_difference(seed: int, side: int, along: str) -> None:
    labels = np.random.default_rng(seed).integers(0, 4, (3, 4, 4)).astype(np.int32).repeat(3, 1).repeat(3, 2)
    expected = linked(labels, "zyx", along=along)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stitching, "SIDE", side)
        np.testing.assert_array_equal(linked(labels, "zyx", along=along), expected)


@pytest.mark.parametrize(("name", "least"), [("stardist_nuclei3d", 0.65), ("plantseg_nuclei3d", 0.99)])
def test_real_nuclei_in_depth(name: str, least: float) -> None:
    path = DATA / "volumes" / "masks" / f"{name}.tif"
    if not path.exists():
        pytest.skip("the volumes are not there")
    truth = tifffile.imread(path).astype(np.int32)
    found = linked(shuffled(truth), "zyx")
    # The first are 51 small nuclei that lie on top of each other, 3 to 11 planes high.
    assert evaluate([truth], [found])["ap_0.50"] > least


def test_real_chloroplasts_in_depth() -> None:
    folder = DATA / "em_chloroplast" / "masks"
    if not folder.exists():
        pytest.skip("the stack is not there")
    from skimage.io import imread

    truth = np.stack([imread(p) for p in sorted(folder.iterdir())[:2]]).astype(np.int32)
    found = linked(shuffled(truth), "zyx")
    in_both = set(np.unique(truth[0])) & set(np.unique(truth[1])) - {0}
    kept = sum(
        np.bincount(found[0][truth[0] == n]).argmax() == np.bincount(found[1][truth[1] == n]).argmax() for n in in_both
    )
    assert len(in_both) > 5 and kept >= 0.9 * len(in_both)
