"""What random walks (``benchmarks/fuzz.py``) have found, each as a user comes across it."""

import numpy as np
import pytest
from discs import discs, stack
from qtpy.QtWidgets import QComboBox

from napari_unet.core.uncertainty import Suggestion
from napari_unet.plugin.axes_row import AxesRow

TRAIN = "Annotate and train"


def suggesting(docks, click):
    """Return a viewer, a picture with an annotation, and what has been found doubtful in it."""
    viewer, dock = docks(TRAIN)
    image = viewer.add_image(discs((96, 128))[0], name="discs")
    click(dock.view.new_button)
    found = dock.controller.suggesting
    found._image, found._axes, found._size, found._side = image, "yx", (96, 128), 48
    found._doubts = {(): np.ones((1, 12, 16), np.float32)}
    found.suggestions = [Suggestion((), (0, 48, 0, 48), 0.9, "unsure")]
    return viewer, image, found


def test_places_to_annotate_are_forgotten_when_the_picture_gets_another_size(docks, click):
    viewer, image, found = suggesting(docks, click)
    image.data = image.data[:, :120]
    found._rank([()])
    found.go(0)
    assert not any("annotate here next" in layer.name for layer in viewer.layers)
    viewer.add_image(np.zeros((9, 9)))
    assert found.suggestions == []


def test_an_annotation_that_no_longer_fits_its_picture_does_not_count_as_annotated(docks, click):
    viewer, image, found = suggesting(docks, click)
    fits = viewer.layers["discs annotation"]
    fits.data[:] = 1
    assert found._known(image, "yx", ()).min() == 1
    image.data = image.data[:, :120]
    assert found._known(image, "yx", ()).max() == 0


@pytest.mark.parametrize("beside", [None, (3, 20, 20)], ids=["no picture", "another picture"])
def test_a_box_can_be_drawn_on_labels_without_their_picture(docks, click, beside):
    viewer, dock = docks(TRAIN, show=True)
    if beside is not None:
        viewer.add_image(np.zeros(beside), name="other")
    viewer.add_labels(discs((40, 50))[1], name="mask")
    click(dock.view.region_button)
    regions = viewer.layers["mask complete regions"]
    assert regions.ndim == 2 and regions.mode == "add_rectangle"


def test_boxes_of_axes_are_made_anew_only_for_other_axes(qtbot):
    row = AxesRow()
    qtbot.addWidget(row)
    row.show_axes("zyx", (30, 9, 9), (0,))
    first = row.findChild(QComboBox)
    row.show_axes("zyx", (30, 9, 9), (0,))
    assert row._boxes[0] is first
    first.setCurrentIndex(first.findData("t"))
    assert row.axes() == "tyx" and row.touched
    row.show_axes("zyx", (30, 9, 9), (0,))
    assert row._boxes[0] is not first and row.axes() == "zyx"
    second = row._boxes[0]
    row.show_axes("zyx", (31, 9, 9), (0,))
    assert row._boxes[0] is not second


def test_a_picture_keeps_its_axes_while_other_layers_come_and_go(docks):
    viewer, dock = docks(TRAIN)
    viewer.add_image(stack(3), name="stack", axis_labels=("t", "y", "x"))
    box = dock.view.images.axes._boxes[0]
    other = viewer.add_points([[1, 2]])
    viewer.layers.remove(other)
    assert dock.view.images.axes._boxes[0] is box and dock.view.images.axes.axes() == "tyx"
