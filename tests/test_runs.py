import dataclasses
import json
import os
import shlex
import subprocess
import sys

import numpy as np
import pytest

from napari_unet.core.data.annotation import AnnotatedImage
from napari_unet.core.errors import StoreError
from napari_unet.core.events import Finished, Preview, StepDone
from napari_unet.core.network.model_card import CARD_NAME, read_card
from napari_unet.core.settings import NetworkSettings, TrainingSettings
from napari_unet.records import runs


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_UNET_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def annotated(dtype=np.uint16, shape=(40, 50), labels=np.int32, **more):
    rng = np.random.default_rng(0)
    painted = np.zeros(shape[-2:], labels)
    painted[5:10, 5:12] = 3
    return AnnotatedImage((rng.random(shape) * 100).astype(dtype), painted, **more)


def create(images, settings=None, network=None, **more):
    return runs.create_run(images, settings or TrainingSettings(), network or NetworkSettings(), **more)


def test_home_is_the_users_data_folder_unless_named(monkeypatch, home):
    assert runs.home() == home
    monkeypatch.delenv("NAPARI_UNET_HOME")
    assert runs.home().name == "napari-unet" and runs.home().is_absolute()


@pytest.mark.parametrize("shape", [(40, 50), (1, 40, 50), (3, 40, 50), (4, 40, 50), (1, 1), (2, 1, 7)])
@pytest.mark.parametrize("dtype", [bool, np.uint8, ">u2", np.int16, np.float16, np.float32, np.float64])
def test_a_run_comes_back_as_it_was(shape, dtype):
    image = annotated(dtype, shape, regions=((1, 20, 2, 30),), name="cells: day 1/2", oversampled=((3.0, 4.5),))
    settings = TrainingSettings(seconds=5, unpainted="background", learning_rate=1e-4, seed=3)
    network = NetworkSettings(width=8, distance=False)
    folder = create([image, annotated()], settings, network, start="scratch", name="my model")
    run = runs.load_run(folder)
    assert (run.settings, run.network, run.start, run.name) == (settings, network, "scratch", "my model")
    assert run.images[0].image.shape == shape
    np.testing.assert_array_equal(run.images[0].image, image.image)
    np.testing.assert_array_equal(run.images[0].labels, image.labels)
    assert (run.images[0].regions, run.images[0].name) == (image.regions, image.name)
    assert run.images[0].oversampled == image.oversampled
    assert (len(run.images), run.images[1].regions) == (2, ())


@pytest.mark.parametrize("labels", [bool, np.uint8, np.uint16, np.int32, np.int64, np.uint64])
def test_labels_of_any_number_type_come_back(labels):
    image = annotated(labels=labels)
    np.testing.assert_array_equal(runs.load_run(create([image])).images[0].labels, image.labels)


def test_lazy_images_are_computed(home):
    array = pytest.importorskip("dask.array")
    image = AnnotatedImage(array.ones((8, 9), chunks=4), array.zeros((8, 9), chunks=4, dtype=int))
    assert runs.load_run(create([image])).images[0].image.sum() == 72


def test_runs_of_one_second_and_name_do_not_collide():
    folders = [create([annotated()]) for _ in range(4)]
    assert len(set(folders)) == 4
    assert runs.list_runs() == folders[::-1]


@pytest.mark.parametrize("name", ["../../evil", "a/b\\c:d", "", "...", "ü" * 500, "con\n"])
def test_any_name_gives_a_folder_inside_of_runs(name):
    image = annotated(name=name)
    folder = create([image, image], name=name)
    assert folder.parent == runs.runs_folder()
    assert [i.name for i in runs.load_run(folder).images] == [name, name]
    assert len(list((folder / "images").iterdir())) == 2


def test_the_job_holds_the_command_line():
    settings = TrainingSettings(steps=7, unpainted="background", background_label=9, elastic=3.5, rotate=False)
    folder = create([annotated()], settings, NetworkSettings(width=8), start="bundled")
    words = shlex.split(json.loads((folder / "job.json").read_text())["command"])
    assert words[:8] == [
        "napari-unet", "train", "--images", str(folder / "images"), "--labels", str(folder / "labels"),
        "--output", str(folder / "model"),
    ]  # fmt: skip
    assert words[8:] == [
        "--regions", str(folder / "job.json"), "--start", "bundled", "--seconds", "60.0", "--steps", "7",
        "--unpainted", "background", "--background-label", "9",
        "--set", "elastic=3.5", "--set", "rotate=False",
    ]  # fmt: skip
    scratch = runs.command_line(folder, TrainingSettings(), NetworkSettings(width=8), "scratch")
    assert scratch.endswith("--start scratch --unpainted unknown --set width=8")
    assert runs.command_line(folder, TrainingSettings(), NetworkSettings(), "m", "r/1").count("--resume r/1") == 1


def test_the_command_line_of_a_run_trains_from_its_folder(tmp_path):
    pytest.importorskip("torch")
    images = [annotated(shape=(2, 80, 90), name="two channels"), annotated(shape=(2, 80, 90))]
    settings = TrainingSettings(seconds=0, steps=2, patch=64, rotate=False, unpainted="background")
    folder = create(images, settings, NetworkSettings(width=4, depth=2), start="scratch")
    words = shlex.split(json.loads((folder / "job.json").read_text())["command"])
    done = subprocess.run(
        [sys.executable, "-m", "napari_unet", *words[1:]], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    card = read_card(runs.finished_model(folder))
    assert (card.channels, card.network) == (2, NetworkSettings(width=4, depth=2))


def test_the_start_is_kept_as_an_absolute_path(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert runs.load_run(create([annotated()], start="models/mine")).start == str(tmp_path / "models" / "mine")


def test_the_finished_model_is_found():
    folder = create([annotated()])
    assert runs.finished_model(folder) is None
    (folder / "model").mkdir()
    (folder / "model" / CARD_NAME).write_text("{}")
    assert runs.finished_model(folder) == folder / "model"


def test_events_are_recorded_without_arrays():
    folder = create([annotated()])
    assert list(runs.read_events(folder)) == []
    runs.append_event(folder, StepDone(1, np.float32(0.5), 0.1, 0.2))
    runs.append_event(folder, Preview(1, 7, np.zeros((2, 2), np.float32), np.zeros((2, 2), np.int32)))
    runs.append_event(folder, Finished(1.0, metrics={"f1": np.float64(0.5)}))
    with (folder / "events.jsonl").open("a") as file:
        file.write('{"event": "cut o')
    step, preview, finished = runs.read_events(folder)
    assert (step["event"], step["loss"]) == ("StepDone", 0.5)
    assert "labels" not in preview and preview["token"] == 7
    assert finished["metrics"] == {"f1": 0.5} and "model" not in finished


def test_a_folder_without_a_run_is_told(tmp_path):
    with pytest.raises(StoreError, match="is no run of napari-interactive-unet: job.json is missing"):
        runs.load_run(tmp_path)


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda f: (f / "job.json").write_text("{"), "job.json in .* cannot be read"),
        (lambda f: (f / "job.json").write_text("[]"), "job.json in .* cannot be read"),
        (lambda f: (f / "job.json").write_text('{"napari_unet_run": 99}'), "format 99, but this version reads 2"),
        (lambda f: next((f / "labels").iterdir()).unlink(), "000_image.tif cannot be read: FileNotFoundError"),
        (lambda f: next((f / "images").iterdir()).write_bytes(b"II*"), "000_image.tif cannot be read"),
        (
            lambda f: (f / "job.json").write_text((f / "job.json").read_text().replace('"start"', '"s"')),
            "is damaged: 's",
        ),
        (
            lambda f: (f / "job.json").write_text((f / "job.json").read_text().replace('"seed"', '"sed"')),
            "setting 'sed'",
        ),
    ],
)
def test_damage_is_told(damage, expected):
    folder = create([annotated()])
    damage(folder)
    with pytest.raises(StoreError, match=expected):
        runs.load_run(folder)


def test_a_home_that_cannot_be_made_is_told(home):
    home.write_text("a file, no folder")
    with pytest.raises(StoreError, match="cannot be written to .* NAPARI_UNET_HOME"):
        create([annotated()])


def test_a_full_disk_is_told_and_leaves_no_half_run(monkeypatch):
    import tifffile

    def full(path, *args, **kwargs):
        path.write_bytes(b"half")
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(tifffile, "imwrite", full)
    with pytest.raises(StoreError, match="No space left on device. Free some space"):
        create([annotated()])
    assert list(runs.runs_folder().iterdir()) == []


def test_events_that_cannot_be_recorded_are_told(tmp_path):
    with pytest.raises(StoreError, match="events.jsonl cannot be written: No such file"):
        runs.append_event(tmp_path / "nowhere", Finished(1.0))


def test_paint_is_brought_up_to_date_and_planes_come_and_go():
    first, second = annotated(name="plane 1"), annotated(name="plane 2", regions=((0, 9, 0, 9),))
    folder = create([first, second], TrainingSettings(steps=3), start="scratch", name="mine")
    more = dataclasses.replace(second, labels=second.labels * 2, regions=((1, 5, 2, 6),))
    runs.repaint(folder, [more, annotated(name="plane 3"), annotated(name="plane 4")])
    run = runs.load_run(folder)
    assert [image.name for image in run.images] == ["plane 2", "plane 3", "plane 4"]
    np.testing.assert_array_equal(run.images[0].labels, more.labels)
    np.testing.assert_array_equal(run.images[0].image, second.image)
    assert run.images[0].regions == ((1, 5, 2, 6),)
    assert (run.settings.steps, run.start, run.name) == (3, "scratch", "mine")
    runs.repaint(folder, [first, annotated(name="plane 5")])
    assert [image.name for image in runs.load_run(folder).images] == ["plane 1", "plane 5"]
    stems = sorted(path.stem.split("_")[0] for path in (folder / "labels").iterdir())
    assert stems == [f"{number:03d}" for number in range(6)]


def test_paint_that_cannot_be_written_is_told_and_leaves_the_run_as_it_was(monkeypatch):
    image = annotated()
    folder = create([image])

    def full(path, labels):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runs, "_write_labels", full)
    with pytest.raises(StoreError, match="No space left on device"):
        runs.repaint(folder, [dataclasses.replace(image, labels=image.labels * 2)])
    np.testing.assert_array_equal(runs.load_run(folder).images[0].labels, image.labels)


def test_a_run_that_goes_on_with_another_says_so(tmp_path):
    assert runs.load_run(create([annotated()])).resume == ""
    assert runs.load_run(create([annotated()], resume=tmp_path / "run")).resume == str(tmp_path / "run")
