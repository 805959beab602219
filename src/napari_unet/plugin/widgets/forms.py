"""Forms made from the settings dataclasses: a label, an editor and a tooltip per field."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial
from typing import Any, Generic

from qtpy.QtCore import QEvent, QLocale, QObject, Qt, Signal
from qtpy.QtWidgets import (
    QAbstractSpinBox,
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QLabel,
    QLineEdit,
    QSizePolicy,
    QSpinBox,
    QWidget,
)  # fmt: skip

from ...core.settings import Option, S, options, validate, with_values

# How choices read in a dock; those not named here read as they are.
_WORDS = {
    ("mode", "instances"): "single cells",
    ("mode", "classes"): "classes",
    ("unpainted", "unknown"): "unknown, ignored",
    ("unpainted", "background"): "background",
    ("what", "instances"): "single cells",
    ("what", "classes"): "classes",
    ("what", "probabilities"): "probability picture",
}
# Qt's spin boxes hold 32-bit numbers.
_LARGEST_INT = 2**31 - 1
_CAPTION_WIDTH = 92


def label_of(name: str, option: Option) -> str:
    """Return the words in front of an editor."""
    return option.label or name.replace("_", " ").capitalize()


def shown(name: str, value: Any) -> str:
    """Return a value as its editor shows it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else _WORDS.get((name, str(value)), str(value))


def tooltip_of(option: Option, name: str = "") -> str:
    """Return help, range and unit as one tooltip; Qt wraps it because it is rich text.

    With the field's name, choices are called as the editor calls them.
    """
    text = option.help
    for choice in option.choices:
        text = text.replace(f"{choice}: ", f"{_WORDS.get((name, choice), choice)}: ")
    if option.minimum is not None and option.maximum is not None:
        text += f" Between {option.minimum:,.10g} and {option.maximum:,.10g}{option.unit_of(option.maximum)}."
    return f"<span>{text}</span>"


class NumberBox(QDoubleSpinBox):
    """A spin box that shows as many decimals as the number has: 0.0001, not 0.00 and not 0.00010."""

    def __init__(self, option: Option, default: float) -> None:
        super().__init__()
        self.setLocale(QLocale.c())
        shown = (option.step or 0.01, default, option.minimum or 0.0, option.maximum or 0.0)
        self.setDecimals(max(map(_decimals, shown)) + 1)
        self.setRange(_bound(option.minimum, -1e12), _bound(option.maximum, 1e12))
        self.setSingleStep(option.step or 0.01)

    def textFromValue(self, value: float) -> str:
        """Return the number without trailing zeros."""
        text = f"{value:.{self.decimals()}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text


def _decimals(value: float) -> int:
    """Return how many decimals a number needs; 5 for 1e-5."""
    if value == 0:
        return 0
    return next((n for n in range(12) if math.isclose(round(value, n), value, rel_tol=1e-9)), 12)


def _bound(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


def make_editor(name: str, option: Option, default: Any) -> QWidget:
    """Return the widget that edits one field, showing its default."""
    if isinstance(default, bool):
        editor: QWidget = QCheckBox()
    elif option.choices:
        editor = QComboBox()
        for choice in option.choices:
            editor.addItem(_WORDS.get((name, choice), choice), choice)
        # The longest choice may not set the dock's width.
        editor.setMinimumContentsLength(8)
        editor.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    elif isinstance(default, str):
        editor = QLineEdit()
    elif isinstance(default, int):
        editor = QSpinBox()
        largest = min(_bound(option.maximum, _LARGEST_INT), _LARGEST_INT)
        editor.setRange(int(_bound(option.minimum, -_LARGEST_INT)), int(largest))
        editor.setSingleStep(int(option.step or 1))
    else:
        editor = NumberBox(option, default)
    if isinstance(editor, QAbstractSpinBox):
        editor.setSuffix(option.unit_of(default))
        editor.valueChanged.connect(lambda value: editor.setSuffix(option.unit_of(value)))
        editor.setSpecialValueText(option.lowest)
        editor.setKeyboardTracking(False)
        editor.setAlignment(Qt.AlignmentFlag.AlignRight)
    guard_wheel(editor)
    editor.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    editor.setToolTip(tooltip_of(option, name))
    editor.setObjectName(name)
    set_value(editor, default)
    return editor


class _WheelGuard(QObject):
    """Lets the mouse wheel scroll the dock instead of changing the number under it."""

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Hand wheel events on to the scroll area unless the editor was clicked before."""
        if event.type() == QEvent.Type.Wheel and not watched.hasFocus():
            event.ignore()
            return True
        return False


def guard_wheel(editor: QWidget) -> None:
    """Keep the wheel from changing an editor that is only scrolled past."""
    editor.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    editor.installEventFilter(_WheelGuard(editor))


def get_value(editor: QWidget) -> Any:
    """Return what an editor of :func:`make_editor` shows."""
    if isinstance(editor, QCheckBox):
        return editor.isChecked()
    if isinstance(editor, QComboBox):
        return editor.currentData()
    return editor.text() if isinstance(editor, QLineEdit) else editor.value()


def set_value(editor: QWidget, value: Any) -> None:
    """Show a value in an editor of :func:`make_editor`."""
    if isinstance(editor, QCheckBox):
        editor.setChecked(bool(value))
    elif isinstance(editor, QComboBox):
        editor.setCurrentIndex(editor.findData(value))
    elif isinstance(editor, QLineEdit):
        editor.setText(value)
    else:
        editor.setValue(value)


def change_signal(editor: QWidget) -> Any:
    """Return the signal of an editor of :func:`make_editor` that its value has changed."""
    if isinstance(editor, QCheckBox):
        return editor.toggled
    if isinstance(editor, QLineEdit):
        return editor.textChanged
    return editor.currentIndexChanged if isinstance(editor, QComboBox) else editor.valueChanged


def plain_form(parent: QWidget | None = None) -> QFormLayout:
    """Return a form layout without margins, whose editors take the width that there is."""
    layout = QFormLayout(parent) if parent is not None else QFormLayout()
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setVerticalSpacing(4)
    layout.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    return layout


def caption(text: str, tooltip: str = "") -> QLabel:
    """Return the words in front of an editor, as wide as in all forms so that editors line up."""
    label = QLabel(text)
    label.setMinimumWidth(_CAPTION_WIDTH)
    label.setToolTip(tooltip)
    return label


class SettingsForm(QWidget, Generic[S]):
    """A form of some fields of a settings dataclass.

    Parameters
    ----------
    settings : NetworkSettings, TrainingSettings or PredictionSettings
        Where the editors start.
    names : iterable of str
        The fields to show, in this order.
    """

    changed = Signal(str)
    """The name of the field that the user changed."""

    def __init__(self, settings: S, names: Iterable[str], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._start: S = settings
        known = options(settings)
        layout = plain_form(self)
        self.editors: dict[str, QWidget] = {}
        for name in names:
            editor = make_editor(name, known[name], getattr(settings, name))
            change_signal(editor).connect(partial(self._on_change, name))
            layout.addRow(caption(label_of(name, known[name]), editor.toolTip()), editor)
            self.editors[name] = editor

    def _on_change(self, name: str, *values: Any) -> None:
        self.changed.emit(name)

    def values(self) -> dict[str, Any]:
        """Return what the editors show, by field name."""
        return {name: get_value(editor) for name, editor in self.editors.items()}

    def settings(self) -> S:
        """Return validated settings with the form's values."""
        return validate(with_values(self._start, self.values()))

    def show_values(self, values: dict[str, Any]) -> None:
        """Set some of the editors."""
        for name, value in values.items():
            if name in self.editors:
                set_value(self.editors[name], value)


def simple_names(settings: Any) -> list[str]:
    """Return the fields that a dock shows at once."""
    return [name for name, opt in options(settings).items() if not opt.advanced]


def advanced_names(settings: Any, without: Iterable[str] = ()) -> list[str]:
    """Return the fields that are folded away."""
    left_out = set(without)
    return [name for name, opt in options(settings).items() if opt.advanced and name not in left_out]
