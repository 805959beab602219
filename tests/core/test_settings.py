from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np
import pytest

from napari_unet.core.errors import SettingsError
from napari_unet.core.settings import (
    LinkSettings,
    NetworkSettings,
    PredictionSettings,
    TrainingSettings,
    options,
    to_dict,
    validate,
    with_values,
)

CLASSES = [NetworkSettings, TrainingSettings, PredictionSettings]
FIELDS = [(kind, name) for kind in CLASSES for name in options(kind)]
NUMBERS = [(kind, name) for kind, name in FIELDS if options(kind)[name].minimum is not None]

LINKING = [(LinkSettings, "overlap"), (LinkSettings, "max_gap")]


@pytest.mark.parametrize(("kind", "name"), FIELDS)
def test_every_field_has_help_and_a_valid_default(kind: Any, name: str) -> None:
    opt = options(kind)[name]
    default = getattr(kind(), name)
    assert opt.help.endswith(".")
    if isinstance(default, bool):
        return
    if isinstance(default, str):
        assert default in opt.choices
    else:
        assert opt.minimum is not None and opt.maximum is not None and opt.step is not None
        assert opt.minimum <= default <= opt.maximum


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, name in [*NUMBERS, *LINKING] if name not in ("seed", "background_label")]
)
def test_help_says_what_more_or_less_of_it_does(kind: Any, name: str) -> None:
    words = set(re.findall(r"\w+", options(kind)[name].help.lower()))
    assert words & {"larger", "smaller", "longer", "shorter", "more", "fewer", "less"}


@pytest.mark.parametrize(("kind", "name"), NUMBERS)
def test_bounds_are_held_and_belong_to_what_is_allowed(kind: Any, name: str) -> None:
    opt = options(kind)[name]
    for allowed in (opt.minimum, opt.maximum):
        assert getattr(with_values(kind(), {name: allowed}), name) == allowed
    for beyond in (opt.minimum - 1, opt.maximum + 1, float("inf"), float("-inf"), float("nan")):
        with pytest.raises(SettingsError, match=name):
            with_values(kind(), {name: beyond})
    with pytest.raises(SettingsError, match=f"{name} is 'many'"):
        validate(dataclasses.replace(kind(), **{name: "many"}))


@pytest.mark.parametrize(("kind", "name"), FIELDS)
def test_text_becomes_the_type_of_the_field(kind: Any, name: str) -> None:
    default = getattr(kind(), name)
    value = getattr(with_values(kind(), {name: str(default)}), name)
    assert value == default and type(value) is type(default)


@pytest.mark.parametrize(("text", "value"), [("yes", True), ("ON", True), ("1", True), ("No", False), ("false", False)])
def test_words_for_true_and_false(text: str, value: bool) -> None:
    assert with_values(PredictionSettings(), {"tta": text}).tta is value


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"speed": 1}, "There is no setting 'speed'; known are seconds, steps"),
        ({"steps": "many"}, "steps is 'many', but has to be a whole number."),
        ({"steps": 1.5}, "steps is 1.5, but has to be a whole number."),
        ({"steps": None}, "steps is None, but has to be a whole number."),
        ({"seconds": "long"}, "seconds is 'long', but has to be a number."),
        ({"rotate": "perhaps"}, "rotate is 'perhaps', but has to be true or false."),
        ({"optimiser": "adam"}, "optimiser is 'adam', but has to be one of adamw, sgd."),
        ({"patch": 31}, "patch is 31 px, but has to lie between 32 and 2048 px."),
    ],
)
def test_wrong_values_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        with_values(TrainingSettings(), values)
    assert str(caught.value).startswith(message)


def test_numpy_numbers_are_numbers() -> None:
    assert validate(TrainingSettings(seconds=np.float32(3), steps=np.int64(5))).steps == 5  # type: ignore[arg-type]


def test_the_way_through_plain_data() -> None:
    chosen = TrainingSettings(seconds=3, optimiser="sgd", rotate=False)
    assert with_values(TrainingSettings(), to_dict(chosen)) == chosen
    assert chosen.seconds == 3  # the originals are frozen and unchanged
