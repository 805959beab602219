"""Annotate here next: asks the engine where a network is least certain, and leads there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QObject

from ...core import events
from ...core.data.arrays import Planes
from ...core.errors import DataError, UNetError
from ...core.instances.uncertainty import Suggestion, known_share, rank, spread
from ...core.network.model_card import read_card
from ...core.settings import PredictionSettings, with_values
from ..dock.lifecycle import abandon_job, connect_job, painted_later
from ..layers.complete_regions import read_regions, regions_of
from ..layers.navigation import canvas_size, go_to, show_frame
from ..layers.preview import camera_of
from ..layers.reading import current_plane, data_shape, full_data, label_index, label_shape
from ..models.registry import check_channels
from ..models.selector import SCRATCH
from ..runtime.engine import SegmentRequest
from ..settings.shortcuts import KeyBindings
from ..widgets.common import time_left
from ..widgets.layer_selectors import ImageChoice
from .annotation_controller import Annotating
from .view import TrainView

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image

    from ..runtime.engine import Engine, EngineJob

FRAME_NAME = "annotate here next"
_SHOWN = 10
_CELLS_ACROSS = 4
"""Cells side by side in a suggested box."""
_SIDES = (48, 384)
_AROUND = 1.6
"""How much more than the box the camera shows."""


class Suggesting(QObject):
    """What happens in the tab *Suggestions*.

    Parameters
    ----------
    viewer : ViewerModel
        Where to look.
    view : TrainView
        The widgets.
    engine : Engine
        Runs the network.
    choice : ImageChoice
        The chosen image.
    annotating : Annotating
        Knows what is annotated already.
    model : callable
        Returns the model to ask, ``"scratch"`` when there is none, and whether a training is under way.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        view: TrainView,
        engine: Engine,
        choice: ImageChoice,
        annotating: Annotating,
        model: Callable[[], tuple[str, bool]],
    ) -> None:
        super().__init__()
        self.viewer, self.view, self.engine, self.choice = viewer, view.where_next, engine, choice
        self._annotating, self._model, self._form = annotating, model, view.advanced
        self.job: EngineJob | None = None
        self.suggestions: list[Suggestion] = []
        self._doubts: dict[tuple[int, ...], NDArray[np.float32]] = {}
        self._found: dict[tuple[int, ...], list[Suggestion]] = {}
        self._image: Image | None = None
        self._axes, self._side = "", _SIDES[0]
        self._size: tuple[int, ...] = ()
        self._at = -1
        self._keys = KeyBindings(viewer, {"key_where_next": lambda _: self.next()})
        self.view.asked.connect(self.ask)
        self.view.cancelled.connect(self.cancel)
        self.view.chosen.connect(self.go)

    def close(self) -> None:
        """Ask no more."""
        self._keys.close()
        abandon_job(self.job)
        self._image = None

    def follow_layers(self) -> None:
        """Offer the whole stack where there is one, and forget a picture that is gone."""
        try:
            planes = len(self.choice.planes().indices())
        except DataError:
            # Said when the button is clicked; until then the user is still choosing.
            planes = 1
        self.view.show_extent(planes)
        if self._image is not None and not self._is_as_asked(self._image):
            self._image, self.suggestions = None, []
            self.view.show_suggestions([])

    def _is_as_asked(self, image: Image) -> bool:
        """Return whether a picture is there, and of the size that it had when it was asked about."""
        return image in self.viewer.layers and data_shape(image) == self._size

    # --- asking ---------------------------------------------------------------------------------

    def ask(self) -> None:
        """Ask the engine for doubt in this plane, or in all planes."""
        if self.job is not None:
            return
        try:
            request = self._request()
        except UNetError as error:
            self.view.say(str(error))
            return
        _, training = self._model()
        self._image, self._axes, self._at = self.choice.chosen(), self.choice.axes(), -1
        self._size = data_shape(self._image)
        # What was found before may lie in another picture; the key for the next place then waits for the answer.
        self._doubts, self._found, self.suggestions = {}, {}, []
        self.view.show_suggestions([])
        self.view.set_busy(True)
        self.view.say("looking ...")
        job = self.engine.suggest(request, now=training)
        self.job = job
        connect_job(job, self._on_event, self.view.say, self._on_done)

    def _request(self) -> SegmentRequest:
        """Return what to ask, or raise a readable error."""
        model, training = self._model()
        if model == SCRATCH:
            raise DataError("There is no model to ask yet; train one first, or start from the bundled model.")
        planes = self.choice.planes()
        card = read_card(model)
        if check_channels(card, planes.channels, planes.rgb):
            planes = planes.as_grey()
        # A handful of cells of the size that the model knows; and at least three boxes have to fit side by side.
        side = int(np.clip(_CELLS_ACROSS * card.diameter / (card.scale or 1.0), *_SIDES))
        self._side = min(side, max(_SIDES[0], min(planes.height, planes.width) // 3))
        chosen = self._form.values()
        where = {name: chosen[name] for name in ("device", "precision")}
        # Where the network is in doubt shows without mirrored images, in a quarter of the time.
        settings = with_values(PredictionSettings(), {**card.prediction, **where, "tta": False})
        return SegmentRequest(planes, model, settings, self._todo(planes, training))

    def _todo(self, planes: Planes, training: bool) -> tuple[tuple[int, ...], ...]:
        """Return the planes to look at, the present one first; while training only that one, as it has to wait."""
        here = current_plane(self.viewer, self.choice.chosen(), self.choice.axes())
        if not self.view.whole() or training:
            return (here,)
        return (here, *(plane for plane in planes.indices() if plane != here))

    def cancel(self) -> None:
        """Look at no further planes; what was found stays."""
        if self.job is not None:
            self.job.stop()

    def _on_event(self, event: Any) -> None:
        if type(event).__name__ == "PlaneUncertainty":
            self._doubts[tuple(event.plane)] = event.maps
            self._rank([tuple(event.plane)])
        elif isinstance(event, events.PlaneDone) and event.total > 1:
            self.view.say(f"plane {event.done} of {event.total}, {time_left(event.remaining)}")

    def _on_done(self) -> None:
        self.job = None
        self.view.set_busy(False)
        if self._doubts:
            found = len(self.suggestions)
            self.view.say("Click a line to go there." if found else "No uncertain places beside the annotated ones.")

    # --- the list -------------------------------------------------------------------------------

    def _rank(self, planes: Sequence[tuple[int, ...]]) -> None:
        """Rank these planes anew, away from what is annotated by now, and show the list."""
        image = self._image
        if image is None or not self._is_as_asked(image):
            return
        shape = data_shape(image)
        size = (shape[self._axes.index("y")], shape[self._axes.index("x")])
        for plane in planes:
            known = {plane: self._known(image, self._axes, plane)}
            self._found[plane] = rank({plane: self._doubts[plane]}, known, size, side=self._side, count=_SHOWN)
        self.suggestions = spread([place for places in self._found.values() for place in places], _SHOWN)
        self.view.show_suggestions([_words(place, self._axes) for place in self.suggestions])

    def _known(self, image: Image, axes: str, plane: tuple[int, ...]) -> NDArray[np.float32]:
        """Return how much of each square of a plane is annotated."""
        size = data_shape(image)
        total = np.zeros((size[axes.index("y")], size[axes.index("x")]), np.int32)
        boxes: tuple[Any, ...] = ()
        for painting in self._annotating.paintings():
            labels = painting.layer()
            # The picture's data may have been replaced since by others of another size.
            if image in painting.pictures() and data_shape(labels) == label_shape(image, axes):
                drawn = np.asarray(full_data(labels)[label_index(axes, plane)])
                total |= (drawn.T if axes.index("x") < axes.index("y") else drawn).astype(bool)
                boxes += read_regions(regions_of(self.viewer, labels), labels, axes).boxes.get(plane, ())
        return known_share(total, boxes)

    def next(self) -> None:
        """Go to the next place of the list; ask first when there is none."""
        if not self.suggestions:
            self.ask()
            return
        here = self.suggestions[self._at] if 0 <= self._at < len(self.suggestions) else None
        # What was painted since then is no longer worth a visit.
        self._rank(sorted({place.plane for place in self.suggestions}))
        step = 1 if here is None or here in self.suggestions else 0
        if self.suggestions:
            self.go((self._at + step) % len(self.suggestions))
        else:
            self.view.say("All of these places are annotated; look again for others.")

    def go(self, row: int) -> None:
        """Show a place of the list, with a frame around it."""
        image = self._image
        if image is None or not self._is_as_asked(image) or row >= len(self.suggestions):
            return
        self._at = row
        self.view.mark(row)
        place, axes = self.suggestions[row], self._axes
        leading = iter(place.plane)
        corner = [{"y": place.box[0], "x": place.box[2], "c": 0}[a] if a in "yxc" else next(leading) for a in axes]
        opposite = list(corner)
        opposite[axes.index("y")], opposite[axes.index("x")] = place.box[1] - 1, place.box[3] - 1
        with painted_later(self.view):
            self._move(image, np.array(corner, float), np.array(opposite, float))
            show_frame(self.viewer, image, axes, corner, opposite, FRAME_NAME)

    def _move(self, image: Image, corner: NDArray[Any], opposite: NDArray[Any]) -> None:
        """Bring the sliders and the camera to a box, which then fills most of the view."""
        go_to(self.viewer, image, list((corner + opposite) / 2))
        ends = np.array([image.data_to_world(corner), image.data_to_world(opposite)])
        extent = float(np.ptp(ends, axis=0).max()) or 1.0
        camera_of(self.viewer).zoom = float(max(1, min(canvas_size(self.viewer)))) / (_AROUND * extent)


def _words(place: Suggestion, axes: str) -> tuple[str, str]:
    """Return a suggestion as a line of the list, and where exactly it is."""
    letters = [a for a in axes if a not in "cyx"]
    where = " ".join(f"{a} {i}" for a, i in zip(letters, place.plane, strict=True))
    line = "   ".join(filter(None, (f"{100 * place.score:.0f} %", where, place.reason)))
    return line, f"y {place.box[0]} to {place.box[1]}, x {place.box[2]} to {place.box[3]} px"
