from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.io import imread

from napari_unet.core.data.blocks import blocks, representatives
from napari_unet.core.instances.elevation import DISTANCE_STEPS, PROBABILITY_STEPS, Maps, quantise
from napari_unet.core.instances.pipeline import segment_maps
from napari_unet.core.instances.watershed import (
    BasinGraph,
    Edges,
    Maxima,
    catchment_basins,
    connected_components,
    merge_basins,
)
from napari_unet.core.settings import PredictionSettings


def regions(heights: np.ndarray, height: float, side: int = 10**6) -> np.ndarray:
    """Return the basins of a landscape, negative outside of the mask, by blocks of some side."""
    graph, parts, out = BasinGraph(height), [], np.zeros(heights.shape, np.int64)
    for block in blocks(*heights.shape, side):
        pieces = catchment_basins(block.framed(block.read(heights, 1), 1, -1), block, height)
        parts.append((block, pieces.labels, graph.add(pieces)))
    numbers = graph.solve()
    for block, labels, offset in parts:
        out[block.slices] = numbers[np.where(labels > 0, labels + offset, 0)]
    return out


def test_every_pixel_belongs_to_the_summit_that_it_climbs_to() -> None:
    heights = np.array([[5, 3, 1, 2, 6, -1, 4]], np.float32)
    assert regions(heights, 0.5).tolist() == [[1, 1, 1, 2, 2, 0, 3]]


def test_of_two_equal_neighbours_the_first_is_climbed_and_a_plateau_is_one_summit() -> None:
    assert regions(np.array([[3, 1, 3]], np.float32), 0.5).tolist() == [[1, 1, 2]]
    horseshoe = np.full((5, 7), 2, np.float32)
    horseshoe[0:3, 2:5] = 0.5
    for height in (0.0, 0.4):
        assert regions(horseshoe, height).max() == 1
    assert regions(np.zeros((6, 9), np.float32), 0.0).max() == 1


def test_summits_that_rise_little_above_their_saddle_join_the_highest_neighbour() -> None:
    heights = np.array([[1.0, 0.5, 0.75, 0.7, 0.9, 0.2, 0.3]], np.float32)
    # Summits 1, 0.75, 0.9, 0.3; saddles 0.5, 0.7 and 0.2 high.
    for height, count in {0.01: 4, 0.08: 3, 0.15: 2, 0.45: 1}.items():
        assert regions(heights, height).max() == count
    joined = regions(heights, 0.08)[0]
    assert joined[2] == joined[4] != joined[0]


def test_a_summit_that_rises_with_what_it_joined_is_kept_apart_by_its_new_height() -> None:
    # The middle joins the right one first; together they rise 0.5 above the saddle to the left.
    heights = np.array([[0.95, 0.4, 0.5, 0.45, 0.9]], np.float32)
    assert regions(heights, 0.3)[0].tolist() == [1, 1, 2, 2, 2]


def random_graph(seed: int) -> tuple[Maxima, Edges]:
    """Return 30 basins and 80 meetings of equal and unequal heights."""
    rng = np.random.default_rng(seed)
    places, heights = rng.permutation(30).astype(np.int64), rng.choice([0.5, 0.6, 0.7, 0.8], 30).astype(np.float32)
    one, other = rng.integers(0, 30, (2, 80))
    saddle = np.minimum(np.minimum(heights[one], heights[other]), rng.choice([0.3, 0.4, 0.5], 80)).astype(np.float32)
    maxima = Maxima(places, heights, np.zeros(30, bool))
    return maxima, Edges(one, other, saddle, rng.permutation(80).astype(np.int64)).between(np.arange(30))


def test_joining_does_not_depend_on_the_order_of_nodes_and_edges() -> None:
    maxima, edges = random_graph(0)
    expected = maxima.places[merge_basins(maxima, edges, 0.15)[0]]
    assert 1 < len(set(expected.tolist())) < 30
    for seed in range(5):
        mixed = np.random.default_rng(seed)
        nodes = mixed.permutation(30)
        where = np.argsort(nodes)
        shuffled = edges.where(mixed.permutation(len(edges.one)))
        turned = Edges(where[shuffled.other], where[shuffled.one], shuffled.saddle, shuffled.step)
        got, left = merge_basins(maxima.where(nodes), turned, 0.15)
        np.testing.assert_array_equal(maxima.places[nodes][got][where], expected)
        assert len(left.one) == 0


@pytest.mark.parametrize("share", [0.1, 0.4, 1.0])
def test_what_is_joined_with_part_of_the_knowledge_is_joined_with_all_of_it(share: float) -> None:
    """Some basins are open: meetings of theirs are unknown at first, and their summits lower than in truth."""
    spared = 0
    for seed in range(40):
        maxima, edges = random_graph(seed)
        rng = np.random.default_rng(seed)
        is_open = rng.random(30) < share
        expected, _ = merge_basins(maxima, edges, 0.15)
        hidden = is_open[edges.one] & is_open[edges.other] & (rng.random(len(edges.one)) < 0.5)
        lower = np.where(is_open, np.maximum(maxima.heights - rng.choice([0.0, 0.05, 0.2], 30), 0.5), maxima.heights)
        believed = Maxima(maxima.places, lower.astype(np.float32), maxima.outside)
        first, left = merge_basins(believed, edges.where(~hidden), 0.15, is_open)
        spared += int((first != np.arange(30)).sum())
        everything = Edges(*(np.concatenate([getattr(left, n), getattr(edges.where(hidden), n)])
                             for n in ("one", "other", "saddle", "step"))).between(first)  # fmt: skip
        second, _ = merge_basins(maxima, everything, 0.15)
        np.testing.assert_array_equal(second[first], expected)
    assert (spared > 0) == (share < 1)


def test_a_block_settles_what_nothing_beyond_can_change() -> None:
    noise = ndimage.gaussian_filter(np.random.default_rng(0).random((200, 200)), 1).astype(np.float32)
    noise = (noise - noise.min()) / np.ptp(noise)
    block = blocks(600, 600, 200)[4]
    pieces = catchment_basins(np.pad(noise, 1, mode="edge"), block, 0.3)
    whole = catchment_basins(np.pad(noise, 1, constant_values=-1), blocks(200, 200, 200)[0], 0.0)
    # The mask is one piece that crosses all four seams, and still few of the basins are left.
    assert len(pieces.maxima.places) < 0.25 * len(whole.maxima.places)


def test_components_are_those_of_the_mask() -> None:
    mask = ndimage.gaussian_filter(np.random.default_rng(1).random((50, 60)), 1) > 0.5
    heights = np.where(mask, np.float32(0), np.float32(-1))
    expected = ndimage.label(mask)[0]
    for side in (7, 100):
        graph, parts, found = BasinGraph(0.0), [], np.zeros(mask.shape, np.int64)
        for block in blocks(50, 60, side):
            pieces = connected_components(block.framed(block.read(heights, 1), 1, -1), block)
            parts.append((block, pieces.labels, graph.add(pieces)))
        numbers = graph.solve()
        for block, labels, offset in parts:
            found[block.slices] = numbers[np.where(labels > 0, labels + offset, 0)]
        np.testing.assert_array_equal(found, expected)


def test_representatives_of_a_long_chain() -> None:
    chain = np.maximum(np.arange(10_000) - 1, 0)
    assert not representatives(chain).any()


def instances(maps: Maps, chosen: PredictionSettings, side: int) -> np.ndarray:
    """Return the labels of a plane by blocks of some side, and check what the passes say of themselves."""
    labels = np.full(maps.foreground.shape, 99, np.int32)
    steps = segment_maps(maps, labels, chosen, side)
    said = []
    while True:
        try:
            said.append(next(steps))
        except StopIteration as end:
            assert end.value == labels.max(initial=0)
            break
    assert [done for done, _ in said] == list(range(1, len(said) + 1))
    assert all(total == len(said) for _, total in said)
    return labels


def fields(height: int, width: int, kind: str, seed: int) -> Maps:
    """Return random outputs: noise, hills, or few levels with large plateaus."""
    rng = np.random.default_rng(seed)

    def field() -> np.ndarray:
        if kind == "levels":
            return rng.choice([0.0, 0.3, 0.6, 1.0], (height, width))
        noise = rng.random((height, width))
        hills = ndimage.gaussian_filter(noise, 1.5)
        return noise if kind == "noise" else (hills - hills.min()) / max(float(np.ptp(hills)), 1e-9)

    return Maps(quantise(field(), PROBABILITY_STEPS), quantise(field(), DISTANCE_STEPS))


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 24), width=st.integers(1, 24), kind=st.sampled_from(["noise", "hills", "levels"]),
    seed=st.integers(0, 10**6), sides=st.lists(st.integers(1, 25), min_size=1, max_size=2),
    separation=st.sampled_from(["distance", "components"]), threshold=st.sampled_from([0.01, 0.3, 0.5]),
    seed_height=st.sampled_from([0.0, 0.02, 0.2]), boundary_erosion=st.integers(0, 3),
    holes=st.sampled_from([-1, 0, 6]),
    smallest=st.sampled_from([0, 5]), min_peak=st.sampled_from([0.0, 0.55, 0.9]),
)  # fmt: skip
def test_labels_do_not_depend_on_the_blocks(
    height: int, width: int, kind: str, seed: int, sides: list[int], separation: str, threshold: float,
    seed_height: float, boundary_erosion: int, holes: int, smallest: int, min_peak: float,
) -> None:  # fmt: skip
    chosen = PredictionSettings(
        separation=separation, threshold=threshold, seed_height=seed_height, boundary_erosion=boundary_erosion,
        holes=holes, smallest=smallest, min_peak=min_peak,
    )  # fmt: skip
    maps = fields(height, width, kind, seed)
    whole = instances(maps, chosen, 24)
    for side in sides:
        np.testing.assert_array_equal(instances(maps, chosen, side), whole)


@pytest.mark.parametrize("separation", ["distance", "components"])
def test_one_cell_through_all_blocks(separation: str) -> None:
    """A spiral crosses each seam many times, and its background is one hole-less piece."""
    spiral = np.zeros((41, 41), np.float64)
    top, bottom, left, right = 0, 40, 0, 40
    while top < bottom:
        spiral[top, left : right + 1] = spiral[top : bottom + 1, right] = spiral[bottom, left : right + 1] = 1
        spiral[top + 2 : bottom + 1, left] = 1
        spiral[top + 2, left : left + 3] = 1
        top, bottom, left, right = top + 2, bottom - 2, left + 2, right - 2
    maps = Maps(quantise(spiral, PROBABILITY_STEPS), quantise(spiral * 0.7, DISTANCE_STEPS))
    chosen = PredictionSettings(separation=separation, seed_height=1.0, smallest=0)
    whole = instances(maps, chosen, 41)
    assert whole.max() == ndimage.label(spiral)[1]
    for side in (1, 5, 8):
        np.testing.assert_array_equal(instances(maps, chosen, side), whole)


def test_steps_of_16_bits() -> None:
    values = np.array([np.nan, -1, 0, 0.5, 1, 1.2, np.inf, -np.inf])
    assert quantise(values, 50_000).tolist() == [0, 0, 0, 25_000, 50_000, 60_000, 65_535, 0]
    assert quantise(values, 50_000).dtype == np.uint16


DATA = Path(__file__).parents[2].parent / "shared" / "data"


@pytest.mark.parametrize("name", ["dapi_tissue/dapi.png", "em_chloroplast/images/001.png"])
def test_real_pictures_as_landscapes_give_the_same_cells_for_any_blocks(name: str) -> None:
    if not (DATA / name).exists():
        pytest.skip("the pictures are not there")
    picture = np.asarray(imread(DATA / name))[:1300, :1100].astype(np.float32)
    picture = picture if picture.ndim == 2 else picture.mean(axis=2)
    low, high = np.percentile(picture, (5, 99.8))
    smooth = np.clip((ndimage.gaussian_filter(picture, 2) - low) / (high - low), 0, 1)
    maps = Maps(quantise(smooth, PROBABILITY_STEPS), quantise(smooth, DISTANCE_STEPS))
    for separation in ("distance", "components"):
        chosen = PredictionSettings(separation=separation, threshold=0.25, seed_height=0.05)
        whole = instances(maps, chosen, 1300)
        assert whole.max() > 50
        for side in (1024, 190):
            np.testing.assert_array_equal(instances(maps, chosen, side), whole)
