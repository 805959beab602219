"""The mouse and the keyboard on a viewer's picture."""

import numpy as np
from discs import discs, stack
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtWidgets import QApplication

from napari_unet.plugin.layers.preview import camera_of
from napari_unet.plugin.layers.review_state import editable_review

KEYS = {"Escape": Qt.Key.Key_Escape, "Enter": Qt.Key.Key_Return, ".": Qt.Key.Key_Period, ",": Qt.Key.Key_Comma}
BUTTON = Qt.MouseButton.LeftButton


class Hand:
    """The mouse and the keyboard on the picture."""

    def __init__(self, viewer, qtbot):
        self.viewer, self.qtbot = viewer, qtbot
        self.canvas = viewer.window._qt_viewer.canvas.native

    def at(self, y, x):
        """Return where a pixel of the plane is on the canvas."""
        camera = camera_of(self.viewer)
        size = np.array([self.canvas.height(), self.canvas.width()])
        row, column = (np.array([y, x]) - np.array(camera.center)[-2:]) * camera.zoom + size / 2
        return QPoint(round(column), round(row))

    def move(self, y, x):
        self._move_to(y, x, Qt.MouseButton.NoButton)

    def click(self, y, x):
        self.move(y, x)
        self.qtbot.mouseClick(self.canvas, BUTTON, pos=self.at(y, x))
        QApplication.processEvents()

    def drag(self, *corners):
        self.move(*corners[0])
        self.qtbot.mousePress(self.canvas, BUTTON, pos=self.at(*corners[0]))
        for (y, x), (to_y, to_x) in zip(corners, corners[1:], strict=False):
            for share in np.linspace(0, 1, 6)[1:]:
                self._move_to(y + share * (to_y - y), x + share * (to_x - x), BUTTON)
        self.qtbot.mouseRelease(self.canvas, BUTTON, pos=self.at(*corners[-1]))
        QApplication.processEvents()

    def _move_to(self, y, x, held):
        # Sent straight to the canvas: qtbot's own move goes by way of the screen, and knows no buttons.
        place = QPointF(self.at(y, x))
        event = QMouseEvent(
            QEvent.Type.MouseMove, place, QPointF(self.canvas.mapToGlobal(place.toPoint())),
            Qt.MouseButton.NoButton, held, Qt.KeyboardModifier.NoModifier,
        )  # fmt: skip
        QApplication.sendEvent(self.canvas, event)
        # napari passes over moves that come faster than it draws.
        self.qtbot.wait(30)

    def key(self, key, modifier=Qt.KeyboardModifier.NoModifier):
        code = KEYS.get(key) or getattr(Qt.Key, f"Key_{key}")
        self.qtbot.keyClick(self.canvas, code, modifier)
        QApplication.processEvents()

    def undo(self):
        self.key("Z", Qt.KeyboardModifier.ControlModifier)

    def redo(self):
        self.key("Z", Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier)


def labelled_stack(planes=3):
    """Return a stack and the labels of its planes."""
    return stack(planes), np.stack([discs(seed=seed)[1] for seed in range(planes)])


def cells_in(labels):
    """Return the labels of a plane in order."""
    return [int(cell) for cell in np.unique(labels) if cell > 0]


def middle(labels, cell):
    """Return the centre of a cell."""
    return tuple(np.argwhere(labels == cell).mean(axis=0))


def kinds(layer, plane=(0,)):
    return {cell: kept.kind for cell, kept in editable_review(layer).proof.marked(plane).items()}
