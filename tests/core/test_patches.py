from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import cells_picture, discs
from napari_unet.core.data.annotation import AnnotatedImage, interpret
from napari_unet.core.data.label_ops import erode_boundaries
from napari_unet.core.data.tiles import Geometry
from napari_unet.core.settings import TrainingSettings
from napari_unet.core.training.sampling import PatchSampler, Sample, cell_boxes, make_sample, patch_sizes, split_samples

PLAIN = TrainingSettings(elastic=0, rotate=False, mirror=False, resize=0, grey=0, noise=0)


def numbered(labels: np.ndarray, name: str = "a", first: int = 0, **chosen: object) -> Sample:
    """Return a sample each of whose pixels has a grey value of its own, so that it can be found again."""
    image = (first + np.arange(labels.size, dtype=np.float64)).reshape(1, *labels.shape).astype(np.float32)
    return make_sample(image, interpret(AnnotatedImage(image, labels), TrainingSettings(**chosen), (1, 2)), name)


def pixels(samples: tuple[Sample, ...]) -> set[float]:
    """Return all grey values that a side can ever see: its parts are read, mirrored and warped by themselves."""
    return {v for s in samples for v in s.image.ravel().tolist()}


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


TWO = discs((40, 80), [(20, 20), (20, 60)], 10)


@pytest.mark.parametrize("labels", [TWO, TWO.T, np.where(TWO == 2, 9, TWO)])
def test_two_cells_are_enough(labels: np.ndarray) -> None:
    split = split_samples([numbered(labels)], 0.2, rng())
    assert [s.cells for s in (*split.train, *split.validation)] == [1, 1]
    assert not pixels(split.train) & pixels(split.validation)
    assert split.note == "Held out for validation: 1 of 2 cells, in a part of a."


def test_the_cut_runs_between_the_cells_and_leaves_both_their_surroundings() -> None:
    split = split_samples([numbered(TWO)], 0.2, rng())
    assert sorted(s.image.shape[2] for s in (*split.train, *split.validation)) == [40, 40]


def test_every_kind_of_cell_is_learnt_and_measured_where_that_can_be() -> None:
    cells = discs((100, 130), [(20 + 30 * row, 20 + 30 * column) for row in range(3) for column in range(4)], 8)
    columns = np.arange(cells.shape[1])
    # Beside each other: the first column would be nearest to a fifth of the cells, and has one kind only.
    for side in both_sides(np.select([(cells > 0) & (columns < 65), cells > 0], [1, 2])):
        assert {1, 2} <= side
    # One cell alone is of its kind, which is learnt rather than measured.
    train, validation = both_sides(
        np.select([(cells > 0) & (columns < 35), cells == cells[20, 50], cells > 0], [1, 2, 1])
    )
    assert 2 in train and 1 in train and 1 in validation


def both_sides(labels: np.ndarray) -> tuple[set[int], set[int]]:
    """Return which kinds are known on the side that is learnt from, and on the other."""
    split = split_samples([numbered(labels, mode="classes")], 0.2, rng())
    sides = (split.train, split.validation)
    train, validation = ({int(v) for s in side for v in np.unique(s.known.target[s.known.mask])} for side in sides)
    return train, validation


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 7), st.integers(1, 8), st.floats(0.05, 0.8))
def test_no_pixel_is_on_both_sides(seed: int, planes: int, cells: int, share: float) -> None:
    source = rng(seed)
    samples = []
    for number in range(planes):
        centres = [tuple(source.uniform(0, 50, 2)) for _ in range(cells if number else max(1, cells - 1))]
        samples.append(numbered(discs((50, 50), centres, 6), f"plane {number}", first=2500 * number))
    split = split_samples(samples, share, rng(seed))
    assert not pixels(split.train) & pixels(split.validation)
    assert all(s.cells for s in split.validation) and sum(s.cells for s in split.train) > 0
    assert split.note
    total = sum(s.cells for s in samples)
    assert bool(split.validation) or total == 1 or planes == 1
    assert sum(s.cells for s in (*split.train, *split.validation)) <= total
    for part in (*split.train, *split.validation):
        assert part.known.mask.shape == part.known.instances.shape == part.distance.shape == part.image.shape[1:]


def test_cells_on_the_line_are_unknown_on_both_sides() -> None:
    labels = discs((60, 90), [(15, 20), (15, 70), (45, 45)], 12)
    labels[30:58, 10:80] = 3  # lies across every upright line between the others, and lying lines lose it too
    split = split_samples([numbered(labels[5:50])], 0.3, rng())
    for part in (*split.train, *split.validation):
        whole = {int(v): int((part.known.instances == v).sum()) for v in np.unique(part.known.instances) if v}
        sizes = {1: (labels[5:50] == 1).sum(), 2: (labels[5:50] == 2).sum(), 3: (labels[5:50] == 3).sum()}
        assert all(whole[v] == sizes[v] for v in whole)


def test_one_cell_cannot_be_split_and_it_says_so() -> None:
    split = split_samples([numbered(discs((40, 40), [(20, 20)], 9))], 0.2, rng())
    assert split.validation == () and len(split.train) == 1
    assert split.note.startswith("There is nothing to measure on: paint at least two cells")


def test_a_share_of_nothing_keeps_nothing_apart() -> None:
    split = split_samples([numbered(TWO)], 0.0, rng())
    assert split.validation == () and split.note == ""


def test_two_planes_with_a_cell_each_are_parted_as_planes() -> None:
    one = discs((40, 40), [(20, 20)], 9)
    split = split_samples([numbered(one, "a"), numbered(one, "b", 5000)], 0.2, rng())
    assert len(split.train) == len(split.validation) == 1


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("with_cells", [1, 2, 4])
def test_cells_to_learn_from_are_left(seed: int, with_cells: int) -> None:
    cells, paint = np.where(TWO == 1, 1, 0), np.zeros_like(TWO)
    paint[:5] = 5  # background paint only
    samples = [numbered(cells if i < with_cells else paint, str(i), i * 3200, background_label=5) for i in range(6)]
    split = split_samples(samples, 0.8, rng(seed))
    assert sum(s.cells for s in split.train) >= 1
    assert bool(split.validation) == (with_cells > 1)


def test_whole_planes_are_kept_apart_when_there_are_many() -> None:
    samples = [numbered(TWO, str(i), first=i * 3200) for i in range(10)]
    split = split_samples(samples, 0.2, rng())
    assert (len(split.train), len(split.validation)) == (8, 2)
    assert split.note == "Held out for validation: 2 of 10 annotated planes."
    again = split_samples(samples, 0.2, rng())
    assert [s.name for s in again.validation] == [s.name for s in split.validation]


def test_the_share_is_met_as_well_as_the_cells_allow() -> None:
    labels = discs((30, 300), [(15, 15 + 30 * i) for i in range(10)], 10)
    for share in (0.1, 0.3, 0.5):
        split = split_samples([numbered(labels)], share, rng())
        assert split.validation[0].cells == round(10 * share)


def test_paint_of_classes_is_counted_by_pieces() -> None:
    sample = numbered(np.where(TWO > 0, 1, 0), mode="classes")
    assert sample.cells == 2 and set(cell_boxes(sample.known)) == {1, 2}
    split = split_samples([sample], 0.3, rng())
    assert len(split.validation) == 1 and not pixels(split.train) & pixels(split.validation)


@given(st.integers(1, 5), st.integers(32, 2048), st.integers(1, 5000))
def test_patch_sizes_fit_the_network(depth: int, wanted: int, largest: int) -> None:
    geometry = Geometry(depth)
    size, output = patch_sizes(wanted, largest, geometry, "same")
    assert size == output and size % geometry.stride == 0
    assert size <= max(wanted, geometry.stride) and size < max(largest, geometry.stride) + geometry.stride
    size, output = patch_sizes(wanted, largest, geometry, "valid")
    assert geometry.is_valid_input(size) and size - output == 2 * geometry.margin


def sampler(sample: Sample, chosen: TrainingSettings, sizes: tuple[int, int], seed: int = 0) -> PatchSampler:
    return PatchSampler([sample], chosen, sizes, rng(seed))


def painted() -> Sample:
    _, labels = cells_picture()
    return make_sample(labels[None].astype(np.float32), interpret(AnnotatedImage(labels, labels), PLAIN), "a")


@pytest.mark.parametrize("sizes", [(48, 48), (108, 64)])
def test_everything_in_a_patch_moves_together(sizes: tuple[int, int]) -> None:
    source = sampler(painted(), dataclasses.replace(PLAIN, rotate=True, elastic=5.0), sizes)
    for _ in range(5):
        patch = source.draw()
        assert patch.image.shape == (1, sizes[0], sizes[0]) and patch.target.shape == (sizes[1], sizes[1])
        start = (sizes[0] - sizes[1]) // 2
        grey = patch.image[0, start : start + sizes[1], start : start + sizes[1]]
        # The grey value is the label; interpolation at the border mixes two of them.
        assert (np.abs(grey - patch.instances) < 0.01).mean() > 0.75
        assert np.array_equal(patch.target, erode_boundaries(patch.instances, 1) > 0)
        assert patch.mask[patch.instances > 0].all()
        assert ((patch.distance > 0) <= (patch.instances > 0)).all() and patch.distance.max() <= 1


def test_equal_states_give_equal_patches() -> None:
    chosen = TrainingSettings()
    one, other = (sampler(painted(), chosen, (48, 48), seed=4) for _ in range(2))
    for _ in range(3):
        a, b = one.draw(), other.draw()
        assert all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))
    assert not np.array_equal(one.draw().image, sampler(painted(), chosen, (48, 48), seed=5).draw().image)


def test_patches_lie_where_something_is_known() -> None:
    labels = np.zeros((600, 600), np.int32)
    labels[500:520, 80:100] = 1
    sample = make_sample(labels[None].astype(np.float32), interpret(AnnotatedImage(labels, labels), PLAIN), "a")
    source = sampler(sample, TrainingSettings(), (64, 64))
    assert np.mean([source.draw().mask.any() for _ in range(60)]) > 0.95


def test_no_training_pixel_of_the_other_side_is_ever_drawn() -> None:
    split = split_samples([numbered(TWO)], 0.2, rng())
    allowed = pixels(split.train)
    source = PatchSampler(split.train, dataclasses.replace(PLAIN, elastic=20.0, rotate=True), (64, 64), rng())
    for _ in range(10):
        patch = source.draw().image
        assert min(allowed) - 1e-2 <= patch.min() and patch.max() <= max(allowed) + 1e-2


def test_checked_cells_are_drawn_more_often() -> None:
    labels = np.zeros((40, 2000), np.int32)
    labels[10:30, 100:120], labels[10:30, 1900:1920] = 1, 2
    known = interpret(AnnotatedImage(labels, labels), PLAIN)
    shares = {}
    for places in ((), ((20.0, 110.0),), ((20.0, 1000.0),)):
        source = sampler(make_sample(labels[None].astype(np.float32), known, "a", places), PLAIN, (32, 32))
        drawn = [source.draw().instances for _ in range(300)]
        shares[places] = np.mean([(patch == 1).any() for patch in drawn])
    assert shares[((20.0, 110.0),)] > shares[()] + 0.08
    # Where nothing is known there is nothing to look at.
    assert shares[((20.0, 1000.0),)] == shares[()]


def test_emphasised_places_stay_on_their_side_of_a_cut() -> None:
    sample = dataclasses.replace(numbered(TWO), oversampled=((20.0, 20.0), (20.0, 60.0)))
    split = split_samples([sample], 0.5, rng())
    sides = [*split.train, *split.validation]
    assert [side.known.mask.shape[1] for side in sides] == [40, 40]
    assert [side.oversampled for side in sides] == [((20.0, 20.0),), ((20.0, 20.0),)]
    assert all(side.known.instances[20, 20] for side in sides)
