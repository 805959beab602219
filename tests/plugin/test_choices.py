"""What was chosen in a dock is there when it is opened again: in the same viewer, in the next session."""

import json
import shutil

import numpy as np
import pytest
from discs import discs, errors, make_small, stack
from napari.components import ViewerModel
from qtpy.QtWidgets import QCheckBox, QLabel, QLineEdit, QTabWidget

from napari_unet.core.distribution import PLUGIN
from napari_unet.core.settings import TrainingSettings
from napari_unet.plugin.dock.state import FILE_NAME, Lasting, Remembering
from napari_unet.plugin.dock.state_kinds import of_box, of_form, of_index, of_text
from napari_unet.plugin.models.registry import ModelRegistry
from napari_unet.plugin.settings.preferences import Keeper
from napari_unet.plugin.train.sources import painting_of
from napari_unet.plugin.widgets.forms import SettingsForm, set_value

LONG = 60_000
TRAIN = "Annotate and train"


def close(viewer, dock, qtbot):
    """Close a dock by taking it out of the window, as its cross does."""
    viewer.window.remove_dock_widget(dock)
    qtbot.wait(50)


def reopen(viewer, name):
    """Open a dock by its name in the menu of plugins."""
    return viewer.window.add_plugin_dock_widget(PLUGIN, name)[1]


@pytest.fixture
def next_session(docks, monkeypatch):
    """Return a function that opens docks as if napari had been started anew."""

    def start(*names):
        Lasting.shared().flush()
        Lasting._one = None
        monkeypatch.setattr(ModelRegistry, "_shared", None)
        return docks(*names)

    return start


def said(dock):
    return [text for _, text in dock.view.messages.lines()]


# --- the same viewer ----------------------------------------------------------------------------


def test_a_train_dock_is_as_it_was_left(docks, click, qtbot):
    viewer, dock = docks(TRAIN)
    for name, seed in (("red", 0), ("green", 1), ("blue", 2)):
        viewer.add_image(discs(seed=seed)[0], name=name)
    view = dock.view
    view.images.image.choose(viewer.layers["red"])
    view.images.channels.tick([viewer.layers["blue"]])
    click(view.new_button)
    viewer.add_labels(np.ones((128, 128), int), name="other")
    view.annotation.choose(viewer.layers["other"])
    assert painting_of(viewer.layers["other"]) is not None
    click(view.complete_box)
    complete = view.complete_box.isChecked()
    view.annotation.choose(viewer.layers["red annotation"])
    view.start.choose("scratch")
    set_value(view.simple.editors["seconds"], 120.0)
    set_value(view.advanced.editors["patch"], 128)
    set_value(view.advanced.editors["device"], "cpu")
    set_value(view.network.editors["depth"], 3)
    view.live_box.click()
    view.tabs.setCurrentIndex(3)
    view.fold.expand()
    view.name_edit.setText("my nuclei")
    viewer.layers["blue"].name = "dapi"
    close(viewer, dock, qtbot)

    view = reopen(viewer, TRAIN).view
    assert view.images.image.layer() is viewer.layers["red"]
    assert view.images.channels.ticked() == [viewer.layers["dapi"]]
    assert view.annotation.layer() is viewer.layers["red annotation"]
    assert view.start.currentData() == "scratch"
    assert view.simple.values()["seconds"] == 120
    assert [view.advanced.values()[name] for name in ("patch", "device")] == [128, "cpu"]
    assert view.network.values()["depth"] == 3
    assert (view.live_box.isChecked(), view.preview_box.isChecked()) == (False, True)
    assert (view.tabs.currentIndex(), view.fold.isExpanded(), view.name_edit.text()) == (3, True, "my nuclei")
    view.annotation.choose(viewer.layers["other"])
    assert view.complete_box.isChecked() is complete


def test_a_layer_that_is_gone_is_not_missed(docks, qtbot):
    viewer, dock = docks("Segment")
    for name in ("first", "second"):
        viewer.add_image(discs()[0], name=name)
    dock.view.images.image.choose(viewer.layers["first"])
    close(viewer, dock, qtbot)
    viewer.layers.remove("first")
    viewer.add_image(discs(seed=3)[0], name="first")
    dock = reopen(viewer, "Segment")
    assert dock.view.images.image.layer() in list(viewer.layers)
    assert not errors(dock.view)


def test_a_segment_dock_is_as_it_was_left(docks, qtbot, disc_model):
    viewer, dock = docks("Segment")
    viewer.add_image(stack(5), name="stack")
    dock.controller.models.offer(disc_model)
    dock.view.model.choose(disc_model)
    dock.view.extent.setCurrentIndex(1)
    dock.view.threshold.setValue(0.31)
    dock.view.smallest.set_value(77)
    set_value(dock.view.advanced.editors["tta"], True)
    close(viewer, dock, qtbot)
    view = reopen(viewer, "Segment").view
    assert view.model.currentData() == disc_model
    assert view.extent.currentText() == "whole stack (5 planes)"
    values = view.values()
    assert (values["threshold"], values["smallest"], values["tta"]) == (0.31, 77, True)


def test_measure_proofread_and_models_are_as_they_were_left(docks, qtbot):
    names = ("Measure and compare", "Proofread", "Models")
    viewer, measure, proofread, models = docks(*names)
    for name in ("one", "two", "three"):
        viewer.add_labels(discs()[1], name=name)
    measure.view.cells.choose(viewer.layers["one"])
    measure.view.truth.choose(viewer.layers["two"])
    measure.view.show_extent("sparse")
    proofread.view.result.choose(viewer.layers["two"])
    models.view.author.setText("Anna")
    models.view.format.setCurrentIndex(1)
    models.view.list.setCurrentRow(1)
    for dock in (measure, proofread, models):
        close(viewer, dock, qtbot)
    measure, proofread, models = (reopen(viewer, name) for name in names)
    assert [measure.view.cells.currentText(), measure.view.truth.currentText()] == ["one", "two"]
    assert measure.view.extent.currentData() == "sparse"
    assert proofread.view.result.currentText() == "two"
    assert (models.view.author.text(), models.view.format.currentIndex()) == ("Anna", 1)
    assert models.view.list.currentRow() == 1


def test_two_viewers_keep_their_own(docks, qtbot):
    first, here = docks(TRAIN)
    second, there = docks(TRAIN)
    set_value(here.view.simple.editors["seconds"], 30.0)
    set_value(there.view.simple.editors["seconds"], 90.0)
    for viewer, dock in ((first, here), (second, there)):
        close(viewer, dock, qtbot)
    assert reopen(first, TRAIN).view.simple.values()["seconds"] == 30
    assert reopen(second, TRAIN).view.simple.values()["seconds"] == 90


# --- the next session ---------------------------------------------------------------------------


def test_settings_begin_as_they_were_left_and_that_is_said(docks, next_session, click, qtbot):
    viewer, dock = docks(TRAIN, show=True)
    viewer.add_image(discs()[0], name="discs")
    make_small(dock.view, seconds=90.0)
    dock.view.tabs.setCurrentIndex(2)
    dock.view.name_edit.setText("of the first picture")
    _, dock = next_session(TRAIN)
    view = dock.view
    assert view.simple.values()["seconds"] == 90
    assert (view.tabs.currentIndex(), view.name_edit.text(), view.images.image.layer()) == (2, "", None)
    assert said(dock)[0].startswith("As you left it last time: Time 90 s, ")
    view.gear.menu().actions()[1].trigger()
    assert view.simple.values()["seconds"] == 60
    assert view.start.currentData() == "scratch"


def test_the_first_time_nothing_is_said(docks):
    _, train, segment = docks(TRAIN, "Segment")
    assert said(train) == said(segment) == []


def test_a_model_that_is_gone_takes_its_settings_with_it(docks, next_session, tmp_path, disc_model):
    model = tmp_path / "passing"
    shutil.copytree(disc_model, model)
    _, dock = docks("Segment")
    dock.controller.models.offer(str(model))
    dock.view.model.choose(str(model))
    own = dock.view.values()["threshold"]
    dock.view.threshold.setValue(0.31)
    set_value(dock.view.advanced.editors["tta"], True)
    _, dock = next_session("Segment")
    assert (dock.view.model.currentData(), dock.view.values()["threshold"]) == (str(model), 0.31)
    dock.view.gear.menu().actions()[1].trigger()
    assert dock.view.values()["threshold"] == pytest.approx(own)
    dock.view.threshold.setValue(0.31)
    set_value(dock.view.advanced.editors["tta"], True)
    set_value(dock.view.advanced.editors["tile"], 256)
    shutil.rmtree(model)
    _, dock = next_session("Segment")
    assert dock.view.model.currentData() == "bundled"
    bundled = dock.controller.models.card_values("bundled")["threshold"]
    values = dock.view.values()
    # Whether mirrored images are worth their time is the model's, too; how large tiles are is not.
    assert (values["threshold"], values["tta"], values["tile"]) == (pytest.approx(bundled), False, 256)
    assert not errors(dock.view)


@pytest.fixture
def trained(tmp_path, disc_model):
    """Return a function that has a training write a model, as its dock tells the shelf, and returns its path."""

    def make(name):
        model = tmp_path / "runs" / name / "model"
        shutil.copytree(disc_model, model)
        ModelRegistry.shared().set_just_trained(str(model))
        return str(model)

    return make


@pytest.mark.parametrize("name", ["Segment", "Segment many files"])
def test_the_model_trained_last_is_offered_first_in_the_next_session(docks, next_session, qtbot, trained, name):
    viewer, dock = docks(name)
    assert dock.view.model.currentData() == "bundled"
    close(viewer, dock, qtbot)
    # With the dock closed, as somebody who closes napari after a long training.
    model = trained("run")
    _, dock = next_session(name)
    assert dock.view.model.currentData() == model
    assert dock.view.model.currentText().startswith("Trained last, 20")
    assert dock.view.values()["threshold"] == dock.controller.models.card_values(model)["threshold"]


def test_a_dock_that_was_never_open_begins_with_the_model_trained_last(docks, next_session, trained):
    docks(TRAIN)
    model = trained("run")
    ModelRegistry.shared().save(model, "my nuclei")
    _, dock = next_session("Segment")
    assert dock.view.model.currentText() == "my nuclei"


def test_what_was_chosen_after_a_training_is_kept_until_the_next_training(docks, next_session, qtbot, trained):
    viewer, dock = docks("Segment")
    first = trained("first")
    assert dock.view.model.currentData() == first
    dock.view.model.choose("bundled")
    viewer, dock = next_session("Segment")
    assert dock.view.model.currentData() == "bundled"
    # In the same viewer, too: closed, trained, opened again.
    close(viewer, dock, qtbot)
    second = trained("second")
    dock = reopen(viewer, "Segment")
    assert dock.view.model.currentData() == second
    dock.view.model.choose("bundled")
    close(viewer, dock, qtbot)
    assert reopen(viewer, "Segment").view.model.currentData() == "bundled"


def test_a_model_saved_under_a_name_stands_for_its_training(docks, next_session, trained):
    _, dock, models = docks("Segment", "Models")
    model = trained("run")
    dock.view.threshold.setValue(0.31)
    saved = ModelRegistry.shared().save(model, "nuclei")
    models.view.choose(saved)
    models.view.rename.emit("my nuclei")
    _, dock, models = next_session("Segment", "Models")
    assert dock.view.model.currentText() == "my nuclei"
    assert dock.view.values()["threshold"] == 0.31
    assert [dock.view.model.itemText(i)[:12] for i in range(dock.view.model.count())].count("Trained last") == 0
    # Who deletes it does not want it to be offered as the last one.
    models.view.choose(dock.view.model.currentData())
    models.view.delete.emit()
    _, dock = next_session("Segment")
    assert dock.view.model.currentData() == "bundled"
    assert dock.view.model.findData(model) < 0


def test_a_discarded_training_gives_way_to_the_one_of_an_earlier_session(docks, next_session, trained):
    docks(TRAIN)
    model = trained("first")
    next_session(TRAIN)
    trained("second")
    ModelRegistry.shared().set_just_trained("")
    _, dock = next_session("Segment")
    assert dock.view.model.currentData() == model


def test_a_model_that_is_gone_was_not_trained_last(docks, next_session, trained):
    docks(TRAIN)
    shutil.rmtree(trained("run"))
    _, dock = next_session("Segment")
    assert dock.view.model.currentData() == "bundled"
    assert not errors(dock.view)


def test_a_model_remembered_by_an_earlier_version_is_chosen_again(docks, own_home, disc_model):
    own_home.mkdir(parents=True)
    (own_home / FILE_NAME).write_text(json.dumps({"SegmentDock": {"model": disc_model}}), encoding="utf-8")
    _, dock = docks("Segment")
    assert dock.view.model.currentData() == disc_model


def test_device_follows_the_preference_and_not_the_last_time(docks, next_session):
    Keeper.shared().change(device="cpu")
    _, train, segment = docks(TRAIN, "Segment")
    for dock in (train, segment):
        set_value(dock.view.advanced.editors["precision"], "float32")
    Keeper.shared().change(device="auto")
    for dock in next_session(TRAIN, "Segment")[1:]:
        assert [dock.view.advanced.values()[name] for name in ("device", "precision")] == ["auto", "auto"]
        assert said(dock) == []


# --- a file that is not as it should be ---------------------------------------------------------


class Widgets:
    """A few widgets and what is remembered of them."""

    def __init__(self, qtbot):
        self.form, self.tabs, self.box, self.edit = (
            SettingsForm(TrainingSettings(), ["seconds", "mode", "patch"]), QTabWidget(), QCheckBox(), QLineEdit()
        )  # fmt: skip
        for widget in (self.form, self.tabs, self.box, self.edit):
            qtbot.addWidget(widget)
        self.tabs.addTab(QLabel(), "one")
        self.tabs.addTab(QLabel(), "two")
        self.viewer = ViewerModel()
        choices = (
            of_form("form", self.form, TrainingSettings()), of_index("tab", self.tabs), of_box("box", self.box),
            of_text("text", self.edit),
        )  # fmt: skip
        self.kept = Remembering(self.viewer, "dock", choices)

    def values(self):
        return self.form.values(), self.tabs.currentIndex(), self.box.isChecked(), self.edit.text()


UNTOUCHED = ({"seconds": 60.0, "mode": "instances", "patch": 256}, 0, False, "")


@pytest.mark.parametrize("text", ["{", "[]", "7", '"dock"', "\x00"])
def test_a_damaged_file_is_put_aside_with_a_warning(own_home, caplog, qtbot, text):
    own_home.mkdir()
    (own_home / FILE_NAME).write_text(text)
    widgets = Widgets(qtbot)
    assert widgets.values() == UNTOUCHED
    assert (own_home / f"{FILE_NAME}.damaged").read_text() == text
    assert f"was put aside as {FILE_NAME}.damaged" in caplog.text
    widgets.edit.setText("new")
    widgets.kept.close()
    assert json.loads((own_home / FILE_NAME).read_text())["dock"]["text"] == "new"


@pytest.mark.parametrize(
    ("kept", "name"),
    [
        ({"form": {"seconds": -5}}, "form"),
        ({"form": {"mode": "colours"}}, "form"),
        ({"form": {"colour": 1}}, "form"),
        ({"form": {"patch": 1e400}}, "form"),
        ({"form": 7}, "form"),
        ({"tab": "x"}, "tab"),
        ({"tab": True}, "tab"),
        ({"box": "no"}, "box"),
        ({"text": ["a"]}, "text"),
    ],
)
def test_what_cannot_be_shown_again_is_left_out_with_a_warning(own_home, caplog, qtbot, kept, name):
    own_home.mkdir()
    (own_home / FILE_NAME).write_text(json.dumps({"dock": kept}))
    assert Widgets(qtbot).values() == UNTOUCHED
    assert f"what was chosen for '{name}' cannot be shown again" in caplog.text


@pytest.mark.parametrize("kept", [3, [], {"tab": 9}, {"unknown": 1}])
def test_what_is_not_known_is_ignored(own_home, qtbot, kept):
    own_home.mkdir()
    (own_home / FILE_NAME).write_text(json.dumps({"dock": kept}))
    assert Widgets(qtbot).values() == UNTOUCHED


def test_a_dock_opens_in_spite_of_a_bad_file(docks, own_home):
    own_home.mkdir()
    bad = {"simple": {"seconds": -5}, "advanced": 7, "network": {"depth": None}, "tab": "x", "start": [], "where": {}}
    (own_home / FILE_NAME).write_text(json.dumps({"TrainDock": bad, "SegmentDock": {"settings": {}, "model": 3}}))
    _, train, segment = docks(TRAIN, "Segment")
    assert (train.view.simple.values()["seconds"], train.view.tabs.currentIndex()) == (60, 0)
    assert segment.view.model.currentData() == "bundled"
    assert not errors(train.view) + errors(segment.view)


def test_a_folder_that_cannot_be_written_is_a_warning(docks, own_home, caplog, qtbot):
    own_home.parent.mkdir(exist_ok=True)
    own_home.write_text("no folder")
    viewer, dock = docks("Models")
    dock.view.author.setText("Anna")
    close(viewer, dock, qtbot)
    assert "Choices are forgotten when napari is closed" in caplog.text
    assert reopen(viewer, "Models").view.author.text() == "Anna"
