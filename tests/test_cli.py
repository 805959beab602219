from __future__ import annotations

import doctest
import importlib
import io
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_unet import demo, stores
from napari_unet.cli import main
from napari_unet.cli.parser import build_parser, chosen
from napari_unet.cli.progress import Interrupt, TerminalProgress
from napari_unet.cli.segment import prediction_settings
from napari_unet.cli.train import choose_settings
from napari_unet.core.data.annotation import AnnotatedImage
from napari_unet.core.errors import DataError
from napari_unet.core.events import StepDone, Validated
from napari_unet.core.network import model_card as card_module
from napari_unet.core.network.model_card import Card, read_card
from napari_unet.core.settings import NetworkSettings, PredictionSettings, TrainingSettings, options
from napari_unet.core.synthetic import generate
from napari_unet.demo import figures
from napari_unet.demo.figures import draw_learning_curves
from napari_unet.demo.painting import BACKGROUND, paint
from napari_unet.demo.viewer import add_layers
from napari_unet.records import runs
from tiny import write_model, write_pictures

DATA = Path(__file__).parent.parent.parent / "shared" / "data"
SHORT = ["--steps", "3", "--set", "patch=64", "--set", "device=cpu"]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def pictures(tmp_path: Path) -> tuple[Path, Path]:
    return write_pictures(tmp_path)


def run(*words: Any) -> int:
    """Return the exit code of a command in this process."""
    return main([str(word) for word in words])


def start(*words: Any, **more: Any) -> subprocess.Popen[str]:
    """Start a command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "napari_unet", *map(str, words)], text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, **more,
    )  # fmt: skip


# Help and options --------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["train", "segment", "evaluate", "info", "demo"])
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run(command, "--help")
    assert caught.value.code == 0
    assert f"napari-unet {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "kinds"), [("train", (TrainingSettings, NetworkSettings)), ("segment", (PredictionSettings,))]
)
def test_help_lists_every_setting_with_its_text_default_and_bounds(
    command: str, kinds: tuple[Any, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run(command, "--help")
    shown = " ".join(capsys.readouterr().out.split())
    for kind in kinds:
        for name, option in options(kind).items():
            assert f" {name} {' '.join(option.help.split())}" in shown, name
    assert "Default 256 px; 32 to 2048." in shown or command != "train"


def test_help_needs_neither_torch_nor_numpy() -> None:
    code = "import sys; from napari_unet.cli.parser import build_parser; build_parser().format_help(); "
    code += "sys.exit(any(name in sys.modules for name in ('torch', 'numpy', 'skimage', 'rich')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    "words",
    ["", "foo", "train", "segment a", "segment a b --tile x", "segment a b --set tile", "segment a b --device tpu",
     "train --images a --labels b --output c --set =1"],
)  # fmt: skip
def test_wrong_usage_ends_with_2(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run(*words.split())
    assert caught.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_settings_come_from_options_and_from_set() -> None:
    words = "train --images i --labels l --output o --seconds 7 --background-label 3 --set seconds=9 --set mirror=no"
    values = chosen(
        build_parser().parse_args([*words.split(), "--set", "border-weight=2.5"]), ("seconds", "background_label")
    )
    assert values == {"seconds": 7.0, "background_label": 3, "mirror": "no", "border_weight": "2.5"}
    settings, _ = choose_settings(values, scratch=False)
    assert settings == TrainingSettings(seconds=7.0, background_label=3, mirror=False, border_weight=2.5)


def test_label_files_are_complete_unless_a_background_is_painted() -> None:
    assert choose_settings({}, False)[0].unpainted == "background"
    assert choose_settings({"background_label": "2"}, False)[0].unpainted == "unknown"
    assert choose_settings({"unpainted": "unknown"}, False)[0].unpainted == "unknown"
    assert choose_settings({"unpainted": "background", "background_label": 2}, False)[0].unpainted == "background"


def test_steps_alone_decide_when_no_time_is_given() -> None:
    assert choose_settings({"steps": 9}, False)[0].seconds == 0
    assert choose_settings({"steps": 9, "seconds": 4.0}, False)[0].seconds == 4
    assert choose_settings({"steps": 0}, False)[0].seconds == TrainingSettings().seconds


def test_settings_of_a_network_need_a_new_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert choose_settings({"width": "8", "seed": 4}, True)[1] == NetworkSettings(width=8)
    assert run(*"train --images a --labels b --output c --set width=8".split()) == 2
    assert "width belongs to a new network; give --start scratch" in capsys.readouterr().err


def test_the_command_line_of_a_run_means_the_same_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(runs.HOME_VARIABLE, str(tmp_path))
    settings = TrainingSettings(steps=50, seconds=20.0, mirror=False, learning_rate=0.002, background_label=4)
    network = NetworkSettings(width=8, norm="none")
    image = AnnotatedImage(np.zeros((8, 8)), np.ones((8, 8), np.int32))
    for loop in (settings, TrainingSettings(unpainted="background"), TrainingSettings()):
        folder = runs.create_run([image], loop, network, "scratch", "mine")
        words = shlex.split(runs.read_job(folder)["command"])
        arguments = build_parser().parse_args(words[1:])
        names = ("seconds", "steps", "unpainted", "background_label", "seed")
        assert choose_settings(chosen(arguments, names), arguments.start == "scratch") == (loop, network)


@pytest.mark.parametrize("name", [f.name for f in fields(PredictionSettings)])
def test_every_prediction_setting_can_be_set(name: str) -> None:
    default = getattr(PredictionSettings(), name)
    words = ["segment", "a", "b", "--set", f"{name}={str(default).lower() if isinstance(default, bool) else default}"]
    values = chosen(build_parser().parse_args(words), ())
    assert prediction_settings(Card("m"), values) == PredictionSettings()


def test_what_the_model_was_measured_best_with_is_the_default() -> None:
    card = Card("m", prediction={"threshold": 0.3, "smallest": 40})
    assert prediction_settings(card, {"smallest": "7"}) == PredictionSettings(threshold=0.3, smallest=7)
    assert prediction_settings(Card("m", mode="classes"), {}).what == "classes"
    assert prediction_settings(Card("m", mode="classes"), {"what": "probabilities"}).what == "probabilities"


# Progress ----------------------------------------------------------------------------------------


def test_progress_is_plain_lines_off_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with TerminalProgress() as progress:
        progress.show(0.25, "step 1", 75)
        progress.show(0.5, "step 2", 50)
        progress.say("note")
    assert capsys.readouterr().err == " 25 %  step 1, 1:15 min left\nnote\n"


def test_progress_is_a_bar_with_time_left_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with TerminalProgress(terminal=True) as progress:
        progress.show(0.25, "step 1", 75)
        progress.say("[a] note")
    shown = capsys.readouterr().err
    assert "step 1" in shown and "25%" in shown and "1:15 min left" in shown and "[a] note" in shown


def test_the_first_interrupt_is_noted_and_the_second_raised() -> None:
    before = signal.getsignal(signal.SIGINT)
    said: list[str] = []
    with Interrupt(said.append) as stop:
        assert not stop()
        signal.raise_signal(signal.SIGINT)
        assert stop()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert len(said) == 1
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupt_while_a_line_is_written_is_noted() -> None:
    class Raw(io.RawIOBase):
        written = b""

        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            if not self.written:
                signal.raise_signal(signal.SIGINT)
            self.written += bytes(data)
            return len(data)

    raw = Raw()
    stream = io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8")
    with Interrupt(lambda text: print(text, file=stream, flush=True)) as stop:
        print("step 1", file=stream, flush=True)
        assert stop()
    assert raw.written.startswith(b"step 1\nstopping")


@pytest.mark.parametrize("module", ["cli.progress", "stores.pictures", "demo.figures"])
def test_examples_in_docstrings(module: str) -> None:
    found = doctest.testmod(importlib.import_module(f"napari_unet.{module}"))
    assert found.attempted and not found.failed


# Training ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("output", ["m", "m.zip"])
def test_train_writes_a_model_that_segments(
    pictures: tuple[Path, Path], tmp_path: Path, model: Path, output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    images, labels = pictures
    written = tmp_path / output
    assert run("train", "--images", images, "--labels", labels, "--output", written, "--start", model, *SHORT) == 0
    out = capsys.readouterr().out
    assert "3 steps in" in out and "validation: loss" in out and str(written) in out
    card = read_card(written)
    assert card.name == "m"
    assert (
        card.training_history[-1]["steps"] == 3 and card.training_history[-1]["settings"]["unpainted"] == "background"
    )
    assert run("segment", images, tmp_path / "out", "--model", written, "--device", "cpu") == 0
    names = [f"cells{n}.tif" for n in range(3)]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted([*names, *(f"{n}.job.json" for n in names)])
    job = json.loads((tmp_path / "out" / "cells1.tif.job.json").read_text(encoding="utf-8"))
    before = tifffile.imread(tmp_path / "out" / "cells1.tif")
    assert run(*shlex.split(job["command"])[1:], "--overwrite") == 0
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out" / "cells1.tif"), before)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["images", "labels", "out", output])


def test_train_from_scratch_with_a_network_of_choice(pictures: tuple[Path, Path], tmp_path: Path) -> None:
    images, labels = pictures
    words = ["--set", "width=4", "--set", "depth=1", "--set", "norm=none", "--seed", "5"]
    common = ["train", "--images", images, "--labels", labels, "--start", "scratch", *SHORT, *words]
    assert run(*common, "--output", tmp_path / "a") == 0
    assert run(*common, "--output", tmp_path / "b") == 0
    assert read_card(tmp_path / "a").network == NetworkSettings(width=4, depth=1, norm="none")
    assert (tmp_path / "a" / "weights.safetensors").read_bytes() == (
        tmp_path / "b" / "weights.safetensors"
    ).read_bytes()


def test_train_and_segment_a_cell_tracking_challenge_set(tmp_path: Path, model: Path) -> None:
    (tmp_path / "01").mkdir()
    (tmp_path / "01_GT" / "SEG").mkdir(parents=True)
    for frame in range(3):
        image, labels = generate("phase", (80, 80), frame, diameter=20)
        tifffile.imwrite(tmp_path / "01" / f"t{frame:03}.tif", image)
        if frame != 1:
            tifffile.imwrite(tmp_path / "01_GT" / "SEG" / f"man_seg{frame:03}.tif", labels.astype(np.uint16))
    images, truth = tmp_path / "01", tmp_path / "01_GT" / "SEG"
    assert (
        run("train", "--images", images, "--labels", truth, "--output", tmp_path / "m", "--start", model, *SHORT) == 0
    )
    assert run("segment", images, tmp_path / "01_RES", "--model", tmp_path / "m") == 0
    assert len(list((tmp_path / "01_RES").glob("*.tif"))) == 3
    scores = tmp_path / "scores.json"
    assert run("evaluate", tmp_path / "01_GT", tmp_path / "01_RES", "--json", scores) == 0
    assert [p["name"] for p in json.loads(scores.read_text())["planes"]] == ["man_seg000", "man_seg002"]


def test_a_model_is_replaced_only_when_asked(
    pictures: tuple[Path, Path], tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, labels = pictures
    words = ["train", "--images", images, "--labels", labels, "--output", tmp_path / "m", "--start", model, *SHORT]
    assert run(*words) == 0
    before = (tmp_path / "m" / "model.json").read_bytes()
    assert run(*words) == 1
    assert "exists already" in capsys.readouterr().err
    assert (tmp_path / "m" / "model.json").read_bytes() == before
    # Another seed: the same training within the same second writes the same card.
    assert run(*words, "--overwrite", "--seed", 1) == 0
    assert (tmp_path / "m" / "model.json").read_bytes() != before


def test_ctrl_c_stops_the_training_and_keeps_the_best(pictures: tuple[Path, Path], tmp_path: Path, model: Path) -> None:
    images, labels = pictures
    words = ["--images", images, "--labels", labels, "--output", tmp_path / "m", "--start", model, "--seconds", 300]
    process = start("train", *words, "--set", "patch=64", "--set", "device=cpu")
    assert process.stderr is not None
    said = []
    try:
        for line in process.stderr:
            said.append(line)
            if " step " in line:
                break
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, "".join(said) + errors
    assert "the best model so far is kept" in errors and "Traceback" not in errors
    assert str(tmp_path / "m") in out
    assert read_card(tmp_path / "m").training_history[-1]["steps"] >= 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["images", "labels", "m"]


def test_a_training_that_fails_says_where_its_last_checkpoint_is(
    pictures: tuple[Path, Path], tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    from napari_unet.core.training import loop

    def failing(run: Any) -> Any:
        yield from run.checkpoint()
        raise DataError("The loss became undefined.")

    monkeypatch.setattr(loop._TrainingRun, "finish", failing)
    images, labels = pictures
    assert (
        run("train", "--images", images, "--labels", labels, "--output", tmp_path / "m", "--start", model, *SHORT) == 1
    )
    said = capsys.readouterr().err.splitlines()[-1]
    kept = Path(said.rpartition(" is in ")[2].removesuffix("."))
    assert read_card(kept).name == "m"
    assert not (tmp_path / "m").exists()


# Segmenting --------------------------------------------------------------------------------------


def test_a_stack_stays_a_stack_with_its_axes(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stack = np.stack([generate("nuclei", (70, 90), seed)[0] for seed in range(5)])
    tifffile.imwrite(tmp_path / "s.tif", stack, metadata={"axes": "TYX"})
    for name in ("o.tif", "o.ome.tif", "o.zarr"):
        assert run("segment", tmp_path / "s.tif", tmp_path / name, "--model", model) == 0
        out = capsys.readouterr().out
        assert f"{name}: 5 x 70 x 90, " in out and "cells in 5 planes, counted plane by plane" in out
        planes = stores.open_picture(tmp_path / name).planes
        assert (planes.axes, planes.shape) == ("tyx", (5, 70, 90))
    first = stores.open_labels(tmp_path / "o.tif")[...]
    np.testing.assert_array_equal(first, stores.open_labels(tmp_path / "o.zarr")[...])
    assert run("segment", tmp_path / "o.zarr", tmp_path / "again.zarr", "--model", model, "--overwrite") == 0


def test_the_same_labels_whatever_the_tile(tmp_path: Path, model: Path) -> None:
    tifffile.imwrite(tmp_path / "i.tif", generate("nuclei", (210, 190), 1)[0])
    for name, tile in (("a.tif", 64), ("b.tif", 512)):
        words = ["--model", model, "--tile", tile, "--set", "threshold=0.45", "--set", "precision=float32"]
        assert run("segment", tmp_path / "i.tif", tmp_path / name, *words) == 0
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), tifffile.imread(tmp_path / "b.tif"))


@pytest.mark.parametrize(
    ("what", "dtype"), [("instances", np.uint16), ("classes", np.uint8), ("probabilities", np.float32)]
)
def test_what_can_be_asked_for(tmp_path: Path, model: Path, what: str, dtype: type) -> None:
    tifffile.imwrite(tmp_path / "i.tif", generate("nuclei", (60, 70), 1)[0])
    assert run("segment", tmp_path / "i.tif", tmp_path / "o.tif", "--model", model, "--what", what) == 0
    result = tifffile.imread(tmp_path / "o.tif")
    assert result.dtype == dtype and result.shape == (60, 70)
    if what == "probabilities":
        assert 0 <= result.min() < result.max() <= 1
        assert len(np.unique(result)) > 100


def test_grey_models_read_colours_as_grey_and_colour_models_as_colours(tmp_path: Path, model: Path) -> None:
    grey = (255 * generate("tissue", (60, 70), 1)[0]).astype(np.uint8)
    Image.fromarray(np.dstack([grey, grey // 2, 255 - grey])).save(tmp_path / "rgb.png")
    assert run("segment", tmp_path / "rgb.png", tmp_path / "a.png", "--model", model) == 0
    colour = write_model(tmp_path / "colour", channels=3)
    assert run("segment", tmp_path / "rgb.png", tmp_path / "b.png", "--model", colour) == 0
    assert Image.open(tmp_path / "b.png").size == (70, 60)


def test_one_bad_image_does_not_keep_the_others_from_it(
    pictures: tuple[Path, Path], tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, _ = pictures
    (images / "cells1.tif").write_bytes(b"no picture")
    assert run("segment", images, tmp_path / "out", "--model", model) == 1
    shown = capsys.readouterr()
    assert "napari-unet: error: cells1.tif: " in shown.err and "1 of 3 images could not be segmented" in shown.err
    assert sorted(p.name for p in (tmp_path / "out").glob("*.tif")) == ["cells0.tif", "cells2.tif"]


def test_a_note_that_holds_for_many_images_is_told_twice_at_most(
    pictures: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mirrored = write_model(tmp_path / "mirrored", prediction={"tta": True})
    assert run("segment", pictures[0], tmp_path / "out", "--model", mirrored) == 0
    notes = [line for line in capsys.readouterr().err.splitlines() if "Test-time augmentation" in line]
    assert len(notes) == 2
    assert notes[0].startswith("note: cells0.tif: Test-time augmentation")
    assert notes[1].startswith("note: 2 more: Test-time augmentation")


def test_of_a_folder_the_same_command_makes_what_is_missing_alone(
    pictures: tuple[Path, Path], tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["segment", pictures[0], tmp_path / "out", "--model", model]
    process = start(*words, "--set", "tta=yes")
    first, last = tmp_path / "out" / "cells0.tif.job.json", tmp_path / "out" / "cells2.tif"
    deadline = time.monotonic() + 120
    while not first.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.kill()
    process.wait()
    before = first.with_name("cells0.tif").stat().st_mtime_ns
    last.unlink(missing_ok=True)
    assert run(*words, "--set", "tta=yes") == 0
    said = capsys.readouterr().out
    assert "cells0.tif: exists already, from the same job" in said and "cells2.tif: 96 x 96" in said
    assert first.with_name("cells0.tif").stat().st_mtime_ns == before and last.exists()
    assert run(*words, "--set", "tta=yes", "--overwrite") == 0
    assert "exists already" not in capsys.readouterr().out
    assert first.with_name("cells0.tif").stat().st_mtime_ns > before


@pytest.mark.parametrize(("planes", "left"), [(200, ["s.tif"]), (400, [".o.tif.unfinished", "s.tif"])])
def test_interrupted_segmenting_writes_no_half_files(tmp_path: Path, model: Path, planes: int, left: list[str]) -> None:
    """Of a job of minutes what is done is kept for the next run."""
    values = np.random.default_rng(0).random((planes, 128, 128))
    tifffile.imwrite(tmp_path / "s.tif", values, metadata={"axes": "ZYX"})
    process = start("segment", tmp_path / "s.tif", tmp_path / "o.tif", "--model", model, "--set", "tta=yes")
    time.sleep(1.0)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".o.*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert sorted(p.name for p in tmp_path.iterdir()) == left
    assert ("run the same command to resume" in errors) == (len(left) > 1)


# Evaluating and describing -----------------------------------------------------------------------


def test_evaluate_prints_a_table_and_writes_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = np.zeros((2, 20, 30), np.uint16)
    truth[0, 2:8, 2:8], truth[0, 2:8, 12:18], truth[1, 3:9, 3:9] = 1, 2, 3
    found = truth.copy()
    found[0, 2:8, 12:18] = 0
    for name, labels in (("t.tif", truth), ("p.tif", found)):
        tifffile.imwrite(tmp_path / name, labels, metadata={"axes": "ZYX"})
    assert run("evaluate", tmp_path / "t.tif", tmp_path / "p.tif", "--json", tmp_path / "deep" / "s.json") == 0
    out = capsys.readouterr().out
    assert "2 plane(s), 3 ground-truth cells, 2 predicted" in out
    assert out.splitlines()[3].split()[-10:] == ["0.750"] * 10
    assert out.splitlines()[4].split()[-10:] == ["0.667"] * 10
    scores = json.loads((tmp_path / "deep" / "s.json").read_text())
    assert scores["ap_0.50"] == 0.75 and scores["seg"] == pytest.approx(2 / 3)
    assert [p["name"] for p in scores["planes"]] == ["t (0,)", "t (1,)"]
    assert [p["ap_0.50"] for p in scores["planes"]] == [0.5, 1.0]


def test_evaluate_folders_and_unmatched_ones(pictures: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    _, labels = pictures
    assert run("evaluate", labels, labels) == 0
    assert "3 plane(s)" in capsys.readouterr().out
    other = labels.with_name("other")
    other.mkdir()
    (labels / "cells0.tif").rename(other / "cells0.tif")
    tifffile.imwrite(other / "extra.tif", np.zeros((4, 4), np.uint8))
    assert run("evaluate", labels, other) == 1
    assert "2 truth files have no prediction of the same stem" in capsys.readouterr().err


def test_info_tells_what_a_model_is(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_model(
        tmp_path / "m.zip", channels=2, classes=("background", "nerve", "muscle"), mode="classes", diameter=17.5,
        metrics={"iou": 0.875}, training_history=({"date": "2025-01-31", "images": ["a", "b"], "cells": 12,
                                         "settings": {"seconds": 60.0, "elastic": 4.0}},),
    )  # fmt: skip
    assert run("info", path) == 0
    out = capsys.readouterr().out
    for said in ("depth 2 and width 4", "background, nerve, muscle", "17.5 px", "iou 0.875", "2: a, b", "elastic=4.0"):
        assert said in out
    assert "seconds" not in out


# The demo ----------------------------------------------------------------------------------------


@pytest.fixture
def bundled(model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folders = {"nuclei": model}
    monkeypatch.setattr(card_module, "bundled_folder", lambda kind="nuclei": folders.get(kind, model / kind))
    return model


def test_the_demo_writes_labels_model_pictures_and_scores(
    bundled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo.job.run_demo, "__kwdefaults__", demo.job.run_demo.__kwdefaults__ | {"shape": (4, 96, 112)})
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert run("demo", "--output", tmp_path / "d", "--seconds", 2) == 0
    out = capsys.readouterr().out
    assert "scores on the 3 planes that were not trained on" in out and "before" in out and "SEG" in out
    if sys.platform.startswith("linux"):
        assert "napari is not opened: there is no display" in out
    written = {p.name for p in (tmp_path / "d").iterdir()}
    tiffs = {"stack.tif", "truth.tif", "painted.tif", "labels_before.tif", "labels.tif"}
    assert written == tiffs | {"model", "overlay.png", "learning_curve.png", "scores.json", "layers.json"}
    assert tifffile.imread(tmp_path / "d" / "labels.tif").shape == (4, 96, 112)
    scores = json.loads((tmp_path / "d" / "scores.json").read_text())
    assert scores["steps"] > 0 and len(scores["measured_on"]) == 3 and set(scores["before"]) == set(scores["after"])
    assert len(read_card(tmp_path / "d" / "model").training_history) == 1
    assert Image.open(tmp_path / "d" / "overlay.png").size[0] > 4 * 440
    assert run("demo", "--output", tmp_path / "d") == 1
    assert "is not empty" in capsys.readouterr().err


def test_the_demo_on_own_images_measures_on_the_others(
    bundled: Path, pictures: tuple[Path, Path], tmp_path: Path
) -> None:
    images, labels = pictures
    words = ["--images", images, "--labels", labels, "--output", tmp_path / "d", "--no-viewer", "--seconds", 1]
    assert run("demo", *words) == 0
    assert len(json.loads((tmp_path / "d" / "scores.json").read_text())["measured_on"]) == 2
    assert sorted(p.name for p in (tmp_path / "d" / "labels").iterdir()) == [f"cells{i}.tif" for i in range(3)]
    layers = json.loads((tmp_path / "d" / "layers.json").read_text())
    assert all(Path(layer["path"]).exists() for layer in layers)


def test_the_demo_refuses_what_it_cannot_use(
    bundled: Path, pictures: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, labels = pictures
    assert run("demo", "--images", images) == 2
    assert (
        run("demo", "--images", images / "cells0.tif", "--labels", labels / "cells0.tif", "--output", tmp_path / "d")
        == 1
    )
    assert "is a single plane; the demo trains on one and measures on others" in capsys.readouterr().err
    assert run("demo", "--output", images, "--overwrite") == 1
    assert "holds files that are not from an earlier demo" in capsys.readouterr().err
    assert len(list(images.iterdir())) == 3


def test_painting_stays_inside_cells_and_off_them_for_background() -> None:
    truth = generate("nuclei", (200, 200), 2, diameter=20, density=0.2)[1]
    painted = paint(truth, 8, 0)
    cells = [v for v in np.unique(painted) if v > BACKGROUND]
    assert len(cells) == 8
    for value in cells:
        under = np.unique(truth[painted == value])
        assert len(under) == 1 and under[0] > 0
        share = (painted == value).sum() / (truth == under[0]).sum()
        assert 0.4 < share <= 1
    assert (painted == BACKGROUND).sum() > 100
    assert not truth[painted == BACKGROUND].any()
    np.testing.assert_array_equal(painted, paint(truth, 8, 0))
    assert (painted != paint(truth, 8, 1)).any()


@pytest.mark.parametrize("cells", [0, 1, 2])
def test_painting_makes_do_with_few_cells(cells: int) -> None:
    truth = np.zeros((40, 40), np.int32)
    for value in range(1, cells + 1):
        truth[5:11, 12 * value : 12 * value + 6] = value
    painted = paint(truth)
    assert len(np.unique(painted[painted > BACKGROUND])) == min(cells, 1)
    assert (painted == BACKGROUND).any()


def test_outlines_tell_found_false_and_missed_cells_apart() -> None:
    truth, found = np.zeros((2, 30, 40), np.int32)
    truth[2:10, 2:10], truth[2:10, 20:28], found[2:10, 3:11], found[20:28, 2:10] = 1, 2, 5, 6
    missed, false, hit = (labels for labels, _ in figures.compared(truth, found))
    assert [list(np.unique(v)) for v in (missed, false, hit)] == [[0, 2], [0, 6], [0, 5]]


@pytest.mark.parametrize("shape", [(1, 20, 30), (3, 700, 900), (2, 1, 50)])
def test_panels_of_any_size(shape: tuple[int, ...]) -> None:
    labels = np.zeros(shape[1:], np.int32)
    labels[:1, :4] = 3
    panel = figures.Panel(
        "a", "b", np.random.default_rng(0).random(shape), [(labels, figures.BLUE)], (labels, {3: figures.PINK})
    )
    pixels = panel.pixels()
    assert max(pixels.shape[:2]) <= figures.LARGEST and pixels.shape[2] == 3
    assert (pixels == figures.BLUE).all(axis=2).any()


def test_long_names_are_cut() -> None:
    assert figures.fitting("short") == "short"
    cut = figures.fitting("x" * 300)
    assert cut.endswith("x...") and len(cut) == 60


@pytest.mark.parametrize("validated", [True, False])
def test_learning_curves_are_drawn(tmp_path: Path, validated: bool) -> None:
    steps = [StepDone(n + 1, loss, 0.1, float(n)) for n, loss in enumerate([3.0, 2.0, 1.0])]
    checks = [Validated(n, 2.0, 0.5, 0.6, n == 2, float(n)) for n in (1, 2)] if validated else []
    draw_learning_curves(tmp_path / "c.png", steps, checks)
    pixels = np.asarray(Image.open(tmp_path / "c.png").convert("RGB"))
    assert pixels.shape == (420, 1280 if validated else 640, 3)
    for colour in (figures.ORANGE, figures.GREEN)[: 1 + validated]:
        assert (np.abs(pixels.astype(int) - colour).sum(axis=2) < 30).sum() > 100
    assert [p.name for p in tmp_path.iterdir()] == ["c.png"]


def test_the_viewer_gets_every_layer(bundled: Path, pictures: tuple[Path, Path], tmp_path: Path) -> None:
    components = pytest.importorskip("napari.components")
    demo.run_demo(tmp_path / "d", settings=TrainingSettings(steps=1, seconds=0, patch=64), shape=(3, 80, 80))
    viewer = components.ViewerModel()
    add_layers(viewer, tmp_path / "d")
    names = [layer.name for layer in viewer.layers]
    assert names == ["image", "ground truth", "painted", "before training", "after training"]
    assert [layer.name for layer in viewer.layers if layer.visible] == ["image", "after training"]
    assert {layer.data.shape for layer in viewer.layers} == {(3, 80, 80)}


def test_no_viewer_without_a_display(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    assert demo.missing() is not None
    monkeypatch.setenv("DISPLAY", ":1")
    pytest.importorskip("napari")
    assert demo.missing() is None


# The whole program -------------------------------------------------------------------------------


def test_a_closed_pipe_is_no_traceback(model: Path) -> None:
    command = f"{shlex.quote(sys.executable)} -m napari_unet info {shlex.quote(str(model))} | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("model") and not done.stderr


@pytest.mark.skipif(not DATA.exists(), reason="the annotated images are not here")
def test_real_pictures_train_and_segment(tmp_path: Path, model: Path) -> None:
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
        for path in sorted((DATA / "usiigaci" / kind).iterdir())[:2]:
            with Image.open(path) as image:
                image.crop((0, 0, 200, 180)).save(tmp_path / kind / path.name)
    images, masks = tmp_path / "images", tmp_path / "masks"
    assert (
        run("train", "--images", images, "--labels", masks, "--output", tmp_path / "m", "--start", model, *SHORT) == 0
    )
    assert run("segment", images, tmp_path / "out", "--model", tmp_path / "m") == 0
    assert run("evaluate", masks, tmp_path / "out") == 0


@pytest.mark.skipif(os.name != "posix", reason="needs a shell")
def test_the_program_is_installed() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "napari_unet", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("napari-unet ")
