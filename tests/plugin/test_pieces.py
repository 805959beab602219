"""Labels layers that hold classes or a mask, in docks that are about cells."""

import csv
import json

import numpy as np
import pytest
from discs import discs, errors
from hand import Hand, cells_in, middle

from napari_unet.plugin.layers.class_labels import class_colormap, class_features, holds_classes
from napari_unet.plugin.layers.reading import OURS
from napari_unet.plugin.layers.review_state import teaching

LONG = 60_000
CLASSES = ("background", "label 2", "label 5")


def two_classes():
    """Return a picture, the labels of its cells, and the same with each of them under 1 or 2."""
    image, labels = discs(seed=0)
    return image, labels, np.where(labels > 0, 1 + labels % 2, 0).astype(np.uint8)


def add_classes(viewer, classes, name="picture classes"):
    """Add classes as Segment does."""
    about = {"result": "classes", "painted_labels": (2, 5), "model": "two", "axes": "zyx"[-classes.ndim :]}
    return viewer.add_labels(
        classes.copy(),
        name=name,
        metadata={OURS: about},
        colormap=class_colormap((2, 5)),
        features=class_features(CLASSES),
    )


@pytest.fixture
def opened(docks, qtbot):
    """Return a function that opens a dock beside a picture."""

    def make(name, *layers):
        viewer, dock = docks(name, show=True)
        viewer.add_image(two_classes()[0], name="picture")
        for add in layers:
            add(viewer)
        qtbot.waitUntil(dock.view.isVisible, timeout=20_000)
        qtbot.wait(50)
        return viewer, dock

    return make


def words(dock, kind):
    return [text for k, text in dock.view.messages.lines() if k == kind]


def test_classes_are_not_deleted_as_if_they_were_a_cell(opened, press, qtbot):
    image, labels, classes = two_classes()
    viewer, dock = opened("Proofread", lambda viewer: add_classes(viewer, classes))
    layer = viewer.layers["picture classes"]
    assert dock.view.result.layer() is layer
    assert "holds classes, not cells" in dock.view.offer_words.text()
    assert dock.view.offer_words.isVisible()
    assert not dock.view.buttons["delete"].isEnabled()
    Hand(viewer, qtbot).click(*middle(labels, cells_in(labels)[0]))
    press(viewer, "D")
    dock.controller.act("delete")
    assert "Split it into connected components" in words(dock, "warning")[0]
    np.testing.assert_array_equal(layer.data, classes)


def test_their_components_become_cells_that_are_corrected_one_by_one(opened, click, qtbot):
    image, labels, classes = two_classes()
    viewer, dock = opened("Proofread", lambda viewer: add_classes(viewer, classes))
    layer = viewer.layers["picture classes"]
    layer.scale = (0.5, 0.5)
    assert dock.view.offer_button.text() == "Split into connected components"
    click(dock.view.offer_button)
    qtbot.waitUntil(lambda: "picture cells" in viewer.layers, timeout=LONG)
    made = viewer.layers["picture cells"]
    assert dock.view.result.layer() is made
    assert not dock.view.offer_words.isVisible()
    assert not layer.visible
    assert made.scale.tolist() == [0.5, 0.5]
    assert len(cells_in(made.data)) == len(cells_in(labels))
    for cell in cells_in(labels):
        assert len(np.unique(made.data[labels == cell])) == 1
    number = int(made.data[tuple(int(n) for n in middle(labels, 3))])
    kind = dict(zip(made.features["index"], made.features["class"], strict=True))[number]
    assert kind == f"painted as label {5 if 3 % 2 else 2}"
    dock.controller.session.choose((), number)
    click(dock.view.buttons["delete"])
    np.testing.assert_array_equal(made.data == 0, (labels == 0) | (labels == 3))
    np.testing.assert_array_equal(layer.data, classes)
    assert [len(cells) for cells in teaching(viewer.layers["picture"]).values()] == [1]


def test_labels_continue_through_a_stack_of_classes(docks, click, qtbot):
    _, labels, classes = two_classes()
    viewer, dock = docks("Proofread", show=True)
    add_classes(viewer, np.stack([classes, classes]))
    qtbot.waitUntil(dock.view.isVisible, timeout=20_000)
    click(dock.view.offer_button)
    qtbot.waitUntil(lambda: "picture cells" in viewer.layers, timeout=LONG)
    made = np.asarray(viewer.layers["picture cells"].data)
    count = len(cells_in(labels))
    assert cells_in(made[0]) == list(range(1, count + 1))
    assert cells_in(made[1]) == list(range(count + 1, 2 * count + 1))


def answer_classes(selector):
    """Answer the question of a dock as a user does."""
    assert selector.isVisible() and selector.combo.currentText() == "cells"
    selector.combo.setCurrentIndex(1)
    selector.combo.activated.emit(1)


def test_the_user_says_that_a_mask_holds_no_cells_and_every_dock_remembers_it(opened, click, qtbot):
    image, labels, _ = two_classes()
    viewer, dock = opened("Proofread", lambda viewer: viewer.add_labels((labels > 0).astype(np.uint8), name="mask"))
    assert dock.view.buttons["delete"].isEnabled()
    answer_classes(dock.view.labels_are)
    assert not dock.view.buttons["delete"].isEnabled()
    assert holds_classes(viewer.layers["mask"])
    click(dock.view.offer_button)
    qtbot.waitUntil(lambda: "mask cells" in viewer.layers, timeout=LONG)
    assert len(cells_in(viewer.layers["mask cells"].data)) == len(cells_in(labels))
    assert not dock.view.offer_words.isVisible()
    assert not dock.view.labels_are.isVisible()
    dock.view.result.choose(viewer.layers["mask"])
    assert dock.view.labels_are.combo.currentText() == "classes"
    dock.view.labels_are.combo.setCurrentIndex(0)
    dock.view.labels_are.combo.activated.emit(0)
    assert dock.view.buttons["delete"].isEnabled()


def test_cells_that_were_opened_are_taken_for_cells(opened, qtbot):
    image, labels, _ = two_classes()
    viewer, dock = opened("Proofread", lambda viewer: viewer.add_labels(labels, name="cells"))
    assert dock.view.labels_are.combo.currentText() == "cells"
    assert not dock.view.offer_words.isVisible()


def test_saved_classes_are_known_by_the_job_beside_them(make_napari_viewer, tmp_path):
    from tifffile import imwrite

    path = tmp_path / "classes.tif"
    imwrite(path, two_classes()[2])
    viewer = make_napari_viewer()
    for what, expected in (("classes", True), ("instances", False)):
        (tmp_path / "classes.tif.job.json").write_text(json.dumps({"settings": {"what": what}}))
        (layer,) = viewer.open(path, layer_type="labels", plugin="napari")
        assert holds_classes(layer) is expected
    (tmp_path / "classes.tif.job.json").write_text("[]")
    assert not holds_classes(viewer.open(path, layer_type="labels", plugin="napari")[0])


def measured(dock, qtbot):
    qtbot.waitUntil(lambda: not dock.view._busy, timeout=LONG)
    assert not errors(dock.view)


def test_measuring_classes_says_what_a_row_is_and_offers_a_row_per_cell(opened, click, qtbot, tmp_path, answer):
    image, labels, classes = two_classes()
    viewer, dock = opened("Measure and compare", lambda viewer: add_classes(viewer, classes))
    assert dock.view.split_button.isVisible()
    click(dock.view.measure_button)
    measured(dock, qtbot)
    assert len(viewer.layers["picture classes"].features) == 2
    (said,) = words(dock, "warning")
    assert dock.view.summary.text().startswith("2 classes, median area")
    assert said.startswith("picture classes holds classes, not cells. Each row is one class.")
    click(dock.view.split_button)
    qtbot.waitUntil(lambda: "picture cells" in viewer.layers, timeout=LONG)
    assert dock.view.cells.layer() is viewer.layers["picture cells"]
    for _ in range(2):
        click(dock.view.measure_button)
        measured(dock, qtbot)
    assert not words(dock, "warning")
    assert dock.view.summary.text().startswith(f"{len(cells_in(labels))} cells, median area")
    assert not dock.view.split_button.isVisible()
    features = viewer.layers["picture cells"].features
    assert len(features) == len(cells_in(labels))
    areas = {kind: int(part["area_px²"].sum()) for kind, part in features.groupby("class")}
    assert areas == {"painted as label 2": int((classes == 1).sum()), "painted as label 5": int((classes == 2).sum())}
    answer(tmp_path / "cells")
    click(dock.view.csv_button)
    qtbot.waitUntil(lambda: any("Saved" in text for text in words(dock, "done")), timeout=LONG)
    with open(tmp_path / "cells.csv", encoding="utf-8-sig", newline="") as file:
        assert {row["class"] for row in csv.DictReader(file)} == set(areas)


def test_a_ground_truth_of_classes_is_reported_and_its_components_compare_well(opened, click, qtbot, tmp_path, answer):
    image, labels, classes = two_classes()
    paint = np.where(classes > 0, classes + 1, 0)
    paint[:6], paint[:6][labels[:6] > 0] = 1, 0

    def add(viewer):
        viewer.add_labels(labels.copy(), name="cells", metadata={OURS: {"result": "instances"}})
        viewer.add_labels(paint, name="painted", metadata={OURS: {"background_label": 1}})

    viewer, dock = opened("Measure and compare", add)
    assert dock.view.truth.layer() is viewer.layers["painted"]
    assert not dock.view.split_button.isVisible()
    answer_classes(dock.view.truth_is)
    assert dock.view.split_button.isVisible()
    click(dock.view.compare_button)
    measured(dock, qtbot)
    said = words(dock, "warning")[0]
    assert said.startswith("painted holds classes, not cells. F1, AP and SEG count each class as one cell")
    answer(tmp_path / "report")
    click(dock.view.report_button)
    qtbot.waitUntil(lambda: (tmp_path / "report.html").exists(), timeout=LONG)
    assert "painted holds classes, not cells." in (tmp_path / "report.html").read_text(encoding="utf-8")

    click(dock.view.split_button)
    qtbot.waitUntil(lambda: "painted cells" in viewer.layers, timeout=LONG)
    truth = viewer.layers["painted cells"]
    assert (dock.view.cells.layer(), dock.view.truth.layer()) == (viewer.layers["cells"], truth)
    assert dock.view.extent.currentData() == "sparse"
    np.testing.assert_array_equal(np.asarray(truth.data) == 1, paint == 1)
    click(dock.view.compare_button)
    measured(dock, qtbot)
    assert f"{len(cells_in(labels))} true cells" in dock.view.scores.text()
    assert words(dock, "done") == ["Every cell was found, and nothing else."]
    assert not words(dock, "warning")


def test_background_that_was_painted_is_not_measured_as_a_cell(opened, click, qtbot):
    image, labels, _ = two_classes()
    paint = np.where(labels > 0, labels + 1, 0)
    paint[-4:][labels[-4:] == 0] = 1
    about = {OURS: {"background_label": 1}}
    viewer, dock = opened("Measure and compare", lambda viewer: viewer.add_labels(paint, name="mine", metadata=about))
    dock.view.cells.choose(viewer.layers["mine"])
    click(dock.view.measure_button)
    measured(dock, qtbot)
    assert viewer.layers["mine"].features["index"].tolist() == [cell + 1 for cell in cells_in(labels)]
    assert not words(dock, "warning")
