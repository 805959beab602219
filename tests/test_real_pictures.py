"""Real pictures, by a real model: the same cells however they are cut up, in planes and in depth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_unet import stores
from napari_unet.core.data.arrays import Planes
from napari_unet.core.inference import chunked
from napari_unet.core.inference.chunked import MemoryWorkspace
from napari_unet.core.inference.predict import predict
from napari_unet.core.instances import stitching
from napari_unet.core.instances.stitching import link
from napari_unet.core.network.model_io import load_model
from napari_unet.core.settings import LinkSettings, PredictionSettings, with_values

DATA = Path(__file__).parents[2] / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.exists(), reason="the pictures are not there")

ALLOWED = 4
"""Pixels whose probability lies so near to the threshold that the network's rounding, which is another one for tiles
of another shape, decides about them."""


def crop(name: str, y: int, x: int) -> np.ndarray:
    """Return a part of a picture with so many rows and columns, from its middle."""
    planes = stores.open_picture(DATA / name).planes
    top, left = (planes.height - y) // 2, (planes.width - x) // 2
    return np.ascontiguousarray(planes.read((), slice(top, top + y), slice(left, left + x))[0])


def segmented(model: str, planes: Planes, diameter: float, tile: int) -> np.ndarray:
    """Return what a bundled model makes of planes, by tiles of one size."""
    loaded = load_model(model)
    chosen = {"device": "cpu", "precision": "float32", "tile": tile, "diameter": diameter}
    settings = with_values(PredictionSettings(), {**loaded.card.prediction, **chosen})
    labels = np.zeros(planes.shape, np.int32)
    for _ in predict(loaded, planes, labels, settings=settings, work=MemoryWorkspace()):
        continue
    return labels


def linked(labels: np.ndarray) -> np.ndarray:
    """Return cells of a stack from cells of planes."""
    found = np.zeros_like(labels)
    list(link(labels, "zyx", found, LinkSettings(along="z")))
    return found


def same(one: np.ndarray, other: np.ndarray) -> None:
    """Fail unless two label images hold the same cells."""
    assert one.max() == other.max() and np.count_nonzero(one != other) <= ALLOWED


@pytest.mark.parametrize(
    ("model", "name", "diameter"),
    [("bundled:nuclei", "dapi_tissue/dapi.png", 17.0), ("bundled:transmitted", "em_chloroplast/images/003.png", 90.0)],
)
def test_a_plane_in_tiles_and_chunks_is_the_plane_at_once(
    model: str, name: str, diameter: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    planes = Planes(crop(name, 500, 620), "yx")
    whole = segmented(model, planes, diameter, tile=4096)
    assert whole.max() > 2
    same(segmented(model, planes, diameter, tile=150), whole)
    monkeypatch.setattr(chunked, "HELD", 1000)
    monkeypatch.setattr(chunked, "SIDE", 128)
    same(segmented(model, planes, diameter, tile=100), whole)


@pytest.mark.parametrize("name", ["em_chloroplast", "volumes"])
def test_a_stack_in_tiles_chunks_and_blocks_links_to_the_same_cells(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "volumes":
        values = stores.open_array(DATA / "volumes" / "images" / "stardist_nuclei3d.tif")[0]
        planes, model, diameter = Planes(np.asarray(values[8:16]), "zyx"), "bundled:nuclei", 12.0
    else:
        parts = [crop(f"em_chloroplast/images/00{n}.png", 700, 800) for n in (1, 2)]
        planes, model, diameter = Planes(np.stack(parts), "zyx"), "bundled:transmitted", 90.0
    whole = segmented(model, planes, diameter, tile=4096)
    expected = linked(whole)
    assert expected.max() > 3
    for module, constant, value in ((chunked, "HELD", 1000), (chunked, "SIDE", 64), (stitching, "SIDE", 48)):
        monkeypatch.setattr(module, constant, value)
    cut = segmented(model, planes, diameter, tile=64)
    same(cut, whole)
    same(linked(cut), expected)
