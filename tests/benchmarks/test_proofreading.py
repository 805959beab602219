import numpy as np
import pytest

proofreading = pytest.importorskip("proofreading")


def test_cells_go_through_all_planes_and_half_of_them_have_a_hole():
    labels = proofreading.stack_of_cells(3, 200)
    assert labels.shape == (3, 200, 200)
    assert len(np.unique(labels[0])) - 1 == 25
    whole = [cell for cell in range(1, 26) if (cell - 1) // 5 in range(1, 4) and (cell - 1) % 5 in range(1, 4)]
    for cell in whole:
        for plane in labels:
            rows, columns = np.nonzero(plane == cell)
            filled = (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)
            assert 0.6 < len(rows) / filled < 0.85
            middle = plane[round(rows.mean()), round(columns.mean())]
            assert middle == (0 if cell % 2 == 0 else cell)
    assert (labels[0] != labels[1]).any()


def test_medians_and_worst_are_told_column_by_column():
    assert proofreading.in_short(np.array([[1.0, 10.0], [3.0, 20.0], [9.0, 12.4]])) == ["3", "9", "12", "20"]
