"""What users get wrong: each ends with one clear line, exit code 1 or 2, and everything there is still there."""

from __future__ import annotations

import errno
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from napari_unet import stores
from napari_unet.cli import main
from napari_unet.core.errors import StoreError
from napari_unet.engine.child.file_job import _open as open_source
from napari_unet.records.replay import lacks_chunks
from napari_unet.stores import output as output_module
from tiny import write_model, write_pictures

SHORT = ["--steps", "2", "--set", "patch=64", "--set", "device=cpu"]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def pictures(tmp_path: Path) -> tuple[Path, Path]:
    return write_pictures(tmp_path)


def contents(folder: Path) -> dict[str, bytes | None]:
    """Return every file below a folder, hidden ones too, with its bytes."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


@pytest.fixture
def complains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Return a function that runs a command that fails, checks how it fails, and returns what it said."""

    def check(*words: Any, code: int = 1, left: str = "") -> str:
        before = contents(tmp_path)
        assert main([str(word) for word in words]) == code
        shown = capsys.readouterr()
        lines = shown.err.splitlines()
        errors = [line for line in lines if line.startswith("napari-unet: error: ")]
        assert len(errors) == 1 and lines[-1] == errors[0], shown.err
        assert "Traceback" not in shown.err and not shown.out
        after = contents(tmp_path)
        after = {name: held for name, held in after.items() if not left or not name.startswith(left)}
        assert after == before, "something was lost or left behind"
        return errors[0].removeprefix("napari-unet: error: ")

    return check


def train_words(pictures: tuple[Path, Path], model: Path, *more: Any) -> list[Any]:
    images, labels = pictures
    output = images.parent / "model"
    return ["train", "--images", images, "--labels", labels, "--output", output, "--start", model, *SHORT, *more]


def rewrite(path: Path, values: np.ndarray, **options: Any) -> Path:
    """Write a TIFF in place of another."""
    tifffile.imwrite(path, values, **options)
    return path


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape).astype(np.float32)


# Annotations -------------------------------------------------------------------------------------


def test_no_labels_painted(pictures: tuple[Path, Path], model: Path, complains: Any) -> None:
    for path in pictures[1].iterdir():
        rewrite(path, np.zeros((96, 96), np.uint16))
    assert "paint" in complains(*train_words(pictures, model, "--unpainted", "unknown"))
    assert "paint" in complains(*train_words(pictures, model))


def test_only_background_painted(pictures: tuple[Path, Path], model: Path, complains: Any) -> None:
    for path in pictures[1].iterdir():
        rewrite(path, np.ones((96, 96), np.uint16))
    assert "only background" in complains(*train_words(pictures, model, "--background-label", 1))


def test_labels_of_another_shape_than_the_image(pictures: tuple[Path, Path], model: Path, complains: Any) -> None:
    rewrite(pictures[1] / "cells1.tif", np.ones((96, 95), np.uint16))
    said = complains(*train_words(pictures, model))
    assert "cells1.tif has labels of shape (96, 95), but its image" in said and "(96, 96)" in said


@pytest.mark.parametrize(("value", "said"), [(0.5, "0.5"), (-3.0, "-3.0"), (np.nan, "nan")])
def test_labels_that_are_no_labels(
    pictures: tuple[Path, Path], model: Path, complains: Any, value: float, said: str
) -> None:
    rewrite(pictures[1] / "cells0.tif", np.full((96, 96), value, np.float32))
    assert f"numbers that are no labels, such as {said}" in complains(*train_words(pictures, model))


def test_a_folder_with_unmatched_stems(pictures: tuple[Path, Path], model: Path, complains: Any) -> None:
    images, labels = pictures
    (labels / "cells2.tif").rename(labels / "other.tif")
    assert "1 labels file has no image of the same stem" in complains(*train_words(pictures, model))
    (labels / "other.tif").unlink()
    said = complains(*train_words(pictures, model))
    assert "1 image file has no labels of the same stem" in said and "cells2.tif" in said


def test_folders_that_are_not_there_or_empty(
    tmp_path: Path, pictures: tuple[Path, Path], model: Path, complains: Any
) -> None:
    (tmp_path / "empty").mkdir()
    assert "nowhere does not exist" in complains(*train_words((tmp_path / "nowhere", pictures[1]), model))
    assert "empty holds no pictures" in complains(*train_words((pictures[0], tmp_path / "empty"), model))
    assert "nowhere does not exist" in complains("segment", tmp_path / "nowhere", tmp_path / "o.tif", "--model", model)


# Images ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_images_with_nan(
    tmp_path: Path, pictures: tuple[Path, Path], model: Path, complains: Any, value: float
) -> None:
    image = noise(96, 96)
    image[3, 4] = value
    rewrite(pictures[0] / "cells0.tif", image)
    assert "1 of 9216 grey values are NaN or infinite" in complains(*train_words(pictures, model))
    said = complains("segment", pictures[0] / "cells0.tif", tmp_path / "o.tif", "--model", model)
    assert "NaN or infinite" in said


def test_constant_images(tmp_path: Path, pictures: tuple[Path, Path], model: Path, complains: Any) -> None:
    path = rewrite(pictures[0] / "cells0.tif", np.full((96, 96), 7, np.uint8))
    assert "constant: every grey value is 7" in complains(*train_words(pictures, model))
    assert "constant: every grey value is 7" in complains("segment", path, tmp_path / "o.tif", "--model", model)


@pytest.mark.filterwarnings("ignore:.*zero-size:UserWarning")
@pytest.mark.parametrize("shape", [(0, 30), (30, 0)])
def test_empty_images(tmp_path: Path, model: Path, complains: Any, shape: tuple[int, int]) -> None:
    path = rewrite(tmp_path / "i.tif", np.zeros(shape, np.uint8))
    said = complains("segment", path, tmp_path / "o.tif", "--model", model)
    assert "i.tif" in said and ("empty" in said or "cannot be read" in said)


def test_empty_zarr_images(tmp_path: Path, model: Path, complains: Any) -> None:
    zarr.create_array(str(tmp_path / "i.zarr"), shape=(0, 30), dtype="u1")
    assert "is empty: its shape is (0, 30)" in complains(
        "segment", tmp_path / "i.zarr", tmp_path / "o.tif", "--model", model
    )


@pytest.mark.parametrize("shape", [(40, 1), (1, 40), (1, 1)])
def test_images_that_are_one_pixel_wide(tmp_path: Path, model: Path, complains: Any, shape: tuple[int, int]) -> None:
    """They can be segmented, unless there is no contrast in them."""
    path = rewrite(tmp_path / "i.tif", noise(*shape))
    words = ["segment", path, tmp_path / "o.tif", "--model", model]
    if shape == (1, 1):
        assert "constant" in complains(*words)
    else:
        assert main([str(w) for w in words]) == 0
        assert tifffile.imread(tmp_path / "o.tif").shape == shape


def test_training_on_images_that_are_one_pixel_wide(tmp_path: Path, model: Path) -> None:
    labels = np.zeros((64, 1), np.uint8)
    labels[5:20], labels[30:50] = 1, 2
    images = rewrite(tmp_path / "i.tif", noise(64, 1) + labels)
    rewrite(tmp_path / "l.tif", labels)
    assert main([str(w) for w in train_words((images, tmp_path / "l.tif"), model)]) == 0
    assert (tmp_path / "model" / "model.json").exists()


def test_complex_images(tmp_path: Path, pictures: tuple[Path, Path], model: Path, complains: Any) -> None:
    path = rewrite(pictures[0] / "cells0.tif", noise(96, 96).astype(np.complex64))
    assert "complex64" in complains("segment", path, tmp_path / "o.tif", "--model", model)
    assert "cells0.tif: The image holds complex64" in complains(*train_words(pictures, model))


def test_a_model_with_other_channels_than_the_image(tmp_path: Path, model: Path, complains: Any) -> None:
    path = rewrite(tmp_path / "i.tif", noise(2, 40, 50), metadata={"axes": "CYX"})
    said = complains("segment", path, tmp_path / "o.tif", "--model", model)
    assert "expects 1 channel(s), but the image has 2" in said
    three = write_model(tmp_path / "three", channels=3)
    grey = rewrite(tmp_path / "grey.tif", noise(40, 50))
    assert "expects 3 channel(s), but the image has 1" in complains(
        "segment", grey, tmp_path / "o.tif", "--model", three
    )


def test_images_with_different_channels_cannot_train_together(
    pictures: tuple[Path, Path], model: Path, complains: Any
) -> None:
    rewrite(pictures[0] / "cells0.tif", noise(2, 96, 96), metadata={"axes": "CYX"})
    assert "[1, 2] channels" in complains(*train_words(pictures, model))


def test_axes_that_cannot_be_told(tmp_path: Path, model: Path, complains: Any) -> None:
    path = rewrite(tmp_path / "i.tif", noise(3, 40, 50), photometric="minisblack")
    said = complains("segment", path, tmp_path / "o.tif", "--model", model)
    assert "(3, 40, 50)" in said and "--axes" in said
    said = complains("segment", path, tmp_path / "o.tif", "--model", model, "--axes", "zcyx")
    assert "--axes zcyx does not fit" in said
    assert main([str(w) for w in ("segment", path, tmp_path / "o.tif", "--model", model, "--axes", "zyx")]) == 0


@pytest.mark.parametrize(("shape", "said"), [((3, 40, 50), "tell planes"), ((2, 3, 40, 50), "tell planes")])
def test_axes_of_a_zarr_that_cannot_be_told(
    tmp_path: Path, model: Path, complains: Any, shape: tuple[int, ...], said: str
) -> None:
    zarr.create_array(str(tmp_path / "i.zarr"), data=noise(*shape))
    words = ["segment", tmp_path / "i.zarr", tmp_path / "o.zarr", "--model", model]
    message = complains(*words)
    assert said in message and str(shape) in message and "--axes" in message
    assert "each once" in complains(*words, "--axes", "zyz")
    named = {3: "zyx", 4: "tzyx"}[len(shape)]
    assert main([str(w) for w in (*words, "--axes", named)]) == 0


def test_a_store_that_lacks_chunks(
    tmp_path: Path, model: Path, complains: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    zarr.create_array(str(tmp_path / "i.zarr"), data=noise(64, 96), chunks=(32, 32))
    (tmp_path / "i.zarr" / "c" / "1" / "2").unlink()
    words = ["segment", tmp_path / "i.zarr", tmp_path / "o.zarr", "--model", model]
    message = complains(*words)
    assert "i.zarr lacks 1 of its 6 chunks" in message and "--sparse" in message
    assert main([str(w) for w in (*words, "--sparse")]) == 0
    job = json.loads((tmp_path / "o.zarr.job.json").read_text())
    assert " --sparse" in job["command"] and job["image"]["sparse"]
    before = np.asarray(stores.open_labels(tmp_path / "o.zarr")[...])
    assert main([*shlex.split(job["command"])[1:], "--overwrite"]) == 0
    np.testing.assert_array_equal(stores.open_labels(tmp_path / "o.zarr")[...], before)
    capsys.readouterr()
    (tmp_path / "i.zarr" / "zarr.json").write_text("{")
    assert "i.zarr cannot be read as Zarr" in complains(*words, "--overwrite")


def test_a_store_that_lacks_chunks_is_told_by_the_engine_too(tmp_path: Path) -> None:
    """In a batch of the docks, which have no command line to say --sparse on."""
    zarr.create_array(str(tmp_path / "i.zarr"), data=noise(64, 96), chunks=(32, 32), dimension_names=["y", "x"])
    assert not lacks_chunks(tmp_path / "i.zarr")
    (tmp_path / "i.zarr" / "c" / "1" / "2").unlink()
    with pytest.raises(StoreError, match="lacks 1 of its 6 chunks.* segment it by napari-unet segment --sparse"):
        open_source(tmp_path / "i.zarr", "")
    assert lacks_chunks(tmp_path / "i.zarr") and not lacks_chunks(tmp_path / "gone.zarr")


def test_a_chunk_that_is_cut_off(tmp_path: Path, model: Path, complains: Any) -> None:
    zarr.create_array(str(tmp_path / "i.zarr"), data=noise(64, 96), chunks=(32, 32))
    chunk = tmp_path / "i.zarr" / "c" / "1" / "2"
    chunk.write_bytes(chunk.read_bytes()[:-40])
    words = ["segment", tmp_path / "i.zarr", tmp_path / "o.tif", "--model", model]
    assert "i.zarr cannot be read: a chunk is damaged" in complains(*words)


def test_a_tiff_whose_last_page_is_damaged(tmp_path: Path, model: Path, complains: Any) -> None:
    """It opens, as its head is there; what is missing is met in mid-run, and the old result is kept."""
    path = tmp_path / "i.tif"
    with tifffile.TiffWriter(path) as tif:
        for seed in range(3):
            values = np.random.default_rng(seed).integers(0, 255, (60, 70)).astype(np.uint8)
            tif.write(values, compression="zlib", contiguous=False, metadata={"axes": "YX"})
    (tmp_path / "o.tif").write_bytes(b"an older result")
    with tifffile.TiffFile(path) as tif:
        last = tif.pages[2].dataoffsets[0]
    raw = bytearray(path.read_bytes())
    raw[last + 8 : last + 200] = bytes(192)
    path.write_bytes(raw)
    words = ["segment", path, tmp_path / "o.tif", "--model", model, "--axes", "zyx", "--overwrite"]
    assert "i.tif cannot be read" in complains(*words)


@pytest.mark.parametrize("part", [0.0, 0.5, 0.95])
def test_unreadable_tiffs(
    tmp_path: Path, pictures: tuple[Path, Path], model: Path, complains: Any, part: float
) -> None:
    path = rewrite(pictures[0] / "cells0.tif", noise(96, 96), compression="zlib")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    assert "cells0.tif cannot be read" in complains("segment", path, tmp_path / "o.tif", "--model", model)
    assert "cells0.tif cannot be read" in complains(*train_words(pictures, model))


def test_a_folder_in_place_of_a_tiff(tmp_path: Path, model: Path, complains: Any) -> None:
    (tmp_path / "in" / "a.tif").mkdir(parents=True)
    assert "a.tif is a folder" in complains("segment", tmp_path / "in", tmp_path / "out", "--model", model)
    assert "give a folder for the labels" in complains("segment", tmp_path / "in", tmp_path / "o.tif", "--model", model)


# Models and settings -----------------------------------------------------------------------------


def test_models_that_are_missing_foreign_or_damaged(
    tmp_path: Path, pictures: tuple[Path, Path], model: Path, complains: Any
) -> None:
    source = pictures[0] / "cells0.tif"
    assert "There is no model at" in complains("segment", source, tmp_path / "o.tif", "--model", tmp_path / "none")
    assert "cannot be read" in complains("info", source)
    broken = shutil.copytree(model, tmp_path / "broken")
    raw = bytearray((broken / "weights.safetensors").read_bytes())
    raw[-5] ^= 255
    (broken / "weights.safetensors").write_bytes(raw)
    assert "are damaged" in complains("segment", source, tmp_path / "o.tif", "--model", broken)
    (broken / "model.json").write_text("{}")
    assert "no model card of napari-interactive-unet" in complains("info", broken)
    assert "no model card" in complains(*train_words(pictures, broken))


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("threshhold=0.5", "There is no setting 'threshhold'; did you mean threshold?"),
        ("threshold=2", "between 0.01 and 0.99"),
        ("what=cells", "one of instances, classes, probabilities"),
        ("tile=half", "tile is 'half'"),
        ("tta=maybe", "true or false"),
    ],
)
def test_settings_that_there_are_not(tmp_path: Path, model: Path, complains: Any, assignment: str, said: str) -> None:
    path = rewrite(tmp_path / "i.tif", noise(40, 50))
    assert said in complains("segment", path, tmp_path / "o.tif", "--model", model, "--set", assignment, code=2)


# Outputs -----------------------------------------------------------------------------------------


def test_outputs_that_exist(tmp_path: Path, model: Path, complains: Any) -> None:
    path = rewrite(tmp_path / "i.tif", noise(40, 50))
    (tmp_path / "o.tif").write_bytes(b"precious")
    said = complains("segment", path, tmp_path / "o.tif", "--model", model)
    assert "o.tif exists already" in said and "--overwrite" in said
    assert "is the input itself" in complains("segment", path, path, "--model", model, "--overwrite")


@pytest.mark.parametrize("name", ["o.zarr", "o.tif"])
def test_an_unfinished_output_of_another_shape(tmp_path: Path, model: Path, complains: Any, name: str) -> None:
    """An earlier run was cut off, and the image is another one now."""
    output, shape = tmp_path / name, (2100, 2000)
    with stores.resumable_labels(output, shape, "yx", np.int32, {"model": {"name": "tiny"}}) as out:
        assert out.work is not None
        out.work.remember("chunk plane 0 0", True)
    path = rewrite(tmp_path / "i.tif", noise(2200, 2000))
    words = ["segment", path, output, "--model", model]
    message = complains(*words)
    assert f"{name} was started before with" in message and "[2100, 2000] (now [2200, 2000])" in message
    assert "--overwrite" in message


def test_a_finished_output_of_another_shape(
    tmp_path: Path, model: Path, complains: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    path = rewrite(tmp_path / "i.tif", noise(40, 50))
    words = ["segment", path, tmp_path / "o.zarr", "--model", model]
    assert main([str(w) for w in words]) == 0
    rewrite(path, noise(60, 50))
    capsys.readouterr()
    assert "o.zarr exists already" in complains(*words)
    assert main([str(w) for w in (*words, "--overwrite")]) == 0
    assert stores.open_labels(tmp_path / "o.zarr").shape == (60, 50)


def test_results_of_a_folder_that_were_made_otherwise_are_told_before_any_work(
    pictures: tuple[Path, Path], tmp_path: Path, model: Path, complains: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["segment", pictures[0], tmp_path / "out", "--model", model]
    assert main([str(w) for w in words]) == 0
    (tmp_path / "out" / "cells0.tif").unlink()
    capsys.readouterr()
    assert "cells1.tif exists already" in complains(*words, "--set", "threshold=0.3")
    rewrite(pictures[0] / "cells2.tif", noise(96, 96))
    assert "cells2.tif exists already" in complains(*words)


def test_outputs_of_which_some_exist_are_told_before_any_work(
    pictures: tuple[Path, Path], tmp_path: Path, model: Path, complains: Any
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "cells2.tif").write_bytes(b"precious")
    assert "cells2.tif exists already" in complains("segment", pictures[0], tmp_path / "out", "--model", model)
    assert "is the input itself" in complains("segment", pictures[0], pictures[0], "--model", model, "--overwrite")


@pytest.mark.parametrize("name", ["o.tif", "o.zarr", "o.png"])
def test_places_that_cannot_be_written(tmp_path: Path, model: Path, complains: Any, name: str) -> None:
    path = rewrite(tmp_path / "i.tif", noise(40, 50))
    (tmp_path / "file").write_text("no folder")
    assert f"file/{name} cannot be written" in complains("segment", path, tmp_path / "file" / name, "--model", model)
    if sys.platform.startswith("linux"):  # root may write anywhere else
        assert f"{name} cannot be written" in complains("segment", path, Path("/proc") / name, "--model", model)


def test_models_to_places_that_cannot_be_written(
    pictures: tuple[Path, Path], tmp_path: Path, model: Path, complains: Any
) -> None:
    (tmp_path / "file").write_text("no folder")
    words = train_words(pictures, model)
    words[words.index("--output") + 1] = tmp_path / "file" / "model"
    assert "file/model cannot be written" in complains(*words)


@pytest.mark.parametrize("name", ["documents", "thesis.txt"])
def test_models_in_place_of_other_things_are_refused_before_any_work(
    pictures: tuple[Path, Path], tmp_path: Path, model: Path, complains: Any, name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "thesis.tex").write_text("years")
    (tmp_path / "thesis.txt").write_text("years")
    monkeypatch.setattr(stores, "annotated_images", lambda *_, **__: pytest.fail("images were read"))
    words = train_words(pictures, model)
    words[words.index("--output") + 1] = tmp_path / name
    assert f"{name} exists and is no model" in complains(*words)
    assert f"{name} exists and is no model" in complains(*words, "--overwrite")


def full_disk(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("name", ["o.tif", "o.png"])
def test_a_full_disk_while_labels_are_written(
    tmp_path: Path, model: Path, complains: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = rewrite(tmp_path / "i.tif", noise(40, 50))
    (tmp_path / name).write_bytes(b"precious")
    monkeypatch.setattr(output_module.os, "fsync", full_disk)
    assert "the disk is full" in complains("segment", path, tmp_path / name, "--model", model, "--overwrite")


def test_a_full_disk_while_a_model_is_written(
    pictures: tuple[Path, Path], tmp_path: Path, model: Path, complains: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "write_bytes", full_disk)
    assert "No space left on device" in complains(*train_words(pictures, model))


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    """Return a folder on a disk of its own of 300 kB; skip where none can be made."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", folder], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("no small disk can be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("name", ["o.tif", "o.zarr"])
def test_a_disk_that_is_really_full(small_disk: Path, tmp_path: Path, model: Path, complains: Any, name: str) -> None:
    path = rewrite(tmp_path / "i.tif", noise(2, 400, 400), metadata={"axes": "ZYX"})
    words = ["segment", path, small_disk / name, "--model", model, "--what", "probabilities"]
    # What was computed for a Zarr result stays, to go on from when there is room.
    said = complains(*words, left="disk/.o.zarr.unfinished" if name.endswith("zarr") else "")
    assert "No space left" in said or "the disk is full" in said


# Evaluating --------------------------------------------------------------------------------------


def test_scores_of_labels_that_do_not_belong_together(tmp_path: Path, complains: Any) -> None:
    truth = rewrite(tmp_path / "t.tif", np.ones((30, 40), np.uint16))
    other = rewrite(tmp_path / "p.tif", np.ones((30, 41), np.uint16))
    said = complains("evaluate", truth, other)
    assert "(30, 41)" in said and "(30, 40)" in said
    Image.fromarray(np.random.default_rng(0).integers(0, 9, (30, 40, 3), np.uint8)).save(tmp_path / "c.png")
    assert "holds colours" in complains("evaluate", truth, tmp_path / "c.png")


def test_scores_do_not_replace_other_files(tmp_path: Path, complains: Any) -> None:
    truth = rewrite(tmp_path / "t.tif", np.ones((30, 40), np.uint16))
    assert "another ending than .json" in complains("evaluate", truth, truth, "--json", truth)
    (tmp_path / "file").write_text("no folder")
    assert "cannot be written" in complains("evaluate", truth, truth, "--json", tmp_path / "file" / "s.json")
