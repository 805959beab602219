"""What keeps the viewer answering while something is computed."""

import gc
import sys
import weakref

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Labels
from qtpy.QtWidgets import QWidget

from napari_unet.core.settings import PredictionSettings, options
from napari_unet.plugin.dock.lifecycle import painted_later
from napari_unet.plugin.layers import result as results
from napari_unet.plugin.layers.preview import is_preview, prepare_preview, show_preview, shows_answer
from napari_unet.plugin.layers.result import new_result
from napari_unet.plugin.runtime.gc_pause import Hold
from napari_unet.plugin.runtime.worker_thread import ShortTurns, WorkerThread
from napari_unet.plugin.segment.view import SizeSlider


class Ring:
    """Garbage that only the collector can find."""

    def __init__(self):
        self.self = self


# --- threads -----------------------------------------------------------------------------------------------------


def test_while_a_thread_computes_the_viewer_gets_its_turn_soon(qtbot):
    before, seen, background = sys.getswitchinterval(), [], WorkerThread()
    background.run(sys.getswitchinterval, seen.append)
    qtbot.waitUntil(lambda: bool(seen))
    assert seen == [pytest.approx(ShortTurns.SECONDS)]
    assert sys.getswitchinterval() == pytest.approx(before)


def test_turns_are_as_before_only_when_the_last_thread_is_done():
    before = sys.getswitchinterval()
    first, second = ShortTurns(), ShortTurns()
    with first:
        with second:
            pass
        assert sys.getswitchinterval() == pytest.approx(ShortTurns.SECONDS)
    assert sys.getswitchinterval() == pytest.approx(before)


def test_turns_that_are_shorter_already_stay_as_they_are():
    before = sys.getswitchinterval()
    sys.setswitchinterval(ShortTurns.SECONDS / 2)
    try:
        with ShortTurns():
            assert sys.getswitchinterval() == pytest.approx(ShortTurns.SECONDS / 2)
    finally:
        sys.setswitchinterval(before)


# --- garbage -----------------------------------------------------------------------------------------------------


def test_what_was_there_before_a_hold_is_collected_only_after_the_last_one():
    ring = Ring()
    gone = weakref.ref(ring)
    first, second = Hold(), Hold()
    del ring
    gc.collect()
    assert gone() is not None
    first.release()
    first.release()
    gc.collect()
    assert gone() is not None
    second.release()
    gc.collect()
    assert gone() is None
    assert gc.get_freeze_count() == 0


def test_what_is_made_during_a_hold_is_collected_at_once():
    with Hold():
        ring = Ring()
        gone = weakref.ref(ring)
        del ring
        gc.collect()
        assert gone() is None


def test_a_hold_ends_with_an_error():
    with pytest.raises(ZeroDivisionError), Hold():
        raise ZeroDivisionError
    assert gc.get_freeze_count() == 0


# --- painting ----------------------------------------------------------------------------------------------------


def test_a_window_is_painted_again_soon_also_after_an_error(qtbot):
    window = QWidget()
    inner = QWidget(window)
    qtbot.addWidget(window)
    with pytest.raises(ZeroDivisionError), painted_later(inner):
        assert not window.updatesEnabled()
        raise ZeroDivisionError
    qtbot.waitUntil(window.updatesEnabled)


def test_a_window_that_is_gone_meanwhile_is_left_alone(qtbot):
    window = QWidget()
    with painted_later(window):
        pass
    window.deleteLater()
    with qtbot.captureExceptions() as errors:
        qtbot.wait(50)
    assert not errors


# --- layers that are there before they are needed ------------------------------------------------------------------


@pytest.fixture
def pictured():
    """Return a viewer with a stack, and a layer being painted on it."""
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((4, 40, 60)), scale=(3, 2, 2), translate=(1, 5, 7))
    viewer.dims.set_current_step(0, 2)
    paint = viewer.add_labels(np.zeros((4, 40, 60), int), scale=(3, 2, 2), translate=(1, 5, 7))
    paint.mode = "paint"
    return viewer, image, paint


def test_a_prepared_preview_is_empty_and_disturbs_nothing(pictured):
    viewer, image, paint = pictured
    prepare_preview(viewer, image, "zyx")
    preview = viewer.layers[1]
    assert is_preview(preview) and not shows_answer(preview)
    assert preview.data.shape == (1, 40, 60) and not preview.data.any()
    assert viewer.layers.selection.active is paint and paint.mode == "paint"
    prepare_preview(viewer, image, "zyx")
    assert len(viewer.layers) == 3


def test_an_answer_fills_the_prepared_preview(pictured):
    viewer, image, _ = pictured
    prepare_preview(viewer, image, "zyx")
    preview = viewer.layers[1]
    show_preview(viewer, image, "zyx", (3,), (10, 20, 30, 60), np.full((10, 30), 7))
    assert viewer.layers[1] is preview and shows_answer(preview)
    assert preview.data.shape == (1, 10, 30)
    np.testing.assert_allclose(preview.data_to_world((0, 0, 0)), image.data_to_world((3, 10, 30)))


def test_a_preview_hidden_while_training_stays_hidden_until_the_next_training(pictured):
    viewer, image, _ = pictured
    prepare_preview(viewer, image, "zyx")
    preview = viewer.layers[1]
    box, labels = (0, 40, 0, 60), np.ones((40, 60), int)
    show_preview(viewer, image, "zyx", (0,), box, labels)
    preview.visible = False
    show_preview(viewer, image, "zyx", (0,), box, labels)
    assert not preview.visible
    prepare_preview(viewer, image, "zyx")
    assert not preview.visible
    show_preview(viewer, image, "zyx", (0,), box, labels)
    assert preview.visible


def test_a_preview_moves_to_another_image_with_its_placement(pictured):
    viewer, image, _ = pictured
    prepare_preview(viewer, image, "zyx")
    preview = viewer.layers[1]
    other = viewer.add_image(np.zeros((4, 30, 30)), rotate=20, units=("um", "um", "um"), axis_labels=("z", "y", "x"))
    show_preview(viewer, other, "zyx", (1,), (0, 30, 0, 30), np.ones((30, 30), int))
    assert viewer.layers[1] is preview
    assert (preview.units, preview.axis_labels) == (other.units, other.axis_labels)
    np.testing.assert_allclose(preview.data_to_world((0, 9, 9)), other.data_to_world((1, 9, 9)))


def test_a_preview_with_other_axes_is_made_anew(pictured):
    viewer, image, _ = pictured
    prepare_preview(viewer, image, "zyx")
    flat = viewer.add_image(np.zeros((30, 30)))
    prepare_preview(viewer, flat, "yx")
    assert [layer.ndim for layer in viewer.layers if is_preview(layer)] == [2]


@pytest.mark.parametrize("what", ["instances", "probabilities"])
def test_a_result_is_shown_once_and_then_left_to_the_user(pictured, what):
    viewer, image, _ = pictured
    result = new_result(viewer, image, "zyx", what, "model")
    layer = result.layer()
    assert isinstance(layer, Labels) == (what == "instances")
    assert not layer.visible
    result.write(viewer, (2,), np.ones((40, 60)), ())
    assert layer.visible
    layer.visible = False
    result.reveal()
    result.write(viewer, (1,), np.ones((40, 60)), ())
    assert not layer.visible
    assert layer.data[1].all() and layer.data[2].all()


@pytest.mark.parametrize("what", ["instances", "classes"])
@pytest.mark.parametrize("axes", ["zyx", "zxy"])
def test_what_is_painted_into_a_plane_that_is_still_to_be_computed_stays(pictured, what, axes, monkeypatch):
    monkeypatch.setattr(results, "show_classes", lambda layer, model: None)
    viewer, image, _ = pictured
    result = new_result(viewer, image, axes, what, "model")
    layer = result.layer()
    layer.data_setitem((np.array([1, 1]), np.array([3, 4]), np.array([5, 5])), 2)
    layer.data_setitem((np.array([1]), np.array([9]), np.array([9])), 1)
    shape = (40, 60) if axes == "zyx" else (60, 40)
    values = np.zeros(shape, int)
    values[:20], values[20:25, 30:] = 1, 2
    result.write(viewer, (1,), values, ())
    # No cell of the network's keeps the number of a painted one.
    wanted = np.array([0, 3, 4])[values] if what == "instances" else values.copy()
    wanted = wanted if axes == "zyx" else wanted.T.copy()
    wanted[[3, 4], [5, 5]], wanted[9, 9] = 2, 1
    np.testing.assert_array_equal(layer.data[1], wanted)
    result.write(viewer, (2,), values, ())
    assert set(np.unique(layer.data[2])) == {0, 1, 2}


# --- sizes of cells --------------------------------------------------------------------------------------------------


@pytest.fixture
def sizes(qtbot):
    slider = SizeSlider(options(PredictionSettings)["smallest"], PredictionSettings().smallest)
    qtbot.addWidget(slider)
    return slider


@pytest.mark.parametrize("area", [0, 15, 400, 5000, 40_000, 3_000_000])
def test_any_area_has_room_above_it_on_the_slider(sizes, area):
    sizes.set_value(area)
    assert sizes.value() == area
    assert 0 <= sizes.slider.value() < sizes.slider.maximum()
    sizes.slider.setValue(sizes.slider.maximum())
    assert sizes.value() >= max(5000, 4 * area)
    sizes.slider.setValue(0)
    assert sizes.value() == 0


def test_a_typed_area_beyond_the_slider_is_kept(sizes):
    sizes.box.setValue(70_000)
    assert sizes.value() == 70_000
    assert sizes.slider.value() == sizes.slider.maximum()


def test_small_steps_are_fine_for_small_cells(sizes):
    sizes.set_value(15)
    sizes.slider.setValue(sizes.slider.value() + 1)
    assert 15 < sizes.value() < 30
