"""Runs the command line in a process of its own: work that needs torch, without torch in the viewer."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from qtpy.QtCore import QObject, QProcess, QTimer

from ...core.distribution import COMMAND

_ERROR = f"{COMMAND}: error: "


class Command(QObject):
    """One command of ``napari-unet`` at a time, started by a click and ended with the dock.

    Parameters
    ----------
    parent : QObject, optional
        With which it goes.
    """

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._process: QProcess | None = None
        self._done: Callable[[str], None] | None = None
        self._failed: Callable[[str], None] | None = None
        self._cancelled = False

    @property
    def running(self) -> bool:
        """Whether a command is under way."""
        return self._process is not None

    @property
    def pid(self) -> int | None:
        """Process id of the command, while there is one."""
        return int(self._process.processId()) or None if self._process is not None else None

    def run(self, words: Sequence[str], done: Callable[[str], None], failed: Callable[[str], None]) -> None:
        """Start a command; call ``done`` with what it prints, or ``failed`` with its error in words."""
        self._done, self._failed, self._cancelled = done, failed, False
        process = QProcess(self)
        self._process = process
        process.finished.connect(self._on_finished)
        process.errorOccurred.connect(self._on_error)
        # -P: a file of the user's that is called like a library must not take its place.
        process.start(sys.executable, ["-P", "-m", "napari_unet", *words])

    def cancel(self) -> None:
        """End the command; it leaves nothing half written."""
        if self._process is not None:
            self._cancelled = True
            self._process.kill()

    def close(self) -> None:
        """End the command, which is gone a moment later; nobody is told."""
        process, self._process = self._process, None
        self._done = self._failed = None
        if process is not None:
            process.finished.disconnect(self._on_finished)
            process.errorOccurred.disconnect(self._on_error)
            _end(process)

    def _on_finished(self, code: int, status: object = None) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        said = bytes(process.readAllStandardOutput().data()).decode("utf-8", "replace")
        error = bytes(process.readAllStandardError().data()).decode("utf-8", "replace")
        process.deleteLater()
        if code == 0 and status == QProcess.ExitStatus.NormalExit:
            self._tell(self._done, said)
        else:
            self._tell(self._failed, "Cancelled." if self._cancelled else _reason(error, code))

    def _on_error(self, error: object) -> None:
        """Tell when Python itself could not be started; other errors end in :meth:`_on_finished`."""
        if error == QProcess.ProcessError.FailedToStart and self._process is not None:
            words, self._process = self._process.errorString(), None
            self._tell(self._failed, f"Python cannot be started for this ({sys.executable}): {words}.")

    def _tell(self, listener: Callable[[str], None] | None, words: str) -> None:
        if listener is not None:
            listener(words)


_ENDING: set[QProcess] = set()


def _end(process: QProcess) -> None:
    """Kill a process, and keep its object until it is gone: Qt would wait for that, and the viewer with it."""
    process.setParent(None)
    if process.state() == QProcess.ProcessState.NotRunning:
        return
    _ENDING.add(process)
    # Later: not while the object itself tells of its end.
    process.finished.connect(lambda *_: QTimer.singleShot(0, lambda: _ENDING.discard(process)))
    process.kill()


def _reason(error: str, code: int) -> str:
    """Return the readable line of what a command printed as its error."""
    lines = [line for line in error.splitlines() if line.strip()]
    told = [line.removeprefix(_ERROR) for line in lines if line.startswith(_ERROR)]
    return told[-1] if told else f"The command ended with {code}: {lines[-1] if lines else 'it said nothing'}"
