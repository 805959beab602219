"""What is shown of checked cells: signs in the picture, lines in the list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..core.proof import Index, Kept
from .layers import note
from .mark_overlay import CURRENT, DRAWN, Sign
from .proof_session import Point, ProofSession
from .proofread_view import SIGNS

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


def signs_of(session: ProofSession, first: int, points: Sequence[Point]) -> list[Sign]:
    """Return the signs of the plane on screen: checked cells, the chosen one, and what is being drawn.

    Parameters
    ----------
    session : ProofSession
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
    for cell in {first, session.chosen()} & session.cells(plane):
        kept = Kept.of(session.values(), cell, CURRENT)
        y0, y1, x0, x1 = kept.box
        signs.append(sign(CURRENT, (y0 + y1 - 1) / 2, (x0 + x1 - 1) / 2, _CURRENT_SHARE * max(_extent(kept))))
    return signs + [sign(DRAWN, y, x, 1.0) for y, x in points]


def _extent(kept: Kept) -> tuple[int, int]:
    """Return height and width of a cell in pixels."""
    y0, y1, x0, x1 = kept.box
    return y1 - y0, x1 - x0


def describe(session: ProofSession, plane: Index, cell: int) -> str:
    """Return the line of the list on a checked cell."""
    letters = [a for a in session.known.axes if a not in "cyx"]
    kind = session.proof.marked(plane)[cell].kind
    where = [f"{a} {i}" for a, i in zip(letters, plane, strict=True)]
    return "   ".join([f"{SIGNS[kind]} cell {cell}", *where, kind])
