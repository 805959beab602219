import numpy as np
import pytest
import tifffile

import isbi2012
import trials
from reporting import CannotMeasure
from tiny import write_model


@pytest.fixture
def files(tmp_path):
    folder = isbi2012.write_volume(tmp_path / "em", slices=3, side=96)
    return folder / isbi2012.VOLUME, folder / isbi2012.LABELS


def test_blocks_are_consecutive_and_cover_every_slice_once():
    assert isbi2012.blocks_of(30, 3) == [range(0, 10), range(10, 20), range(20, 30)]
    assert [i for block in isbi2012.blocks_of(31, 4) for i in block] == list(range(31))


def test_cells_are_what_membranes_part(files):
    pictures = isbi2012.read_volume(*files)
    inside = tifffile.imread(files[1])
    assert [p.name for p in pictures] == ["slice 000", "slice 001", "slice 002"] and set(np.unique(inside)) == {0, 255}
    for picture, plane in zip(pictures, inside, strict=True):
        np.testing.assert_array_equal(picture.truth > 0, plane > 0)
        assert picture.truth.max() > 5
    corner = np.array([[255, 0], [0, 255]])
    assert isbi2012.inside_segments(corner).tolist() == [[1, 0], [0, 2]]


def test_files_that_do_not_fit_are_told(files, tmp_path):
    tifffile.imwrite(tmp_path / "short.tif", np.zeros((2, 96, 96), np.uint8), photometric="minisblack",
                     metadata={"axes": "ZYX"})  # fmt: skip
    with pytest.raises(CannotMeasure, match="have to be stacks of planes of one shape"):
        isbi2012.read_volume(files[0], tmp_path / "short.tif")
    with pytest.raises(CannotMeasure, match="nothing.tif is not there; give --folder"):
        isbi2012.read_volume(files[0], tmp_path / "nothing.tif")


def test_a_perfect_map_scores_one_and_a_lost_membrane_costs(files):
    truth = isbi2012.read_volume(*files)[0].truth
    probability = (truth > 0).astype(np.float32)
    scores = isbi2012.slice_scores(truth, truth, probability)
    mean = isbi2012.means([scores, scores])
    for segmentation in (isbi2012.CELLS, isbi2012.HALF, isbi2012.BEST):
        assert mean[segmentation] == pytest.approx({"v_rand": 1, "v_info": 1, "pixel_error": 0})
    merged = isbi2012.plane_scores(truth, np.ones_like(truth))
    assert merged["v_rand"] < 0.5 and merged["v_info"] < 0.1 and merged["pixel_error"] == (truth == 0).mean()


def test_the_best_threshold_is_chosen_for_each_measure(files):
    truth = isbi2012.read_volume(*files)[0].truth
    # Membranes are faint: only a high threshold parts the cells.
    probability = np.where(truth > 0, 0.95, 0.65).astype(np.float32)
    mean = isbi2012.means([isbi2012.slice_scores(truth, truth, probability)])
    assert mean[isbi2012.BEST]["v_rand"] == pytest.approx(1) and mean[isbi2012.HALF]["v_rand"] < 0.5
    assert mean[isbi2012.BEST]["pixel_error"] == 0 < mean[isbi2012.HALF]["pixel_error"]


def test_a_block_is_taught_by_the_others(files, tmp_path):
    pictures = isbi2012.read_volume(*files)
    start = str(write_model(tmp_path / "model"))
    values = {"steps": "1", "patch": "64"}
    result = isbi2012.measure(pictures, range(2, 3), values, trials.ways_of((), False), start)
    (scores,) = result["scores"]["plain"]
    assert result["slices"] == [2, 2] and len(scores) == 1 + len(isbi2012.THRESHOLDS)
    assert all(0 <= v <= 1 for way in scores.values() for v in way.values())
