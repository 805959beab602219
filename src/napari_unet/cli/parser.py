"""Commands and options; those that stand for settings are made from their fields."""

from __future__ import annotations

import argparse
import difflib
import importlib
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..core.distribution import COMMAND, DISTRIBUTION
from ..core.errors import SettingsError
from ..core.network.model_card import BUNDLED
from ..core.settings import LinkSettings, NetworkSettings, Option, PredictionSettings, TrainingSettings, options

SCRATCH = "scratch"
AXES_HELP = (
    "what the axes of the images are, one letter each: t time, z depth, c channel, p position, y, x; by default as "
    "the files say"
)
PATHS_HELP = (
    "PATH, INPUT and OUTPUT: a TIFF or PNG file, a folder of them (same stems; the output gets one label TIFF per "
    "image), a multi-page TIFF as a stack, a .zarr, or a Cell Tracking Challenge folder (SET/01 with SET/01_GT/SEG)."
)


@dataclass(frozen=True)
class _Command:
    """One command: its help, its arguments in order, and the settings that are options of it.

    Attributes
    ----------
    help, description : str
        One line for the list of commands; a paragraph, by default the same line.
    arguments : dict of str to dict
        Keywords of ``add_argument``, by name.
    settings : tuple of tuple
        Settings class and names of its fields, which become options.
    listed : tuple of tuple
        Title and settings class of each table at the end of the help.
    more : str
        Added to the paragraph on paths.
    """

    help: str
    arguments: dict[str, dict[str, Any]]
    settings: tuple[tuple[type, tuple[str, ...]], ...] = ()
    description: str = ""
    listed: tuple[tuple[str, type], ...] = ()
    more: str = ""


def _path(metavar: str, help: str, **more: Any) -> dict[str, Any]:
    """Return the keywords of an argument that is a path."""
    return {"type": Path, "metavar": metavar, "help": help, **more}


def assignment(text: str) -> tuple[str, str]:
    """Return name and value of ``name=value``.

    Raises
    ------
    argparse.ArgumentTypeError
        When there is no ``=``.
    """
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form name=value")
    return name.strip().replace("-", "_"), value.strip()


_FLAG: dict[str, Any] = {"action": "store_true"}
_AXES = {"--axes": {"metavar": "LETTERS", "help": AXES_HELP}}
_OVERWRITE = {"--overwrite": {**_FLAG, "help": "replace the output if it exists"}}
_MODEL = {"model": {"metavar": "MODEL", "help": f"folder, .zip, or {BUNDLED}"}}
_SET = {
    "--set": {
        "dest": "assignments",
        "action": "append",
        "default": [],
        "type": assignment,
        "metavar": "NAME=VALUE",
        "help": "any other setting, see below; may be repeated",
    }
}

_MANY: dict[str, dict[str, Any]] = {
    "--workers": {
        "type": int,
        "metavar": "N",
        "help": "share the work among N processes of this computer; OUTPUT is a .zarr then",
    },
    "--scheduler": {
        "metavar": "ADDRESS",
        "help": "share the work among the workers of a dask scheduler, such as tcp://node7:8786, or the .json file "
        "that holds its address; all of them have to see INPUT and OUTPUT, a .zarr",
    },
}
"""At most one of these can be given."""

COMMANDS = {
    "train": _Command(
        "train a model on images with painted or complete labels",
        {
            "--images": _path("PATH", "images", required=True),
            "--labels": _path("PATH", "their labels, 0 = unlabelled", required=True),
            "--output": _path("MODEL", "folder or .zip to write", required=True),
            "--start": {
                "default": BUNDLED,
                "metavar": f"{BUNDLED}|{SCRATCH}|MODEL",
                "help": ("what to start from: the bundled model, nothing, or another model (default: %(default)s)"),
            },
            "--unpainted": {
                "choices": ("background", "unknown"),
                "help": (
                    "what label 0 means: background, as in complete masks (default), or unknown, as in paint on a few"
                    " cells (default with --background-label)"
                ),
            },
            "--regions": _path(
                "JSON",
                (
                    'boxes inside which label 0 is background, by image name: {"cells_1": [[y0, y1, x0, x1], ...]}, '
                    "in pixels; or the job.json of a run"
                ),
            ),
            "--resume": _path(
                "RUN", ("run folder of a training to resume, with its optimiser state; --start is then its model")
            ),
            **_AXES,
            **_OVERWRITE,
            **_SET,
        },
        settings=((TrainingSettings, ("seconds", "steps", "background_label", "seed")),),
        listed=(
            ("settings for --set", TrainingSettings),
            (f"settings for --set with --start {SCRATCH}", NetworkSettings),
        ),
    ),
    "segment": _Command(
        "segment images with a model",
        {
            "input": _path("INPUT", "image, stack, or folder of them"),
            "output": _path("OUTPUT", "labels to write"),
            "--model": {
                "default": BUNDLED,
                "metavar": f"{BUNDLED}|MODEL",
                "help": ("folder or .zip (default: %(default)s)"),
            },
            "--planes": {
                "metavar": "N,N,...",
                "default": "",
                "help": (
                    "only these planes, counted from 0; the others stay empty. Several leading axes are joined by a "
                    "colon, as in 0:3,0:4"
                ),
            },
            "--sparse": {
                **_FLAG,
                "help": (
                    "missing chunks of a .zarr are empty regions that were not stored; otherwise they count as lost"
                ),
            },
            **_AXES,
            **_OVERWRITE,
            **_SET,
        },
        settings=((PredictionSettings, ("tile", "device", "what")),),
        listed=(("settings for --set", PredictionSettings),),
        more=" The ending of OUTPUT decides its format: .tif, .png, .zarr; without one it is a folder.",
    ),
    "link": _Command(
        "link the cells of a stack's planes, in depth or through time",
        {
            "labels": _path("LABELS", "label stack, segmented plane by plane"),
            "output": _path("OUTPUT", "label stack to write"),
            **_AXES,
            **_OVERWRITE,
        },
        settings=((LinkSettings, ("along", "overlap", "max_gap")),),
        description=(
            "Link cells that were segmented plane by plane: in depth, through time, or both. Every cell of "
            "the result has its own number. A cell continues as the one that it overlaps most."
        ),
    ),
    "evaluate": _Command(
        "score a segmentation against ground truth",
        {
            "truth": _path("GROUND_TRUTH", "ground-truth labels"),
            "prediction": _path("PREDICTION", "labels to score"),
            "--json": _path("FILE", "write all scores to this .json file"),
            "--report": _path("FILE", "write a page with curves and pictures, one .html"),
            "--image": _path("PATH", "the images, for the pictures of the report"),
            **_AXES,
        },
        description="Score a segmentation against ground truth, plane by plane: AP, F1, PQ, SEG, IoU and others.",
    ),
    "measure": _Command(
        "write a table with one row per cell",
        {
            "labels": _path("LABELS", "labels, one number per cell"),
            "output": _path("OUTPUT", "the table, a .csv file"),
            "--image": _path("PATH", "the image, for grey values per channel"),
            **_AXES,
            "--pixel-size": {
                "type": float,
                "default": 1.0,
                "metavar": "N",
                "help": ("side of a pixel in the unit (default: %(default)s)"),
            },
            "--unit": {
                "default": "px",
                "metavar": "UNIT",
                "help": ("unit of lengths, such as um (default: %(default)s)"),
            },
            **_OVERWRITE,
        },
        description="Measure every cell of a segmentation: area, perimeter, shape, and the grey values of an image.",
    ),
    "export": _Command(
        "write a model as one zip, as ONNX or as a bioimage.io package",
        {
            **_MODEL,
            "output": _path("OUTPUT", "file, or folder, to write"),
            "--format": {
                "choices": ("zip", "folder", "onnx", "bioimageio"),
                "help": ("zip, folder, onnx or bioimageio; by default as the ending of OUTPUT says"),
            },
            "--author": {"default": "", "metavar": "NAME", "help": "who made it, for bioimage.io"},
            "--licence": {
                "default": "CC-BY-4.0",
                "metavar": "SPDX",
                "help": ("licence, for bioimage.io (default: %(default)s)"),
            },
            "--json": {**_FLAG, "help": "print what was done as JSON"},
            **_OVERWRITE,
        },
        description=(
            "Write a model for another place or program. The export is read back and run; if it does not "
            "compute the same as the model, nothing is left."
        ),
    ),
    "info": _Command("show what a model is and what it was trained on", _MODEL),
    "demo": _Command(
        "paint a few cells, train, segment a stack, and score before and after",
        {
            "--output": _path("FOLDER", "folder to write to (default: %(default)s)", default=Path("demo-output")),
            "--images": _path("PATH", "own images in place of generated ones"),
            "--labels": _path("PATH", "their complete labels; a few are trained on"),
            **_AXES,
            **_OVERWRITE,
            "--no-viewer": {**_FLAG, "help": "do not open napari at the end"},
        },
        settings=((TrainingSettings, ("seconds", "seed")),),
        description=(
            "Paint a few cells of one plane the way a person would, train the bundled model on them for half "
            "a minute, segment a whole stack, and score before and after on the planes that were not trained "
            "on."
        ),
    ),
}


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; ``arguments.run`` is the function to call with them."""
    parser = argparse.ArgumentParser(
        COMMAND, description="Cell segmentation with a U-Net: train, segment, evaluate.", epilog=PATHS_HELP
    )
    parser.add_argument("--version", action="version", version=f"{COMMAND} {version(DISTRIBUTION)}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        _add_command(commands, name, command)
    return parser


def _add_command(commands: Any, name: str, command: _Command) -> None:
    """Add the parser of one command, which runs the function of its name in the module of its name."""
    paths = PATHS_HELP + command.more if name not in ("export", "info", "demo") else ""
    tables = [f"{title}:\n{list_settings(kind)}" for title, kind in command.listed]
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=command.help,
        description=_wrapped(command.description or command.help),
        epilog="\n\n".join([_wrapped(paths), *tables]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for argument, keywords in command.arguments.items():
        parser.add_argument(argument, **keywords)
    for kind, names in command.settings:
        for setting in names:
            add_setting(parser, kind, setting, 30.0 if (name, setting) == ("demo", "seconds") else None)
    if name == "segment":
        group = parser.add_mutually_exclusive_group()
        for argument, keywords in _MANY.items():
            group.add_argument(argument, **keywords)
    parser.set_defaults(run=_deferred(name))


def _deferred(name: str) -> Callable[[argparse.Namespace], int]:
    """Return a function that imports the command's module when it is run, so that help needs no torch."""

    def run(arguments: argparse.Namespace) -> int:
        return int(getattr(importlib.import_module(f"napari_unet.cli.{name}"), name)(arguments))

    return run


def add_setting(parser: argparse.ArgumentParser, kind: Any, name: str, default: Any = None) -> None:
    """Add an option for one field of a settings class; None stands for what the field says."""
    option = options(kind)[name]
    field = next(f for f in fields(kind) if f.name == name)
    words = "|".join(option.choices) or ("S" if option.unit == "s" else "N")
    parser.add_argument(
        f"--{name.replace('_', '-')}",
        type=type(field.default),
        choices=option.choices or None,
        metavar=words,
        default=default,
        help=_escaped(describe(option, field.default if default is None else default)),
    )


def describe(option: Option, default: Any) -> str:
    """Return help, unit, default and bounds of an option."""
    said = option.help if option.help.endswith(".") else option.help + "."
    return f"{said} Default {shown(default)}{option.unit_of(default)}{_bounds(option)}."


def _bounds(option: Option) -> str:
    """Return what values there are."""
    if option.choices:
        return f"; one of {', '.join(option.choices)}"
    if option.minimum is None or option.maximum is None:
        return ""
    return f"; {shown(option.minimum)} to {shown(option.maximum)}"


def shown(value: Any) -> str:
    """Return a value as one would type it."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def list_settings(kind: Any) -> str:
    """Return every field of a settings class with unit, default, bounds and help, for a terminal."""
    defaults = {f.name: f.default for f in fields(kind)}
    lines = []
    for name, option in options(kind).items():
        lines += [
            f"  {name}",
            textwrap.fill(describe(option, defaults[name]), 96, initial_indent=" " * 6, subsequent_indent=" " * 6),
        ]
    return "\n".join(lines)


def _escaped(text: str) -> str:
    """Return a text that argparse does not take for a format."""
    return text.replace("%", "%%")


def _wrapped(text: str) -> str:
    """Return a text broken into lines."""
    return textwrap.fill(text, 96)


def chosen(arguments: argparse.Namespace, names: tuple[str, ...]) -> dict[str, Any]:
    """Return the settings that the user gave, from options of their own and from ``--set``.

    An option of its own comes before the same name in ``--set``.
    """
    values: dict[str, Any] = dict(getattr(arguments, "assignments", []))
    return values | {n: getattr(arguments, n) for n in names if getattr(arguments, n) is not None}


def check_names(values: Mapping[str, Any], *kinds: Any) -> None:
    """Raise a :class:`SettingsError` for the first name that no settings class has, with the nearest that one has."""
    known = [f.name for kind in kinds for f in fields(kind)]
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            meant = f"did you mean {near[0]}?" if near else "--help lists them all."
            raise SettingsError(f"There is no setting {name!r}; {meant}")
