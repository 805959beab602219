import pytest

import trials
import usiigaci
from reporting import CannotMeasure
from tiny import write_model, write_pictures


def test_every_picture_is_tested_once():
    names = [f"train_set{i}" for i in range(45)]
    folds = usiigaci.dealt(names, 3)
    assert [len(f) for f in folds] == [15, 15, 15] and sorted(sum(folds, [])) == sorted(names)
    assert folds[1][:2] == [sorted(names)[1], sorted(names)[4]]


def test_a_start_that_has_seen_the_pictures_is_refused(tmp_path):
    path = str(write_model(tmp_path / "model", training_history=({"pictures": {"usiigaci": 33}},)))
    with pytest.raises(CannotMeasure, match="33 pictures of usiigaci. Give --start scratch"):
        usiigaci.check_start(path, ["a"], False)
    assert usiigaci.check_start(path, ["a"], True).startswith("NO CROSS-VALIDATION")
    assert usiigaci.check_start("scratch", ["a"], False) == ""


def test_a_fold_is_taught_by_the_others_and_measured_picture_by_picture(tmp_path):
    pictures = {p.name: p for p in trials.read_pictures(*write_pictures(tmp_path))}
    values = {"width": "4", "depth": "2", "steps": "1", "patch": "64"}
    ways = trials.ways_of((), True)
    save = tmp_path / "fold0"
    result = usiigaci.measure_fold(pictures, ["cells1"], values, ways, "scratch", save)
    assert result["trained_on"] == 2 and {w: list(c) for w, c in result["counts"].items()} == {
        "plain": ["cells1"],
        "mirrored": ["cells1"],
    }
    from napari_unet.core.network.model_card import read_card

    assert read_card(save).training_history[-1]["images"] == ["cells0", "cells2"]
    assert "such as cells0" in trials.seen(str(save), "usiigaci", ["cells0", "cells1"])


def test_rows_hold_the_published_thresholds():
    perfect, nothing = [[4] * 9, [0] * 9, [0] * 9], [[0] * 9, [0] * 9, [1] * 9]
    image, pooled = usiigaci.rows_of("ours", [perfect, nothing])
    assert image == ["ours", "per image", *["0.500"] * 6] and pooled == ["ours", "pooled", *["0.800"] * 6]
    assert {len(v) for v in usiigaci.PUBLISHED.values()} == {len(usiigaci.AT)}


def test_the_promise_is_about_all_pictures():
    tallies = [[[4] * 9, [0] * 9, [0] * 9]]
    assert usiigaci.figures_of("plain", tallies, "", True)[0].verdict == "reached"
    assert usiigaci.figures_of("plain", tallies, "", False)[0].at_least is None
