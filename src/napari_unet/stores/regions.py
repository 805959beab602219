"""Complete regions from a file, for annotated images that come from files too."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..core.data.annotation import AnnotatedImage, Box
from ..core.errors import StoreError


def with_regions(images: Sequence[AnnotatedImage], path: str | Path, *, empty: bool = False) -> list[AnnotatedImage]:
    """Return annotated planes with the complete regions of a JSON file.

    Parameters
    ----------
    images : sequence of AnnotatedImage
        From :func:`annotated_images`, empty planes included.
    path : path-like
        ``{"name": [[y0, y1, x0, x1], ...], ...}`` by name of a plane, in pixels; or the ``job.json`` of a run,
        whose emphasis is taken up too.
    empty : bool
        Whether planes without labels and regions are returned too.

    Returns
    -------
    list of AnnotatedImage
        Without those that are not, or no longer, part of the run.

    Raises
    ------
    StoreError
        When the file cannot be read, or names a plane that there is not.
    """
    places, all_of_them = _read_places(Path(path))
    names = {image.name for image in images}
    unknown = sorted(set(places) - names)
    if unknown:
        known = ", ".join(sorted(names)[:5])
        raise StoreError(f"{path} has regions of {unknown[0]}, but the images are called {known}; correct the name.")
    found = []
    for image in images:
        boxes, oversampled = places.get(image.name, ((), ()))
        if image.name in places or (not all_of_them and (empty or np.asarray(image.labels).any())):
            found.append(replace(image, regions=boxes, oversampled=oversampled))
    return found


def _read_places(path: Path) -> tuple[dict[str, tuple[tuple[Box, ...], tuple[Any, ...]]], bool]:
    """Return complete regions and emphasis by name of a plane, and whether no other planes belong to them."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        is_run = "napari_unet_run" in content
        entries = content["images"] if is_run else [{"stem": name, "regions": b} for name, b in content.items()]
        return {e["stem"]: (_boxes(e["regions"]), tuple(map(tuple, e.get("oversampled", ())))) for e in entries}, is_run
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(
            f'{path} holds no regions; write {{"name of an image": [[y0, y1, x0, x1], ...]}}, in pixels ({error}).'
        ) from error


def _boxes(values: Any) -> tuple[Box, ...]:
    """Return boxes of four whole numbers each."""
    boxes = []
    for y0, y1, x0, x1 in values:
        box = (int(y0), int(y1), int(x0), int(x1))
        if not (0 <= box[0] < box[1] and 0 <= box[2] < box[3]):
            raise ValueError(f"{list(box)} is no box: y0 < y1 and x0 < x1, none below 0")
        boxes.append(box)
    return tuple(boxes)
