"""The whole loop by clicks: paint, train, segment; and everything that can go wrong meanwhile."""

import os
import signal

import numpy as np
import pytest
from discs import alive, discs, errors, make_small, stack
from napari.layers import Labels
from qtpy.compat import isalive

from napari_unet.core.distribution import PLUGIN
from napari_unet.core.synthetic import generate_stack
from napari_unet.plugin.layers.preview import camera_of, shows_answer
from napari_unet.plugin.layers.reading import view_box
from napari_unet.plugin.runtime.engine import Engine

LONG = 60_000


def paint(layer, labels, plane=(), stop=110):
    """Paint cells from label 2 on, and background between them, into a window of the annotation."""
    window = (slice(10, stop), slice(10, stop))
    layer.data[plane][window] = np.where(labels[window] > 0, labels[window] + 1, 1)
    layer.refresh()


def preview_of(viewer):
    """Return the preview layer once an answer is shown in it, or None."""
    return next((layer for layer in viewer.layers if shows_answer(layer)), None)


def painted_disc(viewer, dock, click):
    """Add a picture of discs, make an annotation by a click, and paint it."""
    image, labels = discs()
    viewer.add_image(image, name="discs")
    click(dock.view.new_button)
    layer = viewer.layers["discs annotation"]
    paint(layer, labels)
    return layer


@pytest.fixture
def done(qtbot):
    """Return a function that waits until a dock works no more, which is when its button reads as at first."""

    def wait(dock):
        main = getattr(dock.view, "train_button", None) or dock.view.run_button
        qtbot.waitUntil(lambda: main.text() in ("Train", "Segment"), timeout=LONG)

    return wait


# --- the whole loop ------------------------------------------------------------------------------------------


def test_the_whole_loop_by_clicks(docks, click, qtbot, done, engine_at_once):
    viewer, train, segment = docks("Annotate and train", "Segment", show=True)
    viewer.open_sample(PLUGIN, "stack")
    image = viewer.layers["nuclei stack"]
    view = train.view
    click(view.new_button)
    annotation = viewer.layers["nuclei stack annotation"]
    assert annotation.scale.tolist() == image.scale.tolist()
    z = viewer.dims.current_step[0]
    paint(annotation, generate_stack("nuclei", (16, 256, 256), seed=2, diameter=28, density=0.25)[1][z], (z,), stop=230)
    click(view.next_button)
    assert annotation.selected_label > 2

    make_small(view, seconds=600.0)
    click(view.train_button)
    assert view.train_button.text().startswith("Stop")
    qtbot.waitUntil(lambda: preview_of(viewer) is not None, timeout=LONG)
    preview = preview_of(viewer)
    assert viewer.layers.selection.active is annotation
    assert annotation.mode == "paint"
    assert preview not in train.controller.view.annotation._layers
    assert [view.annotation.itemText(i) for i in range(view.annotation.count())] == ["nuclei stack annotation"]
    assert preview.data_to_world((0, 0, 0))[0] == image.data_to_world((z, 0, 0))[0]
    qtbot.waitUntil(lambda: len(view.plot.training.x) > 5 and len(view.plot.validation.x) > 0, timeout=LONG)
    assert view.progress.text()
    click(view.train_button)
    done(train)
    assert not errors(view)
    assert view.train_button.text() == "Train"
    view.name_edit.setText("first nuclei")
    click(view.save_button)
    assert segment.view.model.currentText() == "Just trained"
    assert segment.view.model.findText("first nuclei") >= 0

    segment.view.extent.setCurrentIndex(1)
    click(segment.view.run_button)
    done(segment)
    result = viewer.layers["nuclei stack cells"]
    assert not errors(segment.view)
    assert all(plane.any() for plane in result.data)
    assert (result.scale.tolist(), result.axis_labels) == (image.scale.tolist(), image.axis_labels)
    assert not preview.visible

    before = (result.data > 0).sum(axis=(1, 2))
    segment.view.threshold.setValue(0.9)
    qtbot.waitUntil(lambda: bool(((result.data > 0).sum(axis=(1, 2)) < before).all()), timeout=LONG)
    qtbot.waitUntil(lambda: segment.controller.relabelling is None, timeout=LONG)
    assert len([layer for layer in viewer.layers if isinstance(layer, Labels)]) == 3


# --- training -------------------------------------------------------------------------------------------------


@pytest.mark.computing
def test_preview_follows_the_view_and_can_be_switched_off(docks, click, qtbot, done):
    viewer, train = docks("Annotate and train", show=True)
    annotation = painted_disc(viewer, train, click)
    make_small(train.view, seconds=600.0)
    click(train.view.train_button)
    qtbot.waitUntil(lambda: preview_of(viewer) is not None, timeout=LONG)
    preview, image = preview_of(viewer), viewer.layers["discs"]
    whole = preview.data.shape
    assert whole[0] == 128
    camera_of(viewer).zoom *= 4
    qtbot.waitUntil(lambda: preview.data.shape[0] < 64, timeout=LONG)
    y0, y1, x0, x1 = view_box(viewer, image, "yx", 1000)
    assert preview.data.shape == (y1 - y0, x1 - x0) < whole
    np.testing.assert_allclose(preview.data_to_world((0, 0)), (y0, x0))
    click(train.view.preview_box)
    shape = preview.data.shape
    camera_of(viewer).zoom /= 4
    qtbot.wait(1500)
    assert preview.data.shape == shape
    assert viewer.layers.selection.active is annotation
    click(train.view.train_button)
    done(train)


@pytest.mark.computing
def test_a_killed_engine_costs_nothing_and_the_next_click_works(docks, click, qtbot, done):
    viewer, train = docks("Annotate and train")
    annotation = painted_disc(viewer, train, click)
    kept = annotation.data.copy()
    make_small(train.view, seconds=600.0)
    click(train.view.train_button)
    qtbot.waitUntil(lambda: len(train.view.plot.training.x) > 3, timeout=LONG)
    os.kill(Engine.shared().pid, signal.SIGKILL)
    done(train)
    assert len(errors(train.view)) == 1
    assert train.view.train_button.text() == "Train"
    np.testing.assert_array_equal(annotation.data, kept)
    assert "discs" in viewer.layers

    make_small(train.view, seconds=3.0)
    click(train.view.train_button)
    done(train)
    assert not errors(train.view)
    assert train.controller.registry.just_trained


@pytest.mark.computing
def test_renaming_and_deleting_layers_while_training_hurts_nothing(docks, click, qtbot, done):
    viewer, train = docks("Annotate and train")
    annotation = painted_disc(viewer, train, click)
    make_small(train.view, seconds=600.0)
    click(train.view.train_button)
    qtbot.waitUntil(lambda: preview_of(viewer) is not None, timeout=LONG)
    viewer.layers["discs"].name = "renamed"
    assert train.view.images.image.currentText() == "renamed"
    steps = len(train.view.plot.training.x)
    qtbot.waitUntil(lambda: len(train.view.plot.training.x) > steps, timeout=LONG)
    viewer.layers.clear()
    steps = len(train.view.plot.training.x)
    qtbot.waitUntil(lambda: len(train.view.plot.training.x) > steps, timeout=LONG)
    assert annotation.data.any()
    click(train.view.train_button)
    done(train)
    assert not errors(train.view)
    assert train.controller.registry.just_trained


@pytest.mark.parametrize("closing", ["viewer", "dock"])
def test_closing_while_training_leaves_no_process(docks, click, qtbot, closing):
    viewer, train = docks("Annotate and train")
    painted_disc(viewer, train, click)
    make_small(train.view, seconds=600.0)
    click(train.view.train_button)
    qtbot.waitUntil(lambda: len(train.view.plot.training.x) > 3, timeout=LONG)
    pid = Engine.shared().pid
    assert alive(pid)
    if closing == "viewer":
        viewer.close()
    else:
        viewer.window.remove_dock_widget(train)
    qtbot.waitUntil(lambda: not alive(pid), timeout=20_000)


def test_stop_before_the_first_step(docks, click, qtbot, done):
    viewer, train = docks("Annotate and train")
    painted_disc(viewer, train, click)
    make_small(train.view)
    click(train.view.train_button)
    click(train.view.train_button)
    done(train)
    assert not errors(train.view)


# --- bad input ---------------------------------------------------------------------------------------------------


def test_training_without_image_annotation_or_paint_says_what_to_do(docks, click, qtbot):
    viewer, train = docks("Annotate and train")
    click(train.view.train_button)
    assert "click New annotation" in errors(train.view)[0]
    viewer.add_image(discs()[0], name="discs")
    click(train.view.new_button)
    make_small(train.view)
    click(train.view.train_button)
    qtbot.waitUntil(lambda: bool(errors(train.view)))
    assert "Nothing is painted in discs annotation yet" in errors(train.view)[0]
    assert train.view.train_button.text() == "Train"


def test_labels_of_another_shape_are_refused_before_anything_starts(docks, click):
    viewer, train = docks("Annotate and train")
    viewer.add_image(discs()[0], name="discs")
    viewer.add_labels(np.ones((5, 6), int), name="other")
    make_small(train.view)
    click(train.view.train_button)
    assert "other has shape (5, 6), but discs needs labels of shape (128, 128)" in errors(train.view)[0]
    assert train.controller.job is None


@pytest.mark.computing
@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.full((64, 64), 7.0, np.float32), "constant"),
        (np.where(np.eye(64), np.nan, 1).astype(np.float32), "NaN"),
    ],
)
def test_images_that_cannot_be_learnt_from_are_explained(docks, click, qtbot, image, words):
    viewer, train = docks("Annotate and train")
    viewer.add_image(image, name="bad")
    click(train.view.new_button)
    annotation = viewer.layers["bad annotation"]
    annotation.data[:20, :20], annotation.data[30:40, 30:40] = 1, 2
    make_small(train.view)
    click(train.view.train_button)
    qtbot.waitUntil(lambda: bool(errors(train.view)), timeout=LONG)
    qtbot.waitUntil(lambda: train.view.train_button.text() == "Train", timeout=LONG)
    assert words in errors(train.view)[0]
    assert annotation.data.any()


def test_a_name_that_is_taken_is_refused(docks, click, disc_model):
    _, train = docks("Annotate and train")
    train.controller.registry.set_just_trained(disc_model)
    for _ in range(2):
        train.view.name_edit.setText("mine")
        click(train.view.save_button)
    assert "There is a model named mine already" in errors(train.view)[0]


# --- segmenting ------------------------------------------------------------------------------------------------------


@pytest.fixture
def segmenting(docks, disc_model):
    """Return a function that opens a viewer with a Segment dock and the model of discs chosen."""

    def make(data, show=False, **about):
        viewer, segment = docks("Segment", show=show)
        layer = viewer.add_image(data, **{"name": "picture", **about})
        segment.controller.registry.set_just_trained(disc_model)
        return viewer, segment, layer

    return make


@pytest.mark.computing
def test_a_plane_then_the_next_fill_one_layer_and_the_whole_stack_another(segmenting, click, qtbot, done):
    viewer, segment, image = segmenting(stack(), scale=(4, 0.5, 0.5), units=("um", "um", "um"))
    viewer.dims.set_current_step(0, 3)
    click(segment.view.run_button)
    done(segment)
    result = viewer.layers["picture cells"]
    assert [bool(plane.any()) for plane in result.data] == [False, False, False, True, False]
    viewer.dims.set_current_step(0, 1)
    click(segment.view.run_button)
    done(segment)
    assert len(viewer.layers) == 2
    assert result.data[1].any()
    assert result.units == image.units
    segment.view.extent.setCurrentIndex(1)
    click(segment.view.run_button)
    done(segment)
    assert len(viewer.layers) == 3
    assert all(plane.any() for plane in viewer.layers[-1].data)


@pytest.mark.computing
def test_the_current_plane_comes_first_and_cancel_keeps_it(segmenting, click, qtbot, done):
    viewer, segment, _ = segmenting(np.tile(stack(), (40, 2, 2)))
    viewer.dims.set_current_step(0, 100)
    segment.view.extent.setCurrentIndex(1)
    click(segment.view.run_button)
    result = viewer.layers["picture cells"]
    qtbot.waitUntil(lambda: bool(result.data[100].any()), timeout=LONG)
    click(segment.view.run_button)
    done(segment)
    filled = [index for index, plane in enumerate(result.data) if plane.any()]
    assert 100 in filled
    assert len(filled) < 200
    assert [kind for kind, _ in segment.view.messages.lines()] == ["warning"]
    assert "kept" in segment.view.messages.lines()[0][1]
    click(segment.view.run_button)
    qtbot.wait(200)
    click(segment.view.run_button)
    done(segment)


@pytest.mark.computing
def test_sliders_change_the_result_but_not_what_was_edited(segmenting, click, qtbot, done):
    viewer, segment, _ = segmenting(discs(seed=5)[0])
    click(segment.view.run_button)
    done(segment)
    result = viewer.layers["picture cells"]
    cells = np.bincount(result.data.ravel())[1:]
    assert (cells >= 15).all()
    median = int(np.median(cells)) + 1
    segment.view.smallest.set_value(median)
    qtbot.waitUntil(lambda: segment.controller.result.tuned[()][1] == median, timeout=LONG)
    qtbot.waitUntil(lambda: segment.controller.relabelling is None)
    left = np.bincount(result.data.ravel())[1:]
    assert 0 < len(left) < len(cells)
    assert (left >= median).all()
    result.paint((3, 3), 77)
    segment.view.smallest.set_value(15)
    qtbot.waitUntil(lambda: any("edited by hand" in text for _, text in segment.view.messages.lines()))
    assert result.data[3, 3] == 77


@pytest.mark.computing
def test_all_planes_segmented_one_by_one_follow_the_sliders(segmenting, click, qtbot, done):
    viewer, segment, _ = segmenting(stack())
    for z in (3, 1, 0):
        viewer.dims.set_current_step(0, z)
        click(segment.view.run_button)
        done(segment)
    result = viewer.layers["picture cells"]
    before = (result.data > 0).sum(axis=(1, 2))
    assert len(set(segment.controller.result.jobs.values())) == 3
    segment.view.threshold.setValue(0.9)
    qtbot.waitUntil(lambda: bool(((result.data > 0).sum(axis=(1, 2)) < before)[[0, 1, 3]].all()), timeout=LONG)
    qtbot.waitUntil(lambda: segment.controller.relabelling is None, timeout=LONG)
    assert not [text for kind, text in segment.view.messages.lines() if kind == "warning"]
    assert not result.data[[2, 4]].any()


@pytest.mark.computing
def test_probabilities_become_a_picture_and_classes_labels(segmenting, click, done):
    viewer, segment, _ = segmenting(discs()[0])
    for index, name in ((1, "picture classes"), (2, "picture probability")):
        segment.view.what.setCurrentIndex(index)
        click(segment.view.run_button)
        done(segment)
        data = viewer.layers[name].data
        assert 0 < (data > 0.5).mean() < 0.5
        assert data.max() <= 1
    assert data.dtype == np.float32


@pytest.mark.computing
def test_rgb_is_read_as_grey_by_a_model_of_one_channel(segmenting, click, done):
    grey = discs()[0].clip(0, 255).astype(np.uint8)
    viewer, segment, _ = segmenting(np.stack([grey] * 3, axis=-1), rgb=True)
    click(segment.view.run_button)
    done(segment)
    assert not errors(segment.view)
    assert viewer.layers["picture cells"].data.shape == grey.shape
    assert viewer.layers["picture cells"].data.any()


def test_more_channels_than_the_model_knows_are_refused_before_anything_starts(segmenting, click):
    viewer, segment, _ = segmenting(discs()[0])
    viewer.add_image(discs()[0], name="second")
    channels = segment.view.images.channels
    assert channels.count() == 1
    from qtpy.QtCore import Qt

    channels.item(0).setCheckState(Qt.CheckState.Checked)
    click(segment.view.run_button)
    assert "needs 1 channel, but the image has 2 channels" in errors(segment.view)[0]
    assert len(viewer.layers) == 2


def test_time_is_offered_as_time_and_roles_can_be_corrected(segmenting):
    viewer, segment, image = segmenting(stack(), axis_labels=("t", "y", "x"))
    row = segment.view.images.axes
    assert row.axes() == "tyx"
    (box,) = row._boxes.values()
    box.setCurrentIndex(box.findData("c"))
    assert segment.controller._choice.axes() == "cyx"
    assert segment.controller._choice.planes().channels == 5
    assert segment.view.extent.isHidden()
    assert image.metadata["napari_unet"]["axes"] == "cyx"


@pytest.mark.computing
@pytest.mark.parametrize("what", ["image", "result"])
def test_deleting_a_layer_while_segmenting_hurts_nothing(segmenting, click, qtbot, done, what):
    viewer, segment, image = segmenting(np.tile(stack(), (20, 2, 2)))
    segment.view.extent.setCurrentIndex(1)
    click(segment.view.run_button)
    result = viewer.layers["picture cells"]
    qtbot.waitUntil(lambda: bool(result.data.any()), timeout=LONG)
    image.name = "renamed"
    viewer.layers.remove(image if what == "image" else result)
    done(segment)
    assert not errors(segment.view)
    if what == "image":
        assert all(plane.any() for plane in result.data)
    else:
        assert any("result layer was deleted" in text for _, text in segment.view.messages.lines())


@pytest.mark.computing
def test_a_killed_engine_keeps_the_planes_that_were_done(segmenting, click, qtbot, done):
    viewer, segment, _ = segmenting(np.tile(stack(), (60, 2, 2)))
    segment.view.extent.setCurrentIndex(1)
    click(segment.view.run_button)
    result = viewer.layers["picture cells"]
    qtbot.waitUntil(lambda: bool(result.data.any()), timeout=LONG)
    os.kill(Engine.shared().pid, signal.SIGKILL)
    done(segment)
    assert len(errors(segment.view)) == 1
    assert result.data.any()
    segment.view.extent.setCurrentIndex(0)
    click(segment.view.run_button)
    done(segment)
    assert not errors(segment.view)


def test_a_model_that_is_gone_or_foreign_is_explained(segmenting, click, tmp_path):
    viewer, segment, _ = segmenting(discs()[0])
    (tmp_path / "model.json").write_text("{}")
    segment.controller.models.look_up(str(tmp_path / "model.json"))
    assert "no model card" in errors(segment.view)[0]
    segment.controller.registry.set_just_trained(str(tmp_path / "gone"))
    segment.view.model.choose(str(tmp_path / "gone"))
    click(segment.view.run_button)
    assert "There is no model at" in errors(segment.view)[-1]
    assert len(viewer.layers) == 1


# --- opening ---------------------------------------------------------------------------------------------------------


def test_both_docks_fit_on_a_small_screen_without_scrolling(docks, qtbot):
    viewer, train, segment = docks("Annotate and train", "Segment", show=True)
    viewer.add_image(stack())
    viewer.window._qt_window.resize(1280, 800)
    qtbot.wait(300)
    for dock in (train, segment):
        room = 800 - 45 - 30
        assert dock.view.minimumSizeHint().width() <= 330
        assert dock.view.sizeHint().height() <= room


def test_docks_share_a_tab_bar_and_the_newest_is_in_front(docks, qtbot):
    viewer, train, segment = docks("Annotate and train", "Segment", show=True)
    window = viewer.window._qt_window
    frames = [train.parent(), segment.parent()]
    qtbot.waitUntil(lambda: window.tabifiedDockWidgets(frames[0]) == [frames[1]])
    qtbot.waitUntil(lambda: not segment.visibleRegion().isEmpty() and train.visibleRegion().isEmpty())


def test_a_result_is_not_taken_for_an_annotation(docks, click):
    viewer, train = docks("Annotate and train")
    viewer.add_image(discs()[0], name="discs")
    result = viewer.add_labels(discs()[1], name="cells", metadata={"napari_unet": {"result": "instances"}})
    assert train.view.annotation.layer() is None
    click(train.view.train_button)
    assert "click New annotation" in errors(train.view)[0]
    train.view.annotation.choose(result)
    assert train.view.annotation.layer() is result
    click(train.view.new_button)
    assert train.view.annotation.layer() is viewer.layers["discs annotation"]


def test_a_dock_taken_out_of_its_window_is_deleted_by_qt_though_python_still_knows_it(docks, qtbot):
    # What Python alone deletes goes in whatever thread collects garbage, where PySide hangs or crashes.
    viewer, dock = docks("Models")
    view = dock.view
    viewer.window.remove_dock_widget(dock)
    qtbot.waitUntil(lambda: not isalive(dock) and not isalive(view))


def test_a_dock_that_is_asked_for_comes_to_the_front(docks, qtbot):
    viewer, behind, front = docks("Proofread", "Segment", show=True)
    viewer.add_image(discs()[0])
    frames = [dock.parent() for dock in (behind, front)]
    frames[1].raise_()
    qtbot.waitUntil(lambda: frames[0].visibleRegion().isEmpty() and not frames[1].visibleRegion().isEmpty())
    front.view.proofread.emit()
    qtbot.waitUntil(lambda: frames[1].visibleRegion().isEmpty() and not frames[0].visibleRegion().isEmpty())
    frames[0].hide()
    front.view.proofread.emit()
    qtbot.waitUntil(lambda: not frames[0].visibleRegion().isEmpty())
