"""Size and unit of a pixel: what files say of it, and how it is written into results. Nothing is assumed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tifffile

from .layout import Spacing

_UNITS = {
    "micrometer": ("µm", "μm", "um", "micron", "microns", "\\u00B5m", "\\u00b5m"),
    "nanometer": ("nm",),
    "millimeter": ("mm",),
    "centimeter": ("cm",),
    "meter": ("m",),
    "angstrom": ("Å", "A"),
    "inch": ("in", "inch", "inches"),
    "second": ("s", "sec", "seconds"),
    "millisecond": ("ms", "msec"),
    "minute": ("min",),
    "hour": ("h", "hours"),
}
"""Units as OME-Zarr names them, and their other names; the first is that of OME-TIFF."""

_NAMES = {short: long for long, others in _UNITS.items() for short in (long, *others)}
_PER_CENTIMETER = {"nanometer": 1e7, "micrometer": 1e4, "millimeter": 10.0, "centimeter": 1.0, "meter": 0.01}
_KEYS = {"x": "PhysicalSizeX", "y": "PhysicalSizeY", "z": "PhysicalSizeZ", "t": "TimeIncrement"}


def unit_name(text: str) -> str:
    """Return a unit as OME-Zarr names it; one that it does not know as it is.

    Examples
    --------
    >>> unit_name("µm"), unit_name("micron"), unit_name("parsec")
    ('micrometer', 'micrometer', 'parsec')
    """
    return _NAMES.get(text.strip(), text.strip())


def of_tiff(tif: tifffile.TiffFile) -> dict[str, tuple[float, str]]:
    """Return what a TIFF file says, by axis letter: as OME-TIFF, as ImageJ, or as a result of this package.

    The resolution of other TIFF files is left alone: it is that of a screen or a printer more often than not.
    """
    if tif.is_ome:
        return _of_keys(_ome_pixels(tif))
    if tif.is_imagej:
        return _of_imagej(tif)
    shaped: Any = tif.shaped_metadata or ({},)
    return _of_keys(shaped[0])


def _ome_pixels(tif: tifffile.TiffFile) -> Mapping[str, Any]:
    """Return the attributes of the first picture of an OME-TIFF."""
    images = tifffile.xml2dict(tif.ome_metadata or "<OME/>").get("OME") or {}
    first = images.get("Image", {}) if isinstance(images, dict) else {}
    first = first[0] if isinstance(first, list) else first
    pixels: Mapping[str, Any] = first.get("Pixels", {})
    return pixels


def _of_keys(about: Mapping[str, Any]) -> dict[str, tuple[float, str]]:
    """Return sizes from the attributes that OME gives them."""
    defaults = {"t": "s"}
    found = {
        axis: (_size(about.get(key)), unit_name(str(about.get(f"{key}Unit", defaults.get(axis, "µm")))))
        for axis, key in _KEYS.items()
    }
    return {axis: (size, unit) for axis, (size, unit) in found.items() if size}


def _size(value: Any) -> float:
    """Return a size; 0 for what is none."""
    try:
        size = float(value)
    except (TypeError, ValueError):
        return 0.0
    return size if 0 < size < float("inf") else 0.0


def _of_imagej(tif: tifffile.TiffFile) -> dict[str, tuple[float, str]]:
    """Return what ImageJ has written: sizes are in its tags for pixels per unit, the rest in its description."""
    about = tif.imagej_metadata or {}
    unit, tags = unit_name(str(about.get("unit", ""))), tif.pages.first.tags
    found = {}
    for axis, tag in (("x", "XResolution"), ("y", "YResolution")):
        many, per = tags[tag].value if tag in tags else (0, 1)
        found[axis] = (_size(per / many if many else 0), unit)
    found["z"] = (_size(about.get("spacing")), unit)
    known = {axis: (size, unit) for axis, (size, unit) in found.items() if size and unit not in ("", "pixel")}
    interval = _size(about.get("finterval"))
    return {**known, **({"t": (interval, unit_name(str(about.get("tunit", "s"))))} if interval else {})}


def of_multiscale(multiscale: Mapping[str, Any]) -> dict[str, tuple[float, str]]:
    """Return what OME-Zarr says of its largest version, by the names of the axes."""
    axes = [a for a in multiscale.get("axes", []) if isinstance(a, dict)]
    steps = [multiscale["datasets"][0].get("coordinateTransformations"), multiscale.get("coordinateTransformations")]
    scales = [s["scale"] for step in steps for s in step or () if s.get("type") == "scale" and "scale" in s]
    scales = [scale for scale in scales if len(scale) == len(axes)]
    found = {}
    for n, axis in enumerate(axes):
        size = 1.0
        for scale in scales:
            size *= _size(scale[n])
        # Without a unit, 1 is what is written when nothing is known.
        if size and (axis.get("unit") or size != 1.0):
            found[str(axis.get("name", "")).lower()] = (size, unit_name(str(axis.get("unit") or "")))
    return found


def tiff_options(spacing: Spacing, axes: str) -> dict[str, Any]:
    """Return the arguments of ``tifffile.imwrite`` that say how large a pixel is, with the axes.

    Attributes have the names of OME in OME-TIFF and in plain files alike; plain ones get pixels per centimeter too,
    which most programs read.
    """
    metadata: dict[str, Any] = {"axes": axes.upper()}
    for axis, (size, unit) in spacing.items():
        if axis in _KEYS and axis in axes:
            metadata[_KEYS[axis]] = size
            if unit:
                metadata[f"{_KEYS[axis]}Unit"] = _UNITS.get(unit, (unit,))[0]
    per = [(_PER_CENTIMETER.get(spacing[a][1]), spacing[a][0]) for a in "xy" if a in spacing]
    if len(per) == 2 and all(factor for factor, _ in per):
        resolution = tuple(factor / size for factor, size in per if factor)
        return {"metadata": metadata, "resolution": resolution, "resolutionunit": "CENTIMETER"}
    return {"metadata": metadata}


__all__ = ["of_multiscale", "of_tiff", "tiff_options", "unit_name"]
