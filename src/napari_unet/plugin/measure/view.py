"""What the Measure dock looks like: signals out, setters in."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtWidgets import QComboBox, QFileDialog, QLabel, QListWidget, QSizePolicy, QVBoxLayout, QWidget

from ..layers.connected_components import SPLIT, SPLIT_TIP
from ..widgets.common import GearButton, Messages, ProgressBar, button, dress_main_button, heading, row
from ..widgets.forms import caption, guard_wheel, plain_form
from ..widgets.labels_are import LabelsAre
from ..widgets.layer_selectors import ImageSection, LayerCombo
from ..widgets.score_plot import ScorePlot

COMPLETE, SPARSE = "complete", "sparse"
_PLOT_HEIGHT = 92


class ErrorList(QListWidget):
    """Cells that went wrong, to click at."""

    def __init__(self) -> None:
        super().__init__()
        self.setToolTip("<span>Click one to go there.</span>")
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumHeight(64)

    def sizeHint(self) -> QSize:
        """Return room for a few rows; the list takes more where there is."""
        return QSize(100, 80)


class MeasureView(QWidget):
    """The widgets of the dock, without any knowledge of layers or files."""

    measure = Signal()
    compare = Signal()
    cancel = Signal()
    show_table = Signal()
    save_table = Signal(str)
    save_report = Signal(str)
    cell_chosen = Signal(int)
    split = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.cells = LayerCombo("The segmentation to measure: one number per cell.", "no Labels layer yet")
        self.images = ImageSection()
        self.truth = LayerCombo(
            "Labels drawn by hand, or an annotation that the model was not trained on.",
            "no other Labels layer",
        )
        self.cells_are, self.truth_is = LabelsAre(self.cells), LabelsAre(self.truth)
        self.extent = self._make_extent()
        self.summary, self.scores = QLabel(), QLabel()
        for label in (self.summary, self.scores):
            label.setWordWrap(True)
        self.scores.setToolTip(
            "<span>1 is best. F1 and AP count a cell as found when it has an IoU of 0.5 with the true one: that is the "
            "area that both share, over the area that both cover.</span>"
        )
        self.plot = ScorePlot()
        self.plot.setFixedHeight(_PLOT_HEIGHT)
        self.worst = ErrorList()
        self.progress = ProgressBar()
        self.messages = Messages()
        self._make_buttons()
        self._lay_out()
        self._connect()
        self.set_busy("")
        self.offer_split(False)
        self.set_measured("")
        self.set_compared("", ())

    def _make_extent(self) -> QComboBox:
        box = QComboBox()
        box.addItem("every cell", COMPLETE)
        box.addItem("only some cells", SPARSE)
        box.setToolTip(
            "<span>Every cell: anything else predicted is wrong. Only some cells: unpainted areas are ignored.</span>"
        )
        box.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        guard_wheel(box)
        return box

    def _make_buttons(self) -> None:
        self.measure_button = button(
            "Measure every cell",
            "Area, perimeter and shape of every cell, and its grey values in the image, as the features of the layer. "
            "Lengths are in the unit of the image's scale.",
        )
        self.table_button = button("Show table", "Open napari's own table of the layer's features below the picture.")
        self.csv_button = button("Save table ...", "Write one row per cell and plane as a .csv file.")
        self.compare_button = button(
            "Compare", "Score the cells against the ground truth, and show missed, poor and false ones in a new layer."
        )
        self.split_button = button(SPLIT, SPLIT_TIP)
        self.report_button = button(
            "Save report ...", "Write scores, curves and pictures of the worst cells as one .html file."
        )

    def _lay_out(self) -> None:
        cells, truth = plain_form(), plain_form()
        cells.addRow(caption("Cells"), self.cells)
        truth.addRow(caption("Ground truth"), self.truth)
        truth.addRow(self.truth_is)
        truth.addRow(caption("Annotated", self.extent.toolTip()), self.extent)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 2, 8, 8)
        layout.setSpacing(4)
        self.gear = GearButton()
        layout.addWidget(row(heading("1  Measure"), self.gear, stretch=(1,)))
        layout.addLayout(cells)
        layout.addWidget(self.cells_are)
        for widget in (
            self.images, self.measure_button, row(self.table_button, self.csv_button, stretch=(1, 1)), self.summary,
            heading("2  Compare with ground truth"),
        ):  # fmt: skip
            layout.addWidget(widget)
        layout.addLayout(truth)
        compare = row(self.compare_button, self.report_button, stretch=(1, 0))
        for widget in (compare, self.progress, self.scores, self.plot):
            layout.addWidget(widget)
        layout.addWidget(self.worst, 1)
        layout.addWidget(self.split_button)
        layout.addWidget(self.messages)

    def _connect(self) -> None:
        self.measure_button.clicked.connect(lambda: (self.cancel if self._busy == "measure" else self.measure).emit())
        self.compare_button.clicked.connect(lambda: (self.cancel if self._busy == "compare" else self.compare).emit())
        self.table_button.clicked.connect(self.show_table)
        self.split_button.clicked.connect(self.split)
        self.csv_button.clicked.connect(lambda: self._ask("Save the table", "Tables (*.csv)", ".csv", self.save_table))
        self.report_button.clicked.connect(
            lambda: self._ask("Save the report", "Pages (*.html)", ".html", self.save_report)
        )
        self.worst.itemClicked.connect(lambda item: self.cell_chosen.emit(self.worst.row(item)))
        self.worst.itemActivated.connect(lambda item: self.cell_chosen.emit(self.worst.row(item)))

    def _ask(self, title: str, kinds: str, ending: str, signal: Signal) -> None:
        """Ask for a file name and emit it with its ending."""
        path, _ = QFileDialog.getSaveFileName(self, title, "", kinds)
        if path:
            signal.emit(path if path.lower().endswith(ending) else path + ending)

    # --- setters --------------------------------------------------------------------------------

    def show_extent(self, extent: str) -> None:
        """Select whether every cell is annotated."""
        self.extent.setCurrentIndex(self.extent.findData(extent))

    def set_busy(self, what: str) -> None:
        """Show that nothing, ``"measure"``, ``"compare"`` or ``"save"`` is under way."""
        self._busy = what
        self.measure_button.setText("Cancel" if what == "measure" else "Measure every cell")
        self.compare_button.setText("Cancel" if what == "compare" else "Compare")
        self.measure_button.setEnabled(what in ("", "measure"))
        self.compare_button.setEnabled(what in ("", "compare"))
        for widget in (self.cells, self.images, self.truth, self.extent):
            widget.setEnabled(not what)
        if not what:
            self.progress.rest()
        self.progress.setVisible(bool(what))

    def offer_split(self, offered: bool) -> None:
        """Show or hide the button that splits classes into cells."""
        self.split_button.setVisible(offered)

    def set_measured(self, summary: str) -> None:
        """Show the result of a measurement in a line; nothing when there is none."""
        self.summary.setText(summary)
        self.summary.setVisible(bool(summary))
        self.table_button.setEnabled(bool(summary))
        self.csv_button.setEnabled(bool(summary))

    def set_compared(self, scores: str, lines: Sequence[str]) -> None:
        """Show the result of a comparison: scores as rich text, and a line for each cell that went wrong."""
        self.scores.setText(scores)
        for widget in (self.scores, self.plot, self.worst):
            widget.setVisible(bool(scores))
        self.report_button.setEnabled(bool(scores))
        self.worst.clear()
        self.worst.addItems(list(lines))
        self.layout().setAlignment(Qt.AlignmentFlag.AlignTop if not scores else Qt.AlignmentFlag(0))

    def set_theme(self, kind: str, background: str) -> None:
        """Fit colours to a ``"dark"`` or ``"light"`` theme with this background."""
        self.messages.set_theme(kind)
        self.plot.set_theme(kind, background)
        dress_main_button(self.measure_button, kind)
        dress_main_button(self.compare_button, kind)
