"""Stacks in the Segment dock: what axes are, cells linked across planes, results that save themselves."""

import numpy as np
import pytest
import tifffile
import zarr
from discs import discs, errors, stack

from napari_unet.core.instances.stitching import link
from napari_unet.core.settings import LinkSettings
from napari_unet.plugin.layers import zarr_result
from napari_unet.plugin.layers.reading import guess_axes, unsaid_axes
from napari_unet.plugin.segment.output_location import BESIDE, PlaceCombo, folder_for
from napari_unet.records.replay import ENDING

LONG = 240_000


@pytest.fixture
def segmenting(docks, disc_model):
    """Return a function that opens a viewer with a Segment dock, a picture, and the model of discs chosen."""

    def make(data, show=False, **about):
        viewer, segment = docks("Segment", show=show)
        layer = viewer.add_image(data, **{"name": "picture", **about})
        segment.controller.registry.set_just_trained(disc_model)
        segment.view.advanced.show_values({"device": "cpu", "diameter": 17.0})
        return viewer, segment, layer

    return make


@pytest.fixture
def done(qtbot):
    return lambda dock: qtbot.waitUntil(lambda: dock.view.run_button.text() == "Segment", timeout=LONG)


@pytest.fixture
def linked(click, qtbot):
    """Return a function that clicks a button of linking and waits for its layer."""

    def wait(viewer, dock, made, name):
        click(made)
        qtbot.waitUntil(lambda: name in viewer.layers and dock.controller.linking.job is None, timeout=LONG)
        return viewer.layers[name]

    return wait


def moving(planes=5, missing=None):
    """Return a stack in which the same discs move by a pixel from plane to plane, one of them missing in one plane."""
    image, labels = discs(seed=4)
    planes = np.stack([np.roll(image, n, axis=1) for n in range(planes)])
    if missing is not None:
        planes[missing][np.roll(labels == 1, missing, axis=1)] = 40.0
    return planes


def expected(labels, axes, **settings):
    output = np.zeros(labels.shape, np.int32)
    for _ in link(labels, axes, output, LinkSettings(**settings)):
        continue
    return output


# --- linking --------------------------------------------------------------------------------------------------


def test_a_stack_is_linked_across_z_by_a_click(segmenting, click, done, linked):
    viewer, segment, image = segmenting(moving(), axis_labels=("z", "y", "x"), scale=(2, 0.5, 0.5), units=("um",) * 3)
    box = segment.view.link
    assert box.isHidden()
    segment.view.extent.setCurrentIndex(1)
    click(segment.view.run_button)
    done(segment)
    assert not box.isHidden() and not box.depth.isHidden() and box.time.isHidden()
    assert "missing in a plane ends there" in box.depth.toolTip()
    cells = viewer.layers["picture cells"]
    result = linked(viewer, segment, box.depth, "picture cells linked")
    np.testing.assert_array_equal(result.data, expected(cells.data, "zyx", along="z"))
    assert result.data.max() < cells.data.max() * 5
    assert (result.scale.tolist(), result.units) == (image.scale.tolist(), image.units)
    assert result.visible and not cells.visible
    assert f"{result.data.max()} cells in the whole stack" in segment.view.messages.lines()[-1][1]


@pytest.mark.computing
def test_missed_planes_are_bridged_when_asked(segmenting, click, done, linked):
    viewer, segment, _ = segmenting(moving(missing=2), axis_labels=("t", "y", "x"))
    segment.view.extent.setCurrentIndex(1)
    click(segment.view.run_button)
    done(segment)
    box, cells = segment.view.link, viewer.layers["picture cells"]
    assert box.depth.isHidden() and not box.time.isHidden()
    apart = linked(viewer, segment, box.time, "picture cells linked").data
    box.max_gap.setValue(1)
    cells.visible = True
    bridged = linked(viewer, segment, box.time, "picture cells linked [1]").data
    np.testing.assert_array_equal(bridged, expected(cells.data, "tyx", along="t", max_gap=1))
    assert bridged.max() < apart.max()


@pytest.mark.computing
def test_a_result_on_disk_is_linked_on_disk(segmenting, click, done, linked, tmp_path, monkeypatch):
    monkeypatch.setattr(zarr_result, "LARGEST_HELD", 10_000)
    viewer, segment, _ = segmenting(moving(), axis_labels=("z", "y", "x"), scale=(2, 0.5, 0.5), units=("um",) * 3)
    segment.view.place.choose(str(tmp_path / "results"))
    segment.view.extent.setCurrentIndex(1)
    click(segment.view.run_button)
    done(segment)
    cells = np.asarray(viewer.layers["picture cells"].data)
    result = linked(viewer, segment, segment.view.link.depth, "picture cells linked")
    np.testing.assert_array_equal(np.asarray(result.data), expected(cells.astype(np.int32), "zyx", along="z"))
    group = zarr.open_group(str(tmp_path / "results" / "picture_cells-linked.zarr"), mode="r")
    assert group.attrs["ome"]["multiscales"][0]["axes"][0] == {"name": "z", "type": "space", "unit": "micrometer"}


@pytest.mark.computing
def test_labels_that_were_opened_can_be_linked_too(segmenting, linked):
    viewer, segment, _ = segmenting(discs()[0])
    labels = np.tile(discs(seed=4)[1], (4, 1, 1))
    viewer.add_labels(labels, name="opened", axis_labels=("t", "y", "x"))
    assert not segment.view.link.isHidden()
    result = linked(viewer, segment, segment.view.link.time, "opened linked")
    np.testing.assert_array_equal(result.data, expected(labels, "tyx", along="t"))


# --- axes ------------------------------------------------------------------------------------------------------


def test_an_axis_that_may_be_channels_is_asked_for(segmenting, click):
    viewer, segment, image = segmenting(stack(3))
    row = segment.view.images.axes
    assert unsaid_axes(image) == [0] and row.open_axes() == [0] and not row.hint.isHidden()
    click(segment.view.run_button)
    assert "does not say what its axis of 3 is" in errors(segment.view)[0]
    assert len(viewer.layers) == 1
    (box,) = row._boxes.values()
    assert box.currentText() == "" and box.placeholderText() == "which?"
    box.setCurrentIndex(box.findData("z"))
    assert segment.controller._choice.axes() == "zyx"
    assert image.metadata["napari_unet"]["axes"] == "zyx"
    assert segment.controller._choice.planes().shape == (3, 128, 128)
    assert row.hint.isHidden()


def test_two_open_axes_are_named_one_after_the_other(segmenting):
    _, segment, image = segmenting(np.zeros((2, 3, 64, 64), np.float32))
    row = segment.view.images.axes
    assert row.open_axes() == [0, 1]
    row._boxes[0].setCurrentIndex(row._boxes[0].findData("t"))
    assert row.open_axes() == [1] and "axes" not in image.metadata.get("napari_unet", {})
    row._boxes[1].setCurrentIndex(row._boxes[1].findData("c"))
    assert segment.controller._choice.axes() == "tcyx"
    assert segment.controller._choice.planes().channels == 3


def test_long_nameless_stacks_are_taken_for_depth_and_said_so(segmenting):
    _, segment, _ = segmenting(stack(5))
    row = segment.view.images.axes
    assert row.axes() == "zyx" and row.open_axes() == []
    assert not row.hint.isHidden() and "check" in row.hint.text()


def test_named_axes_are_not_asked_for(segmenting):
    _, segment, image = segmenting(stack(3), axis_labels=("c", "y", "x"))
    row = segment.view.images.axes
    assert row.axes() == "cyx" and row.open_axes() == [] and row.hint.isHidden()
    assert unsaid_axes(image) == []


def test_the_file_says_what_axes_are(docks, tmp_path):
    tifffile.imwrite(tmp_path / "film.ome.tif", stack(3), metadata={"axes": "TYX"}, photometric="minisblack")
    viewer, segment = docks("Segment")
    (image,) = viewer.open(str(tmp_path / "film.ome.tif"), plugin="napari")
    row = segment.view.images.axes
    assert guess_axes(image) == "tyx"
    assert row.axes() == "tyx" and row.open_axes() == [] and row.hint.isHidden()


# --- places ------------------------------------------------------------------------------------------------------


@pytest.mark.computing
def test_results_save_themselves_and_follow_the_sliders(segmenting, click, done, tmp_path, qtbot):
    viewer, segment, _ = segmenting(discs(seed=5)[0], scale=(0.5, 0.5), units=("um", "um"))
    segment.view.place.choose(str(tmp_path / "mine"))
    click(segment.view.run_button)
    done(segment)
    result, path = viewer.layers["picture cells"], tmp_path / "mine" / "picture_cells.zarr"
    qtbot.waitUntil(lambda: any("Saved as" in text for _, text in segment.view.messages.lines()), timeout=LONG)
    saved = zarr.open_group(str(path), mode="r")
    np.testing.assert_array_equal(saved["0"][:], result.data)
    assert saved.attrs["ome"]["multiscales"][0]["axes"][0]["unit"] == "micrometer"
    assert path.with_name(path.name + ENDING).exists()
    before = result.data.copy()
    segment.view.threshold.setValue(0.9)
    qtbot.waitUntil(lambda: not np.array_equal(result.data, before), timeout=LONG)

    def follows():
        try:
            saved = zarr.open_group(str(path), mode="r")["0"][:]
        except (KeyError, FileNotFoundError):
            # Between the old folder and the new one.
            return False
        return np.array_equal(saved, result.data)

    qtbot.waitUntil(follows, timeout=LONG)
    assert [p.name for p in (tmp_path / "mine").iterdir() if p.suffix == ".zarr"] == ["picture_cells.zarr"]


def test_beside_the_picture_needs_a_file(segmenting, click, tmp_path):
    viewer, segment, image = segmenting(discs()[0])
    segment.view.place.choose(BESIDE)
    click(segment.view.run_button)
    assert "picture is in no file" in errors(segment.view)[0]
    assert len(viewer.layers) == 1
    tifffile.imwrite(tmp_path / "one.tif", discs()[0])
    (opened,) = viewer.open(str(tmp_path / "one.tif"), plugin="napari")
    assert folder_for(BESIDE, opened, opened.data) == tmp_path
    inside = zarr.create_array(str(tmp_path / "deep" / "s.zarr" / "0"), shape=(9, 9), dtype=np.uint8)
    assert folder_for(BESIDE, image, inside) == tmp_path / "deep"
    assert folder_for("", image, image.data) is None


def test_a_folder_that_was_chosen_is_on_offer(qtbot, monkeypatch, tmp_path):
    combo = PlaceCombo()
    qtbot.addWidget(combo)
    told = []
    combo.place_changed.connect(told.append)
    monkeypatch.setattr(
        "napari_unet.plugin.segment.output_location.QFileDialog.getExistingDirectory", lambda *a: str(tmp_path)
    )
    combo.setCurrentIndex(combo.findText("choose a folder ..."))
    assert combo.place() == str(tmp_path) and combo.currentText() == tmp_path.name and told[-1] == str(tmp_path)
    monkeypatch.setattr("napari_unet.plugin.segment.output_location.QFileDialog.getExistingDirectory", lambda *a: "")
    combo.setCurrentIndex(combo.findText("choose a folder ..."))
    assert combo.place() == str(tmp_path)
