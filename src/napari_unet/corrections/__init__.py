"""What proofreading leaves on disk: marks beside saved labels, and a journal of what was not saved yet.

::

    cells.tif.checked.json            marks of the checked cells, beside the labels that were saved
    <home>/corrections/20250131-140502-x1y2/
      labels.tif                      the labels when the journal was begun; written in a thread
      about.json                      name, shape, marks at that time; written last
      steps.jsonl                     every step since then, one per line

A journal holds for every step what was there before and after, so it does not matter how much of it the
labels held already while they were being written. Labels in a store are corrected part by part, see
:mod:`.parts`; the journal of a part says where it belongs. Needs no torch.
"""

from __future__ import annotations

from ..stores.marks import marks_path, read_marks, write_marks
from ..stores.patches import finish_patch
from ..stores.restoring import restore_into
from .journal import Journal, corrections_folder
from .parts import OpenedPart, Part, PutBack, open_part, put_back
from .recovery import Recovered, Unsaved, recover, unsaved

__all__ = [
    "Journal",
    "OpenedPart",
    "Part",
    "PutBack",
    "Recovered",
    "Unsaved",
    "corrections_folder",
    "finish_patch",
    "marks_path",
    "open_part",
    "put_back",
    "read_marks",
    "recover",
    "restore_into",
    "unsaved",
    "write_marks",
]
