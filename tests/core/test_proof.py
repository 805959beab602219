from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from napari_unet.core.data.annotation import AnnotatedImage
from napari_unet.core.errors import DataError
from napari_unet.core.proofreading import edits
from napari_unet.core.proofreading.bounding_boxes import find_cells
from napari_unet.core.proofreading.corrections import Make, Proof, Splitting, Window, merging
from napari_unet.core.proofreading.review import (
    ACCEPTED,
    DELETED,
    EDITED,
    ReviewedCell,
    as_annotation,
    fitting,
    marks_from_plain,
    marks_to_plain,
    put_back,
)
from napari_unet.core.proofreading.undo import Change, History, Step
from napari_unet.core.settings import NetworkSettings, TrainingSettings
from napari_unet.core.training.plan import resolve
from napari_unet.core.training.sampling import PatchSampler

Stack = NDArray[np.int32]


def stack(planes: int = 3) -> Stack:
    """Return planes with four squares each, labels 1 to 4."""
    labels = np.zeros((planes, 30, 30), np.int32)
    for label, (y, x) in enumerate([(2, 2), (2, 13), (14, 2), (16, 16)], start=1):
        labels[:, y : y + 10, x : x + 10] = label
    return labels


def proof_of(labels: Stack) -> Proof:
    def write(patches):  # type: ignore[no-untyped-def]
        for patch in patches:
            y0, y1, x0, x1 = patch.box
            labels[patch.plane][y0:y1, x0:x1] = patch.after

    return Proof(lambda plane: labels[plane], write, lambda: int(labels.max()))


def edit(proof: Proof, plane: int, cells: tuple[int, ...], make: Make) -> Step:
    return proof.edit([((plane,), cells)], "correct", make)


def merge(proof: Proof, plane: int, first: int, second: int) -> Step:
    return edit(proof, plane, (first, second), merging(first, second))


def delete(proof: Proof, plane: int, cell: int) -> Step:
    return edit(proof, plane, (cell,), lambda window: edits.delete(window.labels, cell))


def grow(proof: Proof, plane: int, cell: int) -> Step:
    return edit(proof, plane, (cell,), lambda window: edits.grow(window.labels, cell))


def halve(cell: int) -> Make:
    return lambda window: edits.split_at_constriction(window.labels, cell, window.fresh)


def kinds(proof: Proof, plane: int = 0) -> dict[int, str]:
    return {cell: kept.kind for cell, kept in proof.marked((plane,)).items()}


def test_edits_mark_what_they_changed() -> None:
    labels = stack()
    proof = proof_of(labels)
    merge(proof, 0, 1, 2)
    assert kinds(proof) == {1: EDITED}
    delete(proof, 0, 3)
    assert kinds(proof) == {1: EDITED, 3: DELETED}
    edit(proof, 1, (4,), halve(4))
    assert kinds(proof, 1) == {4: EDITED, 5: EDITED}
    proof.accept([(2,)], 1)
    assert proof.count() == {ACCEPTED: 1, EDITED: 3, DELETED: 1}
    assert [proof.touches((plane,)) for plane in range(3)] == [True, True, True]
    assert not proof_of(stack()).touches((0,))


def test_accepting_twice_takes_it_back_and_each_can_be_undone() -> None:
    proof = proof_of(stack())
    proof.accept([(0,)], 2)
    proof.accept([(0,)], 2)
    assert kinds(proof) == {}
    proof.undo()
    assert kinds(proof) == {2: ACCEPTED}
    proof.undo()
    assert kinds(proof) == {}
    proof.redo()
    assert kinds(proof) == {2: ACCEPTED}


def test_correcting_an_accepted_cell_and_undoing_it_leaves_it_accepted() -> None:
    labels = stack()
    proof = proof_of(labels)
    proof.accept([(0,)], 1)
    grow(proof, 0, 1)
    assert kinds(proof) == {1: EDITED}
    proof.undo()
    assert kinds(proof) == {1: ACCEPTED}
    np.testing.assert_array_equal(labels, stack())


def test_what_was_painted_without_a_note_is_not_lost_by_undo() -> None:
    labels = stack()
    proof = proof_of(labels)
    delete(proof, 0, 1)
    labels[0, 2:5, 2:5] = 9
    proof.undo()
    assert (labels[0, 2:5, 2:5] == 9).all()
    assert (labels[0] == 1).sum() == 91
    proof.redo()
    assert (labels[0, 2:12, 2:12] == 9).sum() == 9
    assert not (labels[0] == 1).any()


def test_an_impossible_correction_changes_nothing() -> None:
    labels = stack()
    proof = proof_of(labels)
    with pytest.raises(DataError):
        edit(proof, 0, (1,), lambda window: edits.fill(window.labels, 1))
    np.testing.assert_array_equal(labels, stack())
    assert proof.undo() is None
    assert proof.redo() is None
    assert not proof.marks


def test_new_labels_are_new_in_the_whole_stack() -> None:
    labels = stack()
    labels[2, 29, 29] = 40
    proof = proof_of(labels)
    for plane in (0, 1):
        edit(proof, plane, (1,), halve(1))
    assert set(np.unique(labels)) == {0, 1, 2, 3, 4, 40, 41, 42}


SEEDS = [(4, 4), (8, 9), (18, 20)]


def line(window: Window, a: int, b: int) -> edits.Edit:
    return edits.split_by_line(window.labels, a, window.inside([(a, 0), (29, 29 - b)]), window.fresh)


ACTIONS = {
    "merge": lambda a, b: merging(a, b),
    "split": lambda a, b: Splitting(a, halve(a)),
    "seeds": lambda a, b: Splitting(
        a, lambda window: edits.split_by_seeds(window.labels, a, window.inside(SEEDS), window.fresh)
    ),
    "line": lambda a, b: Splitting(a, lambda window: line(window, a, b)),
    "delete": lambda a, b: lambda window: edits.delete(window.labels, a),
    "fill": lambda a, b: lambda window: edits.fill(window.labels, a),
    "grow": lambda a, b: lambda window: edits.grow(window.labels, a),
    "shrink": lambda a, b: lambda window: edits.shrink(window.labels, a),
}


def do(proof: Proof, name: str, plane: int, a: int, b: int) -> None:
    """Take an action on a cell: in one plane, or from there through all planes with it where ``b`` is even."""
    planes = [(plane,), *((p,) for p in range(3) if p != plane and b % 2 == 0)]
    here = [where for where in planes if a in proof.places.of(where)]
    if name == "accept":
        proof.accept(here or planes, a)
    else:
        proof.edit(
            [(where, (a, b) if name == "merge" else (a,)) for where in here or planes], name, ACTIONS[name](a, b)
        )


moves = st.tuples(
    st.sampled_from([*ACTIONS, "accept", "undo", "redo"]), st.integers(0, 2), st.integers(1, 7), st.integers(1, 7)
)


@settings(max_examples=60, deadline=None)
@given(st.lists(moves, max_size=25))
def test_undo_restores_every_state_bit_by_bit_and_redo_every_later_one(
    script: list[tuple[str, int, int, int]],
) -> None:
    labels = stack()
    proof = proof_of(labels)
    states = [(labels.copy(), {plane: dict(cells) for plane, cells in proof.marks.items()})]
    at = 0

    def check() -> None:
        for where in range(3):
            np.testing.assert_array_equal(proof.places.of((where,)).ids, find_cells(labels[where]).ids)
            np.testing.assert_array_equal(proof.places.of((where,)).boxes, find_cells(labels[where]).boxes)
        np.testing.assert_array_equal(labels, states[at][0])
        assert proof.marks == states[at][1]
        assert labels.dtype == np.int32

    for name, plane, a, b in script:
        if name in ("undo", "redo"):
            step = proof.undo() if name == "undo" else proof.redo()
            at += {"undo": -1, "redo": 1}[name] if step else 0
            check()
            continue
        try:
            do(proof, name, plane, a, b)
        except DataError:
            check()
            continue
        del states[at + 1 :]
        states.append((labels.copy(), {key: dict(cells) for key, cells in proof.marks.items()}))
        at += 1
    while proof.undo() is not None:
        at -= 1
        check()
    assert at == 0
    while proof.redo() is not None:
        at += 1
        check()
    assert at == len(states) - 1


@settings(max_examples=40, deadline=None)
@given(st.lists(moves, max_size=15))
def test_marks_say_what_is_there(script: list[tuple[str, int, int, int]]) -> None:
    labels = stack()
    proof = proof_of(labels)
    for name, plane, a, b in script:
        try:
            proof.undo() if name in ("undo", "redo") else do(proof, name, plane, a, b)
        except DataError:
            continue
    for (plane,), cells in proof.marks.items():
        for cell, kept in cells.items():
            mask = np.zeros(labels.shape[1:], bool)
            mask[kept.where] = kept.mask
            if kept.kind == DELETED:
                assert not (labels[plane] == cell).any()
            else:
                assert ((labels[plane] == cell) == mask).all()
            assert mask[kept.middle]


def test_the_oldest_steps_are_forgotten_before_memory_is_full() -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 1000, (20, 20))
    step = Step("noise", (Change.of((), (0, 20, 0, 20), noise, noise + 1),))
    history = History(largest=3 * step.nbytes)
    for _ in range(10):
        history.push(step)
    assert len(history.steps()) == 3
    assert step.changes[0].before.tolist() == noise.tolist()
    history = History(largest=1)
    history.push(step)
    assert history.words() == ("noise", "")


# --- what follows from it -----------------------------------------------------------------------


def checked() -> tuple[Proof, Stack]:
    """Return a proof with cell 1 accepted, 2 grown and 3 deleted in plane 0."""
    labels = stack()
    proof = proof_of(labels)
    proof.accept([(0,)], 1)
    grow(proof, 0, 2)
    delete(proof, 0, 3)
    return proof, labels


def test_checked_cells_are_put_back_over_a_new_segmentation() -> None:
    proof, labels = checked()
    new = np.zeros((30, 30), np.int32)
    new[3:11, 3:11] = 2  # nearly the accepted cell, under another label
    new[14:24, 2:12] = 7  # the deleted cell
    new[16:26, 16:26] = 1  # one that nobody has checked, under a checked one's label
    new[0:2, 10:20] = 5  # touches the edited cell, which lies from row 1 on
    out = put_back(new, proof.marked((0,)))
    np.testing.assert_array_equal(out == 1, labels[0] == 1)
    np.testing.assert_array_equal(out == 2, labels[0] == 2)
    assert not out[14:24, 2:12].any()
    assert not (out == 7).any()
    other = set(np.unique(out[16:26, 16:26]))
    assert len(other) == 1
    assert other.isdisjoint({0, 1, 2, 3})
    assert (out[0, 10:20] == 5).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**16), st.lists(moves, max_size=10))
def test_putting_back_twice_changes_nothing_more(seed: int, script: list[tuple[str, int, int, int]]) -> None:
    labels = stack()
    proof = proof_of(labels)
    for name, _, a, b in script:
        if name in ACTIONS:
            try:
                do(proof, name, 0, a, b)
            except DataError:
                continue
    kept = proof.marked((0,))
    blocks = np.random.default_rng(seed).integers(0, 6, (10, 10))
    new = np.kron(blocks, np.ones((3, 3))).astype(np.int32)
    once = put_back(new, kept)
    for cell, item in kept.items():
        if item.kind != DELETED:
            assert (once[item.where][item.mask] == cell).all()
            assert (once == cell).sum() == item.mask.sum()
    np.testing.assert_array_equal(put_back(once, kept) > 0, once > 0)
    assert put_back(new, {}).tolist() == new.tolist()


def test_checked_cells_become_annotation_beside_the_paint() -> None:
    proof, labels = checked()
    drawn = np.zeros((30, 30), np.uint16)
    drawn[16:26, 16:26] = 9
    out, places = as_annotation(drawn, proof.marked((0,)).values(), background=1)
    assert (out[16:26, 16:26] == 9).all()
    assert (out[14:24, 2:12] == 1).all()
    accepted, edited = (set(out[labels[0] == cell]) for cell in (1, 2))
    assert len(accepted) == len(edited) == 1
    assert not accepted & edited
    assert (accepted | edited).isdisjoint({0, 1, 9})
    assert len(places) == 3
    assert all(out[place] for place in places)


def test_paint_by_hand_comes_before_checked_cells() -> None:
    proof, labels = checked()
    drawn = np.where(labels[0] == 1, 5, 0)
    out, places = as_annotation(drawn, proof.marked((0,)).values(), background=0)
    assert (out[labels[0] == 1] == 5).all()
    assert len(places) == 1  # without a background label, the deleted cell cannot be said


def test_cells_of_another_picture_are_refused() -> None:
    kept = {1: ReviewedCell.of(stack()[0], 1, ACCEPTED)}
    for use in (partial(put_back, kept=kept), partial(as_annotation, kept=kept.values(), background=1)):
        with pytest.raises(DataError, match="belongs to another picture"):
            use(np.zeros((5, 5), np.int32))


# --- through the stack ----------------------------------------------------------------------------


def shifted(planes: int = 4) -> Stack:
    """Return a stack through which cells lean: each plane is one pixel further to the right."""
    labels = stack(planes)
    return np.stack([np.roll(plane, number, 1) for number, plane in enumerate(labels)])


def through(cell: int, *, first: int = 0, planes: int = 4) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Return all planes with a cell, from one of them on."""
    return [((plane,), (cell,)) for plane in sorted(range(planes), key=lambda plane: abs(plane - first))]


def test_a_split_goes_on_through_the_stack_and_is_one_step() -> None:
    labels = shifted()
    proof = proof_of(labels)
    cut = Splitting(1, lambda w: edits.split_by_line(w.labels, 1, w.inside([(0, 7), (20, 7)]), w.fresh))
    step = proof.edit(through(1, first=2), "split", cut)
    assert len(step.changes) == 4
    for plane in range(4):
        row = labels[plane, 5, plane + 2 : plane + 12].tolist()
        # The border stays where it was drawn, as far as the cell is still there.
        assert sorted(set(row)) == [1, 5]
        assert row.index(row[-1]) in {7 - plane - 2, 7 - plane - 1}
        assert kinds(proof, plane) == {1: EDITED, 5: EDITED}
    proof.undo()
    np.testing.assert_array_equal(labels, shifted())


def test_a_plane_on_one_side_of_the_border_becomes_that_part() -> None:
    labels = np.zeros((2, 20, 40), np.int32)
    labels[0, 5:15, 5:35] = 1
    labels[1, 5:15, 24:35] = 1
    proof = proof_of(labels)
    proof.edit(through(1, planes=2), "split", Splitting(1, halve(1)))
    assert len(np.unique(labels[1])) == 2
    assert labels[1, 10, 30] == labels[0, 10, 30]


def test_where_a_split_is_not_possible_on_screen_it_is_made_nowhere() -> None:
    labels = stack()
    labels[1:, 2:12, 2:12] = 1
    proof = proof_of(labels)
    before = labels.copy()
    line = Splitting(1, lambda w: edits.split_by_line(w.labels, 1, w.inside([(0, 0), (0, 20)]), w.fresh))
    with pytest.raises(DataError, match="does not part cell 1"):
        proof.edit(through(1, planes=3), "split", line)
    np.testing.assert_array_equal(labels, before)


def test_merging_renames_where_only_the_second_cell_is() -> None:
    labels = stack()
    labels[2][labels[2] == 1] = 0
    proof = proof_of(labels)
    targets = [((0,), (1, 2)), ((1,), (1, 2)), ((2,), (2,))]
    proof.edit(targets, "merge", merging(1, 2))
    assert not (labels == 2).any()
    np.testing.assert_array_equal(labels[2] == 1, stack()[2] == 2)
    assert kinds(proof, 2) == {1: EDITED}
    proof.undo()
    assert (labels[2] == 2).sum() == 100


def test_planes_where_nothing_is_to_be_done_are_left_out() -> None:
    labels = stack()
    labels[1, 5, 5] = 0
    proof = proof_of(labels)
    step = proof.edit(through(1, planes=3), "fill", lambda window: edits.fill(window.labels, 1))
    assert [change.plane for change in step.changes] == [(1,)]
    np.testing.assert_array_equal(labels, stack())


def test_a_cell_is_accepted_and_taken_back_in_all_planes() -> None:
    proof = proof_of(stack())
    proof.accept([(1,)], 2)
    proof.accept([(0,), (1,), (2,)], 2)
    assert [kinds(proof, plane) for plane in range(3)] == [{2: ACCEPTED}] * 3
    proof.accept([(2,), (1,), (0,)], 2)
    assert not proof.marks


# --- what is written down -------------------------------------------------------------------------


def test_marks_and_changes_are_the_same_after_a_file() -> None:
    proof, labels = checked()
    plain = json.loads(json.dumps(marks_to_plain(proof.marks)))
    assert marks_from_plain(plain) == proof.marks
    change = proof.history.steps()[-1].changes[0]
    assert Change.from_plain(json.loads(json.dumps(change.to_plain()))) == change
    for damage in ({"kind": "guessed"}, {"box": [0, 3]}, {"mask": "no!"}, {"box": [0, 900, 0, 900]}, {"cell": None}):
        with pytest.raises(DataError, match="cannot be read"):
            marks_from_plain([{**plain[0], **damage}])
    for damage in ({"dtype": "float32"}, {"before": "AAAA"}, {"plane": 3}):
        with pytest.raises(DataError, match="cannot be read"):
            Change.from_plain({**change.to_plain(), **damage})


def test_marks_are_kept_only_where_the_cells_are_still_the_same() -> None:
    proof, labels = checked()
    planes = [(0,), (1,)]
    assert fitting(proof.marks, lambda plane: labels[plane], planes) == proof.marks
    assert fitting(proof.marks, lambda plane: labels[plane], [(1,)]) == {}
    assert fitting(proof.marks, lambda plane: labels[plane][:8], planes) == {}
    labels[0, 2, 2] = 0
    labels[0, 15, 3] = 3
    assert set(fitting(proof.marks, lambda plane: labels[plane], planes)[(0,)]) == {2}


def test_checked_cells_count_more_in_the_patches_that_a_training_draws() -> None:
    labels = np.zeros((64, 1600), np.int32)
    for label, x in enumerate(range(100, 1600, 300), start=1):
        labels[20:40, x : x + 20] = label
    proof = proof_of(labels[None])
    proof.accept([(0,)], 2)
    paint = np.where((labels > 0) & (labels != 2), labels + 1, 0)
    paint[:, ::90] = 1
    shares = {}
    for kept in ([], [*proof.marked((0,)).values()]):
        drawn, places = as_annotation(paint if kept else np.where(labels == 2, 90, paint), kept, background=1)
        item = AnnotatedImage(labels.astype(np.float32), drawn, (), "a", places)
        plan = resolve([item], TrainingSettings(validation=0.0, background_label=1), network=NetworkSettings(4, 1))
        sampler = PatchSampler(plan.split.train, plan.settings, (64, 32), np.random.default_rng(0))
        (sample,) = plan.split.train
        number = sample.known.instances[30, 410]
        assert number > 0
        shares[len(kept)] = np.mean([(sampler.draw().instances == number).any() for _ in range(400)])
    # One cell of five, four times more often than others.
    assert shares[1] > 1.5 * shares[0] > 0
