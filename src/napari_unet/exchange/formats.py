"""Exports by name: written beside the place, read back, run, and only then put there."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import StoreError
from ..core.network.model_card import check_place
from ..core.network.model_io import load_model, verify_model
from .model_files import Details, copy_files


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes
    ----------
    path : Path
        File or folder.
    size : int
        Bytes.
    difference : float
        Largest difference between what the export computes and what the model does.
    checked : tuple of str
        What was checked, in words.
    """

    path: Path
    size: int
    difference: float
    checked: tuple[str, ...]


def export(model: str | Path, path: Path, kind: str, details: Details | None = None) -> Exported:
    """Write a model for another place or program, and check it there.

    Parameters
    ----------
    model : str or Path
        Folder, zip or ``"bundled"``.
    path : Path
        What to write; replaced when it is a model or file already.
    kind : str
        One of :data:`FORMATS`.
    details : Details, optional
        For bioimage.io.

    Raises
    ------
    StoreError
        When the place cannot be written, or holds something else.
    ModelError
        When the model is damaged, a library is missing, or the export does not compute the same.
    """
    if kind in ("folder", "zip"):
        check_place(path)
    elif path.is_dir():
        raise StoreError(f"{path} is a folder; give the name of a file.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".export-", dir=path.parent) as folder:
            made = Path(folder) / path.name
            difference, checked = FORMATS[kind](model, made, details or Details())
            _put(made, path)
    except OSError as error:
        raise StoreError(f"The model cannot be exported to {path}: {error.strerror or error}.") from error
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return Exported(path, sum(p.stat().st_size for p in files), difference, checked)


def _put(made: Path, path: Path) -> None:
    """Move what was made and checked into place; what was there goes with the temporary folder."""
    if path.is_dir():
        path.rename(made.with_name(f"{made.name}.old"))
    made.replace(path)


def _to_folder(model: str | Path, path: Path, details: Details) -> tuple[float, tuple[str, ...]]:
    """Write a model folder."""
    copy_files(model, path)
    return verify_model(path), ("read back", "its test output reproduced")


def _to_zip(model: str | Path, path: Path, details: Details) -> tuple[float, tuple[str, ...]]:
    """Write one zip."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        copy_files(model, Path(folder))
        shutil.make_archive(str(path.with_suffix("")), "zip", folder)
    return verify_model(path), ("read back", "its test output reproduced")


def _to_onnx(model: str | Path, path: Path, details: Details) -> tuple[float, tuple[str, ...]]:
    """Write ONNX."""
    from .to_onnx import export_onnx

    return export_onnx(load_model(model), path), ("run by onnxruntime at two sizes", "equal to torch")


def _to_bioimageio(model: str | Path, path: Path, details: Details) -> tuple[float, tuple[str, ...]]:
    """Write a bioimage.io package."""
    from .to_bioimageio import export_bioimageio

    return export_bioimageio(model, path, details)


FORMATS: dict[str, Callable[[str | Path, Path, Details], tuple[float, tuple[str, ...]]]] = {
    "zip": _to_zip,
    "folder": _to_folder,
    "onnx": _to_onnx,
    "bioimageio": _to_bioimageio,
}
"""The kinds of export and what writes them."""
