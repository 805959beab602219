from __future__ import annotations

import numpy as np
import pytest

from conftest import discs
from napari_unet.core.data.annotation import AnnotatedImage, class_values, interpret
from napari_unet.core.errors import DataError
from napari_unet.core.settings import TrainingSettings

PAINT = np.zeros((20, 30), np.int32)
PAINT[4:8, 4:8], PAINT[12:16, 20:26], PAINT[0:3, 25:30] = 7, 40, 2
IMAGE = np.zeros((20, 30))


def known(labels: np.ndarray = PAINT, *, regions: tuple = (), values: tuple = (), **settings: object):
    return interpret(AnnotatedImage(IMAGE, labels, regions), TrainingSettings(**settings), values)


def test_unknown_teaches_the_paint_and_its_rim() -> None:
    found = known(background_rim=2)
    assert found.instances.max() == 3 and np.array_equal(found.instances > 0, PAINT > 0)
    assert np.array_equal(found.target, (PAINT > 0).astype(np.uint8))
    expected = np.zeros(PAINT.shape, bool)
    expected[2:10, 2:10] = expected[10:18, 18:28] = expected[0:5, 23:30] = True
    assert np.array_equal(found.mask, expected)


def test_without_a_rim_only_the_paint_is_known() -> None:
    assert np.array_equal(known(background_rim=0).mask, PAINT > 0)


def test_unpainted_background_makes_everything_known() -> None:
    assert known(unpainted="background").mask.all()


def test_the_background_label_is_no_cell() -> None:
    found = known(background_label=2, background_rim=0)
    assert found.instances.max() == 2 and not found.target[PAINT == 2].any() and found.mask[PAINT == 2].all()
    assert np.array_equal(found.mask, PAINT > 0)


def test_the_background_label_has_no_rim() -> None:
    found = known(background_label=2, background_rim=2)
    assert not found.mask[3:5, 25:].any()


def test_inside_a_region_unpainted_is_background() -> None:
    found = known(regions=((0, 10, 0, 12), (-5, 3, 28, 99)), background_rim=0)
    expected = PAINT > 0
    expected[0:10, 0:12] = expected[0:3, 28:] = True
    assert np.array_equal(found.mask, expected) and not found.target[0, 0]


def test_a_rim_does_not_cover_a_neighbour_and_touching_cells_are_parted() -> None:
    labels = np.zeros((20, 30), np.uint8)
    labels[5:15, 5:15], labels[5:15, 15:25] = 1, 2
    found = known(labels, boundary_erosion=1)
    assert np.array_equal(found.instances > 0, labels > 0)
    assert not found.target[5:15, 14].any() and found.target[5:15, 15].all() and found.mask[5:15, 14].all()
    assert known(labels, boundary_erosion=0).target[5:15, 14].all()


def test_classes() -> None:
    settings = {"mode": "classes", "background_label": 2}
    item = AnnotatedImage(IMAGE, PAINT)
    values = class_values([item], TrainingSettings(**settings))
    assert values == (7, 40)
    found = known(values=values, **settings)
    assert not found.instances.any()
    assert np.array_equal(found.target, np.select([PAINT == 7, PAINT == 40], [1, 2]))
    assert np.array_equal(found.mask, PAINT > 0)  # no rim: in semantic mode nothing says what is beside the paint
    assert known(values=values, unpainted="background", **settings).mask.all()


def test_classes_are_gathered_from_all_images() -> None:
    other = AnnotatedImage(IMAGE, np.where(PAINT == 7, 3, 0))
    assert class_values([AnnotatedImage(IMAGE, PAINT), other], TrainingSettings()) == (2, 3, 7, 40)


def test_instances_painted_in_classes_mode_get_a_hint() -> None:
    labels = np.arange(600).reshape(20, 30)
    with pytest.raises(DataError, match="599 different labels, but at most 255 classes; choose that labels are inst"):
        class_values([AnnotatedImage(IMAGE, labels)], TrainingSettings(mode="classes"))


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16, np.uint64])
def test_any_whole_numbers_will_do(dtype: type) -> None:
    labels = (PAINT == 7).astype(dtype)
    assert known(labels).instances.max() == 1


@pytest.mark.parametrize("mode", ["instances", "classes"])
@pytest.mark.parametrize("labels", [PAINT.astype(float), np.full(PAINT.shape, np.nan), PAINT.astype(complex)])
def test_other_numbers_are_refused(labels: np.ndarray, mode: str) -> None:
    item = AnnotatedImage(IMAGE, labels, name="blue.tif")
    settings = TrainingSettings(mode=mode)
    with pytest.raises(DataError, match=f"labels of blue.tif are {labels.dtype} numbers; they have to be whole"):
        interpret(item, settings, class_values([item], settings) if mode == "classes" else ())


@pytest.mark.parametrize("image", [np.zeros((20, 31)), np.zeros((2, 30, 20)), np.zeros(5)])
def test_labels_of_another_shape_are_refused(image: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"have the shape \(20, 30\), but the image has"):
        interpret(AnnotatedImage(image, PAINT), TrainingSettings())


def test_nothing_painted_is_nothing_known() -> None:
    assert not known(np.zeros_like(PAINT)).mask.any()


def test_many_cells_keep_their_number() -> None:
    labels = discs((20, 30), [(5, 5), (5, 15), (5, 25), (15, 5), (15, 15)], 3)
    assert known(labels).instances.max() == 5
