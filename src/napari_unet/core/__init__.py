"""The floor that computes: numpy, scipy, scikit-image and torch; no Qt, no napari."""

import os

# Torch's OpenMP threads wait for each other by spinning, which on few cores takes the time from the
# thread that prepares patches, and from the viewer. Read once, when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
