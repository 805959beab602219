"""Measuring how large the cells of an image are."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_unet.core.data.arrays import Normalisation, Planes
from napari_unet.core.errors import ModelError
from napari_unet.core.inference.predict import predict
from napari_unet.core.inference.size_estimation import Box, busiest_place, judged, measure_size, middle_plane
from napari_unet.core.network.model_card import Card
from napari_unet.core.network.model_io import Model, new_model
from napari_unet.core.settings import NetworkSettings, PredictionSettings

EXPECTED = 24.0
COMPONENTS = PredictionSettings(separation="components", smallest=5, boundary_erosion=0)


def discs(diameter: float, size: int = 512, spacing: float = 1.8) -> NDArray[np.float32]:
    """Return a picture of bright discs on a grid."""
    y, x = np.mgrid[:size, :size] % (diameter * spacing) - diameter * spacing / 2
    return (np.hypot(y, x) < diameter / 2).astype(np.float32)


def network(
    planes: Planes, plane: tuple[int, ...], box: Box, normalisation: Normalisation
) -> dict[str, NDArray[np.float32]]:
    """Return foreground where it is bright, as a network that is equally sure at every size."""
    y0, y1, x0, x1 = box
    bright = normalisation.apply(planes.read(plane, slice(y0, y1), slice(x0, x1)))[0]
    probability = np.clip(bright, 0.02, 0.98)
    return {"classes": np.stack([1 - probability, probability]).astype(np.float32)}


@pytest.mark.parametrize("diameter", [8, 13, 24, 40, 75])
def test_the_diameter_of_discs_is_measured(diameter: int) -> None:
    found = measure_size(network, Planes(discs(diameter), "yx"), (), EXPECTED, COMPONENTS)
    assert found is not None and found.cells > 3
    assert abs(np.log2(found.diameter / diameter)) < 0.2
    assert abs(np.log2(found.scale * diameter / EXPECTED)) < 1


def test_cells_in_one_corner_of_a_large_plane_are_found() -> None:
    picture = np.zeros((3000, 2500), np.float32)
    picture[2400:2912, 1900:2412] = discs(12)
    planes = Planes(picture, "yx")
    y, x = busiest_place(planes, (), Normalisation((0.0,), (1.0,)))
    assert y > 0.6 and x > 0.6
    found = measure_size(network, planes, (), EXPECTED, COMPONENTS)
    assert found is not None and abs(np.log2(found.diameter / 12)) < 0.3


def test_nothing_is_found_in_a_constant_or_an_empty_picture() -> None:
    def blind(planes: Planes, plane: tuple[int, ...], box: Box, normalisation: Normalisation) -> dict[str, NDArray]:
        shape = (box[1] - box[0], box[3] - box[2])
        return {"classes": np.stack([np.ones(shape, np.float32), np.zeros(shape, np.float32)])}

    assert measure_size(network, Planes(np.full((64, 64), 3.0), "yx"), (), EXPECTED, COMPONENTS) is None
    assert measure_size(blind, Planes(discs(20, 128), "yx"), (), EXPECTED, COMPONENTS) is None


def test_sure_cells_of_the_known_size_win() -> None:
    labels = np.zeros((40, 80), np.int32)
    labels[5:29, 5:29], labels[5:29, 45:69] = 1, 2
    sure = judged(np.where(labels > 0, 0.9, 0.1).astype(np.float32), labels, 0.5, EXPECTED)
    unsure = judged(np.where(labels > 0, 0.7, 0.1).astype(np.float32), labels, 0.5, EXPECTED)
    large = judged(np.where(labels > 0, 0.9, 0.1).astype(np.float32), labels, 0.5, EXPECTED / 4)
    assert sure.certainty > unsure.certainty and sure.certainty > large.certainty
    assert sure.cells == 2 and sure.diameter == pytest.approx(2 * 24 * np.sqrt(4 / np.pi))


def test_the_middle_plane() -> None:
    assert middle_plane(()) == () and middle_plane((5, 1)) == (2, 0)


def test_a_model_for_many_sizes_measures_the_image_and_says_so() -> None:
    model = new_model(Card("many", NetworkSettings(width=4, depth=2), diameter=EXPECTED, scale=0.0))
    output = np.zeros((96, 96), np.int32)
    settings = PredictionSettings(device="cpu", precision="float32")
    events = list(predict(model, Planes(discs(20, 96), "yx"), output, settings=settings))
    notes = events[0].notes
    assert len(notes) == 1 and ("px wide" in notes[0] or "No cell" in notes[0])
    told = PredictionSettings(device="cpu", precision="float32", diameter=20)
    assert next(iter(predict(model, Planes(discs(20, 96), "yx"), output, settings=told))).notes == ()


def test_a_card_without_a_size_to_bring_images_to_is_damaged() -> None:
    card = Card("many", scale=0.0, diameter=EXPECTED)
    assert Card.from_json(card.to_json()) == card
    with pytest.raises(ModelError, match="needs a diameter"):
        Card.from_json(Model(new_model(card).network, Card("none", scale=0.0)).card.to_json())
