"""Small JSON files in the home folder: written whole or not at all; a damaged one is put aside, never in the way."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from ...core.errors import StoreError

_logger = logging.getLogger(__name__)


def read_kept(path: Path) -> dict[str, Any]:
    """Return what a file holds; nothing when there is none, or when it cannot be used.

    A damaged file is renamed to ``*.damaged``, so that what stood in it is not lost, and a warning is logged.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        _logger.warning("%s cannot be read and is ignored: %s", path, error.strerror or error)
        return {}
    except ValueError as error:
        return _put_aside(path, f"it is no JSON ({error})")
    return values if isinstance(values, dict) else _put_aside(path, "it holds no list of names with values")


def _put_aside(path: Path, why: str) -> dict[str, Any]:
    """Rename a file that is of no use, and return nothing."""
    kept = path.with_name(f"{path.name}.damaged")
    try:
        path.replace(kept)
    except OSError as error:
        _logger.warning("%s is ignored, as %s; it cannot be put aside: %s", path, why, error.strerror or error)
    else:
        _logger.warning("%s is ignored, as %s; it was put aside as %s.", path, why, kept.name)
    return {}


def write_kept(path: Path, values: dict[str, Any]) -> None:
    """Write a file whole or not at all.

    Raises
    ------
    StoreError
        When it cannot be written.
    """
    partial = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(values, indent=2, ensure_ascii=False), encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror or error}.") from error
