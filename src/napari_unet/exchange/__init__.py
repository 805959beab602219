"""Models for other programs: one zip, ONNX, a bioimage.io package. Each is read back and run before it counts.

An export that cannot be read back, or that computes something else than the model, is an error and
leaves no file.
"""

from __future__ import annotations

from .formats import FORMATS, Details, Exported, export

__all__ = ["FORMATS", "Details", "Exported", "export"]
