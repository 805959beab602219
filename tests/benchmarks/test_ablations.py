import pytest

import ablations
import trials
from napari_unet.cli.train import choose_settings
from napari_unet.core.settings import NetworkSettings, TrainingSettings
from tiny import write_pictures


def one(plain, mirrored):
    scores = {w: dict.fromkeys(ablations.COLUMNS, v) for w, v in (("plain", plain), ("mirrored", mirrored))}
    return {"steps": "9 steps in 1 s", "date": "2026-01-01", "commit": "abc", "scores": scores}


def test_every_way_differs_from_the_defaults_in_known_settings():
    default = choose_settings({"seconds": 1}, True)
    seen = {way: choose_settings({**values, "seconds": 1}, True) for way, values in ablations.WAYS.items()}
    same = [way for way, chosen in seen.items() if chosen == default]
    assert same == [ablations.SCRATCH, ablations.BUNDLED]
    training, network = seen["no distance output, no border weight"]
    assert (training.border_weight, network.distance) == (0.0, False)
    assert (TrainingSettings().border_weight, NetworkSettings().distance) == (10.0, True)


def test_only_the_bundled_start_begins_with_a_model():
    starts = {ablations.start_of(way, "bundled") for way in ablations.WAYS if way != ablations.BUNDLED}
    assert starts == {"scratch"} and ablations.start_of(ablations.BUNDLED, "mine") == "mine"


def test_rows_say_the_difference_and_the_range_over_seeds():
    done = {
        ablations.SCRATCH: [one(0.4, 0.5), one(0.6, 0.5)],
        "no border weight": [one(0.3, 0.2), one(0.5, 0.2)],
        ablations.BUNDLED: [one(0.8, 0.9), one(0.8, 0.9)],
    }
    rows = {row[1]: row[2:4] for row in ablations.rows_of("set", done)}
    assert rows == {
        "from scratch": ["0.500 (0.400 to 0.600)", ""],
        "from scratch, mirrored pictures averaged": ["0.500 (0.500 to 0.500)", "+0.000"],
        "no border weight": ["0.400 (0.300 to 0.500)", "-0.100"],
        "bundled start": ["0.800 (0.800 to 0.800)", "+0.300"],
        "bundled start, mirrored pictures averaged": ["0.900 (0.900 to 0.900)", "+0.100"],
    }
    assert [f.value for f in ablations.figures_of("set", done)] == pytest.approx([0.5, 0.4, 0.8])


def test_one_training_is_measured_plain_and_mirrored(tmp_path):
    pictures = trials.read_pictures(*write_pictures(tmp_path, count=3))
    values = {"width": "4", "depth": "2", "steps": "1", "patch": "64", "padding": "valid"}
    result = ablations.measure(pictures[:2], pictures[2:], "scratch", values, "trial")
    assert list(result["scores"]) == ["plain", "mirrored"] and set(result["scores"]["plain"]) == set(ablations.COLUMNS)
