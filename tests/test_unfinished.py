"""Results that are written chunk by chunk: gone on with after a crash, bounded, and refused when they do not fit."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import tifffile
import zarr

from napari_unet import stores
from napari_unet.cli import main
from napari_unet.core.errors import StoreError
from napari_unet.core.synthetic import generate
from napari_unet.stores.resumable import (
    Folder,
    Scratch,
    UnfinishedFile,
    UnfinishedLabels,
    resumable_labels,
    unfinished_folder,
)
from napari_unet.stores.zarrs import add_pyramid, create_zarr
from tiny import write_model

OPTIONS = ["--device", "cpu", "--set", "precision=float32", "--set", "threshold=0.45", "--set", "smallest=3"]


def unfinished(path: Path, job: dict[str, object] | None = None, **more: object) -> UnfinishedLabels:
    return UnfinishedLabels(path, (1200, 30), "yx", np.uint32, job or {"model": {"name": "a"}}, **more)  # type: ignore[arg-type]


def test_notes_last_and_half_a_line_does_not_count(tmp_path: Path) -> None:
    work = Folder(tmp_path / "w")
    work.remember("plane 1", 7)
    work.remember("tile", 512)
    work.remember("tile", 256)
    work.close()
    with (tmp_path / "w" / "done.jsonl").open("ab") as file:
        file.write(b'["plane 2", 3')
    again = Folder(tmp_path / "w")
    assert [again.recall(k) for k in ("plane 1", "tile", "plane 2")] == [7, 256, None]
    again.remember("plane 2", 4)
    again.close()
    last = Folder(tmp_path / "w")
    assert last.recall("plane 2") == 4
    last.close()


def test_arrays_of_a_folder_last_until_they_are_dropped(tmp_path: Path) -> None:
    work = Folder(tmp_path / "w")
    array = work.array("map", (100, 90), (32, 32), np.uint16)
    assert array.shape == (100, 90) and not np.asarray(array[0:100, 0:90]).any()
    array[5:9, 3:4] = 7
    work.close()
    again = Folder(tmp_path / "w")
    assert np.asarray(again.array("map", (100, 90), (32, 32), np.uint16)[0:100, 0:90]).sum() == 28
    again.drop("map")
    again.drop("nothing")
    assert not np.asarray(again.array("map", (100, 90), (32, 32), np.uint16)[0:100, 0:90]).any()
    (tmp_path / "w" / "map" / "zarr.json").unlink()  # as if it had ended while making it
    assert again.array("map", (100, 90), (32, 32), np.uint16).shape == (100, 90)
    again.close()


def test_two_runs_cannot_write_one_result(tmp_path: Path) -> None:
    with unfinished(tmp_path / "l.zarr"), pytest.raises(StoreError, match="Another run is writing the same result"):
        unfinished(tmp_path / "l.zarr")


def test_an_unfinished_result_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "l.zarr"
    with unfinished(path) as out:
        assert not out.resumed and out.lasting
        out.array[0:5, 0:30] = 3
        out.work.remember("half", True)
    assert not path.exists() and unfinished_folder(path).is_dir()
    with unfinished(path) as out:
        assert out.resumed and out.work.recall("half")
        assert np.asarray(out.array[0:1200, 0:30]).sum() == 450
        out.array[5:10, 0:30] = 4
        assert out.save() == path
    assert [p.name for p in path.parent.iterdir()] == ["l.zarr"]
    assert np.asarray(zarr.open_array(str(path), path="0")[:]).sum() == 450 + 600
    with pytest.raises(StoreError, match="exists already"):
        unfinished(path)
    with unfinished(path, overwrite=True) as out:
        out.save()
    assert not np.asarray(zarr.open_array(str(path), path="0")[:]).any()


def test_an_unfinished_result_of_another_job_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "l.zarr"
    with unfinished(path, {"model": {"name": "a", "depth": 2}, "settings": {"threshold": 0.5}}) as out:
        out.work.remember("half", True)
    other = {"model": {"name": "b", "depth": 2}, "settings": {"threshold": 0.5}}
    with pytest.raises(StoreError, match=r"started before with model name a \(now b\). Use the same to resume it"):
        unfinished(path, other)
    with pytest.raises(StoreError, match=r"shape \[1200, 30\] \(now \[12, 30\]\)"):
        UnfinishedLabels(path, (12, 30), "yx", np.uint32, {"model": {"name": "a", "depth": 2},
                                                           "settings": {"threshold": 0.5}})  # fmt: skip
    with unfinished(path, other, overwrite=True) as out:
        assert not out.resumed and out.work.recall("half") is None


def test_an_unfinished_result_of_another_format_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "l.zarr"
    with unfinished(path) as out:
        out.work.remember("half", True)
    job = unfinished_folder(path) / "job.json"
    job.write_text(json.dumps(json.loads(job.read_text()) | {"napari_unet_unfinished": 1}))
    with pytest.raises(StoreError, match="has format 1, but this version reads 2; pass --overwrite to replace it.$"):
        unfinished(path)
    with unfinished(path, overwrite=True) as out:
        assert not out.resumed


def test_what_ended_before_it_began_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "l.zarr"
    unfinished_folder(path).mkdir()
    with unfinished(path) as out:
        assert not out.resumed
    (unfinished_folder(path) / "job.json").write_text("{")
    with unfinished(path) as out:
        assert not out.resumed


def test_a_failure_to_begin_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zarr, "open_group", Mock(side_effect=OSError("the disk is full")))
    with pytest.raises(StoreError, match="the disk is full. Nothing was changed"):
        unfinished(tmp_path / "l.zarr")
    assert not list(tmp_path.iterdir())


def test_files_that_are_written_whole_have_a_scratch_folder_for_large_planes(tmp_path: Path) -> None:
    with resumable_labels(tmp_path / "l.tif", (30, 40), "yx", np.int32, {}) as small:
        assert small.work is None and not small.lasting
    with resumable_labels(tmp_path / "l.png", (2500, 2000), "yx", np.int32, {}) as out:
        assert isinstance(out.work, Scratch) and out.work.folder.is_dir() and not out.lasting
        out.array[3, 4] = 5
        out.save()
    assert [p.name for p in tmp_path.iterdir()] == ["l.png"]


def test_large_tiffs_are_gone_on_with_too(tmp_path: Path) -> None:
    path, shape = tmp_path / "l.tif", (2, 1500, 1400)
    with resumable_labels(path, shape, "zyx", np.int32, {"model": "a"}) as out:
        assert isinstance(out, UnfinishedFile) and out.lasting and not out.resumed
        out.array[0, 3, 4] = 5
        out.work.remember("plane 0", 1)
    assert not path.exists()
    with pytest.raises(StoreError, match=r"started before with model a \(now b\)"):
        resumable_labels(path, shape, "zyx", np.int32, {"model": "b"})
    with resumable_labels(path, shape, "zyx", np.int32, {"model": "a"}) as out:
        assert out.resumed and out.work is not None and out.work.recall("plane 0") == 1
        out.array[1, 3, 4] = 70_000
        assert out.save() == path
    assert left_in(tmp_path) == ["l.tif"]
    labels = tifffile.imread(path)
    assert labels.shape == shape and labels.dtype == np.uint32
    assert labels[0, 3, 4] == 5 and labels[1, 3, 4] == 70_000 and (labels > 0).sum() == 2


def test_a_full_disk_at_the_end_keeps_what_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "l.tif"
    with monkeypatch.context() as patch, resumable_labels(path, (2100, 2000), "yx", np.int32, {}) as out:
        out.array[3, 4] = 5
        patch.setattr(tifffile, "imwrite", full)
        with pytest.raises(StoreError, match="the disk is full"):
            out.save()
    assert left_in(tmp_path) == [".l.tif.unfinished"]
    with resumable_labels(path, (2100, 2000), "yx", np.int32, {}) as out:
        assert out.resumed
        out.save()
    assert tifffile.imread(path)[3, 4] == 5


def test_pyramids_halve_until_they_fit(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 9, (2, 70, 33)).astype(np.uint32)
    array = create_zarr(tmp_path / "l.zarr", labels.shape, "zyx", np.uint32)
    array[:] = labels
    assert add_pyramid(tmp_path / "l.zarr", smallest=20) == 3
    assert add_pyramid(tmp_path / "l.zarr", smallest=20) == 3  # again, as after a crash
    group = zarr.open_group(str(tmp_path / "l.zarr"), mode="r")
    np.testing.assert_array_equal(group["1"][:], labels[:, ::2, ::2])
    np.testing.assert_array_equal(group["2"][:], labels[:, ::4, ::4])
    datasets = group.attrs["ome"]["multiscales"][0]["datasets"]
    assert [d["path"] for d in datasets] == ["0", "1", "2"]
    assert datasets[2]["coordinateTransformations"] == [{"type": "scale", "scale": [1.0, 4.0, 4.0]}]
    models = pytest.importorskip("ome_zarr_models")
    assert len(models.open_ome_zarr(group).attributes.ome.multiscales[0].datasets) == 3


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, np.ndarray]:
    """Return a model, a picture of six chunks, and its labels from a run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("job")
    model = write_model(folder / "model")
    tile = generate("nuclei", (512, 512), 0, diameter=20, density=0.4)[0]
    tifffile.imwrite(folder / "cells.tif", np.tile(tile, (6, 3))[:2900, :1500])
    assert (
        main(["segment", str(folder / "cells.tif"), str(folder / "whole.zarr"), "--model", str(model), *OPTIONS]) == 0
    )
    labels = np.asarray(zarr.open_array(str(folder / "whole.zarr"), path="0")[:])
    assert labels.max() > 100
    return model, folder / "cells.tif", labels


def start(model: Path, picture: Path, output: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "napari_unet", "segment", str(picture), str(output), "--model", str(model)]
    return subprocess.Popen([*command, *OPTIONS], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def killed_when(reached: Callable[[], bool], *arguments: Path) -> None:
    """Start a segmentation and kill it as soon as something is the case."""
    process = start(*arguments)
    try:
        end = time.monotonic() + 240
        while not reached():
            assert process.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < end, "it did not get so far"
            time.sleep(0.005)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()


def left_in(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def chunks_done(output: Path) -> int:
    notes = unfinished_folder(output) / "done.jsonl"
    return notes.read_bytes().count(b'"chunk') if notes.exists() else 0


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
@pytest.mark.parametrize(
    ("moment", "name"),
    [("amid the network", "l.zarr"), ("amid the cells", "l.zarr"), ("amid the network", "l.tif")],
)
def test_after_kill_9_the_same_command_gives_the_same_result(
    job: tuple[Path, Path, np.ndarray], tmp_path: Path, moment: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model, picture, expected = job
    output = tmp_path / name
    between = unfinished_folder(output) / "plane-labels0"
    reached = {"amid the network": lambda: chunks_done(output) >= 2, "amid the cells": lambda: between.exists()}
    killed_when(reached[moment], model, picture, output)
    done = chunks_done(output)
    assert not output.exists() and (done < 6 if moment == "amid the network" else done == 6)
    assert main(["segment", str(picture), str(output), "--model", str(model), *OPTIONS]) == 0
    assert "resuming an earlier run" in capsys.readouterr().err
    np.testing.assert_array_equal(stores.open_labels(output)[0:2900, 0:1500], expected)
    assert left_in(tmp_path) == [name, f"{name}.job.json"]


def test_another_model_or_setting_does_not_go_on(job: tuple[Path, Path, np.ndarray], tmp_path: Path) -> None:
    model, picture, _ = job
    output = tmp_path / "l.zarr"
    killed_when(lambda: chunks_done(output) >= 1, model, picture, output)
    before = json.loads((unfinished_folder(output) / "job.json").read_text())
    other = [*OPTIONS[:-1], "smallest=4"]
    assert main(["segment", str(picture), str(output), "--model", str(model), *other]) == 1
    second = write_model(tmp_path / "second", description="another")
    assert main(["segment", str(picture), str(output), "--model", str(second), *OPTIONS]) == 1
    assert json.loads((unfinished_folder(output) / "job.json").read_text()) == before
    assert main(["segment", str(picture), str(output), "--model", str(model), *other, "--overwrite"]) == 0
    assert output.is_dir() and not unfinished_folder(output).exists()


def test_a_file_gets_the_same_labels(job: tuple[Path, Path, np.ndarray], tmp_path: Path) -> None:
    model, picture, expected = job
    assert main(["segment", str(picture), str(tmp_path / "l.tif"), "--model", str(model), *OPTIONS]) == 0
    np.testing.assert_array_equal(stores.open_labels(tmp_path / "l.tif")[0:2900, 0:1500], expected)
    assert left_in(tmp_path) == ["l.tif", "l.tif.job.json"]
