"""What was chosen in a dock is there when it is opened again: all of it in the same viewer, settings in the next one.

Each choice is noted as it is made, so that nothing depends on how a dock, a viewer or Python ends. Layers are
remembered by identity and only within their viewer; a name may mean another layer the next time.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from qtpy.QtCore import QObject, QTimer

from ...core.errors import StoreError, UNetError
from ...records import runs
from ..runtime.json_file import read_kept, write_kept

_logger = logging.getLogger(__name__)
FILE_NAME = "choices.json"
_WRITE_AFTER_MS = 400
Values = dict[str, Any]


def _whole(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class StateEntry:
    """Something that a user chooses in a dock.

    Attributes
    ----------
    name : str
        What it is called where it is kept.
    get, show : callable
        Return it as plain data, and show it again; ``show`` raises a UNetError or any of :data:`UNFIT` for what it
        cannot show.
    signals : tuple
        Qt signals that fire when it changes.
    lasting : bool
        Whether it is the starting value in the next viewer too.
    default : callable, optional
        Shows what there was before the user chose; where there is none, it is not put back.
    differing : callable, optional
        Returns in words how it differs from what there was before the user chose.
    carried : callable, optional
        Returns the part of a value that the next viewer begins with; all of it otherwise.
    """

    name: str
    get: Callable[[], Any]
    show: Callable[[Any], None]
    signals: tuple[Any, ...]
    lasting: bool = True
    default: Callable[[], None] | None = None
    differing: Callable[[], list[str]] = list
    carried: Callable[[Any], Any] = _whole


UNFIT = (UNetError, TypeError, ValueError, KeyError, AttributeError, OverflowError)
"""What goes wrong when a file holds something else than it should."""


class Lasting(QObject):
    """The choices that outlive the viewer, in a file of the home folder; one per process.

    A damaged file is put aside and ignored; one that cannot be written is a warning in the log.
    """

    _one: ClassVar[Lasting | None] = None

    def __init__(self) -> None:
        super().__init__()
        self._path = runs.home() / FILE_NAME
        self._values = read_kept(self._path)
        self._changed = False
        self._timer = QTimer(self, singleShot=True, interval=_WRITE_AFTER_MS)
        self._timer.timeout.connect(self.flush)

    @classmethod
    def shared(cls) -> Lasting:
        """Return those of this process."""
        if cls._one is None:
            cls._one = cls()
        return cls._one

    def of(self, dock: str) -> Values:
        """Return what is kept for a dock."""
        found = self._values.get(dock)
        return dict(found) if isinstance(found, dict) else {}

    def note(self, dock: str, name: str, value: Any) -> None:
        """Store a value; it is written a moment later."""
        kept = self.of(dock)
        if name not in kept or kept[name] != value:
            self._values[dock] = {**kept, name: value}
            self._changed = True
            self._timer.start()

    def flush(self) -> None:
        """Write pending values now."""
        self._timer.stop()
        if not self._changed:
            return
        self._changed = False
        try:
            write_kept(self._path, self._values)
        except StoreError as error:
            _logger.warning("Choices are forgotten when napari is closed: %s", str(error))


class Remembering:
    """Restores the choices of a dock, then notes each change.

    Parameters
    ----------
    viewer : ViewerModel
        Whose dock it is; held weakly.
    dock : str
        Which one.
    choices : sequence of StateEntry
        In the order in which they have to be shown: what others follow from comes first.
    """

    _viewers: ClassVar[weakref.WeakKeyDictionary[Any, dict[str, Values]]] = weakref.WeakKeyDictionary()

    def __init__(self, viewer: Any, dock: str, choices: Sequence[StateEntry]) -> None:
        self._dock, self._choices = dock, choices
        self._lasting = Lasting.shared()
        known = self._viewers.setdefault(viewer, {})
        self.fresh = dock not in known
        """Whether the dock has not been open in this viewer before."""
        self._known = known.setdefault(dock, self._lasting.of(dock))
        self._on = True
        for choice in choices:
            self._restore(choice)
        for index, choice in enumerate(choices):
            for signal in choice.signals:
                signal.connect(_noter(weakref.ref(self), index))
            self._note(choice)

    def _restore(self, choice: StateEntry) -> None:
        if choice.name not in self._known or (self.fresh and not choice.lasting):
            return
        try:
            value = self._known[choice.name]
            choice.show(choice.carried(value) if self.fresh else value)
        except UNFIT as error:
            # As text, because an error holds its frames, and with them the dock, for as long as a log keeps it.
            words = str(error)
            _logger.warning("%s: what was chosen for %r cannot be shown again: %s", self._dock, choice.name, words)

    def _note(self, choice: StateEntry) -> None:
        if not self._on:
            return
        value = choice.get()
        self._known[choice.name] = value
        if choice.lasting:
            self._lasting.note(self._dock, choice.name, value)

    def can_put_back(self) -> bool:
        """Return whether the dock has settings."""
        return any(choice.default is not None for choice in self._choices)

    def differing(self) -> list[str]:
        """Return in words which settings differ from those that the dock starts with when nothing was ever chosen."""
        return [words for choice in self._choices for words in choice.differing()]

    def put_back(self) -> None:
        """Show what the dock starts with when nothing was ever chosen."""
        for choice in self._choices:
            if choice.default is not None:
                choice.default()

    def close(self) -> None:
        """Note nothing more: from now on widgets change because they go away."""
        self._on = False
        self._choices = ()
        self._lasting.flush()


def _noter(remembering: weakref.ref[Remembering], index: int) -> Callable[..., None]:
    """Return what a signal calls: it must not keep the dock alive, as PySide keeps what a signal calls."""

    def note(*_: Any) -> None:
        kept = remembering()
        if kept is not None and kept._on:
            kept._note(kept._choices[index])

    return note
