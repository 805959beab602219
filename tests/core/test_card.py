from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from napari_unet.core.errors import ModelError
from napari_unet.core.network.model_card import CARD_NAME, Card, read_card, read_file
from napari_unet.core.settings import NetworkSettings

CARD = Card(
    "mine", NetworkSettings(width=8), 2, ("background", "a", "b"), "classes", 12.5, 0.5, {"threshold": 0.4},
    ({"images": ["x"]},), {"f1": 0.5}, {"weights": "00"}, "text", 0.9,
)  # fmt: skip


def test_the_way_through_json() -> None:
    assert Card.from_json(CARD.to_json()) == CARD


def _changed(**values: Any) -> str:
    return json.dumps({**json.loads(CARD.to_json()), **values})


@pytest.mark.parametrize("text", ["", "{}", "[]", "3", "null", "not json", b"\xff\xfe\x00", '{"name": "x"}'])
def test_what_is_no_card(text: str | bytes) -> None:
    with pytest.raises(ModelError, match="is no model card of napari-interactive-unet"):
        Card.from_json(text)


@pytest.mark.parametrize(
    "values",
    [
        {"network": {"width": 10**6}},
        {"network": {"colour": 3}},
        {"network": 3},
        {"colour": 1},
        {"classes": 4},
        {"classes": ["background"]},
        {"channels": 0},
        {"channels": "two"},
        {"scale": -1},
        {"scale": 0, "diameter": 0},
        {"scale": float("nan")},
        {"diameter": "x"},
        {"training_history": None},
        {"hashes": []},
    ],
)
def test_damaged_fields(values: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=f"{CARD_NAME} in here is damaged"):
        Card.from_json(_changed(**values), "here")


def test_a_later_format_asks_for_an_update() -> None:
    with pytest.raises(ModelError, match="format 2, but this version reads 1; update"):
        Card.from_json(_changed(napari_unet_format=2))


def test_reading_from_folder_and_zip_also_when_the_folder_was_zipped(tmp_path: Path) -> None:
    (tmp_path / CARD_NAME).write_text(CARD.to_json())
    assert read_card(tmp_path) == CARD
    for name in (CARD_NAME, f"folder/{CARD_NAME}"):
        with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(name, CARD.to_json())
        assert read_card(tmp_path / "a.zip") == CARD


def test_missing_and_foreign_places(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="There is no model at"):
        read_card(tmp_path / "nowhere")
    with pytest.raises(ModelError, match=f"{CARD_NAME} is missing"):
        read_card(tmp_path)
    (tmp_path / "picture.png").write_bytes(b"\x89PNG....")
    with pytest.raises(ModelError, match="cannot be read"):
        read_card(tmp_path / "picture.png")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("data.pkl", b"x")
    with pytest.raises(ModelError, match=f"{CARD_NAME} is missing in it"):
        read_card(tmp_path / "other.zip")


@pytest.mark.parametrize("at", [60, 100, 140])
def test_a_damaged_deflated_zip(tmp_path: Path, at: int) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(CARD_NAME, CARD.to_json())
    raw = bytearray(path.read_bytes())
    raw[at] ^= 0xFF
    path.write_bytes(raw)
    with pytest.raises(ModelError, match="cannot be read"):
        read_file(path, CARD_NAME)
