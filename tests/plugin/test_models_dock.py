"""The shelf by clicks: rename, copy, delete and back, in and out."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from discs import alive, discs, errors

from napari_unet import runs
from napari_unet.core.annotation import AnnotatedImage
from napari_unet.core.card import read_card
from napari_unet.core.settings import NetworkSettings, TrainingSettings
from napari_unet.plugin import library
from napari_unet.plugin.command import Command
from napari_unet.plugin.models import Shelf, models_folder, saved_models

LONG = 120_000


@pytest.fixture
def saved(disc_model):
    """Return the path of a saved model."""
    return Shelf.shared().save(disc_model, "discs")


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
    assert f"{library.size_of(saved) / 1e6:.1f} MB" in words
    assert not dock.view.rename_button.isEnabled() or dock.view.path() == saved
    choose(
        dock, "Bundled model: nuclei" if dock.view.list.item(0).text().startswith("Bundled model:") else "Bundled model"
    )
    assert not dock.view.rename_button.isEnabled()
    assert not dock.view.delete_button.isEnabled()


def test_rename_duplicate_delete_and_restore_reach_disk_and_the_other_docks(models, click, qtbot, saved):
    dock, segment = models
    dock.view.rename.emit("round cells")
    assert not errors(dock.view)
    assert not Path(saved).exists()
    assert read_card(models_folder() / "round cells").name == "round cells"
    assert "round cells" in names_in(segment.view.model)
    assert "discs" not in names_in(segment.view.model)
    assert dock.view.name() == "round cells"

    click(dock.view.duplicate_button)
    wait(dock, qtbot)
    assert dock.view.name() == "round cells copy"
    weights = [
        (models_folder() / name / "weights.safetensors").read_bytes() for name in ("round cells", "round cells copy")
    ]
    assert weights[0] == weights[1]

    dock.view.rename.emit("round cells")
    assert "already" in errors(dock.view)[0]
    click(dock.view.delete_button)
    assert "in the trash" in done(dock)[0]
    assert [entry.label for entry in saved_models()] == ["round cells"]
    assert "round cells copy" not in names_in(segment.view.model)

    dock.view.trash_menu.actions()[0].trigger()
    assert [entry.label for entry in saved_models()] == ["round cells", "round cells copy"]
    assert (models_folder() / "round cells copy" / "weights.safetensors").read_bytes() == weights[0]
    assert not dock.view.restore_button.isEnabled()


def test_what_was_deleted_twice_under_one_name_comes_back_twice(models, saved, disc_model):
    dock, _ = models
    dock.view.delete.emit()
    Shelf.shared().save(disc_model, "discs")
    choose(dock, "discs")
    dock.view.delete.emit()
    for _ in range(2):
        dock.view.restore.emit(0)
    assert [entry.label for entry in saved_models()] == ["discs", "discs 2"]


def test_a_zip_goes_out_and_comes_back_in(models, tmp_path, qtbot, click):
    dock, segment = models
    out = tmp_path / "discs.zip"
    dock.view.export.emit("zip", str(out))
    assert dock.view.export_button.text() == "Cancel"
    wait(dock, qtbot)
    assert "its test output reproduced" in done(dock)[0]
    assert zipfile.is_zipfile(out)

    dock.view.import_model.emit(str(out))
    wait(dock, qtbot)
    assert not errors(dock.view)
    assert dock.view.name() == "discs 2"
    assert "discs 2" in names_in(segment.view.model)
    assert read_card(dock.view.path()) == read_card(out)


def test_a_foreign_or_damaged_file_is_refused_and_nothing_is_left(models, tmp_path, qtbot, saved):
    dock, _ = models
    foreign = tmp_path / "foreign.zip"
    with zipfile.ZipFile(foreign, "w") as archive:
        archive.writestr("rdf.yaml", "type: model")
    dock.view.import_model.emit(str(foreign))
    assert "model.json is missing" in errors(dock.view)[0]

    broken = library.duplicate_model(saved)
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
    assert not alive(pid)
    dock.controller.shelf.changed.connect(dock.controller.show)


def test_pictures_show_the_cells_that_were_taught(models, disc_model, qtbot, tmp_path):
    dock, _ = models
    image, labels = discs()
    folder = runs.create_run(
        [AnnotatedImage(image, np.where(labels > 0, labels + 1, 0))], TrainingSettings(), NetworkSettings(), name="x"
    )
    import shutil

    shutil.copytree(disc_model, folder / "model")
    taught = library.from_run(folder / "model")
    assert taught.shape == (library.THUMBNAIL_SIDE, library.THUMBNAIL_SIDE, 3)
    orange = (taught == library._OUTLINE).all(axis=-1)
    assert 0.01 < orange.mean() < 0.5
    path = Shelf.shared().save(str(folder / "model"), "taught")
    np.testing.assert_array_equal(library.thumbnail(path), taught)
    plain = library.thumbnail(disc_model)
    assert plain.shape == taught.shape
    assert len(np.unique(plain)) > 10
    assert library.thumbnail(str(tmp_path / "nothing")) is None


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
    new = library.rename_model(str(folder / "packed.zip"), "small")
    assert new == str(folder / "small.zip")
    copy = library.duplicate_model(new)
    assert copy == str(folder / "small copy.zip")
    item = library.delete_model(copy)
    assert library.trashed_models()[0].name == item.name == "small copy"
    assert library.restore_model(item) == copy
    assert json.loads(zipfile.ZipFile(copy).read("model.json"))["channels"] == 1
