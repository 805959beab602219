"""What the user prefers everywhere: device, engine address, model folder, precision and keys, each with its help.

This is the only place that knows their defaults and words; ``napari.yaml`` repeats them for napari's own
preferences, and a test holds the two together. Values are kept by :mod:`.preference_store`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from qtpy.QtCore import QObject, QTimer, Signal

from ...core.errors import SettingsError
from ...core.settings import TrainingSettings, option, options
from ...engine.viewer.address import parse_address
from .preference_store import Store, open_store
from .shortcut_names import clashes, normal_key

_logger = logging.getLogger(__name__)
_TYPING_MS = 1500
_COMPUTING = options(TrainingSettings)


def _known(name: str, label: str) -> Any:
    """Return a field for what is a setting of each job too, with the words that it has there."""
    known = _COMPUTING[name]
    return option("auto", known.help, label=label, choices=known.choices)


def _key(default: str, label: str, help: str) -> Any:
    """Return a field that holds a key."""
    return option(default, help, label=label)


@dataclass(frozen=True)
class Preferences:
    """What counts in every viewer until the user changes it."""

    device: str = _known("device", "Device")
    precision: str = _known("precision", "Precision")
    engine_address: str = option(
        "", "Another computer that does the computing, reached by ssh: name@computer, if needed with its port and its "
        "Python, as in anna@gpu.lab:2222/home/anna/unet/bin/python. Empty: this computer.", label="Compute on",
    )  # fmt: skip
    models_folder: str = option(
        "", "Folder in which saved models are kept. Empty: napari-unet's own folder.", label="Model folder"
    )
    key_next_cell: str = _key("N", "Next cell", "Take a new label, so that the next cell gets its own.")
    key_background: str = _key("G", "Background", "Paint background.")
    key_box: str = _key("Q", "Box", "Draw a box in which every cell is painted.")
    key_accept_cell: str = _key("K", "Accept a cell", "Make the predicted cell under the mouse a painted one.")
    key_preview: str = _key("H", "Live preview", "Show or hide the live preview.")
    key_where_next: str = _key("W", "Annotate here next", "Go to where the network is least certain.")
    key_accept: str = _key("A", "Accept", "The cell is right as it is.")
    key_merge: str = _key("M", "Merge", "Make two cells one.")
    key_split: str = _key("S", "Split in two", "Split the cell at its narrowest place.")
    key_line: str = _key("L", "Split by a line", "Draw a line across the cell.")
    key_seeds: str = _key("P", "Split by points", "Click a point in each part of a cell.")
    key_redraw: str = _key("R", "Redraw", "Paint with the label of the cell, or erase.")
    key_fill: str = _key("F", "Fill holes", "Fill the holes in the cell.")
    key_grow: str = _key(".", "Larger", "Widen the cell by one pixel.")
    key_shrink: str = _key(",", "Smaller", "Shrink the cell by one pixel.")
    key_delete: str = _key("D", "Delete", "There is no cell.")
    key_scope: str = _key("W", "Plane or whole cell", "Change between correcting this plane and the whole cell.")
    key_previous: str = _key("B", "Back", "Go to the previous unreviewed cell.")
    key_next: str = _key("N", "Next to review", "Go to the next unreviewed cell.")


@dataclass(frozen=True)
class Section:
    """A group of preferences: its heading, and the first and last of its fields."""

    title: str
    first: str
    last: str

    def names(self) -> tuple[str, ...]:
        """Return the fields of the group."""
        every = [field.name for field in fields(Preferences)]
        return tuple(every[every.index(self.first) : every.index(self.last) + 1])


SECTIONS = {
    "computing": Section("Computing", "device", "engine_address"),
    "models": Section("Models", "models_folder", "models_folder"),
    "painting": Section("Keys for annotating", "key_next_cell", "key_where_next"),
    "proofreading": Section("Keys for proofreading", "key_accept", "key_next"),
}
"""By the name that napari knows it by. A key may do one thing in each section."""


def _check_address(text: str) -> str:
    parse_address(text)
    return text.strip()


def _check_folder(text: str) -> str:
    """Return a folder's path as given; it need not exist, but nothing else may have its name."""
    path = Path(text.strip()).expanduser()
    if text.strip() and not path.is_absolute():
        raise SettingsError(
            f"The model folder {text.strip()!r} has to begin at the root of a drive, as in {Path.home()}."
        )
    # Asked of os.path, which takes what may not be looked at for absent.
    if text.strip() and os.path.exists(path) and not os.path.isdir(path):
        raise SettingsError(f"The model folder {path} is a file; choose a folder.")
    if text.strip() and os.path.isdir(path) and not os.access(path, os.R_OK | os.X_OK):
        raise SettingsError(f"The model folder {path} may not be read by you; choose another, or ask its owner.")
    return text.strip()


_CHECKS = {"engine_address": _check_address, "models_folder": _check_folder}


def check_value(name: str, value: Any) -> str:
    """Return one value as it is kept.

    Raises
    ------
    SettingsError
        When it cannot be used; the message says why and what can be.
    """
    known = options(Preferences)[name]
    text = str(value)
    if known.choices and text not in known.choices:
        raise SettingsError(f"{known.label} is {text!r}, but has to be one of {', '.join(known.choices)}.")
    if is_key(name):
        return normal_key(text)
    return _CHECKS[name](text) if name in _CHECKS else text


def is_key(name: str) -> bool:
    """Return whether a preference is a key."""
    return name.startswith("key_")


def check_all(values: Mapping[str, Any]) -> Preferences:
    """Return preferences with these values, all of which can be used.

    Raises
    ------
    SettingsError
        For the first value that cannot be used, or a key that is to do two things in one section.
    """
    found = Preferences(**{name: check_value(name, value) for name, value in values.items()})
    problem = next(iter(_clashes(found)), None)
    if problem is not None:
        raise SettingsError(problem)
    return found


def _clashes(found: Preferences) -> list[str]:
    """Return in words which keys would do two things at once."""
    known = options(Preferences)
    keys = [[name for name in section.names() if is_key(name)] for section in SECTIONS.values()]
    return [
        words for names in keys for words in clashes({known[name].label: getattr(found, name) for name in names})
    ]  # fmt: skip


def usable(values: Mapping[str, Any], last: Preferences) -> tuple[Preferences, list[str]]:
    """Return what can be used of some values, and what is wrong with the others, which stay as they were.

    Parameters
    ----------
    values : mapping
        By field; unknown ones are ignored.
    last : Preferences
        What counts where a value cannot be used.
    """
    problems, good = [], {}
    for name in (field.name for field in fields(Preferences)):
        try:
            good[name] = check_value(name, values.get(name, getattr(Preferences, name)))
        except SettingsError as error:
            good[name] = getattr(last, name)
            problems.append(str(error))
    found = replace(last, **good)
    wrong = _clashes(found)
    if wrong:
        kept = last if not _clashes(last) else Preferences()
        found = replace(found, **{name: getattr(kept, name) for name in good if is_key(name)})
    return found, problems + wrong


class Keeper(QObject):
    """Reads and writes the preferences, and tells when they change; one per process, in the main thread.

    Attributes
    ----------
    changed : Signal()
        Other preferences count from now on.
    refused : Signal(str)
        Something was entered, in napari's own preferences or in the file, that cannot be used.
    """

    changed = Signal()
    refused = Signal(str)
    _one: Keeper | None = None

    def __init__(self, store: Store | None = None) -> None:
        super().__init__()
        self._store = store or open_store({key: section.names() for key, section in SECTIONS.items()})
        self._current = Preferences()
        self._problems: list[str] = []
        self._later = QTimer(self, singleShot=True, interval=_TYPING_MS)
        self._later.timeout.connect(self._tell)
        self._read()
        self._store.listen(self._on_store)

    @classmethod
    def shared(cls) -> Keeper:
        """Return the preferences of this process."""
        if cls._one is None:
            cls._one = cls()
        return cls._one

    def current(self) -> Preferences:
        """Return what counts now; every value in it can be used."""
        return self._current

    def change(self, **values: str) -> None:
        """Check, keep and announce some values.

        Raises
        ------
        SettingsError
            When one of them cannot be used; then nothing is changed.
        StoreError
            When they cannot be written.
        """
        now = {field.name: getattr(self._current, field.name) for field in fields(Preferences)}
        wanted = check_all({**now, **values})
        self._store.write({field.name: getattr(wanted, field.name) for field in fields(Preferences)})
        self._on_store()

    def close(self) -> None:
        """Listen to the store no more."""
        self._later.stop()
        self._store.close()

    def _read(self) -> None:
        self._current, problems = usable(self._store.read(), self._current)
        for words in problems:
            if words not in self._problems:
                _logger.warning("%s It is ignored.", words)
        self._problems = problems

    def _on_store(self) -> None:
        before = self._current
        self._read()
        if self._current != before:
            self.changed.emit()
        # Later: napari hands on every letter that is typed.
        self._later.start()

    def _tell(self) -> None:
        if self._problems:
            self.refused.emit(self._problems[0])


def current() -> Preferences:
    """Return the preferences that count now; every value in them can be used."""
    return Keeper.shared().current()


def engine_address() -> str:
    """Return the checked address of the computer to compute on; empty for this one."""
    return current().engine_address


def label_of(name: str) -> str:
    """Return the words in front of a preference."""
    return options(Preferences)[name].label
