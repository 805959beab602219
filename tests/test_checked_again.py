"""Cells that were checked survive when the result is made anew, on the command line and in a store that lies there."""

from pathlib import Path

import numpy as np
import pytest
import zarr

from napari_unet.core.proofreading.review import ACCEPTED, DELETED, ReviewedCell
from napari_unet.records.saved_labels import read_marks, write_marks
from napari_unet.stores import Folder, open_array
from napari_unet.stores.reapply_review import restore_into
from napari_unet.stores.zarrs import Levels, create_zarr
from test_cli import run
from tiny import write_model

tifffile = pytest.importorskip("tifffile")


def checked():
    """Return an accepted square and a deleted one in the second plane, as marks."""
    labels = np.zeros((80, 80), np.uint32)
    labels[10:30, 10:30], labels[40:70, 40:70] = 3, 4
    return {(1,): {3: ReviewedCell.of(labels, 3, ACCEPTED), 4: ReviewedCell.of(labels, 4, DELETED)}}


@pytest.fixture
def words(tmp_path):
    """Return a command that segments two planes with a model that has learnt nothing."""
    model = write_model(tmp_path / "model")
    image = np.random.default_rng(0).integers(0, 255, (2, 80, 80)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "image.tif", image, metadata={"axes": "ZYX"}, photometric="minisblack")
    return lambda output: ("segment", tmp_path / "image.tif", output, "--model", model, "--set", "smallest=1")


def labels_of(path: Path):
    return np.asarray(open_array(path, indices=True)[0][...])


@pytest.mark.parametrize("ending", [".zarr", ".tif"])
def test_overwriting_a_result_puts_its_checked_cells_back(words, tmp_path, capsys, ending):
    output = tmp_path / f"cells{ending}"
    assert run(*words(output)) == 0
    plain = labels_of(output)
    write_marks(output, checked())
    capsys.readouterr()
    assert run(*words(output), "--overwrite") == 0
    assert "2 reviewed cells were kept" in capsys.readouterr().err
    marks, now = read_marks(output), labels_of(output)
    ((accepted, kept), (deleted, _)) = sorted(marks[(1,)].items())
    assert (kept.kind, accepted, deleted) == (ACCEPTED, plain.max() + 1, plain.max() + 2)
    np.testing.assert_array_equal(now[0], plain[0])
    assert (now[1, 10:30, 10:30] == accepted).all() and (now == accepted).sum() == 400
    assert all(item.fits(now[1], cell) for cell, item in marks[(1,)].items())
    assert run(*words(output), "--overwrite") == 0
    np.testing.assert_array_equal(labels_of(output), now)


def test_marks_of_another_picture_are_said_and_harm_nothing(words, tmp_path, capsys):
    output = tmp_path / "cells.zarr"
    assert run(*words(output)) == 0
    plain = labels_of(output)
    write_marks(output, {(7,): checked()[(1,)]})
    assert run(*words(output), "--overwrite") == 0
    assert "reviewed cells could not be kept" in capsys.readouterr().err
    np.testing.assert_array_equal(labels_of(output), plain)


def test_cut_off_while_they_are_put_back_the_outcome_is_the_same(words, tmp_path, monkeypatch):
    from napari_unet.core.proofreading import reapply_review

    output = tmp_path / "cells.zarr"
    assert run(*words(output)) == 0
    write_marks(output, checked())
    place = reapply_review._place

    def cut_off(*args):
        place(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(reapply_review, "_place", cut_off)
    assert run(*words(output), "--overwrite") == 130
    monkeypatch.setattr(reapply_review, "_place", place)
    folder = tmp_path / ".cells.zarr.unfinished"
    notes = Folder(folder)
    assert notes.recall("largest before checked cells") is not None
    notes.close()
    assert run(*words(output), "--overwrite") == 0
    again, marks = labels_of(output), read_marks(output)
    write_marks(output, checked())
    assert run(*words(output), "--overwrite") == 0
    np.testing.assert_array_equal(labels_of(output), again)
    assert read_marks(output) == marks


def test_a_store_that_lies_there_gets_them_at_every_size(tmp_path):
    path = tmp_path / "cells.zarr"
    create_zarr(path, (2, 80, 80), "zyx", np.uint32)
    levels = Levels(path, smallest=30)
    levels.arrays[0][1, 5:60, 5:60] = 9
    levels.renew()
    found = restore_into(path, checked())
    assert found.count == 2 and found.largest == 9 and read_marks(path) == found.marks
    now = zarr.open_group(str(path), mode="r")
    assert sorted(np.unique(now["0"][1]).tolist()) == [0, 9, 10]
    assert (now["0"][1, 10:30, 10:30] == 10).all()
    np.testing.assert_array_equal(now["1"][:], now["0"][:, ::2, ::2])
