"""What the Segment dock looks like: signals out, setters in."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QSizePolicy,
    QSlider,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)  # fmt: skip
from superqt import QLabeledDoubleSlider

from ...core.settings import Option, PredictionSettings, options
from ..models.selector import ModelCombo
from ..widgets.common import GearButton, Messages, ProgressBar, button, dress_main_button, folded, heading, row
from ..widgets.focus import MAIN_KEY, give_key
from ..widgets.forms import (  # fmt: skip
    SettingsForm,
    advanced_names,
    caption,
    get_value,
    guard_wheel,
    make_editor,
    plain_form,
    set_value,
    tooltip_of,
)
from ..widgets.layer_selectors import ImageSection
from .link_view import LinkBox
from .output_location import PlaceCombo

CURRENT, WHOLE = "current", "whole"
FOLLOWS = "instances"
"""The kind of result that follows threshold and smallest cell; others show what the network has said."""
_LIVE = "These change the result at once, without running the network again."
_FIXED = "These are for single cells only; other results are what the network says of each pixel."
_SLIDER_STEPS = 100
_SLIDER_LARGEST = 5000
"""Square pixels at the right end at first; more once larger areas are shown."""


class SizeSlider(QWidget):
    """A slider for areas, finer for small ones, with a box that also takes larger areas than it reaches."""

    value_changed = Signal(int)

    def __init__(self, option: Option, default: int) -> None:
        super().__init__()
        self._largest = _SLIDER_LARGEST
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(0, _SLIDER_STEPS)
        self.box = make_editor("smallest", option, default)
        self.box.setButtonSymbols(QSpinBox.ButtonSymbols.NoButtons)
        self.box.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        self.box.setFixedWidth(78)
        self.slider.setToolTip(tooltip_of(option))
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.slider, 1)
        layout.addWidget(self.box)
        guard_wheel(self.slider)
        self.box.valueChanged.connect(self._on_box)
        self.slider.valueChanged.connect(self._on_slider)
        self._on_box(default)

    def value(self) -> int:
        """Return the area in square pixels."""
        return self.box.value()

    def set_value(self, value: int) -> None:
        """Show an area in square pixels, with as much room above it on the slider as large cells may need."""
        self._largest = max(_SLIDER_LARGEST, 4 * value)
        self.box.setValue(value)
        self._move_slider(value)

    def _on_box(self, value: int) -> None:
        self._largest = max(self._largest, value)
        self._move_slider(value)
        self.value_changed.emit(value)

    def _move_slider(self, value: int) -> None:
        self.slider.blockSignals(True)
        self.slider.setValue(round(_SLIDER_STEPS * (value / self._largest) ** (1 / 3)))
        self.slider.blockSignals(False)

    def _on_slider(self, position: int) -> None:
        self.box.setValue(round(self._largest * (position / _SLIDER_STEPS) ** 3))


def threshold_slider(option: Option, default: float) -> QLabeledDoubleSlider:
    """Return a slider for a probability."""
    slider = QLabeledDoubleSlider(Qt.Orientation.Horizontal)
    slider.setDecimals(2)
    slider.setRange(option.minimum, option.maximum)
    slider.setSingleStep(option.step)
    slider.setValue(default)
    slider.setToolTip(tooltip_of(option))
    guard_wheel(slider)
    return slider


class SegmentView(QWidget):
    """The widgets of the dock, without any knowledge of layers, engine or files."""

    segment = Signal()
    cancel = Signal()
    browse = Signal(str)
    model_changed = Signal(str)
    setting_changed = Signal(str)
    proofread = Signal()
    copy_command = Signal()
    save_result = Signal(str)
    many_files = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        known, start = options(PredictionSettings), PredictionSettings()
        self.images = ImageSection()
        self.model = ModelCombo("The network to segment with.")
        self.browse_button = button("Browse ...", "Take a model from a folder or a .zip file.")
        self.extent = self._make_extent()
        self.what = make_editor("what", known["what"], start.what)
        self.threshold = threshold_slider(known["threshold"], start.threshold)
        self.smallest = SizeSlider(known["smallest"], start.smallest)
        self.advanced = SettingsForm(start, advanced_names(PredictionSettings))
        self.run_button = button("Segment", "Segment with the chosen network. The picture stays usable meanwhile.")
        self.run_button.setMinimumHeight(30)
        give_key(self.run_button, MAIN_KEY)
        self.place = PlaceCombo()
        self.many_button = button(
            "Many files ...", "Segment a whole folder of pictures, one after the other, without opening them."
        )
        self.link = LinkBox()
        self.proofread_button = button("Proofread ...", "Check the result cell by cell, and correct it.")
        self.copy_button = button(
            "Copy command", "Put into the clipboard the command line that makes the same result in a terminal."
        )
        self.save_button = button(
            "Save result ...", "Write the result as TIFF, PNG or Zarr, and beside it how it was made, as JSON."
        )
        self.progress = ProgressBar()
        self.messages = Messages()
        self._lay_out(known)
        self._connect()
        self.set_busy(False)
        self._show_tuning()

    def _make_extent(self) -> QComboBox:
        box = QComboBox()
        box.addItem("current plane", CURRENT)
        box.addItem("whole stack", WHOLE)
        box.setToolTip(
            "<span>Current plane: only what the sliders below the picture stand at. Whole stack: every plane, "
            "beginning with the current one.</span>"
        )
        box.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        guard_wheel(box)
        return box

    def _lay_out(self, known: dict[str, Option]) -> None:
        self.form, tuning = plain_form(), plain_form()
        self.form.addRow(caption("Planes"), self.extent)
        self.form.addRow(caption("Result", self.what.toolTip()), self.what)
        self.form.addRow(caption("Save to", self.place.toolTip()), self.place)
        tuning.addRow(caption("Threshold", tooltip_of(known["threshold"])), self.threshold)
        tuning.addRow(caption("Smallest cell", tooltip_of(known["smallest"])), self.smallest)
        self.fold = folded("More settings", self.advanced)
        self.live = QLabel()
        self.live.setWordWrap(True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 2, 8, 8)
        layout.setSpacing(4)
        self.gear = GearButton()
        for widget in (row(heading("1  Image"), self.gear, stretch=(1,)), self.images, heading("2  Model"),
                       row(self.model, self.browse_button, stretch=(1, 0)), heading("3  Segment")):  # fmt: skip
            layout.addWidget(widget)
        layout.addLayout(self.form)
        layout.addWidget(row(self.run_button, self.many_button, stretch=(1, 0)))
        layout.addWidget(self.progress)
        layout.addWidget(heading("4  Adjust"))
        layout.addWidget(self.live)
        layout.addLayout(tuning)
        layout.addWidget(self.fold)
        layout.addWidget(self.link)
        layout.addWidget(self.proofread_button)
        layout.addWidget(row(self.copy_button, self.save_button, stretch=(1, 1)))
        layout.addWidget(self.messages)
        layout.addStretch(1)

    def _connect(self) -> None:
        self.run_button.clicked.connect(lambda: (self.cancel if self._busy else self.segment).emit())
        self.browse_button.clicked.connect(self._ask_for_model)
        self.proofread_button.clicked.connect(self.proofread)
        self.copy_button.clicked.connect(self.copy_command)
        self.save_button.clicked.connect(self._ask_for_file)
        self.many_button.clicked.connect(self.many_files)
        self.model.currentIndexChanged.connect(lambda _: self.model_changed.emit(self.model.currentData() or ""))
        self.threshold.valueChanged.connect(lambda _: self.setting_changed.emit("threshold"))
        self.smallest.value_changed.connect(lambda _: self.setting_changed.emit("smallest"))
        self.what.currentIndexChanged.connect(lambda _: self.setting_changed.emit("what"))
        self.what.currentIndexChanged.connect(lambda _: self._show_tuning())
        self.advanced.changed.connect(self.setting_changed)

    def _ask_for_model(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Choose a model", "", "Models (model.json *.zip)")
        if path:
            self.browse.emit(path)

    def _ask_for_file(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Save the result", "", "TIFF (*.tif);;PNG (*.png);;Zarr (*.zarr)")
        if path:
            self.save_result.emit(path if path.lower().endswith((".tif", ".png", ".zarr")) else f"{path}.tif")

    # --- setters and getters ------------------------------------------------------------------

    def values(self) -> dict[str, Any]:
        """Return the prediction settings as shown."""
        return {
            "what": get_value(self.what),
            "threshold": round(self.threshold.value(), 4),
            "smallest": self.smallest.value(),
            **self.advanced.values(),
        }

    def show_values(self, values: dict[str, Any]) -> None:
        """Show some prediction settings, without announcing them as the user's."""
        self.blockSignals(True)
        self.advanced.show_values(values)
        if "what" in values:
            set_value(self.what, values["what"])
        if "threshold" in values:
            self.threshold.setValue(values["threshold"])
        if "smallest" in values:
            self.smallest.set_value(values["smallest"])
        self.blockSignals(False)

    def _show_tuning(self) -> None:
        """Offer the sliders where the result follows from them."""
        follows = get_value(self.what) == FOLLOWS
        for editor in (self.threshold, self.smallest):
            editor.setEnabled(follows)
        self.live.setText(_LIVE if follows else _FIXED)

    def show_extent(self, planes: int) -> None:
        """Offer the whole stack where there is more than one plane."""
        self.extent.setVisible(planes > 1)
        self.form.labelForField(self.extent).setVisible(planes > 1)
        self.extent.setItemText(1, f"whole stack ({planes} planes)")

    def set_busy(self, busy: bool) -> None:
        """Show Segment or Cancel."""
        self._busy = busy
        self.run_button.setText("Cancel" if busy else "Segment")
        for widget in (self.images, self.model, self.browse_button, self.extent, self.what, self.place):
            widget.setEnabled(not busy)
        if not busy:
            self.progress.rest()

    def show_engine(self, state: str) -> None:
        """Show that clicking Segment has to wait a moment, or that computing has died."""
        words = {
            "starting": "getting ready in the background ...",
            "dead": "the backend stopped; Segment starts it again",
        }
        if not self._busy:
            self.progress.rest(words.get(state, ""))

    def set_theme(self, kind: str, background: str) -> None:
        """Fit messages and button to a ``"dark"`` or ``"light"`` theme."""
        self.messages.set_theme(kind)
        dress_main_button(self.run_button, kind)
