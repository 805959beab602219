"""Keys, clicks, drags and brush strokes on a Labels layer, handed on for as long as it is proofread."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..settings.preferences import current
from ..settings.shortcut_names import napari_key
from .view import ACTIONS, MORE_KEYS, key_of

if TYPE_CHECKING:
    from napari.layers import Labels

Point = tuple[int, int]
_STILL = 4.0
"""Screen pixels that the mouse may move between press and release of a click."""


class Listener(Protocol):
    """Receives user input on the layer; points are y, x in pixels of the plane on screen."""

    def is_open(self) -> bool:
        """Return whether to send events."""

    def act(self, name: str) -> None:
        """Take an action by its key."""

    def on_move(self, point: Point) -> None:
        """Handle a move of the mouse."""

    def on_click(self, point: Point) -> None:
        """Take a click."""

    def on_drag(self, path: list[Point]) -> None:
        """Follow a line while it is drawn."""

    def on_drawn(self, path: list[Point]) -> None:
        """Take a line."""

    def draws(self) -> bool:
        """Return whether dragging draws a line now; else it moves the picture."""

    def on_stroke_begin(self) -> None:
        """Remember the labels before the brush changes them."""

    def on_stroke(self) -> None:
        """Take what the brush, the bucket or the polygon has changed."""

    def on_pixels(self, offset: tuple[int, ...], shape: tuple[int, ...]) -> None:
        """Handle a redrawn part of the screen, given by its offset and shape."""

    def on_data(self) -> None:
        """Handle redrawn labels, which may have changed."""

    def on_mode(self) -> None:
        """Handle another mode of the layer."""


class LayerHooks:
    """Attaches a listener to a layer.

    Parameters
    ----------
    layer : Labels
        Held weakly.
    listener : Listener
        Receives the events.
    where : callable
        Returns y, x of a mouse event in the plane on screen.
    """

    def __init__(self, layer: Labels, listener: Listener, where: Callable[[Any], Point]) -> None:
        self._layer = weakref.ref(layer)
        self._listener, self._where = listener, where
        self._keys = dict(layer.keymap)
        self.bind()
        # Before what the layer's own mode does at a press, so that labels can be remembered first.
        layer.mouse_drag_callbacks.insert(0, self._on_press)
        layer.mouse_move_callbacks.append(self._on_move)
        layer.events.paint.connect(self._on_paint)
        layer.events.mode.connect(self._on_mode)
        layer.events.set_data.connect(self._on_data)
        layer.events.labels_update.connect(self._on_pixels)

    def bind(self) -> None:
        """Bind the keys that are preferred now, and no longer those before."""
        layer = self._layer()
        if layer is None:
            return
        self._release(layer)
        for action in (*ACTIONS, *MORE_KEYS):
            layer.bind_key(napari_key(key_of(action, current())), self._key(action.name), overwrite=True)

    def _release(self, layer: Labels) -> None:
        layer.keymap.clear()
        layer.keymap.update(self._keys)

    def close(self) -> None:
        """Leave the layer as it was."""
        layer = self._layer()
        if layer is None:
            return
        self._release(layer)
        layer.mouse_drag_callbacks.remove(self._on_press)
        layer.mouse_move_callbacks.remove(self._on_move)
        layer.events.paint.disconnect(self._on_paint)
        layer.events.mode.disconnect(self._on_mode)
        layer.events.set_data.disconnect(self._on_data)
        layer.events.labels_update.disconnect(self._on_pixels)

    def _key(self, name: str) -> Callable[[Any], None]:
        return lambda layer: self._listener.act(name)

    def _on_paint(self, event: Any = None) -> None:
        if self._listener.is_open():
            self._listener.on_stroke()

    def _on_pixels(self, event: Any) -> None:
        if self._listener.is_open():
            self._listener.on_pixels(tuple(event.offset), tuple(event.data.shape))

    def _on_data(self, event: Any = None) -> None:
        self._listener.on_data()

    def _on_mode(self, event: Any = None) -> None:
        if self._listener.is_open():
            self._listener.on_mode()

    def _on_move(self, layer: Any, event: Any) -> None:
        if self._listener.is_open():
            self._listener.on_move(self._where(event))

    def _on_press(self, layer: Any, event: Any) -> Iterator[None]:
        """Tell a click from a drag."""
        if not self._listener.is_open():
            return
        if str(layer.mode) != "pan_zoom":
            self._listener.on_stroke_begin()
            return
        if event.button != 1 or len(event.dims_displayed) != 2:
            return
        begin, path, moved = np.asarray(event.pos, float), [self._where(event)], False
        yield
        while event.type == "mouse_move":
            moved = moved or bool(np.abs(np.asarray(event.pos) - begin).max() > _STILL)
            if self._listener.draws() and self._where(event) != path[-1]:
                path.append(self._where(event))
                self._listener.on_drag(path)
            yield
        if not moved:
            self._listener.on_click(path[0])
        elif self._listener.draws():
            self._listener.on_drawn(path)
