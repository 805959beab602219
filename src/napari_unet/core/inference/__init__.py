"""Run a network over images of any size: overlap-tile, planes, chunks, choice of model and cell size."""
