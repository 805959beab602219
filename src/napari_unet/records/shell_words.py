"""Command lines as they are typed into a terminal."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence


def as_typed(words: Sequence[str]) -> str:
    """Return a command line as it is typed into a terminal of this system."""
    if os.name != "nt":
        return shlex.join(words)
    # PowerShell and cmd know double quotes alone, and PowerShell takes a comma for a list.
    plain = re.compile(r"[\w.:=+/\\-]+")
    return " ".join(word if plain.fullmatch(word) else f'"{word}"' for word in words)
