from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from napari_unet.core import editing
from napari_unet.core.errors import DataError
from napari_unet.core.history import Change, History, Step
from napari_unet.core.proof import ACCEPTED, DELETED, EDITED, Kept, Proof, as_annotation, put_back

Stack = NDArray[np.int32]


def stack(planes: int = 3) -> Stack:
    """Return planes with four squares each, labels 1 to 4."""
    labels = np.zeros((planes, 30, 30), np.int32)
    for label, (y, x) in enumerate([(2, 2), (2, 13), (14, 2), (16, 16)], start=1):
        labels[:, y : y + 10, x : x + 10] = label
    return labels


def proof_of(labels: Stack) -> Proof:
    def write(plane, box, values):  # type: ignore[no-untyped-def]
        y0, y1, x0, x1 = box
        labels[plane][y0:y1, x0:x1] = values

    return Proof(lambda plane: labels[plane], write, int(labels.max()))


def kinds(proof: Proof, plane: int = 0) -> dict[int, str]:
    return {cell: kept.kind for cell, kept in proof.marked((plane,)).items()}


def test_edits_mark_what_they_changed() -> None:
    labels = stack()
    proof = proof_of(labels)
    proof.edit((0,), "merge", lambda plane, _: editing.merge(plane, 1, 2))
    assert kinds(proof) == {1: EDITED}
    proof.edit((0,), "delete", lambda plane, _: editing.delete(plane, 3))
    assert kinds(proof) == {1: EDITED, 3: DELETED}
    proof.edit((1,), "split", lambda plane, fresh: editing.split_at_waist(plane, 4, fresh))
    assert kinds(proof, 1) == {4: EDITED, 5: EDITED}
    proof.accept((2,), 1)
    assert proof.count() == {ACCEPTED: 1, EDITED: 3, DELETED: 1}
    assert [proof.touches((plane,)) for plane in range(3)] == [True, True, True]
    assert not proof_of(stack()).touches((0,))


def test_accepting_twice_takes_it_back_and_each_can_be_undone() -> None:
    proof = proof_of(stack())
    proof.accept((0,), 2)
    proof.accept((0,), 2)
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
    proof.accept((0,), 1)
    proof.edit((0,), "grow", lambda plane, _: editing.grow(plane, 1))
    assert kinds(proof) == {1: EDITED}
    proof.undo()
    assert kinds(proof) == {1: ACCEPTED}
    np.testing.assert_array_equal(labels, stack())


def test_what_was_painted_without_a_note_is_not_lost_by_undo() -> None:
    labels = stack()
    proof = proof_of(labels)
    proof.edit((0,), "delete", lambda plane, _: editing.delete(plane, 1))
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
        proof.edit((0,), "fill", lambda plane, _: editing.fill(plane, 1))
    np.testing.assert_array_equal(labels, stack())
    assert proof.undo() is None
    assert proof.redo() is None
    assert not proof.marks


def test_new_labels_are_new_in_the_whole_stack() -> None:
    labels = stack()
    labels[2, 29, 29] = 40
    proof = proof_of(labels)
    for plane in (0, 1):
        proof.edit((plane,), "split", lambda values, fresh: editing.split_at_waist(values, 1, fresh))
    assert set(np.unique(labels)) == {0, 1, 2, 3, 4, 40, 41, 42}


ACTIONS = {
    "merge": lambda a, b: lambda plane, fresh: editing.merge(plane, a, b),
    "split": lambda a, b: lambda plane, fresh: editing.split_at_waist(plane, a, fresh),
    "seeds": lambda a, b: lambda plane, fresh: editing.split_by_seeds(plane, a, [(4, 4), (8, 9), (18, 20)], fresh),
    "line": lambda a, b: lambda plane, fresh: editing.split_by_line(plane, a, [(a, 0), (29, 29 - b)], fresh),
    "delete": lambda a, b: lambda plane, fresh: editing.delete(plane, a),
    "fill": lambda a, b: lambda plane, fresh: editing.fill(plane, a),
    "grow": lambda a, b: lambda plane, fresh: editing.grow(plane, a),
    "shrink": lambda a, b: lambda plane, fresh: editing.shrink(plane, a),
}
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
            if name == "accept":
                proof.accept((plane,), a)
            else:
                proof.edit((plane,), name, ACTIONS[name](a, b))
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
            if name in ACTIONS:
                proof.edit((plane,), name, ACTIONS[name](a, b))
            elif name == "accept":
                proof.accept((plane,), a)
            else:
                proof.undo()
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
    proof.accept((0,), 1)
    proof.edit((0,), "grow", lambda plane, _: editing.grow(plane, 2))
    proof.edit((0,), "delete", lambda plane, _: editing.delete(plane, 3))
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
                proof.edit((0,), name, ACTIONS[name](a, b))
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
    kept = {1: Kept.of(stack()[0], 1, ACCEPTED)}
    for use in (partial(put_back, kept=kept), partial(as_annotation, kept=kept.values(), background=1)):
        with pytest.raises(DataError, match="belongs to another picture"):
            use(np.zeros((5, 5), np.int32))
