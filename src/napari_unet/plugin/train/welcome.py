"""What to do with an empty viewer: sample data by a click, and three lines."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFrame, QLabel, QVBoxLayout, QWidget

from ..widgets.common import button, row

LINES = (
    "1. Open a picture or a stack, or try one of these samples.",
    "2. Click <b>New annotation</b>; paint a few whole cells and some background.",
    "3. Click <b>Train</b>, and correct what the preview gets wrong.",
)
SAMPLES = (("nuclei", "Nuclei"), ("phase", "Phase contrast"), ("stack", "Stack"))


class FirstSteps(QFrame):
    """Shown while there is no image.

    Attributes
    ----------
    sample_asked : Signal(str)
        Key of the sample to open, as in the manifest.
    """

    sample_asked = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 2, 0, 6)
        layout.setSpacing(4)
        self.buttons = {key: button(name, f"Open generated data: {name.lower()}.") for key, name in SAMPLES}
        for key, made in self.buttons.items():
            made.clicked.connect(lambda _=False, sample=key: self.sample_asked.emit(sample))
        for number, text in enumerate(LINES):
            label = QLabel(text)
            label.setWordWrap(True)
            layout.addWidget(label)
            if number == 0:
                layout.addWidget(row(*self.buttons.values(), stretch=(1, 1, 1)))
