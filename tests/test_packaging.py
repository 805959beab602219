"""What a user installs: the wheel's contents and needs; and how checks get a display."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src"
NOT_IN_BASE = {"napari", "pyqt5", "pyqt6", "pyside2", "pyside6"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Return the wheel as the build back end makes it."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    script = f"import hatchling.build as b; print(b.build_wheel({str(folder)!r}))"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True, timeout=240)
    return zipfile.ZipFile(next(folder.glob("*.whl")))


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    name = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return message_from_bytes(wheel.read(name))


def test_the_wheel_holds_every_file_of_the_package(wheel: zipfile.ZipFile) -> None:
    files = {path.relative_to(SOURCE).as_posix() for path in (SOURCE / "napari_unet").rglob("*") if path.is_file()}
    wanted = {name for name in files if "__pycache__" not in name}
    assert {
        "napari_unet/core/settings.py",
        "napari_unet/napari.yaml",
        "napari_unet/weights/nuclei/model.json",
    } <= wanted
    assert wanted - set(wheel.namelist()) == set()


def test_the_wheel_holds_nothing_else(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert tops == {"napari_unet", next(top for top in tops if top.endswith(".dist-info"))}


def test_metadata_for_napari(metadata: Message, wheel: zipfile.ZipFile) -> None:
    assert "Framework :: napari" in metadata.get_all("Classifier", [])
    assert metadata["License-Expression"] == "BSD-3-Clause"
    assert metadata["Requires-Python"] == ">=3.11"
    points = wheel.read(next(name for name in wheel.namelist() if name.endswith("entry_points.txt"))).decode()
    assert "[napari.manifest]\nnapari-interactive-unet = napari_unet:napari.yaml" in points


def test_base_dependencies_bring_no_qt(metadata: Message) -> None:
    needs = [Requirement(text) for text in metadata.get_all("Requires-Dist", [])]
    base = {need.name.lower() for need in needs if need.marker is None}
    assert "torch" in base
    assert base & NOT_IN_BASE == set()
    assert {need.name.lower() for need in needs if need.marker is not None} & NOT_IN_BASE == {"napari", "pyside6"}


@pytest.fixture
def display() -> ModuleType:
    spec = importlib.util.spec_from_file_location("with_display", ROOT / ".ci" / "with_display.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_virtual_screen_is_preferred(display: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(display.sys, "platform", "linux")
    monkeypatch.setattr(display.shutil, "which", lambda name: f"/bin/{name}")
    command, environment = display.with_display(["pytest", "-q"], {"DISPLAY": ":0", "WAYLAND_DISPLAY": "w"})
    assert command[0] == "/bin/xvfb-run"
    assert command[-2:] == ["pytest", "-q"]
    assert environment == {"DISPLAY": ":0", "QT_QPA_PLATFORM": "xcb"}


def test_offscreen_without_any_display(
    display: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(display.sys, "platform", "linux")
    monkeypatch.setattr(display.shutil, "which", lambda name: None)
    assert display.with_display(["a"], {}) == (["a"], {"QT_QPA_PLATFORM": "offscreen"})
    assert "without OpenGL" in capsys.readouterr().err
    assert display.with_display(["a"], {"DISPLAY": ":0"}) == (["a"], {"DISPLAY": ":0"})


def test_the_exit_code_of_the_command_is_passed_on() -> None:
    script = ROOT / ".ci" / "with_display.py"
    for code in (0, 3):
        done = subprocess.run([sys.executable, script, sys.executable, "-c", f"raise SystemExit({code})"], timeout=60)
        assert done.returncode == code


def test_ci_installs_the_packages_that_readme_names() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    named = [line for line in lines if line.startswith("sudo apt-get install ")]
    assert len(named) == 1
    assert {"xvfb", "xauth", "libxcb-cursor0", "libegl1", "libgl1-mesa-dri"} <= set(named[0].split())


def test_ci_runs_the_test_command_of_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    command = "python -m pip install tox && python -m tox"
    assert f"```\n{command}\n```" in readme
    assert f"{command};" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
