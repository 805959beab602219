"""Metrics against scikit-image, brute force, and cases worked by hand."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.metrics import adapted_rand_error as skimage_are
from skimage.metrics import contingency_table as skimage_table
from skimage.metrics import variation_of_information as skimage_vi

from napari_unet.core.errors import DataError
from napari_unet.core.evaluation import metrics

THRESHOLDS = (0.25, 0.5, 0.75)

label_images = arrays(np.int32, (6, 7), elements=st.integers(0, 4))


def random_pair(seed: int, size: int = 64, cells: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """Return Voronoi-like labels with holes, and a disturbed version of them."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    centres = rng.uniform(0, size, (cells, 2))

    def cells_of(points: np.ndarray) -> np.ndarray:
        distance = np.hypot(y[..., None] - points[:, 0], x[..., None] - points[:, 1])
        return np.where(distance.min(axis=-1) < size / 8, distance.argmin(axis=-1) + 1, 0)

    return cells_of(centres), cells_of(centres + rng.normal(0, 1.5, centres.shape))


def brute_force_iou(truth: np.ndarray, prediction: np.ndarray) -> dict[tuple[int, int], float]:
    """Return the IoU of each overlapping pair of objects, from whole masks."""
    result = {}
    for t, p in itertools.product(np.unique(truth), np.unique(prediction)):
        both = np.sum((truth == t) & (prediction == p))
        if t and p and both:
            result[int(t), int(p)] = both / np.sum((truth == t) | (prediction == p))
    return result


def brute_force_matches(ious: dict[tuple[int, int], float], threshold: float) -> int:
    """Return the size of the largest one to one matching, by augmenting paths."""
    partner: dict[int, int] = {}

    def find(t: int, seen: set[int]) -> bool:
        for (one, p), value in ious.items():
            if one == t and value >= threshold and p not in seen:
                seen.add(p)
                if p not in partner or find(partner[p], seen):
                    partner[p] = t
                    return True
        return False

    return sum(find(t, set()) for t in sorted({t for t, _ in ious}))


# Worked by hand: cell 1 is found with IoU 3/4, cell 2 is split in halves of IoU 1/2 each, cell 3 is missed.
HAND_TRUTH = np.array([[1, 1, 1, 1, 0, 2, 2, 2, 2, 0, 3, 3]])
HAND_PREDICTION = np.array([[9, 9, 9, 0, 0, 5, 5, 6, 6, 0, 0, 0]])


class TestMatching:
    def test_by_hand(self):
        m = metrics.match_instances(HAND_TRUTH, HAND_PREDICTION)
        assert m.truth_ids.tolist() == [1, 2, 3]
        assert m.prediction_ids.tolist() == [5, 6, 9]
        assert m.truth_areas.tolist() == [4, 4, 2]
        pairs = zip(m.truth_ids[m.rows], m.prediction_ids[m.columns], m.shared, m.iou, strict=True)
        assert sorted(pairs) == [(1, 9, 3, 0.75), (2, 5, 2, 0.5), (2, 6, 2, 0.5)]
        assert len(m.matched(0.5)) == 2
        assert len(m.matched(0.75)) == 1
        assert len(m.matched(0.76)) == 0

    @pytest.mark.parametrize("seed", range(3))
    def test_iou_is_that_of_whole_masks(self, seed):
        truth, prediction = random_pair(seed)
        m = metrics.match_instances(truth, prediction)
        found = dict(zip(zip(m.truth_ids[m.rows], m.prediction_ids[m.columns], strict=True), m.iou, strict=True))
        assert found == pytest.approx(brute_force_iou(truth, prediction))

    @settings(max_examples=60, deadline=None)
    @given(label_images, label_images, st.sampled_from((0.05, 0.2, 0.3, 0.5, 0.51)))
    def test_matches_as_many_as_possible_one_to_one(self, truth, prediction, threshold):
        m = metrics.match_instances(truth, prediction)
        chosen = m.matched(threshold)
        assert len(chosen) == brute_force_matches(brute_force_iou(truth, prediction), threshold)
        assert len(set(m.rows[chosen])) == len(set(m.columns[chosen])) == len(chosen)
        assert (m.iou[chosen] >= threshold).all()

    def test_takes_the_better_of_two_equally_large_matchings(self):
        truth = np.array([[1] * 10])
        prediction = np.array([[5] * 4 + [6] * 6])
        m = metrics.match_instances(truth, prediction)
        assert m.prediction_ids[m.columns[m.matched(0.3)]].tolist() == [6]

    @pytest.mark.parametrize("dtype", [bool, np.uint8, np.int8, np.uint16, np.int64, np.uint64])
    def test_any_integer_type(self, dtype):
        m = metrics.match_instances((HAND_TRUTH == 1).astype(dtype), (HAND_PREDICTION == 9).astype(np.uint32))
        assert m.iou.tolist() == [0.75]

    def test_huge_and_negative_ids(self):
        truth = np.array([[2**62, 2**62, -5, -5, 0]])
        assert metrics.average_precision(truth, truth.copy()).ap.tolist() == [1.0] * 9

    def test_thousands_of_cells(self):
        y, x = np.mgrid[:2048, :2048]
        truth = np.where((y % 32 < 28) & (x % 32 < 28), (y // 32) * 64 + x // 32 + 1, 0)
        prediction = np.roll(truth, (3, 2), (0, 1))
        m = metrics.match_instances(truth, prediction)
        assert len(m.truth_ids) == 4096
        assert len(m.matched(0.5)) >= 3969  # all but the cells that were rolled over the edge


class TestContingency:
    @pytest.mark.parametrize("seed", range(3))
    def test_same_as_scikit_image(self, seed):
        truth, prediction = random_pair(seed)
        table = metrics.contingency(truth, prediction)
        dense = np.zeros((truth.max() + 1, prediction.max() + 1))
        dense[table.truth_ids[table.rows], table.prediction_ids[table.columns]] = table.counts
        np.testing.assert_array_equal(dense, skimage_table(truth, prediction, sparse_type="array").toarray())

    def test_shapes_that_differ_are_named(self):
        with pytest.raises(DataError, match=r"shape \(4, 5\).*\(5, 4\)"):
            metrics.contingency(np.zeros((4, 5), int), np.zeros((5, 4), int))

    def test_fractions_are_no_labels(self):
        with pytest.raises(DataError, match="prediction is float64.*whole numbers"):
            metrics.contingency(np.zeros((4, 5), int), np.zeros((4, 5)))

    def test_no_pixels(self):
        table = metrics.contingency(np.zeros((0, 5), int), np.zeros((0, 5), int))
        assert table.counts.size == table.truth_ids.size == 0


class TestAveragePrecision:
    def test_by_hand(self):
        s = metrics.average_precision(HAND_TRUTH, HAND_PREDICTION, (0.5, 0.75, 0.9))
        assert s.tp.tolist() == [2, 1, 0]
        assert s.fp.tolist() == [1, 2, 3]
        assert s.fn.tolist() == [1, 2, 3]
        np.testing.assert_allclose(s.ap, [2 / 4, 1 / 5, 0])
        np.testing.assert_allclose(s.precision, [2 / 3, 1 / 3, 0])
        np.testing.assert_allclose(s.recall, [2 / 3, 1 / 3, 0])
        np.testing.assert_allclose(s.f1, [2 / 3, 1 / 3, 0])
        np.testing.assert_allclose(s.matched_iou, [0.625, 0.75, 0])
        np.testing.assert_allclose(s.pq, s.f1 * s.matched_iou)

    def test_mean_over_images_is_not_the_pooled_value(self):
        one = np.array([[1, 0, 0, 0]])
        three = np.array([[1, 2, 3, 0]])
        s = metrics.average_precision([one, three], [one, three * 0], (0.5,))
        assert s.ap.tolist() == [0.5]  # (1 + 0) / 2
        assert s.ap_pooled.tolist() == [0.25]  # 1 of 4 cells

    def test_empty_pair_counts_as_one_image_and_as_no_cell(self):
        empty, one = np.zeros((1, 4), int), np.array([[1, 1, 0, 0]])
        s = metrics.average_precision([empty, one], [empty, empty], (0.5,))
        assert (s.ap[0], s.ap_pooled[0], s.fn[0]) == (0.5, 0.0, 1)

    def test_everything_empty_is_perfect(self):
        empty = np.zeros((3, 4), int)
        s = metrics.average_precision(empty, empty, (0.5,))
        for name in ("ap", "ap_pooled", "precision", "recall", "f1", "pq", "matched_iou"):
            assert getattr(s, name).tolist() == [1.0], name

    def test_one_side_empty_is_worst(self):
        empty, one = np.zeros((1, 4), int), np.array([[1, 1, 0, 0]])
        for pair in ((empty, one), (one, empty)):
            s = metrics.average_precision(*pair, (0.5,))
            for name in ("ap", "ap_pooled", "precision", "recall", "f1", "pq", "matched_iou"):
                assert getattr(s, name).tolist() == [0.0], name

    def test_unequal_numbers(self):
        image = np.zeros((3, 4), int)
        with pytest.raises(DataError, match="2 truths but 1 predictions"):
            metrics.average_precision([image, image], [image])
        with pytest.raises(DataError, match="no image"):
            metrics.average_precision([], [])

    @settings(max_examples=40, deadline=None)
    @given(label_images, label_images)
    def test_symmetric_but_for_precision_and_recall(self, one, other):
        s, r = (metrics.average_precision(*pair, THRESHOLDS) for pair in ((one, other), (other, one)))
        for name in ("ap", "ap_pooled", "f1", "pq", "matched_iou", "tp"):
            np.testing.assert_allclose(getattr(s, name), getattr(r, name), err_msg=name)
        np.testing.assert_allclose(s.precision, r.recall)


class TestSeg:
    def test_by_hand(self):
        # Cell 1: 3/4 with 9; cell 2: no segment holds *more* than half; cell 3: missed.
        assert metrics.seg_score(HAND_TRUTH, HAND_PREDICTION) == pytest.approx(0.75 / 3)

    def test_a_segment_may_serve_two_cells(self):
        truth, prediction = np.array([[1, 1, 2, 2, 0]]), np.array([[4, 4, 4, 4, 0]])
        assert metrics.seg_score(truth, prediction) == 0.5

    def test_frames_are_pooled_over_cells(self):
        one, three = np.array([[1, 0, 0]]), np.array([[1, 2, 3]])
        assert metrics.seg_score([one, three], [one, three * 0]) == 0.25

    def test_false_cells_cost_nothing_unless_there_is_nothing_else(self):
        empty, one, two = np.array([[0, 0, 0]]), np.array([[1, 0, 0]]), np.array([[1, 0, 2]])
        assert metrics.seg_score([one, empty], [two, two]) == 1
        assert metrics.seg_score(empty, two) == 0
        assert metrics.seg_score(empty, empty) == 1

    @pytest.mark.parametrize("seed", range(3))
    def test_same_as_the_definition(self, seed):
        truth, prediction = random_pair(seed)
        expected = []
        for cell in np.unique(truth[truth > 0]):
            inside = prediction[truth == cell]
            best = np.bincount(inside).argmax()
            held = np.sum(inside == best) > inside.size / 2 and best > 0
            union = np.sum((truth == cell) | (prediction == best))
            expected.append(np.sum(inside == best) / union if held else 0.0)
        assert metrics.seg_score(truth, prediction) == pytest.approx(np.mean(expected))


class TestAreas:
    def test_foreground_by_hand(self):
        assert metrics.iou(HAND_TRUTH, HAND_PREDICTION) == pytest.approx(7 / 10)
        assert metrics.dice(HAND_TRUTH, HAND_PREDICTION) == pytest.approx(14 / 17)
        assert metrics.pixel_error(HAND_TRUTH, HAND_PREDICTION) == pytest.approx(3 / 12)

    def test_classes_by_hand(self):
        truth, prediction = np.array([[0, 1, 1, 2]]), np.array([[0, 1, 2, 2]])
        assert metrics.classes(truth, prediction) == [0, 1, 2]
        assert metrics.iou_per_class(truth, prediction) == {0: 1.0, 1: 0.5, 2: 0.5}
        assert metrics.dice_per_class(truth, prediction) == pytest.approx({0: 1.0, 1: 2 / 3, 2: 2 / 3})
        assert metrics.iou(truth, prediction, label=7) == 1.0  # in neither: nothing to get wrong

    def test_pooled_over_pixels(self):
        small, large = np.array([[1]]), np.array([[1, 1, 1]])
        assert metrics.iou([small, large], [small, large * 0]) == 0.25


class TestPartitions:
    @settings(max_examples=60, deadline=None)
    @given(label_images, label_images)
    def test_adapted_rand_error_is_that_of_scikit_image(self, truth, prediction):
        with np.errstate(invalid="ignore", divide="ignore"):
            expected = skimage_are(truth, prediction)[0]
        assert metrics.adapted_rand_error(truth, prediction) == pytest.approx(0.0 if np.isnan(expected) else expected)

    @settings(max_examples=60, deadline=None)
    @given(label_images, label_images)
    def test_variation_of_information_is_that_of_scikit_image(self, truth, prediction):
        np.testing.assert_allclose(
            metrics.variation_of_information(truth, prediction), skimage_vi(truth, prediction), atol=1e-12
        )

    @pytest.mark.parametrize("seed", range(3))
    def test_information_inside_the_truth(self, seed):
        truth, prediction = random_pair(seed)
        np.testing.assert_allclose(
            metrics.variation_of_information(truth, prediction, foreground=True),
            skimage_vi(truth[truth > 0], prediction[truth > 0]),
        )

    def test_a_split_is_a_split_and_a_merge_a_merge(self):
        one, two = np.array([[1, 1, 1, 1]]), np.array([[1, 1, 2, 2]])
        assert metrics.variation_of_information(one, two) == (1.0, 0.0)
        assert metrics.variation_of_information(two, one) == (0.0, 1.0)

    def test_v_scores_by_hand(self):
        # Truth: one segment of 4 (a fifth pixel is membrane). Prediction: 2 + 1, and one membrane pixel of its own.
        truth, prediction = np.array([[1, 1, 1, 1, 0]]), np.array([[1, 1, 0, 2, 2]])
        assert metrics.v_rand(truth, prediction) == pytest.approx((4 + 1 + 1) / (0.5 * 16 + 0.5 * 6))
        # H(T) = 0, so nothing can be known of it: the score is 0 although nothing is merged.
        assert metrics.v_info(truth, prediction) == 0.0
        halves = np.array([[1, 1, 2, 2, 0]])
        assert metrics.v_rand(halves, halves * 0 + 1) == pytest.approx(8 / (0.5 * 8 + 0.5 * 16))
        assert metrics.v_info(np.array([[1, 1, 2, 2]]), np.array([[1, 1, 2, 3]])) == pytest.approx(1 / 1.25)

    def test_perfect_and_empty(self):
        truth, _ = random_pair(0)
        empty = np.zeros_like(truth)
        assert metrics.v_rand(truth, truth) == metrics.v_info(truth, truth) == 1.0
        assert metrics.v_rand(empty, truth) == metrics.v_info(empty, truth) == 1.0  # no true foreground: nothing wrong

    def test_thinning_forgives_wide_borders(self):
        truth = np.ones((20, 21), int)
        truth[:, 10], truth[:, 11:] = 0, 2
        wide = truth.copy()
        wide[:, 7:14] = 0
        assert metrics.v_rand(truth, wide) < 0.9
        assert metrics.v_rand(truth, wide, thin=True) == metrics.v_info(truth, wide, thin=True) == 1.0

    def test_thinning_leaves_no_background_and_no_new_ids(self):
        truth, _ = random_pair(1)
        thin = metrics.thin_borders(truth)
        assert (thin[truth > 0] == truth[truth > 0]).all()
        assert set(np.unique(thin)) == set(np.unique(truth[truth > 0]))
        assert not metrics.thin_borders(np.zeros((3, 3), int)).any()


class TestWorstCells:
    def test_worst_first(self):
        assert metrics.worst_cells(HAND_TRUTH, HAND_PREDICTION) == [(3, 0.0), (2, 0.5), (1, 0.75)]


class TestEvaluate:
    def test_is_the_single_functions_under_their_names(self):
        pairs = [random_pair(seed) for seed in range(3)]
        truths, predictions = [p[0] for p in pairs], [p[1] for p in pairs]
        result = metrics.evaluate(truths, predictions)
        scores = metrics.average_precision(truths, predictions)
        for k, threshold in enumerate(metrics.THRESHOLDS):
            assert result[f"ap_{threshold:.2f}"] == scores.ap[k]
            assert result[f"ap_pooled_{threshold:.2f}"] == scores.ap_pooled[k]
            assert result[f"pq_{threshold:.2f}"] == scores.pq[k]
        assert result["images"] == 3
        assert result["cells_truth"] == sum(len(np.unique(t[t > 0])) for t in truths)
        assert result["seg"] == metrics.seg_score(truths, predictions)
        for name in ("iou", "dice", "pixel_error"):
            assert result[name] == getattr(metrics, name)(truths, predictions)
        for name in ("adapted_rand_error", "v_rand", "v_info"):
            mean = np.mean([getattr(metrics, name)(*p) for p in pairs])
            assert result[name] == pytest.approx(mean)
        vi = np.mean([metrics.variation_of_information(*p) for p in pairs], axis=0)
        assert [result["vi_split"], result["vi_merge"]] == pytest.approx(list(vi))

    def test_json_without_numpy_types_or_nan(self):
        empty = np.zeros((4, 4), int)
        for prediction in (empty, np.eye(4, dtype=int)):
            text = json.dumps(metrics.evaluate(empty, prediction), allow_nan=False)
            assert all(type(v) in (int, float) for v in json.loads(text).values())

    @settings(max_examples=40, deadline=None)
    @given(label_images, label_images, st.permutations(range(1, 5)))
    def test_ids_do_not_matter(self, truth, prediction, order):
        renamed = np.array([0, *(1000 * np.array(order))])[prediction]
        assert metrics.evaluate(truth, renamed) == pytest.approx(metrics.evaluate(truth, prediction))

    @settings(max_examples=40, deadline=None)
    @given(label_images, label_images)
    def test_all_scores_lie_between_zero_and_one(self, truth, prediction):
        bits = {"vi_split", "vi_merge"}
        counts = {"images", "cells_truth", "cells_predicted"}
        for name, value in metrics.evaluate(truth, prediction).items():
            assert name in counts or -1e-12 <= value <= (np.inf if name in bits else 1 + 1e-12), name
