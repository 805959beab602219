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


def option(default: Any, help: str, bounds: tuple[Any, Any, Any] = (None, None, None), **more: Any) -> Any:
    """Return a dataclass field with its :class:`Option` in the metadata; bounds are minimum, maximum and step."""
    minimum, maximum, step = bounds
    return field(
        default=default, metadata={"option": Option(help, minimum=minimum, maximum=maximum, step=step, **more)}
    )


DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class NetworkSettings:
    """The U-Net to build when training starts from scratch (Fig. 1)."""

    width: int = option(
        32,
        "Feature maps of the first level; they double at each level below. 64 in the paper. Larger has more "
        "capacity and is slower (cost grows with the square).",
        unit="maps",
        bounds=(4, 128, 4),
    )
    depth: int = option(
        4,
        "Pooling steps of the contracting path. 4 in the paper. Larger sees more context and needs larger patches.",
        unit="levels",
        bounds=(1, 6, 1),
    )
    padding: str = option(
        "same",
        "valid: unpadded convolutions as in the paper. same: training patches are padded, which uses more pixels "
        "per step; segmentation uses real context either way.",
        choices=("valid", "same"),
    )
    norm: str = option("batch", "batch normalisation, or none as in the paper.", choices=("none", "batch"))
    dropout: float = option(
        0.0,
        "Fraction of features dropped at the end of the contracting path in training. Larger reduces overfitting "
        "and learns more slowly.",
        bounds=(0.0, 0.9, 0.05),
    )
    distance: bool = option(
        True,
        "Also predict each pixel's distance to its cell's border, which separates touching cells. Off: the "
        "paper's class probabilities alone.",
    )


@dataclass(frozen=True)
class TrainingSettings:
    """How a model learns from annotations."""

    seconds: float = option(
        60.0,
        "Training time. Longer is usually better up to a few minutes; 0 trains until stopped or until the steps "
        "are done.",
        label="Time",
        unit="s",
        lowest="until stopped",
        bounds=(0.0, 1e6, 10.0),
        advanced=False,
    )
    steps: int = option(
        0,
        "Number of training steps; more take longer, 0 sets no limit.",
        unit="steps",
        lowest="no limit",
        bounds=(0, 10_000_000, 100),
    )
    mode: str = option(
        "instances",
        "instances: each label is one cell. classes: each label is one class of tissue or cell.",
        label="Labels are",
        choices=("instances", "classes"),
        advanced=False,
    )
    unpainted: str = option(
        "unknown",
        "What unlabelled pixels mean. unknown: they are ignored, so a few painted cells are enough. background: "
        "every cell is painted.",
        choices=("unknown", "background"),
        advanced=False,
    )
    background_label: int = option(
        0,
        "The label painted on background; 0 if there is none.",
        lowest="none",
        bounds=(0, 2**31 - 1, 1),
    )
    optimiser: str = option("adamw", "adamw, or sgd with momentum as in the paper.", choices=("adamw", "sgd"))
    learning_rate: float = option(
        0.0,
        "Step size of the optimiser; 0 chooses by start model and optimiser. Larger learns faster and may diverge.",
        lowest="automatic",
        bounds=(0.0, 1.0, 1e-5),
    )
    momentum: float = option(
        0.99,
        "Momentum of SGD. 0.99 in the paper. Larger is smoother and responds more slowly.",
        bounds=(0.0, 0.999, 0.01),
    )
    weight_decay: float = option(
        1e-4,
        "Decay of all weights towards zero. Larger reduces overfitting; too large underfits.",
        bounds=(0.0, 1.0, 1e-5),
    )
    patch: int = option(
        256,
        "Side of a training patch. Larger sees more per step and is slower.",
        unit="px",
        bounds=(32, 2048, 16),
    )
    batch: int = option(
        1,
        "Patches per step. 1 in the paper. Larger gives smoother steps, each slower and with more memory.",
        unit="patches",
        bounds=(1, 64, 1),
    )
    ema_decay: float = option(
        0.98,
        "Decay of the exponential moving average of the weights, which becomes the model; 0 takes the last "
        "weights. Larger is smoother and lags more.",
        bounds=(0.0, 0.9999, 0.01),
    )
    start_interpolation: bool = option(
        True,
        "Interpolate the weights with those of a bundled start model (WiSE-FT), up to one half: more where it "
        "finds the painted cells untrained, and where they are few. Off keeps nothing of it. A model that you "
        "trained is never interpolated.",
        label="Keep part of the start model",
    )
    border_weight: float = option(
        10.0,
        "w0 of equation 2: weight of pixels between close cells. Larger separates more and may thin the cells.",
        bounds=(0.0, 100.0, 1.0),
    )
    border_sigma: float = option(
        5.0,
        "sigma of equation 2: range of the border weight. Larger includes cells that are farther apart.",
        unit="px",
        bounds=(0.5, 50.0, 0.5),
    )
    boundary_erosion: int = option(
        1,
        "Width of the background gap cut between touching cells before training. Larger separates more reliably "
        "and removes more of thin cells.",
        unit="px",
        bounds=(0, 10, 1),
    )
    balance: float = option(
        0.5,
        "Class balance: 0 weights every pixel equally, 1 every class. Larger favours rare classes.",
        bounds=(0.0, 1.0, 0.1),
    )
    background_rim: int = option(
        2,
        "Width of the background rim around each painted cell where the rest is unknown; it shows the network "
        "where cells end. Larger teaches more background, wrongly so if an unpainted cell is near. 0 is off.",
        unit="px",
        lowest="off",
        bounds=(0, 20, 1),
    )
    distance_weight: float = option(
        5.0,
        "Weight of the distance loss relative to the class loss; its values are smaller, and 5 balances both. Larger "
        "favours separation over foreground accuracy.",
        bounds=(0.0, 100.0, 0.1),
    )
    elastic: float = option(
        10.0,
        "Elastic deformation: standard deviation of the displacement on a coarse grid of 3 x 3 points. 10 in the "
        "paper; 0 is off. Larger is more robust to shape variation; too large distorts cells.",
        unit="px",
        lowest="off",
        bounds=(0.0, 50.0, 1.0),
    )
    rotate: bool = option(True, "Rotate patches by any angle.")
    mirror: bool = option(True, "Mirror patches.")
    resize: float = option(
        0.15,
        "Random scaling: 0.15 draws factors from 0.87 to 1.15. Larger is more robust to size variation.",
        bounds=(0.0, 1.0, 0.05),
    )
    grey: float = option(
        0.2,
        "Random change of brightness, contrast and gamma. Larger is more robust to uneven images.",
        bounds=(0.0, 1.0, 0.05),
    )
    noise: float = option(
        0.05,
        "Random noise and blur, relative to the image contrast. Larger is more robust to poor images and may miss "
        "faint cells.",
        bounds=(0.0, 1.0, 0.01),
    )
    diameter: float = option(
        0.0,
        "Typical diameter of the cells; images are rescaled so that cells have the size that the model expects. "
        "Larger shows cells smaller to the network; 0 measures the painted cells.",
        unit="px",
        lowest="measured",
        bounds=(0.0, 10_000.0, 1.0),
    )
    validation: float = option(
        0.2,
        "Fraction of the painted cells held out for validation. Larger gives more reliable scores and less "
        "training data; 0 trains on all cells.",
        bounds=(0.0, 0.8, 0.05),
    )
    validate_every: float = option(
        5.0,
        "Time between two validations. Shorter gives finer curves and less training.",
        unit="s",
        bounds=(0.1, 3600.0, 1.0),
    )
    patience: int = option(
        0,
        "Stop after this many validations without improvement; more wait longer, 0 never stops early.",
        unit="validations",
        lowest="never",
        bounds=(0, 10_000, 1),
    )
    seed: int = option(0, "Seed of all random choices; the same seed repeats a training.", bounds=(0, 2**31 - 1, 1))
    device: str = option("auto", "Device to compute on; auto takes the fastest.", choices=DEVICES)
    precision: str = option(
        "auto", "Number format; auto takes bfloat16 or float16 where that is faster.", choices=PRECISIONS
    )


@dataclass(frozen=True)
class PredictionSettings:
    """How an image is segmented by a model."""

    what: str = option(
        "instances",
        "instances: each cell gets its own label. classes: each pixel gets its class. probabilities: "
        "the probability of not being background.",
        label="Result",
        choices=("instances", "classes", "probabilities"),
        advanced=False,
    )
    threshold: float = option(
        0.5,
        "Probability above which a pixel belongs to a cell. Larger gives fewer and smaller cells.",
        bounds=(0.01, 0.99, 0.01),
        advanced=False,
    )
    smallest: int = option(
        15,
        "Smaller cells are dropped. Larger removes more specks, then small cells too.",
        label="Smallest cell",
        unit="px²",
        bounds=(0, 100_000_000, 5),
        advanced=False,
    )
    holes: int = option(
        -1,
        "Holes in cells up to this size are filled; larger fills more, -1 all.",
        unit="px²",
        lowest="all",
        bounds=(-1, 100_000_000, 10),
    )
    separation: str = option(
        "auto",
        "How touching cells are separated. distance: watershed on the distance output. components: "
        "connected components, as in the paper. auto: distance where the model has it.",
        choices=("auto", "distance", "components"),
    )
    seed_height: float = option(
        0.2,
        "Minimum depth of the valley between two cells for them to be split. Larger splits less.",
        bounds=(0.0, 1.0, 0.01),
    )
    min_peak: float = option(
        0.0,
        "Cells whose distance output stays below this value are dropped; 1 is the centre of a certain cell. "
        "Larger drops more low-confidence cells, 0 none.",
        label="Min. cell confidence",
        lowest="off",
        bounds=(0.0, 1.0, 0.05),
    )
    boundary_erosion: int = option(
        1,
        "Gap between touching cells that is restored after separation, in pixels of the rescaled image. Larger "
        "brings cells closer; the value used in training is right.",
        unit="px",
        bounds=(0, 10, 1),
    )
    diameter: float = option(
        0.0,
        "Typical diameter of the cells in this image; 0 takes the scale of the training, or estimates the size if "
        "the model is for many kinds of images, as the bundled ones are. Larger joins pieces into cells, smaller "
        "finds smaller cells.",
        unit="px",
        lowest="automatic",
        bounds=(0.0, 10_000.0, 1.0),
    )
    tta: bool = option(
        False, "Test-time augmentation: average over mirrored images. Slightly better, four times slower."
    )
    tile: int = option(
        0,
        "Side of an output tile; 0 chooses by the available memory. Larger is faster and needs more memory; the "
        "result is the same.",
        unit="px",
        lowest="automatic",
        bounds=(0, 65_536, 16),
    )
    device: str = option("auto", "Device to compute on; auto takes the fastest.", choices=DEVICES)
    precision: str = option(
        "auto", "Number format; auto takes bfloat16 or float16 where that is faster.", choices=PRECISIONS
    )


@dataclass(frozen=True)
class LinkSettings:
    """How the cells of a stack's planes become cells of the whole stack."""

    along: str = option(
        "z",
        "z: link cells of neighbouring planes in depth. t: track cells through time. zt: first in depth, then "
        "through time. none: leave the cells, but make all labels unique.",
        choices=("z", "t", "zt", "none"),
        advanced=False,
    )
    overlap: float = option(
        0.5,
        "Fraction of the smaller of two cells that the other has to cover to link them. Larger suits cells that "
        "lie on top of each other, smaller cells that move far.",
        bounds=(0.01, 1.0, 0.05),
    )
    max_gap: int = option(
        0,
        "Number of planes (or time points) that a cell may be missing in and still keep its label. Larger may "
        "link different cells.",
        unit="planes",
        bounds=(0, 100, 1),
    )


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
