"""Signs on top of a Labels layer: which cells were checked, which one is meant, what is being drawn."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..core.checked import ACCEPTED, DELETED, EDITED
from .layers import OURS

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels

OVERLAY_NAME = "checked cells"
CURRENT, DRAWN = "current", "drawn"

# Told apart by shape first; colours from Okabe and Ito, which colour-blind people tell apart too.
_SYMBOLS = {ACCEPTED: "disc", EDITED: "diamond", DELETED: "x", CURRENT: "disc", DRAWN: "disc"}
_WHITE, _BLACK = (1.0, 1.0, 1.0, 1.0), (0.0, 0.0, 0.0, 1.0)
_FACES = {
    ACCEPTED: _WHITE, EDITED: _WHITE, DELETED: _BLACK, CURRENT: (1.0, 0.5, 0.1, 0.0), DRAWN: (0.94, 0.89, 0.26, 1.0),
}  # fmt: skip
# The colour is in the border, as the least size makes borders thick: of a small sign little else is to be seen.
_BORDERS = {
    ACCEPTED: (0.0, 0.45, 0.70, 1.0),
    EDITED: (0.90, 0.62, 0.0, 1.0),
    DELETED: _WHITE,
    CURRENT: (1.0, 0.5, 0.1, 1.0),
    DRAWN: _BLACK,
}
_SCREEN_SIZES = (9, 400)
"""Pixels on screen that a sign has at least and at most."""


@dataclass(frozen=True)
class Sign:
    """One sign: its kind, where (one number per axis of the layer), and its size in pixels of the picture."""

    kind: str
    position: tuple[float, ...]
    size: float


class MarkOverlay:
    """A Points layer that is there while there is something to show.

    Parameters
    ----------
    viewer : ViewerModel
        Where.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._layer: weakref.ref[Any] | None = None
        self._shown: list[Sign] = []

    def layer(self) -> Any:
        """Return the Points layer, or None."""
        layer = self._layer() if self._layer is not None else None
        return layer if layer is not None and layer in self._viewer.layers else None

    def show(self, below: Labels, signs: Sequence[Sign]) -> None:
        """Show these signs right above a layer, and no others."""
        layer = self.layer()
        if layer is not None and list(signs) == self._shown:
            return
        if layer is not None and layer.ndim != below.ndim:
            self.close()
            layer = None
        if layer is None:
            if signs:
                self._insert(below, signs)
            return
        self._shown = list(signs)
        # Selected points take on what is set, and cost a drawing more.
        layer.selected_data = set()
        layer.data = _positions(signs, below.ndim)
        if signs:
            for name, values in _look(signs).items():
                setattr(layer, name, values)

    def _insert(self, below: Labels, signs: Sequence[Sign]) -> None:
        """Add the Points layer; selection and active layer stay as they are."""
        from napari.layers import Points

        placement = {
            "scale": below.scale,
            "translate": below.translate,
            "rotate": below.rotate,
            "shear": below.shear,
            "affine": np.asarray(below.affine.affine_matrix),
        }
        placement |= {name: getattr(below, name) for name in ("units", "axis_labels") if hasattr(below, name)}
        layer = Points(
            _positions(signs, below.ndim), ndim=below.ndim, name=OVERLAY_NAME, metadata={OURS: {"overlay": True}},
            canvas_size_limits=_SCREEN_SIZES, **placement, **_look(signs),
        )  # fmt: skip
        active, selected = self._viewer.layers.selection.active, set(self._viewer.layers.selection)
        self._viewer.layers.insert(self._viewer.layers.index(below) + 1, layer)
        self._viewer.layers.selection = selected
        self._viewer.layers.selection.active = active
        self._layer, self._shown = weakref.ref(layer), list(signs)

    def close(self) -> None:
        """Take the Points layer away."""
        layer = self.layer()
        if layer is not None:
            self._viewer.layers.remove(layer)
        self._layer = None


def _positions(signs: Sequence[Sign], ndim: int) -> NDArray[np.float64]:
    """Return where signs are, (n, ndim)."""
    return np.asarray([sign.position for sign in signs], float).reshape(-1, ndim)


def _look(signs: Sequence[Sign]) -> dict[str, Any]:
    """Return symbols, sizes and colours of signs, by the attribute of the Points layer."""
    return {
        "symbol": [_SYMBOLS[sign.kind] for sign in signs],
        "size": [sign.size for sign in signs],
        "face_color": np.asarray([_FACES[sign.kind] for sign in signs]),
        "border_color": np.asarray([_BORDERS[sign.kind] for sign in signs]),
        "border_width": [0.035 if sign.kind == CURRENT else 0.15 for sign in signs],
    }
