"""Proofreading that lasts: whole cells of a stack, saved marks, and what a crash leaves."""

import numpy as np
import pytest
from discs import discs
from hand import Hand, cells_in, kinds, labelled_stack, middle
from qtpy.QtCore import Qt

from napari_unet.core.distribution import PLUGIN
from napari_unet.plugin.layers.review_state import editable_review, restore, teaching
from napari_unet.records.correction_journal import Journal
from napari_unet.records.recovery import unsaved
from napari_unet.records.saved_labels import marks_path, read_marks

LONG = 30_000


def linked_stack(planes=3):
    """Return a stack through which cells go, and their labels."""
    image, labels = discs(seed=3)
    return np.stack([image] * planes), np.stack([np.roll(labels, plane, 0) for plane in range(planes)])


def looked_through(dock, qtbot):
    """Wait until it is known whether cells go through the stack."""
    qtbot.waitUntil(lambda: dock.controller.session.known.linked is not None, timeout=LONG)
    qtbot.wait(20)


def messages(dock):
    return " ".join(text for _, text in dock.view.messages.lines())


# --- whole cells ------------------------------------------------------------------------------------------------


def test_a_key_corrects_the_whole_cell_and_undo_brings_it_back_in_one_step(proofreading, qtbot):
    _, dock, layer, hand = proofreading(*linked_stack())
    looked_through(dock, qtbot)
    assert dock.view.whole.isChecked() and dock.view.whole.isEnabled()
    original = layer.data.copy()
    first, second, third = cells_in(original[0])[:3]
    hand.click(*middle(layer.data[0], first))
    hand.key("D")
    assert not (layer.data == first).any()
    assert [kinds(layer, (plane,)) for plane in range(3)] == [{first: "deleted"}] * 3
    hand.click(*middle(layer.data[0], second))
    hand.key("A")
    assert [kinds(layer, (plane,))[second] for plane in range(3)] == ["accepted"] * 3
    lines = [dock.view.entries.item(row).text() for row in range(dock.view.entries.count())]
    assert lines == [f"✕ cell {first}   z 0 to 2   deleted", f"● cell {second}   z 0 to 2   accepted"]
    assert "1 accepted" in dock.view.counts.text()
    hand.key("M")
    hand.click(*middle(layer.data[0], third))
    np.testing.assert_array_equal(layer.data == second, (original == second) | (original == third))
    for _ in range(3):
        hand.undo()
    np.testing.assert_array_equal(layer.data, original)
    assert not editable_review(layer).proof.marks
    for _ in range(3):
        hand.redo()
    assert not (layer.data == first).any()


def test_a_split_goes_on_through_the_stack_along_the_same_border(proofreading, qtbot):
    _, dock, layer, hand = proofreading(*linked_stack())
    looked_through(dock, qtbot)
    original = layer.data.copy()
    y, x = middle(original[0], 1)
    hand.click(y, x)
    hand.key("L")
    hand.drag((y - 16, x), (y + 16, x + 1))
    fresh = int(layer.data.max())
    assert fresh > original.max()
    for plane in range(3):
        left, right = (layer.data[plane, round(y) + plane, round(x) + side] for side in (-4, 5))
        assert {int(left), int(right)} == {1, fresh}
        assert left == layer.data[0, round(y), round(x) - 4]
        assert kinds(layer, (plane,)) == {1: "edited", fresh: "edited"}
    np.testing.assert_array_equal(layer.data > 0, original > 0)


def test_one_key_changes_to_this_plane_alone(proofreading, qtbot):
    _, dock, layer, hand = proofreading(*linked_stack())
    looked_through(dock, qtbot)
    hand.click(*middle(layer.data[0], 1))
    hand.key("W")
    assert dock.view.here.isChecked()
    hand.key("D")
    assert [(plane == 1).any() for plane in layer.data] == [False, True, True]
    qtbot.mouseClick(dock.view.whole, Qt.MouseButton.LeftButton, pos=dock.view.whole.rect().center() / 4)
    hand.click(*middle(layer.data[0], 2))
    hand.key("D")
    assert not (layer.data == 2).any()


def test_planes_with_numbers_of_their_own_are_corrected_one_by_one(proofreading, qtbot):
    _, dock, layer, hand = proofreading()
    looked_through(dock, qtbot)
    assert not dock.view.whole.isEnabled() and dock.view.here.isChecked()
    before = layer.data.copy()
    hand.click(*middle(layer.data[0], 1))
    hand.key("D")
    np.testing.assert_array_equal(layer.data[1:], before[1:])
    hand.key("W")
    assert "numbers of its own" in messages(dock)


def test_a_correction_draws_nothing_but_what_it_changes(proofreading, qtbot):
    _, dock, layer, hand = proofreading(*linked_stack())
    looked_through(dock, qtbot)
    whole, parts = [], []
    layer.events.set_data.connect(lambda event: whole.append(event))
    layer.events.labels_update.connect(lambda event: parts.append(event.data.shape))
    for cell, key in zip(cells_in(layer.data[0])[:4], (".", "S", "D", "A"), strict=True):
        hand.click(*middle(layer.data[0], cell))
        hand.key(key)
    hand.undo()
    hand.undo()
    hand.redo()
    assert not whole
    # One plane's cell and its shifted likes in the others; accepting changes no pixel.
    assert len(parts) == 5
    assert max(max(shape) for shape in parts) <= 26


# --- saved marks ------------------------------------------------------------------------------------------------


def test_a_saved_result_opened_again_has_its_marks(proofreading, qtbot, tmp_path):
    viewer, dock, layer, hand = proofreading()
    places = {cell: middle(layer.data[0], cell) for cell in cells_in(layer.data[0])[:3]}
    for (_, place), key in zip(places.items(), ("A", ".", "D"), strict=True):
        hand.click(*place)
        hand.key(key)
    journal = editable_review(layer).journal
    marks, path = dict(editable_review(layer).proof.marks), tmp_path / "checked cells.tif"
    assert journal is not None
    dock.view.save.emit(str(path))
    qtbot.waitUntil(lambda: "Saved checked cells.tif" in messages(dock), timeout=LONG)
    assert read_marks(path) == marks
    qtbot.waitUntil(lambda: not journal.folder.exists(), timeout=LONG)

    viewer.layers.remove(layer)
    (again,) = viewer.open(path, layer_type="labels", plugin="napari")
    qtbot.waitUntil(lambda: dock.view.entries.count() == 3, timeout=LONG)
    assert dock.view.result.layer() is again
    assert editable_review(again).proof.marks == marks
    assert teaching(viewer.layers["picture"])[(0,)]
    new, count = restore(again, viewer.layers["picture"], (0,), np.zeros((128, 128), np.int32))
    assert count == 3
    np.testing.assert_array_equal(new > 0, np.isin(again.data[0], list(places)[:2]))


def test_marks_on_cells_that_were_changed_elsewhere_are_dropped(proofreading, qtbot):
    viewer, dock, layer, hand = proofreading()
    for cell in cells_in(layer.data[0])[:2]:
        hand.click(*middle(layer.data[0], cell))
        hand.key("A")
    changed = layer.data.copy()
    changed[changed == 1] = 0
    copy = viewer.add_labels(changed, metadata={"napari_unet": {"checked": layer.metadata["napari_unet"]["checked"]}})
    dock.view.result.choose(copy)
    qtbot.waitUntil(lambda: bool(editable_review(copy).proof.marks), timeout=LONG)
    assert kinds(copy) == {2: "accepted"}
    dock.controller.session.choose((0,), 3)
    hand.key("A")
    assert set(kinds(copy)) == {2, 3}
    assert set(layer.metadata["napari_unet"]["checked"]) == {"0:1", "0:2"}


def test_damaged_marks_are_told_and_in_nobodys_way(proofreading, qtbot, tmp_path):
    import tifffile

    viewer, dock, layer, hand = proofreading()
    tifffile.imwrite(tmp_path / "cells.tif", layer.data)
    marks_path(tmp_path / "cells.tif").write_text("{")
    viewer.layers.remove(layer)
    (again,) = viewer.open(tmp_path / "cells.tif", layer_type="labels", plugin="napari")
    qtbot.waitUntil(lambda: "cannot be read" in messages(dock), timeout=LONG)
    viewer.layers.selection.active = again
    hand.click(*middle(again.data[0], 1))
    hand.key("A")
    assert kinds(again) == {1: "accepted"}


# --- after a crash ------------------------------------------------------------------------------------------------


@pytest.fixture
def crashed(proofreading, qtbot):
    """Return what there was when napari died in mid-proofreading: labels and marks."""
    viewer, dock, layer, hand = proofreading()
    for cell, key in zip(cells_in(layer.data[0])[:3], ("A", ".", "D"), strict=True):
        hand.click(*middle(layer.data[0], cell))
        hand.key(key)
    hand.click(*middle(layer.data[0], cells_in(layer.data[0])[4]))
    hand.key("S")
    hand.undo()
    journal = editable_review(layer).journal
    qtbot.waitUntil(lambda: (journal.folder / "about.json").exists() and not journal._running, timeout=LONG)
    labels, marks = layer.data.copy(), dict(editable_review(layer).proof.marks)
    viewer.window.remove_dock_widget(dock)
    viewer.layers.clear()
    # A journal of this process counts as being written; that of a dead one does not.
    Journal.mine.clear()
    return viewer, labels, marks


def test_what_a_crash_left_is_offered_and_recovered(crashed, qtbot, click):
    viewer, labels, marks = crashed
    viewer.add_image(labelled_stack()[0], name="picture", axis_labels=("z", "y", "x"))
    dock = viewer.window.add_plugin_dock_widget(PLUGIN, "Proofread")[1]
    qtbot.waitUntil(dock.view.recovery.isVisible, timeout=LONG)
    assert "3 corrections of picture cells" in dock.view.unsaved.text()
    click(dock.view.recover_button)
    qtbot.waitUntil(lambda: "Recovered" in messages(dock), timeout=LONG)
    layer, hand = viewer.layers["picture cells"], Hand(viewer, qtbot)
    assert not dock.view.recovery.isVisible()
    assert dock.view.result.layer() is layer
    assert editable_review(layer).picture() is viewer.layers["picture"]
    np.testing.assert_array_equal(layer.data, labels)
    assert editable_review(layer).proof.marks == marks
    for _ in range(3):
        hand.undo()
    np.testing.assert_array_equal(layer.data, labelled_stack()[1])


def test_what_nobody_wants_back_is_deleted(crashed, qtbot, click):
    viewer, _, _ = crashed
    dock = viewer.window.add_plugin_dock_widget(PLUGIN, "Proofread")[1]
    qtbot.waitUntil(dock.view.recovery.isVisible, timeout=LONG)
    click(dock.view.discard_button)
    assert not dock.view.recovery.isVisible()
    again = viewer.window.add_plugin_dock_widget(PLUGIN, "Proofread")[1]
    qtbot.wait(300)
    assert not again.view.recovery.isVisible()


def test_the_journal_begins_anew_after_labels_were_changed_otherwise(proofreading, qtbot):
    viewer, dock, layer, hand = proofreading()
    known, session = editable_review(layer), dock.controller.session

    def accept(cell):
        session.choose((0,), cell)
        hand.key("A")
        return known.journal

    first = accept(1)
    # Segment fills another plane; copying all labels at every step meanwhile would be too much.
    restore(layer, viewer.layers["picture"], (2,), layer.data[2].copy())
    assert accept(2) is first
    layer.n_edit_dimensions = 3
    layer.paint((1, 60, 60), 50)
    qtbot.wait(50)
    assert "Several planes were painted at once" in messages(dock)
    second = accept(3)
    assert second is not first
    qtbot.waitUntil(lambda: (second.folder / "about.json").exists() and not first.folder.exists(), timeout=LONG)
    second.close()
    Journal.mine.clear()
    assert [found.steps for found in unsaved()] == [1]
