from __future__ import annotations

import dataclasses
import errno
import io
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from napari_unet.core.errors import ModelError, StoreError
from napari_unet.core.network import model_io
from napari_unet.core.network.model_card import CARD_NAME
from napari_unet.core.network.model_io import (
    INPUT_NAME,
    OUTPUT_NAME,
    WEIGHTS_NAME,
    Model,
    load_model,
    save_model,
    verify_model,
)

Make = Callable[..., Model]
FILES = {CARD_NAME, WEIGHTS_NAME, INPUT_NAME, OUTPUT_NAME}


def same_weights(one: Model, other: Model) -> bool:
    a, b = one.network.state_dict(), other.network.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture(params=["model", "model.v2", "model.zip", "MODEL.ZIP"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / "deep" / request.param


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_the_way_through_the_disk(tiny_model: Make, place: Path, padding: str) -> None:
    model = tiny_model(
        channels=2, padding=padding, diameter=21.5, training_history=({"images": ["a"]},), metrics={"f1": 0.5}
    )
    saved = save_model(model, place)
    assert place.is_file() == (place.suffix.lower() == ".zip")
    names = set(zipfile.ZipFile(place).namelist()) if place.is_file() else {f.name for f in place.iterdir()}
    assert names == FILES
    loaded = load_model(place)
    assert same_weights(loaded, model) and loaded.card == saved
    assert dataclasses.replace(loaded.card, hashes={}) == model.card
    assert verify_model(place) < 1e-5
    assert [f.name for f in place.parent.iterdir()] == [place.name]


def test_half_precision_halves_the_size(tiny_model: Make, tmp_path: Path) -> None:
    model = tiny_model(depth=3)
    model.network.down[0].norm1.running_var.fill_(1e6)  # more than 16 bits can hold
    save_model(model, tmp_path / "full")
    save_model(model, tmp_path / "half", half=True)
    sizes = [(tmp_path / n / WEIGHTS_NAME).stat().st_size for n in ("full", "half")]
    assert sizes[1] < 0.65 * sizes[0]
    loaded = load_model(tmp_path / "half")
    for key, value in model.network.state_dict().items():
        got = loaded.network.state_dict()[key]
        assert got.dtype == value.dtype
        torch.testing.assert_close(got, value, rtol=1e-3, atol=1e-4)
    assert verify_model(tmp_path / "half") < 1e-5


@pytest.mark.parametrize("position", [0.2, 0.4, 0.6])
def test_a_flipped_bit_in_the_weights_is_found(tiny_model: Make, place: Path, position: float) -> None:
    save_model(tiny_model(), place)
    path = place if place.is_file() else place / WEIGHTS_NAME
    raw = bytearray(path.read_bytes())
    raw[int(position * len(raw))] ^= 0x10
    path.write_bytes(raw)
    with pytest.raises(ModelError, match=r"damaged|cannot be read"):
        verify_model(place)


def test_weights_that_are_damaged_under_a_right_hash_or_of_another_network(tiny_model: Make, tmp_path: Path) -> None:
    save_model(tiny_model(), tmp_path / "a")
    save_model(tiny_model(depth=3), tmp_path / "b")

    def forget_hashes(folder: Path) -> None:
        card = json.loads((folder / CARD_NAME).read_text())
        (folder / CARD_NAME).write_text(json.dumps({**card, "hashes": {}}))

    forget_hashes(tmp_path / "a")
    (tmp_path / "a" / WEIGHTS_NAME).write_bytes((tmp_path / "b" / WEIGHTS_NAME).read_bytes())
    with pytest.raises(ModelError, match="do not fit its card"):
        load_model(tmp_path / "a")
    for raw in (b"", b"nonsense", (tmp_path / "b" / WEIGHTS_NAME).read_bytes()[:-100]):
        (tmp_path / "a" / WEIGHTS_NAME).write_bytes(raw)
        with pytest.raises(ModelError, match="are damaged"):
            load_model(tmp_path / "a")


class Bomb:
    """Does something when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)

    def __init__(self, path: str) -> None:
        self.path = path


@pytest.mark.parametrize("name", [WEIGHTS_NAME, INPUT_NAME, OUTPUT_NAME, CARD_NAME])
@pytest.mark.parametrize("kind", ["pickle", "torch", "npy"])
def test_pickles_are_never_loaded(tiny_model: Make, tmp_path: Path, name: str, kind: str) -> None:
    save_model(tiny_model(), tmp_path / "m")
    bomb, buffer = Bomb(str(tmp_path / "exploded")), io.BytesIO()
    if kind == "pickle":
        pickle.dump(bomb, buffer)
    elif kind == "torch":
        torch.save({"x": bomb}, buffer)
    else:
        np.save(buffer, np.array([bomb], object), allow_pickle=True)
    raw = buffer.getvalue()
    (tmp_path / "m" / name).write_bytes(raw)
    if name != CARD_NAME:
        card = json.loads((tmp_path / "m" / CARD_NAME).read_text())
        (tmp_path / "m" / CARD_NAME).write_text(json.dumps({**card, "hashes": {}}))
    with pytest.raises(ModelError):
        verify_model(tmp_path / "m")
    assert not (tmp_path / "exploded").exists()


def test_truncated_and_foreign_files(tiny_model: Make, tmp_path: Path) -> None:
    path = tmp_path / "m.zip"
    save_model(tiny_model(), path)
    whole = path.read_bytes()
    for part in (0, 3, 1000, len(whole) - 40):
        path.write_bytes(whole[:part])
        with pytest.raises(ModelError, match="cannot be read"):
            load_model(path)
    torch.save({"a": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(ModelError, match="is no model of napari-interactive-unet"):
        load_model(tmp_path / "other.pt")


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_missing_file_is_named(tiny_model: Make, tmp_path: Path, name: str) -> None:
    save_model(tiny_model(), tmp_path / "m")
    (tmp_path / "m" / name).unlink()
    with pytest.raises(ModelError, match="is missing") as caught:
        verify_model(tmp_path / "m")
    assert name in str(caught.value)


def test_a_model_that_computes_something_else_is_noticed(tiny_model: Make, tmp_path: Path) -> None:
    save_model(tiny_model(), tmp_path / "m")
    path = tmp_path / "m" / OUTPUT_NAME
    np.save(path, np.load(path) + 0.1)
    with pytest.raises(ModelError, match="does not reproduce its test output: it is 0.1 off"):
        verify_model(tmp_path / "m")
    np.save(path, np.zeros((1, 2, 3)))
    with pytest.raises(ModelError, match="test files"):
        verify_model(tmp_path / "m")
    np.save(tmp_path / "m" / INPUT_NAME, np.zeros((1, 1, 5, 5)))
    with pytest.raises(ModelError, match="test files"):
        verify_model(tmp_path / "m")


def test_saving_replaces_the_old_model_and_keeps_what_else_lies_there(tiny_model: Make, place: Path) -> None:
    save_model(tiny_model(seed=1), place)
    if place.is_dir():
        (place / "notes.txt").write_text("mine")
    save_model(tiny_model(seed=2), place)
    assert same_weights(load_model(place), tiny_model(seed=2))
    if place.is_dir():
        assert (place / "notes.txt").read_text() == "mine"
    assert [f.name for f in place.parent.iterdir()] == [place.name]


def test_what_is_no_model_is_never_replaced(tiny_model: Make, tmp_path: Path) -> None:
    folder, file = tmp_path / "documents", tmp_path / "thesis"
    folder.mkdir()
    (folder / "thesis.tex").write_text("years")
    file.write_text("years")
    for place in (folder, file):
        with pytest.raises(StoreError, match="exists and is no model; choose another name"):
            save_model(tiny_model(), place)
    assert (folder / "thesis.tex").read_text() == file.read_text() == "years"
    (tmp_path / "empty").mkdir()
    save_model(tiny_model(), tmp_path / "empty")


@pytest.mark.parametrize("broken", ["write", "rename"])
def test_a_full_disk_keeps_the_old_model(
    tiny_model: Make, place: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    save_model(tiny_model(seed=1), place)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with monkeypatch.context() as patched:
        if broken == "write":
            original = Path.write_bytes

            def write(self: Path, raw: bytes) -> int:
                if self.name == WEIGHTS_NAME:
                    original(self, raw[:100])
                    raise full
                return original(self, raw)

            patched.setattr(Path, "write_bytes", write)

            def writestr(*_: Any) -> None:
                raise full

            patched.setattr(zipfile.ZipFile, "writestr", writestr)
        else:
            renames = []
            rename = Path.rename

            def second_fails(self: Path, target: Path) -> Path:
                renames.append(target)
                if len(renames) == 2:
                    raise full
                return rename(self, target)

            def replace(*_: Any) -> None:
                raise full

            patched.setattr(Path, "rename", second_fails)
            patched.setattr(model_io.os, "replace", replace)
        with pytest.raises(StoreError, match="cannot be saved at .*: No space left on device"):
            save_model(tiny_model(seed=2), place)
    assert same_weights(load_model(place), tiny_model(seed=1))
    assert [f.name for f in place.parent.iterdir()] == [place.name]


@pytest.mark.skipif(os.geteuid() == 0 if hasattr(os, "geteuid") else True, reason="root may write anywhere")
def test_a_read_only_place(tiny_model: Make, tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(StoreError, match="Permission denied"):
            save_model(tiny_model(), tmp_path / "m")
    finally:
        tmp_path.chmod(0o755)


def test_a_folder_inside_a_file_cannot_be(tiny_model: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="cannot be saved"):
        save_model(tiny_model(), tmp_path / "file" / "m")


def test_a_model_moves_between_folder_and_zip(tiny_model: Make, tmp_path: Path) -> None:
    save_model(tiny_model(), tmp_path / "m")
    shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path, "m")
    assert same_weights(load_model(tmp_path / "packed.zip"), tiny_model())
    assert verify_model(tmp_path / "packed.zip") < 1e-5
