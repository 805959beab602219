"""The engine while painting goes on: paint that joins, training that is continued, places to annotate next."""

import dataclasses

import numpy as np
import pytest
from discs import discs
from test_runner import Seen, closed

from napari_unet.core.data.annotation import AnnotatedImage
from napari_unet.core.data.arrays import Planes
from napari_unet.core.events import AnnotationsUpdated, Fallback, Finished, StepDone
from napari_unet.core.settings import NetworkSettings, PredictionSettings, TrainingSettings
from napari_unet.plugin.runtime.engine import Engine, PlaneUncertainty, SegmentRequest, TrainRequest
from napari_unet.records import runs

pytestmark = pytest.mark.computing
LONG = 120_000


@pytest.fixture
def real(qtbot):
    """An engine with the real jobs."""
    engine = Engine()
    engine.start()
    yield engine
    closed(engine, qtbot)


def request(cells, **settings):
    """Return a training of a few painted discs."""
    image, labels = discs()
    painted = np.where(labels > cells, 0, labels)
    chosen = TrainingSettings(**{"seconds": 0, "steps": 3, "patch": 64, "device": "cpu", **settings})
    return TrainRequest(
        (AnnotatedImage(image, painted, name="discs"),), chosen, NetworkSettings(width=4, depth=2), "scratch", "discs"
    )


def test_paint_joins_and_the_run_folder_has_it(real, qtbot):
    asked = request(4, steps=10**6)
    seen = Seen(real.train(asked))
    seen.wait(qtbot, StepDone, LONG)
    more = request(9).images
    assert seen.job.repaint(more, 5)
    seen.wait(qtbot, AnnotationsUpdated, LONG)
    assert seen.of(AnnotationsUpdated)[0].cells > 4
    assert seen.of(AnnotationsUpdated)[0].paint == 5
    np.testing.assert_array_equal(runs.load_run(seen.job.folder).images[0].labels, more[0].labels)
    nothing = dataclasses.replace(more[0], labels=np.zeros_like(more[0].labels))
    seen.job.repaint([nothing], 6)
    seen.wait(qtbot, Fallback, LONG)
    assert "not used yet" in seen.of(Fallback)[0].message
    seen.job.stop()
    seen.wait(qtbot)
    assert seen.failure is None
    assert not seen.job.repaint(more, 7)


def test_a_continued_training_counts_on(real, qtbot):
    first = Seen(real.train(request(9))).wait(qtbot, timeout=LONG)
    folder = first.job.folder
    again = dataclasses.replace(request(9), start=str(folder / "model"), resume=str(folder))
    second = Seen(real.train(again)).wait(qtbot, timeout=LONG)
    assert second.failure is None
    assert [event.step for event in second.of(StepDone)] == [4, 5, 6]
    assert second.of(Finished)[0].step == 6


def doubtful(planes):
    """Return the question where the bundled model is uncertain."""
    image = np.stack([discs(seed=n)[0] for n in range(3)])
    image[1] += np.random.default_rng(0).normal(0, 150, image[1].shape)
    return SegmentRequest(Planes(image, "zyx"), "bundled", PredictionSettings(device="cpu"), planes)


def test_doubt_comes_plane_by_plane(real, qtbot):
    seen = Seen(real.suggest(doubtful(((2,), (1,), (0,))))).wait(qtbot, timeout=LONG)
    assert seen.failure is None
    doubts = {event.plane: event.maps for event in seen.of(PlaneUncertainty)}
    assert list(doubts) == [(2,), (1,), (0,)]
    assert all(maps.shape == (3, 8, 8) and maps.dtype == np.float32 for maps in doubts.values())
    assert doubts[(1,)].sum() > 1.2 * doubts[(0,)].sum()


def test_doubt_is_told_while_a_training_runs(real, qtbot):
    training = Seen(real.train(request(9, steps=10**6))).wait(qtbot, StepDone, LONG)
    seen = Seen(real.suggest(doubtful(((1,),)), now=True)).wait(qtbot, timeout=LONG)
    assert [event.plane for event in seen.of(PlaneUncertainty)] == [(1,)]
    assert training.job.running
    training.job.stop()
    training.wait(qtbot)
