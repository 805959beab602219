"""Somebody who looks at a large plane changes the order in which it is computed, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from conftest import cells_picture
from napari_unet.core.data.arrays import Planes
from napari_unet.core.events import TileDone
from napari_unet.core.inference import chunked
from napari_unet.core.inference.predict import predict
from napari_unet.core.network.model_io import Model
from napari_unet.core.settings import PredictionSettings

EXACT = PredictionSettings(device="cpu", precision="float32", tile=64, threshold=0.4, smallest=3, seed_height=0.02)


class Looking:
    """Looks at the lower right corner first, then at the upper right one."""

    def __init__(self) -> None:
        self.seen: list[tuple[tuple[int, ...], tuple[int, int, int, int]]] = []
        self.sizes: list[tuple[int, ...]] = []

    def view(self, plane: tuple[int, ...]) -> tuple[int, int, int, int] | None:
        return (150, 190, 100, 140) if not self.seen else (0, 40, 100, 140)

    def show(self, plane: tuple[int, ...], box: tuple[int, int, int, int], outputs: Any) -> None:
        self.seen.append((plane, box))
        self.sizes.append(outputs["classes"].shape[-2:])


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunked, "HELD", 1000)
    monkeypatch.setattr(chunked, "SIDE", 64)
    monkeypatch.setattr(chunked, "CHUNK", 32)


@pytest.mark.parametrize("diameter", [0.0, 14.0])
def test_what_is_looked_at_comes_first_and_the_result_is_the_same(
    tiny_model: Callable[..., Model], diameter: float
) -> None:
    image = Planes(np.stack([cells_picture(side=200)[0][:, :150]] * 2), "zyx")
    model = tiny_model(diameter=10.0)
    chosen = EXACT if not diameter else PredictionSettings(**{**vars(EXACT), "diameter": diameter})
    plain, watched = (np.full(image.shape, 99, np.int32) for _ in range(2))
    list(predict(model, image, plain, settings=chosen))
    looking = Looking()
    events = list(predict(model, image, watched, settings=chosen, watcher=looking))
    np.testing.assert_array_equal(watched, plain)
    assert plain.max() > 3
    first = [box for plane, box in looking.seen if plane == (0,)]
    y0, y1, x0, x1 = first[0]
    assert y0 < 190 and y1 > 150 and x0 < 140 and x1 > 100
    covered = np.zeros(image.shape[1:], int)
    for y0, y1, x0, x1 in first:
        covered[y0:y1, x0:x1] += 1
    assert (covered == 1).all()
    tiles = [event for event in events if isinstance(event, TileDone) and event.plane == (0,)]
    assert [tile.done for tile in tiles] == list(range(1, len(first) + 1))
    if not diameter:
        assert looking.sizes[: len(first)] == [(y1 - y0, x1 - x0) for y0, y1, x0, x1 in first]
