"""The docks as napari's menus open them. What each is made of is loaded after the click, in turns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .dock.base import Controller, Dock

if TYPE_CHECKING:
    from .dock.state import StateEntry

_PLOTS = "pyqtgraph"


class TrainDock(Dock):
    """The dock: paint a few cells, watch a U-Net learn them.

    Parameters
    ----------
    napari_viewer : napari.Viewer
        Where the layers are.
    """

    loads = (_PLOTS, "napari_unet.plugin.train.view", "napari_unet.plugin.train.controller")
    tab = "Train"

    def make_view(self) -> Any:
        """Return the widgets."""
        from .train.view import TrainView

        return TrainView()

    def make_controller(self, view: Any) -> tuple[Controller, Sequence[StateEntry]]:
        """Return what answers to the user, and what is remembered."""
        from .dock_choices import of_training
        from .train.controller import TrainController

        controller = TrainController(self.viewer, view, self.use.engine)
        return controller, of_training(controller)


class SegmentDock(Dock):
    """The dock: segment a plane or a stack with a U-Net.

    Parameters
    ----------
    napari_viewer : napari.Viewer
        Where the layers are.
    """

    loads = ("napari_unet.plugin.segment.view", "napari_unet.plugin.segment.controller")
    tab = "Segment"

    def make_view(self) -> Any:
        """Return the widgets."""
        from .segment.view import SegmentView

        return SegmentView()

    def make_controller(self, view: Any) -> tuple[Controller, Sequence[StateEntry]]:
        """Return what answers to the user, and what is remembered."""
        from .dock_choices import of_segmenting
        from .segment.controller import SegmentController

        controller = SegmentController(self.viewer, view, self.use.engine)
        return controller, of_segmenting(controller)


class BatchDock(Dock):
    """The dock: segment all pictures of a folder.

    Parameters
    ----------
    napari_viewer : napari.Viewer
        Where results are opened.
    """

    loads = ("napari_unet.plugin.segment.batch_view", "napari_unet.plugin.segment.batch_controller")
    tab = "Many files"

    def make_view(self) -> Any:
        """Return the widgets."""
        from .segment.batch_view import BatchView

        return BatchView()

    def make_controller(self, view: Any) -> tuple[Controller, Sequence[StateEntry]]:
        """Return what answers to the user, and what is remembered."""
        from .dock_choices import of_batch
        from .segment.batch_controller import BatchController

        controller = BatchController(self.viewer, view, self.use.engine)
        return controller, of_batch(controller)


class ProofreadDock(Dock):
    """The dock: check and correct a segmentation.

    Parameters
    ----------
    napari_viewer : napari.Viewer
        Where the layers are.
    """

    loads = ("napari_unet.plugin.proofread.view", "napari_unet.plugin.proofread.controller")
    tab = "Proofread"

    def make_view(self) -> Any:
        """Return the widgets."""
        from .proofread.view import ProofreadView

        return ProofreadView()

    def make_controller(self, view: Any) -> tuple[Controller, Sequence[StateEntry]]:
        """Return what answers to the user, and what is remembered."""
        from .dock_choices import of_proofreading
        from .proofread.controller import ProofreadController

        return ProofreadController(self.viewer, view), of_proofreading(view)


class MeasureDock(Dock):
    """The dock: measure every cell, compare with the truth, write table and report.

    Parameters
    ----------
    napari_viewer : napari.Viewer
        Where the layers are.
    """

    loads = (_PLOTS, "napari_unet.plugin.measure.view", "napari_unet.plugin.measure.controller")
    tab = "Measure"

    def make_view(self) -> Any:
        """Return the widgets."""
        from .measure.view import MeasureView

        return MeasureView()

    def make_controller(self, view: Any) -> tuple[Controller, Sequence[StateEntry]]:
        """Return what answers to the user, and what is remembered."""
        from .dock_choices import of_measuring
        from .measure.controller import MeasureController

        controller = MeasureController(self.viewer, view)
        return controller, of_measuring(controller)


class ModelsDock(Dock):
    """The dock: look at models, rename, copy, delete, import and export them.

    Parameters
    ----------
    napari_viewer : napari.Viewer
        Whose theme the dock follows.
    """

    loads = ("napari_unet.plugin.models.view", "napari_unet.plugin.models.controller")
    tab = "Models"

    def make_view(self) -> Any:
        """Return the widgets."""
        from .models.view import ModelsView

        return ModelsView()

    def make_controller(self, view: Any) -> tuple[Controller, Sequence[StateEntry]]:
        """Return what answers to the user, and what is remembered."""
        from .dock_choices import of_models
        from .models.controller import ModelsController

        return ModelsController(view), of_models(view)
