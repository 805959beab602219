"""How a dock follows the preferences while it is open."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import QObject

from ..settings.preferences import Keeper, Preferences
from ..widgets.forms import SettingsForm

_TOLD = "refusals are told"
COMPUTING = ("device", "precision")
"""Settings of each job that begin with what the user prefers."""


class Preferring(QObject):
    """Tells a dock what is preferred, now and at each change.

    Parameters
    ----------
    tell : callable
        Called with the preferences that count now and those that counted before: at first, the defaults.
    """

    def __init__(self, tell: Callable[[Preferences, Preferences], None]) -> None:
        super().__init__()
        self._tell, self._keeper = tell, Keeper.shared()
        self._before = Preferences()
        self._keeper.changed.connect(self._on_change)
        self._on_change()

    def _on_change(self) -> None:
        before, self._before = self._before, self._keeper.current()
        self._tell(self._before, before)

    def close(self) -> None:
        """Tell nothing more."""
        self._keeper.changed.disconnect(self._on_change)


def tell_refusals() -> None:
    """Have napari say what is entered in its own preferences and cannot be used."""
    keeper = Keeper.shared()
    if not keeper.property(_TOLD):
        keeper.setProperty(_TOLD, True)
        keeper.refused.connect(_tell_refusal)


def _tell_refusal(words: str) -> None:
    from napari.utils.notifications import show_warning

    show_warning(f"{words} Until then it stays as it was.")


def follow_computing(form: SettingsForm, now: Preferences, before: Preferences) -> None:
    """Show the preferred device and precision, except where the user has chosen another one in the dock."""
    shown = form.values()
    form.show_values(
        {name: getattr(now, name) for name in COMPUTING if shown[name] == getattr(before, name)},
    )
