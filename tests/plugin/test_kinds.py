"""Kinds of cell rather than cells: they keep the colours they are painted in, and the docks speak of kinds."""

import json
from pathlib import Path

import numpy as np
import pytest
from discs import discs

from napari_unet.core.settings import TrainingSettings
from napari_unet.plugin.layers.class_labels import class_colormap, class_features, painted_labels
from napari_unet.plugin.layers.painted import annotation_colours, new_annotation
from napari_unet.plugin.layers.preview import is_preview, show_preview
from napari_unet.plugin.layers.result import new_result
from napari_unet.plugin.segment.batch_view import BatchView
from napari_unet.plugin.segment.view import SegmentView
from napari_unet.plugin.train.accept import accept_cell
from napari_unet.plugin.train.view import TrainView

CLASSES = ("background", "label 2", "label 5")


@pytest.fixture
def painted(make_napari_viewer):
    """Return a viewer with an image and an annotation of it."""
    viewer = make_napari_viewer()
    image = viewer.add_image(np.zeros((40, 60), np.float32), name="picture")
    return viewer, image, new_annotation(viewer, image, "yx")


@pytest.fixture
def two_kinds(disc_model, tmp_path):
    """Return the card of a model of two kinds, without the model."""
    card = json.loads((Path(disc_model) / "model.json").read_text())
    card.update(classes=CLASSES, mode="classes")
    (tmp_path / "model.json").write_text(json.dumps(card))
    return str(tmp_path)


def test_a_kind_is_known_by_the_label_it_was_painted_with():
    assert painted_labels(CLASSES) == (2, 5)
    assert painted_labels(("background", "cell", "label of mine")) == (2, 3)
    assert class_features(CLASSES) == {"index": [1, 2], "class": ["painted as label 2", "painted as label 5"]}


def test_a_kind_keeps_its_colour():
    shown, drawn = class_colormap((2, 5)), annotation_colours()
    for kind, label in ((1, 2), (2, 5)):
        np.testing.assert_allclose(shown.map(kind), drawn.map(label))
    assert shown.map(0)[3] == 0


def test_the_result_shows_kinds_as_they_were_painted_and_names_them(painted, two_kinds):
    viewer, image, annotation = painted
    layer = new_result(viewer, image, "yx", "classes", two_kinds).layer()
    for kind, label in ((1, 2), (2, 5)):
        np.testing.assert_allclose(layer.get_color(kind), annotation.get_color(label))
    layer.data[5, 5] = 2
    layer.visible = True
    assert "painted as label 5" in layer.get_status((5, 5), world=True)["coordinates"]


def test_the_preview_shows_kinds_in_their_colours_and_cells_in_others_again(painted):
    viewer, image, annotation = painted
    labels = np.ones((20, 20), np.int32)
    show_preview(viewer, image, "yx", (), (0, 20, 0, 20), labels)
    preview = next(layer for layer in viewer.layers if is_preview(layer))
    cells = preview.get_color(1)
    show_preview(viewer, image, "yx", (), (0, 20, 0, 20), labels, (5,))
    np.testing.assert_allclose(preview.get_color(1), annotation.get_color(5))
    show_preview(viewer, image, "yx", (), (0, 20, 0, 20), labels)
    np.testing.assert_allclose(preview.get_color(1), cells)


def test_a_cell_that_is_taken_over_keeps_its_kind_and_comes_alone(painted):
    viewer, image, annotation = painted
    labels = np.zeros((20, 30), np.int32)
    labels[2:8, 2:8] = labels[2:8, 12:18] = 2
    labels[12:18, 2:8] = 1
    show_preview(viewer, image, "yx", (), (10, 30, 20, 50), labels, (2, 5))
    viewer.cursor.position = (14, 34)
    assert accept_cell(viewer, annotation, "yx") == 5
    assert (annotation.data[12:18, 32:38] == 5).all()
    assert np.count_nonzero(annotation.data) == 36


def test_the_dock_speaks_of_kinds_while_labels_are_kinds(docks, qtbot):
    viewer, dock = docks("Annotate and train")
    view = dock.view
    viewer.add_image(discs()[0], name="picture")
    view.new_button.click()
    layer = view.annotation.layer()
    layer.data[:20, :20], layer.data[20:40, :20] = 2, 3
    dock.controller.annotating.touch()
    qtbot.waitUntil(lambda: view.tabs.tabText(1) == "Training data (2)")
    assert view.next_button.text() == "Next cell (N)"
    view.simple.show_values({"mode": "classes"})
    assert view.next_button.text() == "Next kind (N)"
    assert "kinds" in view.hint.text()
    qtbot.waitUntil(lambda: view.tabs.tabText(1) == "Training data")
    assert view.takes_part.list.item(0).text() == "picture annotation\n1 plane"
    view.simple.show_values({"mode": TrainingSettings().mode})
    assert view.next_button.text() == "Next cell (N)"
    assert "cells" in view.hint.text()


@pytest.mark.parametrize("words", ["Make a New annotation", "All labels are kinds"])
def test_the_legend_says_what_there_is(qtbot, words):
    view = TrainView()
    qtbot.addWidget(view)
    view.simple.show_values({"mode": "classes"})
    view.set_annotating(words.startswith("All"), 0)
    assert words in view.hint.text()


@pytest.mark.parametrize("kind", [SegmentView, BatchView])
def test_what_does_not_follow_the_sliders_has_none(qtbot, kind):
    view = kind()
    qtbot.addWidget(view)
    for what, follows in (("instances", True), ("classes", False), ("probabilities", False), ("instances", True)):
        view.show_values({"what": what})
        assert (view.threshold.isEnabled(), view.smallest.isEnabled()) == (follows, follows)
    view.show_values({"what": "classes"})
    view.set_busy(True)
    view.set_busy(False)
    assert not view.threshold.isEnabled()
