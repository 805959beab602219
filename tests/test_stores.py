from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from napari_unet import stores
from napari_unet.core.errors import DataError, StoreError
from napari_unet.stores import output as output_module
from napari_unet.stores.layout import Stored, resolve_axes
from napari_unet.stores.pictures import natural

DATA = Path(__file__).parent.parent.parent / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.exists(), reason="the annotated images are not here")


def noise(*shape: int, dtype: Any = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


def whole(planes: Any) -> np.ndarray:
    everything = [planes.read(p, slice(None), slice(None)) for p in planes.indices()]
    return np.stack(everything).reshape(*planes.plane_shape, planes.channels, planes.height, planes.width)


# Opening -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "options", "axes"),
    [
        ((50, 60), {}, "yx"),
        ((7, 50, 60), {}, "pyx"),
        ((7, 50, 60), {"metadata": None}, "pyx"),
        ((7, 50, 60), {"metadata": {"axes": "TYX"}}, "tyx"),
        ((7, 50, 60), {"metadata": {"axes": "ZYX"}, "ome": True}, "zyx"),
        ((2, 50, 60), {"metadata": {"axes": "ZYX"}, "ome": True}, "zyx"),
        ((5, 3, 50, 60), {"metadata": {"axes": "TCYX"}, "imagej": True}, "tcyx"),
        ((5, 3, 50, 60), {"metadata": {"axes": "ZCYX"}, "ome": True}, "zcyx"),
        ((4, 3, 2, 50, 60), {"metadata": {"axes": "TZCYX"}, "ome": True, "compression": "zlib"}, "tzcyx"),
        ((7, 50, 60), {"compression": "zlib", "tile": (16, 32)}, "pyx"),
        ((2, 50, 60), {"photometric": "minisblack", "planarconfig": "separate", "metadata": None}, "cyx"),
    ],
)
def test_a_tiff_tells_its_axes_and_pixels(tmp_path: Path, shape: tuple[int, ...], options: dict, axes: str) -> None:
    values = noise(*shape)
    tifffile.imwrite(tmp_path / "a.tif", values, **options)
    planes = stores.open_picture(tmp_path / "a.tif").planes
    assert planes.axes == axes
    assert not planes.rgb
    order = [axes.index(a) for a in "tzpcyx" if a in axes]
    expected = values.transpose(order)
    if "c" not in axes:
        expected = np.expand_dims(expected, -3)
    np.testing.assert_array_equal(whole(planes), expected)


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((3, 50, 60), {"photometric": "minisblack"}),
        ((3, 50, 60), {"photometric": "rgb", "planarconfig": "separate"}),
        ((4, 50, 60), {"photometric": "minisblack", "metadata": None}),
        ((50, 60, 3), {"photometric": "minisblack"}),
        ((6, 7, 50, 60), {}),
    ],
)
def test_axes_that_cannot_be_told_are_asked_for(tmp_path: Path, shape: tuple[int, ...], options: dict) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise(*shape), **options)
    with pytest.raises(StoreError, match=r"a\.tif has shape .*--axes, such as"):
        stores.open_picture(path)


def test_axes_that_the_user_gives_override_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    values = noise(3, 50, 60)
    tifffile.imwrite(path, values, photometric="minisblack")
    assert stores.open_picture(path, "cyx").planes.channels == 3
    assert stores.open_picture(path, "ZYX").planes.plane_shape == (3,)
    with pytest.raises(StoreError, match=r"--axes czyx does not fit .*a\.tif of shape \(3, 50, 60\)"):
        stores.open_picture(path, "czyx")
    with pytest.raises(StoreError, match="does not fit"):
        stores.open_picture(path, "qyx")
    with pytest.raises(StoreError, match="does not fit"):
        stores.open_picture(path, "yyx")


def test_axes_may_leave_out_those_of_size_one() -> None:
    stored = Stored((1, 5, 1, 40, 50), "???yx")
    assert resolve_axes(stored, Path("a.tif"), "zyx").dropped == (0, 2)
    assert resolve_axes(stored, Path("a.tif"), "tzcyx").dropped == ()
    assert resolve_axes(stored, Path("a.tif")).axes == "pyx"


def test_time_is_never_depth(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "t.tif", noise(9, 20, 30), metadata={"axes": "TYX"}, imagej=True)
    assert stores.open_picture(tmp_path / "t.tif").planes.plane_axes == "t"
    tifffile.imwrite(tmp_path / "u.tif", noise(9, 20, 30))
    assert stores.open_picture(tmp_path / "u.tif").planes.plane_axes == "p"


def test_rgb_is_rgb_only_when_the_file_says_so(tmp_path: Path) -> None:
    values = noise(50, 60, 3)
    tifffile.imwrite(tmp_path / "rgb.tif", values, photometric="rgb")
    planes = stores.open_picture(tmp_path / "rgb.tif").planes
    assert planes.rgb and planes.channels == 3
    np.testing.assert_array_equal(whole(planes), values.transpose(2, 0, 1))
    assert planes.as_grey().channels == 1


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "I;16", "1"])
def test_grey_pictures_are_grey_however_they_are_stored(tmp_path: Path, mode: str) -> None:
    grey = noise(20, 30) // 128 * 255 if mode == "1" else noise(20, 30)
    if mode == "I;16":
        Image.fromarray(grey.astype(np.uint16) * 300).save(tmp_path / "a.png")
        expected = grey.astype(np.float32) * 300
    else:
        Image.fromarray(grey).convert(mode).save(tmp_path / "a.png")
        expected = grey.astype(np.float32) / (255 if mode == "1" else 1)
    planes = stores.open_picture(tmp_path / "a.png").planes
    assert planes.axes == "yx"
    np.testing.assert_array_equal(whole(planes)[0], expected)


def test_grey_rgb_tiffs_are_grey_and_coloured_pictures_are_not(tmp_path: Path) -> None:
    grey = noise(20, 30)
    tifffile.imwrite(tmp_path / "a.tif", np.stack([grey] * 3, -1), photometric="rgb")
    np.testing.assert_array_equal(whole(stores.open_picture(tmp_path / "a.tif").planes), grey[None])
    colours = np.dstack([grey, grey.T.reshape(20, 30), grey, np.full_like(grey, 255)])
    Image.fromarray(colours).save(tmp_path / "c.png")
    planes = stores.open_picture(tmp_path / "c.png").planes
    assert planes.rgb and planes.channels == 3
    np.testing.assert_array_equal(whole(planes), colours[..., :3].transpose(2, 0, 1))


def test_plain_tiffs_are_mapped_and_not_read(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", noise(7, 50, 60, dtype=np.uint16))
    assert isinstance(stores.open_picture(tmp_path / "a.tif").planes.arrays[0], np.memmap)


def test_only_the_tiles_that_are_needed_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = noise(3, 512, 512)
    options = {"photometric": "minisblack", "metadata": {"axes": "TYX"}}
    tifffile.imwrite(tmp_path / "a.tif", values, compression="zlib", tile=(64, 64), **options)
    array = stores.open_picture(tmp_path / "a.tif").planes.arrays[0]
    decoded: list[tuple[int, int]] = []
    original = type(array)._decode
    monkeypatch.setattr(type(array), "_decode", lambda self, *at: decoded.append(at) or original(self, *at))
    np.testing.assert_array_equal(array[1, 60:130, 64:128], values[1, 60:130, 64:128])
    assert decoded == [(1, 1), (1, 9), (1, 17)]


KEYS = st.one_of(
    st.integers(-20, 19),
    st.builds(
        slice, st.none() | st.integers(-25, 25), st.none() | st.integers(-25, 25), st.sampled_from([None, 1, 2, -1])
    ),
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    keys=st.tuples(st.integers(-3, 2) | st.slices(3), KEYS, KEYS, st.slices(3)),
    kind=st.sampled_from(["strips", "tiles", "planar"]),
)
def test_lazy_tiffs_index_like_numpy(tmp_path: Path, keys: tuple, kind: str) -> None:
    values = noise(3, 20, 20, 3)
    path = tmp_path / f"{kind}.tif"
    stored, axes = (values.transpose(0, 3, 1, 2), "TSYX") if kind == "planar" else (values, "TYXS")
    if not path.exists():
        options = {"tiles": {"tile": (16, 16)}, "strips": {"rowsperstrip": 7}, "planar": {"planarconfig": "separate"}}
        tifffile.imwrite(path, stored, photometric="rgb", compression="zlib", metadata={"axes": axes}, **options[kind])
    array = stores.open_picture(path).planes.arrays[0]
    key = (keys[0], keys[3], keys[1], keys[2]) if kind == "planar" else keys
    np.testing.assert_array_equal(array[key], stored[key])


@pytest.mark.parametrize("compression", ["lzw", "zstd", "jpeg", "packbits"])
def test_common_compressions(tmp_path: Path, compression: str) -> None:
    values = np.full((40, 50), 77, np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", values, compression=compression)
    np.testing.assert_array_equal(whole(stores.open_picture(tmp_path / "a.tif").planes)[0], values)


def test_several_pictures_of_one_size_are_a_row_of_planes(tmp_path: Path) -> None:
    values = noise(6, 40, 50)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for value in values:
            writer.write(value, contiguous=False)
    planes = stores.open_picture(tmp_path / "a.tif").planes
    assert planes.axes == "pyx"
    np.testing.assert_array_equal(whole(planes)[:, 0], values)


def test_of_a_pyramid_the_full_size_is_read(tmp_path: Path) -> None:
    values = noise(128, 128)
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as writer:
        writer.write(values, subifds=1, tile=(64, 64), metadata={"axes": "YX"})
        writer.write(values[::2, ::2], subfiletype=1, tile=(64, 64))
    assert stores.open_picture(tmp_path / "a.ome.tif").planes.shape == (128, 128)


def test_other_pictures_in_one_tiff_are_told(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(noise(40, 50))
        writer.write(noise(50, 40))
    with pytest.raises(StoreError, match=r"several pictures of shapes \(40, 50\), \(50, 40\)"):
        stores.open_picture(tmp_path / "a.tif")


def test_big_endian_pixels(tmp_path: Path) -> None:
    values = noise(5, 40, 50, dtype=np.uint16) * 300
    for name, compression in (("a.tif", None), ("b.tif", "zlib")):
        tifffile.imwrite(tmp_path / name, values, byteorder=">", compression=compression)
        np.testing.assert_array_equal(whole(stores.open_picture(tmp_path / name).planes)[:, 0], values)


@pytest.mark.parametrize("part", [0.0, 0.001, 0.3, 0.6, 0.9, 0.98])
@pytest.mark.parametrize("options", [{}, {"metadata": None}, {"compression": "zlib"}, {"ome": True},
                                     {"compression": "zlib", "metadata": None}])  # fmt: skip
def test_a_tiff_that_is_cut_off_never_passes_for_a_smaller_one(tmp_path: Path, part: float, options: dict) -> None:
    tifffile.imwrite(tmp_path / "whole.tif", noise(10, 200, 200), **options)
    raw = (tmp_path / "whole.tif").read_bytes()
    path = tmp_path / "cut.tif"
    path.write_bytes(raw[: int(len(raw) * part)])
    with pytest.raises(StoreError, match=r"cut\.tif cannot be read: .+\.$") as caught:
        whole(stores.open_picture(path).planes)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_read_is_told_with_path_and_reason(tmp_path: Path) -> None:
    for name in ("a.tif", "a.png", "a.jpg"):
        (tmp_path / name).write_bytes(b"this is no picture")
        with pytest.raises(StoreError, match=f"{name} cannot be read: "):
            stores.open_picture(tmp_path / name)
    with pytest.raises(StoreError, match=r"b\.tif does not exist"):
        stores.open_picture(tmp_path / "b.tif")
    (tmp_path / "a.doc").write_text("words")
    with pytest.raises(StoreError, match=r"a\.doc is of no known kind; known are \.tif"):
        stores.open_picture(tmp_path / "a.doc")


def test_complex_numbers_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", noise(20, 30).astype(np.complex64))
    with pytest.raises(DataError, match="complex64"):
        stores.open_picture(tmp_path / "a.tif")


# Zarr --------------------------------------------------------------------------------------------


def test_plain_zarr_arrays_need_names_for_their_axes(tmp_path: Path) -> None:
    values = noise(3, 40, 50)
    named = zarr.create_array(str(tmp_path / "a.zarr"), data=values, dimension_names=("time", "y", "x"))
    assert named.shape == values.shape
    planes = stores.open_picture(tmp_path / "a.zarr").planes
    assert planes.axes == "tyx"
    assert isinstance(planes.arrays[0].array, zarr.Array)  # nothing is read yet
    np.testing.assert_array_equal(whole(planes)[:, 0], values)
    zarr.create_array(str(tmp_path / "b.zarr"), data=values)
    with pytest.raises(StoreError, match="--axes"):
        stores.open_picture(tmp_path / "b.zarr")
    assert stores.open_picture(tmp_path / "b.zarr", "zyx").planes.plane_axes == "z"


@pytest.mark.parametrize("version", [2, 3])
def test_ome_zarr_images_tell_their_axes(tmp_path: Path, version: int) -> None:
    values = noise(2, 1, 3, 40, 50)
    group = zarr.open_group(str(tmp_path / "a.ome.zarr"), mode="w", zarr_format=version)
    group.create_array("full", data=values)
    group.create_array("half", data=values[..., ::2, ::2])
    axes = [{"name": a} for a in "tzcyx"]
    content = {"multiscales": [{"axes": axes, "datasets": [{"path": "full"}, {"path": "half"}]}]}
    group.attrs.update(content if version == 2 else {"ome": content})
    picture = stores.open_picture(tmp_path / "a.ome.zarr")
    assert (picture.name, picture.planes.axes, picture.planes.shape) == ("a", "tzcyx", (2, 1, 40, 50))
    np.testing.assert_array_equal(whole(picture.planes), values)
    assert stores.open_picture(tmp_path / "a.ome.zarr" / "half", "tzcyx").planes.shape == (2, 1, 20, 25)


def test_zarr_groups_without_image_and_damaged_ones_are_told(tmp_path: Path) -> None:
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="w")
    group.create_array("one", shape=(4, 4), dtype="u1")
    group.create_array("two", shape=(4, 4), dtype="u1")
    with pytest.raises(StoreError, match="it holds one, two: give the path of one"):
        stores.open_picture(tmp_path / "a.zarr")
    (tmp_path / "a.zarr" / "zarr.json").write_text("{")
    with pytest.raises(StoreError, match=r"a\.zarr cannot be read as Zarr"):
        stores.open_picture(tmp_path / "a.zarr")


# Folders and pairs -------------------------------------------------------------------------------


def test_folders_are_listed_in_natural_order(tmp_path: Path) -> None:
    for name in ("t10.tif", "t2.tif", "t1.png", ".hidden.tif", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "b.zarr").mkdir()
    assert [p.name for p in stores.list_pictures(tmp_path)] == ["b.zarr", "t1.png", "t2.tif", "t10.tif"]
    assert sorted(["b2", "10", "b", "2", "b10"], key=natural) == ["2", "10", "b", "b2", "b10"]


def test_folders_without_pictures_or_with_one_stem_twice_are_told(tmp_path: Path) -> None:
    (tmp_path / "01").mkdir()
    with pytest.raises(StoreError, match="holds no pictures .*; its folders are 01"):
        stores.list_pictures(tmp_path)
    with pytest.raises(StoreError, match="does not exist"):
        stores.list_pictures(tmp_path / "nowhere")
    for name in ("a.tif", "a.png"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(StoreError, match=r"holds a\.png and a\.tif, which have one stem"):
        stores.list_pictures(tmp_path)


def folders(tmp_path: Path, images: list[str], labels: list[str]) -> tuple[Path, Path]:
    for folder, names in (("images", images), ("labels", labels)):
        (tmp_path / folder).mkdir()
        for name in names:
            tifffile.imwrite(tmp_path / folder / name, noise(8, 9))
    return tmp_path / "images", tmp_path / "labels"


def test_pairs_are_made_by_stem(tmp_path: Path) -> None:
    images, labels = folders(tmp_path, ["b.tif", "a.ome.tif"], ["a.tif", "b.tif"])
    pairs = stores.pair(images, labels)
    assert [(p.image.name, p.labels.name) for p in pairs] == [("a.ome.tif", "a.tif"), ("b.tif", "b.tif")]


def test_unmatched_stems_are_named(tmp_path: Path) -> None:
    images, labels = folders(tmp_path, ["a.tif", "b.tif"], ["a.tif", *(f"x{i}.tif" for i in range(7))])
    with pytest.raises(StoreError, match=r"7 labels files have no image .*: x0.tif, .* x4.tif and 2 more"):
        stores.pair(images, labels)
    for path in labels.glob("x*"):
        path.unlink()
    with pytest.raises(StoreError, match=r"1 image file has no labels of the same stem in .*: b\.tif"):
        stores.pair(images, labels)


def test_two_single_files_belong_together_whatever_they_are_called(tmp_path: Path) -> None:
    images, labels = folders(tmp_path, ["a.tif"], ["b.tif"])
    assert len(stores.pair(images / "a.tif", labels / "b.tif")) == 1


@pytest.mark.parametrize("truth", ["01_GT/SEG", "01_GT", "01_ST/SEG"])
def test_cell_tracking_challenge_sets_pair_by_frame(tmp_path: Path, truth: str) -> None:
    (tmp_path / "01").mkdir()
    seg = tmp_path / truth if truth.endswith("SEG") else tmp_path / truth / "SEG"
    seg.mkdir(parents=True)
    for frame in range(6):
        tifffile.imwrite(tmp_path / "01" / f"t{frame:03}.tif", np.full((20, 30), frame, np.uint8))
    for frame in (2, 4):
        tifffile.imwrite(seg / f"man_seg{frame:03}.tif", np.full((20, 30), frame + 1, np.uint16))
    found = stores.annotated_images(tmp_path / "01", tmp_path / truth)
    assert [a.name for a in found] == ["t002", "t004"]
    assert [(a.image.max(), a.labels.max()) for a in found] == [(2, 3), (4, 5)]
    tifffile.imwrite(seg / "man_seg077.tif", np.ones((20, 30), np.uint16))
    with pytest.raises(StoreError, match=r"man_seg077\.tif"):
        stores.pair(tmp_path / "01", tmp_path / truth)


def test_single_annotated_slices_of_volumes(tmp_path: Path) -> None:
    (tmp_path / "01").mkdir()
    (tmp_path / "SEG").mkdir()
    for frame in range(2):
        volume = np.arange(5, dtype=np.uint8)[:, None, None] + np.zeros((5, 20, 30), np.uint8)
        tifffile.imwrite(tmp_path / "01" / f"t{frame:03}.tif", volume, metadata={"axes": "ZYX"})
    tifffile.imwrite(tmp_path / "SEG" / "man_seg_001_003.tif", np.ones((20, 30), np.uint16))
    tifffile.imwrite(tmp_path / "SEG" / "man_seg_001_004.tif", np.ones((20, 30), np.uint16))
    found = stores.annotated_images(tmp_path / "01", tmp_path / "SEG")
    assert [(a.name, a.image.max()) for a in found] == [("t001 (3,)", 3), ("t001 (4,)", 4)]


def test_stacks_give_their_painted_planes(tmp_path: Path) -> None:
    labels = np.zeros((3, 20, 30), np.uint16)
    labels[1, 2:5, 3:6] = 7
    tifffile.imwrite(tmp_path / "i.tif", noise(3, 20, 30), metadata={"axes": "ZYX"})
    tifffile.imwrite(tmp_path / "l.tif", labels, photometric="minisblack")
    found = stores.annotated_images(tmp_path / "i.tif", tmp_path / "l.tif")
    assert [a.name for a in found] == ["i (1,)"]
    np.testing.assert_array_equal(found[0].labels, labels[1])
    assert found[0].image.shape == (1, 20, 30)
    assert len(stores.annotated_images(tmp_path / "i.tif", tmp_path / "l.tif", empty=True)) == 3


def test_labels_of_another_shape_are_told_with_both_shapes(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "i.tif", noise(20, 30))
    tifffile.imwrite(tmp_path / "l.tif", noise(30, 20))
    with pytest.raises(DataError, match=r"l\.tif has labels of shape \(30, 20\), but its image .* needs \(20, 30\)"):
        stores.annotated_images(tmp_path / "i.tif", tmp_path / "l.tif")


@pytest.mark.parametrize(("value", "shown"), [(1.5, "1.5"), (np.nan, "nan"), (-1.0, "-1")])
def test_numbers_that_are_no_labels_are_told(tmp_path: Path, value: float, shown: str) -> None:
    labels = np.zeros((20, 30), np.float32)
    labels[3, 4] = value
    tifffile.imwrite(tmp_path / "i.tif", noise(20, 30))
    tifffile.imwrite(tmp_path / "l.tif", labels)
    with pytest.raises(DataError, match=f"no labels, such as {shown}"):
        stores.annotated_images(tmp_path / "i.tif", tmp_path / "l.tif")


def test_labels_with_a_palette_are_read_as_numbers(tmp_path: Path) -> None:
    labels = noise(20, 30) // 50
    picture = Image.frombytes("P", (30, 20), labels.tobytes())
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    picture.save(tmp_path / "l.png")
    tifffile.imwrite(tmp_path / "i.tif", noise(20, 30))
    found = stores.annotated_images(tmp_path / "i.tif", tmp_path / "l.png")
    np.testing.assert_array_equal(found[0].labels, labels)


def test_coloured_labels_are_refused_and_grey_ones_are_not(tmp_path: Path) -> None:
    grey = noise(20, 30) // 50
    Image.fromarray(np.dstack([grey] * 3)).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(stores.open_labels(tmp_path / "grey.png")[:, :], grey)
    Image.fromarray(np.dstack([grey, grey, grey + 1])).save(tmp_path / "colours.png")
    with pytest.raises(DataError, match=r"colours\.png holds colours"):
        stores.open_labels(tmp_path / "colours.png")


def test_grey_and_coloured_images_train_together_as_grey(tmp_path: Path) -> None:
    images, labels = folders(tmp_path, ["a.tif", "b.tif"], ["a.tif", "b.tif"])
    tifffile.imwrite(images / "b.tif", noise(8, 9, 3), photometric="rgb")
    assert [a.image.shape for a in stores.annotated_images(images, labels)] == [(1, 8, 9)] * 2
    (images / "a.tif").unlink()
    (labels / "a.tif").unlink()
    assert [a.image.shape for a in stores.annotated_images(images, labels)] == [(3, 8, 9)]


# Writing -----------------------------------------------------------------------------------------


def save(path: Path, labels: np.ndarray, axes: str, **more: Any) -> None:
    with stores.create_labels(path, labels.shape, axes, labels.dtype, **more) as output:
        for plane in np.ndindex(*labels.shape[:-2]):
            output.array[(*plane, slice(None), slice(None))] = labels[plane]
        output.save()


@pytest.mark.parametrize("name", ["l.tif", "l.ome.tif", "l.zarr", "l.tiff"])
@pytest.mark.parametrize("axes", ["yx", "zyx", "tzyx", "pyx"])
@pytest.mark.parametrize("largest", [5, 70_000])
def test_labels_come_back_with_their_axes(tmp_path: Path, name: str, axes: str, largest: int) -> None:
    shape = (5, 6, 40, 50)[-len(axes) :]
    labels = (noise(*shape) % 5).astype(np.int32)
    labels.flat[7] = largest
    save(tmp_path / name, labels, axes)
    planes = stores.open_picture(tmp_path / name).planes
    assert planes.axes == axes
    assert planes.dtype == np.dtype(np.uint32 if largest > 65535 or name.endswith("zarr") else np.uint16)
    np.testing.assert_array_equal(stores.open_labels(tmp_path / name)[...], labels)
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_classes_and_probabilities_keep_their_type(tmp_path: Path) -> None:
    for dtype in (np.uint8, np.float32):
        save(tmp_path / f"{np.dtype(dtype)}.tif", noise(5, 40, 50, dtype=dtype), "zyx")
        read = tifffile.imread(tmp_path / f"{np.dtype(dtype)}.tif")
        assert read.dtype == dtype
        np.testing.assert_array_equal(read, noise(5, 40, 50, dtype=dtype))


def test_png_holds_one_plane_of_labels(tmp_path: Path) -> None:
    labels = noise(40, 50, dtype=np.int32) * 300
    save(tmp_path / "l.png", labels, "yx")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "l.png")), labels)
    with pytest.raises(StoreError, match=r"use \.tif"):
        stores.create_labels(tmp_path / "s.png", (3, 40, 50), "zyx")
    with pytest.raises(StoreError, match="more than 65535 cells"):
        save(tmp_path / "m.png", labels * 1000, "yx")
    assert [p.name for p in tmp_path.iterdir()] == ["l.png"]


def test_large_planes_are_compressed_in_pieces(tmp_path: Path) -> None:
    labels = np.zeros((2100, 2100), np.int32)
    labels[100:300, 1900:2000] = 3
    save(tmp_path / "l.tif", labels, "yx")
    with tifffile.TiffFile(tmp_path / "l.tif") as tif:
        assert len(tif.pages[0].dataoffsets) > 10
    assert (tmp_path / "l.tif").stat().st_size < labels.size // 50
    np.testing.assert_array_equal(stores.open_labels(tmp_path / "l.tif")[:, :], labels)
    save(tmp_path / "s.tif", np.stack([labels, labels * 2]), "zyx")
    np.testing.assert_array_equal(stores.open_labels(tmp_path / "s.tif")[1], labels * 2)


def test_ome_zarr_labels_are_valid_and_chunked(tmp_path: Path) -> None:
    save(tmp_path / "l.zarr", np.ones((3, 1500, 20), np.int32), "tyx")
    ome_zarr_models = pytest.importorskip("ome_zarr_models")
    group = zarr.open_group(str(tmp_path / "l.zarr"), mode="r")
    assert group["0"].chunks == (1, 1024, 20)
    assert [a.name for a in ome_zarr_models.open_ome_zarr(group).attributes.ome.multiscales[0].axes] == ["t", "y", "x"]
    assert json.loads((tmp_path / "l.zarr" / "zarr.json").read_text())["attributes"]["ome"]["version"] == "0.5"


def test_results_larger_than_memory_are_kept_in_a_file_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output_module, "IN_MEMORY", 1000)
    monkeypatch.setattr(output_module, "_BIG_TIFF", 1000)
    labels = noise(3, 40, 50, dtype=np.int32)
    with stores.create_labels(tmp_path / "l.tif", labels.shape, "zyx") as output:
        assert isinstance(output.array, np.memmap)
        output.array[:] = labels
        output.save()
    with tifffile.TiffFile(tmp_path / "l.tif") as tif:
        assert tif.is_bigtiff
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "l.tif"), labels)
    assert [p.name for p in tmp_path.iterdir()] == ["l.tif"]


@pytest.mark.parametrize("name", ["l.tif", "l.zarr", "l.png"])
def test_what_exists_is_replaced_only_when_asked(tmp_path: Path, name: str) -> None:
    old, new = np.full((20, 30), 1, np.int32), np.full((20, 30), 2, np.int32)
    save(tmp_path / name, old, "yx")
    with pytest.raises(StoreError, match="exists already; .*--overwrite"):
        save(tmp_path / name, new, "yx")
    assert stores.open_labels(tmp_path / name)[0, 0] == 1
    save(tmp_path / name, new, "yx", overwrite=True)
    assert stores.open_labels(tmp_path / name)[0, 0] == 2
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["l.tif", "l.zarr", "l.png"])
def test_what_is_not_finished_leaves_the_old_result_and_nothing_else(tmp_path: Path, name: str) -> None:
    save(tmp_path / name, np.ones((20, 30), np.int32), "yx")
    with pytest.raises(KeyboardInterrupt), stores.create_labels(tmp_path / name, (20, 30), "yx", overwrite=True) as out:
        out.array[0, :] = 5
        raise KeyboardInterrupt
    assert stores.open_labels(tmp_path / name)[0, 0] == 1
    assert [p.name for p in tmp_path.iterdir()] == [name]


def full_disk(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("name", ["l.tif", "l.png"])
def test_a_full_disk_leaves_the_old_result_and_nothing_else(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / name, np.ones((20, 30), np.int32), "yx")
    monkeypatch.setattr(output_module.os, "fsync", full_disk)
    with pytest.raises(StoreError, match=rf"{name} cannot be written: the disk is full\. Nothing was changed"):
        save(tmp_path / name, np.full((20, 30), 2, np.int32), "yx", overwrite=True)
    assert stores.open_labels(tmp_path / name)[0, 0] == 1
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_a_swap_that_fails_puts_the_old_folder_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "l.zarr", np.ones((20, 30), np.int32), "yx")
    real = output_module.os.rename

    def failing(source: Path, target: Path) -> None:
        if "partial" in Path(source).name and "old" not in Path(source).name:
            full_disk()
        real(source, target)

    monkeypatch.setattr(output_module.os, "rename", failing)
    with pytest.raises(StoreError, match="disk is full"):
        save(tmp_path / "l.zarr", np.full((20, 30), 2, np.int32), "yx", overwrite=True)
    assert stores.open_labels(tmp_path / "l.zarr")[0, 0] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["l.zarr"]


@pytest.mark.parametrize("name", ["l.tif", "l.png", "l.zarr"])
def test_places_that_cannot_be_written_are_told_before_the_work(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StoreError, match=rf"file/{name} cannot be written: "):
        stores.create_labels(tmp_path / "file" / name, (20, 30), "yx")
    with pytest.raises(StoreError, match="cannot be written"):
        stores.create_labels(Path("/proc/self") / name, (20, 30), "yx")


def test_endings_that_are_not_known_and_the_input_itself_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"l\.jpg has no known ending .* \.tif, \.tiff, \.png, \.zarr"):
        stores.create_labels(tmp_path / "l.jpg", (20, 30), "yx")
    path = tmp_path / "i.tif"
    tifffile.imwrite(path, noise(20, 30))
    with pytest.raises(StoreError, match="is the input itself"):
        stores.check_output(path, True, path)


# Real files --------------------------------------------------------------------------------------


@needs_data
def test_real_pictures_open() -> None:
    grey = stores.open_picture(next((DATA / "dsb2018" / "images").iterdir())).planes
    assert grey.channels in (1, 3)
    colour = stores.open_picture(DATA / "histology" / "OS-1-detail.ome.tif").planes
    assert colour.rgb and colour.read((), slice(500, 510), slice(600, 620)).shape == (3, 10, 20)
    assert len(np.unique(colour.read((), slice(500, 600), slice(600, 700)))) > 50
    volume = stores.open_picture(DATA / "volumes" / "images" / "stardist_nuclei3d.tif").planes
    assert (volume.axes, volume.shape) == ("pyx", (31, 61, 57))
    assert len(stores.annotated_images(DATA / "volumes" / "images", DATA / "volumes" / "masks")) > 80


@needs_data
def test_real_folders_pair() -> None:
    assert len(stores.pair(DATA / "usiigaci" / "images", DATA / "usiigaci" / "masks")) == 45
    with pytest.raises(StoreError, match="1 image file has no labels"):
        stores.pair(DATA / "dsb2018" / "images", DATA / "dsb2018" / "masks")
