import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from napari_unet.core.data.annotation import AnnotatedImage
from napari_unet.core.data.arrays import Normalisation, Planes
from napari_unet.core.events import Finished, PlaneDone, Preview, Started, StepDone, Stopped, Validated
from napari_unet.core.network.model_card import bundled_folder
from napari_unet.core.settings import NetworkSettings, PredictionSettings, TrainingSettings
from napari_unet.engine import EngineClient
from napari_unet.plugin.runtime.engine import Engine, PlaneLost, PlaneResult, SegmentRequest, TrainRequest
from napari_unet.records import runs

TESTS = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_UNET_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def closed(engine, qtbot):
    engine.close()
    qtbot.waitUntil(lambda: engine.state == "stopped" or engine.state == "dead", timeout=10_000)
    qtbot.waitUntil(lambda: not engine._jobs, timeout=10_000)


@pytest.fixture
def engine(qtbot):
    """An engine whose jobs are those of fake_jobs.py."""
    engine = Engine(EngineClient(jobs="fake_jobs", path=[str(TESTS)]))
    engine.start()
    yield engine
    closed(engine, qtbot)


@pytest.fixture
def real(qtbot):
    """An engine with the real jobs."""
    engine = Engine()
    engine.start()
    yield engine
    closed(engine, qtbot)


class Seen:
    """Collects a job's signals in order, and the threads that they arrived on."""

    def __init__(self, job):
        self.job, self.events, self.order, self.threads = job, [], [], set()
        job.event.connect(self._event)
        job.failed.connect(lambda message: self._note("failed", message))
        job.done.connect(lambda: self._note("done", job.running))

    def _event(self, event):
        self.events.append(event)
        self._note("event", type(event))

    def _note(self, *what):
        self.order.append(what)
        self.threads.add(threading.current_thread())

    def wait(self, qtbot, kind=None, timeout=60_000):
        def there():
            return self.of(kind) if kind else self.order[-1:] == [("done", False)]

        qtbot.waitUntil(lambda: bool(there()), timeout=timeout)
        return self

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def failure(self):
        return next((what[1] for what in self.order if what[0] == "failed"), None)


def discs(size=96):
    """A picture of bright discs, and their labels."""
    y, x = np.mgrid[:size, :size]
    image, labels = np.random.default_rng(0).normal(50, 5, (size, size)).astype(np.float32), np.zeros((size, size), int)
    for number, (cy, cx) in enumerate(np.ndindex(size // 24, size // 24), start=1):
        inside = (y - 24 * cy - 12) ** 2 + (x - 24 * cx - 12) ** 2 < 64
        image[inside] += 100
        labels[inside] = number
    return image, labels


def train_request(**settings):
    image, labels = discs()
    chosen = TrainingSettings(**{"seconds": 0, "steps": 3, "patch": 64, "unpainted": "background", **settings})
    return TrainRequest((AnnotatedImage(image, labels),), chosen, NetworkSettings(width=4, depth=2), "scratch", "discs")


def segment_request(data, planes=None, **settings):
    axes = "tzyx"[-data.ndim :]
    return SegmentRequest(Planes(data, axes), "bundled", PredictionSettings(**settings), planes)


def steps(engine, count=10**6, seconds=0.01):
    """A fake job of many steps, begun without a run folder."""
    return engine._begin(lambda job: ("count", {"steps": count, "seconds": seconds}, []))


# ---- with the fake jobs -----------------------------------------------------------------------------


def test_everything_arrives_in_the_main_thread_and_done_is_last(engine, qtbot):
    seen = Seen(steps(engine, 3)).wait(qtbot)
    kinds = [("event", kind) for kind in (Started, StepDone, StepDone, StepDone, Finished)]
    assert seen.order == [*kinds, ("done", False)]
    assert seen.threads == {threading.main_thread()}
    assert not seen.job.running and seen.job.id > 0


def test_states_are_told(qtbot):
    engine, states = Engine(EngineClient(jobs="fake_jobs", path=[str(TESTS)])), []
    engine.state_changed.connect(states.append)
    engine.start()
    qtbot.waitUntil(lambda: engine.state == "ready")
    assert states == ["starting", "ready"]
    Seen(engine._begin(lambda job: ("leave", {}, []))).wait(qtbot)
    qtbot.waitUntil(lambda: engine.state == "dead")
    assert "exit code 3" in engine.reason
    engine.start()
    qtbot.waitUntil(lambda: engine.state == "ready")
    engine.close()
    qtbot.waitUntil(lambda: engine.state == "stopped")
    assert states == ["starting", "ready", "dead", "starting", "ready", "stopped"]


class Slow:
    """A lazy image that takes its time."""

    shape, dtype, ndim = (1024, 1024), np.dtype(np.float32), 2

    def __array__(self, dtype=None, copy=None):
        time.sleep(3)
        return np.zeros(self.shape, np.float32)

    def __getitem__(self, key):
        return np.asarray(self)[key]


def test_starting_and_asking_never_wait(qtbot):
    engine = Engine(EngineClient(jobs="fake_jobs", path=[str(TESTS)]))
    engine.start()
    jobs = [
        engine.train(dataclasses.replace(train_request(), images=(AnnotatedImage(Slow(), Slow()),))),
        engine.segment(SegmentRequest(Planes(Slow(), "yx"), planes=((),))),
    ]
    for job in jobs:
        job.request_preview(1, np.zeros((1, 2048, 2048), np.float32))
        job.stop()
    # Had any of these waited for the child, it would be ready by now, or dead.
    assert engine.state in ("stopped", "starting")
    for seen in [Seen(job) for job in jobs]:
        seen.wait(qtbot)
    closed(engine, qtbot)


def test_training_writes_what_was_painted_at_the_click(engine, qtbot):
    request = train_request()
    painted = request.images[0].labels.copy()
    job = engine._begin(lambda job: ("count", {"steps": 1}, []))
    Seen(job).wait(qtbot)
    job = engine.train(request)
    request.images[0].labels[:] = 99  # the user goes on
    Seen(job).wait(qtbot)
    run = runs.load_run(job.folder)
    np.testing.assert_array_equal(run.images[0].labels, painted)
    assert (run.settings, run.network, run.start, run.name) == (request.settings, request.network, "scratch", "discs")


def test_stop_before_and_after_it_began(engine, qtbot):
    release = threading.Event()
    early = engine._begin(lambda job: (release.wait(10), ("count", {"steps": 1}, []))[1])
    early.stop()
    seen_early = Seen(early)
    release.set()
    seen_early.wait(qtbot)
    assert seen_early.order == [("event", Stopped), ("done", False)]
    seen = Seen(steps(engine)).wait(qtbot, StepDone)
    seen.job.stop()
    seen.wait(qtbot, timeout=2_000)
    assert seen.of(Stopped)


def test_preview_is_answered_while_training(engine, qtbot):
    seen = Seen(steps(engine)).wait(qtbot, StepDone)
    image = np.random.default_rng(0).random((1, 700, 800)).astype(np.float32) * 9
    seen.job.request_preview(5, image, Normalisation((0.0,), (9.0,)))
    preview = seen.wait(qtbot, Preview).of(Preview)[0]
    assert preview.token == 5
    np.testing.assert_array_equal(preview.foreground, image[0])
    seen.job.stop()
    seen.wait(qtbot)
    seen.job.request_preview(6, image)  # too late, and harmless


def test_a_preview_asked_for_before_the_job_was_sent_is_answered(engine, qtbot):
    release = threading.Event()
    seen = Seen(engine._begin(lambda job: (release.wait(10), ("count", {"steps": 10**6, "seconds": 0.01}, []))[1]))
    for token in (1, 2):
        seen.job.request_preview(token, np.zeros((1, 5, 5), np.float32))
    release.set()
    assert seen.wait(qtbot, Preview).of(Preview)[0].token == 2
    seen.job.stop()
    seen.wait(qtbot)


def test_planes_arrive_in_the_order_asked_for(engine, qtbot):
    data = np.random.default_rng(0).integers(0, 9, (2, 3, 200, 150)).astype(np.int32)
    seen = Seen(engine.segment(segment_request(data, ((1, 2), (0, 0))))).wait(qtbot)
    assert [event.plane for event in seen.of(PlaneResult)] == [(1, 2), (0, 0)]
    np.testing.assert_array_equal(seen.of(PlaneResult)[0].labels, data[1, 2])


def test_a_mistake_is_told_once_before_done(engine, qtbot):
    seen = Seen(engine._begin(lambda job: ("user_error", {}, []))).wait(qtbot)
    assert seen.order[-2:] == [("failed", "No labels are painted; paint some cells."), ("done", False)]


def test_a_home_that_cannot_be_written_is_told(engine, qtbot, monkeypatch, tmp_path):
    qtbot.waitUntil(lambda: engine.state == "ready")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NAPARI_UNET_HOME", str(tmp_path / "file"))
    seen = Seen(engine.train(train_request())).wait(qtbot)
    assert "The training cannot be written to" in seen.failure and seen.order[-1] == ("done", False)


def test_a_bug_in_the_viewer_is_told_with_its_traceback(engine, qtbot, home):
    seen = Seen(engine._begin(lambda job: 1 / 0)).wait(qtbot)
    log = home / "logs" / "viewer.log"
    assert seen.failure == f"internal error: ZeroDivisionError: division by zero (details in {log})"
    assert "1 / 0" in log.read_text()


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_after_kill_9_the_next_click_works(engine, qtbot):
    seen = Seen(steps(engine)).wait(qtbot, StepDone)
    os.kill(engine.pid, signal.SIGKILL)
    seen.wait(qtbot, timeout=5_000)
    assert "signal 9 (SIGKILL)" in seen.failure
    assert engine.state == "dead"
    assert Seen(steps(engine, 2)).wait(qtbot).of(Finished)
    assert engine.state == "ready"


def test_a_burst_of_events_arrives_whole(engine, qtbot):
    seen = Seen(steps(engine, 10_000, seconds=0)).wait(qtbot)
    assert [event.step for event in seen.of(StepDone)] == list(range(1, 10_001))


def test_large_planes_arrive_whole(engine, qtbot):
    data = np.random.default_rng(0).integers(0, 9000, (2, 2048, 2048)).astype(np.int32)
    seen = Seen(engine.segment(segment_request(data, ((0,), (1,))))).wait(qtbot)
    assert all(np.array_equal(result.labels, plane) for result, plane in zip(seen.of(PlaneResult), data, strict=True))


def test_the_shared_engine_is_one(qtbot, monkeypatch):
    monkeypatch.setattr(Engine, "_one", None)
    assert Engine.shared() is Engine.shared()
    assert Engine.shared().state == "stopped"


def test_the_runner_loads_no_torch():
    code = "import sys, napari_unet.plugin.runtime.engine; print({'torch', 'napari', 'execnet'} & set(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (answer.stdout.strip(), answer.returncode) == ("set()", 0)


APPLICATION = """
import sys
sys.path.insert(0, {tests!r})
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication
from napari_unet.plugin.runtime.engine import Engine
from napari_unet.engine import EngineClient
application = QApplication(sys.argv)
engine = Engine(EngineClient(jobs="fake_jobs", path=[{tests!r}]))
job = engine._begin(lambda job: ("count", {{"steps": 10**6, "seconds": 0.01}}, []))
def quit_after_first(event):
    if engine.pid and job.id and type(event).__name__ == "StepDone":
        job.event.disconnect(quit_after_first)
        print(engine.pid, flush=True)
        QTimer.singleShot(0, application.quit)
job.event.connect(quit_after_first)
application.exec()
"""


@pytest.mark.skipif(not Path("/proc").exists(), reason="needs /proc")
def test_quitting_the_application_ends_the_child_silently():
    answer = subprocess.run(
        [sys.executable, "-c", APPLICATION.format(tests=str(TESTS))], capture_output=True, text=True, timeout=30
    )
    assert (answer.returncode, answer.stderr) == (0, "")
    end = time.monotonic() + 5
    while Path(f"/proc/{int(answer.stdout)}").exists():
        assert time.monotonic() < end
        time.sleep(0.05)


# ---- with the real ones -----------------------------------------------------------------------------


@pytest.fixture
def model(real, qtbot):
    """A small model, trained by the engine; its job's signals."""
    pytest.importorskip("torch")
    return Seen(real.train(train_request(steps=30))).wait(qtbot, timeout=120_000)


@pytest.mark.computing
def test_training_gives_a_model_and_a_record(model, real, qtbot):
    assert model.failure is None
    assert isinstance(model.events[0], Started) and len(model.of(StepDone)) == 30 and model.of(Validated)
    folder = model.job.folder
    assert Path(model.of(Finished)[0].path) == runs.finished_model(folder) == folder / "model"
    recorded = [event["event"] for event in runs.read_events(folder)]
    assert recorded == [type(event).__name__ for event in model.events]


@pytest.mark.computing
def test_training_shows_previews_and_stops_with_a_model(real, qtbot):
    seen = Seen(real.train(train_request(steps=10**6))).wait(qtbot, StepDone, 120_000)
    seen.job.request_preview(3, discs()[0][np.newaxis])
    preview = seen.wait(qtbot, Preview).of(Preview)[0]
    assert (preview.token, preview.foreground.shape, preview.labels.shape) == (3, (96, 96), (96, 96))
    seen.job.stop()
    seen.wait(qtbot, timeout=20_000)
    assert seen.of(Stopped) and runs.finished_model(seen.job.folder)


@pytest.mark.computing
def test_segmenting_and_relabelling(model, real, qtbot):
    stack = np.stack([discs()[0] + 5 * n for n in range(3)])
    path = str(runs.finished_model(model.job.folder))
    request = SegmentRequest(Planes(stack, "zyx"), path, PredictionSettings(what="probabilities"), ((2,), (0,)))
    seen = Seen(real.segment(request)).wait(qtbot)
    assert seen.failure is None
    assert [type(e) for e in seen.events if isinstance(e, (PlaneResult, PlaneDone))] == [PlaneResult, PlaneDone] * 2
    assert [e.plane for e in seen.of(PlaneResult)] == [(2,), (0,)]
    probabilities = seen.of(PlaneResult)[0].labels
    assert probabilities.dtype == np.float32 and probabilities.shape == (96, 96)
    assert real.pid and 0 <= probabilities.min() < probabilities.max() <= 1

    again = Seen(real.relabel(dict.fromkeys([(0,), (2,), (1,)], seen.job.id), PredictionSettings(what="probabilities")))
    again.wait(qtbot)
    assert again.of(PlaneLost) == [PlaneLost((1,))]
    np.testing.assert_allclose(again.of(PlaneResult)[1].labels, probabilities, atol=1e-3)
    # The threshold decides, from the same outputs.
    middle = float(np.median(probabilities))
    counts = []
    for threshold in (max(0.01, middle - 0.05), min(0.99, middle + 0.05)):
        settings = PredictionSettings(threshold=threshold, smallest=0, separation="components")
        labels = Seen(real.relabel({(2,): seen.job.id}, settings)).wait(qtbot).of(PlaneResult)[0].labels
        counts.append(int((labels > 0).sum()))
        assert labels.dtype.kind == "i"
    assert counts[0] > counts[1]


@pytest.mark.computing
def test_the_gap_between_large_cells_is_the_same_without_the_network(real, qtbot):
    rows, columns = np.mgrid[:180, :320]
    inside = np.minimum(*(np.hypot(rows - 90, columns - x) for x in (100, 219))) < 60
    picture = ndimage.gaussian_filter(inside.astype(np.float32), 2)
    settings = PredictionSettings(threshold=0.65, diameter=120.0)
    seen = Seen(real.segment(SegmentRequest(Planes(picture, "yx"), str(bundled_folder("nuclei")), settings))).wait(
        qtbot
    )
    labels = seen.of(PlaneResult)[0].labels
    # Seen at a fifth of its size, where one pixel parts the two.
    assert labels.max() == 2 and labels[90, 140:180].all()
    again = Seen(real.relabel({(): seen.job.id}, settings)).wait(qtbot).of(PlaneResult)[0].labels
    np.testing.assert_array_equal(again, labels)


@pytest.mark.computing
def test_colour_images_are_read_as_grey_by_a_model_of_one_channel(model, real, qtbot):
    colours = np.repeat(discs()[0][..., np.newaxis], 3, axis=-1).clip(0, 255).astype(np.uint8)
    request = SegmentRequest(Planes(colours, "yxc", rgb=True), str(runs.finished_model(model.job.folder)))
    seen = Seen(real.segment(request)).wait(qtbot)
    assert seen.failure is None and seen.of(PlaneResult)[0].labels.shape == (96, 96)


@pytest.mark.computing
def test_mistakes_of_the_user_are_told(real, qtbot, tmp_path):
    image = discs()[0]
    empty = AnnotatedImage(image, np.zeros(image.shape, int))
    seen = Seen(real.train(TrainRequest((empty,), TrainingSettings(steps=1), NetworkSettings(), "scratch", "none")))
    assert "internal error" not in (seen.wait(qtbot).failure or "internal error")
    seen = Seen(real.segment(SegmentRequest(Planes(image, "yx"), str(tmp_path / "nothing")))).wait(qtbot)
    assert seen.failure.startswith(f"There is no model at {tmp_path / 'nothing'}")


@pytest.mark.computing
@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_kill_9_in_a_real_training_leaves_the_run_and_the_next_click_works(real, qtbot):
    seen = Seen(real.train(train_request(steps=10**6))).wait(qtbot, StepDone, 120_000)
    os.kill(real.pid, signal.SIGKILL)
    assert "signal 9" in seen.wait(qtbot, timeout=5_000).failure
    assert runs.load_run(seen.job.folder).images[0].labels.max() == 16
    assert Seen(real.train(train_request(steps=2))).wait(qtbot).of(Finished)


VIEWER = """
import sys, time
import numpy as np
from qtpy.QtCore import QCoreApplication
from napari_unet.core.data.annotation import AnnotatedImage
from napari_unet.core.settings import NetworkSettings, TrainingSettings
from napari_unet.plugin.runtime.engine import Engine, TrainRequest
application = QCoreApplication(sys.argv)
labels = np.zeros((400, 400), int)
labels[100:140, 100:140], labels[200:240, 200:250] = 1, 2
image = labels * 50 + np.random.default_rng(0).normal(size=labels.shape)
settings = TrainingSettings(seconds=0, steps=10**6)
job = Engine.shared().train(TrainRequest((AnnotatedImage(image, labels),), settings, NetworkSettings(), "scratch", "x"))
job.failed.connect(lambda message: print(message, flush=True))
def tell(event):
    if type(event).__name__ == "StepDone" and event.step == 2:
        print(Engine.shared().pid, flush=True)
job.event.connect(tell)
application.exec()
"""


@pytest.mark.computing
@pytest.mark.skipif(not Path("/proc").exists(), reason="needs /proc")
def test_a_real_training_goes_with_a_killed_viewer(qtbot):
    pytest.importorskip("torch")
    viewer = subprocess.Popen([sys.executable, "-c", VIEWER], stdout=subprocess.PIPE, text=True)
    pid = int(viewer.stdout.readline())
    assert Path(f"/proc/{pid}").exists()
    viewer.kill()
    viewer.communicate()
    begin = time.monotonic()
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < begin + 6
        time.sleep(0.05)
