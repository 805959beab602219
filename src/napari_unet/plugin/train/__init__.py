"""The Train dock: annotate, check, train, preview, suggestions where to annotate."""
