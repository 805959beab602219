"""Outputs that separate touching cells, for ``networks.py``: flows to the cell's centre, and offsets with a bandwidth.

Neither is in the package. Both learn inside painted cells only, beside the package's classes and their loss.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import watershed
from torch import Tensor, nn

from napari_unet.core.network.unet import CLASSES, UNet
from napari_unet.core.training.loss import weighted_cross_entropy
from napari_unet.core.training.sampling import Sample, TrainingPatch
from napari_unet.core.training.trainer import Trainer

Outputs = dict[str, NDArray[Any]]
_AROUND = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]
_WEIGHT = 5.0
"""Of the output beside the cross-entropy, as of the package's distance."""
_STEPS = 200
"""Of following the flow, one pixel each."""
_INSTANCES = 24
"""Cells of a patch that the offsets learn from in one step, at most."""


def with_outputs(network: UNet, more: dict[str, int], per_pixel: int) -> UNet:
    """Give an untrained network with classes alone other outputs of so many channels each.

    ``per_pixel`` is 4 where the head's channels become pixels, else 1.
    """
    channels = network.classes
    for name, count in more.items():
        network.outputs[name] = slice(channels, channels + count)
        channels += count
    width = network.head.in_channels
    network.head = nn.Conv2d(width, per_pixel * channels, 1)
    nn.init.normal_(network.head.weight, std=(2 / width) ** 0.5)
    nn.init.zeros_(network.head.bias)
    return network


class OutputTrainer(Trainer):
    """A trainer of one more output; subclasses say what its targets and its loss are."""

    def _targets(self, patch: TrainingPatch) -> dict[str, Any]:
        """Return what the loss needs of one patch."""
        targets = super()._targets(patch)
        return {**targets, "instances": np.where(patch.mask, patch.instances, 0).astype(np.int32), **self.more(patch)}

    def more(self, patch: TrainingPatch) -> dict[str, Any]:
        """Return further targets."""
        return {}

    def extra(self, outputs: dict[str, Tensor], targets: dict[str, Tensor]) -> Tensor:
        """Return the loss of the output."""
        raise NotImplementedError

    def _loss(self, batch: list[dict[str, Any]]) -> Tensor:
        """Return the loss of a batch: equation 1 and the output's."""
        targets = {k: torch.from_numpy(np.stack([item[k] for item in batch])) for k in batch[0]}
        with self.compute.autocast():
            out = self.network(targets["image"].contiguous(memory_format=torch.channels_last))
        outputs = self.network.split(out.float())
        loss = weighted_cross_entropy(outputs[CLASSES], targets["target"], targets["weight"])
        return loss + _WEIGHT * self.extra(outputs, targets)


# Flows, as in Stringer et al., Nature Methods 18:100 (2021).


def potential(labels: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return the logarithm of heat that spreads from each cell's middle and is lost at its border, 0 outside."""
    padded = np.pad(labels, 1)
    flat, width = padded.ravel(), padded.shape[1]
    pixels = np.flatnonzero(flat)
    if not len(pixels):
        return np.zeros(labels.shape, np.float32)
    around = np.stack([pixels + y * width + x for y, x in _AROUND])
    same = flat[around] == flat[pixels]
    heat = np.zeros(len(flat))
    middles, longest = _middles(padded)
    for _ in range(2 * longest):
        heat[middles] += 1
        heat[pixels] = (heat[around] * same).mean(axis=0)
    found = np.zeros(len(flat), np.float32)
    found[pixels] = np.log(heat[pixels] + 1e-30)
    return found.reshape(padded.shape)[1:-1, 1:-1]


def _middles(labels: NDArray[np.int32]) -> tuple[NDArray[np.intp], int]:
    """Return the flat index of each cell's pixel nearest to its median, and the longest sum of a cell's sides."""
    middles, longest = [], 1
    for number, box in enumerate(ndimage.find_objects(labels), 1):
        if box is None:
            continue
        ys, xs = np.nonzero(labels[box] == number)
        nearest = np.argmin((ys - np.median(ys)) ** 2 + (xs - np.median(xs)) ** 2)
        middles.append((ys[nearest] + box[0].start) * labels.shape[1] + xs[nearest] + box[1].start)
        longest = max(longest, int(np.ptp(ys) + np.ptp(xs)) + 2)
    return np.array(middles, np.intp), longest


def flow_of(heat: NDArray[np.float32], labels: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return unit vectors (2, Y, X) up the slope of :func:`potential` inside cells, 0 outside."""
    # Patches are resampled by nearest neighbour: the mean of a pixel's surroundings takes out their steps.
    padded, numbers = np.pad(heat, 2), np.pad(labels, 2)
    total, count = np.zeros_like(padded), np.zeros_like(padded)
    for shift in _AROUND:
        same = np.roll(numbers, shift, (0, 1)) == numbers
        total += np.where(same, np.roll(padded, shift, (0, 1)), 0)
        count += same
    smooth = total / count
    flow = np.zeros((2, *padded.shape), np.float32)
    for axis in (0, 1):
        for step in (1, -1):
            same = np.roll(numbers, -step, axis) == numbers
            flow[axis] += np.where(same, step * (np.roll(smooth, -step, axis) - smooth), 0)
    flow = np.where(numbers > 0, flow, 0)[:, 2:-2, 2:-2]
    return np.asarray(flow / np.maximum(np.linalg.norm(flow, axis=0), 1e-6), np.float32)


class FlowTrainer(OutputTrainer):
    """Learns the flow; samples hold the potential in place of the distance."""

    def more(self, patch: TrainingPatch) -> dict[str, Any]:
        """Return the flow as the patch has it."""
        return {"flow": flow_of(patch.distance, patch.instances)}

    def extra(self, outputs: dict[str, Tensor], targets: dict[str, Tensor]) -> Tensor:
        """Return the mean squared error inside cells."""
        inside = (targets["instances"] > 0)[:, None]
        error = (outputs["flow"] - targets["flow"]) ** 2 * inside
        return error.sum() / (2 * inside.sum()).clamp_min(1)


def labels_of_flow(outputs: Outputs, threshold: float, scale: float) -> NDArray[np.int32]:
    """Return instances: foreground pixels whose paths along the flow end at the same place."""
    inside = 1 - outputs[CLASSES][0] > threshold
    flow = outputs["flow"] * inside
    places = np.argwhere(inside).T.astype(np.float32)
    limits = np.array(inside.shape, np.float32)[:, None] - 1
    for _ in range(_STEPS):
        step = np.stack([ndimage.map_coordinates(f, places, order=1, prefilter=False) for f in flow])
        places = np.clip(places + step, 0, limits)
    ends = np.rint(places).astype(np.intp)
    count = np.zeros(inside.shape, np.int32)
    np.add.at(count, tuple(ends), 1)
    peaks = (count == ndimage.maximum_filter(count, 5)) & (count > 10)
    markers = ndimage.label(ndimage.binary_dilation(peaks) & (count > 2))[0]
    sinks = watershed(-count, markers, mask=count > 2)
    labels = np.zeros(inside.shape, np.int32)
    labels[inside] = sinks[tuple(ends)]
    return labels


# Offsets with a learnt bandwidth, after Neven et al., CVPR 2019 (arXiv 1906.11109).


class OffsetTrainer(OutputTrainer):
    """Learns where each pixel's cell has its centre, how far from it pixels still belong to it, and where that is sure.

    Offsets and bandwidth are in units of the diameter at which the network sees the cells.
    """

    def extra(self, outputs: dict[str, Tensor], targets: dict[str, Tensor]) -> Tensor:
        """Return the Lovász hinge loss over cells, with the seeds' and the bandwidths' losses."""
        unit = self.plan.model.card.diameter
        losses = [self._of_patch(outputs["offset"][i], labels, unit) for i, labels in enumerate(targets["instances"])]
        return torch.stack(losses).mean() / 2

    def _of_patch(self, output: Tensor, labels: Tensor, unit: float) -> Tensor:
        """Return the loss of one patch, (4, Y, X) and (Y, X)."""
        height, width = labels.shape
        grid = torch.stack(torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")) / unit
        places, bandwidth, seed = grid + torch.tanh(output[:2]), output[2], torch.sigmoid(output[3])
        numbers = labels.unique()
        numbers = numbers[numbers > 0]
        losses = [(seed[labels == 0] ** 2).sum() / labels.numel()]
        for number in numbers[torch.randperm(len(numbers))[:_INSTANCES]]:
            ys, xs = torch.nonzero(labels == number, as_tuple=True)
            grow = int(unit / 2)
            box = (
                slice(max(0, int(ys.min()) - grow), int(ys.max()) + grow),
                slice(max(0, int(xs.min()) - grow), int(xs.max()) + grow),
            )
            mask = labels[box] == number
            log = bandwidth[box][mask]
            centre = places[:, ys, xs].mean(dim=1)
            away = ((places[:, box[0], box[1]] - centre[:, None, None]) ** 2).sum(dim=0)
            member = torch.exp(-away * torch.exp(log.mean().clamp(-4, 8)))
            seeds = ((seed[box][mask] - member.detach()[mask]) ** 2).mean()
            share = 1 / min(len(numbers), _INSTANCES)
            losses.append(share * (_lovasz(2 * member - 1, mask) + log.var(unbiased=False) + seeds))
        return torch.stack(losses).sum()


def _lovasz(logits: Tensor, mask: Tensor) -> Tensor:
    """Return the Lovász hinge of Berman et al., CVPR 2018."""
    truth = mask.flatten().float()
    errors, order = torch.sort(1 - logits.flatten() * (2 * truth - 1), descending=True)
    truth = truth[order]
    total = truth.sum()
    jaccard = 1 - (total - truth.cumsum(0)) / (total + (1 - truth).cumsum(0))
    jaccard = torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]])
    return torch.dot(torch.relu(errors), jaccard)


def labels_of_offset(outputs: Outputs, threshold: float, scale: float, unit: float = 24.0) -> NDArray[np.int32]:
    """Return instances: from the surest seed on, all pixels whose offsets end within its bandwidth."""
    height, width = outputs[CLASSES].shape[1:]
    inside = 1 - outputs[CLASSES][0] > threshold
    output = outputs["offset"]
    length = unit / scale
    places = np.indices((height, width)) / length + np.tanh(output[:2])
    seeds = np.where(inside, 1 / (1 + np.exp(-output[3])), 0)
    labels, free, reach = np.zeros((height, width), np.int32), inside.copy(), int(np.ceil(3 * length))
    order = np.argsort(-seeds, axis=None)
    order = order[: int((seeds > 0.5).sum())]
    number = 0
    for y, x in zip(*np.unravel_index(order, seeds.shape), strict=True):
        if not free[y, x]:
            continue
        box = (slice(max(0, y - reach), y + reach), slice(max(0, x - reach), x + reach))
        away = ((places[:, box[0], box[1]] - places[:, y, x][:, None, None]) ** 2).sum(axis=0)
        member = (np.exp(-away * np.exp(np.clip(output[2, y, x], -4, 8))) > 0.5) & inside[box]
        new = member & free[box]
        free[box] &= ~member
        free[y, x] = False
        if 2 * new.sum() > member.sum():
            number += 1
            labels[box][new] = number
    return labels


@dataclass(frozen=True)
class Separation:
    """How cells that touch are separated.

    Attributes
    ----------
    outputs : dict
        Channels of each output beside the classes.
    trainer : type of Trainer
        Learns them.
    prepare : callable
        Gives a sample what its patches need, once.
    labels : callable
        Makes instances of outputs at the image's own size, a threshold, and the size seen over the image's own.
    """

    outputs: dict[str, int]
    trainer: type[Trainer]
    prepare: Callable[[Sample], Sample]
    labels: Callable[..., NDArray[np.int32]]


def _with_potential(sample: Sample) -> Sample:
    return dataclasses.replace(sample, distance=potential(sample.known.instances))


SEPARATIONS = {
    "flow": Separation({"flow": 2}, FlowTrainer, _with_potential, labels_of_flow),
    "offset": Separation({"offset": 4}, OffsetTrainer, lambda sample: sample, labels_of_offset),
}
"""Beside the package's own, ``distance``."""


def without_specks(labels: NDArray[np.int32], smallest: int) -> NDArray[np.int32]:
    """Return the labels without cells of fewer pixels, numbered from 1."""
    sizes = np.bincount(labels.ravel())
    keep = sizes >= smallest
    keep[0] = False
    return np.where(keep, np.cumsum(keep), 0).astype(np.int32)[labels]


def best_threshold(
    measured: Sequence[tuple[Outputs, NDArray[np.int32]]], ap: Callable[[NDArray[np.int32], NDArray[np.int32]], float],
    label: Callable[[Outputs, float], NDArray[np.int32]],
) -> float:  # fmt: skip
    """Return the foreground threshold with the best mean AP on training pictures."""
    found = {t: np.mean([ap(truth, label(outputs, t)) for outputs, truth in measured]) for t in (0.4, 0.5, 0.6, 0.7)}
    return max(found, key=lambda t: found[t])
