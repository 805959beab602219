"""The docks at 1280 x 800 pixels: nothing has to be scrolled, beside the tab bar of a second dock."""

import numpy as np
import pytest
from discs import discs
from qtpy.QtGui import QTextDocument
from qtpy.QtWidgets import QScrollArea, QStyleOptionViewItem

from napari_unet.plugin.layers.reading import OURS
from napari_unet.plugin.models.registry import ModelRegistry
from napari_unet.plugin.train.sources_list import SourceRow, TakesPart
from napari_unet.plugin.widgets.common import Messages, breakable

LONG = 60_000


@pytest.fixture
def opened(docks, qtbot, engine_at_once):
    """Return a function that opens a dock beside a second one on a small screen, and one that checks its room."""

    def make(name):
        viewer, _, dock = docks("Segment", name, show=True)
        viewer.window._qt_window.resize(1280, 800)
        qtbot.waitUntil(lambda: dock.view.isVisible() and dock.use.engine.state == "ready", timeout=LONG)
        return viewer, dock

    def fits(dock):
        bar = dock.findChild(QScrollArea).verticalScrollBar()
        qtbot.waitUntil(lambda: bar.maximum() == 0, timeout=5000)
        assert dock.view.minimumSizeHint().width() <= 330

    return make, fits


def test_measure_and_compare_fits_with_scores_curve_list_and_words(opened, click, qtbot):
    make, fits = opened
    viewer, dock = make("Measure and compare")
    fits(dock)
    image, labels = (np.stack([part] * 3) for part in discs())
    for name in ("dna", "actin"):
        viewer.add_image(image, name=name, scale=(2, 0.5, 0.5))
    cells = viewer.add_labels(
        labels.copy(), name="cells", scale=(2, 0.5, 0.5), metadata={OURS: {"result": "instances"}}
    )
    viewer.add_labels(labels, name="truth", scale=(2, 0.5, 0.5))
    cells.data[0] = 0
    for button in (dock.view.measure_button, dock.view.compare_button):
        click(button)
        qtbot.waitUntil(lambda: not dock.view._busy, timeout=LONG)
        fits(dock)
    assert dock.view.worst.isVisible() and dock.view.plot.isVisible()
    assert dock.view.worst.viewport().height() >= 4 * dock.view.worst.sizeHintForRow(0)
    assert dock.view.messages.lines()


def test_models_fit_with_facts_and_words(opened, click, qtbot, disc_model):
    make, fits = opened
    ModelRegistry.shared().save(disc_model, "discs")
    viewer, dock = make("Models")
    fits(dock)
    dock.view.list.setCurrentRow(2)
    click(dock.view.duplicate_button)
    qtbot.waitUntil(lambda: not dock.view._busy and dock.view.name() == "discs copy", timeout=LONG)
    dock.view.set_busy("exporting and checking")
    fits(dock)
    dock.view.set_busy("")
    dock.view.fold.expand()
    fits(dock)


@pytest.mark.parametrize("name", ["Segment many files", "Proofread"])
def test_the_other_docks_fit_when_they_are_opened(opened, name):
    make, fits = opened
    viewer, dock = make(name)
    image, labels = discs()
    viewer.add_image(image, name="dna")
    viewer.add_labels(labels, name="cells", metadata={OURS: {"result": "instances"}})
    fits(dock)
    assert dock.view.sizeHint().height() <= 800


def test_the_train_dock_fits_with_each_tab_and_while_it_trains(docks, click, qtbot, opened):
    _, fits = opened
    viewer, dock = docks("Annotate and train", show=True)
    viewer.window._qt_window.resize(1280, 800)
    viewer.add_image(discs()[0], name="picture")
    view = dock.view
    qtbot.waitUntil(lambda: view.isVisible() and dock.use.engine.state == "ready", timeout=LONG)
    click(view.new_button)
    view.set_continuable(True)
    view.set_model_ready(True)
    view.messages.say("Trained to step 3 in 12 s. The Segment dock offers it as Just trained.", "done")
    for tab in range(view.tabs.count()):
        view.tabs.setCurrentIndex(tab)
        qtbot.wait(50)
        fits(dock)
    view.set_busy(True)
    view.messages.clear_messages()
    for words in (
        "Training starts from the model transmitted; no other does clearly better on the labels.",
        "Images are seen at 0.91 of their size, so that cells are about 36 px wide.",
        "Held out for validation: 1 of 12 cells, in a part of picture annotation.",
    ):
        view.messages.say(words)
    view.progress.advance(0.4, "step 3")
    qtbot.wait(50)
    fits(dock)


def test_names_as_long_as_those_of_public_data_are_shortened_or_broken_but_not_cut(qtbot):
    long = f"{'04acab7636c4cf61' * 4} annotation"
    shown = TakesPart()
    qtbot.addWidget(shown)
    shown.resize(300, 200)
    shown.show()
    shown.show_lines([SourceRow(long, "6 cells, 1 plane", "Painted on a & b.", True, 6)])
    qtbot.wait(20)
    option = QStyleOptionViewItem()
    shown.list.itemDelegate().initStyleOption(option, shown.list.model().index(0, 0))
    first, second = option.text.splitlines()
    assert first.startswith("04acab") and "…" in first and first.endswith("annotation") and second == "6 cells, 1 plane"
    assert shown.list.horizontalScrollBar().maximum() == 0
    assert "a &amp; b" in shown.list.item(0).toolTip()

    words = Messages()
    qtbot.addWidget(words)
    words.say(f"Held out for validation: 1 of 6 cells, in a part of {long}.")
    assert words.lines() == [("note", f"Held out for validation: 1 of 6 cells, in a part of {long}.")]
    page = QTextDocument()
    page.setHtml(words.text())
    page.setTextWidth(298)
    assert page.idealWidth() <= 298

    # What is copied stays as it is.
    path = f"/data/{'04acab7636c4cf61' * 4}/cells.model"
    assert breakable(f"Saved in {path}.") == f"Saved in {path}."
