"""Parts of labels in a store: opened, corrected, put back; numbers stay unique, and nobody's work is overwritten."""

import numpy as np
import pytest
import zarr

from napari_unet.core.errors import DataError, StoreError
from napari_unet.core.proofreading.review import ACCEPTED, DELETED, EDITED, ReviewedCell
from napari_unet.records.label_crops import LabelCrop, open_part, put_back
from napari_unet.records.saved_labels import read_marks, write_marks
from napari_unet.stores.zarrs import Levels, create_zarr

BOX = (10, 90, 30, 100)


def grid(size=160, step=20, radius=6):
    """Return square cells on a grid, numbered from 1."""
    labels = np.zeros((size, size), np.uint32)
    corners = [(y, x) for y in range(4, size - 2 * radius, step) for x in range(4, size - 2 * radius, step)]
    for number, (y, x) in enumerate(corners, 1):
        labels[y : y + 2 * radius, x : x + 2 * radius] = number
    return labels


@pytest.fixture
def store(tmp_path):
    """Return two planes of labels in a store; the second one has the largest numbers."""
    path = tmp_path / "cells.zarr"
    create_zarr(path, (2, 160, 160), "zyx", np.uint32)
    values = np.stack([grid(), np.where(grid() > 0, grid() + 5000, 0)]).astype(np.uint32)
    levels = Levels(path, smallest=50)
    levels.arrays[0][:] = values
    levels.renew()
    return path, values


def stored(path, level=0):
    return zarr.open_group(str(path), mode="r")[str(level)][:]


def edited(labels, cell):
    return {cell: ReviewedCell.of(labels, cell, EDITED)}


def test_a_part_goes_back_with_new_cells_above_the_largest_of_the_store(store):
    path, values = store
    opened = open_part(path, (0,), BOX)
    labels = opened.labels.copy()
    assert opened.part.largest == 5064 and labels.dtype == np.int32 and opened.marks == {}
    np.testing.assert_array_equal(labels, values[0, 10:90, 30:100])
    labels[50:54, 30:40] = 5065
    found = put_back(opened.part, labels, edited(labels, 5065))
    expected = values.copy()
    expected[0, 60:64, 60:70] = 5065
    np.testing.assert_array_equal(stored(path), expected)
    np.testing.assert_array_equal(stored(path, 2), expected[:, ::4, ::4])
    assert not found.renamed and found.part.largest == 5065
    assert read_marks(path) == {(0,): {5065: ReviewedCell.of(expected[0], 5065, EDITED)}}
    assert open_part(path, (1,), BOX).part.largest == 5065


def test_a_number_that_is_used_elsewhere_is_changed(store):
    path, values = store
    opened = open_part(path, (0,), BOX)
    labels = opened.labels.copy()
    # napari's own brush: the largest of the layer, plus one. It is a cell further down.
    painted = int(labels.max()) + 1
    assert (values == painted).any()
    labels[7:9, 40:50] = painted
    found = put_back(opened.part, labels, edited(labels, painted))
    assert found.renamed == {painted: 5065}
    assert (stored(path) == 5065).sum() == 20
    np.testing.assert_array_equal(stored(path) == painted, values == painted)
    assert set(read_marks(path)[(0,)]) == {5065}


def test_two_parts_that_are_open_at_once_never_share_a_number(store):
    path, _ = store
    first, second = open_part(path, (0,), (0, 40, 0, 40)), open_part(path, (1,), (80, 120, 80, 120))
    for opened in (first, second):
        opened.labels[0:3, 0:3] = 5065
    put_back(first.part, first.labels, {})
    found = put_back(second.part, second.labels, edited(second.labels, 5065))
    assert found.renamed == {5065: 5066}
    assert (stored(path)[0] == 5065).sum() == (stored(path)[1] == 5066).sum() == 9


def test_a_deleted_cell_goes_as_a_whole_and_is_remembered_as_a_whole(store):
    path, values = store
    opened = open_part(path, (0,), BOX)
    over = next(int(c) for c in np.unique(opened.labels[0]) if c)
    labels = np.where(opened.labels == over, 0, opened.labels)
    put_back(opened.part, labels, {over: ReviewedCell.of(opened.labels, over, DELETED)})
    assert not (stored(path)[0] == over).any()
    assert (stored(path)[1] == values[1]).all()
    assert read_marks(path)[(0,)] == {over: ReviewedCell.of(values[0], over, DELETED)}
    again = open_part(path, (0,), BOX)
    assert again.marks[over].kind == DELETED
    put_back(again.part, again.labels, again.marks)
    assert read_marks(path)[(0,)] == {over: ReviewedCell.of(values[0], over, DELETED)}


def test_marks_beyond_the_part_stay_and_those_taken_back_go(store):
    path, values = store
    inside, beyond = int(values[0, 50, 50]), int(values[0, 150, 150])
    write_marks(path, {(0,): {c: ReviewedCell.of(values[0], c, ACCEPTED) for c in (inside, beyond)},
                       (1,): {5001: ReviewedCell.of(values[1], 5001, ACCEPTED)}})  # fmt: skip
    opened = open_part(path, (0,), BOX)
    assert set(opened.marks) == {inside}
    put_back(opened.part, opened.labels, {})
    assert {plane: set(cells) for plane, cells in read_marks(path).items()} == {(0,): {beyond}, (1,): {5001}}


def test_marks_on_cells_that_were_changed_elsewhere_are_dropped(store):
    path, values = store
    cell = int(values[0, 50, 50])
    write_marks(path, {(0,): {cell: ReviewedCell.of(np.roll(values[0], 1, 0), cell, ACCEPTED)}})
    assert open_part(path, (0,), BOX).marks == {}


def test_what_somebody_else_changed_is_not_overwritten(store):
    path, _ = store
    mine, other = open_part(path, (0,), BOX), open_part(path, (0,), (80, 120, 80, 120))
    put_back(other.part, np.zeros_like(other.labels), {})
    before = stored(path)
    with pytest.raises(DataError, match="was changed in this part since it was opened"):
        put_back(mine.part, mine.labels, {})
    np.testing.assert_array_equal(stored(path), before)


def test_a_part_that_was_put_back_may_be_put_back_again(store):
    path, values = store
    opened = open_part(path, (0,), BOX)
    told = []
    inside = int(values[0, 50, 50])
    once = put_back(opened.part, np.where(opened.labels == inside, 0, opened.labels), {}, told.append)
    assert not (stored(path) == inside).any()
    assert told[0].seen == (*opened.part.seen, *once.part.seen)
    # Killed before it knew: what is noted of the part covers both.
    put_back(LabelCrop.from_plain(told[0].to_plain()), opened.labels, {})
    np.testing.assert_array_equal(stored(path), values)


def test_numbers_that_have_no_room_are_refused(tmp_path):
    create_zarr(tmp_path / "small.zarr", (40, 40), "yx", np.uint8)
    Levels(tmp_path / "small.zarr").arrays[0][:4, :4] = 255
    opened = open_part(tmp_path / "small.zarr", (), (0, 20, 0, 20))
    opened.labels[10:12, 10:12] = 256
    with pytest.raises(StoreError, match="holds numbers up to 255"):
        put_back(opened.part, opened.labels, {})


@pytest.mark.parametrize("broken", [{}, {"box": [1]}, {"path": 3}])
def test_damaged_notes_are_refused(store, broken):
    plain = open_part(store[0], (0,), BOX).part.to_plain()
    assert LabelCrop.from_plain(plain).to_plain() == plain
    with pytest.raises(DataError, match="cannot be read"):
        LabelCrop.from_plain({**plain, **broken} if broken else {})
