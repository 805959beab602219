import importlib
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from peers.protocol import Crop, Job, Report, read_answer, read_job, write_answer, write_job

PEERS = Path(__file__).parents[2] / "benchmarks" / "peers"


@pytest.fixture
def peer(monkeypatch):
    """Return a function that imports a peer's script as it is run: from its own folder."""
    monkeypatch.syspath_prepend(str(PEERS))

    def load(name):
        monkeypatch.delitem(sys.modules, name, raising=False)
        return importlib.import_module(name)

    return load


def small_job(seconds=1.0):
    image = np.arange(600, dtype=np.float64).reshape(20, 30)
    labels = np.zeros((8, 10), np.int32)
    labels[2:5, 2:5] = 1
    return Job(
        (Crop(image, (4, 12, 5, 15), labels), Crop(image[:8, :10], (0, 8, 0, 10), labels)), (image,), seconds, 3.4
    )


def test_a_job_comes_back_as_it_was_written(tmp_path):
    job = small_job()
    write_job(tmp_path, job)
    back = read_job(tmp_path)
    assert (back.seconds, back.diameter, back.threads, back.seed) == (1.0, 3.4, 2, 0)
    assert [c.box for c in back.crops] == [(4, 12, 5, 15), (0, 8, 0, 10)]
    for one, other in zip(job.crops, back.crops, strict=True):
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.labels, other.labels)
    np.testing.assert_array_equal(back.tests[0], job.tests[0])


def test_many_answers_keep_their_order(tmp_path):
    found = [np.full((2, 3 + i), i) for i in range(12)]
    write_answer(tmp_path, found, Report("mine", 7, 1.5, "patch 64, batch 1", 0.25))
    labels, report = read_answer(tmp_path)
    assert [int(one[0, 0]) for one in labels] == list(range(12)) and labels[3].shape == (2, 6)
    assert report == Report("mine", 7, 1.5, "patch 64, batch 1", 0.25)


def test_the_margin_of_a_crop_ends_where_the_picture_ends():
    crop = small_job().crops[0]
    assert crop.part(crop.image).shape == (8, 10) and crop.part(crop.image)[0, 0] == 4 * 30 + 5
    assert crop.part(crop.image, 5).shape == (17, 20) and crop.part(crop.image, 99).shape == (20, 30)


def test_a_peer_answers_the_job_that_it_is_given(tmp_path, monkeypatch):
    from peers import protocol

    write_job(tmp_path, small_job())
    monkeypatch.setattr(sys, "argv", ["peer", str(tmp_path)])
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
        monkeypatch.setenv(name, "7")
    asked = []

    def fit(job):
        asked.append(protocol.os.environ["OMP_NUM_THREADS"])
        return (lambda image: (image > 300).astype(int)), Report("mine", len(job.crops), job.seconds)

    protocol.answer(fit)
    labels, report = read_answer(tmp_path)
    assert int(labels[0].sum()) == 299 and labels[0].dtype == np.int32
    assert (report.steps, report.seconds, asked) == (2, 1.0, ["2"]) and report.segmenting > 0


def test_the_forest_tells_touching_cells_apart_by_their_border(peer):
    forest = peer("peer_forest")
    truth = np.zeros((30, 50), np.int32)
    truth[5:25, 5:25], truth[5:25, 25:45] = 1, 2
    found = forest.instances(forest.classes(truth, 1), 10)
    np.testing.assert_array_equal(found, truth)
    assert forest.instances((truth > 0).astype(np.uint8), 10).max() == 1


def test_the_forest_drops_specks(peer):
    forest = peer("peer_forest")
    found = np.zeros((30, 30), np.uint8)
    found[2:12, 2:12], found[20:22, 20:22] = forest.INSIDE, forest.INSIDE
    assert np.unique(forest.instances(found, 10)).tolist() == [0, 1]
    assert len(np.unique(forest.instances(found, 4))) == 3


def test_the_forest_learns_from_labelled_pixels_with_their_context(peer):
    forest = peer("peer_forest")
    rng = np.random.default_rng(0)
    image = rng.normal(size=(90, 100))
    labels = np.ones((20, 30), np.int32)
    labels[:10] = 0
    job = Job((Crop(image, (40, 60, 50, 80), labels),), (), 1.0, 20.0)
    x, y = forest.pixels(job)
    whole = forest.features(forest.normalised(image))
    assert np.bincount(y)[0] == 300 and x.shape == (600, whole.shape[-1])
    np.testing.assert_allclose(x.reshape(20, 30, -1), whole[40:60, 50:80], atol=0.05)


def test_smoothing_takes_single_pixels_away(peer):
    forest = peer("peer_forest")
    chances = np.zeros((21, 21, 2))
    chances[..., 0], chances[10, 10] = 1, (0, 1)
    assert chances[10, 10].argmax() == 1 and not forest.smoothed(chances, 30).argmax(axis=-1).any()
    np.testing.assert_allclose(forest.smoothed(chances, 30).sum(axis=-1), 1)


def test_stardist_gets_patches_that_fit_its_crops(peer):
    stardist = peer("peer_stardist")
    crops = [
        Crop(np.zeros((9, 9)), (0, 9, 0, 9), np.zeros(shape, np.int32)) for shape in ((100, 170), (200, 180), (40, 50))
    ]
    assert stardist.patch_side(tuple(crops)) == 96 and stardist.patch_side(tuple(crops[2:])) == 64
    assert stardist.patch_side((Crop(np.zeros((9, 9)), (0, 9, 0, 9), np.zeros((999, 999), np.int32)),)) == 256
    image, labels = stardist.padded(np.ones((40, 100), np.float32), np.ones((40, 100), np.int32), 64)
    assert image.shape == labels.shape == (64, 100) and (image == 1).all()
    assert (labels[40:] == stardist.IGNORED).all() and (labels[:40] == 1).all()
    assert stardist.grid_for(20) == (2, 2) and stardist.grid_for(90) == (4, 4)


def test_stardist_turns_image_and_labels_alike(peer):
    stardist = peer("peer_stardist")
    np.random.seed(0)
    labels = np.arange(64, dtype=np.int32).reshape(8, 8)
    seen = set()
    for _ in range(30):
        image, turned = stardist.augmented(labels * 100.0, labels)
        assert np.corrcoef(image.ravel(), turned.ravel())[0, 1] > 0.99
        seen.add(tuple(turned[0, :2].tolist()))
    assert len(seen) == 8


def test_the_clock_of_cellpose_starts_after_the_first_step(peer):
    cellpose = peer("peer_cellpose")
    clock = cellpose.Clock(0.05)
    clock(None, None)
    time.sleep(0.1)
    clock(None, None)
    assert clock.took == pytest.approx(0, abs=0.04)
    time.sleep(0.1)
    with pytest.raises(cellpose.TimeOver):
        clock(None, None)
    assert clock.passes == 2
