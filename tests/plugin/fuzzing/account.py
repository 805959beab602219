"""An account of all labels: what the user has changed, what the network has written, and what nobody may have done."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet.plugin.layers.preview import is_preview
from napari_unet.plugin.layers.reading import label_index, note
from napari_unet.plugin.layers.result import ResultLayer

from .desk import PROOFREAD, TRAIN, Desk
from .vocabulary import ALL, NOTHING, PAINT, PROOF, Kind, is_labels

Said = tuple[str, str]
"""What kind of trouble, and in words."""


@dataclass
class Target:
    """A layer of labels as it was last seen.

    Attributes
    ----------
    layer : weak reference to Labels
        Which.
    values : NDArray
        What it held.
    touched : NDArray of bool
        The pixels that the user has changed, and the network has not written since.
    filled : set
        The planes in which the network has found cells.
    """

    layer: weakref.ref[Any]
    values: NDArray[Any]
    touched: NDArray[np.bool_]
    filled: set[tuple[int, ...]] = field(default_factory=set)

    @classmethod
    def of(cls, layer: Any) -> Target:
        """Return a layer that is new."""
        values = np.array(layer.data)
        return cls(weakref.ref(layer), values, np.zeros(values.shape, bool))


class Labels:
    """An account of its own of all labels: they change by what the user does to them, and by nothing else.

    The network writes into a result by :meth:`Result.write` alone. The account looks before and after each of these, so
    that it tells the pixels of the network from those of the user also where both come during one action, and finds a
    correction that is overwritten also where the user might have changed it.

    Parameters
    ----------
    desk : Desk
        Whose.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._known: dict[int, Target] = {}
        self._found: list[Said] = []
        self._kind = Kind(lambda desk: None, 0, {}, NOTHING)
        self._active_before: Any = None

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Look on whenever the network writes."""
        write = ResultLayer.write

        def watched(result: ResultLayer, viewer: Any, plane: tuple[int, ...], values: Any, tuning: Any) -> None:
            with self._writing(result.layer(), result.what, plane, label_index(result.axes, plane)):
                write(result, viewer, plane, values, tuning)

        ResultLayer.write = watched  # type: ignore[method-assign]
        try:
            yield
        finally:
            ResultLayer.write = write  # type: ignore[method-assign]

    def forget(self) -> None:
        """Begin anew, with another viewer."""
        self._known = {}

    def prepare(self, kind: Kind) -> None:
        """Remember what is about to be done, and what is worked on, as the action may select another layer."""
        self._kind, self._active_before = kind, self._desk.viewer.layers.selection.active

    def look(self) -> list[Said]:
        """Compare what is there with the account after an action, and return what is wrong."""
        layers = [layer for layer in self._desk.viewer.layers if _belongs_to_user(layer)]
        if not self._kind.removes:
            for known in self._known.values():
                layer = known.layer()
                if layer is None or layer not in self._desk.viewer.layers:
                    name = layer.name if layer is not None else "a layer"
                    self._found.append(("lost layer", f"{name} is gone"))
        allowed = self._allowed()
        for layer in layers:
            self._catch_up(layer, self._kind.edits == ALL or any(layer is one for one in allowed))
        self._known = {id(layer): self._known[id(layer)] for layer in layers}
        found, self._found = self._found, []
        return found

    def _allowed(self) -> list[Any]:
        """Return the layers that the user may have changed."""
        annotate, proofread = self._desk.dock(TRAIN), self._desk.dock(PROOFREAD)
        found = [proofread.view.result.layer()] if proofread is not None and self._kind.edits in (PAINT, PROOF) else []
        if self._kind.edits == PAINT:
            found += [self._desk.viewer.layers.selection.active, self._active_before]
            found += [annotate.view.annotation.layer()] if annotate is not None else []
        return found

    def _catch_up(self, layer: Any, allowed: bool) -> Target:
        """Take what has changed since for the user's, where that may be; else it is wrong."""
        known = self._known.get(id(layer))
        if known is None or known.layer() is not layer:
            known = self._known[id(layer)] = Target.of(layer)
            return known
        now = np.array(layer.data)
        if known.values.shape != now.shape:
            if not allowed:
                self._found.append(("lost labels", f"{layer.name} was {known.values.shape} and is {now.shape}"))
            known = self._known[id(layer)] = Target.of(layer)
            return known
        differs = known.values != now
        if allowed:
            known.touched |= differs
        else:
            self._complain("were changed by nobody", layer, differs, known.values, now)
        known.values = now
        return known

    def _complain(
        self, words: str, layer: Any, wrong: NDArray[np.bool_], before: NDArray[Any], now: NDArray[Any]
    ) -> None:
        if wrong.any():
            which = tuple(np.argwhere(wrong)[0].tolist())
            self._found.append(
                (
                    "lost labels",
                    f"{int(wrong.sum())} pixels of {layer.name} {words}, such as {which} from {before[which]} to "
                    f"{now[which]}",
                )
            )

    # --- what the network writes ------------------------------------------------------------------

    @contextlib.contextmanager
    def _writing(self, layer: Any, what: str, plane: tuple[int, ...], where: Any) -> Iterator[None]:
        """Look before and after the network writes a plane of a result."""
        if layer is None or not is_labels(layer) or layer not in self._desk.viewer.layers:
            yield
            return
        allowed = self._kind.edits == ALL or any(layer is one for one in self._allowed())
        known = self._catch_up(layer, allowed)
        yield
        now = np.array(layer.data)
        inside = np.zeros(now.shape, bool)
        inside[where] = True
        differs = known.values != now
        self._complain("beyond the plane were changed by the network", layer, differs & ~inside, known.values, now)
        if plane in known.filled:
            lost = differs & known.touched
        else:
            # Erased is not corrected where there was nothing to be seen yet.
            lost = np.zeros(now.shape, bool)
            lost[where] = _lost_paint(known.values[where], now[where], what == "instances")
        self._complain("that the user has changed were overwritten by the network", layer, lost, known.values, now)
        known.touched &= ~differs
        if (now[where][~known.touched[where]] > 0).any():
            known.filled.add(plane)
        else:
            known.filled.discard(plane)
        known.values = now


def _lost_paint(before: NDArray[Any], now: NDArray[Any], has_ids: bool) -> NDArray[np.bool_]:
    """Return the painted pixels that are not what they were, or are one with a cell of the network's."""
    painted = before > 0
    lost = painted & (before != now)
    return lost | (painted & np.isin(now, now[~painted])) if has_ids else lost


def _belongs_to_user(layer: Any) -> bool:
    """Return whether a layer is of labels that the user has made or may have corrected."""
    return is_labels(layer) and not is_preview(layer) and "errors" not in note(layer)
