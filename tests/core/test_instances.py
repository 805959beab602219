from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from scipy import ndimage

from conftest import discs
from napari_unet.core.data.arrays import resample
from napari_unet.core.data.label_ops import border_distance, erode_boundaries
from napari_unet.core.data.rescale import at_own_size
from napari_unet.core.errors import SettingsError
from napari_unet.core.instances.cleanup import clean_labels, restore_boundaries
from napari_unet.core.instances.pipeline import labels_from_outputs, segment_instances
from napari_unet.core.settings import PredictionSettings

PLAIN = {"separation": "components", "boundary_erosion": 0, "holes": 0, "smallest": 0}


def chosen(**values: object) -> PredictionSettings:
    return PredictionSettings(**values)  # type: ignore[arg-type]


def perfect(labels: np.ndarray) -> dict[str, np.ndarray]:
    """Return the outputs of a network that has learnt these cells perfectly."""
    inside = (erode_boundaries(labels) > 0).astype(np.float32)
    return {"classes": np.stack([1 - inside, inside]), "distance": border_distance(labels)[None]}


def same_cells(one: np.ndarray, other: np.ndarray) -> bool:
    pairs = set(zip(one.ravel().tolist(), other.ravel().tolist(), strict=True))
    return len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


def test_the_threshold_decides() -> None:
    probability = np.linspace(0, 1, 11, dtype=np.float32)[None]
    for threshold in (0.05, 0.45, 0.95):
        labels = segment_instances(probability, None, chosen(threshold=threshold, **PLAIN))
        assert np.array_equal(labels[0] > 0, probability[0] > threshold)


@pytest.mark.parametrize("separation", ["auto", "distance"])
def test_two_touching_discs_are_split(separation: str) -> None:
    truth = discs((60, 90), [(30, 30), (30, 56)], 15)
    found = labels_from_outputs(perfect(truth), chosen(separation=separation))
    assert found.max() == 2
    overlap = [
        np.logical_and(found == i, truth == i).sum() / np.logical_or(found == i, truth == i).sum() for i in (1, 2)
    ]
    assert min(overlap) > 0.97


def test_discs_that_the_mask_joins_are_split_too() -> None:
    truth = discs((60, 90), [(30, 30), (30, 56)], 15)
    outputs = perfect(truth)
    inside = (truth > 0).astype(np.float32)
    outputs["classes"] = np.stack([1 - inside, inside])
    found = labels_from_outputs(outputs, chosen(separation="distance", boundary_erosion=0))
    assert found.max() == 2 and np.array_equal(found > 0, truth > 0)
    assert (found == truth).mean() > 0.99
    assert labels_from_outputs(outputs, chosen(separation="components")).max() == 1


def test_auto_takes_the_distance_where_there_is_one() -> None:
    truth = discs((60, 90), [(30, 30), (30, 56)], 15)
    outputs = perfect(truth)
    inside = (truth > 0).astype(np.float32)
    outputs["classes"] = np.stack([1 - inside, inside])
    assert labels_from_outputs(outputs, chosen()).max() == 2
    del outputs["distance"]
    assert labels_from_outputs(outputs, chosen()).max() == 1
    with pytest.raises(SettingsError, match="no distance output; choose auto or components"):
        labels_from_outputs(outputs, chosen(separation="distance"))


def test_a_higher_seed_height_splits_less() -> None:
    distance = np.zeros((30, 60), np.float32)
    for centre, height in ((15, 1.0), (45, 1.0)):
        distance = np.maximum(distance, height - np.abs(np.arange(60) - centre)[None] / 20)
    mask = np.ones((30, 60), np.float32)  # the valley between the summits is 0.75 deep
    counts = [segment_instances(mask, distance, chosen(seed_height=h, smallest=0)).max() for h in (0.1, 0.6, 0.9)]
    assert counts == [2, 2, 1]


def test_cells_that_rise_less_than_the_lowest_peak_are_dropped() -> None:
    truth = discs((60, 120), [(30, 25), (30, 60), (30, 95)], 15)
    outputs = perfect(truth)
    heights = np.array([0.0, 1.0, 0.7, 0.4], np.float32)
    outputs["distance"] = outputs["distance"] * heights[truth]
    left = {
        min_peak: set(truth[labels_from_outputs(outputs, chosen(min_peak=min_peak)) > 0])
        for min_peak in (0.0, 0.3, 0.5, 0.8, 1.0)
    }
    assert left == {0.0: {1, 2, 3}, 0.3: {1, 2, 3}, 0.5: {1, 2}, 0.8: {1}, 1.0: {1}}
    numbers = labels_from_outputs(outputs, chosen(min_peak=0.5))
    assert sorted(np.unique(numbers)) == [0, 1, 2]
    # Components say nothing of how sure the network is.
    assert labels_from_outputs(outputs, chosen(min_peak=1.0, separation="components")).max() == 3


@pytest.mark.parametrize("radius", [3, 5, 12, 30])
def test_small_cells_are_no_more_doubtful_than_large_ones(radius: int) -> None:
    truth = discs((80, 80), [(40, 40)], radius)
    outputs = perfect(truth)
    assert labels_from_outputs(outputs, chosen(min_peak=0.95, smallest=0)).max() == 1
    sure = {**outputs, "distance": outputs["distance"] * 0.85}
    assert labels_from_outputs(sure, chosen(min_peak=0.6, smallest=0)).max() == 1
    doubtful = {**outputs, "distance": outputs["distance"] * 0.5}
    assert labels_from_outputs(doubtful, chosen(min_peak=0.6, smallest=0)).max() == 0


def test_a_piece_without_a_summit_is_a_cell_all_the_same() -> None:
    mask = np.zeros((20, 40), np.float32)
    mask[5:15, 5:15] = mask[5:15, 25:35] = 1
    distance = np.where(np.arange(40) < 20, mask, 0)
    found = segment_instances(mask, distance, chosen())
    assert found.max() == 2 and np.array_equal(found > 0, mask > 0)


@pytest.mark.parametrize("separation", ["distance", "components"])
def test_a_piece_that_meets_a_higher_one_at_a_corner_is_not_lost(separation: str) -> None:
    mask = np.zeros((20, 20), np.float32)
    mask[2:10, 2:10] = mask[10:12, 10:12] = 1
    distance = mask.copy()
    distance[10:12, 10:12] = [[0.2, 0.1], [0.1, 0.0]]
    found = segment_instances(mask, distance, chosen(separation=separation, boundary_erosion=0, smallest=0))
    assert np.array_equal(found > 0, mask > 0) and found[2, 2] != found[11, 11]


@pytest.mark.parametrize("width", [1, 2, 3])
def test_the_gap_goes_back_to_the_cells(width: int) -> None:
    truth = np.zeros((40, 60), np.int32)
    truth[5:35, 5:30], truth[5:35, 30:55] = 1, 2
    parted = erode_boundaries(truth, width)
    back = restore_boundaries(parted, width)
    inner = (slice(5 + width, 35 - width), slice(None))
    assert np.array_equal(back[inner] > 0, truth[inner] > 0)
    assert (back == truth).mean() > 0.97
    # Outer borders stay, but for the two ends of the gap.
    ends = slice(30 - 2 * width, 30 + 2 * width)
    outside = np.where(truth == 0, back, 0)
    outside[:, ends] = 0
    assert not outside.any()


def test_without_neighbours_nothing_grows() -> None:
    truth = discs((40, 80), [(20, 20), (20, 60)], 12)
    assert np.array_equal(restore_boundaries(truth, 3), truth)
    assert np.array_equal(restore_boundaries(truth, 0), truth)


def ring() -> np.ndarray:
    labels = discs((50, 90), [(25, 25), (25, 65)], 15)
    labels[22:28, 22:28] = 0  # 36 pixels
    labels[25, 65] = 0
    return labels


def test_holes_are_filled_up_to_their_size() -> None:
    labels = ring()
    assert not clean_labels(labels, holes=0)[25, 65]
    small = clean_labels(labels, holes=10)
    assert small[25, 65] == 2 and not small[25, 25]
    assert clean_labels(labels, holes=36)[25, 25] == clean_labels(labels, holes=-1)[25, 25] == 1
    assert clean_labels(labels, holes=35)[25, 25] == 0


def test_a_place_between_two_cells_or_at_the_edge_is_no_hole() -> None:
    labels = np.ones((20, 20), np.int32)
    labels[:, 10:] = 2
    labels[8:12, 8:12] = 0
    labels[0:3, 2:4] = 0
    assert np.array_equal(clean_labels(labels, holes=-1), labels)
    assert not clean_labels(np.zeros((5, 5), np.int32), holes=-1).any()
    inner = np.ones((20, 20), np.int32)
    inner[5:15, 5:15], inner[8:12, 8:12] = 0, 2
    assert np.array_equal(clean_labels(inner, holes=-1), inner)  # another cell lies in it


def test_a_filled_hole_counts_for_the_size() -> None:
    labels = np.ones((7, 7), np.int32)
    labels[1:6, 1:6] = 0  # leaves 24 pixels
    framed = np.pad(labels, 2)
    assert clean_labels(framed, holes=-1, smallest=49).max() == 1
    assert clean_labels(framed, holes=-1, smallest=50).max() == clean_labels(framed, smallest=25).max() == 0


def test_small_cells_are_dropped_and_the_rest_is_numbered_in_raster_order() -> None:
    labels = np.zeros((20, 20), np.int32)
    labels[10:14, 0:4], labels[2:6, 8:12], labels[2:6, 2:6], labels[0, 0] = 3, 9, 70, 5
    kept = clean_labels(labels, smallest=2)
    assert [kept[2, 2], kept[2, 8], kept[10, 0], kept[0, 0]] == [1, 2, 3, 0]
    assert kept.dtype == np.int32
    assert clean_labels(labels, smallest=17).max() == 0 and clean_labels(labels, smallest=0).max() == 4


@settings(deadline=None)
@given(arrays_of.arrays(np.float32, st.tuples(st.integers(1, 25), st.integers(1, 25)),
                        elements=st.sampled_from([0.0, 0.3, 0.6, 1.0])),
       st.sampled_from(["components", "distance"]), st.integers(0, 3), st.sampled_from([-1, 0, 4]),
       st.integers(0, 6))  # fmt: skip
def test_any_map_gives_sound_labels(
    probability: np.ndarray, separation: str, boundary_erosion: int, holes: int, smallest: int
) -> None:
    options = chosen(separation=separation, boundary_erosion=boundary_erosion, holes=holes, smallest=smallest)
    labels = segment_instances(probability, probability, options)
    assert labels.dtype == np.int32 and labels.shape == probability.shape
    ids, first, sizes = np.unique(labels[labels > 0], return_index=True, return_counts=True)
    assert ids.tolist() == list(range(1, len(ids) + 1)) and (np.diff(first) > 0).all()
    assert (sizes >= smallest).all()
    if smallest == 0:
        assert (labels[probability > 0.5] > 0).all()
    if (boundary_erosion, holes) == (0, 0):
        assert not labels[probability <= 0.5].any()
    if separation == "components" and (boundary_erosion, holes, smallest) == (0, 0, 0):
        assert same_cells(labels, ndimage.label(probability > 0.5)[0])


def test_the_same_region_gets_the_same_labels_whatever_is_kept() -> None:
    truth = discs((80, 120), [(20, 20), (20, 48), (60, 30), (50, 90)], 14)
    outputs = perfect(truth)
    half = {k: v.astype(np.float16) for k, v in outputs.items()}
    one, other = (labels_from_outputs(o, chosen()) for o in (outputs, half))
    assert one.max() == other.max() == 4 and (one == other).mean() > 0.999


def test_classes_and_probabilities() -> None:
    classes = np.random.default_rng(0).dirichlet(np.ones(4), (9, 7)).transpose(2, 0, 1).astype(np.float16)
    got = labels_from_outputs({"classes": classes}, chosen(what="classes"))
    assert got.dtype == np.uint8 and np.array_equal(got, classes.argmax(axis=0))
    probability = labels_from_outputs({"classes": classes}, chosen(what="probabilities"))
    assert probability.dtype == np.float32
    np.testing.assert_allclose(probability, 1 - classes[0], atol=1e-3)


@pytest.mark.parametrize("value", [0, 1, np.nan])
@pytest.mark.parametrize("separation", ["components", "distance"])
def test_nothing_everything_and_undefined(value: float, separation: str) -> None:
    maps = np.full((12, 14), value, np.float32)
    labels = segment_instances(maps, maps, chosen(separation=separation))
    assert labels.max() == (value == 1)


def test_hundreds_of_touching_cells() -> None:
    truth = np.kron(np.arange(1, 401).reshape(20, 20), np.ones((26, 26), int)).astype(np.int32)
    outputs = perfect(truth)
    assert labels_from_outputs(outputs, chosen()).max() == 400


@pytest.mark.parametrize("scale", [0.12, 0.32, 0.6, 0.9])
@pytest.mark.parametrize("threshold", [0.5, 0.65])
def test_large_touching_cells_meet_again_at_the_images_own_size(scale: float, threshold: float) -> None:
    seen = np.pad(np.kron(np.arange(1, 10, dtype=np.int32).reshape(3, 3), np.ones((30, 30), np.int32)), 8)
    side = round(seen.shape[0] / scale)
    outputs = {name: resample(values, (side, side)) for name, values in perfect(seen).items()}
    # Without a gap given back, and with one of as many pixels as were cut, as in an image of the network's own size.
    right = at_own_size(chosen(threshold=threshold), scale)
    none, narrow, found = (
        labels_from_outputs(outputs, options)
        for options in (chosen(threshold=threshold, boundary_erosion=0), chosen(threshold=threshold), right)
    )
    inner = np.s_[side // 4 : -side // 4, side // 4 : -side // 4]
    # A pixel may be left where four cells meet.
    assert found.max() == 9 and (found[inner] == 0).sum() <= 4 < (narrow[inner] == 0).sum()
    # Where a cell has no neighbour its border stays as it is.
    middle = int(23 / scale)
    assert np.array_equal(found[:middle, middle], none[:middle, middle])


@pytest.mark.parametrize("scale", [0.12, 0.32, 0.6, 0.9])
def test_cells_that_are_apart_stay_apart_at_the_images_own_size(scale: float) -> None:
    seen = np.zeros((60, 80), np.int32)
    seen[10:50, 10:38], seen[10:50, 41:70] = 1, 2  # three pixels of background, which the network sees well
    side = round(60 / scale), round(80 / scale)
    outputs = {name: resample(values, side) for name, values in perfect(seen).items()}
    found, none = (labels_from_outputs(outputs, o) for o in (at_own_size(chosen(), scale), chosen(boundary_erosion=0)))
    assert found.max() == 2
    np.testing.assert_array_equal(found, none)


@pytest.mark.parametrize(
    ("boundary_erosion", "scale", "wide"),
    [(1, 1.0, 1), (1, 2.0, 1), (3, 1.0, 3), (3, 3.0, 2), (0, 0.2, 0), (1, 0.32, 6), (1, 0.05, 35), (4, 0.5, 10)],
)
def test_the_gap_in_pixels_of_the_image(boundary_erosion: int, scale: float, wide: int) -> None:
    settings = chosen(boundary_erosion=boundary_erosion, threshold=0.3)
    assert at_own_size(settings, scale) == chosen(boundary_erosion=wide, threshold=0.3)
