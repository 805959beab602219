"""Virtual screens: one for each process that runs tests, as two programs on one take the keyboard from each other."""

from __future__ import annotations

import os
import shutil
import subprocess

OPTIONS = ["-screen", "0", "1280x800x24", "+extension", "GLX", "-nolisten", "tcp"]
"""As `.ci/with_display.py` has them."""


class Screens:
    """The screens of one run; closed together."""

    def __init__(self) -> None:
        self._servers: list[subprocess.Popen[bytes]] = []

    def open(self) -> str:
        """Start a screen and return its name for ``DISPLAY``; where Xvfb is missing, the one there is."""
        if shutil.which("Xvfb") is None:
            return os.environ.get("DISPLAY", "")
        answer, told = os.pipe()
        # It takes the first number that is free, and tells it once programs can connect.
        self._servers.append(subprocess.Popen(
            ["Xvfb", "-displayfd", str(told), *OPTIONS], pass_fds=[told], stderr=subprocess.DEVNULL
        ))  # fmt: skip
        os.close(told)
        with open(answer, encoding="ascii") as lines:
            number = lines.readline().strip()
        if not number:
            raise RuntimeError("Xvfb does not start; run it by hand to see why.")
        return f":{number}"

    def close(self) -> None:
        """End all servers."""
        for server in self._servers:
            server.terminate()
            server.wait(10)
        self._servers.clear()
