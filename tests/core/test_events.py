from __future__ import annotations

import typing
from dataclasses import fields

import numpy as np
import pytest

from napari_unet.core import events
from napari_unet.core.events import (
    AnnotationsUpdated,
    CheckpointSaved,
    Event,
    Fallback,
    Finished,
    PlaneDone,
    Preview,
    ResultOpened,
    Started,
    StepDone,
    Stopped,
    TileDone,
    Validated,
    from_dict,
    to_dict,
)

EXAMPLES: list[Event] = [
    Started("train", "cpu", "float32", 10, 2.5, ("one", "two")),
    StepDone(3, 0.25, 1e-3, 1.5, 9.0, 10),
    Validated(3, 0.5, 0.6, 0.7, True, 2.0),
    AnnotationsUpdated(4, 2.5, 9, 2, 7),
    Preview(4, 7, np.random.default_rng(0).random((3, 4), np.float32), np.arange(12, dtype=np.int32).reshape(3, 4)),
    CheckpointSaved(5, "runs/a", True),
    ResultOpened("a.zarr", ".a.zarr.unfinished/a.zarr", True),
    TileDone(1, 4, (2, 0), (0, 10, 20, 30), 0.5, 1.5),
    PlaneDone(1, 4, (2, 0), 17, 0.5, 1.5),
    Fallback("smaller"),
    Stopped("asked", 3),
    Finished(3.0, 9, 6, "runs/a/model", {"f1": 0.5}, "early"),
]


def test_there_is_an_example_of_every_event() -> None:
    kinds = set(typing.get_args(events.TrainingEvent)) | set(typing.get_args(events.PredictionEvent))
    assert {type(e) for e in EXAMPLES} == kinds


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("as_lists", [False, True])
def test_every_event_survives_the_way_through_plain_data(event: Event, as_lists: bool) -> None:
    plain = to_dict(event)
    if as_lists:  # as JSON and some wires turn tuples
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in plain.items()}
    back = from_dict(plain)
    assert type(back) is type(event)
    for field in fields(event):
        before, after = getattr(event, field.name), getattr(back, field.name)
        assert type(before) is type(after)
        if isinstance(before, np.ndarray):
            np.testing.assert_array_equal(before, after)
            assert before.dtype == after.dtype
        else:
            assert before == after


def test_the_dict_is_not_changed_and_the_model_stays_behind() -> None:
    plain = to_dict(Finished(1.0, model=object()))
    assert "model" not in plain
    copy = dict(plain)
    assert from_dict(plain).model is None  # type: ignore[attr-defined]
    assert plain == copy


@pytest.mark.parametrize("name", ["Nothing", None, "Event"])
def test_an_unknown_event_is_refused(name: str | None) -> None:
    with pytest.raises(ValueError, match="unknown event"):
        from_dict({"event": name})
