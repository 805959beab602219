"""Docks without a mouse."""

import numpy as np
import pytest
from discs import discs, errors, make_small
from hand import cells_in
from qtpy.QtCore import Qt
from qtpy.QtGui import QImage
from qtpy.QtWidgets import QApplication, QComboBox, QPushButton, QWidget

from napari_unet.core.distribution import PLUGIN
from napari_unet.plugin.widgets.focus import is_in_front, keyboard_style

LONG = 60_000
TRAIN = "Annotate and train"
CTRL, SHIFT = Qt.KeyboardModifier.ControlModifier, Qt.KeyboardModifier.ShiftModifier


@pytest.fixture
def type_key(qtbot):
    """Return a function that presses a key in a viewer's active window, wherever its keyboard is."""

    def type_key(viewer, key, modifiers=Qt.KeyboardModifier.NoModifier):
        window = viewer.window._qt_window
        window.activateWindow()
        qtbot.waitUntil(window.isActiveWindow)
        qtbot.keyClick(QApplication.focusWidget() or window, key, modifiers)

    return type_key


def stops(first, number=3000):
    """Return the widgets that the Tab key leads through from a first one on, until it is back."""
    found, widget = [], first
    for _ in range(number):
        widget = widget.nextInFocusChain()
        if widget is first:
            break
        if widget.focusPolicy() & Qt.FocusPolicy.TabFocus and widget.isVisible() and widget.isEnabled():
            found.append(widget)
    return found


def test_the_loop_goes_by_keys_alone(docks, qtbot, disc_model, type_key, engine_at_once):
    """Segment, accept and delete cells, train on them, go on: no mouse, and the keyboard in the picture throughout."""
    viewer, train, segment = docks(TRAIN, "Segment", show=True)
    viewer.add_image(discs()[0], name="picture")
    make_small(train.view, seconds=3.0, start=disc_model)
    segment.view.model.choose(disc_model)
    viewer.window._qt_viewer.canvas.native.setFocus()
    qtbot.waitUntil(lambda: is_in_front(segment.view) and not is_in_front(train.view))

    type_key(viewer, Qt.Key.Key_Return, CTRL)
    qtbot.waitUntil(lambda: "picture cells" in viewer.layers and segment.controller.job is None, timeout=LONG)
    assert train.controller.job is None
    result = viewer.layers["picture cells"]
    before = cells_in(result.data)
    _, proof = viewer.window.add_plugin_dock_widget(PLUGIN, "Proofread")
    assert proof.view.result.layer() is result
    qtbot.waitUntil(lambda: is_in_front(proof.view) and not is_in_front(segment.view))
    # It comes to the front in a later turn than that in which it takes its place.
    qtbot.wait(100)
    canvas = viewer.window._qt_viewer.canvas.native
    for key in (Qt.Key.Key_N, Qt.Key.Key_A, Qt.Key.Key_N, Qt.Key.Key_A, Qt.Key.Key_N, Qt.Key.Key_D):
        qtbot.keyClick(canvas, key)
    qtbot.waitUntil(lambda: "2 accepted" in proof.view.counts.text() and "1 deleted" in proof.view.counts.text())
    assert len(cells_in(result.data)) == len(before) - 1

    frame = next(iter(parents(train, "QtViewerDockWidget")))
    frame.raise_()
    qtbot.waitUntil(lambda: is_in_front(train.view) and not is_in_front(proof.view))
    type_key(viewer, Qt.Key.Key_Enter, CTRL)
    qtbot.waitUntil(lambda: train.view.busy)
    qtbot.waitUntil(lambda: train.controller.job is None and not train.view.busy, timeout=LONG)
    assert not errors(train.view)
    first = train.controller.rounds.run
    assert first is not None
    steps = len(train.view.plot.training.x)
    type_key(viewer, Qt.Key.Key_Return, CTRL | SHIFT)
    qtbot.waitUntil(lambda: train.view.busy)
    # The same key ends it.
    qtbot.waitUntil(lambda: len(train.view.plot.training.x) > steps, timeout=LONG)
    type_key(viewer, Qt.Key.Key_Return, CTRL)
    qtbot.waitUntil(lambda: train.controller.job is None and not train.view.busy, timeout=LONG)
    assert train.controller.rounds.run != first


def parents(widget, kind):
    while widget is not None:
        if type(widget).__name__ == kind:
            yield widget
        widget = widget.parent()


def test_the_tab_key_leads_through_what_can_be_seen_from_top_to_bottom(docks, click, qtbot):
    viewer, dock = docks(TRAIN, show=True)
    viewer.add_image(discs()[0], name="picture")
    click(dock.view.new_button)
    qtbot.wait(50)
    view = dock.view
    order = [w for w in stops(view) if view.isAncestorOf(w)]
    assert not [w for w in order if view.advanced.isAncestorOf(w) or view.network.isAncestorOf(w)]
    expected = [
        view.images.image, view.annotation, view.new_button, view.background_button, view.next_button,
        view.region_button, view.start, view.train_button, view.live_box, view.preview_box, view.tabs.tabBar(),
    ]  # fmt: skip
    assert [w for w in order if w in expected] == expected
    assert all(w.visibleRegion().boundingRect().height() > 5 for w in order if isinstance(w, (QPushButton, QComboBox)))
    view.fold.expand()
    qtbot.wait(50)
    assert [w for w in stops(view) if view.advanced.isAncestorOf(w)]


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_what_the_keyboard_acts_on_can_be_seen(docks, qtbot, theme):
    viewer, dock = docks(TRAIN, show=True)
    viewer.theme = theme
    view = dock.view
    assert view.styleSheet() == keyboard_style(theme)
    viewer.window._qt_window.activateWindow()
    qtbot.waitUntil(viewer.window._qt_window.isActiveWindow)
    for widget in (view.train_button, view.start, view.live_box):
        QWidget.setFocus(view.new_button)
        without = pixels(widget)
        widget.setFocus(Qt.FocusReason.TabFocusReason)
        qtbot.wait(20)
        assert (pixels(widget) != without).any(axis=-1).sum() > widget.width()


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_tabs_have_a_frame_only_where_the_keyboard_is(docks, qtbot, theme):
    viewer, dock = docks(TRAIN, show=True)
    viewer.theme = theme
    viewer.window._qt_window.activateWindow()
    qtbot.waitUntil(viewer.window._qt_window.isActiveWindow)
    view, bar = dock.view, dock.view.tabs.tabBar()
    viewer.add_image(discs()[0])
    view.train_button.setFocus()
    qtbot.wait(20)
    framed = pixels(bar)
    view.setStyleSheet("")
    qtbot.wait(20)
    assert (pixels(bar) == framed).all()
    view.setStyleSheet(keyboard_style(theme))
    bar.setFocus(Qt.FocusReason.TabFocusReason)
    qtbot.wait(20)
    assert (pixels(bar) != framed).any(axis=-1).sum() > bar.tabRect(0).width()


def pixels(widget):
    """Return what a widget looks like, (Y, X, 4)."""
    image = widget.grab().toImage().convertToFormat(QImage.Format.Format_ARGB32)
    bits = image.constBits()
    if hasattr(bits, "setsize"):
        bits.setsize(image.sizeInBytes())
    return np.frombuffer(bits, np.uint8).reshape(image.height(), image.bytesPerLine() // 4, 4).copy()
