"""Commands and options; those that stand for settings are made from their fields."""

from __future__ import annotations

import argparse
import difflib
import importlib
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import fields
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
OVERWRITE_HELP = "replace the output if it exists"
PATHS_HELP = (
    "PATH, INPUT and OUTPUT: a TIFF or PNG file, a folder of them (same stems; the output gets one label TIFF per "
    "image), a multi-page TIFF as a stack, a .zarr, or a Cell Tracking Challenge folder (SET/01 with SET/01_GT/SEG)."
)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; ``arguments.run`` is the function to call with them."""
    parser = argparse.ArgumentParser(
        COMMAND, description="Cell segmentation with a U-Net: train, segment, evaluate.", epilog=PATHS_HELP
    )
    parser.add_argument("--version", action="version", version=f"{COMMAND} {version(DISTRIBUTION)}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for add in (_add_train, _add_segment, _add_link, _add_evaluate, _add_measure, _add_export, _add_info, _add_demo):
        add(commands)
    return parser


def _command(commands: Any, name: str, help: str, description: str = "", epilog: str = "") -> argparse.ArgumentParser:
    """Return the parser of one command, which runs the function of its name in the module of its name."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=help, description=description or help, epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.set_defaults(run=_deferred(name))
    return parser


def _deferred(name: str) -> Callable[[argparse.Namespace], int]:
    """Return a function that imports the command's module when it is run, so that help needs no torch."""

    def run(arguments: argparse.Namespace) -> int:
        return int(getattr(importlib.import_module(f"napari_unet.cli.{name}"), name)(arguments))

    return run


def _add_train(commands: Any) -> None:
    """Add the command that trains."""
    parser = _command(
        commands, "train", "train a model on images with painted or complete labels", epilog=_wrapped(PATHS_HELP)
        + "\n\nsettings for --set:\n" + list_settings(TrainingSettings)
        + f"\n\nsettings for --set with --start {SCRATCH}:\n" + list_settings(NetworkSettings),
    )  # fmt: skip
    parser.add_argument("--images", required=True, type=Path, metavar="PATH", help="images")
    parser.add_argument("--labels", required=True, type=Path, metavar="PATH", help="their labels, 0 = unpainted")
    parser.add_argument("--output", required=True, type=Path, metavar="MODEL", help="folder or .zip to write")
    parser.add_argument(
        "--start", default=BUNDLED, metavar=f"{BUNDLED}|{SCRATCH}|MODEL",
        help="what to go on from: the model of the package, nothing, or another model (default: %(default)s)",
    )  # fmt: skip
    for name in ("seconds", "steps", "background_label", "seed"):
        add_setting(parser, TrainingSettings, name)
    parser.add_argument(
        "--unpainted", choices=("background", "unknown"),
        help="what label 0 means: background, as in complete masks (default), or unknown, as in paint on a few cells "
             "(default with --background-label)",
    )  # fmt: skip
    parser.add_argument(
        "--regions", type=Path, metavar="JSON",
        help="boxes inside which label 0 is background, by image name: {\"cells_1\": [[y0, y1, x0, x1], ...]}, in "
             "pixels; or the job.json of a run",
    )  # fmt: skip
    parser.add_argument(
        "--resume",
        type=Path,
        metavar="RUN",
        help="run folder whose training goes on with its optimiser state; --start is then its model",
    )
    _add_common(parser)


def _add_segment(commands: Any) -> None:
    """Add the command that segments."""
    parser = _command(
        commands, "segment", "segment images with a model",
        epilog=_wrapped(PATHS_HELP + " The kind of OUTPUT is told by its ending: .tif, .png, .zarr; without one it is "
                        "a folder.")
        + "\n\nsettings for --set:\n" + list_settings(PredictionSettings),
    )  # fmt: skip
    parser.add_argument("input", type=Path, metavar="INPUT", help="image, stack, or folder of them")
    parser.add_argument("output", type=Path, metavar="OUTPUT", help="labels to write")
    parser.add_argument(
        "--model", default=BUNDLED, metavar=f"{BUNDLED}|MODEL", help="folder or .zip (default: %(default)s)"
    )
    parser.add_argument(
        "--planes", metavar="N,N,...", default="",
        help="only these planes, counted from 0; the others stay empty. Several leading axes are joined by a colon, as "
             "in 0:3,0:4",
    )  # fmt: skip
    parser.add_argument(
        "--sparse", action="store_true",
        help="the chunks that a .zarr lacks are empty parts that were left out, and not lost",
    )  # fmt: skip
    for name in ("tile", "device", "what"):
        add_setting(parser, PredictionSettings, name)
    many = parser.add_mutually_exclusive_group()
    many.add_argument("--workers", type=int, metavar="N",
                      help="share the work among N processes of this computer; OUTPUT is a .zarr then")  # fmt: skip
    many.add_argument(
        "--scheduler", metavar="ADDRESS",
        help="share the work among the workers of a dask scheduler, such as tcp://node7:8786, or the .json file that "
             "has its address; all of them have to see INPUT and OUTPUT, a .zarr",
    )  # fmt: skip
    _add_common(parser)


def _add_link(commands: Any) -> None:
    """Add the command that joins planes."""
    parser = _command(
        commands, "link", "join the cells of a stack's planes, in depth or through time",
        _wrapped("Join cells that were segmented plane by plane: in depth, through time, or both. Each cell of the "
                 "result has one number, which no other cell has. A cell goes on as the one that it overlaps most."),
        _wrapped(PATHS_HELP),
    )  # fmt: skip
    parser.add_argument("labels", type=Path, metavar="LABELS", help="label stack, segmented plane by plane")
    parser.add_argument("output", type=Path, metavar="OUTPUT", help="label stack to write")
    for name in ("along", "overlap", "max_gap"):
        add_setting(parser, LinkSettings, name)
    parser.add_argument("--axes", metavar="LETTERS", help=AXES_HELP)
    parser.add_argument("--overwrite", action="store_true", help=OVERWRITE_HELP)


def _add_evaluate(commands: Any) -> None:
    """Add the command that measures."""
    parser = _command(
        commands, "evaluate", "measure a segmentation against the truth",
        _wrapped("Measure a segmentation against the truth, plane by plane: AP, F1, PQ, SEG, IoU and others."),
        _wrapped(PATHS_HELP),
    )  # fmt: skip
    parser.add_argument("truth", type=Path, metavar="TRUTH", help="true labels")
    parser.add_argument("prediction", type=Path, metavar="PREDICTION", help="labels to measure")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all scores to this .json file")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write a page with curves and pictures, one .html")
    parser.add_argument("--image", type=Path, metavar="PATH", help="the images, for the pictures of the report")
    parser.add_argument("--axes", metavar="LETTERS", help=AXES_HELP)


def _add_measure(commands: Any) -> None:
    """Add the command that measures every cell."""
    parser = _command(
        commands, "measure", "write a table with one row per cell",
        _wrapped("Measure every cell of a segmentation: area, perimeter, shape, and the grey values of an image."),
        _wrapped(PATHS_HELP),
    )  # fmt: skip
    parser.add_argument("labels", type=Path, metavar="LABELS", help="labels, one number per cell")
    parser.add_argument("output", type=Path, metavar="OUTPUT", help="the table, a .csv file")
    parser.add_argument("--image", type=Path, metavar="PATH", help="the image, for grey values per channel")
    parser.add_argument("--axes", metavar="LETTERS", help=AXES_HELP)
    parser.add_argument("--pixel-size", type=float, default=1.0, metavar="N",
                        help="side of a pixel in the unit (default: %(default)s)")  # fmt: skip
    parser.add_argument("--unit", default="px", metavar="UNIT",
                        help="unit of lengths, such as um (default: %(default)s)")  # fmt: skip
    parser.add_argument("--overwrite", action="store_true", help=OVERWRITE_HELP)


def _add_export(commands: Any) -> None:
    """Add the command that writes a model for other places and programs."""
    parser = _command(
        commands, "export", "write a model as one zip, as ONNX or as a bioimage.io package",
        _wrapped("Write a model for another place or program. What was written is read back and run, and has to "
                 "compute what the model does; otherwise nothing is left."),
    )  # fmt: skip
    parser.add_argument("model", metavar="MODEL", help=f"folder, .zip, or {BUNDLED}")
    parser.add_argument("output", type=Path, metavar="OUTPUT", help="file, or folder, to write")
    parser.add_argument("--format", choices=("zip", "folder", "onnx", "bioimageio"),
                        help="zip, folder, onnx or bioimageio; by default as the ending of OUTPUT says")  # fmt: skip
    parser.add_argument("--author", default="", metavar="NAME", help="who made it, for bioimage.io")
    parser.add_argument("--licence", default="CC-BY-4.0", metavar="SPDX",
                        help="licence, for bioimage.io (default: %(default)s)")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print what was done as JSON")
    parser.add_argument("--overwrite", action="store_true", help=OVERWRITE_HELP)


def _add_info(commands: Any) -> None:
    """Add the command that describes a model."""
    parser = _command(commands, "info", "show what a model is and what it was trained on")
    parser.add_argument("model", metavar="MODEL", help=f"folder, .zip, or {BUNDLED}")


def _add_demo(commands: Any) -> None:
    """Add the command that shows everything."""
    parser = _command(
        commands, "demo", "paint a few cells, train, segment a stack, and measure before and after",
        _wrapped("Paint a few cells of one plane the way a person would, train the bundled model on them for half a "
                 "minute, segment a whole stack, and measure before and after on the planes that were not trained on."),
    )  # fmt: skip
    parser.add_argument("--output", type=Path, default=Path("demo-output"), metavar="FOLDER",
                        help="folder to write to (default: %(default)s)")  # fmt: skip
    parser.add_argument("--images", type=Path, metavar="PATH", help="own images in place of generated ones")
    parser.add_argument("--labels", type=Path, metavar="PATH", help="their complete labels; a few are trained on")
    parser.add_argument("--axes", metavar="LETTERS", help=AXES_HELP)
    parser.add_argument("--overwrite", action="store_true", help=OVERWRITE_HELP)
    parser.add_argument("--no-viewer", action="store_true", help="do not open napari at the end")
    add_setting(parser, TrainingSettings, "seconds", default=30.0)
    add_setting(parser, TrainingSettings, "seed")


def _add_common(parser: argparse.ArgumentParser) -> None:
    """Add what training and segmenting share."""
    parser.add_argument("--axes", metavar="LETTERS", help=AXES_HELP)
    parser.add_argument("--overwrite", action="store_true", help=OVERWRITE_HELP)
    parser.add_argument(
        "--set", dest="assignments", action="append", default=[], type=assignment, metavar="NAME=VALUE",
        help="any other setting, see below; may be repeated",
    )  # fmt: skip


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


def add_setting(parser: argparse.ArgumentParser, kind: Any, name: str, default: Any = None) -> None:
    """Add an option for one field of a settings class; None stands for what the field says."""
    option = options(kind)[name]
    field = next(f for f in fields(kind) if f.name == name)
    words = "|".join(option.choices) or ("S" if option.unit == "s" else "N")
    parser.add_argument(
        f"--{name.replace('_', '-')}", type=type(field.default), choices=option.choices or None, metavar=words,
        default=default, help=_escaped(describe(option, field.default if default is None else default)),
    )  # fmt: skip


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
        lines += [f"  {name}", textwrap.fill(describe(option, defaults[name]), 96, initial_indent=" " * 6,
                                              subsequent_indent=" " * 6)]  # fmt: skip
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
