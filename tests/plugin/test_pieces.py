"""Labels whose numbers are kinds of cell, or a mask, in docks that are about cells."""

import csv
import json

import numpy as np
import pytest
from discs import discs, errors
from hand import Hand, cells_in, middle

from napari_unet.plugin.layers.class_colours import kind_colours, kind_names
from napari_unet.plugin.layers.class_labels import holds_kinds
from napari_unet.plugin.layers.reading import OURS
from napari_unet.plugin.layers.review_state import teaching

LONG = 60_000
CLASSES = ("background", "label 2", "label 5")


def two_kinds():
    """Return a picture, the labels of its cells, and the same with each of them under 1 or 2."""
    image, labels = discs(seed=0)
    return image, labels, np.where(labels > 0, 1 + labels % 2, 0).astype(np.uint8)


def add_kinds(viewer, kinds, name="picture kinds"):
    """Add kinds as Segment does."""
    about = {"result": "classes", "kinds": (2, 5), "model": "two", "axes": "zyx"[-kinds.ndim :]}
    return viewer.add_labels(
        kinds.copy(), name=name, metadata={OURS: about}, colormap=kind_colours((2, 5)), features=kind_names(CLASSES)
    )


@pytest.fixture
def opened(docks, qtbot):
    """Return a function that opens a dock beside a picture."""

    def make(name, *layers):
        viewer, dock = docks(name, show=True)
        viewer.add_image(two_kinds()[0], name="picture")
        for add in layers:
            add(viewer)
        qtbot.waitUntil(dock.view.isVisible, timeout=20_000)
        qtbot.wait(50)
        return viewer, dock

    return make


def words(dock, kind):
    return [text for k, text in dock.view.messages.lines() if k == kind]


def test_kinds_are_not_deleted_as_if_they_were_a_cell(opened, press, qtbot):
    image, labels, kinds = two_kinds()
    viewer, dock = opened("Proofread", lambda viewer: add_kinds(viewer, kinds))
    layer = viewer.layers["picture kinds"]
    assert dock.view.result.layer() is layer
    assert "holds kinds of cell, not cells" in dock.view.part_words.text()
    assert dock.view.part_words.isVisible()
    assert not dock.view.buttons["delete"].isEnabled()
    Hand(viewer, qtbot).click(*middle(labels, cells_in(labels)[0]))
    press(viewer, "D")
    dock.controller.act("delete")
    assert "Make cells of its pieces" in words(dock, "warning")[0]
    np.testing.assert_array_equal(layer.data, kinds)


def test_their_pieces_are_made_cells_which_are_corrected_one_by_one(opened, click, qtbot):
    image, labels, kinds = two_kinds()
    viewer, dock = opened("Proofread", lambda viewer: add_kinds(viewer, kinds))
    layer = viewer.layers["picture kinds"]
    layer.scale = (0.5, 0.5)
    assert dock.view.part_button.text() == "Make cells of the pieces"
    click(dock.view.part_button)
    qtbot.waitUntil(lambda: "picture cells" in viewer.layers, timeout=LONG)
    made = viewer.layers["picture cells"]
    assert dock.view.result.layer() is made
    assert not dock.view.part_words.isVisible()
    assert not layer.visible
    assert made.scale.tolist() == [0.5, 0.5]
    assert len(cells_in(made.data)) == len(cells_in(labels))
    for cell in cells_in(labels):
        assert len(np.unique(made.data[labels == cell])) == 1
    number = int(made.data[tuple(int(n) for n in middle(labels, 3))])
    kind = dict(zip(made.features["index"], made.features["kind"], strict=True))[number]
    assert kind == f"painted as label {5 if 3 % 2 else 2}"
    dock.controller.session.choose((), number)
    click(dock.view.buttons["delete"])
    np.testing.assert_array_equal(made.data == 0, (labels == 0) | (labels == 3))
    np.testing.assert_array_equal(layer.data, kinds)
    assert [len(cells) for cells in teaching(viewer.layers["picture"]).values()] == [1]


def test_numbers_go_on_through_a_stack_of_kinds(docks, click, qtbot):
    _, labels, kinds = two_kinds()
    viewer, dock = docks("Proofread", show=True)
    add_kinds(viewer, np.stack([kinds, kinds]))
    qtbot.waitUntil(dock.view.isVisible, timeout=20_000)
    click(dock.view.part_button)
    qtbot.waitUntil(lambda: "picture cells" in viewer.layers, timeout=LONG)
    made = np.asarray(viewer.layers["picture cells"].data)
    count = len(cells_in(labels))
    assert cells_in(made[0]) == list(range(1, count + 1))
    assert cells_in(made[1]) == list(range(count + 1, 2 * count + 1))


def test_a_mask_that_was_opened_is_told_from_cells_by_its_pieces(opened, click, qtbot):
    image, labels, _ = two_kinds()
    viewer, dock = opened("Proofread", lambda viewer: viewer.add_labels((labels > 0).astype(np.uint8), name="mask"))
    qtbot.waitUntil(lambda: dock.view.part_words.isVisible(), timeout=LONG)
    assert f"mask has {len(cells_in(labels))} separate pieces under one number" in dock.view.part_words.text()
    # Only likely: what the user does all the same is done, and can be undone.
    assert dock.view.buttons["delete"].isEnabled()
    click(dock.view.part_button)
    qtbot.waitUntil(lambda: "mask cells" in viewer.layers, timeout=LONG)
    assert len(cells_in(viewer.layers["mask cells"].data)) == len(cells_in(labels))
    assert not dock.view.part_words.isVisible()


def test_cells_that_were_opened_are_taken_for_cells(opened, qtbot):
    image, labels, _ = two_kinds()
    viewer, dock = opened("Proofread", lambda viewer: viewer.add_labels(labels, name="cells"))
    qtbot.waitUntil(lambda: dock.controller.session.proof.places.knows(()), timeout=LONG)
    qtbot.wait(300)
    assert not dock.view.part_words.isVisible()


def test_kinds_that_were_saved_are_known_by_the_job_beside_them(make_napari_viewer, tmp_path):
    from tifffile import imwrite

    path = tmp_path / "kinds.tif"
    imwrite(path, two_kinds()[2])
    viewer = make_napari_viewer()
    for what, expected in (("classes", True), ("instances", False)):
        (tmp_path / "kinds.tif.job.json").write_text(json.dumps({"settings": {"what": what}}))
        (layer,) = viewer.open(path, layer_type="labels", plugin="napari")
        assert holds_kinds(layer) is expected
    (tmp_path / "kinds.tif.job.json").write_text("[]")
    assert not holds_kinds(layer)


def measured(dock, qtbot):
    qtbot.waitUntil(lambda: not dock.view._busy, timeout=LONG)
    assert not errors(dock.view)


def test_measuring_kinds_says_what_a_row_is_and_offers_a_row_per_cell(opened, click, qtbot, tmp_path, answer):
    image, labels, kinds = two_kinds()
    viewer, dock = opened("Measure and compare", lambda viewer: add_kinds(viewer, kinds))
    assert not dock.view.pieces_button.isVisible()
    click(dock.view.measure_button)
    measured(dock, qtbot)
    assert len(viewer.layers["picture kinds"].features) == 2
    (said,) = words(dock, "warning")
    assert dock.view.summary.text().startswith("2 kinds, median area")
    assert said.startswith("picture kinds holds kinds of cell, not cells. Each row is everything under one number.")
    click(dock.view.pieces_button)
    qtbot.waitUntil(lambda: "picture cells" in viewer.layers, timeout=LONG)
    assert dock.view.cells.layer() is viewer.layers["picture cells"]
    for _ in range(2):
        click(dock.view.measure_button)
        measured(dock, qtbot)
    assert not words(dock, "warning")
    assert dock.view.summary.text().startswith(f"{len(cells_in(labels))} cells, median area")
    assert not dock.view.pieces_button.isVisible()
    features = viewer.layers["picture cells"].features
    assert len(features) == len(cells_in(labels))
    areas = {kind: int(part["area_px²"].sum()) for kind, part in features.groupby("kind")}
    assert areas == {"painted as label 2": int((kinds == 1).sum()), "painted as label 5": int((kinds == 2).sum())}
    answer(tmp_path / "cells")
    click(dock.view.csv_button)
    qtbot.waitUntil(lambda: any("Saved" in text for text in words(dock, "done")), timeout=LONG)
    with open(tmp_path / "cells.csv", encoding="utf-8-sig", newline="") as file:
        assert {row["kind"] for row in csv.DictReader(file)} == set(areas)


def test_an_annotation_of_kinds_as_truth_is_told_and_its_pieces_compare_well(opened, click, qtbot, tmp_path, answer):
    image, labels, kinds = two_kinds()
    paint = np.where(kinds > 0, kinds + 1, 0)
    paint[:6], paint[:6][labels[:6] > 0] = 1, 0

    def add(viewer):
        viewer.add_labels(labels.copy(), name="cells", metadata={OURS: {"result": "instances"}})
        viewer.add_labels(paint, name="painted", metadata={OURS: {"background_label": 1}})

    viewer, dock = opened("Measure and compare", add)
    assert dock.view.truth.layer() is viewer.layers["painted"]
    click(dock.view.compare_button)
    measured(dock, qtbot)
    said = words(dock, "warning")[0]
    assert said.startswith("painted has ")
    assert "separate pieces under 2 numbers, as a mask or kinds of cell have." in said
    assert "F1, AP and SEG take everything under one number for one cell" in said
    answer(tmp_path / "report")
    click(dock.view.report_button)
    qtbot.waitUntil(lambda: (tmp_path / "report.html").exists(), timeout=LONG)
    assert "separate pieces under 2 numbers" in (tmp_path / "report.html").read_text(encoding="utf-8")

    click(dock.view.pieces_button)
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
    image, labels, _ = two_kinds()
    paint = np.where(labels > 0, labels + 1, 0)
    paint[-4:][labels[-4:] == 0] = 1
    about = {OURS: {"background_label": 1}}
    viewer, dock = opened("Measure and compare", lambda viewer: viewer.add_labels(paint, name="mine", metadata=about))
    dock.view.cells.choose(viewer.layers["mine"])
    click(dock.view.measure_button)
    measured(dock, qtbot)
    assert viewer.layers["mine"].features["index"].tolist() == [cell + 1 for cell in cells_in(labels)]
    assert not words(dock, "warning")
