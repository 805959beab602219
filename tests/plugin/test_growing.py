"""Results that are too large for the memory: never read whole, grown on disk in sight of the user, gone on with."""

import json
import os
import signal
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import zarr
from discs import discs, errors, stack
from napari.layers import Labels
from packaging.version import Version

from napari_unet.plugin.layers import zarr_result
from napari_unet.plugin.layers.preview import camera_of
from napari_unet.plugin.layers.zarr_result import LabelStore, StoredArray, file_of, needs_store, spacing_of
from napari_unet.plugin.runtime.engine import Engine
from napari_unet.stores.zarrs import Levels, create_zarr

LONG = 240_000
SIDE = 4160
"""Pixels: just beyond what is held for the sliders."""
MOST_AT_ONCE = 4_200_000
"""Pixels that may be read of a plane of 17 million: the sample that the grey values are measured on."""


class Refusing:
    """An array that counts what is read of it, and refuses to give too much at once."""

    def __init__(self, array):
        self.array, self.shape, self.dtype, self.ndim = array, array.shape, array.dtype, array.ndim
        self.largest = self.reads = 0

    def __getitem__(self, key):
        part = self.array[key]
        self.largest, self.reads = max(self.largest, part.size), self.reads + 1
        if part.size > MOST_AT_ONCE:
            raise MemoryError(f"{part.size} pixels were asked for at once")
        return part


def slide():
    """Return a large picture of discs."""
    tile = discs((208, 208), seed=3, count=20)[0]
    return np.tile(tile, (SIDE // 208, SIDE // 208)).astype(np.uint8)


@pytest.fixture
def segmenting(docks, disc_model, tmp_path):
    """Return a function that opens a viewer with a Segment dock, a picture, the model of discs and a place to save."""

    def make(data, show=False, **about):
        viewer, segment = docks("Segment", show=show)
        layer = viewer.add_image(data, **{"name": "picture", **about})
        segment.controller.registry.set_just_trained(disc_model)
        segment.view.advanced.show_values({"device": "cpu", "diameter": 17.0})
        segment.view.place.choose(str(tmp_path / "results"))
        return viewer, segment, layer

    return make


@pytest.fixture
def done(qtbot):
    """Return a function that waits until the dock works no more."""
    return lambda dock: qtbot.waitUntil(lambda: dock.view.run_button.text() == "Segment", timeout=LONG)


def messages(dock):
    return " ".join(text for _, text in dock.view.messages.lines())


# --- a slide ------------------------------------------------------------------------------------------------


@pytest.mark.computing
def test_a_lazy_slide_is_never_read_whole_and_fills_in_where_the_user_looks(segmenting, click, qtbot, done, tmp_path):
    picture = Refusing(slide())
    levels = [da.from_array(picture, chunks=(1024, 1024)), *(picture.array[:: 2**n, :: 2**n] for n in (1, 2, 3, 4))]
    viewer, segment, _ = segmenting(
        levels, show=True, multiscale=True, contrast_limits=(0, 255), scale=(0.5, 0.5), units=("um", "um")
    )
    camera_of(viewer).zoom *= 8
    camera_of(viewer).center = (0, 0.5 * 3600, 0.5 * 3600)
    qtbot.wait(300)
    click(segment.view.run_button)
    qtbot.waitUntil(lambda: "picture cells" in viewer.layers, timeout=LONG)
    result = viewer.layers["picture cells"]
    assert result.multiscale and not result.editable
    assert [level.shape for level in result.data] == [(4160, 4160), (2080, 2080), (1040, 1040), (520, 520)]
    qtbot.waitUntil(lambda: bool(np.asarray(result.data[-1][384:, 384:]).any()), timeout=LONG)
    assert segment.view.run_button.text() == "Cancel"
    assert not np.asarray(result.data[-1][:256, :256]).any(), "what is not on screen comes later"

    done(segment)
    assert not errors(segment.view)
    assert 0 < picture.largest <= MOST_AT_ONCE
    path = tmp_path / "results" / "picture_cells.zarr"
    assert str(path) in messages(segment)
    group = zarr.open_group(str(path), mode="r")
    labels = group["0"][:]
    np.testing.assert_array_equal(np.asarray(result.data[0][...]), labels)
    np.testing.assert_array_equal(np.asarray(result.data[2][...]), labels[::4, ::4])
    found = np.unique(labels)[1:]
    assert len(found) == labels.max() > 20 * 20 * 8
    scale = group.attrs["ome"]["multiscales"][0]["datasets"][1]["coordinateTransformations"][0]["scale"]
    assert scale == [1.0, 1.0]
    assert [a["unit"] for a in group.attrs["ome"]["multiscales"][0]["axes"]] == ["micrometer", "micrometer"]
    qtbot.waitUntil(lambda: path.with_name(path.name + ".job.json").exists(), timeout=LONG)
    assert json.loads(path.with_name(path.name + ".job.json").read_text())["image"]["name"] == "picture"
    segment.view.threshold.setValue(0.8)
    assert "does not follow the sliders" in messages(segment)


# --- stacks -------------------------------------------------------------------------------------------------


@pytest.fixture
def small_memory(monkeypatch):
    """Have every stack of more than ten planes of 256 x 256 pixels count as too large for the memory."""
    monkeypatch.setattr(zarr_result, "LARGEST_HELD", 10 * 256 * 256)


def filled(result):
    return [z for z in range(result.data.shape[0]) if np.asarray(result.data[z]).any()]


@pytest.mark.computing
@pytest.mark.parametrize("end", ["cancel", "kill"])
def test_what_was_done_stays_and_the_next_click_goes_on(segmenting, click, qtbot, done, tmp_path, small_memory, end):
    viewer, segment, _ = segmenting(np.tile(stack(), (12, 2, 2)), scale=(2.0, 0.5, 0.5))
    viewer.dims.set_current_step(0, 30)
    segment.view.extent.setCurrentIndex(1)
    click(segment.view.run_button)
    qtbot.waitUntil(lambda: "picture cells" in viewer.layers, timeout=LONG)
    result = viewer.layers["picture cells"]
    qtbot.waitUntil(lambda: bool(np.asarray(result.data[30]).any()), timeout=LONG)
    if end == "cancel":
        click(segment.view.run_button)
    else:
        os.kill(Engine.shared().pid, signal.SIGKILL)
    done(segment)
    first = filled(result)
    assert 30 in first and len(first) < 60
    assert bool(errors(segment.view)) == (end == "kill")
    assert not (tmp_path / "results" / "picture_cells.zarr").exists()
    before = np.asarray(result.data[30]).copy()

    click(segment.view.run_button)
    done(segment)
    assert "Resumed" in messages(segment)
    assert [layer for layer in viewer.layers if isinstance(layer, Labels)] == [result]
    assert filled(result) == list(range(60))
    np.testing.assert_array_equal(np.asarray(result.data[30]), before)
    assert (tmp_path / "results" / "picture_cells.zarr").exists()
    assert result.scale.tolist() == [2.0, 0.5, 0.5]


@pytest.mark.computing
@pytest.mark.parametrize("gone", ["dock", "layer", "picture"])
def test_what_goes_away_meanwhile_hurts_nothing(segmenting, click, qtbot, done, small_memory, gone):
    viewer, segment, image = segmenting(np.tile(stack(), (12, 2, 2)))
    segment.view.extent.setCurrentIndex(1)
    click(segment.view.run_button)
    qtbot.waitUntil(lambda: "picture cells" in viewer.layers, timeout=LONG)
    result = viewer.layers["picture cells"]
    if gone == "dock":
        viewer.window.remove_dock_widget(segment)
        qtbot.waitUntil(lambda: Engine.shared().state == "stopped", timeout=LONG)
        assert np.asarray(result.data[0]).shape == (256, 256)
        return
    viewer.layers.remove(result if gone == "layer" else image)
    done(segment)
    assert not errors(segment.view)
    if gone == "layer":
        assert "result layer was deleted" in messages(segment)
    else:
        assert filled(result) == list(range(60))


@pytest.mark.computing
def test_planes_done_one_by_one_grow_in_one_result(segmenting, click, done, small_memory):
    viewer, segment, _ = segmenting(np.tile(stack(), (3, 2, 2)))
    for z in (3, 7):
        viewer.dims.set_current_step(0, z)
        click(segment.view.run_button)
        done(segment)
    (result,) = [layer for layer in viewer.layers if isinstance(layer, Labels)]
    assert filled(result) == [3, 7]
    assert not errors(segment.view)


def test_a_stored_result_can_be_painted_on(segmenting, click, done, small_memory, tmp_path):
    viewer, segment, _ = segmenting(np.tile(stack(), (3, 2, 2)))
    segment.view.extent.setCurrentIndex(1)
    click(segment.view.run_button)
    done(segment)
    result = viewer.layers["picture cells"]
    result.paint((4, 3, 3), 7777)
    assert zarr.open_group(str(tmp_path / "results" / "picture_cells.zarr"), mode="r")["0"][4, 3, 3] == 7777
    result.undo()
    assert np.asarray(result.data[4, 3, 3]) != 7777


# --- arrays on disk ----------------------------------------------------------------------------------------------


@pytest.fixture
def on_disk(tmp_path):
    """Return a stack of labels on disk as a store, and in memory."""
    path = tmp_path / "labels.zarr"
    create_zarr(path, (4, 60, 50), "zyx", np.uint32)
    values = np.random.default_rng(0).integers(0, 99, (4, 60, 50)).astype(np.uint32)
    Levels(path, smallest=20).arrays[0][:] = values
    return LabelStore(str(tmp_path / "gone"), str(path), "zyx"), values


@pytest.mark.parametrize("axes", ["zyx", "zcyx", "czyx", "zxy", "yxz"])
def test_a_store_is_indexed_by_the_axes_of_the_layer(on_disk, axes):
    store, values = on_disk
    array = StoredArray(store, 0, axes)
    expected = np.einsum(f"zyx->{axes.replace('c', '')}", values)
    expected = np.expand_dims(expected, axes.index("c")) if "c" in axes else expected
    assert array.shape == expected.shape and array.dtype == np.uint32
    np.testing.assert_array_equal(np.asarray(array), expected)
    inside = tuple(slice(0, 1) if n < 5 else slice(7, 40) for n in expected.shape)
    points = tuple(np.array([0, 0]) if n < 5 else np.array([8, 30]) for n in expected.shape)
    single = tuple(0 if n < 5 else slice(3, 9) for n in expected.shape)
    for key in (inside, points, single, (Ellipsis, slice(0, 2))):
        np.testing.assert_array_equal(array[key], expected[key])
    for key in (inside, points, single):
        array[key] = np.arange(expected[key].size).reshape(expected[key].shape)
        np.testing.assert_array_equal(array[key].ravel(), np.arange(expected[key].size))
    with pytest.raises(IndexError):
        array[(0,) * 7]


def test_a_store_is_found_again_when_it_is_finished(on_disk, tmp_path):
    store, values = on_disk
    growing = LabelStore(str(tmp_path / "labels.zarr"), str(tmp_path / "final.zarr"), "zyx")
    array = StoredArray(growing, 0, "zyx")
    assert not growing.finished
    np.testing.assert_array_equal(array[1], values[1])
    Path(tmp_path / "labels.zarr").rename(tmp_path / "final.zarr")
    assert growing.finished
    np.testing.assert_array_equal(array[2], values[2])


def test_the_file_behind_an_array_is_known_where_it_is_sure(tmp_path):
    array = zarr.create_array(str(tmp_path / "a.zarr"), shape=(30, 30), chunks=(10, 10), dtype=np.uint8)
    where = str(tmp_path / "a.zarr")
    assert file_of(array).rstrip("/") == where
    if Version(zarr.__version__) >= Version("3.1"):
        # An older one cannot read through what Dask opens it with.
        assert file_of(da.from_zarr(where)) == where
    assert file_of(da.from_array(array)).rstrip("/") == where
    assert file_of(np.zeros((3, 3)), "opened.tif") == "opened.tif"
    assert file_of(zarr.zeros((3, 3))) == file_of(np.zeros((3, 3))) == ""


def test_size_decides_what_is_held(make_napari_viewer):
    from napari_unet.core.data.arrays import Planes

    def planes(*shape):
        return Planes(np.broadcast_to(np.uint8(1), shape), "zyx"[-len(shape) :])

    assert not needs_store(planes(4000, 4000))
    assert needs_store(planes(4100, 4100))
    assert not needs_store(planes(100, 1000, 1000))
    assert needs_store(planes(2000, 512, 512))
    viewer = make_napari_viewer()
    layer = viewer.add_image(np.zeros((2, 3, 4, 5)), scale=(9, 2, 1, 1), units=("s", "um", "um", "nm"))
    assert spacing_of(layer, "tcyx") == {"t": (9.0, "second"), "y": (1.0, "micrometer"), "x": (1.0, "nanometer")}
