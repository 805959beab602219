"""Describe a model for the Models dock: what it is, its training and its scores. Needs no torch."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

from ...core.errors import UNetError
from ...core.network.model_card import Card, is_bundled, read_card
from .files import is_saved, name_of, size_of

_SHOWN = 3
"""Trainings that are shown at once; the tooltip has them all."""
_PICTURES = {
    "usiigaci": "phase contrast",
    "ecoli": "E. coli",
    "em": "electron microscopy",
    "synthetic": "generated",
}
"""Readable names of the image types the bundled models were trained on."""
SCORES = (
    "F1: the share of cells found, each with at least half of it overlapping, less those made up. IoU: how much of the "
    "area of cells is the same. 1 is perfect, 0 is nothing; measured on held-out cells."
)


def facts(model: str, name: str = "") -> str:
    """Return what a model is and what it was trained on, as rich text; or what is wrong with it.

    Parameters
    ----------
    model : str
        A path, or ``"bundled:..."``.
    name : str, optional
        What it is called in the list; the name in its card is added where that says more.
    """
    try:
        card, size = read_card(model), size_of(model)
    except (UNetError, OSError) as error:
        return f"<p>{html.escape(str(error))}</p>"
    kinds = "segments single cells" if card.mode == "instances" else f"finds {', '.join(card.classes[1:])}"
    objects = f"; cells about {card.diameter:.0f} px across" if card.diameter else ""
    scores = ", ".join(f"{_score_name(name)} {value:.2f}" for name, value in _scores(card).items())
    parts = [
        f"<b>{html.escape(_called(card, model, name))}</b>, {size / 1e6:.1f} MB. {html.escape(card.description)}",
        f"{html.escape(kinds.capitalize())}; {_count(card.channels, 'channel')}{objects}.",
        f"Scores on validation cells: {html.escape(scores)}." if scores else "No scores were measured.",
        f"Trained on: {_trainings(card, _SHOWN)}.",
    ]
    return "".join(f"<p style='margin:2px 0'>{part}</p>" for part in parts)


def more_facts(model: str) -> str:
    """Return what the scores mean, and every training of a model, as a tooltip; nothing for one that is damaged."""
    try:
        card = read_card(model)
    except UNetError:
        return ""
    every = (
        f"<p>All it was trained on: {_trainings(card, len(card.training_history))}.</p>"
        if len(card.training_history) > _SHOWN
        else ""
    )
    return f"<p>{SCORES}</p>{every}"


def line(model: str) -> str:
    """Return size, cells and score of a model in a few words."""
    try:
        card, size = read_card(model), size_of(model)
    except (UNetError, OSError):
        return "cannot be read"
    cells = sum(int(entry.get("cells", 0) or 0) for entry in card.training_history)
    found = [value for name, value in card.metrics.items() if name.startswith("f1")]
    score = f"F1 {min(found):.2f}" if found else ""
    if len(found) > 1:
        # One of them alone would promise too much or too little.
        score += f" to {max(found):.2f}"
    return " \u00b7 ".join(filter(None, [f"{size / 1e6:.1f} MB", _count(cells, "cell") if cells else "", score]))


def _called(card: Card, model: str, name: str) -> str:
    """Return the name in the list, with that in the card where the list only says that it was trained."""
    if is_saved(model):
        return name_of(Path(model))
    if not name or is_bundled(model) or not card.name or card.name == name:
        return name or card.name
    return f"{name} ({card.name})"


def _scores(card: Card) -> dict[str, float]:
    """Return the scores that are better when larger, F1 first."""
    found = {name: value for name, value in card.metrics.items() if name != "loss"}
    return dict(sorted(found.items(), key=lambda item: not item[0].startswith("f1")))


def _score_name(name: str) -> str:
    """Return a score as one reads it: F1, IoU, F1 fluorescence."""
    first, _, rest = name.partition("_")
    return " ".join(filter(None, [{"f1": "F1", "iou": "IoU"}.get(first, first), _kind(rest)]))


def _kind(name: str) -> str:
    return _PICTURES.get(name, name.replace("_", " "))


def _count(number: Any, unit: str) -> str:
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"


def _trainings(card: Card, most: int) -> str:
    """Return the last trainings in words, a line each, and how many there were before."""
    lines = [_training(entry) for entry in card.training_history[-most:]] if most else []
    before = len(card.training_history) - len(lines)
    if before:
        lines.insert(0, f"{_count(before, 'earlier training')}, and")
    return "<br>".join(lines) or "not recorded"


def _training(entry: dict[str, Any]) -> str:
    """Return one entry of the training history in words."""
    words = [str(entry["date"])[:10]] if entry.get("date") else []
    images, pictures = entry.get("images"), entry.get("pictures")
    if isinstance(images, list) and images:
        more = f" and {len(images) - 3} more" if len(images) > 3 else ""
        words.append(f"{', '.join(map(str, images[:3]))}{more}")
    if isinstance(pictures, dict):
        words.append(", ".join(f"{count} {_kind(name)}" for name, count in pictures.items()) + " pictures")
    words += [_count(entry[key], unit) for key, unit in (("cells", "cell"), ("steps", "step")) if entry.get(key)]
    words += [f"{entry['seconds']:.0f} s"] if isinstance(entry.get("seconds"), (int, float)) else []
    return html.escape(", ".join(words) or "no details")
