"""What takes part in a training: every annotation of the viewer, and what earlier trainings learnt from."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...core.data.annotation import AnnotatedImage, Box
from ...core.data.arrays import ArrayLike, Planes
from ...core.errors import DataError, UNetError
from ...core.proofreading.review import ReviewedCell
from ...records import runs
from ..layers.complete_regions import read_regions, regions_of
from ..layers.painted import background_label
from ..layers.reading import OURS, check_labels_fit, full_data, label_index, note, painted, planes_of
from ..layers.review_state import teaching
from ..layers.zarr_result import has_large_planes
from ..widgets.common import count

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels

_DENSE_CELLS, _DENSE_SHARE = 8, 0.1
"""From so many cells, or so much of a plane, labels of somebody else are taken for a mask of everything."""

BARE = -1
"""In place of a number of cells: nothing is painted, not even background."""


@dataclass
class Painting:
    """An annotation layer and the image layers that it was painted on, all held weakly.

    Attributes
    ----------
    labels : weak reference to Labels
        The paint.
    images : tuple of weak reference to Image
        The picture, or one layer per channel.
    axes : str
        Axis letters of the picture.
    on : bool
        Whether it takes part.
    asked : bool
        Whether the user has said so; otherwise labels that were not made here take part only while chosen.
    complete : bool
        Whether every cell is painted in the planes with paint, as in a mask that was made elsewhere.
    """

    labels: weakref.ref[Labels]
    images: tuple[weakref.ref[Image], ...]
    axes: str
    on: bool = True
    asked: bool = False
    complete: bool = False

    def layer(self) -> Any:
        """Return the annotation layer, or None when it is gone."""
        return self.labels()

    def pictures(self) -> list[Any]:
        """Return the image layers; empty when one of them is gone."""
        found = [image() for image in self.images]
        return [] if None in found else found

    def is_in(self, viewer: ViewerModel) -> bool:
        """Return whether paint and picture are still in the viewer."""
        layers = [self.layer(), *self.pictures()]
        return len(layers) > 1 and all(layer in viewer.layers for layer in layers)


@dataclass
class EarlierRun:
    """What an earlier training learnt from, out of its run folder.

    Attributes
    ----------
    folder : Path
        The run.
    on : bool
        Whether it takes part.
    """

    folder: Path
    on: bool = True


@dataclass(frozen=True)
class Source:
    """Arrays to read an annotation from, in any thread.

    Attributes
    ----------
    name : str
        Of the annotation layer.
    planes : Planes
        The picture.
    labels : ArrayLike
        The paint.
    axes : str
        Axis letters of the paint.
    background : int
        The label that means background; 0 when there is none.
    boxes : dict
        Complete regions by plane.
    complete : bool
        Whether the planes with paint are complete.
    checked : dict
        Cells by plane that were checked in a segmentation of the picture, and are learnt too.
    """

    name: str
    planes: Planes
    labels: ArrayLike
    axes: str
    background: int = 0
    boxes: dict[tuple[int, ...], tuple[Box, ...]] = field(default_factory=dict)
    complete: bool = False
    checked: Mapping[tuple[int, ...], Sequence[ReviewedCell]] = field(default_factory=dict)

    def counts(self, planes: Iterable[tuple[int, ...]] | None = None) -> dict[tuple[int, ...], int]:
        """Return the number of painted cells by plane, of all planes by default; :data:`BARE` without any paint."""
        found = {}
        for plane in self.planes.indices() if planes is None else planes:
            drawn = np.asarray(self.labels[label_index(self.axes, plane)])
            found[plane] = len(np.setdiff1d(drawn, [0, self.background])) if drawn.any() else BARE
        return found

    def tally(self, counts: Mapping[tuple[int, ...], int] | None = None) -> Tally:
        """Return how much there is, without reading the picture; ``counts`` are those of all planes, if known."""
        counts = self.counts() if counts is None else counts
        planes = {plane for plane, cells in counts.items() if cells != BARE} | set(self.boxes) | set(self.checked)
        cells = sum(max(n, 0) for n in counts.values()) + sum(map(len, self.checked.values()))
        return Tally(len(planes), cells, 0 if self.complete else sum(map(len, self.boxes.values())))

    def read(self) -> list[AnnotatedImage]:
        """Return every annotated plane."""
        checked = self.checked if not self.complete else {p: c for p, c in self.checked.items() if self._is_painted(p)}
        found = list(painted(self.planes, self.labels, self.axes, self.name, self.boxes, checked, self.background))
        return [replace(image, regions=(_whole(image),)) for image in found] if self.complete else found

    def _is_painted(self, plane: tuple[int, ...]) -> bool:
        return bool(np.asarray(self.labels[label_index(self.axes, plane)]).any())


def _whole(image: AnnotatedImage) -> Box:
    """Return the box around a whole plane."""
    height, width = image.labels.shape
    return 0, height, 0, width


def pair(labels: Labels, images: Sequence[Image], axes: str) -> Painting:
    """Note on an annotation layer which picture it belongs to, and return the note.

    It is kept with the layer, so that it outlives the dock.
    """
    known = painting_of(labels)
    found = Painting(weakref.ref(labels), tuple(weakref.ref(image) for image in images), axes)
    if known is not None:
        found.on, found.asked, found.complete = known.on, known.asked, known.complete
    labels.metadata.setdefault(OURS, {})["painting"] = found
    return found


def painting_of(labels: Labels) -> Painting | None:
    """Return what is noted on an annotation layer; a duplicate of a layer has no note of its own."""
    found = note(labels).get("painting")
    return found if isinstance(found, Painting) and found.layer() is labels else None


def paintings_in(viewer: ViewerModel) -> list[Painting]:
    """Return the annotations of a viewer whose pictures are in it too."""
    found = [painting_of(layer) for layer in viewer.layers]
    return [painting for painting in found if painting is not None and painting.is_in(viewer)]


def source_of(viewer: ViewerModel, painting: Painting, grey: bool) -> Source:
    """Return what to read of a painting; only in the main thread, as it looks at layers.

    Parameters
    ----------
    viewer : ViewerModel
        Where its regions may be.
    painting : Painting
        With its layers in the viewer.
    grey : bool
        Whether colours are read as grey.

    Raises
    ------
    DataError
        When paint and picture do not fit together.
    """
    labels, pictures = painting.layer(), painting.pictures()
    check_labels_fit(pictures[0], painting.axes, labels)
    planes = planes_of(pictures, painting.axes)
    regions = read_regions(regions_of(viewer, labels), labels, painting.axes)
    # Of large planes, checked cells are learnt apart from paint, see checked_source.
    checked = {} if has_large_planes(pictures[0], painting.axes) else teaching(pictures[0])
    return Source(
        labels.name, planes.as_grey() if grey and planes.rgb else planes, full_data(labels), painting.axes,
        background_label(labels), regions.boxes, painting.complete, checked,
    )  # fmt: skip


def each_once(sources: Sequence[Source]) -> list[Source]:
    """Return the sources such that no checked cell is in two of them, as several layers may be painted on a picture."""
    found, seen = [], set[int]()
    for source in sources:
        fresh = {p: [cell for cell in cells if id(cell) not in seen] for p, cells in source.checked.items()}
        seen.update(id(cell) for cells in fresh.values() for cell in cells)
        found.append(replace(source, checked={p: cells for p, cells in fresh.items() if cells}))
    return found


def looks_complete(labels: Labels, plane: tuple[int, ...], axes: str) -> bool:
    """Return whether labels that were not made here look as if every cell were in them, judged by one plane."""
    if note(labels).get("background_label"):
        return False
    drawn = np.asarray(full_data(labels)[label_index(axes, plane)])
    painted = drawn[drawn > 0]
    # The share first: looking for the cells in a full plane takes the viewer's thread as long as a click may.
    return len(painted) > _DENSE_SHARE * drawn.size or len(np.unique(painted)) >= _DENSE_CELLS


# --- all of them together, in any thread ----------------------------------------------------------------


@dataclass(frozen=True)
class Gathered:
    """All that takes part.

    Attributes
    ----------
    images : tuple of AnnotatedImage
        Every annotated plane, with one meaning of the numbers painted.
    background : int
        The label that means background in all of them; 0 when there is none.
    tallies : tuple of Tally
        What came of each source, in their order.
    """

    images: tuple[AnnotatedImage, ...]
    background: int
    tallies: tuple[Tally, ...]


@dataclass(frozen=True)
class Tally:
    """How much a source holds: planes with paint, cells in them, and complete regions."""

    planes: int = 0
    cells: int = 0
    regions: int = 0

    def words(self) -> str:
        """Return it as a person would say it."""
        if not self.planes:
            return "nothing painted yet"
        parts = [count(self.cells, "cell"), count(self.planes, "plane")]
        return ", ".join([*parts, count(self.regions, "complete box", "es")] if self.regions else parts)


def tally(images: Sequence[AnnotatedImage], background: int, complete: bool = False) -> Tally:
    """Return how much there is in annotated planes, whose cells are counted plane by plane."""
    cells = sum(len(np.setdiff1d(image.labels, [0, background])) for image in images)
    return Tally(len(images), cells, 0 if complete else sum(len(image.regions) for image in images))


def gather(sources: Sequence[Source], earlier: Sequence[Path], mode: str, background: int | None = None) -> Gathered:
    """Return all annotated planes as one training takes them.

    Parameters
    ----------
    sources : sequence of Source
        Annotations of the viewer.
    earlier : sequence of Path
        Run folders whose annotation takes part too.
    mode : str
        ``"instances"``, where numbers only tell cells apart, or ``"classes"``, where they mean something.
    background : int, optional
        The background label that a running training has; by default that of most sources' kind.

    Raises
    ------
    DataError
        When classes are painted with different background labels.
    StoreError
        When a run cannot be read.
    """
    if mode == "classes":
        # Checked cells are told apart, but not said to be of any kind.
        sources = [replace(source, checked={}) for source in sources]
    parts = [(source.read(), source.background, source.complete) for source in each_once(sources)]
    parts += [earlier_images(folder) for folder in earlier]
    labels = {label for images, label, _ in parts if images}
    chosen = background if background is not None else max(labels, default=0)
    if mode == "classes" and labels - {chosen}:
        raise DataError(
            "Some annotations have a background label and others have none, so the numbers of their classes differ; "
            "switch off those of one kind under Training data."
        )
    images = [_renumbered(image, label, chosen) for found, label, _ in parts for image in found]
    tallies = tuple(tally(found, label, complete) for found, label, complete in parts)
    return Gathered(tuple(images), chosen, tallies)


def earlier_images(folder: Path) -> tuple[list[AnnotatedImage], int, bool]:
    """Return what a run learnt from, its background label, and whether everything was painted."""
    run = runs.load_run(folder)
    complete = run.settings.unpainted == "background"
    images = [
        replace(image, name=f"{folder.name}: {image.name}", regions=(_whole(image),) if complete else image.regions)
        for image in run.images
    ]
    return images, run.settings.background_label, complete


def _renumbered(image: AnnotatedImage, label: int, wanted: int) -> AnnotatedImage:
    """Return the plane with ``wanted`` as its background label instead of ``label``; 0 means none."""
    if label == wanted:
        return image
    labels: NDArray[Any] = np.asarray(image.labels).astype(np.int64)
    cells = (labels > 0) & (labels != label)
    # Cells move up by one where their numbers would be taken for background.
    moved = np.where(cells, labels + (labels >= wanted) if wanted else labels, 0)
    if label and wanted:
        moved[labels == label] = wanted
    elif label:
        raise DataError(
            f"{image.name} has a background label, which the training under way lacks; stop and train again."
        )
    return replace(image, labels=moved.astype(np.int32))


def nothing_painted(gathered: Gathered, names: Sequence[str]) -> None:
    """Raise a :class:`DataError` when there is nothing to learn from.

    Parameters
    ----------
    gathered : Gathered
        All that takes part.
    names : sequence of str
        Of the annotations that take part.
    """
    if gathered.images:
        return
    where = " and ".join(names[:2]) or "any annotation"
    raise DataError(
        f"Nothing is painted in {where} yet. Paint a few cells, and some background with label 1, then click Train."
    )


def run_name(folder: Path) -> str:
    """Return when an earlier training was, and of what.

    Raises
    ------
    UNetError, KeyError, TypeError
        When its folder is damaged.
    """
    job = runs.read_job(folder)
    return f"{str(job['created'])[:16].replace('T', ' ')}  {job['name']}"


def recent_runs(most: int = 12) -> list[tuple[Path, str]]:
    """Return the newest runs, each with a line that says when, what and how many planes."""
    found = []
    for folder in runs.list_runs()[:most]:
        try:
            planes = count(len(runs.read_job(folder)["images"]), "plane")
            found.append((folder, f"{run_name(folder)}, {planes}"))
        except (UNetError, KeyError, TypeError):
            # A damaged run is no reason not to offer the others.
            continue
    return found
