"""The table of cells, against cells whose measures are known."""

import csv

import numpy as np
import pytest

from conftest import discs
from napari_unet.core.data.arrays import Planes
from napari_unet.core.errors import DataError
from napari_unet.core.evaluation.measurements import Scale, measure, measure_plane, write_csv

CENTRES = [(30.0, 30.0), (30.0, 90.0), (90.0, 60.0)]


@pytest.fixture
def labels():
    return discs((128, 128), CENTRES, 15)


def test_a_disc_has_the_measures_of_a_disc(labels):
    table = measure_plane(labels, scale=Scale(0.5, 0.5, "µm"))
    assert table["label"].tolist() == [1, 2, 3]
    np.testing.assert_allclose(table["area_µm²"], np.pi * 7.5**2, rtol=0.01)
    np.testing.assert_allclose(table["diameter_µm"], 15, rtol=0.01)
    np.testing.assert_allclose(table["perimeter_µm"], np.pi * 15, rtol=0.06)
    np.testing.assert_allclose(table["length_µm"], 15, rtol=0.01)
    np.testing.assert_allclose(np.stack([table["y_px"], table["x_px"]], axis=1), CENTRES, atol=0.01)
    assert (table["circularity"] > 0.88).all()
    assert not table["at_border"].any()


def test_grey_values_are_those_of_the_cell_and_no_others(labels):
    image = np.where(labels > 0, labels * 10.0, 1e6)
    half = image.copy()
    half[labels == 2] = np.where(np.arange((labels == 2).sum()) % 2, 10.0, 30.0)
    table = measure_plane(labels, {"dna": image, "actin": half})
    np.testing.assert_allclose(table["dna_mean"], [10, 20, 30])
    np.testing.assert_allclose(table["dna_std"], 0, atol=1e-9)
    np.testing.assert_allclose(table["dna_sum"], table["dna_mean"] * table["area_px²"])
    assert (table["actin_min"][1], table["actin_max"][1]) == (10, 30)
    assert table["actin_std"][1] == pytest.approx(10, rel=1e-3)


def test_pixels_that_are_no_squares_keep_areas_right_and_leave_the_perimeter_out(labels):
    table = measure_plane(labels, scale=Scale(2.0, 0.5, "nm"))
    np.testing.assert_allclose(table["area_nm²"], np.pi * 15**2, rtol=0.01)
    np.testing.assert_allclose(table["length_nm"], 60, rtol=0.01)
    np.testing.assert_allclose(table["y_px"], [y for y, _ in CENTRES], atol=0.01)
    assert "perimeter_nm" not in table


def test_cells_at_the_border_are_marked(labels):
    labels[0, 30] = 1
    assert measure_plane(labels)["at_border"].tolist() == [True, False, False]


def test_a_stack_has_a_row_per_plane_and_cell_also_with_width_first(labels):
    stack = np.stack([labels, np.zeros_like(labels), np.where(labels == 3, 7, 0)])
    image = Planes(np.where(stack > 0, 5.0, 0.0), "zyx")
    table = measure(stack, "zyx", image, ["dna"])
    assert table["z"].tolist() == [0, 0, 0, 2]
    assert table["label"].tolist() == [1, 2, 3, 7]
    np.testing.assert_allclose(table["dna_mean"], 5)
    turned = measure(stack.transpose(2, 0, 1), "xzy")
    np.testing.assert_allclose(turned["y_px"], table["y_px"])
    channel = measure(labels[np.newaxis], "cyx")
    assert channel["label"].tolist() == [1, 2, 3]


def test_a_plane_without_cells_has_the_same_columns(labels):
    image = np.ones(labels.shape)
    some, none = measure_plane(labels, {"a": image}), measure_plane(np.zeros_like(labels), {"a": image})
    assert list(some) == list(none)
    assert all(len(values) == 0 for values in none.values())


def test_stopping_keeps_the_planes_done(labels):
    asked = iter([False, True])
    table = measure(np.stack([labels] * 4), "zyx", stop=lambda: next(asked))
    assert table["z"].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda labels: measure_plane(labels / 2), "whole numbers"),
        (lambda labels: measure_plane(labels, {"a": np.ones((3, 3))}), "channel a has the shape"),
        (lambda labels: measure(labels, "yx", Planes(np.ones((4, 4)), "yx"), ["a"]), "shape"),
        (lambda labels: measure(labels, "yx", Planes(np.ones((2, 128, 128)), "cyx"), ["a", "a"]), "different names"),
        (lambda labels: Scale(0.0, 1.0), "no area"),
    ],
)
def test_what_does_not_fit_is_told(labels, call, words):
    with pytest.raises(DataError, match=words):
        call(labels)


def test_the_table_reads_back_from_csv(labels, tmp_path):
    table = measure_plane(labels, scale=Scale(0.5, 0.5, "µm"))
    write_csv(table, tmp_path / "cells.csv")
    with open(tmp_path / "cells.csv", encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(table)
    assert [int(row["label"]) for row in rows] == [1, 2, 3]
    np.testing.assert_allclose([float(row["area_µm²"]) for row in rows], table["area_µm²"], rtol=1e-5)
