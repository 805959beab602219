from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from napari_unet.core.errors import DataError
from napari_unet.core.proofreading.bounding_boxes import (
    Places,
    PlaneCells,
    find_cells,
    linked_axes,
    number_pieces,
    plane_view,
)

Stack = NDArray[np.int64]


def blobs(seed: int, most: int = 6, dtype: str = "int64") -> Stack:
    """Return blocks of random labels."""
    blocks = np.random.default_rng(seed).integers(0, most, (6, 7))
    return np.kron(blocks, np.ones((3, 4))).astype(dtype)


def slowly(labels: Stack) -> list[tuple[int, list[int]]]:
    """Return labels and boxes, found one by one."""
    found = []
    for cell in np.unique(labels[labels > 0]):
        rows, columns = np.nonzero(labels == cell)
        found.append((int(cell), [rows.min(), rows.max() + 1, columns.min(), columns.max() + 1]))
    return found


def as_list(cells: PlaneCells) -> list[tuple[int, list[int]]]:
    return [(int(cell), box) for cell, box in zip(cells.ids, cells.boxes.tolist(), strict=True)]


@pytest.mark.parametrize("dtype", ["uint8", "int32", "uint32", "int64"])
def test_boxes_are_those_that_are_found_one_by_one(dtype: str) -> None:
    labels = blobs(1, dtype=dtype)
    assert as_list(find_cells(labels)) == slowly(labels)


def test_huge_labels_take_no_table_of_their_length() -> None:
    labels = blobs(2)
    labels[labels == 3] = 10**12
    labels[labels == 2] = -4
    assert as_list(find_cells(labels)) == slowly(labels)
    assert len(find_cells(np.zeros((4, 4), np.int32))) == 0


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**16), st.lists(st.tuples(*(st.integers(0, n) for n in (16, 26, 7, 7, 6))), max_size=6))
def test_boxes_follow_any_change(seed: int, strokes: list[tuple[int, int, int, int, int]]) -> None:
    labels = blobs(seed)
    places = Places(lambda plane: labels)
    places.of(())
    for y, x, height, width, cell in strokes:
        box = (y, min(18, y + height), x, min(28, x + width))
        part = labels[box[0] : box[1], box[2] : box[3]]
        before, after = part.copy(), np.full_like(part, cell)
        part[...] = after
        places.update((), box, before, after)
        assert as_list(places.of(())) == slowly(labels)


def test_what_was_counted_in_a_thread_is_dropped_when_the_plane_has_changed_since() -> None:
    labels = blobs(3)
    places = Places(lambda plane: labels)
    version, old = places.version(()), find_cells(labels)
    labels[:] = 9
    places.forget(())
    places.put((), old, version)
    assert places.of(()).ids.tolist() == [9]
    with pytest.raises(DataError, match="no cell 4"):
        places.box((), 4)


def test_cells_go_through_a_stack_where_equal_labels_lie_above_each_other() -> None:
    linked = np.stack([blobs(1, 40), np.roll(blobs(1, 40), 1, 0), np.roll(blobs(1, 40), 2, 0)])
    numbered = np.stack([np.where(blobs(1, 40), 41 - blobs(s, 40), 0) for s in (1, 2, 3)])
    assert linked_axes(Places(lambda plane: linked[plane]), (3,)) == (0,)
    assert linked_axes(Places(lambda plane: numbered[plane]), (3,)) == ()
    assert linked_axes(Places(lambda plane: linked[0]), ()) == ()
    # AnnotationsUpdated in depth, but numbered anew at each time point.
    both = np.stack([linked, linked[:, ::-1, ::-1]])
    assert linked_axes(Places(lambda plane: both[plane]), (2, 3)) == (1,)


def test_a_plane_is_seen_upright_whatever_the_order_of_axes() -> None:
    labels = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 1, 4, 5)
    assert plane_view(labels, "tzcyx", (1, 2)).tolist() == labels[1, 2, 0].tolist()
    view = plane_view(labels[0, :, 0], "xzy", (3,))
    assert view.tolist() == labels[0, :, 0, 3].T.tolist()
    view[0, 0] = -1
    assert labels[0, 0, 0, 3, 0] == -1


def squares(numbers: list[int]) -> Stack:
    """Return squares in a row with these labels."""
    out = np.zeros((20, 12 * len(numbers)), np.int64)
    for at, number in enumerate(numbers):
        out[4:12, 12 * at + 2 : 12 * at + 10] = number
    return out


def test_every_piece_gets_a_number_and_keeps_its_label() -> None:
    labels = squares([3, 7, 3])
    labels[12:14, 10:12] = 3  # meets the first one at a corner
    labels[2:4, 14:22] = -5
    pieces, of = number_pieces(labels)
    assert sorted(of.tolist()) == [3, 3, 7]
    assert not pieces[labels <= 0].any()
    for number, label in enumerate(of, 1):
        assert (labels[pieces == number] == label).all()
    assert pieces[4, 2] == pieces[13, 11]
