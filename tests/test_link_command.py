from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_unet import stores
from napari_unet.cli import main


def stack(path: Path, axes: str = "ZYX") -> np.ndarray:
    """Write two cells in three planes that are numbered anew in each."""
    labels = np.zeros((3, 20, 40), np.uint16)
    for n, (one, other) in enumerate([(1, 2), (2, 1), (5, 9)]):
        labels[n, 5:15, 5 + n : 15 + n], labels[n, 5:15, 25 - n : 35 - n] = one, other
    tifffile.imwrite(path, labels, metadata={"axes": axes})
    return labels


@pytest.mark.parametrize("name", ["out.tif", "out.zarr"])
def test_cells_are_linked_from_file_to_file(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    labels = stack(tmp_path / "l.tif")
    assert main(["link", str(tmp_path / "l.tif"), str(tmp_path / name)]) == 0
    assert "3 x 20 x 40, 2 cells" in capsys.readouterr().out
    if name.endswith("zarr"):
        import zarr

        found = zarr.open_array(str(tmp_path / name), path="0")[:]
    else:
        found = tifffile.imread(tmp_path / name)
    assert np.array_equal(found > 0, labels > 0)
    assert (found[:, 10, 8] == 1).all() and (found[:, 10, 30] == 2).all()


@pytest.mark.parametrize("name", ["out.ome.tif", "out.zarr"])
def test_the_sizes_of_pixels_are_kept(tmp_path: Path, name: str) -> None:
    labels = stack(tmp_path / "plain.tif")
    sizes = {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5, "PhysicalSizeZ": 2.0}
    tifffile.imwrite(tmp_path / "l.ome.tif", labels, ome=True, metadata={"axes": "ZYX", **sizes})
    assert main(["link", str(tmp_path / "l.ome.tif"), str(tmp_path / name)]) == 0
    before = stores.open_picture(tmp_path / "l.ome.tif").spacing
    assert before["x"] == (0.25, "micrometer") and stores.open_picture(tmp_path / name).spacing == before


def test_numbers_can_be_made_unique_alone(tmp_path: Path) -> None:
    stack(tmp_path / "l.tif")
    assert main(["link", str(tmp_path / "l.tif"), str(tmp_path / "o.tif"), "--along", "none"]) == 0
    assert tifffile.imread(tmp_path / "o.tif").max() == 6


def test_what_cannot_be_linked_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stack(tmp_path / "l.tif")
    given = ["link", str(tmp_path / "l.tif"), str(tmp_path / "o.tif")]
    assert main([*given, "--along", "t"]) == 1
    assert "axes zyx and no time (t)" in capsys.readouterr().err
    assert main([*given, "--overlap", "2"]) == 2
    assert "overlap is 2.0, but has to lie between" in capsys.readouterr().err
    tifffile.imwrite(tmp_path / "f.tif", np.zeros((3, 4, 5), np.float32), metadata={"axes": "ZYX"})
    assert main(["link", str(tmp_path / "f.tif"), str(tmp_path / "o.tif")]) == 1
    assert "labels are whole numbers" in capsys.readouterr().err
    assert not (tmp_path / "o.tif").exists()
    (tmp_path / "o.tif").write_bytes(b"mine")
    assert main(given) == 1
    assert "give --overwrite to replace it" in capsys.readouterr().err
