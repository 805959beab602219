from pathlib import Path

import numpy as np
import pytest
import torch

import gpu_throughput
import large
from napari_unet import stores
from napari_unet.core.data.arrays import Planes
from napari_unet.core.inference.predict import Predictor
from napari_unet.core.network.device import choose
from napari_unet.core.network.model_io import load_model
from napari_unet.core.settings import PredictionSettings
from tiny import write_model

pytest.importorskip("zarr")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    large.write_image(tmp_path / "i.zarr", 300)
    return tmp_path / "i.zarr"


def test_both_ways_compute_the_same(picture: Path, tmp_path: Path) -> None:
    loaded = load_model(str(write_model(tmp_path / "model")))
    settings = PredictionSettings(device="cpu", what="probabilities")
    gpu_throughput.one_by_one(Predictor.create(loaded.network, choose("cpu")), picture, tmp_path)()
    gpu_throughput.overlapped(loaded, picture, tmp_path, settings)()
    one, other = (stores.open_picture(tmp_path / f"{name}.zarr").planes for name in ("one", "probabilities"))
    values = one.read((), slice(None), slice(None))
    np.testing.assert_array_equal(values, other.read((), slice(None), slice(None)))
    assert 0 < values.mean() < 1


def test_nothing_is_read_ahead_tile_after_tile() -> None:
    values = np.zeros((4, 5))
    assert not Planes([gpu_throughput.Here(values)], "yx").read_ahead and Planes(values, "yx").read_ahead


def test_devices_that_are_there() -> None:
    assert gpu_throughput.devices("cpu") == ["cpu"]
    assert ("cuda" in gpu_throughput.devices("all")) == torch.cuda.is_available()


def test_rates_of_every_way(tmp_path: Path) -> None:
    rates, precision = gpu_throughput.measure("cpu", str(write_model(tmp_path / "model", diameter=20.0)), 256, 1)
    assert set(rates) == {"bare network", "tile after tile", "overlapped", "instances"} and min(rates.values()) > 0
    assert precision in ("float32", "bfloat16")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_rates_on_a_card(tmp_path: Path) -> None:
    rates, _ = gpu_throughput.measure("cuda", str(write_model(tmp_path / "model", diameter=20.0)), 2048, 1)
    assert len(rates) == 4 and min(rates.values()) > 0
