"""Who may import whom: ``docs/architecture.md``, held by reading the source.

Imports inside functions count as well, and so does ``importlib.import_module("...")``; those under
``if TYPE_CHECKING:`` do not, as they never run.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src"
PACKAGE = "napari_unet"

ROOMS: tuple[frozenset[str], ...] = (
    frozenset({"core"}),
    frozenset({"core.synthetic", "core.data"}),
    frozenset({"core.network", "core.instances"}),
    frozenset({"core.inference", "core.evaluation", "core.proofreading"}),
    frozenset({"core.training"}),
    frozenset({"stores", "exchange"}),
    frozenset({"records", "demo", "cluster"}),
    frozenset({"engine.protocol"}),
    frozenset({"engine.viewer"}),
    frozenset({"engine.child"}),
    frozenset({"engine"}),
    frozenset({"plugin.runtime"}),
    frozenset({"plugin.settings"}),
    frozenset({"plugin.layers"}),
    frozenset({"plugin.widgets"}),
    frozenset({"plugin.dock"}),
    frozenset({"plugin.models", "plugin.proofread", "plugin.measure"}),
    frozenset({"plugin.segment", "plugin.train"}),
    frozenset({"plugin"}),
    frozenset({"cli"}),
    frozenset({"__init__"}),
    frozenset({"__main__"}),
)
"""Every room, the lowest first. A module imports from its own room or from rooms on lower levels, never in a circle."""

FORBIDDEN: dict[str, frozenset[str]] = {
    "stores": frozenset({"core.training", "core.evaluation"}),
    "exchange": frozenset({"core.training", "core.evaluation", "core.proofreading", "core.instances"}),
    "engine": frozenset({"demo", "cluster", "exchange"}),
    "plugin": frozenset({"stores", "cluster", "demo", "exchange", "engine.child", "core.training"}),
    "cli": frozenset({"engine", "plugin"}),
    "__init__": frozenset({"records", "demo", "cluster", "engine", "plugin", "cli", "exchange"}),
}
"""What an area may not import although it lies below."""

NEEDS_TORCH = frozenset(
    {
        "core.network.unet", "core.network.device", "core.network.model_io", "core.network.provenance",
        "core.inference.tiled", "core.inference.predict", "core.inference.model_selection", "core.training",
    }
)  # fmt: skip
"""The rooms and modules of core that may load torch; the viewer's process loads none of them."""

LARGEST_ROOM = 16
"""Modules in a room at most."""

SCREEN = frozenset(
    {"PyQt5", "PyQt6", "PySide2", "PySide6", "magicgui", "napari", "pyqtgraph", "qtpy", "superqt", "vispy"}
)
"""Libraries that show something."""
MAY_SHOW = frozenset({"demo", "plugin"})
TORCH = frozenset({"torch", "torchvision"})


@dataclass(frozen=True)
class Import:
    """One imported module, as an absolute name."""

    target: str
    line: int
    deferred: bool
    """Whether it runs only when some function is called."""


def find_imports(module: str, source: str, known: frozenset[str], is_package: bool = False) -> list[Import]:
    """Return all imports in the source that can run."""
    found: list[Import] = []

    def visit(node: ast.AST, deferred: bool) -> None:
        inner = deferred or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for target in targets_of(node, module, known, is_package):
            found.append(Import(target, node.lineno, deferred))  # type: ignore[attr-defined]
        for child in children_that_run(node):
            visit(child, inner)

    visit(ast.parse(source), False)
    return found


def children_that_run(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the node's children, leaving out the body of ``if TYPE_CHECKING``."""
    if isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
        yield from node.orelse
    else:
        yield from ast.iter_child_nodes(node)


def targets_of(node: ast.AST, module: str, known: frozenset[str], is_package: bool) -> list[str]:
    """Return the absolute names of the modules that one node imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = absolute(module, node.module, node.level, is_package)
        full = [f"{base}.{alias.name}" for alias in node.names]
        # Names of the root are loaded lazily and can bring anything with them: keep them apart.
        return [name if name in known or base == PACKAGE else base for name in full]
    if isinstance(node, ast.Call) and ast.unparse(node.func) in {
        "importlib.import_module",
        "import_module",
        "__import__",
    }:
        names = [a.value for a in node.args[:1] if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        return [re.sub(r"^\.+", f"{PACKAGE}.", name) for name in names]
    return []


def absolute(module: str, name: str | None, level: int, is_package: bool) -> str:
    """Return the absolute name of ``from {level dots}{name} import ...`` in ``module``."""
    if level == 0:
        return name or ""
    parts = module.split(".")
    kept = parts[: len(parts) - level + (1 if is_package else 0)]
    return ".".join([*kept, name] if name else kept)


def area_of(module: str) -> str:
    """Return the first name below the package: ``core``, ``plugin``, ``cli``..."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def room_of(module: str, packages: frozenset[str] = frozenset()) -> str:
    """Return the folder of a module below the package, ``core.training``; what lies at the top is its own room."""
    parts = module.split(".")[1:]
    inner = parts if module in packages else parts[:-1]
    return ".".join(inner) or (parts[0] if parts else "__init__")


def level_of(room: str) -> int | None:
    """Return the level of a room."""
    return next((number for number, rooms in enumerate(ROOMS) if room in rooms), None)


def within(name: str, places: frozenset[str]) -> bool:
    """Return whether a room or module is one of some places, or lies in one."""
    return any(name == place or name.startswith(f"{place}.") for place in places)


def needs_torch(module: str) -> bool:
    """Return whether a module may load torch."""
    return within(module.removeprefix(f"{PACKAGE}."), NEEDS_TORCH)


def module_name(path: Path, base: Path = SOURCE) -> str:
    """Return the dotted name of a source file."""
    parts = path.relative_to(base).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def complaint(module: str, entry: Import, packages: frozenset[str]) -> str | None:
    """Return what is wrong with one import, or None."""
    area, top = area_of(module), entry.target.split(".")[0]
    where = f"{module}:{entry.line}"
    if top in SCREEN and area not in MAY_SHOW:
        return f"{where} imports {entry.target}, but only {' and '.join(sorted(MAY_SHOW))} know of a screen"
    without = area in {"plugin", "cli", "__init__"} or (area == "core" and not needs_torch(module))
    if top in TORCH and without:
        return f"{where} imports {entry.target}, but has to do without torch"
    if top != PACKAGE or entry.target in {PACKAGE, f"{PACKAGE}.__version__"}:
        return None
    return inner_complaint(module, entry, where, packages)


def inner_complaint(module: str, entry: Import, where: str, packages: frozenset[str]) -> str | None:
    """Return what is wrong with an import of another module of the package, or None."""
    area, here, there = area_of(module), room_of(module, packages), room_of(entry.target, packages)
    if level_of(there) is None:
        return f"{where} imports {entry.target} by way of the package's lazy names; import it from its own module"
    if within(there, FORBIDDEN.get(area, frozenset())):
        return f"{where} imports {entry.target}, but {area} may not import {there}"
    if area == "plugin" and needs_torch(entry.target):
        return f"{where} imports {entry.target}, which needs torch"
    if area == "core" and needs_torch(entry.target) and not needs_torch(module):
        return f"{where} is torch-free, but imports {entry.target}, which needs torch"
    low, high = level_of(here), level_of(there)
    if here != there and low is not None and high is not None and high >= low:
        return f"{where} imports {entry.target}, but {here} does not stand above {there}"
    return None


def violations(sources: Mapping[str, str], packages: frozenset[str] = frozenset()) -> list[str]:
    """Return all complaints about a set of modules: name -> source."""
    known = frozenset(sources)
    imports = {m: find_imports(m, s, known, m in packages) for m, s in sources.items()}
    found = [c for module, entries in imports.items() for entry in entries if (c := complaint(module, entry, packages))]
    rooms = {m: room_of(m, packages) for m in sources}
    found += [f"{m} lies in {room}, which has no level" for m, room in rooms.items() if level_of(room) is None]
    graph = {m: {e.target for e in entries if e.target in known and e.target != m} for m, entries in imports.items()}
    found += [f"{' -> '.join(circle)} is a circle" for circle in circles(graph)]
    return found + loaded_torch(imports)


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Return one circle of imports for each module that can reach itself."""
    found = []
    for start in sorted(graph):
        path = path_to(graph, start, lambda module, start=start: module == start)
        if path and start == min(path):
            found.append(path)
    return found


def path_to(graph: Mapping[str, set[str]], start: str, arrived) -> list[str] | None:
    """Return a shortest path of at least one step from ``start`` to a module that satisfies ``arrived``."""
    paths, seen = [[start]], set()
    while paths:
        path = paths.pop(0)
        for target in sorted(graph.get(path[-1], ())):
            if arrived(target):
                return [*path, target]
            if target not in seen:
                seen.add(target)
                paths.append([*path, target])
    return None


def loaded_torch(imports: Mapping[str, list[Import]]) -> list[str]:
    """Return how loading a module of the plugin would load torch, by imports that are not deferred."""
    graph = {m: with_parents({e.target for e in entries if not e.deferred}, imports) for m, entries in imports.items()}
    paths = [path_to(graph, m, lambda t: t.split(".")[0] in TORCH) for m in imports if area_of(m) == "plugin"]
    return [f"loading {path[0]} loads torch: {' -> '.join(path)}" for path in paths if path]


def with_parents(targets: set[str], known: Mapping[str, object]) -> set[str]:
    """Return the targets and the packages that Python loads on the way to them."""
    parents = {".".join(t.split(".")[:n]) for t in targets for n in range(1, t.count(".") + 1)}
    return targets | {p for p in parents if p in known}


def real_sources() -> dict[str, str]:
    """Return the package's modules: name -> source."""
    files = sorted((SOURCE / PACKAGE).rglob("*.py"))
    return {module_name(path): path.read_text(encoding="utf-8") for path in files}


def real_packages() -> frozenset[str]:
    """Return the names of those modules that are packages."""
    return frozenset(module_name(path) for path in (SOURCE / PACKAGE).rglob("__init__.py"))


def test_the_package_keeps_the_rules() -> None:
    sources = real_sources()
    assert "napari_unet.core.settings" in sources
    assert violations(sources, real_packages()) == []


@pytest.mark.parametrize(
    ("module", "source", "expected"),
    [
        ("core.network.unet", "import napari", "only demo and plugin know of a screen"),
        ("core.network.unet", "def f():\n    from qtpy.QtCore import QTimer", "only demo and plugin know of a screen"),
        ("cli.train", "import magicgui.widgets", "only demo and plugin know of a screen"),
        ("core.data.tiles", "import torch", "has to do without torch"),
        ("core.data.tiles", "def f():\n    import torch.nn as nn", "has to do without torch"),
        ("core.evaluation.metrics", "from ..network.unet import UNet", "which needs torch"),
        ("core.data.tiles", "from ..instances.watershed import split", "core.data does not stand above core.instances"),
        ("core.data.tiles", "from ..instances import watershed", "core.data does not stand above core.instances"),
        ("core.data.tiles", "import napari_unet.core.instances.watershed as w", "does not stand above"),
        ("core.evaluation.metrics", "from ..proofreading.edits import a", "does not stand above core.proofreading"),
        ("core.training.loss", "from ...stores import read", "core.training does not stand above stores"),
        (
            "core.training.loss",
            "try:\n    from napari_unet.plugin import docks\nfinally:\n    pass",
            "stand above plugin",
        ),
        ("stores.tiff", "from ..plugin.layers import reading", "stores does not stand above plugin.layers"),
        ("stores.tiff", "from ..core.training.loss import a", "stores may not import core.training"),
        ("records.runs", "from ..cluster import pool", "records does not stand above cluster"),
        ("cli.train", "from ..plugin.layers import reading", "cli may not import plugin.layers"),
        ("cli.train", "import torch", "has to do without torch"),
        ("plugin.layers.reading", "from ...cli import train", "plugin.layers does not stand above cli"),
        ("plugin.layers.reading", "from ...stores import tiff", "plugin may not import stores"),
        ("plugin.layers.reading", "from ...engine.child.jobs import a", "plugin may not import engine.child"),
        ("plugin.layers.reading", "from ..train import view", "plugin.layers does not stand above plugin.train"),
        ("plugin.train.view", "from ..segment import view", "plugin.train does not stand above plugin.segment"),
        ("plugin.layers.reading", "class A:\n    def f(self):\n        import torch", "has to do without torch"),
        ("plugin.layers.reading", "import importlib\ndef f(): importlib.import_module('torch')", "without torch"),
        (
            "plugin.layers.reading",
            "from importlib import import_module as i\nfrom ...core.network import unet",
            "torch",
        ),
        ("plugin.layers.reading", "from napari_unet import train", "lazy names"),
        ("plugin.layers.reading", "from ... import train", "lazy names"),
        (
            "plugin.layers.reading",
            "from ...records import runs",
            "loads torch: napari_unet.plugin.layers.reading -> napari_unet.records.runs",
        ),
        ("core.surprise.new", "x = 1", "which has no level"),
        ("surprise", "x = 1", "which has no level"),
    ],
)
def test_a_violation_is_found(module: str, source: str, expected: str) -> None:
    found = violations(a_package(**{module: source}), PACKAGES)
    assert len(found) == 1
    assert expected in found[0]


MODULES = (
    "core.data.tiles", "core.network.unet", "core.instances.watershed", "core.evaluation.metrics",
    "core.proofreading.edits", "core.training.loss", "stores.tiff", "cluster.pool", "engine.child.jobs",
    "plugin.layers.reading", "plugin.train.view", "plugin.segment.view", "plugin.docks", "cli.train",
)  # fmt: skip
PACKAGES = frozenset({PACKAGE} | {f"{PACKAGE}.{room}" for rooms in ROOMS for room in rooms if "__" not in room})


def a_package(**sources: str) -> dict[str, str]:
    """Return a small package with some sources in it."""
    everything = dict.fromkeys(PACKAGES, "") | {f"{PACKAGE}.{name}": "" for name in MODULES}
    everything[f"{PACKAGE}.records.runs"] = "import torch"
    return everything | {f"{PACKAGE}.{name}": source for name, source in sources.items()}


def test_circles_are_found() -> None:
    circle = {
        "core.training.a": "from .b import x",
        "core.training.b": "def f():\n    from .c import y",
        "core.training.c": "from .a import z",
    }
    name = f"{PACKAGE}.core.training"
    assert violations(a_package(**circle), PACKAGES) == [f"{name}.a -> {name}.b -> {name}.c -> {name}.a is a circle"]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("core.evaluation.metrics", "if TYPE_CHECKING:\n    import torch\n    from ..network.unet import UNet"),
        ("core.training.loss", "from ..data.tiles import a\nfrom ..network.unet import b\nimport torch"),
        ("plugin.layers.reading", "import qtpy.QtCore\nfrom ...core.data import tiles"),
        ("plugin.train.view", "from ..layers.reading import a"),
        ("stores.tiff", "from ..core.data.tiles import Planes"),
        ("cli.train", "from .. import __version__\nfrom ..core.training.loss import a\nfrom ..cluster import pool"),
    ],
)
def test_what_is_allowed_passes(module: str, source: str) -> None:
    assert violations(a_package(**{module: source}), PACKAGES) == []


def test_an_else_of_type_checking_counts() -> None:
    source = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch\nelse:\n    import napari"
    found = violations(a_package(**{"core.evaluation.metrics": source}), PACKAGES)
    assert [re.search(r"imports (\w+)", complaint).group(1) for complaint in found] == ["napari"]


def modules_of(room: str) -> list[str]:
    """Return the stems of the modules in a room."""
    packages = real_packages()
    return [m.rpartition(".")[2] for m in real_sources() if m not in packages and room_of(m) == room]


def test_rooms_are_small_and_say_what_they_are_for() -> None:
    rooms = [room for level in ROOMS for room in level if "__" not in room]
    crowded = {room: len(found) for room in rooms if len(found := modules_of(room)) > LARGEST_ROOM}
    assert crowded == {}
    silent = [room for room in rooms if not ast.get_docstring(ast.parse(real_sources()[f"{PACKAGE}.{room}"]))]
    assert silent == []


def test_a_module_does_not_say_its_room_again() -> None:
    packages = real_packages()
    names = [m for m in real_sources() if m not in packages and m.count(".") > 1]
    assert [m for m in names if m.split(".")[-2].rstrip("s") in m.rpartition(".")[2]] == []


def test_no_module_name_occurs_twice_on_a_floor() -> None:
    packages = real_packages()
    for floor in sorted({area_of(m) for m in real_sources()}):
        stems = [m.rpartition(".")[2] for m in real_sources() if m not in packages and area_of(m) == floor]
        twice = {stem for stem in stems if stems.count(stem) > 1}
        assert twice <= {"view", "controller"}, floor


def test_no_class_name_has_two_meanings() -> None:
    homes: dict[str, list[str]] = {}
    for module, source in real_sources().items():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ClassDef):
                homes.setdefault(node.name, []).append(module)
    assert {name: places for name, places in homes.items() if len(places) > 1} == {}


def modules_after(code: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter has loaded after some code."""
    script = f"{code}\nimport sys\nprint('LOADED', *sorted({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("LOADED ")[2].split())


def import_all(*areas: str) -> str:
    """Return code that imports every module of some areas, or some modules of core."""
    names = [m for m in real_sources() if any(m == f"{PACKAGE}.{a}" or m.startswith(f"{PACKAGE}.{a}.") for a in areas)]
    assert names, f"no module in {areas}"
    return "import " + ", ".join(names)


def test_modules_after_sees_what_is_loaded() -> None:
    assert "decimal" in modules_after("import decimal")
    assert "decimal" not in modules_after("")


def test_importing_the_package_loads_neither_torch_nor_qt() -> None:
    loaded = modules_after(f"import {PACKAGE}")
    assert PACKAGE in loaded
    assert not loaded & (TORCH | SCREEN)


def test_importing_the_core_loads_no_qt() -> None:
    assert not modules_after(import_all("core")) & SCREEN


def test_importing_the_torch_free_core_loads_no_torch() -> None:
    free = [m for m in real_sources() if area_of(m) == "core" and not needs_torch(m)]
    assert not modules_after("import " + ", ".join(free)) & TORCH


def test_importing_the_plugin_loads_no_torch() -> None:
    pytest.importorskip("napari")
    loaded = modules_after(import_all("plugin"))
    assert not loaded & TORCH


def test_importing_the_command_line_loads_neither_torch_nor_qt() -> None:
    loaded = modules_after(import_all("cli"))
    assert not loaded & (TORCH | SCREEN)


def declared_distributions() -> set[str]:
    """Return the names of all distributions that pyproject.toml asks for, extras included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *(r for extra in project["optional-dependencies"].values() for r in extra)]
    return {re.split(r"[\[<>=!~; ]", requirement)[0].lower().replace("_", "-") for requirement in wanted}


def test_every_imported_library_is_declared() -> None:
    sources, declared, owners = real_sources(), declared_distributions(), packages_distributions()
    known = frozenset(sources)
    imported = {
        entry.target.split(".")[0]
        for module, source in sources.items()
        for entry in find_imports(module, source, known, module in real_packages())
    }
    foreign = imported - sys.stdlib_module_names - {PACKAGE}
    # Libraries of an extra that is not installed own no module here; a namespace such as bioimageio is shared.
    spaces = {name.split(".")[0] for name in declared}
    missing = {
        n
        for n in foreign
        if not declared & {o.lower().replace("_", "-") for o in owners.get(n, [n])} and n not in spaces - set(owners)
    }
    assert missing == set()
