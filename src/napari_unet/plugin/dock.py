"""What all docks are: a view that scrolls, its controller, the engine while it is open, the viewer's theme."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from qtpy.QtCore import QSize
from qtpy.QtWidgets import QVBoxLayout, QWidget

from .docking import EngineUse, ThemeWatch, own_viewer
from .parts import DOCK_WIDTH, scrolled

if TYPE_CHECKING:
    import napari

_HEIGHT = 700


class Controller(Protocol):
    """What answers to the user."""

    def close(self) -> None:
        """Stop what is under way; the dock is gone."""


class Dock(QWidget):
    """The base of the docks; a subclass makes view and controller and hands them to :meth:`run`.

    Parameters
    ----------
    napari_viewer : napari.Viewer
        Whose layers and theme the dock works with.
    """

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__()
        self.viewer = own_viewer(napari_viewer)
        self.use = EngineUse(self)

    def run(self, view: QWidget, controller: Controller) -> None:
        """Show the view, which can follow the theme, and have the controller closed with the dock."""
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(scrolled(view))
        self._theme = ThemeWatch(self.viewer, view.set_theme)
        self.use.on_close(controller.close)
        self.use.on_close(self._theme.close)

    def sizeHint(self) -> QSize:
        """Return a size that leaves the picture its room."""
        return QSize(DOCK_WIDTH, _HEIGHT)
