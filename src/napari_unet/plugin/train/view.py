"""What the Annotate and train dock looks like: signals out, setters in."""

from __future__ import annotations

from qtpy.QtCore import QSize, Signal
from qtpy.QtWidgets import QCheckBox, QLabel, QLineEdit, QPushButton, QTabWidget, QVBoxLayout, QWidget

from ...core.settings import NetworkSettings, TrainingSettings
from ..layers.painted import BACKGROUND_COLOUR, FIRST_CELL, cell_colour
from ..models.selector import SCRATCH, ModelCombo
from ..settings.preferences import Preferences
from ..settings.shortcuts import name_key
from ..widgets.common import (
    GearButton,
    Messages,
    ProgressBar,
    button,
    column,
    count,
    dress_main_button,
    folded,
    heading,
    row,
)
from ..widgets.focus import AGAIN_KEY, MAIN_KEY, give_key
from ..widgets.forms import SettingsForm, advanced_names, caption, plain_form, simple_names
from ..widgets.layer_selectors import ImageSection, LayerCombo
from ..widgets.loss_plot import LossPlot
from .check_view import CheckView
from .sources_list import TakesPart, title
from .suggest_view import WhereNext
from .welcome import FirstSteps

_TABS_HEIGHT, _TABS_MOST = 180, 340
"""Pixels of curves and lists: on a small screen, and where there is room."""
_CELLS = (FIRST_CELL, FIRST_CELL + 1, FIRST_CELL + 2)
_KINDS = _CELLS[:2]
"""Labels that are shown as examples of kinds of cell."""
_KINDS_HINT = (
    "<span>All cells of one class are painted with one label. To paint more of a class, pick its label with napari's "
    "colour picker, or set it under layer controls. Unlabelled pixels are ignored, except inside a box."
    "</span>"
)
_HINT = (
    "<span>Unlabelled pixels are ignored, except inside a box. Outlines preview the segmentation; key {key} accepts "
    "the one under the cursor as a painted cell, Ctrl+Z undoes it.</span>"
)


def legend() -> str:
    """Return what the colours of an annotation mean."""
    cells = "".join(_square(cell_colour(label)) for label in _CELLS)
    return f"{_square(BACKGROUND_COLOUR)} background &nbsp; {cells} cells &nbsp; □\u00a0unknown"


def kinds_legend() -> str:
    """Return what the colours mean where each label is a kind of cell: there its number matters, too."""
    kinds = " ".join(f"{_square(cell_colour(label))}\u2009{label}" for label in _KINDS)
    return f"{_square(BACKGROUND_COLOUR)} background &nbsp; kinds {kinds} &nbsp; □\u00a0unknown"


def _square(colour: tuple[float, float, float, float]) -> str:
    """Return a square of a colour."""
    return f'<span style="color:#{"".join(f"{round(255 * part):02x}" for part in colour[:3])}">■</span>'


class Tabs(QTabWidget):
    """Tabs that take the room that is left, and ask for no more than they need."""

    def sizeHint(self) -> QSize:
        """Return the least height; what is in the tabs would ask for more than a small screen has."""
        return QSize(self.minimumSizeHint().width(), _TABS_HEIGHT)

    def hasHeightForWidth(self) -> bool:
        """Return False: a page with words that wrap would ask for its own best height, and have the dock scrolled."""
        return False


class TrainView(QWidget):
    """The widgets of the dock, without any knowledge of layers, engine or files."""

    new_annotation = Signal()
    paint_background = Signal()
    paint_next_cell = Signal()
    draw_region = Signal()
    complete_toggled = Signal(bool)
    train = Signal()
    resume = Signal()
    discard = Signal()
    stop = Signal()
    save = Signal(str)
    copy_command = Signal()
    preview_toggled = Signal(bool)
    live_toggled = Signal(bool)
    kinds_changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.gear = GearButton()
        self.images = ImageSection()
        self.annotation = LayerCombo("The Labels layer that holds your painting.", "none yet")
        self.start = ModelCombo(
            "Where learning starts. A model that knows cells already needs a few painted cells and a minute; from "
            "scratch takes many more of both."
        )
        # What unpainted means is said where it is painted: by boxes, and by the tick for complete layers.
        shown = [name for name in simple_names(TrainingSettings) if name != "unpainted"]
        folded_away = advanced_names(TrainingSettings, without=["background_label"])
        self.simple = SettingsForm(TrainingSettings(), shown)
        self.advanced = SettingsForm(TrainingSettings(), ["unpainted", *folded_away])
        self.network = SettingsForm(NetworkSettings(), advanced_names(NetworkSettings))
        self.progress = ProgressBar()
        self.plot = LossPlot()
        self._best = ""
        self.score = QLabel()
        self.score.setToolTip(
            "<span>Measured on painted cells that were held out. F1: share of cells found, with at least half of "
            "their area right (1 is all). IoU: intersection over union of cell pixels (1 is exact).</span>"
        )
        self.messages = Messages()
        self.first_steps = FirstSteps()
        self.takes_part = TakesPart()
        self.where_next = WhereNext()
        self.check = CheckView()
        self._make_paint_buttons()
        self._make_train_buttons()
        self._connect()
        self._lay_out()
        self._keys = Preferences()
        self.set_annotating(False, 0)
        self._busy = self._ready = False
        self.set_continuable(False)
        self.set_busy(False)
        self.set_model_ready(False)

    def _make_paint_buttons(self) -> None:
        self.new_button = button(
            "New annotation",
            "Adds a layer to paint on, with the brush ready: a few strokes of background, a few cells.",
        )
        self.background_button, self.next_button, self.region_button = QPushButton(), QPushButton(), QPushButton()
        self.hint = QLabel()
        self.hint.setWordWrap(True)
        self.complete_box = QCheckBox("Every cell is painted in this layer")
        self.complete_box.setToolTip(
            "<span>For masks that were made elsewhere: where anything is painted in a plane, the unpainted rest of the "
            "plane is background. Off: unpainted is unknown.</span>"
        )

    def _make_train_buttons(self) -> None:
        self.train_button = button(
            "Train",
            "Learn from what is painted; a second click ends it and keeps the best model. The picture stays usable "
            "meanwhile.",
        )
        self.train_button.setMinimumHeight(30)
        give_key(self.train_button, MAIN_KEY)
        self.continue_button = button(
            "Continue", "Go on learning from where the last training ended, with what is painted now."
        )
        give_key(self.continue_button, AGAIN_KEY)
        self.discard_button = button(
            "Discard", "Go back to the model before this training. What was learnt stays in its run folder."
        )
        self.live_box = QCheckBox("Learn while I paint")
        self.live_box.setChecked(True)
        self.live_box.setToolTip(
            "<span>Strokes made while it trains join the running training, and its timer restarts. Off: "
            "they count from the next training on.</span>"
        )
        self.preview_box = QCheckBox()
        self.preview_box.setChecked(True)
        self.name_edit = QLineEdit()
        self.name_edit.setPlaceholderText("model name")
        self.name_edit.setToolTip("<span>Under this name the model appears in both docks, also after a restart.</span>")
        self.save_button = button("Save model", "Keep the model just trained under this name.")
        self.copy_button = button(
            "Copy command", "Put into the clipboard the command line that repeats this training in a terminal."
        )

    def _connect(self) -> None:
        """Turn clicks into signals."""
        self.new_button.clicked.connect(self.new_annotation)
        self.background_button.clicked.connect(self.paint_background)
        self.next_button.clicked.connect(self.paint_next_cell)
        self.region_button.clicked.connect(self.draw_region)
        self.complete_box.clicked.connect(self.complete_toggled)
        self.train_button.clicked.connect(lambda: (self.stop if self._busy else self.train).emit())
        self.continue_button.clicked.connect(self.resume)
        self.discard_button.clicked.connect(self.discard)
        self.copy_button.clicked.connect(self.copy_command)
        self.save_button.clicked.connect(lambda: self.save.emit(self.name_edit.text()))
        self.preview_box.toggled.connect(self.preview_toggled)
        self.live_box.toggled.connect(self.live_toggled)
        self.start.currentIndexChanged.connect(self._on_start)
        self.simple.changed.connect(self._on_simple)
        self.takes_part.summary.connect(lambda cells: self.tabs.setTabText(1, title(cells)))

    def _lay_out(self) -> None:
        start_row = plain_form()
        start_row.addRow(caption("Start from"), self.start)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 2, 8, 4)
        layout.setSpacing(4)
        for widget in (
            self.first_steps, row(heading("1  Image"), self.gear, stretch=(1,)), self.images,
            heading("2  Annotation"), row(self.annotation, self.new_button, stretch=(1, 0)),
            row(self.background_button, self.next_button, self.region_button, stretch=(3, 3, 2)), self.hint,
            self.complete_box, heading("3  Training"),
        ):  # fmt: skip
            layout.addWidget(widget)
        layout.addLayout(start_row)
        self.save_row = row(self.name_edit, self.save_button, self.copy_button, stretch=(1, 0, 0))
        for widget in (
            self.simple, self._folded(),
            row(self.train_button, self.continue_button, self.discard_button, stretch=(1,)), self.progress,
            row(self.live_box, self.preview_box, stretch=(1, 1)), self._tabs(), self.save_row, self.messages,
        ):  # fmt: skip
            layout.addWidget(widget)
        layout.setStretchFactor(self.tabs, 100)
        layout.addStretch(1)

    def _tabs(self) -> QWidget:
        """Return curves, what takes part, and where to annotate next, behind one tab bar."""
        self.tabs = Tabs()
        learning = column(self.plot, self.score, spacing=0)
        learning.layout().setStretch(0, 1)
        self.tabs.addTab(learning, "Curves")
        self.tabs.addTab(self.takes_part, "Training data")
        self.tabs.addTab(self.where_next, "Suggestions")
        self.tabs.addTab(self.check, "Check")
        self.tabs.setUsesScrollButtons(False)
        # Narrow enough for a count of four digits in a dock of 330 pixels.
        self.tabs.tabBar().setStyleSheet("QTabBar::tab { padding-left: 3px; padding-right: 3px; }")
        self.tabs.setMinimumHeight(_TABS_HEIGHT)
        self.tabs.setMaximumHeight(_TABS_MOST)
        return self.tabs

    def _folded(self) -> QWidget:
        self.network_caption = QLabel("<b>Network</b> (only from scratch)")
        self.fold = folded("More settings", column(self.advanced, self.network_caption, self.network))
        return self.fold

    def _on_simple(self, name: str) -> None:
        if name == "mode":
            self._show_kinds()
            self.kinds_changed.emit()

    def _on_start(self) -> None:
        scratch = self.start.currentData() == SCRATCH
        self.network.setEnabled(scratch)
        self.network_caption.setEnabled(scratch)

    # --- setters ------------------------------------------------------------------------------

    def show_keys(self, keys: Preferences) -> None:
        """Show which keys do what the buttons do."""
        name_key(
            self.background_button, "Background",
            "Paint background, label 1, shown blue. Key {key} does the same while the annotation layer is selected.",
            keys.key_background,
        )  # fmt: skip
        name_key(
            self.region_button, "Box",
            "Draw a box in which every cell is painted: inside it, what is unpainted counts as background. Several "
            "boxes, in several planes, are fine. Key {key}.", keys.key_box,
        )  # fmt: skip
        name_key(
            self.preview_box, "Live preview",
            "Show while training what the network would segment in the part of the picture on screen. Follows moving, "
            "zooming and the sliders. Key {key} shows and hides it.", keys.key_preview,
        )  # fmt: skip
        self._keys = keys
        self._show_kinds()
        self.where_next.show_key(keys.key_where_next)

    def _show_kinds(self) -> None:
        """Speak of cells or of kinds of cell, as the labels are said to be."""
        kinds, keys = self.learns_kinds, self._keys
        tip = (
            "Take a new label, for another kind of cell. Key {key} does the same while the annotation is selected."
            if kinds
            else "Take a new label, so that the next cell gets its own. Key {key} does the same while the annotation "
            "is selected."
        )
        name_key(self.next_button, "Next kind" if kinds else "Next cell", tip, keys.key_next_cell)
        self.hint.setToolTip(_KINDS_HINT if kinds else _HINT.format(key=keys.key_accept_cell))
        self._show_legend()

    @property
    def learns_kinds(self) -> bool:
        """Whether the labels stand for kinds of cell rather than for cells."""
        return bool(self.simple.values()["mode"] == "classes")

    def set_annotating(self, possible: bool, background: int, complete: bool = False) -> None:
        """Show whether there is an annotation to paint on, its background label, and whether it is complete."""
        self.next_button.setEnabled(possible)
        self.region_button.setEnabled(possible)
        self.background_button.setEnabled(possible and background > 0)
        self.complete_box.setVisible(possible and not background)
        self.complete_box.setChecked(complete)
        self._possible, self._background = possible, background
        self._show_legend()

    def _show_legend(self) -> None:
        """Show what the colours of the annotation mean."""
        if not self._possible:
            text = "Make a New annotation to paint on."
        elif self._background:
            text = kinds_legend() if self.learns_kinds else legend()
        else:
            text = f"All labels are {'kinds' if self.learns_kinds else 'cells'}; none is background."
        self.hint.setText(text)

    def show_first_steps(self, empty: bool) -> None:
        """Show what to do first while there is no picture."""
        self.first_steps.setVisible(empty)
        self.tabs.setVisible(not empty)

    def set_continuable(self, possible: bool) -> None:
        """Show whether there is a training to go on with, or to take back."""
        self._continuable = possible
        self.continue_button.setVisible(possible)
        self.discard_button.setVisible(possible)
        self.discard_button.setEnabled(possible or self._busy)

    def set_busy(self, busy: bool) -> None:
        """Show Train or Stop."""
        self._busy = busy
        self.train_button.setText("Stop and keep best" if busy else "Train")
        self.continue_button.setVisible(not busy and self._continuable)
        self.discard_button.setVisible(busy or self._continuable)
        self.discard_button.setEnabled(busy or self._continuable)
        for widget in (self.images, self.start, self.simple, self.advanced):
            widget.setEnabled(not busy)
        self.save_row.setVisible(self._ready and not busy)
        self._rest("" if not busy else self.progress.format())

    def _rest(self, text: str) -> None:
        """Show the bar while there is something to say, and why nothing runs."""
        if not self._busy:
            self.progress.rest(text)
        self.progress.setVisible(self._busy or bool(text))

    def show_score(self, f1: float, iou: float, step: int, best: bool) -> None:
        """Show the validation scores of the best model so far."""
        self._best = f"★ F1 {f1:.2f}, IoU {iou:.2f} at step {step}" if best else self._best
        self.score.setText(self._best)

    def clear_score(self) -> None:
        """Forget the best model, as another training begins."""
        self._best = ""
        self.score.clear()

    def show_joined(self, cells: int, planes: int) -> None:
        """Show that new paint is learnt now."""
        self.score.setText(f"New paint joined: {count(cells, 'cell')} in {count(planes, 'plane')}.")

    @property
    def busy(self) -> bool:
        """Whether a training is under way."""
        return self._busy

    def show_engine(self, state: str) -> None:
        """Show that clicking Train has to wait a moment, or that computing has died."""
        words = {
            "starting": "getting ready in the background ...",
            "dead": "the backend stopped; Train starts it again",
        }
        self._rest(words.get(state, ""))

    def set_model_ready(self, ready: bool) -> None:
        """Show whether there is a trained model to save."""
        self._ready = ready
        self.save_row.setVisible(ready and not self._busy)

    def set_theme(self, kind: str, background: str) -> None:
        """Fit curve and messages to a ``"dark"`` or ``"light"`` theme with this background colour."""
        self.plot.set_theme(kind, background)
        dress_main_button(self.train_button, kind)
        self.messages.set_theme(kind)
