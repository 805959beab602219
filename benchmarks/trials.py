"""Train and segment exactly as the ``train`` and ``segment`` commands do, and keep results to go on from."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import models
from napari_unet.cli.parser import SCRATCH, assignment
from napari_unet.core.network.model_card import BUNDLED, Card, bundled_models, read_card
from reporting import ROOT, CannotMeasure, commit, say

SET = {
    "action": "append", "default": [], "type": assignment, "metavar": "NAME=VALUE",
    "help": "a setting of training, or of the network from scratch, such as batch=2; may be repeated",
}  # fmt: skip
PREDICT = {
    "action": "append", "default": [], "type": assignment, "metavar": "NAME=VALUE",
    "help": "a setting of segmenting, such as threshold=0.4; may be repeated; by default as the model's card says",
}  # fmt: skip
MIRROR = {"action": "store_true", "help": "segment once more, averaged over mirrored pictures: four times slower"}
CORES = {"type": int, "default": 2, "help": "cores to use (default: %(default)s)"}
_SAY_EVERY = 60.0


def results_option(name: str) -> dict[str, Any]:
    """Return the option that names the file of results so far."""
    path = ROOT / "bench-output" / f"{name}.jsonl"
    text = "file of results so far; what is in it is not measured again. Remove it to begin anew (default: %(default)s)"
    return {"type": Path, "default": path, "metavar": "FILE", "help": text}


@dataclass(frozen=True)
class Picture:
    """A picture, (Y, X) or (C, Y, X), with its true instances, (Y, X)."""

    name: str
    image: NDArray[Any]
    truth: NDArray[np.int32]


def read_pictures(images: Path, masks: Path) -> list[Picture]:
    """Return the pictures of two folders or two files, colours read as grey, also those without a cell."""
    from napari_unet.stores import annotated_images

    found = annotated_images(images, masks, empty=True, grey=True)
    return [Picture(a.name, np.asarray(a.image), np.asarray(a.labels).astype(np.int32)) for a in found]


def start_model(start: str) -> Any:
    """Return the model to begin with; None from scratch."""
    from napari_unet.core.network.model_io import load_model

    return None if start == SCRATCH else load_model(models.existing(start))


def cards_of(start: str) -> list[Card]:
    """Return the cards of all models that a start stands for: none from scratch, several for ``"bundled"``."""
    if start == SCRATCH:
        return []
    names = bundled_models() if start == BUNDLED else ()
    return [read_card(name) for name in names or (models.existing(start),)]


def identity(start: str) -> str:
    """Return what a start is, so that another model under the same name is not taken for it."""
    cards = cards_of(start)
    return " or ".join(f"{c.name} {next(iter(c.hashes.values()), '')[:12]}".strip() for c in cards) or SCRATCH


def seen(start: str, kind: str, names: Sequence[str]) -> str:
    """Return why a model may know pictures that it is to be measured on; empty when its card says it does not.

    Parameters
    ----------
    start : str
        ``"scratch"``, ``"bundled"`` or a model.
    kind : str
        What the pictures are called in the card of a pretraining.
    names : sequence of str
        Their names, as in the card of a training.
    """
    return "; ".join(filter(None, (_seen_by(card, kind, names) for card in cards_of(start))))


def _seen_by(card: Card, kind: str, names: Sequence[str]) -> str:
    """Return the same for one model."""
    for entry in card.training_history:
        count = entry.get("pictures", {}).get(kind, 0)
        if count:
            return f"{card.name} was trained on {count} pictures of {kind}"
        known = sorted(set(names) & set(entry.get("images", ())))
        if known:
            return f"{card.name} was trained on {len(known)} of these pictures, such as {known[0]}"
    said = card.training_history and all({"pictures", "images"} & entry.keys() for entry in card.training_history)
    return "" if said else f"the card of {card.name} does not say what it was trained on"


def taught(pictures: Sequence[Picture], start: Any, values: Mapping[str, Any]) -> tuple[Any, str]:
    """Return the model that pictures with complete masks teach, and how many steps it took.

    Parameters
    ----------
    pictures : sequence of Picture
        What to learn from.
    start : Model or None
        None is from scratch.
    values : mapping
        Settings of training and network, as of the ``train`` command: unpainted means background by default.
    """
    from napari_unet.cli.train import choose_settings
    from napari_unet.core.data.annotation import AnnotatedImage
    from napari_unet.core.events import Finished, Started, Validated
    from napari_unet.core.training.loop import train
    from napari_unet.core.training.plan import resolve

    settings, network = choose_settings(dict(values), start is None)
    images = [AnnotatedImage(p.image, p.truth, name=p.name) for p in pictures]
    said = time.perf_counter()
    for event in train(resolve(images, settings, start=start, network=network)):
        if isinstance(event, Started):
            say("\n".join([f"training on {len(images)} pictures, {event.device}, {event.precision}", *event.notes]))
        elif isinstance(event, Validated) and time.perf_counter() - said > _SAY_EVERY:
            said = time.perf_counter()
            say(f"  {event.elapsed:.0f} s, step {event.step}: IoU {event.iou:.3f}, F1 {event.f1:.3f}")
        elif isinstance(event, Finished):
            say(f"settings that the training chose for segmenting: {event.model.card.prediction}")
            return event.model, f"{event.step} steps in {event.elapsed:.0f} s"
    raise CannotMeasure("the training ended without a model.")


def segmented(
    model: Any,
    pictures: Sequence[Picture],
    values: Mapping[str, Any] | None = None,
    keep: Callable[[tuple[int, ...], Any, float], None] | None = None,
) -> list[NDArray[np.int32]]:
    """Return the instance labels of pictures, by the settings of the model's card but for those given.

    ``keep`` is given the network's outputs of each picture in turn, and the size at which it saw it.
    """
    from napari_unet.core.data.arrays import Planes
    from napari_unet.core.inference.predict import predict
    from napari_unet.core.settings import PredictionSettings, with_values

    settings, found = with_values(PredictionSettings(), {**model.card.prediction, **(values or {})}), []
    for picture in pictures:
        planes = Planes(picture.image, "cyx"[3 - picture.image.ndim :])
        labels = np.zeros(picture.truth.shape, np.int32)
        for _ in predict(model, planes, labels, settings=settings, keep=keep):
            continue
        found.append(labels)
    return found


def ways_of(values: Sequence[tuple[str, str]], mirror: bool) -> dict[str, dict[str, Any]]:
    """Return how to segment: as given, and averaged over mirrored pictures if that is asked for."""
    given: dict[str, Any] = dict(values)
    return {"plain": given, "mirrored": {**given, "tta": True}} if mirror else {"plain": given}


def scores(pictures: Sequence[Picture], found: Sequence[NDArray[np.int32]]) -> dict[str, float]:
    """Return AP at the published thresholds, per image and pooled, and their means."""
    from napari_unet.core.evaluation.metrics import THRESHOLDS, evaluate

    result = evaluate([p.truth for p in pictures], list(found))
    pooled = [result[f"ap_pooled_{t:.2f}"] for t in THRESHOLDS]
    return {**result, "ap_pooled_mean": float(np.mean(pooled))}


def tally(truth: NDArray[np.int32], prediction: NDArray[np.int32]) -> list[list[int]]:
    """Return the matched, false and missed cells of one picture at the published thresholds, for a file."""
    from napari_unet.core.evaluation.metrics import average_precision

    counts = average_precision([truth], [prediction])
    return [counts.tp.tolist(), counts.fp.tolist(), counts.fn.tolist()]


def combined(tallies: Sequence[list[list[int]]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return AP as the mean over pictures, and of the cells of all pictures pooled, at each threshold."""
    counts = np.array(tallies, np.int64)
    return _ap(counts).mean(axis=0), _ap(counts.sum(axis=0, keepdims=True))[0]


def _ap(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return TP / (TP + FP + FN) of counts, (N, 3, thresholds), and 1 where there is nothing."""
    total = counts.sum(axis=1)
    return np.where(total == 0, 1.0, counts[:, 0] / np.maximum(1, total))


class Results:
    """What was measured so far: a file of one JSON object per line, each with its key, date and commit.

    Parameters
    ----------
    path : Path or None
        The file; with None nothing is kept.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        text = path.read_text(encoding="utf-8") if path is not None and path.exists() else ""
        self._known = {_text(entry["key"]): entry for entry in map(_parsed, text.splitlines()) if entry is not None}
        # A line that was cut off must not swallow the next one.
        self._before = "\n" if text and not text.endswith("\n") else ""

    def get(self, key: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return what was measured under a key, with ``date`` and ``commit``; None when nothing was."""
        entry = self._known.get(_text(key))
        return None if entry is None else {"date": entry["date"], "commit": entry["commit"], **entry["value"]}

    def once(self, key: Mapping[str, Any], measure: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        """Return what was measured under a key; measure and write it when nothing was."""
        known = self.get(key)
        if known is not None:
            present = "" if known["commit"] == commit() else f" (now {commit()})"
            say(f"already measured on {known['date']} at {known['commit']}{present}: {_text(key)}")
            return known
        entry = {"key": dict(key), "date": date.today().isoformat(), "commit": commit(), "value": dict(measure())}
        self._known[_text(key)] = entry
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(self._before + json.dumps(entry) + "\n")
            self._before = ""
        return {"date": entry["date"], "commit": entry["commit"], **entry["value"]}


def _text(key: Mapping[str, Any]) -> str:
    """Return a key as text that does not depend on the order of its parts."""
    return json.dumps(key, sort_keys=True)


def _parsed(line: str) -> dict[str, Any] | None:
    """Return one line of a results file; None for one that was cut off when its writer was ended."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and {"key", "date", "commit", "value"} <= entry.keys() else None


def provenance(results: Sequence[Mapping[str, Any]]) -> str:
    """Return when and at which commits results were measured."""
    return "; ".join(sorted({f"{r['date']} {r['commit']}" for r in results}))
