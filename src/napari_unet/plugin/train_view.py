"""What the Annotate and train dock looks like: signals out, setters in."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QLabel, QLineEdit, QVBoxLayout, QWidget

from ..core.settings import NetworkSettings, TrainingSettings
from .annotate import BACKGROUND_KEY, NEXT_CELL_KEY
from .choosers import SCRATCH, ImageSection, LayerCombo, ModelCombo
from .forms import SettingsForm, advanced_names, caption, plain_form, simple_names
from .loss_plot import LossPlot
from .parts import Messages, Progress, button, column, dress_main_button, folded, heading, row

_PLOT_HEIGHT = 118


class TrainView(QWidget):
    """The widgets of the dock, without any knowledge of layers, engine or files."""

    new_annotation = Signal()
    paint_background = Signal()
    paint_next_cell = Signal()
    train = Signal()
    stop = Signal()
    save = Signal(str)
    preview_toggled = Signal(bool)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.images = ImageSection()
        self.annotation = LayerCombo("The Labels layer that holds your painting.", "none yet")
        self.start = ModelCombo(
            "Where learning starts. A model that knows cells already needs a few painted cells and a minute; from "
            "scratch takes many more of both."
        )
        self.simple = SettingsForm(TrainingSettings(), simple_names(TrainingSettings))
        self.advanced = SettingsForm(TrainingSettings(), advanced_names(TrainingSettings, without=["background_label"]))
        self.network = SettingsForm(NetworkSettings(), advanced_names(NetworkSettings))
        self.progress = Progress()
        self.plot = LossPlot()
        self.score = QLabel()
        self.score.setToolTip(
            "<span>Measured on painted cells that were kept apart. F1: share of cells found, with at least half of "
            "their area right (1 is all). Overlap: intersection over union of cell pixels (1 is exact).</span>"
        )
        self.messages = Messages()
        self._make_buttons()
        self._lay_out()
        self.set_annotating(False, 0)
        self.set_busy(False)
        self.set_model_ready(False)

    def _make_buttons(self) -> None:
        self.new_button = button(
            "New annotation",
            "Adds a layer to paint on, with the brush ready: a few strokes of background, a few cells.",
        )
        self.background_button = button(
            f"Background ({BACKGROUND_KEY})",
            f"Paint background, label 1, shown grey. Key {BACKGROUND_KEY} does the same while the annotation layer is "
            "selected.",
        )
        self.next_button = button(
            f"Next cell ({NEXT_CELL_KEY})",
            f"Take a new label, so that the next cell gets its own. Key {NEXT_CELL_KEY} does the same while the "
            "annotation is selected.",
        )
        self.hint = QLabel()
        self.hint.setWordWrap(True)
        self.train_button = button("Train", "Learn from what is painted. The picture stays usable meanwhile.")
        self.train_button.setMinimumHeight(30)
        self.preview_box = QCheckBox("Live preview of the current view")
        self.preview_box.setChecked(True)
        self.preview_box.setToolTip(
            "<span>Show while training what the network would segment in the part of the picture on screen. Follows "
            "moving and zooming.</span>"
        )
        self.name_edit = QLineEdit()
        self.name_edit.setPlaceholderText("name of the model")
        self.name_edit.setToolTip("<span>Under this name the model appears in both docks, also after a restart.</span>")
        self.save_button = button("Save model", "Keep the model just trained under this name.")
        self.new_button.clicked.connect(self.new_annotation)
        self.background_button.clicked.connect(self.paint_background)
        self.next_button.clicked.connect(self.paint_next_cell)
        self.train_button.clicked.connect(lambda: (self.stop if self._busy else self.train).emit())
        self.save_button.clicked.connect(lambda: self.save.emit(self.name_edit.text()))
        self.preview_box.toggled.connect(self.preview_toggled)
        self.start.currentIndexChanged.connect(self._on_start)

    def _lay_out(self) -> None:
        start_row = plain_form()
        start_row.addRow(caption("Start from"), self.start)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 2, 8, 8)
        layout.setSpacing(4)
        for widget in (
            heading("1  Image"), self.images,
            heading("2  Annotation"), row(self.annotation, self.new_button, stretch=(1, 0)),
            row(self.background_button, self.next_button, stretch=(1, 1)), self.hint, heading("3  Training"),
        ):  # fmt: skip
            layout.addWidget(widget)
        layout.addLayout(start_row)
        for widget in (
            self.simple, self._folded(), self.train_button, self.progress, self.plot, self.score, self.preview_box,
            row(self.name_edit, self.save_button, stretch=(1, 0)), self.messages,
        ):  # fmt: skip
            layout.addWidget(widget)
        layout.addStretch(1)
        self.plot.setFixedHeight(_PLOT_HEIGHT)

    def _folded(self) -> QWidget:
        self.network_caption = QLabel("<b>Network</b> (only from scratch)")
        self.fold = folded("More settings", column(self.advanced, self.network_caption, self.network))
        return self.fold

    def _on_start(self) -> None:
        scratch = self.start.currentData() == SCRATCH
        self.network.setEnabled(scratch)
        self.network_caption.setEnabled(scratch)

    # --- setters ------------------------------------------------------------------------------

    def set_annotating(self, possible: bool, background: int) -> None:
        """Show whether there is an annotation to paint on, and which label is background in it."""
        self.next_button.setEnabled(possible)
        self.background_button.setEnabled(possible and background > 0)
        if not possible:
            text = "Make a New annotation to paint on."
        elif background:
            text = f"{background} is background (grey); {background + 1}, {background + 2}, ... are cells."
        else:
            text = "Every label is a cell; this layer has no background label."
        self.hint.setText(text)

    def set_busy(self, busy: bool) -> None:
        """Show Train or Stop."""
        self._busy = busy
        self.train_button.setText("Stop and keep the best" if busy else "Train")
        for widget in (self.images, self.start, self.simple, self.advanced):
            widget.setEnabled(not busy)
        if not busy:
            self.progress.rest()

    def show_score(self, f1: float, iou: float, step: int) -> None:
        """Show how well the best model so far does on the cells kept apart."""
        self.score.setText(f"Best so far: F1 {f1:.2f}, overlap {iou:.2f} at step {step}")

    def show_engine(self, state: str) -> None:
        """Show that clicking Train has to wait a moment, or that computing has died."""
        words = {
            "starting": "getting ready in the background ...",
            "dead": "computing has ended; Train starts it again",
        }
        if not self._busy:
            self.progress.rest(words.get(state, ""))

    def set_model_ready(self, ready: bool) -> None:
        """Show whether there is a trained model to save."""
        self.save_button.setEnabled(ready)
        self.name_edit.setEnabled(ready)

    def set_theme(self, kind: str, background: str) -> None:
        """Fit curve and messages to a ``"dark"`` or ``"light"`` theme with this background colour."""
        self.plot.set_theme(kind, background)
        dress_main_button(self.train_button, kind)
        self.messages.set_theme(kind)
