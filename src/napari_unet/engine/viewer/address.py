"""Where the engine computes: on this computer, or on one that ssh reaches. Needs no torch."""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass

from ...core.errors import SettingsError

LOCAL = "local"
"""The address of this computer; an empty one means the same."""
HERE = "on this computer"
PYTHON = "python3"
"""Started on the other computer when the address names no Python."""
SSH_VARIABLE = "NAPARI_UNET_SSH"
"""Environment variable with another command than ``ssh``, as in ``ssh -F my-config``."""
PATIENCE = 10
"""Seconds for which ssh tries to connect."""
# ssh asks no questions, and notices within a minute that the other side is gone. It does not compress, because
# what crosses is compressed already, and better, see `packing`.
_OPTIONS = {
    "BatchMode": "yes",
    "ConnectTimeout": PATIENCE,
    "ServerAliveInterval": 15,
    "ServerAliveCountMax": 4,
    "Compression": "no",
}

_TEXT = re.compile(
    r"(?:(?P<user>[\w.-]+)@)?(?P<host>\[[0-9A-Fa-f:.]+\]|\w(?:[\w.-]*\w)?)(?::(?P<port>[0-9]{1,5}))?(?P<python>/.+)?",
    re.ASCII,
)


@dataclass(frozen=True)
class Address:
    """Another computer to compute on.

    Attributes
    ----------
    machine : str
        As ssh takes it: ``name@computer``, ``computer``, or a host of ``~/.ssh/config``.
    port : int
        Port of its ssh; 0 when ssh is to choose.
    python : str
        The Python there that has this package; a path that begins with ``~/`` is one in the home folder.
    """

    machine: str
    port: int = 0
    python: str = PYTHON

    @property
    def name(self) -> str:
        """The computer without the user's name, for short messages."""
        return self.machine.rpartition("@")[2]

    @property
    def where(self) -> str:
        """Where work is done, as in ``"on gpu-box"``."""
        return f"on {self.name}"

    def login(self, program: str = "") -> str:
        """Return the command that a user types in a terminal to get there, by ssh or a program that is used alike."""
        return shlex.join([*([program] if program else _program()), *self._port(), self.machine])

    def typed(self, *words: str) -> str:
        """Return the command that a user types here to run the Python there."""
        return f"{self.login()} {shlex.quote(self.remote(*words))}"

    def command(self, code: str) -> list[str]:
        """Return the command that runs one line of Python there, connected to its input and output."""
        options = [word for name, value in _OPTIONS.items() for word in ("-o", f"{name}={value}")]
        options += ["-T", "-a", "-x", *self._port()]
        return [*_program(), *options, "--", self.machine, self.remote("-u", "-c", code)]

    def remote(self, *words: str) -> str:
        """Return a command line of the Python there, for the shell there."""
        # Double quotes, because they mean the same in the shells of Unix and of Windows.
        quoted = [word if re.fullmatch(r"[\w./=-]+", word) else f'"{word}"' for word in words]
        return " ".join([_shell_path(self.python), *quoted])

    def _port(self) -> list[str]:
        return ["-p", str(self.port)] if self.port else []


def parse_address(text: str) -> Address | None:
    """Return the other computer that an address names, or None for this one.

    Parameters
    ----------
    text : str
        ``name@computer``, with ``:port`` and ``/path/of/python`` behind it if they are needed, as in
        ``anna@gpu.lab:2222/home/anna/unet/bin/python``; ``/~/`` begins a path in the home folder there. Empty or
        ``"local"``: this computer.

    Raises
    ------
    SettingsError
        When it is none.
    """
    text = text.strip().removeprefix("ssh://")
    if text in ("", LOCAL):
        return None
    found = _TEXT.fullmatch(text)
    port = int(found["port"] or 0) if found else 0
    if found is None or port > 65535 or (found["port"] and not port):
        raise SettingsError(
            f"{text!r} is no address of a computer; it is written as name@computer, name@computer:port, or "
            "name@computer:port/path/of/python. Leave it empty to compute on this computer."
        )
    host = found["host"].strip("[]")
    python = (found["python"] or PYTHON).rstrip()
    return Address(
        f"{found['user']}@{host}" if found["user"] else host, port, python[1:] if python.startswith("/~/") else python
    )


def _program() -> list[str]:
    """Return the ssh to use."""
    return shlex.split(os.environ.get(SSH_VARIABLE, "")) or ["ssh"]


def _shell_path(path: str) -> str:
    """Return a path as one word for the shell there, which has to see the ``~`` that it begins with."""
    if re.fullmatch(r"[\w./~+-]+", path):
        return path
    home = "~/" if path.startswith("~/") else ""
    return home + shlex.quote(path.removeprefix(home))
