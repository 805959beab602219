"""The Proofread dock: check, merge, split, delete and redraw cells, with undo and recovery."""
