"""The name of the distribution, hints to install something, and the warning of another team's plugin."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import napari_unet
from napari_unet.cli import main
from napari_unet.core.distribution import COMMAND, DISTRIBUTION, INSTALL, OTHER, clash, install_extra, install_version

ROOT = Path(__file__).parent.parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
PAGES = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "benchmarks/README.md")]
PAGES += [path for path in sorted((ROOT / "docs").rglob("*.md")) if "_generated" not in path.parts]
SET_UP = [ROOT / "pyproject.toml", ROOT / "tox.ini", ROOT / ".ci" / "run"]

_OURS = r"(?<![\w./-])napari[-_.]*(?:interactive[-_.]*)?unet"
_OTHERS = r"(?<![\w./-])napari[-_.]*unet"
FETCHED = re.compile(
    rf"""(?:\b(?:install|download|pipx\ run|uv\ add)\b | \buvx\b) [^\n`|]*? {_OURS} (?!\S*\.whl)
    | \b(?:update|upgrade)\b [^\n`|]*? {_OTHERS}
    | {_OTHERS} \s* (?:\[|[=<>~!]=|\s@\s)""",
    re.VERBOSE | re.IGNORECASE,
)
"""Words by which a package of this name, or of nearly this name, would come from an index."""


def test_the_project_has_the_name() -> None:
    assert PROJECT["name"] == DISTRIBUTION
    assert PROJECT["scripts"] == {COMMAND: "napari_unet.cli:main"}
    assert PROJECT["entry-points"] == {"napari.manifest": {DISTRIBUTION: "napari_unet:napari.yaml"}}
    assert napari_unet.__version__ == PROJECT["version"]


# --- what would be fetched -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        "pip install napari-unet",
        "python -m pip install -U 'napari_unet[all]'",
        "python -m pip install napari-interactive-unet",
        '"-m", "pip", "install", f"napari-unet=={wanted}"',
        "uvx napari-unet",
        "this version reads 2; update napari-unet.",
        'cluster = ["napari-unet[zarr]"]',
        "napari.unet >= 0.1",
    ],
)
def test_names_that_fetch_something_else_are_seen(words: str) -> None:
    assert FETCHED.search(words)


@pytest.mark.parametrize(
    "words",
    [
        'python -m pip install ".[all]"',
        "python -m pip install napari_interactive_unet-0.2.0-py3-none-any.whl",
        "python -m pip uninstall napari-unet napari-interactive-unet",
        'all = ["napari-interactive-unet[pyqt6,zarr,cluster]"]',
        "Do not install the `napari-unet` of PyPI",
        "napari-unet segment images results",
    ],
)
def test_other_uses_of_the_name_are_left_alone(words: str) -> None:
    assert not FETCHED.search(words)


@pytest.mark.parametrize("path", [*PAGES, *SET_UP, *SOURCES], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_page_and_no_message_fetches_something_else(path: Path) -> None:
    assert [found.group() for found in FETCHED.finditer(path.read_text(encoding="utf-8"))] == []


# --- hints ---------------------------------------------------------------------------------------------------


def test_hints_are_built_in_one_place() -> None:
    command = re.compile(r"""\bpip['", ]+install\b""")
    assert [path.name for path in SOURCES if command.search(path.read_text(encoding="utf-8"))] == ["distribution.py"]


def test_hints_name_extras_that_exist() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES)
    named = set(re.findall(r"""(?:install|require)_extra\(['"](\w+)['"]""", text))
    assert named == {"bioimageio", "cluster", "onnx", "pyqt6", "report"}
    for extra in named:
        assert install_extra(extra) == f'python -m pip install "{DISTRIBUTION}[{extra}]"'
    with pytest.raises(ValueError, match="has no extra 'tensorflow'"):
        install_extra("tensorflow")


def test_a_hint_takes_the_package_from_what_is_installed() -> None:
    pytest.importorskip("pip")
    pytest.importorskip("distributed")
    offline = ["--isolated", "--no-index", "--dry-run"]
    words = [sys.executable, *INSTALL, *offline, f"{DISTRIBUTION}[cluster]"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert f"Requirement already satisfied: {DISTRIBUTION}[cluster]" in done.stdout


def test_versions_for_another_computer() -> None:
    assert install_version("torch", "2.13.0") == 'python -m pip install "torch==2.13.0"'
    wheel = "napari_interactive_unet-0.2.0-py3-none-any.whl"
    assert install_version(DISTRIBUTION, "0.2.0") == f'python -m pip install "{wheel}"'


# --- the other one -------------------------------------------------------------------------------------------


@pytest.fixture
def other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the version of another team's plugin, which is found installed."""
    about = tmp_path / "napari_unet-0.3.1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {OTHER}\nVersion: 0.3.1\n")
    monkeypatch.syspath_prepend(tmp_path)
    return "0.3.1"


def test_nothing_is_said_where_this_package_is_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert clash() == ""
    assert main(["info", "bundled"]) == 0
    assert capsys.readouterr().err == ""


def test_the_command_warns_of_the_other_in_one_line(other: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "bundled"]) == 0
    said = capsys.readouterr()
    assert "nuclei" in said.out
    assert said.err == f"{COMMAND}: warning: {clash()}\n"
    assert clash().startswith(f"napari-unet {other} is installed in this environment too.")
    assert "\n" not in clash()
