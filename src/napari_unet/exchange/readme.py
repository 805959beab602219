"""The page that comes with a published model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..core.network.model_card import Card

if TYPE_CHECKING:
    from .portable import Portable


def cite_paper() -> dict[str, Any]:
    """Return the paper that the network is from."""
    return {
        "text": "Ronneberger, Fischer and Brox: U-Net: Convolutional Networks for Biomedical Image Segmentation, "
        "MICCAI 2015",
        "doi": "10.1007/978-3-319-24574-4_28",
    }


def readme(card: Card, portable: Portable, percentiles: tuple[float, float]) -> str:
    """Return the page as Markdown."""
    size = f"Objects were about {card.diameter:.0f} px across; resize pictures accordingly." if card.diameter else ""
    outputs = "class probabilities" + (" and the distance to the cell's border" if card.network.distance else "")
    trainings = "\n".join(f"- {_training(entry)}" for entry in card.training_history) or "- not recorded"
    scores = "\n".join(f"- {name}: {value:.3f}" for name, value in card.metrics.items()) or "- not recorded"
    return f"""# {card.name}

{card.description or f"A U-Net that tells {', '.join(card.classes)} apart."}

Made with napari-interactive-unet, which also reads this file as a model of its own.

## Input and output

A picture with {card.channels} channel(s) of grey values; per channel and plane percentile {percentiles[0]:g} becomes 0
and percentile {percentiles[1]:g} becomes 1. The sides are multiples of {portable.stride} px. {size}

The network returns {outputs}. {portable.halo} px at each border lack context and are left out when a large picture is
cut into tiles.

## Training

{trainings}

## Validation

Scores on the validation cells of the last training:

{scores}

To validate it on pictures of yours, segment some whose cells were outlined by hand, and compare:
`napari-unet segment images results --model THIS.zip` and `napari-unet evaluate truth results`.
"""


def _training(entry: dict[str, Any]) -> str:
    """Return one training of the ledger in a line."""
    kept = {k: v for k, v in entry.items() if not isinstance(v, (dict, list))}
    pictures = entry.get("images")
    words = [f"{len(pictures)} picture(s)"] if isinstance(pictures, list) else []
    return ", ".join([*words, *(f"{k.replace('_', ' ')} {v}" for k, v in kept.items())]) or "no details"
