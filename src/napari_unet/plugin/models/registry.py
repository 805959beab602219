"""Registry of models: bundled, just trained, and saved ones. Needs no torch."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from qtpy.QtCore import QObject, Signal

from ...core.errors import ModelError, StoreError, UNetError
from ...core.network.model_card import BUNDLED, CARD_NAME, Card, bundled_models, read_card
from ..dock.state import Lasting
from ..settings.preferences import Keeper
from .files import file_name, models_folder, write_thumbnail

_KEPT = "ModelRegistry"
"""Under which the model trained last is kept for the next session."""


@dataclass(frozen=True)
class ModelEntry:
    """One model to choose from: what the user reads, and its path (or ``"bundled"``)."""

    label: str
    path: str


def saved_models() -> list[ModelEntry]:
    """Return the saved models in alphabetical order."""
    folder = models_folder()
    if not folder.is_dir():
        return []
    found = [p for p in folder.iterdir() if not p.name.startswith(".")]
    found = [p for p in found if p.suffix == ".zip" or (p / CARD_NAME).is_file()]
    return [ModelEntry(p.stem if p.suffix == ".zip" else p.name, str(p)) for p in sorted(found)]


def bundled_entries() -> list[ModelEntry]:
    """Return the package's models: whichever fits, and each by itself when there are several."""
    whichever = ModelEntry("Bundled model", BUNDLED)
    names = bundled_models()
    alone = [ModelEntry(f"Bundled model: {name.partition(':')[2]}", name) for name in names]
    return [whichever, *alone] if len(alone) > 1 else [whichever]


def describe(model: str) -> str:
    """Return one line on a model for a tooltip, or what is wrong with it."""
    try:
        card = read_card(model)
    except UNetError as error:
        return str(error)
    if model == BUNDLED and len(names := bundled_models()) > 1:
        known = "; ".join(read_card(name).description.rstrip(".") for name in names)
        return f"{len(names)} models, of which the one that fits your image or your paint best is taken. {known}."
    channels = "1 channel" if card.channels == 1 else f"{card.channels} channels"
    size = f", objects about {card.diameter:.0f} px across" if card.diameter else ""
    cells = sum(int(entry.get("cells", 0) or 0) for entry in card.training_history)
    taught = f", trained on {cells} cells" if cells else ""
    return f"{card.name}: {channels}{size}{taught}. {card.description}".strip()


def model_there(model: str) -> bool:
    """Return whether there is a model that can be read."""
    try:
        read_card(model)
    except UNetError:
        return False
    return True


def check_channels(card: Card, channels: int, rgb: bool) -> bool:
    """Return whether a colour picture has to be read as grey for this model.

    Raises
    ------
    ModelError
        When the model needs another number of channels than the image has.
    """
    if card.channels == channels:
        return False
    if rgb and card.channels == 1:
        return True
    have = "1 channel" if channels == 1 else f"{channels} channels"
    raise ModelError(
        f"The model {card.name} needs {card.channels} channel{'s' * (card.channels > 1)}, but the image has {have}; "
        "choose other image layers under Channels, or another model."
    )


class ModelRegistry(QObject):
    """The models that all docks offer; one per viewer process.

    ``changed`` fires when a model was trained or saved. Which one was trained last, and where it was saved, is known in
    the next session too.
    """

    changed = Signal()
    _shared: ModelRegistry | None = None

    def __init__(self) -> None:
        super().__init__()
        self.just_trained: str = ""
        self._saved_as: dict[str, str] = {}
        self._earlier = (self.last_training(), self._last("saved"))
        self._folder = models_folder()
        Keeper.shared().changed.connect(self._on_preferences)

    @classmethod
    def shared(cls) -> ModelRegistry:
        """Return the registry of this process."""
        if cls._shared is None:
            cls._shared = cls()
        return cls._shared

    def _on_preferences(self) -> None:
        if models_folder() != self._folder:
            self._folder = models_folder()
            self.changed.emit()

    def _last(self, what: str) -> str:
        found = Lasting.shared().of(_KEPT).get(what, "")
        return found if isinstance(found, str) else ""

    def _note_last(self, trained: str, saved: str) -> None:
        """Keep for the next session what was trained last, and as what it was saved."""
        Lasting.shared().note(_KEPT, "trained", trained)
        Lasting.shared().note(_KEPT, "saved", saved)

    def last_training(self) -> str:
        """Return which training was the last one, by the path of its model, which may be gone; empty for none."""
        return self._last("trained")

    def trained_last(self) -> str:
        """Return the model trained last, in this session or an earlier one; empty when it is there no more."""
        if self.just_trained:
            return self.just_trained
        found = (self._last("saved"), self.last_training())
        return next((path for path in found if path and model_there(path)), "")

    def is_same(self, one: str, other: str) -> bool:
        """Return whether two paths are of one model: as it was trained, and as it was saved."""
        return one == other or {one, other} == {self.last_training(), self._last("saved")}

    def moved(self, model: str, new: str) -> None:
        """Take note that a saved model has another path now, or none."""
        if model == self._last("saved"):
            self._note_last(self.last_training() if new else "", new)

    def entries(self) -> list[ModelEntry]:
        """Return all models, the one trained last first, unless it was saved under a name in an earlier session."""
        saved, last = saved_models(), self.trained_last()
        known = last in [entry.path for entry in saved]
        label = "Just trained" if self.just_trained else f"Trained last, {_day(last)}" if last and not known else ""
        return [*([ModelEntry(label, last)] if label else []), *bundled_entries(), *saved]

    def set_just_trained(self, path: str) -> None:
        """Offer a model that a training has just written; nothing when that was discarded."""
        self.just_trained = path
        self._note_last(*((path, self._saved_as.get(path, "")) if path else self._earlier))
        self.changed.emit()

    def save(self, model: str, name: str) -> str:
        """Copy a model into the models folder and return its path there.

        Raises
        ------
        ModelError
            For an empty name, or one that is taken.
        StoreError
            When the folder cannot be written.
        """
        target = models_folder() / file_name(name)
        if target.exists():
            raise ModelError(f"There is a model named {target.name} already; choose another name.")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            # Copied and then renamed, so that a full disk leaves no partial model.
            partial = target.with_name(f".{target.name}.part")
            shutil.rmtree(partial, ignore_errors=True)
            shutil.copytree(model, partial)
            write_thumbnail(model, partial)
            partial.rename(target)
        except OSError as error:
            raise StoreError(f"The model cannot be saved to {target}: {error.strerror or error}.") from error
        self._saved_as[model] = str(target)
        if model == self.last_training():
            self._note_last(model, str(target))
        self.changed.emit()
        return str(target)


def _day(model: str) -> str:
    """Return when a model was written."""
    path = Path(model)
    written = (path / CARD_NAME if path.is_dir() else path).stat().st_mtime
    return f"{datetime.fromtimestamp(written):%Y-%m-%d %H:%M}"
