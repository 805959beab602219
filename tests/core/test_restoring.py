"""Checked cells put back over a new segmentation block by block: the same cells as with the plane in memory."""

import numpy as np
import pytest
from skimage.measure import label

from napari_unet.core.errors import DataError
from napari_unet.core.proofreading import reapply_review
from napari_unet.core.proofreading.review import ACCEPTED, DELETED, EDITED, ReviewedCell, put_back


def blobs(seed, shape=(90, 110)):
    """Return cells of all sizes, many of which touch the borders of blocks."""
    noise = np.random.default_rng(seed).random(shape)
    smooth = noise + np.roll(noise, 1, 0) + np.roll(noise, 1, 1) + np.roll(noise, (1, 1), (0, 1))
    return label(smooth > 2.2).astype(np.uint32)


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(reapply_review, "SIDE", 32)


def checked(labels, count=12):
    """Return every third cell or so as checked, of all kinds."""
    cells = [int(c) for c in np.unique(labels)[1:]][::3][:count]
    return {cell: ReviewedCell.of(labels, cell, (ACCEPTED, EDITED, DELETED)[n % 3]) for n, cell in enumerate(cells)}


def same_cells(one, other):
    """Return whether two planes hold the same cells, whatever their numbers."""
    pairs = {tuple(p) for p in np.stack([one.ravel(), other.ravel()], 1).tolist()}
    return len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs}) and (0, 0) in pairs


def test_the_cells_are_those_of_a_plane_in_memory(small_blocks):
    kept = checked(blobs(0))
    new = np.stack([blobs(1), blobs(2)])
    expected = put_back(new[1].astype(np.int64), kept)
    found = reapply_review.restore(out := new.copy(), {(1,): kept})
    np.testing.assert_array_equal(out[0], new[0])
    assert same_cells(out[1], expected)
    assert found.largest == new.max() and found.count == len(kept)
    fresh = found.marks[(1,)]
    assert sorted(fresh) == list(range(int(new.max()) + 1, int(new.max()) + 1 + len(kept)))
    assert [item.kind for item in fresh.values()] == [item.kind for item in kept.values()]
    assert all(item.fits(out[1], cell) for cell, item in fresh.items())


def test_what_was_cut_off_in_the_middle_ends_the_same(small_blocks, monkeypatch):
    kept, new = checked(blobs(0)), blobs(1)[None]
    whole = reapply_review.restore(expected := new.copy(), {(0,): kept})
    half = new.copy()

    def cut_off(array, plane, cells):
        restoring_place(array, plane, dict([*cells.items()][:4]))
        raise KeyboardInterrupt

    restoring_place = reapply_review._place
    monkeypatch.setattr(reapply_review, "_place", cut_off)
    with pytest.raises(KeyboardInterrupt):
        reapply_review.restore(half, {(0,): kept})
    monkeypatch.setattr(reapply_review, "_place", restoring_place)
    assert reapply_review.restore(half, {(0,): kept}, whole.largest) == whole
    np.testing.assert_array_equal(half, expected)


def test_cells_of_another_picture_are_refused_and_change_nothing():
    kept, new = checked(blobs(0)), blobs(1)
    for marks, array in (({(): kept}, new[:5].copy()), ({(3,): kept}, new[None].copy())):
        before = array.copy()
        with pytest.raises(DataError, match="it is of another picture"):
            reapply_review.restore(array, marks)
        np.testing.assert_array_equal(array, before)
    with pytest.raises(DataError, match="hold numbers up to 255"):
        reapply_review.restore(np.full((90, 110), 250, np.uint8), {(): kept})
