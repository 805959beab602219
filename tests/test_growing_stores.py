"""Label images that are looked at while they are written, and arrays that the engine reads from their own files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from napari_unet.engine.child.array_reading import array_of, same_pixels
from napari_unet.engine.child.remote_array import RemoteArray
from napari_unet.engine.protocol.messages import read_block
from napari_unet.stores.resumable import UnfinishedLabels, state_of
from napari_unet.stores.zarrs import Levels, create_zarr


class Asked:
    """A job whose viewer counts what is asked of it."""

    def __init__(self, values: np.ndarray, is_remote: bool = False) -> None:
        self.values, self.is_remote = values, is_remote
        self.pixels: list[int] = []

    def state_of(self, path: str) -> dict[str, Any]:
        return {**state_of(Path(path)), "modified": 3.0}  # written at another time there

    def array(self, index: int, about: dict[str, Any]) -> RemoteArray:
        def fetch(key: Any) -> np.ndarray:
            block = read_block(self.values, key)
            self.pixels.append(block.size)
            return block

        return RemoteArray(about["shape"], about["dtype"], about["axes"], fetch)


@pytest.fixture
def picture(tmp_path: Path) -> tuple[np.ndarray, str]:
    values = np.random.default_rng(0).integers(0, 255, (3, 300, 200)).astype(np.uint8)
    array = zarr.create_array(str(tmp_path / "p.zarr"), shape=values.shape, chunks=(1, 64, 64), dtype=np.uint8)
    array[:] = values
    return values, str(tmp_path / "p.zarr")


def about(values: np.ndarray, **more: Any) -> dict[str, Any]:
    return {"shape": list(values.shape), "dtype": values.dtype.str, "axes": "zyx", **more}


def test_an_array_is_read_from_its_own_file(picture: tuple[np.ndarray, str]) -> None:
    values, path = picture
    job = Asked(values)
    array = array_of(job, 0, about(values, file=path, large=True))  # type: ignore[arg-type]
    assert not isinstance(array, RemoteArray)
    before = list(job.pixels)
    np.testing.assert_array_equal(np.asarray(array[1]), values[1])
    assert job.pixels == before and max(before) < 2000


@pytest.mark.parametrize("why", ["other pixels", "no such file", "another computer", "no file"])
def test_the_viewer_is_asked_where_the_file_is_not_surely_the_same(picture: tuple[np.ndarray, str], why: str) -> None:
    values, path = picture
    job = Asked(values[::-1] if why == "other pixels" else values, why == "another computer")
    file = {"no such file": path + "x", "no file": ""}.get(why, path)
    array = array_of(job, 0, about(values, file=file, large=True))  # type: ignore[arg-type]
    assert isinstance(array, RemoteArray)
    np.testing.assert_array_equal(array[1, 10:20, 30:50], job.values[1, 10:20, 30:50])
    assert job.pixels[-1] == 200, "of a large plane only what is needed is fetched"


def test_a_store_is_known_again_by_all_its_files(picture: tuple[np.ndarray, str]) -> None:
    path = Path(picture[1])
    before = state_of(path)
    (path / "labels").mkdir()
    (path / "labels" / "zarr.json").write_text("{}")
    (path / ".x.unfinished").mkdir()
    assert state_of(path) == before
    chunk = next(file for file in (path / "c").rglob("*") if file.is_file())
    os.utime(chunk, (chunk.stat().st_atime, before["modified"] + 5))
    assert state_of(path) == {**before, "modified": before["modified"] + 5}
    chunk.unlink()
    assert state_of(path)["bytes"] < before["bytes"]


def test_small_planes_are_fetched_once_as_before(picture: tuple[np.ndarray, str]) -> None:
    values, _ = picture
    job = Asked(values)
    array = array_of(job, 0, about(values))  # type: ignore[arg-type]
    for rows in (slice(0, 9), slice(50, 70)):
        np.testing.assert_array_equal(array[2, rows], values[2, rows])
    assert job.pixels == [300 * 200]


def test_arrays_of_another_type_or_shape_are_not_the_same(picture: tuple[np.ndarray, str]) -> None:
    values, _ = picture
    assert same_pixels(values, values.copy())
    assert not same_pixels(values, values.astype(np.int16))
    assert not same_pixels(values, values[:, :-1])
    nothing = np.full((50, 50), np.nan)
    assert same_pixels(nothing, nothing.copy())


# --- smaller versions -------------------------------------------------------------------------------------------


def test_every_size_shows_what_was_put_wherever_its_edges_are(tmp_path: Path) -> None:
    path = tmp_path / "l.zarr"
    create_zarr(path, (2, 210, 150), "zyx", np.uint32)
    levels = Levels(path, smallest=40)
    values = np.random.default_rng(1).integers(0, 999, (2, 210, 150)).astype(np.uint32)
    for plane in range(2):
        for y0 in range(0, 210, 77):
            for x0 in range(0, 150, 51):
                box = (y0, min(y0 + 77, 210), x0, min(x0 + 51, 150))
                levels.put((plane,), box, values[plane, box[0] : box[1], box[2] : box[3]])
    assert [array.shape for array in levels.arrays] == [(2, 210, 150), (2, 105, 75), (2, 53, 38), (2, 27, 19)]
    for level, array in enumerate(levels.arrays):
        np.testing.assert_array_equal(array[:], values[:, :: 2**level, :: 2**level])
    levels.arrays[0][1] = 7
    levels.renew((1,))
    for level, array in enumerate(levels.arrays):
        assert (array[1] == 7).all()
        np.testing.assert_array_equal(array[0], values[0, :: 2**level, :: 2**level])


def test_the_size_of_a_pixel_is_in_the_result_at_every_size(tmp_path: Path) -> None:
    spacing = {"z": (2.0, "micrometer"), "y": (0.5, "micrometer"), "x": (0.25, "micrometer")}
    with UnfinishedLabels(tmp_path / "a.zarr", (2, 1100, 600), "zyx", np.uint32, {"a": 1}, spacing=spacing) as out:
        Levels(out.partial)
        out.array[1, 5, 6] = 9
    with UnfinishedLabels(tmp_path / "a.zarr", (2, 1100, 600), "zyx", np.uint32, {"a": 1}, spacing=spacing) as out:
        assert out.resumed
        out.save()
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="r")
    multiscale = group.attrs["ome"]["multiscales"][0]
    assert [axis.get("unit") for axis in multiscale["axes"]] == ["micrometer"] * 3
    scales = [dataset["coordinateTransformations"][0]["scale"] for dataset in multiscale["datasets"]]
    assert scales == [[2.0, 0.5, 0.25], [2.0, 1.0, 0.5]]
    assert group["0"][1, 5, 6] == 9
