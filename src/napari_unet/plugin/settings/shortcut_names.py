"""Keys as the user writes them: checked, brought to one form, and as napari names them."""

from __future__ import annotations

from collections.abc import Mapping

from ...core.errors import SettingsError

MODIFIERS = ("Ctrl", "Alt", "Shift")
_SIGNS = ".,;'[]/\\=`"
_NAMED = {f"F{number}" for number in range(1, 13)}
_OTHER_NAMES = {"control": "Ctrl", "ctrl": "Ctrl", "alt": "Alt", "option": "Alt", "shift": "Shift"}

FIXED = {"Esc": "leaving a tool", "Enter": "ending a tool", "Ctrl+Z": "undo", "Ctrl+Shift+Z": "redo"}
"""Keys that always do the same, in words."""


def normal_key(text: str) -> str:
    """Return a key in the one way of writing it that is kept, as ``Ctrl+Shift+N``.

    Raises
    ------
    SettingsError
        When it is no key that can be used.
    """
    # "Control-N" is how napari writes it.
    separator = "+" if "+" in text else "-"
    *modifiers, last = (part.strip() for part in text.strip().split(separator))
    held = {_OTHER_NAMES.get(name.lower(), "") for name in modifiers}
    name = last.upper()
    usable = (len(name) == 1 and (name in _SIGNS or name.isascii() and name.isalnum())) or name in _NAMED
    if "" in held or not usable:
        raise SettingsError(
            f"{text.strip()!r} is no key that can be used; take a letter, a digit, one of {' '.join(_SIGNS)} or F1 to "
            "F12, if you like with Ctrl, Alt or Shift, as in Ctrl+N."
        )
    key = "+".join([*(modifier for modifier in MODIFIERS if modifier in held), name])
    if key in FIXED:
        raise SettingsError(f"{key} always means {FIXED[key]}; take another key.")
    return key


def napari_key(key: str) -> str:
    """Return a key of :func:`normal_key`, or one of :data:`FIXED`, as napari's key bindings name it."""
    return key.replace("Esc", "Escape").replace("Ctrl", "Control").replace("+", "-")


def clashes(keys: Mapping[str, str]) -> list[str]:
    """Return in words which keys would do more than one thing.

    Parameters
    ----------
    keys : mapping of str to str
        The key, by what it does.
    """
    taken: dict[str, list[str]] = {}
    for what, key in keys.items():
        taken.setdefault(key, []).append(what)
    return [
        f"The key {key} cannot mean both {names[0]} and {names[1]}; give one of them another key."
        for key, names in taken.items()
        if len(names) > 1
    ]
