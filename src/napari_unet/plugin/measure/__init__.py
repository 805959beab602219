"""The Measure dock: a row per cell, comparison with ground truth, tables and reports."""
