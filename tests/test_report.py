"""The page of an evaluation: what its pictures show, and that it shows names as they are."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from napari_unet.core import distribution
from napari_unet.core.errors import MissingLibraryError, StoreError
from napari_unet.core.evaluation.comparison import compare, known_pair
from napari_unet.records.report import (
    BOTH_COLOUR,
    PREDICTION_COLOUR,
    TRUTH_COLOUR,
    Report,
    curves,
    draw_cells,
    render,
    write_report,
)


@pytest.fixture
def pair():
    """Three cells: one exact, one missed, and one that is not there."""
    truth = np.zeros((60, 60), int)
    truth[5:20, 5:20], truth[30:45, 5:20] = 1, 2
    prediction = np.where(truth == 1, 9, 0)
    prediction[30:45, 35:50] = 8
    return known_pair((), truth, prediction)


def test_pictures_tell_truth_prediction_and_both_apart(pair):
    found = compare([pair])
    drawn = draw_cells(found, lambda plane: (pair, np.full(pair.truth.shape, 7.0)))
    assert [cell.kind for cell, _ in drawn] == ["missed", "false"]
    picture = np.asarray(Image.open(io.BytesIO(drawn[0][1])))
    zoom = picture.shape[0] // 48
    top, left = 12, 0

    def colour(y, x):
        return tuple(picture[(y - top) * zoom, (x - left) * zoom])

    assert colour(30, 10) == TRUTH_COLOUR
    assert colour(30, 40) == PREDICTION_COLOUR
    assert colour(15, 5) == BOTH_COLOUR
    assert colour(25, 25) not in (TRUTH_COLOUR, PREDICTION_COLOUR, BOTH_COLOUR)


def test_the_page_escapes_names_and_tells_notes_and_scores(pair):
    found = compare([pair])
    page = render(Report("<cells>", found, {"Truth": "a & b", "Command": "napari-unet x"}, ("too good",)))
    assert "<h1>&lt;cells&gt;</h1>" in page
    assert "a &amp; b" in page
    assert "too good" in page
    assert "<code>napari-unet x</code>" in page
    assert f"{found.scores['f1_0.50']:.3f}" in page
    assert "1 good, 0 found by less than half, 1 missed, 1 false" in " ".join(page.split())


def test_a_page_that_cannot_be_written_leaves_the_old_one(pair, tmp_path):
    path = tmp_path / "page.html"
    write_report(path, Report("a", compare([pair])))
    before = path.read_text(encoding="utf-8")
    with pytest.raises(StoreError, match="cannot be written"):
        write_report(path / "inside.html", Report("b", compare([pair])))
    assert path.read_text(encoding="utf-8") == before
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]


def test_curves_name_their_scores(pair):
    none = replace(compare([pair]), scores=dict.fromkeys(compare([pair]).scores, 0.25))
    svg = curves(none)
    assert svg.startswith("<svg") and "IoU threshold" in svg
    assert "AP (0.25)" in svg and "F1 (0.25)" in svg


def test_without_the_extra_a_report_names_the_command_that_installs_it(pair, tmp_path, monkeypatch):
    monkeypatch.setattr(distribution, "find_spec", lambda name: None)
    monkeypatch.setattr(distribution, "install_extra", lambda extra: f"install {extra}")
    with pytest.raises(MissingLibraryError, match="^Reports need more libraries: install report$"):
        write_report(tmp_path / "page.html", Report("a", compare([pair])))
    assert not list(tmp_path.iterdir())
