"""What is done in turns of the event loop of its own, so that no click holds up the viewer."""

import subprocess
import sys

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.compat import isalive
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QTableView

from napari_unet.core.distribution import PLUGIN
from napari_unet.plugin.dock import base as docks_of
from napari_unet.plugin.dock.lifecycle import EngineUse, painted_later
from napari_unet.plugin.layers.errors_found import ErrorsLayer
from napari_unet.plugin.layers.preview import is_preview
from napari_unet.plugin.layers.reading import fill_again, placement
from napari_unet.plugin.layers.review_overlay import CURRENT, OVERLAY_NAME, ReviewOverlay, Sign

LATE = ("scipy.optimize", "scipy.sparse")
"""What takes longest to load, and no dock needs before something is compared or segmented."""


@pytest.fixture
def frame_of(docks):
    """Return a function that opens a dock and returns viewer, frame and dock, before anything of it was made."""

    def make(name):
        viewer = docks()[0]
        frame, dock = viewer.window.add_plugin_dock_widget(PLUGIN, name)
        return viewer, frame, dock

    return make


# --- opening -------------------------------------------------------------------------------------------------------


def test_a_dock_is_filled_in_turns_after_the_click_that_opens_it(frame_of, qtbot):
    _, _, dock = frame_of("Models")
    assert not dock.is_filled
    assert dock.layout().itemAt(0).widget().text() == "One moment …"
    qtbot.waitUntil(lambda: dock.is_filled)
    assert dock.view.isVisibleTo(dock) and dock.view.list.count() > 0


def test_a_dock_is_filled_at_once_when_it_is_asked_for_what_is_in_it(frame_of, qtbot):
    _, _, dock = frame_of("Models")
    view, controller = dock.view, dock.controller
    assert dock.layout().count() == 1 and controller.view is view
    qtbot.wait(50)
    assert dock.view is view and dock.layout().count() == 1


def test_a_dock_that_is_closed_before_it_was_filled_stays_empty(frame_of, qtbot):
    viewer, frame, dock = frame_of("Measure and compare")
    viewer.window.remove_dock_widget(frame)
    with qtbot.captureExceptions() as errors:
        qtbot.wait(100)
    assert not errors
    assert dock not in EngineUse.docks()
    assert not isalive(dock) or not dock.is_filled


def test_what_is_made_for_a_closed_dock_is_closed_at_once(qtbot, monkeypatch):
    closed = []

    class Controller:
        def close(self):
            closed.append(self)

    use = EngineUse.__new__(EngineUse)
    monkeypatch.setattr(EngineUse, "_open", [])
    use.on_close(Controller().close)
    assert len(closed) == 1


def test_a_third_dock_moves_once_behind_the_tab_bar(docks, qtbot):
    viewer, *_ = docks("Models", "Measure and compare", "Segment many files", show=True)
    qtbot.wait(50)
    frame, dock = viewer.window.add_plugin_dock_widget(PLUGIN, "Proofread")
    moves = []
    frame.dockLocationChanged.connect(moves.append)
    window = viewer.window._qt_window
    qtbot.waitUntil(lambda: len(window.tabifiedDockWidgets(frame)) == 3)
    qtbot.wait(50)
    assert len(moves) == 1
    assert dock.window() is window


@pytest.mark.parametrize("module", ["train", "segment", "measure"])
def test_no_dock_loads_what_only_computing_needs(module):
    # An older scipy.linalg loads scipy.sparse by itself.
    before = "import sys, scipy.linalg; known = set(sys.modules)"
    script = f"{before}; import napari_unet.plugin.{module}.controller; print(set(sys.modules) - known)"
    found = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert not [name for name in LATE if repr(name) in found.stdout]


def test_a_click_that_opens_a_dock_loads_little():
    heavy = (
        "napari_unet.engine",
        "napari_unet.stores",
        "napari_unet.plugin.widgets.forms",
        "pyqtgraph",
        "skimage",
        "PIL",
    )
    found = subprocess.run(
        [sys.executable, "-c", "import sys, napari_unet.plugin.docks; print(sorted(set(sys.modules)))"],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert "'napari_unet.plugin.dock.base'" in found.stdout
    assert not [name for name in heavy if repr(name) in found.stdout]


def test_what_a_dock_is_made_of_comes_in_turns_of_its_own(frame_of, qtbot, monkeypatch):
    taken, ticks = [], []
    step = docks_of.Dock._step

    def count(self):
        taken.append(len(ticks))
        return step(self)

    monkeypatch.setattr(docks_of.Dock, "_step", count)
    timer = QTimer(interval=1)
    timer.timeout.connect(lambda: ticks.append(1))
    timer.start()
    _, _, dock = frame_of("Measure and compare")
    assert not taken
    qtbot.waitUntil(lambda: dock.is_filled)
    timer.stop()
    # Between each two of them something else had its turn.
    assert len(taken) >= len(docks_of._LOADED_FIRST) + len(dock.loads) + 5
    assert len(set(taken)) == len(taken)


# --- layers --------------------------------------------------------------------------------------------------------


def test_what_follows_a_painting_comes_in_a_later_turn(qtbot):
    from qtpy.QtWidgets import QWidget

    window, order = QWidget(), []
    qtbot.addWidget(window)
    with painted_later(window, lambda: order.append(window.updatesEnabled())):
        order.append("work")
    assert order == ["work"]
    qtbot.waitUntil(lambda: len(order) == 2)
    assert order == ["work", True]


def test_the_preview_comes_after_the_annotation_is_on_screen(docks, qtbot, click):
    viewer, dock = docks("Annotate and train")
    viewer.add_image(np.zeros((40, 50)), name="picture")
    click(dock.view.new_button)
    assert dock.view.annotation.layer() is viewer.layers.selection.active
    assert not any(map(is_preview, viewer.layers))
    qtbot.waitUntil(lambda: any(map(is_preview, viewer.layers)))
    assert [is_preview(layer) for layer in viewer.layers] == [False, True, False]
    assert viewer.layers.selection.active is dock.view.annotation.layer()
    assert str(viewer.layers.selection.active.mode) == "paint"


def test_no_preview_comes_for_a_picture_that_is_gone_meanwhile(docks, qtbot, click):
    viewer, dock = docks("Annotate and train")
    viewer.add_image(np.zeros((40, 50)), name="picture")
    click(dock.view.new_button)
    viewer.layers.remove("picture")
    with qtbot.captureExceptions() as errors:
        qtbot.wait(200)
    assert not errors
    assert not any(map(is_preview, viewer.layers))


@pytest.fixture
def pictured():
    """Return a viewer with a stack, labels of it, and something on top."""
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((3, 20, 30)), scale=(4, 1, 1))
    cells = viewer.add_labels(np.ones((3, 20, 30), int), scale=(4, 1, 1), name="cells")
    return viewer, image, cells


def test_a_layer_that_is_filled_again_moves_to_its_new_place_and_on_top(pictured):
    viewer, image, cells = pictured
    top = viewer.add_points(np.zeros((1, 3)))
    fill_again(viewer, cells, np.full((1, 20, 30), 5), placement(image, "zyx", [2, 0, 0]))
    assert list(viewer.layers) == [image, top, cells]
    assert cells.data.shape == (1, 20, 30) and cells.data.max() == 5
    np.testing.assert_allclose(cells.data_to_world((0, 0, 0)), (8, 0, 0))


def test_the_layer_of_mistakes_is_filled_anew_where_the_cells_are(pictured):
    viewer, _, cells = pictured
    shown = ErrorsLayer(viewer)
    shown.show(cells, np.ones((3, 20, 30), np.uint8))
    layer = shown.layer()
    layer.visible = False
    other = viewer.add_labels(np.ones((3, 20, 30), int), translate=(0, 7, 0), name="others")
    shown.show(other, np.full((3, 20, 30), 2, np.uint8))
    assert shown.layer() is layer is viewer.layers[-1] is viewer.layers.selection.active
    assert (layer.name, layer.visible, layer.editable) == ("others errors", True, False)
    assert layer.data.min() == 2 and layer.translate.tolist() == [0, 7, 0]
    assert list(layer.features["error"]) == ["missed", "poor", "false"]


def test_mistakes_of_other_axes_get_a_layer_of_their_own(pictured):
    viewer, _, cells = pictured
    shown = ErrorsLayer(viewer)
    shown.show(cells, np.ones((3, 20, 30), np.uint8))
    flat = viewer.add_labels(np.ones((20, 30), int), name="flat")
    shown.show(flat, np.ones((20, 30), np.uint8))
    assert [layer.name for layer in viewer.layers if "errors" in layer.name] == ["flat errors"]
    shown.remove()
    assert shown.layer() is None and "flat errors" not in viewer.layers


def test_signs_look_the_same_at_first_and_later(pictured):
    viewer, _, cells = pictured
    signs = [Sign("accepted", (0, 5, 5), 6.0), Sign(CURRENT, (1, 9, 9), 12.0)]
    at_once, later = ReviewOverlay(viewer), ReviewOverlay(viewer)
    at_once.show(cells, signs)
    later.show(cells, signs[:1])
    later.show(cells, signs)
    assert viewer.layers.selection.active is cells
    first, second = at_once.layer(), later.layer()
    assert first.name == OVERLAY_NAME and len(first.data) == 2
    for name in ("data", "size", "face_color", "border_color", "border_width"):
        np.testing.assert_allclose(getattr(first, name), getattr(second, name))
    assert list(first.symbol) == list(second.symbol)
    at_once.show(cells, [])
    assert len(at_once.layer().data) == 0


# --- tables --------------------------------------------------------------------------------------------------------


def test_the_table_of_features_looks_at_few_rows_for_its_columns(docks, qtbot, click):
    viewer, dock = docks("Measure and compare", show=True)
    labels = np.kron(np.arange(1, 401).reshape(20, 20), np.ones((4, 4), int))
    cells = viewer.add_labels(labels, name="cells")
    click(dock.view.measure_button)
    qtbot.waitUntil(lambda: dock.controller.measured is not None, timeout=60_000)
    click(dock.view.table_button)
    if any("no table" in text for _, text in dock.view.messages.lines()):
        pytest.skip("this napari has no table of features")
    assert viewer.layers.selection.active is cells
    tables = [t for t in viewer.window._qt_window.findChildren(QTableView) if t.model() and t.model().rowCount() == 400]
    assert tables and all(t.horizontalHeader().resizeContentsPrecision() == 10 for t in tables)


def test_a_dock_makes_its_parts_only_once(frame_of, qtbot, monkeypatch):
    made = []
    run = docks_of.Dock._run
    monkeypatch.setattr(docks_of.Dock, "_run", lambda self, *parts: (made.append(1), run(self, *parts)))
    _, _, dock = frame_of("Models")
    qtbot.waitUntil(lambda: dock.is_filled)
    assert dock.view is not None and len(made) == 1
