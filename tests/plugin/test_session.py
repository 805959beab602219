"""A session at the train dock as a user has it: first steps, keys, live paint, Continue, Discard, where next."""

import re

import numpy as np
import pytest
from discs import discs, errors, make_small, stack
from napari.layers import Shapes
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QScrollArea

from napari_unet.core.distribution import PLUGIN
from napari_unet.core.settings import NetworkSettings, TrainingSettings
from napari_unet.plugin.layers.preview import camera_of, is_preview
from napari_unet.plugin.train.sources import painting_of
from napari_unet.plugin.widgets.common import count
from napari_unet.records import runs

LONG = 60_000
DOCK = "Annotate and train"


def paint(layer, labels, plane=(), stop=110):
    """Paint cells from label 2 on, and background between them, into a window of the annotation."""
    window = (slice(10, stop), slice(10, stop))
    layer.data[plane][window] = np.where(labels[window] > 0, labels[window] + 1, 1)
    layer.refresh()


def annotated(viewer, dock, click, name="discs", seed=0, stop=110):
    """Add a picture of discs with paint on it; return the annotation."""
    image, labels = discs(seed=seed)
    viewer.add_image(image, name=name)
    dock.view.images.image.choose(viewer.layers[name])
    click(dock.view.new_button)
    layer = viewer.layers[f"{name} annotation"]
    paint(layer, labels, stop=stop)
    return layer


def lines(dock):
    """Return the list of what takes part."""
    shown = dock.view.takes_part.list
    return [shown.item(row).text().splitlines() for row in range(shown.count())]


def ended(qtbot, dock):
    qtbot.waitUntil(lambda: dock.view.train_button.text() == "Train" and dock.controller.job is None, timeout=LONG)


# --- first steps --------------------------------------------------------------------------------


def test_an_empty_viewer_offers_samples_and_says_what_to_do(docks, click, qtbot):
    viewer, dock = docks(DOCK, show=True)
    view = dock.view
    qtbot.waitUntil(view.first_steps.isVisible)
    assert len(view.first_steps.findChildren(type(view.hint))) == 3
    click(view.first_steps.buttons["phase"])
    qtbot.waitUntil(lambda: [layer.name for layer in viewer.layers] == ["phase contrast"], timeout=LONG)
    assert not view.first_steps.isVisible()
    assert view.tabs.isVisible()
    viewer.layers.clear()
    assert view.first_steps.isVisible()


# --- painting --------------------------------------------------------------------------------


def test_keys_alone_paint_draw_and_accept(docks, click, press, qtbot):
    viewer, dock = docks(DOCK, show=True)
    layer = annotated(viewer, dock, click, stop=60)
    press(viewer, "G")
    assert layer.selected_label == 1
    press(viewer, "N")
    assert layer.selected_label == layer.data.max() + 1
    press(viewer, "Q")
    regions = viewer.layers.selection.active
    assert isinstance(regions, Shapes) and regions.mode == "add_rectangle"
    regions.add_rectangles([np.array([[5, 5], [5, 50], [50, 50], [50, 5.0]])])
    qtbot.waitUntil(lambda: "1 complete box" in str(lines(dock)), timeout=LONG)
    # As the dock has said when the box was drawn.
    press(viewer, "G")
    assert viewer.layers.selection.active is layer and layer.mode == "paint" and layer.selected_label == 1
    viewer.layers.selection.active = regions
    press(viewer, "N")
    assert viewer.layers.selection.active is layer and layer.selected_label == layer.data.max() + 1

    image, labels = discs()
    result = viewer.add_labels(labels, metadata={"napari_unet": {"result": "instances"}})
    far = next(n for n in np.unique(labels)[1:] if not layer.data[labels == n].any())
    viewer.cursor.position = tuple(np.argwhere(labels == far).mean(axis=0))
    viewer.layers.selection.active = result
    press(viewer, "K")
    accepted = layer.data[labels == far]
    assert len(np.unique(accepted)) == 1 and accepted[0] > 1
    painted = len(np.unique(layer.data)) - 2
    qtbot.waitUntil(lambda: lines(dock)[0][1].startswith(count(painted, "cell")), timeout=LONG)
    viewer.layers.selection.active = layer
    layer.undo()
    assert not layer.data[labels == far].any()
    qtbot.waitUntil(lambda: lines(dock)[0][1].startswith(count(painted - 1, "cell")), timeout=LONG)


def test_a_mask_made_elsewhere_is_taken_over_as_it_is(docks):
    viewer, dock = docks(DOCK)
    image, labels = discs(seed=1)
    viewer.add_image(image, name="discs")
    mask = viewer.add_labels(labels, name="mask")
    assert dock.view.annotation.layer() is mask
    assert not dock.view.complete_box.isHidden() and dock.view.complete_box.isChecked()
    (found,) = dock.controller._reader("instances")().images
    assert found.regions == ((0, 128, 0, 128),)
    np.testing.assert_array_equal(found.labels, labels)
    dock.view.complete_box.click()
    assert dock.controller._reader("instances")().images[0].regions == ()


def test_everything_annotated_takes_part_unless_it_is_switched_off(docks, click, qtbot):
    viewer, dock = docks(DOCK)
    old = annotated(viewer, dock, click)
    first = dock.controller._reader("instances")()
    settings = TrainingSettings(background_label=first.background)
    folder = runs.create_run(first.images, settings, NetworkSettings(), name="earlier")
    new = annotated(viewer, dock, click, "more", seed=3, stop=60)
    dock.controller.annotating.add_earlier(str(folder))
    cells = [len(np.unique(layer.data)) - 2 for layer in (old, new)]
    qtbot.waitUntil(lambda: len(lines(dock)) == 3 and "cell" in lines(dock)[2][1], timeout=LONG)
    assert lines(dock)[0] == ["discs annotation", f"{cells[0]} cells, 1 plane"]
    assert lines(dock)[1] == ["more annotation", f"{cells[1]} cells, 1 plane"]
    assert re.fullmatch(r"earlier: 20\d\d-\d\d-\d\d \d\d:\d\d  earlier", lines(dock)[2][0])
    assert dock.view.tabs.tabText(1) == f"Training data ({2 * cells[0] + cells[1]})"
    dock.view.takes_part.list.item(0).setCheckState(Qt.CheckState.Unchecked)
    qtbot.waitUntil(lambda: dock.view.tabs.tabText(1) == f"Training data ({sum(cells)})", timeout=LONG)
    names = [image.name for image in dock.controller._reader("instances")().images]
    assert names == ["more annotation", f"{folder.name}: discs annotation"]
    assert not painting_of(old).on


# --- live --------------------------------------------------------------------------------


def test_paint_joins_by_itself_then_continue_goes_on_and_discard_goes_back(docks, click, press, qtbot):
    viewer, dock = docks(DOCK, show=True)
    view, registry = dock.view, dock.controller.registry
    layer = annotated(viewer, dock, click, stop=90)
    make_small(view, seconds=600.0)
    click(view.train_button)
    qtbot.waitUntil(lambda: len(view.plot.training.x) > 3, timeout=LONG)
    before = dock.controller.job
    layer.paint((120, 120), 60)
    qtbot.waitUntil(lambda: bool(view.plot._marks), timeout=LONG)
    assert dock.controller.job is before
    assert (runs.load_run(before.folder).images[0].labels == 60).any()
    qtbot.waitUntil(lambda: any(is_preview(known) and known.visible for known in viewer.layers), timeout=LONG)
    press(viewer, "H")
    assert not any(is_preview(known) and known.visible for known in viewer.layers)
    qtbot.waitUntil(lambda: len(view.plot.f1.x) > 1, timeout=LONG)
    qtbot.waitUntil(lambda: view.score.text().startswith("★ F1"), timeout=LONG)
    click(view.train_button)
    ended(qtbot, dock)
    first, steps, end = registry.just_trained, len(view.plot.training.x), view.plot.training.x[-1]
    assert first and not errors(view)

    click(view.continue_button)
    qtbot.waitUntil(lambda: len(view.plot.training.x) > steps + 3, timeout=LONG)
    assert view.plot.training.x[steps] >= end
    assert view.plot.training.x == sorted(view.plot.training.x)
    click(view.train_button)
    ended(qtbot, dock)
    second = registry.just_trained
    assert second != first
    assert runs.load_run(dock.controller.rounds.run).resume == str(before.folder)

    click(view.discard_button)
    assert registry.just_trained == first
    assert dock.controller.rounds.run == before.folder
    click(view.discard_button)
    assert registry.just_trained == ""
    assert not view.continue_button.isVisible() and not view.discard_button.isVisible()
    assert runs.finished_model(before.folder)


@pytest.mark.computing
def test_continue_and_discard_outlive_the_dock(docks, click, qtbot, quick_checkpoints):
    viewer, dock = docks(DOCK)
    annotated(viewer, dock, click)
    make_small(dock.view, seconds=2.0)
    click(dock.view.train_button)
    ended(qtbot, dock)
    registry, first = dock.controller.registry, dock.controller.rounds.run
    assert registry.just_trained == str(first / "model")

    def reopened(old):
        viewer.window.remove_dock_widget(old)
        qtbot.wait(50)
        return viewer.window.add_plugin_dock_widget(PLUGIN, DOCK)[1]

    # Once more with a training in its middle, of which the best so far is kept.
    again = reopened(dock)
    assert not again.view.continue_button.isHidden() and not again.view.discard_button.isHidden()
    make_small(again.view, seconds=600.0)
    click(again.view.continue_button)
    qtbot.waitUntil(lambda: bool(again.controller._path), timeout=LONG)
    second = again.controller.job.folder
    assert runs.load_run(second).resume == str(first)
    last = reopened(again)
    qtbot.waitUntil(lambda: registry.just_trained == str(second / "model"))
    click(last.view.discard_button)
    assert registry.just_trained == str(first / "model")
    assert last.controller.rounds.run == first
    click(last.view.discard_button)
    assert registry.just_trained == ""
    assert last.view.continue_button.isHidden()


@pytest.mark.computing
def test_a_discarded_training_is_not_taken_when_the_dock_is_closed_at_once(docks, click, qtbot, quick_checkpoints):
    viewer, dock = docks(DOCK)
    annotated(viewer, dock, click)
    make_small(dock.view, seconds=600.0)
    click(dock.view.train_button)
    qtbot.waitUntil(lambda: bool(dock.controller._path), timeout=LONG)
    click(dock.view.discard_button)
    viewer.window.remove_dock_widget(dock)
    qtbot.wait(50)
    assert dock.controller.registry.just_trained == ""
    assert not dock.controller.rounds.can_go_on()


@pytest.mark.computing
def test_strokes_at_the_very_end_start_another_round_and_discard_stops_it(docks, click, qtbot):
    viewer, dock = docks(DOCK)
    view = dock.view
    layer = annotated(viewer, dock, click)
    make_small(view, seconds=2.0)
    click(view.train_button)
    qtbot.waitUntil(lambda: len(view.plot.training.x) > 0, timeout=LONG)
    first = dock.controller.job
    dock.controller.live._timer.setInterval(10**6)
    layer.paint((120, 120), 60)
    qtbot.waitUntil(lambda: dock.controller.job not in (None, first), timeout=LONG)
    assert view.busy
    click(view.discard_button)
    ended(qtbot, dock)
    # Both rounds are one training to the user.
    assert dock.controller.registry.just_trained == ""
    assert runs.finished_model(first.folder)
    assert not errors(view)


@pytest.mark.computing
def test_paint_that_a_training_was_given_too_late_starts_another_round(docks, click, qtbot):
    viewer, dock = docks(DOCK)
    view = dock.view
    layer = annotated(viewer, dock, click)
    make_small(view, seconds=4.0)
    click(view.train_button)
    qtbot.waitUntil(lambda: len(view.plot.training.x) > 0, timeout=LONG)
    first = dock.controller.job
    tell = first._client.tell
    # As when it is in its last step, or measures the best model: it has the paint, and asks for none any more.
    first._client.tell = lambda number, what, value: None if what == "repainted" else tell(number, what, value)
    layer.paint((120, 120), 60)
    qtbot.waitUntil(lambda: dock.controller.live._sent > 0, timeout=LONG)
    qtbot.waitUntil(lambda: dock.controller.job not in (None, first) and bool(dock.controller.job.id), timeout=LONG)
    assert (runs.load_run(dock.controller.job.folder).images[0].labels == 60).any()
    # What has joined is not learnt once more.
    first._client.tell = tell
    layer.paint((10, 120), 61)
    qtbot.waitUntil(lambda: bool(view.plot._marks), timeout=LONG)
    assert not dock.controller.live.behind
    second = dock.controller.rounds.before
    ended(qtbot, dock)
    assert dock.controller.rounds.before == second
    assert not errors(view)


@pytest.mark.computing
def test_switched_off_paint_waits_for_the_next_training(docks, click, qtbot):
    viewer, dock = docks(DOCK)
    view = dock.view
    layer = annotated(viewer, dock, click)
    view.live_box.click()
    make_small(view, seconds=4.0)
    click(view.train_button)
    qtbot.waitUntil(lambda: len(view.plot.training.x) > 0, timeout=LONG)
    layer.paint((120, 120), 60)
    ended(qtbot, dock)
    assert not view.plot._marks
    assert not (runs.load_run(dock.controller.rounds.run).images[0].labels == 60).any()


# --- where next --------------------------------------------------------------------------------


def test_the_list_leads_to_where_the_network_is_least_certain(docks, click, press, qtbot, disc_model):
    viewer, dock = docks(DOCK, show=True)
    view, suggesting = dock.view, dock.controller.suggesting
    dock.controller.registry.set_just_trained(disc_model)
    image = stack()
    image[3, 64:] += np.random.default_rng(0).normal(0, 120, (64, 128)).astype(np.float32)
    viewer.add_image(image, name="discs", scale=(3, 1, 1))
    click(view.new_button)
    layer = viewer.layers["discs annotation"]
    view.tabs.setCurrentWidget(view.where_next)
    view.where_next.extent.setCurrentIndex(1)
    click(view.where_next.button)
    qtbot.waitUntil(lambda: suggesting.job is None and bool(suggesting.suggestions), timeout=LONG)
    assert suggesting.suggestions[0].plane == (3,)
    shown = view.where_next.list
    qtbot.mouseClick(shown.viewport(), Qt.MouseButton.LeftButton, pos=shown.visualItemRect(shown.item(0)).center())
    assert viewer.dims.current_step[0] == 3
    frame = next(known for known in viewer.layers if known.name == "annotate here next")
    y0, y1, x0, x1 = suggesting.suggestions[0].box
    assert frame.data[0][:, 1:].min(axis=0).tolist() == [y0, x0]
    np.testing.assert_allclose(camera_of(viewer).center[-2:], ((y0 + y1 - 1) / 2, (x0 + x1 - 1) / 2), atol=1)
    assert viewer.layers.selection.active is layer
    press(viewer, "W")
    assert shown.currentRow() == 1
    assert len([known for known in viewer.layers if isinstance(known, Shapes)]) == 1
    best = suggesting.suggestions[0].box
    layer.data[3, best[0] : best[1], best[2] : best[3]] = 1
    press(viewer, "W")
    assert suggesting.suggestions[0].box != best or suggesting.suggestions[0].plane != (3,)


@pytest.mark.computing
def test_the_key_waits_for_the_answer_when_asked_anew(docks, click, press, qtbot, disc_model):
    viewer, dock = docks(DOCK, show=True)
    view, suggesting = dock.view, dock.controller.suggesting
    dock.controller.registry.set_just_trained(disc_model)
    viewer.add_image(discs()[0], name="discs")
    view.tabs.setCurrentWidget(view.where_next)
    for _ in range(2):
        click(view.where_next.button)
        assert suggesting.job is not None
        assert view.where_next.list.count() == 0
        press(viewer, "W")
        qtbot.waitUntil(lambda: suggesting.job is None and bool(suggesting.suggestions), timeout=LONG)
        assert view.where_next.list.count() == len(suggesting.suggestions)


def test_without_a_model_it_says_so(docks, click):
    viewer, dock = docks(DOCK)
    viewer.add_image(discs()[0])
    dock.view.start.choose("scratch")
    click(dock.view.where_next.button)
    assert "no model to ask yet" in dock.view.where_next.words.text()
    assert dock.controller.suggesting.job is None


# --- room --------------------------------------------------------------------------------


def test_the_main_controls_fit_in_every_state(docks, click, qtbot, engine_at_once):
    # With a second dock, whose tab bar takes room too.
    viewer, _, dock = docks("Segment", DOCK, show=True)
    viewer.window._qt_window.resize(1280, 800)
    view = dock.view
    qtbot.waitUntil(lambda: view.isVisible() and dock.use.engine.state == "ready", timeout=LONG)

    def fits():
        bar = dock.findChild(QScrollArea).verticalScrollBar()
        qtbot.waitUntil(lambda: bar.maximum() == 0, timeout=3000)

    fits()
    viewer.add_image(stack(), name="discs")
    click(view.new_button)
    fits()
    view.set_model_ready(True)
    view.set_continuable(True)
    fits()
    view.set_busy(True)
    view.progress.advance(0.5, "step 100, 30 s left")
    fits()
    viewer.add_labels(np.zeros(stack().shape, int), name="mask")
    view.annotation.choose(viewer.layers["mask"])
    view.set_busy(False)
    assert view.save_row.isVisible() and view.complete_box.isVisible() and view.discard_button.isVisible()
    fits()
    assert view.minimumSizeHint().width() <= 330
