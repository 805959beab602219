"""What random walks (``benchmarks/fuzz.py``) have found, each as a user comes across it."""

import numpy as np
import pytest
from discs import discs, stack
from napari.components import ViewerModel
from qtpy.QtWidgets import QComboBox

from napari_unet.core.instances.uncertainty import Suggestion
from napari_unet.plugin.layers.result import give_way, new_result
from napari_unet.plugin.layers.review_overlay import ReviewOverlay, Sign
from napari_unet.plugin.layers.review_state import editable_review
from napari_unet.plugin.proofread.session import ProofreadSession
from napari_unet.plugin.widgets.axes_selector import AxesRow

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


# --- results that are painted into while they are computed -------------------------------------------------------

CELLS = np.zeros((40, 50), int)
CELLS[5:15, 5:15], CELLS[20:30, 20:30] = 1, 2


@pytest.fixture
def growing():
    """Return a viewer model, the empty result of a stack of three planes in it, and a brush of one pixel."""
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((3, 40, 50)), name="stack")
    result = new_result(viewer, image, "zyx", "instances", "model")

    result.reveal()

    def paint(at, label):
        result.layer().data_setitem(tuple(np.array([i]) for i in at), label)

    return viewer, result, paint


def test_paint_keeps_its_number_and_cells_of_the_network_give_way(growing):
    viewer, result, paint = growing
    paint((1, 35, 40), 2)
    result.write(viewer, (1,), CELLS, ())
    plane = result.array[1]
    # The user may be about to paint on with 2.
    assert plane[35, 40] == 2 and (plane == 2).sum() == 1
    assert plane[10, 10] == 1 and plane[25, 25] == 3
    assert editable_review(result.layer()).proof.highest >= 3


def test_numbers_that_are_given_way_to_are_beyond_all_others():
    found = give_way(np.array([[0, 1, 2], [9, 2, 0]]), np.array([2, 9, 30]), 70)
    np.testing.assert_array_equal(found, [[0, 1, 71], [72, 71, 0]])


def test_what_is_painted_while_a_plane_without_cells_is_segmented_again_stays(growing):
    viewer, result, paint = growing
    result.write(viewer, (1,), np.zeros((40, 50), int), ("large cells only",))
    assert not result.has((1,))
    result.expect((1,))
    paint((1, 10, 10), 7)
    result.write(viewer, (1,), CELLS, ("all cells",))
    assert result.array[1, 10, 10] == 7 and result.array[1, 11, 11] == 1


def test_a_correction_made_before_a_plane_comes_once_more_stays(growing):
    viewer, result, paint = growing
    result.write(viewer, (1,), CELLS, ("first",))
    paint((1, 10, 10), 0)
    result.write(viewer, (1,), CELLS, ("again",))
    assert result.array[1, 10, 10] == 0
    assert result.tuned == {(1,): ("first",)}


def test_a_plane_that_was_erased_is_filled_when_it_is_segmented_again(growing):
    viewer, result, paint = growing
    result.write(viewer, (1,), np.minimum(CELLS, 1), ())
    result.layer().data_setitem(np.nonzero(result.array), 0)
    assert not result.has((1,))
    result.expect((1,))
    result.write(viewer, (1,), CELLS, ())
    np.testing.assert_array_equal(result.array[1], CELLS)


def test_paint_is_not_covered_by_a_cell_that_was_checked_in_an_earlier_result(growing):
    viewer, first, _ = growing
    first.write(viewer, (1,), CELLS, ())
    earlier = editable_review(first.layer())
    earlier.set_picture(first.image())
    earlier.proof.accept([(1,)], 1)
    second = new_result(viewer, first.image(), "zyx", "instances", "model")
    second.reveal()
    second.layer().data_setitem((np.array([1]), np.array([10]), np.array([10])), 7)
    second.write(viewer, (1,), CELLS, ())
    assert second.array[1, 10, 10] == 7
    assert second.array[1, 11, 11] == 1 and (1,) in editable_review(second.layer()).proof.marks


@pytest.mark.parametrize("dtype", [np.int64, np.uint8])
def test_labels_that_were_converted_by_napari_are_filled_all_the_same(growing, dtype):
    viewer, result, paint = growing
    layer = result.layer()
    result.write(viewer, (0,), CELLS, ())
    paint((1, 30, 40), 9)
    layer.data = layer.data.astype(dtype)
    result.write(viewer, (1,), CELLS, ())
    assert layer.data[1, 10, 10] == 1 and layer.data[1, 30, 40] == 9
    assert layer.data.dtype == dtype
    result.write(viewer, (2,), CELLS * 500, ())
    assert layer.data[2].max() == 1000 and layer.data[1, 30, 40] == 9
    assert result.has((2,))


def test_undo_of_a_stroke_leaves_the_cells_that_came_during_it(growing):
    viewer, result, paint = growing
    session = ProofreadSession(viewer, result.layer())
    assert session.plane() == (1,)
    session.remember()
    paint((1, 30, 40), 7)
    result.write(viewer, (1,), CELLS, ())
    paint((1, 31, 40), 7)
    session.expect_stroke()
    session.settle()
    assert set(session.proof.marked((1,))) == {7}
    session.step_back(undo=True)
    np.testing.assert_array_equal(result.array[1], CELLS)


# --- signs of checked cells ---------------------------------------------------------------------------------------


def test_of_signs_that_are_shown_while_others_are_put_in_place_the_later_ones_stay(qapp):
    viewer = ViewerModel()
    labels = viewer.add_labels(np.zeros((40, 50), int))
    overlay = ReviewOverlay(viewer)
    first, later = ([Sign(kind, (i, i), 5.0) for i in range(n)] for kind, n in (("accepted", 4), ("deleted", 2)))
    overlay.show(labels, first[:1])
    layer = overlay.layer()

    def move_sliders(event):
        layer.events.data.disconnect(move_sliders)
        overlay.show(labels, later)

    layer.events.data.connect(move_sliders)
    overlay.show(labels, first)
    assert len(layer.data) == 2
    assert [str(symbol) for symbol in layer.symbol] == ["x", "x"] and len(layer.size) == 2
    overlay.show(labels, first)
    assert [str(symbol) for symbol in layer.symbol] == ["disc"] * 4
    overlay.close()
