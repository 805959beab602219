"""Open and create what lies on disk: TIFF, PNG, Zarr, folders, Cell Tracking Challenge sets.

Nothing is computed here; pixels come as :class:`~napari_unet.core.arrays.Planes`, read lazily, and
results are written whole or not at all.
"""

from __future__ import annotations

from .labels import Pair, annotated_images, label_plane, labelled_planes, open_labels, pair
from .output import LabelOutput, check_output, create_labels, remove, replace, temporary, writing
from .pictures import Picture, list_pictures, open_picture, stem
from .regions import with_regions
from .unfinished import Folder, UnfinishedLabels, resumable_labels, unfinished_folder

__all__ = [
    "Folder",
    "LabelOutput",
    "Pair",
    "Picture",
    "UnfinishedLabels",
    "annotated_images",
    "check_output",
    "create_labels",
    "label_plane",
    "labelled_planes",
    "list_pictures",
    "open_labels",
    "open_picture",
    "pair",
    "remove",
    "replace",
    "resumable_labels",
    "stem",
    "temporary",
    "unfinished_folder",
    "with_regions",
    "writing",
]
