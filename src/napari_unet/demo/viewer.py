"""Open napari with the layers of a demo: ``python -m napari_unet.demo FOLDER``.

A process of its own, so that Qt and torch never share one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .. import stores
from ..core.distribution import DISTRIBUTION, install_extra

LAYERS_NAME = "layers.json"


def missing() -> str | None:
    """Return why no viewer can be opened here, or None when one can."""
    if find_spec("napari") is None or not any(map(find_spec, ("PyQt6", "PySide6", "PyQt5"))):
        return f"napari with a Qt binding is not installed: {install_extra('pyqt6')}"
    needs_server = not (sys.platform.startswith("win") or sys.platform == "darwin")
    if needs_server and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return "there is no display"
    return None


def write_layers(folder: Path, layers: Sequence[dict[str, Any]]) -> None:
    """Write which files the viewer shows: each with ``name``, ``kind`` (image or labels), ``path`` and options."""
    path = folder / LAYERS_NAME
    with stores.writing(path):
        path.write_text(json.dumps(list(layers), indent=2) + "\n", encoding="utf-8")


def open_viewer(folder: Path) -> int:
    """Open napari in a process of its own, wait until it is closed, and return its exit code."""
    return subprocess.run([sys.executable, "-m", str(__package__), str(folder)], check=False).returncode


def add_layers(viewer: Any, folder: Path) -> None:
    """Add the layers of a demo to a viewer, as lazily as their files allow."""
    for layer in json.loads((folder / LAYERS_NAME).read_text(encoding="utf-8")):
        path, options = folder / layer["path"], layer.get("options", {})
        if layer["kind"] == "labels":
            viewer.add_labels(stores.open_labels(path)[...].astype("int32"), name=layer["name"], **options)
            continue
        planes = stores.open_picture(path, layer.get("axes")).planes
        options |= {"rgb": True} if planes.rgb else {}
        channel = {} if planes.rgb or "c" not in planes.axes else {"channel_axis": planes.axes.index("c")}
        viewer.add_image(planes.arrays[0][...], name=layer["name"], **options, **channel)


def main(argv: Sequence[str] | None = None) -> int:
    """Open napari with the layers of the folder that is named."""
    import napari

    folder = Path((argv if argv is not None else sys.argv[1:])[0])
    viewer = napari.Viewer(title=f"{DISTRIBUTION} demo, {folder}")
    add_layers(viewer, folder)
    viewer.reset_view()
    napari.run()
    return 0
