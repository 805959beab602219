from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from napari_unet.core.data.annotation import AnnotatedImage
from napari_unet.core.data.rescale import choose_scale
from napari_unet.core.data.weight_map import boundary_weight_map
from napari_unet.core.evaluation.annotation_checks import Finding, check_labels, weight_map
from napari_unet.core.instances.constriction import find_constriction, sides_of_seeds, split_across_long_axis
from napari_unet.core.settings import TrainingSettings

PAINT = TrainingSettings(background_label=1)
CENTRES = [(30, 30), (30, 75), (30, 120), (75, 30), (75, 75)]
RADIUS = 12


def disc(y: float, x: float, radius: float, shape: tuple[int, int] = (150, 150)) -> NDArray[np.bool_]:
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return np.asarray(np.hypot(rows - y, columns - x) < radius)


def well_painted() -> NDArray[np.int32]:
    """Return five discs, labels 2 to 6, and enough background with label 1."""
    labels = np.zeros((150, 150), np.int32)
    labels[100:, :] = 1
    for label, (y, x) in enumerate(CENTRES, start=2):
        labels[disc(y, x, RADIUS)] = label
    return labels


def findings(*planes: NDArray[np.int32], **about: float | None) -> list[Finding]:
    images = [AnnotatedImage(np.zeros(plane.shape), plane) for plane in planes]
    return check_labels(images, PAINT, **about)  # type: ignore[arg-type]


def only(found: list[Finding], kind: str) -> Finding:
    """Return the only finding besides the plan, which has to be of this kind."""
    odd = [finding for finding in found if finding.kind != "plan"]
    assert [finding.kind for finding in odd] == [kind]
    return odd[0]


def test_a_good_annotation_only_says_what_takes_part() -> None:
    (plan,) = findings(well_painted(), expected=24.0)
    assert (plan.kind, plan.severity) == ("plan", "note")
    assert plan.words.startswith("1 plane with 5 cells, ")
    assert plan.words.endswith("Training takes about 60 s.")


def test_one_label_on_two_cells_is_found_where_the_second_one_is() -> None:
    labels = well_painted()
    labels[labels == 6] = 2
    found = only(findings(well_painted(), labels), "pieces")
    assert (found.image, found.label) == (1, 2)
    assert labels[found.position] == 2
    assert min(np.hypot(*np.subtract(found.position, CENTRES[i])) for i in (0, 4)) < 2
    assert "2 separate pieces" in found.words


@pytest.mark.parametrize(("distance", "touching"), [(22, True), (18, True), (10, False)])
def test_two_touching_cells_under_one_label_have_a_waist(distance: int, touching: bool) -> None:
    labels = well_painted()
    labels[disc(75, 75 + distance, RADIUS)] = 6
    kinds = [finding.kind for finding in findings(labels)]
    assert ("touching" in kinds) == touching
    if touching:
        found = only(findings(labels), "touching")
        assert found.label == 6
        assert abs(found.position[1] - (75 + distance / 2)) <= 1.5


def test_specks_alone_and_beside_their_cell() -> None:
    labels = well_painted()
    labels[5:7, 5:7] = 9
    labels[90, 90] = 3
    specks = [finding for finding in findings(labels) if finding.kind == "speck"]
    assert [(finding.label, finding.position) for finding in specks] == [(3, (90, 90)), (9, (5, 5))]
    assert [finding.extent for finding in specks] == [1, 2]
    assert {finding.kind for finding in findings(labels)} == {"speck", "plan"}


def test_a_hole_is_found_and_a_cell_inside_a_cell_is_none() -> None:
    labels = well_painted()
    labels[28:31, 28:31] = 0
    found = only(findings(labels), "hole")
    assert (found.label, found.position) == (2, (29, 29))
    assert "9 px" in found.words
    assert found.extent == 3
    labels[28:31, 28:31] = 1
    assert only(findings(labels), "hole").label == 2
    labels[26:33, 26:33] = 7
    assert "hole" not in [finding.kind for finding in findings(labels)]


def test_nothing_to_learn_from_is_an_error_and_comes_first() -> None:
    empty = np.zeros((40, 40), np.int32)
    background = np.ones_like(empty)
    for plane, words in ((empty, "Nothing is painted"), (background, "No cell is painted")):
        first = findings(plane)[0]
        assert (first.kind, first.severity) == ("nothing", "error")
        assert words in first.words
    cells = AnnotatedImage(empty, np.full((40, 40), 5))
    first = check_labels([cells], TrainingSettings(background_rim=0))[0]
    assert (first.kind, first.severity) == ("background", "error")


def test_little_background_and_a_single_cell_are_warned_of() -> None:
    labels = np.zeros((150, 150), np.int32)
    labels[disc(60, 60, 40)] = 2
    kinds = [finding.kind for finding in findings(labels)]
    assert kinds == ["background", "validation", "plan"]


def test_sizes_far_from_what_the_network_knows_offer_the_measured_diameter() -> None:
    found = only(findings(well_painted(), expected=6.0), "size")
    assert found.diameter == pytest.approx(2 * RADIUS, rel=0.05)
    assert f"{choose_scale(found.diameter, 6.0):.0%} of its size" in found.words
    assert "knows cells of 6 to 9 px" in found.words
    # No word where the model has seen such cells at this size before.
    assert "size" not in [f.kind for f in findings(well_painted(), expected=6.0, scale=6.0 / (2 * RADIUS))]
    small = np.where(well_painted() == 1, 1, 0)
    for label, (y, x) in enumerate(CENTRES, start=2):
        small[disc(y, x, RADIUS / 3)] = label
    assert "learns best with cells of 12 to 48 px" in only(findings(small, expected=None), "size").words
    images = [AnnotatedImage(np.zeros((150, 150)), well_painted())]
    wrong = check_labels(images, TrainingSettings(background_label=1, diameter=100.0), expected=24.0)
    found = only(wrong, "size")
    assert found.severity == "warning"
    assert "set to 100 px, but the painted cells are about 24 px" in found.words


@pytest.mark.parametrize(
    ("changes", "step_seconds", "words"),
    [
        ({"seconds": 30.0}, 0.5, "about 30 s, about 60 steps"),
        ({"seconds": 30.0}, 50.0, "about 30 s, about 1 step."),
        ({"seconds": 0.0}, 0.5, "until it is stopped"),
        ({"seconds": 0.0, "steps": 50}, 0.5, "about 25 s, about 50 steps"),
        ({"seconds": 30.0, "steps": 50}, 0.0, "50 steps or 30 s, whatever is first"),
    ],
)
def test_the_time_is_estimated(changes: dict[str, float], step_seconds: float, words: str) -> None:
    images = [AnnotatedImage(np.zeros((150, 150)), well_painted())]
    wanted = TrainingSettings(background_label=1, **changes)  # type: ignore[arg-type]
    assert words in check_labels(images, wanted, step_seconds=step_seconds)[-1].words


def test_kinds_of_cell_are_not_taken_for_single_cells() -> None:
    labels = well_painted()
    labels[labels > 1] = 2
    images = [AnnotatedImage(np.zeros(labels.shape), labels)]
    found = check_labels(images, TrainingSettings(background_label=1, mode="classes"))
    assert [finding.kind for finding in found] == ["plan"]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(1, 9), st.integers(1, 5)), max_size=12))
def test_every_place_found_is_on_or_in_the_cell_it_names(squares: list[tuple[int, int, int, int]]) -> None:
    labels = np.zeros((40, 40), np.int32)
    for y, x, side, label in squares:
        labels[y : y + side, x : x + side] = label
    for finding in findings(labels):
        if finding.kind in ("pieces", "touching", "speck"):
            assert labels[finding.position] == finding.label
        elif finding.kind == "hole":
            assert labels[finding.position] in (0, 1)


def test_the_weight_map_is_that_of_equation_2_where_something_is_known() -> None:
    labels = well_painted()
    labels[disc(30, 55, RADIUS)] = 9
    got = weight_map(AnnotatedImage(np.zeros(labels.shape), labels), PAINT)
    expected = boundary_weight_map(np.where(labels > 1, labels, 0), w0=PAINT.border_weight, sigma=PAINT.border_sigma)
    known = labels > 0
    np.testing.assert_allclose(got[known], expected[known], rtol=1e-5)
    assert got.max() > 5
    assert not got[60, 140]


# --- the waist itself ---------------------------------------------------------------------------


def test_a_waist_parts_two_discs_at_their_border() -> None:
    one, other = disc(40, 40, 15), disc(40, 66, 15)
    constriction = find_constriction(one | other)
    assert constriction is not None
    assert 0 < constriction.ratio < 0.6
    assert (constriction.sides > 0).tolist() == (one | other).tolist()
    assert (constriction.sides[:, :50][one[:, :50]] == constriction.sides[40, 40]).all()
    assert constriction.sides[40, 40] != constriction.sides[40, 66]


def test_discs_ellipses_and_squares_have_no_waist() -> None:
    rows, columns = np.mgrid[:80, :80]
    ellipse = ((rows - 40) / 10) ** 2 + ((columns - 40) / 35) ** 2 < 1
    for shape in (disc(40, 40, 20), ellipse, np.ones((30, 50), bool)):
        assert find_constriction(shape) is None


def test_halves_lie_across_the_long_axis() -> None:
    mask = np.zeros((20, 60), bool)
    mask[5:15, 5:55] = True
    sides = split_across_long_axis(mask)
    assert (sides > 0).tolist() == mask.tolist()
    assert len(np.unique(sides[5:15, 5:29])) == 1
    assert sides[10, 10] != sides[10, 50]
    assert abs((sides == 1).sum() - (sides == 2).sum()) <= 10


def test_seeds_take_the_pixels_on_their_side() -> None:
    mask = disc(40, 40, 15) | disc(40, 66, 15)
    sides = sides_of_seeds(mask, [(40, 66), (40, 40)])
    assert (sides[40, 60], sides[40, 46]) == (1, 2)
    assert (sides > 0).tolist() == mask.tolist()
