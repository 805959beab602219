"""Every option of the package, once.

The dock's form, the command line, the checks, the model card and the docs all read these frozen
dataclasses. Adding an option touches two places: its field here, and its use.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from numbers import Real
from typing import Any, TypeVar

from .errors import SettingsError


@dataclass(frozen=True)
class Option:
    """What the form, the command line and the check need to know of one field."""

    help: str
    label: str = ""
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    choices: tuple[str, ...] = ()
    advanced: bool = True
    lowest: str = ""
    """What a form shows in place of the minimum, where that one value means something else than a small number."""

    def unit_of(self, value: Any) -> str:
        """Return the unit with a space in front, as it follows a value: 1 patch, 2 patches, 1 s; empty without one."""
        unit = self.unit
        if value == 1 and len(unit) > 2:
            unit = unit.removesuffix("es") if unit.endswith("ches") else unit.removesuffix("s")
        return f" {unit}" if unit else ""


def option(default: Any, help: str, **more: Any) -> Any:
    """Return a dataclass field with its :class:`Option` in the metadata."""
    return field(default=default, metadata={"option": Option(help, **more)})


DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class NetworkSettings:
    """The U-Net to build when training starts from scratch (Fig. 1)."""

    width: int = option(
        32, "Feature maps of the first level; they double at each level below. 64 in the paper. "
        "Larger learns more and is slower (cost grows with the square).",
        unit="maps", minimum=4, maximum=128, step=4,
    )  # fmt: skip
    depth: int = option(
        4, "Poolings on the contracting path. 4 in the paper. Larger sees more context and needs larger patches.",
        unit="levels", minimum=1, maximum=6, step=1,
    )  # fmt: skip
    padding: str = option(
        "same", "valid: unpadded convolutions as in the paper. same: the training patch is padded, which gets "
        "more out of each training step; segmentation uses real context either way.", choices=("valid", "same"),
    )  # fmt: skip
    norm: str = option("batch", "batch normalisation, or none as in the paper.", choices=("none", "batch"))
    dropout: float = option(
        0.0, "Share of features dropped at the end of the contracting path while training. Larger helps against "
        "learning by heart and learns slower.",
        minimum=0.0, maximum=0.9, step=0.05,
    )  # fmt: skip
    distance: bool = option(
        True, "Also learn each pixel's distance to its cell's border, which separates touching cells. "
        "Off: the paper's class probabilities alone.",
    )  # fmt: skip


@dataclass(frozen=True)
class TrainingSettings:
    """How a model learns from annotations."""

    seconds: float = option(
        60.0, "Training time. Longer is usually better up to a few minutes; 0 means until stopped or until "
        "the steps are done.", label="Time", unit="s", lowest="until stopped", minimum=0.0, maximum=1e6, step=10.0,
        advanced=False,
    )  # fmt: skip
    steps: int = option(
        0, "Number of training steps; 0 means that the time alone decides. More learn longer.", unit="steps",
        lowest="no limit", minimum=0, maximum=10_000_000, step=100,
    )  # fmt: skip
    mode: str = option(
        "instances", "instances: each label is one cell. classes: each label is one kind of tissue or cell.",
        label="Labels are", choices=("instances", "classes"), advanced=False,
    )  # fmt: skip
    unpainted: str = option(
        "unknown", "What pixels without paint mean. unknown: they teach nothing, so painting a few cells is "
        "enough. background: every cell is painted.", choices=("unknown", "background"), advanced=False,
    )  # fmt: skip
    background_label: int = option(
        0, "The label that is painted on background; 0 when there is none.", lowest="none",
        minimum=0, maximum=2**31 - 1, step=1,
    )  # fmt: skip
    optimiser: str = option("adamw", "adamw, or sgd with momentum as in the paper.", choices=("adamw", "sgd"))
    learning_rate: float = option(
        0.0, "Size of a training step; 0 chooses by start and optimiser. Larger learns faster and may diverge.",
        lowest="automatic", minimum=0.0, maximum=1.0, step=1e-5,
    )  # fmt: skip
    momentum: float = option(
        0.99, "Momentum of sgd: how much of each step goes on in the next ones. 0.99 in the paper. Larger is steadier "
        "and turns slower.", minimum=0.0, maximum=0.999, step=0.01,
    )  # fmt: skip
    weight_decay: float = option(
        1e-4, "Pull of all weights towards zero. Larger learns less by heart, and too large learns little.",
        minimum=0.0, maximum=1.0, step=1e-5,
    )  # fmt: skip
    patch: int = option(
        256, "Side of a training patch. Larger sees more per step and is slower.", unit="px",
        minimum=32, maximum=2048, step=16,
    )  # fmt: skip
    batch: int = option(
        1, "Patches per step. 1 in the paper. More make steadier steps, each slower and with more memory.",
        unit="patches", minimum=1, maximum=64, step=1,
    )  # fmt: skip
    ema_decay: float = option(
        0.98, "Running average of the weights that is kept as the model; 0 takes the last weights as they are. "
        "Larger is smoother and lags more.", minimum=0.0, maximum=0.9999, step=0.01,
    )  # fmt: skip
    start_interpolation: bool = option(
        True, "Keep up to half of the weights of a bundled start model, which has learnt from many kinds of image: "
        "more of it where it finds the painted cells untrained, and where they are few. Off keeps nothing of it; a "
        "model that you trained is never mixed.", label="Stay near the start",
    )  # fmt: skip
    border_weight: float = option(
        10.0, "w0 of equation 2: how much pixels between close cells count. Larger separates more and may "
        "thin the cells.", minimum=0.0, maximum=100.0, step=1.0,
    )  # fmt: skip
    border_sigma: float = option(
        5.0, "sigma of equation 2: how far apart two cells may be for the pixels between them to count more. Larger "
        "takes in cells that are farther apart.", unit="px", minimum=0.5, maximum=50.0, step=0.5,
    )  # fmt: skip
    boundary_erosion: int = option(
        1, "Width of the background gap that is cut between touching cells before learning. Larger parts them more "
        "surely and takes more away from thin cells.", unit="px", minimum=0, maximum=10, step=1,
    )  # fmt: skip
    balance: float = option(
        0.5, "How much rare classes count more: 0 gives each pixel, 1 each class the same say.",
        minimum=0.0, maximum=1.0, step=0.1,
    )  # fmt: skip
    background_rim: int = option(
        2, "Width of the background rim around each painted cell where the rest is unknown; it shows the network "
        "where cells end. Larger teaches more background, and wrongly where an unpainted cell is near. 0 is off.",
        unit="px", lowest="off", minimum=0, maximum=20, step=1,
    )  # fmt: skip
    distance_weight: float = option(
        1.0, "How much the distance output counts beside the classes. Larger cares more for telling cells apart, less "
        "for what is cell.", minimum=0.0, maximum=100.0, step=0.1,
    )  # fmt: skip
    elastic: float = option(
        10.0, "Elastic deformation: standard deviation of the displacement on a coarse grid of 3 x 3 points. "
        "10 in the paper; 0 is off. Larger endures more variety of shapes, and too large bends cells out of shape.",
        unit="px", lowest="off", minimum=0.0, maximum=50.0, step=1.0,
    )  # fmt: skip
    rotate: bool = option(True, "Rotate patches by any angle.")
    mirror: bool = option(True, "Mirror patches.")
    resize: float = option(
        0.15, "Random change of object size: 0.15 draws factors from 0.87 to 1.15. Larger endures more variety of "
        "sizes.",
        minimum=0.0, maximum=1.0, step=0.05,
    )  # fmt: skip
    grey: float = option(
        0.2, "Random change of brightness, contrast and gamma. Larger endures more uneven pictures.",
        minimum=0.0, maximum=1.0, step=0.05,
    )  # fmt: skip
    noise: float = option(
        0.05, "Random noise and blur, relative to the contrast of the image. Larger endures worse pictures and may "
        "miss faint cells.", minimum=0.0, maximum=1.0, step=0.01,
    )  # fmt: skip
    diameter: float = option(
        0.0, "Typical diameter of the objects, by which images are resized to what the model expects: larger shows "
        "them to the network smaller. 0 measures the painted cells.", unit="px",
        lowest="measured", minimum=0.0, maximum=10_000.0, step=1.0,
    )  # fmt: skip
    validation: float = option(
        0.2, "Share of the painted cells that are kept apart to measure on. Larger measures more reliably and learns "
        "from fewer; 0 learns from all of them.",
        minimum=0.0, maximum=0.8, step=0.05,
    )  # fmt: skip
    validate_every: float = option(
        5.0, "Time between two measurements on the cells kept apart. Shorter draws finer curves and leaves less time "
        "to learn.", unit="s", minimum=0.1, maximum=3600.0, step=1.0,
    )  # fmt: skip
    patience: int = option(
        0, "Stop after so many measurements without a better one; 0 never stops early. More wait longer.",
        unit="measurements", lowest="never", minimum=0, maximum=10_000, step=1,
    )  # fmt: skip
    seed: int = option(0, "Start of all random choices; the same seed repeats a training.",
                       minimum=0, maximum=2**31 - 1, step=1)  # fmt: skip
    device: str = option("auto", "Where to compute; auto takes the fastest there is.", choices=DEVICES)
    precision: str = option(
        "auto", "Number format; auto takes bfloat16 or float16 where the device is faster with it.", choices=PRECISIONS
    )


@dataclass(frozen=True)
class PredictionSettings:
    """How an image is segmented by a model."""

    what: str = option(
        "instances", "instances: each cell gets its own label. classes: each pixel gets its class. probabilities: "
        "the probability of not being background.", label="Result", choices=("instances", "classes", "probabilities"),
        advanced=False,
    )  # fmt: skip
    threshold: float = option(
        0.5, "Probability from which a pixel belongs to a cell. Larger gives fewer and smaller cells.",
        minimum=0.01, maximum=0.99, step=0.01, advanced=False,
    )  # fmt: skip
    smallest: int = option(
        15, "Cells with fewer pixels are dropped. Larger drops more specks, then small cells too.",
        label="Smallest cell", unit="px²",
        minimum=0, maximum=100_000_000, step=5, advanced=False,
    )  # fmt: skip
    holes: int = option(
        -1, "Holes of up to so many pixels in a cell are filled; -1 fills all. Larger fills larger ones.", unit="px²",
        lowest="all", minimum=-1, maximum=100_000_000, step=10,
    )  # fmt: skip
    separation: str = option(
        "auto", "How touching cells are told apart. distance: watershed on the distance output. components: "
        "connected components, as in the paper. auto: distance where the model has it.",
        choices=("auto", "distance", "components"),
    )  # fmt: skip
    seed_height: float = option(
        0.2, "How far a valley between two cells has to dip for them to be split. Larger splits less.",
        minimum=0.0, maximum=1.0, step=0.01,
    )  # fmt: skip
    min_peak: float = option(
        0.0, "How high the distance output has to rise in a cell, where 1 is the middle of one without doubt. Cells in "
        "which it stays lower are dropped. Larger drops more doubtful cells, 0 none.", label="Lowest peak",
        lowest="off", minimum=0.0, maximum=1.0, step=0.05,
    )  # fmt: skip
    boundary_erosion: int = option(
        1, "Gap between touching cells that is given back to them after separation, in pixels that the network sees: "
        "wider in an image that it sees smaller. Larger brings cells nearer to each other; as large as in training is "
        "right.", unit="px", minimum=0, maximum=10, step=1,
    )  # fmt: skip
    diameter: float = option(
        0.0, "Typical diameter of the objects in this image; 0 takes the image as the model was trained, and "
        "measures it where the model is for images of many kinds, as the bundled ones are. Larger joins pieces into "
        "cells, smaller finds smaller cells.", unit="px", lowest="automatic", minimum=0.0, maximum=10_000.0, step=1.0,
    )  # fmt: skip
    tta: bool = option(False, "Average over the mirrored image too: slightly better, four times slower.")
    tile: int = option(
        0, "Side of an output tile; 0 chooses by the memory there is. Larger is faster and needs more memory; the "
        "result is the same.", unit="px", lowest="automatic", minimum=0, maximum=65_536, step=16,
    )  # fmt: skip
    device: str = option("auto", "Where to compute; auto takes the fastest there is.", choices=DEVICES)
    precision: str = option(
        "auto", "Number format; auto takes bfloat16 or float16 where the device is faster with it.", choices=PRECISIONS
    )


@dataclass(frozen=True)
class LinkSettings:
    """How the cells of a stack's planes become cells of the whole stack."""

    along: str = option(
        "z", "z: cells of neighbouring planes become one cell in depth. t: cells keep their number through time. zt: "
        "first in depth, then through time. none: each plane's cells stay as they are, but no number occurs twice.",
        choices=("z", "t", "zt", "none"), advanced=False,
    )  # fmt: skip
    overlap: float = option(
        0.5, "Share of the smaller of two cells that the other has to cover for them to be one. Larger for cells that "
        "lie on top of each other, smaller for cells that move far.",
        minimum=0.01, maximum=1.0, step=0.05,
    )  # fmt: skip
    max_gap: int = option(
        0, "A cell that is missing in up to so many planes (or time points) is picked up behind them; there it "
        "stays missing. Larger may join cells that lie behind each other.", unit="planes",
        minimum=0, maximum=100, step=1,
    )  # fmt: skip


S = TypeVar("S", NetworkSettings, TrainingSettings, PredictionSettings, LinkSettings)


def options(settings: Any) -> dict[str, Option]:
    """Return each field's :class:`Option` by name, for a settings class or instance."""
    return {f.name: f.metadata["option"] for f in fields(settings)}


def to_dict(settings: Any) -> dict[str, Any]:
    """Return the settings as plain data."""
    return dataclasses.asdict(settings)


def validate(settings: S) -> S:
    """Return the settings unchanged when every value lies within its bounds.

    Raises
    ------
    SettingsError
        With the name, the value and what is allowed.
    """
    for name, opt in options(settings).items():
        value = getattr(settings, name)
        if opt.minimum is not None and not isinstance(value, Real):
            raise SettingsError(f"{name} is {value!r}, but has to be a number.")
        if opt.choices and value not in opt.choices:
            raise SettingsError(f"{name} is {value!r}, but has to be one of {', '.join(opt.choices)}.")
        low = opt.minimum is not None and value < opt.minimum
        high = opt.maximum is not None and value > opt.maximum
        if low or high or value != value:
            raise SettingsError(
                f"{name} is {value}{opt.unit_of(value)}, but has to lie between {opt.minimum} and {opt.maximum}"
                f"{opt.unit_of(opt.maximum)}."
            )
    return settings


def with_values(settings: S, values: Mapping[str, Any]) -> S:
    """Return validated settings with some values replaced; text is converted to the field's type.

    Raises
    ------
    SettingsError
        For an unknown name, text that is no such value, or a value outside its bounds.
    """
    known = {f.name: f for f in fields(settings)}
    converted: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            raise SettingsError(f"There is no setting {name!r}; known are {', '.join(known)}.")
        converted[name] = _convert(name, value, known[name].default)
    return validate(dataclasses.replace(settings, **converted))


def _convert(name: str, value: Any, default: Any) -> Any:
    """Return the value in the type of the default."""
    kind = type(default)
    if kind is bool and isinstance(value, str):
        meanings = {
            "true": True,
            "yes": True,
            "on": True,
            "1": True,
            "false": False,
            "no": False,
            "off": False,
            "0": False,
        }
        if value.lower() not in meanings:
            raise SettingsError(f"{name} is {value!r}, but has to be true or false.")
        return meanings[value.lower()]
    try:
        converted = kind(value)
    except (TypeError, ValueError, OverflowError) as error:
        words = {int: "a whole number", float: "a number"}.get(kind, "text")
        raise SettingsError(f"{name} is {value!r}, but has to be {words}.") from error
    if kind is int and isinstance(value, float) and converted != value:
        raise SettingsError(f"{name} is {value!r}, but has to be a whole number.")
    return converted
