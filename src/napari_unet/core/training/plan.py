"""Where the user's wishes meet the data's reality: one pure function, before anything starts."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from ..data.annotation import AnnotatedImage, class_values, interpret
from ..data.arrays import Planes, ScaledPlanes, plane_normalisation
from ..data.label_ops import median_diameter, smallest_area
from ..data.rescale import choose_scale
from ..errors import DataError, ModelError
from ..evaluation.annotation_checks import too_little_background
from ..network.device import Compute, choose
from ..network.model_card import Card
from ..network.model_io import Model, new_model
from ..settings import NetworkSettings, PredictionSettings, TrainingSettings, to_dict, validate, with_values
from .loss import class_weights
from .sampling import HeldOut, Sample, Split, make_sample, patch_sizes, split_samples
from .start_model import NEAR, best_start, interpolation_weight

STATE_NAME = "state.safetensors"
"""What a training leaves in its folder to go on from."""
LEARNING_RATES = {("adamw", True): 1e-3, ("adamw", False): 5e-4, ("sgd", True): 1e-3, ("sgd", False): 1e-4}
"""Measured defaults by optimiser and whether there is all to learn: from scratch, or from a start that is far."""


@dataclass(frozen=True)
class TrainingPlan:
    """Everything a training needs, checked.

    Attributes
    ----------
    model : Model
        Where to start; trained in a copy.
    split : Split
        Samples at the network's scale, to learn from and to measure on.
    settings : TrainingSettings
        With every 0 that means "choose" replaced by the choice.
    compute : Compute
        Device and number format.
    sizes : tuple of int
        Input and output side of a patch in pixels.
    weights : NDArray of float32
        w_c of equation 2 per class.
    notes : tuple of str
        What the user should know before it starts.
    folder : Path or None
        The run folder, to save checkpoints in.
    resume : Path or None
        A run folder to go on from, with optimiser and random state.
    ledger : dict
        The entry of this training in the model's card.
    nearness : float
        F1 on the painted cells of a start model for images of many kinds, before any training; 0 of any other start
        and of one that is far. See :func:`~napari_unet.core.training.start_model.interpolation_weight`.
    """

    model: Model
    split: Split
    settings: TrainingSettings
    compute: Compute
    sizes: tuple[int, int]
    weights: NDArray[np.float32]
    notes: tuple[str, ...]
    folder: Path | None
    resume: Path | None
    training_history: dict[str, Any]
    nearness: float = 0.0

    @property
    def cells(self) -> int:
        """Cells to learn from and those kept apart."""
        return sum(sample.cells for sample in (*self.split.train, *self.split.validation))


def resolve(
    images: Sequence[AnnotatedImage],
    settings: TrainingSettings | None = None,
    *,
    start: Model | None = None,
    network: NetworkSettings | None = None,
    name: str = "model",
    folder: Path | None = None,
    resume: Path | None = None,
) -> TrainingPlan:
    """Return a plan that can be carried out, or raise one readable error.

    Parameters
    ----------
    images : sequence of AnnotatedImage
        Annotated planes, all with the same channels.
    settings : TrainingSettings, optional
        Options.
    start : Model, optional
        Model to go on from; None starts from scratch.
    network : NetworkSettings, optional
        Architecture when starting from scratch.
    name : str
        Name of the new model.
    folder : Path, optional
        Where to save checkpoints and the model.
    resume : Path, optional
        Run folder of an earlier training of this model whose optimiser state is taken up. Images are then seen
        at the same size as before, and the same places are kept apart to measure on.

    Raises
    ------
    DataError, ModelError, SettingsError, DeviceError
        When images, model, settings or device cannot be used.
    """
    settings = validate(settings or TrainingSettings())
    if not images:
        raise DataError("There is no annotated image; paint some cells first.")
    values = class_values(images, settings) if settings.mode == "classes" else ()
    fixed = start.card.scale if start and resume else None
    samples, scale, diameter = _samples(images, settings, start, values, fixed)
    counts = _check_known(samples, settings, values)
    compute, weights = choose(settings.device, settings.precision), class_weights(counts, settings.balance)
    start, f1, tried = best_start(start, samples, compute, weights, settings.mode) if start else (None, 0.0, [])
    model, fitted = _starting_model(start, network, settings, samples[0].image.shape[0], values)
    earlier = read_notes(resume) if resume else {}
    split = split_samples(samples, settings.validation, np.random.default_rng(settings.seed), held_out_of(earlier))
    chosen = settings.learning_rate or LEARNING_RATES[settings.optimiser, f1 < NEAR]
    settings = dataclasses.replace(settings, learning_rate=chosen)
    card = dataclasses.replace(
        model.card,
        name=name,
        mode=settings.mode,
        scale=scale,
        diameter=round(diameter * scale, 2) or model.card.diameter,
        prediction=_prediction(samples, settings, scale, start),
    )
    largest = max(max(s.known.mask.shape) for s in split.train)
    return TrainingPlan(
        model=Model(model.network, card),
        split=split,
        settings=settings,
        compute=compute,
        sizes=patch_sizes(settings.patch, largest, model.network.geometry, model.network.padding),
        weights=weights,
        notes=(*tried, *_notes(counts, scale, diameter, split), *fitted),
        folder=folder,
        resume=resume,
        training_history=_training_history(images, samples, settings, start, diameter),
        nearness=float(earlier.get("nearness", 0.0)) if resume else _nearness(start, f1),
    )


def _nearness(start: Model | None, f1: float) -> float:
    """Return how near a start is, if it knows more than the painted images can teach; else 0."""
    broad = start is not None and start.card.scale == 0 and start.card.mode == "instances"
    return f1 if broad and interpolation_weight(f1, 0) else 0.0


def renew(plan: TrainingPlan, images: Sequence[AnnotatedImage]) -> TrainingPlan:
    """Return the plan with more or other paint, for a training that goes on with it.

    Images are seen at the same size as before, and what was kept apart to measure on stays apart.

    Parameters
    ----------
    plan : TrainingPlan
        Of the training under way.
    images : sequence of AnnotatedImage
        All that is to be learnt from now on, what was there before included.

    Raises
    ------
    DataError
        When nothing could be learnt from these images, or a class is painted that the network has no output for.
    """
    card, settings = plan.model.card, plan.settings
    values: tuple[int, ...] = ()
    if settings.mode == "classes":
        values = tuple(int(name.removeprefix("label ")) for name in card.classes[1:])
        unknown = sorted(set(class_values(images, settings)) - set(values))
        if unknown:
            raise DataError(
                f"Label {unknown[0]} is a new class, for which the network in training has no output; stop and train "
                "again to learn it."
            )
    samples, scale, diameter = _samples(images, settings, plan.model, values, card.scale)
    counts = _check_known(samples, settings, values)
    rng = np.random.default_rng(settings.seed)
    split = split_samples(samples, settings.validation, rng, plan.split.held_out)
    prediction = _prediction(samples, settings, scale, plan.model)
    return dataclasses.replace(
        plan,
        model=Model(plan.model.network, dataclasses.replace(card, prediction=prediction)),
        split=split,
        weights=class_weights(counts, settings.balance),
        notes=tuple(_notes(counts, scale, diameter, split)),
        training_history={
            **_training_history(images, samples, settings, plan.model, diameter),
            "start": plan.training_history["start"],
        },
    )


def read_notes(folder: Path) -> dict[str, Any]:
    """Return what a training has noted beside the state that it saved; nothing when there is none."""
    try:
        with safe_open(folder / STATE_NAME, "pt") as file:
            return dict(json.loads(file.metadata()["notes"]))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        # A state that cannot be read is reported in full when it is loaded.
        return {}


def held_out_of(notes: Mapping[str, Any]) -> tuple[HeldOut, ...]:
    """Return what a training kept apart, from what it noted; nothing when another version wrote it otherwise."""
    try:
        return tuple(HeldOut(**place) for place in notes.get("held_out", ()))
    except TypeError:
        return ()


def _prediction(
    samples: Sequence[Sample], settings: TrainingSettings, scale: float, start: Model | None
) -> dict[str, Any]:
    """Return the start model's prediction settings, with what follows from the paint and the settings alone."""
    if settings.mode == "classes":
        return {"what": "classes"}
    inherited = dict(start.card.prediction) if start and start.card.mode == "instances" else {}
    # A value that cannot be is told before the training, not by its first preview.
    with_values(PredictionSettings(), inherited)
    followed: dict[str, Any] = {**inherited, "boundary_erosion": settings.boundary_erosion}
    area = smallest_area([s.known.instances for s in samples]) / scale**2
    return {**followed, "smallest": max(1, int(area))} if area else followed


def _samples(
    images: Sequence[AnnotatedImage],
    settings: TrainingSettings,
    start: Model | None,
    values: Sequence[int],
    fixed: float | None = None,
) -> tuple[list[Sample], float, float]:
    """Return normalised samples at the network's scale (``fixed``, or chosen), the scale, and the objects' diameter."""
    targets = [interpret(item, settings, values) for item in images]
    diameters = [d for d in (median_diameter(k.instances) for k in targets) if d]
    diameter = settings.diameter or (float(np.median(diameters)) if diameters else 0.0)
    scale = fixed or (choose_scale(diameter, start.card.diameter, start.card.scale) if start else None)
    scale = scale or choose_scale(diameter, None)
    samples = []
    for item, known in zip(images, targets, strict=True):
        if not known.mask.any():
            continue
        planes = _as_planes(item)
        try:
            normalisation = plane_normalisation(planes, ())
        except DataError as error:
            raise DataError(f"{item.name}: {error}") from error
        if normalisation.constant:
            raise DataError(
                f"{item.name} is constant: every grey value is {normalisation.low[0]:g}. "
                "There is nothing to learn from it."
            )
        if scale != 1:
            planes = ScaledPlanes(planes, scale)
            known = interpret(resized(item, planes.height, planes.width), settings, values)
        image = normalisation.apply(planes.read((), slice(0, planes.height), slice(0, planes.width)))
        samples.append(make_sample(image, known, item.name, [(y * scale, x * scale) for y, x in item.oversampled]))
    channels = {s.image.shape[0] for s in samples}
    if len(channels) > 1:
        raise DataError(f"The annotated images have {sorted(channels)} channels; train on images of one kind.")
    if not samples:
        raise DataError("No labels are painted; paint a few cells (and some background) first.")
    return samples, scale, diameter


def _as_planes(item: AnnotatedImage) -> Planes:
    """Return the image as planes, whether or not it has a channel axis."""
    image = np.asarray(item.image)
    if image.ndim not in (2, 3):
        raise DataError(f"{item.name} has the shape {image.shape}; an annotated plane is (Y, X) or (C, Y, X).")
    return Planes(image, "cyx"[3 - image.ndim :])


def resized(item: AnnotatedImage, height: int, width: int) -> AnnotatedImage:
    """Return the annotation at another size, by nearest neighbour."""
    labels = np.asarray(item.labels)
    sy, sx = height / labels.shape[0], width / labels.shape[1]
    rows = ((np.arange(height) + 0.5) / sy).astype(np.intp).clip(0, labels.shape[0] - 1)
    columns = ((np.arange(width) + 0.5) / sx).astype(np.intp).clip(0, labels.shape[1] - 1)
    regions = tuple((round(a * sy), round(b * sy), round(c * sx), round(d * sx)) for a, b, c, d in item.regions)
    image = np.empty((height, width), np.uint8)
    return AnnotatedImage(image, labels[np.ix_(rows, columns)], regions, item.name)


def _check_known(samples: Sequence[Sample], settings: TrainingSettings, values: Sequence[int]) -> NDArray[np.int64]:
    """Return the number of known pixels per class; raise when there is nothing to learn."""
    classes = len(values) + 1 if settings.mode == "classes" else 2
    counts = sum(np.bincount(s.known.target[s.known.mask], minlength=classes) for s in samples)
    counts = np.asarray(counts, np.int64)
    if not counts[1:].any():
        raise DataError("No cells are painted, only background; paint a few cells too.")
    if not (counts > 0).sum() > 1:
        raise DataError(
            "Everything that is known is of one class, so there is nothing to separate; paint some background "
            "with the background label, or choose that unpainted means background."
        )
    return counts


def _notes(counts: NDArray[np.int64], scale: float, diameter: float, split: Split) -> list[str]:
    """Return what the user should know of the annotation, the images' size and the validation part."""
    notes = []
    if too_little_background(counts):
        notes.append("Very little background is painted; paint some between and beside the cells for a better model.")
    if scale != 1:
        notes.append(
            f"Images are seen at {scale:.2f} of their size, so that cells are about {diameter * scale:.0f} px wide."
        )
    return [*notes, split.note] if split.note else notes


def _starting_model(
    start: Model | None,
    network: NetworkSettings | None,
    settings: TrainingSettings,
    channels: int,
    values: Sequence[int],
) -> tuple[Model, list[str]]:
    """Return the model to train, fitted to channels and classes, and notes on what was changed for that."""
    classes: tuple[str, ...] = ("background", "cell")
    if settings.mode == "classes":
        classes = ("background", *(f"label {v}" for v in values))
    torch.manual_seed(settings.seed)
    if start is None:
        chosen = validate(network or NetworkSettings())
        return new_model(Card("", chosen, channels, classes, settings.mode)), []
    card = dataclasses.replace(start.card, channels=channels, classes=classes)
    fresh = new_model(card)
    state = dict(start.network.state_dict())
    notes = []
    if channels != start.card.channels:
        state["down.0.conv1.weight"] = _fit_channels(state["down.0.conv1.weight"], channels)
        notes.append(f"The start model has {start.card.channels} channel(s); its first layer was fitted to {channels}.")
    if len(classes) != len(start.card.classes):
        _fit_classes(state, fresh, start)
        notes.append(
            f"The start model has {len(start.card.classes)} classes; its last layer was fitted to {len(classes)}."
        )
    try:
        fresh.network.load_state_dict(state)
    except RuntimeError as error:
        raise ModelError(f"The start model {start.card.name} does not fit: {error}") from error
    return fresh, notes


def _fit_channels(weight: torch.Tensor, channels: int) -> torch.Tensor:
    """Return first-layer weights that see the mean of the channels as the single channel they knew."""
    return weight.mean(1, keepdim=True).repeat(1, channels, 1, 1) * (weight.shape[1] / channels)


def _fit_classes(state: dict[str, torch.Tensor], fresh: Model, start: Model) -> None:
    """Let every class but the background start as the first one that the model knew, in place."""
    known, wanted = len(start.card.classes), len(fresh.card.classes)
    rows = [0] + [min(i, known - 1) for i in range(1, wanted)] + list(range(known, state["head.weight"].shape[0]))
    state["head.weight"], state["head.bias"] = state["head.weight"][rows].clone(), state["head.bias"][rows].clone()
    # Equal rows would stay equal under equal gradients; a little noise tells the classes apart.
    state["head.weight"] += 0.01 * torch.randn_like(state["head.weight"])


def _training_history(
    images: Sequence[AnnotatedImage],
    samples: Sequence[Sample],
    settings: TrainingSettings,
    start: Model | None,
    diameter: float,
) -> dict[str, Any]:
    """Return what the card will say of this training."""
    return {
        "images": [item.name for item in images],
        "cells": sum(s.cells for s in samples),
        "known_pixels": int(sum(s.known.mask.sum() for s in samples)),
        "diameter": round(diameter, 2),
        "start": start.card.name if start else "scratch",
        "settings": to_dict(settings),
    }
