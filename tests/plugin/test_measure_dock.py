"""Measuring and comparing by clicks, as a user does."""

import csv

import numpy as np
import pytest
from discs import discs, errors
from npe2 import PluginManager
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox

from napari_unet.core.distribution import PLUGIN
from napari_unet.core.network.model_card import bundled_models
from napari_unet.plugin.layers.preview import camera_of
from napari_unet.plugin.layers.reading import OURS
from napari_unet.plugin.measure.compute import _model_facts, are_joined, join_planes

LONG = 60_000


@pytest.fixture
def measure(docks, qtbot):
    """Return a function that opens a viewer with the dock."""

    def make():
        viewer, dock = docks("Measure and compare", show=True)
        return viewer, dock

    return make


@pytest.fixture
def idle(qtbot):
    """Return a function that waits until the dock works no more."""
    return lambda dock: qtbot.waitUntil(lambda: not dock.view._busy, timeout=LONG)


def add_discs(viewer, planes=(), **about):
    """Add a picture and its labels, as a stack when planes are given by their seeds."""
    found = [discs(seed=seed) for seed in planes or (0,)]
    image = np.stack([f[0] for f in found]) if planes else found[0][0]
    labels = np.stack([f[1] for f in found]) if planes else found[0][1]
    viewer.add_image(image, name="dna", **about)
    result = viewer.add_labels(labels.copy(), name="cells", metadata={OURS: {"result": "instances"}}, **about)
    return image, labels, result


def words(dock, kind):
    return [text for k, text in dock.view.messages.lines() if k == kind]


def test_every_cell_gets_a_row_in_physical_units_that_napari_shows(measure, click, idle, qtbot, tmp_path, answer):
    viewer, dock = measure()
    image, labels, layer = add_discs(viewer, scale=(0.5, 0.5), units=("um", "um"))
    click(dock.view.measure_button)
    idle(dock)
    assert not errors(dock.view)
    ids = np.unique(labels)[1:]
    assert layer.features["index"].tolist() == ids.tolist()
    areas = [(labels == i).sum() / 4 for i in ids]
    np.testing.assert_allclose(layer.features["area_µm²"], areas)
    np.testing.assert_allclose(layer.features["dna_mean"], [image[labels == i].mean() for i in ids], rtol=1e-5)
    assert f"{len(ids)} cells" in dock.view.summary.text()
    assert "µm²" in dock.view.summary.text()
    y, x = (float(layer.features[f"{a}_px"].iloc[0]) for a in "yx")
    shown = layer.get_status(layer.data_to_world((round(y), round(x))), world=True)
    assert "area_µm²" in str(shown)

    docked = len(viewer.window._qt_window.findChildren(type(dock)))
    click(dock.view.table_button)
    tables = [w for w in viewer.window._qt_window.findChildren(object) if type(w).__name__ == "FeaturesTable"]
    offered = PluginManager.instance().get_manifest("napari").contributions.widgets or ()
    if any(widget.display_name == "Features table widget" for widget in offered):
        assert tables
    else:
        assert words(dock, "warning")[0].startswith("This napari has no table of features")
    assert len(viewer.window._qt_window.findChildren(type(dock))) == docked
    answer(tmp_path / "cells")
    click(dock.view.csv_button)
    qtbot.waitUntil(lambda: bool(words(dock, "done")), timeout=LONG)
    with open(tmp_path / "cells.csv", encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    np.testing.assert_allclose([float(row["area_µm²"]) for row in rows], areas, rtol=1e-5)


def test_a_stack_is_measured_plane_by_plane_and_can_be_cancelled(measure, click, idle):
    viewer, dock = measure()
    _, labels, layer = add_discs(viewer, planes=(0, 1, 2))
    click(dock.view.measure_button)
    idle(dock)
    assert not errors(dock.view)
    assert len(layer.features) == sum(len(np.unique(plane)) - 1 for plane in labels)
    assert sorted(set(layer.features["z"])) == [0, 1, 2]
    assert any("Labels restart in each plane" in text for text in words(dock, "note"))
    before = layer.features.copy()
    click(dock.view.measure_button)
    dock.view.cancel.emit()
    idle(dock)
    assert any("Cancelled" in text for text in words(dock, "warning"))
    assert layer.features.equals(before)


def test_a_cell_through_planes_has_one_row(measure, click, idle):
    viewer, dock = measure()
    _, labels, layer = add_discs(viewer, planes=(0, 0, 0))
    click(dock.view.measure_button)
    idle(dock)
    ids = np.unique(labels[0])[1:]
    assert layer.features["index"].tolist() == ids.tolist()
    assert set(layer.features["planes"]) == {3}
    np.testing.assert_allclose(layer.features["area_px²"], [(labels[0] == i).sum() for i in ids])
    np.testing.assert_allclose(layer.features["volume_px³"], [3 * (labels[0] == i).sum() for i in ids])
    assert len(dock.controller.measured.table["label"]) == 3 * len(ids)


def test_volumes_mind_the_distance_of_planes_and_other_units(measure, click, idle):
    viewer, dock = measure()
    about = {"scale": (500.0, 0.25, 0.25), "units": ("nm", "um", "um"), "axis_labels": ("z", "y", "x")}
    _, labels, layer = add_discs(viewer, planes=(0, 0), **about)
    click(dock.view.measure_button)
    idle(dock)
    pixels = np.bincount(labels[0].ravel())[np.unique(labels[0])[1:]]
    np.testing.assert_allclose(layer.features["area_µm²"], pixels / 16)
    np.testing.assert_allclose(layer.features["volume_µm³"], 2 * 0.5 * pixels / 16)
    assert f"median volume {np.median(pixels / 16):.4g} µm³" in dock.view.summary.text()
    what = dock.view.images.axes.findChild(QComboBox)
    what.setCurrentIndex(what.findData("t"))
    click(dock.view.measure_button)
    idle(dock)
    assert dock.controller.measured.joined
    assert not [name for name in layer.features if name.startswith("volume")]


def test_pixels_that_are_not_square_have_no_perimeter_and_that_is_said(measure, click, idle):
    viewer, dock = measure()
    _, _, layer = add_discs(viewer, scale=(0.5, 0.25), units=("um", "um"))
    click(dock.view.measure_button)
    idle(dock)
    assert not [name for name in layer.features if name.startswith(("perimeter", "circularity"))]
    assert words(dock, "warning") == [
        "Pixels are 0.5 x 0.25 µm and not square, so perimeter and circularity are left out."
    ]


def test_the_layer_of_mistakes_is_neither_cells_nor_annotation(measure, click, idle):
    viewer, dock = measure()
    _, labels, layer = add_discs(viewer)
    viewer.add_labels(labels, name="truth")
    layer.data[labels == 1] = 0
    click(dock.view.compare_button)
    idle(dock)
    assert "cells errors" in viewer.layers
    train, proofread = (
        viewer.window.add_plugin_dock_widget(PLUGIN, name)[1] for name in ("Annotate and train", "Proofread")
    )
    for combo in (train.view.annotation, proofread.view.result, dock.view.cells, dock.view.truth):
        assert combo.findText("cells errors") < 0
        assert combo.count()


def test_worst_cells_are_listed_shown_and_a_click_goes_there(measure, click, idle, qtbot, tmp_path, answer):
    viewer, dock = measure()
    _, labels, layer = add_discs(viewer, planes=(0, 1, 2), scale=(4.0, 1.0, 1.0))
    truth = viewer.add_labels(labels.copy(), name="truth", scale=(4.0, 1.0, 1.0))
    missed = int(np.unique(labels[2])[2])
    layer.data[2][labels[2] == missed] = 0
    assert (dock.view.cells.layer(), dock.view.truth.layer()) == (layer, truth)
    viewer.dims.set_current_step(0, 0)
    click(dock.view.compare_button)
    idle(dock)
    assert not errors(dock.view)
    assert dock.view.worst.count() == 1
    assert dock.view.worst.item(0).text().startswith(f"true cell {missed}   z 2   missed")
    mistakes = viewer.layers["cells errors"]
    np.testing.assert_array_equal(np.asarray(mistakes.data)[2] == 1, labels[2] == missed)
    assert not np.asarray(mistakes.data)[:2].any()
    assert mistakes.scale.tolist() == [4, 1, 1]
    assert (layer.visible, truth.visible, mistakes.visible) == (False, False, True)
    assert mistakes not in (dock.view.cells.layer(), dock.view.truth.layer())
    line = dock.view.worst.visualItemRect(dock.view.worst.item(0)).center()
    qtbot.mouseClick(dock.view.worst.viewport(), Qt.MouseButton.LeftButton, pos=line)
    assert viewer.dims.current_step[0] == 2
    middle = np.argwhere(labels[2] == missed).mean(axis=0)
    np.testing.assert_allclose(camera_of(viewer).center[-2:], middle, atol=1.5)
    expected = len(np.unique(labels[0])) + len(np.unique(labels[1])) + len(np.unique(labels[2])) - 3
    assert f"{expected} true cells, {expected - 1} predicted" in dock.view.scores.text()

    answer(tmp_path / "report")
    click(dock.view.report_button)
    qtbot.waitUntil(lambda: (tmp_path / "report.html").exists(), timeout=LONG)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 1
    assert "cells against truth" in page
    assert f"true cell {missed}, plane 2: missed, IoU 0.00" in page
    assert page.count("<svg") == 1 and "http" not in page.replace("http://www.w3.org", "")


def test_an_annotation_is_compared_where_it_is_painted_and_training_on_it_is_told(
    measure, click, idle, disc_model, monkeypatch
):
    viewer, dock = measure()
    _, labels, layer = add_discs(viewer)
    ids = np.unique(labels)[1:]
    paint = np.where(np.isin(labels, ids[:2]), labels + 1, 0)
    paint[60:64] = np.where(labels[60:64] == 0, 1, paint[60:64])
    viewer.add_labels(paint, name="held out", metadata={OURS: {"background_label": 1}})
    assert dock.view.extent.currentData() == "sparse"
    click(dock.view.compare_button)
    idle(dock)
    assert "2 true cells" in dock.view.scores.text()
    assert dock.view.worst.count() == 0
    assert not words(dock, "warning")
    assert words(dock, "done") == ["Every cell was found, and nothing else."]

    layer.metadata[OURS]["model"] = disc_model
    click(dock.view.compare_button)
    idle(dock)
    assert not words(dock, "warning")
    viewer.layers["held out"].name = "image"
    click(dock.view.compare_button)
    idle(dock)
    assert any("was trained on image" in text for text in words(dock, "warning"))


def test_what_is_missing_or_does_not_fit_is_told(measure, click, idle):
    viewer, dock = measure()
    click(dock.view.measure_button)
    assert "segment an image first" in errors(dock.view)[0]
    viewer.add_labels(np.zeros((20, 20), int), name="empty")
    click(dock.view.measure_button)
    idle(dock)
    assert "There is no cell in the labels" in errors(dock.view)[0]
    click(dock.view.compare_button)
    assert "no ground truth to compare with" in errors(dock.view)[0]
    viewer.add_labels(np.ones((5, 6), int), name="other", metadata={OURS: {"result": "instances"}})
    dock.view.cells.choose(viewer.layers["empty"])
    dock.view.truth.choose(viewer.layers["other"])
    click(dock.view.compare_button)
    assert "(5, 6)" in errors(dock.view)[0]
    assert "(20, 20)" in errors(dock.view)[0]


def test_deleting_the_layers_meanwhile_hurts_nothing(measure, click, idle):
    viewer, dock = measure()
    _, labels, _ = add_discs(viewer, planes=(0, 1))
    viewer.add_labels(labels.copy(), name="truth")
    click(dock.view.compare_button)
    viewer.layers.clear()
    idle(dock)
    assert not errors(dock.view)
    dock.view.cell_chosen.emit(0)
    assert dock.view.cells.layer() is None


def test_planes_are_joined_by_what_lies_on_top_of_each_other():
    labels = np.zeros((3, 20, 20), int)
    labels[:, 2:8, 2:8], labels[:, 12:18, 12:18] = 1, 2
    assert are_joined(labels, "zyx")
    turned = np.stack([labels[0], labels[0].T[::-1], labels[0][::-1]])
    turned[1][turned[1] > 0] = 3 - turned[1][turned[1] > 0]
    assert not are_joined(turned, "zyx")
    assert not are_joined(labels[0], "yx")


def test_the_report_does_not_name_a_bundled_model_that_another_may_have_been_taken_for():
    said = _model_facts("bundled")["Model"]
    assert len(bundled_models()) > 1
    assert said.startswith("bundled")
    assert all(name in said for name in bundled_models())
    assert _model_facts("") == {}


def test_joined_rows_sum_sums_keep_extremes_and_average_the_rest():
    table = {
        "z": np.array([0, 1, 1]), "label": np.array([7, 7, 9]), "area_px²": np.array([10.0, 20.0, 5.0]),
        "a_min": np.array([3.0, 1.0, 4.0]), "a_max": np.array([8.0, 9.0, 6.0]), "a_sum": np.array([50.0, 60.0, 7.0]),
        "at_border": np.array([False, True, False]),
    }  # fmt: skip
    joined = join_planes(table)
    assert {name: values.tolist() for name, values in joined.items()} == {
        "label": [7, 9], "planes": [2, 1], "z": [0.5, 1.0], "area_px²": [15.0, 5.0], "a_min": [1.0, 4.0],
        "a_max": [9.0, 6.0], "a_sum": [110.0, 7.0], "at_border": [True, False],
    }  # fmt: skip
