import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Labels

from napari_unet.core.errors import DataError
from napari_unet.plugin.layers import reading
from napari_unet.plugin.layers.reading import (
    check_labels_fit,
    current_plane,
    data_shape,
    empty_array,
    guess_axes,
    label_index,
    label_shape,
    painted,
    placement,
    planes_of,
    view_box,
    write_plane,
)


class Lazy:
    """An array that counts what is read of it and refuses to be read whole."""

    def __init__(self, data):
        self.data, self.shape, self.dtype, self.ndim = data, data.shape, data.dtype, data.ndim
        self.reads = []

    def __getitem__(self, key):
        block = self.data[key]
        self.reads.append(block.size)
        return block

    def __array__(self, *args, **kwargs):
        raise AssertionError("the whole lazy array was turned into memory")


@pytest.mark.parametrize(
    ("shape", "about", "axes"),
    [
        ((8, 9), {}, "yx"),
        ((3, 8, 9), {}, "zyx"),
        ((4, 3, 8, 9), {}, "tzyx"),
        ((2, 4, 3, 8, 9), {}, "ptzyx"),
        ((2, 2, 4, 3, 8, 9), {}, "ptczyx"),
        ((3, 8, 9), {"axis_labels": ("time", "y", "x")}, "tyx"),
        ((3, 8, 9), {"axis_labels": ("T", "Y", "X")}, "tyx"),
        ((3, 8, 9), {"units": ("s", "um", "um")}, "tyx"),
        ((4, 3, 8, 9), {"axis_labels": ("t", "-3", "y", "x")}, "tzyx"),
        ((4, 3, 8, 9), {"axis_labels": ("-4", "time", "y", "x")}, "ztyx"),
        ((8, 9, 3), {"axis_labels": ("y", "x", "channel")}, "yxc"),
        ((8, 9, 3), {"axis_labels": ("a", "b", "channel")}, "yxc"),
        ((8, 9), {"axis_labels": ("x", "y")}, "xy"),
        ((3, 3, 8, 9), {"axis_labels": ("t", "t", "y", "x")}, "tzyx"),
        ((8, 9, 3), {"rgb": True}, "yx"),
        ((5, 8, 9, 3), {"rgb": True}, "zyx"),
    ],
)
def test_axes_follow_names_and_units_and_time_is_never_depth(shape, about, axes):
    layer = Image(np.zeros(shape, np.uint8), **about)
    assert guess_axes(layer) == axes
    assert len(data_shape(layer)) == len(axes)


def test_too_many_axes_are_refused_with_the_number():
    with pytest.raises(DataError, match="has 7 axes"):
        guess_axes(Image(np.zeros((1,) * 5 + (4, 4), np.uint8)))


def test_layers_become_channels():
    first, second = (Image(np.full((2, 5, 6), value, np.uint8)) for value in (3, 7))
    planes = planes_of([first, second], "zyx")
    assert planes.channels == 2
    assert planes.shape == (2, 5, 6)
    assert planes.read((1,), slice(0, 2), slice(0, 2))[:, 0, 0].tolist() == [3, 7]


def test_rgb_has_three_channels_and_can_be_read_as_grey():
    layer = Image(np.random.default_rng(0).integers(0, 255, (5, 6, 4), np.uint8), rgb=True)
    planes = planes_of([layer], guess_axes(layer))
    assert (planes.channels, planes.as_grey().channels, planes.shape) == (3, 1, (5, 6))


def test_colour_and_grey_layers_are_not_mixed():
    colour, grey = Image(np.zeros((5, 6, 3), np.uint8), rgb=True), Image(np.zeros((5, 6), np.uint8))
    with pytest.raises(DataError, match="cannot be mixed"):
        planes_of([colour, grey], "yx")


def test_multiscale_is_read_at_full_resolution():
    data = np.random.default_rng(0).random((64, 80)).astype(np.float32)
    layer = Image([data, data[::2, ::2]], multiscale=True)
    assert planes_of([layer], "yx").shape == (64, 80)


def test_lazy_arrays_are_handed_on_and_read_by_the_region():
    data = Lazy(np.zeros((50, 64, 64), np.float32))

    class Layer:
        name, ndim, rgb, multiscale = "lazy", 3, False, False

    Layer.data = data
    planes = planes_of([Layer()], "zyx")
    planes.read((7,), slice(0, 8), slice(0, 8))
    assert data.reads == [64]


def test_dask_is_computed_plane_by_plane():
    da = pytest.importorskip("dask.array")
    computed = []

    def block(block_info=None):
        computed.append(block_info[None]["chunk-location"][0])
        return np.ones((1, 16, 16), np.float32)

    lazy = da.map_blocks(block, chunks=((1,) * 30, (16,), (16,)), dtype=np.float32, meta=np.empty((0, 0, 0), "f4"))
    planes = planes_of([Image(lazy, contrast_limits=(0, 1))], "zyx")
    computed.clear()
    planes.read((4,), slice(None), slice(None))
    assert computed == [4]


# --- what is on screen ---------------------------------------------------------------------------


def viewer_with(layer, point=None):
    viewer = ViewerModel()
    viewer.add_layer(layer)
    if point is not None:
        viewer.dims.point = point
    return viewer


def test_current_plane_minds_scale_and_translation():
    layer = Image(np.zeros((10, 8, 9), np.uint8), scale=(3, 1, 1), translate=(100, 0, 0))
    viewer = viewer_with(layer, (100 + 3 * 7, 0, 0))
    assert current_plane(viewer, layer, "zyx") == (7,)


def test_current_plane_of_a_layer_with_fewer_axes_than_the_viewer():
    layer = Image(np.zeros((10, 8, 9), np.uint8))
    viewer = viewer_with(layer)
    viewer.add_image(np.zeros((4, 10, 8, 9), np.uint8))
    viewer.dims.point = (3, 6, 0, 0)
    assert current_plane(viewer, layer, "zyx") == (6,)


def test_current_plane_with_rolled_axes_and_in_3d():
    layer = Image(np.zeros((10, 8, 9), np.uint8))
    viewer = viewer_with(layer, (4, 0, 0))
    viewer.dims.order = (1, 2, 0)
    assert current_plane(viewer, layer, "zyx") == (4,)
    viewer.dims.ndisplay = 3
    assert current_plane(viewer, layer, "zyx") == (4,)


def test_current_plane_stays_inside_a_layer_smaller_than_the_viewer():
    layer = Image(np.zeros((3, 8, 9), np.uint8))
    viewer = viewer_with(layer)
    viewer.add_image(np.zeros((10, 8, 9), np.uint8))
    viewer.dims.point = (9, 0, 0)
    assert current_plane(viewer, layer, "zyx") == (2,)


def test_view_box_is_the_drawn_part_and_at_most_so_large():
    layer = Image(np.zeros((200, 300), np.uint8))
    viewer = viewer_with(layer)
    layer.corner_pixels = np.array([[20, 30], [59, 289]])
    assert view_box(viewer, layer, "yx", 1000) == (20, 60, 30, 290)
    assert view_box(viewer, layer, "yx", 100) == (20, 60, 110, 210)


def test_view_box_is_the_whole_plane_when_it_is_not_shown_flat_or_not_drawn():
    layer = Image(np.zeros((10, 200, 300), np.uint8))
    viewer = viewer_with(layer)
    layer.corner_pixels = np.zeros((2, 3), int)
    assert view_box(viewer, layer, "zyx", 1000) == (0, 200, 0, 300)
    layer.corner_pixels = np.array([[0, 20, 30], [0, 60, 90]])
    viewer.dims.order = (1, 0, 2)
    assert view_box(viewer, layer, "zyx", 1000) == (0, 200, 0, 300)


def test_view_box_of_a_coarse_level_counts_in_full_pixels():
    data = np.zeros((256, 256), np.uint8)
    layer = Image([data, data[::4, ::4]], multiscale=True)
    viewer = viewer_with(layer)
    layer._data_level = 1
    layer.corner_pixels = np.array([[0, 0], [15, 31]])
    assert view_box(viewer, layer, "yx", 1000) == (0, 64, 0, 128)


# --- new layers beside an image --------------------------------------------------------------------


def odd_image():
    angle = np.deg2rad(30)
    affine = np.array([[np.cos(angle), -np.sin(angle), 5], [np.sin(angle), np.cos(angle), -2], [0, 0, 1]])
    return Image(
        np.zeros((20, 30), np.uint8),
        scale=(0.5, 2),
        translate=(7, -3),
        rotate=20,
        shear=[0.3],
        affine=affine,
        units=("um", "um"),
        axis_labels=("y", "x"),
    )


def test_new_labels_lie_exactly_on_the_image():
    image = odd_image()
    labels = Labels(np.zeros(label_shape(image, "yx"), np.int32), **placement(image, "yx"))
    for corner in ((0, 0), (19, 0), (0, 29), (11.5, 3)):
        np.testing.assert_allclose(labels.data_to_world(corner), image.data_to_world(corner))
    assert labels.units == image.units
    assert labels.axis_labels == image.axis_labels


def test_a_crop_lies_where_it_was_cut():
    image = odd_image()
    crop = Labels(np.zeros((5, 5), np.int32), **placement(image, "yx", (4, 9)))
    np.testing.assert_allclose(crop.data_to_world((1, 2)), image.data_to_world((5, 11)))


def test_labels_show_over_every_channel_and_move_with_time():
    image = Image(np.zeros((4, 3, 8, 9), np.uint8), axis_labels=("t", "c", "y", "x"), scale=(2, 1, 1, 1))
    axes = guess_axes(image)
    assert label_shape(image, axes) == (4, 1, 8, 9)
    labels = Labels(np.zeros(label_shape(image, axes), np.int32), **placement(image, axes))
    viewer = ViewerModel()
    viewer.add_layer(image)
    viewer.add_layer(labels)
    labels.data[2] = 5
    for channel in range(3):
        viewer.dims.point = (2 * 2, channel, 0, 0)
        assert int(np.max(labels._slice.image.raw)) == 5
    viewer.dims.point = (2 * 1, 1, 0, 0)
    assert int(np.max(labels._slice.image.raw)) == 0


def test_rgb_stack_gives_labels_without_the_colour_axis():
    image = Image(np.zeros((5, 8, 9, 3), np.uint8), rgb=True)
    assert label_shape(image, "zyx") == (5, 8, 9)


def test_planes_are_written_in_the_layers_own_axis_order():
    values = np.arange(6).reshape(2, 3)
    upright, turned = np.zeros((4, 2, 3), int), np.zeros((3, 4, 2), int)
    write_plane(upright, "zyx", (1,), values)
    write_plane(turned, "xzy", (1,), values)
    assert upright[1].tolist() == values.tolist()
    assert turned[:, 1, :].T.tolist() == values.tolist()
    assert label_index("tcyx", (3,)) == (3, 0, slice(None), slice(None))


def test_labels_beyond_memory_go_to_zarr_and_can_be_painted(monkeypatch):
    real = np.zeros
    with monkeypatch.context() as patched:
        patched.setattr(reading.np, "zeros", lambda shape, dtype: (_ for _ in ()).throw(MemoryError))
        array = empty_array((1000, 20000, 20000), np.uint16)
    assert np.zeros is real
    array[3, 5, 6] = 9
    assert int(array[3, 5, 6]) == 9


# --- what was painted --------------------------------------------------------------------------------


def test_only_annotated_planes_are_taken_and_images_read_only_there():
    image = Lazy(np.random.default_rng(0).random((20, 16, 16)).astype(np.float32))
    labels = Lazy(np.zeros((20, 16, 16), np.uint16))
    labels.data[3, 2, 2], labels.data[17, 4:6, 4] = 1, 2

    class Layer:
        name, ndim, rgb, multiscale = "lazy", 3, False, False

    Layer.data = image
    found = list(painted(planes_of([Layer()], "zyx"), labels, "zyx", "paint", {(5,): ((0, 4, 0, 4),)}))
    assert [item.name for item in found] == ["paint z 3", "paint z 5", "paint z 17"]
    assert [item.regions for item in found] == [(), ((0, 4, 0, 4),), ()]
    assert image.reads == [256, 256, 256]
    assert max(labels.reads) == 256
    np.testing.assert_array_equal(found[2].labels, labels.data[17])
    np.testing.assert_array_equal(found[0].image[0], image.data[3])


def test_width_before_height_is_turned_upright():
    image = Image(np.arange(12, dtype=np.float32).reshape(3, 4), axis_labels=("x", "y"))
    labels = np.zeros((3, 4), np.uint16)
    labels[2, 0] = 5
    (found,) = painted(planes_of([image], "xy"), labels, "xy", "paint")
    assert found.image.shape == (1, 4, 3)
    assert found.labels[0, 2] == 5


def test_labels_of_another_shape_are_refused_with_both_shapes():
    image, labels = Image(np.zeros((4, 8), np.uint8), name="a"), Labels(np.zeros((8, 4), int), name="b")
    with pytest.raises(DataError, match=r"b has shape \(8, 4\), but a needs labels of shape \(4, 8\)"):
        check_labels_fit(image, "yx", labels)
