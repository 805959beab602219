"""Every example of README, docs and docstrings runs, and every name that the docs give exists."""

from __future__ import annotations

import argparse
import doctest
import importlib
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [page for page in PAGES if not {"_build", "_generated"} & set(page.parts)]
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)[^)]*\)")
IMAGE = re.compile(r"```\{(?:image|figure)\} (\S+)")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[str]:
    """Return the code blocks of a page in one language; "" for those that name none."""
    found = re.findall(r"^```(\S*)[^\n]*\n(.*?)^```$", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    return [text for name, text in found if name == language]


def test_blocks_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("a\n```python\nb = 1\n```\n```\nc\n```\n```python\nd = 2\n```\n")
    assert blocks(page, "python") == ["b = 1\n", "d = 2\n"]
    assert blocks(page, "") == ["c\n"]


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=name_of)
def test_python_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    """All blocks of a page in turn, as somebody would who reads it."""
    script = tmp_path / "example.py"
    script.write_text("\n".join(blocks(page, "python")), encoding="utf-8")
    done = subprocess.run([sys.executable, script.name], cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_readme_has_python() -> None:
    assert blocks(ROOT / "README.md", "python")


def modules_with_examples() -> list[str]:
    """Return the modules of core whose docstrings hold examples."""
    folder = ROOT / "src" / "napari_unet"
    files = [path for path in sorted((folder / "core").rglob("*.py")) if ">>> " in path.read_text(encoding="utf-8")]
    return [".".join(path.relative_to(folder.parent).with_suffix("").parts) for path in files]


@pytest.mark.parametrize("module", modules_with_examples())
def test_examples_in_docstrings(module: str) -> None:
    found = doctest.testmod(importlib.import_module(module.removesuffix(".__init__")))
    assert found.attempted > 0
    assert found.failed == 0


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_inside_the_repository_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = [t for t in LINK.findall(text) + IMAGE.findall(text) if not t.startswith(("http:", "https:", "mailto:"))]
    assert [t for t in targets if not (page.parent / t).exists()] == []


def named_in_method() -> list[tuple[str, str]]:
    """Return module and name for each row of the tables of docs/method.md."""
    text = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\|[^|]*\| `([\w/]+)\.py` \|([^|]*)\|", text, flags=re.M)
    return [(module.replace("/", "."), name) for module, names in rows for name in re.findall(r"`(\w+)`", names)]


def test_method_names_the_equations() -> None:
    assert {
        ("data.weight_map", "boundary_weight_map"),
        ("training.loss", "weighted_cross_entropy"),
        ("network.unet", "UNet"),
    } <= set(named_in_method())


@pytest.mark.parametrize(("module", "name"), named_in_method())
def test_what_method_names_exists(module: str, name: str) -> None:
    assert hasattr(importlib.import_module(f"napari_unet.core.{module}"), name)


def commands(page: Path) -> list[str]:
    """Return the lines of a page that call the command line."""
    lines = [line for block in blocks(page, "") for line in block.splitlines()]
    return [line for line in lines if line.startswith("napari-unet ")]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the files that the commands of the docs name."""
    import tifffile
    import zarr

    from napari_unet import stores
    from napari_unet.core.synthetic import generate

    folder = tmp_path_factory.mktemp("data")
    for seed, stem in enumerate(["one", "two"]):
        image, labels = generate("nuclei", shape=(96, 96), seed=seed)
        for name, array in [("images", image), ("new-images", image), ("labels", labels), ("ground-truth", labels)]:
            (folder / name).mkdir(exist_ok=True)
            tifffile.imwrite(folder / name / f"{stem}.tif", array)
    tifffile.imwrite(folder / "image.tif", image)
    tifffile.imwrite(folder / "labels.tif", labels)
    zarr.create_array(store=folder / "slide.zarr", data=image)
    with stores.create_labels(folder / "stack-cells.zarr", (2, *labels.shape), "zyx", np.int32) as out:
        out.array[0], out.array[1] = labels, labels
        out.save()
    return folder


@pytest.fixture(scope="module")
def learned(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the model and the results that pages take for granted, made as README says."""
    folder = tmp_path_factory.mktemp("learned") / "data"
    shutil.copytree(data, folder)
    run([commands(ROOT / "README.md")[0], "napari-unet segment new-images results --model cells.model"], folder)
    return folder


def possible(command: str) -> bool:
    """Return whether the libraries are installed that a command needs beside those of the tests."""
    needs = {".onnx": "onnxruntime", "bioimageio": "bioimageio"}
    return all(importlib.util.find_spec(library) for word, library in needs.items() if word in command)


def without_output_again(todo: list[str]) -> list[str]:
    """Return the commands with another name for each output that is written a second time."""
    seen: list[str] = []
    for number, command in enumerate(todo):
        words = shlex.split(command)
        if words[1] == "segment" and any(
            words[3] == other.split()[3] for other in seen if other.split()[1] == "segment"
        ):
            words[3] += str(number)
        seen.append(shlex.join(words))
    return seen


def quick(command: str) -> str:
    """Return a command of the docs as one that takes seconds, on a small network and the CPU."""
    words = [re.sub(r"^width=\d+$", "width=4", word) for word in shlex.split(command)]
    if "--seconds" in words:
        words[words.index("--seconds") + 1] = "2"
    elif words[1] == "train":
        words += ["--seconds", "2"]
    if "cuda" in words:
        words[words.index("cuda")] = "auto"
    return shlex.join(words)


RUNNER = """
import shlex, sys
from napari_unet.cli import main
for command in sys.argv[1:]:
    print("\\n>", command, flush=True)
    code = main(shlex.split(command)[1:])
    if code:
        sys.exit(code)
"""
"""Runs commands one after the other in one process, which imports torch once."""


def run(todo: list[str], folder: Path) -> list[str]:
    """Run commands of the docs in a folder, without a display; return those that were done."""
    environment = {**os.environ, "DISPLAY": "", "WAYLAND_DISPLAY": ""}
    words = [sys.executable, "-c", RUNNER, *map(quick, todo)]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return [line.removeprefix("> ") for line in done.stdout.splitlines() if line.startswith("> napari-unet ")]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=name_of)
def test_commands_of_a_page_run(page: Path, data: Path, learned: Path, tmp_path: Path) -> None:
    """In the order of the page, with what it takes for granted: README's model, and the results of that."""
    todo = [c for c in commands(page) if not c.startswith("napari-unet demo") and possible(c)]
    folder = tmp_path / "data"
    shutil.copytree(data, folder)
    if not any("--output cells.model" in command for command in todo):
        shutil.copytree(learned / "cells.model", folder / "cells.model")
    if any(" results" in command for command in todo) and not any(" segment " in command for command in todo):
        shutil.copytree(learned / "results", folder / "results")
    assert run(without_output_again(todo), folder) == [quick(command) for command in without_output_again(todo)]


def test_the_reference_holds_every_public_name() -> None:
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    whole = {f"napari_unet.{area}" for area in re.findall(r"automodule:: napari_unet\.(\S+)", text)}
    named = set(re.findall(r"auto(?:class|function):: (\S+)", text))
    public = importlib.import_module("napari_unet")
    homes = {name: f"napari_unet.{public._HOME_OF[name]}" for name in public.__all__}
    assert [n for n, home in homes.items() if home not in whole and f"{home}.{n}" not in named] == []


def test_every_public_name_can_be_had() -> None:
    public = importlib.import_module("napari_unet")
    assert [name for name in public.__all__ if not callable(getattr(public, name))] == []


def subparsers() -> dict[str, argparse.ArgumentParser]:
    """Return the parser of each command."""
    parser = importlib.import_module("napari_unet.cli.parser").build_parser()
    return next(dict(a.choices) for a in parser._actions if isinstance(a, argparse._SubParsersAction))


@pytest.mark.parametrize("command", ["train", "segment", "evaluate", "info", "demo"])
def test_the_command_line_page_names_every_option(command: str) -> None:
    text = (ROOT / "docs" / "howto" / "command-line.md").read_text(encoding="utf-8")
    wanted = {word for action in subparsers()[command]._actions for word in action.option_strings if word[:2] == "--"}
    assert f"napari-unet {command} " in text
    assert sorted(word for word in wanted - {"--help"} if not re.search(rf"{word}\b", text)) == []


def quoted_messages() -> list[str]:
    """Return the messages that the page on troubles quotes."""
    text = (ROOT / "docs" / "howto" / "troubleshooting.md").read_text(encoding="utf-8")
    cells = re.findall(r"^\| ([^|]*) \|", text, flags=re.M)
    return [quote.strip(" .") for cell in cells if "`" not in cell for quote in re.findall('"([^"]+)"', cell)]


@pytest.mark.parametrize("message", quoted_messages())
def test_quoted_messages_are_those_of_the_program(message: str) -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    assert message in source
