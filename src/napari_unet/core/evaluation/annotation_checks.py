"""What may be wrong with an annotation, found before training. Needs no torch.

Everything here is a hint: nothing is refused that training would accept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..data.annotation import AnnotatedImage, Target, class_values, interpret
from ..data.label_ops import consecutive, median_diameter
from ..data.rescale import choose_scale, known_sizes
from ..data.weight_map import boundary_weight_map
from ..instances.constriction import Mask, find_constriction
from ..settings import TrainingSettings

SPECK = 0.05
"""Share of the typical cell's area below which a piece of paint is taken for a slip of the brush."""
_FEWEST_TYPICAL = 3
"""Cells from which on there is a typical size."""
_WRONG_DIAMETER = 1.5
"""Ratio from which a diameter that was typed in is not that of the painted cells."""
LITTLE_BACKGROUND = 0.2
"""Background pixels per cell pixel below which more background is worth painting."""
_EVERYWHERE = np.ones((3, 3))

ERROR, WARNING, NOTE = "error", "warning", "note"
_ORDER = {ERROR: 0, WARNING: 1, NOTE: 2}


@dataclass(frozen=True)
class Finding:
    """One thing to look at before training.

    Attributes
    ----------
    kind : str
        ``"nothing"``, ``"background"``, ``"validation"``, ``"pieces"``, ``"touching"``, ``"speck"``, ``"hole"``,
        ``"size"`` or ``"plan"``.
    words : str
        What it is and what to do, for the user.
    severity : str
        ``"error"`` where training would refuse, ``"warning"`` where it would learn something wrong, ``"note"``.
    image : int
        Index of the annotated plane; -1 where it concerns all of them.
    position : tuple of int
        y, x in pixels of that plane; empty where there is no place.
    label : int
        The painted label; 0 where it is not about one.
    diameter : float
        The painted cells' diameter in pixels, where taking it as the setting would help; else 0.
    extent : float
        Larger side in pixels of what is odd; 0 where it has no place.
    """

    kind: str
    words: str
    severity: str = WARNING
    image: int = -1
    position: tuple[int, ...] = ()
    label: int = 0
    diameter: float = 0.0
    extent: float = 0.0


def check_labels(
    images: Sequence[AnnotatedImage],
    settings: TrainingSettings,
    *,
    expected: float | None = 0.0,
    scale: float = 0.0,
    step_seconds: float = 0.0,
) -> list[Finding]:
    """Return what may be wrong with an annotation, the worst first, and what a training would take part in.

    Parameters
    ----------
    images : sequence of AnnotatedImage
        All annotated planes.
    settings : TrainingSettings
        How training would read them.
    expected : float or None
        Diameter in pixels of the objects that the starting model knows; 0 when unknown, None from scratch.
    scale : float
        Size at which that saw its images over their own size; 0 when it has seen many.
    step_seconds : float
        How long a training step took before; 0 when unknown.

    Raises
    ------
    DataError
        When labels are not whole numbers, or of another shape than their image.
    """
    values = class_values(images, settings) if settings.mode == "classes" else ()
    targets = [interpret(item, settings, values) for item in images]
    found = [*_nothing_to_learn(targets, settings)]
    if settings.mode == "instances":
        cells = [_cells(item, settings) for item in images]
        typical = _typical_area([c.areas for c in cells])
        for index, plane in enumerate(cells):
            found += _check_plane(index, plane, typical)
        found += _check_size(targets, settings, expected, scale)
    found.append(_plan(targets, settings, step_seconds))
    return sorted(found, key=lambda finding: _ORDER[finding.severity])


def weight_map(image: AnnotatedImage, settings: TrainingSettings, scale: float = 1.0) -> NDArray[np.float32]:
    """Return how much more pixels between close cells count in training: the second term of equation 2.

    Parameters
    ----------
    image : AnnotatedImage
        A plane with its paint.
    settings : TrainingSettings
        Its border weight and sigma are used.
    scale : float
        At which share of its size the network sees the plane; sigma is in the network's pixels.

    Returns
    -------
    NDArray of float32
        Weights from 0 to ``settings.border_weight``, (Y, X); 0 where nothing is known.
    """
    known = interpret(image, settings)
    border = boundary_weight_map(known.instances, w0=settings.border_weight, sigma=settings.border_sigma / scale)
    return np.asarray(border * known.mask, np.float32)


# --- cells ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Cells:
    """The painted cells of one plane: labels without background, ids, boxes and areas by number from 1."""

    labels: NDArray[np.integer]
    free: Mask
    ids: list[int]
    boxes: list[tuple[slice, slice]] = field(default_factory=list)
    areas: list[int] = field(default_factory=list)

    def __iter__(self) -> Iterator[tuple[int, tuple[slice, slice], Mask]]:
        """Yield id, box and mask of each cell."""
        for label, box in zip(self.ids, self.boxes, strict=True):
            yield label, box, self.labels[box] == label


def _cells(item: AnnotatedImage, settings: TrainingSettings) -> _Cells:
    """Return the cells of a plane."""
    labels = np.asarray(item.labels)
    painted = (labels > 0) & (labels != settings.background_label)
    labels = np.where(painted, labels, 0)
    numbers = consecutive(labels)
    ids = [int(i) for i in np.unique(labels) if i]
    areas = np.bincount(numbers.ravel(), minlength=len(ids) + 1)[1:].tolist()
    return _Cells(labels, ~painted, ids, ndimage.find_objects(numbers), areas)


def _typical_area(areas: Sequence[Sequence[int]]) -> float:
    """Return the median area of all cells; 0 where there are too few for a typical one."""
    every = [area for plane in areas for area in plane]
    return float(np.median(every)) if len(every) >= _FEWEST_TYPICAL else 0.0


def _check_plane(index: int, cells: _Cells, typical: float) -> Iterator[Finding]:
    """Yield what is odd about the cells of one plane."""
    for label, box, mask in cells:
        if mask.sum() < SPECK * typical:
            words = f"Label {label} has only {mask.sum()} px, a typical cell {typical:.0f} px; erase it, or finish it."
            yield _at("speck", words, index, label, box, mask)
            continue
        pieces, count = ndimage.label(mask, _EVERYWHERE)
        main = pieces == 1 + int(np.bincount(pieces.ravel())[1:].argmax())
        if count > 1:
            yield from _check_pieces(index, label, box, pieces, main, typical)
        yield from _check_hole(index, label, box, mask, cells.free[box])
        constriction = find_constriction(main)
        if constriction is not None:
            words = (
                f"Label {label} is narrow in its middle ({constriction.ratio:.0%} of its width): two cells that touch? "
                "Give each its own label."
            )
            yield replace(_at("touching", words, index, label, box, main), position=_inside(box, constriction.position))


def _check_pieces(
    index: int, label: int, box: tuple[slice, slice], pieces: NDArray[np.int32], main: Mask, typical: float
) -> Iterator[Finding]:
    """Yield the specks of a cell in several pieces, or that it lies in several places."""
    areas = np.bincount(pieces.ravel())[1:]
    others = [i + 1 for i in np.argsort(-areas) if not main[pieces == i + 1].any()]
    limit = max(SPECK * (typical or areas.max()), 2)
    large = [i for i in others if areas[i - 1] >= limit]
    for i in others:
        if i not in large:
            words = f"A speck of {areas[i - 1]} px has the label {label} of a cell elsewhere; erase it."
            yield _at("speck", words, index, label, box, pieces == i)
    if large:
        sizes = ", ".join(f"{areas[i - 1]}" for i in large)
        words = (
            f"Label {label} lies in {len(large) + 1} separate pieces ({areas.max()}, {sizes} px); give each cell a "
            "label of its own."
        )
        yield _at("pieces", words, index, label, box, pieces == large[0])


def _check_hole(index: int, label: int, box: tuple[slice, slice], mask: Mask, free: Mask) -> Iterator[Finding]:
    """Yield that a cell has holes; another cell inside of it is none."""
    holes = ndimage.binary_fill_holes(mask) & ~mask & free
    if holes.any():
        words = f"Label {label} has a hole of {holes.sum()} px; fill it, if the cell has none there."
        yield _at("hole", words, index, label, box, holes)


def _middle(mask: Mask) -> tuple[int, int]:
    """Return the pixel of a mask that is nearest to its centre."""
    points = np.argwhere(mask)
    y, x = points[np.abs(points - points.mean(axis=0)).sum(axis=1).argmin()]
    return int(y), int(x)


def _at(kind: str, words: str, index: int, label: int, box: tuple[slice, slice], odd: Mask) -> Finding:
    """Return a finding about a part of a cell's box."""
    extent = float(np.ptp(np.argwhere(odd), axis=0).max()) + 1
    return Finding(kind, words, image=index, position=_inside(box, _middle(odd)), label=label, extent=extent)


def _inside(box: tuple[slice, slice], place: tuple[int, int]) -> tuple[int, int]:
    """Return a place in a box as one in the plane."""
    return box[0].start + place[0], box[1].start + place[1]


# --- the whole annotation -----------------------------------------------------------------------


def too_little_background(counts: NDArray[np.integer]) -> bool:
    """Return whether little background is known beside the cells, from the known pixels of each class."""
    return bool(counts[0] < LITTLE_BACKGROUND * counts[1:].sum())


def _nothing_to_learn(targets: Sequence[Target], settings: TrainingSettings) -> Iterator[Finding]:
    """Yield what training would refuse or could not measure."""
    counts = np.zeros(2, np.int64)
    for known in targets:
        counts += np.bincount(known.target[known.mask] > 0, minlength=2)
    if not counts.any():
        yield Finding("nothing", "Nothing is painted yet; paint a few cells and some background.", ERROR)
    elif not counts[1]:
        yield Finding("nothing", "No cell is painted, only background; paint a few cells too.", ERROR)
    elif not counts[0]:
        words = "No background is known, so there is nothing to tell cells from; paint some beside and between them."
        yield Finding("background", words, ERROR)
    elif too_little_background(counts):
        words = (
            f"Little background is painted ({counts[0]} px beside {counts[1]} px of cells); some strokes between and "
            "beside the cells make a better model."
        )
        yield Finding("background", words)
    if counts.all() and settings.validation and settings.mode == "instances" and _count(targets) < 2:
        words = "With one painted cell there is nothing to measure on; paint a second one beside it."
        yield Finding("validation", words)


def _count(targets: Sequence[Target]) -> int:
    """Return the number of painted cells."""
    return sum(int(known.instances.max(initial=0)) for known in targets)


def _check_size(
    targets: Sequence[Target], settings: TrainingSettings, expected: float | None, own: float
) -> Iterator[Finding]:
    """Yield whether the cells are of another size than the network sees well."""
    measured = [d for d in (median_diameter(known.instances) for known in targets) if d]
    if not measured:
        return
    diameter = float(np.median(measured))
    used = settings.diameter or diameter
    if max(used / diameter, diameter / used) >= _WRONG_DIAMETER:
        words = (
            f"The diameter is set to {used:.0f} px, but the painted cells are about {diameter:.0f} px across; take "
            f"{diameter:.0f} px, so that the network sees them at the size that it knows."
        )
        yield Finding("size", words, diameter=diameter)
        return
    scale = choose_scale(used, expected, own)
    if scale not in (1, own):
        low, high = known_sizes(expected, own)
        knows = "the network knows cells of" if expected else "a new network learns best with cells of"
        words = (
            f"The painted cells are about {diameter:.0f} px across; {knows} {low:.0f} to {high:.0f} px, so training "
            f"sees the picture at {scale:.0%} of its size. Fix the diameter at {diameter:.0f} px to keep it so "
            "whatever is painted next."
        )
        yield Finding("size", words, NOTE, diameter=0.0 if settings.diameter else diameter)


def _plan(targets: Sequence[Target], settings: TrainingSettings, step_seconds: float) -> Finding:
    """Return what takes part, and how long it will take."""
    share = np.mean([known.mask.mean() for known in targets]) if targets else 0.0
    planes = "1 plane" if len(targets) == 1 else f"{len(targets)} planes"
    cells, kind = _count(targets), "cell" if _count(targets) == 1 else "cells"
    what = f"{planes} with {cells} {kind}" if settings.mode == "instances" else planes
    words = f"{what}, {share:.0%} of the pixels labelled, in the training data. {_time(settings, step_seconds)}"
    return Finding("plan", words, NOTE)


def _time(settings: TrainingSettings, step_seconds: float) -> str:
    """Return how long a training takes, in words."""
    by_steps = settings.steps * step_seconds
    seconds = min([t for t in (settings.seconds, by_steps) if t], default=0.0)
    if settings.steps and not step_seconds:
        limit = f" or {settings.seconds:.0f} s, whatever is first" if settings.seconds else ""
        return f"Training takes {settings.steps} steps{limit}."
    if not seconds:
        return "Training continues until it is stopped."
    steps = max(1, round(seconds / step_seconds)) if step_seconds else 0
    about = f", about {steps} {'step' if steps == 1 else 'steps'}" if steps else ""
    return f"Training takes about {seconds:.0f} s{about}."
