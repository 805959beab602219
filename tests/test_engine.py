import os
import queue
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import zarr
from scipy import ndimage

from napari_unet.core import events
from napari_unet.core.events import Finished, Started, StepDone, Stopped
from napari_unet.core.settings import PredictionSettings
from napari_unet.engine import EngineClient, JobDone, JobFailed, PlaneLost, PlaneResult
from napari_unet.engine.child.cache import KeptModels, KeptOutputs, PlaneBuffer
from napari_unet.engine.child.progressive_segmentation import Showing
from napari_unet.engine.child.remote_array import RemoteArray
from napari_unet.engine.protocol import messages
from napari_unet.engine.viewer.connection import Link, describe_end
from napari_unet.engine.viewer.outbox import Outbox

HERE = Path(__file__).parent
posix = pytest.mark.skipif(os.name != "posix", reason="signals")


def through_the_wire(message):
    from execnet import dumps, loads

    assembler = messages.Assembler()
    complete = [assembler.accept(loads(dumps(raw))) for raw in messages.split(message, 3)]
    assert complete[:-1] == [None] * (len(complete) - 1)
    return complete[-1]


# ---- the wire --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["bool", "uint8", ">u2", "int32", "int64", "float16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(), (0, 5), (3, 4), (700, 900)])
def test_arrays_cross_unchanged(dtype, shape):
    array = np.asarray(np.arange(np.prod(shape), dtype=np.int64).reshape(shape) % 120).astype(dtype)
    back = through_the_wire({"type": "x", "data": array})["data"]
    assert back.dtype == array.dtype and back.shape == shape
    np.testing.assert_array_equal(back, array)


def test_no_message_is_larger_than_a_piece():
    array = np.arange(2048 * 2048, dtype=np.int32).reshape(2048, 2048)[:, ::2]
    raws = list(messages.split({"type": "x", "data": array}, 0))
    assert max(len(raw.get("data", b"")) for raw in raws if raw["type"] == "piece") == messages.PIECE
    assert sum(len(raw["data"]) for raw in raws if raw["type"] == "piece") == array.nbytes


def test_plain_data_crosses_and_numpy_scalars_become_builtin():
    message = {
        "type": "x",
        "a": np.float64(0.5),
        "b": [np.int32(3), None, True, np.bool_(False)],
        "c": Path("p"),
        "d": (1, "ü"),
    }
    back = through_the_wire(message)
    assert back == {"type": "x", "a": 0.5, "b": [3, None, True, False], "c": "p", "d": [1, "ü"]}


def test_what_is_no_plain_data_is_refused():
    with pytest.raises(TypeError, match="cannot be sent"):
        list(messages.split({"type": "x", "a": object()}, 0))


@pytest.mark.parametrize(
    "event",
    [
        events.Started("train", "cpu", "float32", notes=("one", "two")),
        events.PlaneDone(1, 2, (3, 4), objects=5),
        events.Finished(1.5, metrics={"f1": 0.5}),
        PlaneLost((1, 2)),
        JobFailed("why"),
        JobDone(),
    ],
)
def test_events_cross_unchanged(event):
    assert messages.event_from_dict(through_the_wire({"type": "e", "e": messages.event_to_dict(event)})["e"]) == event


# ---- parts of arrays --------------------------------------------------------------------------------


KEYS = [
    3, -1, (2, slice(1, 4)), (slice(None), slice(2, None, 2), 5), (..., slice(3, 6)), (1, ..., 2), ..., (0, 0, 0),
    (np.int64(2), slice(-3, None)), slice(2, 100),
]  # fmt: skip


@pytest.mark.parametrize("key", KEYS, ids=str)
@pytest.mark.parametrize("axes", ["tyx", "cyx", "yxc"])
def test_remote_array_indexes_like_numpy(key, axes):
    array = np.arange(4 * 6 * 7).reshape(4, 6, 7)
    remote = RemoteArray(array.shape, array.dtype.str, axes, lambda packed: messages.read_block(array, packed))
    np.testing.assert_array_equal(remote[key], array[key])


@pytest.mark.parametrize("key", [4, (0, 0, 0, 0), np.array([1, 2]), (slice(None, None, -1),), "a"], ids=str)
def test_remote_array_refuses_other_keys(key):
    remote = RemoteArray((4, 6, 7), "<i4", "tyx", lambda packed: pytest.fail("was fetched"))
    with pytest.raises(IndexError):
        remote[key]


def test_remote_array_fetches_each_plane_once():
    array, fetched = np.arange(3 * 8 * 8).reshape(3, 8, 8), []

    def fetch(packed):
        fetched.append(packed)
        return messages.read_block(array, packed)

    remote = RemoteArray(array.shape, "<i8", "tyx", fetch)
    for plane in (0, 0, 2, 2):
        np.testing.assert_array_equal(remote[plane, 2:5, 1:3], array[plane, 2:5, 1:3])
    assert fetched == [[0, [0, 8, 1], [0, 8, 1]], [2, [0, 8, 1], [0, 8, 1]]]


def test_remote_array_fetches_only_the_region_of_huge_planes():
    fetched = []
    remote = RemoteArray((2, 100_000, 100_000), "|u1", "zyx", lambda packed: fetched.append(packed))
    remote[1, 5:10, 7:9]
    assert fetched == [[1, [5, 10, 1], [7, 9, 1]]]


# ---- what the child keeps ---------------------------------------------------------------------------


def test_kept_outputs_are_bounded_and_the_least_recently_used_go():
    outputs = {"classes": np.ones((2, 10, 10), np.float32)}  # 800 bytes
    kept = KeptOutputs(limit=1700)
    kept.keep(1, (0,), outputs, 1.0)
    kept.keep(1, (1,), outputs, 0.5)
    assert kept.get(1, (0,)).outputs["classes"].dtype == np.float32
    assert (kept.get(1, (1,)).scale, kept.get(1, (0,)).scale) == (0.5, 1.0)
    kept.keep(1, (2,), outputs, 1.0)
    assert kept.get(1, (1,)) is None
    assert kept.get(1, (0,)) is not None and kept.get(1, (2,)) is not None
    kept.keep(1, (0,), outputs, 1.0)
    assert kept.size == 1600
    kept.keep(2, (), {"classes": np.ones((2, 100, 100))}, 1.0)  # larger than the limit: nothing of it stays
    assert kept.size == 0 and kept.get(2, ()) is None


def test_models_are_loaded_once_until_their_files_change(tmp_path):
    loads = []
    kept = KeptModels(lambda path: loads.append(path) or len(loads), count=2)
    (tmp_path / "model.json").write_text("{}")
    assert [kept.get(str(tmp_path)) for _ in range(3)] == [1, 1, 1]
    os.utime(tmp_path / "model.json", ns=(0, 10**19))
    assert kept.get(str(tmp_path)) == 2


def test_plane_buffer_holds_planes_until_taken():
    buffer = PlaneBuffer((2, 3, 4, 5), np.int32)
    buffer[1, 2, 1:3, 2:4] = 7
    assert buffer[1, 2].sum() == 28
    buffer[np.int64(0), 1] = 1
    assert buffer.take((1, 2))[1, 2] == 7
    assert buffer.take((1, 2)).sum() == 0
    assert buffer.take((0, 1)).sum() == 20
    with pytest.raises(IndexError, match="One plane"):
        buffer[:, 0, 0, 0] = 1
    flat = PlaneBuffer((4, 5), np.float32)
    flat[...] = 2
    flat[1:2, :] = 3
    assert flat.take(()).sum() == 45


def test_outbox_replaces_what_has_the_same_key_and_was_not_sent():
    box = Outbox()
    for number, key in enumerate(["a", None, "b", "a", None]):
        box.put({"n": number}, key)
    assert [box.get(0)["n"] for _ in range(4)] == [1, 2, 3, 4]
    assert box.get(0.01) is None
    box.put({"n": 9})
    box.close()
    box.put({"n": 10})
    assert box.get(10) is None


# ---- how it ended -----------------------------------------------------------------------------------


def test_ends_are_described(tmp_path):
    log = tmp_path / "log"
    log.write_text("Traceback\nImportError: no torch\n")
    assert "signal 9 (SIGKILL), most likely because the memory was full" in describe_end(-9, "")
    assert "signal 11 (SIGSEGV)." in describe_end(-11, "")
    assert "exit code 1 with: ImportError: no torch. Details are in" in describe_end(1, str(log))
    assert "connection to the backend was lost" in describe_end(None, "")


# ---- a real child -----------------------------------------------------------------------------------


class Recorder:
    """Collects the events of one job."""

    def __init__(self):
        self.events = []
        self.queue = queue.Queue()

    def __call__(self, event):
        self.events.append(event)
        self.queue.put(event)

    def wait(self, kind=JobDone, timeout=20):
        end = time.monotonic() + timeout
        while True:
            event = self.queue.get(timeout=max(0.01, end - time.monotonic()))
            if isinstance(event, kind):
                return event

    @property
    def failure(self):
        return next(event.message for event in self.events if isinstance(event, JobFailed))


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_UNET_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def states():
    return []


@pytest.fixture
def client(states):
    client = EngineClient(on_state=lambda state, reason: states.append(state), jobs="fake_jobs", path=[str(HERE)])
    yield client
    pid = client.pid
    client.close(timeout=5)
    assert pid is None or not alive(pid)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")


def wait_until(condition, timeout=20.0):
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.02)


def run(client, kind, payload=None, **more):
    recorder = Recorder()
    client.submit(kind, payload or {}, recorder, **more)
    recorder.wait()
    return recorder


def test_starting_and_asking_return_at_once(client, states, monkeypatch):
    hold, started = threading.Event(), []
    monkeypatch.setattr(Link, "_start_child", lambda link: started.append(hold.wait(30)))
    client.start()
    client.start()
    client.submit("count", {"steps": 1}, Recorder())
    client.close()
    # None of these waited for the child: it has not started yet.
    assert not started
    hold.set()
    assert states == ["starting", "stopped"]


def test_starting_becomes_ready(client, states):
    assert (client.state, client.pid) == ("stopped", None)
    client.start()
    client.start()
    wait_until(lambda: client.state == "ready")
    assert states == ["starting", "ready"]
    assert client.pid != os.getpid() and alive(client.pid)


def test_events_arrive_in_order_and_done_is_last(client):
    recorder = run(client, "count", {"steps": 3})
    assert [type(e) for e in recorder.events] == [Started, StepDone, StepDone, StepDone, Finished, JobDone]
    assert recorder.events[2].loss == 0.5


@posix
def test_the_child_has_low_priority(client):
    here = os.nice(0)
    assert int(run(client, "info").events[0].notes[0]) == min(here + 10, 19)


def test_arrays_cross_to_the_child_and_back(client):
    arrays = [np.random.default_rng(0).random((1500, 900)), np.zeros((0, 4), np.uint8), np.arange(6).reshape(2, 3).T]
    recorder = run(client, "echo", {"arrays": arrays})
    for array, event in zip(arrays, recorder.events, strict=False):
        np.testing.assert_array_equal(event.labels, array)


@pytest.mark.parametrize("library", ["numpy", "dask", "zarr"])
def test_images_are_read_lazily_from_any_array(client, library):
    data = np.random.default_rng(0).integers(0, 60_000, (3, 333, 222)).astype(np.uint16)
    if library == "dask":
        array = pytest.importorskip("dask.array").from_array(data, chunks=(1, 100, 100))
    elif library == "zarr":
        array = zarr.array(data, chunks=(1, 128, 128))
    else:
        array = data[:, :, ::-1]
    about = {"shape": list(data.shape), "dtype": data.dtype.str, "axes": "tyx"}
    payload = {"image": {"arrays": [about]}, "planes": [[2], [0]]}
    recorder = run(client, "copy", payload, arrays=[array])
    assert [e.plane for e in recorder.events[:2]] == [(2,), (0,)]
    np.testing.assert_array_equal(recorder.events[0].labels, np.asarray(array[2]))


class Broken:
    shape, dtype = (2, 8, 8), np.dtype(np.uint8)

    def __init__(self):
        self.go_on = threading.Event()

    def __getitem__(self, key):
        if key[0] == 1:
            raise OSError("the disk is gone")
        self.go_on.wait(20)
        return np.zeros((8, 8), np.uint8)


COPY_BROKEN = {"image": {"arrays": [{"shape": [2, 8, 8], "dtype": "|u1", "axes": "tyx"}]}}


def test_an_image_that_cannot_be_read_fails_the_job_alone(client):
    recorder = run(client, "copy", {**COPY_BROKEN, "planes": [[1]]}, arrays=[Broken()])
    assert recorder.failure == "The image cannot be read: OSError: the disk is gone"
    assert isinstance(run(client, "count", {"steps": 1}).events[-2], Finished)


def test_stop_is_answered_while_a_slow_image_is_read(client):
    recorder, array = Recorder(), Broken()
    number = client.submit("copy", {**COPY_BROKEN, "planes": [[0]]}, recorder, [array])
    wait_until(lambda: client.state == "ready")
    client.stop(number)
    recorder.wait(timeout=5)
    assert [type(e) for e in recorder.events] == [Stopped, JobDone]
    array.go_on.set()
    assert isinstance(run(client, "count", {"steps": 1}).events[-2], Finished)


def test_stop_is_answered_within_a_step(client):
    recorder = Recorder()
    number = client.submit("count", {"steps": 10**6, "seconds": 0.05}, recorder)
    recorder.wait(StepDone)
    client.stop(number)
    asked = len(recorder.events)
    recorder.wait()
    assert len(recorder.events) - asked <= 5  # at most two steps, and the three below
    assert [type(e) for e in recorder.events[-3:]] == [Stopped, Finished, JobDone]


def test_jobs_queue_and_a_queued_one_can_be_stopped(client):
    first, second, third = Recorder(), Recorder(), Recorder()
    one = client.submit("count", {"steps": 10**6, "seconds": 0.01}, first)
    two = client.submit("count", {"steps": 1}, second)
    client.submit("count", {"steps": 1}, third)
    first.wait(StepDone)
    client.stop(two)
    assert not second.events
    client.stop(one)
    third.wait()
    assert [type(e) for e in second.events] == [Stopped, JobDone]
    assert isinstance(third.events[-2], Finished)


def test_relabelling_is_answered_during_a_running_job(client):
    running, short = Recorder(), Recorder()
    number = client.submit("count", {"steps": 10**6, "seconds": 0.02}, running)
    running.wait(StepDone)
    client.submit("relabel", {}, short)
    short.wait(timeout=5)
    assert isinstance(short.events[0], PlaneResult)
    assert not any(isinstance(e, JobDone) for e in running.events)
    client.stop(number)
    running.wait()
    assert len(short.events) == 2


def test_only_the_newest_preview_is_answered(client):
    recorder = Recorder()
    number = client.submit("count", {"steps": 10**6, "seconds": 0.2}, recorder)
    recorder.wait(StepDone)
    for token in range(20):
        client.tell(number, "preview", {"token": token, "image": np.full((1, 300, 300), token, np.float32)})
    while recorder.wait(events.Preview).token != 19:
        pass
    answered = [e.token for e in recorder.events if isinstance(e, events.Preview)]
    assert len(answered) < 5
    client.stop(number)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("user_error", "No labels are painted; paint some cells."),
        ("memory", "The memory is full. Close other images or programs, or choose a smaller tile."),
        ("nonsense", "The backend knows no job 'nonsense'; is it of the same version?"),
    ],
)
def test_mistakes_are_told_as_they_are(client, kind, expected):
    recorder = run(client, kind)
    assert recorder.failure == expected
    assert client.state == "ready"


def test_a_bug_is_told_with_the_place_of_its_traceback(client, home):
    (home / "run").mkdir()
    message = run(client, "bug", {"folder": str(home / "run")}).failure
    log = home / "run" / "error.log"
    assert message == f"internal error: RuntimeError: CUDA error: whatever (details in {log})"
    assert "in bug" in log.read_text()
    message = run(client, "bug").failure
    assert client.log in message and "in bug" in Path(client.log).read_text()


def test_a_child_that_ends_is_told_and_replaced(client, states):
    message = run(client, "leave").failure
    assert "exit code 3 with: this goes to the log" in message and client.reason == message
    assert states[-1] == "dead"
    assert isinstance(run(client, "count", {"steps": 1}).events[-2], Finished)
    assert client.state == "ready"


@posix
def test_a_crash_is_told_with_its_signal(client):
    message = run(client, "crash").failure
    assert "signal 11 (SIGSEGV)" in message
    log = message.partition("Details are in ")[2].partition(".log")[0] + ".log"
    assert "in crash" in Path(log).read_text()


@posix
def test_kill_9_in_mid_job_fails_it_and_the_next_job_works(client, states):
    recorder, queued = Recorder(), Recorder()
    client.submit("count", {"steps": 10**6, "seconds": 0.01}, recorder)
    client.submit("count", {"steps": 1}, queued)
    recorder.wait(StepDone)
    first = client.pid
    os.kill(first, signal.SIGKILL)
    recorder.wait(timeout=5)
    queued.wait(timeout=5)
    assert "signal 9 (SIGKILL)" in recorder.failure and "signal 9" in queued.failure
    assert [type(e) for e in recorder.events].count(JobDone) == 1
    assert states[-1] == "dead"
    assert isinstance(run(client, "count", {"steps": 1}).events[-2], Finished)
    assert client.pid != first


@posix
def test_a_hanging_child_is_ended_on_close(client):
    recorder = Recorder()
    client.submit("count", {"steps": 10**6, "seconds": 0.01}, recorder)
    recorder.wait(StepDone)
    pid = client.pid
    os.kill(pid, signal.SIGSTOP)
    client.close()
    recorder.wait(timeout=5)
    assert client.state == "stopped"
    wait_until(lambda: not alive(pid), 8)


def test_jobs_that_cannot_be_imported_are_told(states):
    client = EngineClient(jobs="no_such_module", on_state=lambda state, reason: states.append(state))
    message = run(client, "count").failure
    assert "The backend cannot start: ModuleNotFoundError: No module named 'no_such_module'" in message
    assert states == ["starting", "dead"]


def test_an_interpreter_that_is_not_there_is_told(states, monkeypatch):
    monkeypatch.setattr(sys, "executable", "no-such-python")
    client = EngineClient(on_state=lambda state, reason: states.append(state))
    assert "cannot be started: FileNotFoundError" in run(client, "count").failure
    assert states == ["starting", "dead"]


def test_another_version_is_told(client, monkeypatch):
    monkeypatch.setattr("napari_unet.engine.viewer.connection.PROTOCOL", messages.PROTOCOL + 1)
    assert "is of another version of napari-interactive-unet; install the same on both" in run(client, "count").failure


def test_old_logs_are_removed(client, home):
    (home / "logs").mkdir()
    for number in range(15):
        (home / "logs" / f"engine-2020-{number:02d}.log").write_text("old")
    run(client, "count", {"steps": 1})
    logs = sorted(path.name for path in (home / "logs").iterdir())
    assert len(logs) == 10 and Path(client.log).name in logs and "engine-2020-14.log" in logs


@pytest.mark.skipif(sys.platform != "linux", reason="Linux has the out-of-memory killer")
def test_the_child_is_the_first_to_go_when_memory_runs_out(client):
    run(client, "count", {"steps": 1})
    assert int(Path(f"/proc/{client.pid}/oom_score_adj").read_text()) == 500


def test_closing_while_it_starts_leaves_no_child(client, monkeypatch):
    start, processes = Link._start_child, []

    def started(link):
        channel = start(link)
        processes.append(link._process)
        return channel

    monkeypatch.setattr(Link, "_start_child", started)
    client.start()
    client.close()
    wait_until(lambda: processes and processes[0].poll() is not None, 8)


def test_closing_ends_the_jobs_and_the_child(client, states):
    recorder = Recorder()
    client.submit("count", {"steps": 10**6, "seconds": 0.01}, recorder)
    recorder.wait(StepDone)
    pid = client.pid
    client.close(timeout=5)
    assert not alive(pid)
    recorder.wait()
    assert states == ["starting", "ready", "stopped"]


def test_importing_the_client_loads_no_torch_and_no_execnet():
    code = "import sys, napari_unet.engine, napari_unet.records.runs\n"
    code += "print({'torch', 'execnet', 'qtpy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


# A viewer: no `__main__` guard, as in napari scripts, and killed without a chance to clean up.
VIEWER = """
import sys, time
print("viewer", flush=True)
from napari_unet.engine import EngineClient
client = EngineClient(jobs="fake_jobs", path=[{here!r}])
seen = []
client.submit("count", {{"steps": 10**6, "seconds": {seconds}}}, seen.append)
while not seen:
    time.sleep(0.01)
print(client.pid, flush=True)
{end}
"""


@pytest.fixture
def start_viewer(tmp_path):
    def start(seconds=0.01, end="time.sleep(60)"):
        script = tmp_path / "viewer.py"
        script.write_text(textwrap.dedent(VIEWER.format(here=str(HERE), seconds=seconds, end=end)))
        viewer = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert viewer.stdout.readline() == "viewer\n"
        return viewer, int(viewer.stdout.readline())

    return start


@posix
@pytest.mark.parametrize("seconds", [0.01, 60], ids=["between steps", "in a long step"])
def test_the_child_goes_with_a_killed_viewer(seconds, start_viewer):
    viewer, pid = start_viewer(seconds)
    assert alive(pid)
    viewer.kill()
    viewer.communicate()
    wait_until(lambda: not alive(pid), 5)


@posix
def test_the_child_goes_with_a_killed_viewer_whose_fork_holds_the_pipe(start_viewer):
    viewer, pid = start_viewer(end="import os\nfork = os.fork()\nif fork: print(fork, flush=True)\ntime.sleep(30)")
    fork = int(viewer.stdout.readline())
    try:
        viewer.kill()
        viewer.wait()
        wait_until(lambda: not alive(pid), 6)
    finally:
        os.kill(fork, signal.SIGKILL)
        viewer.communicate()


@pytest.mark.parametrize("end", ["", "client.close()", "sys.exit(0)", "client.close(5)"])
def test_a_viewer_that_ends_leaves_nothing_and_says_nothing(end, start_viewer):
    viewer, pid = start_viewer(end=end)
    out, err = viewer.communicate(timeout=15)
    assert (viewer.returncode, out, err) == (0, "", "")
    wait_until(lambda: not alive(pid), 5)


def test_parts_that_are_shown_give_back_the_gap_as_the_plane_will():
    class Asked:
        payload: dict = {}

        @staticmethod
        def latest(name):
            return None

    shown = []

    class Shown:
        @staticmethod
        def show(plane, box, labels):
            shown.append(labels)

    inside = np.zeros((30, 61), np.float32)
    inside[4:26, 4:30] = inside[4:26, 31:57] = 1  # one pixel parts them
    distance = ndimage.distance_transform_edt(inside).astype(np.float32) / 11
    outputs = {"classes": np.stack([1 - inside, inside]), "distance": distance[None]}
    showing = Showing(Asked, Shown, PredictionSettings())
    showing.show((), (0, 120, 0, 244), outputs)
    showing.show((), (120, 120, 0, 244), outputs)  # the last part may be empty at the image's own size
    (labels,) = shown
    assert labels.shape == (120, 244) and len(np.unique(labels)) == 3
    assert labels[60, 30:214].all()
