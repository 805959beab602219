"""Parts of a plane that are corrected apart from the rest: what is put back, and what follows beyond the edge."""

import numpy as np
import pytest

from napari_unet.core.errors import DataError
from napari_unet.core.proofreading.crop_merge import marks_after, marks_for, put_in, read_around
from napari_unet.core.proofreading.review import ACCEPTED, DELETED, EDITED, ReviewedCell

PART = (20, 60, 30, 80)
"""y0, y1, x0, x1."""


def plane():
    """Return labels with a cell inside of the part, cells over each of its edges, and one far from it."""
    labels = np.zeros((100, 120), np.uint32)
    labels[35:45, 50:60] = 1
    labels[10:30, 40:48] = 2
    labels[50:70, 60:68] = 3
    labels[30:38, 20:40] = 4
    labels[30:38, 70:90] = 5
    labels[80:90, 100:110] = 6
    return labels


def around(labels, part=PART):
    return read_around(lambda box: labels[box[0] : box[1], box[2] : box[3]].copy(), part, labels.shape)


def put(labels, change, part=PART):
    """Return the plane with a part changed by a function and put back."""
    found = around(labels, part)
    values = found.labels[found.inner].copy()
    change(values)
    out = labels.copy()
    y0, y1, x0, x1 = found.box
    out[y0:y1, x0:x1] = put_in(found, values)
    return out


def relabel(old, new):
    def change(values):
        values[values == old] = new

    return change


@pytest.mark.parametrize("cell", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("new", [0, 77])
def test_what_becomes_of_a_whole_cell_becomes_of_it_beyond_the_edge(cell, new):
    labels = plane()
    np.testing.assert_array_equal(put(labels, relabel(cell, new)), np.where(labels == cell, new, labels))


def test_the_piece_beyond_the_edge_goes_with_the_half_that_touches_it():
    labels = plane()

    def split(values):
        # Cell 4 reaches over the left edge; the half at the edge is the new one.
        half = values[:, :5]
        half[half == 4] = 99

    expected = labels.copy()
    expected[30:38, 20:35] = 99
    np.testing.assert_array_equal(put(labels, split), expected)


def test_a_cell_that_loses_its_edge_to_the_eraser_stays_beyond_it():
    labels = plane()

    def erase(values):
        values[:, :3][values[:, :3] == 4] = 0

    expected = labels.copy()
    expected[30:38, 30:33] = 0
    np.testing.assert_array_equal(put(labels, erase), expected)


def test_what_only_grew_changes_nothing_beyond():
    labels = plane()

    def grow(values):
        values[0:15, 5:10] = 2

    expected = labels.copy()
    expected[20:35, 35:40] = 2
    np.testing.assert_array_equal(put(labels, grow), expected)


def test_a_long_cell_is_seen_whole_and_a_far_too_long_one_is_refused():
    labels = np.zeros((40, 6000), np.uint32)
    labels[10:20, 50:1500] = 3
    labels[25:30, 50:5000] = 4
    part = (0, 40, 0, 100)
    np.testing.assert_array_equal(put(labels, relabel(3, 0), part), np.where(labels == 3, 0, labels))
    with pytest.raises(DataError, match="Cell 4 was changed where the part ends, and reaches more than 2,048 px"):
        put(labels, relabel(4, 0), part)
    inner = put(labels, lambda values: values.__setitem__((slice(0, 5), slice(0, 5)), 8), part)
    assert (inner == 4).sum() == (labels == 4).sum()


def test_marks_are_of_whole_cells_again_when_the_part_is_back():
    labels = plane()
    known = {
        6: ReviewedCell.of(labels, 6, ACCEPTED),
        4: ReviewedCell.of(labels, 4, ACCEPTED),
        2: ReviewedCell.of(labels, 2, DELETED),
    }
    mine = marks_for(PART, known)
    assert set(mine) == {2, 4}
    assert mine[4].box == (10, 18, 0, 10) and mine[4].mask.all()
    found = around(labels)
    values = found.labels[found.inner].copy()
    values[values == 3] = 0
    values[values == 1] = 21
    mine |= {3: ReviewedCell.of(labels, 3, DELETED).within(PART).moved(-20, -30), 5: ReviewedCell.of(values, 5, EDITED)}
    mine |= {21: ReviewedCell.of(values, 21, EDITED), 500: ReviewedCell.of(values, 21, DELETED)}
    after = put_in(found, values)
    marks = marks_after(found, after, mine, known)
    assert marks[6] == known[6] and marks[4] == known[4] and marks[2] == known[2]
    assert marks[3] == ReviewedCell.of(labels, 3, DELETED)
    assert marks[5] == ReviewedCell.of(labels, 5, EDITED)
    assert marks[21] == ReviewedCell.of(labels, 1, EDITED)
    assert marks[500].box == marks[21].box
    del mine[4]
    assert 4 not in marks_after(found, after, mine, known), "a mark that was taken back is gone"


def test_a_whole_plane_has_no_edge():
    labels = plane()
    found = around(labels, (0, 100, 0, 120))
    assert found.box == found.part and not found.rim().any() and not len(found.cells_over_edge())
    np.testing.assert_array_equal(put(labels, relabel(6, 0), found.part), np.where(labels == 6, 0, labels))
