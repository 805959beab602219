import sys
from pathlib import Path

import numpy as np
import pytest

import throughput
from reporting import CannotMeasure


def test_the_speed_of_a_peer_follows_from_its_report():
    speed = throughput.of_report(30, 60.0, 2_000_000, 4.0, "stardist 1.0, patch 256, batch 4, grid 2")
    assert (speed.steps, speed.segmenting) == (0.5, 0.5) and speed.patches == pytest.approx(0.5 * 4 * 256**2 / 1e6)
    unknown = throughput.of_report(30, 60.0, 2_000_000, 0.0, "no sizes")
    assert (unknown.patches, unknown.segmenting) == (None, None)
    assert throughput.row("peer", unknown) == ["peer", "0.5", "", "", "", "no sizes"]


def test_the_picture_is_as_large_as_asked_for_and_every_cell_has_its_own_number():
    small, truth = throughput.picture(512)
    image, cells = throughput.picture(1024)
    assert image.shape == cells.shape == (1024, 1024) and small.shape == (512, 512)
    assert len(np.unique(cells)) - 1 == 4 * (len(np.unique(truth)) - 1)
    np.testing.assert_array_equal(image[512:, 512:], small)
    np.testing.assert_array_equal(cells > 0, np.tile(truth > 0, (2, 2)))


def test_peers_that_cannot_be_imported_are_skipped_and_said(capsys, monkeypatch):
    python = Path(sys.executable)
    assert throughput.has_package(python, "numpy") and not throughput.has_package(python, "no_such_one")
    monkeypatch.setattr(throughput, "PEERS", {"Nobody": "no_such_one"})
    assert throughput.peer_speeds(python, 512, 1.0) == {}
    assert "Nobody skipped: there is no interpreter that can import no_such_one" in capsys.readouterr().err


def test_an_interpreter_that_is_not_there_is_told(tmp_path):
    with pytest.raises(CannotMeasure, match="tox -e peers"):
        throughput.peer_speeds(tmp_path / "python", 512, 1.0)


def test_figures_name_the_others_beside_ours():
    speeds = {
        throughput.OURS: throughput.Speed(1.0, 0.5, 2.0, remark="patch 256"),
        throughput.BARE: throughput.Speed(2.0, 0.6, 3.0),
        "StarDist": throughput.Speed(4.0, 0.7),
    }
    training, segmenting = throughput.figures_of(speeds, None, 512, "model")
    assert training.value == 0.5 and "bare network 0.6, StarDist 0.7" in training.detail
    assert segmenting.value == 2.0 and "StarDist" not in segmenting.detail
    assert throughput.figures_of(speeds, 1.5, 512, "model")[-1].verdict == "reached"
