"""Reading, network and writing at the same time: the same result, the same errors, little held, stopped at once."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from conftest import cells_picture
from napari_unet.core.data.arrays import Planes
from napari_unet.core.errors import OutOfMemoryError, StoreError
from napari_unet.core.events import Fallback, PlaneDone, Stopped, TileDone
from napari_unet.core.inference import chunked as large
from napari_unet.core.inference.chunked import MemoryWorkspace
from napari_unet.core.inference.predict import Predictor, predict
from napari_unet.core.inference.tiled import Underway
from napari_unet.core.network.device import Compute
from napari_unet.core.network.model_io import Model
from napari_unet.core.network.unet import UNet
from napari_unet.core.settings import PredictionSettings

EXACT = PredictionSettings(device="cpu", precision="float32", tile=64, threshold=0.4, smallest=3, seed_height=0.02)
Make = Callable[..., Model]


@pytest.fixture
def chunked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let planes count as large from 1000 pixels on, and chunks have 64."""
    monkeypatch.setattr(large, "HELD", 1000)
    monkeypatch.setattr(large, "SIDE", 64)
    monkeypatch.setattr(large, "CHUNK", 32)


class Watched:
    """An array that notes which thread reads it and how often, and breaks at one plane."""

    def __init__(self, values: np.ndarray, read_ahead: bool = True, broken: int | None = None) -> None:
        self.values, self.read_ahead, self.broken = values, read_ahead, broken
        self.shape, self.dtype = values.shape, values.dtype
        self.threads: set[int] = set()
        self.planes: list[int] = []

    def __getitem__(self, key: Any) -> np.ndarray:
        self.threads.add(threading.get_ident())
        if len(self.shape) == 3:
            self.planes.append(key[0])
            if key[0] == self.broken:
                raise StoreError(f"cells.tif cannot be read: page {key[0]} is cut off.")
        return self.values[key]


def stack(count: int = 3) -> np.ndarray:
    return np.stack([cells_picture(side=200, seed=n)[0][:, :150] for n in range(count)])


def run(model: Model, image: Planes, **more: Any) -> tuple[np.ndarray, list[Any]]:
    output = np.full(image.shape, 99, np.int32)
    return output, list(predict(model, image, output, settings=EXACT, **more))


def told(events: list[Any]) -> list[Any]:
    """Return the events without their times."""
    times = {"elapsed": 0.0, "remaining": None}
    return [
        dataclasses.replace(e, **{k: v for k, v in times.items() if k in {f.name for f in dataclasses.fields(e)}})
        for e in events
    ]


@pytest.mark.parametrize("size", ["held", "chunks"])
def test_reading_in_another_thread_changes_nothing(tiny_model: Make, request: pytest.FixtureRequest, size: str) -> None:
    if size == "chunks":
        request.getfixturevalue("chunked")
    model, me = tiny_model(), {threading.get_ident()}
    ahead, here = Watched(stack()), Watched(stack(), read_ahead=False)
    (one, events), (other, same) = (run(model, Planes(array, "zyx")) for array in (ahead, here))
    np.testing.assert_array_equal(one, other)
    assert one.max() > 3 and told(events) == told(same)
    assert here.threads == me and not ahead.threads & me


def test_tiles_are_told_before_their_plane_and_after_the_one_before(tiny_model: Make) -> None:
    _, events = run(tiny_model(), Planes(stack(), "zyx"))
    planes = [e.plane[0] for e in events if isinstance(e, (TileDone, PlaneDone))]
    assert planes == sorted(planes) and planes.count(0) == 13


@pytest.mark.parametrize("size", ["held", "chunks"])
def test_an_error_of_reading_is_raised_as_it_is_and_planes_before_it_are_done(
    tiny_model: Make, request: pytest.FixtureRequest, size: str
) -> None:
    if size == "chunks":
        request.getfixturevalue("chunked")
    model, image, output = tiny_model(), Watched(stack(), broken=2), np.full((3, 200, 150), 99, np.int32)
    done = []
    with pytest.raises(StoreError, match="page 2 is cut off"):
        for event in predict(model, Planes(image, "zyx"), output, settings=EXACT):
            done += [event.plane] if isinstance(event, PlaneDone) else []
    assert done == [(0,), (1,)] and (output[2] == 99).all()
    np.testing.assert_array_equal(output[:2], run(model, Planes(stack(), "zyx"))[0][:2])


class Full(np.ndarray):
    """An output that is full."""

    def __setitem__(self, key: Any, value: Any) -> None:
        raise StoreError("labels.zarr cannot be written: the disk is full.")


class FullWorkspace(MemoryWorkspace):
    """A workspace whose arrays are full."""

    def array(self, name: str, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: Any) -> Any:
        return np.zeros(shape, dtype).view(Full)


def test_an_error_of_writing_is_raised_as_it_is(tiny_model: Make) -> None:
    image = Planes(stack(), "zyx")
    with pytest.raises(StoreError, match="the disk is full"):
        list(predict(tiny_model(), image, np.zeros(image.shape, np.int32).view(Full), settings=EXACT))


@pytest.mark.usefixtures("chunked")
def test_an_error_of_the_workspace_is_raised_as_it_is(tiny_model: Make) -> None:
    image = Planes(stack(), "zyx")
    with pytest.raises(StoreError, match="the disk is full"):
        list(predict(tiny_model(), image, np.zeros(image.shape, np.int32), settings=EXACT, work=FullWorkspace()))


def test_few_planes_are_read_ahead(tiny_model: Make) -> None:
    image, furthest = Watched(stack(12)), []
    for event in predict(tiny_model(), Planes(image, "zyx"), np.zeros(image.shape, np.int32), settings=EXACT):
        if isinstance(event, PlaneDone):
            furthest.append(max(image.planes) - event.plane[0])
    assert len(furthest) == 12 and max(furthest) <= 4


def test_after_a_stop_no_tile_is_computed_and_no_thread_left(tiny_model: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[int] = []
    original = Predictor.run

    def counting(self: Predictor, block: np.ndarray) -> dict[str, np.ndarray]:
        computed.append(block.shape[-1])
        return original(self, block)

    monkeypatch.setattr(Predictor, "run", counting)
    before = threading.active_count()
    _, events = run(tiny_model(), Planes(stack(), "zyx"), stop=lambda: len(computed) >= 15)
    assert len(computed) == 15 == sum(isinstance(e, TileDone) for e in events)
    assert isinstance(events[-2], Stopped) and events[-2].step == 1
    assert threading.active_count() == before


def test_a_job_that_is_given_up_leaves_no_thread(tiny_model: Make) -> None:
    # Threads of earlier tests may end meanwhile.
    before = set(threading.enumerate())
    image = Planes(stack(), "zyx")
    steps = predict(tiny_model(), image, np.zeros(image.shape, np.int32), settings=EXACT)
    assert [type(next(steps)).__name__ for _ in range(3)] == ["Started", "TileDone", "TileDone"]
    steps.close()  # type: ignore[attr-defined]
    assert set(threading.enumerate()) <= before


@pytest.mark.usefixtures("chunked")
def test_out_of_memory_between_chunks_loses_none(tiny_model: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    model, image, calls = tiny_model(), Planes(stack(1)[0], "yx"), []
    settings = dataclasses.replace(EXACT, tile=256)
    monkeypatch.setattr(large, "SIDE", 256)
    monkeypatch.setattr(large, "HELD", 10**9)
    expected, _ = run(model, image)
    monkeypatch.setattr(large, "HELD", 1000)
    original = Predictor.run

    def failing(self: Predictor, block: np.ndarray) -> dict[str, np.ndarray]:
        calls.append(block.shape[-1])
        if len(calls) == 1:
            raise OutOfMemoryError("Out of memory on cpu")
        return original(self, block)

    monkeypatch.setattr(Predictor, "run", failing)
    output = np.full(image.shape, 99, np.int32)
    events = list(predict(model, image, output, settings=settings))
    assert [e.message[:16] for e in events if isinstance(e, Fallback)] == ["Too little memor"]
    assert len(calls) > 1 and calls[1] < calls[0]
    np.testing.assert_array_equal(output, expected)


@pytest.mark.usefixtures("chunked")
def test_a_constant_plane_of_a_large_stack_is_cleared(tiny_model: Make) -> None:
    values = stack(2)
    values[0] = 7
    output, events = run(tiny_model(), Planes(values, "zyx"))
    assert not output[0].any() and output[1].max() > 3
    assert [e.objects for e in events if isinstance(e, PlaneDone)] == [0, output[1].max()]


class Card:
    """Stands for a graphics card, and notes what is asked of it."""

    def __init__(self) -> None:
        self.log: list[str] = []

    def begin(self, block: np.ndarray) -> Underway:
        name = f"{block[0, 0, 0]:.0f}"
        self.log.append(f"begin {name}")
        ready = SimpleNamespace(synchronize=lambda: self.log.append(f"wait {name}"))
        return Underway({"classes": torch.from_numpy(block * 2)}, ready)


def test_a_card_is_given_the_next_block_before_the_last_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    card = Card()
    monkeypatch.setattr(Predictor, "begin", lambda self, block: card.begin(block))
    predictor = Predictor(UNet(1, 2, 2, 1), Compute(SimpleNamespace(type="cuda"), torch.float32))  # type: ignore[arg-type]
    blocks = ((n, np.full((1, 3, 3), n, np.float32)) for n in range(3))
    found = {key: float(values["classes"][0, 0, 0]) for key, values in predictor.results(blocks)}
    assert found == {0: 0, 1: 2, 2: 4}
    assert card.log == ["begin 0", "begin 1", "wait 0", "begin 2", "wait 1", "wait 2"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("tta", [False, True])
def test_a_card_gives_the_same_when_it_is_kept_busy(tiny_model: Make, precision: str, tta: bool) -> None:
    compute = Compute(torch.device("cuda", 0), getattr(torch, precision))
    predictor = Predictor.create(tiny_model().network, compute, tta)
    side = predictor.network.geometry.input_size(40)
    blocks = {n: np.random.default_rng(n).random((1, side, side)).astype(np.float32) for n in range(12)}
    alone = {n: {name: v.copy() for name, v in predictor.run(block).items()} for n, block in blocks.items()}
    for n, values in predictor.results(blocks.items()):
        for name, found in values.items():
            np.testing.assert_array_equal(found, alone[n][name])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.usefixtures("chunked")
def test_a_large_plane_on_a_card_is_that_of_the_processor(tiny_model: Make) -> None:
    model, image = tiny_model(), Planes(stack(1)[0], "yx")
    expected, _ = run(model, image)
    output = np.zeros(image.shape, np.int32)
    list(predict(model, image, output, settings=dataclasses.replace(EXACT, device="cuda")))
    assert ((output > 0) == (expected > 0)).mean() > 0.999
