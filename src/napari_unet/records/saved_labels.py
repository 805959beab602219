"""What lies beside saved labels: review marks, unfinished corrections, reviewed cells to apply again.

The plugin opens no store itself; these are the few functions of the stores that it calls.
"""

from __future__ import annotations

from ..stores.label_patches import finish_patch
from ..stores.reapply_review import restore_into
from ..stores.review_marks import marks_path, read_marks, write_marks

__all__ = ["finish_patch", "marks_path", "read_marks", "restore_into", "write_marks"]
