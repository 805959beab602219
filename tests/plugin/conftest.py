"""Docks in a real viewer, with the real engine."""

import gc
import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest
from discs import alive
from hand import Hand, labelled_stack
from napari.settings import get_settings
from npe2 import PluginManifest
from qtpy.QtCore import Qt
from qtpy.QtGui import QKeyEvent
from qtpy.QtWidgets import QApplication, QFileDialog, QInputDialog

from napari_unet.core.distribution import PLUGIN
from napari_unet.plugin.dock.lifecycle import EngineUse
from napari_unet.plugin.dock.state import Lasting
from napari_unet.plugin.models.registry import ModelRegistry
from napari_unet.plugin.runtime import gc_pause
from napari_unet.plugin.runtime.engine import Engine
from napari_unet.plugin.runtime.gc_pause import Hold
from napari_unet.plugin.runtime.mesa_workaround import steady
from napari_unet.plugin.settings import preferences
from napari_unet.plugin.settings.preference_store import FileStore


@pytest.fixture(autouse=True)
def little_to_look_through(request, monkeypatch):
    """Leave what was there before a test out of the searches for garbage, of which each viewer makes several.

    That is some half a million objects, most of them of imported modules. Garbage is thrown away first, for it would
    be left out, too. The end of a `Hold` would put everything back, so holds are only counted here; what they do is
    tested in `test_smoothness.py`.
    """
    if "make_napari_viewer" not in request.fixturenames:
        yield
        return
    gc.collect()
    gc.freeze()
    monkeypatch.setattr(gc_pause, "gc", Mock())
    yield
    assert not Hold._count


@pytest.fixture(scope="session", autouse=True)
def manifests_read_once():
    """Read the manifests of the installed plugins once, and not with each viewer anew."""
    read, kept = PluginManifest.discover, []

    def discover(paths=()):
        if paths:
            return read(paths)
        kept.extend([] if kept else read())
        return iter(kept)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PluginManifest, "discover", discover)
        yield


@pytest.fixture(scope="session", autouse=True)
def napari_without_a_file():
    """Keep napari's settings out of the user's file; each change would write it, and several processes at once."""
    try:
        get_settings(path=None)
    except RuntimeError:
        # A napari before 0.7 has read them when it was imported, and takes the path only then.
        get_settings()._config_path = None


@pytest.fixture(autouse=True)
def own_preferences(tmp_path, monkeypatch):
    """Keep the preferences of a test out of the user's, whether this napari keeps them or not."""
    from napari import settings

    if hasattr(settings, "get_plugin_settings"):
        monkeypatch.setattr(settings, "_CFG_PATH", str(tmp_path / "napari" / "settings.yaml"))
        monkeypatch.setattr(settings, "_PLUGIN_SETTINGS", {})
    monkeypatch.setattr(preferences.Keeper, "_one", None)
    monkeypatch.setattr(Lasting, "_one", None)
    yield
    if preferences.Keeper._one is not None:
        preferences.Keeper._one.close()


@pytest.fixture(params=["napari", "file"])
def keepers(request, monkeypatch, qapp):
    """Return a function that reads the preferences anew, as the next session would, kept by napari or in a file."""
    from napari import settings

    if request.param == "file":
        monkeypatch.setattr(preferences, "open_store", lambda sections: FileStore())
    elif not hasattr(settings, "get_plugin_settings"):
        pytest.skip("this napari keeps no preferences of plugins")

    def make():
        if preferences.Keeper._one is not None:
            preferences.Keeper._one.close()
        settings.__dict__.get("_PLUGIN_SETTINGS", {}).clear()
        preferences.Keeper._one = None
        return preferences.Keeper.shared()

    return make


@pytest.fixture(scope="session")
def disc_model(tmp_path_factory):
    """The path of a small model that knows discs; trained in a process of its own, as Qt and torch live apart."""
    folder = tmp_path_factory.mktemp("models") / "discs"
    script = Path(__file__).with_name("discs.py")
    subprocess.run([sys.executable, str(script), str(folder)], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    return str(folder)


@pytest.fixture
def make_napari_viewer(make_napari_viewer):
    """Return napari's function that makes a viewer; without a dock, too, Mesa's software renderer is not to crash."""

    def make(*arguments, **options):
        viewer = make_napari_viewer(*arguments, **options)
        steady(viewer.window._qt_window)
        return viewer

    return make


@pytest.fixture
def docks(make_napari_viewer, qtbot, monkeypatch):
    """Return a function that opens a viewer with docks; afterwards no backend may be left."""
    monkeypatch.setattr(ModelRegistry, "_shared", None)
    opened = []

    def make(*names, show=False):
        viewer = make_napari_viewer(show=show)
        opened.append(viewer)
        return viewer, *(viewer.window.add_plugin_dock_widget(PLUGIN, name)[1] for name in names)

    yield make
    engine = Engine.shared()
    for viewer in opened:
        viewer.close()
    qtbot.wait(100)
    qtbot.waitUntil(lambda: engine.state in ("stopped", "dead"), timeout=20_000)
    assert not alive(engine.pid)


@pytest.fixture(autouse=True)
def engine_on_demand(request, monkeypatch):
    """Start the engine with the first job, and not with each dock: most tests need none, and torch loads long."""
    if "engine_at_once" not in request.fixturenames:
        monkeypatch.setattr(EngineUse, "start", lambda use: None)


@pytest.fixture
def engine_at_once():
    """Let docks start the engine when they are opened, as users have it."""


@pytest.fixture
def quick_checkpoints(monkeypatch):
    """Let trainings save a checkpoint every second, and not every half a minute."""
    monkeypatch.setattr(Engine.shared()._client, "_jobs_module", "quick_jobs")
    monkeypatch.setattr(Engine.shared()._client, "_path", (str(Path(__file__).parents[1]),))


@pytest.fixture
def click(qtbot):
    """Return a function that clicks a button with the mouse."""
    return lambda button: qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


@pytest.fixture
def answer(monkeypatch):
    """Return a function that lets the next dialogs for a file, a folder or a name be answered like this."""

    def make(words):
        for name in ("getSaveFileName", "getOpenFileName"):
            monkeypatch.setattr(QFileDialog, name, lambda *a, **k: (str(words), ""))
        monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *a, **k: str(words))
        monkeypatch.setattr(QInputDialog, "getText", lambda *a, **k: (str(words), True))

    return make


@pytest.fixture
def press(qtbot):
    """Return a function that presses a key over the picture."""

    def press(viewer, letter):
        native = viewer.window._qt_viewer.canvas.native
        for kind in (QKeyEvent.Type.KeyPress, QKeyEvent.Type.KeyRelease):
            code = getattr(Qt.Key, f"Key_{letter}")
            QApplication.sendEvent(native, QKeyEvent(kind, code, Qt.KeyboardModifier.NoModifier, letter.lower()))

    return press


@pytest.fixture
def proofreading(docks, qtbot):
    """Return a function that opens a Proofread dock on a labelled stack."""

    def make(image=None, labels=None):
        viewer, dock = docks("Proofread", show=True)
        if image is None:
            image, labels = labelled_stack()
        viewer.add_image(image, name="picture", axis_labels=("z", "y", "x"))
        about = {"napari_unet": {"result": "instances"}}
        layer = viewer.add_labels(labels.copy(), name="picture cells", metadata=about)
        viewer.dims.set_current_step(0, 0)
        # The dock is filled some turns after it is opened, and follows the mouse from then on.
        qtbot.waitUntil(dock.view.isVisible, timeout=20_000)
        qtbot.wait(50)
        return viewer, dock, layer, Hand(viewer, qtbot)

    return make
