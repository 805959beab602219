import numpy as np
import pytest
import tifffile

import ctc
import trials
from napari_unet.core.data.label_ops import median_diameter
from reporting import CannotMeasure
from tiny import write_model

ENDS = ("01", "02")


@pytest.fixture
def folder(tmp_path):
    return ctc.write_set(tmp_path / "set", ctc.Generated(frames=3, gold=2, side=96, diameter=24.0))


def test_gold_is_of_few_frames_and_silver_of_all(folder):
    assert [p.name for p in ctc.sequence(folder, "01", "GT")] == ["t000", "t001"]
    silver = ctc.sequence(folder, "02", "ST")
    assert [p.name for p in silver] == ["t000", "t001", "t002"] and all(p.truth.max() > 2 for p in silver)
    assert not np.array_equal(silver[0].image, ctc.sequence(folder, "01", "ST")[0].image)


def test_what_is_missing_is_told(folder, tmp_path):
    with pytest.raises(CannotMeasure, match="01 is not there; --folder takes an unpacked set"):
        ctc.sequence(tmp_path, "01", "GT")
    with pytest.raises(CannotMeasure, match="give --folder"), ctc.found_set(None, False):
        pytest.fail("there is no set")
    with ctc.found_set(folder, False) as place:
        assert place == folder


def test_volumes_are_refused(folder):
    for path in (folder / "01").iterdir():
        tifffile.imwrite(path, np.zeros((7, 96, 96), np.uint8), photometric="minisblack", metadata={"axes": "ZYX"})
    with pytest.raises(CannotMeasure, match=r"have the shape \(7, 96, 96\); this measures sets of single planes"):
        ctc.sequence(folder, "01", "GT")


def test_it_learns_on_one_sequence_and_measures_on_the_other(folder, tmp_path):
    start = str(write_model(tmp_path / "model"))
    ways = trials.ways_of((), False)
    result = ctc.measure(folder, ENDS, "ST", start, {"steps": "1", "patch": "64"}, ways)
    done = {ENDS: {"date": "2026-01-01", "commit": "abc", **result}}
    cells = sum(len(np.unique(p.truth)) - 1 for p in ctc.sequence(folder, "02", "GT"))
    scores = done[ENDS]["scores"]["plain"]
    assert scores["cells_truth"] == cells and 0 <= scores["seg"] <= 1
    assert done[ENDS]["trained_on"].startswith("3 frames with ") and done[ENDS]["tested_on"] == "2 frames"
    one, mean = ctc.figures_of("set", "plain", done, True)
    assert one.name == "SEG on set 02 after training on 01" and one.at_least == ctc.PROMISED
    assert mean.value == one.value == scores["seg"]
    assert {len(r) for r in ctc.rows_of("plain", done) + ctc.published_rows("DIC-C2DH-HeLa")} == {6}
    assert ctc.published_rows("set") == []


def test_both_ways_round_are_kept_to_go_on_from(folder, tmp_path, monkeypatch):
    start, asked = str(write_model(tmp_path / "model")), []

    class Chosen:
        quick, results, truth = False, tmp_path / "results.jsonl", "GT"

    Chosen.start = start

    def measure(place, ends, truth, start, values, ways):
        asked.append(ends)
        return {"steps": "1 step", "scores": {}}

    monkeypatch.setattr(ctc, "measure", measure)
    for _ in range(2):
        assert list(ctc.measure_both(folder, Chosen, {"seconds": 1}, {"plain": {}})) == [("01", "02"), ("02", "01")]
    assert asked == [("01", "02"), ("02", "01")]


def test_a_set_like_hela_has_nine_frames_of_large_faint_cells():
    with ctc.found_set(None, False, generated=True) as place:
        frames = ctc.sequence(place, "01", "GT")
    assert len(frames) == 9 and {f.truth.shape for f in frames} == {(512, 512)}
    assert 90 < np.median([median_diameter(f.truth) for f in frames]) < 140
    assert max(f.image.std() for f in frames) < 25
