"""Labels on disk are corrected part by part: opened where the user looks, put back whole or not at all."""

import json
import os
import signal
import subprocess
import sys
import textwrap

import dask.array as da
import numpy as np
import pytest
import zarr
from discs import discs, errors
from hand import Hand, cells_in, kinds, middle
from napari.layers import Labels

from napari_unet.core.data.arrays import Planes
from napari_unet.core.distribution import PLUGIN
from napari_unet.core.proofreading.review import ReviewedCell
from napari_unet.plugin.layers.preview import camera_of
from napari_unet.plugin.layers.reading import planes_of
from napari_unet.plugin.layers.review_state import editable_review, layer_review, teaching
from napari_unet.plugin.layers.zarr_result import LabelStore, shown
from napari_unet.plugin.proofread import store_crops
from napari_unet.plugin.train.reviewed_cells import SparseSource, checked_source
from napari_unet.plugin.train.sources import Source
from napari_unet.records.correction_journal import Journal
from napari_unet.records.saved_labels import read_marks
from napari_unet.stores.zarrs import Levels, create_zarr

LONG = 30_000
SIDE = 1024


def slide(planes):
    """Return a picture of discs and its labels, each with a number of its own."""
    image, labels = discs((128, 128), seed=3)
    count, many = int(labels.max()), SIDE // 128
    numbers = np.arange(planes * many * many).reshape(planes, many, 1, many, 1) * count
    tiled = np.where(labels > 0, labels, 0)[None, None, :, None, :]
    out = np.where(tiled > 0, tiled + numbers, 0).reshape(planes, SIDE, SIDE)
    return np.tile(image, (planes, many, many)).astype(np.uint8), out.astype(np.uint32)


@pytest.fixture
def on_disk(docks, qtbot, tmp_path):
    """Return a function that opens a slide with its labels from a store, as Segment leaves them."""

    def make(planes=1, opened=False):
        axes = "zyx" if planes > 1 else "yx"
        image, labels = slide(planes)
        image, labels = (image, labels) if planes > 1 else (image[0], labels[0])
        path = tmp_path / "cells.zarr"
        if not path.exists():
            create_zarr(path, labels.shape, axes, np.uint32)
            levels = Levels(path, smallest=256)
            levels.arrays[0][:] = labels
            levels.renew()
        viewer, dock = docks("Proofread", show=True)
        viewer.add_image([image, image[..., ::2, ::2]], name="picture", multiscale=True, contrast_limits=(0, 255))
        if opened:
            (layer,) = viewer.open(path, layer_type="labels", plugin="napari")
        else:
            data = shown(LabelStore(str(path), str(path), axes), axes, True)
            layer = viewer.add_labels(data, name="picture cells", multiscale=True,
                                      metadata={"napari_unet": {"result": "instances", "axes": axes}})  # fmt: skip
            layer_review(layer).set_picture(viewer.layers["picture"])
        assert layer.multiscale
        look(viewer, qtbot)
        return viewer, dock, layer, path, labels

    return make


def look(viewer, qtbot, y=500, x=500, zoom=2.0):
    """Zoom in somewhere."""
    camera_of(viewer).zoom = zoom
    camera_of(viewer).center = (0, y, x)
    qtbot.wait(200)


def messages(dock):
    return " ".join(text for _, text in dock.view.messages.lines())


def open_part(viewer, dock, qtbot, click, before=()):
    """Click Correct this part, and return the layer that opens."""
    known = {id(layer) for layer in viewer.layers}
    assert dock.view.offer_button.text() == "Correct this part"
    click(dock.view.offer_button)
    fresh = lambda: [la for la in viewer.layers if id(la) not in known and isinstance(la, Labels)]  # noqa: E731
    qtbot.waitUntil(lambda: bool(fresh()), timeout=LONG)
    qtbot.wait(100)
    return fresh()[0]


def put_back(viewer, dock, qtbot, click):
    assert dock.view.offer_button.text() == "Write to file"
    click(dock.view.offer_button)
    qtbot.waitUntil(lambda: "Written to cells.zarr" in messages(dock), timeout=LONG)


def stored(path, level=0):
    return zarr.open_group(str(path), mode="r")[str(level)][:]


def box_of(part):
    y0, y1, x0, x1 = part.metadata["napari_unet"]["part"]["box"]
    return slice(y0, y1), slice(x0, x1)


def inner_cells(part, margin=70):
    """Return cells well inside of what is on screen."""
    plane = part.data.reshape(part.data.shape[-2:])
    return cells_in(plane[margin:-margin, margin:-margin])


def on_canvas(part, plane, cell):
    y, x = middle(plane, cell)
    rows, columns = box_of(part)
    return y + rows.start, x + columns.start


@pytest.mark.parametrize(("planes", "opened"), [(1, False), (3, False), (1, True)])
def test_what_is_on_screen_is_corrected_and_put_back(on_disk, qtbot, click, planes, opened):
    viewer, dock, layer, path, labels = on_disk(planes, opened)
    if planes > 1:
        viewer.dims.set_current_step(0, 1)
    assert not dock.view.buttons["accept"].isEnabled()
    part = open_part(viewer, dock, qtbot, click)
    whole = labels[1] if planes > 1 else labels
    rows, columns = box_of(part)
    assert part.data.size < whole.size
    values = part.data.reshape(part.data.shape[-2:])
    np.testing.assert_array_equal(values, whole[rows, columns])
    assert dock.view.result.layer() is part and not layer.visible
    assert tuple(part.translate[-2:]) == (rows.start, columns.start)
    hand = Hand(viewer, qtbot)
    accepted, deleted, split = inner_cells(part)[:3]
    for cell, key in ((accepted, "A"), (deleted, "D"), (split, "S")):
        hand.click(*on_canvas(part, whole[rows, columns], cell))
        hand.key(key)
    fresh = int(labels.max()) + 1
    assert cells_in(values)[-1] == fresh
    put_back(viewer, dock, qtbot, click)

    assert part not in viewer.layers and layer.visible and dock.view.result.layer() is layer
    now = stored(path)[1] if planes > 1 else stored(path)
    assert not (now == deleted).any()
    np.testing.assert_array_equal(np.isin(now, (split, fresh)), whole == split)
    same = ~np.isin(whole, (deleted, split))
    np.testing.assert_array_equal(now[same], whole[same])
    np.testing.assert_array_equal(stored(path, 1), stored(path)[..., ::2, ::2])
    plane = (1,) if planes > 1 else ()
    marks = read_marks(path)[plane]
    assert {cell: kept.kind for cell, kept in marks.items()} == {
        accepted: "accepted", deleted: "deleted", split: "edited", fresh: "edited"}  # fmt: skip
    assert kinds_of(layer, plane) == {cell: kept.kind for cell, kept in marks.items()}
    assert {plane: len(cells) for plane, cells in teaching(viewer.layers["picture"]).items()} == {plane: 4}
    again = open_part(viewer, dock, qtbot, click)
    assert kinds(again, (0,) * len(plane)) == {cell: kept.kind for cell, kept in marks.items()}


def kinds_of(layer, plane):
    return {cell: kept.kind for cell, kept in layer_review(layer).proof.marked(plane).items()}


def test_too_much_on_screen_is_refused_with_the_limit(on_disk, qtbot, click, monkeypatch):
    viewer, dock, _, _, _ = on_disk()
    monkeypatch.setattr(store_crops, "SIDE", 100)
    click(dock.view.offer_button)
    assert "px are on screen, and at most 100 x 100 px are opened at once. Zoom in" in messages(dock)
    assert not [layer for layer in viewer.layers if "part" in layer.metadata.get("napari_unet", {})]


def test_a_part_is_opened_once_and_its_plane_is_meant_only_when_it_is_on_screen(on_disk, qtbot, click):
    viewer, dock, layer, _, _ = on_disk(planes=3)
    viewer.dims.set_current_step(0, 1)
    part = open_part(viewer, dock, qtbot, click)
    dock.view.result.choose(layer)
    click(dock.view.offer_button)
    assert "is open here already" in messages(dock)
    dock.view.result.choose(part)
    hand = Hand(viewer, qtbot)
    viewer.dims.set_current_step(0, 2)
    before = part.data.copy()
    cell = inner_cells(part)[0]
    hand.click(*on_canvas(part, part.data[0], cell))
    hand.key("D")
    np.testing.assert_array_equal(part.data, before)
    viewer.dims.set_current_step(0, 1)
    hand.click(*on_canvas(part, part.data[0], cell))
    hand.key("D")
    assert not (part.data == cell).any()


def test_a_cell_of_naparis_brush_gets_a_number_of_its_own(on_disk, qtbot, click):
    viewer, dock, _, path, labels = on_disk()
    part = open_part(viewer, dock, qtbot, click)
    assert part.selected_label == labels.max() + 1
    used = next(c for c in range(1, int(labels.max())) if c not in part.data)
    editable_review(part)
    part.data_setitem((np.array([70, 70, 71]), np.array([70, 71, 70])), np.full(3, used, part.data.dtype))
    put_back(viewer, dock, qtbot, click)
    fresh = int(labels.max()) + 1
    np.testing.assert_array_equal(stored(path) == used, labels == used)
    assert (stored(path) == fresh).sum() == 3


def test_what_was_changed_elsewhere_is_not_overwritten(on_disk, qtbot, click):
    viewer, dock, _, path, labels = on_disk()
    part = open_part(viewer, dock, qtbot, click)
    hand = Hand(viewer, qtbot)
    cell, other = inner_cells(part)[:2]
    hand.click(*on_canvas(part, part.data.copy(), cell))
    hand.key("D")
    zarr.open_group(str(path), mode="r+")["0"][:] = np.where(labels == other, 0, labels)
    click(dock.view.offer_button)
    qtbot.waitUntil(lambda: "was changed in this part since it was opened" in messages(dock), timeout=LONG)
    assert part in viewer.layers and part.visible and dock.view.result.layer() is part
    assert editable_review(part).journal is not None
    assert not (part.data == cell).any()


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from napari_unet.records.label_crops import LabelCrop, put_back
from napari_unet.stores import label_patches as patches
import json

def write(*rest, original=patches._write_changed, written=[]):
    if written:
        os.kill(os.getpid(), signal.SIGKILL)
    written.append(original(*rest))

patches._write_changed = write
about = json.loads(Path(sys.argv[1], "about.json").read_text())

def note(part):
    Path(sys.argv[1], "about.json").write_text(json.dumps({**about, "part": part.to_plain()}))

put_back(LabelCrop.from_plain(about["part"]), np.load(sys.argv[2]), {}, note)
"""


def test_killed_while_it_is_put_back(on_disk, qtbot, click, tmp_path):
    """napari dies between two chunks; what is there then is offered, and the store is whole again."""
    viewer, dock, layer, path, labels = on_disk()
    part = open_part(viewer, dock, qtbot, click)
    hand = Hand(viewer, qtbot)
    cell = inner_cells(part)[0]
    hand.click(*on_canvas(part, part.data.copy(), cell))
    hand.key("D")
    journal = editable_review(part).journal
    qtbot.waitUntil(lambda: (journal.folder / "about.json").exists() and not journal._running, timeout=LONG)
    # The viewer's own part in this is played by another process, which can be killed.
    np.save(tmp_path / "part.npy", part.data)
    script = [sys.executable, "-c", textwrap.dedent(KILLED), str(journal.folder), str(tmp_path / "part.npy")]
    assert subprocess.run(script, env=os.environ).returncode == -signal.SIGKILL
    assert len(json.loads((journal.folder / "about.json").read_text())["part"]["seen"]) == 2
    assert (stored(path, 0) != labels).any() and not (stored(path, 1) != labels[::2, ::2]).any(), "half written"
    viewer.window.remove_dock_widget(dock)
    viewer.layers.clear()
    Journal.mine.clear()

    viewer, dock, layer, path, _ = on_disk()
    np.testing.assert_array_equal(stored(path), np.where(labels == cell, 0, labels))
    np.testing.assert_array_equal(stored(path, 1), np.where(labels == cell, 0, labels)[::2, ::2])
    qtbot.waitUntil(dock.view.recovery.isVisible, timeout=LONG)
    click(dock.view.recover_button)
    qtbot.waitUntil(lambda: "Write them to the file to keep them" in messages(dock), timeout=LONG)
    again = dock.view.result.layer()
    assert kinds(again, ()) == {cell: "deleted"} and dock.view.offer_button.text() == "Write to file"
    hand = Hand(viewer, qtbot)
    hand.viewer.layers.selection.active = again
    other = inner_cells(again)[0]
    hand.click(*on_canvas(again, again.data.copy(), other))
    hand.key("D")
    put_back(viewer, dock, qtbot, click)
    np.testing.assert_array_equal(stored(path), np.where(np.isin(labels, (cell, other)), 0, labels))
    assert {c: kept.kind for c, kept in read_marks(path)[()].items()} == {cell: "deleted", other: "deleted"}
    assert not journal.folder.exists()


def test_a_large_result_is_segmented_corrected_and_segmented_again(
    docks, qtbot, click, tmp_path, disc_model, monkeypatch
):
    """What a user does: Segment a picture that is open lazily, Correct this part, Write to file, Segment again."""
    monkeypatch.setattr("napari_unet.plugin.layers.zarr_result.LARGEST_HELD", 1000)
    viewer, segment = docks("Segment", show=True)
    image = np.tile(discs((128, 128), seed=3)[0], (4, 4)).astype(np.uint8)
    lazy = [da.from_array(level, chunks=(128, 128)) for level in (image, image[::2, ::2])]
    viewer.add_image(lazy, name="picture", multiscale=True, contrast_limits=(0, 255))
    segment.controller.registry.set_just_trained(disc_model)
    segment.view.advanced.show_values({"device": "cpu", "diameter": 17.0})
    segment.view.place.choose(str(tmp_path / "results"))

    def run():
        click(segment.view.run_button)
        qtbot.waitUntil(lambda: segment.view.run_button.text() == "Segment", timeout=8 * LONG)
        assert not errors(segment.view)

    run()
    first, path = viewer.layers["picture cells"], tmp_path / "results" / "picture_cells.zarr"
    before = stored(path)
    dock = viewer.window.add_plugin_dock_widget(PLUGIN, "Proofread")[1]
    look(viewer, qtbot, 256, 256, 1.5)
    dock.view.result.choose(first)
    assert not dock.view.buttons["accept"].isEnabled()
    part = open_part(viewer, dock, qtbot, click)
    hand = Hand(viewer, qtbot)
    viewer.layers.selection.active = part
    wider, deleted = inner_cells(part)[:2]
    for cell, key in ((wider, "."), (deleted, "D")):
        hand.click(*on_canvas(part, part.data.copy(), cell))
        hand.key(key)
    click(dock.view.offer_button)
    qtbot.waitUntil(lambda: "Written to picture_cells.zarr" in messages(dock), timeout=LONG)
    corrected = stored(path) == wider
    assert corrected.sum() > (before == wider).sum()

    segment.view.threshold.setValue(0.6)
    run()
    qtbot.waitUntil(lambda: "2 reviewed cells were kept" in messages(segment), timeout=LONG)
    path = tmp_path / "results" / "picture_cells-2.zarr"
    again, marks = stored(path), read_marks(path)[()]
    kept, gone = sorted(marks)
    assert (marks[kept].kind, marks[gone].kind) == ("edited", "deleted")
    np.testing.assert_array_equal(again == kept, corrected)
    assert not again[before == deleted].any()
    assert len(cells_in(again)) == len(cells_in(before)) - 1


def test_checked_cells_of_a_large_picture_are_learnt_with_what_is_around_them(make_napari_viewer):
    viewer = make_napari_viewer(show=False)
    largest = []

    class Slide:
        shape, dtype, ndim = (2, 9000, 9000), np.dtype(np.uint8), 3

        def __getitem__(self, key):
            values = np.full([len(range(*k.indices(n))) for k, n in zip(key[1:], self.shape[1:], strict=True)], 9)
            largest.append(values.size)
            return values.astype(np.uint8)

    image = viewer.add_image(np.zeros((2, 10, 10), np.uint8), name="slide")
    mask = np.ones((10, 12), np.uint8)
    cells = {n: ReviewedCell.of(mask, 1, kind, place) for n, (kind, place) in enumerate(
        (("accepted", (5000, 5000)), ("deleted", (5020, 5030)), ("edited", (8985, 40))), 1)}  # fmt: skip
    labels = viewer.add_labels(np.zeros((2, 10, 10), np.int32))
    known = layer_review(labels)
    known.set_picture(image)
    known.replace_marks((1,), cells)
    source = SparseSource("slide", Planes(Slide(), "zyx"), np.zeros((2, 1, 1)), "zyx", 1, checked=teaching(image))
    assert source.tally().cells == 3
    found = source.read()
    assert [part.name for part in found] == ["slide z 1, part 1", "slide z 1, part 2"]
    assert [part.image.shape[-2:] for part in found] == [(542, 554), (271, 308)]
    assert [np.unique(part.labels).tolist() for part in found] == [[0, 1, 2], [0, 2]]
    assert [len(part.oversampled) for part in found] == [2, 1] and max(largest) == 542 * 554
    assert isinstance(checked_source(image, planes_of([image], "zyx"), "zyx"), Source)
