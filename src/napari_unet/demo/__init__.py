"""The whole loop on one machine in a minute: paint, train, segment, measure.

On generated microscopy, or on anybody's images with complete labels, of which a few cells are painted
the way a person would. What comes out is written, drawn and shown.
"""

from __future__ import annotations

from .job import Case, DemoResult, run_demo
from .painting import paint
from .viewer import missing, open_viewer

__all__ = ["Case", "DemoResult", "missing", "open_viewer", "paint", "run_demo"]
