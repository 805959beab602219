"""The small pieces: annotation layer, curves, messages, models, sample data, manifest, imports."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Labels
from napari.utils.shortcuts import default_shortcuts
from qtpy.QtCore import QPointF

import napari_unet
from napari_unet.core.distribution import DISTRIBUTION, PLUGIN
from napari_unet.core.errors import DataError, ModelError, StoreError
from napari_unet.core.network.model_card import CARD_NAME, Card
from napari_unet.plugin.layers.painted import (
    annotation_colours,
    background_label,
    cell_colours,
    new_annotation,
    next_cell,
    select_background,
    select_next_cell,
)
from napari_unet.plugin.models.files import models_folder
from napari_unet.plugin.models.registry import ModelRegistry, check_channels, describe
from napari_unet.plugin.runtime.worker_thread import WorkerThread
from napari_unet.plugin.settings.preferences import Preferences
from napari_unet.plugin.train import sample_data
from napari_unet.plugin.widgets.common import Messages, ProgressBar, time_left
from napari_unet.plugin.widgets.layer_selectors import LayerCombo
from napari_unet.plugin.widgets.loss_plot import Curve, LossPlot
from napari_unet.plugin.widgets.score_plot import ScorePlot

BUNDLED_LABELS = ["Bundled model", "Bundled model: nuclei", "Bundled model: transmitted"]


@pytest.fixture
def annotated():
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((4, 100, 200), np.float32), name="stack", scale=(2, 1, 1))
    return viewer, image, new_annotation(viewer, image, "zyx")


# --- annotation layer --------------------------------------------------------------------------------


def test_a_new_annotation_is_ready_to_paint_the_first_cell(annotated):
    viewer, image, layer = annotated
    assert layer.data.shape == image.data.shape
    assert layer.scale.tolist() == [2, 1, 1]
    assert (layer.mode, layer.selected_label, background_label(layer)) == ("paint", 2, 1)
    assert 3 <= layer.brush_size <= 20
    assert viewer.layers.selection.active is layer


def test_background_is_blue_and_no_cell_is_grey_or_blue(annotated):
    *_, layer = annotated
    red, green, blue, alpha = layer.get_color(1)
    assert blue > 2 * max(red, green)
    assert alpha == 1
    for label in (*range(2, 70), 2999):
        red, green, blue = layer.get_color(label)[:3]
        assert max(red, green) > 1.1 * blue
        assert np.ptp((red, green, blue)) > 0.2
    for value in range(1, 70):
        red, green, blue, _ = cell_colours().map(value)
        assert max(red, green) > 1.1 * blue
    colours = annotation_colours()
    neighbours = [np.abs(colours.map(label) - colours.map(label + 1)).max() for label in range(2, 80)]
    assert min(neighbours) > 0.2


def test_the_next_cell_gets_an_unused_label(annotated):
    *_, layer = annotated
    assert next_cell(layer) == 2
    layer.data[1, :5, :5] = 7
    select_next_cell(layer)
    assert layer.selected_label == 8
    select_background(layer)
    assert (layer.selected_label, layer.mode) == (1, "paint")


def test_the_next_cell_of_a_large_stack_is_found_without_searching_it(annotated, monkeypatch):
    *_, layer = annotated
    monkeypatch.setattr("napari_unet.plugin.layers.painted._SEARCHED_BYTES", 10)
    layer.selected_label = 2
    select_next_cell(layer)
    select_next_cell(layer)
    assert layer.selected_label == 4


def test_a_layer_without_background_label_is_left_alone():
    viewer = ViewerModel()
    layer = viewer.add_labels(np.zeros((5, 5), int))
    layer.selected_label = 9
    select_background(layer)
    assert (background_label(layer), layer.selected_label) == (0, 9)


def test_the_keys_are_bound_and_clash_with_none_of_naparis(annotated):
    *_, layer = annotated
    taken = {str(key) for keys in default_shortcuts.values() for key in keys}
    keys = Preferences()
    for key in (keys.key_next_cell, keys.key_background):
        assert key not in taken
        assert any(str(bound) == key for bound in layer.keymap)
    layer.data[0, 0, 0] = 4
    next(function for bound, function in layer.keymap.items() if str(bound) == keys.key_next_cell)(layer)
    assert layer.selected_label == 5


# --- curves ----------------------------------------------------------------------------------------------


def test_a_long_curve_thins_out_and_keeps_its_ends():
    curve = Curve()
    for i in range(50_000):
        curve.add(i, 1 / (1 + i))
    assert len(curve.x) < 2000
    assert curve.x[0] == 0
    assert curve.x[-1] > 49_900
    assert curve.x == sorted(curve.x)


def test_undefined_losses_are_left_out_of_the_curve():
    curve = Curve()
    for value in (1.0, float("nan"), float("inf"), 0.5):
        curve.add(0.0, value)
    assert curve.y == [1.0, 0.5]


def test_smoothing_has_no_lag_at_the_start():
    curve = Curve()
    for i in range(5):
        curve.add(i, 3.0)
    np.testing.assert_allclose(curve.smoothed(), 3.0)


def test_the_plot_shows_both_curves_and_the_best(qtbot):
    plot = LossPlot()
    qtbot.addWidget(plot)
    for i in range(20):
        plot.add_step(i, 2.0 - i / 20)
    plot.add_validation(5, 1.5, 0.4, 0.5, True)
    plot.add_validation(10, 1.0, 0.8, 0.9, True)
    plot.add_validation(15, 1.2, 0.7, 0.6, False)
    plot.redraw()
    assert plot._points.getData()[1].tolist() == [1.5, 1.0, 1.2]
    assert [value[0] for value in plot._star.getData()] == [10, 1.0]
    assert [value[0] for value in plot._score_star.getData()] == [10, 0.8]
    assert plot._f1_line.getData()[1].tolist() == [0.4, 0.8, 0.7]
    assert plot._iou_line.getData()[1].tolist() == [0.5, 0.9, 0.6]
    assert len(plot._line.getData()[0]) == 20
    (_, right), (_, top) = plot.plot.viewRange()
    assert right >= 19
    assert top >= 2.0
    plot.reset()
    assert plot._star.getData()[0] is None or len(plot._star.getData()[0]) == 0


@pytest.mark.parametrize("kind", ["dark", "light"])
def test_axes_and_messages_are_readable_in_both_themes(qtbot, kind):
    from napari.utils.theme import get_theme

    background = get_theme(kind).background
    plot, messages = LossPlot(), Messages()
    qtbot.addWidget(plot)
    qtbot.addWidget(messages)
    plot.set_theme(kind, background.as_hex())
    messages.set_theme(kind)
    ground = np.array(background.as_rgb_tuple()[:3]) / 255
    assert contrast(plot.plot.getAxis("left").textPen().color().getRgbF()[:3], ground) > 4.5
    for word in ("error", "warning", "note", "done"):
        messages.clear_messages()
        messages.say("text", word)
        colour = messages.text().split("color:")[1][:7]
        assert contrast([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)], ground) > 4.5


def contrast(first, second):
    """Return the contrast of two colours as defined by WCAG 2."""

    def luminance(colour):
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


def test_messages_are_plain_text_and_the_last_four(qtbot):
    messages = Messages()
    qtbot.addWidget(messages)
    for i in range(6):
        messages.say(f"<b>{i}</b> & more")
    assert [text for _, text in messages.lines()] == [f"<b>{i}</b> & more" for i in range(2, 6)]
    assert "&lt;b&gt;5" in messages.text()
    messages.say("<b>5</b> & more")
    assert len(messages.lines()) == 4


@pytest.mark.parametrize("scores", [(0.9, 0.85, 0.8), (0.5, 0.3, 0.02), (0.95, 0.6, 0.1), (0.0, 0.0, 0.0)])
def test_the_legend_of_scores_lies_on_no_curve(qtbot, scores):
    plot = ScorePlot()
    qtbot.addWidget(plot)
    plot.resize(300, 110)
    plot.show()
    overlaps = np.linspace(0.5, 0.9, 9)
    points = list(zip(overlaps.tolist(), np.interp(overlaps, (0.5, 0.7, 0.9), scores).tolist(), strict=True))
    plot.show_curves(points, points)
    box, x = plot.plot.getViewBox(), np.linspace(0.5, 0.9, 100)
    curve = list(zip(x.tolist(), np.interp(x, *zip(*points, strict=True)).tolist(), strict=True))

    def touched():
        legend = box.mapSceneToView(plot._legend.sceneBoundingRect()).boundingRect()
        return [point for point in curve if legend.contains(*point)]

    # What is not laid out yet lies anywhere.
    qtbot.waitUntil(lambda: not touched())


@pytest.mark.parametrize("losses", [(0.9, 0.95, 1.0), (1.4, 0.6, 0.3)])
def test_a_low_plot_of_losses_is_neither_covered_nor_cut(qtbot, losses):
    plot = LossPlot()
    qtbot.addWidget(plot)
    plot.resize(300, 150)
    plot.show()
    for second, loss in enumerate(losses):
        plot.add_step(float(second), loss)
    plot.add_validation(2.0, losses[-1], 0.9, 0.8, True)
    plot.redraw()
    qtbot.wait(50)
    box = plot.plot.getViewBox()
    legend = box.mapSceneToView(plot._legend.sceneBoundingRect()).boundingRect()
    x, y = plot._line.getData()
    assert not [point for point in zip(x, y, strict=True) if legend.contains(*point)]
    half_a_star = plot._star.opts["symbolSize"] / 2
    star = box.mapViewToScene(QPointF(2.0, losses[-1]))
    assert star.x() + half_a_star <= box.sceneBoundingRect().right()
    assert box.sceneBoundingRect().top() >= 5, "half a number has to fit above the axis"


def test_a_bar_of_unknown_length_says_what_is_waited_for(qtbot):
    bar = ProgressBar()
    qtbot.addWidget(bar)
    bar.wait("reading")
    assert bar.text() == "reading"
    bar.advance(0.5, "plane 1 of 2")
    assert bar.text() == "plane 1 of 2"
    bar.rest()
    assert bar.text() == ""


def test_long_names_of_layers_are_shortened_in_the_middle(qtbot):
    combo = LayerCombo("Which.", "none")
    qtbot.addWidget(combo)
    combo.resize(160, 28)
    layers = [Labels(np.zeros((4, 4), int), name=f"{'a long name of a picture ' * 3}{end}") for end in ("red", "blue")]
    combo.show_layers(layers)
    shown = [combo.choose(layer) or combo.grab().toImage() for layer in layers]
    assert shown[0] != shown[1]
    assert combo.currentText() == layers[1].name


def test_time_left_reads_well():
    assert [time_left(s) for s in (None, 0.4, 99, 150, 3000)] == [
        "",
        "0 s left",
        "99 s left",
        "2 min left",
        "50 min left",
    ]


# --- reading in the background --------------------------------------------------------------------------


def test_only_the_newest_read_is_delivered(qtbot):
    background, got = WorkerThread(), []
    background.run(lambda: time.sleep(0.2) or "old", got.append)
    background.run(lambda: "new", got.append)
    qtbot.waitUntil(lambda: bool(got))
    qtbot.wait(400)
    assert got == ["new"]


@pytest.mark.parametrize(
    ("error", "message"),
    [(DataError("no paint"), "no paint"), (OSError("gone"), "cannot be read: OSError: gone")],
)
def test_what_goes_wrong_while_reading_is_told(qtbot, error, message):
    def fail():
        raise error

    background, said = WorkerThread(), []
    background.run(fail, said.append, said.append)
    qtbot.waitUntil(lambda: bool(said))
    assert message in said[0]


def test_what_a_read_holds_ends_in_the_viewers_thread(qtbot):
    """Qt's objects that end in another thread crash the viewer, now and then."""
    ended, got = [], []

    class Held:
        def __del__(self):
            ended.append(threading.current_thread())

    def begin():
        held = Held()
        WorkerThread().run(lambda: held is not None, lambda value: got.append((value, held is not None)))

    begin()
    for thread in threading.enumerate():
        if thread.name == "napari-unet reader":
            thread.join()
    assert not ended
    qtbot.waitUntil(lambda: bool(got))
    assert got == [(True, True)]
    qtbot.waitUntil(lambda: bool(ended))
    assert ended == [threading.main_thread()]


# --- models ------------------------------------------------------------------------------------------------


def make_model(folder, **about):
    folder.mkdir(parents=True)
    (folder / CARD_NAME).write_text(Card("mine", **about).to_json())
    return str(folder)


def test_a_saved_model_is_on_the_shelf(qtbot, tmp_path):
    registry = ModelRegistry()
    with qtbot.waitSignal(registry.changed):
        registry.set_just_trained(make_model(tmp_path / "run" / "model"))
    path = registry.save(registry.just_trained, " my: cells ")
    assert Path(path) == models_folder() / "my_ cells"
    assert [entry.label for entry in registry.entries()] == ["Just trained", *BUNDLED_LABELS, "my_ cells"]
    assert "mine: 1 channel" in describe(path)


def test_bad_names_and_full_disks_leave_no_half_model(qtbot, tmp_path, monkeypatch):
    registry, model = ModelRegistry(), make_model(tmp_path / "model")
    registry.save(model, "a")
    with pytest.raises(ModelError, match="named a already"):
        registry.save(model, "a")
    with pytest.raises(ModelError, match="no name yet"):
        registry.save(model, "  ")

    def full(source, target):
        Path(target).mkdir()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copytree", full)
    with pytest.raises(StoreError, match="No space left"):
        registry.save(model, "b")
    assert [entry.label for entry in registry.entries()] == [*BUNDLED_LABELS, "a"]


def test_channels_are_checked_in_words():
    assert check_channels(Card("m", channels=1), 3, rgb=True) is True
    assert check_channels(Card("m", channels=3), 3, rgb=True) is False
    with pytest.raises(ModelError, match="needs 2 channels, but the image has 1 channel"):
        check_channels(Card("m", channels=2), 1, rgb=False)
    with pytest.raises(ModelError, match="needs 1 channel, but the image has 3 channels"):
        check_channels(Card("m", channels=1), 3, rgb=False)


# --- sample data, manifest, imports --------------------------------------------------------------------------


@pytest.mark.parametrize("make", [sample_data.nuclei, sample_data.phase_contrast, sample_data.stack])
def test_sample_data_are_images_and_the_same_every_time(make):
    ((data, about, kind),) = make()
    again = make()[0][0]
    np.testing.assert_array_equal(data, again)
    layer = Image(data, **about)
    assert kind == "image"
    assert np.ptp(layer.data) > 0.2


def test_the_manifest_is_valid_and_everything_in_it_exists():
    from npe2 import PluginManifest

    path = Path(napari_unet.__file__).with_name("napari.yaml")
    manifest = PluginManifest.from_file(path)
    manifest.validate_imports()
    commands = {command.id for command in manifest.contributions.commands}
    assert manifest.name == PLUGIN == DISTRIBUTION
    assert all(name.startswith(f"{PLUGIN}.") for name in commands)
    used = {widget.command for widget in manifest.contributions.widgets}
    used |= {sample.command for sample in manifest.contributions.sample_data}
    assert used == commands
    assert set(manifest.contributions.menus) == {
        "napari/layers/segment",
        "napari/layers/annotate",
        "napari/layers/measure",
    }
    assert subprocess.run([sys.executable, "-m", "npe2", "validate", str(path)], check=False).returncode == 0


def test_plugin_modules_load_no_torch():
    code = (
        "import sys, pkgutil, importlib, json, napari_unet.plugin as plugin\n"
        "names = [module.name for module in pkgutil.iter_modules(plugin.__path__)]\n"
        "for name in names: importlib.import_module(f'napari_unet.plugin.{name}')\n"
        "print(json.dumps([name for name in sys.modules if name.split('.')[0] == 'torch']))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert json.loads(out.splitlines()[-1]) == []
