"""Complete regions, accepted cells, and what takes part in a training; without Qt where it can be."""

import numpy as np
import pytest
from discs import discs
from napari.components import ViewerModel
from napari.layers import Labels
from skimage.color import deltaE_ciede2000, rgb2lab

from napari_unet.core.data.annotation import AnnotatedImage
from napari_unet.core.data.arrays import Planes
from napari_unet.core.errors import DataError
from napari_unet.core.settings import NetworkSettings, TrainingSettings
from napari_unet.plugin.layers.complete_regions import draw_regions, read_regions, regions_of
from napari_unet.plugin.layers.painted import BACKGROUND_COLOUR, cell_colour, new_annotation
from napari_unet.plugin.layers.preview import show_preview
from napari_unet.plugin.layers.reading import OURS
from napari_unet.plugin.train.accept import accept_cell
from napari_unet.plugin.train.sources import (
    Source,
    gather,
    looks_complete,
    nothing_painted,
    painting_of,
    paintings_in,
    pair,
    recent_runs,
    source_of,
)
from napari_unet.records import runs

PAINT = 0.55
"""Opacity of a new annotation."""


@pytest.fixture
def stacked():
    """A viewer with a scaled stack of five planes and its annotation."""
    viewer = ViewerModel()
    image = viewer.add_image(
        np.random.default_rng(0).random((5, 64, 80)), name="stack", scale=(4, 0.5, 0.5), translate=(1, 2, 3)
    )
    layer = new_annotation(viewer, image, "zyx")
    pair(layer, [image], "zyx")
    return viewer, image, layer


def box(plane, y0, y1, x0, x1):
    """Return the corners of a rectangle as napari draws it."""
    return np.array([[plane, y0, x0], [plane, y0, x1], [plane, y1, x1], [plane, y1, x0]], float)


# --- colours -----------------------------------------------------------------------------------

# Machado, Oliveira and Fernandes 2009, severity 1: what is left of linear red, green and blue without one kind of cone.
VISIONS = {
    "all cones": np.eye(3),
    "no long": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no middle": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "no short": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


def seen(colours, vision, grey=None):
    """Return colours as somebody with this vision sees them, in Lab; as paint on a grey picture where one is given."""
    rgb = np.array(colours)[:, :3]
    rgb = rgb if grey is None else PAINT * rgb + (1 - PAINT) * grey
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    left = np.clip(linear @ np.transpose(VISIONS[vision]), 0, 1)
    return rgb2lab(np.where(left <= 0.0031308, 12.92 * left, 1.055 * left ** (1 / 2.4) - 0.055)[None])[0]


@pytest.mark.parametrize("vision", VISIONS)
def test_cells_background_and_bare_picture_are_told_apart_with_any_colour_vision(vision):
    cells = [cell_colour(label) for label in range(2, 62)]
    for grey in (0, 0.25, 0.5, 0.75, 1):
        painted, blue = seen(cells, vision, grey), seen([BACKGROUND_COLOUR], vision, grey)
        bare = seen([(grey, grey, grey)], vision)
        assert deltaE_ciede2000(painted, blue).min() > 9
        assert deltaE_ciede2000(bare, blue) > 9
        assert deltaE_ciede2000(painted, bare).min() > 4
    lone = seen(cells, vision)
    # One cell and the next are often painted side by side.
    assert deltaE_ciede2000(lone[1:], lone[:-1]).min() > 8


# --- complete regions ----------------------------------------------------------------------


def test_boxes_are_read_by_plane_in_pixels(stacked):
    viewer, _, layer = stacked
    shapes = draw_regions(viewer, layer, "zyx")
    assert viewer.layers.selection.active is shapes
    assert shapes.mode == "add_rectangle"
    shapes.add_rectangles([box(1, 9.6, 20.4, 4.5, 30.2), box(3, -7, 200, 70, 79.4), box(1, 0, 2, 0, 2)])
    found = read_regions(shapes, layer, "zyx")
    assert found.boxes == {(1,): ((10, 21, 5, 31), (0, 3, 0, 3)), (3,): ((0, 64, 70, 80),)}
    assert found.ignored == 0
    assert draw_regions(viewer, layer, "zyx") is shapes
    assert read_regions(None, layer, "zyx").boxes == {}


def test_what_is_no_upright_box_does_not_count(stacked):
    viewer, _, layer = stacked
    shapes = draw_regions(viewer, layer, "zyx")
    shapes.add_ellipses([box(0, 5, 20, 5, 20)])
    shapes.add_polygons([np.array([[0, 5, 5], [0, 20, 10], [0, 5, 20.0]])])
    shapes.add_rectangles([np.array([[0, 10, 5], [0, 5, 10], [0, 10, 15], [0, 15, 10.0]]), box(0, 70, 90, 5, 9)])
    found = read_regions(shapes, layer, "zyx")
    assert (found.boxes, found.ignored) == ({}, 4)


def test_regions_of_turned_pictures_are_upright():
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((30, 20)), axis_labels=("x", "y"))
    layer = new_annotation(viewer, image, "xy")
    shapes = draw_regions(viewer, layer, "xy")
    shapes.add_rectangles([np.array([[2, 5], [2, 9], [12, 9], [12, 5.0]])])
    assert read_regions(shapes, layer, "xy").boxes == {(): ((5, 10, 2, 13),)}


def test_regions_belong_to_their_annotation(stacked):
    viewer, image, layer = stacked
    other = new_annotation(viewer, image, "zyx")
    shapes = draw_regions(viewer, layer, "zyx")
    assert regions_of(viewer, layer) is shapes
    assert regions_of(viewer, other) is None


# --- accept ----------------------------------------------------------------------


@pytest.fixture
def predicted(stacked):
    """The same with a result layer of two cells in plane 2."""
    viewer, image, layer = stacked
    cells = np.zeros(image.data.shape, np.int32)
    cells[2, 10:20, 10:20], cells[2, 10:20, 20:30], cells[3, 10:20, 10:20] = 7, 8, 7
    result = viewer.add_labels(
        cells, scale=image.scale, translate=image.translate, metadata={OURS: {"result": "instances"}}
    )
    return viewer, image, layer, result


def point(viewer, image, place):
    """Put the mouse over a pixel."""
    viewer.cursor.position = image.data_to_world(place)


def test_a_predicted_cell_is_taken_over_with_a_new_number_and_undone_at_once(predicted):
    viewer, image, layer, result = predicted
    layer.data[2, 10:12, 10:20] = 1
    layer.data[0, 0, 0] = 5
    point(viewer, image, (2, 15, 15))
    assert accept_cell(viewer, layer, "zyx") == 6
    np.testing.assert_array_equal(layer.data[2] == 6, result.data[2] == 7)
    assert not (layer.data[3] > 0).any()
    layer.undo()
    assert not (layer.data == 6).any()
    assert (layer.data == 1).sum() == 20
    layer.redo()
    assert (layer.data == 6).sum() == 100


def test_the_label_in_the_brush_is_not_taken(predicted):
    viewer, image, layer, _ = predicted
    layer.selected_label = 9
    point(viewer, image, (2, 15, 25))
    assert accept_cell(viewer, layer, "zyx") == 10
    assert layer.selected_label == 9


def test_other_paint_stays_and_a_cell_is_taken_once(predicted):
    viewer, image, layer, _ = predicted
    layer.data[2, 10:13, 10:20] = 4
    point(viewer, image, (2, 15, 15))
    label = accept_cell(viewer, layer, "zyx")
    assert (layer.data == 4).sum() == 30
    assert (layer.data == label).sum() == 70
    with pytest.raises(DataError, match="annotated already"):
        accept_cell(viewer, layer, "zyx")


def test_where_nothing_is_predicted_it_says_so(predicted):
    viewer, image, layer, result = predicted
    for place in ((2, 40, 40), (1, 15, 15), (2, -50, 10)):
        point(viewer, image, place)
        with pytest.raises(DataError, match="no predicted cell under the cursor"):
            accept_cell(viewer, layer, "zyx")
    point(viewer, image, (2, 15, 15))
    result.visible = False
    with pytest.raises(DataError, match="no predicted cell under the cursor"):
        accept_cell(viewer, layer, "zyx")


def test_a_cell_of_the_preview_is_taken_from_its_place(stacked):
    viewer, image, layer = stacked
    labels = np.zeros((20, 30), np.int32)
    labels[5:9, 6:12] = 3
    show_preview(viewer, image, "zyx", (4,), (12, 32, 20, 50), labels)
    point(viewer, image, (4, 12 + 6, 20 + 8))
    label = accept_cell(viewer, layer, "zyx")
    assert (layer.data == label).sum() == 24
    assert (layer.data[4, 17:21, 26:32] == label).all()


# --- what takes part ----------------------------------------------------------------------


def source(name, labels, background=0, planes=None, **more):
    """Return what to read of a picture and its paint."""
    axes = "zyx"[-labels.ndim :]
    read = planes or Planes(np.random.default_rng(0).random(labels.shape), axes)
    return Source(name, read, labels, axes, background, **more)


def painted(shape=(16, 16), **cells):
    """Return labels with a square of 4 px per cell, by column."""
    labels = np.zeros(shape, np.uint16)
    for column, label in enumerate(cells.values()):
        labels[..., 4:8, 5 * column : 5 * column + 4] = label
    return labels


def test_planes_and_layers_add_up():
    stack = np.zeros((4, 16, 16), np.uint16)
    stack[1], stack[3] = painted(a=1, b=2), painted(a=3, b=1)
    found = gather([source("one", stack, 1), source("two", painted(a=1, b=2, c=3), 1)], [], "instances")
    assert [image.name for image in found.images] == ["one z 1", "one z 3", "two"]
    assert found.background == 1
    assert [(t.planes, t.cells) for t in found.tallies] == [(2, 2), (1, 2)]


def test_a_mask_without_background_label_keeps_all_its_cells_beside_one_that_has_it():
    found = gather([source("mine", painted(a=1, b=2), 1), source("mask", painted(a=1, b=2, c=7))], [], "instances")
    mine, mask = (np.unique(image.labels).tolist() for image in found.images)
    assert (mine, mask) == ([0, 1, 2], [0, 2, 3, 8])
    assert found.background == 1
    alone = gather([source("mask", painted(a=1, b=2, c=7))], [], "instances")
    assert alone.background == 0
    assert np.unique(alone.images[0].labels).tolist() == [0, 1, 2, 7]


def test_classes_with_different_meanings_are_not_mixed():
    with pytest.raises(DataError, match="numbers of their classes differ"):
        gather([source("mine", painted(a=1, b=2), 1), source("mask", painted(a=1, b=2))], [], "classes")


def test_a_running_training_without_background_takes_none():
    with pytest.raises(DataError, match="under way lacks"):
        gather([source("mine", painted(a=1, b=2), 1)], [], "instances", background=0)


def test_a_complete_mask_is_known_everywhere_and_boxes_are_kept():
    whole, part = gather(
        [source("mask", painted(a=1), complete=True), source("mine", painted(a=2), 1, boxes={(): ((0, 9, 0, 9),)})],
        [], "instances",
    ).images  # fmt: skip
    assert whole.regions == ((0, 16, 0, 16),)
    assert part.regions == ((0, 9, 0, 9),)


def test_what_an_earlier_run_learnt_from_joins():
    old = AnnotatedImage(np.zeros((16, 16), np.float32), painted(a=1, b=2), name="cells")
    settings = TrainingSettings(unpainted="background")
    folder = runs.create_run([old], settings, NetworkSettings(), name="mine")
    found = gather([source("now", painted(a=1, b=2), 1)], [folder], "instances")
    assert [image.name for image in found.images] == ["now", f"{folder.name}: cells"]
    assert found.images[1].regions == ((0, 16, 0, 16),)
    assert np.unique(found.images[1].labels).tolist() == [0, 2, 3]
    ((path, words),) = recent_runs()
    assert path == folder
    assert words.endswith("mine, 1 plane")
    (folder / "job.json").write_text("{")
    assert recent_runs() == []


def test_nothing_painted_says_where_and_what_to_do():
    with pytest.raises(DataError, match="Nothing is painted in mine yet"):
        nothing_painted(gather([source("mine", painted())], [], "instances"), ["mine"])


def test_the_note_stays_with_the_layer_and_not_with_its_duplicate(stacked):
    viewer, image, layer = stacked
    assert [p.layer() for p in paintings_in(viewer)] == [layer]
    copy = viewer.add_labels(layer.data.copy(), metadata=dict(layer.metadata))
    assert painting_of(copy) is None
    painting_of(layer).on = False
    assert not pair(layer, [image], "zyx").on
    viewer.layers.remove(image)
    assert paintings_in(viewer) == []


def test_a_source_has_regions_and_background_of_its_layer(stacked):
    viewer, _, layer = stacked
    draw_regions(viewer, layer, "zyx").add_rectangles([box(1, 0, 9, 0, 9)])
    layer.data[2, :3, :3] = 4
    layer.data[2, 5, 5] = 1
    found = source_of(viewer, painting_of(layer), grey=False)
    assert (found.background, found.boxes) == (1, {(1,): ((0, 10, 0, 10),)})
    assert found.counts() == {(0,): -1, (1,): -1, (2,): 1, (3,): -1, (4,): -1}
    assert found.counts([(2,)]) == {(2,): 1}
    assert found.tally({(2,): 7}).cells == 7
    tally = found.tally()
    assert (tally.planes, tally.cells, tally.regions) == (2, 1, 1)
    assert tally.words() == "1 cell, 2 planes, 1 complete box"
    assert [image.name for image in found.read()] == ["stack annotation z 1", "stack annotation z 2"]


@pytest.mark.parametrize(("cells", "complete"), [(0, False), (3, False), (12, True)])
def test_a_mask_of_somebody_else_is_known_by_how_much_is_in_it(cells, complete):
    labels = discs(seed=1)[1]
    kept = np.where(labels > cells, 0, labels)
    assert looks_complete(Labels(kept), (), "yx") == complete
    ours = Labels(labels, metadata={OURS: {"background_label": 1}})
    assert not looks_complete(ours, (), "yx")
