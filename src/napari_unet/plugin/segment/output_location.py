"""Where results are saved by themselves: the choice in the dock, and what it means for a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QFileDialog, QSizePolicy

from ...core.errors import DataError
from ..layers.zarr_result import file_of
from ..widgets.forms import guard_wheel

if TYPE_CHECKING:
    from napari.layers import Image

BY_HAND, BESIDE, _ASK = "", "beside", "ask"


class PlaceCombo(QComboBox):
    """Nowhere, beside the picture, or a folder that the user looks up.

    Attributes
    ----------
    place_changed : Signal(str)
        Another place counts; see :meth:`place`.
    """

    place_changed = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.addItem("only when I click Save", BY_HAND)
        self.addItem("beside the picture", BESIDE)
        self.addItem("choose a folder ...", _ASK)
        self.setToolTip(
            "<span>Where results are saved by themselves, as OME-Zarr with the size of the pixels. A picture that is "
            "too large for the memory is always written to disk while it is segmented; without a place of yours, into "
            "the folder <i>segmentations</i> of napari-unet.</span>"
        )
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(8)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        guard_wheel(self)
        self._before = 0
        self.currentIndexChanged.connect(self._on_index)

    def place(self) -> str:
        """Return :data:`BY_HAND`, :data:`BESIDE` or the path of a folder."""
        return str(self.currentData())

    def choose(self, place: str) -> None:
        """Choose a place; a folder that is not on offer yet is added."""
        if self.findData(place) < 0:
            self.blockSignals(True)
            self.insertItem(self.count() - 1, Path(place).name or place, place)
            self.setItemData(self.count() - 2, place, 3)
            self.blockSignals(False)
        self.setCurrentIndex(self.findData(place))

    def _on_index(self, index: int) -> None:
        if self.itemData(index) != _ASK:
            self._before = index
            self.place_changed.emit(self.place())
            return
        self.setCurrentIndex(self._before)
        folder = QFileDialog.getExistingDirectory(self, "Folder for results")
        if folder:
            self.choose(folder)


def folder_for(place: str, image: Image, array: Any) -> Path | None:
    """Return the folder that a place means for a picture; None when results are saved by hand.

    Raises
    ------
    DataError
        When the picture is in no file beside which anything could lie.
    """
    if place != BESIDE:
        return Path(place) if place else None
    path = file_of(array, str(getattr(image.source, "path", None) or ""))
    if not path:
        raise DataError(
            f"{image.name} is in no file, so nothing can be saved beside it; choose a folder under Save to."
        )
    # An array inside a .zarr: beside the whole of it.
    outermost = next((p for p in reversed([Path(path), *Path(path).parents]) if p.suffix == ".zarr"), Path(path))
    return outermost.parent
