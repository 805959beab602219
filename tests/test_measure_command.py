"""``napari-unet measure`` and the report of ``napari-unet evaluate``."""

import csv

import numpy as np
import pytest
import tifffile

from napari_unet.cli import main
from tiny import write_pictures


def rows_of(path):
    """Return the rows of a table."""
    with open(path, encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def run(*words):
    """Run a command and return its exit code."""
    return main([str(word) for word in words])


def test_measure_writes_a_row_per_cell_of_each_file(tmp_path, capsys):
    images, labels = write_pictures(tmp_path, 2)
    table = tmp_path / "out" / "cells.csv"
    assert run("measure", labels, table, "--image", images, "--pixel-size", "0.5", "--unit", "um") == 0
    rows = rows_of(table)
    truth = [tifffile.imread(labels / f"cells{n}.tif") for n in range(2)]
    assert len(rows) == sum(len(np.unique(t)) - 1 for t in truth)
    inside = truth[1] == int(rows[-1]["label"])
    assert rows[-1]["file"] == "cells1"
    assert float(rows[-1]["area_um²"]) == pytest.approx(inside.sum() / 4)
    grey = tifffile.imread(images / "cells1.tif")[inside]
    assert float(rows[-1]["channel1_mean"]) == pytest.approx(grey.mean(), rel=1e-4)
    assert run("measure", labels, table) == 1
    assert "exists already" in capsys.readouterr().err


def test_measure_tells_planes_of_a_stack_apart(tmp_path):
    _, labels = write_pictures(tmp_path, 2)
    stack = np.stack([tifffile.imread(labels / f"cells{n}.tif") for n in range(2)])
    tifffile.imwrite(tmp_path / "stack.tif", stack, metadata={"axes": "ZYX"})
    assert run("measure", tmp_path / "stack.tif", tmp_path / "cells.csv") == 0
    rows = rows_of(tmp_path / "cells.csv")
    assert sorted({row["z"] for row in rows}) == ["0", "1"]
    assert "file" not in rows[0]


def test_measure_wants_a_csv(tmp_path, capsys):
    assert run("measure", tmp_path, tmp_path / "cells.xlsx") == 1
    assert ".csv" in capsys.readouterr().err


def test_evaluate_writes_one_page_with_pictures_that_needs_nothing_else(tmp_path):
    images, labels = write_pictures(tmp_path, 2)
    worse = tmp_path / "worse"
    worse.mkdir()
    for path in labels.iterdir():
        values = tifffile.imread(path)
        values[values == np.unique(values)[1]] = 0
        tifffile.imwrite(worse / path.name, values)
    page = tmp_path / "report.html"
    assert run("evaluate", labels, worse, "--report", page, "--image", images) == 0
    text = page.read_text(encoding="utf-8")
    assert text.count("data:image/png;base64,") == 2
    assert "<svg" in text
    assert "missed" in text
    assert "http" not in text.replace("http://www.w3.org", "")
