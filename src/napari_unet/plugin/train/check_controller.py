"""Checks the labels when asked to, shows where something is odd, and what the weight map looks like."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...core.data.annotation import AnnotatedImage, interpret
from ...core.data.label_ops import median_diameter
from ...core.data.rescale import choose_scale
from ...core.errors import DataError, UNetError
from ...core.evaluation.annotation_checks import Finding, check_labels, weight_map
from ...core.network.model_card import read_card
from ...core.settings import TrainingSettings, with_values
from ..dock.lifecycle import painted_later
from ..layers.navigation import go_to, hide_frame, show_frame
from ..layers.reading import OURS, current_plane, fill_again, note, placement, write_plane
from ..models.selector import SCRATCH
from ..runtime.worker_thread import WorkerThread
from ..widgets.layer_selectors import ImageChoice
from .annotation_controller import Annotating
from .sources import Gathered

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from .view import TrainView

WEIGHTS_NAME = "weight map"
FRAME_NAME = "look here"
_LEAST = 8.0
"""Pixels that a place is taken to have at least, or a speck would fill the view and nobody knew where it is."""
_MARGIN = 5.0
"""Pixels between a place and its frame."""


@dataclass(frozen=True)
class _Place:
    """Where a finding is: in which layer, held weakly, and where in that."""

    layer: weakref.ref[Any]
    axes: str
    position: tuple[float, ...]
    finding: Finding

    def corners(self) -> tuple[list[float], list[float]]:
        """Return two opposite corners of a box around it."""
        half = self.finding.extent / 2 + _MARGIN
        away = [half if a in "yx" else 0.0 for a in self.axes]
        around = list(zip(self.position, away, strict=True))
        return [at - off for at, off in around], [at + off for at, off in around]


class Checking:
    """What happens in the Check tab of the train dock.

    Parameters
    ----------
    viewer : ViewerModel
        Whose layers are annotated.
    view : TrainView
        The dock's widgets.
    choice : ImageChoice
        The chosen image.
    annotating : Annotating
        What takes part.
    reader : callable
        Returns, by the mode of training, a function that reads all that takes part in any thread.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        view: TrainView,
        choice: ImageChoice,
        annotating: Annotating,
        reader: Callable[[str], Callable[[], Gathered]],
    ) -> None:
        self.viewer, self.view, self.choice, self.annotating = viewer, view, choice, annotating
        self._reader = reader
        self._steps, self._step_seconds = 0, 0.0
        self._reading = WorkerThread()
        self._places: list[_Place | None] = []
        self._checked: list[weakref.ref[Any]] = []
        view.check.check_asked.connect(self._check)
        view.check.weights_asked.connect(self._show_weights)
        view.check.chosen.connect(self._go)
        view.check.diameter_asked.connect(self._take_diameter)

    def close(self) -> None:
        """Drop what is still being read."""
        self._reading.forget()

    def follow_layers(self) -> None:
        """Forget what was found when all layers that it was found in are gone."""
        if self._checked and not any(
            layer in self.viewer.layers for ref in self._checked for layer in [ref()] if layer is not None
        ):
            self._places, self._checked = [], []
            self.view.check.forget()

    def note_step(self, elapsed: float) -> None:
        """Learn how long training steps take: another one was made, ``elapsed`` seconds after the start."""
        self._steps = self._steps + 1 if elapsed > self._step_seconds * self._steps else 1
        self._step_seconds = elapsed / self._steps

    def _settings(self) -> TrainingSettings:
        return with_values(self.view.simple.settings(), self.view.advanced.values())

    def _known(self) -> tuple[float | None, float]:
        """Return the diameter that the model to start from knows, and the size at which it saw its images."""
        start = self.view.start.currentData()
        if start == SCRATCH:
            return None, 0.0
        card = read_card(start)
        return card.diameter, card.scale

    # --- checking -------------------------------------------------------------------------------

    def _check(self) -> None:
        """Read everything that takes part, and check it."""
        try:
            self.annotating.check()
            settings, (expected, scale) = self._settings(), self._known()
            read = self._reader(settings.mode)
        except UNetError as error:
            self._fail(str(error))
            return
        # Layers in the order in which their planes are read; what comes from earlier trainings has none.
        layers = [weakref.ref(painting.layer()) for painting in self.annotating.paintings() if painting.on]
        axes = [painting.axes for painting in self.annotating.paintings() if painting.on]
        step_seconds = self._step_seconds

        def work() -> tuple[Gathered, list[Finding]]:
            found = read()
            chosen = replace(settings, background_label=found.background)
            return found, check_labels(found.images, chosen, expected=expected, scale=scale, step_seconds=step_seconds)

        def show(outcome: tuple[Gathered, list[Finding]]) -> None:
            gathered, findings = outcome
            owners = [i for i, tally in enumerate(gathered.tallies) for _ in range(tally.planes)]
            self._places = [self._place(finding, gathered.images, owners, layers, axes) for finding in findings]
            self._checked = layers
            hide_frame(self.viewer)
            several = len(gathered.images) > 1
            where = [gathered.images[f.image].name if several and f.image >= 0 else "" for f in findings]
            self.view.check.show_findings(findings, where)

        self.view.check.say("Checking ...")
        self._reading.run(work, show, self._fail)

    def _place(
        self, finding: Finding, images: tuple[AnnotatedImage, ...], owners: list[int], layers: Any, axes: list[str]
    ) -> _Place | None:
        """Return where in which layer a finding is; None when there is no place."""
        if not finding.position or owners[finding.image] >= len(layers):
            return None
        letters, where = axes[owners[finding.image]], iter(images[finding.image].plane)
        y, x = finding.position
        position = [{"y": y, "x": x, "c": 0}[a] if a in "yxc" else next(where) for a in letters]
        return _Place(layers[owners[finding.image]], letters, tuple(map(float, position)), finding)

    def _fail(self, message: str) -> None:
        self._places = []
        self.view.check.show_findings([], [])
        self.view.check.say("")
        self.view.messages.clear_messages()
        self.view.messages.say(message, "error")

    def _go(self, row: int) -> None:
        """Go to the place of a line, with a frame around it and the cell's label in the brush."""
        place = self._places[row] if row < len(self._places) else None
        layer = place.layer() if place is not None else None
        if place is None or layer is None or layer not in self.viewer.layers:
            return
        with painted_later(self.view):
            if not layer.visible:
                # napari takes the brush out of the hand of a layer that is shown already.
                layer.visible = True
            self.viewer.layers.selection.active = layer
            go_to(self.viewer, layer, place.position, size=max(place.finding.extent, _LEAST))
            show_frame(self.viewer, layer, place.axes, *place.corners(), FRAME_NAME)
            layer.selected_label = place.finding.label

    def _take_diameter(self, diameter: float) -> None:
        """Take the measured diameter as the setting, and say that it was."""
        self.view.advanced.show_values({"diameter": float(round(diameter))})
        self.view.messages.say(f"The diameter is set to {diameter:.0f} px, under More settings.", "done")
        self._check()

    # --- the weight map ---------------------------------------------------------------------------

    def _show_weights(self) -> None:
        """Compute the weight map of the plane on screen in a thread, then show it."""
        try:
            self.annotating.check()
            settings, (expected, scale) = self._settings(), self._known()
            image, axes = self.choice.chosen(), self.choice.axes()
            read, plane = self._reader(settings.mode), current_plane(self.viewer, image, axes)
            if settings.mode == "classes":
                raise DataError("Kinds of cell have no weight map; it is about borders between single cells.")
        except UNetError as error:
            self._fail(str(error))
            return
        mine = [p for p in self.annotating.paintings() if p.on]
        fits = [i for i, painting in enumerate(mine) if image in painting.pictures()]

        def work() -> NDArray[np.float32]:
            found = read()
            chosen = replace(settings, background_label=found.background)
            owners = [i for i, tally in enumerate(found.tallies) for _ in range(tally.planes)]
            here = [item for item, i in zip(found.images, owners, strict=True) if i in fits and item.plane == plane]
            if not here:
                raise DataError("Nothing is painted in this plane; go to a plane with paint.")
            known = [interpret(item, chosen).instances for item in found.images]
            diameter = chosen.diameter or float(np.median([d for d in map(median_diameter, known) if d] or [0.0]))
            return weight_map(here[0], chosen, choose_scale(diameter, expected, scale))

        def show(values: NDArray[np.float32]) -> None:
            with painted_later(self.view):
                show_weights(self.viewer, image, axes, plane, values)

        self._reading.run(work, show, self._fail)


def show_weights(
    viewer: ViewerModel, image: Any, axes: str, plane: tuple[int, ...], values: NDArray[np.float32]
) -> None:
    """Show the weight map of a plane on top of all layers, instead of an earlier one; the selection stays.

    Parameters
    ----------
    viewer : ViewerModel
        Where.
    image : Image
        The picture.
    axes : str
        Its axis letters.
    plane : tuple of int
        Which plane.
    values : NDArray of float32
        Weights, (Y, X).
    """
    from napari.layers import Image

    if image not in viewer.layers:
        return
    where = iter(plane)
    corner = [0.0 if a in "cyx" else float(next(where)) for a in axes]
    height, width = values.shape
    data = np.zeros([{"y": height, "x": width}.get(a, 1) for a in axes], np.float32)
    write_plane(data, axes, (0,) * len(plane), values)
    limits, place = (0.0, max(float(values.max()), 1e-3)), placement(image, axes, corner)
    for old in [layer for layer in viewer.layers if note(layer).get("weights")]:
        if old.ndim == data.ndim:
            fill_again(viewer, old, data, place)
            old.contrast_limits_range = old.contrast_limits = limits
            return
        viewer.layers.remove(old)
    layer = Image(
        data, name=WEIGHTS_NAME, colormap="inferno", blending="additive", contrast_limits=limits,
        metadata={OURS: {"weights": True}}, **place,
    )  # fmt: skip
    active, selected = viewer.layers.selection.active, set(viewer.layers.selection)
    # On top, as paint would hide it; it adds light and hides nothing.
    viewer.layers.append(layer)
    viewer.layers.selection = selected
    viewer.layers.selection.active = active
