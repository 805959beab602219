"""The kinds of widgets whose choices are remembered, each as a :class:`~napari_unet.plugin.dock.state.StateEntry`."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from qtpy.QtWidgets import QCheckBox, QComboBox, QLineEdit, QTabWidget
from superqt import QCollapsible

from ...core.errors import SettingsError
from ...core.settings import Option, options, with_values
from ..settings.preferences import current
from ..widgets.forms import SettingsForm, label_of, shown
from ..widgets.layer_selectors import ImageSection, LayerCombo
from .follow_preferences import COMPUTING
from .state import StateEntry


def is_preferred(name: str, value: Any) -> bool:
    """Return whether a value is what the preferences say, so that it need not be remembered beside them."""
    return name in COMPUTING and value == getattr(current(), name)


def in_words(settings: Any, values: Mapping[str, Any]) -> list[str]:
    """Return values as a dock shows them: Time 120 s."""
    known = options(settings)
    return [f"{label_of(n, known[n])} {_shown(n, v, known[n])}" for n, v in values.items()]


def _shown(name: str, value: Any, option: Option) -> str:
    """Return a value as its editor shows it, with its unit."""
    if option.lowest and value == option.minimum:
        return option.lowest
    return f"{shown(name, value)}{option.unit_of(value)}"


def without_computing(values: dict[str, Any]) -> dict[str, Any]:
    """Return settings without device and precision, which begin as preferred in each viewer."""
    return {name: value for name, value in values.items() if name not in COMPUTING}


def check_settings(start: Any, values: Any) -> dict[str, Any]:
    """Return settings by name, each in its type and within its bounds.

    Raises
    ------
    SettingsError
        When one cannot be used.
    """
    if not isinstance(values, dict):
        raise SettingsError(f"{values!r} are no settings.")
    checked = with_values(start, values)
    return {name: getattr(checked, name) for name in values}


def of_form(name: str, form: SettingsForm[Any], start: Any) -> StateEntry:
    """Return what was chosen in a form: the values that differ from its defaults, and from what is preferred."""
    defaults = {field.name: getattr(start, field.name) for field in fields(start)}

    def get() -> dict[str, Any]:
        shown = form.values()
        return {n: v for n, v in shown.items() if v != defaults[n] and not is_preferred(n, v)}

    def put_back() -> None:
        form.show_values({n: getattr(current(), n) if n in COMPUTING else defaults[n] for n in form.values()})

    return StateEntry(
        name, get, lambda values: form.show_values(check_settings(start, values)), (form.changed,),
        default=put_back, differing=lambda: in_words(start, get()), carried=without_computing,
    )  # fmt: skip


def of_box(name: str, box: QCheckBox) -> StateEntry:
    """Return whether a box is ticked."""
    start = box.isChecked()
    return StateEntry(
        name, box.isChecked, lambda on: box.setChecked(_checked(on, bool)), (box.toggled,),
        default=lambda: box.setChecked(start),
    )  # fmt: skip


def of_combo(name: str, combo: QComboBox, lasting: bool = True) -> StateEntry:
    """Return the data of a combo box's entry; what it does not offer any more is ignored."""

    def show(value: Any) -> None:
        if combo.findData(value) >= 0:
            combo.setCurrentIndex(combo.findData(value))

    return StateEntry(name, combo.currentData, show, (combo.currentIndexChanged,), lasting)


def of_index(name: str, widget: QComboBox | QTabWidget) -> StateEntry:
    """Return which entry or tab is shown."""
    signal = widget.currentChanged if isinstance(widget, QTabWidget) else widget.currentIndexChanged

    def show(index: Any) -> None:
        if 0 <= _checked(index, int) < widget.count():
            widget.setCurrentIndex(index)

    return StateEntry(name, widget.currentIndex, show, (signal,))


def of_text(name: str, edit: QLineEdit, lasting: bool = True) -> StateEntry:
    """Return what was typed."""
    return StateEntry(name, edit.text, lambda text: edit.setText(_checked(text, str)), (edit.textChanged,), lasting)


def of_fold(name: str, fold: QCollapsible) -> StateEntry:
    """Return whether a section is unfolded."""

    def show(unfolded: Any) -> None:
        fold.expand() if _checked(unfolded, bool) else fold.collapse()

    return StateEntry(name, fold.isExpanded, show, (fold.toggled,))


def of_layer(name: str, combo: LayerCombo) -> StateEntry:
    """Return the chosen layer, held weakly; for this viewer only."""

    def get() -> Any:
        layer = combo.layer()
        return weakref.ref(layer) if layer is not None else None

    def show(known: Any) -> None:
        if known is not None and known() is not None:
            combo.choose(known())

    return StateEntry(name, get, show, (combo.layer_changed,), lasting=False)


def of_images(section: ImageSection) -> list[StateEntry]:
    """Return the chosen image and its further channels; what each axis is, is noted on the layer itself."""

    def get() -> list[Any]:
        return [weakref.ref(layer) for layer in section.channels.ticked()]

    def show(known: Any) -> None:
        section.channels.tick([layer for layer in (ref() for ref in known) if layer is not None])

    channels = StateEntry("channels", get, show, (section.changed,), lasting=False)
    return [of_layer("image", section.image), channels]


def _checked(value: Any, kind: type) -> Any:
    """Return the value if it is of a kind.

    Raises
    ------
    SettingsError
        When it is not.
    """
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise SettingsError(f"{value!r} is no {kind.__name__}.")
    return value
