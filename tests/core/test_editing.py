from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_unet.core.errors import DataError
from napari_unet.core.proofreading import edits
from napari_unet.core.proofreading.edits import Edit, cell_box, cell_on_line, line_pixels

Plane = NDArray[np.int32]


def cells() -> Plane:
    """Return two squares one pixel apart (1 and 2), and a ring with a cell inside of it (3 and 4)."""
    labels = np.zeros((40, 60), np.int32)
    labels[5:15, 5:15], labels[5:15, 16:26] = 1, 2
    labels[20:38, 30:50] = 3
    labels[24:34, 34:46] = 0
    labels[27:30, 38:42] = 4
    return labels


def after(labels: Plane, edit: Edit) -> Plane:
    out = labels.copy()
    edit.apply(out)
    return out


def test_merging_joins_two_cells_and_the_seam_between_them() -> None:
    labels = cells()
    out = after(labels, edits.merge(labels, 1, 2))
    assert (out[5:15, 5:26] == 1).all()
    assert (out == 1).sum() == 10 * 21
    assert not (out == 2).any()
    np.testing.assert_array_equal(labels, cells())


def test_merging_cells_far_apart_fills_nothing_between() -> None:
    labels = cells()
    out = after(labels, edits.merge(labels, 4, 1))
    assert (out == 4).sum() == (labels == 1).sum() + (labels == 4).sum()


def test_splitting_by_a_line_keeps_every_pixel_and_the_largest_part_its_label() -> None:
    labels = cells()
    out = after(labels, edits.split_by_line(labels, 1, [(0, 8), (30, 8)], fresh=9))
    assert ((out == 1) | (out == 9)).tolist() == (labels == 1).tolist()
    assert (out[5:15, 9:15] == 1).all()
    assert (out[5:15, 5:8] == 9).all()
    assert len(np.unique(out[5:15, 8])) == 1


@pytest.mark.parametrize("path", [[(3, 3), (16, 16)], [(4, 10), (10, 11), (16, 8)], [(16, 3), (3, 16)]])
def test_slanted_and_bent_lines_split_too(path: list[tuple[int, int]]) -> None:
    labels = cells()
    out = after(labels, edits.split_by_line(labels, 1, path, fresh=9))
    assert min((out == 1).sum(), (out == 9).sum()) > 30
    assert (out > 0).tolist() == (labels > 0).tolist()


def test_a_line_that_ends_inside_is_refused_with_what_to_do() -> None:
    with pytest.raises(DataError, match="does not part cell 1; begin and end it outside"):
        edits.split_by_line(cells(), 1, [(0, 8), (10, 8)], fresh=9)


def test_a_line_is_about_the_cell_that_it_runs_through_the_longest() -> None:
    assert cell_on_line(cells(), [(4, -20), (14, 17)]) == 1
    with pytest.raises(DataError, match="runs through no cell"):
        cell_on_line(cells(), [(0, 0), (0, 50)])


def test_seeds_split_at_the_narrow_place() -> None:
    labels = np.zeros((30, 60), np.int32)
    labels[5:25, 5:25], labels[13:17, 25:30], labels[5:25, 30:50] = 1, 1, 1
    out = after(labels, edits.split_by_seeds(labels, 1, [(10, 10), (10, 40), (10, 10)], fresh=2))
    assert (out[5:25, 5:25] == out[10, 10]).all()
    assert (out[5:25, 30:50] == out[10, 40]).all()
    assert {int(out[10, 10]), int(out[10, 40])} == {1, 2}


def test_three_seeds_make_three_cells() -> None:
    labels = np.zeros((12, 60), np.int32)
    labels[2:10, 2:58] = 5
    out = after(labels, edits.split_by_seeds(labels, 5, [(5, 8), (5, 30), (5, 50)], fresh=7))
    assert set(np.unique(out)) == {0, 5, 7, 8}


def test_a_single_seed_is_refused() -> None:
    with pytest.raises(DataError, match="Cell 1 has 1 seeds; click one in each part"):
        edits.split_by_seeds(cells(), 1, [(6, 6), (6, 20), (100, 100)], fresh=9)


def test_the_narrowest_place_and_else_the_middle() -> None:
    labels = np.zeros((30, 60), np.int32)
    labels[5:25, 5:25], labels[11:19, 25:28], labels[5:25, 28:42] = 1, 1, 1
    out = after(labels, edits.split_at_constriction(labels, 1, fresh=2))
    assert (out[5:25, 5:25] == 1).all()
    assert (out[5:25, 28:42] == 2).all()
    bar = np.zeros((10, 60), np.int32)
    bar[3:7, 5:55] = 1
    out = after(bar, edits.split_at_constriction(bar, 1, fresh=2))
    assert (out == 1).sum() == (out == 2).sum() == 100


def test_a_pixel_cannot_be_split_and_small_numbers_run_out() -> None:
    dot = np.zeros((5, 5), np.int32)
    dot[2, 2] = 1
    with pytest.raises(DataError, match="too small"):
        edits.split_at_constriction(dot, 1, fresh=2)
    with pytest.raises(DataError, match="256 does not fit into uint8 numbers; convert"):
        edits.split_at_constriction(cells().astype(np.uint8), 1, fresh=256)


def test_deleting_filling_growing_and_shrinking() -> None:
    labels = cells()
    assert not (after(labels, edits.delete(labels, 3)) == 3).any()
    filled = after(labels, edits.fill(labels, 3))
    assert (filled == 3).sum() == 18 * 20 - 12
    assert (filled == 4).sum() == 12
    grown = after(labels, edits.grow(labels, 1))
    assert (grown == 1).sum() == 100 + 4 * 10
    assert (grown == 2).sum() == 100
    assert (after(labels, edits.shrink(labels, 1)) == 1).sum() == 64


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda labels: edits.delete(labels, 77), "no cell 77"),
        (lambda labels: edits.delete(labels, 0), "no cell 0"),
        (lambda labels: edits.fill(labels, 1), "no holes"),
        (lambda labels: edits.merge(labels, 1, 1), "chosen twice"),
        (lambda labels: edits.shrink(np.eye(5, dtype=np.int32), 1), "delete it instead"),
        (lambda labels: edits.grow(np.ones((5, 5), np.int32), 1), "no background around"),
    ],
)
def test_what_is_not_possible_is_said(make, words) -> None:  # type: ignore[no-untyped-def]
    labels = cells()
    with pytest.raises(DataError, match=words):
        make(labels)
    np.testing.assert_array_equal(labels, cells())


def test_boxes_and_lines() -> None:
    assert cell_box(cells(), 1) == (5, 15, 5, 15)
    assert cell_box(cells(), 1, margin=7) == (0, 22, 0, 22)
    assert line_pixels([(0, 0), (2, 2), (2, 4)]) == [(0, 0), (1, 1), (2, 2), (2, 2), (2, 3), (2, 4)]
    assert line_pixels([(3, 3)]) == []
