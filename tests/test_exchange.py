"""Exports that other programs read: each is read back here by something else than what wrote it."""

from __future__ import annotations

import importlib.util
import json
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from packaging.requirements import Requirement

from napari_unet.cli import main
from napari_unet.core.data.arrays import Planes, plane_normalisation
from napari_unet.core.errors import ModelError, StoreError
from napari_unet.core.inference.predict import Predictor, predict_region
from napari_unet.core.network.device import choose
from napari_unet.core.network.model_card import THUMBNAIL_NAME, Card, read_card
from napari_unet.core.network.model_io import Model, load_model, new_model, verify_model
from napari_unet.core.settings import NetworkSettings
from napari_unet.exchange import Details, export
from napari_unet.exchange.portable import Portable, normalised, sample
from tiny import write_model

needs_onnx = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime", "onnxscript")),
    reason="extra onnx is not installed",
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "tiny", channels=2, diameter=18.0)


@pytest.fixture(scope="module")
def loaded(model: Path) -> Model:
    return load_model(model)


@pytest.fixture(scope="module")
def onnx_file(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "tiny.onnx"
    assert export(model, path, "onnx").difference < 1e-4
    return path


@pytest.fixture(scope="module")
def package(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("bioimageio.core")
    path = tmp_path_factory.mktemp("bioimageio") / "tiny.zip"
    done = export(model, path, "bioimageio", Details("Jane Doe", "MIT"))
    assert any("bioimageio.core" in words for words in done.checked)
    return path


# --- the portable network -----------------------------------------------------------------------------------


@pytest.mark.parametrize("network", [{"depth": 1}, {"depth": 2, "norm": "none"}, {"depth": 3, "distance": False}])
def test_inside_the_halo_the_portable_network_equals_a_segmentation(network: dict) -> None:
    torch.manual_seed(1)
    model = new_model(Card("other", NetworkSettings(**{"width": 4, **network})))
    portable = Portable(model)
    image, halo = sample(model, portable.smallest + 4 * portable.stride), portable.halo
    given, planes = normalised(image), Planes(image[0], "cyx")
    predictor = Predictor.create(model.network, choose("cpu", "float32"))
    box = (0, planes.height, 0, planes.width)
    exact = predict_region(predictor, planes, (), box, plane_normalisation(planes, ()))
    answers = portable.run(given)
    assert len(answers) == len(portable.outputs) == 1 + model.card.network.distance
    for answer, name in zip(answers, ("classes", "distance"), strict=False):
        assert answer.shape[2:] == given.shape[2:]
        inner = (0, slice(None), slice(halo, -halo), slice(halo, -halo))
        np.testing.assert_allclose(answer[inner], exact[name][inner[1:]], atol=1e-5)


# --- zip and folder --------------------------------------------------------------------------------------------


def test_a_zip_is_the_same_model(model: Path, tmp_path: Path) -> None:
    done = export(model, tmp_path / "tiny.zip", "zip")
    assert read_card(done.path) == read_card(model)
    assert verify_model(done.path) == done.difference == 0
    assert done.size == done.path.stat().st_size
    back = export(done.path, tmp_path / "back", "folder")
    assert (back.path / "weights.safetensors").read_bytes() == (model / "weights.safetensors").read_bytes()


def test_the_picture_of_a_model_goes_along(model: Path, tmp_path: Path) -> None:
    taught = export(model, tmp_path / "taught", "folder").path
    (taught / THUMBNAIL_NAME).write_bytes(b"cells")
    packed = export(taught, tmp_path / "taught.zip", "zip").path
    back = export(packed, tmp_path / "back", "folder").path
    assert (back / THUMBNAIL_NAME).read_bytes() == b"cells"


def test_an_export_replaces_a_model_but_nothing_else(model: Path, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "thesis.txt").write_text("years of work")
    with pytest.raises(StoreError, match="is no model"):
        export(model, taken, "folder")
    assert (taken / "thesis.txt").read_text() == "years of work"
    export(model, tmp_path / "old", "folder")
    export(model, tmp_path / "old", "folder")
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_a_damaged_model_leaves_no_export(model: Path, tmp_path: Path) -> None:
    broken = export(model, tmp_path / "broken", "folder").path
    weights = broken / "weights.safetensors"
    raw = bytearray(weights.read_bytes())
    raw[-5] ^= 0xFF
    weights.write_bytes(raw)
    with pytest.raises(ModelError, match="damaged"):
        export(broken, tmp_path / "out.zip", "zip")
    assert not (tmp_path / "out.zip").exists()


# --- ONNX --------------------------------------------------------------------------------------------------------


@needs_onnx
def test_onnx_runs_at_any_size_and_batch_and_equals_torch(onnx_file: Path, loaded: Model) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(onnx_file), providers=["CPUExecutionProvider"])
    portable = Portable(loaded)
    pictures = np.concatenate([normalised(sample(loaded, 72)), normalised(sample(loaded, 72))[..., ::-1, :]])
    pictures = np.ascontiguousarray(pictures[..., :48])
    answers = session.run(["probabilities", "distance"], {"image": pictures})
    for answer, expected in zip(answers, portable.run(pictures), strict=True):
        assert answer.shape == expected.shape
        np.testing.assert_allclose(answer, expected, atol=1e-4)


@needs_onnx
def test_onnx_carries_the_card_and_what_to_do_with_pixels(onnx_file: Path, model: Path) -> None:
    import onnx

    about = {entry.key: entry.value for entry in onnx.load(onnx_file).metadata_props}
    assert json.loads(about["napari_unet_card"])["channels"] == 2
    assert "99.8" in about["normalisation"]
    assert about["object_diameter"] == "18 px"
    assert read_card(model).name == about["name"]


@needs_onnx
def test_another_networks_onnx_is_refused(onnx_file: Path, loaded: Model) -> None:
    from napari_unet.exchange.to_onnx import check_onnx

    assert check_onnx(onnx_file, loaded) < 1e-4
    torch.manual_seed(3)
    other = new_model(loaded.card)
    for values in other.network.parameters():
        torch.nn.init.normal_(values, 0, 0.3)
    with pytest.raises(ModelError, match="does not compute what the model does"):
        check_onnx(onnx_file, other)


# --- bioimage.io --------------------------------------------------------------------------------------------------


def test_the_official_library_reads_the_package_and_says_who_made_it(package: Path) -> None:
    from bioimageio.spec import load_model_description

    found = load_model_description(package, perform_io_checks=True)
    assert [author.name for author in found.authors] == ["Jane Doe"]
    assert str(found.license) == "MIT"
    assert found.inputs[0].axes[1].size == 2
    assert found.weights.torchscript is not None


def test_the_package_is_a_model_of_this_plugin_too(package: Path, model: Path) -> None:
    assert read_card(package) == read_card(model)
    assert verify_model(package) == 0
    with zipfile.ZipFile(package) as archive:
        assert {"rdf.yaml", "README.md", "cover.png"} <= set(archive.namelist())


def test_the_official_library_segments_a_raw_picture_as_we_do(package: Path, loaded: Model) -> None:
    from bioimageio.core import create_prediction_pipeline
    from bioimageio.core.digest_spec import create_sample_for_model
    from bioimageio.spec import load_model_description

    found = load_model_description(package, perform_io_checks=False)
    raw = sample(loaded, 72) * 3 + 20
    given = create_sample_for_model(found, inputs={"image": raw})
    with create_prediction_pipeline(found, weight_format="torchscript") as pipeline:
        answer = pipeline.predict_sample_without_blocking(given, skip_input_padding=True)
    got = np.asarray(answer.members["probabilities"].data)
    # The library leaves the halo out.
    portable = Portable(loaded)
    inner = slice(portable.halo, -portable.halo)
    np.testing.assert_allclose(got, portable.run(normalised(raw))[0][..., inner, inner], atol=1e-3)


def test_the_extra_keeps_from_a_pydantic_with_which_the_library_describes_nothing() -> None:
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    asked = map(Requirement, tomllib.loads(text)["project"]["optional-dependencies"]["bioimageio"])
    (pydantic,) = (found for found in asked if found.name == "pydantic")
    assert pydantic.specifier.contains("2.13.5") and not pydantic.specifier.contains("2.14.4")


def test_a_package_that_fails_the_librarys_test_is_not_left_behind(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("bioimageio.core")
    from napari_unet.exchange import to_bioimageio

    monkeypatch.setattr(to_bioimageio, "available", lambda: False)
    monkeypatch.setattr(to_bioimageio.Portable, "run", lambda self, image: tuple(
        np.full((1, n, *image.shape[2:]), 0.5, np.float32) for n in (2, 1)))  # fmt: skip
    with pytest.raises(ModelError, match="fails the library's own test"):
        export(model, tmp_path / "wrong.zip", "bioimageio")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_licence_is_told_and_nothing_is_left(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("bioimageio.core")
    from napari_unet.exchange import to_bioimageio

    monkeypatch.setattr(to_bioimageio, "available", lambda: False)
    with pytest.raises(ModelError, match="'Beerware-9' is no licence .* CC-BY-4.0"):
        export(model, tmp_path / "x.zip", "bioimageio", Details(licence="Beerware-9"))
    assert list(tmp_path.iterdir()) == []


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command_exports_and_says_what_it_checked(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(["export", str(model), str(tmp_path / "a.zip")]) == 0
    assert "its test output reproduced" in capsys.readouterr().out
    assert main(["export", str(model), str(tmp_path / "a.zip")]) == 1
    assert "exists already" in capsys.readouterr().err
    assert main(["export", str(model), str(tmp_path / "a.zip"), "--overwrite", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["difference"] == 0


def test_a_wrong_ending_is_told(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["export", str(model), str(tmp_path / "a.zip"), "--format", "onnx"]) == 1
    assert "has to end in .onnx" in capsys.readouterr().err
