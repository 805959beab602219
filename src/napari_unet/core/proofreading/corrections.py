"""Proofreading of a stack of labels: corrections, their undo history, and marks on the cells that were checked.

Needs no torch. A correction looks at nothing but the boxes of the cells that it is about, and is one step
to undo, in however many planes it is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ..data.annotation import Box
from ..data.arrays import PlaneIndex
from ..errors import DataError
from .bounding_boxes import Places, Plane, around, widened
from .edits import SEAM, Edit, Point, merge, rename, split_like
from .review import ACCEPTED, DELETED, EDITED, KINDS, Marks, ReviewedCell
from .undo import Change, History, MarkChange, Step

DONE, UNDONE, REDONE = "done", "undone", "redone"


@dataclass(frozen=True)
class LabelPatch:
    """A part of a plane, and what it is to hold.

    Attributes
    ----------
    plane : tuple of int
        Index of the plane.
    box : Box
        y0, y1, x0, x1.
    before, after : NDArray of int
        What is there, and what comes there, (y1 - y0, x1 - x0).
    """

    plane: PlaneIndex
    box: Box
    before: Plane
    after: Plane


@dataclass(frozen=True)
class Window:
    """The part of a plane that a correction looks at: the cells that it is about, and a little around them.

    Attributes
    ----------
    plane : tuple of int
        Index of the plane.
    labels : NDArray of int
        A view, not to be written to.
    corner : tuple of int
        y, x of its first pixel in the plane.
    cells : tuple of int
        What it is about.
    fresh : int
        The first label that is not in use.
    """

    plane: PlaneIndex
    labels: Plane
    corner: Point
    cells: tuple[int, ...]
    fresh: int

    def inside(self, points: Iterable[Point]) -> list[Point]:
        """Return pixels of the plane as pixels of the window."""
        return [(y - self.corner[0], x - self.corner[1]) for y, x in points]


Make = Callable[[Window], Edit | None]
"""Returns a change in pixels of the window; None where there is nothing to change. Raises what is not possible."""
Target = tuple[PlaneIndex, tuple[int, ...]]
"""A plane, and the cells in it that a correction is about."""


@dataclass
class Proof:
    """Corrections of one stack of labels, with their undo history and marks.

    Parameters
    ----------
    read : callable
        Returns the labels of a plane, (Y, X), by its index.
    write : callable
        Puts patches in place; their pixels that do not differ may be left alone.
    find_highest : callable
        Returns the largest label in use anywhere; asked once, when a new label is first needed.
    heard : callable, optional
        Told of every step: ``"done"``, ``"undone"`` or ``"redone"``, and the step.
    """

    read: Callable[[PlaneIndex], Plane]
    write: Callable[[Sequence[LabelPatch]], None]
    find_highest: Callable[[], int]
    heard: Callable[[str, Step], None] | None = None
    history: History = field(default_factory=History)
    marks: Marks = field(default_factory=dict)
    places: Places = field(init=False)
    _highest: int = -1

    def __post_init__(self) -> None:
        self.places = Places(self.read)

    @property
    def highest(self) -> int:
        """The largest label in use anywhere."""
        if self._highest < 0:
            self._highest = self.find_highest()
        return self._highest

    def use(self, label: int) -> None:
        """Learn that a label is in use."""
        if self._highest >= 0:
            self._highest = max(self._highest, label)

    def marked(self, plane: PlaneIndex) -> Mapping[int, ReviewedCell]:
        """Return the checked cells of a plane by label."""
        return self.marks.get(plane, {})

    def count(self) -> dict[str, int]:
        """Return how many cells are marked, by kind; a cell counts in each plane."""
        kinds = [kept.kind for plane in self.marks.values() for kept in plane.values()]
        return {kind: kinds.count(kind) for kind in KINDS}

    def touches(self, plane: PlaneIndex) -> bool:
        """Return whether a plane was corrected, also when that was undone since, or holds checked cells."""
        changed = any(change.plane == plane for step in self.history.steps() for change in step.changes)
        return changed or bool(self.marked(plane))

    # --- what the user does ---------------------------------------------------------------------

    def edit(self, targets: Sequence[Target], words: str, make: Make) -> Step:
        """Make a correction in one plane or in several, note it as one step, and mark the cells that it changed.

        Parameters
        ----------
        targets : sequence of Target
            Where; planes in which it is not possible are left out as long as it is possible in one.
        words : str
            What it is, for the undo button.
        make : callable
            Returns the change of a window.

        Raises
        ------
        DataError
            When the correction is not possible anywhere; nothing is changed then.
        """
        patches, refused = [], []
        for target in targets:
            try:
                patches += self._patch(target, make)
            except DataError as error:
                refused.append(error)
        if not patches:
            raise refused[0] if refused else DataError(f"There is nothing to {words}.")
        self.write(patches)
        return self.record(words, patches)

    def _patch(self, target: Target, make: Make) -> list[LabelPatch]:
        """Return what a correction changes in a plane."""
        window = self.window(*target)
        edit = make(window)
        if edit is None:
            return []
        (y0, y1, x0, x1), (top, left) = edit.box, window.corner
        before = window.labels[edit.where].copy()
        return [LabelPatch(window.plane, (y0 + top, y1 + top, x0 + left, x1 + left), before, edit.values)]

    def window(self, plane: PlaneIndex, cells: Sequence[int]) -> Window:
        """Return the part of a plane around some cells.

        Raises
        ------
        DataError
            When one of them is not there.
        """
        labels = self.read(plane)
        box = self.places.box(plane, cells[0])
        for cell in cells[1:]:
            box = around(box, self.places.box(plane, cell))
        y0, y1, x0, x1 = widened(box, SEAM, labels.shape)
        return Window(plane, labels[y0:y1, x0:x1], (y0, x0), tuple(cells), self.highest + 1)

    def record(self, words: str, patches: Sequence[LabelPatch]) -> Step:
        """Note a change that was made already, and mark the cells in it.

        Parameters
        ----------
        words : str
            What it is.
        patches : sequence of LabelPatch
            What the planes held, and what they hold.
        """
        marks: list[MarkChange] = []
        for patch in patches:
            touched = self.places.update(patch.plane, patch.box, patch.before, patch.after)
            marks += [self._mark_after(patch, cell) for cell in touched]
            self.use(int(patch.after.max(initial=0)))
        changes = tuple(Change.of(p.plane, p.box, p.before, p.after) for p in patches)
        return self._make(Step(words, changes, tuple(marks)))

    def _mark_after(self, patch: LabelPatch, cell: int) -> MarkChange:
        """Return the mark of a cell that a change touched: edited where it is, else deleted or none."""
        after: ReviewedCell | None
        if cell in self.places.of(patch.plane):
            after = self._kept(patch.plane, cell, EDITED)
        else:
            after = ReviewedCell.of(patch.before, cell, DELETED, (patch.box[0], patch.box[2]))
            # A cell that went into another one is not wrong; it is part of what is marked there.
            after = None if self.read(patch.plane)[after.where][after.mask].any() else after
        return MarkChange(patch.plane, cell, self.marked(patch.plane).get(cell), after)

    def _kept(self, plane: PlaneIndex, cell: int, kind: str) -> ReviewedCell:
        window = self.window(plane, (cell,))
        return ReviewedCell.of(window.labels, cell, kind, window.corner)

    def accept(self, planes: Sequence[PlaneIndex], cell: int) -> Step:
        """Mark a cell as right as it is, in some planes; one that is accepted already in the first one is unmarked.

        Raises
        ------
        DataError
            When there is no such cell.
        """
        first = self.marked(planes[0]).get(cell)
        taken_back = first is not None and first.kind == ACCEPTED
        marks = []
        for plane in planes:
            before = self.marked(plane).get(cell)
            if taken_back and before is not None and before.kind == ACCEPTED:
                marks.append(MarkChange(plane, cell, before, None))
            elif not taken_back:
                marks.append(MarkChange(plane, cell, before, self._kept(plane, cell, ACCEPTED)))
        return self._make(Step(f"{'no longer ' if taken_back else ''}accept cell {cell}", (), tuple(marks)))

    def _make(self, step: Step) -> Step:
        """Note a step whose pixels are in place."""
        self._set([(mark, mark.after) for mark in step.marks])
        self.history.push(step)
        self._tell(DONE, step)
        return step

    def undo(self) -> Step | None:
        """Take the last step back; None when there is none."""
        step = self.history.undo()
        if step is not None:
            self._exchange([(change, change.after, change.before) for change in reversed(step.changes)])
            self._set([(mark, mark.before) for mark in step.marks])
            self._tell(UNDONE, step)
        return step

    def redo(self) -> Step | None:
        """Make the step again that was taken back last; None when there is none."""
        step = self.history.redo()
        if step is not None:
            self._exchange([(change, change.before, change.after) for change in step.changes])
            self._set([(mark, mark.after) for mark in step.marks])
            self._tell(REDONE, step)
        return step

    def _exchange(self, changes: Sequence[tuple[Change, Plane, Plane]]) -> None:
        """Write the pixels that changes are about; those that were changed since without a note stay as they are."""
        patches = []
        for change, now, wanted in changes:
            y0, y1, x0, x1 = change.box
            before = self.read(change.plane)[y0:y1, x0:x1].copy()
            after, mine = before.copy(), (now != wanted) & (before == now)
            after[mine] = wanted[mine]
            patches.append(LabelPatch(change.plane, change.box, before, after))
        if patches:
            self.write(patches)
        for patch in patches:
            self.places.update(patch.plane, patch.box, patch.before, patch.after)

    def adopt(self, plane: PlaneIndex, kept: Mapping[int, ReviewedCell]) -> None:
        """Take over the marks of a plane whose checked cells are there, without a step to undo."""
        if kept:
            self.marks[plane] = dict(kept)
            self.use(max(kept))

    def _set(self, marks: Iterable[tuple[MarkChange, ReviewedCell | None]]) -> None:
        """Put marks in place."""
        for mark, kept in marks:
            cells = self.marks.setdefault(mark.plane, {})
            cells.pop(mark.cell, None)
            if kept is not None:
                cells[mark.cell] = kept
            if not cells:
                del self.marks[mark.plane]

    def _tell(self, what: str, step: Step) -> None:
        if self.heard is not None:
            self.heard(what, step)


# --- corrections of a cell in several planes ------------------------------------------------------


def merging(first: int, second: int) -> Make:
    """Return the merging of two cells; where the first one is missing, the second one only takes its label."""

    def make(window: Window) -> Edit | None:
        if first in window.cells:
            return merge(window.labels, first, second)
        return rename(window.labels, second, first)

    return make


class Splitting:
    """A split of a cell that is made in one plane and goes on through the planes above and below.

    Parameters
    ----------
    cell : int
        Which cell.
    split : callable
        Splits it in the first plane that it is used on; in each further one, the parts are those of the
        nearest plane that is done.
    """

    def __init__(self, cell: int, split: Callable[[Window], Edit]) -> None:
        self._cell, self._split = cell, split
        self._refused: DataError | None = None
        self._parts: dict[PlaneIndex, tuple[Plane, Point]] = {}

    def __call__(self, window: Window) -> Edit | None:
        """Return the change of a plane."""
        if self._refused is not None:
            raise self._refused
        before = window.labels
        edit = self._go_on(window) if self._parts else self._begin(window)
        after = before.copy()
        if edit is not None:
            edit.apply(after)
        after[before != self._cell] = 0
        self._parts[window.plane] = after, window.corner
        return edit

    def _begin(self, window: Window) -> Edit:
        try:
            return self._split(window)
        except DataError as error:
            # Where it is not possible in the plane on screen, it is not meant in any other one.
            self._refused = error
            raise

    def _go_on(self, window: Window) -> Edit | None:
        near = min(self._parts, key=lambda plane: sum(abs(a - b) for a, b in zip(plane, window.plane, strict=True)))
        parts, corner = self._parts[near]
        return split_like(window.labels, self._cell, parts, window.inside([corner])[0])
