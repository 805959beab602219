"""A folder of files through the dock, as a user does it."""

import os
import signal

import numpy as np
import pytest
import tifffile
import zarr
from discs import discs, errors, stack
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QScrollArea

from napari_unet.plugin.runtime.engine import Engine
from napari_unet.plugin.segment.batch_view import DONE, FAILED, SKIPPED, WAITING
from napari_unet.records.replay import ENDING

LONG = 240_000


@pytest.fixture
def folder(tmp_path):
    """Return a folder with two pictures, a stack, one that is constant, one that is cut off and one without names."""
    inside = tmp_path / "plates"
    inside.mkdir()
    for number in (1, 2):
        tifffile.imwrite(inside / f"a{number}.tif", discs(seed=number)[0])
    tifffile.imwrite(inside / "b_stack.tif", stack(3), metadata={"axes": "ZYX"}, photometric="minisblack")
    tifffile.imwrite(inside / "c_constant.tif", np.full((64, 64), 7, np.uint8))
    tifffile.imwrite(inside / "d_cut.tif", discs(seed=3)[0])
    (inside / "d_cut.tif").write_bytes((inside / "d_cut.tif").read_bytes()[:9000])
    tifffile.imwrite(inside / "e_unnamed.tif", stack(3), metadata=None, photometric="minisblack")
    return inside


@pytest.fixture
def batch(docks, disc_model, folder):
    """Return a function that opens the dock with the folder entered and the model of discs chosen."""

    def make(**more):
        viewer, dock = docks("Segment many files", **more)
        dock.controller.registry.set_just_trained(disc_model)
        dock.view.model.choose(disc_model)
        dock.view.advanced.show_values({"device": "cpu", "diameter": 17.0})
        dock.view.source.edit.setText(str(folder))
        dock.view.source.edit.editingFinished.emit()
        return viewer, dock

    return make


@pytest.fixture
def done(qtbot):
    return lambda dock: qtbot.waitUntil(lambda: dock.view.run_button.text() == "Segment all", timeout=LONG)


def said(dock):
    return " ".join(text for _, text in dock.view.messages.lines())


@pytest.mark.computing
def test_files_that_cannot_be_segmented_keep_no_other_from_it(batch, click, done, folder, qtbot):
    _, dock = batch()
    files = dock.view.files
    assert [files.topLevelItem(n).text(0) for n in range(6)] == [
        "a1.tif", "a2.tif", "b_stack.tif", "c_constant.tif", "d_cut.tif", "e_unnamed.tif"
    ]  # fmt: skip
    assert {state for state, _ in files.states()} == {WAITING}
    results = folder.with_name("plates-labels")
    assert dock.view.place.text() == str(results)
    click(dock.view.run_button)
    assert dock.view.run_button.text() == "Stop"
    done(dock)
    states = files.states()
    assert [state for state, _ in states] == [DONE, DONE, DONE, FAILED, FAILED, FAILED]
    labels = tifffile.imread(results / "a1.tif")
    assert states[0][1] == f"✔ {labels.max()} cells" and labels.max() > 5
    assert "in 3 planes" in states[2][1]
    assert "constant" in states[3][1] and "cut off" in states[4][1]
    assert "Give one letter per axis" in states[5][1] and "under Axes" in states[5][1] and "--axes" not in states[5][1]
    dock.view.files.itemClicked.emit(files.topLevelItem(3), 1)
    assert errors(dock.view)[-1].startswith("c_constant.tif: The image is constant")
    assert "3 of 6 pictures segmented, 3 could not be, see the list" in said(dock)
    qtbot.waitUntil(lambda: (results / f"a2.tif{ENDING}").exists(), timeout=LONG)
    assert sorted(p.name for p in results.iterdir() if not p.name.endswith(ENDING)) == [
        "a1.tif",
        "a2.tif",
        "b_stack.tif",
    ]

    dock.view.axes.setCurrentIndex(dock.view.axes.findData("zyx"))
    (folder / "c_constant.tif").unlink()
    (folder / "d_cut.tif").unlink()
    dock.view.source.edit.editingFinished.emit()
    assert [state for state, _ in files.states()] == [SKIPPED, SKIPPED, SKIPPED, WAITING]
    (folder / "a1.tif").unlink()
    dock.view.source.edit.editingFinished.emit()
    (folder / "a2.tif").unlink()
    (folder / "b_stack.tif").unlink()
    dock.view.source.edit.editingFinished.emit()
    click(dock.view.run_button)
    done(dock)
    assert [state for state, _ in files.states()] == [DONE]
    assert tifffile.imread(results / "e_unnamed.tif").shape == (3, 128, 128)


def test_a_batch_goes_by_keys_alone_and_its_dock_does_not_scroll_afterwards(batch, done, qtbot):
    viewer, dock = batch(show=True)
    window, view = viewer.window._qt_window, dock.view
    window.resize(1280, 800)
    window.activateWindow()
    qtbot.waitUntil(lambda: view.isVisible() and window.isActiveWindow(), timeout=LONG)
    qtbot.keyClick(window, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    assert view.run_button.text() == "Stop"
    done(dock)
    assert [kind for kind, _ in view.messages.lines()] == ["warning", "done"]
    bar = dock.findChild(QScrollArea).verticalScrollBar()
    qtbot.waitUntil(lambda: bar.maximum() == 0)
    dock.controller.batch.files[1].notes.append("Cells look about 17 px wide.")
    view.files.setFocus()
    view.files.setCurrentItem(view.files.topLevelItem(0))
    qtbot.keyClick(view.files, Qt.Key.Key_Down)
    assert "a2.tif: Cells look about 17 px wide." in said(dock)
    assert "a1.tif" not in said(dock)
    qtbot.keyClick(view.files, Qt.Key.Key_Down)
    qtbot.keyClick(view.files, Qt.Key.Key_Down)
    assert errors(view)[-1].startswith("c_constant.tif: The image is constant")
    qtbot.keyClick(view.files, Qt.Key.Key_Up)
    qtbot.keyClick(view.files, Qt.Key.Key_Up)
    qtbot.keyClick(view.files, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: "a2" in {layer.name for layer in viewer.layers}, timeout=LONG)


@pytest.mark.computing
def test_stop_keeps_what_is_done_and_a_click_goes_on(batch, click, done, folder, qtbot):
    for path in folder.glob("[b-e]*"):
        path.unlink()
    for number in range(3, 9):
        tifffile.imwrite(folder / f"a{number}.tif", np.tile(discs(seed=number)[0], (3, 3)))
    _, dock = batch()
    dock.view.ending.setCurrentIndex(dock.view.ending.findData(".zarr"))
    click(dock.view.run_button)
    qtbot.waitUntil(lambda: dock.view.files.states()[1][0] == DONE, timeout=LONG)
    click(dock.view.run_button)
    done(dock)
    states = [state for state, _ in dock.view.files.states()]
    assert states[:2] == [DONE, DONE] and WAITING in states and FAILED not in states
    assert "Stopped" in said(dock)
    click(dock.view.run_button)
    done(dock)
    states = [state for state, _ in dock.view.files.states()]
    assert states[:2] == [SKIPPED, SKIPPED] and set(states[2:]) <= {DONE, SKIPPED} and states[-1] == DONE
    assert zarr.open_group(str(folder.with_name("plates-labels") / "a8.zarr"), mode="r")["0"][:].max() > 20


@pytest.mark.computing
def test_a_process_that_dies_costs_one_file(batch, click, done, folder, qtbot):
    for path in folder.glob("[c-e]*"):
        path.unlink()
    tifffile.imwrite(folder / "a1.tif", np.tile(stack(), (20, 1, 1)), metadata={"axes": "ZYX"})
    _, dock = batch()
    click(dock.view.run_button)
    qtbot.waitUntil(lambda: "%" in dock.view.files.states()[0][1], timeout=LONG)
    os.kill(Engine.shared().pid, signal.SIGKILL)
    done(dock)
    assert [state for state, _ in dock.view.files.states()] == [FAILED, DONE, DONE]
    assert "memory was full" in dock.view.files.states()[0][1]


def test_a_double_click_opens_the_picture_with_its_result(batch, click, done, folder, qtbot):
    for path in folder.glob("[b-e]*"):
        path.unlink()
    viewer, dock = batch(show=True)
    click(dock.view.run_button)
    done(dock)
    files = dock.view.files
    for number in (0, 1, 0):
        where = files.visualItemRect(files.topLevelItem(number)).center()
        qtbot.mouseClick(files.viewport(), Qt.MouseButton.LeftButton, pos=where)
        qtbot.mouseDClick(files.viewport(), Qt.MouseButton.LeftButton, pos=where)
        qtbot.waitUntil(lambda number=number: f"a{number + 1} result" in viewer.layers, timeout=LONG)
    assert sorted(layer.name for layer in viewer.layers) == ["a1", "a1 result", "a2", "a2 result"]
    assert [layer.name for layer in viewer.layers if layer.visible] == ["a1", "a1 result"]
    assert viewer.layers["a1 result"].data.max() > 5


def test_nothing_begins_without_pictures_or_place(docks, click, tmp_path):
    _, dock = docks("Segment many files")
    click(dock.view.run_button)
    assert "choose a folder with some" in errors(dock.view)[0]
    dock.view.source.edit.setText(str(tmp_path / "nowhere"))
    dock.view.source.edit.editingFinished.emit()
    assert "does not exist" in errors(dock.view)[0]
    tifffile.imwrite(tmp_path / "one.tif", discs()[0])
    dock.view.source.edit.setText(str(tmp_path))
    dock.view.source.edit.editingFinished.emit()
    dock.view.place.edit.setText("")
    click(dock.view.run_button)
    assert "under Save to" in errors(dock.view)[0]
