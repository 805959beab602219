"""What the dock made, made again by the command that it hands out, in a process of its own."""

import json
import os
import shlex
import subprocess
import sys

import numpy as np
import pytest
import tifffile
from discs import discs, errors, make_small, stack
from qtpy.QtWidgets import QApplication

from napari_unet.plugin.layers.reading import OURS
from napari_unet.records.replay import pictures_folder

LONG = 120_000


@pytest.fixture
def segment(docks, click, qtbot, disc_model):
    """Return a function that opens the dock, and one that segments by a click."""

    def make():
        viewer, dock = docks("Segment", show=True)
        dock.controller.models.look_up(f"{disc_model}/model.json")
        return viewer, dock

    def run(dock):
        click(dock.view.run_button)
        qtbot.waitUntil(lambda: dock.view.run_button.text() == "Segment", timeout=LONG)
        assert not errors(dock.view)

    return make, run


@pytest.fixture
def copied(click, qtbot):
    """Return a function that clicks Copy command and returns the words in the clipboard."""

    def copy(dock):
        QApplication.clipboard().setText("")
        click(dock.view.copy_button)
        qtbot.waitUntil(lambda: bool(QApplication.clipboard().text()), timeout=LONG)
        return shlex.split(QApplication.clipboard().text())

    return copy


def run_again(words, folder):
    """Run a copied command elsewhere, and return the labels that it writes."""
    assert words[:2] == ["napari-unet", "segment"]
    subprocess.run(
        [sys.executable, "-m", "napari_unet", *words[1:]], cwd=folder, check=True, timeout=200,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    return tifffile.imread(folder / words[3])


@pytest.mark.computing
def test_a_picture_in_no_file_is_kept_and_gives_the_same_labels_after_the_sliders_too(segment, copied, qtbot, tmp_path):
    make, run = segment
    viewer, dock = make()
    viewer.add_image(discs(seed=4)[0], name="my discs")
    run(dock)
    result = viewer.layers["my discs cells"]
    first = result.data.copy()
    dock.view.threshold.setValue(0.83)
    qtbot.waitUntil(lambda: not np.array_equal(result.data, first), timeout=LONG)
    qtbot.waitUntil(lambda: dock.controller.relabelling is None, timeout=LONG)
    words = copied(dock)
    assert "threshold=0.83" in words
    assert len(list(pictures_folder().glob("*.tif"))) == 1
    np.testing.assert_array_equal(run_again(words, tmp_path), result.data)
    assert result.data.any()
    job = result.metadata[OURS]["job"]
    assert json.loads(json.dumps(job))["command"] == result.metadata[OURS]["command"] == shlex.join(words)
    assert job["settings"]["threshold"] == 0.83
    assert copied(dock) == words
    assert len(list(pictures_folder().glob("*.tif"))) == 1


def test_the_command_beside_a_saved_result_gives_the_same_labels(segment, click, qtbot, answer, tmp_path):
    make, run = segment
    viewer, dock = make()
    viewer.add_image(discs(seed=4)[0], name="my discs")
    run(dock)
    saved, beside = tmp_path / "saved.tif", tmp_path / "saved.tif.job.json"
    answer(saved)
    click(dock.view.save_button)
    qtbot.waitUntil(beside.exists, timeout=LONG)
    command = json.loads(beside.read_text(encoding="utf-8"))["command"]
    np.testing.assert_array_equal(run_again(shlex.split(command), tmp_path), tifffile.imread(saved))


@pytest.mark.computing
def test_a_result_is_saved_without_room_for_its_picture(segment, click, qtbot, answer, tmp_path, monkeypatch):
    make, run = segment
    viewer, dock = make()
    viewer.add_image(discs(seed=4)[0], name="my discs")
    run(dock)
    monkeypatch.setattr("napari_unet.records.replay.LARGEST_KEPT", 0)
    answer(tmp_path / "saved.tif")
    click(dock.view.save_button)
    qtbot.waitUntil((tmp_path / "saved.tif.job.json").exists, timeout=LONG)
    assert not errors(dock.view)
    job = json.loads((tmp_path / "saved.tif.job.json").read_text(encoding="utf-8"))
    assert job["image"] == {"name": "my discs", "path": "", "planes": None, "sparse": False}


@pytest.mark.computing
def test_a_model_that_measures_the_size_does_so_again_whatever_the_sliders_say(segment, copied, qtbot, tmp_path):
    make, run = segment
    viewer, dock = make()
    image = np.kron(discs(seed=4)[0], np.ones((3, 3), np.float32))
    viewer.add_image(image, name="large discs")
    dock.view.model.choose("bundled")
    run(dock)
    assert "of its size" in str(dock.view.messages.lines())
    result = viewer.layers["large discs cells"]
    first = result.data.copy()
    dock.view.threshold.setValue(0.97)
    qtbot.waitUntil(lambda: not np.array_equal(result.data, first), timeout=LONG)
    qtbot.waitUntil(lambda: dock.controller.relabelling is None, timeout=LONG)
    np.testing.assert_array_equal(run_again(copied(dock), tmp_path), result.data)


@pytest.mark.computing
def test_a_stack_that_lies_in_a_file_is_read_from_there(segment, copied, tmp_path, qtbot):
    make, run = segment
    viewer, dock = make()
    tifffile.imwrite(tmp_path / "stack.tif", stack(3), metadata={"axes": "ZYX"})
    viewer.open(tmp_path / "stack.tif", plugin="napari")
    dock.view.extent.setCurrentIndex(1)
    run(dock)
    result = viewer.layers["stack cells"]
    qtbot.waitUntil(lambda: "command" in result.metadata[OURS], timeout=LONG)
    assert str(tmp_path / "stack.tif") in shlex.split(result.metadata[OURS]["command"])
    words = copied(dock)
    assert words[2] == str(tmp_path / "stack.tif")
    assert not pictures_folder().exists()
    np.testing.assert_array_equal(run_again(words, tmp_path), result.data)

    dock.view.save_result.emit(str(tmp_path / "saved.tif"))
    qtbot.waitUntil(lambda: (tmp_path / "saved.tif.job.json").exists(), timeout=LONG)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "saved.tif"), result.data)
    assert json.loads((tmp_path / "saved.tif.job.json").read_text())["command"] == shlex.join(words)


@pytest.mark.computing
def test_planes_that_were_done_one_by_one_are_repeated_together(segment, copied, tmp_path):
    make, run = segment
    viewer, dock = make()
    viewer.add_image(stack(4), name="stack", axis_labels=("z", "y", "x"))
    for plane in (3, 1):
        viewer.dims.set_current_step(0, plane)
        run(dock)
    result = viewer.layers["stack cells"]
    words = copied(dock)
    assert words[words.index("--planes") + 1] == "1,3"
    assert result.metadata[OURS]["job"]["image"]["planes"] == [[1], [3]]
    np.testing.assert_array_equal(run_again(words, tmp_path), result.data)
    assert not result.data[[0, 2]].any()


def test_without_a_result_there_is_no_command(segment, click):
    make, _ = segment
    _, dock = make()
    click(dock.view.copy_button)
    assert ("warning", "There is no result yet; segment something first.") in dock.view.messages.lines()


@pytest.mark.computing
def test_the_command_of_a_training_names_its_pictures_and_labels(docks, click, qtbot, tmp_path):
    viewer, train = docks("Annotate and train", show=True)
    image, labels = discs()
    viewer.add_image(image, name="discs")
    click(train.view.new_button)
    layer = viewer.layers["discs annotation"]
    layer.data[10:110, 10:110] = np.where(labels[10:110, 10:110] > 0, labels[10:110, 10:110] + 1, 1)
    layer.refresh()
    make_small(train.view, seconds=2.0)
    click(train.view.train_button)
    qtbot.waitUntil(lambda: train.view.train_button.text() == "Train", timeout=LONG)
    assert not errors(train.view)
    QApplication.clipboard().setText("")
    click(train.view.copy_button)
    words = shlex.split(QApplication.clipboard().text())
    folder = train.controller.registry.just_trained.rpartition(os.sep)[0]
    assert words[:4] == ["napari-unet", "train", "--images", os.path.join(folder, "images")]
    again = [*words[1:]]
    again[again.index("--output") + 1] = str(tmp_path / "again")
    done = subprocess.run(
        [sys.executable, "-m", "napari_unet", *again, "--steps", "2"], cwd=tmp_path, timeout=200, capture_output=True,
        text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "again" / "model.json").exists()
