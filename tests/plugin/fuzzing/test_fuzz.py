"""Whatever is clicked in whatever order: a short walk; ``benchmarks/fuzz.py`` walks far, and reports gaps."""

import os
import random
import sys
import time

import pytest
from discs import alive

from napari_unet.plugin.models.registry import ModelRegistry
from napari_unet.plugin.models.selector import SCRATCH
from napari_unet.plugin.runtime.engine import Engine

from .desk import TRAIN, run_loop
from .vocabulary import KINDS, Kind, draw
from .walk import Report, Walk, lines_of, read_lines
from .witness import Trouble

SEED, ACTIONS = 20, int(os.environ.get("WALK_ACTIONS", "100"))


@pytest.fixture
def walked(make_napari_viewer, monkeypatch, engine_at_once):
    """Return a function that walks through a new viewer, and returns the report."""
    monkeypatch.setattr(ModelRegistry, "_shared", None)
    return lambda report, count=0: Walk(lambda: make_napari_viewer(show=True), report, count).run()


@pytest.mark.walk
@pytest.mark.timeout(1200)
def test_a_random_walk_leaves_no_traceback_no_lost_label_no_process_and_no_widget(walked, capsys):
    report = walked(Report(SEED, []), ACTIONS)
    with capsys.disabled():
        worst = max(report.gaps, key=lambda gap: gap.computing, default=None)
        if worst is not None:
            print(
                f"\nlongest gap {1000 * worst.seconds:.0f} ms, of which computing {1000 * worst.computing:.0f} ms, in"
            )
            print(f"{report.actions[worst.at][0] if worst.at >= 0 else 'the beginning'}: {worst.stack}")
    assert not report.troubles, report.words()
    assert report.done == ACTIONS
    assert sum(report.reached.values()) > ACTIONS / 2


def learn(desk):
    """Train a small network, and wait for its first steps."""
    view = desk.dock(TRAIN).view
    view.start.choose(SCRATCH)
    view.simple.show_values({"seconds": 600.0})
    view.train_button.click()
    end = time.monotonic() + 400
    while view.busy and not view.plot.training.x and time.monotonic() < end:
        run_loop(20)
    return bool(view.plot.training.x)


@pytest.mark.computing
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "then",
    [
        [],
        [("kill_engine", {}), ("wait", {"seconds": 0.6}), ("segment", {"answer": 0})],
        [
            ("segment", {"answer": 0}),
            *(("delete_what_is_worked_on", {"role": role}) for role in ("annotation", "result", "trained on")),
            ("close_dock", {"dock": TRAIN, "button": "close_button"}),
        ],
    ],
    ids=["the viewer is closed", "the engine is killed", "what is worked on is deleted"],
)
def test_in_mid_training(walked, monkeypatch, then):
    monkeypatch.setitem(KINDS, "learn", Kind(learn, 0, {}))
    begin = [("add_image", {"kind": "plane"}), ("annotate", {"seed": 1}), ("learn", {})]
    report = walked(Report(0, [*begin, *then, ("wait", {"seconds": 0.3})]))
    assert not report.troubles, report.words()
    assert report.reached["learn"] == 1, report.said
    assert sum(report.reached.values()) == report.done
    assert not alive(Engine.shared().pid)


def test_a_walk_tells_what_goes_wrong_in_it_and_with_what_actions(walked, monkeypatch):
    def spoil(desk):
        labels = desk.viewer.layers[-1]
        labels.data[2, 2] = 77
        from napari_unet.core.proofreading.edits import cell_box

        cell_box(labels.data, 4040)

    monkeypatch.setitem(KINDS, "spoil", Kind(spoil, 0, {}))
    actions = [("add_labels", {"kind": "empty", "index": 0}), ("spoil", {}), ("wait", {"seconds": 0.05})]
    report = walked(Report(0, actions))
    assert [trouble.kind for trouble in report.troubles[:2]] == ["exception in spoil", "lost labels"]
    assert "1 pixels" in report.troubles[1].words and "from 0 to 77" in report.troubles[1].words
    assert report.done == 2
    assert read_lines(report.script()) == actions[:2]


def test_a_dock_that_only_the_last_error_of_others_knows_is_not_taken_for_a_leak(walked, monkeypatch):
    def fail(desk):
        dock = desk.dock(TRAIN)
        try:
            raise ValueError(dock)
        except ValueError as error:
            # As vispy does with an error in what it has called.
            sys.last_value = error

    monkeypatch.setitem(KINDS, "fail", Kind(fail, 0, {}))
    report = walked(Report(0, [("fail", {})]))
    assert report.reached["fail"] == 1
    assert not report.troubles, report.words()


def test_a_dock_that_somebody_keeps_is_a_leak(walked, monkeypatch):
    kept = []
    monkeypatch.setitem(KINDS, "keep", Kind(lambda desk: kept.append(desk.dock(TRAIN)), 0, {}))
    report = walked(Report(0, [("keep", {})]))
    assert [trouble.kind for trouble in report.troubles] == ["leaked objects"]
    assert "TrainDock" in report.troubles[0].words
    kept.clear()


def test_one_seed_gives_one_list_of_actions_that_can_be_written_and_read():
    first, again, other = (draw(random.Random(seed), 50) for seed in (4, 4, 5))
    assert first == again != other
    assert read_lines(lines_of(first)) == first


def test_errors_of_others_are_told_from_ours():
    assert Trouble("exception", "words", 'File "/a/napari_unet/plugin/dock.py", line 3, in run').ours
    assert not Trouble("exception", "words", 'File "/a/napari/layers/base.py", line 3, in run').ours
    assert Trouble("lost labels", "words").ours


OUR_FILTER = '  File "/a/napari_unet/plugin/docking.py", line 3, in eventFilter\n    isalive(window)\n'
THEIR_CLICK = '  File "/a/vispy/app/backends/_qt.py", line 4, in mousePressEvent\n    self.press()\n'


@pytest.mark.parametrize(
    ("inner", "trace", "ours"),
    [
        ("QWidget::mousePressEvent", OUR_FILTER * 2 + THEIR_CLICK, False),
        ("QWidget::mousePressEvent", OUR_FILTER + THEIR_CLICK + OUR_FILTER.replace("eventFilter", "paint"), True),
        ("QObject::eventFilter", THEIR_CLICK + OUR_FILTER, True),
        ("QWidget::wheelEvent", OUR_FILTER + THEIR_CLICK, True),
    ],
    ids=["their click", "our paint in their click", "our filter", "an override that is not listed"],
)
def test_an_event_filter_that_pyside_lists_has_no_part_in_an_error(inner, trace, ours):
    override = "Error calling Python override of"
    words = f"IndexError: {override} QObject::eventFilter(): {override} {inner}(): index 136 is out of bounds"
    assert Trouble("exception in stroke", words, trace).ours is ours


def test_an_exception_in_the_loop_reaches_who_runs_it(qtbot):
    def fail():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_loop(1, fail)
