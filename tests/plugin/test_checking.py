"""Checking the labels before training, as a user does it in the train dock."""

import numpy as np
import pytest
from discs import discs, errors, make_small, stack
from napari.layers import Image
from qtpy.QtCore import Qt

from napari_unet.core.data.weight_map import boundary_weight_map
from napari_unet.plugin.layers.preview import camera_of
from napari_unet.plugin.train.check_controller import WEIGHTS_NAME

LONG = 60_000


@pytest.fixture
def annotated(docks, click):
    """Return a function that opens a train dock on a stack with well painted discs in two planes."""

    def make(planes=(1, 3)):
        viewer, train = docks("Annotate and train", show=True)
        viewer.add_image(stack(), name="picture")
        click(train.view.new_button)
        layer = viewer.layers["picture annotation"]
        for plane in planes:
            labels = discs(seed=plane)[1]
            layer.data[plane] = np.where(labels > 0, labels + 1, 1)
        layer.refresh()
        make_small(train.view)
        train.view.tabs.setCurrentWidget(train.view.check)
        return viewer, train, layer

    return make


def check(train, click, qtbot):
    """Click the button and return the lines."""
    listed = train.view.check.list
    click(train.view.check.check_button)
    qtbot.waitUntil(lambda: train.view.check.words.text() != "Checking ...", timeout=LONG)
    return [listed.item(row).text() for row in range(listed.count())]


def click_line(train, qtbot, row):
    listed = train.view.check.list
    listed.scrollToItem(listed.item(row))
    place = listed.visualItemRect(listed.item(row)).center()
    qtbot.mouseClick(listed.viewport(), Qt.MouseButton.LeftButton, pos=place)


def test_good_labels_are_called_so_and_the_plan_is_told(annotated, click, qtbot):
    viewer, train, layer = annotated()
    lines = check(train, click, qtbot)
    assert train.view.check.words.text() == "Nothing odd was found."
    assert "2 planes with" in lines[-1]
    assert "Training takes about 6 s." in lines[-1]
    assert not errors(train.view)
    assert layer in viewer.layers


def test_a_click_on_a_line_goes_to_plane_and_place(annotated, click, qtbot):
    viewer, train, layer = annotated()
    viewer.dims.set_current_step(0, 0)
    first, second = np.unique(layer.data[3])[-2:]
    layer.data[3][layer.data[3] == second] = first
    layer.data[1, 2:4, 2:4] = 40
    lines = check(train, click, qtbot)
    assert train.view.check.words.text() == "2 things to look at; click one to go there."
    (pieces,) = [row for row, line in enumerate(lines) if "separate pieces" in line]
    (speck,) = [row for row, line in enumerate(lines) if "has only 4 px" in line]
    assert "z 3" in lines[pieces]
    camera_of(viewer).zoom = 1
    seen = []
    train.view.check.chosen.connect(seen.append)
    click_line(train, qtbot, pieces)
    assert seen == [pieces]
    assert layer.mode == "paint"
    assert viewer.dims.current_step[0] == 3
    y, x = np.round(camera_of(viewer).center[-2:]).astype(int)
    assert layer.data[3, y, x] == first == layer.selected_label
    assert viewer.layers.selection.active is layer
    # Whoever has moved away comes back by a click on the same line.
    viewer.dims.set_current_step(0, 0)
    click_line(train, qtbot, pieces)
    assert viewer.dims.current_step[0] == 3 and seen == [pieces, pieces]
    click_line(train, qtbot, speck)
    assert viewer.dims.current_step[0] == 1
    train.view.check.list.setFocus()
    qtbot.keyClick(train.view.check.list, Qt.Key.Key_Up if speck > pieces else Qt.Key.Key_Down)
    assert viewer.dims.current_step[0] == 3
    click_line(train, qtbot, speck)
    frame = viewer.layers["look here"]
    assert [known.name for known in viewer.layers].count("look here") == 1
    assert frame.data[0][:, 1:].min() < 2 and 3 < frame.data[0][:, 1:].max() < 12
    assert (frame.data[0][:, 0] == 1).all()
    # Two pixels have to be seen.
    assert camera_of(viewer).zoom >= 3
    np.testing.assert_allclose(camera_of(viewer).center[-2:], (2.5, 2.5), atol=1)
    assert layer.selected_label == 40
    check(train, click, qtbot)
    assert "look here" not in viewer.layers
    viewer.layers.remove(layer)
    # What was found in it is of no use any more.
    assert not train.view.check.list.count() and "slips of the brush" in train.view.check.words.text()
    assert viewer.dims.current_step[0] == 1


def test_the_measured_diameter_is_offered_and_taken(annotated, click, qtbot):
    _, train, _ = annotated()
    train.view.advanced.show_values({"diameter": 90.0})
    lines = check(train, click, qtbot)
    assert any("set to 90 px, but the painted cells are about" in line for line in lines)
    assert train.view.check.diameter_button.isVisible()
    click(train.view.check.diameter_button)
    assert 10 < train.view.advanced.values()["diameter"] < 25
    qtbot.waitUntil(lambda: train.view.check.words.text() == "Nothing odd was found.", timeout=LONG)
    assert not train.view.check.diameter_button.isVisible()


def test_the_weight_map_of_the_plane_becomes_a_layer_that_nobody_segments(annotated, click, qtbot):
    viewer, train, layer = annotated()
    viewer.dims.set_current_step(0, 3)
    active = viewer.layers.selection.active
    click(train.view.check.weights_button)
    qtbot.waitUntil(lambda: WEIGHTS_NAME in viewer.layers, timeout=LONG)
    shown = viewer.layers[WEIGHTS_NAME]
    assert isinstance(shown, Image)
    expected = boundary_weight_map(np.where(layer.data[3] > 1, layer.data[3], 0))
    np.testing.assert_allclose(shown.data[0], expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(shown.translate, (3, 0, 0))
    assert viewer.layers.selection.active is active
    assert train.view.images.image.count() == 1
    viewer.dims.set_current_step(0, 1)
    click(train.view.check.weights_button)
    qtbot.waitUntil(lambda: viewer.layers[WEIGHTS_NAME].translate[0] == 1, timeout=LONG)
    assert [known.name for known in viewer.layers].count(WEIGHTS_NAME) == 1
    viewer.dims.set_current_step(0, 0)
    click(train.view.check.weights_button)
    qtbot.waitUntil(lambda: bool(errors(train.view)), timeout=LONG)
    assert "Nothing is painted in this plane" in errors(train.view)[0]


def test_nothing_to_check_is_said(docks, click, qtbot):
    viewer, train = docks("Annotate and train")
    click(train.view.check.check_button)
    assert "There is no annotation" in errors(train.view)[0]
    viewer.add_image(discs()[0], name="picture")
    click(train.view.new_button)
    click(train.view.check.check_button)
    qtbot.waitUntil(lambda: "Nothing is painted" in "".join(errors(train.view)), timeout=LONG)
    assert train.view.check.list.count() == 0
