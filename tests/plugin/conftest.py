"""Docks in a real viewer, with the real engine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from discs import alive
from qtpy.QtCore import Qt

from napari_unet.plugin.models import Shelf
from napari_unet.plugin.runner import Engine


@pytest.fixture(scope="session")
def disc_model(tmp_path_factory):
    """The path of a small model that knows discs; trained in a process of its own, as Qt and torch live apart."""
    folder = tmp_path_factory.mktemp("models") / "discs"
    script = Path(__file__).with_name("discs.py")
    subprocess.run([sys.executable, str(script), str(folder)], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    return str(folder)


@pytest.fixture
def docks(make_napari_viewer, qtbot, monkeypatch):
    """Return a function that opens a viewer with docks; afterwards no computing process may be left."""
    monkeypatch.setattr(Shelf, "_shared", None)
    opened = []

    def make(*names, show=False):
        viewer = make_napari_viewer(show=show)
        opened.append(viewer)
        return viewer, *(viewer.window.add_plugin_dock_widget("napari-unet", name)[1] for name in names)

    yield make
    engine = Engine.shared()
    for viewer in opened:
        viewer.close()
    qtbot.wait(100)
    qtbot.waitUntil(lambda: engine.state in ("stopped", "dead"), timeout=20_000)
    assert not alive(engine.pid)


@pytest.fixture
def click(qtbot):
    """Return a function that clicks a button with the mouse."""
    return lambda button: qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
