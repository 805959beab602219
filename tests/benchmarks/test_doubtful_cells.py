import numpy as np

import doubtful_cells
import trials
from napari_unet.core.network.model_card import Card
from napari_unet.core.network.model_io import Model, new_model
from napari_unet.core.settings import NetworkSettings
from trials import Picture


def two_discs():
    """A sure cell and a doubtful one: its distance output rises to .3 only."""
    y, x = np.mgrid[:64, :96]
    outputs = {"classes": np.ones((2, 64, 96), np.float32), "distance": np.zeros((1, 64, 96), np.float32)}
    outputs["classes"][1] = 0
    truth = np.zeros((64, 96), np.int32)
    for number, (centre, height) in enumerate(((24, 1.0), (72, 0.3)), start=1):
        depth = np.clip(1 - np.hypot(y - 32, x - centre) / 14, 0, 1)
        outputs["classes"][:, depth > 0] = np.array([[0.05], [0.95]], np.float32)
        outputs["distance"][0] += (height * depth).astype(np.float32)
        truth[depth > 0] = number
    truth[truth == 2] = 0
    return outputs, truth


def test_a_lowest_peak_drops_the_doubtful_cell():
    outputs, truth = two_discs()
    model = new_model(Card("any", NetworkSettings(width=4, depth=1), prediction={"min_peak": 0.6}))
    assert [doubtful_cells.cells_of(model, outputs, p).max() for p in doubtful_cells.PEAKS] == [2, 1, 1]
    tallies = {p: [trials.tally(truth, doubtful_cells.cells_of(model, outputs, p))] for p in doubtful_cells.PEAKS}
    result = doubtful_cells.Compared("discs", tallies)
    assert [result.counts(p) for p in (0.0, 0.5)] == [(1, 1, 0), (1, 0, 0)]
    assert [result.ap(p) for p in (0.0, 0.5)] == [0.5, 1.0]
    assert doubtful_cells.line(result)[:3] == ["discs", "0.500", "1.000"]


def test_the_network_runs_once_for_each_picture(monkeypatch):
    outputs, truth = two_discs()
    asked = []

    def segmented(model, pictures, values, keep):
        asked.append(values)
        keep((), outputs, 1.0)

    monkeypatch.setattr(trials, "segmented", segmented)
    model = Model(None, Card("any", NetworkSettings()))
    pictures = [Picture(name, truth, truth) for name in "ab"]
    result = doubtful_cells.compared("discs", model, pictures, [20.0, 30.0])
    assert asked == [{"diameter": 20.0}, {"diameter": 30.0}]
    assert result.counts(0.0) == (2, 2, 0) and result.counts(0.5) == (2, 0, 0)
