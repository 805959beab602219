"""The same segmentation, store to store, as tasks of dask.distributed: one per chunk with its context.

``pool`` reaches the workers, ``worker`` is what runs in them, ``driver`` hands out the tasks and ``joining`` puts
together what they found. Workers read the picture and write the result themselves; between processes go places,
settings, and what meets at the borders of chunks. Needs the ``cluster`` extra.
"""

from __future__ import annotations

from .job_spec import JobSpec, check_output
from .pool import Pool

__all__ = ["JobSpec", "Pool", "check_output"]
