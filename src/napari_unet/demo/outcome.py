"""Images and results of a demo."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.data.arrays import PlaneIndex, Planes
from ..core.evaluation.metrics import evaluate
from ..core.events import StepDone, Validated
from .painting import BACKGROUND


@dataclass(frozen=True)
class Case:
    """One image or stack with its ground truth.

    Attributes
    ----------
    name : str
        Stem of the files.
    planes : Planes
        Pixels.
    truth : NDArray of int
        All cells, of the shape of ``planes``.
    image_path, truth_path : Path
        The files.
    """

    name: str
    planes: Planes
    truth: NDArray[Any]
    image_path: Path
    truth_path: Path

    def read(self, plane: PlaneIndex) -> NDArray[np.float32]:
        """Return one plane, (C, Y, X)."""
        return self.planes.read(plane, slice(None), slice(None))

    def title(self, plane: PlaneIndex) -> str:
        """Return how people call a plane."""
        where = ", ".join(f"{a} = {i}" for a, i in zip(self.planes.plane_axes, plane, strict=True))
        return f"{self.name}, {where}" if where else self.name


@dataclass(frozen=True)
class DemoResult:
    """Results of a demo.

    Attributes
    ----------
    folder : Path
        Where everything lies.
    cases : list of Case
        The images.
    number, plane : int, tuple
        Which image and which plane of it was painted.
    painted : NDArray of int32
        The paint, (Y, X).
    labels_before, labels_after : list of NDArray
        The segmentation of each image.
    steps, checks : list of StepDone, list of Validated
        Events of the training.
    stopped : bool
        Whether the training was stopped before its time.
    before, after : dict
        Scores on the planes that were not trained on, see :func:`~napari_unet.core.evaluation.metrics.evaluate`.
    """

    folder: Path
    cases: list[Case]
    number: int
    plane: PlaneIndex
    painted: NDArray[np.int32]
    labels_before: list[NDArray[Any]] = field(default_factory=list)
    labels_after: list[NDArray[Any]] = field(default_factory=list)
    steps: list[StepDone] = field(default_factory=list)
    checks: list[Validated] = field(default_factory=list)
    stopped: bool = False
    before: dict[str, float] = field(default_factory=dict)
    after: dict[str, float] = field(default_factory=dict)

    @property
    def painted_cells(self) -> int:
        """Number of cells that were painted."""
        return int(self.painted.max()) - BACKGROUND

    @property
    def trained_on(self) -> str:
        """Name of the plane that was painted."""
        return self.cases[self.number].title(self.plane)

    def unseen(self) -> list[tuple[int, PlaneIndex]]:
        """Return image number and index of every plane that was not trained on."""
        return [at for at in every_plane(self.cases) if at != (self.number, self.plane)]

    def scores(self, labels: list[NDArray[Any]]) -> dict[str, float]:
        """Return the scores of a segmentation on the planes that were not trained on."""
        unseen = self.unseen()
        return evaluate([self.cases[n].truth[p] for n, p in unseen], [labels[n][p] for n, p in unseen])


def every_plane(cases: list[Case]) -> list[tuple[int, PlaneIndex]]:
    """Return image number and index of all planes."""
    return [(number, plane) for number, case in enumerate(cases) for plane in case.planes.indices()]


def labels_path(folder: Path, case: Case, cases: list[Case]) -> Path:
    """Return where the labels of an image lie."""
    return folder.with_suffix(".tif") if len(cases) == 1 else folder / f"{case.name}.tif"
