from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import ndimage

from napari_unet.core.settings import TrainingSettings
from napari_unet.core.training.augmentation import (
    Warp,
    _cubic_basis,
    change_grey_values,
    elastic_displacement,
    random_warp,
)

PLAIN = TrainingSettings(elastic=0, rotate=False, mirror=False, resize=0, grey=0, noise=0)
FULL = TrainingSettings()


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_displacements_are_gaussian_with_sigma_on_a_grid_of_3_by_3() -> None:
    source = rng()
    fields = np.stack([elastic_displacement(65, 10.0, source) for _ in range(2000)])
    assert fields.shape == (2000, 2, 65, 65) and fields.dtype == np.float32
    on_grid = fields[:, :, ::32, ::32]
    np.testing.assert_allclose(on_grid.std(axis=0), 10, rtol=0.1)
    np.testing.assert_allclose(on_grid.mean(axis=0), 0, atol=1)
    # Nine points per direction, independent of each other.
    correlation = np.corrcoef(on_grid.reshape(2000, 18).T)
    assert np.abs(correlation - np.eye(18)).max() < 0.12
    # Nothing but these nine numbers is in a field.
    assert np.linalg.matrix_rank(fields[:100, 0].reshape(100, -1), tol=1e-2) == 9


def test_between_the_grid_points_the_field_is_bicubic() -> None:
    field = elastic_displacement(41, 5.0, rng(3))
    positions = np.meshgrid(*[np.linspace(0, 2, 41)] * 2, indexing="ij")
    expected = ndimage.map_coordinates(field[0, ::20, ::20].astype(float), positions, order=3, mode="nearest")
    np.testing.assert_allclose(field[0], expected, atol=1e-4)
    assert np.abs(np.diff(field, 2, axis=2)).max() < 0.5


def test_the_basis_sums_to_one() -> None:
    np.testing.assert_allclose(_cubic_basis(33).sum(axis=1), 1, atol=1e-6)


def coordinates_picture(side: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Return an image of two channels whose grey values are their own coordinates, and labels of 20 px squares."""
    y, x = np.mgrid[:side, :side].astype(np.float32)
    labels = (y // 20 * 10 + x // 20 + 1).astype(np.int32)
    return np.stack([y, x]), labels


@pytest.mark.parametrize("seed", range(5))
def test_image_and_labels_move_together(seed: int) -> None:
    image, labels = coordinates_picture()
    warp = random_warp((100, 100), 80, FULL, rng(seed))
    moved = warp.image(image)
    numbers, known = warp.nearest(labels, labels > 50)
    y, x = np.rint(moved).astype(int)
    fraction = np.abs(moved - np.rint(moved)).max(axis=0)
    sure = fraction < 0.45  # at exactly half a pixel either neighbour is right
    np.testing.assert_array_equal(numbers[sure], labels[y, x][sure])
    np.testing.assert_array_equal(known, numbers > 50)
    assert moved.std() > 5


@pytest.mark.parametrize("seed", range(3))
def test_labels_encoded_in_grey_values_stay_on_their_labels(seed: int) -> None:
    _, labels = coordinates_picture()
    warp = random_warp((20, 30), 96, FULL, rng(seed))  # beyond the picture's edge: mirrored, both alike
    grey = warp.image(labels[None].astype(np.float32))[0]
    (numbers,) = warp.nearest(labels)
    inside = ndimage.maximum_filter(numbers, 5) == ndimage.minimum_filter(numbers, 5)
    assert inside.mean() > 0.5
    assert np.isclose(grey[inside], numbers[inside], atol=1e-3).mean() > 0.999  # but for tips of a label


def test_without_options_a_patch_is_a_plain_cutout() -> None:
    image, labels = coordinates_picture()
    warp = random_warp((50.5, 60.5), 10, PLAIN, rng())
    np.testing.assert_allclose(warp.image(image), image[:, 46:56, 56:66], atol=1e-4)
    np.testing.assert_array_equal(warp.nearest(labels)[0], labels[46:56, 56:66])
    np.testing.assert_allclose(warp.central(4).image(image), image[:, 49:53, 59:63], atol=1e-4)


def test_outside_the_picture_it_is_mirrored() -> None:
    image = rng().random((1, 12, 9)).astype(np.float32)
    side = 51
    warp = random_warp((5.0, 4.0), side, PLAIN, rng())
    padded = np.pad(image[0], ((20, 19), (21, 21)), mode="reflect")
    np.testing.assert_allclose(warp.image(image)[0], padded[:side, :side], atol=1e-5)
    np.testing.assert_array_equal(warp.nearest(image[0])[0], padded[:side, :side])


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1), (2, 2)])
def test_thin_pictures(shape: tuple[int, int]) -> None:
    image = rng().random((2, *shape)).astype(np.float32)
    warp = random_warp((0.5, 0.5), 64, FULL, rng())
    out = warp.image(image)
    assert out.shape == (2, 64, 64) and image.min() - 1e-5 <= out.min() <= out.max() <= image.max() + 1e-5


def jacobian(settings: TrainingSettings, seed: int) -> np.ndarray:
    coordinates = random_warp((0, 0), 5, settings, rng(seed)).coordinates
    return np.stack([coordinates[:, 1, 0] - coordinates[:, 0, 0], coordinates[:, 0, 1] - coordinates[:, 0, 0]], axis=1)


def test_rotation_mirror_and_size_are_what_they_say() -> None:
    rotations = np.array([jacobian(dataclasses.replace(PLAIN, rotate=True), s) for s in range(300)])
    np.testing.assert_allclose(rotations @ rotations.transpose(0, 2, 1), np.eye(2)[None].repeat(300, 0), atol=1e-4)
    np.testing.assert_allclose(np.linalg.det(rotations), 1, atol=1e-4)
    angles = np.arctan2(rotations[:, 0, 1], rotations[:, 0, 0])
    assert np.histogram(angles, 4, (-np.pi, np.pi))[0].min() > 40
    mirrors = np.array([np.linalg.det(jacobian(dataclasses.replace(PLAIN, mirror=True), s)) for s in range(200)])
    assert set(np.round(mirrors, 4)) == {-1, 1} and 60 < (mirrors < 0).sum() < 140
    zooms = np.array([jacobian(dataclasses.replace(PLAIN, resize=0.15), s)[0, 0] for s in range(300)])
    assert 1 / 1.15 - 1e-4 <= zooms.min() < 0.9 and 1.1 < zooms.max() <= 1.15 + 1e-4


def test_the_same_seed_gives_the_same_patch_and_another_seed_another() -> None:
    image, _ = coordinates_picture()

    def patch(seed: int) -> np.ndarray:
        source = rng(seed)
        return change_grey_values(random_warp((100, 100), 32, FULL, source).image(image / 100), FULL, source)

    np.testing.assert_array_equal(patch(1), patch(1))
    assert not np.allclose(patch(1), patch(2))


def test_grey_values_change_only_when_asked_and_stay_finite() -> None:
    image = rng().normal(0.5, 0.5, (2, 40, 40)).astype(np.float32)
    np.testing.assert_array_equal(change_grey_values(image, PLAIN, rng()), image)
    wild = dataclasses.replace(PLAIN, grey=1.0, noise=1.0)
    before = image.copy()
    changed = [change_grey_values(image, wild, rng(s)) for s in range(30)]
    assert all(np.isfinite(c).all() and c.dtype == np.float32 and c.shape == image.shape for c in changed)
    assert len({float(c.sum()) for c in changed}) == 30
    np.testing.assert_array_equal(image, before)


def test_a_warp_reads_its_window_and_not_the_whole_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    original = ndimage.map_coordinates

    def watching(source: np.ndarray, *args: object, **more: object) -> np.ndarray:
        sizes.append(source.size)
        return np.asarray(original(source, *args, **more))

    monkeypatch.setattr(ndimage, "map_coordinates", watching)
    y, x = np.mgrid[500:520, 700:720].astype(np.float32)
    Warp(np.stack([y, x])).image(np.zeros((1, 2000, 2000), np.float32))
    assert sizes == [21 * 21]
