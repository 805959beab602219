"""Mesa's software renderer crashes when a picture starts with the shader that the last one ended with."""

import numpy as np
import pytest
from discs import discs
from qtpy.QtWidgets import QWidget
from vispy.gloo import glir

from napari_unet.core.distribution import PLUGIN
from napari_unet.plugin.runtime import mesa_workaround


def canvas_of(viewer):
    widgets = viewer.window._qt_window.findChildren(QWidget)
    return next(w._vispy_canvas for w in widgets if hasattr(w, "_vispy_canvas"))


@pytest.fixture
def pictures(monkeypatch):
    """Return a list to which each picture adds the shader programs it draws with, one list a picture."""
    drawn = []
    draw = glir.GlirProgram.draw

    def spy(self, *arguments, **options):
        if drawn:
            drawn[-1].append((id(self._parser), self.id))
        return draw(self, *arguments, **options)

    monkeypatch.setattr(glir.GlirProgram, "draw", spy)
    return drawn


def shoot(viewer, pictures):
    pictures.append([])
    return viewer.screenshot(canvas_only=True, flash=False)


@pytest.fixture
def software(monkeypatch):
    """Have the canvas taken for one of Mesa's, whatever draws here."""
    monkeypatch.setattr(mesa_workaround, "renderer", lambda: "llvmpipe (LLVM 15.0.6, 256 bits)")


@pytest.mark.parametrize("layers", [0, 1, 2])
def test_no_picture_starts_with_the_shader_that_the_last_one_ended_with(docks, pictures, qtbot, software, layers):
    viewer, _ = docks("Segment", show=True)
    # Without any layer an older napari shows its welcome instead of the canvas, and draws nothing.
    for seed in range(max(1, layers)):
        viewer.add_image(discs(seed=seed)[0])
    canvas = canvas_of(viewer)
    qtbot.waitUntil(lambda: len(canvas.scene.children) > 1)
    if not layers:
        viewer.layers.clear()
    for _ in range(3):
        shoot(viewer, pictures)
    assert all(len(picture) >= 2 for picture in pictures), pictures
    assert all(before[-1] != after[0] for before, after in zip(pictures, pictures[1:], strict=False)), pictures


def test_what_is_added_cannot_be_seen_and_is_added_once(docks, qtbot, software):
    viewer, _ = docks("Segment", show=True)
    viewer.add_image(discs()[0])
    canvas = canvas_of(viewer)
    qtbot.waitUntil(lambda: len(canvas.scene.children) > 1)
    viewer.window.add_plugin_dock_widget(PLUGIN, "Proofread")
    qtbot.wait(100)
    lines = canvas.scene.children[1:]
    assert len(lines) == 2
    seen = viewer.screenshot(canvas_only=True, flash=False)
    for line in lines:
        line.visible = False
    np.testing.assert_array_equal(viewer.screenshot(canvas_only=True, flash=False), seen)


def test_a_graphics_card_has_nothing_added(docks, qtbot, monkeypatch):
    asked = []
    monkeypatch.setattr(mesa_workaround, "renderer", lambda: asked.append(1) or "Mesa Intel(R) Iris(R) Xe Graphics")
    viewer, _ = docks("Segment", show=True)
    viewer.add_image(discs()[0])
    qtbot.waitUntil(lambda: bool(asked))
    qtbot.wait(50)
    assert len(canvas_of(viewer).scene.children) == 1


@pytest.mark.parametrize(
    "name, software",
    [("llvmpipe (LLVM 15.0.6, 256 bits)", True), ("softpipe", True), ("NVIDIA GeForce RTX 4090/PCIe/SSE2", False)],
)
def test_software_renderers_are_told_by_name(name, software):
    assert mesa_workaround.is_software(name) is software
