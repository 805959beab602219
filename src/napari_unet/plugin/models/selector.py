"""Select the model that a dock segments with, and apply the values that the model brings along."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox, QSizePolicy

from ...core.errors import UNetError
from ...core.network.model_card import read_card
from ...core.settings import PredictionSettings, with_values
from ..dock.lifecycle import disconnect_from
from ..widgets.common import Messages
from ..widgets.forms import guard_wheel
from .registry import ModelEntry, ModelRegistry, describe, model_there

TUNING = ("threshold", "smallest", "holes", "separation", "seed_height", "min_peak", "boundary_erosion")
"""Settings that labels follow from without running the network again."""
OF_MODEL = (*TUNING, "what", "tta")
"""Settings that each model brings along."""
SCRATCH = "scratch"
"""The start that is no model."""


class ModelCombo(QComboBox):
    """A choice of models."""

    def __init__(self, tooltip: str) -> None:
        super().__init__()
        self._tooltip = tooltip
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(8)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        guard_wheel(self)
        self.setToolTip(f"<span>{tooltip}</span>")

    def show_models(self, entries: Sequence[ModelEntry]) -> None:
        """Offer these models; the present choice stays where it can."""
        before = self.currentData()
        self.blockSignals(True)
        self.clear()
        for entry in entries:
            self.addItem(entry.label, entry.path)
            if entry.path != SCRATCH:
                self.setItemData(self.count() - 1, f"<span>{describe(entry.path)}</span>", Qt.ItemDataRole.ToolTipRole)
        self.setCurrentIndex(max(0, self.findData(before)))
        self.blockSignals(False)
        if self.currentData() != before:
            self.currentIndexChanged.emit(self.currentIndex())

    def choose(self, path: str) -> None:
        """Choose a model that is on offer."""
        self.setCurrentIndex(max(0, self.findData(path)))


class ModelView(Protocol):
    """The part of a dock that chooses a model."""

    model: ModelCombo
    messages: Messages
    browse: Any
    model_changed: Any

    def show_values(self, values: dict[str, Any]) -> None:
        """Show some prediction settings."""


class ModelChoice:
    """Connects a :class:`ModelView` to the model registry.

    Parameters
    ----------
    view : ModelView
        Where the user chooses.
    """

    def __init__(self, view: ModelView) -> None:
        self._view = view
        self.registry = ModelRegistry.shared()
        self._browsed: list[ModelEntry] = []
        view.browse.connect(self.look_up)
        view.model_changed.connect(self._on_model)
        self.registry.changed.connect(self.show_models)
        self.show_models()
        if self.registry.trained_last():
            view.model.choose(self.registry.trained_last())

    def close(self) -> None:
        """Disconnect from the registry."""
        disconnect_from(self.registry, "changed", self.show_models)

    def show_models(self) -> None:
        """Show what is on offer, and choose a model that was just trained."""
        newest, combo = self.registry.just_trained, self._view.model
        fresh = bool(newest) and combo.findData(newest) < 0
        combo.show_models([*self.registry.entries(), *self._browsed])
        if fresh:
            combo.choose(newest)

    def look_up(self, path: str) -> None:
        """Offer and choose a model that the user looked up: a zip, or the card inside a folder."""
        model = Path(path) if path.endswith(".zip") else Path(path).parent
        try:
            self.offer(str(model))
        except UNetError as error:
            self._view.messages.say(str(error), "error")
            return
        self._view.model.choose(str(model))

    def offer(self, model: str) -> None:
        """Offer a model that is not in the registry; see :func:`read_card` for errors."""
        card = read_card(model)
        if model not in [entry.path for entry in self._browsed]:
            self._browsed.append(ModelEntry(card.name or Path(model).stem, model))
        self.show_models()

    def chosen(self) -> dict[str, str]:
        """Return the chosen model, and after which training it was chosen."""
        return {"path": self._view.model.currentData(), "after": self.registry.last_training()}

    def choose_again(self, known: Any) -> None:
        """Choose a model of before, wherever it lies, or what was trained since; one that is gone is ignored.

        Parameters
        ----------
        known : dict or str
            From :meth:`chosen`, or the path alone.
        """
        path, after = (known, "") if isinstance(known, str) else (str(known["path"]), str(known["after"]))
        trained, combo = self.registry.trained_last(), self._view.model
        if trained and (after != self.registry.last_training() or self.registry.is_same(path, trained)):
            path = trained
        if combo.findData(path) < 0 and model_there(path):
            self.offer(path)
        if combo.findData(path) >= 0:
            combo.choose(path)

    def card_values(self, path: str) -> dict[str, Any]:
        """Return the settings that suit a model; see :func:`read_card` for errors."""
        card = read_card(path)
        settings = with_values(PredictionSettings(), card.prediction)
        what = "classes" if card.mode == "classes" else "instances"
        return {**{name: getattr(settings, name) for name in OF_MODEL}, "what": what}

    def _on_model(self, path: str) -> None:
        """Show the settings that suit the model."""
        try:
            self._view.show_values(self.card_values(path))
        except UNetError as error:
            self._view.messages.say(str(error), "error")
