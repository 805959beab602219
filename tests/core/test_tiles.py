from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_unet.core.data.tiles import Geometry, mirrored, split_axis
from napari_unet.core.errors import SettingsError

depths = st.integers(1, 6)


def test_sizes_of_the_paper() -> None:
    geometry = Geometry(4)
    assert (geometry.input_size(28), geometry.output_size(28)) == (572, 388)
    assert (geometry.margin, geometry.stride) == (92, 16)
    assert [geometry.output_size(b) for b in (4, 5)] == [4, 20]
    assert geometry.smallest_output == 4


@given(depths, st.integers(1, 500))
def test_the_smallest_bottom_with_enough_output(depth: int, wanted: int) -> None:
    geometry = Geometry(depth)
    bottom, output = geometry.bottom_for(wanted)
    assert output == geometry.output_size(bottom) >= wanted
    assert geometry.output_size(bottom - 1) < wanted or bottom == 1
    assert geometry.is_valid_input(geometry.input_size(bottom))
    assert geometry.input_size(bottom) - output == 2 * geometry.margin


@given(depths, st.integers(-200, 700))
def test_valid_inputs_are_those_without_odd_poolings(depth: int, size: int) -> None:
    level, odd = size, False
    for _ in range(depth):
        level -= 4
        odd |= level <= 0 or level % 2 != 0
        level //= 2
    output = level - 4
    for _ in range(depth):
        odd |= output <= 0
        output = 2 * output - 4
    assert Geometry(depth).is_valid_input(size) == (not odd and output > 0)


@given(st.integers(1, 3000), st.integers(1, 1100), depths)
def test_tiles_cover_every_pixel_once_with_full_context(size: int, tile: int, depth: int) -> None:
    geometry = Geometry(depth)
    if tile < geometry.stride:
        with pytest.raises(SettingsError, match=f"A tile of {tile} px is too small"):
            split_axis(size, tile, geometry)
        return
    tiles = split_axis(size, tile, geometry)
    written = np.concatenate([np.arange(size)[t.write_slice] for t in tiles])
    assert written.tolist() == list(range(size))
    assert len({t.read_stop - t.read_start for t in tiles}) == 1
    for t in tiles:
        assert t.write_stop - t.write_start <= tile
        assert t.write_start % geometry.stride == 0
        assert t.read_start == t.write_start - geometry.margin
        assert t.read_stop >= t.write_stop + geometry.margin
        assert geometry.is_valid_input(t.read_stop - t.read_start)
        assert t.crop_slice == slice(0, t.write_stop - t.write_start)


def test_a_tile_that_is_larger_than_the_image_is_cut_to_it() -> None:
    (only,) = split_axis(20, 1028, Geometry(4))
    assert only.read_stop - only.read_start == Geometry(4).input_size(5)


@settings(max_examples=60)
@given(st.integers(1, 40), st.integers(0, 200), st.integers(0, 200))
def test_mirroring_equals_numpy_reflect(size: int, before: int, after: int) -> None:
    expected = np.pad(np.arange(size), (before, after), mode="reflect" if size > 1 else "edge")
    assert mirrored(-before, size + after, size).tolist() == expected.tolist()
