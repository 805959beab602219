"""The same job as tasks of dask.distributed: the same bits, whatever dies in between, and readable refusals."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
import zarr

from napari_unet import stores
from napari_unet.cli import main
from napari_unet.core.errors import ClusterError, DataError, SettingsError
from napari_unet.core.events import Event, Fallback, Finished, PlaneDone, Started, Stopped, TileDone
from napari_unet.core.inference.predict import predict as predict_here
from napari_unet.core.network.device import fixed_threads
from napari_unet.core.network.model_card import Card
from napari_unet.core.network.model_io import load_model, new_model, save_model
from napari_unet.core.settings import NetworkSettings, PredictionSettings
from napari_unet.core.synthetic import generate
from napari_unet.stores.resumable import UnfinishedLabels, unfinished_folder

distributed = pytest.importorskip("distributed")

from napari_unet.cluster import Pool  # noqa: E402
from napari_unet.cluster import driver as cluster_driver  # noqa: E402
from napari_unet.cluster.driver import ClusterJob, predict  # noqa: E402
from napari_unet.cluster.pool import answered  # noqa: E402
from napari_unet.cluster.worker import Facts, Refusal, call  # noqa: E402

CHOSEN = PredictionSettings(device="cpu", precision="float32", threshold=0.45, smallest=3, tile=512)
OPTIONS = ["--device", "cpu", "--set", "precision=float32", "--set", "threshold=0.45", "--set", "smallest=3"]
THREADS = 3
"""Another number than the workers have by themselves."""
LIMIT = 240.0

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="relies on SIGKILL or on /proc")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a model whose rounding shows, a plane of six chunks, and a stack."""
    folder = tmp_path_factory.mktemp("cluster")
    torch.manual_seed(0)
    save_model(new_model(Card("tiny", NetworkSettings(width=8, depth=2), diameter=20.0, scale=1.0)), folder / "model")
    tile = generate("nuclei", (512, 512), 0, diameter=20, density=0.4)[0]
    tifffile.imwrite(folder / "cells.tif", np.tile(tile, (6, 3))[:2900, :1500])
    stack = np.stack([np.roll(tile[:300, :200], 17 * k, 0) for k in range(5)])
    stack[3] = 7
    tifffile.imwrite(folder / "stack.tif", stack, metadata={"axes": "ZYX"}, photometric="minisblack")
    return folder


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    """Return two local workers."""
    with Pool.local(2) as pool:
        yield pool


def outputs(path: Path, planes: Any, what: str) -> UnfinishedLabels:
    dtype = {"instances": np.uint32, "classes": np.uint8, "probabilities": np.float32}[what]
    return UnfinishedLabels(path, planes.shape, planes.plane_axes + "yx", np.dtype(dtype), {"what": what})


def result(path: Path) -> np.ndarray:
    return np.asarray(zarr.open_array(str(path), path="0")[...])


def here(folder: Path, picture: str, output: Path, chosen: PredictionSettings, threads: int = THREADS) -> np.ndarray:
    """Return what one process makes of a picture."""
    planes = stores.open_picture(folder / picture).planes
    with fixed_threads(threads), outputs(output, planes, chosen.what) as out:
        for _ in predict_here(load_model(folder / "model"), planes, out.array, settings=chosen, work=out.work):
            continue
        out.save()
    return result(output)


def job_of(pool: Pool, folder: Path, picture: str, out: UnfinishedLabels, chosen: PredictionSettings) -> ClusterJob:
    planes = stores.open_picture(folder / picture).planes
    return ClusterJob(
        pool, load_model(folder / "model"), str(folder / "model"), folder / picture, None, planes, out, chosen
    )


def there(
    pool: Pool, folder: Path, picture: str, output: Path, chosen: PredictionSettings = CHOSEN,
    watch: Callable[[Event], None] = lambda event: None, **more: Any,
) -> tuple[np.ndarray, list[Event]]:  # fmt: skip
    """Return what the workers make of a picture, and the events."""
    planes, events = stores.open_picture(folder / picture).planes, []
    with fixed_threads(THREADS), outputs(output, planes, chosen.what) as out:
        for event in predict(job_of(pool, folder, picture, out, chosen), **more):
            events.append(event)
            watch(event)
        out.save()
    return result(output), events


@pytest.fixture(scope="module")
def expected(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """Return the labels of the large plane from one process."""
    labels = here(folder, "cells.tif", tmp_path_factory.mktemp("expected") / "l.zarr", CHOSEN)
    assert labels.max() > 100
    return labels


def test_it_is_said_when_the_model_asks_for_mirrored_images(pool: Pool, folder: Path, tmp_path: Path) -> None:
    model = load_model(folder / "model")
    card = dataclasses.replace(model.card, prediction={"tta": True})
    save_model(dataclasses.replace(model, card=card), tmp_path / "model")
    (tmp_path / "stack.tif").write_bytes((folder / "stack.tif").read_bytes())
    for tta, said in ((True, 1), (False, 0)):
        chosen = dataclasses.replace(CHOSEN, tta=tta)
        _, events = there(pool, tmp_path, "stack.tif", tmp_path / f"{tta}.zarr", chosen)
        notes = [note for event in events if isinstance(event, Started) for note in event.notes]
        assert len([note for note in notes if "Test-time augmentation" in note]) == said


@linux
def test_a_worker_that_is_killed_loses_nothing(pool: Pool, folder: Path, expected: np.ndarray, tmp_path: Path) -> None:
    before = set(pool.everywhere(os.getpid).values())

    def kill(event: Event) -> None:
        if isinstance(event, TileDone) and event.done == 2:
            os.kill(min(before), signal.SIGKILL)

    labels, events = there(pool, folder, "cells.tif", tmp_path / "l.zarr", watch=kill)
    np.testing.assert_array_equal(labels, expected)
    assert sorted(e.done for e in events if isinstance(e, TileDone)) == [1, 2, 3, 4, 5, 6]
    assert {e.region for e in events if isinstance(e, TileDone)} >= {(0, 1024, 0, 1024), (2048, 2900, 1024, 1500)}
    assert isinstance(events[0], Started) and events[0].device.startswith("cpu, ")
    assert isinstance(events[-1], Finished) and events[-1].metrics == {"objects": float(labels.max())}
    assert min(before) not in pool.everywhere(os.getpid).values()
    assert [p.name for p in tmp_path.iterdir()] == ["l.zarr"]


def test_probabilities_are_the_same_to_the_last_bit_whatever_threads_a_worker_has(
    pool: Pool, folder: Path, tmp_path: Path
) -> None:
    assert set(pool.everywhere(torch.get_num_threads).values()) == {1}
    chosen = PredictionSettings(**{**vars(CHOSEN), "what": "probabilities"})
    whole = here(folder, "stack.tif", tmp_path / "a.zarr", chosen)
    np.testing.assert_array_equal(there(pool, folder, "stack.tif", tmp_path / "b.zarr", chosen)[0], whole)
    assert np.unique(whole).size > 1000


@pytest.mark.parametrize(
    ("picture", "changes"),
    [
        ("stack.tif", {"what": "classes"}),
        ("stack.tif", {"diameter": 26.0, "precision": "auto"}),
        ("cells.tif", {"what": "probabilities"}),
        ("cells.tif", {"diameter": 26.0, "boundary_erosion": 2, "holes": -1}),
        ("cells.tif", {"separation": "components"}),
    ],
    ids=str,
)
def test_other_settings(pool: Pool, folder: Path, tmp_path: Path, picture: str, changes: dict[str, Any]) -> None:
    chosen = PredictionSettings(**{**vars(CHOSEN), **changes})
    whole = here(folder, picture, tmp_path / "a.zarr", chosen)
    labels, events = there(pool, folder, picture, tmp_path / "b.zarr", chosen)
    np.testing.assert_array_equal(labels, whole)
    assert labels.any()
    assert [e.done for e in events if isinstance(e, PlaneDone)] == list(
        range(1, len(whole) + 1 if whole.ndim > 2 else 2)
    )
    if picture == "stack.tif":
        assert any(isinstance(e, Fallback) and "(3,) is constant" in e.message for e in events)


def test_doubtful_cells_are_dropped_by_workers_too(
    pool: Pool, folder: Path, expected: np.ndarray, tmp_path: Path
) -> None:
    chosen = dataclasses.replace(CHOSEN, min_peak=0.5)
    whole = here(folder, "cells.tif", tmp_path / "a.zarr", chosen)
    labels, _ = there(pool, folder, "cells.tif", tmp_path / "b.zarr", chosen)
    np.testing.assert_array_equal(labels, whole)
    assert 100 < whole.max() < expected.max()


def test_it_goes_on_where_it_was_stopped(pool: Pool, folder: Path, expected: np.ndarray, tmp_path: Path) -> None:
    told: list[Event] = []
    output = tmp_path / "l.zarr"
    planes = stores.open_picture(folder / "cells.tif").planes

    def tiles() -> int:
        return sum(isinstance(event, TileDone) for event in told)

    with fixed_threads(THREADS), outputs(output, planes, "instances") as out:
        for event in predict(job_of(pool, folder, "cells.tif", out, CHOSEN), stop=lambda: tiles() >= 2):
            told.append(event)
    assert [type(event) for event in told[-2:]] == [Stopped, Finished]
    assert not output.exists() and 2 <= tiles() < 6
    labels, events = there(pool, folder, "cells.tif", output)
    np.testing.assert_array_equal(labels, expected)
    assert len([e for e in events if isinstance(e, TileDone)]) <= 4
    assert not any(isinstance(e, Stopped) for e in events)


def test_planes_of_choice(pool: Pool, folder: Path, tmp_path: Path) -> None:
    labels, events = there(pool, folder, "stack.tif", tmp_path / "l.zarr", planes=[(1,), (4,)])
    assert {e.plane for e in events if isinstance(e, PlaneDone)} == {(1,), (4,)}
    assert [bool(plane.any()) for plane in labels] == [False, True, False, False, True]


def test_a_model_that_workers_do_not_see_travels_with_the_work(pool: Pool, folder: Path, tmp_path: Path) -> None:
    planes = stores.open_picture(folder / "stack.tif").planes
    model = load_model(folder / "model")
    with fixed_threads(THREADS), outputs(tmp_path / "l.zarr", planes, "instances") as out:
        # The name is one that means something else to every process.
        job = ClusterJob(pool, model, str(tmp_path / "moved"), folder / "stack.tif", None, planes, out, CHOSEN)
        assert isinstance(list(predict(job))[-1], Finished)
        assert (out.folder / cluster_driver.MODEL_NAME.format(0)).is_file()
        out.save()
    np.testing.assert_array_equal(result(tmp_path / "l.zarr"), here(folder, "stack.tif", tmp_path / "h.zarr", CHOSEN))


def test_data_that_cannot_be_used_is_one_error_from_far_away_too(pool: Pool, tmp_path: Path, folder: Path) -> None:
    with pytest.raises(DataError, match="The image is constant: every grey value is 7"):
        there(pool, folder, "stack.tif", tmp_path / "l.zarr", planes=[(3,)])
    tifffile.imwrite(tmp_path / "nan.tif", np.full((64, 64), np.nan, np.float32))
    os.symlink(folder / "model", tmp_path / "model")
    with pytest.raises(DataError, match="NaN or infinite"):
        there(pool, tmp_path, "nan.tif", tmp_path / "n.zarr")


@linux
def test_a_worker_that_does_not_see_the_picture(
    pool: Pool, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    hidden = Path("/proc/self/cwd/stack.tif")  # each process sees its own working directory there
    planes = stores.open_picture(hidden).planes
    with outputs(tmp_path / "l.zarr", planes, "instances") as out:
        job = ClusterJob(pool, load_model("model"), str(folder / "model"), hidden, None, planes, out, CHOSEN)
        with pytest.raises(ClusterError, match=r"The worker tcp://\S+ cannot take part: it does not see /proc/self/"):
            list(predict(job))


@linux
def test_a_worker_that_cannot_reach_the_output(
    pool: Pool, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    planes = stores.open_picture(folder / "stack.tif").planes
    with outputs(Path("/proc/self/cwd/l.zarr"), planes, "instances") as out:
        job = job_of(pool, folder, "stack.tif", out, CHOSEN)
        with pytest.raises(ClusterError, match=r"it cannot write the result: /proc/self/cwd/.*all workers share"):
            list(predict(job))


def test_another_picture_of_the_same_name_is_told(pool: Pool, folder: Path, tmp_path: Path) -> None:
    planes = stores.open_picture(folder / "stack.tif").planes
    with outputs(tmp_path / "l.zarr", planes, "instances") as out:
        spec = job_of(pool, folder, "stack.tif", out, CHOSEN).spec()
        other = ClusterJob(pool, load_model(folder / "model"), "m", folder / "cells.tif", None,
                    stores.open_picture(folder / "cells.tif").planes, out, CHOSEN).spec()  # fmt: skip
        mixed = spec.__class__(**{**vars(spec), "picture": other.picture})
        said = call("look", mixed)
    assert isinstance(said, Refusal) and "sees another picture" in said.message and "(2900, 1500)" in said.message


def test_workers_that_compute_in_different_ways_are_refused_or_told() -> None:
    one, other = Facts("cpu", "bfloat16", "AVX512", True, ""), Facts("cuda", "bfloat16", "AVX2", True, "")
    with pytest.raises(ClusterError, match="tcp://a in bfloat16 on cpu, tcp://b in bfloat16 on cuda. Give --device"):
        cluster_driver._compared({"tcp://a": one, "tcp://b": other})
    slower = Facts("cpu", "bfloat16", "AVX2", True, "")
    assert "AVX2, AVX512" in cluster_driver._compared({"tcp://a": one, "tcp://b": slower})[0]
    assert cluster_driver._compared({"tcp://a": one, "tcp://b": one}) == ()


def test_errors_come_back_as_what_they_were() -> None:
    assert isinstance(answered(Refusal("DataError", "bad", "tcp://a")), DataError)
    error = answered(Refusal("ClusterError", "it has torch 1, but the job was begun with 2.", "tcp://a"))
    assert str(error) == "The worker tcp://a cannot take part: it has torch 1, but the job was begun with 2."
    assert answered(17) is None


@contextlib.contextmanager
def scheduler(folder: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start a scheduler that leaves its address in a file; what is given starts a worker."""
    file, started = folder / "scheduler.json", []

    def start(name: str, *words: str, **environment: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"distributed.cli.dask_{name}", "--scheduler-file", str(file), *words]
        started.append(subprocess.Popen(
            command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, **environment}
        ))  # fmt: skip
        return started[-1]

    try:
        start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        until(file.exists)
        yield lambda **environment: start("worker", "--no-nanny", "--nthreads", "1", **environment)
    finally:
        for process in started:
            process.kill()
            process.wait()


def until(reached: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT
    while not reached():
        assert time.monotonic() < end, "it did not get so far"
        time.sleep(0.02)


def chunks_done(output: Path) -> int:
    notes = unfinished_folder(output) / "done.jsonl"
    return notes.read_bytes().count(b'"chunk') if notes.exists() else 0


@linux
def test_the_command_goes_on_after_kill_9_of_workers_and_of_itself(folder: Path, tmp_path: Path) -> None:
    output, words = tmp_path / "l.zarr", ["segment", str(folder / "cells.tif")]
    options = ["--model", str(folder / "model"), *OPTIONS]
    with scheduler(tmp_path) as worker:
        first = worker()
        command = [*words, str(output), *options, "--scheduler", str(tmp_path / "scheduler.json")]
        process = subprocess.Popen([sys.executable, "-m", "napari_unet", *command], stderr=subprocess.DEVNULL)
        try:
            until(lambda: chunks_done(output) >= 1)
            first.kill()
            first.wait()
            worker()
            done = chunks_done(output)
            until(lambda: chunks_done(output) > done)
        finally:
            process.kill()
            process.wait()
        assert not output.exists()
        assert main(command) == 0
    assert main([*words, str(tmp_path / "one.zarr"), *options]) == 0
    np.testing.assert_array_equal(result(output), result(tmp_path / "one.zarr"))


@linux
def test_ctrl_c_ends_all_processes_and_keeps_what_is_done(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "l.zarr"
    words = ["segment", str(folder / "cells.tif"), str(output), "--model", str(folder / "model"), *OPTIONS]
    process = subprocess.Popen(
        [sys.executable, "-m", "napari_unet", *words, "--set", "tta=yes", "--workers", "2"],
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        until(lambda: chunks_done(output) >= 1)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to all processes at once
        _, said = process.communicate(timeout=LIMIT)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130 and not output.exists() and chunks_done(output) >= 1
    assert "finished chunks are kept; run the same command to resume" in said
    assert not [word for word in ("Dask Worker process", "KeyboardInterrupt", "leaked semaphore") if word in said], said


@linux
@pytest.mark.parametrize("moment", ["workers start", "workers load"])
def test_ctrl_c_before_the_first_part_is_answered_without_a_traceback(
    folder: Path, tmp_path: Path, moment: str
) -> None:
    output = tmp_path / "l.zarr"
    words = ["segment", str(folder / "cells.tif"), str(output), "--model", str(folder / "model"), *OPTIONS]
    process = subprocess.Popen(
        [sys.executable, "-m", "napari_unet", *words, "--workers", "2"], stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    begun = {
        "workers start": lambda: len(children(process.pid)) > 0,
        "workers load": lambda: (unfinished_folder(output) / "job.json").exists(),
    }
    try:
        until(begun[moment])
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=LIMIT)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130 and "stopped" in said
    assert "Traceback" not in said and "error" not in said, said


def children(pid: int) -> list[str]:
    """Return the command lines of the workers that a process has begun."""
    import psutil

    found = []
    for child in psutil.Process(pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            found.append(" ".join(child.cmdline()))
    return [line for line in found if "spawn_main" in line]


def test_a_call_that_takes_long_is_given_up_when_stopped(pool: Pool) -> None:
    begin = time.monotonic()
    assert pool.patiently(lambda: time.monotonic() > begin + 0.5, time.sleep, 5) is None
    assert set(pool.patiently(lambda: False, os.getpid).values()) == set(pool.everywhere(os.getpid).values())


def test_a_worker_of_another_version_is_named(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = tmp_path / "old" / "torch-1.2.3.dist-info"
    old.mkdir(parents=True)
    (old / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 1.2.3\n")
    with scheduler(tmp_path) as worker:
        worker(PYTHONPATH=str(old.parent))
        command = ["segment", str(folder / "stack.tif"), str(tmp_path / "l.zarr"), "--model", str(folder / "model")]
        assert main([*command, "--scheduler", str(tmp_path / "scheduler.json")]) == 1
    said = capsys.readouterr().err
    assert "The worker tcp://" in said and "has torch 1.2.3, but this computer has torch 2." in said


def test_a_scheduler_that_goes_is_told(folder: Path, tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        worker = stack.enter_context(scheduler(tmp_path))
        worker()
        pool = stack.enter_context(Pool.connect(str(tmp_path / "scheduler.json")))

        def leave(event: Event) -> None:
            if isinstance(event, TileDone):
                (address,) = [p for p in processes(tmp_path) if "dask_scheduler" in p[1]]
                os.kill(address[0], signal.SIGKILL)

        with pytest.raises(ClusterError, match="has gone. Finished chunks are kept"):
            there(pool, folder, "cells.tif", tmp_path / "l.zarr", watch=leave)


def processes(folder: Path) -> list[tuple[int, str]]:
    """Return the processes that name a folder in their command line."""
    import psutil

    found = []
    for process in psutil.process_iter(["pid", "cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        if str(folder) in line:
            found.append((process.info["pid"], line))
    return found


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["o.tif", "--workers", "2"], 1, "cannot be written by several processes at once; give .* ends in .zarr"),
        (["o.zarr", "--workers", "0"], 2, "--workers is 0, but has to be at least 1"),
        (["o.zarr", "--scheduler", "gone.json"], 1, "There is no file gone.json"),
    ],
)
def test_what_cannot_work_is_said_before_anything_begins(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    words: list[str], code: int, message: str,
) -> None:  # fmt: skip
    import re

    monkeypatch.chdir(tmp_path)
    assert main(["segment", str(folder / "stack.tif"), *words, "--model", str(folder / "model")]) == code
    assert re.search(message, capsys.readouterr().err)
    assert not list(tmp_path.iterdir())


def test_both_ways_at_once_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["segment", "a.tif", "b.zarr", "--workers", "2", "--scheduler", "tcp://a:1"])
    assert "argument --scheduler: not allowed with argument --workers" in capsys.readouterr().err


def test_a_scheduler_that_does_not_answer() -> None:
    with pytest.raises(ClusterError, match=r"No scheduler answers at tcp://127.0.0.1:1 within 0.5 s; start one"):
        Pool.connect("tcp://127.0.0.1:1", timeout=0.5)
    with pytest.raises(ClusterError, match="No scheduler answers at nonsense"):
        Pool.connect("nonsense", timeout=0.5)


def test_what_to_install_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ClusterError, match=r'pip install "napari-interactive-unet\[cluster\]"'):
        Pool.connect("tcp://127.0.0.1:1")
    with pytest.raises(SettingsError, match="at least 1"):
        Pool.local(0)
