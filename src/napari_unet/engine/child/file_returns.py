"""What a job sends back in the background, while it goes on: files, and the events that speak of them.

Needs no torch.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from ..viewer.outbox import Outbox


class Returns:
    """Sends one bundle of files after the other, and knows which have arrived.

    A bundle that was not begun yet gives way to a newer one, which then has to hold its files too; on a slow
    connection checkpoints do not pile up.

    Parameters
    ----------
    send : callable
        Sends a message; may block.
    """

    def __init__(self, send: Callable[[dict[str, Any]], None]) -> None:
        self._send = send
        self._outbox = Outbox()
        self._changed = threading.Condition()
        self._last = self._arrived = 0
        self._gone = False
        self._waiting: dict[str, Any] = {}
        threading.Thread(target=self._pump, name="unet-returns", daemon=True).start()

    def put(self, job: int, files: dict[str, Any], event: dict[str, Any] | None) -> None:
        """Send files soon, and then the event; returns at once."""
        with self._changed:
            self._last += 1
            # What waits still is part of the newer bundle.
            self._waiting = {**self._waiting, **files}
            message = {"type": "files", "job": job, "number": self._last, "files": self._waiting, "event": event}
        self._outbox.put(message, key="files")

    def arrived(self, number: int) -> None:
        """Record that the viewer has written a bundle."""
        with self._changed:
            self._arrived = max(self._arrived, number)
            self._changed.notify_all()

    def leave(self) -> None:
        """Record that the viewer has gone."""
        with self._changed:
            self._gone = True
            self._changed.notify_all()

    def wait(self) -> bool:
        """Wait until everything has arrived; False if the viewer has gone."""
        with self._changed:
            self._changed.wait_for(lambda: self._gone or self._arrived >= self._last)
            return self._arrived >= self._last

    def _pump(self) -> None:
        """Send until the viewer has gone."""
        while not self._gone:
            message = self._outbox.get(timeout=1.0)
            if message is not None:
                with self._changed:
                    # Unless a newer one came just now, which has to hold these files as well.
                    if message["number"] == self._last:
                        self._waiting = {}
                self._send(message)
