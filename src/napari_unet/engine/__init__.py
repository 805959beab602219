"""The child process that runs core generators for the viewer and streams their events.

The viewer's process imports :class:`EngineClient` only, which needs no torch; the child runs
:mod:`napari_unet.engine.child.server`, which loads torch with :mod:`napari_unet.engine.child.jobs`.
"""

from .protocol.messages import JobDone, JobFailed, PlaneLost, PlaneResult, PlaneUncertainty
from .viewer.address import LOCAL
from .viewer.client import EngineClient

__all__ = ["LOCAL", "EngineClient", "JobDone", "JobFailed", "PlaneUncertainty", "PlaneLost", "PlaneResult"]
