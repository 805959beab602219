"""The account of labels tells what the network writes from what the user does, also where both come at once."""

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_unet.plugin.layers import result as results
from napari_unet.plugin.layers.result import ResultLayer, new_result

from .account import Labels
from .vocabulary import NOTHING, PAINT, Kind

CELLS, OTHERS = np.zeros((2, 96, 128), int)
CELLS[20:40, 20:40], CELLS[60:80, 20:40] = 1, 2
OTHERS[20:40, 30:50], OTHERS[60:80, 90:100] = 1, 2


class Desk:
    """A viewer without docks; the result of a network in it, and an account of both."""

    def __init__(self):
        self.viewer = ViewerModel()
        image = self.viewer.add_image(np.zeros((2, 96, 128)), name="stack")
        self.result = new_result(self.viewer, image, "zyx", "instances", "model")
        self.layer = self.result.layer()
        self.viewer.layers.selection.active = self.layer
        self.account = Labels(self)
        self.during(NOTHING)

    def dock(self, name):
        return None

    def during(self, edits, *steps):
        """Do something, all in one action that may change what ``edits`` says, and return what was wrong with it."""
        self.account.prepare(Kind(lambda desk: None, 0, {}, edits))
        for step in steps:
            step()
        return [words for _, words in self.account.look()]

    def answer(self, plane, cells):
        return lambda: self.result.write(self.viewer, (plane,), cells, ())

    def paint(self, at, label=7):
        return lambda: self.layer.data_setitem(tuple(np.array([i]) for i in at), label)


@pytest.fixture
def desk():
    desk = Desk()
    with desk.account.watching():
        yield desk


def test_what_the_network_writes_while_the_user_does_something_stays_the_networks(desk):
    assert desk.during(PAINT, desk.answer(0, CELLS)) == []
    assert desk.during(NOTHING, desk.answer(0, OTHERS)) == []
    assert desk.during(PAINT, desk.paint((0, 30, 30)), desk.answer(1, CELLS), desk.paint((0, 30, 33))) == []
    # As if no stroke had been noticed, which keeps a result from following the sliders.
    desk.result._painted = False
    assert desk.during(NOTHING, desk.answer(1, OTHERS)) == []


@pytest.mark.parametrize(
    ("edits", "first", "lost"),
    [(NOTHING, None, 1), (PAINT, None, 1), (PAINT, (1, 5, 5), 1), (PAINT, (0, 5, 5), 2)],
    ids=["while nothing is done", "while the mouse moves", "with a stroke elsewhere", "with another stroke there"],
)
def test_a_correction_that_the_network_overwrites_is_lost_whatever_the_user_does_meanwhile(
    desk, monkeypatch, edits, first, lost
):
    monkeypatch.setattr(ResultLayer, "_protects", lambda result, plane: False)
    desk.during(NOTHING, desk.answer(0, CELLS))
    assert desk.during(PAINT, desk.paint((0, 30, 35))) == []
    steps = [desk.paint(first)] if first is not None else []
    (words,) = desk.during(edits, *steps, desk.answer(0, OTHERS))
    assert words.startswith(f"{lost} pixels of stack cells that the user has changed were overwritten by the network")
    assert "from 7 to" in words


def test_a_correction_that_stays_is_not_lost(desk):
    desk.during(NOTHING, desk.answer(0, CELLS))
    assert desk.during(PAINT, desk.paint((0, 30, 35))) == []
    assert desk.during(NOTHING, desk.answer(0, OTHERS)) == []
    assert desk.layer.data[0, 30, 35] == 7


@pytest.mark.parametrize(
    ("name", "instead", "label"),
    [("_with_paint", lambda result, plane, values: values, 7), ("give_way", lambda values, *taken: values, 2)],
    ids=["is overwritten", "becomes one with a cell"],
)
def test_paint_in_a_plane_that_is_still_to_be_computed_is_lost_when_it(desk, monkeypatch, name, instead, label):
    monkeypatch.setattr(results if name == "give_way" else ResultLayer, name, instead)
    assert desk.during(PAINT, desk.paint((1, 30, 35), label)) == []
    (words,) = desk.during(PAINT, desk.answer(1, CELLS))
    assert words.startswith("1 pixels of stack cells that the user has changed were overwritten by the network")


def test_what_was_erased_before_there_was_a_cell_keeps_none_away(desk):
    assert desk.during(PAINT, desk.paint((1, 30, 35))) == []
    assert desk.during(PAINT, desk.paint((1, 30, 35), 0)) == []
    assert desk.during(NOTHING, desk.answer(1, CELLS)) == []
    assert desk.layer.data[1, 30, 35] == 1


def test_a_result_is_changed_by_the_network_or_by_the_user_and_by_nobody_else(desk):
    desk.during(NOTHING, desk.answer(0, CELLS))

    def spoil():
        desk.layer.data[0, 90, 90] = 3

    (words,) = desk.during(NOTHING, spoil)
    assert words == "1 pixels of stack cells were changed by nobody, such as (0, 90, 90) from 0 to 3"
    (words,) = desk.during(NOTHING, spoil, lambda: desk.layer.data.__setitem__((1, 2, 2), 4), desk.answer(0, OTHERS))
    assert "(1, 2, 2) from 0 to 4" in words


def test_labels_of_another_size_were_changed(desk):
    desk.during(NOTHING)
    (words,) = desk.during(NOTHING, lambda: setattr(desk.layer, "data", np.zeros((2, 5, 5), int)))
    assert words == "stack cells was (2, 96, 128) and is (2, 5, 5)"
    assert desk.during(PAINT, lambda: setattr(desk.layer, "data", np.zeros((2, 6, 6), int))) == []
