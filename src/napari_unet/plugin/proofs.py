"""Which cells of which layers were checked: outlives docks, and the layers it is about. Knows no widgets."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..core.annotation import Box
from ..core.errors import DataError
from ..core.proof import Index, Kept, Proof, put_back
from .layers import data_shape, full_data, guess_axes, label_index, note

if TYPE_CHECKING:
    from napari.layers import Image, Labels

_FRESH_IN_LAZY = 1 << 24
"""Where new labels begin in a stack on disk, which is not searched for the largest one."""


class LayerProof:
    """The corrections of one Labels layer.

    Parameters
    ----------
    layer : Labels
        Held weakly.

    Attributes
    ----------
    proof : Proof
        Corrections, their history and the checked cells.
    teaches : bool
        Whether the next training learns from the checked cells.
    axes : str
        The layer's axis letters.
    """

    def __init__(self, layer: Labels) -> None:
        self._layer = weakref.ref(layer)
        self.axes: str = note(layer).get("axes") or guess_axes(layer)
        self.shape = data_shape(layer)
        self.teaches = True
        self._picture: weakref.ref[Any] | None = None
        self.proof = Proof(self.read, self._write, _highest(full_data(layer)))

    def layer(self) -> Any:
        """Return the layer, or None when it is gone."""
        return self._layer()

    def picture(self) -> Any:
        """Return the image layer that it is about; None when that is gone or not known."""
        return self._picture() if self._picture is not None else None

    def set_picture(self, image: Image) -> None:
        """Note which image layer it is about; held weakly."""
        self._picture = weakref.ref(image)

    def read(self, plane: Index) -> NDArray[Any]:
        """Return the labels of a plane, (Y, X); a view where the layer is in memory."""
        values = np.asarray(self._data()[label_index(self.axes, plane)])
        return values.T if self._lies else values

    def planes(self) -> list[Index]:
        """Return the indices of all planes."""
        return list(np.ndindex(tuple(n for n, a in zip(self.shape, self.axes, strict=True) if a not in "cyx")))

    def position(self, plane: Index, y: float, x: float) -> list[float]:
        """Return a place in a plane as one number per axis of the layer."""
        where = iter(plane)
        return [{"y": y, "x": x, "c": 0.0}[a] if a in "yxc" else float(next(where)) for a in self.axes]

    @property
    def _lies(self) -> bool:
        return self.axes.index("x") < self.axes.index("y")

    def _data(self) -> Any:
        layer = self.layer()
        if layer is None:
            raise DataError("The layer is gone; choose another one.")
        return full_data(layer)

    def _write(self, plane: Index, box: Box, values: NDArray[Any]) -> None:
        spans = {"y": slice(box[0], box[1]), "x": slice(box[2], box[3])}
        index = tuple(spans.get(a, i) for a, i in zip(self.axes, label_index(self.axes, plane), strict=True))
        self._data()[index] = values.T if self._lies else values


_PROOFS: list[LayerProof] = []
_BY_LAYER: weakref.WeakKeyDictionary[Any, LayerProof] = weakref.WeakKeyDictionary()


def _highest(data: Any) -> int:
    """Return the largest label in use; a number beyond any likely one for arrays that are not in memory."""
    if isinstance(data, np.ndarray):
        return int(data.max(initial=0))
    return min(_FRESH_IN_LAZY, int(np.iinfo(data.dtype).max) // 2)


def proof_of(layer: Labels) -> LayerProof:
    """Return the corrections of a layer, begun when there are none yet.

    Raises
    ------
    DataError
        When the layer cannot be corrected.
    """
    if getattr(layer, "multiscale", False):
        raise DataError(f"{layer.name} has several resolutions and cannot be changed; choose another layer.")
    known = _BY_LAYER.get(layer)
    if known is None or known.shape != data_shape(layer):
        known = _BY_LAYER[layer] = LayerProof(layer)
        _PROOFS.append(known)
        _forget_unneeded()
    return known


def known_proof(layer: Any) -> LayerProof | None:
    """Return the corrections of a layer, or None when there are none."""
    return _BY_LAYER.get(layer) if layer is not None else None


def is_corrected(layer: Any, plane: Index | None = None) -> bool:
    """Return whether a layer was corrected or checked by hand, in one plane or in any."""
    known = known_proof(layer)
    if known is None:
        return False
    return bool(known.proof.history.steps()) if plane is None else known.proof.touches(plane)


def _forget_unneeded() -> None:
    """Forget layers that are gone, unless their checked cells may be wanted for a picture that is still there."""
    for known in [*_PROOFS]:
        if known.layer() is None and (known.picture() is None or not known.proof.marks):
            _PROOFS.remove(known)


def _about(image: Image) -> Iterator[LayerProof]:
    """Yield what is known of a picture's cells, the latest first."""
    return (known for known in reversed(_PROOFS) if known.proof.marks and known.picture() is image)


def restore(layer: Labels, image: Image, plane: Index, labels: NDArray[Any]) -> tuple[NDArray[Any], int]:
    """Return a new segmentation of a plane with the checked cells put back, and how many these are.

    Their marks are taken over by the layer that the segmentation is written to.
    """
    kept = next((dict(known.proof.marked(plane)) for known in _about(image) if known.proof.marked(plane)), {})
    try:
        out = put_back(labels, kept) if kept else labels
    except DataError:
        # The picture's data were replaced by others of another size, so these are other cells.
        kept, out = {}, labels
    if kept or known_proof(layer) is not None:
        known = proof_of(layer)
        known.set_picture(image)
        known.proof.adopt(plane, kept)
        known.proof.highest = max(known.proof.highest, int(out.max(initial=0)))
    return out, len(kept)


def teaching(image: Image) -> Mapping[Index, list[Kept]]:
    """Return the checked cells of a picture that the next training is to learn from, by plane."""
    found: dict[Index, list[Kept]] = {}
    for known in _about(image):
        if known.teaches:
            for plane, cells in known.proof.marks.items():
                found.setdefault(plane, []).extend(cells.values())
    return found
