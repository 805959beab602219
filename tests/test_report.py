"""The page of an evaluation: what its pictures show, and that it shows names as they are."""

import io
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from napari_unet.core.errors import StoreError
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
    assert "1 good, 0 found by less than half, 1 missed, 1 false" in page


def test_a_page_that_cannot_be_written_leaves_the_old_one(pair, tmp_path):
    path = tmp_path / "page.html"
    write_report(path, Report("a", compare([pair])))
    before = path.read_text(encoding="utf-8")
    with pytest.raises(StoreError, match="cannot be written"):
        write_report(path / "inside.html", Report("b", compare([pair])))
    assert path.read_text(encoding="utf-8") == before
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]


def test_the_words_at_the_ends_of_curves_stay_above_the_axis_and_apart(pair):
    none = replace(compare([pair]), scores=dict.fromkeys(compare([pair]).scores, 0.0))
    places = dict(re.findall(r'<text class="(\w+)"[^>]* y="([\d.]+)"', curves(none)))
    (axis,) = {float(y) for y in re.findall(r'y="([\d.]+)" text-anchor="middle">0\.9<', curves(none))}
    assert float(places["ap"]) <= axis - 13
    assert float(places["f1"]) <= float(places["ap"]) - 13
