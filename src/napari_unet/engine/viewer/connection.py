"""The viewer's side of one child process: its pipe, its threads, and how it ended.

A :class:`Link` lives as long as its child. Three threads of the viewer's process belong to it:

- the *sender* starts the child, then writes everything that is put into the outbox;
- the *receiver* (execnet's) takes what the child says, and never waits;
- the *reader* answers the child's questions for parts of images, from numpy, dask or zarr, and for files.

So the main thread never touches the pipe.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.distribution import DISTRIBUTION, INSTALL, requirement
from ...core.errors import UNetError
from ..protocol.messages import PROTOCOL, Assembler, split
from .address import Address
from .outbox import Outbox

if TYPE_CHECKING:
    from .ssh import SshIO

_logger = logging.getLogger(__name__)

_ALIVE_EVERY = 30.0
"""Seconds between keep-alive messages to another computer."""
_QUESTIONS = ("read", "list", "file", "grow", "state")
"""Requests that the child may make."""

# Also runs where the package is missing, is of another version, or is another team's of the same import name.
_BOOTSTRAP = """
import sys
config = channel.receive()
# The user's working directory is no place to import modules from.
sys.path[:] = [folder for folder in sys.path if folder] + [p for p in config["path"] if p not in sys.path]
try:
    import napari_unet
    version = getattr(napari_unet, "__version__", "of another team")
except ImportError:
    version = ""
if version != config["version"]:
    channel.send({"type": "foreign", "of": 0, "version": version})
else:
    try:
        from napari_unet.engine.child.server import serve
    except ImportError as error:
        channel.send({"type": "fatal", "of": 0, "message": str(error)})
    else:
        serve(channel, config)
"""


class Link:
    """One child process and the connection to it.

    Parameters
    ----------
    address : Address or None
        Another computer; None for this one.
    config : dict
        Plain data for :class:`~napari_unet.engine.child.server.Server`.
    on_message : callable
        Called on the receiver thread with each message (dict) of the child.
    answer : callable
        ``answer(question)`` returns what the child asks for, as fields of a message; called on the reader thread.
    on_end : callable
        Called once, on some thread, with the reason when the child is gone.
    """

    def __init__(
        self,
        address: Address | None,
        config: dict[str, Any],
        on_message: Callable[[dict[str, Any]], None],
        answer: Callable[[dict[str, Any]], dict[str, Any]],
        on_end: Callable[[str], None],
    ) -> None:
        self._address, self._config = address, config
        self._on_message, self._answer, self._on_end = on_message, answer, on_end
        self.pid: int | None = None
        self.log = ""
        self._outbox = Outbox()
        self._reads: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._assembler = Assembler()
        self._numbers = itertools.count()
        self._gateway: Any = None
        self._ssh: SshIO | None = None
        self._reason = ""
        self._foreign = False
        self._ended = threading.Lock()
        self._gone = threading.Event()

    def open(self) -> None:
        """Start the child; returns at once."""
        threading.Thread(target=self._run_sender, name="unet-sender", daemon=True).start()
        threading.Thread(target=self._run_reader, name="unet-reader", daemon=True).start()

    def post(self, message: dict[str, Any], key: str | None = None) -> None:
        """Queue a message; see :class:`Outbox` for the key."""
        self._outbox.put(message, key)

    def close(self, timeout: float = 0.0) -> None:
        """End the child; wait up to ``timeout`` seconds for it to be gone."""
        self._finish("closed")
        self._gone.wait(timeout)

    # ---- threads ----------------------------------------------------------------------------------

    def _run_sender(self) -> None:
        """Start the child, then write the outbox to the pipe."""
        try:
            channel = self._start_child()
        except UNetError as error:
            self._finish(str(error))
            return
        except Exception as error:
            # No interpreter, no memory: whatever it is, the dock has to report it.
            _logger.warning("the backend cannot be started", exc_info=True)
            self._finish(f"The backend cannot be started: {type(error).__name__}: {error}")
            return
        if self._ended.locked():
            self._release(0.0)  # closed while it started
            return
        try:
            self._pump(channel)
        except OSError:
            self._finish()  # a broken pipe: the child is gone
        except Exception as error:
            _logger.exception("a message could not be sent")
            self._finish(f"A message could not be sent to the backend: {type(error).__name__}: {error}")

    def _pump(self, channel: Any) -> None:
        """Send messages until the outbox is closed."""
        remote, said = self._address is not None, time.monotonic()
        while not self._outbox.closed:
            message = self._outbox.get(timeout=1.0)
            if remote and message is None and time.monotonic() > said + _ALIVE_EVERY:
                message = {"type": "alive"}
            for raw in split(message, next(self._numbers), packed=remote) if message else ():
                channel.send(raw)
            said = time.monotonic() if message else said
            # A dead child whose pipe another process holds open is noticed here.
            if self._process is not None and self._process.poll() is not None:
                self._finish()

    def _start_child(self) -> Any:
        """Start the child and return the channel to it."""
        self._gateway = self._open_gateway()
        channel = self._gateway.remote_exec(_BOOTSTRAP)
        channel.send(self._config)
        channel.setcallback(self._receive, endmarker=None)
        return channel

    def _open_gateway(self) -> Any:
        """Start a Python, here or there."""
        if self._address is not None:
            from .ssh import connect

            return connect(self._address, self._note_ssh)
        import execnet

        if not sys.executable:
            raise OSError("this program names no Python interpreter (sys.executable is empty)")
        # A group of its own: it ends the child also when the interpreter exits without `close`.
        return execnet.Group().makegateway("popen")

    def _note_ssh(self, ssh: SshIO) -> None:
        """Keep the pipe to the other computer, to be closed also while it connects."""
        self._ssh = ssh
        if self._ended.locked():
            ssh.kill()

    def _receive(self, raw: dict[str, Any] | None) -> None:
        """Take one message of the child; None when the pipe is closed."""
        if raw is None:
            threading.Thread(target=self._finish, name="unet-end", daemon=True).start()
            return
        try:
            message = self._assembler.accept(raw)
            if message is not None:
                self._dispatch(message)
        except Exception:
            # Raising here would make execnet close the channel; one bad message is no reason for that.
            _logger.exception("a message from the backend could not be handled")

    def _dispatch(self, message: dict[str, Any]) -> None:
        """Handle messages on the connection itself, and pass on the rest."""
        if self._ended.locked() or self._foreign:
            return
        kind = message["type"]
        if kind in _QUESTIONS:
            self._reads.put(message)
            return
        if kind == "hello":
            self.pid, self.log = message["pid"], message["log"]
        if kind == "foreign" or (kind == "hello" and message["protocol"] != PROTOCOL):
            self._foreign = True
            reason = self._describe_other(message.get("version", ""))
            threading.Thread(target=self._finish, args=(reason,), name="unet-end", daemon=True).start()
            return
        if kind == "fatal":
            self._reason = f"The backend{self._there} cannot start: {message['message']}"
        self._on_message(message)

    def _describe_other(self, version: str) -> str:
        """Return a message on a version mismatch, or None."""
        wanted = self._config["version"]
        if self._address is None:
            return f"The backend is of another version of {DISTRIBUTION}; install the same on both."
        there = self._address
        has = f"has napari_unet {version}" if version and version != wanted else f"has no {DISTRIBUTION}"
        has = "has another napari_unet of the same number" if version == wanted else has
        command = there.typed(*INSTALL, requirement(DISTRIBUTION, wanted))
        why = f"The Python {there.python} {there.where} {has}, this computer has {wanted}."
        return f"{why} Copy the wheel of this version there and install it: {command}"

    @property
    def _there(self) -> str:
        """Where the child is, unless it is here; with a blank in front."""
        return f" {self._address.where}" if self._address is not None else ""

    def _run_reader(self) -> None:
        """Answer the child's questions for parts of images and for files."""
        while (message := self._reads.get()) is not None:
            answer = {"type": "block", "request": message["request"]}
            try:
                self.post({**answer, **self._answer(message)})
            except UNetError as error:
                self.post({**answer, "error": str(error)})
            except Exception as error:
                # Whatever a lazy array raises is the job's failure, never this thread's.
                _logger.warning("a part of the image could not be read", exc_info=True)
                self.post({**answer, "error": f"The image cannot be read: {type(error).__name__}: {error}"})

    # ---- the end ----------------------------------------------------------------------------------

    @property
    def _process(self) -> subprocess.Popen[bytes] | None:
        """The local process: the child itself, or the ssh client that leads to it."""
        return getattr(self._ssh or getattr(self._gateway, "_io", None), "popen", None)

    def _finish(self, reason: str = "") -> None:
        """Release everything once, and report why it ended."""
        if not self._ended.acquire(blocking=False):
            return
        self._outbox.close()
        self._reads.put(None)
        if reason == "closed":
            threading.Thread(target=self._release, args=(3.0,), name="unet-end", daemon=True).start()
            self._on_end("")
            return
        code = self._release(1.0)
        self._on_end(reason or self._reason or self._describe_end(code))

    def _describe_end(self, code: int | None) -> str:
        """Describe how the child ended, from its exit code and log."""
        if self._address is None or self._ssh is None:
            return describe_end(code, self.log)
        from .ssh import describe_loss

        return describe_loss(self._address, code, self._ssh.said(), self.log)

    def _release(self, patience: float) -> int | None:
        """Close the gateway, end the process if it does not end by itself, and return its exit code."""
        process = self._process
        if self._gateway is not None:
            # In a thread, because it waits for a write that a hanging child may never take.
            threading.Thread(target=self._gateway.exit, name="unet-exit", daemon=True).start()
        code = None
        if process is not None:
            try:
                code = process.wait(patience)
            except subprocess.TimeoutExpired:
                process.kill()
                code = process.wait()
        self._gone.set()
        return code


def describe_end(code: int | None, log: str) -> str:
    """Describe how a process ended, from its exit code (negative: signal)."""
    details = f" Details are in {log}." if log and log != os.devnull else ""
    again = " Nothing in the viewer is lost; the next click starts it again."
    if code is None:
        return f"The connection to the backend was lost.{details}{again}"
    if code >= 0:
        last = _last_line(log)
        said = f" with: {last}" if last else ""
        return f"The backend stopped unexpectedly with exit code {code}{said}.{details}{again}"
    name = str(-code)
    with contextlib.suppress(ValueError):
        name = f"{-code} ({signal.Signals(-code).name})"
    cause = ""
    if code == -getattr(signal, "SIGKILL", 9):
        cause = ", most likely because the memory was full, or by hand"
    return f"The backend was stopped by signal {name}{cause}.{details}{again}"


def _last_line(log: str) -> str:
    """Return the last line of a log file, such as the end of a traceback."""
    try:
        lines = Path(log).read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1].strip() if lines else ""
