"""Layers to arrays and back: axis roles, planes, the crop in view, placement of new layers.

Works on napari's layers by what they offer (``data``, ``world_to_data``, ``corner_pixels``, ...) and
never turns a whole dask or zarr array into memory: arrays are handed on as they are, and read plane
by plane.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...core.data.annotation import AnnotatedImage, Box
from ...core.data.arrays import ArrayLike, Planes, WritableArray
from ...core.errors import DataError
from ...core.proofreading.review import ReviewedCell, as_annotation

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels, Layer

OURS = "napari_unet"
"""Key of ``layer.metadata`` under which this plugin notes what a layer is."""

LEADING = {"t": "time", "z": "depth", "c": "channel", "p": "position"}
"""Axis letters a user can choose for an axis that is neither height nor width."""

_WORDS = {
    "t": "t time timepoint frame frames",
    "z": "z depth slice slices section plane",
    "c": "c ch channel channels colour color wavelength",
    "p": "p pos position positions scene series s well field",
    "y": "y height row rows",
    "x": "x width column columns",
}
_LETTER_OF = {word: letter for letter, words in _WORDS.items() for word in words.split()}
# What nameless axes are taken for, the likeliest first, and the order in which they usually come.
_LIKELY, _USUAL_ORDER = "ztpc", "ptcz"


def full_data(layer: Layer) -> ArrayLike:
    """Return the layer's array at full resolution, as it is (perhaps lazy)."""
    return layer.data[0] if getattr(layer, "multiscale", False) else layer.data


def data_shape(layer: Layer) -> tuple[int, ...]:
    """Return the layer's shape in pixels at full resolution, without the colour axis of RGB."""
    return tuple(int(n) for n in full_data(layer).shape[: layer.ndim])


def note(layer: Layer) -> dict[str, Any]:
    """Return this plugin's own notes on the layer."""
    return layer.metadata.get(OURS, {})


# --- axis roles -------------------------------------------------------------------------------


def guess_axes(layer: Layer) -> str:
    """Return one letter of ``ptczyx`` per axis of the layer, without the colour axis of RGB.

    Names and units of the axes decide where there are any; what is named or measured as time is
    never taken for depth. Nameless axes: the last two are height and width, one before them is depth.

    Raises
    ------
    DataError
        For layers with one axis or with more than six.
    """
    ndim = layer.ndim
    if not 2 <= ndim <= 6:
        raise DataError(f"{layer.name} has {ndim} axes; images of two to six axes can be segmented.")
    letters = _named_letters(layer)
    if not {"y", "x"} <= set(letters):
        letters = [None if a in ("y", "x") else a for a in letters]
        nameless = [axis for axis, a in enumerate(letters) if a is None]
        height, width = nameless[-2:] if len(nameless) > 1 else (ndim - 2, ndim - 1)
        letters[height], letters[width] = "y", "x"
    unknown = [axis for axis, a in enumerate(letters) if a is None]
    likely = [a for a in _LIKELY if a not in letters][: len(unknown)]
    for axis, letter in zip(unknown, sorted(likely, key=_USUAL_ORDER.index), strict=True):
        letters[axis] = letter
    return "".join(str(a) for a in letters)


def noted_axes(layer: Layer) -> str:
    """Return the axis letters the user gave a layer, or the guessed ones."""
    noted = str(note(layer).get("axes", ""))
    return noted if len(noted) == layer.ndim else guess_axes(layer)


def unsaid_axes(layer: Layer) -> list[int]:
    """Return which leading axes :func:`guess_axes` had to guess, as neither name nor unit says what they are."""
    guessed = guess_axes(layer)
    return [axis for axis, letter in enumerate(_named_letters(layer)) if letter is None and guessed[axis] not in "yx"]


def _named_letters(layer: Layer) -> list[str | None]:
    """Return the letter that each axis' name or unit gives away, or None; each letter once."""
    in_file = note(layer).get("file_axes", "")
    names = [_LETTER_OF.get(str(name).strip().lower()) for name in getattr(layer, "axis_labels", ())]
    if len(in_file) == layer.ndim == len(names):
        names = [name or (letter if letter in _WORDS else None) for name, letter in zip(names, in_file, strict=True)]
    units = [str(getattr(unit, "dimensionality", "")) == "[time]" for unit in getattr(layer, "units", None) or ()]
    names += [None] * (layer.ndim - len(names))
    units += [False] * (layer.ndim - len(units))
    letters = ["t" if is_time else name for name, is_time in zip(names, units, strict=True)]
    return [None if letter in letters[:axis] else letter for axis, letter in enumerate(letters)]


def planes_of(layers: Sequence[Image], axes: str) -> Planes:
    """Return one or several image layers, each a channel, as planes.

    Parameters
    ----------
    layers : sequence of Image
        One layer, or several of one shape.
    axes : str
        As from :func:`guess_axes`.

    Raises
    ------
    DataError
        When the layers do not fit together or are no images.
    """
    colours = {bool(getattr(layer, "rgb", False)) for layer in layers}
    if len(colours) > 1:
        names = ", ".join(layer.name for layer in layers)
        raise DataError(f"A colour picture and grey channels cannot be mixed ({names}); choose one kind.")
    rgb = colours == {True}
    if rgb and "c" in axes:
        raise DataError("A colour picture has its channels already; give its other axes another role than channel.")
    return Planes([full_data(layer) for layer in layers], axes + ("c" if rgb else ""), rgb=rgb)


# --- where the user looks -----------------------------------------------------------------------


def current_plane(viewer: ViewerModel, layer: Layer, axes: str) -> tuple[int, ...]:
    """Return the index of the plane that the sliders stand at, also for turned or rolled axes."""
    point = np.asarray(layer.world_to_data(viewer.dims.point))
    shape = data_shape(layer)
    index = [int(np.clip(np.floor(point[i] + 0.5), 0, n - 1)) for i, n in enumerate(shape)]
    return tuple(n for n, axis in zip(index, axes, strict=True) if axis not in "cyx")


def view_box(viewer: ViewerModel, layer: Layer, axes: str, limit: int) -> Box:
    """Return the part of the plane that is on screen, at most ``limit`` pixels a side.

    The whole plane counts as on screen where height and width are not both shown flat (3D view,
    rolled axes) or nothing has been drawn yet.
    """
    spans = []
    corners = _corners_at_full_size(layer)
    flat = _shown_flat(viewer, layer, axes)
    for axis in (axes.index("y"), axes.index("x")):
        size = data_shape(layer)[axis]
        start, stop = (int(max(0, corners[0][axis])), int(min(size, corners[1][axis]))) if flat else (0, size)
        start, stop = (start, stop) if stop > start else (0, size)
        spans.append(_shorten(start, stop, limit))
    (y0, y1), (x0, x1) = spans
    return y0, y1, x0, x1


def _shorten(start: int, stop: int, limit: int) -> tuple[int, int]:
    """Return the middle of a span, at most ``limit`` long."""
    spare = max(0, stop - start - limit)
    return start + spare // 2, stop - (spare - spare // 2)


def _corners_at_full_size(layer: Layer) -> NDArray[Any]:
    """Return start and stop of the drawn part in pixels of the full resolution; (2, ndim)."""
    # napari's second corner is the last pixel, not the one after it; both are 0 as long as nothing was drawn.
    first, last = np.asarray(layer.corner_pixels)
    corners = np.stack([first, last + (last > first)])
    if getattr(layer, "multiscale", False):
        corners = corners * np.asarray(layer.downsample_factors)[layer.data_level]
    return corners


def _shown_flat(viewer: ViewerModel, layer: Layer, axes: str) -> bool:
    """Return whether exactly height and width of the layer are on screen."""
    offset = viewer.dims.ndim - layer.ndim
    shown = {axis - offset for axis in viewer.dims.displayed}
    return shown == {axes.index("y"), axes.index("x")}


# --- new layers beside an image -----------------------------------------------------------------


def label_shape(layer: Layer, axes: str) -> tuple[int, ...]:
    """Return the shape of a label image for the layer: a channel axis is one thick, colours are left out."""
    return tuple(1 if a == "c" else n for a, n in zip(axes, data_shape(layer), strict=True))


def label_index(axes: str, plane: tuple[int, ...]) -> tuple[int | slice, ...]:
    """Return where a plane lies in an array of :func:`label_shape`."""
    where = iter(plane)
    return tuple(slice(None) if a in "yx" else 0 if a == "c" else next(where) for a in axes)


def write_plane(array: WritableArray, axes: str, plane: tuple[int, ...], values: NDArray[Any]) -> None:
    """Write a (Y, X) result into its plane of an array of :func:`label_shape`."""
    array[label_index(axes, plane)] = _upright(values, axes)


def read_plane(array: ArrayLike, axes: str, plane: tuple[int, ...]) -> NDArray[Any]:
    """Return the plane that :func:`write_plane` writes, as (Y, X)."""
    return _upright(np.asarray(array[label_index(axes, plane)]), axes)


def _upright(block: NDArray[Any], axes: str) -> NDArray[Any]:
    """Return a 2D block with its axes swapped when the layer holds width before height."""
    return block.T if axes.index("x") < axes.index("y") else block


def placement(layer: Layer, axes: str = "", offset: Sequence[float] | None = None) -> dict[str, Any]:
    """Return the keyword arguments that put a new layer of :func:`label_shape` on top of an image layer.

    Scale, translation, rotation, shear, affine, units and axis names are inherited. A channel axis
    is one voxel that is as thick as all channels together, so that labels show over each of them.

    Parameters
    ----------
    layer : Layer
        The image layer.
    axes : str
        Its axis letters.
    offset : sequence of float, optional
        Where the new layer begins, in pixels of the image, one number per axis; for crops.
    """
    from napari.utils.transforms import Affine

    start = np.zeros(layer.ndim) if offset is None else np.asarray(offset, float)
    thickness = np.ones(layer.ndim)
    if "c" in axes:
        channels = data_shape(layer)[axes.index("c")]
        thickness[axes.index("c")], start[axes.index("c")] = channels, (channels - 1) / 2
    linear = Affine(rotate=layer.rotate, scale=layer.scale, shear=layer.shear, ndim=layer.ndim).linear_matrix
    inherited = {
        "scale": layer.scale * thickness,
        "translate": layer.translate + linear @ start,
        "rotate": layer.rotate,
        "shear": layer.shear,
        "affine": np.asarray(layer.affine.affine_matrix),
    }
    # Older napari has neither units nor axis labels on layers.
    return inherited | {name: getattr(layer, name) for name in ("units", "axis_labels") if hasattr(layer, name)}


def place_again(layer: Layer, where: dict[str, Any]) -> None:
    """Give a layer another place; what stays as it is costs nothing."""
    for name, wanted in where.items():
        now = getattr(layer, name)
        if not np.array_equal(np.asarray(getattr(now, "affine_matrix", now)), np.asarray(wanted)):
            setattr(layer, name, wanted)


def fill_again(viewer: ViewerModel, layer: Layer, data: NDArray[Any], where: dict[str, Any]) -> None:
    """Show other data of as many axes in a layer, at a place as from :func:`placement`, on top of all layers.

    Takes a fraction of the time of a new layer, and leaves none behind that has to be collected.
    """
    place_again(layer, where)
    layer.data = data
    if viewer.layers[-1] is not layer:
        viewer.layers.move(viewer.layers.index(layer), len(viewer.layers))


def empty_array(shape: tuple[int, ...], dtype: Any) -> WritableArray:
    """Return an array of zeros that takes memory only where it is written.

    Where the computer cannot even promise the memory, it is a Zarr array.
    """
    try:
        return np.zeros(shape, dtype)
    except MemoryError:
        import zarr

        chunks = (1,) * (len(shape) - 2) + tuple(min(n, 1024) for n in shape[-2:])
        return zarr.zeros(shape, dtype=dtype, chunks=chunks)


# --- what was painted ---------------------------------------------------------------------------


def check_labels_fit(image: Image, axes: str, labels: Labels) -> None:
    """Raise a :class:`DataError` unless the labels have the image's shape."""
    wanted, got = label_shape(image, axes), data_shape(labels)
    if wanted != got:
        raise DataError(
            f"{labels.name} has shape {got}, but {image.name} needs labels of shape {wanted}; choose the layer that "
            "was painted on this image, or make one with New annotation."
        )


def painted(
    planes: Planes,
    labels: ArrayLike,
    axes: str,
    name: str,
    regions: Mapping[tuple[int, ...], tuple[Box, ...]] | None = None,
    checked: Mapping[tuple[int, ...], Sequence[ReviewedCell]] | None = None,
    background: int = 0,
) -> Iterator[AnnotatedImage]:
    """Yield every plane with paint, a complete region or checked cells; images are read only where there is any.

    Parameters
    ----------
    planes : Planes
        The image.
    labels : ArrayLike
        Painted labels of :func:`label_shape`.
    axes : str
        Axis letters of the labels.
    name : str
        For messages and the ledger; the plane's index is added.
    regions : mapping of tuple to tuple of Box, optional
        Complete regions by plane.
    checked : mapping of tuple to sequence of ReviewedCell, optional
        Cells by plane that were checked in a segmentation; they are learnt as if they were painted.
    background : int
        The label that means background; 0 when there is none.
    """
    for plane in planes.indices():
        drawn = np.asarray(labels[label_index(axes, plane)])
        boxes = (regions or {}).get(plane, ())
        kept = (checked or {}).get(plane, ())
        if drawn.any() or boxes or kept:
            image = planes.read(plane, slice(None), slice(None))
            where = f" {', '.join(f'{a} {i}' for a, i in zip(planes.plane_axes, plane, strict=True))}" if plane else ""
            paint, places = as_annotation(_upright(drawn, axes), kept, background)
            yield AnnotatedImage(image, paint, boxes, f"{name}{where}", places, plane)
