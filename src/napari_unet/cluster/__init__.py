"""The same segmentation, store to store, as tasks of dask.distributed: one per chunk with its context.

``pool`` connects to the workers, ``worker`` runs in them, ``driver`` submits the tasks and ``joining`` merges their
results. Workers read the image and write the result themselves; only paths, settings and chunk borders cross between
processes. Needs the ``cluster`` extra.
"""

from __future__ import annotations

from .job_spec import JobSpec, check_output
from .pool import Pool

__all__ = ["JobSpec", "Pool", "check_output"]
