"""A model on disk: a folder or one zip with weights, card, test input and expected output.

Weights are safetensors and arrays plain ``.npy``, so that loading never unpickles anything.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import shutil
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from ..errors import ModelError, SettingsError, StoreError
from .model_card import BUNDLED, CARD_NAME, Card, bundled_models, check_place, model_path, read_card, read_file
from .unet import UNet

WEIGHTS_NAME = "weights.safetensors"
INPUT_NAME = "test_input.npy"
OUTPUT_NAME = "test_output.npy"
TOLERANCE = 0.02
"""Largest difference of the test output between machines; logits are about 5 large."""


@dataclass(frozen=True)
class Model:
    """A network and its card.

    Attributes
    ----------
    network : UNet
        Its weights lie on the processor.
    card : Card
        What it expects and was trained on.
    siblings : tuple of Model
        Other models that may fit better: segmenting and training try all, and take the one that does.
    """

    network: UNet
    card: Card
    siblings: tuple[Model, ...] = ()


def fingerprint(model: Model) -> str:
    """Return what tells a model and its siblings from all others: a SHA-256 of cards and weights."""
    digest = hashlib.sha256()
    for one in (model, *model.siblings):
        digest.update(one.card.to_json().encode())
        for tensor in one.network.state_dict().values():
            digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def new_model(card: Card) -> Model:
    """Return an untrained model of the card's architecture."""
    return Model(UNet.from_settings(card.network, card.channels, len(card.classes)), card)


def load_model(model: str | Path) -> Model:
    """Return a model from a folder, a zip, or ``"bundled"``, on the processor, in float32.

    ``"bundled"`` gives the first of the package's models with the others as its siblings.

    Raises
    ------
    ModelError
        When a file is missing, damaged, or does not belong to the card.
    """
    if str(model) == BUNDLED:
        first, *others = (_load(name) for name in bundled_models() or (BUNDLED,))
        return dataclasses.replace(first, siblings=tuple(others))
    return _load(model)


def _load(model: str | Path) -> Model:
    """Return one model."""
    card = read_card(model)
    path = model_path(model)
    raw = read_file(path, WEIGHTS_NAME)
    expected = card.hashes.get(WEIGHTS_NAME)
    if expected and hashlib.sha256(raw).hexdigest() != expected:
        raise ModelError(
            f"The weights of {path} are damaged: their SHA-256 is not the one in {CARD_NAME}. Copy the model again."
        )
    try:
        tensors = {name: t.float() if t.is_floating_point() else t for name, t in load_tensors(raw).items()}
    except SafetensorError as error:
        raise ModelError(f"The weights of {path} are damaged: {error}.") from error
    loaded = new_model(card)
    try:
        loaded.network.load_state_dict(tensors)
    except RuntimeError as error:
        raise ModelError(f"The weights of {path} do not fit its card: {str(error).splitlines()[-1].strip()}") from error
    return loaded


def save_model(model: Model, path: str | Path, *, half: bool = False) -> Card:
    """Write a model to a folder, or to one zip when the path ends in ``.zip``.

    The new files appear at once, when all are written; until then an older model there stays.

    Parameters
    ----------
    model : Model
        What to save.
    path : str or Path
        Folder or ``.zip``.
    half : bool
        Whether to store weights in 16 bits, half the size.

    Returns
    -------
    Card
        The card as saved, with hashes.

    Raises
    ------
    StoreError
        When the place cannot be written, or holds something else than a model.
    """
    path = Path(path)
    check_place(path)
    files = _files(model, half)
    hashes = {name: hashlib.sha256(raw).hexdigest() for name, raw in files.items()}
    card = dataclasses.replace(model.card, hashes=hashes)
    files[CARD_NAME] = card.to_json().encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_zip(path, files) if path.suffix.lower() == ".zip" else _write_folder(path, files)
    except OSError as error:
        raise StoreError(f"The model cannot be saved at {path}: {error.strerror or error}.") from error
    return card


def _files(model: Model, half: bool) -> dict[str, bytes]:
    """Return the content of every file but the card."""
    network = model.network
    state = {n: t.detach().cpu().contiguous() for n, t in network.state_dict().items()}
    if half:
        state = {n: _halved(t) for n, t in state.items()}
    rounded = new_model(model.card).network
    rounded.load_state_dict({n: t.float() if t.is_floating_point() else t for n, t in state.items()})
    test_input = _test_input(model.card.channels, rounded)
    return {
        WEIGHTS_NAME: save_tensors(state),
        INPUT_NAME: _npy(test_input),
        OUTPUT_NAME: _npy(_test_output(rounded, test_input)),
    }


def _halved(tensor: torch.Tensor) -> torch.Tensor:
    """Return the tensor in 16 bits, unless it holds whole numbers or values beyond the range of 16 bits."""
    half = tensor.half()
    return half if tensor.is_floating_point() and torch.isfinite(half).all() else tensor


def _test_input(channels: int, network: UNet) -> NDArray[np.float16]:
    """Return a small fixed picture of blobs, (1, C, Y, X)."""
    side = network.geometry.input_size(network.geometry.bottom_for(1)[0] + 1)
    y, x = np.mgrid[:side, :side] / 7.0
    blobs = np.clip(np.sin(y) * np.sin(x), 0, 1)
    return np.stack([np.roll(blobs, 5 * c, axis=1) for c in range(channels)])[np.newaxis].astype(np.float16)


def _test_output(network: UNet, test_input: NDArray[np.float16]) -> NDArray[np.float32]:
    """Return the outputs for the test picture in float32, (1, K, Y, X)."""
    with torch.inference_mode():
        out = network.fused()(torch.from_numpy(test_input.astype(np.float32)), padding="valid")
    return np.asarray(out.numpy(), np.float32)


def _npy(array: NDArray[np.generic]) -> bytes:
    """Return the array as the bytes of a ``.npy`` file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _array(raw: bytes) -> NDArray[Any]:
    """Return the array of a ``.npy`` file; raise a ValueError when it is none of numbers."""
    found = np.load(io.BytesIO(raw), allow_pickle=False)
    if not isinstance(found, np.ndarray) or found.dtype.kind != "f":
        raise ValueError("not an array of numbers")
    return found


def verify_model(model: str | Path) -> float:
    """Run the model on its test input and return the largest difference from the expected output.

    Raises
    ------
    ModelError
        When it exceeds :data:`TOLERANCE`, or files are missing.
    """
    loaded, path = load_model(model), model_path(model)
    try:
        given, expected = (_array(read_file(path, name)) for name in (INPUT_NAME, OUTPUT_NAME))
        difference = float(np.abs(_test_output(loaded.network, given) - expected).max())
    except (ValueError, EOFError, RuntimeError, SettingsError) as error:
        raise ModelError(f"The test files of {path} are damaged: {error}.") from error
    if not difference <= TOLERANCE:
        raise ModelError(f"The model {path} does not reproduce its test output: it is {difference:.3g} off.")
    return difference


def _write_folder(path: Path, files: dict[str, bytes]) -> None:
    """Write files into a new folder beside the place, then swap it in; other files there move along."""
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        # mkdtemp is private to the user; a model folder is as open as any other.
        temporary.chmod(0o755)
        for name, raw in files.items():
            (temporary / name).write_bytes(raw)
        _swap(temporary, path, temporary.with_name(f"{temporary.name}.old"))
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _swap(new: Path, path: Path, old: Path) -> None:
    """Put the folder ``new`` at ``path``; what was there is back when that fails."""
    if path.exists():
        path.rename(old)
    try:
        new.rename(path)
    except OSError:
        if old.exists():
            old.rename(path)
        raise
    if old.exists():
        for extra in [f for f in old.iterdir() if not (path / f.name).exists()]:
            extra.rename(path / extra.name)
        shutil.rmtree(old, ignore_errors=True)


def _write_zip(path: Path, files: dict[str, bytes]) -> None:
    """Write one zip beside the place, then swap it in."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        with zipfile.ZipFile(temporary, "w") as archive:
            for name, raw in files.items():
                archive.writestr(name, raw)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
