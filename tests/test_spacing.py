"""Size and unit of a pixel, and what each axis is: from the image through the command line into the result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr

from napari_unet import stores
from napari_unet.cli import main
from napari_unet.core.inference.chunked import HELD
from tiny import write_model

SIZES = {"x": (0.25, "micrometer"), "y": (0.5, "micrometer")}
STACK = {**SIZES, "z": (2.0, "micrometer")}


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "tiny")


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)


def segmented(source: Path, output: Path, model: Path, *more: str) -> Path:
    words = ["segment", str(source), str(output), "--model", str(model), "--device", "cpu", *more]
    assert main(words) == 0
    return output


def ome_zarr(path: Path, values: np.ndarray, axes: str, scale: list[float], version: str = "0.5", **unit: str) -> Path:
    """Write an OME-Zarr image of one size."""
    types = {"t": "time", "c": "channel"}
    about = [{"name": a, "type": types.get(a, "space"), **({"unit": unit[a]} if a in unit else {})} for a in axes]
    multiscale = {
        "name": "image", "axes": about,
        "datasets": [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}],
    }  # fmt: skip
    group = zarr.open_group(str(path), mode="w", zarr_format=2 if version == "0.4" else 3)
    names = {} if version == "0.4" else {"dimension_names": list(axes)}
    group.create_array("0", shape=values.shape, dtype=values.dtype, chunks=values.shape, **names)[:] = values
    if version == "0.4":
        group.attrs["multiscales"] = [{**multiscale, "version": "0.4"}]
    else:
        group.attrs["ome"] = {"version": "0.5", "multiscales": [multiscale]}
    return path


def imagej(path: Path, values: np.ndarray, **metadata: Any) -> Path:
    tifffile.imwrite(path, values, imagej=True, resolution=(4, 2), metadata=metadata)
    return path


def ome_tiff(path: Path, values: np.ndarray, **metadata: Any) -> Path:
    tifffile.imwrite(path, values, ome=True, metadata=metadata)
    return path


# Read ---------------------------------------------------------------------------------------------


def test_sizes_of_an_ome_tiff(tmp_path: Path) -> None:
    about = {"PhysicalSizeX": 250.0, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.5, "PhysicalSizeZ": 2.0,
             "TimeIncrement": 30.0, "TimeIncrementUnit": "s"}  # fmt: skip
    path = ome_tiff(tmp_path / "i.ome.tif", noise(2, 3, 20, 30), axes="TZYX", **about)
    assert stores.open_picture(path).spacing == {
        "x": (250.0, "nanometer"), "y": (0.5, "micrometer"), "z": (2.0, "micrometer"), "t": (30.0, "second")
    }  # fmt: skip


@pytest.mark.parametrize("unit", ["micron", "um", "\\u00B5m"])
def test_sizes_of_an_imagej_stack(tmp_path: Path, unit: str) -> None:
    path = imagej(tmp_path / "i.tif", noise(3, 20, 30), axes="ZYX", unit=unit, spacing=2.0)
    assert stores.open_picture(path).spacing == STACK


def test_frames_of_an_imagej_series(tmp_path: Path) -> None:
    path = imagej(tmp_path / "i.tif", noise(3, 20, 30), axes="TYX", unit="um", finterval=12.5)
    assert stores.open_picture(path).spacing == {**SIZES, "t": (12.5, "second")}


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_sizes_of_an_ome_zarr(tmp_path: Path, version: str) -> None:
    path = ome_zarr(tmp_path / "i.zarr", noise(3, 20, 30), "zyx", [2.0, 0.5, 0.25], version, z="micrometer",
                    y="micrometer", x="micrometer")  # fmt: skip
    assert stores.open_picture(path).spacing == STACK
    group = zarr.open_group(str(path))
    about = dict(group.attrs)
    inner = about.get("ome", about)
    inner["multiscales"][0]["coordinateTransformations"] = [{"type": "scale", "scale": [1.0, 2.0, 2.0]}]
    group.attrs.update(about)
    assert stores.open_picture(path).spacing == {**STACK, "y": (1.0, "micrometer"), "x": (0.5, "micrometer")}


def test_what_is_not_said_is_not_assumed(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "plain.tif", noise(20, 30), resolution=(72, 72), resolutionunit="INCH")
    imagej(tmp_path / "pixels.tif", noise(20, 30), unit="pixel")
    ome_tiff(tmp_path / "none.ome.tif", noise(20, 30), axes="YX")
    ome_tiff(tmp_path / "bad.ome.tif", noise(20, 30), axes="YX", PhysicalSizeX=0.0, PhysicalSizeY=0.0)
    ome_zarr(tmp_path / "ones.zarr", noise(20, 30), "yx", [1.0, 1.0])
    for path in tmp_path.iterdir():
        assert stores.open_picture(path).spacing == {}, path


def test_axes_that_the_user_names_otherwise_lose_their_size(tmp_path: Path) -> None:
    path = imagej(tmp_path / "i.tif", noise(3, 20, 30), axes="ZYX", unit="um", spacing=2.0)
    assert stores.open_picture(path, "tyx").spacing == SIZES
    assert stores.open_picture(path, "zyx").spacing == STACK


# Carried over -------------------------------------------------------------------------------------


def sources(folder: Path) -> list[Path]:
    values = noise(3, 40, 50)
    about = {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5, "PhysicalSizeZ": 2.0}
    micro = dict.fromkeys("zyx", "micrometer")
    return [
        ome_tiff(folder / "a.ome.tif", values, axes="ZYX", **about),
        imagej(folder / "b.tif", values, axes="ZYX", unit="um", spacing=2.0),
        ome_zarr(folder / "c.ome.zarr", values, "zyx", [2.0, 0.5, 0.25], **micro),
    ]


@pytest.mark.parametrize("kind", range(3))
@pytest.mark.parametrize("name", ["l.zarr", "l.ome.tif", "l.tif"])
def test_the_result_has_the_sizes_of_the_image(tmp_path: Path, model: Path, kind: int, name: str) -> None:
    output = segmented(sources(tmp_path)[kind], tmp_path / "out" / name, model)
    picture = stores.open_picture(output)
    assert picture.planes.axes == "zyx" and picture.spacing == STACK


def test_tifffile_reads_the_sizes_of_a_result(tmp_path: Path, model: Path) -> None:
    source = sources(tmp_path)[0]
    with tifffile.TiffFile(segmented(source, tmp_path / "out" / "l.ome.tif", model)) as tif:
        pixels = tifffile.xml2dict(tif.ome_metadata)["OME"]["Image"]["Pixels"]
        assert tif.series[0].axes == "ZYX"
    assert [pixels[f"PhysicalSize{a}"] for a in "XYZ"] == [0.25, 0.5, 2.0] and pixels["PhysicalSizeZUnit"] == "µm"
    with tifffile.TiffFile(segmented(source, tmp_path / "out" / "l.tif", model)) as tif:
        tags = tif.pages.first.tags
        per = [tags[name].value[0] / tags[name].value[1] for name in ("XResolution", "YResolution")]
        assert per == pytest.approx([40_000, 20_000]) and tags["ResolutionUnit"].value.name == "CENTIMETER"
        assert tif.series[0].axes == "ZYX"


def test_ome_zarr_reads_the_sizes_of_a_result(tmp_path: Path, model: Path) -> None:
    io, reader = pytest.importorskip("ome_zarr.io"), pytest.importorskip("ome_zarr.reader")
    output = segmented(sources(tmp_path)[1], tmp_path / "l.ome.zarr", model)
    node = next(iter(reader.Reader(io.parse_url(str(output)))()))
    assert [(a["name"], a.get("unit")) for a in node.metadata["axes"]] == [(a, "micrometer") for a in "zyx"]
    assert node.metadata["coordinateTransformations"][0] == [{"type": "scale", "scale": [2.0, 0.5, 0.25]}]
    np.testing.assert_array_equal(np.asarray(node.data[0]), stores.open_labels(output)[...])


def test_results_are_valid_ome_zarr_labels(tmp_path: Path, model: Path) -> None:
    models = pytest.importorskip("ome_zarr_models")
    output = segmented(sources(tmp_path)[0], tmp_path / "l.ome.zarr", model)
    image = models.open_ome_zarr(zarr.open_group(str(output), mode="r"))
    assert type(image).__name__ == "ImageLabel"
    assert image.attributes.ome.image_label.version == "0.5"
    assert [(a.name, a.type, a.unit) for a in image.attributes.ome.multiscales[0].axes] == [
        (a, "space", "micrometer") for a in "zyx"
    ]


def test_labels_go_into_the_image_that_they_belong_to(tmp_path: Path, model: Path) -> None:
    models = pytest.importorskip("ome_zarr_models")
    image = ome_zarr(tmp_path / "i.ome.zarr", noise(40, 50), "yx", [0.5, 0.25], y="micrometer", x="micrometer")
    for name in ("one.zarr", "two.zarr"):
        segmented(image, image / "labels" / name, model)
    segmented(image, image / "labels" / "two.zarr", model, "--overwrite")
    group = models.open_ome_zarr(zarr.open_group(str(image), mode="r"))
    assert type(group).__name__ == "Image" and group.labels.attributes.ome.labels == ["one.zarr", "two.zarr"]
    label = models.open_ome_zarr(zarr.open_group(str(image / "labels" / "two.zarr"), mode="r"))
    assert label.attributes.ome.image_label.source.image == "../../"
    assert stores.open_picture(image).planes.shape == (40, 50)
    assert stores.open_picture(image / "labels" / "one.zarr").spacing == SIZES


def test_labels_of_another_version_do_not_go_into_an_image(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = ome_zarr(tmp_path / "i.zarr", noise(40, 50), "yx", [1.0, 1.0], "0.4")
    before = sorted(str(p) for p in image.rglob("*"))
    assert main(["segment", str(image), str(image / "labels" / "a.zarr"), "--model", str(model)]) == 1
    assert "no OME-Zarr image of version 0.5" in capsys.readouterr().err
    assert sorted(str(p) for p in image.rglob("*")) == before


def test_a_folder_goes_to_a_folder_with_the_sizes_of_each(tmp_path: Path, model: Path) -> None:
    (tmp_path / "in").mkdir()
    sources(tmp_path / "in")
    segmented(tmp_path / "in", tmp_path / "out", model)
    assert sorted(p.name for p in (tmp_path / "out").glob("*.tif")) == ["a.tif", "b.tif", "c.tif"]
    assert all(stores.open_picture(p).spacing == STACK for p in (tmp_path / "out").glob("*.tif"))


def test_large_tiffs_are_in_tiles_and_keep_the_sizes(tmp_path: Path) -> None:
    shape = (2, 2100, 2000)
    values = np.arange(np.prod(shape), dtype=np.int64).reshape(shape).astype(np.int32) % 70_001
    assert values[0].size > HELD
    with stores.create_labels(tmp_path / "l.tif", shape, "zyx", np.int32, spacing=STACK) as out:
        out.array[:] = values
        out.save()
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "l.tif"), values)
    with tifffile.TiffFile(tmp_path / "l.tif") as tif:
        assert tif.pages.first.is_tiled and tif.series[0].dtype == np.uint32 and tif.series[0].axes == "ZYX"
    found = stores.open_picture(tmp_path / "l.tif")
    assert found.spacing == STACK
    np.testing.assert_array_equal(found.planes.read((1,), slice(2000, 2100), slice(500, 600))[0],
                                  values[1, 2000:2100, 500:600])  # fmt: skip


# Axes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "axes", "shown", "result"),
    [
        ((1, 3, 40, 50), "czyx", "3 x 40 x 50", "ZYX"),
        ((3, 1, 40, 50), "zcyx", "3 x 40 x 50", "ZYX"),
        ((2, 3, 40, 50), "tzyx", "2 x 3 x 40 x 50", "TZYX"),
        ((40, 50, 3), "yxz", "3 x 40 x 50", "ZYX"),
        ((4, 40, 50), "pyx", "4 x 40 x 50", "PYX"),
    ],
)
def test_axes_are_named_on_the_command_line(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str], shape: Any, axes: str, shown: str, result: str
) -> None:
    zarr.create_array(str(tmp_path / "i.zarr"), data=noise(*shape))
    output = segmented(tmp_path / "i.zarr", tmp_path / "l.tif", model, "--axes", axes)
    assert shown in capsys.readouterr().out
    with tifffile.TiffFile(output) as tif:
        assert tif.series[0].axes == result


def test_axes_of_the_file_are_taken_and_can_be_corrected(tmp_path: Path, model: Path) -> None:
    values = noise(3, 40, 50)
    path = ome_zarr(tmp_path / "i.zarr", values, "tyx", [1.0, 1.0, 1.0])
    assert stores.open_picture(segmented(path, tmp_path / "a.zarr", model)).planes.axes == "tyx"
    assert stores.open_picture(segmented(path, tmp_path / "b.zarr", model, "--axes", "zyx")).planes.axes == "zyx"
