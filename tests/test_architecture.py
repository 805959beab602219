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

LEVELS: tuple[frozenset[str], ...] = (
    frozenset({"errors", "events", "tiles"}),
    frozenset({"arrays", "contingency", "labels", "settings"}),
    frozenset(
        {
            "annotation",
            "augmentation",
            "basins",
            "blocks",
            "landscape",
            "tidy",
            "large",
            "linking",
            "boundary",
            "card",
            "checked",
            "checks",
            "comparison",
            "device",
            "editing",
            "history",
            "diameter",
            "instances",
            "loss",
            "measure",
            "metrics",
            "overlap",
            "parts",
            "places",
            "proof",
            "region_metrics",
            "restoring",
            "sizes",
            "synthetic",
            "uncertainty",
            "unet",
            "waist",
        }
    ),
    frozenset({"identity", "package", "patches"}),
    frozenset({"choosing", "learner", "plan", "prediction", "predictor", "starts", "training", "tuning", "validation"}),
)
"""The levels of core, lowest first. A module imports from its own level or below, never in a circle."""

TORCH_FREE = frozenset(
    {
        "annotation",
        "arrays",
        "basins",
        "blocks",
        "large",
        "linking",
        "boundary",
        "card",
        "checked",
        "checks",
        "comparison",
        "contingency",
        "diameter",
        "editing",
        "errors",
        "events",
        "history",
        "instances",
        "labels",
        "landscape",
        "measure",
        "metrics",
        "overlap",
        "parts",
        "places",
        "proof",
        "region_metrics",
        "restoring",
        "settings",
        "sizes",
        "synthetic",
        "tidy",
        "tiles",
        "uncertainty",
        "waist",
    }
)
"""The modules of core that may be loaded in the viewer's process."""

NEIGHBOURS: dict[str, frozenset[str]] = {
    "core": frozenset({"core"}),
    "stores": frozenset({"core", "stores"}),
    "cluster": frozenset({"cluster", "core", "stores"}),
    "engine": frozenset({"core", "engine", "runs", "stores"}),
    "runs": frozenset({"core", "runs", "stores", "terminal"}),
    "corrections": frozenset({"core", "corrections", "runs", "stores"}),
    "demo": frozenset({"cluster", "core", "demo", "runs", "stores"}),
    "exchange": frozenset({"core", "exchange"}),
    "replay": frozenset({"core", "replay", "runs", "stores", "terminal"}),
    "report": frozenset({"core", "report"}),
    "terminal": frozenset({"terminal"}),
    "cli": frozenset({"cli", "cluster", "core", "demo", "exchange", "replay", "report", "runs", "stores"}),
    "plugin": frozenset({"core", "corrections", "engine", "plugin", "replay", "report", "runs"}),
    "__main__": frozenset({"cli"}),
    "__init__": frozenset({"core", "stores"}),
}
"""Which areas of the package each area may import."""

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


def core_name(module: str) -> str | None:
    """Return ``"loss"`` for ``napari_unet.core.training.loss``, None for anything that is no module of core."""
    parts = module.split(".")
    return parts[2] if parts[:2] == [PACKAGE, "core"] and len(parts) > 2 else None


def level_of(name: str) -> int | None:
    """Return the level of a module of core."""
    return next((number for number, names in enumerate(LEVELS) if name in names), None)


def module_name(path: Path, base: Path = SOURCE) -> str:
    """Return the dotted name of a source file."""
    parts = path.relative_to(base).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def complaint(module: str, entry: Import) -> str | None:
    """Return what is wrong with one import, or None."""
    area, top = area_of(module), entry.target.split(".")[0]
    where = f"{module}:{entry.line}"
    if top in SCREEN and area not in MAY_SHOW:
        return f"{where} imports {entry.target}, but only {' and '.join(sorted(MAY_SHOW))} know of a screen"
    if top in TORCH and (area in {"plugin", "cli", "__init__"} or core_name(module) in TORCH_FREE):
        return f"{where} imports {entry.target}, but has to do without torch"
    if top != PACKAGE or entry.target in {PACKAGE, f"{PACKAGE}.__version__"}:
        return None
    return inner_complaint(module, entry, where)


def inner_complaint(module: str, entry: Import, where: str) -> str | None:
    """Return what is wrong with an import of another module of the package, or None."""
    area, target = area_of(module), area_of(entry.target)
    if target not in NEIGHBOURS:
        return f"{where} imports {entry.target} by way of the package's lazy names; import it from its own module"
    if target not in NEIGHBOURS.get(area, frozenset()):
        return f"{where} imports {entry.target}, but {area} may not import {target}"
    name, imported = core_name(module), core_name(entry.target)
    if imported is None:
        return None
    if area == "plugin" and imported not in TORCH_FREE:
        return f"{where} imports {entry.target}, which needs torch"
    if name in TORCH_FREE and imported not in TORCH_FREE:
        return f"{where} is torch-free, but imports {entry.target}, which needs torch"
    low, high = level_of(name) if name else None, level_of(imported)
    if low is not None and high is not None and high > low:
        return f"{where} imports {entry.target}, which stands above it"
    return None


def violations(sources: Mapping[str, str], packages: frozenset[str] = frozenset()) -> list[str]:
    """Return all complaints about a set of modules: name -> source."""
    known = frozenset(sources)
    imports = {m: find_imports(m, s, known, m in packages) for m, s in sources.items()}
    found = [c for module, entries in imports.items() for entry in entries if (c := complaint(module, entry))]
    found += [
        f"{m} has no level in {Path(__file__).name}" for m in sources if (n := core_name(m)) and level_of(n) is None
    ]
    found += [f"{m} has no neighbours in {Path(__file__).name}" for m in sources if area_of(m) not in NEIGHBOURS]
    graph = {m: {e.target for e in entries if e.target in known and e.target != m} for m, entries in imports.items()}
    found += [f"{' -> '.join(circle)} is a circle" for circle in circles(graph) if core_name(circle[0])]
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
        ("cli", "import magicgui.widgets", "only demo and plugin know of a screen"),
        ("core.data.annotation", "import torch", "has to do without torch"),
        ("core.data.annotation", "def f():\n    import torch.nn as nn", "has to do without torch"),
        ("core.evaluation.metrics", "from .unet import UNet", "which needs torch"),
        ("core.data.tiles", "from .settings import TrainingSettings", "stands above it"),
        ("core.data.tiles", "from . import settings", "stands above it"),
        ("core.data.tiles", "import napari_unet.core.settings as s", "stands above it"),
        ("core.training.loss", "from .training import train", "stands above it"),
        ("core.training.loss", "from ..stores import read", "core may not import stores"),
        ("core.training.loss", "try:\n    from napari_unet.plugin import forms\nfinally:\n    pass", "may not import"),
        ("stores", "from .plugin import layers", "stores may not import plugin"),
        ("runs", "from .cluster import start", "runs may not import cluster"),
        ("cli", "from .plugin import sample_data", "cli may not import plugin"),
        ("cli", "import torch", "has to do without torch"),
        ("plugin.widgets.forms", "from ..cli import main", "plugin may not import cli"),
        ("plugin.widgets.forms", "from ..stores import read", "plugin may not import stores"),
        ("plugin.widgets.forms", "class A:\n    def f(self):\n        import torch", "has to do without torch"),
        (
            "plugin.widgets.forms",
            "import importlib\ndef f(): importlib.import_module('torch')",
            "has to do without torch",
        ),
        (
            "plugin.widgets.forms",
            "import importlib\nimportlib.import_module('napari_unet.core.network.unet')",
            "which needs torch",
        ),
        ("plugin.widgets.forms", "from ..core.unet import UNet", "which needs torch"),
        ("plugin.widgets.forms", "from ..core import unet", "which needs torch"),
        ("plugin.widgets.forms", "from napari_unet import train", "lazy names"),
        ("plugin.widgets.forms", "from .. import train", "lazy names"),
        (
            "plugin.widgets.forms",
            "from ..runs import a_run",
            "loads torch: napari_unet.plugin.widgets.forms -> napari_unet.records.runs",
        ),
        ("core.surprise", "x = 1", "has no level"),
        ("surprise", "x = 1", "has no neighbours"),
    ],
)  # fmt: skip
def test_a_violation_is_found(module: str, source: str, expected: str) -> None:
    others = {f"core.{name}": "" for names in LEVELS for name in names} | {
        "": "", "core": "", "plugin": "", "plugin.layers.reading": "", "stores": "", "cli": "", "cluster": "",
        "runs": "import torch",
    }  # fmt: skip
    everything = {f"{PACKAGE}.{name}".rstrip("."): text for name, text in (others | {module: source}).items()}
    found = violations(everything, frozenset({PACKAGE, f"{PACKAGE}.core", f"{PACKAGE}.plugin"}))
    assert len(found) == 1
    assert expected in found[0]


def test_circles_are_found() -> None:
    found = violations(
        {
            f"{PACKAGE}.core.loss": "from .unet import a",
            f"{PACKAGE}.core.unet": "def f():\n    from .augmentation import b",
            f"{PACKAGE}.core.augmentation": "from .loss import c",
        }
    )
    assert found == [
        "napari_unet.core.training.augmentation -> napari_unet.core.training.loss -> napari_unet.core.network.unet -> "
        "napari_unet.core.training.augmentation is a circle"
    ]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("core.evaluation.metrics", "if TYPE_CHECKING:\n    import torch\n    from .unet import UNet"),
        ("core.training.loop", "from .plan import TrainingPlan\nfrom .events import Event\nimport torch"),
        ("core.network.unet", "import torch\nfrom . import tiles"),
        ("plugin.widgets.forms", "import qtpy.QtCore\nfrom ..core.settings import options\nfrom . import layers"),
        ("stores", "from .core.arrays import Planes"),
        ("cli", "from . import __version__\nfrom .core.training import train"),
    ],
)  # fmt: skip
def test_what_is_allowed_passes(module: str, source: str) -> None:
    others = {f"core.{name}": "" for names in LEVELS for name in names} | {
        "plugin": "",
        "plugin.layers.reading": "",
        "core": "",
    }
    everything = {f"{PACKAGE}.{name}": text for name, text in (others | {module: source}).items()}
    assert violations(everything, frozenset({f"{PACKAGE}.core", f"{PACKAGE}.plugin"})) == []


def test_an_else_of_type_checking_counts() -> None:
    source = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch\nelse:\n    import napari"
    found = violations({f"{PACKAGE}.core.metrics": source})
    assert [re.search(r"imports (\w+)", complaint).group(1) for complaint in found] == ["napari"]


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
    assert not modules_after(import_all(*(f"core.{name}" for name in TORCH_FREE))) & TORCH


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
