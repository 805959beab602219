import dataclasses

import pytest
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import QApplication

from napari_unet.core.settings import NetworkSettings, Option, PredictionSettings, TrainingSettings, option, options
from napari_unet.plugin.dock.state_kinds import in_words
from napari_unet.plugin.widgets.forms import (
    NumberBox,
    SettingsForm,
    advanced_names,
    get_value,
    make_editor,
    set_value,
    simple_names,
    tooltip_of,
)

ALL = (NetworkSettings, TrainingSettings, PredictionSettings)


@pytest.fixture
def form(qtbot):
    def make(settings, names=None):
        made = SettingsForm(settings, names or options(settings))
        qtbot.addWidget(made)
        return made

    return make


@pytest.mark.parametrize("kind", ALL)
def test_every_default_survives_its_form(form, kind):
    assert form(kind()).settings() == kind()


@pytest.mark.parametrize("kind", ALL)
def test_every_field_has_label_tooltip_bounds_and_unit(form, kind):
    made = form(kind())
    for name, opt in options(kind).items():
        editor = made.editors[name]
        assert opt.choices or opt.help in editor.toolTip()
        if opt.minimum is not None and not opt.choices:
            assert editor.minimum() == pytest.approx(opt.minimum)
            assert editor.maximum() == pytest.approx(opt.maximum)
            assert editor.singleStep() == pytest.approx(opt.step)
            assert editor.suffix() == opt.unit_of(editor.value())
            assert f" and {opt.maximum:,.10g}" in editor.toolTip()


def test_one_of_a_unit_is_not_many(form):
    batch = form(TrainingSettings()).editors["batch"]
    batch.setValue(1)
    assert batch.text() == "1 patch"
    batch.setValue(2)
    assert batch.text() == "2 patches"


@pytest.mark.parametrize(
    ("value", "text"),
    [(1e-3, "0.001"), (1e-5, "0.00001"), (1e-4, "0.0001"), (0.0, "0"), (10.0, "10"), (0.15, "0.15"), (0.999, "0.999")],
)
def test_small_numbers_are_shown_right(qtbot, value, text):
    box = NumberBox(Option("", minimum=0.0, maximum=100.0, step=1e-5), value)
    qtbot.addWidget(box)
    box.setValue(value)
    assert box.text() == text
    assert box.value() == value


def test_a_default_finer_than_its_step_survives(qtbot):
    box = make_editor("x", Option("", minimum=0.0, maximum=1.0, step=0.1), 0.0625)
    qtbot.addWidget(box)
    assert box.value() == 0.0625
    assert box.text() == "0.0625"


def test_typed_values_reach_the_settings(form, qtbot):
    made = form(TrainingSettings())
    box = made.editors["weight_decay"]
    box.selectAll()
    qtbot.keyClicks(box, "0.00002")
    with qtbot.waitSignal(made.changed) as seen:
        qtbot.keyClick(box, Qt.Key.Key_Return)
    assert seen.args == ["weight_decay"]
    assert made.settings().weight_decay == 2e-5


def test_a_comma_locale_changes_nothing(form):
    from qtpy.QtCore import QLocale

    before = QLocale()
    QLocale.setDefault(QLocale("de_DE"))
    try:
        assert form(TrainingSettings()).editors["resize"].text() == "0.15"
    finally:
        QLocale.setDefault(before)


def test_simple_and_advanced_fields_are_all_fields():
    for kind in ALL:
        assert sorted(simple_names(kind) + advanced_names(kind)) == sorted(options(kind))
    assert "background_label" not in advanced_names(TrainingSettings, without=["background_label"])


def test_the_wheel_scrolls_past_an_editor_without_changing_it(form):
    editor = form(TrainingSettings()).editors["seconds"]
    wheel = QWheelEvent(
        QPointF(5, 5), QPointF(5, 5), QPoint(0, 0), QPoint(0, 120), Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase, False,
    )  # fmt: skip
    before = editor.value()
    QApplication.sendEvent(editor, wheel)
    assert editor.value() == before


def test_a_new_field_appears_without_further_code(form):
    @dataclasses.dataclass(frozen=True)
    class More:
        """Settings with one more field."""

        shine: float = option(0.25, "How much it shines.", unit="lx", bounds=(0.0, 2.0, 0.25))

    made = form(More())
    assert made.editors["shine"].text() == "0.25 lx"
    assert "Between 0 and 1,000,000 s." in tooltip_of(options(TrainingSettings)["seconds"])
    assert tooltip_of(options(More)["shine"]) == "<span>How much it shines. Between 0 and 2 lx.</span>"


@pytest.mark.parametrize("name", ["mode", "unpainted"])
def test_choices_have_the_same_words_in_the_list_and_in_the_help(qtbot, name):
    editor = make_editor(name, options(TrainingSettings)[name], getattr(TrainingSettings, name))
    qtbot.addWidget(editor)
    for index in range(editor.count()):
        assert f"{editor.itemText(index)}: " in editor.toolTip()


@pytest.mark.parametrize(
    ("settings", "name", "said"),
    [
        (PredictionSettings, "holes", "all"),
        (PredictionSettings, "diameter", "automatic"),
        (PredictionSettings, "tile", "automatic"),
        (TrainingSettings, "diameter", "measured"),
        (TrainingSettings, "learning_rate", "automatic"),
        (TrainingSettings, "seconds", "until stopped"),
    ],
)
def test_lowest_value_with_a_meaning_of_its_own_says_so(qtbot, settings, name, said):
    known = options(settings)[name]
    kind = type(getattr(settings(), name))
    editor = make_editor(name, known, kind(known.minimum))
    qtbot.addWidget(editor)
    assert editor.text() == said
    set_value(editor, kind(known.minimum + known.step))
    assert editor.text().removesuffix(known.unit).strip() == f"{known.minimum + known.step:.5f}".rstrip("0").rstrip(".")
    editor.selectAll()
    qtbot.keyClicks(editor, f"{known.minimum:g}")
    qtbot.keyClick(editor, Qt.Key.Key_Return)
    assert (get_value(editor), editor.text()) == (known.minimum, said)


def test_remembered_choices_are_told_as_the_editor_shows_them():
    assert in_words(TrainingSettings(), {"seconds": 0.0, "patch": 128}) == ["Time until stopped", "Patch 128 px"]
