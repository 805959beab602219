"""Frozen events: everything a training or a prediction has to say.

Core generators yield them; a dock, the command line, a notebook or a cluster task decides what to
do with each. Fields hold plain data and numpy arrays only (``Finished.model`` excepted), so an
event can cross to another process, see :func:`to_dict` and :func:`from_dict`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    # Events stand at the bottom of core: whoever sends them has to load nothing else.
    from .data.arrays import Normalisation


@dataclass(frozen=True)
class Event:
    """Base of all events."""


@dataclass(frozen=True)
class Started(Event):
    """Work begins: what, where, how much, and what the user should know before it does."""

    job: str
    """``"train"`` or ``"predict"``."""
    device: str
    """For example ``"cpu"`` or ``"cuda:0"``."""
    precision: str
    """``"float32"``, ``"bfloat16"`` or ``"float16"``."""
    total: int | None = None
    """Steps (training) or planes (prediction); None when only time limits the work."""
    seconds: float | None = None
    """Time limit in seconds, if there is one."""
    notes: tuple[str, ...] = ()
    """Sentences for the user, for example that there is nothing to measure on."""


@dataclass(frozen=True)
class StepDone(Event):
    """One optimiser step."""

    step: int
    loss: float
    learning_rate: float
    elapsed: float
    """Seconds since the start."""
    remaining: float | None = None
    """Estimated seconds to the end."""
    total: int | None = None


@dataclass(frozen=True)
class Validated(Event):
    """The model was measured on the validation part."""

    step: int
    loss: float
    iou: float
    """Intersection over union of the foreground, 0 to 1."""
    f1: float
    """Instance F1 at IoU 0.5 (macro F1 of classes in semantic mode), 0 to 1."""
    best: bool
    """Whether this is the model that is kept so far: better than the start, and no earlier one by more than chance."""
    elapsed: float = 0.0


@dataclass(frozen=True)
class AnnotationsUpdated(Event):
    """What was painted while the training ran is learnt from now on; the planned time begins anew."""

    step: int
    elapsed: float
    cells: int
    """Cells that are painted now, those kept apart included."""
    planes: int
    """Planes that they lie in."""
    paint: int = 0
    """Which state of the paint this is, as whoever painted counts them; 0 where nobody does."""


@dataclass(frozen=True)
class Preview(Event):
    """The network's present answer for the region that the user looks at."""

    step: int
    token: int
    """The number that came with the request, so that late answers can be told apart."""
    foreground: NDArray[np.float32]
    """Probability of not being background, (Y, X)."""
    labels: NDArray[np.int32]
    """Instances (or classes) of the same region, (Y, X)."""


@dataclass(frozen=True)
class CheckpointSaved(Event):
    """The model was written to disk."""

    step: int
    path: str
    best: bool


@dataclass(frozen=True)
class TileDone(Event):
    """One overlap-tile was computed."""

    done: int
    total: int
    plane: tuple[int, ...]
    region: tuple[int, int, int, int]
    """y0, y1, x0, x1 in pixels of the image."""
    elapsed: float = 0.0
    remaining: float | None = None


@dataclass(frozen=True)
class PlaneDone(Event):
    """One plane is in the output."""

    done: int
    total: int
    plane: tuple[int, ...]
    """Index into the leading (not channel, y, x) axes."""
    objects: int = 0
    elapsed: float = 0.0
    remaining: float | None = None


@dataclass(frozen=True)
class ResultOpened(Event):
    """The result lies on disk from now on, and grows there."""

    path: str
    """Where it will lie when it is finished."""
    partial: str
    """Where it lies until then."""
    resumed: bool = False
    """Whether something of an earlier run is in it."""


@dataclass(frozen=True)
class Fallback(Event):
    """The work goes on in another way than asked for: smaller tile, other device, rolled back."""

    message: str


@dataclass(frozen=True)
class Stopped(Event):
    """The work ended before its planned end; what was reached is kept."""

    reason: str
    step: int = 0


@dataclass(frozen=True)
class Finished(Event):
    """The last event of every job that did not raise."""

    elapsed: float
    step: int = 0
    best_step: int = 0
    path: str = ""
    """Where the model or result lies on disk, if it does."""
    metrics: dict[str, float] = field(default_factory=dict)
    message: str = ""
    model: Any = None
    """The trained :class:`~napari_unet.core.network.model_io.Model`; does not cross processes."""


@dataclass(frozen=True)
class PreviewRequest:
    """A region of which the user wants to see the network's present answer."""

    token: int
    """Comes back with the :class:`Preview`."""
    image: NDArray[Any]
    """Grey values of the region with some context, (C, Y, X)."""
    normalisation: Normalisation | None = None
    """Of the whole plane; None measures the region itself."""


TrainingEvent = (
    Started | StepDone | Validated | AnnotationsUpdated | Preview | CheckpointSaved | Fallback | Stopped | Finished
)
PredictionEvent = Started | ResultOpened | TileDone | PlaneDone | Fallback | Stopped | Finished

_KINDS: dict[str, type[Event]] = {
    kind.__name__: kind
    for kind in (
        Started, StepDone, Validated, AnnotationsUpdated, Preview, CheckpointSaved, TileDone, PlaneDone,
        ResultOpened, Fallback, Stopped, Finished,
    )
}  # fmt: skip


def to_dict(event: Event) -> dict[str, Any]:
    """Return the event as a dict of plain data and arrays, with its kind under ``"event"``."""
    plain = {f.name: getattr(event, f.name) for f in fields(event) if f.name != "model"}
    return {"event": type(event).__name__, **plain}


def from_dict(plain: dict[str, Any]) -> Event:
    """Return the event that :func:`to_dict` took apart.

    Raises
    ------
    ValueError
        When ``plain["event"]`` names no kind of event.
    """
    values = dict(plain)
    name = values.pop("event", None)
    if name not in _KINDS:
        raise ValueError(f"unknown event {name!r}; known are {', '.join(_KINDS)}")
    return _KINDS[name](**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
