"""Marks of checked cells beside the file of their labels."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ..core.errors import DataError, StoreError
from ..core.proofreading.review import Marks, marks_from_plain, marks_to_plain

FORMAT = 2
ENDING = ".checked.json"


def marks_path(labels: Path) -> Path:
    """Return where the marks on saved labels are."""
    return labels.with_name(labels.name + ENDING)


def write_marks(labels: Path, marks: Marks) -> None:
    """Write marks beside the file of their labels; without any, those of an earlier time are taken away.

    Raises
    ------
    StoreError
        When that is not possible.
    """
    path = marks_path(labels)
    try:
        if marks:
            write_json(path, {"napari_unet_checked": FORMAT, "cells": marks_to_plain(marks)})
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(
            f"The marks of checked cells cannot be written to {path}: {error.strerror or error}."
        ) from error


def read_marks(labels: Path) -> Marks:
    """Return the marks beside a file of labels; none where there is no such file.

    Raises
    ------
    StoreError
        When they cannot be read.
    """
    path = marks_path(labels)
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["napari_unet_checked"] != FORMAT:
            raise ValueError(f"format {stored['napari_unet_checked']}, but this version reads {FORMAT}")
        return marks_from_plain(stored["cells"])
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, DataError) as error:
        raise StoreError(f"The marks of checked cells in {path} cannot be read: {error}.") from error


def write_json(path: Path, values: Any) -> None:
    """Write a file whole or not at all."""
    partial = path.with_name(f".{path.name}.part")
    partial.write_text(json.dumps(values), encoding="utf-8")
    os.replace(partial, path)
