"""Made-up microscopy: repeatable, truly labelled, varied, and never out of range."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.measure import label as components

from napari_unet.core.errors import DataError
from napari_unet.core.synthetic import KINDS, generate, generate_stack
from napari_unet.core.synthetic.shapes import Scene, one_piece_each, rasterise, rod
from napari_unet.core.synthetic.texture import camera, smooth_noise

SEEDS = range(4)


def assert_valid_labels(labels: np.ndarray) -> None:
    """Fail unless ids are 1..n and each is one connected piece."""
    assert labels.dtype == np.int32
    ids = np.unique(labels[labels > 0])
    assert ids.tolist() == list(range(1, len(ids) + 1))
    assert components(labels, background=0, connectivity=1).max() == len(ids)


def touching_pairs(labels: np.ndarray) -> int:
    """Return how many pairs of cells are neighbours without background between them."""
    pairs = set()
    for one, other in ((labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1])):
        meet = (one > 0) & (other > 0) & (one != other)
        pairs |= {tuple(sorted(p)) for p in zip(one[meet].tolist(), other[meet].tolist(), strict=True)}
    return len(pairs)


class TestGenerate:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("seed", SEEDS)
    def test_image_and_labels_are_valid(self, kind, seed):
        image, labels = generate(kind, (160, 144), seed)
        assert image.shape == labels.shape == (160, 144)
        assert image.dtype == np.float32
        assert np.isfinite(image).all()
        assert image.min() >= 0 and image.max() <= 1
        assert image.std() > 0.01
        assert labels.max() >= 1
        assert_valid_labels(labels)

    @pytest.mark.parametrize("kind", KINDS)
    def test_seed_decides_everything(self, kind):
        one, again, other = (generate(kind, (96, 96), seed) for seed in (7, 7, 8))
        np.testing.assert_array_equal(one[0], again[0])
        np.testing.assert_array_equal(one[1], again[1])
        assert (one[0] != other[0]).mean() > 0.5
        assert (one[1] != other[1]).any()

    @pytest.mark.parametrize("kind", KINDS)
    def test_cells_touch(self, kind):
        assert sum(touching_pairs(generate(kind, (192, 192), seed)[1]) > 0 for seed in range(6)) >= 3

    @pytest.mark.parametrize("kind", KINDS)
    def test_cells_have_about_the_diameter_asked_for(self, kind):
        def typical(diameter: float) -> float:
            areas = np.concatenate(
                [np.bincount(generate(kind, (256, 256), s, diameter=diameter)[1].ravel())[1:] for s in SEEDS]
            )
            return float(2 * np.sqrt(np.median(areas) / np.pi))

        small, large = typical(18), typical(36)
        assert 0.55 * 18 < small < 1.4 * 18
        assert 0.55 * 36 < large < 1.4 * 36
        assert 1.5 < large / small < 2.6

    @pytest.mark.parametrize("kind", ["nuclei", "phase", "bacteria", "tissue"])
    def test_density_is_the_share_that_is_covered(self, kind):
        sparse, dense = (
            np.mean([(generate(kind, (256, 256), s, diameter=20, density=d)[1] > 0).mean() for s in SEEDS])
            for d in (0.08, 0.32)
        )
        assert 0.04 < sparse < 0.13
        assert 0.18 < dense < 0.42

    @pytest.mark.parametrize("kind", KINDS)
    def test_cells_can_be_seen(self, kind):
        """Grey values or their local contrast differ between cells and what surrounds them."""
        seen = []
        for seed in SEEDS:
            image, labels = generate(kind, (192, 192), seed)
            slope = np.hypot(*np.gradient(image))
            inside = labels > 0
            edge = np.zeros_like(inside)
            edge[1:] |= labels[1:] != labels[:-1]
            edge[:, 1:] |= labels[:, 1:] != labels[:, :-1]
            difference = abs(image[inside].mean() - image[~inside].mean()) / image.std() if (~inside).any() else 0
            seen.append(difference > 0.5 or slope[edge].mean() > 1.15 * slope[~edge].mean())
        assert sum(seen) >= 3

    def test_seeds_differ_in_size_contrast_and_crowding(self):
        sets = [generate("nuclei", (192, 192), seed) for seed in range(12)]
        areas = [np.median(np.bincount(labels.ravel())[1:]) for _, labels in sets]
        assert max(areas) > 4 * min(areas)
        shares = [(labels > 0).mean() for _, labels in sets]
        assert max(shares) > 2 * min(shares)
        levels = [image[labels == 0].mean() for image, labels in sets]
        assert max(levels) > 2 * min(levels)

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("shape", [(1, 1), (1, 40), (17, 5), (8, 200)])
    def test_odd_shapes(self, kind, shape):
        image, labels = generate(kind, shape, 3)
        assert image.shape == labels.shape == shape
        assert np.isfinite(image).all()
        assert_valid_labels(labels)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"kind": "plankton"}, "no kind of picture 'plankton'; known are nuclei"),
            ({"shape": (0, 5)}, r"shape is \(0, 5\)"),
            ({"shape": (5, 5, 5)}, r"shape is \(5, 5, 5\)"),
            ({"seed": -1}, "seed is -1"),
            ({"diameter": 2}, "diameter is 2 pixels"),
            ({"diameter": float("nan")}, "diameter is nan"),
            ({"density": 1.5}, "density is 1.5"),
        ],
    )
    def test_errors_name_the_value(self, arguments, message):
        with pytest.raises(DataError, match=message):
            generate(**{"kind": "nuclei", "shape": (32, 32), **arguments})


class TestGenerateStack:
    def test_valid_and_repeatable(self):
        image, labels = generate_stack("nuclei", (10, 96, 80), 2)
        assert image.shape == labels.shape == (10, 96, 80)
        assert image.dtype == np.float32
        assert image.min() >= 0 and image.max() <= 1
        assert_valid_labels(labels)
        again = generate_stack("nuclei", (10, 96, 80), 2)
        np.testing.assert_array_equal(image, again[0])
        np.testing.assert_array_equal(labels, again[1])

    @pytest.mark.parametrize("seed", SEEDS)
    def test_cells_go_on_from_plane_to_plane(self, seed):
        _, labels = generate_stack("nuclei", (12, 128, 128), seed)
        below, above = labels[:-1], labels[1:]
        both = (below > 0) & (above > 0)
        assert (below[both] == above[both]).mean() > 0.8
        planes = [np.unique(np.nonzero(labels == k)[0]) for k in range(1, labels.max() + 1)]
        assert np.mean([len(p) for p in planes]) > 3
        assert all((np.diff(p) == 1).all() for p in planes)

    def test_nuclei_are_bright(self):
        image, labels = generate_stack("nuclei", (8, 128, 128), 0)
        assert image[labels > 0].mean() > 3 * image[labels == 0].mean()

    def test_errors_name_the_value(self):
        with pytest.raises(DataError, match="no kind of stack 'phase'"):
            generate_stack("phase", (4, 32, 32))
        with pytest.raises(DataError, match="spacing is 0"):
            generate_stack("nuclei", (4, 32, 32), spacing=0)
        with pytest.raises(DataError, match="3 sizes"):
            generate_stack("nuclei", (32, 32))


class TestParts:
    def test_smooth_noise_has_unit_variance_and_its_scale(self):
        rng = np.random.default_rng(0)
        fine, coarse = (smooth_noise(rng, (400, 400), scale) for scale in (3, 12))
        for noise in (fine, coarse):
            assert abs(noise.mean()) < 0.15
            assert noise.std() == pytest.approx(1, abs=0.1)
        assert np.abs(np.diff(fine)).mean() > 3 * np.abs(np.diff(coarse)).mean()

    def test_camera_noise_grows_with_brightness(self):
        rng = np.random.default_rng(0)
        dark, bright = (camera(rng, np.full((200, 200), v, np.float32), 100, 0.01).std() for v in (0.0, 1.0))
        assert dark == pytest.approx(0.01, rel=0.05)
        assert bright == pytest.approx(np.sqrt(1 / 100 + 0.01**2), rel=0.05)

    def test_disc_has_the_area_of_a_disc(self):
        blob = rasterise((60, 60), (30.2, 29.7), np.full(256, 15, np.float32))
        assert (blob.height > 0).sum() == pytest.approx(np.pi * 15**2, rel=0.02)
        assert rasterise((60, 60), (-40.0, 10.0), np.full(256, 15, np.float32)) is None

    def test_rod_has_the_area_of_a_capsule(self):
        blob = rod((80, 80), (40.0, 40.0), length=40, width=12, angle=0.7, bend=0)
        assert (blob.height > 0).sum() == pytest.approx(28 * 12 + np.pi * 36, rel=0.02)

    def test_place_refuses_a_hidden_cell_and_never_takes_a_pixel(self):
        scene = Scene(np.zeros((60, 60), np.int32))
        disc = np.full(256, 10, np.float32)
        assert scene.place(rasterise((60, 60), (30.0, 20.0), disc), overlap=0.2)
        before = scene.labels.copy()
        assert not scene.place(rasterise((60, 60), (30.0, 25.0), disc), overlap=0.2)
        assert scene.place(rasterise((60, 60), (30.0, 38.0), disc), overlap=0.2)
        assert (scene.labels[before > 0] == 1).all()
        assert touching_pairs(scene.labels) == 1

    def test_one_piece_each_keeps_the_largest(self):
        labels = np.array([[7, 0, 7, 7], [0, 0, 7, 7], [3, 3, 0, 0], [3, 3, 0, 9]], np.int32)
        assert one_piece_each(labels).tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 0, 0], [2, 2, 0, 0]]
