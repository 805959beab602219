"""Select layers, channels and axes. Layers are held weakly and by identity."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QPaintEvent
from qtpy.QtWidgets import (
    QComboBox,
    QListWidget,
    QListWidgetItem,
    QSizePolicy,
    QStyle,
    QStyleOptionComboBox,
    QStylePainter,
    QWidget,
)  # fmt: skip

from ...core.data.arrays import Planes
from ...core.errors import DataError
from ...records.replay import axes_in_file
from ..layers.preview import is_preview
from ..layers.reading import OURS, data_shape, note, noted_axes, planes_of, unsaid_axes
from .axes_selector import AxesRow
from .forms import caption, guard_wheel, plain_form

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Layer


class LayerCombo(QComboBox):
    """A choice of layers that are held by identity and weakly: renaming and deleting them is harmless."""

    layer_changed = Signal()

    def __init__(self, tooltip: str, empty: str) -> None:
        super().__init__()
        self._layers: list[weakref.ref[Layer]] = []
        self.setPlaceholderText(empty)
        self.setToolTip(f"<span>{tooltip}</span>")
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(8)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        guard_wheel(self)
        self.currentIndexChanged.connect(self.layer_changed)
        self.show_layers([])

    def paintEvent(self, event: QPaintEvent) -> None:
        """Shorten a long name in its middle, as napari's list of layers does: names often differ in their ends."""
        if self.currentIndex() < 0:
            super().paintEvent(event)
            return
        painter, shown = QStylePainter(self), QStyleOptionComboBox()
        self.initStyleOption(shown)
        part = QStyle.SubControl.SC_ComboBoxEditField
        room = self.style().subControlRect(QStyle.ComplexControl.CC_ComboBox, shown, part, self).width() - 8
        shown.currentText = self.fontMetrics().elidedText(shown.currentText, Qt.TextElideMode.ElideMiddle, room)
        painter.drawComplexControl(QStyle.ComplexControl.CC_ComboBox, shown)
        painter.drawControl(QStyle.ControlElement.CE_ComboBoxLabel, shown)
        painter.end()

    def layer(self) -> Any:
        """Return the chosen layer, or None."""
        index = self.currentIndex()
        return self._layers[index]() if 0 <= index < len(self._layers) else None

    def show_layers(self, layers: Sequence[Layer], likely: Callable[[Layer], bool] = lambda layer: True) -> None:
        """Offer these layers; the present choice stays where it is still among them.

        Otherwise the last one is chosen that is likely to be meant, or none.
        """
        before = self.layer()
        self.blockSignals(True)
        self.clear()
        self._layers = [weakref.ref(layer) for layer in layers]
        self.addItems([layer.name for layer in layers])
        self.setEnabled(bool(layers))
        kept = [i for i, layer in enumerate(layers) if layer is before]
        self.setCurrentIndex((kept or [i for i, layer in enumerate(layers) if likely(layer)] or [-1])[-1])
        self.blockSignals(False)
        if self.layer() is not before:
            self.layer_changed.emit()

    def choose(self, layer: Layer) -> None:
        """Choose a layer that is on offer."""
        for index, known in enumerate(self._layers):
            if known() is layer:
                self.setCurrentIndex(index)


class ChannelList(QListWidget):
    """Further image layers that are looked at as channels of the same picture; hidden while there are none."""

    channels_changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setToolTip(
            "<span>Tick the layers that show the same cells in another channel; the network then sees them together. "
            "The model has to know as many channels.</span>"
        )
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.itemChanged.connect(lambda _: self.channels_changed.emit())

    def show_layers(self, layers: Sequence[Layer]) -> None:
        """Offer these layers; ticks stay."""
        ticked = {id(layer) for layer in self.ticked()}
        self.blockSignals(True)
        self.clear()
        for layer in layers:
            item = QListWidgetItem(layer.name)
            item.setData(Qt.ItemDataRole.UserRole, weakref.ref(layer))
            item.setCheckState(Qt.CheckState.Checked if id(layer) in ticked else Qt.CheckState.Unchecked)
            self.addItem(item)
        self.blockSignals(False)
        self.setVisible(bool(layers))
        self.updateGeometry()

    def ticked(self) -> list[Any]:
        """Return the ticked layers that still exist."""
        items = [self.item(row) for row in range(self.count())]
        layers = [i.data(Qt.ItemDataRole.UserRole)() for i in items if i.checkState() == Qt.CheckState.Checked]
        return [layer for layer in layers if layer is not None]

    def tick(self, layers: Sequence[Layer]) -> None:
        """Tick these layers, as far as they are on offer, and no others."""
        wanted = {id(layer) for layer in layers}
        for item in map(self.item, range(self.count())):
            on = id(item.data(Qt.ItemDataRole.UserRole)()) in wanted
            item.setCheckState(Qt.CheckState.Checked if on else Qt.CheckState.Unchecked)

    def sizeHint(self) -> QSize:
        """Return room for up to three rows."""
        rows = min(3, max(1, self.count()))
        return QSize(100, rows * max(20, self.sizeHintForRow(0)) + 2 * self.frameWidth() + 4)

    def minimumSizeHint(self) -> QSize:
        """Return the same, because Qt asks for three rows even where there is one."""
        return self.sizeHint()


class ImageSection(QWidget):
    """Image, further channels and axes; used by both docks."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.image = LayerCombo("The picture or stack to work on.", "open an image first")
        self.channels = ChannelList()
        self.axes = AxesRow()
        form = plain_form(self)
        form.addRow(caption("Image"), self.image)
        form.addRow(caption("Axes"), self.axes)
        form.addRow(caption("Channels"), self.channels)
        self._form = form
        self.image.layer_changed.connect(self.changed)
        self.channels.channels_changed.connect(self.changed)
        self.axes.axes_changed.connect(self.changed)
        self.channels.hide()
        self.axes.hide()
        self.hide_unused()

    def hide_unused(self) -> None:
        """Hide the captions of rows with nothing in them."""
        for widget in (self.axes, self.channels):
            self._form.labelForField(widget).setVisible(not widget.isHidden())


class LayerWatch:
    """Calls back whenever layers come, go, move or are renamed, until closed."""

    def __init__(self, viewer: ViewerModel, changed: Callable[[], None]) -> None:
        self._viewer = viewer
        self._changed = changed
        for event in self._list_events():
            event.connect(self._on_list)
        self._named: list[weakref.ref[Layer]] = []
        self._on_list()

    def _list_events(self) -> list[Any]:
        events = self._viewer.layers.events
        return [events.inserted, events.removed, events.reordered]

    def _on_list(self, event: Any = None) -> None:
        self._forget_names()
        self._named = [weakref.ref(layer) for layer in self._viewer.layers]
        for layer in self._viewer.layers:
            layer.events.name.connect(self._on_name)
        self._changed()

    def _on_name(self, event: Any = None) -> None:
        self._changed()

    def _forget_names(self) -> None:
        for layer in filter(None, (known() for known in self._named)):
            layer.events.name.disconnect(self._on_name)

    def close(self) -> None:
        """Stop watching."""
        for event in self._list_events():
            event.disconnect(self._on_list)
        self._forget_names()


class ImageChoice:
    """Connects an :class:`ImageSection` to a viewer's layers.

    Parameters
    ----------
    viewer : ViewerModel
        Where the layers are.
    view : ImageSection
        Where the user chooses.
    on_layers : callable
        Called after every change of the layer list or of the choice.
    """

    def __init__(self, viewer: ViewerModel, view: ImageSection, on_layers: Callable[[], None]) -> None:
        self._viewer, self._view, self._on_layers = viewer, view, on_layers
        self._shown: Image | None = None
        self._axes_of: weakref.ref[Image] | None = None
        view.changed.connect(self._on_choice)
        self._watch: LayerWatch | None = None

    def follow(self) -> None:
        """Show the viewer's layers, from now on."""
        self._watch = LayerWatch(self._viewer, self._on_list)

    def close(self) -> None:
        """Stop following the layers."""
        if self._watch is not None:
            self._watch.close()

    def image(self) -> Image | None:
        """Return the chosen image layer, or None."""
        return self._view.image.layer()

    def axes(self) -> str:
        """Return the axis letters of the chosen image."""
        return self._view.axes.axes()

    def chosen(self) -> Image:
        """Return the chosen image layer.

        Raises
        ------
        DataError
            When there is none.
        """
        image = self.image()
        if image is None:
            raise DataError("There is no image; open one, or one of File > Open Sample > U-Net segmentation.")
        return image

    def layers(self) -> list[Image]:
        """Return the chosen image layer and its further channels.

        Raises
        ------
        DataError
            When there is no image.
        """
        return [self.chosen(), *self._view.channels.ticked()]

    def planes(self) -> Planes:
        """Return the chosen layers as planes.

        Raises
        ------
        DataError
            When there is no image, the layers do not fit together, or the user has to say what an axis is.
        """
        image = self.chosen()
        unknown = [data_shape(image)[axis] for axis in self._view.axes.open_axes()]
        if unknown:
            sizes = " and ".join(map(str, unknown))
            raise DataError(
                f"{image.name} does not say what its axis of {sizes} is; choose it under Axes: channels are looked at "
                "together, planes of depth or time one by one."
            )
        return planes_of(self.layers(), self.axes())

    def _on_list(self) -> None:
        self._view.image.show_layers(images_of(self._viewer))
        self._show_details()
        self._on_layers()

    def _on_choice(self) -> None:
        image = self.image()
        same = image is self._shown
        if image is not None and same and self._view.axes.touched and not self._view.axes.open_axes():
            # Noted on the layer, so that both docks and a later session of them agree.
            image.metadata.setdefault(OURS, {})["axes"] = self.axes()
        self._show_details()
        self._on_layers()

    def _show_axes(self, image: Image) -> None:
        """Show the axes of an image, unless the user is about to name them one after the other."""
        row = self._view.axes
        if self._axes_of is None or self._axes_of() is not image or not (row.touched and row.open_axes()):
            ask_file(image)
            unsaid = () if note(image).get("axes") else unsaid_axes(image)
            row.show_axes(noted_axes(image), data_shape(image), unsaid)
        self._axes_of = weakref.ref(image)

    def _show_details(self) -> None:
        """Show axes and possible channels of the chosen image."""
        image = self.image()
        self._shown = image
        if image is None:
            self._view.axes.show_axes("", ())
            self._view.channels.show_layers([])
        else:
            self._show_axes(image)
            self._view.channels.show_layers([other for other in images_of(self._viewer) if _fits(other, image)])
        self._view.hide_unused()


def images_of(viewer: ViewerModel) -> list[Image]:
    """Return the image layers that can be segmented."""
    from napari.layers import Image

    pictures = [layer for layer in viewer.layers if isinstance(layer, Image) and 2 <= layer.ndim <= 6]
    return [layer for layer in pictures if not note(layer).get("weights")]


def labels_of(viewer: ViewerModel) -> list[Any]:
    """Return the Labels layers that hold cells: previews and marked mistakes left out."""
    from napari.layers import Labels

    labels = [layer for layer in viewer.layers if isinstance(layer, Labels) and not is_preview(layer)]
    return [layer for layer in labels if not note(layer).get("errors")]


def is_painting(layer: Layer) -> bool:
    """Return whether a Labels layer is meant to be painted on, other than what a network has made."""
    return "result" not in note(layer)


def ask_file(image: Image) -> None:
    """Note on an image what the file that it was opened from says of its axes, where nothing else does."""
    path = str(getattr(image.source, "path", None) or "")
    if path and "file_axes" not in note(image) and unsaid_axes(image):
        image.metadata.setdefault(OURS, {})["file_axes"] = axes_in_file(Path(path), data_shape(image))


def _fits(other: Image, image: Image) -> bool:
    """Return whether a layer can be a further channel of an image."""
    return other is not image and not other.rgb and not image.rgb and data_shape(other) == data_shape(image)
