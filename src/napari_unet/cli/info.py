"""``napari-unet info``: what a model is. Needs no torch."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from ..core.network.model_card import Card, model_path, read_card
from ..core.settings import TrainingSettings, to_dict


def info(arguments: argparse.Namespace) -> int:
    """Print the card of a model."""
    card = read_card(arguments.model)
    for name, value in [("model", card.name), ("path", str(model_path(arguments.model))), *describe(card)]:
        print(f"{name:<22}{value}")
    for number, entry in enumerate(card.training_history, start=1):
        print(f"\ntraining {number}")
        for name, value in _entry(entry):
            print(f"  {name:<20}{value}")
    return 0


def describe(card: Card) -> Iterator[tuple[str, str]]:
    """Yield the card's entries as readable names and values."""
    if card.description:
        yield "description", card.description
    network = card.network
    yield (
        "network",
        (
            f"U-Net of depth {network.depth} and width {network.width}, {network.padding} padding, "
            f"normalisation {network.norm}"
        ),
    )
    yield "outputs", "class probabilities" + (", distance" if network.distance else "")
    yield "channels", str(card.channels)
    yield "classes", ", ".join(card.classes)
    yield "labels are", card.mode
    if card.diameter:
        yield "object diameter", f"{card.diameter:g} px as the network sees it"
    if card.scale != 1:
        yield "image scale", f"{card.scale:g}" if card.scale else "measured on each image"
    if card.prediction:
        yield "segments with", ", ".join(f"{k}={v}" for k, v in card.prediction.items())
    if card.metrics:
        yield "validation", ", ".join(f"{k} {v:g}" for k, v in card.metrics.items())


def _entry(entry: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield one entry of the training history as readable names and values."""
    for name, value in entry.items():
        if name == "settings" and isinstance(value, dict):
            defaults = to_dict(TrainingSettings())
            yield name, ", ".join(f"{k}={v}" for k, v in value.items() if defaults.get(k) != v) or "defaults"
        elif isinstance(value, list):
            yield name, f"{len(value)}: {', '.join(map(str, value[:5]))}{', ...' if len(value) > 5 else ''}"
        else:
            yield name.replace("_", " "), str(value)
