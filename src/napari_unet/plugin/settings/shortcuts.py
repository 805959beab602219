"""Binds what can be done by a key to the key that the user prefers, for as long as it is wanted."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import Any

from qtpy.QtCore import QObject
from qtpy.QtWidgets import QAbstractButton

from .preferences import Keeper
from .shortcut_names import napari_key

_SHORT = 3
"""Letters of a key that still fits on a button."""


class KeyBindings(QObject):
    """Keys of a viewer or a layer; when the user prefers others, those count at once.

    Parameters
    ----------
    target : Viewer or Layer
        Has ``bind_key``; held weakly.
    actions : mapping of str to callable
        What to do, called with the viewer or the layer, by the name of the preference.
    """

    def __init__(self, target: Any, actions: Mapping[str, Callable[[Any], Any]]) -> None:
        super().__init__()
        self._target = weakref.ref(target)
        self._actions = dict(actions)
        self._bound: list[str] = []
        self._keeper = Keeper.shared()
        self._bind()
        self._keeper.changed.connect(self._rebind)

    def close(self) -> None:
        """Bind the keys no more."""
        self._keeper.changed.disconnect(self._rebind)
        self._unbind()

    def _bind(self) -> None:
        target = self._target()
        if target is None:
            return
        for name, action in self._actions.items():
            key = napari_key(getattr(self._keeper.current(), name))
            target.bind_key(key, action, overwrite=True)
            self._bound.append(key)

    def _unbind(self) -> None:
        target = self._target()
        if target is not None:
            for key in self._bound:
                target.bind_key(key, None)
        self._bound = []

    def _rebind(self) -> None:
        self._unbind()
        self._bind()


def name_key(made: QAbstractButton, words: str, tip: str, key: str, room: int = _SHORT) -> None:
    """Write the key of a button on it, if it has room for so many letters, and into its tooltip at ``{key}``."""
    made.setText(f"{words} ({key})" if len(key) <= room else words)
    made.setToolTip(f"<span>{tip.format(key=key)}</span>")
