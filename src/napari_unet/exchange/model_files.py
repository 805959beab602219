"""What every export begins with: the files of a model, and what is published with it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import ModelError
from ..core.network.model_card import CARD_NAME, THUMBNAIL_NAME, model_path, read_file
from ..core.network.model_io import INPUT_NAME, OUTPUT_NAME, WEIGHTS_NAME

MODEL_FILES = (CARD_NAME, WEIGHTS_NAME, INPUT_NAME, OUTPUT_NAME)


@dataclass(frozen=True)
class Details:
    """What other people want to know of a published model.

    Attributes
    ----------
    author : str
        Who made it.
    licence : str
        SPDX name of the licence, such as CC-BY-4.0.
    """

    author: str = ""
    licence: str = "CC-BY-4.0"


def copy_files(model: str | Path, folder: Path) -> None:
    """Copy the files of a model into a folder as they are, so that their hashes stay."""
    folder.mkdir(parents=True, exist_ok=True)
    source = model_path(model)
    for name in MODEL_FILES:
        (folder / name).write_bytes(read_file(source, name))
    with contextlib.suppress(ModelError):
        # A model need not have a picture.
        (folder / THUMBNAIL_NAME).write_bytes(read_file(source, THUMBNAIL_NAME))
