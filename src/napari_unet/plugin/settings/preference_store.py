"""Where preferences are kept: in napari's own preferences where they take a plugin's, else in a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from ...core.distribution import PLUGIN
from ...core.errors import StoreError
from ...records import runs
from ..runtime.json_file import read_kept, write_kept

FILE_NAME = "preferences.json"
Sections = Mapping[str, Sequence[str]]
"""The fields of each section, by the name that the manifest gives it under ``configurations``."""


class Store(Protocol):
    """Keeps values by name; none of them need be usable."""

    def read(self) -> dict[str, Any]:
        """Return what is kept."""

    def write(self, values: Mapping[str, str]) -> None:
        """Keep values."""

    def listen(self, changed: Callable[[], None]) -> None:
        """Have a function called when somebody else has changed a value."""

    def close(self) -> None:
        """Call nobody any more."""


class FileStore:
    """Keeps preferences in a file of the home folder, for a napari that has no place for them.

    Parameters
    ----------
    path : Path, optional
        Another file.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path or runs.home() / FILE_NAME

    def read(self) -> dict[str, Any]:
        """Return what the file holds."""
        return read_kept(self._path)

    def write(self, values: Mapping[str, str]) -> None:
        """Write the file; see :func:`.kept_file.write_kept` for errors."""
        write_kept(self._path, dict(values))

    def listen(self, changed: Callable[[], None]) -> None:
        """Nobody else changes the file while napari runs."""

    def close(self) -> None:
        """Do nothing: nobody was listened to."""


class NapariStore:
    """Keeps preferences among napari's (0.9 and later), where napari's own dialog shows them too.

    Parameters
    ----------
    sections : mapping of str to sequence of str
        See :data:`Sections`.

    Raises
    ------
    LookupError
        When this napari has no preferences of plugins, or does not know this one.
    """

    def __init__(self, sections: Sections) -> None:
        self._sections = sections
        self._changed: Callable[[], None] | None = None
        self._heard: list[Any] = []
        self._writing = False
        self._settings()

    def _settings(self) -> Any:
        """Return napari's object, which is another one after plugins were switched on or off."""
        try:
            from napari.settings import get_plugin_settings
        except ImportError as error:
            raise LookupError("this napari has no preferences of plugins") from error
        settings = get_plugin_settings(PLUGIN)
        groups = [getattr(settings, section) for section in self._sections]
        if self._changed is not None and [id(group) for group in groups] != [id(group) for group in self._heard]:
            self._hear(groups)
        return settings

    def _hear(self, groups: list[Any]) -> None:
        for group in self._heard:
            group.events.disconnect(self._on_change)
        for group in groups:
            group.events.connect(self._on_change)
        self._heard = groups

    def _on_change(self, event: Any = None) -> None:
        # While several values are written, those in between do not count.
        if self._changed is not None and not self._writing:
            self._changed()

    def read(self) -> dict[str, Any]:
        """Return what napari has."""
        settings = self._settings()
        return {name: getattr(getattr(settings, key), name) for key, names in self._sections.items() for name in names}

    def write(self, values: Mapping[str, str]) -> None:
        """Tell napari, which writes its file at once.

        Raises
        ------
        StoreError
            When napari cannot write it.
        """
        settings = self._settings()
        self._writing = True
        try:
            for key, names in self._sections.items():
                getattr(settings, key).update({name: values[name] for name in names})
        except OSError as error:
            raise StoreError(f"napari cannot write its preferences: {error}.") from error
        finally:
            self._writing = False

    def listen(self, changed: Callable[[], None]) -> None:
        """Have a function called when a value is changed in napari's dialog."""
        self._changed = changed
        self._settings()

    def close(self) -> None:
        """Call nobody any more."""
        self._hear([])
        self._changed = None


def open_store(sections: Sections) -> Store:
    """Return the store of this napari."""
    try:
        return NapariStore(sections)
    except LookupError:
        return FileStore()
