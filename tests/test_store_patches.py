"""Corrections of labels in a store: at every size, whole or not at all, and finished after a crash."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import zarr

from napari_unet.core.errors import StoreError
from napari_unet.core.proofreading.review import EDITED, ReviewedCell
from napari_unet.stores import open_array
from napari_unet.stores.label_patches import StoredLabels, correcting, finish_patch, patch_folder
from napari_unet.stores.review_marks import read_marks
from napari_unet.stores.zarrs import Levels, create_zarr


@pytest.fixture
def store(tmp_path, monkeypatch):
    """Return a stack of labels in small chunks, at three sizes, and what is in it."""
    monkeypatch.setattr("napari_unet.stores.zarrs.CHUNK", 32)
    path = tmp_path / "cells.zarr"
    create_zarr(path, (3, 130, 101), "zyx", np.uint32)
    values = np.random.default_rng(0).integers(0, 500, (3, 130, 101)).astype(np.uint32)
    levels = Levels(path, smallest=40)
    levels.arrays[0][:] = values
    levels.renew()
    return path, values


def check_levels(path, expected):
    group = zarr.open_group(str(path), mode="r")
    for level in range(3):
        np.testing.assert_array_equal(group[str(level)][:], expected[:, :: 2**level, :: 2**level])


def corrected(values, box, part):
    out = values.copy()
    out[1, box[0] : box[1], box[2] : box[3]] = part
    return out


@pytest.mark.parametrize("box", [(0, 130, 0, 101), (7, 40, 33, 50), (63, 65, 31, 33), (129, 130, 100, 101)])
def test_a_correction_is_written_at_every_size_with_its_marks(store, box):
    path, values = store
    part = np.arange((box[1] - box[0]) * (box[3] - box[2])).reshape(box[1] - box[0], -1) + 1000
    marks = {(1,): {1000: ReviewedCell.of(part, 1000, EDITED, (box[0], box[2]))}}
    with correcting(path) as labels:
        np.testing.assert_array_equal(labels.read((1,), box), values[1, box[0] : box[1], box[2] : box[3]])
        labels.put((1,), box, part, marks, int(part.max()))
    check_levels(path, corrected(values, box, part))
    assert read_marks(path) == marks
    assert not patch_folder(path).exists()
    assert StoredLabels(path).noted_largest() == StoredLabels(path).find_largest() == part.max()


def test_only_chunks_that_change_are_written(store):
    path, values = store
    before = {file: file.stat().st_mtime_ns for file in path.rglob("c/**/*") if file.is_file()}
    part = values[1].copy()
    part[40, 40] = 7000
    with correcting(path) as labels:
        labels.put((1,), (0, 130, 0, 101), part, {}, 7000)
    written = [file for file in before if file.stat().st_mtime_ns != before[file]]
    assert {str(file.relative_to(path)) for file in written} == {"0/c/1/1/1", "1/c/1/0/0", "2/c/1/0/0"}


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from napari_unet.stores import label_patches as patches
from napari_unet.stores.label_patches import correcting

written, most = [], int(sys.argv[2])
def write(array, *rest, original=patches._write_changed):
    if len(written) == most:
        os.kill(os.getpid(), signal.SIGKILL)
    written.append(array)
    original(array, *rest)

patches._write_changed = write
with correcting(Path(sys.argv[1])) as labels:
    labels.put((1,), (10, 90, 20, 80), np.full((80, 60), 900), {}, 900)
"""


@pytest.mark.parametrize("levels", [0, 1, 2])
def test_what_a_kill_left_half_written_is_finished_before_anything_else(store, levels):
    path, values = store
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(KILLED), str(path), str(levels)], env=os.environ)
    assert done.returncode == -signal.SIGKILL
    assert patch_folder(path).exists()
    expected = corrected(values, (10, 90, 20, 80), 900)
    array, _ = open_array(path, indices=True)
    np.testing.assert_array_equal(array[:], expected)
    check_levels(path, expected)
    assert not patch_folder(path).exists()


def test_what_was_not_yet_made_is_dropped(store):
    path, values = store
    folder = patch_folder(path)
    folder.mkdir()
    (folder / "about.json").write_text(json.dumps({"plane": [1]}))
    (folder / "values.npz.part").write_bytes(b"half")
    finish_patch(path)
    check_levels(path, values)
    assert not folder.exists()


def test_a_correction_of_labels_that_were_made_anew_is_dropped(store):
    path, values = store
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(KILLED), str(path), "0"], env=os.environ)
    assert done.returncode == -signal.SIGKILL
    shutil.rmtree(path)
    create_zarr(path, (3, 130, 101), "zyx", np.uint32)
    levels = Levels(path, smallest=40)
    levels.arrays[0][:] = values
    levels.renew()
    finish_patch(path)
    check_levels(path, values)
    assert not patch_folder(path).exists()


def test_one_program_at_a_time(store):
    path, _ = store
    with correcting(path), pytest.raises(StoreError, match="Another run is writing"), correcting(path):
        pass
    with correcting(path) as labels:
        assert labels.planes == [(0,), (1,), (2,)]


def test_what_cannot_be_corrected_is_said(tmp_path, store):
    path, _ = store
    with pytest.raises(StoreError, match="gone, damaged or no OME-Zarr"):
        StoredLabels(tmp_path / "nothing.zarr")
    group = zarr.open_group(str(path), mode="r+")
    group.create_array("1", shape=(3, 44, 34), chunks=(1, 44, 34), dtype=np.uint32, overwrite=True)
    with pytest.raises(StoreError, match=r"has shape \(3, 44, 34\) instead of \(3, 65, 51\)"):
        StoredLabels(path)
    create_zarr(tmp_path / "p.zarr", (40, 40), "yx", np.float32)
    with pytest.raises(StoreError, match="float32 values and no cells"):
        StoredLabels(tmp_path / "p.zarr")
    (path.parent / ".cells.zarr.correction").mkdir()
    (path.parent / ".cells.zarr.correction" / "values.npz").write_bytes(b"rubbish")
    create_zarr(tmp_path / "cells2.zarr", (40, 40), "yx", np.uint32)
    os.rename(path.parent / ".cells.zarr.correction", tmp_path / ".cells2.zarr.correction")
    (tmp_path / ".cells2.zarr.correction" / "about.json").write_text("{}")
    with pytest.raises(StoreError, match="cannot be read"):
        finish_patch(tmp_path / "cells2.zarr")
