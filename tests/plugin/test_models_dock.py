"""The shelf by clicks: rename, copy, delete and back, in and out."""

import dataclasses
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from discs import alive, discs, errors
from qtpy.QtWidgets import QScrollArea

from napari_unet.core.data.annotation import AnnotatedImage
from napari_unet.core.network.model_card import bundled_models, read_card
from napari_unet.core.settings import NetworkSettings, TrainingSettings
from napari_unet.plugin.models import files
from napari_unet.plugin.models import summary as models_facts
from napari_unet.plugin.models.files import models_folder
from napari_unet.plugin.models.registry import ModelRegistry, saved_models
from napari_unet.plugin.runtime.cli_process import _ENDING, Command
from napari_unet.records import runs

LONG = 120_000


@pytest.fixture
def saved(disc_model):
    """Return the path of a saved model."""
    return ModelRegistry.shared().save(disc_model, "discs")


@pytest.fixture
def models(docks, saved):
    """Return the opened dock with the saved model chosen, and the Segment dock."""
    _, dock, segment = docks("Models", "Segment", show=True)
    choose(dock, "discs")
    return dock, segment


def choose(dock, name):
    names = [dock.view.list.item(row).text().split("\n")[0] for row in range(dock.view.list.count())]
    dock.view.list.setCurrentRow(names.index(name))


def names_in(combo):
    return [combo.itemText(i) for i in range(combo.count())]


def done(dock):
    return [text for kind, text in dock.view.messages.lines() if kind == "done"]


def wait(dock, qtbot):
    qtbot.waitUntil(lambda: not dock.view._busy, timeout=LONG)


def test_a_model_shows_what_it_is_and_was_trained_on(models, saved, qtbot):
    dock, _ = models
    words = dock.view.facts.text()
    assert "1 picture" in words or "image" in words
    assert "150 steps" in words
    assert f"{files.size_of(saved) / 1e6:.1f} MB" in words
    assert not dock.view.rename_button.isEnabled() or dock.view.path() == saved
    choose(
        dock, "Bundled model: nuclei" if dock.view.list.item(0).text().startswith("Bundled model:") else "Bundled model"
    )
    assert not dock.view.rename_button.isEnabled()
    assert not dock.view.delete_button.isEnabled()


def with_card(saved, **changes):
    """Change the card of a saved model."""
    path = Path(saved) / "model.json"
    path.write_text(dataclasses.replace(read_card(saved), **changes).to_json(), encoding="utf-8")


def test_scores_and_trainings_are_in_a_biologists_words(saved):
    entry = {"date": "2026-11-28T12:03:04+00:00", "seconds": 20.4, "steps": 1, "images": ["nuclei"], "cells": 1}
    with_card(saved, metrics={"loss": 0.3, "iou": 0.8, "f1": 0.25}, training_history=(entry,))
    words = models_facts.facts(saved)
    assert "Scores on validation cells: F1 0.25, IoU 0.80." in words
    assert "Trained on: 2026-11-28, nuclei, 1 cell, 1 step, 20 s." in words
    assert models_facts.line(saved).endswith("1 cell · F1 0.25")
    assert "1 is perfect" in models_facts.more_facts(saved)


def test_a_model_of_several_kinds_of_pictures_shows_its_worst_and_best_score(saved):
    found = {"f1_fluorescence": 0.95, "f1_usiigaci": 0.73, "f1_em": 0.52}
    with_card(saved, metrics=found, training_history=({"pictures": {"usiigaci": 33, "em": 3}},))
    assert models_facts.line(saved).endswith("F1 0.52 to 0.95")
    words = models_facts.facts(saved)
    assert "F1 phase contrast 0.73, F1 electron microscopy 0.52" in words
    assert "33 phase contrast, 3 electron microscopy pictures" in words


def test_of_many_trainings_the_last_are_shown_and_all_in_the_tooltip(models, saved, qtbot):
    dock, _ = models
    with_card(saved, training_history=tuple({"date": f"2026-11-{day:02}", "cells": day} for day in range(1, 13)))
    dock.controller.show()
    choose(dock, "discs")
    words, tip = dock.view.facts.text(), dock.view.facts.toolTip()
    assert "9 earlier trainings, and<br>2026-11-10, 10 cells<br>2026-11-11" in words
    assert "2026-11-01, 1 cell<br>" in tip and "2026-11-12" in tip
    window = dock.window()
    window.resize(1280, 800)
    bar = dock.findChild(QScrollArea).verticalScrollBar()
    qtbot.waitUntil(lambda: bar.maximum() == 0)


def test_the_just_trained_model_bears_the_name_that_the_list_shows(models, disc_model):
    dock, segment = models
    dock.controller.registry.set_just_trained(disc_model)
    choose(dock, "Just trained")
    assert f"<b>Just trained ({read_card(disc_model).name})</b>" in dock.view.facts.text()


def test_after_a_deletion_the_neighbour_is_chosen(models, saved, click, qtbot):
    dock, _ = models
    for _ in range(2):
        click(dock.view.duplicate_button)
        wait(dock, qtbot)
        choose(dock, "discs")
    choose(dock, "discs copy")
    click(dock.view.delete_button)
    assert dock.view.name() == "discs copy 2"
    click(dock.view.delete_button)
    assert dock.view.name() == "discs"


def test_rename_duplicate_delete_and_restore_reach_disk_and_the_other_docks(models, click, qtbot, saved, answer):
    dock, segment = models
    answer("round: cells")
    click(dock.view.rename_button)
    assert done(dock) == ["It is called round_ cells now."]
    answer("round cells")
    click(dock.view.rename_button)
    assert not errors(dock.view)
    assert not Path(saved).exists()
    assert read_card(models_folder() / "round cells").name == "round cells"
    assert "round cells" in names_in(segment.view.model)
    assert "discs" not in names_in(segment.view.model)
    assert dock.view.name() == "round cells"

    click(dock.view.duplicate_button)
    wait(dock, qtbot)
    assert dock.view.name() == "round cells copy"
    assert done(dock) == ["Copied as round cells copy."]
    weights = [
        (models_folder() / name / "weights.safetensors").read_bytes() for name in ("round cells", "round cells copy")
    ]
    assert weights[0] == weights[1]

    click(dock.view.rename_button)
    assert "already" in errors(dock.view)[0]
    click(dock.view.delete_button)
    assert "in the trash" in done(dock)[0]
    assert [entry.label for entry in saved_models()] == ["round cells"]
    assert "round cells copy" not in names_in(segment.view.model)

    dock.view.trash_menu.actions()[0].trigger()
    assert done(dock) == ["round cells copy is back."]
    assert [entry.label for entry in saved_models()] == ["round cells", "round cells copy"]
    assert (models_folder() / "round cells copy" / "weights.safetensors").read_bytes() == weights[0]
    assert not dock.view.restore_button.isEnabled()


def test_what_was_deleted_twice_under_one_name_comes_back_twice(models, saved, disc_model):
    dock, _ = models
    dock.view.delete.emit()
    ModelRegistry.shared().save(disc_model, "discs")
    choose(dock, "discs")
    dock.view.delete.emit()
    for _ in range(2):
        dock.view.restore.emit(0)
    assert [entry.label for entry in saved_models()] == ["discs", "discs 2"]


def test_a_zip_goes_out_and_comes_back_in(models, tmp_path, qtbot, click, answer):
    dock, segment = models
    out = tmp_path / "discs.zip"
    answer(tmp_path / "discs")
    click(dock.view.export_button)
    assert dock.view.progress.text() == "exporting and checking"
    assert dock.view.export_button.text() == "Cancel"
    wait(dock, qtbot)
    assert "its test output reproduced" in done(dock)[0]
    assert zipfile.is_zipfile(out)

    answer(out)
    click(dock.view.import_zip_button)
    wait(dock, qtbot)
    assert not errors(dock.view)
    assert dock.view.name() == "discs 2"
    assert "<b>discs 2</b>" in dock.view.facts.text()
    assert "discs 2" in names_in(segment.view.model)
    assert read_card(dock.view.path()) == read_card(out)


@pytest.mark.computing
def test_a_bioimageio_package_goes_out_comes_back_is_deleted_and_restored(
    models, tmp_path, qtbot, click, answer, saved
):
    pytest.importorskip("bioimageio.core")
    from bioimageio.spec import load_model_description

    dock, segment = models
    dock.view.format.setCurrentIndex(dock.view.format.findText("bioimage.io package"))
    dock.view.author.setText("Jane Doe")
    answer(tmp_path / "published")
    click(dock.view.export_button)
    wait(dock, qtbot)
    assert not errors(dock.view)
    assert "tested by bioimageio.core with TorchScript" in done(dock)[0]
    assert "its test output reproduced" in done(dock)[0]
    found = load_model_description(tmp_path / "published.zip", perform_io_checks=True)
    assert [author.name for author in found.authors] == ["Jane Doe"]

    answer(tmp_path / "published.zip")
    click(dock.view.import_zip_button)
    wait(dock, qtbot)
    assert done(dock) == ["Imported discs 2: read back, its test output reproduced."]
    assert dock.view.name() == "discs 2"
    back = Path(dock.view.path())
    assert (back / "weights.safetensors").read_bytes() == (Path(saved) / "weights.safetensors").read_bytes()

    click(dock.view.delete_button)
    assert not back.exists()
    assert "discs 2" not in names_in(segment.view.model)
    dock.view.trash_menu.actions()[0].trigger()
    assert "discs 2" in names_in(segment.view.model)
    assert read_card(back) == read_card(saved)


@pytest.mark.computing
def test_onnx_goes_out_and_is_said_to_equal_torch(models, tmp_path, qtbot, click, answer):
    for name in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(name)
    import onnxruntime

    dock, _ = models
    dock.view.format.setCurrentIndex(dock.view.format.findText("ONNX"))
    answer(tmp_path / "discs")
    click(dock.view.export_button)
    wait(dock, qtbot)
    assert not errors(dock.view)
    assert done(dock)[0].endswith("run by onnxruntime at two sizes, equal to torch.")
    session = onnxruntime.InferenceSession(str(tmp_path / "discs.onnx"), providers=["CPUExecutionProvider"])
    (probabilities, *_) = session.run(None, {"image": np.zeros((1, 1, 64, 64), np.float32)})
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


def test_a_foreign_or_damaged_file_is_refused_and_nothing_is_left(models, tmp_path, qtbot, saved):
    dock, _ = models
    foreign = tmp_path / "foreign.zip"
    with zipfile.ZipFile(foreign, "w") as archive:
        archive.writestr("rdf.yaml", "type: model")
    dock.view.import_model.emit(str(foreign))
    assert "model.json is missing" in errors(dock.view)[0]

    broken = files.duplicate_model(saved)
    moved = Path(broken).rename(tmp_path / "broken")
    weights = bytearray((moved / "weights.safetensors").read_bytes())
    weights[-9] ^= 0xFF
    (moved / "weights.safetensors").write_bytes(weights)
    dock.view.import_model.emit(str(moved))
    wait(dock, qtbot)
    assert "damaged" in errors(dock.view)[0]
    assert [entry.label for entry in saved_models()] == ["discs"]


def test_an_export_can_be_cancelled_and_closing_leaves_no_process(models, tmp_path, qtbot, click):
    dock, _ = models
    dock.view.export.emit("zip", str(tmp_path / "a.zip"))
    qtbot.waitUntil(lambda: bool(dock.controller.command.pid), timeout=LONG)
    click(dock.view.export_button)
    wait(dock, qtbot)
    assert ("warning", "Cancelled.") in dock.view.messages.lines()
    assert not (tmp_path / "a.zip").exists()
    dock.view.export.emit("zip", str(tmp_path / "b.zip"))
    qtbot.waitUntil(lambda: bool(dock.controller.command.pid), timeout=LONG)
    pid = dock.controller.command.pid
    dock.controller.close()
    qtbot.waitUntil(lambda: not alive(pid) and not _ENDING, timeout=LONG)
    dock.controller.registry.changed.connect(dock.controller.show)


def test_painted_background_has_no_outline_in_the_picture(disc_model, tmp_path):
    image, labels = discs()
    paint = np.where(labels > 0, labels + 1, 0)
    paint[60:64][paint[60:64] == 0] = 1
    painted, plain = (
        runs.create_run(
            [AnnotatedImage(image, found)], TrainingSettings(background_label=1), NetworkSettings(), name="x"
        )
        for found in (paint, np.where(paint > 1, paint, 0))
    )
    for folder in (painted, plain):
        shutil.copytree(disc_model, folder / "model")
    np.testing.assert_array_equal(files.from_run(painted / "model"), files.from_run(plain / "model"))


def test_pictures_show_the_cells_that_were_taught(models, disc_model, qtbot, tmp_path):
    dock, _ = models
    image, labels = discs()
    folder = runs.create_run(
        [AnnotatedImage(image, np.where(labels > 0, labels + 1, 0))], TrainingSettings(), NetworkSettings(), name="x"
    )
    shutil.copytree(disc_model, folder / "model")
    taught = files.from_run(folder / "model")
    assert taught.shape == (files.THUMBNAIL_SIDE, files.THUMBNAIL_SIDE, 3)
    orange = (taught == files._OUTLINE).all(axis=-1)
    assert 0.01 < orange.mean() < 0.5
    path = ModelRegistry.shared().save(str(folder / "model"), "taught")
    np.testing.assert_array_equal(files.thumbnail(path), taught)
    copy = files.duplicate_model(str(folder / "model"))
    np.testing.assert_array_equal(files.thumbnail(copy), taught)
    packed = shutil.make_archive(str(tmp_path / "packed"), "zip", copy)
    np.testing.assert_array_equal(files.thumbnail(packed), taught)
    bundled = bundled_models()[0]
    np.testing.assert_array_equal(files.thumbnail(files.duplicate_model(bundled)), files.thumbnail(bundled))
    plain = files.thumbnail(disc_model)
    assert plain.shape == taught.shape
    assert len(np.unique(plain)) > 10
    assert files.thumbnail(str(tmp_path / "nothing")) is None


def test_a_command_that_fails_says_why_in_one_line(qtbot, tmp_path):
    said = []
    command = Command()
    command.run(["info", str(tmp_path / "nothing")], said.append, lambda words: said.append(("failed", words)))
    qtbot.waitUntil(lambda: bool(said), timeout=LONG)
    kind, words = said[0]
    assert kind == "failed"
    assert words.startswith("There is no model at")
    assert not command.running
    command.run(["info", "bundled"], said.append, said.append)
    qtbot.waitUntil(lambda: len(said) == 2, timeout=LONG)
    assert "U-Net of depth" in said[1]


def test_a_renamed_zip_stays_a_zip(disc_model, saved, tmp_path):
    folder = models_folder()
    with zipfile.ZipFile(folder / "packed.zip", "w") as archive:
        for file in Path(disc_model).iterdir():
            archive.write(file, file.name)
    new = files.rename_model(str(folder / "packed.zip"), "small")
    assert new == str(folder / "small.zip")
    copy = files.duplicate_model(new)
    assert copy == str(folder / "small copy.zip")
    item = files.delete_model(copy)
    assert files.trashed_models()[0].name == item.name == "small copy"
    assert files.restore_model(item) == copy
    assert json.loads(zipfile.ZipFile(copy).read("model.json"))["channels"] == 1
