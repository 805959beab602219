"""Annotated planes to training patches, and the validation split. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..data.annotation import Box, Target
from ..data.label_ops import border_distance, erode_boundaries
from ..data.tiles import Geometry
from ..settings import TrainingSettings
from .augmentation import change_grey_values, random_warp

EMPHASIS = 3
"""How many more patches than around any cell are drawn around an emphasised place."""

_UNLEARNT, _UNMEASURED = 1.0, 0.25
"""What a kind of cell on one side of a cut only costs, in shares of the cells kept apart too many or too few."""


@dataclass(frozen=True)
class Sample:
    """One plane, or a part of one that shares no pixel with another sample, ready to be learnt from.

    Attributes
    ----------
    image : NDArray of float32
        Normalised, at the network's scale, (C, Y, X).
    known : Known
        Instances, target and mask, (Y, X) each.
    distance : NDArray of float32
        Distance to the cell's border scaled to 1, from the whole plane; (Y, X).
    name : str
        For messages.
    emphasis : tuple of (y, x)
        Places to draw more patches around, in pixels.
    """

    image: NDArray[np.float32]
    known: Target
    distance: NDArray[np.float32]
    name: str
    oversampled: tuple[tuple[float, float], ...] = ()

    @property
    def cells(self) -> int:
        """Number of cells (connected pieces of class paint in semantic mode)."""
        return len(cell_boxes(self.known))

    def part(self, box: Box, dropped: Sequence[int] = ()) -> Sample:
        """Return the part inside the box, where cells ``dropped`` count as unknown."""
        y0, y1, x0, x1 = box
        inside = (slice(y0, y1), slice(x0, x1))
        gone = np.isin(self.known.instances[inside], list(dropped)) if len(dropped) else False
        known = Target(
            np.where(gone, 0, self.known.instances[inside]).astype(np.int32),
            np.where(gone, 0, self.known.target[inside]).astype(np.uint8),
            self.known.mask[inside] & ~np.asarray(gone),
        )
        places = tuple((y - y0, x - x0) for y, x in self.oversampled if y0 <= y < y1 and x0 <= x < x1)
        return Sample(self.image[:, y0:y1, x0:x1], known, self.distance[inside], self.name, places)


def make_sample(
    image: NDArray[np.float32], known: Target, name: str, oversampled: Sequence[tuple[float, float]] = ()
) -> Sample:
    """Return a sample with its distance map."""
    return Sample(image, known, border_distance(known.instances), name, tuple(oversampled))


def cell_boxes(known: Target) -> dict[int, Box]:
    """Return the bounding box of each cell by id; in semantic mode of each connected piece of paint."""
    numbers = known.instances
    if not numbers.any():
        numbers = ndimage.label((known.target > 0) & known.mask)[0]
    boxes = ndimage.find_objects(numbers)
    return {i: (b[0].start, b[0].stop, b[1].start, b[1].stop) for i, b in enumerate(boxes, 1) if b is not None}


@dataclass(frozen=True)
class HeldOut:
    """What of a plane is kept apart to measure on: all of it, or what lies on one side of a straight line.

    Attributes
    ----------
    name : str
        The plane's.
    axis : int
        Across which the line runs: 0 cuts between rows, 1 between columns.
    line : int
        Where, in pixels at the network's scale; -1 keeps the whole plane apart.
    before : bool
        Whether the side before the line is kept apart, or the one after it.
    """

    name: str
    axis: int = 0
    line: int = -1
    before: bool = False


@dataclass(frozen=True)
class Split:
    """Samples to learn from, samples to measure on, a sentence on how they were parted, and where."""

    train: tuple[Sample, ...]
    validation: tuple[Sample, ...]
    note: str = ""
    held_out: tuple[HeldOut, ...] = ()


def split_samples(
    samples: Sequence[Sample], share: float, rng: np.random.Generator, held_out: Sequence[HeldOut] = ()
) -> Split:
    """Part the samples in space, so that no pixel of one side, context included, is seen by the other.

    With five or more planes whole planes are kept apart. With fewer, one plane is cut along a straight
    line between its cells; each side then sees its own mirror image at the cut. Cells on the line
    count for neither side. Where no plane can be cut, whole planes are kept apart after all.

    Parameters
    ----------
    samples : sequence of Sample
        All that was painted.
    share : float
        Share of the cells to measure on; 0 keeps none apart.
    rng : numpy.random.Generator
        Chooses among whole planes.
    held : sequence of Held
        What was kept apart before, and stays so while there are cells in it, so that a training that goes on
        with more paint is never measured on what it has learnt from.

    Returns
    -------
    Split
        ``validation`` is empty when there is no way to part them, and ``note`` says so.
    """
    everything = tuple(samples)
    if share <= 0:
        return Split(everything, ())
    before = _split_as_before(everything, held_out)
    if before is not None:
        return before
    several = sum(s.cells > 0 for s in everything) > 1
    if several and len(samples) >= 5:
        return _split_planes(everything, share, rng)
    best = _best_cut(everything, share)
    if best is None and several:
        return _split_planes(everything, share, rng)
    if best is None:
        return Split(everything, (), "There is nothing to measure on: paint at least two cells side by side. "
                     "The curves show the training loss alone.")  # fmt: skip
    index, train, validation, where = best
    rest = tuple(s for i, s in enumerate(everything) if i != index)
    total = sum(s.cells for s in everything)
    note = f"Held out for validation: {validation.cells} of {total} cells, in a part of {validation.name}."
    return Split((*rest, train), (validation,), note, (where,))


def _split_as_before(samples: tuple[Sample, ...], held_out: Sequence[HeldOut]) -> Split | None:
    """Return the samples parted where they were before; None when one side would be left without cells."""
    places = {place.name: place for place in held_out}
    train, validation = [], []
    for sample in samples:
        place = places.get(sample.name)
        if place is None:
            train.append(sample)
        elif place.line < 0:
            validation.append(sample)
        else:
            first, second = _cut(sample, place.axis, place.line)
            validation.append(first if place.before else second)
            train.append(second if place.before else first)
    train, validation = ([s for s in side if s.known.mask.any()] for side in (train, validation))
    cells = [sum(s.cells for s in side) for side in (train, validation)]
    if not all(cells):
        return None
    note = f"Held out for validation: {cells[1]} of {sum(cells)} cells, where they were before."
    return Split(tuple(train), tuple(validation), note, tuple(held_out))


def _split_planes(samples: tuple[Sample, ...], share: float, rng: np.random.Generator) -> Split:
    """Keep whole planes apart; at least two have cells, and one of these is left to learn from."""
    with_cells = [i for i in rng.permutation(len(samples)) if samples[i].cells]
    count = min(len(with_cells) - 1, max(1, round(share * len(samples))))
    chosen = {int(i) for i in with_cells[:count]}
    train = tuple(s for i, s in enumerate(samples) if i not in chosen)
    validation = tuple(s for i, s in enumerate(samples) if i in chosen)
    note = f"Held out for validation: {len(chosen)} of {len(samples)} annotated planes."
    return Split(train, validation, note, tuple(HeldOut(s.name) for s in validation))


def _best_cut(samples: tuple[Sample, ...], share: float) -> tuple[int, Sample, Sample, HeldOut] | None:
    """Return the plane, its two parts whose validation share is nearest to the wanted one, and where it is cut."""
    total = sum(s.cells for s in samples)
    kinds = [_kinds(s.known) for s in samples]
    best: tuple[float, int, int, int, bool] | None = None
    for index, sample in enumerate(samples):
        elsewhere = set[int]().union(*(found for i, found in enumerate(kinds) if i != index))
        boxes = np.array(list(cell_boxes(sample.known).values())).reshape(-1, 4)
        for axis in (0, 1):
            lows, highs = boxes[:, 2 * axis], boxes[:, 2 * axis + 1]
            for line in _lines(lows, highs):
                before, after = int((highs <= line).sum()), int((lows >= line).sum())
                lost = len(boxes) - before - after
                if before == 0 or after == 0:
                    continue
                for kept, first in ((before, True), (after, False)):
                    cost = abs(kept / total - share) + lost / total
                    cost += _missing(kinds[index], axis, line, first, elsewhere)
                    if best is None or cost < best[0]:
                        best = (cost, index, axis, line, first)
    if best is None:
        return None
    _, index, axis, line, first = best
    one, other = _cut(samples[index], axis, line)
    where = HeldOut(samples[index].name, axis, line, first)
    return (index, other, one, where) if first else (index, one, other, where)


def _kinds(known: Target) -> dict[int, tuple[tuple[int, int], tuple[int, int]]]:
    """Return for background and each kind of cell the first and last row, and column, where it is known."""
    found = {}
    for kind in np.unique(known.target[known.mask]).tolist():
        here = (known.target == kind) & known.mask
        rows, columns = (np.flatnonzero(here.any(axis=axis)) for axis in (1, 0))
        found[int(kind)] = ((int(rows[0]), int(rows[-1])), (int(columns[0]), int(columns[-1])))
    return found


def _missing(
    kinds: Mapping[int, Sequence[tuple[int, int]]], axis: int, line: int, before: bool, elsewhere: Set[int]
) -> float:
    """Return what it costs that a side of a line lacks background or a kind of cell, ``before`` being kept apart.

    What is lacking among what is learnt from is never learnt; what is lacking among what is kept apart is not
    measured, and a network that takes every cell for one kind would pass.
    """
    ahead = {kind for kind, spans in kinds.items() if spans[axis][0] < line}
    behind = {kind for kind, spans in kinds.items() if spans[axis][1] >= line}
    kept, learnt = (ahead, behind) if before else (behind, ahead)
    return _UNLEARNT * len(kinds.keys() - learnt - elsewhere) + _UNMEASURED * len(kinds.keys() - kept)


def _lines(lows: NDArray[np.intp], highs: NDArray[np.intp]) -> list[int]:
    """Return where to try to cut an axis: after every cell's end, halfway to where the next one begins."""
    starts = np.sort(lows)
    ends = np.unique(highs)
    following = np.searchsorted(starts, ends)
    return [int(end + starts[i]) // 2 for end, i in zip(ends, following, strict=True) if i < len(starts)]


def _cut(sample: Sample, axis: int, line: int) -> tuple[Sample, Sample]:
    """Return both parts of a plane along a line, cells on it unknown."""
    height, width = sample.known.mask.shape
    boxes = cell_boxes(sample.known)
    crossing = [i for i, b in boxes.items() if b[2 * axis] < line < b[2 * axis + 1]]
    if axis == 0:
        return sample.part((0, line, 0, width), crossing), sample.part((line, height, 0, width), crossing)
    return sample.part((0, height, 0, line), crossing), sample.part((0, height, line, width), crossing)


@dataclass(frozen=True)
class TrainingPatch:
    """What one training step sees of one place.

    Attributes
    ----------
    image : NDArray of float32
        (C, size, size).
    instances, target, mask, distance : NDArray
        (output size, output size) each, at the centre of the image.
    """

    image: NDArray[np.float32]
    instances: NDArray[np.int32]
    target: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    distance: NDArray[np.float32]


def patch_sizes(wanted: int, largest: int, geometry: Geometry, padding: str) -> tuple[int, int]:
    """Return input and output side of a training patch, near ``wanted`` and hardly above the image's side."""
    stride = geometry.stride
    if padding == "same":
        size = max(stride, min(wanted, -(-largest // stride) * stride) // stride * stride)
        return size, size
    bottom, output = geometry.bottom_for(max(1, min(wanted - 2 * geometry.margin, largest)))
    return geometry.input_size(bottom), output


class PatchSampler:
    """Draws augmented patches around what is known.

    Parameters
    ----------
    samples : sequence of Sample
        To draw from; each with at least one known pixel.
    settings : TrainingSettings
        Augmentation.
    sizes : tuple of int
        Input and output side in pixels, see :func:`patch_sizes`.
    rng : numpy.random.Generator
        Source of randomness; equal states give equal patches.
    """

    def __init__(
        self, samples: Sequence[Sample], settings: TrainingSettings, sizes: tuple[int, int], rng: np.random.Generator
    ) -> None:
        self.samples = list(samples)
        self.settings = settings
        self.input_size, self.output_size = sizes
        self.rng = rng
        self._places = [_places(s) for s in self.samples]
        counts = np.array([len(p) for p in self._places], float)
        self._chances = counts / counts.sum()

    def draw(self) -> TrainingPatch:
        """Return one random patch."""
        index = int(self.rng.choice(len(self.samples), p=self._chances))
        sample, places = self.samples[index], self._places[index]
        spread = self.output_size / 4
        centre = places[int(self.rng.integers(len(places)))] + self.rng.uniform(-spread, spread, 2)
        warp = random_warp((float(centre[0]), float(centre[1])), self.input_size, self.settings, self.rng)
        known = sample.known
        instances, target, mask, distance = warp.central(self.output_size).nearest(
            known.instances, known.target, known.mask, sample.distance
        )
        if instances.any():
            # Resampling can close the gap again, so it is cut where it has to be: in the patch.
            target = (erode_boundaries(instances, self.settings.boundary_erosion) > 0).astype(np.uint8)
        image = change_grey_values(warp.image(sample.image), self.settings, self.rng)
        return TrainingPatch(image, instances, target, mask, distance)


def _places(sample: Sample) -> NDArray[np.float64]:
    """Return centres (n, 2) to draw patches around: one per cell, and as many on a grid of known pixels.

    An emphasised place is there :data:`EMPHASIS` times more, as long as something is known there.
    """
    centres = [((y0 + y1) / 2, (x0 + x1) / 2) for y0, y1, x0, x1 in cell_boxes(sample.known).values()]
    known = np.argwhere(sample.known.mask[::8, ::8]) * 8.0
    if len(known) == 0:
        known = np.argwhere(sample.known.mask).astype(float)
    step = max(1, len(known) // max(4, len(centres)))
    more = [place for place in sample.oversampled if _is_known(sample, place)] * EMPHASIS
    return np.concatenate([np.reshape([*centres, *more], (-1, 2)), known[step // 2 :: step]])


def _is_known(sample: Sample, place: tuple[float, float]) -> bool:
    """Return whether the pixel at a place is known."""
    y, x = (int(min(max(0, at), size - 1)) for at, size in zip(place, sample.known.mask.shape, strict=True))
    return bool(sample.known.mask[y, x])
