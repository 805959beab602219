"""What crosses between the viewer and the child: plain data, and arrays in pieces.

A message is a dict of plain data and numpy arrays. On the wire its arrays go ahead as pieces of at
most :data:`PIECE` bytes, so that neither the pipe nor any thread is kept busy for long::

    {"type": "piece", "of": 7, "array": 0, "start": 0, "dtype": "<i4", "shape": [512, 512], "data": b"..."}
    {"type": "event", "of": 7, ..., "labels": {"__array__": 0, "dtype": "<i4", "shape": [512, 512]}}

To another computer pieces go packed (``"packed": True``). Nothing is pickled, so neither side can make the other run
code. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core import events
from ...core.data.arrays import ArrayLike
from ...core.events import Event

PROTOCOL = 5
"""Raised with every change of the messages, so that a remote machine with another version is noticed."""

PIECE = 1 << 20
"""Bytes of an array per message: about a millisecond of copying each."""

LARGEST_PLANE = 16_000_000
"""Pixels up to which the engine keeps the outputs of a plane, so that sliders can change its labels."""

_ARRAY = "__array__"


@dataclass(frozen=True)
class PlaneResult(Event):
    """The labels of one plane: (Y, X), int32 instances, uint8 classes or float32 probabilities."""

    plane: tuple[int, ...]
    labels: NDArray[Any]


@dataclass(frozen=True)
class PlaneLost(Event):
    """The network's outputs of this plane are no longer kept; segment it again to re-label it."""

    plane: tuple[int, ...]


@dataclass(frozen=True)
class PlaneUncertainty(Event):
    """How uncertain the network is of one plane, from :func:`~napari_unet.core.instances.uncertainty.coarse`."""

    plane: tuple[int, ...]
    maps: NDArray[Any]


@dataclass(frozen=True)
class JobFailed(Event):
    """The job ended by an error; followed by :class:`JobDone`."""

    message: str


@dataclass(frozen=True)
class JobDone(Event):
    """The last message of every job."""


_OWN: dict[str, type[Event]] = {
    kind.__name__: kind for kind in (PlaneResult, PlaneLost, PlaneUncertainty, JobFailed, JobDone)
}


def event_to_dict(event: Event) -> dict[str, Any]:
    """Return any event, also those of this module, as plain data and arrays."""
    return events.to_dict(event)


def event_from_dict(plain: dict[str, Any]) -> Event:
    """Return the event that :func:`event_to_dict` took apart.

    Raises
    ------
    ValueError
        For an unknown kind of event.
    """
    kind = _OWN.get(plain.get("event", ""))
    if kind is None:
        return events.from_dict(plain)
    values = {f.name: plain[f.name] for f in fields(kind)}
    return kind(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})


def split(message: dict[str, Any], number: int, packed: bool = False) -> Iterator[dict[str, Any]]:
    """Yield the pieces of a message's arrays, then the message itself.

    Parameters
    ----------
    message : dict
        Plain data and numpy arrays; numpy scalars become Python's, paths become text.
    number : int
        Tells the pieces of this message from those of others that are under way.
    packed : bool
        Whether pieces are packed where that makes them smaller.

    Raises
    ------
    TypeError
        When the message holds anything else.
    """
    arrays: list[NDArray[Any]] = []
    head = _pack(message, arrays)
    for index, array in enumerate(arrays):
        pieces = _pieces(array, index, number)
        yield from map(_packed, pieces) if packed else pieces
    yield {**head, "of": number}


def _pieces(array: NDArray[Any], index: int, number: int) -> Iterator[dict[str, Any]]:
    """Yield one array in pieces; bytes are copied only when their piece is asked for."""
    view = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
    about = {"type": "piece", "of": number, "array": index, "dtype": array.dtype.str, "shape": list(array.shape)}
    for start in range(0, len(view), PIECE):
        yield {**about, "start": start, "data": bytes(view[start : start + PIECE])}


def _packed(piece: dict[str, Any]) -> dict[str, Any]:
    """Return the piece, packed if that makes it smaller."""
    from .compression import pack

    data = pack(piece["data"], np.dtype(piece["dtype"]).itemsize)
    return piece if data is None else {**piece, "data": data, "packed": True}


def _data_of(piece: dict[str, Any]) -> bytes:
    """Return the bytes of a piece."""
    if not piece.get("packed"):
        return bytes(piece["data"])
    from .compression import unpack

    return unpack(piece["data"], np.dtype(piece["dtype"]).itemsize)


def _pack(value: Any, arrays: list[NDArray[Any]]) -> Any:
    """Return plain data, with each array replaced by a reference and appended to ``arrays``."""
    if value is None or isinstance(value, (bool, int, float, str, bytes)):
        return _builtin(value)
    if isinstance(value, np.ndarray):
        arrays.append(value)
        return {_ARRAY: len(arrays) - 1, "dtype": value.dtype.str, "shape": list(value.shape)}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {str(key): _pack(item, arrays) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_pack(item, arrays) for item in value]
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be sent to the backend: {value!r}")


def _builtin(value: Any) -> Any:
    """Return a value as the builtin type itself, because subclasses (numpy.float64, StrEnum) do not cross."""
    kinds: tuple[type[Any], ...] = (bool, int, float, str, bytes)
    return next((kind(value) for kind in kinds if isinstance(value, kind)), value)


class Assembler:
    """Puts messages together again on the receiving side."""

    def __init__(self) -> None:
        self._arrays: dict[int, dict[int, NDArray[Any]]] = {}

    def accept(self, raw: dict[str, Any]) -> dict[str, Any] | None:
        """Take what came off the wire; return a message when one is complete."""
        number = raw["of"]
        if raw["type"] != "piece":
            return _unpack({k: v for k, v in raw.items() if k != "of"}, self._arrays.pop(number, {}))
        arrays = self._arrays.setdefault(number, {})
        if raw["array"] not in arrays:
            arrays[raw["array"]] = np.empty(raw["shape"], np.dtype(raw["dtype"]))
        target, data = arrays[raw["array"]].reshape(-1).view(np.uint8).data, _data_of(raw)
        target[raw["start"] : raw["start"] + len(data)] = data
        return None


def _unpack(value: Any, arrays: dict[int, NDArray[Any]]) -> Any:
    """Return the value with references replaced by their arrays."""
    if isinstance(value, list):
        return [_unpack(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    if _ARRAY not in value:
        return {key: _unpack(item, arrays) for key, item in value.items()}
    # An array without a single element has no pieces.
    found = arrays.get(value[_ARRAY])
    return np.empty(value["shape"], np.dtype(value["dtype"])) if found is None else found


Key = list[Any]
"""One entry per axis: an int, or ``[start, stop, step]``."""


def pack_key(key: Any, shape: tuple[int, ...]) -> Key:
    """Return a basic index as plain data, one entry per axis, bounds resolved.

    Raises
    ------
    IndexError
        For an index that is no int, slice or Ellipsis, too many of them, or one out of bounds.
    """
    parts = list(key) if isinstance(key, tuple) else [key]
    if Ellipsis in [p for p in parts if not isinstance(p, np.ndarray)]:
        at = parts.index(Ellipsis)
        parts[at : at + 1] = [slice(None)] * (len(shape) - len(parts) + 1)
    if len(parts) > len(shape):
        raise IndexError(f"{len(parts)} indices for an array of {len(shape)} axes.")
    parts += [slice(None)] * (len(shape) - len(parts))
    return [_pack_part(part, size) for part, size in zip(parts, shape, strict=True)]


def _pack_part(part: Any, size: int) -> Any:
    """Return one index of one axis as an int or ``[start, stop, step]``."""
    if isinstance(part, slice):
        start, stop, step = part.indices(size)
        if step < 1:
            raise IndexError(f"Only steps of 1 and more can be read, not {step}.")
        return [start, stop, step]
    if not isinstance(part, (int, np.integer)):
        raise IndexError(f"Only ints and slices can be read, not {part!r}.")
    if not -size <= part < size:
        raise IndexError(f"Index {part} is out of bounds for an axis of {size}.")
    return int(part) % size


def unpack_key(key: Key) -> tuple[int | slice, ...]:
    """Return the index that :func:`pack_key` made plain."""
    return tuple(slice(*part) if isinstance(part, list) else part for part in key)


def read_block(array: ArrayLike, key: Key) -> NDArray[Any]:
    """Return a block of any array-like (numpy, dask, zarr) as a contiguous numpy array."""
    return np.ascontiguousarray(np.asarray(array[unpack_key(key)]))
