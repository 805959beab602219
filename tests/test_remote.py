"""The engine on another computer, which is this one over ssh; see sshd.py."""

import errno
import os
import shlex
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest
import zarr

from napari_unet import __version__
from napari_unet.core.data.annotation import AnnotatedImage
from napari_unet.core.data.arrays import Planes
from napari_unet.core.errors import SettingsError, StoreError
from napari_unet.core.events import CheckpointSaved, Finished, PlaneDone, ResultOpened, StepDone
from napari_unet.core.inference.chunked import MemoryWorkspace
from napari_unet.core.inference.predict import predict
from napari_unet.core.network.model_card import read_card
from napari_unet.core.network.model_io import load_model
from napari_unet.core.settings import LinkSettings, NetworkSettings, PredictionSettings, TrainingSettings, to_dict
from napari_unet.core.synthetic import generate
from napari_unet.engine import EngineClient, JobFailed, PlaneResult
from napari_unet.engine.child.file_copies import KEPT_DAYS, Copies, remove_old, visits
from napari_unet.engine.child.file_returns import Returns
from napari_unet.engine.child.server import SILENCE, Server
from napari_unet.engine.protocol import messages
from napari_unet.engine.protocol.compression import pack, unpack
from napari_unet.engine.viewer.address import Address, parse_address
from napari_unet.engine.viewer.file_sharing import Sharing
from napari_unet.engine.viewer.progressive_receiver import Growing
from napari_unet.plugin.runtime.requests import LinkRequest, Output, SegmentRequest, segment_payload
from napari_unet.records import runs
from napari_unet.stores import Folder, Levels, open_array, unfinished_folder
from sshd import NAME, free_port, machine, make_key
from test_engine import HERE, Recorder, alive, run, wait_until
from tiny import write_model, write_pictures

__all__ = ["machine"]
LONG = 240


# ---- addresses -------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "local", "  "])
def test_no_address_is_this_computer(text):
    assert parse_address(text) is None
    assert EngineClient(text).where == "on this computer"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gpu-box", Address("gpu-box")),
        ("anna@gpu.lab", Address("anna@gpu.lab")),
        (
            "ssh://anna@gpu.lab:2222/home/anna/unet/bin/python",
            Address("anna@gpu.lab", 2222, "/home/anna/unet/bin/python"),
        ),
        ("gpu_box/~/unet/bin/python", Address("gpu_box", 0, "~/unet/bin/python")),
        ("me@[fe80::1]:22", Address("me@fe80::1", 22)),
    ],
)
def test_addresses_are_read(text, expected):
    assert parse_address(text) == expected


@pytest.mark.parametrize("text", ["-oProxyCommand=touch", "a b", "me@h:0", "me@h:99999", "@h", "h;ls", "h`ls`"])
def test_what_is_no_address_is_refused(text):
    with pytest.raises(SettingsError, match="is no address of a computer; it is written as name@computer"):
        parse_address(text)


def test_the_shell_there_sees_one_command(monkeypatch):
    monkeypatch.delenv("NAPARI_UNET_SSH", raising=False)
    command = Address("me@h", 22, "~/my env/bin/python").command("import sys;print('x')")
    assert command[0] == "ssh" and command[-3:-1] == ["--", "me@h"] and command[command.index("-p") + 1] == "22"
    assert "BatchMode=yes" in command and "ConnectTimeout=10" in command
    words = shlex.split(command[-1])
    assert words == ["~/my env/bin/python", "-u", "-c", "import sys;print('x')"] and command[-1].startswith("~/")


# ---- what travels ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", ">u2", "int32", "float32", "float64", "bool"])
def test_packing_loses_nothing_and_makes_pictures_smaller(dtype):
    image, _ = generate("nuclei", (64, 65), 0, diameter=16, density=0.3)
    data = (image * 200).astype(dtype).tobytes()
    packed = pack(data, np.dtype(dtype).itemsize)
    assert packed is not None and len(packed) < len(data)
    assert unpack(packed, np.dtype(dtype).itemsize) == data


def test_noise_is_not_packed():
    assert pack(np.random.default_rng(0).bytes(10_000), 1) is None
    assert pack(b"", 4) is None


@pytest.mark.parametrize("dtype", ["bool", "uint16", "float32"])
def test_arrays_cross_packed(dtype):
    array = (generate("nuclei", (700, 900), 0, diameter=16, density=0.3)[0] * 200).astype(dtype)
    raws = list(messages.split({"type": "x", "data": array, "none": np.zeros((0, 3))}, 1, packed=True))
    assembler = messages.Assembler()
    back = [assembler.accept(raw) for raw in raws][-1]
    np.testing.assert_array_equal(back["data"], array)
    assert back["none"].shape == (0, 3)
    assert sum(len(raw.get("data", b"")) for raw in raws[:-1]) < array.nbytes


def shared(tmp_path):
    """Return a run folder, a model beside it, a file that is nobody's business, and the sharing of the first two."""
    for name in ("run/images", "model", "other"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "a.bin").write_bytes(name.encode())
    (tmp_path / "run" / "images" / ".part.b.bin").write_bytes(b"half")
    (tmp_path / "run" / "job.json").write_text("{}")
    return Sharing(str(tmp_path / "run"), [str(tmp_path / "model")])


def test_only_what_was_shared_is_seen(tmp_path):
    files, run_folder = shared(tmp_path), str(tmp_path / "run")
    assert [entry["name"] for entry in files.listing(run_folder, ())] == ["images/a.bin", "job.json"]
    assert [entry["name"] for entry in files.listing(run_folder, ["job.json"])] == ["job.json"]
    assert files.read(str(tmp_path / "model"), "a.bin").tobytes() == b"model"
    for path, name in [("other", "a.bin"), ("run", "../other/a.bin"), ("run/../other", "a.bin"), (".", "other/a.bin")]:
        with pytest.raises(StoreError, match="no part of its job"):
            files.read(str(tmp_path / path), name)
    with pytest.raises(StoreError, match="is missing"):
        files.listing(str(tmp_path / "run" / "gone"), ())


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "", "C:\\x"])
def test_nothing_is_written_outside_of_the_run(tmp_path, name):
    files = shared(tmp_path)
    with pytest.raises(StoreError, match="is refused"):
        files.write({name: np.zeros(3, np.uint8)})
    with pytest.raises(StoreError, match="a job that takes none"):
        Sharing().write({"x": np.zeros(3, np.uint8)})
    with pytest.raises(StoreError, match="is refused"):
        Sharing(output=str(tmp_path / "out.tif")).write({name: np.zeros(3, np.uint8)})
    with pytest.raises(StoreError, match="is refused"):
        Sharing(output=str(tmp_path / "out.tif")).write({"model/a.bin": np.zeros(3, np.uint8)})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "other", "run"]


def test_a_result_is_replaced_as_a_whole_and_files_are_sent_in_parts(tmp_path, monkeypatch):
    output = tmp_path / "out.zarr"
    files = Sharing(output=str(output))
    assert files.listing(str(output), ()) == []
    files.write({"out.zarr/old": np.zeros(3, np.uint8), "out.zarr/c/0": np.ones(3, np.uint8)})
    files.write({"out.zarr/c/0": np.full(3, 2, np.uint8)})
    assert [entry["name"] for entry in files.listing(str(output), ())] == ["c/0"]
    assert (output / "c" / "0").read_bytes() == b"\2\2\2"
    monkeypatch.setattr("napari_unet.engine.viewer.file_sharing.PART", 2)
    assert [files.read(str(output), "c/0", start).size for start in (0, 2, 3)] == [2, 1, 0]


def test_files_are_copied_once_and_what_was_made_is_told_once(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_UNET_HOME", str(tmp_path / "there"))
    files, read = shared(tmp_path), []

    monkeypatch.setattr("napari_unet.engine.viewer.file_sharing.PART", 3)

    def fetch(path, name, start):
        read.append((name, start))
        return files.read(path, name, start)

    copies = Copies(files.listing, fetch)
    model = Path(copies.find(str(tmp_path / "model")))
    assert copies.find(str(tmp_path / "model")) == str(model) and read == [("a.bin", 0), ("a.bin", 3)]
    assert Path(copies.find(str(tmp_path / "model" / "a.bin"))).read_bytes() == b"model"
    folder = copies.run(str(tmp_path / "run"))
    assert (folder / "images" / "a.bin").read_bytes() == b"run/images" and copies.made() == {}
    (tmp_path / "run" / "images" / "a.bin").write_bytes(b"new")
    assert (copies.run(str(tmp_path / "run")) / "images" / "a.bin").read_bytes() == b"new"
    (folder / "model").mkdir()
    (folder / "model" / "weights").write_bytes(b"w")
    assert {name: data.tobytes() for name, data in copies.made().items()} == {"model/weights": b"w"}
    assert copies.made() == {}
    told = copies.as_viewer_sees(CheckpointSaved(3, str(folder / "model"), True))
    assert told == CheckpointSaved(3, str(tmp_path / "run" / "model"), True)
    copies.close(delivered=True)
    assert not folder.exists() and len(list((visits() / "models").iterdir())) == 2


def test_old_copies_are_removed(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_UNET_HOME", str(tmp_path))
    for name, days in (("new", 1), ("old", KEPT_DAYS + 1)):
        folder = visits() / "runs" / name
        folder.mkdir(parents=True)
        os.utime(folder, (10**9 - days * 86_400,) * 2)
    remove_old(now=10**9)
    assert [path.name for path in (visits() / "runs").iterdir()] == ["new"]


def test_a_newer_bundle_takes_what_waits_along():
    sent, free = [], threading.Event()

    def send(message):
        sent.append(message)
        assert free.wait(10)

    returns = Returns(send)
    returns.put(1, {"a": 1}, {"event": "first"})
    wait_until(lambda: len(sent) == 1)
    returns.put(1, {"a": 2, "b": 2}, {"event": "second"})
    returns.put(1, {"a": 3}, {"event": "third"})
    free.set()
    wait_until(lambda: len(sent) == 2)
    assert sent[1]["files"] == {"a": 3, "b": 2} and sent[1]["event"] == {"event": "third"}
    threading.Timer(0.1, returns.arrived, [3]).start()
    assert returns.wait()
    returns.put(1, {"c": 1}, None)
    returns.leave()
    assert not returns.wait()


# ---- over ssh --------------------------------------------------------------------------------------


@pytest.fixture
def client(machine):
    """A client whose engine is on the other computer, with the jobs of fake_jobs.py."""
    yield from closing(EngineClient(machine.address, jobs="fake_jobs", path=[str(HERE)]))


@pytest.fixture
def real(machine):
    """A client whose engine is on the other computer, with the real jobs."""
    yield from closing(EngineClient(machine.address, jobs="quick_jobs", path=[str(HERE)]))


def closing(client):
    """Yield a client; then close it, after which no process may be left on either side."""
    yield client
    pid = client.pid
    client.close(timeout=10)
    wait_until(lambda: pid is None or not alive(pid), 10)


def asked(**settings):
    """Write the run folder of a small training and return it."""
    image, labels = generate("nuclei", (96, 96), 0, diameter=16, density=0.3)
    chosen = TrainingSettings(**{"seconds": 0, "steps": 3, "patch": 64, "unpainted": "background", **settings})
    return runs.create_run(
        [AnnotatedImage(image, labels, name="nuclei")], chosen, NetworkSettings(width=4, depth=2), "scratch", "nuclei"
    )


def test_jobs_run_there(client, machine):
    assert client.is_remote and client.where == f"on {NAME}"
    seen = run(client, "info").events
    assert seen[0].notes == ("10", str(Path.home()))
    assert Path(client.log).is_relative_to(machine.home)
    assert client.pid not in (None, os.getpid())


def test_images_travel_by_parts(client):
    image = np.arange(3 * 210 * 250, dtype=np.uint16).reshape(3, 210, 250)
    about = {"arrays": [{"shape": list(image.shape), "dtype": "<u2", "axes": "zyx"}]}
    seen = run(client, "copy", {"image": about, "planes": [[2], [0]]}, arrays=[image]).events
    assert [event.plane for event in seen if isinstance(event, PlaneResult)] == [(2,), (0,)]
    np.testing.assert_array_equal(seen[0].labels, image[2])


def test_a_model_is_trained_there_and_used_there(real, machine):
    folder = asked()
    trained = Recorder()
    real.submit("train", {"folder": str(folder)}, trained)
    trained.wait(timeout=LONG)
    last = trained.events[-2]
    assert isinstance(last, Finished) and last.path == str(folder / "model")
    assert set(real.devices) >= {"cpu"}
    # All of it is here, as after a training on this computer, and nothing of it is left there but the model.
    assert read_card(folder / "model").name == "nuclei" and (folder / "state.safetensors").is_file()
    recorded = [event["event"] for event in runs.read_events(folder)]
    assert recorded == [type(event).__name__ for event in trained.events[:-1]]
    assert list((machine.home / "visits" / "runs").iterdir()) == []
    assert len(list((machine.home / "visits" / "models").iterdir())) == 1

    image = generate("nuclei", (96, 96), 1, diameter=16, density=0.3)[0]
    about = {"arrays": [{"shape": [96, 96], "dtype": image.dtype.str, "axes": "yx"}], "axes": "yx", "rgb": False}
    payload = {
        "image": {**about, "grey": False}, "model": str(folder / "model"), "planes": None,
        "settings": to_dict(PredictionSettings()),
    }  # fmt: skip
    seen = Recorder()
    real.submit("segment", payload, seen, [image], [str(folder / "model")])
    seen.wait(timeout=LONG)
    assert isinstance(seen.events[-2], Finished)
    result = next(event for event in seen.events if isinstance(event, PlaneResult))
    assert result.labels.shape == (96, 96) and result.labels.dtype == np.int32
    # The model crossed once: from there to here.
    assert len(list((machine.home / "visits" / "models").iterdir())) == 1

    again = runs.create_run(
        runs.load_run(folder).images, TrainingSettings(seconds=0, steps=2, patch=64, unpainted="background"),
        NetworkSettings(), str(folder / "model"), "nuclei", str(folder),
    )  # fmt: skip
    going_on = Recorder()
    real.submit("train", {"folder": str(again)}, going_on, files=[str(folder)])
    going_on.wait(timeout=LONG)
    assert [event.step for event in going_on.events if isinstance(event, StepDone)] == [4, 5]


def segment_file(client, source, output, model, overwrite=False):
    """Segment a file there and return the events."""
    payload = {
        "source": str(source), "output": str(output), "model": str(model), "axes": "", "overwrite": overwrite,
        "settings": to_dict(PredictionSettings(device="cpu")),
    }  # fmt: skip
    seen = Recorder()
    client.submit("segment_file", payload, seen, files=[str(source), str(model)])
    seen.wait(timeout=LONG)
    return seen


def open_labels(path):
    """Return the labels in a file."""
    return np.asarray(open_array(path)[0][...])


@pytest.mark.parametrize("suffix", [".tif", ".zarr"])
def test_files_are_segmented_there_and_their_results_come_back(real, machine, tmp_path, suffix):
    pictures, _ = write_pictures(tmp_path, count=1)
    source, output = pictures / "cells0.tif", tmp_path / "results" / f"cells0{suffix}"
    output.parent.mkdir()
    model = write_model(tmp_path / "tiny")
    seen = segment_file(real, source, output, model)
    assert isinstance(seen.events[-2], Finished) and seen.events[-2].path == str(output)
    assert open_labels(output).shape == (96, 96)
    assert [path.name for path in output.parent.iterdir()] == [output.name]
    assert not list((machine.home / "visits").glob("sources/*")) + list((machine.home / "visits").glob("results/*"))
    before = output.stat().st_mtime_ns
    message = segment_file(real, source, output, model).failure
    assert message == f"{output} exists already; choose another output, or have it replaced."
    assert isinstance(segment_file(real, source, output, model, overwrite=True).events[-2], Finished)
    assert output.stat().st_mtime_ns > before
    source.write_bytes(b"no picture")
    assert str(source) in segment_file(real, source, tmp_path / "results" / "other.tif", model).failure


GROWING = PredictionSettings(device="cpu", precision="float32", threshold=0.45, smallest=3)


class Counted:
    """An array that notes the largest part that is read of it."""

    def __init__(self, array):
        self.array, self.shape, self.dtype, self.ndim = array, array.shape, array.dtype, array.ndim
        self.largest = 0

    def __getitem__(self, key):
        part = self.array[key]
        self.largest = max(self.largest, part.size)
        return part


def mosaic(height, width):
    """Return a picture of many generated nuclei."""
    tile = generate("nuclei", (256, 256), 0, diameter=16, density=0.3)[0]
    return np.tile(tile, (-(-height // 256), -(-width // 256)))[:height, :width]


def grow(client, array, axes, model, folder, file="", on_event=lambda event: None):
    """Segment an array there into a store here, and return what was told."""
    request = SegmentRequest(
        Planes(array, axes), str(model), GROWING, output=Output(str(folder), "cells", {"y": (0.5, "micrometer")}),
        files=(file,) if file else (),
    )  # fmt: skip
    seen = Recorder()

    def hear(event):
        seen(event)
        on_event(event)

    client.submit("segment", segment_payload(request), hear, [array], [str(model)])
    seen.wait(timeout=LONG)
    return seen


def made_here(array, axes, model):
    """Return the labels that this process makes of an array."""
    planes = Planes(array, axes)
    output = np.zeros(planes.shape, np.uint32)
    for _ in predict(load_model(model), planes, output, settings=GROWING, work=MemoryWorkspace()):
        continue
    assert output.max() > 20
    return output


def growing_there(machine):
    """Return what is kept there of results that grow here."""
    return list((machine.home / "visits").glob("growing/*"))


def test_a_large_picture_is_segmented_there_part_by_part(real, machine, tmp_path):
    picture, model = Counted(mosaic(2100, 2000)), write_model(tmp_path / "tiny")
    seen = grow(real, picture, "yx", model, tmp_path / "results")
    opened = next(event for event in seen.events if isinstance(event, ResultOpened))
    path = tmp_path / "results" / "cells.zarr"
    assert opened.path == str(path) and Path(opened.partial).parent == unfinished_folder(path) and not opened.resumed
    assert isinstance(seen.events[-2], Finished) and seen.events[-2].path == str(path)
    assert picture.largest <= 2_100_000, "never as a whole: at most every other row, for the grey values"
    np.testing.assert_array_equal(open_labels(path), made_here(picture.array, "yx", model))
    group = zarr.open_group(str(path), mode="r")
    np.testing.assert_array_equal(group["2"][:], group["0"][::4, ::4])
    assert group.attrs["ome"]["multiscales"][0]["axes"][0]["unit"] == "micrometer"
    assert [path.name for path in path.parent.iterdir()] == ["cells.zarr"] and not growing_there(machine)


@pytest.mark.parametrize("end", ["stopped", "killed"])
def test_what_grows_here_goes_on_there_where_it_was(real, machine, tmp_path, end):
    stack = np.stack([np.roll(mosaic(300, 260), 31 * k, 0) for k in range(6)])
    model, path = write_model(tmp_path / "tiny"), tmp_path / "results" / "cells.zarr"

    def interrupt(event):
        if isinstance(event, PlaneDone) and event.done == 2:
            real.stop(1) if end == "stopped" else os.kill(real.pid, signal.SIGKILL)

    seen = grow(real, stack, "zyx", model, path.parent, on_event=interrupt)
    assert not any(isinstance(event, Finished) and event.path for event in seen.events) and not path.exists()
    left = Folder(unfinished_folder(path))
    done = [left.recall(f"plane {number}") for number in range(6)]
    left.close()
    assert done[0] is not None and done[5] is None and len(growing_there(machine)) == 1
    again = grow(real, stack, "zyx", model, path.parent)
    assert next(event for event in again.events if isinstance(event, ResultOpened)).resumed
    assert isinstance(again.events[-2], Finished) and again.events[-2].path == str(path)
    np.testing.assert_array_equal(open_labels(path), made_here(stack, "zyx", model))
    assert not growing_there(machine)


def test_a_picture_that_lies_there_too_is_not_sent(real, machine, tmp_path):
    model, name = write_model(tmp_path / "tiny"), str(tmp_path / "slide.zarr")
    zarr.create_array(name, data=mosaic(2100, 2000), chunks=(512, 512))
    picture = Counted(zarr.open_array(name, mode="r"))
    seen = grow(real, picture, "yx", model, tmp_path / "results", name)
    assert isinstance(seen.events[-2], Finished) and picture.largest == 24 * 24, "compared in a few places alone"
    other = Counted(np.asarray(picture.array[...]) + 1)
    seen = grow(real, other, "yx", model, tmp_path / "results", name)
    assert isinstance(seen.events[-2], Finished) and other.largest > 24 * 24, "another one than in the file"


def test_labels_on_disk_are_linked_there(real, machine, tmp_path):
    labels = np.zeros((4, 60, 70), np.uint32)
    labels[:, 5:20, 5:20] = np.arange(1, 5)[:, None, None]
    labels[1:3, 30:50, 30:50] = 9
    request = LinkRequest(labels, "zyx", LinkSettings(along="z"), Output(str(tmp_path), "linked"))
    seen = Recorder()
    real.submit("link", request.payload(), seen, [labels])
    seen.wait(timeout=LONG)
    assert isinstance(seen.events[-2], Finished) and seen.events[-2].path == str(tmp_path / "linked.zarr")
    linked = open_labels(tmp_path / "linked.zarr")
    np.testing.assert_array_equal(linked > 0, labels > 0)
    assert set(np.unique(linked[:, 10, 10])) == {1} and set(np.unique(linked[1:3, 40, 40])) == {2}
    assert not growing_there(machine)


def test_nothing_grows_that_was_not_asked_for(tmp_path):
    with pytest.raises(StoreError, match="was not asked for"):
        Growing().answer({"what": "open", "shape": [3, 3], "axes": "yx", "dtype": "<u4", "identity": {}})
    growing = Growing({"folder": str(tmp_path), "name": "cells", "spacing": {}})
    with pytest.raises(StoreError, match="was not asked for"):
        growing.answer({"what": "close"})
    with pytest.raises(StoreError, match="that is not open"):
        growing.answer({"what": "part", "plane": [], "box": [0, 1, 0, 1], "labels": np.ones((1, 1), np.uint32)})
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_here_ends_the_job_there_with_the_reason(real, machine, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Levels, "put", full)
    seen = grow(real, np.stack([mosaic(64, 64)] * 2), "zyx", write_model(tmp_path / "tiny"), tmp_path / "results")
    assert "the disk is full" in seen.failure


def test_what_is_painted_meanwhile_joins_there(real):
    folder = asked(steps=10**6)
    seen = Recorder()
    job = real.submit("train", {"folder": str(folder)}, seen)
    seen.wait(StepDone, LONG)
    image, labels = generate("nuclei", (96, 96), 5, diameter=16, density=0.3)
    runs.repaint(folder, [*runs.load_run(folder).images, AnnotatedImage(image, labels, name="more")])
    real.tell(job, "repainted", 1)
    wait_until(
        lambda: any(type(event).__name__ == "AnnotationsUpdated" and event.planes == 2 for event in seen.events), LONG
    )
    real.stop(job)
    seen.wait(timeout=LONG)
    assert isinstance(seen.events[-2], Finished)


def test_kill_9_in_mid_training_leaves_the_last_checkpoint_here(real, machine):
    folder = asked(steps=10**6)
    seen = Recorder()
    real.submit("train", {"folder": str(folder)}, seen)
    saved = seen.wait(CheckpointSaved, LONG)
    assert saved.path == str(folder / "model")
    first = real.pid
    os.kill(first, signal.SIGKILL)
    seen.wait(timeout=30)
    failure = next(event.message for event in seen.events if isinstance(event, JobFailed))
    assert f"on {NAME} was ended" in failure and "the next click reconnects" in failure
    assert read_card(folder / "model").name == "nuclei" and (folder / "state.safetensors").is_file()
    again = Recorder()
    real.submit("train", {"folder": str(asked())}, again)
    again.wait(timeout=LONG)
    assert isinstance(again.events[-2], Finished) and real.pid != first


def test_a_cut_connection_ends_the_job_here_and_the_process_there(client):
    seen = Recorder()
    client.submit("count", {"steps": 10**6, "seconds": 0.01}, seen)
    seen.wait(StepDone)
    pid = client.pid
    client._link._process.kill()
    seen.wait(timeout=10)
    assert "Nothing in the viewer is lost; the next click reconnects" in seen.failure
    wait_until(lambda: not alive(pid), 10)
    assert isinstance(run(client, "count", {"steps": 1}).events[-2], Finished)


def test_a_killed_viewer_leaves_nothing_there(machine):
    code = f"""
        import os, sys, threading
        from napari_unet.engine import EngineClient
        client = EngineClient({machine.address!r}, jobs="fake_jobs", path=[{str(HERE)!r}])
        running = threading.Event()
        client.submit("count", {{"steps": 10**6, "seconds": 0.01}}, lambda event: running.set())
        assert running.wait(120)
        print(client.pid, client._link._process.pid, flush=True)
        os.kill(os.getpid(), 9)
    """
    said = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=LONG)
    there, ssh = map(int, said.stdout.split())
    wait_until(lambda: not alive(there) and not alive(ssh), 20)


def test_a_sign_of_life_is_sent_and_silence_is_noticed(client, monkeypatch):
    monkeypatch.setattr("napari_unet.engine.viewer.connection._ALIVE_EVERY", 0.1)
    sent = []
    monkeypatch.setattr(
        "napari_unet.engine.viewer.connection.split", lambda m, n, packed: [sent.append(m), *messages.split(m, n)][1:]
    )
    run(client, "count", {"steps": 1})
    wait_until(lambda: {"type": "alive"} in sent, 10)
    assert isinstance(run(client, "count", {"steps": 1}).events[-2], Finished)

    server = Server(SilentChannel(), {"remote": True, "between": [], "jobs": "", "nice": 0, "parent": None})
    assert not server._alone()
    server._heard -= SILENCE + 1
    assert server._alone()
    server._receive({"type": "alive", "of": 0})
    assert not server._alone()
    server._returns.leave()


class SilentChannel:
    """A channel at whose other end nobody is."""

    def send(self, item):
        pytest.fail("nobody is there")

    def setcallback(self, callback, endmarker=None):
        pytest.fail("nobody is there")


def test_a_bug_there_leaves_its_traceback_here(client):
    folder = asked()
    message = run(client, "bug", {"folder": str(folder)}).failure
    assert f"details in {folder / 'error.log'}" in message
    assert "RuntimeError: CUDA error: whatever" in (folder / "error.log").read_text()


def test_another_address_counts_from_the_next_job_on(client):
    run(client, "count", {"steps": 1})
    there = client.pid
    client.move("")
    assert client.where == "on this computer" and not client.is_remote
    assert isinstance(run(client, "count", {"steps": 1}).events[-2], Finished)
    assert client.pid != there
    wait_until(lambda: not alive(there), 10)


def refusal(address):
    """Return what is said when the engine at an address cannot be used."""
    states = []
    client = EngineClient(address, on_state=lambda state, reason: states.append((state, reason)))
    seen = Recorder()
    client.submit("count", {"steps": 1}, seen)
    seen.wait(timeout=60)
    assert [state for state, _ in states] == ["starting", "dead"] and states[-1][1] == seen.failure
    return seen.failure


def test_a_wrong_key_is_told(machine):
    make_key(machine.folder / "strange_key")
    machine.configure(IdentityFile=str(machine.folder / "strange_key"))
    message = refusal(machine.address)
    assert f"{NAME} cannot be used for computing. It accepts none of your keys." in message
    assert f"ssh-copy-id {NAME}" in message and "Permission denied" in message


def test_an_unknown_host_key_is_told(machine):
    (machine.folder / "known_hosts").write_text("")
    message = refusal(machine.address)
    assert "Its host key is not known yet. Type once in a terminal" in message and f"ssh_config {NAME}" in message


def test_a_changed_host_key_is_told(machine):
    known = machine.folder / "known_hosts"
    known.write_text(f"[127.0.0.1]:{machine.port} {make_key(machine.folder / 'other_host')}")
    assert "its host key has changed" in refusal(machine.address)


def test_an_unreachable_computer_is_told(machine):
    machine.configure(Port=str(free_port()))
    assert "It takes no ssh connections at this port" in refusal(machine.address)
    machine.configure(HostName="no-such-host.invalid")
    assert "No computer of this name is known" in refusal(machine.address)


def test_a_computer_that_does_not_answer_is_told(machine):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        machine.configure(Port=str(silent.getsockname()[1]), ConnectTimeout="1")
        assert "It did not answer within" in refusal(machine.address)


def test_a_missing_ssh_is_told(machine, monkeypatch):
    monkeypatch.setenv("NAPARI_UNET_SSH", "no-such-ssh")
    assert "needs the OpenSSH client on this computer" in refusal(machine.address)


def test_a_missing_python_is_told(machine):
    message = refusal(machine.address_of("/no/such/python"))
    assert f"There is no Python /no/such/python on {NAME}." in message


def script(path, text):
    """Write a script that can be run."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_a_python_without_the_package_is_told_with_the_command(machine):
    bare = script(machine.folder / "bare-python", f'exec {shlex.quote(sys.executable)} -S "$@"')
    message = refusal(machine.address_of(bare))
    assert f"The Python {bare} on {NAME} has no napari-interactive-unet, this computer has {__version__}." in message
    assert message.endswith(f"{NAME} '{bare} -m pip install napari_interactive_unet-{__version__}-py3-none-any.whl'")


def test_another_version_there_is_told_with_the_command(machine):
    package = machine.folder / "other" / "napari_unet"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("__version__ = '0.0.1'")
    other = script(
        machine.folder / "other-python", f'PYTHONPATH={package.parent} exec {shlex.quote(sys.executable)} "$@"'
    )
    message = refusal(machine.address_of(other))
    assert f"has napari_unet 0.0.1, this computer has {__version__}. Copy the wheel of this version there" in message


def test_a_login_that_talks_is_read_over(machine):
    talks = script(machine.folder / "talks", f'echo "Welcome to the GPU box"; exec {shlex.quote(sys.executable)} "$@"')
    client = EngineClient(machine.address_of(talks), jobs="fake_jobs", path=[str(HERE)])
    assert isinstance(run(client, "count", {"steps": 1}).events[-2], Finished)
    client.close(timeout=10)


def test_closing_while_it_connects_leaves_no_ssh(machine):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        machine.configure(Port=str(silent.getsockname()[1]))
        client = EngineClient(machine.address)
        client.start()
        wait_until(lambda: client._link is not None and client._link._process is not None)
        process = client._link._process
        client.close(timeout=10)
        wait_until(lambda: process.poll() is not None, 10)
