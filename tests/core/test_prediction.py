from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from conftest import cells_picture, discs
from napari_unet.core.data.arrays import Normalisation, Planes, plane_normalisation, resample
from napari_unet.core.data.rescale import at_own_size
from napari_unet.core.errors import DataError, ModelError, OutOfMemoryError, SettingsError
from napari_unet.core.events import Fallback, Finished, PlaneDone, Started, Stopped, TileDone
from napari_unet.core.inference import model_selection
from napari_unet.core.inference import predict as predict_module
from napari_unet.core.inference import tiled as predictor
from napari_unet.core.inference.predict import Predictor, choose_tile, predict, predict_region, prediction_scale
from napari_unet.core.instances.pipeline import labels_from_outputs
from napari_unet.core.network.device import Compute
from napari_unet.core.network.model_card import Card, bundled_folder
from napari_unet.core.network.model_io import Model, load_model
from napari_unet.core.network.unet import UNet
from napari_unet.core.settings import PredictionSettings

CPU = Compute(torch.device("cpu"), torch.float32)
EXACT = PredictionSettings(device="cpu", precision="float32")
Make = Callable[..., Model]


def network(channels: int, depth: int, padding: str, norm: str, seed: int = 0) -> UNet:
    """Return a small network with weights and batch statistics that are not trivial."""
    torch.manual_seed(seed)
    net = UNet(channels, 2, 3, depth, padding, norm, distance=True).eval()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.normal_(module.weight, 1, 0.2)
    return net


def whole(predictor: Predictor, image: np.ndarray) -> dict[str, np.ndarray]:
    """Return the outputs of the whole picture at once, its context mirrored by numpy."""
    geometry = predictor.network.geometry
    height, width = image.shape[-2:]
    pads = []
    for size in (height, width):
        length = geometry.input_size(geometry.bottom_for(size)[0])
        pads.append((geometry.margin, length - size - geometry.margin))
    padded = image
    for axis, (size, pad) in enumerate(zip((height, width), pads, strict=True), start=1):
        both = [(0, 0), (0, 0), (0, 0)]
        both[axis] = pad
        padded = np.pad(padded, both, mode="reflect" if size > 1 else "edge")
    flips: list[tuple[int, ...]] = [(), (1,), (2,), (1, 2)] if predictor.tta else [()]
    total: dict[str, np.ndarray] = {}
    for flip in flips:
        with torch.inference_mode():
            x = torch.from_numpy(np.flip(padded, flip).copy())[None]
            out = predictor.network.split(predictor.network(x, padding="valid"))
        for name, values in out.items():
            part = (torch.softmax(values, 1) if name == "classes" else values)[0].numpy()
            total[name] = total.get(name, 0) + np.flip(part, flip)[:, :height, :width] / len(flips)
    return total


TOLERANCE = 1e-4


def difference(net: UNet, shape: tuple[int, int], tile: int, tta: bool = False, box: Any = None) -> float:
    """Return the largest difference between a region in tiles and the same of the whole picture at once."""
    image = np.random.default_rng(shape).normal(0.5, 0.5, (net.in_channels, *shape)).astype(np.float32)
    predictor = Predictor.create(net, CPU, tta)
    identity = Normalisation((0.0,) * net.in_channels, (1.0,) * net.in_channels)
    expected = whole(predictor, np.clip(image, -1, 4))
    y0, y1, x0, x1 = box or (0, shape[0], 0, shape[1])
    got = predict_region(predictor, Planes(image, "cyx"), (), (y0, y1, x0, x1), identity, tile)
    assert {name: values.dtype for name, values in got.items()} == {"classes": np.float32, "distance": np.float32}
    parts = {name: values[:, y0:y1, x0:x1] for name, values in expected.items()}
    assert all(values.shape == parts[name].shape for name, values in got.items())
    return max(float(np.abs(values - parts[name]).max()) for name, values in got.items())


kinds = {"channels": st.integers(1, 3), "depth": st.integers(2, 4), "padding": st.sampled_from(["valid", "same"]),
         "norm": st.sampled_from(["none", "batch"])}  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(height=st.integers(1, 400), width=st.integers(1, 150), tile=st.integers(68, 1028), tta=st.booleans(), **kinds)
def test_tiled_equals_whole(
    height: int, width: int, tile: int, tta: bool, channels: int, depth: int, padding: str, norm: str
) -> None:
    assert difference(network(channels, depth, padding, norm), (height, width), tile, tta) <= TOLERANCE


@settings(max_examples=30, deadline=None)
@given(height=st.integers(1, 60), width=st.integers(1, 60), tile=st.integers(16, 40), tta=st.booleans(), **kinds)
def test_many_small_tiles_of_pictures_smaller_than_the_margin(
    height: int, width: int, tile: int, tta: bool, channels: int, depth: int, padding: str, norm: str
) -> None:
    assert difference(network(channels, depth, padding, norm), (height, width), tile, tta) <= TOLERANCE


@pytest.mark.parametrize("shape", [(2000, 5), (1, 1999), (1, 1), (2, 2)])
def test_thin_pictures(shape: tuple[int, int]) -> None:
    assert difference(network(1, 3, "same", "batch"), shape, 68) <= TOLERANCE


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_a_region_is_a_part_of_the_whole(data: st.DataObject) -> None:
    y0, x0 = data.draw(st.integers(0, 119)), data.draw(st.integers(0, 89))
    y1, x1 = data.draw(st.integers(y0 + 1, 120)), data.draw(st.integers(x0 + 1, 90))
    net, tile = network(2, 3, "same", "batch"), data.draw(st.integers(8, 100))
    assert difference(net, (120, 90), tile, box=(y0, y1, x0, x1)) <= TOLERANCE


def run(model: Model, image: Planes, chosen: PredictionSettings = EXACT, **more: Any) -> tuple[np.ndarray, list[Any]]:
    kind = {"instances": np.int32, "classes": np.uint8, "probabilities": np.float32}[chosen.what]
    output = np.full(image.shape, 99, kind)
    return output, list(predict(model, image, output, settings=chosen, **more))


def untrained_cells(tiny_model: Make) -> tuple[Model, Planes]:
    """Return a model and a picture on which it finds a fair number of things."""
    image, _ = cells_picture(side=150)
    model, planes = tiny_model(depth=3), Planes(image, "yx")
    middle = np.median(run(model, planes, dataclasses.replace(EXACT, what="probabilities"))[0])
    with torch.no_grad():  # half of the picture is foreground then
        model.network.head.bias[1] -= float(np.log(middle / (1 - middle)))
    return model, planes


@pytest.mark.parametrize("tile", [16, 68, 100, 512])
def test_the_same_instances_for_any_tile_size(tiny_model: Make, tile: int) -> None:
    model, image = untrained_cells(tiny_model)
    expected, _ = run(model, image)
    assert expected.max() > 3
    got, events = run(model, image, dataclasses.replace(EXACT, tile=tile))
    np.testing.assert_array_equal(got, expected)
    tiles = [e for e in events if isinstance(e, TileDone)]
    assert (len(tiles) > 1) == (tile < 150) and tiles[-1].done == tiles[-1].total == len(tiles)
    covered = np.zeros(image.shape, int)
    for event in tiles:
        y0, y1, x0, x1 = event.region
        covered[y0:y1, x0:x1] += 1
    assert (covered == 1).all()


def test_normalisation_is_that_of_the_whole_plane(tiny_model: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = untrained_cells(tiny_model)
    image = Planes(np.random.default_rng(0).random((90, 90)) + np.linspace(0, 9, 90), "yx")
    seen = []
    original = Predictor.run

    def watching(self: Predictor, block: np.ndarray) -> dict[str, np.ndarray]:
        seen.append(block)
        return original(self, block)

    monkeypatch.setattr(Predictor, "run", watching)
    run(model, image, dataclasses.replace(EXACT, tile=16))
    raw = predictor.read_mirrored(image, (), -44, -44 + seen[0].shape[1], -44, -44 + seen[0].shape[2])
    np.testing.assert_allclose(seen[0], plane_normalisation(image, ()).apply(raw), atol=1e-6)
    assert len(seen) == 36


def test_the_order_of_events_and_their_numbers(tiny_model: Make) -> None:
    model = tiny_model()
    stack = Planes(np.random.default_rng(0).random((2, 3, 40, 50)), "tzyx")
    _, events = run(model, stack)
    assert isinstance(events[0], Started) and events[0].total == 6 and events[0].precision == "float32"
    assert isinstance(events[-1], Finished) and events[-1].step == 6
    done = [e for e in events if isinstance(e, PlaneDone)]
    assert [e.plane for e in done] == stack.indices() and [e.done for e in done] == [1, 2, 3, 4, 5, 6]
    assert events[-1].metrics["objects"] == sum(e.objects for e in done)
    assert done[-1].remaining == 0 and done[0].remaining > 0


def test_planes_in_any_order_and_what_is_kept(tiny_model: Make) -> None:
    model = tiny_model()
    stack = Planes(np.random.default_rng(0).random((4, 40, 50)), "zyx")
    everything, _ = run(model, stack)
    kept: dict[Any, Any] = {}
    output, events = run(model, stack, planes=[(3,), (1,)], keep=lambda plane, found, _: kept.update({plane: found}))
    assert [e.plane for e in events if isinstance(e, PlaneDone)] == [(3,), (1,)] == list(kept)
    np.testing.assert_array_equal(output[[1, 3]], everything[[1, 3]])
    assert (output[[0, 2]] == 99).all()
    assert kept[(3,)]["classes"].shape == (2, 40, 50) and kept[(3,)]["distance"].shape == (1, 40, 50)


def test_stopping_between_tiles_keeps_the_planes_that_are_done(tiny_model: Make) -> None:
    model = tiny_model()
    stack = Planes(np.random.default_rng(0).random((3, 40, 40)), "zyx")
    chosen = dataclasses.replace(EXACT, tile=16)  # nine tiles a plane
    asked = iter([False] * 13)
    output, events = run(model, stack, chosen, stop=lambda: next(asked, True))
    assert isinstance(events[-2], Stopped) and events[-2].step == 1
    assert isinstance(events[-1], Finished) and events[-1].step == 1
    assert sum(isinstance(e, TileDone) for e in events) == 13
    np.testing.assert_array_equal(output[0], run(model, stack, chosen)[0][0])
    assert (output[1:] == 99).all()


def test_stopping_before_the_start(tiny_model: Make) -> None:
    image = Planes(np.random.default_rng(0).random((40, 40)), "yx")
    output, events = run(tiny_model(), image, stop=lambda: True)
    assert [type(e) for e in events] == [Started, Stopped, Finished] and (output == 99).all()


def test_a_constant_plane_in_a_stack_has_no_cells(tiny_model: Make) -> None:
    model = tiny_model()
    stack = np.random.default_rng(0).random((3, 40, 50))
    stack[1] = 7
    output, events = run(model, Planes(stack, "zyx"))
    assert not output[1].any() and output[0].any()
    assert [e.message for e in events if isinstance(e, Fallback)] == ["Plane (1,) is constant and has no cells."]
    probabilities, _ = run(model, Planes(stack, "zyx"), dataclasses.replace(EXACT, what="probabilities"))
    assert not probabilities[1].any()


def test_a_single_constant_image_is_an_error(tiny_model: Make) -> None:
    with pytest.raises(DataError, match="constant: every grey value is 7"):
        run(tiny_model(), Planes(np.full((40, 40), 7), "yx"))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite(tiny_model: Make, bad: float) -> None:
    image = np.random.default_rng(0).random((40, 40))
    image[3, 3] = bad
    with pytest.raises(DataError, match="1 of 1600 grey values are NaN or infinite"):
        run(tiny_model(), Planes(image, "yx"))


def test_nan_between_the_sampled_rows_is_found_too(tiny_model: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_unet.core.data.arrays._SAMPLED_PIXELS", 400)
    image = np.random.default_rng(0).random((40, 40))
    image[3, 3] = np.nan
    with pytest.raises(DataError, match="are NaN or infinite; replace them"):
        run(tiny_model(), Planes(image, "yx"))


def test_classes_and_probabilities(tiny_model: Make) -> None:
    model = tiny_model(classes=("background", "a", "b"))
    image = Planes(np.random.default_rng(0).random((40, 50)), "yx")
    kept: list[Any] = []
    classes, events = run(
        model, image, dataclasses.replace(EXACT, what="classes"), keep=lambda *got: kept.append(got[1])
    )
    assert isinstance(events[-1], Finished) and events[-1].metrics == {"objects": 0}
    np.testing.assert_array_equal(classes, kept[0]["classes"].argmax(axis=0))
    assert len(np.unique(classes)) > 1
    probabilities, _ = run(model, image, dataclasses.replace(EXACT, what="probabilities"))
    np.testing.assert_allclose(probabilities, 1 - kept[0]["classes"][0], atol=1e-6)
    np.testing.assert_allclose(kept[0]["classes"].sum(axis=0), 1, atol=1e-5)


def test_the_card_says_how_to_segment_unless_told_otherwise(tiny_model: Make) -> None:
    model = tiny_model()
    card = dataclasses.replace(model.card, prediction={"what": "probabilities"})
    image = Planes(np.random.default_rng(0).random((40, 50)), "yx")
    found = np.zeros(image.shape, np.float32)
    list(predict(Model(model.network, card), image, found))
    assert 0 < found.mean() < 1 and not np.isin(found, (0, 1)).all()


def test_mirror_averaging_is_symmetric(tiny_model: Make) -> None:
    model = tiny_model()
    image = np.random.default_rng(0).random((48, 48)).astype(np.float32)
    chosen = dataclasses.replace(EXACT, tta=True, what="probabilities")
    one, _ = run(model, Planes(image, "yx"), chosen)
    other, _ = run(model, Planes(image[::-1, ::-1].copy(), "yx"), chosen)
    # Only the pooling pattern's origin tells them apart; the side is a multiple of the stride.
    np.testing.assert_allclose(one, other[::-1, ::-1], atol=1e-4)
    plain, _ = run(model, Planes(image, "yx"), dataclasses.replace(chosen, tta=False))
    assert np.abs(plain - one).max() > 1e-3


def test_a_scaled_prediction_has_the_size_of_the_image(tiny_model: Make) -> None:
    model = tiny_model(diameter=20.0)
    image = Planes(np.random.default_rng(0).random((61, 83)), "yx")
    chosen = dataclasses.replace(EXACT, diameter=40.0, what="probabilities")
    got, _ = run(model, image, chosen)
    seen = predict_module.ScaledPlanes(image, 0.5)
    outputs = predict_region(
        Predictor.create(model.network, CPU), seen, (), (0, seen.height, 0, seen.width), plane_normalisation(image, ())
    )
    np.testing.assert_allclose(got, resample(1 - outputs["classes"][:1], (61, 83))[0], atol=1e-5)
    tiled, _ = run(model, image, dataclasses.replace(chosen, tile=16))
    np.testing.assert_allclose(tiled, got, atol=1e-4)


def test_the_scale_comes_from_the_diameter_or_the_card_and_has_limits() -> None:
    card = Card("c", diameter=20, scale=0.7)
    assert prediction_scale(card, EXACT) == 0.7
    assert prediction_scale(card, dataclasses.replace(EXACT, diameter=40)) == 0.5
    assert prediction_scale(card, dataclasses.replace(EXACT, diameter=0.001)) == 8
    assert prediction_scale(Card("c", scale=0.7), dataclasses.replace(EXACT, diameter=40)) == 0.7


@pytest.mark.parametrize(
    ("image", "axes", "rgb", "message"),
    [
        (np.zeros((2, 20, 20)), "cyx", False, r"expects 1 channel\(s\), but the image has 2"),
        (np.zeros((20, 20, 3)), "yxc", True, "Read the colours as grey"),
    ],
)
def test_a_model_with_other_channels(tiny_model: Make, image: np.ndarray, axes: str, rgb: bool, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        run(tiny_model(), Planes(image, axes, rgb=rgb))


def test_an_output_of_another_shape_and_a_tiny_tile_are_refused_first(tiny_model: Make) -> None:
    image = Planes(np.random.default_rng(0).random((20, 30)), "yx")
    with pytest.raises(DataError, match=r"output has the shape \(30, 20\), but the image needs \(20, 30\)"):
        next(predict(tiny_model(), image, np.zeros((30, 20), np.int32)))
    with pytest.raises(SettingsError, match="A tile of 7 px is too small"):
        next(predict(tiny_model(depth=3), image, np.zeros((20, 30), np.int32), settings=PredictionSettings(tile=7)))


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[int]]:
    """Return a function that lets the network run out of memory the next n times, and notes each input's side."""

    def arrange(times: int) -> list[int]:
        sides: list[int] = []
        original = UNet.forward

        def forward(self: UNet, x: torch.Tensor, padding: str | None = None) -> torch.Tensor:
            sides.append(x.shape[-1])
            if len(sides) <= times:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return original(self, x, padding)

        monkeypatch.setattr(UNet, "forward", forward)
        return sides

    return arrange


def test_out_of_memory_steps_down_and_says_so(tiny_model: Make, failing: Callable[[int], list[int]]) -> None:
    image = Planes(cells_picture(side=600)[0], "yx")
    model = tiny_model()
    chosen = dataclasses.replace(EXACT, tile=600)
    expected, _ = run(model, image, chosen)
    sides = failing(2)
    got, events = run(model, image, chosen)
    np.testing.assert_array_equal(got, expected)
    messages = [e.message for e in events if isinstance(e, Fallback)]
    assert ["tiles of 300 px" in messages[0], "tiles of 150 px" in messages[1], len(messages)] == [True, True, 2]
    assert sides[0] > sides[1] > sides[2]


def test_the_processor_comes_last(
    tiny_model: Make, failing: Callable[[int], list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = Planes(cells_picture(side=150)[0], "yx")
    moved = []
    original = Predictor.create

    # A second name for the processor stands for the card: torch has no device here that could run out.
    card = torch.device("cpu", 0)

    class Card0:
        type = "cuda"

    def create(net: UNet, compute: Any, tta: bool = False) -> Predictor:
        made = original(net, Compute(card, torch.float32), tta)
        moved.append(compute.device.type)
        return made if compute.device.type == "cpu" else Predictor(made.network, Compute(Card0(), torch.float32))  # type: ignore[arg-type]

    def begin_on(self: Predictor, block: np.ndarray) -> Any:
        if self.compute.device.type == "cuda":
            raise OutOfMemoryError("Out of memory on cuda:0")
        return plain(self, block)

    plain = Predictor.begin
    monkeypatch.setattr(Predictor, "create", create)
    monkeypatch.setattr(Predictor, "begin", begin_on)
    monkeypatch.setattr(model_selection, "choose", lambda *_: Compute(Card0(), torch.float32))  # type: ignore[arg-type]
    output = np.zeros(image.shape, np.int32)
    chosen = PredictionSettings(tile=512, precision="float32")
    messages = [e.message for e in predict(tiny_model(), image, output, settings=chosen) if isinstance(e, Fallback)]
    assert moved == ["cuda", "cpu"]
    assert ["256" in messages[0], "128" in messages[1], "processor" in messages[2], len(messages)] == [True] * 3 + [3]


def test_when_nothing_helps_the_error_is_readable(tiny_model: Make, failing: Callable[[int], list[int]]) -> None:
    failing(10**6)
    with pytest.raises(OutOfMemoryError, match="Out of memory on cpu"):
        run(tiny_model(), Planes(cells_picture()[0], "yx"))


def test_the_tile_is_chosen_by_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    net = UNet(width=32, depth=4)
    monkeypatch.setattr(predictor, "free_memory", lambda d: 10**12)
    assert choose_tile(net, CPU, 5000, 4000) == 1024 and choose_tile(net, CPU, 300, 400) == 400
    sides = []
    for memory in (10**9, 4 * 10**9, 0):
        monkeypatch.setattr(predictor, "free_memory", lambda d, m=memory: m)
        sides.append(choose_tile(net, CPU, 5000, 5000))
        needed = 6 * 32 * 4 * (sides[-1] + 184) ** 2
        assert needed <= memory / 4 or sides[-1] == 128
    assert sides[2] == 128 <= sides[0] < sides[1]


def test_bfloat16_is_near_float32(tiny_model: Make) -> None:
    model, image = untrained_cells(tiny_model)
    chosen = dataclasses.replace(EXACT, what="probabilities")
    exact, _ = run(model, image, chosen)
    half, events = run(model, image, dataclasses.replace(chosen, precision="bfloat16"))
    assert events[0].precision == "bfloat16"
    assert 0 < np.abs(exact - half).mean() < 0.02


def test_the_gap_between_large_cells_is_closed_and_what_is_kept_says_how() -> None:
    # Two cells that touch, of 120 px, seen at a fifth: the pixel that parts them there is 5 px wide here.
    model = load_model(bundled_folder("nuclei"))
    cells = discs((180, 320), [(90, 100), (90, 219)], 60) > 0
    image = Planes(ndimage.gaussian_filter(cells.astype(np.float32), 2), "yx")
    kept: list[Any] = []
    chosen = dataclasses.replace(EXACT, threshold=0.65, diameter=120.0)
    labels, _ = run(model, image, chosen, keep=lambda *got: kept.append(got))
    plane, outputs, scale = kept[0]
    assert plane == () and scale == pytest.approx(0.2, abs=0.01) and labels.max() == 2
    np.testing.assert_array_equal(labels, labels_from_outputs(outputs, at_own_size(chosen, scale)))
    between = np.s_[90, 140:180]
    assert labels[between].all() and not labels_from_outputs(outputs, chosen)[between].all()
