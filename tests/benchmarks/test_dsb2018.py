import pytest

import dsb2018
import trials
from reporting import CannotMeasure
from tiny import write_pictures


@pytest.fixture
def result(tmp_path):
    pictures = trials.read_pictures(*write_pictures(tmp_path))
    return trials.scores(pictures, [p.truth for p in pictures])


def test_items_are_evenly_spaced_and_all_by_default():
    assert dsb2018.spread(range(10), 0) == dsb2018.spread(range(10), 99) == list(range(10))
    assert dsb2018.spread(range(10), 4) == [0, 3, 6, 9]


def test_a_test_folder_of_the_users_own_is_read(tmp_path):
    images, labels = write_pictures(tmp_path)
    labels.rename(tmp_path / "masks")
    sets = dsb2018.exam_sets(tmp_path / "no data", tmp_path, 2)
    assert {k: [p.name for p in v] for k, v in sets.items()} == {"of the folder": ["cells0", "cells2"]}
    images.rename(tmp_path / "pictures")
    with pytest.raises(CannotMeasure, match="has no folder images"):
        dsb2018.exam_sets(tmp_path, tmp_path, 0)


def test_without_the_shared_data_it_says_so(tmp_path):
    with pytest.raises(CannotMeasure, match="no folder ../shared/data"):
        dsb2018.exam_sets(tmp_path / "nowhere", None, 0)


def test_all_rows_of_the_table_have_the_same_columns(result):
    ours, published = dsb2018.rows_of("plain", "as published", result), dsb2018.published_rows()
    assert {len(r) for r in ours + published} == {12}
    assert [r[2] for r in ours] == ["1.000", "1.000"] and published[0][2] == "0.806" and published[-1][2] == "0.835"


def test_promises_are_held_against_all_67_pictures_with_masks_as_published(result):
    def promised(masks, every):
        figures = dsb2018.figures_of(masks, "plain", result, "", every)
        return {f.name: f.at_least for f in figures if f.at_least is not None}

    assert promised("as published", True) == {
        "AP at IoU 0.5, pooled, masks as published": 0.87,
        "AP, mean over IoU 0.5 to 0.9, per image, masks as published": 0.73,
    }
    assert promised("as published", False) == promised("corrected", True) == {}


def test_the_split_is_that_of_the_stardist_paper():
    import pretrain

    if not pretrain.DATA.exists():
        pytest.skip("the shared data are not here")
    train, validation = dsb2018.training_names(pretrain.DATA), dsb2018.validation_names(pretrain.DATA)
    assert (len(train), len(validation)) == (380, 67) and not set(train) & set(validation)
