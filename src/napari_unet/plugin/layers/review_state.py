"""Which cells of which layers were checked: outlives docks, and the layers it is about. Knows no widgets."""

from __future__ import annotations

import contextlib
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...core.data.annotation import Box
from ...core.data.arrays import PlaneIndex
from ...core.errors import DataError
from ...core.proofreading.bounding_boxes import plane_view
from ...core.proofreading.corrections import LabelPatch, Proof
from ...core.proofreading.review import Marks, ReviewedCell, put_back
from ...core.proofreading.undo import Step
from ...records.correction_journal import Journal
from ...records.recovery import Recovered
from ...records.saved_labels import write_marks
from .reading import OURS, data_shape, full_data, guess_axes, label_index, note

if TYPE_CHECKING:
    from napari.layers import Image, Labels

PLACES = ("scale", "translate", "rotate", "shear")
"""What a layer says of where it is, beside its affine."""
_BETWEEN_JOURNALS = 30.0
"""Seconds from one copy of all labels for the journal to the next one at the earliest."""
_FRESH_IN_LAZY = 1 << 24
"""Where new labels begin in a stack on disk, which is not searched for the largest one."""


class LayerReview:
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
    linked : tuple of int or None
        The axes of the stack of planes along which cells keep their label; None while that is not known.
    whole : bool
        Whether corrections are about the whole cell, in all planes that it goes through, where cells do.
    writing : bool
        Whether a correction is being written to the layer, which napari tells like a stroke of the brush.
    guessed : bool
        Whether the picture was found by where the layers are, not told.
    steps : int
        How many steps were made, undone or made again.
    journal : Journal or None
        Where they are kept until the labels are saved.
    asked : bool
        Whether marks of an earlier time were looked for.
    told : weak reference to a method, or None
        Called with a plane, and what it held before and after, when a network has written it.
    """

    def __init__(self, layer: Labels) -> None:
        self._layer = weakref.ref(layer)
        self.axes: str = note(layer).get("axes") or guess_axes(layer)
        self.shape = data_shape(layer)
        self.used_in_training = True
        self.linked: tuple[int, ...] | None = None
        self.whole, self.writing, self.asked = True, False, False
        self.steps = 0
        self.journal: Journal | None = None
        self.told: weakref.WeakMethod[Any] | None = None
        self._outdated, self._begun = False, -np.inf
        self._noted: dict[str, dict[str, Any]] = {}
        self._picture: weakref.ref[Any] | None = None
        self.guessed = True
        self.proof = Proof(self.read, self._write, self._find_highest, self._on_step)

    def layer(self) -> Any:
        """Return the layer, or None when it is gone."""
        return self._layer()

    def picture(self) -> Any:
        """Return the image layer that it is about; None when that is gone or not known."""
        return self._picture() if self._picture is not None else None

    def set_picture(self, image: Image) -> None:
        """Note which image layer it is about; held weakly."""
        self._picture, self.guessed = weakref.ref(image), False

    def _find_highest(self) -> int:
        """Return the largest label in use, of a part of a store anywhere in that."""
        return max(_highest(self._data()), int(note(self.layer()).get("part", {}).get("largest", 0)))

    @property
    def in_memory(self) -> bool:
        """Whether the labels are an array in memory, of which any part is at hand."""
        return isinstance(self._data(), np.ndarray)

    def read(self, plane: PlaneIndex) -> NDArray[Any]:
        """Return the labels of a plane, (Y, X); a view where the layer is in memory."""
        return np.asarray(plane_view(self._data(), self.axes, plane))

    @property
    def stack_shape(self) -> PlaneIndex:
        """How many planes there are along each axis of the stack."""
        return tuple(n for n, a in zip(self.shape, self.axes, strict=True) if a not in "cyx")

    def planes(self) -> list[PlaneIndex]:
        """Return the indices of all planes."""
        return list(np.ndindex(self.stack_shape))

    def planes_of(self, plane: PlaneIndex, cell: int) -> list[PlaneIndex]:
        """Return the planes that a correction of a cell is about, the one on screen first, then the nearest."""
        if not (self.whole and self.linked):
            return [plane]
        spans = [range(n) if axis in self.linked else (plane[axis],) for axis, n in enumerate(self.stack_shape)]
        others = sorted(set(product(*spans)) - {plane}, key=lambda index: apart(index, plane))
        return [plane, *self.proof.places.planes_with(cell, others)]

    def position(self, plane: PlaneIndex, y: float, x: float) -> list[float]:
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

    def _write(self, patches: Sequence[LabelPatch]) -> None:
        """Put patches in place and on screen."""
        layer = self.layer()
        self.writing = True
        try:
            if self.in_memory and layer.visible:
                # Draws nothing but what has changed.
                where, values = self._pixels(patches)
                layer.data_setitem(where, values)
                return
            for patch in patches:
                self._write_part(patch.plane, patch.box, patch.after)
            layer.refresh(extent=False)
        finally:
            self.writing = False

    def _pixels(self, patches: Sequence[LabelPatch]) -> tuple[tuple[NDArray[np.intp], ...], NDArray[Any]]:
        """Return the pixels that patches change, as indices into the layer's array, and their values."""
        places, values = [], []
        for patch in patches:
            differs = patch.before != patch.after
            rows, columns = np.nonzero(differs)
            spans = {"y": rows + patch.box[0], "x": columns + patch.box[2]}
            index = zip(self.axes, label_index(self.axes, patch.plane), strict=True)
            places.append(np.stack([spans[a] if a in "yx" else np.full(len(rows), i) for a, i in index]))
            values.append(patch.after[differs])
        return tuple(np.concatenate(places, axis=1)), np.concatenate(values)

    @contextlib.contextmanager
    def networks(self, plane: PlaneIndex) -> Iterator[None]:
        """Tell what of a plane a network changes in this context, which is no correction."""
        before = self.read(plane).copy()
        yield
        tell = self.told() if self.told is not None else None
        if tell is not None:
            tell(plane, before, self.read(plane))

    def _write_part(self, plane: PlaneIndex, box: Box, values: NDArray[Any]) -> None:
        spans = {"y": slice(box[0], box[1]), "x": slice(box[2], box[3])}
        index = tuple(spans.get(a, i) for a, i in zip(self.axes, label_index(self.axes, plane), strict=True))
        self._data()[index] = values.T if self._lies else values

    # --- what is kept of it ---------------------------------------------------------------------

    def adopt(self, marks: Marks) -> None:
        """Take over marks of cells that are in the layer; those that it has already come first."""
        for plane, kept in marks.items():
            self.proof.adopt(plane, {**kept, **self.proof.marked(plane)})
            self._note(plane, kept)

    def replace_marks(self, plane: PlaneIndex, kept: Mapping[int, ReviewedCell]) -> None:
        """Take over what a store holds in a plane, where labels and marks were changed."""
        before = dict(self.proof.marked(plane))
        self.proof.marks.pop(plane, None)
        self.proof.adopt(plane, kept)
        self._note(plane, {*before, *kept})
        self.proof.places.forget(plane)

    def resume(self, recovered: Recovered, journal: Journal) -> None:
        """Go on where another program was when it died."""
        self.proof.history = recovered.history
        self.adopt(recovered.marks)
        self._keep_in(journal)

    def outdate(self, at_once: bool = False) -> None:
        """Learn that labels were changed without a step, so that the journal has to begin anew.

        It does so at the next step, but not again and again while a segmentation fills plane after plane, unless
        ``at_once`` says that cells were changed which steps are about.
        """
        self._outdated = True
        self._begun = -np.inf if at_once else self._begun

    def _on_step(self, what: str, step: Step) -> None:
        """Note a step in the layer, and in the journal."""
        self.steps += 1
        for mark in step.marks:
            self._note(mark.plane, (mark.cell,))
        data = self._data()
        if not isinstance(data, np.ndarray):
            # What is on disk is written there at once.
            return
        now = time.monotonic()
        if self.journal is None or (self._outdated and now - self._begun > _BETWEEN_JOURNALS):
            self._outdated, self._begun = False, now
            self._keep_in(Journal.begin(data, self.axes, self.proof.marks, self._about(), self.journal))
        if self.journal is not None:
            self.journal.note(what, step)

    def _note(self, plane: PlaneIndex, cells: Iterable[int]) -> None:
        """Bring what the layer itself says of some cells up to date; it goes where the layer's metadata go."""
        for cell in cells:
            key, kept = f"{','.join(map(str, plane))}:{cell}", self.proof.marked(plane).get(cell)
            self._noted.pop(key, None)
            if kept is not None:
                self._noted[key] = {"plane": list(plane), "cell": cell, **kept.to_plain()}
        layer = self.layer()
        if note(layer).get("checked") is not self._noted:
            # Not the one of another layer: copies of a layer share what is in its metadata.
            layer.metadata[OURS] = {**note(layer), "checked": self._noted}

    def _keep_in(self, journal: Journal) -> None:
        self.journal = journal
        # When the layer is deleted, its corrections can be had again; Python's end needs no telling.
        weakref.finalize(self.layer(), journal.close).atexit = False

    def _about(self) -> dict[str, Any]:
        """Return plain data on the layer, for its journal."""
        layer, picture = self.layer(), self.picture()
        places = {name: np.asarray(getattr(layer, name)).tolist() for name in PLACES}
        affine = np.asarray(layer.affine.affine_matrix).tolist()
        kind = note(layer).get("result", "")
        about = {"name": layer.name, "picture": getattr(picture, "name", ""), "result": kind,
                 "placement": {**places, "affine": affine}}  # fmt: skip
        part = note(layer).get("part")
        return about | {"part": part} if part else about


@dataclass(frozen=True)
class Saved:
    """The marks of a layer at the moment at which it is saved."""

    known: LayerReview
    marks: Marks
    steps: int

    @classmethod
    def of(cls, layer: Labels) -> Saved | None:
        """Return what there is to save beside the labels; None for a layer that was never proofread."""
        known = known_review(layer)
        if known is None:
            return None
        marks = {plane: dict(cells) for plane, cells in known.proof.marks.items()}
        return cls(known, marks, known.steps)

    def write(self, path: Path) -> None:
        """Write the marks beside the labels, in any thread."""
        write_marks(path, self.marks)

    def done(self) -> None:
        """Delete the journal, unless there are further corrections."""
        if self.known.steps == self.steps and self.known.journal is not None:
            self.known.journal.discard()
            self.known.journal = None


def apart(one: PlaneIndex, other: PlaneIndex) -> int:
    """Return how many planes lie between two."""
    return sum(abs(a - b) for a, b in zip(one, other, strict=True))


_PROOFS: list[LayerReview] = []
_BY_LAYER: weakref.WeakKeyDictionary[Any, LayerReview] = weakref.WeakKeyDictionary()


def _highest(data: Any) -> int:
    """Return the largest label in use; a number beyond any likely one for arrays that are not in memory."""
    if isinstance(data, np.ndarray):
        return int(data.max(initial=0))
    return min(_FRESH_IN_LAZY, int(np.iinfo(data.dtype).max) // 2)


def editable_review(layer: Labels) -> LayerReview:
    """Return the corrections of a layer, begun when there are none yet.

    Raises
    ------
    DataError
        When the layer cannot be corrected.
    """
    if getattr(layer, "multiscale", False):
        raise DataError(f"{layer.name} has several resolutions and cannot be changed; choose another layer.")
    return layer_review(layer)


def layer_review(layer: Labels) -> LayerReview:
    """Return what is known of the cells of a layer, which may have several resolutions and be corrected in parts."""
    known = _BY_LAYER.get(layer)
    if known is None or known.shape != data_shape(layer):
        known = _BY_LAYER[layer] = LayerReview(layer)
        _PROOFS.append(known)
        _forget_unneeded()
    return known


def known_review(layer: Any) -> LayerReview | None:
    """Return the corrections of a layer, or None when there are none."""
    return _BY_LAYER.get(layer) if layer is not None else None


def is_corrected(layer: Any, plane: PlaneIndex | None = None) -> bool:
    """Return whether a layer was corrected or checked by hand, in one plane or in any."""
    known = known_review(layer)
    if known is None:
        return False
    return bool(known.proof.history.steps()) if plane is None else known.proof.touches(plane)


def _forget_unneeded() -> None:
    """Forget layers that are gone, unless their checked cells may be wanted for a picture that is still there."""
    for known in [*_PROOFS]:
        if known.layer() is None and (known.picture() is None or not known.proof.marks):
            _PROOFS.remove(known)


def _about(image: Image) -> Iterator[LayerReview]:
    """Yield what is known of a picture's cells, the latest first."""
    return (known for known in reversed(_PROOFS) if known.proof.marks and known.picture() is image)


def restore(layer: Labels, image: Image, plane: PlaneIndex, labels: NDArray[Any]) -> tuple[NDArray[Any], int]:
    """Return a new segmentation of a plane with the checked cells put back, and how many these are.

    Their marks are taken over by the layer that the segmentation is written to.
    """
    kept = next((dict(known.proof.marked(plane)) for known in _about(image) if known.proof.marked(plane)), {})
    try:
        out = put_back(labels, kept) if kept else labels
    except DataError:
        # The picture's data were replaced by others of another size, so these are other cells.
        kept, out = {}, labels
    if kept or known_review(layer) is not None:
        known = editable_review(layer)
        known.set_picture(image)
        known.adopt({plane: kept})
        known.outdate()
        known.proof.use(int(out.max(initial=0)))
        known.proof.places.forget(plane)
    return out, len(kept)


def reviewed_cells_of(image: Image, beside: Any = None) -> Marks:
    """Return the checked cells of a picture, those of the latest result by plane, leaving one layer out."""
    found: Marks = {}
    for known in _about(image):
        if beside is None or known.layer() is not beside:
            for plane, cells in known.proof.marks.items():
                found.setdefault(plane, dict(cells))
    return found


def teaching(image: Image) -> Mapping[PlaneIndex, list[ReviewedCell]]:
    """Return the checked cells of a picture that the next training is to learn from, by plane."""
    found: dict[PlaneIndex, list[ReviewedCell]] = {}
    for known in _about(image):
        if known.used_in_training:
            for plane, cells in known.proof.marks.items():
                found.setdefault(plane, []).extend(cells.values())
    return found
