"""The child process that runs core generators for the viewer and streams their events.

The viewer's process imports :class:`EngineClient` only, which needs no torch; the child runs
:mod:`napari_unet.engine.server`, which loads torch with :mod:`napari_unet.engine.jobs`.
"""

from .address import LOCAL
from .client import EngineClient
from .wire import JobDone, JobFailed, PlaneDoubt, PlaneLost, PlaneResult

__all__ = ["LOCAL", "EngineClient", "JobDone", "JobFailed", "PlaneDoubt", "PlaneLost", "PlaneResult"]
