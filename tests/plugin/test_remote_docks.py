"""The docks with an engine on another computer, which is this one over ssh; see sshd.py."""

import os
import signal

import numpy as np
import pytest
import tifffile
import zarr
from discs import alive, discs, errors, make_small, stack
from qtpy.QtWidgets import QComboBox
from test_docks import painted_disc, preview_of

from napari_unet.core.network.model_card import read_card
from napari_unet.plugin.dock.engine_status import EngineStatus, name_devices, status
from napari_unet.plugin.layers import zarr_result
from napari_unet.plugin.runtime.engine import Engine
from napari_unet.plugin.segment.batch_view import DONE
from napari_unet.plugin.settings.preferences import Keeper
from napari_unet.records.replay import read_labels
from sshd import NAME, free_port, machine

__all__ = ["machine"]
LONG = 240_000


@pytest.fixture
def there(machine, qapp, engine_at_once):
    """The other computer, where the user prefers to compute."""
    Keeper.shared().change(engine_address=machine.address)
    return machine


def words_of(dock):
    """Return the line at the foot of a dock."""
    status = dock.findChild(EngineStatus)
    return "" if status is None else status.words


def ready(qtbot):
    """Wait until the engine is ready."""
    qtbot.waitUntil(lambda: Engine.shared().state == "ready", timeout=LONG)


def idle(dock, qtbot):
    """Wait until a dock works no more."""
    button = getattr(dock.view, "train_button", None) or dock.view.run_button
    qtbot.waitUntil(lambda: button.text() in ("Train", "Segment"), timeout=LONG)


@pytest.mark.computing
def test_train_and_segment_there_by_clicks(there, docks, click, qtbot):
    viewer, train, segment = docks("Annotate and train", "Segment", show=True)
    qtbot.waitUntil(lambda: words_of(train) == f"Getting ready on {NAME}", timeout=LONG)
    painted_disc(viewer, train, click)
    make_small(train.view, seconds=600.0)
    click(train.view.train_button)
    qtbot.waitUntil(lambda: preview_of(viewer) is not None, timeout=LONG)
    assert words_of(train) == words_of(segment) and words_of(train).startswith(f"Computes on {NAME}: ")
    device = train.view.findChild(QComboBox, "device")
    assert device.itemText(device.findData("cpu")) == f"processor on {NAME}"
    qtbot.waitUntil(lambda: len(train.view.plot.training.x) > 3, timeout=LONG)
    click(train.view.train_button)
    idle(train, qtbot)
    assert not errors(train.view)
    folder = train.controller.rounds.run
    assert read_card(folder / "model").name == "discs"
    assert Engine.shared().pid != os.getpid() and (there.home / "logs").is_dir()

    assert segment.view.model.currentText() == "Just trained"
    click(segment.view.run_button)
    idle(segment, qtbot)
    assert not errors(segment.view)
    assert viewer.layers["discs cells"].data.any()


@pytest.mark.computing
def test_a_lost_computer_is_told_and_the_next_click_connects_anew(there, docks, click, qtbot):
    viewer, train = docks("Annotate and train", show=True)
    painted_disc(viewer, train, click)
    make_small(train.view, seconds=600.0)
    click(train.view.train_button)
    qtbot.waitUntil(lambda: len(train.view.plot.training.x) > 1, timeout=LONG)
    first = Engine.shared().pid
    os.kill(first, signal.SIGKILL)
    idle(train, qtbot)
    assert [text for text in errors(train.view) if f"on {NAME} was ended" in text]
    assert words_of(train) == f"Stopped on {NAME}; a click starts it"
    click(train.view.train_button)
    qtbot.waitUntil(lambda: len(train.view.plot.training.x) > 1, timeout=LONG)
    assert not errors(train.view) and Engine.shared().pid != first
    click(train.view.train_button)
    idle(train, qtbot)


@pytest.mark.computing
def test_a_wrong_address_is_told_at_once_and_an_empty_one_computes_here(there, docks, click, qtbot):
    there.configure(Port=str(free_port()))
    viewer, segment = docks("Segment", show=True)
    qtbot.waitUntil(lambda: bool(errors(segment.view)), timeout=LONG)
    assert errors(segment.view)[0].startswith(f"{NAME} cannot be used for computing. It takes no ssh connections")
    Keeper.shared().change(engine_address="")
    ready(qtbot)
    assert words_of(segment).startswith("Computes on this computer")
    viewer.add_image(discs()[0], name="discs")
    click(segment.view.run_button)
    idle(segment, qtbot)
    assert "discs cells" in viewer.layers
    here = Engine.shared().pid
    there.configure()
    Keeper.shared().change(engine_address=there.address)
    ready_there = f"Computes on {NAME}"
    qtbot.waitUntil(lambda: words_of(segment).startswith(ready_there + ": "), timeout=LONG)
    assert not alive(here)


@pytest.mark.computing
def test_a_stack_that_is_too_large_to_hold_grows_here_while_it_is_computed_there(
    there, docks, click, qtbot, disc_model, tmp_path, monkeypatch
):
    monkeypatch.setattr(zarr_result, "LARGEST_HELD", 10 * 256 * 256)
    viewer, segment = docks("Segment", show=True)
    viewer.add_image(np.tile(stack(), (4, 2, 2)), name="picture", scale=(2.0, 0.5, 0.5))
    segment.controller.registry.set_just_trained(disc_model)
    segment.view.advanced.show_values({"device": "cpu", "diameter": 17.0})
    segment.view.place.choose(str(tmp_path / "results"))
    segment.view.extent.setCurrentIndex(1)
    click(segment.view.run_button)
    qtbot.waitUntil(lambda: "picture cells" in viewer.layers, timeout=LONG)
    result = viewer.layers["picture cells"]
    qtbot.waitUntil(lambda: bool(np.asarray(result.data[0]).any()), timeout=LONG)
    path = tmp_path / "results" / "picture_cells.zarr"
    idle(segment, qtbot)
    assert not errors(segment.view) and Engine.shared().is_remote
    labels = read_labels(path)
    assert labels.axes == "zyx" and all(np.asarray(result.data[z]).max() > 20 for z in range(20))
    np.testing.assert_array_equal(np.asarray(result.data[7]), zarr.open_array(str(path), path="0")[7])
    assert not list((there.home / "visits").glob("growing/*"))


def test_status_and_devices_are_named(qtbot):
    card = {"cuda": "NVIDIA H200", "cpu": "processor"}
    assert status("ready", "on gpu-box", card) == "Computes on gpu-box: CUDA (NVIDIA H200)"
    assert status("ready", "on this computer", {"cpu": "processor"}) == "Computes on this computer: processor"
    assert status("starting", "on gpu-box", card) == "Getting ready on gpu-box"
    editor = QComboBox()
    qtbot.addWidget(editor)
    for value in ("auto", "cuda", "mps", "cpu"):
        editor.addItem(value, value)
    name_devices(editor, "on gpu-box", card)
    assert [editor.itemText(i) for i in range(4)] == [
        "auto", "CUDA (NVIDIA H200) on gpu-box", "Apple GPU (none) on gpu-box", "processor on gpu-box",
    ]  # fmt: skip
    assert [editor.model().item(i).isEnabled() for i in range(4)] == [True, True, False, True]
    assert [editor.itemData(i) for i in range(4)] == ["auto", "cuda", "mps", "cpu"]


@pytest.mark.computing
def test_a_batch_is_segmented_there(there, docks, click, qtbot, disc_model, tmp_path):
    plates = tmp_path / "plates"
    plates.mkdir()
    for seed in (1, 2):
        tifffile.imwrite(plates / f"a{seed}.tif", discs(seed=seed)[0])
    _, dock = docks("Segment many files")
    dock.controller.registry.set_just_trained(disc_model)
    dock.view.model.choose(disc_model)
    dock.view.advanced.show_values({"device": "cpu", "diameter": 17.0})
    dock.view.source.edit.setText(str(plates))
    dock.view.source.edit.editingFinished.emit()
    click(dock.view.run_button)
    qtbot.waitUntil(lambda: dock.view.run_button.text() == "Segment all", timeout=LONG)
    assert [state for state, _ in dock.view.files.states()] == [DONE, DONE]
    assert words_of(dock).startswith(f"Computes on {NAME}: ")
    assert tifffile.imread(tmp_path / "plates-labels" / "a2.tif").max() > 5
    assert Engine.shared().is_remote and list((there.home / "logs").iterdir())
