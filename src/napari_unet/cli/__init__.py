"""The command line: the same settings, checks and generators as the docks, for terminals and scripts.

Exit code 0 means done, 1 failed, 2 wrong usage, 130 stopped. User errors are one line on the standard error.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from ..core.distribution import COMMAND, clash
from ..core.errors import SettingsError, UNetError

FAILED, MISUSED, STOPPED = 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments after the program's name; by default those of this process.
    """
    from .parser import build_parser

    if warning := clash():
        print(f"{COMMAND}: warning: {warning}", file=sys.stderr)
    arguments = build_parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except SettingsError as error:
        return _complain(error, MISUSED)
    except UNetError as error:
        return _complain(error, FAILED)
    except BrokenPipeError:
        # The reader of the output has gone, as with `| head`; Python would complain again on exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except MemoryError as error:
        return _complain(f"Too little memory: {error or 'the image is too large'}.", FAILED)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _complain(f"{where}{error.strerror or error}", FAILED)
    except KeyboardInterrupt:
        return _complain("stopped; nothing was written", STOPPED)


def _complain(problem: object, code: int) -> int:
    """Print one line about a problem and return the exit code."""
    print(f"{COMMAND}: error: {' '.join(str(problem).split())}", file=sys.stderr)
    return code
