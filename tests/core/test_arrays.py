from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_unet.core.data.arrays import (
    Normalisation,
    Planes,
    ScaledPlanes,
    axis_weights,
    plane_normalisation,
    read_mirrored,
    resample,
)
from napari_unet.core.errors import DataError

RNG = np.random.default_rng(0)
ALL = slice(None)


class Recorder:
    """An array that is asked for shape, dtype and basic indices only, and remembers how much was read."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.shape, self.dtype = array, array.shape, array.dtype
        self.pixels: list[int] = []

    def __getitem__(self, key: tuple[slice | int, ...]) -> np.ndarray:
        assert all(isinstance(k, (int, slice)) for k in key)
        self.pixels.append(self.array[key].size)
        return self.array[key]


@pytest.mark.parametrize("axes", ["yx", "xy", "zyx", "tcyx", "yxc", "ctzyx", "xcy"])
def test_a_plane_is_channels_first_whatever_the_order(axes: str) -> None:
    sizes = {"t": 2, "z": 3, "c": 4, "y": 5, "x": 6}
    array = RNG.integers(0, 1000, [sizes[a] for a in axes])
    planes = Planes(array, axes)
    leading = [a for a in axes if a not in "cyx"]
    assert planes.shape == (*[sizes[a] for a in leading], 5, 6)
    assert planes.channels == (4 if "c" in axes else 1)
    order = [axes.index(a) for a in (*leading, "c", "y", "x") if a in axes]
    moved = array.transpose(order).reshape(*planes.plane_shape, planes.channels, 5, 6)
    assert len(planes.indices()) == int(np.prod(planes.plane_shape))
    for index in planes.indices():
        block = planes.read(index, slice(1, 4), slice(2, 5))
        assert block.dtype == np.float32
        np.testing.assert_array_equal(block, moved[index][:, 1:4, 2:5])


def test_several_arrays_are_channels() -> None:
    one, two = RNG.random((2, 3, 5, 6))
    planes = Planes([one, two], "zyx")
    assert planes.channels == 2
    np.testing.assert_allclose(planes.read((1,), ALL, ALL), [one[1], two[1]], rtol=1e-6)


def test_rgb_leaves_alpha_out_and_can_be_grey() -> None:
    picture = RNG.integers(0, 255, (4, 5, 4), np.uint8)
    planes = Planes(picture, "yxc", rgb=True)
    assert planes.channels == 3
    np.testing.assert_array_equal(planes.read((), ALL, ALL), picture[..., :3].transpose(2, 0, 1))
    grey = planes.as_grey()
    assert grey.channels == 1
    expected = picture[..., :3] @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(grey.read((), ALL, ALL)[0], expected, rtol=1e-5)
    scaled = ScaledPlanes(planes, 2.0).as_grey()
    assert scaled.shape == (8, 10) and scaled.read((), ALL, ALL).shape == (1, 8, 10)


@pytest.mark.parametrize("inner", [1, 2])
def test_grey_counts_the_channels_that_it_reads(inner: int) -> None:
    planes = Planes(np.zeros((4, 5, inner)), "yxc", rgb=True, grey=True)
    assert planes.read((), ALL, ALL).shape[0] == planes.channels


@pytest.mark.parametrize(
    ("array", "axes", "message"),
    [
        ([], "yx", "There is no image"),
        ([np.zeros((2, 3)), np.zeros((3, 2))], "yx", r"one shape, but are \(2, 3\), \(3, 2\)"),
        (np.zeros((2, 3)), "y", "Axes 'y' do not fit"),
        (np.zeros((2, 3)), "yy", "Axes 'yy' do not fit"),
        (np.zeros((2, 3)), "zy", "Axes 'zy' do not fit"),
        (np.zeros((2, 3, 4)), "qyx", "Axes 'qyx' do not fit"),
        (np.zeros((0, 3)), "yx", r"empty: its shape is \(0, 3\)"),
        (np.zeros((2, 3), complex), "yx", "complex128 numbers; convert"),
        (np.zeros((2, 3), "U1"), "yx", "numbers; convert"),
    ],
)
def test_what_is_no_image(array: object, axes: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Planes(array, axes)  # type: ignore[arg-type]


@settings(max_examples=80)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(-70, 40), st.integers(1, 90), st.integers(-70, 40),
       st.integers(1, 90))  # fmt: skip
def test_mirrored_reads_equal_numpy_pad(height: int, width: int, y0: int, dy: int, x0: int, dx: int) -> None:
    image = np.arange(2 * height * width, dtype=np.float32).reshape(2, height, width)
    padded = image
    for axis, size in ((1, height), (2, width)):
        pad = [(0, 0)] * 3
        pad[axis] = (200, 200)
        padded = np.pad(padded, pad, mode="reflect" if size > 1 else "edge")
    got = read_mirrored(Planes(image, "cyx"), (), y0, y0 + dy, x0, x0 + dx)
    np.testing.assert_array_equal(got, padded[:, 200 + y0 : 200 + y0 + dy, 200 + x0 : 200 + x0 + dx])


def test_a_mirrored_read_takes_no_more_than_it_needs() -> None:
    source = Recorder(RNG.random((400, 400)))
    read_mirrored(Planes(source, "yx"), (), -20, 30, 350, 420)
    assert source.pixels == [30 * 50]


def test_normalisation_brings_the_percentiles_to_0_and_1_and_clips() -> None:
    image = RNG.normal(1000, 50, (2, 100, 100)).astype(np.float32)
    image[1] *= 3
    found = plane_normalisation(Planes(image, "cyx"), ())
    low, high = np.percentile(image.reshape(2, -1), (1, 99.8), axis=1)
    np.testing.assert_allclose([found.low, found.high], [low, high], rtol=1e-6)
    scaled = found.apply(image)
    np.testing.assert_allclose(np.percentile(scaled.reshape(2, -1), (1, 99.8), axis=1), [[0, 0], [1, 1]], atol=1e-4)
    assert found.apply(np.full((2, 1, 1), 1e9, np.float32)).max() == 4
    assert found.apply(np.full((2, 1, 1), -1e9, np.float32)).min() == -1


def test_each_plane_has_its_own_normalisation() -> None:
    stack = np.stack([RNG.random((20, 20)), 100 * RNG.random((20, 20))])
    planes = Planes(stack, "tyx")
    assert plane_normalisation(planes, (1,)).high[0] > 50 > plane_normalisation(planes, (0,)).high[0]


def test_a_dark_picture_with_few_bright_pixels_is_not_constant() -> None:
    image = np.zeros((100, 100))
    image[3, 4] = 7
    found = plane_normalisation(Planes(image, "yx"), ())
    assert (found.low, found.high, found.constant) == ((0.0,), (7.0,), False)


def test_constant_pictures_are_told_and_do_not_divide_by_zero() -> None:
    found = plane_normalisation(Planes(np.full((5, 5), 3), "yx"), ())
    assert found.constant
    assert np.isfinite(found.apply(np.full((1, 5, 5), 3, np.float32))).all()
    assert not Normalisation((0.0, 0.0), (0.0, 1.0)).constant


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_counted(bad: float) -> None:
    image = np.zeros((2, 10, 10))
    image[1, 2, 3:5] = bad
    planes = Planes(image, "zyx")
    plane_normalisation(planes, (0,))
    with pytest.raises(DataError, match=r"2 of 100 grey values in plane \(1,\) are NaN or infinite"):
        plane_normalisation(planes, (1,))


def test_large_planes_are_sampled_in_one_read() -> None:
    values = np.broadcast_to(np.linspace(0, 1, 5000, dtype=np.float32)[:, None], (5000, 4000))
    source = Recorder(values)
    found = plane_normalisation(Planes(source, "yx"), ())
    assert len(source.pixels) == 1 and source.pixels[0] <= 4_000_000
    np.testing.assert_allclose([found.low[0], found.high[0]], [0.01, 0.998], atol=2e-3)


def matrix(size: int, scaled: int) -> np.ndarray:
    """Return what resamples a whole axis, as a matrix."""
    index, weights = axis_weights(size, scaled, 0, scaled)
    dense = np.zeros((scaled, size), np.float32)
    np.add.at(dense, (np.arange(scaled)[:, None], index), weights)
    return dense


@given(st.integers(1, 60), st.integers(1, 60), st.data())
def test_axis_weights_of_a_part_are_rows_of_the_whole(size: int, scaled: int, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, scaled - 1))
    stop = data.draw(st.integers(start + 1, scaled))
    for part, whole in zip(axis_weights(size, scaled, start, stop), axis_weights(size, scaled, 0, scaled), strict=True):
        np.testing.assert_array_equal(part, whole[start:stop])
    np.testing.assert_allclose(matrix(size, scaled).sum(axis=1), 1, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 150), st.integers(1, 150), st.floats(0.1, 4), st.data())
def test_regions_of_scaled_planes_equal_the_whole(height: int, width: int, scale: float, data: st.DataObject) -> None:
    image = np.random.default_rng(height).random((2, height, width), np.float32)
    planes = ScaledPlanes(Planes(image, "cyx"), scale)
    assert planes.shape == (max(1, round(height * scale)), max(1, round(width * scale)))
    whole = planes.read((), ALL, ALL)
    assert whole.shape == (2, *planes.shape)
    rows, columns = matrix(height, planes.height), matrix(width, planes.width)
    np.testing.assert_allclose(whole, rows @ image @ columns.T, atol=1e-5)
    y0, x0 = data.draw(st.integers(0, planes.height - 1)), data.draw(st.integers(0, planes.width - 1))
    y1, x1 = data.draw(st.integers(y0 + 1, planes.height)), data.draw(st.integers(x0 + 1, planes.width))
    np.testing.assert_array_equal(planes.read((), slice(y0, y1), slice(x0, x1)), whole[:, y0:y1, x0:x1])


def test_resampling_keeps_a_ramp_and_does_not_alias() -> None:
    ramp = np.linspace(0, 1, 100, dtype=np.float32)[None, :].repeat(4, 0)
    larger = resample(ramp, (8, 300))
    np.testing.assert_allclose(larger[0, 3:-3], np.interp((np.arange(300) + 0.5) / 3 - 0.5, range(100), ramp[0])[3:-3],
                               atol=1e-5)  # fmt: skip
    stripes = np.tile(np.array([0, 1], np.float32), (4, 100))
    np.testing.assert_allclose(resample(stripes, (4, 25))[:, 1:-1], 0.5, atol=0.05)


def test_resampling_to_the_same_shape_changes_nothing() -> None:
    block = RNG.random((2, 5, 6)).astype(np.float16)
    got = resample(block, (5, 6))
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, block.astype(np.float32))


def test_a_small_region_of_a_large_scaled_plane_costs_little() -> None:
    source = Recorder(np.broadcast_to(np.float32(1), (8000, 8000)))
    planes = ScaledPlanes(Planes(source, "yx"), 0.5)
    region = planes.read((), slice(2000, 2100), slice(3000, 3100))
    np.testing.assert_allclose(region, 1, atol=1e-6)
    assert source.pixels[-1] < 210**2


def test_resampling_a_large_plane_needs_no_matrix_of_its_side() -> None:
    block = np.ones((1, 8000, 4), np.float32)
    tracemalloc.start()
    resample(block, (6000, 4))
    min_peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert min_peak < 5e6  # a dense 6000 x 8000 matrix of distances alone takes 384e6
