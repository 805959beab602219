from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from conftest import cells_picture
from napari_unet.core.data.arrays import Planes, resample
from napari_unet.core.events import Fallback, Finished, PlaneDone, Stopped, TileDone
from napari_unet.core.inference import chunked
from napari_unet.core.inference import predict as predict_module
from napari_unet.core.inference.chunked import LargePlane, MemoryWorkspace, PlaneOf, Scaled, is_large, plane_key
from napari_unet.core.inference.predict import Predictor, predict
from napari_unet.core.network.model_io import Model
from napari_unet.core.settings import PredictionSettings

EXACT = PredictionSettings(device="cpu", precision="float32", tile=64, threshold=0.4, smallest=3, seed_height=0.02)
Make = Callable[..., Model]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let planes count as chunked from 1000 pixels on, and chunks have 64."""
    monkeypatch.setattr(chunked, "HELD", 1000)
    monkeypatch.setattr(chunked, "SIDE", 64)
    monkeypatch.setattr(chunked, "CHUNK", 32)


def run(model: Model, image: Planes, chosen: PredictionSettings = EXACT, **more: Any) -> tuple[np.ndarray, list[Any]]:
    dtype = {"instances": np.int32, "classes": np.uint8, "probabilities": np.float32}[chosen.what]
    output = np.full(image.shape, 99, dtype)
    return output, list(predict(model, image, output, settings=chosen, **more))


def held(monkeypatch: pytest.MonkeyPatch, *arguments: Any, **more: Any) -> np.ndarray:
    """Return the result of a prediction that holds its planes in memory."""
    with monkeypatch.context() as patch:
        patch.setattr(chunked, "HELD", 10**9)
        return run(*arguments, **more)[0]


def picture() -> Planes:
    return Planes(cells_picture(side=200)[0][:, :150], "yx")


@pytest.mark.parametrize("separation", ["distance", "components"])
def test_a_plane_by_chunks_is_the_plane_at_once(
    tiny_model: Make, monkeypatch: pytest.MonkeyPatch, separation: str
) -> None:
    model, chosen = tiny_model(), dataclasses.replace(EXACT, separation=separation)
    got, events = run(model, picture(), chosen)
    np.testing.assert_array_equal(got, held(monkeypatch, model, picture(), chosen))
    assert got.max() > 3
    tiles = [e for e in events if isinstance(e, TileDone)]
    assert [t.done for t in tiles] == list(range(1, 13)) and {t.total for t in tiles} == {12}
    assert tiles[-1].region == (192, 200, 128, 150)
    assert isinstance(events[-1], Finished) and events[-1].metrics == {"objects": float(got.max())}


@pytest.mark.parametrize("what", ["probabilities", "classes"])
@pytest.mark.parametrize("diameter", [0.0, 14.0])
def test_other_results(tiny_model: Make, monkeypatch: pytest.MonkeyPatch, what: str, diameter: float) -> None:
    model = tiny_model(classes=("background", "a", "b"), diameter=10.0)
    chosen = dataclasses.replace(EXACT, what=what, diameter=diameter)
    got, _ = run(model, picture(), chosen)
    expected = held(monkeypatch, model, picture(), chosen)
    if what == "probabilities":
        np.testing.assert_allclose(got, expected, atol=2e-5)
    else:
        assert (got == expected).mean() > 0.999 and len(np.unique(got)) > 1


def test_a_scaled_plane(tiny_model: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model(diameter=10.0)
    for diameter in (7.0, 15.0):
        chosen = dataclasses.replace(EXACT, diameter=diameter)
        got, events = run(model, picture(), chosen)
        expected = held(monkeypatch, model, picture(), chosen)
        assert got.max() > 3 and ((got > 0) == (expected > 0)).mean() > 0.995
        last = [e for e in events if isinstance(e, TileDone)][-1]
        assert (last.region[1], last.region[3]) == (200, 150)


def test_the_gap_of_a_scaled_plane_is_as_wide_as_it_is_there(tiny_model: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[PredictionSettings] = []
    original = predict_module.LargePlane

    def watching(*arguments: Any) -> Any:
        seen.extend(a for a in arguments if isinstance(a, PredictionSettings))
        return original(*arguments)

    monkeypatch.setattr(predict_module, "LargePlane", watching)
    run(tiny_model(diameter=10.0), picture(), dataclasses.replace(EXACT, diameter=20.0))
    assert [settings.boundary_erosion for settings in seen] == [4]


def test_an_output_of_16_bits_has_room_for_the_final_labels_alone(tiny_model: Make) -> None:
    image, model = picture(), tiny_model()
    expected, _ = run(model, image)
    small = np.zeros(image.shape, np.uint16)
    list(predict(model, image, small, settings=EXACT))
    np.testing.assert_array_equal(small, expected)


class Broken(Exception):
    """What a crash looks like from within."""


class Frail(MemoryWorkspace):
    """A workspace that breaks down after so many notes."""

    def __init__(self, notes: int) -> None:
        super().__init__()
        self.left = notes

    def remember(self, key: str, value: Any) -> None:
        self.left -= 1
        if self.left < 0:
            raise Broken
        super().remember(key, value)


@pytest.mark.parametrize("notes", [1, 2, 7, 13, 14, 20])
def test_a_job_goes_on_where_it_broke_down(tiny_model: Make, computed: list[int], notes: int) -> None:
    model = tiny_model()
    stack = Planes(np.stack([cells_picture(side=200, seed=n)[0][:, :150] for n in range(2)]), "zyx")
    expected, events = run(model, stack)
    work, output = Frail(notes), np.full(stack.shape, 99, np.int32)
    with pytest.raises(Broken):
        list(predict(model, stack, output, settings=EXACT, work=work))
    done = sum(key.startswith("chunk") for key in work._notes)
    work.left = 10**6
    computed.clear()
    again = list(predict(model, stack, output, settings=EXACT, work=work))
    np.testing.assert_array_equal(output, expected)
    assert [e.objects for e in again if isinstance(e, PlaneDone)] == [
        e.objects for e in events if isinstance(e, PlaneDone)
    ]
    assert again[-1].metrics == events[-1].metrics
    assert len(computed) == 24 - done
    assert not work._arrays  # nothing of the finished planes is left


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows with every tile that the network computes."""
    calls: list[int] = []
    original = Predictor.run

    def counting(self: Predictor, block: np.ndarray) -> dict[str, np.ndarray]:
        calls.append(block.shape[-1])
        return original(self, block)

    monkeypatch.setattr(Predictor, "run", counting)
    return calls


def test_stopping_is_answered_within_one_tile_and_gone_on_from(tiny_model: Make) -> None:
    model, work = tiny_model(), MemoryWorkspace()
    chosen = dataclasses.replace(EXACT, tile=32)  # four tiles a chunk
    expected, _ = run(model, picture(), chosen)
    output = np.full(picture().shape, 99, np.int32)
    asked: Iterator[bool] = iter([False] * 12)
    events = list(predict(model, picture(), output, settings=chosen, work=work, stop=lambda: next(asked, True)))
    assert isinstance(events[-2], Stopped) and events[-1].step == 0
    done = sum(isinstance(e, TileDone) for e in events)
    assert 0 < done < 12 and work.recall(plane_key(())) is None
    list(predict(model, picture(), output, settings=chosen, work=work))
    np.testing.assert_array_equal(output, expected)


def test_stopping_while_cells_are_told_apart(tiny_model: Make) -> None:
    model, work, output = tiny_model(), MemoryWorkspace(), np.full(picture().shape, 99, np.int32)
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > 30

    events = list(predict(model, picture(), output, settings=EXACT, work=work, stop=stop))
    assert sum(isinstance(e, TileDone) for e in events) == 12 and isinstance(events[-2], Stopped)
    list(predict(model, picture(), output, settings=EXACT, work=work))
    np.testing.assert_array_equal(output, run(model, picture())[0])


def test_constant_planes_and_small_ones_are_recorded_too(tiny_model: Make) -> None:
    stack = np.random.default_rng(0).random((3, 30, 30))
    stack[1] = 7
    model, work = tiny_model(), MemoryWorkspace()
    output = np.full(stack.shape, 99, np.int32)
    events = list(predict(model, Planes(stack, "zyx"), output, settings=EXACT, work=work))
    assert any(isinstance(e, Fallback) and "Plane (1,) is constant" in e.message for e in events)
    counts = [work.recall(plane_key((n,))) for n in range(3)]
    assert counts == [int(p.max()) for p in output] and counts[1] == 0
    output[:] = 55
    again = list(predict(model, Planes(stack, "zyx"), output, settings=EXACT, work=work))
    assert (output == 55).all() and not any(isinstance(e, TileDone) for e in again)


def test_the_tile_of_the_first_run_is_kept(tiny_model: Make) -> None:
    model, work = tiny_model(), MemoryWorkspace()
    work.remember("tile", 32)
    auto = dataclasses.replace(EXACT, tile=0)
    got = np.zeros(picture().shape, np.int32)
    list(predict(model, picture(), got, settings=auto, work=work))
    assert work.recall("tile") == 32
    np.testing.assert_array_equal(got, run(model, picture(), dataclasses.replace(EXACT, tile=32))[0])


def test_scaled_arrays_are_read_by_regions() -> None:
    array = np.random.default_rng(0).integers(0, 65535, (3, 40, 50)).astype(np.uint16)
    view = Scaled(array, (90, 31))
    assert view.shape == (3, 90, 31)
    whole = resample(array, (90, 31))
    np.testing.assert_array_equal(view[slice(None), slice(0, 90), slice(0, 31)], whole)
    np.testing.assert_array_equal(view[slice(1, 2), slice(7, 33), slice(5, 6)], whole[1:2, 7:33, 5:6])


def test_a_plane_of_an_output() -> None:
    array = np.zeros((2, 3, 4, 5), np.int32)
    view = PlaneOf(array, (1, 2))
    view[slice(0, 2), slice(1, 3)] = 7
    assert view.shape == (4, 5) and view.dtype == np.int32
    assert (array[1, 2, :2, 1:3] == 7).all() and array.sum() == 28
    assert (view[slice(0, 1), slice(0, 5)] == [[0, 7, 7, 0, 0]]).all()


def test_what_is_large() -> None:
    assert is_large((5, 50, 21)) and not is_large((5, 50, 20))


def test_only_what_is_wanted_is_kept() -> None:
    for what, distance, names in (
        ("instances", True, {"foreground", "distance"}), ("instances", False, {"foreground"}),
        ("probabilities", True, {"foreground"}), ("classes", True, {"classes"}),
    ):  # fmt: skip
        plane = LargePlane(
            MemoryWorkspace(), (4,), (70, 80), (70, 80), dataclasses.replace(EXACT, what=what), 3, distance
        )
        assert set(plane._maps) == names
