"""Proofreading as a user does it: keys and mouse in the picture, buttons in the dock."""

import numpy as np
import pytest
from discs import discs, errors, make_small
from hand import Hand, cells_in, kinds, labelled_stack, middle
from napari.layers import Points
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication

from napari_unet.core.distribution import PLUGIN
from napari_unet.plugin.dock.lifecycle import EngineUse
from napari_unet.plugin.layers.preview import camera_of
from napari_unet.plugin.layers.reading import OURS
from napari_unet.plugin.layers.review_overlay import OVERLAY_NAME
from napari_unet.plugin.layers.review_state import editable_review, restore, teaching
from napari_unet.records.runs import list_runs, load_run

LONG = 60_000


# --- the mouse ---------------------------------------------------------------------------------------------------


def test_the_result_is_chosen_and_a_click_means_a_cell(proofreading):
    viewer, dock, layer, hand = proofreading()
    assert dock.view.result.layer() is layer
    assert viewer.layers.selection.active is layer
    hand.click(*middle(layer.data[0], 2))
    assert dock.controller.session.chosen() == 2
    assert "Cell 2, not reviewed." in dock.view.status.text()
    assert isinstance(viewer.layers[OVERLAY_NAME], Points)
    assert viewer.layers.selection.active is layer


def test_keys_work_on_the_cell_under_the_mouse(proofreading):
    _, dock, layer, hand = proofreading()
    first, second, third = cells_in(layer.data[0])[:3]
    hand.move(*middle(layer.data[0], first))
    hand.key("A")
    hand.move(*middle(layer.data[0], second))
    hand.key("D")
    hand.move(*middle(layer.data[0], third))
    hand.key(".")
    assert kinds(layer) == {first: "accepted", second: "deleted", third: "edited"}
    assert not (layer.data[0] == second).any()
    assert dock.view.entries.count() == 3
    assert "1 accepted" in dock.view.counts.text()


def test_two_clicks_merge(proofreading, click):
    _, dock, layer, hand = proofreading()
    first, second = cells_in(layer.data[0])[:2]
    places = [middle(layer.data[0], cell) for cell in (first, second)]
    area = (layer.data[0] > 0).sum()
    click(dock.view.buttons["merge"])
    assert dock.view.buttons["merge"].isChecked()
    hand.click(*places[0])
    assert f"belongs to cell {first}" in dock.view.status.text()
    hand.click(*places[1])
    assert layer.data[0][tuple(int(p) for p in places[1])] == first
    assert (layer.data[0] > 0).sum() == area
    hand.key("Escape")
    assert not dock.view.buttons["merge"].isChecked()


def test_a_drawn_line_splits_and_the_picture_stays_where_it_is(proofreading):
    viewer, _, layer, hand = proofreading()
    y, x = middle(layer.data[0], 1)
    before = camera_of(viewer).center
    hand.click(y, x)
    hand.key("L")
    hand.drag((y - 14, x), (y, x + 2), (y + 14, x))
    fresh = max(cells_in(layer.data[0]))
    assert fresh == editable_review(layer).proof.highest == layer.data.max()
    assert kinds(layer) == {1: "edited", fresh: "edited"}
    assert layer.data[0, round(y), round(x) - 5] != layer.data[0, round(y), round(x) + 6]
    assert camera_of(viewer).center == before
    hand.key("L")
    hand.drag((60, 60), (60, 80))
    assert camera_of(viewer).center != before


def test_points_split(proofreading):
    _, dock, layer, hand = proofreading()
    y, x = middle(layer.data[0], 1)
    hand.click(y, x)
    hand.key("P")
    hand.click(y, x - 5)
    hand.click(y, x + 5)
    assert "2 points" in dock.view.status.text()
    hand.key("Enter")
    assert len(kinds(layer)) == 2
    assert layer.data[0, round(y), round(x - 5)] != layer.data[0, round(y), round(x + 5)]


def test_redrawing_is_noted_stroke_by_stroke_and_leaves_neighbours_alone(proofreading):
    viewer, dock, layer, hand = proofreading()
    original = layer.data.copy()
    y, x = middle(layer.data[0], 1)
    hand.click(y, x)
    hand.key("R")
    assert (str(layer.mode), layer.selected_label, layer.preserve_labels) == ("paint", 1, True)
    others = layer.data[0] > 1
    hand.drag((y, x), (y, x + 15))
    assert layer.data[0, round(y), round(x) + 13]
    assert (layer.data[0] == 1).sum() > (original[0] == 1).sum()
    np.testing.assert_array_equal(layer.data[0][others], original[0][others])
    painted = layer.data.copy()
    hand.key("R")
    assert str(layer.mode) == "erase"
    hand.drag((y, x - 4), (y, x + 4))
    assert not np.array_equal(layer.data, painted)
    hand.key("Escape")
    assert (str(layer.mode), layer.preserve_labels, dock.controller.actions.tool) == ("pan_zoom", False, "")
    hand.undo()
    np.testing.assert_array_equal(layer.data, painted)
    hand.undo()
    np.testing.assert_array_equal(layer.data, original)
    assert kinds(layer) == {}
    hand.redo()
    np.testing.assert_array_equal(layer.data, painted)


def test_painted_background_is_no_cell(proofreading):
    _, dock, layer, hand = proofreading()
    background, cell, *others = cells_in(layer.data[0])
    layer.metadata.setdefault(OURS, {})["background_label"] = background
    hand.click(*middle(layer.data[0], background))
    assert "No cell" in dock.view.status.text()
    hand.key("D")
    assert (layer.data[0] == background).any()
    hand.key("N")
    assert dock.controller.session.chosen() == cell
    assert dock.controller.session.left((0,)) == [cell, *others]


# --- the keyboard alone ----------------------------------------------------------------------------------------


def test_the_keyboard_alone_is_enough(proofreading):
    _, dock, layer, hand = proofreading()
    cells = cells_in(layer.data[0])
    hand.key("N")
    assert dock.controller.session.chosen() == cells[0]
    hand.key("A")
    hand.key("N")
    hand.key("S")
    assert len(cells_in(layer.data[0])) == len(cells) + 1
    hand.key("M")
    hand.key("Right", Qt.KeyboardModifier.ShiftModifier)
    hand.key("M")
    assert len(cells_in(layer.data[0])) == len(cells)
    hand.key("N")
    doomed = dock.controller.session.chosen()
    hand.key("D")
    assert doomed not in cells_in(layer.data[0])
    while dock.controller.session.left((0,)):
        hand.key("N")
        hand.key("A")
    hand.key("N")
    assert dock.controller.session.plane() == (1,)
    assert dock.controller.session.chosen() == cells_in(layer.data[1])[0]


def test_shift_and_arrows_go_to_the_neighbours(proofreading):
    labels = np.zeros((1, 90, 90), np.int32)
    for cell, (y, x) in enumerate([(45, 45), (45, 75), (45, 15), (15, 45), (75, 45)], start=1):
        labels[0, y - 4 : y + 4, x - 4 : x + 4] = cell
    _, dock, _, hand = proofreading(labels.astype(np.float32), labels)
    for key, cell in (("Right", 2), ("Left", 3), ("Up", 4), ("Down", 5)):
        hand.key("Escape")
        dock.controller.session.choose((0,), 1)
        hand.key(key, Qt.KeyboardModifier.ShiftModifier)
        assert dock.controller.session.chosen() == cell


def test_keys_also_work_in_the_dock(proofreading, qtbot):
    viewer, dock, layer, hand = proofreading()
    hand.click(*middle(layer.data[0], 1))
    QApplication.setActiveWindow(viewer.window._qt_window)
    dock.view.entries.setFocus()
    qtbot.keyClick(dock.view.entries, Qt.Key.Key_A)
    assert kinds(layer) == {1: "accepted"}
    qtbot.keyClick(dock.view.entries, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert kinds(layer) == {}


# --- undo over planes ------------------------------------------------------------------------------------------


def test_undo_goes_through_all_planes_and_brings_them_into_view(proofreading):
    viewer, dock, layer, hand = proofreading()
    original, states = layer.data.copy(), []
    for plane in (0, 2, 1):
        viewer.dims.set_current_step(0, plane)
        hand.click(*middle(layer.data[plane], cells_in(layer.data[plane])[0]))
        for key in (".", "S"):
            states.append(layer.data.copy())
            hand.key(key)
    final = layer.data.copy()
    assert all((final[plane] != original[plane]).any() for plane in range(3))
    viewer.dims.set_current_step(0, 0)
    for state, plane in zip(reversed(states), (1, 1, 2, 2, 0, 0), strict=True):
        hand.undo()
        np.testing.assert_array_equal(layer.data, state)
        assert viewer.dims.current_step[0] == plane
    np.testing.assert_array_equal(layer.data, original)
    assert not dock.view.buttons["undo"].isEnabled()
    for _ in states:
        hand.redo()
    np.testing.assert_array_equal(layer.data, final)
    assert "split cell" in dock.view.buttons["undo"].toolTip()


def test_closing_the_dock_gives_the_layer_back_and_keeps_what_was_checked(proofreading, docks):
    viewer, dock, layer, hand = proofreading()
    hand.click(*middle(layer.data[0], 1))
    hand.key("A")
    keys = len(layer.keymap)
    viewer.window.remove_dock_widget(dock)
    QApplication.processEvents()
    assert keys > 10
    assert not layer.keymap
    assert OVERLAY_NAME not in viewer.layers
    again = viewer.window.add_plugin_dock_widget(PLUGIN, "Proofread")[1]
    assert again.view.entries.count() == 1
    hand.undo()
    assert again.view.entries.count() == 0


# --- what goes wrong -----------------------------------------------------------------------------------------------


def test_what_is_not_possible_is_said_and_nothing_changes(proofreading):
    viewer, dock, layer, hand = proofreading()
    original = layer.data.copy()
    for key, words in (("D", "No cell is selected"), ("Enter", ""), ("Escape", ""), ("M", ""), ("P", "")):
        hand.key(key)
        assert words in "".join(text for _, text in dock.view.messages.lines())
    hand.undo()
    assert "nothing to undo" in dock.view.messages.lines()[0][1]
    hand.click(*middle(layer.data[0], 1))
    hand.key("F")
    assert "Cell 1 has no holes" in dock.view.messages.lines()[0][1]
    np.testing.assert_array_equal(layer.data, original)
    viewer.layers.remove(layer)
    hand.key("A")
    assert not dock.view.buttons["accept"].isEnabled()
    dock.controller.act("accept")
    assert "no result to correct" in dock.view.messages.lines()[0][1]


def test_renaming_and_moving_layers_and_three_dimensions_hurt_nothing(proofreading):
    viewer, _, layer, hand = proofreading()
    hand.click(*middle(layer.data[0], 1))
    layer.name = "other"
    viewer.layers.move(1, 0)
    hand.key("A")
    viewer.dims.ndisplay = 3
    hand.click(60, 60)
    viewer.dims.ndisplay = 2
    viewer.layers.remove(OVERLAY_NAME)
    hand.key("N")
    hand.key("A")
    assert len(kinds(layer)) == 2
    assert OVERLAY_NAME in viewer.layers


# --- what follows from it ------------------------------------------------------------------------------------------


@pytest.mark.computing
def test_checked_cells_survive_a_new_segmentation_and_count_in_the_next_training(docks, disc_model, click, qtbot):
    viewer, segment = docks("Segment", show=True)
    image, _ = discs(seed=5)
    picture = viewer.add_image(image, name="picture")
    segment.controller.registry.set_just_trained(disc_model)
    click(segment.view.run_button)
    qtbot.waitUntil(lambda: segment.controller.job is None, timeout=LONG)
    click(segment.view.proofread_button)
    qtbot.waitUntil(lambda: all(dock.is_filled for dock in EngineUse.docks()))
    layer, hand = viewer.layers["picture cells"], Hand(viewer, qtbot)
    qtbot.wait(50)
    accepted, grown, deleted = cells_in(layer.data)[:3]
    for cell, key in ((accepted, "A"), (grown, "."), (deleted, "D")):
        viewer.layers.selection.active = layer
        hand.click(*middle(layer.data, cell))
        hand.key(key)
    kept = layer.data.copy()
    assert segment.controller.result.edited

    segment.view.threshold.setValue(0.7)
    click(segment.view.run_button)
    qtbot.waitUntil(lambda: segment.controller.job is None, timeout=LONG)
    again = viewer.layers[-1] if viewer.layers[-1].name != OVERLAY_NAME else viewer.layers[-2]
    assert again is not layer
    for cell in (accepted, grown):
        np.testing.assert_array_equal(again.data == cell, kept == cell)
    assert not again.data[tuple(int(p) for p in middle(restored_of(layer), deleted))]
    assert kinds(again, ()) == {accepted: "accepted", grown: "edited", deleted: "deleted"}
    assert any("3 reviewed cells were kept" in text for _, text in segment.view.messages.lines())
    assert {item.kind for item in teaching(picture)[()]} == {"accepted", "edited", "deleted"}


def restored_of(layer):
    """Return the labels before anything was corrected."""
    proof, data = editable_review(layer).proof, layer.data
    while proof.undo() is not None:
        pass
    out = data.copy()
    while proof.redo() is not None:
        pass
    return out


def test_cells_of_another_picture_of_that_size_are_not_put_back(docks):
    viewer, _ = docks("Proofread")
    one, other = (viewer.add_image(discs(seed=seed)[0]) for seed in (1, 2))
    layer = viewer.add_labels(discs(seed=1)[1])
    viewer.layers.move(2, 1)
    _.view.result.choose(layer)
    editable_review(layer).proof.accept([()], 1)
    assert editable_review(layer).picture() is one
    fresh = viewer.add_labels(np.zeros((128, 128), np.int32))
    empty = np.zeros((128, 128), np.int32)
    assert not restore(fresh, other, (), empty)[0].any()
    labels, count = restore(fresh, one, (), empty)
    assert count == 1
    np.testing.assert_array_equal(labels == 1, discs(seed=1)[1] == 1)


def test_the_dock_fits_on_a_small_screen_in_both_themes(proofreading, qtbot):
    viewer, dock, _, _ = proofreading()
    viewer.window._qt_window.resize(1280, 800)
    for theme in ("light", "dark"):
        viewer.theme = theme
        qtbot.wait(50)
        assert dock.view.minimumSizeHint().width() <= 330
        assert dock.view.sizeHint().height() <= 725


def trained_on(train, qtbot):
    """Return what a training was given, once it has ended."""
    qtbot.waitUntil(lambda: train.controller.job is None and not train.view.busy, timeout=LONG)
    assert not errors(train.view)
    return load_run(list_runs()[0]).images


@pytest.mark.computing
def test_checked_cells_alone_are_enough_to_train_on(docks, click, qtbot):
    viewer, train = docks("Annotate and train")
    image, labels = labelled_stack()
    viewer.add_image(image, name="picture", axis_labels=("z", "y", "x"))
    layer = viewer.add_labels(labels, name="cells", metadata={"napari_unet": {"result": "instances"}})
    assert train.view.annotation.layer() is None
    dock = viewer.window.add_plugin_dock_widget(PLUGIN, "Proofread")[1]
    accepted = cells_in(labels[1])[:3]
    for cell in accepted:
        dock.controller.session.choose((1,), cell)
        click(dock.view.buttons["accept"])
    dock.controller.session.choose((1,), cells_in(labels[1])[3])
    click(dock.view.buttons["delete"])
    make_small(train.view, seconds=2.0)
    click(train.view.train_button)
    (only,) = trained_on(train, qtbot)
    assert len(only.oversampled) == 4
    assert len(np.setdiff1d(only.labels, [0, 1])) == 3
    for cell in accepted:
        assert len(np.unique(only.labels[labels[1] == cell])) == 1
    assert (only.labels[tuple(int(p) for p in only.oversampled[3])]) == 1

    dock.view.training_box.setChecked(False)
    assert not teaching(viewer.layers["picture"])
    click(train.view.train_button)
    assert "There is no annotation" in errors(train.view)[0]
    assert layer in viewer.layers


@pytest.mark.computing
def test_checked_cells_are_learnt_beside_the_paint_and_only_once(docks, click, qtbot):
    viewer, train = docks("Annotate and train")
    image, labels = labelled_stack(2)
    viewer.add_image(image, name="picture", axis_labels=("z", "y", "x"))
    layer = viewer.add_labels(labels, name="cells", metadata={"napari_unet": {"result": "instances"}})
    dock = viewer.window.add_plugin_dock_widget(PLUGIN, "Proofread")[1]
    for _ in range(2):
        click(train.view.new_button)
        painted = viewer.layers.selection.active
        painted.data[0, 100:, :] = 1
    painted.data[0][labels[0] == 1] = 2
    for cell in (1, 2):
        dock.controller.session.choose((0,), cell)
        click(dock.view.buttons["accept"])
    assert kinds(layer) == {1: "accepted", 2: "accepted"}
    make_small(train.view, seconds=2.0)
    click(train.view.train_button)
    first, second = trained_on(train, qtbot)
    assert [len(item.oversampled) for item in (first, second)] == [2, 0]
    assert len(np.setdiff1d(first.labels, [0, 1])) == 2
    assert set(np.setdiff1d(second.labels, [0, 1])) == {2}


def test_whatever_is_done_in_whatever_order_nothing_breaks_and_undo_leads_back(proofreading, qtbot):
    """The user's strokes come by napari's own calls here, as thousands of mouse moves would take minutes."""
    viewer, dock, layer, _ = proofreading()
    rng, act = np.random.default_rng(7), dock.controller.act
    original = layer.data.copy()
    names = [*dock.view.buttons, "enter", "left", "right", "up", "down"]

    def somewhere():
        return tuple(int(n) for n in rng.integers(0, 128, 2))

    def chosen():
        return dock.view.result.layer()

    others = {
        "click": lambda: dock.controller.on_click(somewhere()),
        "move": lambda: dock.controller.on_move(somewhere()),
        "line": lambda: dock.controller.on_drawn([somewhere(), somewhere(), somewhere()]),
        "plane": lambda: viewer.dims.set_current_step(0, int(rng.integers(0, 3))),
        "paint": lambda: chosen().paint((viewer.dims.current_step[0], *somewhere()), int(rng.integers(0, 20))),
        "bucket": lambda: chosen().fill((viewer.dims.current_step[0], *somewhere()), int(rng.integers(1, 20))),
        "mode": lambda: setattr(chosen(), "mode", str(rng.choice(["paint", "pan_zoom", "erase"]))),
        "rename": lambda: setattr(layer, "name", f"cells {rng.integers(9)}"),
        "order": lambda: viewer.layers.move(0, len(viewer.layers) - 1),
        "other": lambda: dock.view.result.setCurrentIndex(int(rng.integers(0, 2))),
    }
    viewer.add_labels(np.zeros((3, 128, 128), np.int32), name="empty")
    for _ in range(400):
        name = str(rng.choice([*names, *others]))
        others[name]() if name in others else act(name)
    dock.view.result.choose(layer)
    act("leave")
    assert dock.view.result.count() == 2
    assert not np.array_equal(layer.data, original)
    changed = layer.data.copy()
    undone = sum(editable_review(layer).proof.undo() is not None for _ in range(500))
    assert undone > 20
    np.testing.assert_array_equal(layer.data, original)
    for _ in range(undone):
        editable_review(layer).proof.redo()
    np.testing.assert_array_equal(layer.data, changed)


def test_of_accept_and_the_tool_that_is_on_only_one_stands_out(proofreading):
    _, dock, layer, hand = proofreading()
    hand.click(*middle(layer.data[0], 2))
    accept = dock.view.buttons["accept"]
    assert accept.styleSheet()
    dock.controller.act("redraw")
    assert dock.view.buttons["redraw"].isChecked()
    assert not accept.styleSheet()
    dock.view.set_theme("light", "#ffffff")
    assert not accept.styleSheet()
    dock.controller.act("leave")
    assert accept.styleSheet()


# --- signs of small cells ------------------------------------------------------------------------------------------


def crossed_out(docks, qtbot, brightness):
    """Return what is on screen around a cell of 6 x 6 pixels that was deleted, of a large picture seen as a whole."""
    viewer, dock = docks("Proofread", show=True)
    viewer.add_image(np.full((2000, 2000), brightness, np.uint8), contrast_limits=(0, 255))
    labels = np.zeros((2000, 2000), np.int32)
    labels[1000:1006, 1000:1006] = 1
    layer = viewer.add_labels(labels, metadata={"napari_unet": {"result": "instances"}})
    qtbot.waitUntil(dock.view.isVisible, timeout=20_000)
    viewer.reset_view()
    dock.controller.session.current = ((), 1)
    dock.controller.act("delete")
    assert not layer.data.any()
    qtbot.wait(100)
    shot = viewer.screenshot(flash=False)[..., :3].astype(int)
    hand = Hand(viewer, qtbot)
    place = hand.at(1002.5, 1002.5)
    return viewer, shot[place.y() - 10 : place.y() + 10, place.x() - 10 : place.x() + 10].sum(axis=2)


def test_a_small_cell_that_was_deleted_is_crossed_out_for_all_to_see(docks, qtbot):
    for brightness in (255, 0):
        viewer, seen = crossed_out(docks, qtbot, brightness)
        black, white = (seen < 250).sum(), (seen > 520).sum()
        # A cross of black arms with white edges, whatever it lies on: neither a blot of one colour nor nothing.
        assert min(black, white) > 20
        middle = seen[10 - 1 : 10 + 1, 10 - 1 : 10 + 1]
        assert (middle < 250).all()
        sides = [seen[10, 2], seen[10, 17], seen[2, 10], seen[17, 10]]
        assert all(abs(side - 3 * brightness) < 60 for side in sides)


def test_signs_keep_their_size_on_screen_when_the_picture_is_made_smaller(proofreading, qtbot):
    viewer, _, layer, hand = proofreading()
    hand.click(*middle(layer.data[0], 2))
    hand.key("A")
    camera = camera_of(viewer)
    for zoom in (0.05, 8.0, 0.2):
        camera.zoom = zoom
        qtbot.wait(100)
        accepted, circle = viewer.layers[OVERLAY_NAME].size * zoom
        assert accepted >= 11.9
        assert circle > 1.5 * accepted


def test_signs_come_to_lie_above_a_new_result(proofreading, qtbot):
    viewer, dock, layer, hand = proofreading()
    hand.click(*middle(layer.data[0], 2))
    hand.key("A")
    again = viewer.add_labels(layer.data.copy(), name="again", metadata={"napari_unet": {"result": "instances"}})
    assert dock.view.result.layer() is again
    hand.click(*middle(layer.data[0], 3))
    hand.key("A")
    names = [layer.name for layer in viewer.layers]
    assert names.index(OVERLAY_NAME) == names.index("again") + 1
    assert viewer.layers.selection.active is again


def test_signs_follow_labels_that_get_another_scale_and_another_layer(proofreading):
    viewer, dock, layer, hand = proofreading()
    hand.click(*middle(layer.data[0], 2))
    hand.key("A")
    signs = viewer.layers[OVERLAY_NAME]
    layer.scale, layer.translate = (1, 0.5, 0.5), (0, 3, 0)
    np.testing.assert_allclose(signs.scale, layer.scale)
    np.testing.assert_allclose(signs.translate, layer.translate)
    about = {"napari_unet": {"result": "instances"}}
    again = viewer.add_labels(layer.data.copy(), name="again", scale=(1, 0.25, 0.25), metadata=about)
    hand.key("N")
    assert dock.view.result.layer() is again
    signs = viewer.layers[OVERLAY_NAME]
    np.testing.assert_allclose(signs.scale, again.scale)
    layer.scale = (1, 2, 2)
    np.testing.assert_allclose(signs.scale, again.scale)
