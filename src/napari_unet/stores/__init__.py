"""Open and create what lies on disk: TIFF, PNG, Zarr, folders, Cell Tracking Challenge sets.

Nothing is computed here; pixels come as :class:`~napari_unet.core.data.arrays.Planes`, read lazily, and
results are written whole or not at all.
"""

from __future__ import annotations

from .labels import ImageLabelPair, annotated_images, label_plane, labelled_planes, open_labels, pair
from .layout import Spacing
from .output import LabelOutput, check_output, create_labels, remove, replace, temporary, writing
from .pictures import Picture, list_pictures, open_array, open_picture, stem
from .regions import with_regions
from .resumable import Folder, UnfinishedLabels, resumable_labels, state_of, unfinished_folder
from .zarrs import Levels, open_writable

__all__ = [
    "Folder",
    "LabelOutput",
    "Levels",
    "ImageLabelPair",
    "Picture",
    "Spacing",
    "UnfinishedLabels",
    "annotated_images",
    "check_output",
    "create_labels",
    "label_plane",
    "labelled_planes",
    "list_pictures",
    "open_array",
    "open_labels",
    "open_picture",
    "open_writable",
    "pair",
    "remove",
    "replace",
    "resumable_labels",
    "state_of",
    "stem",
    "temporary",
    "unfinished_folder",
    "with_regions",
    "writing",
]
