"""Which network: AP of candidates that are trained from scratch at equal processor time, and what they cost.

    python benchmarks/networks.py                                   # all candidates, one seed, two collections
    python benchmarks/networks.py --collections axons_sem --seeds 0 1 2 --candidates full-w32-d4@24 half-w32-d3@24
    python benchmarks/networks.py --report                          # only the tables of what is in the results file

A candidate is named STEM-wWIDTH-dDEPTH@SEEN, with SEEN the diameter in pixels at which the network sees the median cell
of the training pictures. The stem is ``full``, the package's U-Net, or ``half``: space-to-depth by 2, the same U-Net at
half resolution, and a pixel-shuffle head. Loss, augmentation, sampling, optimiser, calibration and labels are the
package's own; a name that ends in ``+flow`` or ``+offset`` has that output in place of the distance (separations.py).

Equal time means equal steps times cost: processor seconds of a step are measured beforehand, in turns, and the least
of several rounds counts, so that other work on the machine favours nobody. Each candidate then gets as many steps as
fit ``--seconds-cpu``. Torch has one thread. Results in the file are not measured again; a run can be ended at any time.

Pictures are held out by name and never learnt from: StarDist's 67 for nuclei, one animal's for axons, one field of
three for bacteria, every fourth for glioma cells. The collections that judge the bundled model are refused.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.io import imread
from torch import Tensor, nn
from torch.nn import functional as F

import pretrain
import trials
from napari_unet.core.data.annotation import AnnotatedImage, interpret
from napari_unet.core.data.arrays import Planes, ScaledPlanes, plane_normalisation, resample
from napari_unet.core.data.label_ops import median_diameter, smallest_area
from napari_unet.core.data.rescale import unless_nearly_own
from napari_unet.core.data.tiles import Geometry
from napari_unet.core.inference.tiled import Predictor, predict_region
from napari_unet.core.network.device import choose
from napari_unet.core.network.model_card import Card
from napari_unet.core.network.model_io import Model
from napari_unet.core.network.unet import UNet
from napari_unet.core.settings import NetworkSettings, PredictionSettings, TrainingSettings
from napari_unet.core.training.calibration import tune
from napari_unet.core.training.loss import class_weights
from napari_unet.core.training.plan import LEARNING_RATES, TrainingPlan, resized
from napari_unet.core.training.sampling import Sample, Split, make_sample, patch_sizes
from napari_unet.core.training.trainer import Trainer
from reporting import CannotMeasure, arguments, machine, run, say, table
from separations import SEPARATIONS, Separation, best_threshold, with_outputs, without_specks
from trials import Picture, Results

KEPT_OUT = ("axons_tem", "qpi_cells", "yeast_phase")
"""Collections that judge the bundled model: no choice is made on them."""
CANDIDATES = (
    "full-w32-d4@24", "half-w32-d3@24", "half-w32-d4@24", "full-w16-d4@24", "full-w32-d3@24", "half-w48-d3@24",
    "half-w32-d3@36", "half-w32-d3@16", "full-w32-d3@16", "half-w16-d4@24", "full-w48-d3@24",
)  # fmt: skip
"""The first is today's network."""
SETTINGS = TrainingSettings(
    seconds=0, unpainted="background", validation=0.0, learning_rate=LEARNING_RATES["adamw", True], device="cpu"
)
_ROUNDS, _STEPS_PER_ROUND = 4, 5
_PATCHES = 100
_SHOWN = 4
_SIDE = 512
"""Side in pixels of what segmentation is timed on."""


class HalfGeometry(Geometry):
    """Size arithmetic of a network that works at half resolution; ``depth`` counts the stem."""

    @property
    def inner(self) -> Geometry:
        """Of the network at half resolution."""
        return Geometry(self.depth - 1)

    def output_size(self, bottom: int) -> int:
        """Return the output side for a bottom of ``bottom`` pixels."""
        return 2 * self.inner.output_size(bottom)

    def input_size(self, bottom: int) -> int:
        """Return the input side for a bottom of ``bottom`` pixels."""
        return 2 * self.inner.input_size(bottom)


class HalfStemUNet(UNet):
    """The U-Net at half resolution between space-to-depth and pixel-shuffle (Shi et al., arXiv 1609.05158).

    Takes and returns what :class:`~napari_unet.core.network.unet.UNet` does, and the same arguments.
    """

    def __init__(self, in_channels: int, classes: int, width: int, depth: int, *more: Any) -> None:
        super().__init__(4 * in_channels, classes, width, depth, *more)
        self.in_channels = in_channels
        self.geometry = HalfGeometry(depth + 1)
        self.head = nn.Conv2d(width, 4 * self.head.out_channels, 1)
        nn.init.normal_(self.head.weight, std=(2 / width) ** 0.5)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor, padding: str | None = None) -> Tensor:
        """Return the outputs as (N, classes [+ 1], Y, X) for an input whose sides are even."""
        return F.pixel_shuffle(super().forward(F.pixel_unshuffle(x, 2), padding), 2)

    def _check_size(self, x: Tensor, pad: int) -> None:
        """Check the size of the input that these half-sized features come from."""
        super()._check_size(x.new_empty(0, 0, 2 * x.shape[-2], 2 * x.shape[-1]), pad)


STEMS: dict[str, type[UNet]] = {"full": UNet, "half": HalfStemUNet}


@dataclass(frozen=True)
class Candidate:
    """A network and the diameter in pixels at which it sees the cells."""

    stem: str
    width: int
    depth: int
    seen: float
    separation: str = "distance"

    @classmethod
    def parse(cls, name: str) -> Candidate:
        """Return the candidate of a name, such as ``half-w32-d3@24``."""
        found = re.fullmatch(r"(full|half)-w(\d+)-d(\d+)@(\d+)(?:\+(\w+))?", name)
        if found is None or (found[5] or "distance") not in ("distance", *SEPARATIONS):
            raise CannotMeasure(f"{name!r} is no candidate; write STEM-wWIDTH-dDEPTH@SEEN, such as {CANDIDATES[1]}.")
        return cls(found[1], int(found[2]), int(found[3]), float(found[4]), found[5] or "distance")

    def network(self, seed: int) -> UNet:
        """Return the network with fresh weights."""
        torch.manual_seed(seed)
        s, own = NetworkSettings(width=self.width, depth=self.depth), self.separation == "distance"
        network = STEMS[self.stem](1, 2, s.width, s.depth, s.padding, s.norm, s.dropout, own)
        per_pixel = 4 if self.stem == "half" else 1
        return network if own else with_outputs(network, SEPARATIONS[self.separation].outputs, per_pixel)


def _nuclei() -> tuple[list[str], list[str]]:
    split = json.loads((pretrain.DATA / "dsb2018" / "split.json").read_text())
    # One picture has no corrected mask.
    there = {p.stem for p in (pretrain.DATA / "dsb2018" / "masks").iterdir()}
    return [n for n in split["stardist_train"] if n in there], [n for n in split["stardist_val"] if n in there]


def _by(folder: str, held_out: Callable[[list[str]], list[str]]) -> tuple[list[str], list[str]]:
    names = sorted(p.stem for p in (pretrain.DATA / folder / "images").iterdir())
    tested = held_out(names)
    return [n for n in names if n not in tested], tested


COLLECTIONS: dict[str, Callable[[], tuple[list[str], list[str]]]] = {
    "dsb2018": _nuclei,
    "bacteria_fluo": lambda: _by("bacteria_fluo", lambda names: ["ecoli_senterica_1"]),
    "axons_sem": lambda: _by("axons_sem", lambda names: [n for n in names if n.startswith("sub-rat3_")]),
    "usiigaci": lambda: _by("usiigaci", lambda names: names[::4]),
}
"""Names of the pictures to learn from, and of those held out."""


def read(folder: str, name: str) -> Picture:
    """Return a picture of a collection, colours read as grey."""
    image, mask = (pretrain.DATA / folder / kind / f"{name}.png" for kind in ("images", "masks"))
    return Picture(name, pretrain.read_grey(image), imread(mask).astype(np.int32))


@dataclass(frozen=True)
class Collection:
    """A collection as a network sees it whose cells are so large: samples to learn from, pictures to test on."""

    samples: tuple[Sample, ...]
    tested: tuple[Picture, ...]
    scale: float
    smallest: int
    shown: tuple[Picture, ...] = ()
    """Parts of a few pictures learnt from, with most cells, to choose thresholds on."""

    @classmethod
    def read(cls, folder: str, seen: float, separation: str = "distance") -> Collection:
        """Return the collection at the size at which its median cell is ``seen`` pixels wide."""
        if not (pretrain.DATA / folder).exists():
            raise CannotMeasure(f"there is no folder ../shared/data/{folder} beside the repository.")
        taught, tested = ([read(folder, name) for name in names] for names in COLLECTIONS[folder]())
        diameters = [d for d in (median_diameter(p.truth) for p in taught) if d]
        scale = unless_nearly_own(round(seen / float(np.median(diameters)), 3))
        smallest = max(1, int(smallest_area([p.truth for p in taught])))
        samples = [to_sample(p, scale) for p in taught]
        if separation != "distance":
            samples = [SEPARATIONS[separation].prepare(sample) for sample in samples]
        most = sorted(taught, key=lambda p: -int(p.truth.max()))[:_SHOWN]
        return cls(tuple(samples), tuple(tested), scale, smallest, tuple(map(part_of, most)))


def part_of(picture: Picture) -> Picture:
    """Return the upper left of a picture."""
    return Picture(picture.name, picture.image[:_SIDE, :_SIDE], picture.truth[:_SIDE, :_SIDE])


def to_sample(picture: Picture, scale: float) -> Sample:
    """Return a fully annotated picture as a training sample at a scale, as the package's own trainings make it."""
    planes: Planes = Planes(picture.image, "yx")
    normalisation = plane_normalisation(planes, ())
    if scale != 1:
        planes = ScaledPlanes(planes, scale)
    item = resized(AnnotatedImage(picture.image, picture.truth, name=picture.name), planes.height, planes.width)
    grey = normalisation.apply(planes.read((), slice(0, planes.height), slice(0, planes.width)))
    return make_sample(grey, interpret(item, SETTINGS), picture.name)


def trainer_of(candidate: Candidate, collection: Collection, steps: int, seed: int) -> Trainer:
    """Return the candidate, ready to be trained on the collection from scratch."""
    counts = sum(np.bincount(s.known.target.ravel(), minlength=2) for s in collection.samples)
    largest = max(max(s.known.mask.shape) for s in collection.samples)
    settings = dataclasses.replace(SETTINGS, steps=steps, seed=seed)
    network = candidate.network(seed)
    shape = NetworkSettings(width=candidate.width, depth=candidate.depth)
    card = Card(
        "candidate", shape, diameter=candidate.seen, scale=collection.scale,
        prediction={"smallest": collection.smallest},
    )  # fmt: skip
    sizes = patch_sizes(settings.patch, largest, network.geometry, network.padding)
    weights = class_weights(np.asarray(counts), settings.balance)
    plan = TrainingPlan(
        Model(network, card), Split(collection.samples, ()), settings, choose("cpu"), sizes, weights, (), None, None, {}
    )  # fmt: skip
    own = candidate.separation == "distance"
    return Trainer(plan) if own else SEPARATIONS[candidate.separation].trainer(plan)


def least(ways: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Return the least processor seconds of each way of doing something, taken in turns after a warm-up."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            begin = time.process_time()
            way()
            if turn:
                taken[name].append(time.process_time() - begin)
    return {name: min(values) for name, values in taken.items()}


def costs(folder: str, names: Sequence[str], get: Callable[..., Collection]) -> dict[str, dict[str, float]]:
    """Return processor seconds of a training step and of a megapixel through the network alone, by candidate."""
    named = {name: Candidate.parse(name) for name in names}
    trainers = {n: trainer_of(c, get(folder, c.seen, c.separation), 1000, 0) for n, c in named.items()}
    step = least({n: functools.partial(steps, x, _STEPS_PER_ROUND) for n, x in trainers.items()}, _ROUNDS)
    networks = {n: Predictor.create(x.averaged(), x.compute) for n, x in trainers.items()}
    bare = least({n: functools.partial(p.run, block_for(p)) for n, p in networks.items()}, _ROUNDS)
    for trainer in trainers.values():
        trainer.close()
    pixels = {n: output_side(p) ** 2 / 1e6 for n, p in networks.items()}
    return {n: {"step": step[n] / _STEPS_PER_ROUND, "megapixel": bare[n] / pixels[n]} for n in names}


def steps(trainer: Trainer, count: int) -> list[float]:
    """Make so many steps and return their losses."""
    return [trainer.train_step(0.0) for _ in range(count)]


def output_side(predictor: Predictor) -> int:
    """Return the side of the output of :func:`block_for`."""
    return predictor.network.geometry.bottom_for(_SIDE)[1]


def block_for(predictor: Predictor) -> NDArray[np.float32]:
    """Return an input with its context, about as large as what segmentation is timed on."""
    geometry = predictor.network.geometry
    side = geometry.input_size(geometry.bottom_for(_SIDE)[0])
    return np.random.default_rng(0).random((1, side, side), np.float32)


def trained(trainer: Trainer) -> tuple[Model, dict[str, Any]]:
    """Return the model after all steps of the plan, calibrated on its training samples, and how that went."""
    total, begin, losses = trainer.settings.steps, time.process_time(), []
    while len(losses) < total:
        losses.append(trainer.train_step(len(losses) / total))
        if not np.isfinite(losses[-1]):
            trainer.roll_back()
        if len(losses) % 200 == 0:
            say(f"    step {len(losses)} of {total}, loss {np.nanmean(losses[-100:]):.3f}")
    used = time.process_time() - begin
    about = {
        "steps": total, "training_seconds": round(used, 1),
        "loss": [round(float(np.nanmean(part)), 4) for part in (losses[:20], losses[-100:])],
        "undefined": int(np.sum(~np.isfinite(losses))),
    }  # fmt: skip
    return Model(trainer.averaged_copy(), trainer.plan.model.card), about


def with_new_statistics(model: Model, trainer: Trainer) -> Model:
    """Return the model with batch statistics of its averaged weights, over :data:`_PATCHES` training patches.

    Training leaves those of the last few patches, made by the weights before averaging.
    """
    network = copy.deepcopy(model.network).train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            # None averages over all patches alike.
            module.momentum = None
    with torch.no_grad(), trainer.compute.autocast():
        for _ in range(_PATCHES):
            images = [item["image"] for item in trainer._next_batch()]
            network(torch.from_numpy(np.stack(images)).contiguous(memory_format=torch.channels_last))
    return Model(network.eval(), model.card)


def calibrated(model: Model, samples: Sequence[Sample]) -> Model:
    """Return the model with the prediction settings that separate its training pictures best."""
    base = dataclasses.replace(PredictionSettings(), smallest=model.card.prediction["smallest"])
    predictor = Predictor.create(model.network, choose("cpu"))
    chosen = tune(predictor, Split(tuple(samples), ()), base, model.card.scale)
    return Model(model.network, dataclasses.replace(model.card, prediction=chosen))


def separated(
    model: Model, pictures: Sequence[Picture], separation: Separation, threshold: float
) -> list[NDArray[np.int32]]:
    """Return the labels of pictures by a separation that the package does not have."""
    scale, smallest = model.card.scale, model.card.prediction["smallest"]
    found = (separation.labels(o, threshold, scale) for o in outputs_of(model, pictures))
    return [without_specks(labels, smallest) for labels in found]


def outputs_of(model: Model, pictures: Sequence[Picture]) -> Iterator[dict[str, NDArray[Any]]]:
    """Yield the network's outputs of pictures at their own size."""
    predictor = Predictor.create(model.network, choose("cpu"))
    for picture in pictures:
        planes: Planes = Planes(picture.image, "yx")
        normalisation = plane_normalisation(planes, ())
        if model.card.scale != 1:
            planes = ScaledPlanes(planes, model.card.scale)
        outputs = predict_region(predictor, planes, (), (0, planes.height, 0, planes.width), normalisation)
        yield {name: resample(values, picture.truth.shape) for name, values in outputs.items()}


def segmenter(
    candidate: Candidate, model: Model, collection: Collection
) -> tuple[Callable[[Sequence[Picture]], list[NDArray[np.int32]]], dict[str, Any]]:
    """Return what segments pictures, calibrated on training pictures, and the settings that were chosen."""
    if candidate.separation == "distance":
        model = calibrated(model, collection.samples)
        return functools.partial(trials.segmented, model), model.card.prediction
    separation, scale = SEPARATIONS[candidate.separation], model.card.scale
    measured = list(zip(outputs_of(model, collection.shown), (p.truth for p in collection.shown), strict=True))
    threshold = best_threshold(measured, mean_ap, lambda outputs, t: separation.labels(outputs, t, scale))
    return lambda pictures: separated(model, pictures, separation, threshold), {"threshold": threshold}


def mean_ap(truth: NDArray[np.int32], labels: NDArray[np.int32]) -> float:
    """Return the mean AP of one picture."""
    return float(np.mean(trials.combined([trials.tally(truth, labels)])[0]))


def measure(candidate: Candidate, collection: Collection, count: int, seed: int) -> dict[str, Any]:
    """Train a candidate for so many steps and measure it on the pictures held out."""
    trainer = trainer_of(candidate, collection, count, seed)
    model, about = trained(trainer)
    renewed, _ = segmenter(candidate, with_new_statistics(model, trainer), collection)
    trainer.close()
    segment, chosen = segmenter(candidate, model, collection)
    (image, pooled), (image_renewed, _) = (
        scores(collection.tested, way(collection.tested)) for way in (segment, renewed)
    )
    part = part_of(max(collection.tested, key=lambda p: p.image.size))
    seconds = least({"whole": lambda: segment([part])}, 2)["whole"]
    return {
        **about, "prediction": chosen, "ap": image, "ap_pooled": pooled,
        "ap_new_statistics": image_renewed, "pictures": len(collection.tested), "scale": collection.scale,
        "parameters": sum(p.numel() for p in model.network.parameters()),
        "labelled_megapixel": seconds / (part.image.size / 1e6),
    }  # fmt: skip


def scores(pictures: Sequence[Picture], found: Sequence[NDArray[np.int32]]) -> list[list[float]]:
    """Return AP at all thresholds, as the mean over pictures and of all cells pooled."""
    tallies = [trials.tally(p.truth, labels) for p, labels in zip(pictures, found, strict=True)]
    return [[round(float(v), 4) for v in values] for values in trials.combined(tallies)]


def tables(known: Results, chosen: Any) -> str:
    """Return a table of each collection: AP by candidate, mean and range over the seeds, and costs."""
    parts = []
    header = [
        "network", "weights", "steps", "ms per step", "AP at 0.5", "mean AP", "mean AP with new statistics",
        "network alone, s per Mpx",
        "with labels, s per Mpx of the picture", "seeds",
    ]  # fmt: skip
    for folder in chosen.collections:
        rows = []
        for name in chosen.candidates:
            found = [known.get(key_of(folder, name, seed, chosen.seconds_cpu)) for seed in chosen.seeds]
            done, cost = [f for f in found if f], known.get(cost_key(folder, name))
            if done and cost:
                rows.append(row(name, done, cost))
        if rows:
            parts += [f"{folder}, {chosen.seconds_cpu:g} s of one processor each", table(header, rows)]
    return "\n\n".join(parts)


def row(name: str, done: Sequence[Mapping[str, Any]], cost: Mapping[str, float]) -> list[str]:
    """Return one line of the table."""
    at_half, mean = ([d["ap"][0] for d in done], [float(np.mean(d["ap"])) for d in done])
    renewed = [float(np.mean(d["ap_new_statistics"])) for d in done if "ap_new_statistics" in d]
    whole = min(d["labelled_megapixel"] for d in done)
    return [
        name, f"{done[0]['parameters'] / 1e6:.2f} M", str(done[0]["steps"]), f"{1e3 * cost['step']:.0f}",
        spread(at_half), spread(mean), spread(renewed) if renewed else "", f"{cost['megapixel']:.2f}", f"{whole:.2f}",
        str(len(done)),
    ]  # fmt: skip


def spread(values: Sequence[float]) -> str:
    """Return the mean, with the range where there are several."""
    text = f"{np.mean(values):.3f}"
    return text if len(values) == 1 else f"{text} ({min(values):.3f} to {max(values):.3f})"


def key_of(folder: str, name: str, seed: int, seconds: float) -> dict[str, Any]:
    """Return what a result is filed under."""
    return {"collection": folder, "candidate": name, "seed": seed, "seconds_cpu": seconds}


def cost_key(folder: str, name: str) -> dict[str, Any]:
    """Return what the costs of a candidate are filed under."""
    return {"collection": folder, "candidate": name, "cost": True}


def measure_all(known: Results, chosen: Any) -> None:
    """Measure what is not in the results yet: costs of all candidates first, then one training after the other."""
    get = functools.lru_cache(maxsize=2)(Collection.read)
    for folder in chosen.collections:
        missing = [name for name in chosen.candidates if known.get(cost_key(folder, name)) is None]
        found = costs(folder, missing, get) if missing else {}
        for name, cost in found.items():
            known.once(cost_key(folder, name), lambda cost=cost: cost)
    for seed in chosen.seeds:
        for name in chosen.candidates:
            for folder in chosen.collections:
                cost = known.get(cost_key(folder, name)) or {}
                count = max(1, round(chosen.seconds_cpu / cost["step"]))
                candidate = Candidate.parse(name)
                say(f"{time.strftime('%H:%M')} {folder}, {name}, seed {seed}: {count} steps of {cost['step']:.3f} s")
                collection = get(folder, candidate.seen, candidate.separation)
                make = functools.partial(measure, candidate, collection, count, seed)
                done = known.once(key_of(folder, name, seed, chosen.seconds_cpu), make)
                say(f"  AP at 0.5 {done['ap'][0]:.3f}, mean {np.mean(done['ap']):.3f}, loss {done['loss']}")


def check(collections: Sequence[str]) -> None:
    """Raise where a collection is not known, or kept out of all choices."""
    for folder in collections:
        if folder in KEPT_OUT:
            raise CannotMeasure(f"{folder} judges the bundled model: nothing is chosen on it.")
        if folder not in COLLECTIONS:
            raise CannotMeasure(f"{folder} is none of {', '.join(COLLECTIONS)}.")


def main() -> None:
    """Measure and report."""
    chosen = arguments(
        __doc__,
        seconds_cpu={"type": float, "default": 120.0, "help": "processor seconds of each training (%(default)s)"},
        seeds={"type": int, "nargs": "+", "default": [0], "help": "one training each (default: 0)"},
        collections={"nargs": "+", "default": ["bacteria_fluo", "dsb2018"], "help": "any of " + ", ".join(COLLECTIONS)},
        candidates={"nargs": "+", "default": list(CANDIDATES), "help": "networks (default: all that are listed)"},
        output=trials.results_option("networks"),
        report={"action": "store_true", "help": "measure nothing"},
    )
    check(chosen.collections)
    for name in chosen.candidates:
        Candidate.parse(name)
    torch.set_num_threads(1)
    known = Results(Path(chosen.output))
    if chosen.quick:
        known, chosen.seconds_cpu = Results(None), 1.0
    if not chosen.report:
        measure_all(known, chosen)
    print(tables(known, chosen))
    print(f"\n{machine()}")


if __name__ == "__main__":
    run(main)
