"""Run a command with a display: ``python .ci/with_display.py COMMAND [ARGUMENT ...]``.

On Linux the command gets a virtual screen of its own (``xvfb-run``) where that is installed, so that
no window pops up in front of whoever runs the tests. Otherwise it gets the display there is, and
without any display Qt's ``offscreen`` platform, which has no OpenGL.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence

SCREEN = ["-a", "-s", "-screen 0 1280x800x24 +extension GLX"]


def with_display(command: Sequence[str], environment: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """Return the command and the environment to run it in."""
    changed = dict(environment)
    if not sys.platform.startswith("linux"):
        return list(command), changed
    xvfb = shutil.which("xvfb-run")
    if xvfb:
        changed.pop("WAYLAND_DISPLAY", None)
        changed["QT_QPA_PLATFORM"] = "xcb"
        return [xvfb, *SCREEN, *command], changed
    if not (changed.get("DISPLAY") or changed.get("WAYLAND_DISPLAY")):
        print("No display and no xvfb-run: using Qt's offscreen platform, without OpenGL.", file=sys.stderr)
        changed["QT_QPA_PLATFORM"] = "offscreen"
    return list(command), changed


def main() -> int:
    """Run the command line's command and return its exit code."""
    if len(sys.argv) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    command, environment = with_display(sys.argv[1:], os.environ)
    return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
