"""The job specification: plain data sent with each task. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..core.data.rescale import at_own_size
from ..core.distribution import DISTRIBUTION
from ..core.errors import StoreError
from ..core.settings import PredictionSettings

ALIKE = (DISTRIBUTION, "torch")
"""Packages that need the same version everywhere, as other versions may compute different results."""
SCHEDULER_FILE = ".json"
"""Suffix of a file that holds a scheduler's address."""


@dataclass(frozen=True)
class JobSpec:
    """A job as its workers see it.

    Attributes
    ----------
    picture : str
        What is segmented; an absolute path, as all of them are.
    axes : str or None
        Letters of its axes, where the file does not say them.
    grey : bool
        Whether colours are read as one channel.
    looks : tuple
        Shape, channels and dtype, to recognise another file of the same name.
    labels : str
        Where the result is written; beside it lies the workspace.
    models : tuple of str
        The model, and the others that may fit better.
    fingerprint : str
        Which model this is.
    settings : PredictionSettings
        What is wanted.
    threads : int
        As if the processor had so many cores, see :func:`~napari_unet.core.network.device.fixed_threads`.
    versions : tuple
        Name and version of each of :data:`ALIKE`.
    choice : WorkerConfig, optional
        What was settled before the work began.
    """

    picture: str
    axes: str | None
    grey: bool
    looks: tuple[Any, ...]
    labels: str
    models: tuple[str, ...]
    fingerprint: str
    settings: PredictionSettings
    threads: int
    versions: tuple[tuple[str, str], ...]
    choice: WorkerConfig | None = None

    @property
    def folder(self) -> Path:
        """The workspace, which holds the unfinished result."""
        return Path(self.labels).parent

    @property
    def labelling(self) -> PredictionSettings:
        """The settings for labels at the image's own size."""
        return at_own_size(self.settings, self.choice.scale) if self.choice else self.settings


@dataclass(frozen=True)
class WorkerConfig:
    """The configuration that all workers share.

    Attributes
    ----------
    model : int
        Which of the models.
    scale : float
        Scale at which the network sees the image.
    tile : int
        Largest side of a tile, in pixels.
    device, precision : str
        Device and number format of the network.
    note : str
        Note for the user.
    """

    model: int
    scale: float
    tile: int
    device: str
    precision: str
    note: str = ""


def public_version(package: str) -> str:
    """Return a package's version without the build: 2.13.0 for 2.13.0+cpu."""
    return version(package).partition("+")[0]


def check_output(path: Path) -> None:
    """Raise unless several processes can write a result.

    Raises
    ------
    StoreError
        For formats that are written in one piece.
    """
    if path.suffix.lower() != ".zarr":
        raise StoreError(
            f"{path} cannot be written by several processes at once; give the result a name that ends in .zarr. For "
            "one file of another kind, leave out --scheduler and --workers."
        )


__all__ = ["ALIKE", "SCHEDULER_FILE", "WorkerConfig", "JobSpec", "check_output", "public_version"]
