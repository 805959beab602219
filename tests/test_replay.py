"""Pictures are kept as they are read, found again in their own files, and named planes alone are segmented."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_unet import stores
from napari_unet.cli import main
from napari_unet.core.data.arrays import Planes
from napari_unet.core.errors import StoreError
from napari_unet.core.settings import PredictionSettings
from napari_unet.records import replay
from napari_unet.records.replay import keep_picture, own_file, save_labels, segment_command
from tiny import write_model


@pytest.mark.parametrize(
    ("shape", "axes", "rgb"),
    [
        ((3, 4, 20, 30), "tzyx", False),
        ((2, 3, 20, 30), "pcyx", False),
        ((20, 30), "yx", False),
        ((1, 20, 30), "zyx", False),
        ((3, 20, 30), "zyx", False),
        ((2, 20, 30), "cyx", False),
        ((2, 20, 30, 3), "zyxc", True),
    ],
)
def test_a_kept_picture_reads_as_it_was_and_is_kept_once(shape, axes, rgb):
    values = (np.random.default_rng(0).random(shape) * 255).astype(np.uint8)
    planes = Planes(values, axes, rgb=rgb)
    planes = planes.as_grey() if rgb else planes
    path = keep_picture(planes)
    found = stores.open_picture(path).planes
    assert (found.shape, found.channels) == (planes.shape, planes.channels)
    for plane in planes.indices():
        inside = (plane, slice(None), slice(None))
        np.testing.assert_array_equal(found.read(*inside), planes.read(*inside))
    assert keep_picture(planes) == path
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_file_counts_as_the_pictures_own_only_when_it_holds_the_same(tmp_path):
    values = np.random.default_rng(0).random((3, 20, 30)).astype(np.float32)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack", metadata={"axes": "ZYX"})
    planes = Planes(values, "zyx")
    assert own_file(str(tmp_path / "a.tif"), planes) == tmp_path / "a.tif"
    assert own_file(str(tmp_path / "a.tif"), Planes(values + 1, "zyx")) is None
    assert own_file(str(tmp_path / "a.tif"), Planes(values[:2], "zyx")) is None
    assert own_file(str(tmp_path / "gone.tif"), planes) is None
    (tmp_path / "odd.lif").write_bytes(b"not a picture")
    assert own_file(str(tmp_path / "odd.lif"), planes) is None


def test_a_picture_too_large_to_keep_twice_is_refused(monkeypatch):
    monkeypatch.setattr(replay, "LARGEST_KEPT", 100)
    with pytest.raises(StoreError, match="too much to keep"):
        keep_picture(Planes(np.ones((20, 20)), "yx"))
    assert not replay.pictures_folder().exists()


def test_a_command_names_what_differs_and_what_the_model_would_choose_otherwise():
    settings = PredictionSettings(threshold=0.7, tta=True)
    words = shlex.split(
        segment_command("a b.tif", "out.tif", "bundled", settings, planes=[(0, 3), (1, 3)], chosen={"seed_height": 0.3})
    )
    assert words[:4] == ["napari-unet", "segment", "a b.tif", "out.tif"]
    assert words[words.index("--planes") + 1] == "0:3,1:3"
    given = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
    assert given == ["threshold=0.7", "seed_height=0.2", "tta=true"]


def test_named_planes_alone_are_segmented_and_the_job_beside_repeats_it(tmp_path, capsys):
    model = write_model(tmp_path / "tiny")
    values = (np.random.default_rng(0).random((4, 40, 40)) * 255).astype(np.uint8)
    tifffile.imwrite(tmp_path / "stack.tif", values, photometric="minisblack", metadata={"axes": "ZYX"})
    words = ["segment", tmp_path / "stack.tif", tmp_path / "out.tif", "--model", model, "--planes", "1,3"]
    words += ["--what", "probabilities", "--device", "cpu"]
    assert main([*map(str, words)]) == 0
    out = tifffile.imread(tmp_path / "out.tif")
    assert [bool(plane.any()) for plane in out] == [False, True, False, True]
    job = json.loads(Path(f"{tmp_path / 'out.tif'}.job.json").read_text(encoding="utf-8"))
    assert job["image"]["planes"] == [[1], [3]]
    assert main([*shlex.split(job["command"])[1:], "--overwrite"]) == 0
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out.tif"), out)
    capsys.readouterr()
    assert main([*map(str, words[:-2]), "--overwrite", "--planes", "7"]) == 2
    assert "no plane '7'; it has 4, from '0' to '3'" in capsys.readouterr().err


def test_labels_are_saved_without_their_channel_axis_and_with_their_job(tmp_path):
    labels = np.random.default_rng(0).integers(0, 9, (3, 1, 20, 30)).astype(np.int32)
    save_labels(tmp_path / "cells.tif", labels, "zcyx", {"command": "napari-unet ..."})
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "cells.tif"), labels[:, 0])
    assert json.loads((tmp_path / "cells.tif.job.json").read_text())["command"] == "napari-unet ..."
