"""Pretrain the bundled models: seeded, resumable, on the processor or a GPU.

Learns from the licence-clear sets of ``../shared/data`` (all but the held-out images listed by
``held_out``) and from synthetic microscopy, each image brought to a common object diameter.

    python benchmarks/pretrain.py --stage nuclei --hours 1.2 --output pretraining/nuclei    # goes on where it stopped
    python benchmarks/pretrain.py --stage nuclei --refine --hours 1.1 --output pretraining/nuclei
    python benchmarks/pretrain.py --stage transmitted --hours 0.4 --output pretraining/transmitted \\
        --start pretraining/nuclei/model
    python benchmarks/pretrain.py --stage nuclei --refine --hours 2 --output pretraining/more \\
        --start src/napari_unet/weights/nuclei --seed 1             # goes on from what is bundled
    python benchmarks/pretrain.py --export pretraining/nuclei       # into src/napari_unet/weights
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from skimage.io import imread

from napari_unet.core.data.annotation import AnnotatedImage, interpret
from napari_unet.core.data.arrays import Planes, ScaledPlanes, plane_normalisation
from napari_unet.core.data.label_ops import median_diameter
from napari_unet.core.inference.predict import Predictor
from napari_unet.core.network.device import choose
from napari_unet.core.network.model_card import Card, bundled_folder
from napari_unet.core.network.model_io import Model, load_model, new_model, save_model
from napari_unet.core.settings import NetworkSettings, TrainingSettings
from napari_unet.core.synthetic import KINDS, generate
from napari_unet.core.training.loss import class_weights
from napari_unet.core.training.plan import TrainingPlan, resized
from napari_unet.core.training.sampling import PatchSampler, Sample, Split, TrainingPatch, make_sample
from napari_unet.core.training.trainer import Trainer
from napari_unet.core.training.validation import score

DIAMETER = 24.0
"""Object diameter in pixels that images are brought towards."""
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
STAGES = {
    "nuclei": {"fluorescence": 0.5, "stained": 0.14, "synthetic": 0.36},
    "transmitted": {
        "fluorescence": 0.05, "stained": 0.05, "usiigaci": 0.35, "ecoli": 0.12, "em": 0.08, "synthetic": 0.35,
    },
}  # fmt: skip
"""How often each kind of picture is drawn, by model. The first has seen no cell but DSB 2018's and synthetic ones."""
SETTINGS = TrainingSettings(
    seconds=0, unpainted="background", batch=2, patch=256, learning_rate=1e-3, ema_decay=0.999, resize=0.5, grey=0.25,
    noise=0.08, validation=0.0,
)  # fmt: skip
REFINED = dataclasses.replace(SETTINGS, learning_rate=5e-4, resize=0.3, grey=0.15, noise=0.04)
"""A last part with pictures more as they are: so far, a model fits those it learns from no better than others."""
REFINED_SHARES = {
    "nuclei": {"fluorescence": 0.72, "stained": 0.14, "synthetic": 0.14},
    "transmitted": {
        "fluorescence": 0.05, "stained": 0.05, "usiigaci": 0.4, "ecoli": 0.18, "em": 0.12, "synthetic": 0.2,
    },
}  # fmt: skip
PREDICTION = {
    "nuclei": {"threshold": 0.65, "seed_height": 0.4, "min_peak": 0.5},
    "transmitted": {"threshold": 0.6, "seed_height": 0.4, "min_peak": 0.5},
}
"""Best of a few on every eighth of StarDist's 380 training pictures; on eight of each kind learnt from. The lowest peak
was found on those of docs/benchmarks.md, "Doubtful cells", and costs hardly a cell on any."""


def held_out(names: Iterable[str]) -> set[str]:
    """Return the names never trained on: every fourth in alphabetical order."""
    return set(sorted(names)[::4])


def sources() -> Iterator[tuple[str, Path, Path, bool]]:
    """Yield kind, image, mask and whether it may be trained on, of every annotated real picture."""
    split = json.loads((DATA / "dsb2018" / "split.json").read_text())
    train, validation = set(split["stardist_train"]), set(split["stardist_val"])
    others = [n for n in split["kind"] if n not in train | validation]
    spared = held_out(others) | validation
    for name, kind in sorted(split["kind"].items()):
        mask = DATA / "dsb2018" / "masks" / f"{name}.png"
        if mask.exists():
            group = "fluorescence" if kind == "fluorescence" else "stained"
            yield group, DATA / "dsb2018" / "images" / f"{name}.png", mask, name not in spared
    for folder, kind, images in (
        ("usiigaci", "usiigaci", "images"), ("ecoli", "ecoli", "images_brightfield"),
        ("ecoli", "ecoli", "images_fluorescence"), ("em_chloroplast", "em", "images"),
    ):  # fmt: skip
        paths = sorted((DATA / folder / images).iterdir())
        spared = held_out(p.stem for p in paths)
        for path in paths:
            mask = next(iter((DATA / folder / "masks").glob(f"{path.stem}.*")), None)
            if mask is not None:
                yield kind, path, mask, path.stem not in spared


def read_grey(path: Path) -> np.ndarray:
    """Return a picture as (Y, X) grey values."""
    image = imread(path)
    return image[..., :3] @ np.array([0.299, 0.587, 0.114]) if image.ndim == 3 else image


def to_sample(image: np.ndarray, labels: np.ndarray, name: str) -> Sample | None:
    """Return a sample whose objects are brought to the common diameter; None without objects."""
    diameter = median_diameter(labels)
    if not diameter:
        return None
    scale = float(np.clip(DIAMETER / diameter, 0.2, 3))
    planes: Planes = Planes(image, "yx")
    normalisation = plane_normalisation(planes, ())
    if normalisation.constant:
        return None
    planes = ScaledPlanes(planes, scale)
    item = resized(AnnotatedImage(image, labels, name=name), planes.height, planes.width)
    grey = normalisation.apply(planes.read((), slice(0, planes.height), slice(0, planes.width)))
    return make_sample(grey, interpret(item, SETTINGS), name)


def collect(stage: str, seed: int, synthetic: int = 60) -> tuple[dict[str, list[Sample]], dict[str, list[Sample]]]:
    """Return samples to learn from and held-out ones, by kind."""
    train: dict[str, list[Sample]] = {k: [] for k in STAGES[stage]}
    spared: dict[str, list[Sample]] = {k: [] for k in STAGES[stage]}
    for kind, image, mask, allowed in sources():
        if kind not in train:
            continue
        sample = to_sample(read_grey(image), imread(mask), image.stem)
        if sample is not None:
            (train if allowed else spared)[kind].append(sample)
    rng = np.random.default_rng(seed)
    for index in range(synthetic):
        for kind in KINDS:
            picture = generate(kind, (288, 288), seed * 100_003 + index, diameter=float(rng.uniform(16, 36)))
            sample = to_sample(*picture, f"{kind} {index}")
            if sample is not None:
                train["synthetic"].append(sample)
    return train, spared


class GroupedSampler:
    """Draws kinds by their shares and pictures of one kind evenly."""

    def __init__(
        self,
        groups: dict[str, list[Sample]],
        shares: dict[str, float],
        settings: TrainingSettings,
        size: int,
        rng: np.random.Generator,
    ):
        self.rng = rng
        kinds = [k for k in groups if groups[k]]
        self.samplers = {k: [PatchSampler([s], settings, (size, size), rng) for s in groups[k]] for k in kinds}
        chances = np.array([shares[k] for k in kinds])
        self.kinds, self.chances = kinds, chances / chances.sum()

    def draw(self) -> TrainingPatch:
        """Return one random patch."""
        members = self.samplers[self.kinds[int(self.rng.choice(len(self.kinds), p=self.chances))]]
        return members[int(self.rng.integers(len(members)))].draw()


DESCRIPTIONS = {
    "nuclei": "Nuclei in fluorescence and stained tissue.",
    "transmitted": "Cells and bacteria in transmitted light, and electron microscopy.",
}


def make_plan(
    stage: str,
    groups: dict[str, list[Sample]],
    device: str,
    resume: Path | None,
    weights: Path | None,
    settings: TrainingSettings,
) -> TrainingPlan:
    """Return the plan of the pretraining, from a state, from weights alone, or from scratch."""
    card = Card(stage, NetworkSettings(norm="none"), diameter=DIAMETER, description=DESCRIPTIONS[stage])
    import torch

    torch.manual_seed(settings.seed)
    counts = sum(np.bincount(s.known.target.ravel(), minlength=2) for v in groups.values() for s in v)
    everything = tuple(s for v in groups.values() for s in v)
    model = new_model(card)
    if weights is not None:
        started = load_model(weights)
        # What was learnt before stays on record; going on from a state writes this run's own entry anew.
        going_on = resume is not None and started.card.name == stage
        earlier = started.card.training_history[:-1] if going_on else started.card.training_history
        model = Model(started.network, dataclasses.replace(card, training_history=earlier))
    return TrainingPlan(
        model, Split(everything, ()), settings, choose(device),
        (settings.patch, settings.patch), class_weights(counts, settings.balance), (), None, resume,
        {"recipe": "benchmarks/pretrain.py", "pictures": {k: len(v) for k, v in groups.items()}},
    )  # fmt: skip


def measure(learner: Trainer, spared: dict[str, list[Sample]]) -> dict[str, float]:
    """Return instance F1 at IoU 0.5 on held-out pictures at the common diameter, by kind."""
    predictor = Predictor.create(learner.averaged_copy(), learner.compute)
    found = {}
    for kind, samples in spared.items():
        if samples:
            chosen = samples[:: max(1, len(samples) // 8)][:8]
            found[kind] = round(score(predictor, chosen, learner.plan.weights, "instances").f1, 3)
    return found


def save(learner: Trainer, folder: Path, hours: float, scores: dict[str, float]) -> None:
    """Write the averaged model and the state to go on from."""
    run = {"hours_of_last_run": round(hours, 2), "steps": learner.step, "seed": learner.settings.seed}
    entry = {**learner.plan.training_history, **run}
    card = dataclasses.replace(
        learner.plan.model.card,
        training_history=(*learner.plan.model.card.training_history, entry),
        metrics={f"f1_{k}": v for k, v in scores.items()},
    )
    save_model(Model(learner.averaged_copy(), card), folder / "model")
    learner.save_state(folder)


def pretrain(
    stage: str,
    folder: Path,
    hours: float,
    device: str,
    seed: int,
    done: float = 0.0,
    start: Path | None = None,
    refine: bool = False,
) -> None:
    """Train for so many hours of wall-clock time, learning rate falling towards their end.

    ``start`` is a model to begin with when the folder holds none yet.

    ``done`` is the share of the schedule that earlier runs went through. ``refine`` takes pictures more as they are,
    at half the learning rate.
    """
    folder.mkdir(parents=True, exist_ok=True)
    resume = folder if (folder / "state.safetensors").exists() else None
    train, spared = collect(stage, seed)
    print({k: (len(train[k]), len(spared[k])) for k in train}, flush=True)
    weights = folder / "model" if (folder / "model").exists() else start
    settings = dataclasses.replace(REFINED if refine else SETTINGS, seed=seed)
    plan = make_plan(stage, train, device, resume, weights, settings)
    rng = np.random.default_rng(seed if resume is None else int(time.time()))
    sampler = GroupedSampler(train, (REFINED_SHARES if refine else STAGES)[stage], plan.settings, SETTINGS.patch, rng)
    learner = Trainer(plan, sampler)  # type: ignore[arg-type]
    begin = last = time.perf_counter()
    losses: list[float] = []
    while (elapsed := (time.perf_counter() - begin) / 3600) < hours:
        loss = learner.train_step(done + (1 - done) * elapsed / hours)
        losses.append(loss)
        if not np.isfinite(loss):
            learner.roll_back()
        if len(losses) % 100 == 0:
            print(
                f"{learner.step} {elapsed:.3f} h loss {np.nanmean(losses[-100:]):.4f} lr {learner.learning_rate:.2g}",
                flush=True,
            )
        if time.perf_counter() - last > 450:
            last = time.perf_counter()
            scores = measure(learner, spared)
            print(learner.step, scores, flush=True)
            save(learner, folder, elapsed, scores)
    scores = measure(learner, spared)
    print(learner.step, scores, flush=True)
    save(learner, folder, hours, scores)
    learner.close()


def export(folder: Path) -> None:
    """Put the model into the package, in 16 bits; images are brought to its diameter by what is found in them."""
    model = load_model(folder / "model")
    card = dataclasses.replace(model.card, prediction=PREDICTION[model.card.name], scale=0.0)
    place = bundled_folder(card.name)
    card = save_model(Model(model.network, card), place, half=True)
    print(f"{place}: {card.training_history[-1]['steps']} steps, {card.metrics}")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", choices=list(STAGES), default="nuclei")
    parser.add_argument("--start", type=Path, help="folder of a model to begin with")
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--output", type=Path, default=Path("pretraining"))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--done", type=float, default=0.0, help="share of the schedule done by earlier runs")
    parser.add_argument("--refine", action="store_true", help="the last part: milder changes, lower learning rate")
    parser.add_argument("--export", type=Path, metavar="FOLDER")
    arguments = parser.parse_args()
    if arguments.export:
        export(arguments.export)
    else:
        chosen = arguments.stage, arguments.output, arguments.hours, arguments.device, arguments.seed
        pretrain(*chosen, arguments.done, arguments.start, arguments.refine)


if __name__ == "__main__":
    main()
