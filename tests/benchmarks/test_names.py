"""Benchmarks and the scripts of the documentation import names that the package has."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SCRIPTS = sorted([*ROOT.glob("benchmarks/*.py"), *ROOT.glob("docs/*.py")])


def imported(script: Path) -> list[tuple[str, str]]:
    """Return module and name of each import from the package, those inside functions too."""
    nodes = [n for n in ast.walk(ast.parse(script.read_text(encoding="utf-8"))) if isinstance(n, ast.ImportFrom)]
    inner = [n for n in nodes if n.module and n.module.split(".")[0] == "napari_unet"]
    return [(node.module, alias.name) for node in inner for alias in node.names]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_what_is_imported_exists(script: Path) -> None:
    for module, name in imported(script):
        if not hasattr(importlib.import_module(module), name):
            importlib.import_module(f"{module}.{name}")
