"""The tabs of docks that lie behind each other can be told apart, by eye and by keyboard."""

import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QTabBar

DOCKS = {
    "Annotate and train": "Train",
    "Segment": "Segment",
    "Proofread": "Proofread",
    "Measure and compare": "Measure",
    "Models": "Models",
    "Segment many files": "Many files",
}


def frame_of(dock):
    return dock.parent()


def bar_of(window):
    """Return the tab bar of a viewer's window, or None while there is none."""
    bars = window.findChildren(QTabBar, options=Qt.FindChildOption.FindDirectChildrenOnly)
    return next((bar for bar in bars if bar.count()), None)


def names(window):
    bar = bar_of(window)
    return [bar.tabText(i) for i in range(bar.count())] if bar is not None else []


def tips(window):
    bar = bar_of(window)
    return [bar.tabToolTip(i) for i in range(bar.count())] if bar is not None else []


@pytest.fixture
def opened(docks, qtbot):
    """Return a function that opens docks in a window of 1280 x 800, and waits for their tabs."""

    def make(*wanted):
        viewer, *made = docks(*wanted, show=True)
        window = viewer.window._qt_window
        window.resize(1280, 800)
        qtbot.waitUntil(
            lambda: tips(window) == [f"{name} (napari-interactive-unet)" for name in wanted], timeout=20_000
        )
        return viewer, window, made

    return make


@pytest.mark.parametrize("count", [3, 6])
def test_no_name_on_a_tab_is_cut_off(opened, count):
    wanted = list(DOCKS)[:count]
    _, window, _ = opened(*wanted)
    assert names(window) == [DOCKS[name] for name in wanted]
    bar = bar_of(window)
    assert bar.elideMode() == Qt.TextElideMode.ElideNone
    assert bar.usesScrollButtons()
    for index, name in enumerate(names(window)):
        assert bar.tabRect(index).width() > bar.fontMetrics().horizontalAdvance(name)
    # The one in front is within the bar, though the bar may be scrolled.
    assert bar.rect().contains(bar.tabRect(bar.currentIndex()))


def test_five_docks_fit_beside_each_other_without_scrolling(opened):
    _, window, _ = opened(*list(DOCKS)[:5])
    bar = bar_of(window)
    assert bar.tabRect(0).left() == 0
    assert bar.tabRect(4).right() < bar.width()


def test_the_whole_name_stays_above_the_dock_and_in_menus(opened):
    _, _, made = opened("Annotate and train", "Measure and compare")
    frame = frame_of(made[0])
    assert frame.name == "Annotate and train (napari-interactive-unet)"
    assert frame.toggleViewAction().text() == "Annotate and train (napari-interactive-unet)"


def test_a_dock_that_was_hidden_or_moved_has_its_name_and_tip_again(opened, qtbot):
    _, window, made = opened("Segment", "Proofread", "Measure and compare")
    whole = tips(window)
    frames = [frame_of(dock) for dock in made]
    frames[2].hide()
    qtbot.waitUntil(lambda: names(window) == ["Segment", "Proofread"])
    frames[2].show()
    qtbot.waitUntil(lambda: tips(window) == whole)
    for frame in frames:
        window.removeDockWidget(frame)
    for frame in frames:
        window.addDockWidget(Qt.DockWidgetArea.LeftDockWidgetArea, frame)
        frame.show()
    window.tabifyDockWidget(frames[1], frames[2])
    qtbot.waitUntil(lambda: tips(window) == whole[1:])
    assert bar_of(window).elideMode() == Qt.TextElideMode.ElideNone


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_arrows_change_the_dock_and_a_frame_shows_where_the_keyboard_is(opened, qtbot, theme):
    viewer, window, made = opened("Segment", "Proofread")
    viewer.theme = theme
    bar, frame = bar_of(window), {"dark": "#b3c4ff", "light": "#1b2a80"}[theme]
    window.activateWindow()
    qtbot.waitUntil(lambda: frame in bar.styleSheet() and window.isActiveWindow())
    bar.setFocus(Qt.FocusReason.TabFocusReason)
    qtbot.waitUntil(bar.hasFocus)
    qtbot.keyClick(bar, Qt.Key.Key_Left)
    qtbot.waitUntil(lambda: bar.tabText(bar.currentIndex()) == "Segment")
    qtbot.waitUntil(lambda: made[1].visibleRegion().isEmpty() and not made[0].visibleRegion().isEmpty())
    assert QApplication.focusWidget() is bar
    picture = bar.grab().toImage()
    tab = bar.tabRect(0)
    row = [picture.pixelColor(x, tab.center().y()).name() for x in range(tab.left(), tab.left() + 6)]
    assert frame in row
