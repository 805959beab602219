"""Label images inside of the OME-Zarr image that they belong to: ``image.zarr/labels/NAME.zarr``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..core.errors import StoreError

FOLDER = "labels"
"""Where OME-Zarr has the label images of an image."""


def is_inside(path: Path) -> bool:
    """Return whether a result goes into the labels of a Zarr group."""
    image = path.parent.parent
    return path.parent.name == FOLDER and any((image / name).exists() for name in ("zarr.json", ".zgroup"))


def check_inside(path: Path) -> None:
    """Raise a :class:`StoreError` unless the image may have labels as they are written here, of OME-Zarr 0.5."""
    image = path.parent.parent
    if not (image / "zarr.json").exists() or "multiscales" not in _about(_group(image)):
        raise StoreError(
            f"{path} cannot be written: {image.name} is no OME-Zarr image of version 0.5, so its labels cannot lie "
            "inside of it; choose an output beside it."
        )


def register(path: Path) -> None:
    """Let an image know of a label image inside of it, and the label image of its image."""
    import zarr

    labels = zarr.open_group(str(path.parent), mode="a", zarr_format=3)
    names = [*_about(labels).get("labels", [])]
    labels.attrs["ome"] = {"version": "0.5", "labels": names if path.name in names else [*names, path.name]}
    group = _group(path, "r+")
    about = dict(_about(group))
    about["image-label"] = {**about.get("image-label", {}), "source": {"image": "../../"}}
    group.attrs["ome"] = about


def _group(path: Path, mode: str = "r") -> Any:
    """Return a Zarr group."""
    import zarr

    return zarr.open_group(str(path), mode=mode)


def _about(group: Any) -> dict[str, Any]:
    """Return what OME-Zarr 0.5 says of a group."""
    return dict(dict(group.attrs).get("ome", {}))


__all__ = ["FOLDER", "check_inside", "is_inside", "register"]
