import numpy as np
import pytest

import painted_crops
from painted_crops import BACKGROUND, Picture, apart, bacteria, halves, paint_cells, paint_one
from reporting import CannotMeasure


def picture(count=6, size=10, boundary_erosion=2, name="squares", spared=True):
    """Return squares on a grid, ids in reading order."""
    side = count * (size + boundary_erosion)
    truth = np.zeros((side, side), np.int32)
    for index in range(count**2):
        y, x = (boundary_erosion // 2 + (size + boundary_erosion) * k for k in divmod(index, count))
        truth[y : y + size, x : x + size] = index + 1
    return Picture(name, truth.astype(np.uint8), truth, spared)


def test_painted_cells_are_whole_and_nearest_to_the_middle():
    whole = picture()
    painted = paint_one(whole, 4)
    dense = painted.crop.part(whole.truth)
    middle = {int(dense[painted.crop.labels == cell][0]) for cell in range(1, 5)}
    assert middle == {15, 16, 21, 22} and painted.cells == 4
    areas = np.bincount(painted.crop.labels.ravel())
    assert areas[1:5].tolist() == [100] * 4


def test_the_crop_is_dense_and_the_paint_leaves_neighbours_unknown():
    whole = picture()
    painted = paint_one(whole, 4)
    dense = painted.crop.part(whole.truth)
    np.testing.assert_array_equal(painted.crop.labels > 0, dense > 0)
    neighbours = painted.crop.labels > 4
    assert neighbours.any()
    paint = painted.paint
    inside = painted.crop.part(paint)
    assert (inside[neighbours] == 0).all() and (inside[dense == 0] == BACKGROUND).all()
    assert set(np.unique(inside[(dense > 0) & ~neighbours])) == {2, 3, 4, 5}
    outside = paint.copy()
    outside[painted.crop.around(0)] = 0
    assert not outside.any() and paint.shape == whole.truth.shape


def test_holes_in_the_numbers_of_the_truth_do_not_matter():
    whole = picture()
    renumbered = Picture("again", whole.image, whole.truth * 7, True)
    np.testing.assert_array_equal(paint_one(whole, 5).crop.labels, paint_one(renumbered, 5).crop.labels)


def test_a_picture_without_background_can_be_painted():
    truth = np.kron(np.arange(1, 10).reshape(3, 3), np.ones((12, 12), int)).astype(np.int32)
    painted = paint_one(Picture("tiles", truth, truth, True), 1)
    assert painted.crop.part(truth)[painted.crop.labels == 1].tolist() == [5] * 144
    assert (painted.paint > 0).sum() == 144


@pytest.mark.parametrize(("cells", "pictures"), [(5, 2), (20, 4), (37, 6)])
def test_the_cells_are_spread_over_about_as_many_pictures(cells, pictures):
    painted = paint_cells([picture(name=f"p{i}") for i in range(9)], cells)
    assert sum(p.cells for p in painted) == cells and len(painted) == pictures
    assert len({p.name for p in painted}) == pictures


def test_pictures_with_too_few_cells_are_left_out():
    few, many = [picture(count=1, name=f"few{i}") for i in range(5)], [picture(name=f"many{i}") for i in range(4)]
    assert {p.name for p in paint_cells(few + many, 20)} == {"many0", "many1", "many2", "many3"}
    with pytest.raises(CannotMeasure, match="5 pictures do not hold 20 cells to paint"):
        paint_cells(few, 20)


def test_the_diameter_is_that_of_whole_painted_cells():
    assert painted_crops.painted_diameter([paint_one(picture(), 4)]) == pytest.approx(np.sqrt(400 / np.pi))


def test_pictures_are_either_painted_or_tested_on():
    pictures = [picture(name=f"p{i:02}") for i in range(10)]
    paint, tests = apart(pictures)
    names = [p.name for p in paint + tests]
    assert len(names) == len(set(names)) == 10 and len(tests) == 5


def test_few_bacteria_are_tested_on_whether_spared_or_not():
    seen = [picture(count=n, name=f"seen{n}", spared=False) for n in (1, 2, 3)]
    paint, tests = bacteria([*seen, picture(count=3, name="spared")])
    assert [p.name for p in paint] == ["seen3"] and [t.name for t in tests] == ["seen1", "seen2", "spared"]
    assert [t.spared for t in tests] == [False, False, True]


def test_neighbouring_planes_are_painted_and_tested_at_different_places():
    y, x = np.mgrid[:40, :80]
    planes = [
        Picture(str(i), (y * 80 + x + i).astype(np.int32), (y * 80 + x + 1).astype(np.int32), True) for i in (1, 5)
    ]
    paint, tests = halves(planes)
    painted, tested = (set(np.concatenate([p.truth.ravel() for p in views])) for views in (paint, tests))
    assert painted.isdisjoint(tested) and len(painted) == 40 * 40 and len(tested) == 40 * 20
    assert {p.image.ravel()[0] - p.truth.ravel()[0] for p in paint} == {0}
    assert {p.image.ravel()[0] - p.truth.ravel()[0] for p in tests} == {4} and not any(t.spared for t in tests)


def test_the_middle_of_a_picture_is_tested_on():
    wide = Picture("wide", np.zeros((30, 50)), np.arange(1500, dtype=np.int32).reshape(30, 50), True)
    assert painted_crops.centre(wide, 20).truth[0, 0] == 5 * 50 + 15
    assert painted_crops.centre(wide, 40).truth.shape == (30, 40)
    assert painted_crops.tested([Picture("empty", np.zeros((9, 9)), np.zeros((9, 9), np.int32), True)]) == []


@pytest.mark.parametrize("name", list(painted_crops.KINDS))
def test_every_kind_has_twenty_cells_to_paint_and_others_to_test_on(name):
    import pretrain

    if not pretrain.DATA.exists():
        pytest.skip("the shared data are not here")
    kind = painted_crops.KINDS[name]
    paint, tests = kind.split(painted_crops.read_pictures(kind))
    assert sum(p.cells for p in paint_cells(paint, 20)) == 20
    assert name in ("bacteria", "em") or all(p.spared for p in paint + tests)
    assert name == "em" or not {p.name for p in paint} & {t.name for t in tests}
    assert sum(len(np.unique(t.truth)) - 1 for t in tests) >= 20 and sum(t.truth.size for t in tests) < 3e6
