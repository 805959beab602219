"""Signs on top of a Labels layer: which cells were checked, which one is meant, what is being drawn."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QTimer

from ...core.proofreading.review import ACCEPTED, DELETED, EDITED
from .preview import camera_of
from .reading import OURS

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels

OVERLAY_NAME = "reviewed cells"
CURRENT, DRAWN = "current", "drawn"

# Distinct by shape first; colours from Okabe and Ito, safe for colour-blind people.
_SYMBOLS = {ACCEPTED: "disc", EDITED: "diamond", DELETED: "x", CURRENT: "disc", DRAWN: "disc"}
_WHITE, _BLACK = (1.0, 1.0, 1.0, 1.0), (0.0, 0.0, 0.0, 1.0)
_FACES = {
    ACCEPTED: _WHITE, EDITED: _WHITE, DELETED: _BLACK, CURRENT: (1.0, 0.5, 0.1, 0.0), DRAWN: (0.94, 0.89, 0.26, 1.0),
}  # fmt: skip
_BORDERS = {
    ACCEPTED: (0.0, 0.45, 0.70, 1.0),
    EDITED: (0.90, 0.62, 0.0, 1.0),
    DELETED: _WHITE,
    CURRENT: (1.0, 0.5, 0.1, 1.0),
    DRAWN: _BLACK,
}
_LEAST, _MOST = 12.0, 400
"""Pixels on screen that a sign has at least and at most."""
_CIRCLE = 2
"""Sizes of the smallest sign that the circle around a cell has at least."""
_MOVES = ("scale", "translate", "rotate", "shear", "affine")
"""Attributes of a layer, and its events, that say where it lies."""
_ZOOMED_MS = 40
"""From the last turn of the wheel until signs are as large as they have to be."""


@dataclass(frozen=True)
class Sign:
    """One sign: its kind, where (one number per axis of the layer), and its size in pixels of the picture."""

    kind: str
    position: tuple[float, ...]
    size: float


class ReviewOverlay:
    """A Points layer that is there while there is something to show.

    Parameters
    ----------
    viewer : ViewerModel
        Where.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._layer: weakref.ref[Any] | None = None
        self._below: Callable[[], Any] = _nothing
        self._shown: list[Sign] = []
        self._wanted: tuple[Labels, Sequence[Sign]] | None = None
        self._busy = False
        self._zoomed = QTimer(singleShot=True, interval=_ZOOMED_MS)
        self._zoomed.timeout.connect(self._fit)
        camera_of(viewer).events.zoom.connect(self._on_zoom)

    def layer(self) -> Any:
        """Return the Points layer, or None."""
        layer = self._layer() if self._layer is not None else None
        return layer if layer is not None and layer in self._viewer.layers else None

    def show(self, below: Labels, signs: Sequence[Sign]) -> None:
        """Show these signs right above a layer, and no others.

        Signs at other places can move the sliders, which asks for other signs before these are complete; these come
        next then.
        """
        self._wanted = below, signs
        if self._busy:
            return
        self._busy = True
        try:
            while self._wanted is not None:
                wanted, self._wanted = self._wanted, None
                self._put(*wanted)
        finally:
            self._busy = False

    def _put(self, below: Labels, signs: Sequence[Sign]) -> None:
        layer = self.layer()
        if layer is not None and layer.ndim != below.ndim:
            self.remove()
            layer = None
        if layer is None:
            if signs:
                self._insert(below, signs)
            return
        self._raise_above(layer, below)
        if self._below() is not below:
            self._attend(below)
            self._follow()
        if list(signs) != self._shown:
            self._change(layer, below, signs)

    def _change(self, layer: Any, below: Labels, signs: Sequence[Sign]) -> None:
        """Show other signs in the layer that there is."""
        self._shown = list(signs)
        # Selected points take on what is set, and cost a drawing more.
        layer.selected_data = set()
        layer.data = _positions(signs, below.ndim)
        if signs:
            for name, values in _look(signs, self._least(below)).items():
                setattr(layer, name, values)

    def _raise_above(self, layer: Any, below: Labels) -> None:
        """Move the signs above labels that came on top of them, through whose colours they would hardly be seen."""
        layers = self._viewer.layers
        own, other = layers.index(layer), layers.index(below)
        if own < other:
            layers.move(own, other + 1)

    def _least(self, layer: Any) -> float:
        """Return how large a sign has to be, in pixels of the picture, to be seen at this zoom."""
        return _LEAST / max(camera_of(self._viewer).zoom * float(abs(layer.scale[-1])), 1e-9)

    def _on_zoom(self, event: Any = None) -> None:
        self._zoomed.start()

    def _fit(self) -> None:
        """Keep signs large enough for the present zoom.

        napari could do so itself, but then draws a border that leaves nothing of the shape.
        """
        layer = self.layer()
        if layer is None or not self._shown:
            return
        sizes = _sizes(self._shown, self._least(layer))
        if not np.allclose(layer.size, sizes):
            layer.size, layer.border_width = sizes, _borders(self._shown, self._least(layer))

    def _insert(self, below: Labels, signs: Sequence[Sign]) -> None:
        """Add the Points layer; selection and active layer stay as they are."""
        from napari.layers import Points

        layer = Points(
            _positions(signs, below.ndim), ndim=below.ndim, name=OVERLAY_NAME, metadata={OURS: {"overlay": True}},
            canvas_size_limits=(0, _MOST), **_placement(below), **_look(signs, self._least(below)),
        )  # fmt: skip
        active, selected = self._viewer.layers.selection.active, set(self._viewer.layers.selection)
        self._viewer.layers.insert(self._viewer.layers.index(below) + 1, layer)
        self._viewer.layers.selection = selected
        self._viewer.layers.selection.active = active
        self._layer, self._shown = weakref.ref(layer), list(signs)
        self._attend(below)

    def _attend(self, below: Labels | None) -> None:
        """Lie over these labels from now on, wherever they move."""
        before = self._below()
        if before is not None:
            for name in _MOVES:
                before.events[name].disconnect(self._follow)
        self._below = weakref.ref(below) if below is not None else _nothing
        if below is not None:
            for name in _MOVES:
                below.events[name].connect(self._follow)

    def _follow(self, event: Any = None) -> None:
        """Lie over the labels again after these were moved or given another scale."""
        layer, below = self.layer(), self._below()
        if layer is not None and below is not None:
            for name, value in _placement(below).items():
                setattr(layer, name, value)
            self._fit()

    def close(self) -> None:
        """Take the Points layer away, and follow the zoom no longer."""
        self._zoomed.stop()
        camera_of(self._viewer).events.zoom.disconnect(self._on_zoom)
        self.remove()

    def remove(self) -> None:
        """Take the Points layer away."""
        layer = self.layer()
        if layer is not None:
            self._viewer.layers.remove(layer)
        self._attend(None)
        self._layer = None


def _nothing() -> None:
    """Stand in for a reference to a layer before there is one."""


def _placement(layer: Labels) -> dict[str, Any]:
    """Return where a layer lies in the world, by the attributes of another one that shall lie there too."""
    placement = {name: getattr(layer, name) for name in _MOVES}
    placement["affine"] = np.asarray(layer.affine.affine_matrix)
    return placement | {name: getattr(layer, name) for name in ("units", "axis_labels") if hasattr(layer, name)}


def _positions(signs: Sequence[Sign], ndim: int) -> NDArray[np.float64]:
    """Return where signs are, (n, ndim)."""
    return np.asarray([sign.position for sign in signs], float).reshape(-1, ndim)


def _sizes(signs: Sequence[Sign], least: float) -> list[float]:
    """Return the sizes of signs in pixels of the picture; the circle goes around the smallest sign."""
    return [max(sign.size, (_CIRCLE if sign.kind == CURRENT else 1) * least) for sign in signs]


def _borders(signs: Sequence[Sign], least: float) -> list[float]:
    """Return how wide borders are, over the sizes of the signs; a small circle has a wider one, or it would be lost."""
    circle = [0.035 if sign.size > 2 * _CIRCLE * least else 0.07 for sign in signs]
    return [width if sign.kind == CURRENT else 0.15 for sign, width in zip(signs, circle, strict=True)]


def _look(signs: Sequence[Sign], least: float) -> dict[str, Any]:
    """Return symbols, sizes and colours of signs, by the attribute of the Points layer."""
    return {
        "symbol": [_SYMBOLS[sign.kind] for sign in signs],
        "size": _sizes(signs, least),
        "face_color": np.asarray([_FACES[sign.kind] for sign in signs]),
        "border_color": np.asarray([_BORDERS[sign.kind] for sign in signs]),
        "border_width": _borders(signs, least),
    }
