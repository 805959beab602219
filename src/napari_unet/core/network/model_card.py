"""The card of a model: what it is, what it expects, what it was trained on. Needs no torch."""

from __future__ import annotations

import dataclasses
import json
import math
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..distribution import DISTRIBUTION
from ..errors import ModelError, SettingsError, StoreError
from ..settings import NetworkSettings, with_values

CARD_NAME = "model.json"
THUMBNAIL_NAME = "thumbnail.png"
"""A small picture of what the model was taught; not every model has one."""
FORMAT = 1
BUNDLED = "bundled"
"""The name that stands for the models in the package, of which the one that fits is taken."""
KINDS = ("nuclei", "transmitted")
"""The models in the package; ``"bundled:nuclei"`` stands for the first alone."""


@dataclass(frozen=True)
class Card:
    """Everything about a model but its weights.

    Attributes
    ----------
    name : str
        What the user calls it.
    network : NetworkSettings
        Architecture.
    channels : int
        Input channels.
    classes : tuple of str
        Names of the softmax classes; the first is the background.
    mode : str
        ``"instances"`` or ``"classes"``.
    diameter : float
        Typical object diameter in pixels that the network was trained at; 0 when unknown.
    scale : float
        Image size at training over its own size, for the images that it was last trained on; 0 for a model
        of images of many kinds, which are brought to ``diameter`` by what is found in them.
    prediction : dict
        Prediction settings that were chosen on the validation part.
    ledger : tuple of dict
        One entry per training: date, images, cells, settings, seconds, steps.
    metrics : dict
        Scores on the validation part of the last training.
    hashes : dict
        SHA-256 of the files beside the card.
    description : str
        For people: what it was trained on and how to repeat it.
    certainty : float
        How sure the network is of the cells that it was last trained on, where it is surest, at most 1
        (:attr:`~napari_unet.core.inference.size_estimation.Trial.certainty`); 0 when unknown.
    """

    name: str
    network: NetworkSettings = field(default_factory=NetworkSettings)
    channels: int = 1
    classes: tuple[str, ...] = ("background", "cell")
    mode: str = "instances"
    diameter: float = 0.0
    scale: float = 1.0
    prediction: dict[str, Any] = field(default_factory=dict)
    training_history: tuple[dict[str, Any], ...] = ()
    metrics: dict[str, float] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
    description: str = ""
    certainty: float = 0.0

    def to_json(self) -> str:
        """Return the card as JSON text."""
        return json.dumps({"napari_unet_format": FORMAT, **dataclasses.asdict(self)}, indent=2)

    @classmethod
    def from_json(cls, text: str | bytes, where: str = "") -> Card:
        """Return the card that the text describes.

        Raises
        ------
        ModelError
            When the text is no card, or one of a later version.
        """
        at = f" in {where}" if where else ""
        try:
            plain = json.loads(text)
            version = plain.pop("napari_unet_format")
        except (ValueError, AttributeError, KeyError, TypeError) as error:
            raise ModelError(f"{CARD_NAME}{at} is no model card of {DISTRIBUTION}: {error}.") from error
        if version != FORMAT:
            raise ModelError(
                f"The model{at} has format {version}, but this version reads {FORMAT}; update {DISTRIBUTION}."
            )
        try:
            network = with_values(NetworkSettings(), plain.pop("network"))
            plain["classes"], plain["training_history"] = tuple(plain["classes"]), tuple(plain["training_history"])
            card = cls(network=network, **plain)
            card._check()
        except (KeyError, TypeError, ValueError, AttributeError, SettingsError) as error:
            raise ModelError(f"{CARD_NAME}{at} is damaged: {error}") from error
        return card

    def _check(self) -> None:
        """Raise a ValueError when a field that the network is built from cannot be."""
        if type(self.channels) is not int or self.channels < 1:
            raise ValueError(f"channels is {self.channels!r}, but has to be a whole number from 1.")
        if len(self.classes) < 2 or not all(isinstance(c, str) for c in self.classes):
            raise ValueError(f"classes is {self.classes!r}, but has to name the background and at least one more.")
        if not (math.isfinite(self.diameter) and self.diameter >= 0 and math.isfinite(self.scale) and self.scale >= 0):
            raise ValueError(f"diameter {self.diameter!r} and scale {self.scale!r} have to be numbers from 0.")
        if not (isinstance(self.certainty, (int, float)) and self.certainty <= 1):
            raise ValueError(f"certainty is {self.certainty!r}, but has to be a number of at most 1.")
        if not self.scale and not self.diameter:
            raise ValueError("scale is 0, which needs a diameter to bring images to, but diameter is 0 too.")
        if not (isinstance(self.hashes, dict) and isinstance(self.metrics, dict) and isinstance(self.prediction, dict)):
            raise ValueError("hashes, metrics and prediction have to be tables.")


def bundled_folder(kind: str = KINDS[0]) -> Path:
    """Return the folder of a model that comes with the package."""
    return Path(__file__).parents[2] / "weights" / kind


def bundled_models() -> tuple[str, ...]:
    """Return the names of the models in the package, such as ``"bundled:nuclei"``, the default one first."""
    return tuple(f"{BUNDLED}:{kind}" for kind in KINDS if (bundled_folder(kind) / CARD_NAME).exists())


def is_bundled(model: str | Path) -> bool:
    """Return whether a name stands for the package's models, or one of them."""
    name, _, kind = str(model).partition(":")
    return name == BUNDLED and kind in ("", *KINDS)


def model_path(model: str | Path) -> Path:
    """Return where a model lies; ``"bundled"`` and the names of :func:`bundled_models` stand for the package's."""
    if is_bundled(model):
        return bundled_folder(str(model).partition(":")[2] or KINDS[0])
    return Path(model)


def check_place(path: Path) -> None:
    """Raise unless a model may be saved at a path: nothing is there, or an older model.

    Raises
    ------
    StoreError
        When saving would replace something that is no model.
    """
    taken = path.is_dir() and any(path.iterdir()) and not (path / CARD_NAME).exists()
    if taken or (path.is_file() and path.suffix.lower() != ".zip"):
        raise StoreError(f"{path} exists and is no model; choose another name, so that nothing is lost.")


def _member(archive: zipfile.ZipFile, name: str) -> str:
    """Return the path of a file in a zip, at its top or, as file managers zip folders, in its only folder."""
    inner = [n for n in archive.namelist() if n.count("/") == 1 and n.endswith(f"/{name}")]
    return inner[0] if len(inner) == 1 and name not in archive.namelist() else name


def read_file(path: Path, name: str) -> bytes:
    """Return one file of a model folder or zip.

    Raises
    ------
    ModelError
        When the model or the file in it is missing or unreadable.
    """
    try:
        if path.is_dir():
            return (path / name).read_bytes()
        with zipfile.ZipFile(path) as archive:
            return archive.read(_member(archive, name))
    except FileNotFoundError as error:
        raise ModelError(f"There is no model at {path}: {error.filename or name} is missing.") from error
    except KeyError as error:
        raise ModelError(f"{path} is no model of {DISTRIBUTION}: {name} is missing in it.") from error
    except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise ModelError(f"The model {path} cannot be read: {error}. A model is a folder or a .zip of one.") from error


def read_card(model: str | Path) -> Card:
    """Return the card of a model folder, zip, or ``"bundled"``.

    Raises
    ------
    ModelError
        When there is no readable model.
    """
    path = model_path(model)
    return Card.from_json(read_file(path, CARD_NAME), str(path))
