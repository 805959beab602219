"""Complete regions that come from a file."""

import dataclasses
import json
import shlex

import numpy as np
import pytest
import tifffile

from napari_unet import stores
from napari_unet.cli import main
from napari_unet.core.data.annotation import AnnotatedImage
from napari_unet.core.errors import StoreError
from napari_unet.core.network.model_card import read_card
from napari_unet.core.settings import NetworkSettings, TrainingSettings
from napari_unet.records import runs


def planes(*names, painted=True):
    """Return annotated planes, the last one without paint."""
    labels = np.zeros((30, 40), np.int32)
    labels[5:9, 5:9] = 2
    bare = np.zeros_like(labels)
    return [AnnotatedImage(np.zeros((30, 40)), bare if n == names[-1] else labels, name=n) for n in names]


def write(tmp_path, content):
    path = tmp_path / "regions.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_boxes_are_put_on_the_planes_that_they_name(tmp_path):
    path = write(tmp_path, {"c": [[0, 9, 0, 9], [10, 20, 5, 40]]})
    found = stores.with_regions(planes("a", "b", "c"), path)
    assert [(image.name, image.regions) for image in found] == [
        ("a", ()), ("b", ()), ("c", ((0, 9, 0, 9), (10, 20, 5, 40))),
    ]  # fmt: skip
    other = write(tmp_path, {"a": [[0, 9, 0, 9]]})
    assert [image.name for image in stores.with_regions(planes("a", "b", "c"), other)] == ["a", "b"]
    assert [image.name for image in stores.with_regions(planes("a", "b", "c"), other, empty=True)] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"z": [[0, 9, 0, 9]]}, "has regions of z, but the images are called a, b"),
        ({"a": [[9, 0, 0, 9]]}, "is no box: y0 < y1"),
        ({"a": [[0, 9, 0]]}, "holds no regions; write"),
        ({"a": 3}, "holds no regions; write"),
        ([1, 2], "holds no regions; write"),
        ("{", "holds no regions; write"),
    ],
)
def test_files_that_make_no_sense_are_explained(tmp_path, content, words):
    with pytest.raises(StoreError, match=words):
        stores.with_regions(planes("a", "b"), write(tmp_path, content))


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(StoreError, match="gone.json cannot be read: No such file"):
        stores.with_regions(planes("a", "b"), tmp_path / "gone.json")


def test_a_run_is_trained_again_with_the_same_planes_regions_and_state():
    rng = np.random.default_rng(0)
    first, second, third = (
        dataclasses.replace(image, image=rng.random((30, 40)), regions=((0, 12, 0, 12),), oversampled=((7.0, 7.0),))
        for image in planes("a", "b", "c")
    )
    settings = TrainingSettings(seconds=0, steps=2, patch=32, background_label=1, diameter=16, device="cpu")
    folder = runs.create_run([first, second, third], settings, NetworkSettings(width=4, depth=1), start="scratch")
    runs.repaint(folder, [second, third])
    images = stores.annotated_images(folder / "images", folder / "labels", empty=True)
    assert len(images) == 3
    found = stores.with_regions(images, folder / "job.json")
    assert [image.regions for image in found] == [((0, 12, 0, 12),)] * 2
    assert [image.oversampled for image in found] == [((7.0, 7.0),)] * 2
    assert main(shlex.split(runs.read_job(folder)["command"])[1:]) == 0
    (entry,) = read_card(folder / "model").training_history
    # A box alone makes the bare plane known.
    assert entry["known_pixels"] == 2 * 144


def test_the_command_line_takes_regions_of_image_files(tmp_path, capsys):
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
    (plane, bare) = planes("a", "b")
    tifffile.imwrite(tmp_path / "images" / "a.tif", np.random.default_rng(0).random((30, 40), np.float32))
    tifffile.imwrite(tmp_path / "labels" / "a.tif", plane.labels.astype(np.uint8))
    words = ["train", "--images", tmp_path / "images", "--labels", tmp_path / "labels", "--output", tmp_path / "m"]
    words += ["--regions", write(tmp_path, {"a": [[0, 20, 0, 30]]}), "--unpainted", "unknown", "--start", "scratch"]
    words += ["--steps", "1", "--set", "width=4", "--set", "depth=1", "--set", "patch=32", "--set", "background_rim=0"]
    words += ["--set", "diameter=16"]
    assert main([str(word) for word in words]) == 0
    assert read_card(tmp_path / "m").training_history[0]["known_pixels"] == 600
    assert main([*[str(word) for word in words], "--overwrite", "--resume", str(tmp_path)]) != 0
    assert "cannot be continued" in capsys.readouterr().err
