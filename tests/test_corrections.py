"""What proofreading leaves on disk: a program that dies in mid-proofreading loses nothing."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from napari_unet.core.errors import StoreError
from napari_unet.core.proofreading import edits
from napari_unet.core.proofreading.corrections import Proof, Splitting
from napari_unet.core.proofreading.review import ACCEPTED, ReviewedCell
from napari_unet.records.correction_journal import Journal, corrections_folder
from napari_unet.records.recovery import recover, unsaved
from napari_unet.records.saved_labels import marks_path, read_marks, write_marks


def squares(planes=3):
    """Return planes with four squares each."""
    labels = np.zeros((planes, 30, 30), np.int32)
    for label, (y, x) in enumerate([(2, 2), (2, 13), (14, 2), (16, 16)], start=1):
        labels[:, y : y + 10, x : x + 10] = label
    return labels


class Desk:
    """Labels with a proof whose steps go into a journal, as in the dock."""

    def __init__(self, labels):
        self.labels, self.journal = labels, None
        self.proof = Proof(lambda plane: labels[plane], self._write, lambda: int(labels.max()), self._on_step)

    def _write(self, patches):
        for patch in patches:
            y0, y1, x0, x1 = patch.box
            self.labels[patch.plane][y0:y1, x0:x1] = patch.after

    def _on_step(self, what, step):
        if self.journal is None:
            self.journal = Journal.begin(self.labels, "zyx", self.proof.marks, {"name": "cells"})
        self.journal.note(what, step)

    def correct(self, cell, make, planes=(0, 1, 2)):
        self.proof.edit([((plane,), (cell,)) for plane in planes], "correct", make)

    def work(self):
        """Correct, accept, undo and redo."""
        self.correct(1, Splitting(1, lambda w: edits.split_at_constriction(w.labels, 1, w.fresh)))
        self.proof.accept([(1,), (2,)], 2)
        self.correct(3, lambda w: edits.delete(w.labels, 3), (2,))
        self.proof.undo()
        self.proof.undo()
        self.proof.redo()
        self.correct(4, lambda w: edits.grow(w.labels, 4), (0,))

    def settle(self):
        """Wait until everything is on disk."""
        wait_until(lambda: (self.journal.folder / "about.json").exists() and not self.journal._running)


def wait_until(arrived):
    for _ in range(600):
        if arrived():
            return
        time.sleep(0.05)
    raise TimeoutError("waited in vain")


def same(recovered, desk):
    """Whether everything is as it was, undo included."""
    np.testing.assert_array_equal(recovered.labels, desk.labels)
    return (recovered.marks, recovered.history) == (desk.proof.marks, desk.proof.history)


def test_everything_is_recovered_after_the_program_has_died():
    script = """
        import os, sys
        sys.path.insert(0, sys.argv[1])
        from test_corrections import Desk, squares
        desk = Desk(squares())
        desk.work()
        desk.settle()
        os._exit(9)
    """
    here = str(Path(__file__).parent)
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script), here], check=False)
    assert done.returncode == 9
    desk = Desk(squares())
    desk.work()
    (found,) = unsaved()
    assert found.steps == 3
    assert found.words().startswith("3 corrections of cells (")
    assert same(recover(found.folder), desk)


def test_what_is_being_proofread_is_not_offered_and_what_was_given_up_is():
    desk = Desk(squares())
    desk.work()
    desk.settle()
    assert unsaved() == []
    desk.journal.close()
    (found,) = unsaved()
    assert same(recover(found.folder), desk)
    found.discard()
    assert unsaved() == []


def test_another_program_that_still_runs_keeps_its_journal():
    desk = Desk(squares())
    desk.work()
    desk.settle()
    desk.journal.close()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        import psutil

        about = json.loads((desk.journal.folder / "about.json").read_text())
        about |= {"process": other.pid, "process_began": psutil.Process(other.pid).create_time()}
        (desk.journal.folder / "about.json").write_text(json.dumps(about))
        assert unsaved() == []
        other.communicate()
    assert len(unsaved()) == 1


def test_a_journal_that_breaks_off_is_recovered_up_to_there():
    desk = Desk(squares())
    desk.correct(1, lambda w: edits.delete(w.labels, 1))
    desk.settle()
    before = desk.labels.copy()
    file = desk.journal.folder / "steps.jsonl"
    whole = len(file.read_bytes())
    desk.correct(2, lambda w: edits.delete(w.labels, 2))
    desk.settle()
    file.write_bytes(file.read_bytes()[: whole + 100])
    recovered = recover(desk.journal.folder)
    # The labels may have been written before or after the step that is missing; the first step is there.
    assert not (recovered.labels == 1).any()
    np.testing.assert_array_equal(recovered.labels > 2, before > 2)
    assert len(recovered.history.steps()) == 1
    about = json.loads((desk.journal.folder / "about.json").read_text())
    (desk.journal.folder / "about.json").write_text(json.dumps(about | {"napari_unet_corrections": 1}))
    with pytest.raises(StoreError, match=r"cannot be read: format 1, but this version reads 2\.$"):
        recover(desk.journal.folder)
    (desk.journal.folder / "about.json").write_text("{")
    with pytest.raises(StoreError, match="cannot be read"):
        recover(desk.journal.folder)


def test_undoing_everything_leaves_nothing_to_recover():
    desk = Desk(squares())
    desk.correct(1, lambda w: edits.delete(w.labels, 1))
    desk.proof.undo()
    desk.settle()
    desk.journal.close()
    assert unsaved() == []


def test_a_saved_proofreading_leaves_no_journal():
    desk = Desk(squares())
    desk.work()
    desk.settle()
    desk.journal.discard()
    wait_until(lambda: not desk.journal.folder.exists())


def test_where_nothing_can_be_written_it_is_said(own_home):
    own_home.mkdir(parents=True)
    (own_home / "corrections").write_text("a file in the way")
    desk = Desk(squares())
    desk.correct(1, lambda w: edits.delete(w.labels, 1))
    assert "cannot be kept for the case of a crash" in desk.journal.problem
    desk.journal.discard()
    assert (own_home / "corrections").read_text() == "a file in the way"


def test_marks_lie_beside_the_labels(tmp_path):
    path = tmp_path / "cells.tif"
    marks = {(1,): {2: ReviewedCell.of(squares()[1], 2, ACCEPTED)}}
    write_marks(path, marks)
    assert read_marks(path) == marks
    assert marks_path(path).name == "cells.tif.checked.json"
    write_marks(path, {})
    assert not marks_path(path).exists()
    assert read_marks(path) == {}
    marks_path(path).write_text('{"napari_unet_checked": 1, "cells": []}')
    with pytest.raises(StoreError, match=r"cannot be read: format 1, but this version reads 2\.$"):
        read_marks(path)
    marks_path(path).write_text('{"napari_unet_checked": 2, "cells": [{"kind": "accepted"}]}')
    with pytest.raises(StoreError, match=r"cells\.tif\.checked\.json cannot be read"):
        read_marks(path)
    with pytest.raises(StoreError, match="cannot be written"):
        write_marks(tmp_path / "nowhere" / "cells.tif", marks)
    assert corrections_folder().name == "corrections"
