"""A Python on another computer, over the system's own ssh: keys, agent and ``~/.ssh/config`` count as in a terminal.

Loading this module loads execnet.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import IO, Any

import execnet
from execnet.gateway_base import Popen2IO
from execnet.gateway_bootstrap import bootstrap

from ...core.distribution import DISTRIBUTION
from ...core.errors import EngineError
from .address import PATIENCE, Address

MARK = "napari-unet-listens"
# What the login there prints, before Python speaks, is read over up to the mark.
_CODE = f"import sys;print('{MARK}');sys.stdout.flush();exec(eval(sys.stdin.readline()))"
_LAST_WORDS = 3.0
"""Seconds that ssh has to exit after closing its output."""
_NOISE = 200
"""Maximum number of lines printed by a login."""


class SshIO(Popen2IO):
    """The pipe to the other computer, with execnet's interface."""

    def __init__(self, process: subprocess.Popen[bytes], errors: IO[bytes], group: execnet.Group) -> None:
        super().__init__(process.stdin, process.stdout, execmodel=group.execmodel)
        self.popen, self._errors = process, errors

    def said(self) -> str:
        """Return the error output of ssh or of the remote shell."""
        self._errors.seek(0)
        return self._errors.read(16_384).decode(errors="replace").strip()

    def wait(self) -> int:
        """Wait for ssh to end."""
        return self.popen.wait()

    def kill(self) -> None:
        """End ssh, and what it leads to."""
        self.popen.kill()

    def end(self) -> None:
        """Let ssh end by itself, as its exit code says why; end it when it does not."""
        try:
            self.popen.wait(_LAST_WORDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def await_mark(self) -> None:
        """Read until Python speaks.

        Raises
        ------
        EOFError
            When it never does.
        """
        for _ in range(_NOISE):
            line = self.infile.readline()
            if MARK.encode() in line:
                return
            if not line:
                break
        raise EOFError


class _Group(execnet.Group):
    """Ends its gateway also when the interpreter exits without ``close``."""

    def reach(self, io: SshIO, spec: execnet.XSpec) -> execnet.Gateway:
        """Return the gateway over a pipe at whose other end Python waits for code."""
        self.allocate_id(spec)
        spec.execmodel = self.remote_execmodel.backend
        gateway = bootstrap(io, spec)
        self._register(gateway)
        return gateway


def connect(address: Address, started: Callable[[SshIO], None]) -> execnet.Gateway:
    """Start a Python on the other computer.

    Parameters
    ----------
    address : Address
        Which.
    started : callable
        Told of the pipe before anything was said, so that it can be closed meanwhile.

    Raises
    ------
    EngineError
        When that fails; says why, and what to do.
    """
    group = _Group()
    io = _open(address, group)
    started(io)
    try:
        io.await_mark()
        return group.reach(io, execnet.XSpec(f"ssh={address.machine}"))
    except (EOFError, OSError, AssertionError, execnet.HostNotFound) as error:
        io.end()
        raise EngineError(describe_refusal(address, io.wait(), io.said())) from error


def _open(address: Address, group: execnet.Group) -> SshIO:
    """Start ssh."""
    # Apart from the viewer's terminal: Ctrl+C there is not meant for it.
    apart: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        apart = {"creationflags": subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP}
    errors = tempfile.TemporaryFile()
    command = address.command(_CODE)
    try:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, **apart)
    except OSError as error:
        raise EngineError(
            f"{command[0]} cannot be started: {error.strerror or error}. Computing on {address.name} needs the OpenSSH "
            "client on this computer."
        ) from error
    return SshIO(process, errors, group)


def describe_refusal(address: Address, code: int, said: str) -> str:
    """Explain why no Python was reached and what to do, from ssh's exit code and output."""
    advice = next((words for sign, words in _advice(address) if sign in said), "")
    if not advice and code in (126, 127):
        advice = (
            f"There is no Python {address.python} {address.where}. Write the path of the Python that has "
            f"{DISTRIBUTION} behind the address, as in {address.machine}/home/me/unet/bin/python."
        )
    last = said.splitlines()[-1].strip() if said else f"exit code {code}"
    advice = advice or f"Try this in a terminal, which has to print a version: {address.typed('-V')}"
    return f"{address.name} cannot be used for computing. {advice} (ssh says: {last})"


def _advice(address: Address) -> list[tuple[str, str]]:
    """Return advice by a pattern in ssh's output, the most specific first."""
    login = address.login()
    return [
        (
            "IDENTIFICATION HAS CHANGED",
            "It is not the computer that it was at the last connection: its host key has changed. Ask who runs it; if "
            f"that is right, remove the old key with: ssh-keygen -R {address.name}",
        ),
        (
            "Host key verification failed",
            f"Its host key is not known yet. Type once in a terminal, and say yes to the question: {login}",
        ),
        (
            "Permission denied",
            f"It accepts none of your keys. Take yours there with: {address.login('ssh-copy-id')}  If the key has a "
            "pass phrase, type ssh-add before napari starts.",
        ),
        ("Could not resolve hostname", "No computer of this name is known; look for a spelling mistake."),
        ("Connection refused", "It takes no ssh connections at this port; is the port right, and its ssh server on?"),
        ("No route to host", "It is not reached from this network; is it switched on, and the VPN connected?"),
        ("unreachable", "It is not reached from this network; is this computer online, and the VPN connected?"),
        ("timed out", f"It did not answer within {PATIENCE} seconds; is it switched on, and the VPN connected?"),
        ("Bad owner or permissions", "Your ssh configuration is not private; see the file that ssh names."),
    ]


def describe_loss(address: Address, code: int | None, said: str, log: str) -> str:
    """Describe how an established connection ended."""
    details = f" Details are in {log} {address.where}." if log else ""
    again = " Nothing in the viewer is lost; the next click reconnects."
    last = said.splitlines()[-1].strip() if said else ""
    if code == 255 and last:
        return f"The connection to {address.name} was lost ({last}).{again}{details}"
    cause = f" with exit code {code}" if code not in (None, 0, 255) else ", by hand or because its memory was full"
    return f"The backend {address.where} was ended{cause}.{again}{details}"
