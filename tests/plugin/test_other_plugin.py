"""The first dock says when another team's plugin of the same import name is installed."""

from __future__ import annotations

from napari_unet.plugin.dock import base


def test_the_first_dock_warns_once_of_the_other_plugin(docks, qtbot, tmp_path, monkeypatch):
    about = tmp_path / "napari_unet-0.3.1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: napari-unet\nVersion: 0.3.1\n")
    monkeypatch.syspath_prepend(tmp_path)
    said: list[str] = []
    monkeypatch.setattr("napari.utils.notifications.show_warning", said.append)
    base._warn_of_clash.cache_clear()
    _, *opened = docks("Models", "Measure and compare")
    qtbot.waitUntil(lambda: all(dock.is_filled for dock in opened), timeout=30_000)
    assert len(said) == 1
    assert said[0].startswith("napari-unet 0.3.1 is installed in this environment too.")
