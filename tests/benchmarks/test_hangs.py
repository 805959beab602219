from pathlib import Path

import numpy as np
import pytest
import yaml

import napari_unet

hangs = pytest.importorskip("hangs")


def test_own_gaps_stand_beside_those_of_napari_alone():
    found = {
        hangs.OURS: {"click": np.array([[100.0, 50.0], [300.0, 80.0], [120.0, 60.0]])},
        hangs.ALONE: {"click": np.array([[40.0, 20.0]])},
    }
    assert hangs.row("click", found) == ["click", "120", "300", "60", "40", "40", "20"]


def test_what_napari_has_nothing_like_is_left_empty():
    found = {hangs.OURS: {"click": np.array([[10.4, 5.0]])}, hangs.ALONE: {}}
    assert hangs.row("click", found) == ["click", "10", "10", "5", "", "", ""]


def test_every_dock_of_the_plugin_is_opened():
    manifest = yaml.safe_load(Path(napari_unet.__file__).with_name("napari.yaml").read_text(encoding="utf-8"))

    names = [widget["display_name"] for widget in manifest["contributions"]["widgets"]]
    assert sorted(hangs.DOCKS) == sorted(names)
