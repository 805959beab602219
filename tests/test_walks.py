"""The walks of ``docs/architecture.md``: every file exists, and leads to the next."""

from __future__ import annotations

import re

import pytest

from test_architecture import PACKAGE, ROOT, SOURCE, find_imports, module_name, real_packages, real_sources

FILE = re.compile(r"^\d+\. `([\w/.]+)`", flags=re.M)
WALKS = {
    "A new loss",
    "A new dock",
    "How touching cells are separated",
    "A click on Train",
    "A new file format",
    "A new proofreading action",
}
LONGEST = 12
"""Files between a click on Train and the loss, at most."""


def walks() -> dict[str, list[str]]:
    """Return the files of each walk, in order, below the package."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    part = text.partition("\n## Six walks\n")[2].partition("\n## ")[0]
    sections = re.split(r"^### ", part, flags=re.M)[1:]
    return {section.partition("\n")[0].strip(): FILE.findall(section) for section in sections}


def leads_to(file: str, module: str) -> bool:
    """Return whether a file imports a module, now or later, or names it as the place of what it loads."""
    path = SOURCE / PACKAGE / file
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        return f"{module}:" in text or f"{module}." in text
    known = frozenset(real_sources())
    here = module_name(path)
    imports = {entry.target for entry in find_imports(here, text, known, here in real_packages())}
    return module in imports or f'"{module}"' in text


def test_there_are_six_walks() -> None:
    assert set(walks()) == WALKS
    assert all(len(files) > 1 for files in walks().values())


@pytest.mark.parametrize("walk", sorted(WALKS))
def test_the_files_of_a_walk_lead_to_each_other(walk: str) -> None:
    files = walks()[walk]
    assert [file for file in files if not (SOURCE / PACKAGE / file).is_file()] == []
    for number, file in enumerate(files[1:], start=1):
        module = module_name(SOURCE / PACKAGE / file)
        assert any(leads_to(earlier, module) for earlier in files[:number]), f"nothing before it leads to {file}"


def test_a_click_on_train_reaches_the_loss_soon() -> None:
    files = walks()["A click on Train"]
    assert files[0].startswith("plugin/") and files[-1] == "core/training/loss.py"
    assert len(files) <= LONGEST
