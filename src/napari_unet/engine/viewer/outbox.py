"""The queue of messages to the child, and the only source of the thread that writes the pipe."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

_Item = tuple[dict[str, Any], str | None]


class Outbox:
    """A first-in, first-out queue; putting never blocks.

    A message with a key takes the place of an older one with the same key that was not sent yet, so
    that preview requests do not pile up while the pipe is busy.
    """

    def __init__(self) -> None:
        self._items: deque[_Item] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def put(self, message: dict[str, Any], key: str | None = None) -> None:
        """Append a message; after :meth:`close` it is dropped."""
        with self._changed:
            if self._closed:
                return
            if key is not None:
                self._items = deque(item for item in self._items if item[1] != key)
            self._items.append((message, key))
            self._changed.notify()

    def get(self, timeout: float) -> dict[str, Any] | None:
        """Return the oldest message, or None after ``timeout`` seconds or when closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._closed, timeout)
            return self._items.popleft()[0] if self._items and not self._closed else None

    @property
    def closed(self) -> bool:
        """Whether nothing more will be sent."""
        return self._closed

    def close(self) -> None:
        """Drop what was not sent, and wake the sender."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()
