"""Preferences: what they are, where they are kept, and what they do in the docks."""

import json
import shutil
from dataclasses import fields
from importlib.resources import files

import napari.settings
import numpy as np
import pytest
import yaml
from discs import discs, errors, make_small
from hand import cells_in, kinds, middle
from qtpy.compat import isalive
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QDialogButtonBox, QLineEdit

from napari_unet.core.errors import SettingsError, StoreError
from napari_unet.core.settings import options
from napari_unet.plugin.dock.preferences_dialog import PreferencesDialog
from napari_unet.plugin.models import files as models_module
from napari_unet.plugin.models.files import models_folder
from napari_unet.plugin.settings import preferences
from napari_unet.plugin.settings.preferences import SECTIONS, Preferences, usable
from napari_unet.plugin.settings.shortcut_names import clashes, napari_key, normal_key
from napari_unet.plugin.widgets.forms import set_value
from napari_unet.records import runs

DEFAULTS = {field.name: field.default for field in fields(Preferences)}

# --- one place ----------------------------------------------------------------------------------


def test_the_manifest_says_what_the_preferences_say():
    manifest = yaml.safe_load(files("napari_unet").joinpath("napari.yaml").read_text(encoding="utf-8"))
    known = options(Preferences)
    wanted = {
        key: {
            "title": section.title,
            "properties": {
                name: {"title": known[name].label, "type": "string", "default": DEFAULTS[name],
                       "description": known[name].help,
                       **({"enum": list(known[name].choices)} if known[name].choices else {})}
                for name in section.names()
            },
        }
        for key, section in SECTIONS.items()
    }  # fmt: skip
    assert manifest["contributions"]["configurations"] == wanted


def test_every_preference_is_in_one_section():
    assert [name for section in SECTIONS.values() for name in section.names()] == list(DEFAULTS)


# --- what can be entered ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["anna@", "@gpu", "anna gpu", "gpu:", "gpu:70000", "gpu:0", "-oProxyCommand=x", "a@b@c"]
)
def test_what_is_no_engine_address_is_refused(text):
    with pytest.raises(SettingsError, match="is no address of a computer"):
        preferences.check_value("engine_address", text)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("n", "N"),
        ("Control-Shift-n", "Ctrl+Shift+N"),
        ("shift+ctrl+F5", "Ctrl+Shift+F5"),
        (".", "."),
        ("Alt+,", "Alt+,"),
    ],
)
def test_a_key_has_one_way_of_writing(text, key):
    assert normal_key(text) == key


@pytest.mark.parametrize("text", ["", "NN", "Space", "Hyper+N", "Ctrl+", "ä", "F13"])
def test_what_is_no_key_is_refused(text):
    with pytest.raises(SettingsError, match="is no key that can be used"):
        normal_key(text)


def test_keys_with_a_meaning_of_their_own_are_refused():
    with pytest.raises(SettingsError, match=r"Ctrl\+Z always means undo"):
        normal_key("control-z")


def test_napari_writes_keys_in_its_own_way():
    assert napari_key("Ctrl+Shift+N") == "Control-Shift-N"


def test_one_key_cannot_mean_two_things():
    assert clashes({"Next cell": "N", "Box": "Q", "Background": "N"}) == [
        "The key N cannot mean both Next cell and Background; give one of them another key."
    ]


def test_a_relative_model_folder_is_refused():
    with pytest.raises(SettingsError, match="has to begin at the root of a drive"):
        preferences.check_value("models_folder", "models")


def test_a_file_is_no_model_folder(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(SettingsError, match="is a file; choose a folder"):
        preferences.check_value("models_folder", str(tmp_path / "notes.txt"))


def test_a_folder_that_may_not_be_read_is_no_model_folder(tmp_path, monkeypatch):
    # Asked of a user without rights; the one who runs the tests may have all of them.
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(SettingsError, match="may not be read by you"):
        preferences.check_value("models_folder", str(tmp_path))


def test_what_cannot_be_used_stays_as_it_was():
    last = Preferences(device="cpu", key_box="Y")
    found, problems = usable({**DEFAULTS, "device": "gpu", "key_box": "Y", "key_preview": "Y"}, last)
    assert found == last
    assert [words.split(",")[0] for words in problems] == [
        "Device is 'gpu'", "The key Y cannot mean both Box and Live preview; give one of them another key."
    ]  # fmt: skip


# --- kept ---------------------------------------------------------------------------------------


def test_a_changed_preference_is_there_the_next_time(keepers):
    keepers().change(device="cpu", engine_address="anna@gpu:2222", key_next_cell="x")
    again = keepers().current()
    assert (again.device, again.engine_address, again.key_next_cell) == ("cpu", "anna@gpu:2222", "X")
    assert preferences.engine_address() == "anna@gpu:2222"


def test_two_keys_can_change_places(keepers, qtbot):
    keeper = keepers()
    refused = []
    keeper.refused.connect(refused.append)
    with qtbot.waitSignal(keeper.changed):
        keeper.change(key_next_cell="G", key_background="N")
    assert (keeper.current().key_next_cell, keeper.current().key_background, refused) == ("G", "N", [])


def test_a_refused_change_changes_nothing(keepers):
    keeper = keepers()
    with pytest.raises(SettingsError, match="The key Q cannot mean both Box and Live preview"):
        keeper.change(device="cpu", key_preview="Q")
    assert keeper.current() == Preferences()
    assert keepers().current() == Preferences()


def test_what_cannot_be_written_is_said(keepers, tmp_path, own_home):
    for folder in (own_home, tmp_path / "napari"):
        folder.write_text("no folder")
    keeper = keepers()
    with pytest.raises(StoreError, match="cannot (be written|write its preferences)"):
        keeper.change(device="cpu")


def test_a_damaged_file_is_put_aside_and_said(own_home, keepers, caplog, request):
    if "file" not in request.node.callspec.id:
        pytest.skip("napari looks after its own file")
    own_home.mkdir()
    (own_home / "preferences.json").write_text('{"device": "cpu"')
    assert keepers().current() == Preferences()
    assert (own_home / "preferences.json.damaged").read_text() == '{"device": "cpu"'
    assert "is ignored, as it is no JSON" in caplog.text


def test_what_a_file_should_not_hold_is_ignored(own_home, keepers, caplog, request):
    if "file" not in request.node.callspec.id:
        pytest.skip("napari looks after its own file")
    own_home.mkdir()
    (own_home / "preferences.json").write_text('{"device": 7, "precision": "float32", "key_box": "N", "colour": "red"}')
    assert keepers().current() == Preferences(precision="float32")
    assert "Device is '7', but has to be one of auto, cpu" in caplog.text


# --- in the docks, as a user meets them ---------------------------------------------------------

LONG = 60_000
TRAIN = "Annotate and train"


def opened(dock, qtbot):
    """Open the preferences by the menu of the gear; return the dialog."""
    dock.view.gear.menu().actions()[0].trigger()
    dialog = dock.window().findChild(PreferencesDialog)
    qtbot.waitUntil(dialog.isVisible)
    return dialog


def accept(dialog, click, qtbot):
    """Click OK, and wait until the dialog is gone."""
    click(dialog.buttons.button(QDialogButtonBox.StandardButton.Ok))
    qtbot.waitUntil(lambda: not isalive(dialog) or not dialog.isVisible())


def type_key(qtbot, dialog, name, key):
    """Click a key's field and press another key."""
    qtbot.mouseClick(dialog.editors[name], Qt.MouseButton.LeftButton)
    qtbot.keyClick(dialog.editors[name], key)


def test_another_key_does_it_from_now_on_and_the_next_time(keepers, docks, click, press, qtbot):
    keepers()
    viewer, dock = docks(TRAIN, show=True)
    viewer.add_image(discs()[0], name="discs")
    click(dock.view.new_button)
    layer = viewer.layers["discs annotation"]
    layer.data[:5] = 2
    dialog = opened(dock, qtbot)
    type_key(qtbot, dialog, "key_next_cell", Qt.Key.Key_J)
    accept(dialog, click, qtbot)
    assert dock.view.next_button.text() == "Next cell (J)"
    press(viewer, "N")
    assert layer.selected_label == 2
    press(viewer, "J")
    assert layer.selected_label == 3
    click(dock.view.region_button)
    assert "J and G paint on" in dock.view.messages.lines()[-1][1]
    assert keepers().current().key_next_cell == "J"


def test_a_key_that_is_taken_is_refused_in_words(docks, click, qtbot):
    _, dock = docks(TRAIN, show=True)
    dialog = opened(dock, qtbot)
    type_key(qtbot, dialog, "key_preview", Qt.Key.Key_Q)
    wanted = "The key Q cannot mean both Box and Live preview; give one of them another key."
    assert dialog.messages.lines() == [("error", wanted)]
    assert not dialog.buttons.button(QDialogButtonBox.StandardButton.Ok).isEnabled()
    type_key(qtbot, dialog, "key_preview", Qt.Key.Key_Space)
    assert "'Space' is no key that can be used" in dialog.messages.lines()[-1][1]
    type_key(qtbot, dialog, "key_box", Qt.Key.Key_H)
    assert dialog.messages.lines() == []
    accept(dialog, click, qtbot)
    assert (dock.view.region_button.text(), dock.view.preview_box.text()) == ("Box (H)", "Live preview (Q)")


def test_an_address_that_is_none_is_refused_in_words(docks, click, qtbot):
    _, dock = docks("Models", show=True)
    dialog = opened(dock, qtbot)
    dialog.editors["engine_address"].setText("anna at gpu")
    assert "'anna at gpu' is no address of a computer" in dialog.messages.lines()[0][1]
    click(dialog.buttons.button(QDialogButtonBox.StandardButton.Cancel))
    assert preferences.engine_address() == ""


def test_device_and_precision_begin_as_preferred_and_follow(docks):
    preferences.Keeper.shared().change(precision="float32", device="cpu")
    _, train, segment = docks(TRAIN, "Segment")
    for dock in (train, segment):
        assert [dock.view.advanced.values()[name] for name in ("device", "precision")] == ["cpu", "float32"]
    set_value(segment.view.advanced.editors["device"], "cuda")
    preferences.Keeper.shared().change(device="auto")
    assert train.view.advanced.values()["device"] == "auto"
    assert segment.view.advanced.values()["device"] == "cuda"


@pytest.mark.computing
def test_a_training_runs_as_preferred(docks, click, qtbot):
    preferences.Keeper.shared().change(device="cpu", precision="float32")
    viewer, dock = docks(TRAIN, show=True)
    image, labels = discs()
    viewer.add_image(image, name="discs")
    click(dock.view.new_button)
    layer = viewer.layers["discs annotation"]
    layer.data[10:110, 10:110] = np.where(labels[10:110, 10:110] > 0, labels[10:110, 10:110] + 1, 1)
    make_small(dock.view, seconds=1.0)
    click(dock.view.train_button)
    qtbot.waitUntil(lambda: dock.view.train_button.text() == "Train", timeout=LONG)
    assert not errors(dock.view)
    (folder,) = runs.runs_folder().iterdir()
    settings = json.loads((folder / "job.json").read_text())["settings"]
    assert (settings["device"], settings["precision"]) == ("cpu", "float32")


def test_models_are_kept_in_the_preferred_folder(docks, click, qtbot, tmp_path, monkeypatch, disc_model):
    monkeypatch.delenv(runs.HOME_VARIABLE)
    for module in (runs, models_module):
        monkeypatch.setattr(module, "home", lambda: tmp_path / "home")
    _, models, segment = docks("Models", "Segment", show=True)
    shutil.copytree(disc_model, tmp_path / "shared" / "of a colleague")
    assert segment.view.model.findText("of a colleague") < 0
    dialog = opened(models, qtbot)
    dialog.editors["models_folder"].setText(str(tmp_path / "shared"))
    accept(dialog, click, qtbot)
    assert segment.view.model.findText("of a colleague") > 0
    models.view.choose(str(tmp_path / "shared" / "of a colleague"))
    click(models.view.duplicate_button)
    qtbot.waitUntil((tmp_path / "shared" / "of a colleague copy").is_dir, timeout=LONG)


def test_the_environment_wins_over_the_preferred_folder(docks, qtbot, own_home, tmp_path):
    preferences.Keeper.shared().change(models_folder=str(tmp_path))
    assert models_folder() == own_home / "models"
    _, dock = docks("Models", show=True)
    dialog = opened(dock, qtbot)
    assert not dialog.editors["models_folder"].isEnabled()
    assert runs.HOME_VARIABLE in dialog.editors["models_folder"].toolTip()
    dialog.reject()


@pytest.mark.skipif(not hasattr(napari.settings, "get_plugin_settings"), reason="needs napari 0.9 or later")
def test_naparis_own_preferences_show_and_change_the_same(docks, qtbot, monkeypatch):
    said = []
    monkeypatch.setattr("napari.utils.notifications.show_warning", said.append)
    viewer, dock = docks(TRAIN, show=True)
    dialog = viewer.window._open_preferences_dialog()
    names = [dialog._list.item(row).text() for row in range(dialog._list.count())]
    page = dialog._stack.widget(names.index("U-Net segmentation"))
    fields = {edit.text(): edit for edit in page.findChildren(QLineEdit) if edit.text() in ("G", "H")}
    fields["G"].setText("J")
    assert dock.view.background_button.text() == "Background (J)"
    fields["H"].setText("J")
    assert dock.view.preview_box.text() == "Live preview (H)"
    qtbot.waitUntil(lambda: bool(said))
    assert said[0].startswith("The key J cannot mean both Background and Live preview")
    dialog.reject()
    assert dock.view.background_button.text() == "Background (G)"


def test_another_key_proofreads(proofreading, click, qtbot):
    _, dock, layer, hand = proofreading()
    first, second = cells_in(layer.data[0])[:2]
    dialog = opened(dock, qtbot)
    type_key(qtbot, dialog, "key_accept", Qt.Key.Key_Y)
    accept(dialog, click, qtbot)
    assert dock.view.buttons["accept"].text() == "Accept (Y)"
    assert dock.view.buttons["redo"].text() == "Redo (Ctrl+Shift+Z)"
    hand.move(*middle(layer.data[0], first))
    hand.key("A")
    assert kinds(layer) == {}
    hand.key("Y")
    assert kinds(layer) == {first: "accepted"}
    hand.move(*middle(layer.data[0], second))
    dock.view.setFocus()
    qtbot.keyClick(dock.view, Qt.Key.Key_Y)
    assert kinds(layer) == {first: "accepted", second: "accepted"}
