"""What is shown of checked cells: signs in the picture, lines in the list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...core.data.arrays import PlaneIndex
from ...core.proofreading.review import ReviewedCell
from ..layers.reading import note
from ..layers.review_overlay import CURRENT, DRAWN, Sign
from ..layers.review_state import LayerReview
from .session import Point, ProofreadSession
from .view import SIGNS

_CHECKED_SHARE, _CURRENT_SHARE = 0.3, 1.4
"""Sizes of the signs over those of the cells."""

_WAITING = {
    "": "",
    "merge": "Choose a cell, then the one that belongs to it.",
    "line": "Draw a line across a cell, from outside to outside.",
    "seeds": "Click a point in each part of one cell, then press Enter.",
    "redraw": "Paint; R takes the eraser or the brush, Esc ends.",
}


def status_words(tool: str, first: int, points: int) -> str:
    """Return what a tool waits for.

    Parameters
    ----------
    tool : str
        Its name; empty for none.
    first : int
        The first of two cells to be merged; 0 while it was not chosen.
    points : int
        How many points were clicked.
    """
    if tool == "merge" and first:
        return f"Now the cell that belongs to cell {first}."
    return f"{points} points; Enter splits." if tool == "seeds" and points else _WAITING[tool]


def is_result(layer: Any) -> bool:
    """Return whether a layer holds cells that a network has found."""
    return note(layer).get("result") == "instances"


def is_likely(layer: Any) -> bool:
    """Return whether a layer was not made here, such as a saved result opened again, or holds classes."""
    return set(note(layer)) <= {"checked", "labels"} or note(layer).get("result") == "classes"


def scope_of(known: LayerReview) -> str:
    """Return whether whole cells can be corrected: a key of :data:`~.proofread_view.SCOPE_TIPS`, or nothing."""
    if known.layer() is None or len(known.planes()) < 2:
        return ""
    if known.linked is None:
        return "looking" if known.in_memory else "on disk"
    return "ready" if known.linked else "single"


def signs_of(session: ProofreadSession, first: int, points: Sequence[Point]) -> list[Sign]:
    """Return the signs of the plane on screen: checked cells, the chosen one, and what is being drawn.

    Parameters
    ----------
    session : ProofreadSession
        Whose cells.
    first : int
        The first of two cells to be merged; 0 for none.
    points : sequence of tuple of int
        Pixels of a line or points that were clicked.
    """
    plane = session.plane()

    def sign(kind: str, y: float, x: float, size: float) -> Sign:
        return Sign(kind, tuple(session.known.position(plane, y, x)), size)

    checked = session.proof.marked(plane).values()
    signs = [sign(kept.kind, *kept.middle, _CHECKED_SHARE * min(_extent(kept))) for kept in checked]
    # The first of two cells may have been deleted since it was chosen.
    for cell in {first, session.chosen()}.intersection(session.cells(plane).ids.tolist()):
        kept = session.outline(plane, cell)
        y0, y1, x0, x1 = kept.box
        signs.append(sign(CURRENT, (y0 + y1 - 1) / 2, (x0 + x1 - 1) / 2, _CURRENT_SHARE * max(_extent(kept))))
    return signs + [sign(DRAWN, y, x, 1.0) for y, x in points]


def _extent(kept: ReviewedCell) -> tuple[int, int]:
    """Return height and width of a cell in pixels."""
    y0, y1, x0, x1 = kept.box
    return y1 - y0, x1 - x0


@dataclass(frozen=True)
class Entry:
    """A line of the list: a checked cell, in its plane or, where cells go through the stack, in all of them.

    Attributes
    ----------
    cell : int
        Its label.
    kind : str
        ``"accepted"``, ``"edited"`` or ``"deleted"``.
    planes : tuple of tuple of int
        Where, in order.
    """

    cell: int
    kind: str
    planes: tuple[PlaneIndex, ...]

    def words(self, letters: Sequence[str], first: Sequence[int] = ()) -> str:
        """Return the line; ``letters`` are those of the axes of the stack, which may begin at a ``first`` plane."""
        begin = first or (0,) * len(letters)
        every = zip(letters, zip(*self.planes, strict=True), begin, strict=True)
        spans = [(a, b + min(i), b + max(i)) for a, i, b in every]
        where = [f"{a} {first}" if first == last else f"{a} {first} to {last}" for a, first, last in spans]
        return "   ".join([f"{SIGNS[self.kind]} cell {self.cell}", *where, self.kind])


def entries_of(known: LayerReview) -> list[Entry]:
    """Return the lines of the list, by the first plane of each cell."""
    found: dict[tuple[PlaneIndex, int, str], list[PlaneIndex]] = {}
    for plane, cells in sorted(known.proof.marks.items()):
        apart = tuple(n for axis, n in enumerate(plane) if axis not in (known.linked or ()))
        for cell, kept in sorted(cells.items()):
            found.setdefault((apart, cell, kept.kind), []).append(plane)
    return [Entry(cell, kind, tuple(planes)) for (_, cell, kind), planes in found.items()]
