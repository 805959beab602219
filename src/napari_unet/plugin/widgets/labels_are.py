"""Ask whether the numbers of a Labels layer are cells or classes."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QComboBox, QSizePolicy, QWidget

from ..layers.class_labels import CLASSES, INSTANCES, labels_are, note_labels
from ..layers.reading import note
from .forms import caption, guard_wheel, plain_form
from .layer_selectors import LayerCombo

_TIP = (
    "<span>Cells: each cell has its own label. Classes: all cells of a class share one label, as in a mask. The answer "
    "is remembered on the layer.</span>"
)


class _Answers(QObject):
    """Tells every dock that the user answered for a layer."""

    given = Signal(object)


_ANSWERS = _Answers()


class LabelsAre(QWidget):
    """A form row for the layer selected in a combo; hidden for results, which know what they hold.

    Parameters
    ----------
    layers : LayerCombo
        Selects the layer.
    """

    answered = Signal()

    def __init__(self, layers: LayerCombo) -> None:
        super().__init__()
        self._layers = layers
        self.combo = QComboBox()
        self.combo.addItem("cells", INSTANCES)
        self.combo.addItem("classes", CLASSES)
        self.combo.setToolTip(_TIP)
        self.combo.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        guard_wheel(self.combo)
        plain_form(self).addRow(caption("Labels are", _TIP), self.combo)
        self.combo.activated.connect(self._note)
        layers.layer_changed.connect(self.refresh)
        _ANSWERS.given.connect(self._on_answer)
        self.refresh()

    def refresh(self) -> None:
        """Show what is known of the selected layer."""
        layer = self._layers.layer()
        self.setVisible(layer is not None and not {"result", "part"} & set(note(layer)))
        if layer is not None:
            self.combo.setCurrentIndex(self.combo.findData(labels_are(layer)))

    def _note(self) -> None:
        layer = self._layers.layer()
        if layer is not None:
            note_labels(layer, self.combo.currentData())
            _ANSWERS.given.emit(layer)

    def _on_answer(self, layer: Any) -> None:
        """Follow an answer, perhaps of another dock."""
        if layer is self._layers.layer():
            self.refresh()
            self.answered.emit()
