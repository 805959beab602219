"""``napari-unet export``: a model for another place or program."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ..core.errors import StoreError
from ..core.network.model_card import read_card
from ..stores import check_output

KINDS = {
    "zip": "one file, for this plugin on another computer",
    "folder": "a model folder",
    "onnx": "the network alone, for any ONNX runtime (extra onnx)",
    "bioimageio": "a bioimage.io package, for Fiji, ilastik and others; this plugin reads it too (extra bioimageio)",
}
_ENDINGS = {"zip": ".zip", "onnx": ".onnx", "bioimageio": ".zip"}


def export(arguments: argparse.Namespace) -> int:
    """Export a model, verify the export, and print what was verified."""
    kind = arguments.format or kind_of(arguments.output)
    path = arguments.output
    ending = _ENDINGS.get(kind, "")
    if path.suffix.lower() != ending and kind != "folder":
        raise StoreError(f"{path} has to end in {ending} for the format {kind}.")
    check_output(path, arguments.overwrite, Path(arguments.model))
    read_card(arguments.model)
    # Loads torch, which takes seconds, so cheap checks come first.
    from ..exchange import Details
    from ..exchange import export as write

    done = write(arguments.model, path, kind, Details(arguments.author, arguments.licence))
    if arguments.json:
        print(
            json.dumps(
                {
                    "path": str(done.path),
                    "bytes": done.size,
                    "difference": done.difference,
                    "checked": list(done.checked),
                }
            )
        )
        return 0
    print(
        f"{done.path}: {done.size / 1e6:.1f} MB; {', '.join(done.checked)} (largest difference {done.difference:.2g})"
    )
    return 0


def kind_of(path: Path) -> str:
    """Return the format that a name asks for."""
    return {".zip": "zip", ".onnx": "onnx"}.get(path.suffix.lower(), "folder")
