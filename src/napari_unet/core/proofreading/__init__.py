"""Correct and review labels: edits, undo, review marks, crops of large results."""
