"""The docks as napari's menus open them. What each is made of is loaded after the click, in turns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .dock import Controller, Dock

if TYPE_CHECKING:
    from .choices import Choice

_PLOTS = "pyqtgraph"


class TrainDock(Dock):
    """The dock: paint a few cells, watch a U-Net learn them.

    Parameters
    ----------
    napari_viewer : napari.Viewer
        Where the layers are.
    """

    loads = (_PLOTS, ".train_view", ".train_dock")
    tab = "Train"

    def make_view(self) -> Any:
        """Return the widgets."""
        from .train_view import TrainView

        return TrainView()

    def make_controller(self, view: Any) -> tuple[Controller, Sequence[Choice]]:
        """Return what answers to the user, and what is remembered."""
        from .dock_choices import of_training
        from .train_dock import TrainController

        controller = TrainController(self.viewer, view, self.use.engine)
        return controller, of_training(controller)


class SegmentDock(Dock):
    """The dock: segment a plane or a stack with a U-Net.

    Parameters
    ----------
    napari_viewer : napari.Viewer
        Where the layers are.
    """

    loads = (".segment_view", ".segment_dock")
    tab = "Segment"

    def make_view(self) -> Any:
        """Return the widgets."""
        from .segment_view import SegmentView

        return SegmentView()

    def make_controller(self, view: Any) -> tuple[Controller, Sequence[Choice]]:
        """Return what answers to the user, and what is remembered."""
        from .dock_choices import of_segmenting
        from .segment_dock import SegmentController

        controller = SegmentController(self.viewer, view, self.use.engine)
        return controller, of_segmenting(controller)


class BatchDock(Dock):
    """The dock: segment all pictures of a folder.

    Parameters
    ----------
    napari_viewer : napari.Viewer
        Where results are opened.
    """

    loads = (".batch_view", ".batch_dock")
    tab = "Many files"

    def make_view(self) -> Any:
        """Return the widgets."""
        from .batch_view import BatchView

        return BatchView()

    def make_controller(self, view: Any) -> tuple[Controller, Sequence[Choice]]:
        """Return what answers to the user, and what is remembered."""
        from .batch_dock import BatchController
        from .dock_choices import of_batch

        controller = BatchController(self.viewer, view, self.use.engine)
        return controller, of_batch(controller)


class ProofreadDock(Dock):
    """The dock: check and correct a segmentation.

    Parameters
    ----------
    napari_viewer : napari.Viewer
        Where the layers are.
    """

    loads = (".proofread_view", ".proofread_dock")
    tab = "Proofread"

    def make_view(self) -> Any:
        """Return the widgets."""
        from .proofread_view import ProofreadView

        return ProofreadView()

    def make_controller(self, view: Any) -> tuple[Controller, Sequence[Choice]]:
        """Return what answers to the user, and what is remembered."""
        from .dock_choices import of_proofreading
        from .proofread_dock import ProofreadController

        return ProofreadController(self.viewer, view), of_proofreading(view)


class MeasureDock(Dock):
    """The dock: measure every cell, compare with the truth, write table and report.

    Parameters
    ----------
    napari_viewer : napari.Viewer
        Where the layers are.
    """

    loads = (_PLOTS, ".measure_view", ".measure_dock")
    tab = "Measure"

    def make_view(self) -> Any:
        """Return the widgets."""
        from .measure_view import MeasureView

        return MeasureView()

    def make_controller(self, view: Any) -> tuple[Controller, Sequence[Choice]]:
        """Return what answers to the user, and what is remembered."""
        from .dock_choices import of_measuring
        from .measure_dock import MeasureController

        controller = MeasureController(self.viewer, view)
        return controller, of_measuring(controller)


class ModelsDock(Dock):
    """The dock: look at models, rename, copy, delete, import and export them.

    Parameters
    ----------
    napari_viewer : napari.Viewer
        Whose theme the dock follows.
    """

    loads = (".models_view", ".models_dock")
    tab = "Models"

    def make_view(self) -> Any:
        """Return the widgets."""
        from .models_view import ModelsView

        return ModelsView()

    def make_controller(self, view: Any) -> tuple[Controller, Sequence[Choice]]:
        """Return what answers to the user, and what is remembered."""
        from .dock_choices import of_models
        from .models_dock import ModelsController

        return ModelsController(view), of_models(view)
