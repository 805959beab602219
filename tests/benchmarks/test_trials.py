import numpy as np
import pytest
import tifffile

import trials
from napari_unet.core.evaluation.metrics import THRESHOLDS, average_precision
from napari_unet.core.network.model_card import Card
from napari_unet.core.network.model_io import new_model, save_model
from napari_unet.core.settings import NetworkSettings
from napari_unet.core.synthetic import generate
from reporting import CannotMeasure
from tiny import write_model, write_pictures

SMALL = {"width": "4", "depth": "2", "steps": "2", "patch": "64"}


def shifted(labels, by):
    return np.roll(labels, by, axis=1)


def test_counts_of_single_pictures_give_the_scores_of_all():
    truths = [generate("nuclei", (80, 80), seed)[1] for seed in range(3)]
    found = [shifted(t, by) for t, by in zip(truths, (0, 2, 5), strict=True)]
    image, pooled = trials.combined([trials.tally(t, f) for t, f in zip(truths, found, strict=True)])
    expected = average_precision(truths, found, THRESHOLDS)
    np.testing.assert_allclose(image, expected.ap)
    np.testing.assert_allclose(pooled, expected.ap_pooled)
    assert 0 < image[-1] < 1


def test_a_picture_without_cells_is_perfect_when_none_are_found():
    empty = np.zeros((9, 9), np.int32)
    image, pooled = trials.combined([trials.tally(empty, empty)])
    assert image.tolist() == pooled.tolist() == [1.0] * len(THRESHOLDS)


def test_a_result_is_measured_once_and_found_again(tmp_path):
    path, calls = tmp_path / "deep" / "results.jsonl", []

    def measure():
        calls.append(1)
        return {"ap": 0.5, "ends": ["01", "02"]}

    first = trials.Results(path).once({"a": 1, "b": ("x", "y")}, measure)
    again = trials.Results(path).once({"b": ["x", "y"], "a": 1}, measure)
    assert first == again and again["ap"] == 0.5 and len(calls) == 1
    assert trials.provenance([first, again]) == f"{first['date']} {first['commit']}"
    trials.Results(path).once({"a": 2, "b": ("x", "y")}, measure)
    assert len(calls) == 2 and len(path.read_text().splitlines()) == 2


def test_a_line_that_was_cut_off_is_measured_again_and_swallows_nothing(tmp_path):
    path = tmp_path / "results.jsonl"
    trials.Results(path).once({"fold": 0}, lambda: {"ap": 0.1})
    with path.open("a") as file:
        file.write('{"key": {"fold": 1}, "val')
    known = trials.Results(path)
    assert known.get({"fold": 1}) is None
    known.once({"fold": 1}, lambda: {"ap": 0.2})
    after = trials.Results(path)
    assert [after.get({"fold": fold})["ap"] for fold in (0, 1)] == [0.1, 0.2]


def test_without_a_file_nothing_is_kept_on_disk(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    known = trials.Results(None)
    known.once({"fold": 0}, lambda: {"ap": 0.1})
    assert known.get({"fold": 0})["ap"] == 0.1 and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("training_history", "expected"),
    [
        ([{"pictures": {"usiigaci": 33, "em": 3}}], "33 pictures of usiigaci"),
        ([{"pictures": {"em": 3}}, {"images": ["other", "b"]}], "1 of these pictures, such as b"),
        ([{"pictures": {"em": 3}}, {"images": ["other"]}], ""),
        ([{"pictures": {"usiigaci": 0}}], ""),
        ([{"pictures": {"em": 3}}, {"steps": 7}], "the card of tiny does not say what it was trained on"),
        ([], "the card of tiny does not say what it was trained on"),
    ],
)
def test_the_card_says_what_a_model_has_seen(tmp_path, training_history, expected):
    path = write_model(tmp_path / "model", training_history=tuple(training_history))
    reason = trials.seen(str(path), "usiigaci", ["a", "b"])
    assert expected in reason and bool(reason) == bool(expected)


def test_what_any_of_the_bundled_models_has_seen_counts(tmp_path, monkeypatch):
    known = {"pictures": {"usiigaci": 33}}
    names = [
        str(write_model(tmp_path / n, training_history=(e,))) for n, e in (("a", {"pictures": {"em": 1}}), ("b", known))
    ]
    monkeypatch.setattr(trials, "bundled_models", lambda: names)
    assert trials.seen("bundled", "usiigaci", []) == "tiny was trained on 33 pictures of usiigaci"
    assert trials.seen(names[0], "usiigaci", []) == ""
    assert trials.identity("bundled") == " or ".join(trials.identity(name) for name in names)


def test_a_new_network_has_seen_nothing():
    assert trials.seen("scratch", "usiigaci", ["a"]) == ""
    assert trials.identity("scratch") == "scratch" and trials.start_model("scratch") is None


def test_another_model_under_the_same_name_has_another_identity(tmp_path):
    first = trials.identity(str(write_model(tmp_path / "model")))
    wider = save_model(new_model(Card("tiny", NetworkSettings(width=8, depth=2))), tmp_path / "model")
    assert first != trials.identity(str(tmp_path / "model")) == f"tiny {wider.hashes['weights.safetensors'][:12]}"


def test_a_start_that_is_not_there_is_told(tmp_path):
    with pytest.raises(CannotMeasure, match="there is no model"):
        trials.start_model(str(tmp_path / "nowhere"))


def test_colours_are_read_as_grey_and_empty_pictures_are_kept(tmp_path):
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    rng = np.random.default_rng(0)
    masks = {"a": np.ones((20, 30), np.uint16), "b": np.zeros((20, 30), np.uint16)}
    for name, mask in masks.items():
        colours = rng.integers(0, 255, (20, 30, 3)).astype(np.uint8)
        tifffile.imwrite(tmp_path / "images" / f"{name}.tif", colours, photometric="rgb")
        tifffile.imwrite(tmp_path / "masks" / f"{name}.tif", mask)
    pictures = trials.read_pictures(tmp_path / "images", tmp_path / "masks")
    assert [p.name for p in pictures] == ["a", "b"]
    assert {p.image.size for p in pictures} == {600} and [int(p.truth.max()) for p in pictures] == [1, 0]


def test_pictures_teach_a_model_that_segments_them(tmp_path):
    pictures = trials.read_pictures(*write_pictures(tmp_path))
    model, steps = trials.taught(pictures, None, SMALL)
    assert steps.startswith("2 steps in ") and model.card.training_history[-1]["settings"]["unpainted"] == "background"
    assert model.card.network.width == 4 and model.card.training_history[-1]["images"] == [p.name for p in pictures]
    kept = []
    found = trials.segmented(model, pictures, {"threshold": 0.01}, lambda _, out, scale: kept.append(out["classes"]))
    assert [f.shape for f in found] == [p.truth.shape for p in pictures] == [k.shape[1:] for k in kept]
    result = trials.scores(pictures, found)
    assert result["images"] == 3 and 0 <= result["ap_pooled_mean"] <= 1


def test_mirrored_is_measured_beside_plain():
    assert trials.ways_of([("threshold", "0.4")], False) == {"plain": {"threshold": "0.4"}}
    assert trials.ways_of([("threshold", "0.4")], True)["mirrored"] == {"threshold": "0.4", "tta": True}
