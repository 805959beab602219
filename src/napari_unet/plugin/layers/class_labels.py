"""Labels that are kinds of cell, or a mask, rather than cells: told from cells, and taken apart into them."""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...core.data.arrays import ArrayLike
from ...core.proofreading.bounding_boxes import number_pieces, pieces_of_kinds
from ...records.replay import ENDING
from ..runtime.worker_thread import WorkerThread
from .class_colours import kinds_of
from .painted import background_label
from .reading import OURS, _upright, data_shape, empty_array, full_data, guess_axes, label_index, note, read_plane

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels

MAKE_CELLS = "Make cells of the pieces"
"""What the button says."""
MAKE_CELLS_TIP = (
    "A new layer in which every separate piece is a cell with a number of its own. Cells of a kind that touch are one "
    "piece; split them in Proofread. The layer it is made of stays as it is."
)
_PLACES = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")
_LOOKED_AT = 1024
"""Side in pixels of the part of a plane that is looked at to tell kinds from cells."""


def holds_kinds(layer: Labels) -> bool:
    """Return whether a layer is known to hold kinds of cell, also one that was saved and opened again."""
    if kinds_of(layer) or note(layer).get("result") == "classes":
        return True
    path = getattr(getattr(layer, "source", None), "path", None)
    if note(layer).get("result") or path is None:
        return False
    try:
        job = json.loads(Path(f"{path}{ENDING}").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        # Nothing is beside it, or nothing that can be read.
        return False
    settings = job.get("settings") if isinstance(job, dict) else None
    return isinstance(settings, dict) and settings.get("what") == "classes"


def looks_like_kinds(labels: ArrayLike, axes: str, plane: tuple[int, ...], background: int = 0) -> tuple[int, int]:
    """Return how many pieces and numbers the middle of a plane has, if these are no cells; else 0 and 0."""
    values = read_plane(labels, axes, plane)
    starts = [max(0, (n - _LOOKED_AT) // 2) for n in values.shape]
    part = values[tuple(slice(start, start + _LOOKED_AT) for start in starts)]
    return pieces_of_kinds(np.where(part == background, 0, part))


def kinds_words(name: str, pieces: int, numbers: int) -> str:
    """Return what is said of labels that look like kinds of cell, or a mask."""
    share = "one number" if numbers == 1 else f"{numbers} numbers"
    return f"{name} has {pieces} separate pieces under {share}, as a mask or kinds of cell have."


# --- cells of pieces ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SplitCells:
    """What pieces were made into.

    Attributes
    ----------
    labels : NDArray of int32
        Of the shape of the layer; numbers go on from plane to plane.
    of : NDArray of int64
        The label that each cell had before, in the order of the cells.
    first : int
        The number of the first cell; 2 where 1 stands for background.
    """

    labels: NDArray[np.int32]
    of: NDArray[np.int64]
    first: int


def cells_of(labels: ArrayLike, axes: str, background: int, keep_background: bool) -> SplitCells:
    """Return every separate piece of every plane as a cell; in a thread.

    Parameters
    ----------
    labels : ArrayLike
        One array axis per letter.
    axes : str
        Letters.
    background : int
        The label that is painted on background; 0 when there is none.
    keep_background : bool
        Whether that is kept, as label 1.
    """
    shape = tuple(int(n) for n in labels.shape)
    out, of = empty_array(shape, np.int32), []
    first = 2 if background and keep_background else 1
    highest = first - 1
    for plane in np.ndindex(*(n for n, a in zip(shape, axes, strict=True) if a not in "cyx")):
        values = read_plane(labels, axes, plane)
        pieces, kinds = number_pieces(np.where(values == background, 0, values))
        pieces[pieces > 0] += highest
        if first == 2:
            pieces[values == background] = 1
        out[label_index(axes, plane)] = _upright(pieces, axes)
        highest += len(kinds)
        of.append(kinds)
    return SplitCells(np.asarray(out), np.concatenate(of) if of else np.zeros(0, np.int64), first)


class PieceMaker:
    """Takes layers apart, in a thread, and shows their pieces as layers of cells.

    Parameters
    ----------
    viewer : ViewerModel
        Where.
    made : callable
        Given the new layers, in the order of the old ones; of those that were deleted meanwhile there is none.
    failed : callable
        Told in words what went wrong.
    """

    def __init__(
        self, viewer: ViewerModel, made: Callable[[list[Labels]], None], failed: Callable[[str], None]
    ) -> None:
        self._viewer, self._made, self._failed = viewer, made, failed
        self._thread = WorkerThread()

    def close(self) -> None:
        """Drop what is under way."""
        self._thread.forget()

    def make(self, layers: Sequence[Labels], *, keep_background: bool = False) -> None:
        """Take layers apart.

        Parameters
        ----------
        layers : sequence of Labels
            In memory, or small enough for it.
        keep_background : bool
            Whether what is painted on background stays, as truth to compare with needs it.
        """
        asked = [(full_data(layer), _axes_of(layer), background_label(layer), keep_background) for layer in layers]
        known = [weakref.ref(layer) for layer in layers]
        self._thread.run(
            lambda: [cells_of(*each) for each in asked], lambda found: self._show(known, found), self._failed
        )

    def _show(self, known: Sequence[weakref.ref[Labels]], found: Sequence[SplitCells]) -> None:
        made = []
        for ref, cells in zip(known, found, strict=True):
            layer = ref()
            if layer is not None and layer in self._viewer.layers and data_shape(layer) == cells.labels.shape:
                made.append(self._add(layer, cells))
        self._made(made)

    def _add(self, layer: Labels, cells: SplitCells) -> Labels:
        """Show cells in place of what they are made of."""
        about = {name: note(layer)[name] for name in ("model",) if name in note(layer)}
        about |= {"axes": _axes_of(layer), "result": "instances"}
        if cells.first == 2:
            # No cell of a network's: to compare with, not to be proofread or learnt again.
            about |= {"background_label": 1, "result": "truth"}
        layer.visible = False
        where = {name: getattr(layer, name) for name in _PLACES if hasattr(layer, name)}
        return self._viewer.add_labels(
            cells.labels, name=f"{layer.name.removesuffix(' kinds')} cells", opacity=layer.opacity,
            metadata={OURS: about}, features=_features(layer, cells), **where,
        )  # fmt: skip


def _axes_of(layer: Labels) -> str:
    """Return the axis letters that are noted on a layer, or the guessed ones."""
    noted = str(note(layer).get("axes", ""))
    return noted if len(noted) == layer.ndim else guess_axes(layer)


def _features(layer: Labels, cells: SplitCells) -> dict[str, Any]:
    """Return the kind of each cell, which napari shows for the one under the mouse; none where there is only one."""
    if len(np.unique(cells.of)) < 2 and not kinds_of(layer):
        return {}
    table = layer.features
    named = dict(zip(table["index"], table["kind"], strict=True)) if {"index", "kind"} <= set(table) else {}
    index = [*range(cells.first, cells.first + len(cells.of))]
    return {"index": index, "kind": [str(named.get(int(kind), f"label {kind}")) for kind in cells.of]}
