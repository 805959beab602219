"""Write the settings of the package as MyST tables, for the pages that include them."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from napari_unet.core.settings import NetworkSettings, Option, PredictionSettings, TrainingSettings, options

TABLES = {"training": TrainingSettings, "prediction": PredictionSettings, "network": NetworkSettings}


def write_tables(folder: Path) -> None:
    """Write one table for each settings class."""
    folder.mkdir(exist_ok=True)
    for name, settings in TABLES.items():
        (folder / f"{name}.md").write_text(table(settings), encoding="utf-8")


def table(settings: type[Any]) -> str:
    """Return one row per option, those in sight before the advanced ones."""
    defaults = {f.name: f.default for f in fields(settings)}
    known = sorted(options(settings).items(), key=lambda item: item[1].advanced)
    rows = [row(name, option, defaults[name]) for name, option in known]
    return "\n".join(["| name | default | allowed | what it does |", "|---|---|---|---|", *rows, ""])


def row(name: str, option: Option, default: Any) -> str:
    """Return one row; names of options in sight are bold."""
    shown = f"**`{name}`**" if not option.advanced else f"`{name}`"
    cells = [shown, f"{text(default)} {option.unit}".strip(), allowed(option, default), option.help]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def allowed(option: Option, default: Any) -> str:
    """Return the choices or the bounds."""
    if option.choices:
        return ", ".join(option.choices)
    if isinstance(default, bool):
        return "true, false"
    return f"{text(option.minimum)} to {text(option.maximum)}"


def text(value: Any) -> str:
    """Return a value as one types it on the command line."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else str(value)
    return str(value)
